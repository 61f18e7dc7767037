"""All that depends on the machine: which device, how many threads, how large a batch.

CUDA, else MPS, else CPU; `EMBEDDINGS_DEVICE` overrides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .language import translated as _
from .settings import choice

if TYPE_CHECKING:
    import torch

#: Tokens in a batch, padding included; on the CPU per thread, for two threads at least. On a CPU
#: more than fits its caches is slower, and leaves freed memory in pieces that no later batch can
#: use; on a GPU less leaves it idle.
TOKENS_AT_A_TIME = {"cpu": 512, "mps": 16_384, "cuda": 65_536}


def use_threads() -> int:
    """Let torch compute with the cores that this process may use, and return how many.

    torch itself counts the machine's cores, even in a container that may use only two of them.
    """
    import torch
    from joblib import cpu_count  # respects affinity and container limits

    count = min(torch.get_num_threads(), cpu_count())
    torch.set_num_threads(count)
    return count


def tokens_at_a_time(device: torch.device) -> int:
    """How many tokens a batch on `device` may hold, padding included."""
    import torch

    threads = max(2, torch.get_num_threads()) if device.type == "cpu" else 1
    return TOKENS_AT_A_TIME[device.type] * threads


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library is glibc.

    glibc keeps it in pieces, so that a process grows as it computes batches of many lengths.
    """
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library, which manages memory its own way
        return


def batches(
    lengths: Sequence[int], device: torch.device, *, extra: int = 0, most: int | None = None
) -> Iterator[np.ndarray]:
    """Positions of texts to compute together, longest first, so that there is little padding.

    Args:
        lengths: tokens of every text.
        extra: tokens that are put in front of each text.
        most: largest number of texts in a batch; by default as many as suit the device.

    >>> import torch
    >>> [batch.tolist() for batch in batches([3, 9, 4], torch.device("cpu"), most=2)]
    [[1, 2], [0]]
    """
    tokens = np.asarray(lengths, dtype=int)
    order = np.argsort(-tokens, kind="stable")
    budget, start = tokens_at_a_time(device), 0
    while start < len(order):
        room = max(1, budget // max(1, tokens[order[start]] + extra))
        taken = order[start : start + min(room, most or room)]
        yield taken
        start += len(taken)


def pick_device() -> torch.device:
    """The device that the models and tensors of this series go to.

    `EMBEDDINGS_DEVICE` (`cpu`, `cuda`, `cuda:1`, `mps`) overrides the automatic choice.

    Raises:
        ValueError: the variable names a device that torch does not know or this machine lacks.
    """
    import torch

    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    wanted = choice("EMBEDDINGS_DEVICE")
    if not wanted:
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    here = ", ".join(name for name, present in available.items() if present)
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or not available.get(device.type, False):
        raise ValueError(
            _(
                "EMBEDDINGS_DEVICE={wanted!r} cannot be used: this machine has {here}. "
                "Set it to one of these, or remove the line from .env, and restart the "
                "kernel."
            ).format(wanted=wanted, here=here)
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            _(
                "EMBEDDINGS_DEVICE={wanted!r} cannot be used: this machine has {count} "
                "CUDA device(s), counted from cuda:0. Choose one of them and restart "
                "the kernel."
            ).format(wanted=wanted, count=torch.cuda.device_count())
        )
    return device
