"""Print what a workshop needs on paper: `python run.py workshop pages`.

The pages in workshop/pages/ are made from the notebooks, from what `--measure` has recorded, and
from the texts beside this file. A test compares them, so that they cannot differ from the lessons.
"""

from __future__ import annotations

import argparse
import ast
import re
from html import escape
from typing import Any

from helpers import PROJECT_ROOT, files

from . import lessons, measure, schedule

PAGES = schedule.HERE / "pages"
OTHER_START = PROJECT_ROOT / "output" / "workshop"  # git ignores it
NAMES = {"half-day": "plan-half-day.html", "full-day": "plan-full-day.html"}

# --- from Markdown to HTML ------------------------------------------------------------------------

SIGNS = {r"\beta": "β", r"\cdot": "·", r"\,": " ", r"\qquad": " ", r"\sqrt{d}": "√d"}


def html(markdown: str) -> str:
    """Markdown as HTML without scripts, links to files or colours; simple formulas as plain text.

    Raises:
        ValueError: a formula needs more than plain text.

    >>> html("`a` and $\\\\beta$")
    '<p><code>a</code> and β</p>'
    """
    from nbconvert.filters import markdown2html

    text = re.sub(r"\$\$?([^$\n]*\\[^$\n]*|[A-Za-z])\$?\$", _plain, markdown)
    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:)[^)]*\)", r"\1", text)
    drawn = re.sub(r'<a class="anchor-link".*?</a>|</?span[^>]*>', "", markdown2html(text))
    return drawn.strip()


def _plain(formula: re.Match) -> str:
    text = re.sub(r"\\text\{([^}]*)\}", r"\1", formula[1])
    for sign, plain in SIGNS.items():
        text = text.replace(sign, plain)
    if "\\" in text:
        raise ValueError(f"this formula cannot be printed as plain text: {formula[0]}")
    return text


def inline(markdown: str) -> str:
    """One paragraph of Markdown, without the paragraph's own tags."""
    text = re.sub(r"^(\d+)\.", r"\1\.", markdown)  # the number of a heading starts no list
    return html(text).removeprefix("<p>").removesuffix("</p>")


def code(source: str) -> str:
    """Code as it stands in the notebook, with single empty lines: paper is short."""
    shorter = re.sub(r"\n{3,}", "\n\n", source)
    return f'<div class="code"><pre>{escape(shorter)}</pre></div>'


def table(head: list[str], rows: list[str], widths: list[int] | None = None) -> str:
    """A table of ready-made rows; `widths` are percentages."""
    columns = "".join(f'<col style="width: {width}%">' for width in widths or [])
    titles = "".join(f"<th>{name}</th>" for name in head)
    columns = f"<colgroup>{columns}</colgroup>" if columns else ""
    body = "\n".join(rows)
    return f"<table>{columns}<thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def row(*cells: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def page(title: str, body: str, *, compact: bool = False, language: str = "en") -> str:
    """A whole page, with its style inside it."""
    style = (schedule.HERE / "pages.css").read_text(encoding="utf-8")
    kind = ' class="compact"' if compact else ""
    return f"""<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body{kind}>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


# --- the plan -------------------------------------------------------------------------------------


def clock(start: str, minutes: int) -> str:
    """The time of day, `minutes` after `start`.

    >>> clock("09:50", 15)
    '10:05'
    """
    hours, past = divmod(_minute(start) + minutes, 60)
    return f"{hours % 24:02}:{past:02}"


def _minute(start: str) -> int:
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", start)
    if not found:
        raise ValueError(f"{start!r} is not a time of day such as 09:00 or 13:30")
    return 60 * int(found[1]) + int(found[2])


def plan_page(plan: schedule.Schedule, start: str, recorded: dict[str, Any]) -> str:
    """One plan: a line for each section, with clock times and an empty column."""
    head = ["clock", "section", "run", "read", "ask", "exercise", "all", "cut", "actual"]
    rows = []
    for block in plan.blocks:
        name = f"{block.name} ({block.minutes} min)"
        begins = clock(start, block.begins)
        rows.append(
            f'<tr class="pause"><td>{begins}</td><td colspan="7">{escape(name)}</td><td></td></tr>'
        )
        at, lesson = block.begins, ""
        for each in block.rows:
            if each.lesson.number != lesson:
                lesson = each.lesson.number
                rows.append(
                    f'<tr><td></td><td colspan="8"><b>Notebook {lesson}:</b> '
                    f"{inline(each.lesson.title)}</td></tr>"
                )
            rows.append(_plan_row(each, clock(start, at)))
            at += each.minutes
    ends = clock(start, plan.minutes)
    rows.append(f'<tr class="pause"><td>{ends}</td><td colspan="7">End</td><td></td></tr>')
    left = round(plan.hours * 60) - plan.minutes
    body = f"""<p>{clock(start, 0)} to {ends}: {plan.minutes} minutes of the {plan.hours:g} hours,
{left} to spare. All times in minutes.</p>
{table(head, rows, [7, 41, 6, 6, 6, 9, 6, 6, 13])}
<h2>How to read it</h2>
<ul>
<li><b>run</b> is measured with empty caches, as on a first run: all cells of the section, one after
the other, and those of sections left out before it, which are run too. {_when(recorded)} To measure
your machine: <code>python run.py workshop pages --measure</code>.</li>
<li><b>read</b> is estimated: {lessons.WORDS_PER_MINUTE} words of prose or
{lessons.LINES_PER_MINUTE} lines of code a minute. <b>ask</b> is set by hand: a question to the
room, the predictions, the quiz.</li>
<li><b>exercise</b> is a range set by hand; <b>all</b> counts its upper end. Do not
shorten it: teachers of comparable courses say that exercises get too little time.</li>
<li><b>cut</b>: if you are late, leave out what has a 1, then 2, then 3. What has none carries the
thread. Slack is for what took longer, not for more sections.</li>
<li><b>actual</b>: write down the minutes that it took. Next time they are the better plan.</li>
</ul>
<h2>Left for home</h2>
<p>Later cells need what these compute. Before you go on after one of them, click into the
first cell that comes next and choose <i>Run</i>, <i>Run All Above Selected Cell</i>.</p>
{_home(plan)}
"""
    return page(f"{plan.title}: the plan", body, compact=True)


def _when(recorded: dict[str, Any]) -> str:
    """When and where the notebooks were run, and how busy the machine was."""
    said = "; ".join(sorted(set(recorded["where"])))
    loads = [load for load in recorded["loads"] if load is not None]
    if loads and max(loads) >= 1:
        said += f"; other programs were running, load average {min(loads)} to {max(loads)}"
    return f"({escape(said)}.)"


def _plan_row(each: schedule.Row, begins: str) -> str:
    low, high = each.exercise
    names = ", ".join(exercise.key.split("/")[1].removeprefix("ex") for exercise in _done(each))
    numbers = (
        f"{each.run:.1f}",
        f"{each.reading:.0f}" if each.reading else "",
        f"{each.asking:g}" if each.asking else "",
        f"{low}-{high}" if high else "",
        f"<b>{each.minutes}</b>",
        str(each.cut or ""),
    )
    title = inline(each.section.title) + (f" <b>+ exercise {names}</b>" if names else "")
    cells = f"<td>{begins}</td><td>{title}</td>"
    cells += "".join(f'<td class="number">{number}</td>' for number in numbers)
    return f"<tr>{cells}<td></td></tr>"


def _done(each: schedule.Row) -> list[lessons.Exercise]:
    return each.section.exercises if each.exercise[1] else []


def _home(plan: schedule.Schedule) -> str:
    by_notebook: dict[str, list[str]] = {}
    for section in plan.home:
        by_notebook.setdefault(section.key[0], []).append(inline(section.title))
    for exercise in plan.home_exercises:
        by_notebook.setdefault(exercise.key[0], []).append(inline(exercise.title))
    lines = [
        f"<li><b>Notebook {number}:</b> {'; '.join(titles)}</li>"
        for number, titles in sorted(by_notebook.items())
    ]
    return "<ul>\n" + "\n".join(lines) + "\n</ul>"


# --- for teachers ---------------------------------------------------------------------------------


def room_page(series: list[lessons.Lesson], talk: dict[str, dict[str, str]]) -> str:
    """What to ask in each section, what to expect and what to say then."""
    parts = [
        """<p>Ask before the cell is run, wait for hands, then run it. <b>Expect</b> is not from a
room: it was written from the mistakes that the exercises' checks and the quizzes know. Write down
what yours says.</p>"""
    ]
    for lesson in series:
        parts.append(f"<h2>Notebook {lesson.number}: {inline(lesson.title)}</h2>")
        rows = [
            row(
                f"<b>{inline(section.title)}</b>",
                *(inline(talk[section.key][part]) for part in ("ask", "room", "say")),
            )
            for section in lesson.sections
            if section.key in talk
        ]
        parts.append(table(["section", "ask", "expect", "say"], rows, [12, 28, 20, 40]))
    return page("What to ask the room", "\n".join(parts), compact=True)


def teachers_page(series: list[lessons.Lesson], recorded: dict[str, Any]) -> str:
    """Every exercise, prediction and quiz question with its answers."""
    parts = [
        """<p>Each wrong answer was run in its notebook, and the hint is what the check said. Why a
learner comes to it is our guess.</p>"""
    ]
    wrong = measure.answers()
    for lesson in series:
        parts.append(f"<h2>Notebook {lesson.number}: {inline(lesson.title)}</h2>")
        parts += [
            _with_answers(each, wrong.get(each.key, []), recorded) for each in lesson.exercises
        ]
        rows = [
            row(inline(_capital(each.question)), html(each.answer)) for each in lesson.predictions
        ]
        parts.append("<h3>Predictions</h3>" + table(["predict", "answer"], rows, [34, 66]))
        parts += ["<h3>Quiz</h3>", *(_quiz(each) for each in lesson.questions)]
    return page("Answers for teachers", "\n".join(parts), compact=True)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _with_answers(
    exercise: lessons.Exercise, wrong: list[dict[str, Any]], recorded: dict[str, Any]
) -> str:
    starter, *others, right = verdicts(exercise, wrong, recorded)
    rows = [row("the starter as it stands", "", escape(_hint(starter)))]
    for each, said in zip(wrong, others, strict=True):
        shown = f"<pre>{escape(each['answer'])}</pre>"
        rows.append(row(shown, inline(each["why"]), escape(_hint(said))))
    remark = html(exercise.remark) if exercise.remark else ""
    return f"""<div class="keep"><h3>{inline(exercise.title)}</h3>
<p><b>Goal:</b> {inline(exercise.goal)}</p>
<p><b>Right:</b></p>{code(exercise.solution)}
<p>The check says: {escape(right)}</p>{remark}</div>
{table(["wrong answer", "why", "hint that the check gives"], rows, [45, 20, 35])}"""


def verdicts(
    exercise: lessons.Exercise, wrong: list[dict[str, Any]], recorded: dict[str, Any]
) -> list[str]:
    """What the check said to the starter, to each wrong answer and to the solution.

    Raises:
        ValueError: the exercise or its answers have changed since they were run.
    """
    said = recorded["verdicts"].get(exercise.key, [])
    if [tried for tried, _ in said] != measure.tried(exercise, wrong):
        raise ValueError(
            f"{exercise.key}: the exercise or its answers in workshop/answers.toml have changed "
            "since they were run. Run them: python run.py workshop pages --measure"
        )
    return [verdict for _, verdict in said]


def _hint(verdict: str) -> str:
    return verdict.removeprefix("✗ Not yet. ")


def _quiz(question: lessons.Question) -> str:
    rows = []
    for choice, comment in question.choices:
        mark = "✓" if comment.startswith("Yes") else "✗"
        rows.append(row(mark, inline(choice), inline(comment)))
    text = f"<p><b>{inline(question.text)}</b></p>"
    return f'<div class="keep">{text}{table(["", "choice", "why"], rows, [5, 37, 58])}</div>'


# --- for learners and helpers ---------------------------------------------------------------------


#: The words around the exercises, by language.
WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "titles": ("Exercises", "Exercises with hints and solutions"),
        "notebook": "Notebook {number}: {title}",
        "parts": ("Goal:", "Starter:", "Solution:"),
        "hints": ("First hint:", "Second hint:"),
    },
    "zh": {
        "titles": ("练习", "练习，附提示和参考答案"),
        "notebook": "笔记本 {number}：{title}",
        "parts": ("目标：", "起始代码：", "参考答案："),
        "hints": ("提示一：", "提示二："),
    },
}


def exercises_page(series: list[lessons.Lesson], *, solved: bool, language: str = "en") -> str:
    """The exercises of every notebook, with room to write or with hints and solutions."""
    words = WORDS[language]
    goal, starter, solution = words["parts"]
    parts = []
    for lesson in series:
        heading = words["notebook"].format(number=lesson.number, title=inline(lesson.title))
        parts.append(f"<h2>{heading}</h2>")
        for exercise in lesson.exercises:
            hints = [
                f"<p><b>{name}</b> {inline(hint)}</p>"
                for name, hint in zip(words["hints"], exercise.hints, strict=True)
            ]
            remark = html(exercise.remark) if exercise.remark else ""
            room = '<div class="room"></div>'
            answer = f"{''.join(hints)}<p><b>{solution}</b></p>{code(exercise.solution)}{remark}"
            parts.append(
                f'<div class="keep"><h3>{inline(exercise.title)}</h3>'
                f"<p><b>{goal}</b> {inline(exercise.goal)}</p>"
                f"<p><b>{starter}</b></p>{code(exercise.starter)}"
                f"{answer if solved else room}</div>"
            )
    return page(words["titles"][solved], "\n".join(parts), language=language)


def text_page(name: str, **generated: str) -> str:
    """The page made from NAME.md; {{part}} in it is replaced by a generated part."""
    text = (schedule.HERE / f"{name}.md").read_text(encoding="utf-8")
    text = re.sub(r"^<!-- cell: .*? -->\n", "", text, flags=re.M)  # a Chinese page's headers
    title, _, rest = text.partition("\n")
    for part, markdown in generated.items():
        rest = rest.replace("{{" + part + "}}", markdown)
    if "{{" in rest:
        raise ValueError(f"workshop/{name}.md has a part that nothing fills: {{{{...}}}}")
    language = "zh" if name.endswith(".zh") else "en"
    return page(title.removeprefix("# "), html(rest), compact=True, language=language)


def notebooks_table(series: list[lessons.Lesson], language: str = "en") -> str:
    """Markdown: the notebooks and what one does in each, as README.md says."""
    name, head = {
        "en": ("README.md", "| notebook | you will |"),
        "zh": ("README.zh.md", "| 笔记本 | 你将 |"),
    }[language]
    text = (PROJECT_ROOT / name).read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| \[(\d) [^|]*\| ([^|]*) \|", text, re.M))
    lines = [head, "|---|---|"]
    lines += [f"| **{each.number}** {each.title} | {said[each.number]} |" for each in series]
    return "\n".join(lines)


def failures() -> str:
    """Markdown rows: the table of failures in README.md."""
    _, _, section = _readme().partition("## When something fails")
    rows = re.findall(r"^\|.*\|$", section.partition("\n## ")[0], re.M)
    if len(rows) < 3:
        raise ValueError("README.md: 'When something fails' has no table any more")
    return "\n".join(rows[2:])


def findings() -> str:
    """Markdown rows: every problem that `python run.py doctor` words itself, with its remedy."""
    tree = ast.parse((PROJECT_ROOT / "helpers" / "doctor.py").read_text(encoding="utf-8"))
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    problems = [s for s in strings if isinstance(s, str) and re.match(r"PROBLEM: \w", s)]
    rows = []
    for problem in problems:
        what, _, remedy = problem.removeprefix("PROBLEM: ").rpartition(": ")
        what = re.sub(r"\. (Fix it|Restore it)$", "", what)
        rows.append(f"| doctor: `PROBLEM: {what}` | `{remedy}` |")
    return "\n".join(rows)


def _readme() -> str:
    return (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")


# --- the command ----------------------------------------------------------------------------------


def make(start: str | None = None) -> dict[str, str]:
    """Every page by its file name.

    Raises:
        ValueError: a text has no section, a section no text, or an exercise has changed; the
            message names it.
    """
    series, plan, talk = lessons.read_all(), schedule.read_plan(), schedule.read_talk()
    recorded = measure.recorded()
    if faults := misfits(series, plan, talk, recorded):
        raise ValueError("\n".join(faults))
    chinese = [lessons.in_chinese(lesson) for lesson in series]
    plans = schedule.schedules(series, plan, talk, recorded["seconds"])
    made = {NAMES[one.name]: plan_page(one, start or plan["start"], recorded) for one in plans}
    return made | {
        "room.html": room_page(series, talk),
        "drills.html": text_page("drills"),
        "teachers.html": teachers_page(series, recorded),
        "handout.html": text_page("handout", notebooks=notebooks_table(series)),
        "exercises.html": exercises_page(series, solved=False),
        "exercises-solved.html": exercises_page(series, solved=True),
        "handout.zh.html": text_page("handout.zh", notebooks=notebooks_table(chinese, "zh")),
        "exercises.zh.html": exercises_page(chinese, solved=False, language="zh"),
        "exercises-solved.zh.html": exercises_page(chinese, solved=True, language="zh"),
        "helpers.html": text_page("helpers", readme=failures(), doctor=findings()),
    }


def misfits(
    series: list[lessons.Lesson],
    plan: dict[str, Any],
    talk: dict[str, Any],
    recorded: dict[str, Any],
) -> list[str]:
    """Keys without a section or exercise, and sections or exercises without their key."""
    sections = {s.key for lesson in series for s in schedule.taught(lesson)}
    spoken = {key for key in sections if key.split("/")[1] not in ("opening", "quiz", "summary")}
    exercises = {each.key for lesson in series for each in lesson.exercises}
    cells = {key for lesson in series for s in lesson.sections for key in s.cells}
    again = "run: python run.py workshop pages --measure"
    faults = []
    for where, have, want, advice in (
        ("plan.toml, [sections]", set(plan["sections"]), sections, "edit the file"),
        ("plan.toml, [exercises]", set(plan["exercises"]), exercises, "edit the file"),
        ("talk.toml", set(talk), spoken, "edit the file"),
        ("answers.toml", set(measure.answers()), exercises, "edit the file"),
        ("measured.json", set(recorded["seconds"]), cells, again),
    ):
        for key in sorted(have - want):
            faults.append(f"workshop/{where}: {key} is in no notebook any more; {advice}")
        for key in sorted(want - have):
            faults.append(f"workshop/{where}: {key} is missing; {advice}")
    return faults


def main(arguments: list[str]) -> int:
    """Write the pages, or the two plans for another start; 1 if the texts do not fit."""
    parser = argparse.ArgumentParser(
        prog="run.py workshop pages",
        description="Make the pages to print: plan, answers, handout, exercises, sheets.",
    )
    parser.add_argument(
        "--start",
        metavar="HH:MM",
        help="write the two plans with clock times from this start, into output/workshop",
    )
    parser.add_argument(
        "--measure",
        nargs="*",
        metavar="N",
        help="first run the notebooks with these numbers, else all: times of cells, what checks "
        "say (3 minutes or more)",
    )
    options = parser.parse_args(arguments)
    if options.measure is not None:
        measure.main(options.measure)
    try:
        made = make(options.start)
    except ValueError as error:
        print(f"The pages are unchanged:\n{error}")
        return 1
    folder = PAGES
    if options.start:
        folder, made = OTHER_START, {name: made[name] for name in NAMES.values()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        files.write_whole(folder / name, text.encode())
    print(f"{len(made)} pages in {folder.relative_to(PROJECT_ROOT)}; print them from a browser.")
    return 0
