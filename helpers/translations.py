"""The Chinese edition: `python run.py translate [--check | --new | --text] [notebook ...]`.

The English notebooks are the only source of code. `notebooks/zh/NN_name.md` is the catalogue of
one notebook: for each Markdown cell a header with the cell's id and the first 16 hex digits of the
SHA-256 of its English text, then the Chinese text. Links are written as in the English text.

Without an option: check the catalogues, make `notebooks/zh/*.ipynb` and run them.
With `--new`: write the skeleton of a catalogue, or add the cells that are missing or have changed;
their English text stands above them as a comment, to be removed when they are translated.
With `--text`: only put changed Chinese text into notebooks that have been run.
With `--check`: list what is wrong and change nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import posixpath
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from . import execute, files

if TYPE_CHECKING:
    from nbformat import NotebookNode

EDITION = "zh"
GLOSSARY = execute.NOTEBOOKS / EDITION / "glossary.toml"
HEADER = re.compile(r"^<!-- cell: (\S+) sha256: ([0-9a-f]{16}) -->$", re.M)
#: A cell that waits for its translation: the English text, above the Chinese one if there is any.
PENDING = re.compile(r"^<!-- english\n(.*?)\n-->\n?", re.M | re.S)
CODE = re.compile(r"(^```.*?^```|(?<!`)`[^`\n]+`)", re.M | re.S)
MATH = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$", re.S)
LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))|<https?://[^>\s]+>")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])(?:(?<!\S)[+-]|(?<=\[)[+-])?\d[\d,]*(?:\.\d+)?")
PLACE = re.compile(r"\{[a-z_]\w*(?:[.:!][^{}]*)?\}")
SHAPE = re.compile(r"^(#+|>|[-*]|\d+\.|\|)(?=[ |])|(</?(?:details|summary)>)", re.M)

CHINESE = r"[\u3400-\u4dbf\u4e00-\u9fff]"
NARROW = [  # (pattern, what is wrong); code is replaced by `x` before
    (rf"{CHINESE}\s?[,.:;?!](?![A-Za-z0-9_/])", "half-width punctuation after Chinese"),
    (rf"[,;:?!]\s?(?:\*\*)?{CHINESE}", "half-width punctuation before Chinese"),
    (rf"{CHINESE}\(|\({CHINESE}|{CHINESE}\)(?!\()", "half-width brackets around Chinese"),
    (rf"[\"']{CHINESE}|{CHINESE}[\"']", "straight quotes around Chinese"),
    (rf"{CHINESE}[A-Za-z0-9`]|[A-Za-z0-9`]{CHINESE}", "no space between Chinese and Latin"),
]

UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
TEENS = "fifteen sixteen seventeen eighteen nineteen"
VALUES = {word: value for value, word in enumerate(f"{UNITS} {TEENS}".split())}
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES |= {word: 10 * ten for ten, word in enumerate(TENS, start=2)}
VALUES |= {"hundred": 100, "thousand": 1000, "million": 1_000_000, "half": 0, "first": 1}
VALUES |= {"second": 2, "third": 3, "once": 1, "twice": 2, "both": 2, "single": 1}


# --- one text against another ---------------------------------------------------------------------


def digest(text: str) -> str:
    """What a catalogue notes of an English text: 16 hex digits of its SHA-256.

    >>> digest("a cell")
    '4f5dba2f1267cc94'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def glossary() -> dict[str, dict[str, Any]]:
    """English term -> `zh`, its translation; `avoid`, what is not said; `always`, see the file."""
    return tomllib.loads(GLOSSARY.read_text(encoding="utf-8"))


def lost(english: str, chinese: str) -> list[str]:
    """What a translation must keep and does not: code, formulas, links, numbers, shape, places."""
    found = []
    code = [Counter(CODE.findall(text)) for text in (english, chinese)]
    found += _difference("code", code, counted=False)
    english, chinese = (CODE.sub("`x`", text) for text in (english, chinese))
    found += _difference("link", [Counter(LINK.findall(text)) for text in (english, chinese)])
    english, chinese = (LINK.sub("", text) for text in (english, chinese))
    math = [Counter(MATH.findall(text)) for text in (english, chinese)]
    found += _difference("formula", math, counted=False)
    english, chinese = (MATH.sub("", text) for text in (english, chinese))
    found += _difference("placeholder", [Counter(PLACE.findall(t)) for t in (english, chinese)])
    numbers = [Counter(_numbers(PLACE.sub("", text))) for text in (english, chinese)]
    for word in set(numbers[1]) & _in_words(english):
        numbers[0][word] += 1  # "sixteen" may become 16
        numbers[1][word] += 1
    found += _difference("number", numbers, counted=False)
    shapes = [_shape(text) for text in (english, chinese)]
    if shapes[0] != shapes[1]:
        found.append(f"another structure: {' '.join(shapes[1])} instead of {' '.join(shapes[0])}")
    return found


def _difference(kind: str, counts: list[Counter[str]], *, counted: bool = True) -> list[str]:
    """What one of two texts holds and the other does not; a repetition counts if `counted`."""
    before, after = counts if counted else [Counter(set(count)) for count in counts]
    found = [f"{kind} {text!r} is lost" for text in (before - after)]
    return found + [f"{kind} {text!r} is not in the English text" for text in (after - before)]


def _numbers(text: str) -> list[str]:
    """Numbers in digits, without the commas of their thousands.

    >>> _numbers("1,536 of 3.5, -1 and [+7.0, MiniLM-L6")
    ['1536', '3.5', '-1', '+7.0']
    """
    return [number.replace(",", "") for number in NUMBER.findall(text)]


def _in_words(english: str) -> set[str]:
    """The values of the numbers that an English text spells.

    >>> sorted(_in_words("Forty-two questions about one bank"))
    ['1', '2', '40', '42']
    """
    words = re.findall(r"[a-z]+", english.lower())
    values = [VALUES.get(word.removesuffix("s"), VALUES.get(word)) for word in words]
    found = {value for value in values if value is not None}
    for ten, unit in pairwise(values):
        if ten and unit and 20 <= ten < 100 and unit < 10:
            found.add(ten + unit)
    return {str(value) for value in found}


def _shape(text: str) -> list[str]:
    """Headings, quotes, list items, table rows and folded parts, in order; lines of a quote as one.

    >>> _shape("# A\\n\\n> b\\n> c\\n\\n1. d")
    ['#', '>', '1.']
    """
    marks = [mark or tag for mark, tag in SHAPE.findall(text)]
    return [m for m, before in zip(marks, ["", *marks], strict=False) if (m, before) != (">", ">")]


def wording(english: str, chinese: str) -> list[str]:
    """Terms that are not those of the glossary, and punctuation that is not Chinese."""
    english, chinese = (LINK.sub("", CODE.sub("`x`", text)) for text in (english, chinese))
    found = []
    for term, entry in glossary().items():
        found += [
            f"{variant!r} for {term!r} (write: {entry['zh']})"
            for variant in entry.get("avoid", [])
            if variant in chinese
        ]
        if entry.get("always") and entry["zh"] not in chinese and _says(term, english):
            found.append(f"{term!r} without {entry['zh']!r}")
    plain = MATH.sub("$", re.sub(r"`x`", "`", chinese))
    for pattern, what in NARROW:
        for match in re.finditer(pattern, plain):
            place = plain[max(0, match.start() - 6) : match.end() + 6].replace("\n", " ")
            found.append(f"{what}: {place!r}")
    return found


def _says(term: str, english: str) -> bool:
    """Whether an English text uses a term, in the singular or plural; a phrase ends where it ends.

    >>> _says("token", "Six Tokens."), _says("token", "the tokenizer"), _says("Goal:", "**Goal:**")
    (True, False, True)
    """
    ending = r"(?:s|es)?(?![\w@])" if term[-1].isalnum() else ""
    return bool(re.search(rf"(?<![\w-]){re.escape(term)}{ending}", english, re.I))


def places(text: str) -> Counter[str]:
    """The placeholders of a format string, each with its format; empty for text with odd braces."""
    try:
        fields = list(Formatter().parse(text))
    except ValueError:
        return Counter()
    return Counter(f"{{{name}:{form}}}" for _, name, form, _ in fields if name is not None)


# --- catalogues -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One cell of a catalogue: hash of the English text, Chinese text, whether it still waits."""

    digest: str
    text: str
    pending: bool = False


def sources() -> list[Path]:
    """The English notebooks."""
    return sorted(execute.NOTEBOOKS.glob("*.ipynb"))


def catalogue_of(source: Path) -> Path:
    """Where the Chinese text of an English notebook stands."""
    return source.parent / EDITION / f"{source.stem}.md"


def edition_of(source: Path) -> Path:
    """Where the Chinese notebook stands."""
    return source.parent / EDITION / source.name


def read(text: str) -> dict[str, Entry]:
    """A catalogue: cell id -> entry.

    Raises:
        ValueError: text before the first header, a cell twice, or a header that is misspelled.
    """
    before, *parts = HEADER.split(text)
    if before.strip():
        raise ValueError(f"text before the first header: {before.strip()[:60]!r}")
    entries: dict[str, Entry] = {}
    for name, noted, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if name in entries:
            raise ValueError(f"cell {name} stands twice")
        if odd := re.search(r"^<!-- *cell.*$", body, re.M):
            raise ValueError(f"a header that cannot be read: {odd.group()!r}")
        pending = PENDING.search(body) is not None
        entries[name] = Entry(noted, PENDING.sub("", body).strip(), pending)
    return entries


def skeleton(notebook: NotebookNode, entries: dict[str, Entry]) -> str:
    """A catalogue in the notebook's order: what is there, and what waits for its translation.

    A cell whose English text has changed keeps its Chinese text below the new English one. A cell
    that the notebook no longer has goes to the end.
    """
    parts = []
    cells = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}
    for name, source in cells.items():
        entry = entries.get(name, Entry("", ""))
        waits = entry.pending or entry.digest != digest(source) or not entry.text
        english = f"<!-- english\n{source.replace('-->', '-- >')}\n-->\n" if waits else ""
        parts.append(f"<!-- cell: {name} sha256: {digest(source)} -->\n{english}{entry.text}")
    for name, entry in entries.items():
        if name not in cells:
            parts.append(f"<!-- cell: {name} sha256: {entry.digest} -->\n{entry.text}")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def faults(source: Path) -> Iterator[str]:
    """What is wrong with the catalogue of an English notebook; nothing if there is none."""
    import nbformat

    path = catalogue_of(source)
    if not path.is_file():
        return
    renew = f"python run.py translate --new {source.stem[:2]}"
    try:
        entries = read(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"{path.name}: {error}. Repair it by hand"
        return
    cells = {
        cell.id: cell.source
        for cell in nbformat.read(source, as_version=4).cells
        if cell.cell_type == "markdown"
    }
    for name in entries:
        if name not in cells:
            yield f"{path.name}, cell {name}: orphan, the notebook has no such cell. Remove it"
    for name, english in cells.items():
        where = f"{path.name}, cell {name}"
        entry = entries.get(name)
        if entry is None:
            yield f"{where}: missing. Run: {renew}"
        elif entry.digest != digest(english):
            yield f"{where}: the English text has changed. Run: {renew}"
        elif entry.pending or not entry.text:
            yield f"{where}: not translated. Write the Chinese text and remove the English comment"
        else:
            again = f"Correct it, then run: python run.py translate --text {source.stem[:2]}"
            for what in lost(english, entry.text) + wording(english, entry.text):
                yield f"{where}: {what}. {again}"


# --- notebooks ------------------------------------------------------------------------------------


def relocated(text: str, folder: Path) -> str:
    """The text with its links as they are seen from `folder/zh`, for a text written for `folder`.

    A file that exists in Chinese is preferred: a notebook or picture in `zh`, a page `NAME.zh.md`.
    """

    def move(match: re.Match[str]) -> str:
        target = match.group()
        if re.match(r"<?[a-z]+:|#", target):
            return target
        name, hash_, anchor = target.partition("#")
        stem, suffix = posixpath.splitext(name)
        if suffix == ".ipynb" and catalogue_of(folder / name).is_file():
            return target
        inner = posixpath.join(posixpath.dirname(name), EDITION, posixpath.basename(name))
        for chinese in (f"{stem}.{EDITION}{suffix}", inner):
            if suffix != ".ipynb" and (folder / chinese).is_file():
                name = chinese
                break
        return posixpath.normpath(posixpath.join("..", name)) + hash_ + anchor

    parts = CODE.split(text)
    return "".join(p if i % 2 else LINK.sub(move, p) for i, p in enumerate(parts))


def build(source: Path) -> NotebookNode:
    """The Chinese notebook: code and ids of the English one, text of the catalogue.

    Outputs are those of the stored Chinese notebook if all of its code is the same, else none.

    Raises:
        KeyError: the catalogue lacks a cell; see `faults`.
    """
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    entries = read(catalogue_of(source).read_text(encoding="utf-8"))
    stored = edition_of(source)
    old = nbformat.read(stored, as_version=4).cells if stored.is_file() else []
    ran = {cell.id: cell for cell in old if cell.cell_type == "code"}
    code = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}
    same = code == {name: cell.source for name, cell in ran.items()}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relocated(entries[cell.id].text, source.parent)
        elif cell.cell_type == "code":
            cell.outputs = ran[cell.id].outputs if same else []
            cell.execution_count = ran[cell.id].execution_count if same else None
    return notebook


def outdated(source: Path) -> Iterator[str]:
    """Why the stored Chinese notebook is not what its catalogue and the English one say."""
    import nbformat

    path, number = edition_of(source), source.stem[:2]
    where = f"{EDITION}/{path.name}"
    if not catalogue_of(source).is_file():
        if path.is_file():
            yield f"{where}: no catalogue. Remove it or run: python run.py translate --new {number}"
        return
    run = f"Run: python run.py translate {number}"
    if not path.is_file():
        yield f"{where}: missing. {run}"
        return
    stored, built = nbformat.read(path, as_version=4), build(source)
    if [cell.id for cell in stored.cells] != [cell.id for cell in built.cells]:
        yield f"{where}: other cells than the English notebook. {run}"
        return
    for old, new in zip(stored.cells, built.cells, strict=True):
        if (old.cell_type, old.source, old.metadata) != (new.cell_type, new.source, new.metadata):
            command = run if new.cell_type == "code" else run.replace("late", "late --text")
            yield f"{where}, cell {new.id}: outdated. {command}"
        elif new.cell_type == "code" and old.execution_count is None:
            yield f"{where}, cell {new.id}: without the outputs of a run. {run}"


def check(chosen: list[Path]) -> list[str]:
    """Everything that is wrong with the Chinese edition of these notebooks."""
    found: list[str] = []
    for source in chosen:
        wrong = list(faults(source))
        found += wrong or outdated(source)
    known = {source.name for source in sources()}
    folder = execute.NOTEBOOKS / EDITION
    for path in [*sorted(folder.glob("*.md")), *sorted(folder.glob("*.ipynb"))]:
        if f"{path.stem}.ipynb" not in known and path.stem[:2].isdigit():
            found.append(f"{EDITION}/{path.name}: orphan, there is no such notebook. Remove it")
    return found


# --- the command ----------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Make, check or prepare the Chinese edition; 1 if something is wrong."""
    options = _parser().parse_args(arguments)
    chosen = execute.choose(options.notebooks)
    if options.new:
        _prepare(chosen)
        return 0
    if options.check:
        found = check(chosen)
    else:
        translated = [source for source in chosen if catalogue_of(source).is_file()]
        found = [fault for source in translated for fault in faults(source)]
        if not found:
            _write(translated)
            if not options.text:
                return execute.main(["--store", *(str(edition_of(path)) for path in translated)])
            found = [fault for source in translated for fault in outdated(source)]
    print("\n".join(found) or "The Chinese edition is up to date.")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    summary = "Make the Chinese notebooks from the English ones and notebooks/zh/*.md, and run them"
    parser = argparse.ArgumentParser(prog="run.py translate", description=f"{summary}.")
    parser.add_argument("notebooks", nargs="*", help="file names or numbers, such as 03; else all")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="only list what is wrong")
    how.add_argument("--new", action="store_true", help="add what has no translation to catalogues")
    how.add_argument("--text", action="store_true", help="only put the Chinese text in, do not run")
    return parser


def _prepare(chosen: list[Path]) -> None:
    """Write the skeletons of catalogues; what is translated in them stays."""
    import nbformat

    for source in chosen:
        path = catalogue_of(source)
        entries = read(path.read_text(encoding="utf-8")) if path.is_file() else {}
        text = skeleton(nbformat.read(source, as_version=4), entries)
        files.write_whole(path, text.encode())
        print(f"{path.name}: {len(PENDING.findall(text))} cells to translate")


def _write(chosen: list[Path]) -> None:
    import nbformat

    for source in chosen:
        data = nbformat.writes(build(source)) + "\n"
        files.write_whole(edition_of(source), data.encode())


if __name__ == "__main__":
    sys.exit(main())
