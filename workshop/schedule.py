"""The plan of a workshop: which section when, how long it takes, and whether it adds up.

Minutes to run are measured, minutes to read estimated from the number of words, minutes for an
exercise set by hand in plan.toml. A plan counts the longer time of each exercise.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import lessons

HERE = Path(__file__).parent
MEASURED = "measured.json: python run.py workshop pages --measure"
AT_HOME = ("whats-next", "further-reading")  # parts of a notebook that no plan teaches


@dataclass(frozen=True)
class Row:
    """One section in a plan; all times in minutes."""

    section: lessons.Section
    lesson: lessons.Lesson
    run: float
    reading: float
    asking: float
    exercise: tuple[int, int]
    cut: int

    @property
    def minutes(self) -> int:
        """What the plan counts: everything, and the longer time for the exercise."""
        return math.ceil(self.run + self.reading + self.asking + self.exercise[1])


@dataclass(frozen=True)
class Block:
    """A line of the plan that begins at a minute: a session, or a pause without sections."""

    name: str
    begins: int
    minutes: int
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """One plan, with what it leaves for home."""

    name: str
    title: str
    hours: float
    blocks: tuple[Block, ...]
    home: tuple[lessons.Section, ...]
    home_exercises: tuple[lessons.Exercise, ...]

    @property
    def minutes(self) -> int:
        return self.blocks[-1].begins + self.blocks[-1].minutes


def read_plan() -> dict[str, Any]:
    with (HERE / "plan.toml").open("rb") as file:
        return tomllib.load(file)


def read_talk() -> dict[str, dict[str, str]]:
    """What to ask the room, by section: `ask`, `room` and `say`, each Markdown."""
    with (HERE / "talk.toml").open("rb") as file:
        return tomllib.load(file)


def taught(lesson: lessons.Lesson) -> list[lessons.Section]:
    """The sections that a plan may teach."""
    return [s for s in lesson.sections if s.key.split("/")[1] not in AT_HOME]


def schedules(
    series: list[lessons.Lesson], plan: dict[str, Any], talk: dict[str, Any], seconds: dict
) -> list[Schedule]:
    """Every plan of plan.toml; `seconds` is what each code cell took, by its key.

    Raises:
        ValueError: a section, an exercise or a cell has no entry; the message names it.
    """
    return [_schedule(one, series, plan, talk, seconds) for one in plan["plans"]]


def _schedule(
    one: dict[str, Any],
    series: list[lessons.Lesson],
    plan: dict[str, Any],
    talk: dict[str, Any],
    seconds: dict[str, float],
) -> Schedule:
    which = one["name"].removesuffix("-day")
    sessions: dict[int, list[Row]] = {number: [] for number in range(1, len(one["sessions"]) + 1)}
    home, home_exercises = [], []
    for lesson in series:
        skipped: list[str] = []  # cells that run before the next section that is taught
        for section in taught(lesson):
            entry = _entry(plan["sections"], section.key, "[sections] of plan.toml")
            if not entry[which]:
                home.append(section)
                skipped += section.cells
                continue
            run = 0.0
            if section.cells:
                run = sum(_entry(seconds, cell, MEASURED) for cell in (*skipped, *section.cells))
                skipped = []
            sessions[entry[which]].append(_row(section, lesson, entry, plan, talk, run / 60))
            if not entry.get("exercise", True):
                home_exercises += section.exercises
    blocks = [Block("Arrival and installation", 0, plan["installation"])]

    def add(name: str, minutes: int, rows: tuple[Row, ...] = ()) -> None:
        blocks.append(Block(name, blocks[-1].begins + blocks[-1].minutes, minutes, rows))

    for number, name in enumerate(one["sessions"], start=1):
        rows = tuple(sessions[number])
        add(f"Session {number}: {name}", sum(row.minutes for row in rows), rows)
        add("Slack: for what took longer", plan["slack"])
        if number <= len(one["breaks"]):
            pause = one["breaks"][number - 1]
            add(pause["name"], pause["minutes"])
    return Schedule(
        one["name"], one["title"], one["hours"], tuple(blocks), tuple(home), tuple(home_exercises)
    )


def _row(
    section: lessons.Section,
    lesson: lessons.Lesson,
    entry: dict[str, Any],
    plan: dict[str, Any],
    talk: dict[str, Any],
    run: float,
) -> Row:
    ranges = [
        _entry(plan["exercises"], exercise.key, "[exercises] of plan.toml")
        for exercise in section.exercises
        if entry.get("exercise", True)
    ]
    asking = plan["asking"] * (section.key in talk)
    asking += plan["prediction"] * len(section.predictions)
    asking += plan["question"] * len(section.questions)
    reading = 0.0 if section.questions else section.reading_minutes  # a quiz is read when asked
    low, high = (sum(each[i] for each in ranges) for i in (0, 1))
    return Row(section, lesson, run, reading, asking, (low, high), entry["cut"])


def _entry(table: dict[str, Any], key: str, where: str) -> Any:
    if key not in table:
        raise ValueError(f"{key} has no entry in {where}")
    return table[key]
