"""Tables, token chips and panels for the console. Everything a reader typed is text, never markup."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import pandas as pd
from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .tokens import visible


def _cell(value: Any, decimals: int) -> Text:
    if isinstance(value, Real) and not isinstance(value, (Integral, bool)):
        return Text(f"{float(value):.{decimals}f}")
    if isinstance(value, Integral) and not isinstance(value, bool):
        return Text(f"{value:,}" if abs(value) >= 100_000 else str(value))
    return Text(visible(value))


def from_frame(
    frame: pd.DataFrame,
    *,
    title: str,
    focus: int | None = None,
    decimals: int = 4,
    caption: str | None = None,
) -> Table:
    """A data frame as a rich table: numbers to the right, text as it is.

    Args:
        focus: position of the row to mark (also with an arrow, for readers who do not see the colour).
        decimals: places of every number that is not whole.
    """
    below = Text(visible(caption)) if caption else None
    table = Table(
        title=Text(visible(title)), box=box.SIMPLE_HEAD, title_justify="left", caption=below
    )
    if focus is not None:
        table.add_column("")
    for name, kind in zip(frame.columns, frame.dtypes, strict=True):
        numeric = pd.api.types.is_numeric_dtype(kind)
        table.add_column(
            Text(visible(name)), justify="right" if numeric else "left", overflow="fold"
        )
    for position, row in enumerate(frame.itertuples(index=False)):
        cells = [_cell(value, decimals) for value in row]
        if focus is not None:
            cells.insert(0, Text("→" if position == focus else ""))
        table.add_row(*cells, style="focus" if position == focus else None)
    return table


def chips(tokens: Sequence[str], *, focus: Sequence[int] = ()) -> Text:
    """Tokens side by side, each on a ground of its own; those at the places in `focus` marked."""
    line = Text()
    for position, token in enumerate(tokens):
        line.append(f" {visible(token)} ", style="focus" if position in focus else "token")
        line.append(" ")
    return line


def pair_panel(
    first: str,
    second: str,
    score: float,
    *,
    title: str,
    name: str = "cosine similarity",
    verdict: str = "",
) -> Panel:
    """Two texts and the number between them."""
    texts = f"A  {visible(first)}\nB  {visible(second)}\n"
    body = Text.assemble(
        texts,
        (f" {visible(name)} {score:.4f} ", "score"),
        f"  {visible(verdict)}" if verdict else "",
    )
    return Panel(body, title=Text(visible(title)), title_align="left", box=box.ROUNDED, width=88)
