"""Where to compute: CUDA, else MPS, else CPU; `EMBEDDINGS_DEVICE` overrides."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def pick_device() -> torch.device:
    """The device that models and tensors of this series go to.

    `EMBEDDINGS_DEVICE` (`cpu`, `cuda`, `cuda:1`, `mps`) wins over the automatic choice.

    Raises:
        ValueError: the variable names a device that torch does not know or that is not here.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wanted = os.environ.get("EMBEDDINGS_DEVICE", "").strip().lower()
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
