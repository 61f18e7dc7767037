"""Run notebooks headlessly: `python -m helpers.execute [--store] [notebook ...]`.

Without `--store`: your settings and key are used; the executed copy and an HTML page go to `output/`.
With `--store`: bundled sources, no key, no network; the outputs are written back into the notebook itself,
from one run from the top, without widget views, widget state or traces of the machine.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from . import PROJECT_ROOT, files, settings

NOTEBOOKS = PROJECT_ROOT / "notebooks"
OUTPUT = PROJECT_ROOT / "output"
CELL_TIMEOUT_SECONDS = 900

LOG_LINE = re.compile(
    r"\[\d{4}-\d\d-\d\d .*core_worker\.cc.*\n*$"
)  # Ray's own, with time and process


class PeakMemory(threading.Thread):
    """Largest resident memory of a process and its children, sampled five times a second."""

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


def _tidy(notebook: Any) -> None:
    """Drop what belongs to one run on one machine: widget views and state, times, versions of the kernel."""
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        for name in ("execution", "collapsed", "scrolled", "trusted"):
            cell.metadata.pop(name, None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" in data:
                del data["application/vnd.jupyter.widget-view+json"]
        if cell.cell_type == "code":
            cell.outputs = [
                o for o in cell.outputs if o.output_type in ("stream", "error") or o.get("data")
            ]
            cell.outputs = [
                o
                for o in cell.outputs
                if not (o.get("name") == "stderr" and LOG_LINE.match(o.text))
            ]


def run(path: Path, *, store: bool) -> tuple[float, float]:
    """Execute one notebook from the top.

    Returns:
        seconds, and peak memory of the kernel in MB.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message holds its traceback.
        nbclient.exceptions.DeadKernelError, CellTimeoutError: the kernel died, or a cell took too long.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    done, memory, start = 0, None, time.perf_counter()

    def progress(cell: Any, cell_index: int, **_: Any) -> None:
        nonlocal done
        if cell.cell_type == "code":
            done += 1
            if sys.stdout.isatty():
                print(f"\r{path.name}: cell {done} of {total}", end="", flush=True)

    def watch(**_: Any) -> None:
        nonlocal memory
        pid = getattr(client.km.provisioner, "pid", None)
        memory = PeakMemory(pid) if pid else None
        if memory:
            memory.start()

    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT_SECONDS, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(path.parent)}}, on_cell_execute=progress,
    )  # fmt: skip
    with client.setup_kernel():
        watch()
        try:
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
        finally:
            if memory:
                memory.done.set()
                memory.join()
    seconds, peak = time.perf_counter() - start, (memory.peak / 1e6 if memory else float("nan"))
    if store:
        _tidy(notebook)
        nbformat.validate(notebook)
        files.write_whole(
            path, (nbformat.writes(notebook) + "\n").encode()
        )  # the notebook itself is the only copy
    else:
        _export(notebook, path)
    print(
        f"{chr(13) if sys.stdout.isatty() else ''}{path.name}: {total} code cells, {seconds:.0f} s, peak {peak:.0f} MB",
        flush=True,
    )
    return seconds, peak


def _export(notebook: Any, path: Path) -> None:
    """The executed notebook and its HTML page, into `output/`."""
    import nbformat
    from nbconvert import HTMLExporter

    OUTPUT.mkdir(exist_ok=True)
    notebook = nbformat.reads(
        settings.hide_key(nbformat.writes(notebook)), as_version=4
    )  # these files are passed on
    nbformat.write(notebook, OUTPUT / path.name)
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    (OUTPUT / path.with_suffix(".html").name).write_text(page, encoding="utf-8")


def choose(names: list[str]) -> list[Path]:
    """The notebooks meant by `names` (paths, or the start of a file name such as `03`); all of them for none.

    Raises:
        SystemExit: a name fits no notebook, or several.
    """
    every = sorted(NOTEBOOKS.glob("*.ipynb"))
    chosen = []
    for name in names:
        stem = Path(name).name
        fits = [path for path in every if path.name.startswith(stem)]
        if len(fits) != 1:
            known = "\n  ".join(path.name for path in every)
            raise SystemExit(
                f"{name!r} fits {len(fits)} notebooks. Name one of these, or its number:\n  {known}"
            )
        chosen += fits
    return chosen or every


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run.py execute", description="Run notebooks headlessly.")
    parser.add_argument(
        "notebooks", nargs="*", help="file names or numbers, such as 03; all when none is given"
    )
    parser.add_argument(
        "--store",
        action="store_true",
        help="write the outputs back into the notebook (no key, no network)",
    )
    options = parser.parse_args(arguments)
    paths = choose(options.notebooks)
    if options.store:
        settings.clean_environment()
    else:
        try:
            settings.load_env()  # so that this process knows the key it has to keep out of files
        except ValueError as error:
            raise SystemExit(str(error)) from None
    os.environ["EMBEDDINGS_HEADLESS"] = "1"
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    if not options.store:
        try:
            OUTPUT.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=OUTPUT).close()
        except OSError as error:  # said now, not after minutes of computing
            print(
                f"The folder output/ cannot be written ({error.strerror}). Copy the project to a folder of your own.",
                file=sys.stderr,
            )
            return 1
    failed = []
    for path in paths:
        try:
            run(path, store=options.store)
        except (CellExecutionError, CellTimeoutError) as error:
            print(f"\n{path.name} failed:\n{settings.hide_key(error)}", file=sys.stderr)
        except DeadKernelError:
            print(
                f"\n{path.name} failed: its kernel was ended, often for want of memory. Close other programs, run it again.",
                file=sys.stderr,
            )
        except OSError as error:
            print(
                f"\n{path.name} failed: {error}. Is the folder one that you may write to?",
                file=sys.stderr,
            )
        else:
            continue
        failed.append(path.name)
    if not options.store:
        print("Executed copies and HTML pages: output/")
    if failed:
        print(f"Failed: {', '.join(failed)}. Their files are unchanged.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
