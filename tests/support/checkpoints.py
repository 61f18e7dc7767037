"""Tiny CDE checkpoints in the published layout, and a few texts of many lengths for the models."""

from pathlib import Path

CHECKPOINTS = Path(__file__).parents[1] / "fixtures" / "cde"

TEXTS = [
    "The bank pays interest on the loan.",
    "Stocks fell on Monday.",
    "A bond is a loan to a state or a company, and it pays a coupon every year until it matures.",
    "Money.",
    "How is a dividend taxed?",
    "The river bank gave way after the flood, and the path along it was closed for a month.",
    "Hedge.",
]
