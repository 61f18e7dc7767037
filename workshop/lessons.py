"""Read a notebook as a lesson: sections, code cells, predictions, exercises and the quiz.

Everything has a key that is easy to find in the notebook: a section `1/one-sentence`, after its
heading; a cell or an exercise `1/ex1`, after the cell's id.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import nbformat

from helpers import PROJECT_ROOT

NOTEBOOKS = PROJECT_ROOT / "notebooks"

WORDS_PER_MINUTE = 200  # prose, read in silence
LINES_PER_MINUTE = 12  # code that somebody else has written
FOLDED = re.compile(r"<details><summary>(.*?)</summary>\s*(.*?)\s*</details>", re.S)
ASKED_OR_ANSWERED = re.compile(
    r"^> \*\*Predict:\*\* (?P<asked>.*(?:\n> .*)*)"
    r"|<details><summary>Answer</summary>\s*(?P<answer>(?s:.*?))\s*</details>",
    re.M,
)
FENCED = re.compile(r"```python\n(.*?)```", re.S)


@dataclass(frozen=True)
class Exercise:
    """One exercise: its key, what it asks, its code and what stays folded below it."""

    key: str
    title: str
    goal: str  # Markdown
    starter: str
    hints: tuple[str, ...]  # Markdown
    solution: str
    remark: str  # Markdown that follows the solution, or nothing

    @property
    def check(self) -> str:
        """The name of the function in helpers/exercises.py that judges an answer."""
        return self.check_call.partition("(")[0].removeprefix("exercises.")

    @property
    def check_call(self) -> str:
        """The starter's last statement, which calls the check."""
        node = self._check_node()
        return "\n".join(self.starter.splitlines()[node.lineno - 1 :])

    @property
    def given(self) -> str:
        """The starter without the call of its check."""
        return "\n".join(self.starter.splitlines()[: self._check_node().lineno - 1]).rstrip()

    def _check_node(self) -> ast.Expr:
        last = ast.parse(self.starter).body[-1]
        if not (isinstance(last, ast.Expr) and "exercises.check_" in ast.unparse(last)):
            raise ValueError(f"{self.key}: the starter has to end with exercises.check_...(...)")
        return last


@dataclass(frozen=True)
class Prediction:
    """A question before a result, and the answer that is folded after it; both Markdown."""

    key: str
    question: str
    answer: str


@dataclass(frozen=True)
class Question:
    """A quiz question with its choices, each a pair of the choice and the comment on it."""

    key: str
    text: str
    choices: tuple[tuple[str, str], ...]


@dataclass
class Section:
    """What stands under one level-2 heading."""

    key: str
    title: str
    words: int = 0
    lines: int = 0  # of code
    cells: list[str] = field(default_factory=list)  # keys of its code cells
    exercises: list[Exercise] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    @property
    def reading_minutes(self) -> float:
        """Estimated; hints and solutions of exercises are not counted, nor are their starters."""
        return self.words / WORDS_PER_MINUTE + self.lines / LINES_PER_MINUTE


@dataclass(frozen=True)
class Lesson:
    """One notebook."""

    number: str
    title: str
    path: Path
    sections: tuple[Section, ...]

    @property
    def exercises(self) -> list[Exercise]:
        return [exercise for section in self.sections for exercise in section.exercises]

    @property
    def questions(self) -> list[Question]:
        return [question for section in self.sections for question in section.questions]

    @property
    def predictions(self) -> list[Prediction]:
        return [prediction for section in self.sections for prediction in section.predictions]


def read_all() -> list[Lesson]:
    """Every notebook of the series, in order."""
    return [read(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]


def read(path: Path) -> Lesson:
    """The notebook in `path` as a lesson.

    Raises:
        ValueError: an exercise, a prediction or a quiz question lacks one of its parts; the message
            names the cell.
    """
    number = str(int(path.name[:2]))
    cells = nbformat.read(path, as_version=4).cells
    sections = [Section(f"{number}/opening", "Opening")]
    title, heading, goal, waiting = "", "", "", None
    starter: nbformat.NotebookNode | None = None
    for cell in cells:
        key = f"{number}/{cell.id}"
        if cell.cell_type == "code":
            if cell.id.startswith("ex") and cell.id.endswith("-start"):
                starter = cell
            else:
                sections[-1].lines += len(cell.source.splitlines())
            sections[-1].cells.append(key)
            continue
        if starter is not None:  # the cell after a starter holds what is folded
            exercise = _exercise(number, starter, heading, goal, cell.source)
            sections[-1].exercises.append(exercise)
            starter = None
            continue
        for level, name, text in _parts(cell.source):
            if level == 1:
                title = name
            elif level == 2:
                sections.append(Section(f"{number}/{slug(name)}", name))
            elif level == 3:
                heading = name
            section = sections[-1]
            if name == "Quiz":
                section.questions += _questions(key, text)
            for found in ASKED_OR_ANSWERED.finditer(text):
                if found["asked"]:
                    waiting = (key, section, found["asked"].replace("\n> ", " "))
                elif waiting is None:
                    raise ValueError(f"{key}: an answer without a prediction before it")
                else:
                    asked_in, owner, question = waiting
                    owner.predictions.append(Prediction(asked_in, question, found["answer"]))
                    waiting = None
            section.words += len(re.sub(r"<[^>]*>|!\[.*?\]\(.*?\)", "", text).split())
            if "**Goal:**" in text:
                goal = text[text.index("**Goal:**") + len("**Goal:**") :].strip()
    if waiting is not None:
        raise ValueError(f"{waiting[0]}: a prediction without an answer")
    return Lesson(number, title, path, tuple(sections))


def in_chinese(lesson: Lesson) -> Lesson:
    """The lesson's title and exercises in the words of the Chinese edition, and nothing else.

    Raises:
        ValueError: the Chinese notebook lacks an exercise or one of its parts.
    """
    path = lesson.path.parent / "zh" / lesson.path.name
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    (title,) = re.findall(r"^# (.+)$", prose, re.M)
    headings = re.findall(r"^### (练习.+)$", prose, re.M)
    goals = re.findall(r"^\*\*目标：\*\*\s*(.+?)\s*(?=^<details>|\Z)", prose, re.M | re.S)
    folded = [FOLDED.findall(cell.source) for cell in cells if re.fullmatch(r"ex\d+-help", cell.id)]
    known = lesson.exercises
    if not len(known) == len(headings) == len(goals) == len(folded):
        raise ValueError(f"zh/{path.name}: {len(known)} exercises, and not as many in Chinese")
    exercises = []
    for exercise, heading, goal, parts in zip(known, headings, goals, folded, strict=True):
        if [summary for summary, _ in parts] != ["提示一", "提示二", "参考答案"]:
            raise ValueError(f"zh/{path.name}, {exercise.key}: it needs two hints and a solution")
        hints = tuple(text for _, text in parts[:-1])
        remark = parts[-1][1].rpartition("```")[2].strip()
        exercises.append(replace(exercise, title=heading, goal=goal, hints=hints, remark=remark))
    key = f"{lesson.number}/opening"
    return Lesson(lesson.number, title, path, (Section(key, title, exercises=exercises),))


def slug(heading: str) -> str:
    """The heading as the anchor that GitHub gives it.

    >>> slug("What's next: `pool`")
    'whats-next-pool'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _parts(source: str) -> Iterator[tuple[int, str, str]]:
    """(level, heading, text below it) of a Markdown cell; level 0 is what precedes all headings."""
    level, name, lines, fenced = 0, "", list[str](), False
    for line in source.splitlines():
        fenced ^= line.startswith("```")
        found = None if fenced else re.match(r"(#{1,3}) (.+)", line)
        if found:
            if level or any(lines):
                yield level, name, "\n".join(lines)
            level, name, lines = len(found[1]), found[2].strip(), []
        else:
            lines.append(line)
    yield level, name, "\n".join(lines)


def _exercise(
    number: str, starter: nbformat.NotebookNode, title: str, goal: str, folded: str
) -> Exercise:
    name = starter.id.removesuffix("-start")
    key = f"{number}/{name}"
    parts = FOLDED.findall(folded)
    if [summary for summary, _ in parts] != ["First hint", "Second hint", "Solution"] or not goal:
        raise ValueError(f"{key}: it needs a goal before its starter, then two hints, a solution")
    solution = FENCED.search(parts[-1][1])
    if not solution:
        raise ValueError(f"{key}: its solution has no code")
    return Exercise(
        key,
        title,
        goal,
        starter.source,
        tuple(text for _, text in parts[:-1]),
        solution[1].rstrip(),
        parts[-1][1][solution.end() :].strip(),
    )


def _questions(key: str, text: str) -> list[Question]:
    found = []
    for block in re.split(r"^(?=\*\*\d+\. )", text, flags=re.M)[1:]:
        head = re.match(r"\*\*(\d+)\. (.+?)\*\*\n", block, re.S)
        choices = tuple(FOLDED.findall(block))
        if not head or sum(comment.startswith("Yes") for _, comment in choices) != 1:
            raise ValueError(f"{key}: a question needs one choice whose comment begins with Yes")
        found.append(Question(f"{key}{head[1]}", head[2], choices))
    return found
