"""The words of the notebooks' figures: titles, axes, legends, descriptions.

They stand in `figures.en.toml`, one table a figure, and in Chinese in `figures.zh.toml`, so that a
cell is short and the same in every language: `charts.lines(frame, figure="context-size")`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from string import Formatter
from typing import Any, ParamSpec, TypeVar

from .language import LANGUAGES, chosen

CATALOGUES = {name: Path(__file__).with_name(f"figures.{name}.toml") for name in LANGUAGES}

P = ParamSpec("P")
R = TypeVar("R")


@cache
def catalogue(language: str = "en") -> dict[str, dict[str, Any]]:
    """All figures' words in one of `language.LANGUAGES`, by the figure's key."""
    return tomllib.loads(CATALOGUES[language].read_text(encoding="utf-8"))


def words(figure: str, /, **values: object) -> dict[str, Any]:
    """The words of one figure in the language in use, as keyword arguments of a chart.

    Args:
        figure: its key in the catalogue.
        values: for the placeholders in its words.

    Raises:
        KeyError: the catalogue has no such figure.
        ValueError: a value is missing for a placeholder, or has none.
    """
    language = chosen()
    known = catalogue(language)
    if figure not in known:
        raise KeyError(
            f"no figure {figure!r} in {CATALOGUES[language].name}; it has {', '.join(known)}"
        )
    places = {place for text in _texts(known[figure]) for place in _places(text)}
    if missing := sorted(places - set(values)):
        raise ValueError(f"figure {figure!r} needs a value for {', '.join(missing)}")
    if unused := sorted(set(values) - places):
        raise ValueError(f"figure {figure!r} has no place for {', '.join(unused)}")
    return {
        name: text.format(**values)
        if isinstance(text, str)
        else tuple(part.format(**values) for part in text)
        for name, text in known[figure].items()
    }


def _texts(entry: dict[str, Any]) -> list[str]:
    """The texts of an entry; a list holds several, such as the titles of two panels.

    >>> _texts({"title": "t", "titles": ["before", "after"]})
    ['t', 'before', 'after']
    """
    return [part for text in entry.values() for part in ([text] if isinstance(text, str) else text)]


def _places(text: str) -> list[str]:
    """Names of the placeholders of a text.

    >>> _places("{count:,} of {total} passages {{as they are}}")
    ['count', 'total']
    """
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def worded(draw: Callable[P, R]) -> Callable[..., R]:
    """Let a chart take its words from the catalogue: `figure="key"`, and `values={...}` for them.

    Words given in the call win over those of the catalogue. A call with `values` and no `figure`
    raises a `ValueError`.
    """

    @wraps(draw)
    def with_words(
        *args: Any, figure: str | None = None, values: dict[str, object] | None = None, **named: Any
    ) -> R:
        if figure is None and values:
            raise ValueError("values fill the words of a figure: name it, figure=...")
        taken = words(figure, **(values or {})) if figure is not None else {}
        return draw(*args, **{**taken, **named})

    return with_words
