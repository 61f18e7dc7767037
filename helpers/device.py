"""Where to compute, with how many threads, and how much at a time: what depends on the machine stands here alone.

CUDA, else MPS, else CPU; `EMBEDDINGS_DEVICE` overrides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .settings import choice

if TYPE_CHECKING:
    import torch

#: Tokens computed at a time, padding included; on the CPU for each thread, two at least. More than fits the caches makes a CPU slower, and leaves
#: freed memory in larger pieces that no later batch fits; fewer leave a GPU idle.
TOKENS_AT_A_TIME = {"cpu": 512, "mps": 16_384, "cuda": 65_536}


def use_threads() -> int:
    """Let torch compute with the cores that this process may use, and return how many.

    torch itself counts the cores of the machine, also inside a container that may use two of sixty-four.
    """
    import torch
    from joblib import cpu_count  # knows affinity and container limits

    count = min(torch.get_num_threads(), cpu_count())
    torch.set_num_threads(count)
    return count


def tokens_at_a_time(device: torch.device) -> int:
    """How many tokens a batch may hold there, padding included."""
    import torch

    return TOKENS_AT_A_TIME[device.type] * (
        max(2, torch.get_num_threads()) if device.type == "cpu" else 1
    )


def give_back_memory() -> None:
    """Return freed memory to the system. glibc keeps it in pieces, and a process that computes batches of many lengths grows."""
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library: it has its own ways
        return


def batches(
    lengths: Sequence[int], device: torch.device, *, extra: int = 0, most: int | None = None
) -> Iterator[np.ndarray]:
    """Places of texts to compute together, longest first, so that little is padded.

    Args:
        lengths: tokens of every text.
        extra: tokens that stand before each text.
        most: largest number of texts in a batch; as many as suit the device when not given.
    """
    lengths = np.asarray(lengths, dtype=int)
    order = np.argsort(-lengths, kind="stable")
    at_a_time, start = tokens_at_a_time(device), 0
    while start < len(order):
        room = max(1, at_a_time // max(1, lengths[order[start]] + extra))
        taken = order[start : start + min(room, most or room)]
        yield taken
        start += len(taken)


def pick_device() -> torch.device:
    """The device that models and tensors of this series go to.

    `EMBEDDINGS_DEVICE` (`cpu`, `cuda`, `cuda:1`, `mps`) wins over the automatic choice.

    Raises:
        ValueError: the variable names a device that torch does not know or that is not here.
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
            f"EMBEDDINGS_DEVICE={wanted!r} cannot be used: this machine has {here}. "
            "Set it to one of these, or remove the line from .env, and restart the kernel."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"EMBEDDINGS_DEVICE={wanted!r} cannot be used: this machine has {torch.cuda.device_count()} "
            "CUDA device(s), counted from cuda:0. Choose one of them and restart the kernel."
        )
    return device
