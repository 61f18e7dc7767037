"""Floor 4: session, doctor, execute, and `run.py`."""

import os
import subprocess
import sys

import altair as alt
import nbformat
import pytest

from helpers import PROJECT_ROOT, doctor, execute, session, settings
from helpers.console import get_console


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
