"""Tables, token chips and panels for the console. What a reader types is never markup."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import pandas as pd
from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .language import given
from .language import marked as N_
from .language import translated as _
from .tokens import visible

COSINE = N_("cosine similarity")


def _cell(value: Any, decimals: int) -> Text:
    """A value as text: integers whole, other real numbers rounded.

    >>> [_cell(value, 2).plain for value in (0.5, 7, 1234567, True, "[b]")]
    ['0.50', '7', '1,234,567', 'True', '[b]']
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return Text(visible(value))
    if isinstance(value, Integral):
        whole = int(value)
        return Text(f"{whole:,}" if abs(whole) >= 100_000 else str(whole))
    return Text(f"{float(value):.{decimals}f}")


def from_frame(
    frame: pd.DataFrame,
    *,
    title: str,
    focus: int | None = None,
    decimals: int = 4,
    caption: str | None = None,
) -> Table:
    """A data frame as a rich table, numbers aligned to the right.

    Args:
        focus: position of the row to mark, by its colour and by an arrow.
        decimals: decimal places of every number that is not an integer.
        caption: text below the table.
    """
    table = Table(
        title=Text(visible(given(title))),
        title_justify="left",
        caption=Text(visible(given(caption))) if caption else None,
        box=box.SIMPLE_HEAD,
    )
    if focus is not None:
        table.add_column("")
    for name, kind in zip(frame.columns, frame.dtypes, strict=True):
        numeric = pd.api.types.is_numeric_dtype(kind)
        table.add_column(
            Text(visible(given(name))), justify="right" if numeric else "left", overflow="fold"
        )
    for position, row in enumerate(frame.itertuples(index=False)):
        cells = [_cell(value, decimals) for value in row]
        if focus is not None:
            cells.insert(0, Text("→" if position == focus else ""))
        table.add_row(*cells, style="focus" if position == focus else None)
    return table


def chips(tokens: Sequence[str], *, focus: Sequence[int] = ()) -> Text:
    """Tokens side by side, each on a background of its own; those at positions `focus` marked.

    >>> chips(["[CLS]", "bank"]).plain
    ' [CLS]   bank  '
    """
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
    name: str = COSINE,
    verdict: str = "",
) -> Panel:
    """Two texts and their score, with an optional `verdict` beside it."""
    body = Text.assemble(
        f"A  {visible(first)}\nB  {visible(second)}\n",
        (f" {visible(_(given(name)))} {score:.4f} ", "score"),
        f"  {visible(given(verdict))}" if verdict else "",
    )
    return Panel(
        body, title=Text(visible(given(title))), title_align="left", box=box.ROUNDED, width=88
    )
