"""Working copies of the notebooks, which an update of the series never destroys.

Beside the copies, `.originals/` holds the versions of the series that copies were made from. Each
copy names its own in its metadata, so that a copy that was put back from a backup, or saved over an
update, is still merged from where it came.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat.v4.rwbase import rejoin_lines, split_lines

from helpers import PROJECT_ROOT, files
from helpers.execute import NOTEBOOKS, choose
from helpers.translations import EDITION

from .merge import COPY_KEY, Notebook, digest, merge

DEFAULT = "my-notebooks"
ORIGINALS, BACKUP, FILES = ".originals", ".backup", "files.json"
KEPT = 10  # runs in .backup/, and versions of each original in .originals/
ATTEMPTS = 3  # when JupyterLab saves a notebook while it is being merged

#: What happened to cells, in the order in which it is printed.
WORDS = {
    "conflict": "changed by you and by the series, yours kept, the new version below it",
    "updated": "updated",
    "outputs": "with new outputs",
    "new": "new",
    "moved": "moved",
    "removed": "removed, as in the series",
    "kept": "changed by you, kept",
    "left": "changed by you, no longer in the series, kept",
    "own": "added by you, kept",
    "deleted": "deleted by you, left out",
}
CHANGES = ("conflict", "updated", "outputs", "new", "moved", "removed")

RELOAD = """
A notebook that is open in JupyterLab still shows its former state. If you have typed nothing since
you saved, choose File > Reload Notebook from Disk. Otherwise save it: JupyterLab says that the file
has changed on disk. Choose Overwrite, which keeps what you typed and undoes the update, and run
this command again, which repeats it. (Revert would drop what you typed.)"""


class Unreadable(ValueError):
    """A file is not a notebook: it was cut off while it was saved, or is something else."""


# --- notebooks as files ---------------------------------------------------------------------------


def parse(data: bytes) -> Notebook:
    """A notebook of any version as nbformat 4, its texts as one string each.

    Raises:
        Unreadable: it is not JSON in UTF-8, or no notebook.
    """
    try:
        raw = json.loads(data.decode("utf-8-sig"))
        if not isinstance(raw, dict) or not isinstance(raw.get("nbformat"), int):
            raise Unreadable("it is no notebook")
        notebook = nbformat.from_dict(raw)
        if raw["nbformat"] != 4:
            notebook = nbformat.convert(notebook, 4)
        plain: Notebook = json.loads(json.dumps(rejoin_lines(notebook)))
        if not all(isinstance(cell["source"], str) for cell in plain["cells"]):
            raise Unreadable("a cell has no text")
        if not all(isinstance(cell.setdefault("metadata", {}), dict) for cell in plain["cells"]):
            raise Unreadable("a cell's metadata are damaged")
        plain.setdefault("metadata", {})
    except Unreadable:
        raise
    except Exception as error:  # conversion of a damaged notebook raises what it likes
        if isinstance(error, (MemoryError, RecursionError)):
            raise
        raise Unreadable("it was cut off or damaged, for example by a full disk") from None
    return plain


def dump(notebook: Notebook) -> bytes:
    """A notebook as JupyterLab writes it."""
    lines = split_lines(nbformat.from_dict(notebook))
    for ascii_only in (False, True):  # half of a surrogate pair can only be written escaped
        with suppress(UnicodeEncodeError):
            text = json.dumps(lines, indent=1, sort_keys=True, ensure_ascii=ascii_only)
            return (text + "\n").encode()
    raise AssertionError("ASCII can always be encoded")


# --- one notebook ---------------------------------------------------------------------------------


class Update:
    """One run: updates the copies in `folder` from the notebooks in `series`.

    Attributes:
        failed: whether a file could not be updated.
        overwritten: whether a copy that was there has been replaced.
    """

    def __init__(self, series: Path, folder: Path, *, dry_run: bool = False):
        self.series, self.folder, self.dry_run = series, folder, dry_run
        self.failed = self.overwritten = False
        self._backup: Path | None = None
        self._record = folder / ORIGINALS / FILES
        self._known: dict[str, str] = {}  # every file handed out so far, and its version
        with suppress(OSError, ValueError):
            self._known = dict(json.loads(self._record.read_text(encoding="utf-8")))

    def run(self, fresh: Iterable[str] = ()) -> None:
        """Update every notebook, then the files beside them; a failing one stops no other.

        Args:
            fresh: file names of notebooks to copy again; the learner's get another name.
        """
        fresh = set(fresh)
        names = sorted(path.name for path in self.series.glob("*.ipynb"))
        for name in names:
            try:
                print(f"{name}: {self._notebook(name, again=name in fresh)}", flush=True)
            except Unreadable as error:
                self._fail(
                    f"{name}: not updated, its copy cannot be read ({error}). It is untouched. "
                    f"Former states: {self._former_states(name)}. To start over (yours stays, "
                    f"under another name): python run.py workshop copy --fresh {name}"
                )
            except OSError as error:
                advice = " Is the disk full, or the folder one that you may not write to?"
                self._fail(
                    f"{name}: not updated ({error.strerror or error}); your copy is untouched."
                    + (advice if error.errno else "")
                )
        for path in sorted(self.folder.glob("*.ipynb")):
            if path.name not in names and path.name in self._known:
                print(f"{path.name}: no longer in the series; kept")
        try:
            self._pictures()
            self._write(self._record, json.dumps(self._known, indent=1, sort_keys=True).encode())
            self._tidy()
        except OSError as error:
            self._fail(f"{self.folder}: not all files could be written ({error.strerror or error})")

    def _fail(self, text: str) -> None:
        self.failed = True
        print(text, file=sys.stderr, flush=True)

    def _notebook(self, name: str, *, again: bool) -> str:
        """Update one copy; returns what happened, in words."""
        new, path = self._published(name), self.folder / name
        version = digest(new)
        store = self.folder / ORIGINALS / path.stem
        if not path.exists() and name in self._known and not again:
            return (
                "deleted by you, left out. To have it again: "
                f"python run.py workshop copy --fresh {name}"
            )
        former_version = self._known.get(name, "")
        self._keep_original(store / f"{version}.json", new)
        self._known[name] = version
        if again or not path.exists():
            aside = self._set_aside(path) if path.exists() else ""
            self._write(path, dump(_marked(new, version)))
            return f"copied again; yours is now {aside}" if aside else "copied"
        for _ in range(ATTEMPTS):
            data = path.read_bytes()
            mine = parse(data)
            mark = mine["metadata"].pop(COPY_KEY, None)
            says = mark.get("version") if isinstance(mark, dict) else former_version
            base = self._original(store / f"{says}.json")
            merged, events = merge(base, mine, new)
            merged = _marked(merged, version)
            if merged != parse(data):
                self._save_backup(name, data)
                if path.read_bytes() != data:
                    continue  # saved by JupyterLab in between
                self._write(path, dump(merged))
                self.overwritten = True
            return _in_words(events) + (
                "" if base else " (the version that it was copied from is not known)"
            )
        raise OSError("it is being saved all the time")

    def _published(self, name: str) -> Notebook:
        """A notebook of the series.

        Raises:
            OSError: it cannot be read, or its cells have no ids of their own.
        """
        try:
            notebook = parse((self.series / name).read_bytes())
            ids = {cell["id"] for cell in notebook["cells"]}
        except (Unreadable, KeyError) as error:
            raise OSError(f"the original is damaged: git checkout -- notebooks/{name}") from error
        if len(ids) < len(notebook["cells"]):
            raise OSError("two cells of the original have the same id")
        notebook["metadata"].pop(COPY_KEY, None)
        return notebook

    def _original(self, path: Path) -> Notebook | None:
        """The original that a copy was made from; None if it is gone or damaged."""
        with suppress(OSError, Unreadable):
            original = parse(path.read_bytes())
            if digest(original) == path.stem:
                return original
        return None

    def _keep_original(self, path: Path, original: Notebook) -> None:
        """Keep a version of the series from which a copy is about to be made."""
        if not self.dry_run:
            self._write(path, dump(original))
            os.utime(path)  # now in use: the last to be removed

    def _set_aside(self, path: Path) -> str:
        """Rename the learner's notebook, which then is a file of their own."""
        aside = path.with_name(f"{path.stem}.{_now()}.ipynb")
        if not self.dry_run:
            os.replace(path, aside)
        return aside.name

    def _former_states(self, name: str) -> str:
        """Where states of a notebook may be found that can still be read."""
        checkpoint = self.folder / ".ipynb_checkpoints" / f"{Path(name).stem}-checkpoint.ipynb"
        backups = sorted((self.folder / BACKUP).glob(f"*/{name}"))[-1:]
        found = [str(path) for path in [checkpoint, *backups] if path.is_file()]
        return ", ".join(found) or "none"

    # --- files ------------------------------------------------------------------------------------

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file whole, unless it is the same already."""
        if not self.dry_run and not (path.is_file() and path.read_bytes() == data):
            files.write_whole(path, data)

    def _save_backup(self, name: str, data: bytes) -> None:
        """Keep the former version of a file in a folder that this run makes for itself."""
        if not self.dry_run:
            while self._backup is None:
                chosen = self.folder / BACKUP / _now()
                with suppress(FileExistsError):  # another run at this millisecond
                    chosen.mkdir(parents=True)
                    self._backup = chosen
            self._write(self._backup / name, data)

    def _pictures(self) -> None:
        """Update the pictures; one that the learner has changed stays."""
        renewed = []
        for path in sorted((self.series / "images").rglob("*.*g")):  # svg, png; zh/ has some too
            name = path.relative_to(self.series).as_posix()
            copy, new = self.folder / name, files.sha256(path)
            there = files.sha256(copy) if copy.is_file() else None
            if there not in (None, new, self._known.get(name)):
                print(f"{name}: changed by you, kept")
                continue
            if there != new:
                self._write(copy, path.read_bytes())
                renewed.append(path.relative_to(self.series / "images").as_posix())
            self._known[name] = new
        if renewed:
            print(f"images: {len(renewed)} new or updated: {', '.join(renewed)}")

    def _tidy(self) -> None:
        """Remove the oldest backups, and originals that no copy was made from for long."""
        if self.dry_run or self._backup is None:
            return
        for run in sorted((self.folder / BACKUP).iterdir())[:-KEPT]:
            shutil.rmtree(run, ignore_errors=True)
        for store in (self.folder / ORIGINALS).iterdir():
            for path in _by_age(store.glob("*.json"))[:-KEPT] if store.is_dir() else []:
                path.unlink(missing_ok=True)


def _marked(notebook: Notebook, version: str) -> Notebook:
    """The notebook with the name of the original that it is made from."""
    return {**notebook, "metadata": {**notebook["metadata"], COPY_KEY: {"version": version}}}


def _by_age(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _now() -> str:
    """Local time, as part of a file name that sorts by age."""
    return datetime.now().strftime("%Y-%m-%dT%H-%M-%S-%f")[:-3]


def _in_words(events: dict[str, list[str]]) -> str:
    """What happened to the cells of a notebook.

    >>> _in_words({"kept": ["ex1-start"]})
    'up to date; changed by you, kept: ex1-start'
    """
    parts = [f"{WORDS[event]}: {', '.join(events[event])}" for event in WORDS if event in events]
    if not any(event in events for event in CHANGES):
        parts.insert(0, "up to date")
    return "; ".join(parts)


# --- the command ----------------------------------------------------------------------------------


def _why_not(folder: Path, series: Path) -> str:
    """Why a folder cannot hold the working copies; empty if it can."""
    if folder.is_relative_to(series) or series.is_relative_to(folder):
        return "it holds the originals, or lies among them"
    if folder.exists() and not folder.is_dir():
        return "it is a file"
    return ""


def main(arguments: list[str]) -> int:
    """Make or update the working copies; 1 if one of them could not be updated."""
    parser = argparse.ArgumentParser(
        prog="run.py workshop copy",
        description="Make working copies of the notebooks, or update them after the series has "
        "changed. What a learner has changed, added or deleted stays as it is.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        default=DEFAULT,
        help=f"where the copies are (default: {DEFAULT} in the project's folder)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would happen, write nothing"
    )
    parser.add_argument(
        "--fresh",
        nargs="+",
        default=[],
        metavar="NOTEBOOK",
        help="copy these again, by name or number such as 02; yours gets another name",
    )
    parser.add_argument(
        "--chinese", action="store_true", help="the Chinese edition too, in a folder zh beside them"
    )
    options = parser.parse_args(arguments)
    folder, series = (PROJECT_ROOT / options.folder).resolve(), NOTEBOOKS.resolve()
    if reason := _why_not(folder, series):
        parser.error(f"{folder} cannot hold the copies: {reason}. Name another: {DEFAULT}")
    fresh = [path.name for path in choose(options.fresh)] if options.fresh else []
    updates = [Update(series, folder, dry_run=options.dry_run)]
    if options.chinese or (folder / EDITION / ORIGINALS).is_dir():  # it was copied before
        updates.append(Update(series / EDITION, folder / EDITION, dry_run=options.dry_run))
    for update in updates:
        if len(updates) > 1:
            print(f"{update.folder.relative_to(folder.parent).as_posix()}:")
        update.run(fresh)
    if any(update.overwritten for update in updates):
        print(
            f"{RELOAD}\nFormer versions: {', '.join(str(one.folder / BACKUP) for one in updates)}"
        )
    failed = any(update.failed for update in updates)
    if options.dry_run:
        print("\nNothing was written.")
    elif not failed:
        print(f"\nOpen them: python run.py lab {options.folder}")
    return int(failed)
