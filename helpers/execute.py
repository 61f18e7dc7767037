"""Run notebooks headlessly: `python -m helpers.execute [--store] [notebook ...]`.

Without `--store`: with your settings and key; the executed copy and an HTML page go to `output/`.
With `--store`: with bundled sources, no key and no network; the outputs are written back into the
notebook itself, from one run from the top, without widget views or traces of the machine.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import PROJECT_ROOT, files, settings

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = PROJECT_ROOT / "notebooks"
OUTPUT = PROJECT_ROOT / "output"
CELL_TIMEOUT_SECONDS = 900

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
#: Ray's own log, with the time and the number of a process.
LOG_LINE = re.compile(r"\[\d{4}-\d\d-\d\d .*core_worker\.cc.*\n*$")


class PeakMemory(threading.Thread):
    """Largest resident memory of a process and its children in bytes, read five times a second."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak, self.done = pid, 0, threading.Event()

    def run(self) -> None:
        import psutil

        while not self.done.wait(0.2):
            try:
                kernel = psutil.Process(self.pid)
                family = [kernel, *kernel.children(recursive=True)]
                self.peak = max(self.peak, sum(process.memory_info().rss for process in family))
            except psutil.Error:
                continue

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join()


# --- one notebook ---------------------------------------------------------------------------------


def run(path: Path, *, store: bool) -> tuple[float, float]:
    """Execute one notebook from the top, then store its outputs in it or export them to `output/`.

    Returns:
        seconds, and peak memory of the kernel in MB.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message holds its traceback.
        nbclient.exceptions.CellTimeoutError: a cell took too long.
        nbclient.exceptions.DeadKernelError: the kernel died.
        OSError: the result could not be written.
    """
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    start = time.perf_counter()
    peak = _execute(notebook, path, _progress(path.name, cells))
    seconds = time.perf_counter() - start
    if store:
        _store(notebook, path)
    else:
        _export(notebook, path)
    print(
        f"{_line_start()}{path.name}: {cells} code cells, {seconds:.0f} s, peak {peak:.0f} MB",
        flush=True,
    )
    return seconds, peak


def _execute(notebook: NotebookNode, path: Path, progress: Callable[..., None]) -> float:
    """Fill in the outputs of every cell, in a fresh kernel; returns its peak memory in MB."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_execute=progress,
    )
    with client.setup_kernel(), PeakMemory(_pid(client)) as memory:
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    return memory.peak / 1e6


def _pid(client: Any) -> int:
    """The process of a client's kernel, which runs on this machine."""
    return client.km.provisioner.pid


def _progress(name: str, cells: int) -> Callable[..., None]:
    """What is called before each cell: says on a terminal how far the notebook is."""
    done = 0

    def tell(cell: NotebookNode, **_: Any) -> None:
        nonlocal done
        if cell.cell_type == "code":
            done += 1
            if sys.stdout.isatty():
                print(f"{_line_start()}{name}: cell {done} of {cells}", end="", flush=True)

    return tell


def _line_start() -> str:
    """On a terminal, go back to the start of the line, over the last word of progress."""
    return "\r" if sys.stdout.isatty() else ""


def _store(notebook: NotebookNode, path: Path) -> None:
    """Write the executed notebook back, whole or not at all: it is the only copy."""
    import nbformat

    _tidy(notebook)
    nbformat.validate(notebook)
    files.write_whole(path, (nbformat.writes(notebook) + "\n").encode())


def _tidy(notebook: NotebookNode) -> None:
    """Drop what belongs to one run on one machine: widget views, times, versions."""
    notebook.metadata = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    for cell in notebook.cells:
        for name in ("execution", "collapsed", "scrolled", "trusted"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET_VIEW, None)
            cell.outputs = [output for output in cell.outputs if _is_stored(output)]


def _is_stored(output: NotebookNode) -> bool:
    """Whether an output is kept: it is neither a widget's empty shell nor a line of Ray's log."""
    if output.output_type in ("stream", "error"):
        return not (output.get("name") == "stderr" and LOG_LINE.match(output.text))
    return bool(output.get("data"))


def _export(notebook: NotebookNode, path: Path) -> None:
    """Write the executed notebook and its HTML page to `output/`, without keys."""
    import nbformat
    from nbconvert import HTMLExporter

    folder = OUTPUT / "zh" if path.parent.name == "zh" else OUTPUT
    folder.mkdir(exist_ok=True, parents=True)
    notebook = nbformat.reads(settings.hide_key(nbformat.writes(notebook)), as_version=4)
    nbformat.write(notebook, folder / path.name)
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    (folder / path.with_suffix(".html").name).write_text(page, encoding="utf-8")


# --- the command ----------------------------------------------------------------------------------


def choose(names: list[str]) -> list[Path]:
    """The notebooks that are named: paths, or the start of a file name such as `03`; else all.

    A path in a folder `zh`, such as `zh/03`, names a notebook of the Chinese edition.

    Raises:
        SystemExit: a name fits no notebook, or several.
    """
    english = sorted(NOTEBOOKS.glob("*.ipynb"))
    chosen, every = [], english
    for name in names:
        stem, is_chinese = Path(name).name, Path(name).parent.name == "zh"
        every = sorted(NOTEBOOKS.glob("zh/*.ipynb")) if is_chinese else english
        fits = [path for path in every if path.name.startswith(stem)]
        if len(fits) != 1:
            known = "\n  ".join(path.name for path in every)
            raise SystemExit(
                f"{name!r} fits {len(fits)} notebooks. Name one of these, or its number:\n  {known}"
            )
        chosen += fits
    return chosen or english


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen notebooks; 1 if one of them failed."""
    options = _parser().parse_args(arguments)
    paths = choose(options.notebooks)
    _set_environment(store=options.store)
    if not options.store and (reason := _why_not_writable(OUTPUT)):
        advice = "Copy the project to a folder of your own."
        print(f"The folder output/ cannot be written ({reason}). {advice}", file=sys.stderr)
        return 1
    failed = [path.name for path in paths if not _succeeds(path, store=options.store)]
    if not options.store:
        print("Executed copies and HTML pages: output/")
    if failed:
        print(f"Failed: {', '.join(failed)}. Their files are unchanged.", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py execute", description="Run notebooks headlessly.")
    parser.add_argument("notebooks", nargs="*", help="file names or numbers, such as 03; else all")
    parser.add_argument(
        "--store",
        action="store_true",
        help="write the outputs back into the notebook (no key, no network)",
    )
    return parser


def _set_environment(*, store: bool) -> None:
    """What this process and its kernels run under: nothing of the user's for stored outputs.

    Raises:
        SystemExit: `.env` cannot be used.
    """
    if store:
        settings.clean_environment()
    else:
        try:
            settings.load_env()  # this process has to know the key that it keeps out of files
        except ValueError as error:
            raise SystemExit(str(error)) from None
    os.environ["EMBEDDINGS_HEADLESS"] = "1"


def _why_not_writable(folder: Path) -> str:
    """Why `folder` cannot be written, known before minutes of computing; empty if it can."""
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _succeeds(path: Path, *, store: bool) -> bool:
    """Run one notebook; if it fails, say why."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        run(path, store=store)
    except (CellExecutionError, CellTimeoutError) as error:
        reason = f":\n{settings.hide_key(error)}"
    except DeadKernelError:
        reason = (
            ": its kernel was ended, often because memory ran out. "
            "Close other programs and run it again."
        )
    except OSError as error:
        reason = f": {error}. Is the disk full, or the folder one that you may not write to?"
    else:
        return True
    print(f"\n{path.name} failed{reason}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
