"""The notebooks as a learner uses them: in a real kernel, cell by cell."""

import re
from contextlib import contextmanager

import nbformat
from nbclient import NotebookClient
from nbclient.util import run_sync
from nbformat.v4 import new_code_cell

from helpers import execute

PATHS = sorted(execute.NOTEBOOKS.glob("*.ipynb"))
CHINESE = sorted(execute.NOTEBOOKS.glob("zh/*.ipynb"))
#: What is folded below an exercise, in either edition.
FOLDED = [["First hint", "Second hint", "Solution"], ["提示一", "提示二", "参考答案"]]
LESSONS = {path.name[:2]: path for path in PATHS}


def exercises(notebook):
    """(starter cell, code of the folded solution) of every exercise."""
    found = []
    for cell, following in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code" and cell.get("id", "").startswith("ex"):
            summaries = re.findall(r"<summary>(.*?)</summary>", following.source)
            assert summaries in FOLDED, cell.id
            solution = re.search(r"```python\n(.*?)```", following.source, re.S)
            found.append((cell, solution.group(1)))
    return found


def text_of(cell):
    """What a cell has printed."""
    return "".join(output.get("text", "") for output in cell.outputs)


class Session:
    """A notebook in a kernel of its own, driven cell by cell."""

    def __init__(self, client):
        self.client, self.notebook = client, client.nb
        self.code = [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    def run(self, cell):
        """Run a cell of the notebook, or a line typed below it; what it printed."""
        if isinstance(cell, str):
            cell = new_code_cell(cell)
            self.notebook.cells.append(cell)
        self.client.execute_cell(cell, self.notebook.cells.index(cell))
        return text_of(cell)

    def run_all(self, times=1):
        """Every cell from the top, `times` in a row; checked outputs are the stored ones."""
        for cell in self.code:
            stored = text_of(cell)
            checked = "nbval-check-output" in cell.metadata.get("tags", []) and bool(stored)
            for _ in range(times):
                self.run(cell)
                assert not checked or text_of(cell) == stored, cell.id

    def restart(self):
        """Restart the kernel, as the menu does."""
        run_sync(self.client.km.restart_kernel)(now=True)
        run_sync(self.client.kc.wait_for_ready)(timeout=60)

    def find(self, words):
        """The first code cell that holds these words."""
        return next(cell for cell in self.code if words in cell.source)


@contextmanager
def opened(number, cwd=execute.NOTEBOOKS):
    """A `Session` of the notebook with this number, its kernel started in `cwd`."""
    notebook = nbformat.read(LESSONS[number], as_version=4)
    resources = {"metadata": {"path": str(cwd)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources)
    with client.setup_kernel():
        yield Session(client)
