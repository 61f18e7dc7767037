"""The catalogue of messages: what it must hold, what is wrong with it, how it is written.

Messages are the texts in `_("...")` in `helpers`, and what the notebooks' code gives to helpers:
titles of tables and panels, labels of text boxes. `python run.py translate --messages` adds new
ones to `locale/zh/LC_MESSAGES/helpers.po`, removes those that are gone, and compiles it.
"""

from __future__ import annotations

import ast
import gettext
import io
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

from . import PROJECT_ROOT, figures, files
from .language import DOMAIN, LOCALE, NOTEBOOK
from .wording import lost, places, wording

HELPERS = PROJECT_ROOT / "helpers"
NOTEBOOKS = PROJECT_ROOT / "notebooks"
CATALOGUE = LOCALE / "zh" / "LC_MESSAGES" / f"{DOMAIN}.po"
COMPILED = CATALOGUE.with_suffix(".mo")
#: Arguments of helpers whose texts a reader sees, and the helpers that take them.
ARGUMENTS = {"title", "caption", "name", "verdict", "labels", "button"}
TAKERS = {"tables", "session", "charts"}
RENEW = "Run: python run.py translate --messages, then translate what is empty in helpers.po"

Key = tuple[str | None, str]  # context, message


# --- what is said ---------------------------------------------------------------------------------


def in_helpers() -> dict[Key, list[str]]:
    """Every message of the sources, with the files that say it."""
    found: dict[Key, list[str]] = {}
    for path in sorted(HELPERS.rglob("*.py")):
        where = path.relative_to(PROJECT_ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "N_"):
                for text in _texts(node.args[0]):
                    places_of = found.setdefault((None, text), [])
                    if where not in places_of:
                        places_of.append(where)
    return found


def in_notebooks(*, every: bool = False) -> dict[Key, list[str]]:
    """The texts that notebooks give to helpers; with `every`, all texts of their code.

    A value inside a text is a numbered place: `Neighbours of {0}`.
    """
    import nbformat

    found: dict[Key, list[str]] = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                tree = ast.parse(cell.source)
                for text in _everything(tree) if every else _given(tree):
                    found.setdefault((NOTEBOOK, text), []).append(f"{path.stem[:2]}:{cell.id}")
    return found


def _texts(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be: one, several in a tuple, or one of a choice."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        numbers = iter(range(len(node.values)))
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"{{{next(numbers)}}}"
            for part in node.values
        )
    elif isinstance(node, (ast.Tuple, ast.List)):
        for part in node.elts:
            yield from _texts(part)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def _everything(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr)):
            yield from _texts(node)


def _given(tree: ast.AST) -> Iterator[str]:
    """Texts in arguments that a reader sees, and those of a variable `title`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in TAKERS:
            for keyword in node.keywords:
                if keyword.arg in ARGUMENTS:
                    yield from _texts(keyword.value)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "title":
            yield from _texts(node.value)


# --- what is wrong --------------------------------------------------------------------------------


def faults() -> Iterator[str]:
    """Messages that are missing, untranslated, gone or lose something; a stale `helpers.mo`."""
    catalogue = _read()
    needed = {**in_helpers(), **in_notebooks()}
    possible = {**needed, **in_notebooks(every=True)}
    for key, where in needed.items():
        if key not in catalogue:
            yield f"{where[0]}: {key[1]!r} is not in helpers.po. {RENEW}"
    for key, text in catalogue.items():
        name = f"helpers.po, {key[1]!r}"
        if key not in possible:
            yield f"{name}: nothing says it any more. {RENEW}"
        elif not text:
            yield f"{name}: not translated (or marked fuzzy). Write its Chinese text"
        else:
            for what in between(key[1], text):
                yield f"{name}: {what}. Correct it, then run: python run.py translate --messages"
    if COMPILED.is_file():
        with COMPILED.open("rb") as file:
            held: dict[Any, str] = getattr(gettext.GNUTranslations(file), "_catalog", {})
    else:
        held = {}
    told = {_joined(key): text for key, text in catalogue.items() if text}
    if {key: text for key, text in held.items() if key} != told:
        yield "helpers.mo is not made from helpers.po. Run: python run.py translate --messages"


def between(english: str, chinese: str) -> list[str]:
    """What is wrong with the translation of a format string."""
    found = []
    if places(english) != places(chinese):
        found.append(f"its placeholders are {sorted(places(english))}")
    ends = [text[: len(text) - len(text.lstrip())] for text in (english, chinese)]
    if ends[0].count("\n") != ends[1].count("\n") or english.count("\n") != chinese.count("\n"):
        found.append("other line ends")
    bare = [_without_places(text) for text in (english, chinese)]
    return found + lost(*bare) + wording(*bare)


def _without_places(text: str) -> str:
    """A format string with a sign in place of every value."""
    parts = Formatter().parse(text)
    return "".join(part + ("" if name is None else "~") for part, name, *_ in parts)


def figure_faults() -> Iterator[str]:
    """What is wrong with the Chinese words of figures."""
    english, chinese = figures.catalogue("en"), figures.catalogue("zh")
    for key in english.keys() ^ chinese.keys():
        yield f"figures.zh.toml, {key}: not in both languages"
    for key in english.keys() & chinese.keys():
        if english[key].keys() != chinese[key].keys():
            yield f"figures.zh.toml, {key}: has {list(chinese[key])}, not {list(english[key])}"
            continue
        for name, text in english[key].items():
            texts = [[t] if isinstance(t, str) else t for t in (text, chinese[key][name])]
            if len(texts[0]) != len(texts[1]):
                yield f"figures.zh.toml, {key}, {name}: not as many texts"
            for one, other in zip(*texts, strict=False):
                for what in between(one, other):
                    yield f"figures.zh.toml, {key}, {name}: {what}"


# --- the catalogue --------------------------------------------------------------------------------


def _joined(key: Key) -> str:
    """A message as `gettext` keeps it: behind its context."""
    return key[1] if key[0] is None else f"{key[0]}\x04{key[1]}"


def _load(path: Path) -> Any:
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        return read_po(file, locale="zh", domain=DOMAIN)


def _read() -> dict[Key, str]:
    """Context and message -> translation; empty where there is none or it is marked fuzzy."""
    return {
        (message.context, message.id): "" if message.fuzzy else str(message.string)
        for message in _load(CATALOGUE)
        if message.id
    }


def renew() -> int:
    """Write `helpers.po` again from what is said and compile it; how many have no translation."""
    from babel.messages.catalog import Catalog
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import write_po

    known = _read() if CATALOGUE.is_file() else {}
    said = {**in_helpers(), **in_notebooks()}
    optional = in_notebooks(every=True)
    said |= {key: optional[key] for key in known if key in optional and key not in said}
    catalogue = Catalog(locale="zh", domain=DOMAIN, project="helpers", fuzzy=False, charset="utf-8")
    for (context, message), where in said.items():
        text = known.get((context, message), "")
        at: Any = [(place, None) for place in where]  # no line numbers: they change all the time
        catalogue.add(message, text, locations=at, context=context)
    out = io.BytesIO()
    write_po(out, catalogue, width=100, omit_header=True, ignore_obsolete=True)
    lines = ("Content-Type: text/plain; charset=UTF-8", "Language: zh_CN")
    header = 'msgid ""\nmsgstr ""\n' + "".join(f'"{line}\\n"\n' for line in lines) + "\n"
    files.write_whole(CATALOGUE, header.encode() + out.getvalue())
    out = io.BytesIO()
    write_mo(out, _load(CATALOGUE))
    files.write_whole(COMPILED, out.getvalue())
    return sum(not text for text in _read().values())
