"""Notebook 4 from the top on the Hub path, with tiny weights in the Hub's layout."""

import pytest

from helpers import PROJECT_ROOT
from tests.support.published import fill_cache, hub_python


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    return fill_cache(tmp_path_factory.mktemp("hub"))


def test_notebook_4_runs_on_the_hub_path_with_tiny_weights(hub_cache, tmp_path):
    import nbformat

    notebook = nbformat.read(PROJECT_ROOT / "notebooks" / "04_cde_bi_encoder.ipynb", as_version=4)
    source = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    (tmp_path / "cells.py").write_text(
        "from IPython.display import display\n" + source, encoding="utf-8"
    )
    run_it = f"import runpy\nrunpy.run_path({str(tmp_path / 'cells.py')!r}, run_name='__main__')"
    done = hub_python(run_it, hub_cache, tmp_path, MPLBACKEND="agg")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "CDE" in done.stdout and "source hub" in done.stdout
