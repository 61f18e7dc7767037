"""The language of a notebook, and the messages of `helpers` in it.

Messages stand in the sources in English: `_("{count} texts").format(count=3)`. Their Chinese text
is in `locale/zh/LC_MESSAGES/helpers.po`, and compiled beside it. What a notebook's own code gives
to helpers, such as the title of a table, is looked up there too, in the context `notebook`.
"""

from __future__ import annotations

import gettext
import os
import re
from functools import cache
from pathlib import Path
from string import Formatter

LANGUAGES = ("en", "zh")
LOCALE = Path(__file__).with_name("locale")
CHINESE_FONT_FILE = Path(__file__).with_name("fonts") / "NotoSansSC.otf"  # see fonts/README.md
DOMAIN = "helpers"
NOTEBOOK = "notebook"  # the context of what notebooks give
_BETWEEN = "\x04"  # what gettext puts between a context and its message


def chosen() -> str:
    """The language in use: `"en"` or `"zh"`.

    `EMBEDDINGS_LANGUAGE`, else that of the folder in which the kernel works: a folder `zh` holds
    the Chinese edition.

    Raises:
        ValueError: `EMBEDDINGS_LANGUAGE` is neither.
    """
    wanted = os.environ.get("EMBEDDINGS_LANGUAGE", "").strip().lower()
    if wanted in LANGUAGES:
        return wanted
    if wanted:
        raise ValueError(
            f"EMBEDDINGS_LANGUAGE={wanted!r} is unknown. Set it to en or zh, or remove the line "
            "from .env, and restart the kernel."
        )
    try:
        return "zh" if Path.cwd().name == "zh" else "en"
    except FileNotFoundError:  # the folder has been removed while the kernel ran
        return "en"


def translated(message: str) -> str:
    """A message of `helpers` in the language in use; modules import it as `_`.

    A message without a translation stays English.
    """
    if not message or chosen() == "en":
        return message
    return _messages(chosen()).gettext(message)


def marked(message: str) -> str:
    """The message itself, for the catalogue; modules import it as `N_` for what is defined early.

    >>> marked("Run the cell again.")
    'Run the cell again.'
    """
    return message


def given(text: str) -> str:
    """A text that a notebook gives to a helper, in the language in use.

    A text with values in it is found by the message it was made from: `Neighbours of {0}`.
    """
    if not isinstance(text, str) or not text or chosen() == "en":
        return text
    whole, patterns = _notebook_messages(chosen())
    if text in whole:
        return whole[text]
    for pattern, translation in patterns:
        if match := pattern.fullmatch(text):
            return translation.format(*map(_value, match.groups()))
    return text


def _value(text: str) -> str:
    """A value inside a text. A word may be a token, so only longer ones are translated."""
    return given(text) if " " in text else text


@cache
def _messages(language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, LOCALE, languages=[language], fallback=True)


@cache
def _notebook_messages(language: str) -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """Translations of the notebooks' texts: of whole ones, and of those with values in them."""
    catalogue: dict[str, str] = getattr(_messages(language), "_catalog", {})
    start = NOTEBOOK + _BETWEEN
    found = {
        message.removeprefix(start): text
        for message, text in catalogue.items()
        if isinstance(message, str) and message.startswith(start)
    }
    whole = {message: text for message, text in found.items() if "{" not in message}
    return whole, [(_pattern(message), text) for message, text in found.items() if "{" in message]


def _pattern(message: str) -> re.Pattern[str]:
    """What fits the texts made from a message with places for values.

    >>> _pattern("{0} and {1}").fullmatch("1 and 2").groups()
    ('1', '2')
    """
    parts = Formatter().parse(message)
    pattern = "".join(
        re.escape(text) + ("" if name is None else "(.*)") for text, name, *_ in parts
    )
    return re.compile(pattern, re.S)
