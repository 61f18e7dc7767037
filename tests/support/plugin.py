"""pytest plugin: a clean environment without a network, and notebooks with their solutions.

It is loaded by `-p` (pyproject.toml), so that it holds for `notebooks/` as well as for `tests/`.
"""

import ast
import os
import runpy
from collections import defaultdict
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell
from nbval.plugin import IPyNbCell, IPyNbFile

from helpers.settings import clean_environment

SUPPORT = Path(__file__).parent
modules = [path.stem for path in SUPPORT.glob("*.py") if path.stem != "plugin"]
pytest.register_assert_rewrite(*(f"tests.support.{name}" for name in modules))

from tests.support.lessons import exercises  # noqa: E402

clean_environment()  # before anything reads the environment; kernels inherit it
OFFLINE = SUPPORT.parent / "offline"
paths = [str(OFFLINE), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # every process started from here
runpy.run_path(str(OFFLINE / "sitecustomize.py"))  # and this one


class Lesson(IPyNbFile):
    """A notebook under nbval; each exercise is run twice: as it stands, then with its solution.

    One kernel does for both what would otherwise take two runs of the whole notebook.
    """

    def collect(self):
        for item in super().collect():
            yield item
            for cell, solution in exercises(self.nb):
                if cell is item.cell:
                    yield IPyNbCell.from_parent(
                        self,
                        name=f"{item.name}, {cell.id} solved",
                        cell_num=item.cell_num,
                        cell=new_code_cell(must_be_right(solution)),
                        options=defaultdict(bool),  # as nbval makes them: run, compare nothing
                    )


def must_be_right(solution: str) -> str:
    """The solution's code, whose last line is the check, as code that fails on a wrong answer.

    >>> print(must_be_right("x = 1\\ncheck(x)"))
    x = 1
    _feedback = check(x)
    assert _feedback.correct, _feedback
    """
    last = ast.parse(solution).body[-1]
    assert isinstance(last, ast.Expr), f"a solution ends with its check: {solution}"
    before = "".join(solution.splitlines(keepends=True)[: last.lineno - 1])
    check = ast.get_source_segment(solution, last)
    return f"{before}_feedback = {check}\nassert _feedback.correct, _feedback"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """nbval's notebooks become lessons."""
    found = yield
    return [
        Lesson.from_parent(parent, path=file_path) if isinstance(node, IPyNbFile) else node
        for node in found
    ]
