"""How the series speaks: one rich console of fixed width, semantic style names, two themes."""

from __future__ import annotations

from functools import cache

from rich.console import Console
from rich_theme_manager import Theme

from . import PROJECT_ROOT
from .language import translated as _
from .settings import choice

THEMES = PROJECT_ROOT / "themes"
WIDTH = 100
#: Styles that the series prints with; every theme defines them.
STYLES = ("title", "muted", "token", "score", "focus", "success", "warning", "error")


def load_theme(name: str) -> Theme:
    """The theme in `themes/<name>.theme`.

    Raises:
        ValueError: there is no such theme file, or it cannot be read.
    """
    path = THEMES / f"{name}.theme"
    known = ", ".join(sorted(p.stem for p in THEMES.glob("*.theme"))) or "none"
    if not path.is_file():
        raise ValueError(
            _(
                "There is no theme {name!r} in themes/ (found: {known}). Set "
                "EMBEDDINGS_THEME to one of these, or restore the file: git checkout "
                "-- themes"
            ).format(name=name, known=known)
        )
    try:
        theme = Theme.read(str(path))
        if missing := [style for style in STYLES if style not in theme.style_names]:
            raise ValueError(_("missing: {missing}").format(missing=", ".join(missing)))
    except Exception as error:  # configparser and rich raise many kinds; the reader needs one
        raise ValueError(
            _(
                "themes/{name} cannot be read ({kind}: {error}). Restore it: git checkout -- themes"
            ).format(name=path.name, kind=type(error).__name__, error=error)
        ) from error
    return theme


@cache
def get_console() -> Console:
    """The one console: 100 columns, no automatic highlighting, colours from `EMBEDDINGS_THEME`."""
    theme = load_theme(choice("EMBEDDINGS_THEME") or "light")
    return Console(
        theme=theme,
        width=WIDTH,
        color_system="truecolor",
        no_color=False,
        highlight=False,
        emoji=False,
        markup=True,
    )
