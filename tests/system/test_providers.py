"""Another provider and a real key, in real kernels.

Notebook 1 runs through, says what the provider does differently, and shows the key nowhere;
nor does the output of `run.py doctor` that belongs into a bug report.
"""

import json
import re

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from helpers import PROJECT_ROOT, openai_api
from tests.support.endpoint import running
from tests.support.processes import run_python

KEY = "sk-planted-0123456789abcdef"

#: `run.py execute 01`, with another folder for what it writes.
EXECUTE = """
import sys
from pathlib import Path
from helpers import execute
execute.OUTPUT = Path(sys.argv[1])
sys.exit(execute.main(['01']))
"""


@pytest.fixture(autouse=True)
def nothing_stored():
    """The vectors of a provider that will never be back are removed."""
    before = set(openai_api.STORE.glob("*.npy"))
    yield
    for path in set(openai_api.STORE.glob("*.npy")) - before:
        path.unlink(missing_ok=True)


@pytest.fixture
def endpoint():
    """A provider that repeats the key: in every refusal, and as the name of the model."""
    with running(size=32, dimensions="refused", usage=None, model="the key") as server:
        yield server


def run(url, *arguments, **more):
    """Python with these arguments, for a user of the provider at `url`."""
    user = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, "HF_TOKEN": KEY[::-1]}
    return run_python(*arguments, timeout=120, **user, **more)


def execute_notebook_1(url, folder, **more):
    """What `run.py execute 01` says, with all that it and Jupyter write in `folder`."""
    names = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")
    folders = {name: str(folder / name) for name in names}
    return run(url, "-c", EXECUTE, str(folder / "output"), **folders, **more)


def printed(folder):
    """Cell id -> text of its output, from the executed copy of notebook 1."""
    notebook = nbformat.read(folder / "output" / "01_openai_embeddings.ipynb", as_version=4)
    return {
        cell.id: "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def everything(done, *folders):
    """All that a run said and left behind."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    contents = [done.stdout.encode(), done.stderr.encode(), *(path.read_bytes() for path in files)]
    return b"\0".join(contents)


def assert_no_key(found):
    assert KEY.encode() not in found and KEY[::-1].encode() not in found
    assert KEY[:-1].encode() not in found, "not even most of it"


def kernels(folder):
    """Processes and connection files that are left of a run with its runtime files in `folder`."""
    alive = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]
    return alive + list(folder.rglob("kernel-*.json"))


# --- whole runs of notebook 1 ---------------------------------------------------------------------


def test_notebook_1_runs_on_a_provider_with_every_quirk_and_names_each(tmp_path):
    quirks = {"size": 200, "dimensions": "ignored", "encoding": "float", "usage": 0}
    with running(model="other-v2", **quirks) as provider:
        done = execute_notebook_1(provider.url, tmp_path, OPENAI_EMBEDDING_MODEL="other")
    assert done.returncode == 0, done.stderr[-3000:]
    said = printed(tmp_path)
    assert said["connect"] == f"Your key is used: {provider.url} answers, with other.\n"
    assert said["one-sentence"] == (
        "CreateEmbeddingResponse from model other-v2 "
        "(asked for: other; the provider renames it, or another model answered)\n"
    )
    assert "(200,)" in said["vector"]
    assert "tokens: not counted by this provider\n" in said["usage"]
    assert "$" not in said["usage"], "nor does it get a price"
    assert "[0, 1, 2]" in said["three"]
    assert said["shorten"].endswith(
        "this provider ignored dimensions and answered 200 numbers instead of 100. "
        "Shorten by hand: keep the first 100 and renormalise.\n"
    )
    assert "1/16" in said["measure"]
    assert_no_key(everything(done, tmp_path))


def test_a_whole_run_of_notebook_1_leaves_no_key_in_text_notebook_or_page(endpoint, tmp_path):
    done = execute_notebook_1(endpoint.url, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert endpoint.keys == {KEY}
    names = {path.name for path in (tmp_path / "output").iterdir()}
    assert names == {"01_openai_embeddings.ipynb", "01_openai_embeddings.html"}
    found = everything(done, tmp_path)
    assert b"[OPENAI_API_KEY]" in found, "it would have stood there"
    assert_no_key(found)
    assert kernels(tmp_path) == []
    said = printed(tmp_path)
    assert "tokens: not counted by this provider\n" in said["usage"], "there was no usage at all"
    assert "Error code: 400 - You sent Bearer [OPENAI_API_KEY]" in said["shorten"]


def test_a_run_that_fails_shows_no_key_and_what_to_do_and_leaves_no_kernel(endpoint, tmp_path):
    endpoint.answers = [{"status": 401}]
    done = execute_notebook_1(endpoint.url, tmp_path)
    assert done.returncode == 1 and endpoint.keys == {KEY}
    assert "AuthenticationError" in done.stderr
    assert "Check OPENAI_API_KEY and OPENAI_BASE_URL together" in done.stderr
    assert_no_key(everything(done, tmp_path))
    assert kernels(tmp_path) == []


# --- a live kernel, and the report ----------------------------------------------------------------


def test_a_live_kernel_shows_no_key_in_a_traceback(endpoint, monkeypatch):
    """The messages that JupyterLab would draw, from a real kernel."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    endpoint.answers = [{"status": 401}]
    cells = [
        "from helpers import openai_api, session\nfrom openai import OpenAI\n"
        "console = session.start()\nprint(openai_api.connect())",
        "OpenAI().embeddings.create(model='m', input='hello')",
        "import os\nraise ValueError(f\"mine: {os.environ['OPENAI_API_KEY']}\")",
        "session.try_it(lambda text: print(text), 'it still works')",
        "1 / 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(PROJECT_ROOT)}},
    )
    replies = []
    client.on_cell_executed = lambda execute_reply, **_: replies.append(str(execute_reply))
    client.execute()
    drawn = [json.dumps(cell.outputs) for cell in notebook.cells]
    assert endpoint.keys == {KEY}
    assert "Check OPENAI_API_KEY and OPENAI_BASE_URL together" in drawn[1]
    assert "[OPENAI_API_KEY]" in drawn[1]
    assert "mine: [OPENAI_API_KEY]" in drawn[2]
    assert "it still works" in drawn[3] and "ZeroDivisionError" in drawn[4]
    assert len(replies) == len(cells)
    assert KEY not in "".join(drawn + replies)


def test_the_report_for_a_bug_report_holds_no_key_and_names_every_fault():
    done = run(
        f"http://me:{KEY}@127.0.0.1:9/v1",
        "-m",
        "helpers.doctor",
        EMBEDDINGS_THEME=KEY,
        EMBEDDINGS_DEVICE="abacus",
    )
    assert done.returncode == 1
    assert re.search(r"theme +PROBLEM: ValueError: There is no theme", done.stdout)
    assert re.search(
        r"device +PROBLEM: ValueError: EMBEDDINGS_DEVICE='abacus' cannot be used", done.stdout
    )
    assert "key found, base URL set" in done.stdout
    assert_no_key(everything(done))
