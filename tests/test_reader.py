"""Floors 3 and 4: charts, tables, session, doctor, execute, and `run.py`."""

import os
import struct
import subprocess
import sys

import altair as alt
import nbformat
import numpy as np
import pandas as pd
import pytest

from helpers import PROJECT_ROOT, charts, doctor, execute, session, settings, tables
from helpers.console import get_console


def heatmap(**changes):
    given = {
        "title": "t",
        "row_title": "r",
        "column_title": "c",
        "description": "words for those who do not see",
    }
    return charts.heatmap(np.eye(2), ["a", "b"], ["c", "d"], **{**given, **changes})


def size(png):
    return struct.unpack(">II", png[16:24])


def test_a_chart_is_interactive_static_and_described_in_one_output():
    bundle, metadata = charts._offline(heatmap().to_dict())
    assert bundle[charts.VEGALITE_MIME]["$schema"].endswith("vega-lite/v5.json")
    assert bundle["image/png"].startswith(b"\x89PNG") and min(size(bundle["image/png"])) > 100
    assert bundle["text/plain"] == metadata["image/png"]["alt"] == "words for those who do not see"


def test_a_chart_is_the_same_twice():
    assert charts._offline(heatmap().to_dict()) == charts._offline(heatmap().to_dict())


def test_labels_that_do_not_fit_the_matrix_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        charts.heatmap(
            np.zeros((3, 2)),
            ["a"],
            ["b", "c"],
            title="",
            row_title="",
            column_title="",
            description="",
        )


@pytest.fixture
def frame():
    numbers = np.random.default_rng(0).normal(size=(40, 2))
    kinds = ["word"] * 20 + ["continuation"] * 15 + ["special"] * 5
    return pd.DataFrame(
        {
            "id": range(40),
            "token": [f"t{i}" for i in range(40)],
            "kind": kinds,
            "x": numbers[:, 0],
            "y": numbers[:, 1],
        }
    )


def test_the_token_map_tells_kinds_apart_by_colour_and_by_shape(frame):
    spec = charts.token_map(frame, title="t", description="d", highlight=[3]).to_dict()
    encoding = spec["layer"][0]["encoding"]
    for channel in ("color", "shape"):
        assert (
            encoding[channel]["field"] == "kind"
            and len(set(encoding[channel]["scale"]["range"])) == 3
        )


def test_searching_a_token_that_does_not_exist_says_what_to_do(frame):
    with pytest.raises(ValueError, match="tokenizer.tokenize"):
        charts.show_token_map(frame, np.ones((40, 3)), token="absent", title="t", description="d")


def test_the_live_map_marks_a_token_and_its_neighbours_when_one_searches(frame):
    vectors = np.random.default_rng(1).normal(size=(40, 5))
    chart = charts.token_map(
        frame, title="t", description="d", highlight=charts._neighbour_ids(frame, vectors, "t7", 4)
    )
    box, answer, live = charts._live_map(chart, frame, vectors, "t7", 4).children
    assert live.params.highlight[0] == 7 and len(live.params.highlight) == 5
    box.value = "t9"
    assert live.params.highlight[0] == 9 and "t9" in answer.value
    box.value = "absent"
    assert "not one of the 40 tokens" in answer.value and live.params.highlight[0] == 9


def test_what_a_reader_types_is_text_and_never_markup():
    console = get_console()
    with console.capture() as shown:
        console.print(tables.pair_panel("[red]bank[/red]", "[/]", 0.5, title="[bold]"))
        console.print(tables.chips(["[CLS]", "[/bank]"]))
        console.print(tables.from_frame(pd.DataFrame({"token": ["[unused1]"]}), title="[t]"))
    for text in ("[red]bank[/red]", "[/]", "[CLS]", "[/bank]", "[unused1]"):
        assert text in shown.get()


def test_the_focused_row_is_marked_by_a_sign_as_well():
    console = get_console()
    with console.capture() as shown:
        console.print(tables.from_frame(pd.DataFrame({"a": [1, 2]}), title="t", focus=1))
    assert "→" in shown.get().splitlines()[-2]


def test_start_gives_the_console_and_one_status_line(capsys):
    console = session.start("openai")
    printed = capsys.readouterr().out
    assert console is get_console()
    assert "device cpu · source bundled" in printed and "openai 3" in printed
    assert alt.renderers.active == "offline"


def test_try_it_is_a_plain_call_when_nobody_sits_in_front():
    got = []
    session.try_it(lambda *texts: got.append(texts), "a", "b")
    assert got == [("a", "b")]


def test_try_it_has_a_box_a_text_and_shows_errors_in_words(monkeypatch):
    monkeypatch.setattr(settings, "is_live", lambda: True)
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    session.try_it(lambda text: 1 / 0, "a", labels=("word",))
    box, button, _ = shown[0].children
    assert (box.value, box.description, button.description) == ("a", "word", "Run")
    button.click()


def test_a_kernel_is_live_only_with_a_front_end(monkeypatch):
    for name in (*settings.FRONT_ENDS, "EMBEDDINGS_HEADLESS"):
        monkeypatch.delenv(name, raising=False)
    assert not settings.is_live()
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert settings.is_live()
    monkeypatch.setenv("EMBEDDINGS_HEADLESS", "1")
    assert not settings.is_live()


def test_the_doctor_finds_no_problem_here_and_never_shows_a_key(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "planted-secret")
    assert doctor.main() == 0
    report = capsys.readouterr().out
    for line in (
        "torch",
        "memory",
        "disk",
        "encoder",
        "token map",
        "mini CDE",
        "collections",
        "key found",
        "charts",
    ):
        assert line in report
    assert "planted" not in report and str(PROJECT_ROOT) not in report


def test_the_doctor_reports_a_problem_instead_of_stopping(monkeypatch, capsys):
    monkeypatch.setenv("EMBEDDINGS_DEVICE", "gpu")
    assert doctor.main() == 1
    assert "PROBLEM: ValueError: EMBEDDINGS_DEVICE" in capsys.readouterr().out


def test_a_notebook_that_fails_is_reported_and_left_unchanged(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path)
    path = tmp_path / "09_broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    assert execute.main(["--store", "09"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_an_unknown_notebook_is_refused_with_the_known_ones():
    with pytest.raises(SystemExit, match="02_input_embeddings"):
        execute.choose(["42"])


def test_run_py_without_a_command_explains_itself():
    done = subprocess.run(
        [sys.executable, str(PROJECT_ROOT / "run.py")], capture_output=True, text=True
    )
    assert done.returncode == 2 and "run.py lab" in done.stdout


def test_tests_and_stored_outputs_run_without_anybodys_key():
    code = (
        "import os; from helpers.settings import clean_environment; clean_environment();"
        "print(any(name.startswith('OPENAI_') for name in os.environ), os.environ['EMBEDDINGS_SOURCE'])"
    )
    planted = {
        **os.environ,
        "OPENAI_API_KEY": "planted",
        "OPENAI_BASE_URL": "https://provider.example",
        "EMBEDDINGS_SOURCE": "hub",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=planted, cwd=PROJECT_ROOT
    )
    assert done.stdout.split() == ["False", "bundled"], done.stderr
