"""Headless runs: what fails is reported, and the notebook stays as it was."""

import nbformat
import pytest

from helpers import execute


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
