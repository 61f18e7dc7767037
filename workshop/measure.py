"""Run the notebooks headlessly and record what the pages say about them, in measured.json.

Two things need a kernel: how long each cell takes, and what the check of an exercise answers to its
starter, to each wrong answer in answers.toml and to its solution.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from helpers import PROJECT_ROOT, files, settings

from . import lessons

HERE = Path(__file__).parent
MEASURED = HERE / "measured.json"
CACHE = PROJECT_ROOT / ".cache"
ASIDE = PROJECT_ROOT / "output" / "cache-aside"  # git ignores it
CELL_TIMEOUT_SECONDS = 900


def answers() -> dict[str, list[dict[str, Any]]]:
    """The wrong answers in answers.toml by exercise: a list of `answer` (code) and `why`."""
    with (HERE / "answers.toml").open("rb") as file:
        found: dict[str, list[dict[str, Any]]] = tomllib.load(file)
    return {
        key: [{**each, "answer": each["answer"].strip()} for each in every]
        for key, every in found.items()
    }


def tried(exercise: lessons.Exercise, wrong: list[dict[str, Any]]) -> list[str]:
    """All code that is run for one exercise: the starter, each wrong answer, the solution."""
    before = f"{exercise.given}\n" if exercise.given else ""
    return [
        exercise.starter,
        *(f"{before}{each['answer']}\n{exercise.check_call}" for each in wrong),
        exercise.solution,
    ]


def record(lesson: lessons.Lesson, wrong: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Run one notebook from the top.

    Returns:
        `seconds` of each code cell by its key, and `verdicts` of each exercise by its key: a list
        of [code, what the check said].

    Raises:
        nbclient.exceptions.CellExecutionError: a cell or an answer failed.
        RuntimeError: an answer printed no verdict.
    """
    notebook = nbformat.read(lesson.path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name="python3",
        record_timing=True,
        resources={"metadata": {"path": str(lesson.path.parent)}},
    )
    seconds: dict[str, float] = {}
    verdicts: dict[str, list[list[str]]] = {}
    by_cell = {f"{exercise.key}-start": exercise for exercise in lesson.exercises}
    with client.setup_kernel():
        for index, cell in enumerate(list(notebook.cells)):
            client.execute_cell(cell, index)
            if cell.cell_type != "code":
                continue
            key = f"{lesson.number}/{cell.id}"
            seconds[key] = _seconds(cell)
            if key in by_cell:
                exercise = by_cell[key]
                codes = tried(exercise, wrong.get(exercise.key, []))
                verdicts[exercise.key] = _verdicts(client, codes, exercise.key)
    return {"seconds": seconds, "verdicts": verdicts}


def _seconds(cell: nbformat.NotebookNode) -> float:
    """From the kernel's `busy` to its `idle`, in seconds, to a tenth."""
    times = cell.metadata.execution
    start, end = (
        datetime.fromisoformat(times[f"iopub.status.{state}"].replace("Z", "+00:00"))
        for state in ("busy", "idle")
    )
    return round((end - start).total_seconds(), 1)


def _verdicts(client: NotebookClient, codes: list[str], key: str) -> list[list[str]]:
    """[code, what the check said] for each; all of them start from the same variables."""
    _run(client, "_before = dict(globals())")
    said = []
    for code in codes:
        shown = [o for o in _run(client, code) if o.output_type == "execute_result"]
        _run(client, "globals().update(_before)")
        if not shown:
            raise RuntimeError(f"{key}: this answer printed no verdict:\n{code}")
        said.append([code, shown[-1].data["text/plain"]])
    return said


def _run(client: NotebookClient, code: str) -> list[nbformat.NotebookNode]:
    """The outputs of a cell that is run after those of the notebook."""
    cell = nbformat.v4.new_code_cell(code)
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)
    return cell.outputs


def machine() -> dict[str, Any]:
    """The machine in words, and its load average, where the system knows one: how busy it was."""
    words = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {"machine": f"{words}, Python {platform.python_version()}", "load": load}


def recorded() -> dict[str, Any]:
    """What measured.json holds for all notebooks together.

    Returns:
        `seconds` of each code cell, `verdicts` of each exercise, the days and machines of the runs
        (`where`), and the load averages before each.

    Raises:
        ValueError: nothing has been recorded.
    """
    if not MEASURED.is_file():
        raise ValueError("measured.json is missing; run: python run.py workshop pages --measure")
    found: dict[str, Any] = {"seconds": {}, "verdicts": {}, "where": [], "loads": []}
    for part in json.loads(MEASURED.read_text(encoding="utf-8")).values():
        found["seconds"].update(part["seconds"])
        found["verdicts"].update(part["verdicts"])
        found["where"].append(f"{part['date']}, {part['machine']}")
        found["loads"].append(part["load"])
    return found


@contextmanager
def empty_caches() -> Iterator[None]:
    """Put `.cache` aside, as on a learner's first run, and back again."""
    if ASIDE.exists():  # from a run that was killed
        shutil.rmtree(CACHE, ignore_errors=True)
        ASIDE.rename(CACHE)
    if CACHE.exists():
        ASIDE.parent.mkdir(exist_ok=True)
        CACHE.rename(ASIDE)
    try:
        yield
    finally:
        if ASIDE.exists():
            shutil.rmtree(CACHE, ignore_errors=True)
            ASIDE.rename(CACHE)


def main(numbers: list[str]) -> None:
    """Run the notebooks with these numbers, else all; measured.json is written after each.

    Raises:
        SystemExit: there is no such notebook, or one could not be run to its end.
    """
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    series = {lesson.number: lesson for lesson in lessons.read_all()}
    chosen = [number.lstrip("0") for number in numbers] or list(series)
    if unknown := set(chosen) - set(series):
        raise SystemExit(f"There is no notebook {min(unknown)!r}; there are {', '.join(series)}.")
    settings.clean_environment()
    os.environ["EMBEDDINGS_HEADLESS"] = "1"
    os.environ["PYTHONPATH"] = str(PROJECT_ROOT)  # kernels import the helpers of this folder
    wrong = answers()
    stored = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    for number in chosen:
        name = series[number].path.name
        print(f"{name}: running ...", flush=True)
        about = {"date": date.today().isoformat(), **machine()}
        try:
            with empty_caches():
                stored[number] = about | record(series[number], wrong)
        except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
            raise SystemExit(
                f"{name} could not be run; its record is unchanged.\n{error}"
            ) from None
        text = json.dumps(stored, indent=1, ensure_ascii=False, sort_keys=True)
        files.write_whole(MEASURED, (text + "\n").encode())
    print(f"Recorded in {MEASURED.relative_to(PROJECT_ROOT)}")
