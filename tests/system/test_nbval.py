"""The test command itself notices what is wrong with a notebook, its outputs or its solutions."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.support.processes import run_python

START = """from helpers.exercises import Feedback
def check(answer):
    return Feedback(answer == 2, "1 + 1")
print(f"{0.4345:.4f}")"""
HELP = """<details><summary>First hint</summary></details>
<details><summary>Second hint</summary></details>
<details><summary>Solution</summary>

```python
answer = 2
check(answer)
```
</details>"""


def solve_wrongly(cells):
    cells[2].source = cells[2].source.replace("answer = 2", "answer = 3")


BROKEN = {
    "a failing cell": lambda cells: cells.append(new_code_cell("1 / 0", execution_count=3)),
    "a missing helper": lambda cells: cells.append(new_code_cell("import helpers.gone")),
    "a changed number": lambda cells: cells[0].outputs[0].update(text="0.5000\n"),
    "a wrong solution": solve_wrongly,
}


@pytest.mark.parametrize("fault", [None, *BROKEN])
def test_the_test_command_notices(fault, tmp_path):
    """With the options of the full run, on a small notebook that is right or has one fault."""
    start = new_code_cell(START, execution_count=1)
    start.metadata.tags = ["nbval-check-output"]
    start.outputs = [new_output("stream", name="stdout", text="0.4345\n")]
    starter = new_code_cell("answer = ...\ncheck(answer)", id="ex1-start")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    small = new_notebook(cells=[start, starter, new_markdown_cell(HELP)], metadata=kernel)
    if fault:
        BROKEN[fault](small.cells)
    nbformat.write(small, tmp_path / "small.ipynb")
    options = ["-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", "--rootdir", str(tmp_path)]
    done = run_python("-m", "pytest", *options, tmp_path / "small.ipynb")
    assert done.returncode == (1 if fault else 0), done.stdout
    counted = {"a failing cell": "1 failed, 3 passed", "a missing helper": "1 failed, 3 passed"}
    assert counted.get(fault, "1 failed, 2 passed" if fault else "3 passed") in done.stdout
