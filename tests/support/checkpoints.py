"""Tiny CDE checkpoints in the published layout, with what the author's code computes."""

from pathlib import Path

CHECKPOINTS = Path(__file__).parents[1] / "fixtures" / "cde"
