"""The words of the notebooks' figures: titles, axes, legends, descriptions.

They stand in `figures.en.toml`, one table a figure, so that a cell is short and the same in every
language: `charts.lines(frame, figure="context-size")`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

CATALOGUE = Path(__file__).with_name("figures.en.toml")

P = ParamSpec("P")
R = TypeVar("R")


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """All figures' words, by the figure's key."""
    return tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))


def words(figure: str, **values: object) -> dict[str, str]:
    """The words of one figure, as keyword arguments of a chart.

    Args:
        figure: its key in the catalogue.
        values: for the placeholders in its words.

    Raises:
        KeyError: the catalogue has no such figure.
        ValueError: a value is missing for a placeholder, or has none.
    """
    known = catalogue()
    if figure not in known:
        raise KeyError(f"no figure {figure!r} in {CATALOGUE.name}; it has {', '.join(known)}")
    unused = set(values)
    found = {}
    for name, text in known[figure].items():
        try:
            found[name] = text.format(**values)
        except KeyError as error:
            raise ValueError(f"{name} of figure {figure!r} needs a value for {error}") from error
        unused -= {key for key in unused if "{" + key in text}
    if unused:
        raise ValueError(f"figure {figure!r} has no place for {', '.join(sorted(unused))}")
    return found


def worded(draw: Callable[P, R]) -> Callable[..., R]:
    """Let a chart take its words from the catalogue: `figure="key"`, and `values={...}` for them.

    Words given in the call win over those of the catalogue.
    """

    @wraps(draw)
    def with_words(
        *args: Any, figure: str | None = None, values: dict[str, object] | None = None, **named: Any
    ) -> R:
        taken = words(figure, **(values or {})) if figure is not None else {}
        return draw(*args, **{**taken, **named})

    return with_words
