"""What every stored notebook promises, apart from running again (nbval does that, `pytest notebooks`)."""

import json
import re
import subprocess
import sys

import nbformat
import pytest
from support import notebooks
from support.notebooks import code_cells

from helpers import execute

PATHS = sorted(execute.NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem[:2])
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_series_is_complete():
    assert [path.stem[:2] for path in PATHS] == ["01", "02", "03", "04"]


@pytest.mark.gate
def test_outputs_come_from_one_run_from_the_top(notebook):
    faults = notebooks.not_from_one_run(notebook)
    assert not faults, "store them: python run.py execute --store"


@pytest.mark.gate
def test_no_cell_is_stored_with_an_error(notebook):
    assert not notebooks.stored_errors(notebook)


def test_cells_whose_output_must_repeat_have_one(notebook):
    tagged = [
        cell
        for cell in code_cells(notebook)
        if "nbval-check-output" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) >= 5
    assert not [cell.id for cell in tagged if not cell.outputs]


@pytest.mark.gate
def test_no_widget_and_no_state_of_a_machine_is_stored(notebook):
    assert not notebooks.stored_state(notebook)


@pytest.mark.gate
def test_every_picture_is_described_in_words(notebook):
    assert len(notebooks.pictures(notebook)) >= 2
    assert not notebooks.pictures_without_words(notebook)


@pytest.mark.gate
def test_charts_ask_no_server(notebook):
    assert not notebooks.pages_that_ask_a_server(notebook)


@pytest.mark.gate
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem[:2])
def test_a_notebook_is_at_most_a_megabyte(path):
    assert not notebooks.too_large(path)


def test_cell_ids_are_stable_names(notebook):
    assert not [cell.id for cell in notebook.cells if not re.fullmatch(r"[a-z][a-z0-9-]+", cell.id)]


def test_more_prose_than_code_and_short_cells(notebook):
    code = code_cells(notebook)
    assert len(notebook.cells) - len(code) >= len(code)
    lengths = sorted(len(cell.source.splitlines()) for cell in code)
    assert lengths[len(lengths) // 2] <= 6
    assert lengths[int(0.9 * len(lengths))] <= 15
    assert lengths[-1] <= 30


def test_the_parts_that_every_lesson_has(notebook):
    text = text_of(notebook)
    titles = re.findall(r"^# .+", text, re.M)
    assert len(titles) == 1
    for part in (
        "**You will learn**",
        "**Necessary**",
        "**Time**",
        "**Network**",
        "## Quiz",
        "## Summary",
        "## Further reading",
    ):
        assert part in text, part
    assert text.count("> **Predict:**") >= 3
    quiz = text[text.index("## Quiz") : text.index("## Summary")]
    assert len(re.findall(r"^\*\*\d\.", quiz, re.M)) == 3
    assert quiz.count("<details>") == 9, "three options for each question, every one explained"


def exercise_cells(notebook):
    """(starter cell, code of the folded solution) of every exercise."""
    found = []
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.id.startswith("ex"):
            help_ = notebook.cells[position + 1].source
            assert re.findall(r"<summary>(.*?)</summary>", help_) == [
                "First hint",
                "Second hint",
                "Solution",
            ]
            found.append((cell, re.search(r"```python\n(.*?)```", help_, re.S).group(1)))
    return found


def test_starters_run_and_are_not_yet_right(notebook):
    exercises = exercise_cells(notebook)
    assert len(exercises) >= 3
    for cell, _ in exercises:
        assert cell.outputs[-1].data["text/plain"].startswith("✗ Not yet."), cell.id


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem[:2])
def test_folded_solutions_are_right(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    starters = exercise_cells(notebook)
    for cell, solution in starters:
        cell.source += "\n" + solution  # what a starter defines besides its answer stays defined
    solved = tmp_path / path.name
    nbformat.write(notebook, solved)
    done = run_notebook(solved, cwd=path.parent)
    for (cell, _), outputs in zip(starters, [done[cell.id] for cell, _ in starters], strict=True):
        assert outputs[-1]["data"]["text/plain"].startswith("✓ Correct."), cell.id


def run_notebook(path, cwd):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(cwd)}}
    ).execute()
    return {cell.id: cell.get("outputs") for cell in notebook.cells}


BROKEN = {
    "a failing cell": lambda cells: cells.append(
        nbformat.v4.new_code_cell("1 / 0", execution_count=2)
    ),
    "a missing helper": lambda cells: cells.append(
        nbformat.v4.new_code_cell("import helpers.gone", execution_count=2)
    ),
    "a changed number": lambda cells: cells[0].outputs[0].update(text="0.5000\n"),
}


@pytest.mark.parametrize("fault", [None, *BROKEN])
def test_the_test_command_notices(fault, tmp_path):
    """The same pytest options as the full run, on a small notebook that is right or has one fault."""
    cell = nbformat.v4.new_code_cell(
        "print(f'{0.4345:.4f}')", execution_count=1, metadata={"tags": ["nbval-check-output"]}
    )
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="0.4345\n")]
    small = nbformat.v4.new_notebook(
        cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    if fault:
        BROKEN[fault](small.cells)
    nbformat.write(small, tmp_path / "small.ipynb")
    options = ["-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path / "small.ipynb")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=execute.PROJECT_ROOT)
    assert done.returncode == (1 if fault else 0), done.stdout


class ShorterEncoder:
    """The real model, cut to 200 dimensions: stands for a provider whose vectors have another size."""

    def __init__(self, encoder):
        self.encoder, self.tokenizer, self.max_seq_length = (
            encoder,
            encoder.tokenizer,
            encoder.max_seq_length,
        )

    def get_embedding_dimension(self):
        return 200

    def encode(self, texts, **options):
        return self.encoder.encode(texts, **options)[:, :200]


def test_notebook_1_runs_with_a_key_on_a_provider_of_another_size_and_never_shows_the_key(
    encoder, monkeypatch
):
    from helpers.openai_api import LocalServer

    with LocalServer(ShorterEncoder(encoder)) as provider:
        monkeypatch.setenv("OPENAI_API_KEY", provider.api_key)
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        monkeypatch.setenv("OPENAI_EMBEDDING_MODEL", "all-MiniLM-L6-v2")
        outputs = run_notebook(PATHS[0], cwd=PATHS[0].parent)
        printed = json.dumps(outputs)
    assert "Your key is used" in printed and "(200,)" in printed
    assert provider.api_key not in printed
