"""The Chinese edition: `python run.py translate [option] [notebook ...]`.

The English notebooks are the only source of code. `notebooks/zh/NN_name.md` is the catalogue of
one notebook: for each Markdown cell a header with the cell's id and the first 16 hex digits of the
SHA-256 of its English text, then the Chinese text. Links are written as in the English text.

Without an option: check the catalogues, make `notebooks/zh/*.ipynb` and run them.
With `--new`: write the skeleton of a catalogue, or add the cells that are missing or have changed;
their English text stands above them as a comment, to be removed when they are translated.
With `--text`: only put changed Chinese text into notebooks that have been run.
With `--check`: list what is wrong and change nothing; without names, messages, figures
and diagrams too.
With `--pages`: as `--new`, for pages with a Chinese edition beside them, `NAME.zh.md`. It is
its own catalogue, its headers are comments; links in it may lead to Chinese files.
With `--messages`: bring `helpers/locale` and `notebooks/images/zh` up to date.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import posixpath
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fontTools import subset
from fontTools.ttLib import TTFont

from . import PROJECT_ROOT, execute, files, messages
from .language import CHINESE_FONT_FILE
from .wording import CHINESE, CODE, LINK, lost, wording

if TYPE_CHECKING:
    from nbformat import NotebookNode

EDITION = "zh"
PAGES = ("README.md", "models/mini-cde/README.md", "workshop/handout.md")
HEADER = re.compile(r"^<!-- cell: (\S+) sha256: ([0-9a-f]{16}) -->$", re.M)
#: A cell that waits for its translation: the English text, above the Chinese one if there is any.
PENDING = re.compile(r"^<!-- english\n(.*?)\n-->\n?", re.M | re.S)
#: A character that takes its glyph from the Chinese font.
CHINESE_GLYPH = re.compile(rf"{CHINESE}|[\u3000-\u303f\uff00-\uffef]")
#: A text of a diagram that has letters, between its tags.
SVG_TEXT = re.compile(r"(?<=>)[^<>\n]*[A-Za-z][^<>\n]*(?=<)")


# --- catalogues ---------------------------------------------------------------------------------


def digest(text: str) -> str:
    """What a catalogue notes of an English text: 16 hex digits of its SHA-256.

    >>> digest("a cell")
    '4f5dba2f1267cc94'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def page_of(source: Path) -> Path:
    """Where the Chinese edition of an English page stands; it is its own catalogue."""
    return source.with_suffix(f".{EDITION}.md")


def sections(text: str) -> dict[str, str]:
    """The parts of a page, by the anchor of their heading; before the first one: `opening`.

    >>> sections("# A page\\n\\nWords.\\n\\n## Two commands\\n\\nMore.\\n")
    {'opening': '# A page\\n\\nWords.', 'two-commands': '## Two commands\\n\\nMore.'}
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)  # a model card's metadata
    opening, *parts = re.split(r"^(?=## )", text, flags=re.M)
    found = {"opening": opening.strip()}
    for part in parts:
        heading = part.partition("\n")[0].removeprefix("## ").lower()
        found[re.sub(r"[^a-z0-9]+", "-", heading).strip("-")] = part.strip()
    return found


def cells_of(source: Path) -> dict[str, str]:
    """What there is to translate: a notebook's Markdown cells, or the sections of a page."""
    import nbformat

    if source.suffix == ".md":
        return sections(source.read_text(encoding="utf-8"))
    cells = nbformat.read(source, as_version=4).cells
    return {cell.id: cell.source for cell in cells if cell.cell_type == "markdown"}


def to_english(text: str) -> str:
    """The text with links to Chinese files as links to the English ones.

    >>> to_english("[1](notebooks/zh/01_a.ipynb), [card](models/README.zh.md)")
    '[1](notebooks/01_a.ipynb), [card](models/README.md)'
    """

    def move(match: re.Match[str]) -> str:
        return match.group().replace(f"/{EDITION}/", "/").replace(f".{EDITION}.md", ".md")

    return LINK.sub(move, text)


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


def skeleton(cells: dict[str, str], entries: dict[str, Entry]) -> str:
    """A catalogue in the order of the English cells: what is there, and what is to translate.

    A cell whose English text has changed keeps its Chinese text below the new English one. A cell
    that the English edition no longer has goes to the end.
    """
    parts = []
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
    """What is wrong with the Chinese text of a notebook or page; nothing if there is none."""
    is_page = source.suffix == ".md"
    path = page_of(source) if is_page else catalogue_of(source)
    if not path.is_file():
        return
    chosen = "--pages" if is_page else f"--new {source.stem[:2]}"
    renew = f"python run.py translate {chosen}"
    again = "" if is_page else f", then run: python run.py translate --text {source.stem[:2]}"
    try:
        entries = read(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"{path.name}: {error}. Repair it by hand"
        return
    cells = cells_of(source)
    for name in entries:
        if name not in cells:
            yield f"{path.name}, cell {name}: orphan, the English edition has none. Remove it"
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
            both = [to_english(text) if is_page else text for text in (english, entry.text)]
            for what in lost(*both) + wording(*both):
                yield f"{where}: {what}. Correct it{again}"


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


def pages() -> list[Path]:
    """The English pages that have a Chinese edition beside them."""
    return [PROJECT_ROOT / name for name in PAGES]


# --- diagrams -------------------------------------------------------------------------------------


def diagrams() -> Iterator[tuple[Path, str, list[str]]]:
    """Where each Chinese diagram stands, its text, and the English words that have no Chinese."""
    folder = execute.NOTEBOOKS / "images"
    known = tomllib.loads((folder / EDITION / "words.toml").read_text(encoding="utf-8"))
    words = known["words"] | {text: text for text in known["keep"]}
    for path in sorted(folder.glob("*.svg")):
        english = path.read_text(encoding="utf-8")
        unknown = [text for text in SVG_TEXT.findall(english) if text not in words]
        chinese = SVG_TEXT.sub(lambda match: words.get(match.group(), match.group()), english)
        yield folder / EDITION / path.name, with_glyphs(chinese), unknown


def with_glyphs(svg: str) -> str:
    """An SVG that brings along the glyphs of its Chinese characters.

    An image cannot use a font of the page that shows it, so without them it has boxes where no
    Chinese font is installed. The font stands first: Chromium does not draw a text again when a
    font that it falls back to has been read.
    """
    needed = sorted(set(CHINESE_GLYPH.findall(svg)))
    if not needed:
        return svg
    options = subset.Options(hinting=False, layout_features=[], name_IDs=[], notdef_outline=True)
    font = TTFont(CHINESE_FONT_FILE, recalcTimestamp=False)
    cut = subset.Subsetter(options)
    cut.populate(text="".join(needed))
    cut.subset(font)
    with BytesIO() as stream:
        font.save(stream)  # not compressed: zlib's output depends on its version
        data = base64.b64encode(stream.getvalue()).decode()
    return re.sub(
        r"(<svg\b[^>]*>)",
        rf"""\1<style>
    @font-face {{ font-family: "Glyphs"; src: url(data:font/otf;base64,{data}); }}
    svg {{ font-family: Glyphs, DejaVu Sans, Verdana, sans-serif; }}
  </style>""",
        svg,
        count=1,
    )


def diagram_faults() -> Iterator[str]:
    """Words of diagrams that are not translated, or badly; files that are not made from them."""
    folder = execute.NOTEBOOKS / "images"
    said: set[str] = set()
    for path, chinese, unknown in diagrams():
        said.update(SVG_TEXT.findall((folder / path.name).read_text(encoding="utf-8")))
        for text in unknown:
            yield f"images/zh/words.toml: {path.name} says {text!r}. Add its Chinese words"
        if not path.is_file() or path.read_text(encoding="utf-8") != chinese:
            yield f"images/zh/{path.name}: outdated. Run: python run.py translate --messages"
    known = tomllib.loads((folder / EDITION / "words.toml").read_text(encoding="utf-8"))
    for text in [*known["words"], *known["keep"]]:
        if text not in said:
            yield f"images/zh/words.toml, {text!r}: no diagram says it. Remove it"
    for english, chinese in known["words"].items():
        for what in lost(english, chinese) + wording(english, chinese):
            yield f"images/zh/words.toml, {english!r}: {what}"


# --- the command ----------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Make, check or prepare the Chinese edition; 1 if something is wrong."""
    options = _parser().parse_args(arguments)
    if options.messages:
        print(f"helpers.po: {messages.renew()} messages to translate")
        for path, chinese, _unknown in diagrams():
            files.write_whole(path, chinese.encode())
        return 0
    chosen = execute.choose(options.notebooks)
    if options.new or options.pages:
        _prepare(pages() if options.pages else chosen)
        return 0
    if options.check:
        found = check(chosen)
        if not options.notebooks:
            found += [fault for page in pages() for fault in faults(page)]
            found += [*messages.faults(), *messages.figure_faults(), *diagram_faults()]
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
    how.add_argument("--pages", action="store_true", help="the same for README.zh.md and others")
    how.add_argument("--messages", action="store_true", help="renew messages and diagrams")
    how.add_argument("--text", action="store_true", help="only put the Chinese text in, do not run")
    return parser


def _prepare(chosen: list[Path]) -> None:
    """Write the skeletons of catalogues; what is translated in them stays."""
    for source in chosen:
        path = page_of(source) if source.suffix == ".md" else catalogue_of(source)
        entries = read(path.read_text(encoding="utf-8")) if path.is_file() else {}
        text = skeleton(cells_of(source), entries)
        files.write_whole(path, text.encode())
        print(f"{path.name}: {len(PENDING.findall(text))} cells to translate")


def _write(chosen: list[Path]) -> None:
    import nbformat

    for source in chosen:
        data = nbformat.writes(build(source)) + "\n"
        files.write_whole(edition_of(source), data.encode())


if __name__ == "__main__":
    sys.exit(main())
