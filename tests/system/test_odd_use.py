"""Odd use of the notebooks, in real kernels: order, restarts, other folders, no rights, kills."""

import json
import os
import shutil
import socket
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import psutil
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from helpers import PROJECT_ROOT, execute
from tests.support.lessons import LESSONS, PATHS, opened
from tests.support.processes import python, run_python


def listens(port):
    with socket.socket() as caller:
        caller.settimeout(2)
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_a_cell_out_of_order_names_what_is_missing_and_twice_is_as_once():
    with opened("03") as session:
        asks = session.find('figure="interest-parts"')
        with pytest.raises(CellExecutionError, match="name 'charts' is not defined"):
            session.run(asks)
        session.run(session.code[0])
        with pytest.raises(CellExecutionError, match="name 'parting' is not defined"):
            session.run(asks)
        session.run_all(times=2)


def test_a_restarted_kernel_starts_anew_and_its_server_is_gone():
    with opened("01") as session:
        for cell in session.code[:4]:
            session.run(cell)
            session.run(cell)
        address = session.run("print(openai_api.local_server().base_url)")
        port = urlsplit(address.strip()).port
        assert listens(port)
        session.restart()
        assert not listens(port)
        with pytest.raises(CellExecutionError, match="name 'client' is not defined"):
            session.run(session.find("sentences = ["))
        session.run_all(times=2)
        names = session.run("import threading; print([t.name for t in threading.enumerate()])")
        assert names.count("local-openai-server") == 1, "cells run twice start no second server"


def test_two_notebooks_at_once_from_another_folder_give_the_stored_results(tmp_path):
    def learner(number):
        with opened(number, cwd=tmp_path) as session:
            session.run_all()

    with ThreadPoolExecutor() as room:
        for done in [room.submit(learner, number) for number in ("01", "02")]:
            done.result(timeout=280)
    assert list(tmp_path.iterdir()) == []


def test_a_learners_own_helpers_py_is_named_by_the_first_cell(tmp_path):
    (tmp_path / "helpers.py").write_text("mine = True\n", encoding="utf-8")
    with opened("01", cwd=tmp_path) as session:
        for path in PATHS:
            first = next(
                c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"
            )
            with pytest.raises(CellExecutionError) as caught:
                session.run(first.source)
            told = str(caught.value)
            assert "from 'helpers'" in told and str(tmp_path / "helpers.py") in told, path.name
            assert "rename it" in told and "restart the kernel" in told, path.name


@pytest.fixture
def read_only():
    """A read-only copy of the project, and variables for a home that cannot be made."""
    folder = Path(tempfile.mkdtemp())
    for name in ("data", "helpers", "models", "notebooks", "themes"):
        shutil.copytree(
            PROJECT_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    nowhere = {name: str(folder / "home") for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    yield folder, {**nowhere, "PYTHONPATH": str(folder)}
    for path in folders:
        path.chmod(0o755)
    shutil.rmtree(folder)


def without_rights(read_only, *arguments):
    folder, variables = read_only
    within = []
    if os.name == "nt":
        pytest.skip("a folder cannot be made read-only by its mode on Windows")
    if os.geteuid() == 0:  # root may write everywhere, unless it gives that right away
        if not shutil.which("setpriv"):
            pytest.skip("root ignores permissions, and setpriv is not here to end that")
        within = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    done = run_python(*arguments, within=within, cwd=folder, timeout=280, **variables)
    assert sorted(path.name for path in folder.iterdir()) == [
        "data",
        "helpers",
        "models",
        "notebooks",
        "themes",
    ]
    return done


def test_a_notebook_runs_without_a_home_in_a_read_only_folder(read_only):
    code = [
        cell.source
        for cell in nbformat.read(LESSONS["03"], as_version=4).cells
        if cell.cell_type == "code"
    ]
    run = textwrap.dedent("""
        import json, sys
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell()
        for cell in json.loads(sys.argv[1]):
            shell.run_cell(cell).raise_error()
        print("to the end")
    """)
    done = without_rights(read_only, "-c", run, json.dumps(code))
    assert done.stdout.endswith("to the end\n"), done.stderr


def test_execute_in_a_read_only_folder_says_so_at_once(read_only):
    done = without_rights(read_only, "-m", "helpers.execute", "03")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "output/ cannot be written" in done.stderr and "Copy the project" in done.stderr


def test_a_killed_kernel_is_reported_and_leaves_the_notebook_and_no_process(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path)
    path = tmp_path / "09_killed.ipynb"
    nbformat.write(
        new_notebook(
            cells=[
                new_code_cell(
                    "import os, signal\nos.kill(os.getpid(), getattr(signal, 'SIGKILL', 9))"
                )
            ]
        ),
        path,
    )
    before, others = path.read_bytes(), set(psutil.Process().children(recursive=True))
    assert execute.main(["--store", "09"]) == 1
    assert "its kernel was ended" in capsys.readouterr().err
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert set(psutil.Process().children(recursive=True)) <= others


@pytest.mark.skipif(os.name == "nt", reason="Windows sets no limit on the size of a file")
def test_a_disk_that_ends_while_a_notebook_is_stored_leaves_it_whole(tmp_path):
    path = tmp_path / "09_long.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('x' * 900_000)")]), path)
    before = path.read_bytes()
    code = """
        import resource, sys
        from pathlib import Path
        from helpers import execute
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # larger files are refused
        execute.NOTEBOOKS = Path(sys.argv[1])
        sys.exit(execute.main(["--store", "09"]))
    """
    done = python(code, tmp_path)
    assert (
        done.returncode == 1
        and "09_long.ipynb failed: [Errno 27]" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
