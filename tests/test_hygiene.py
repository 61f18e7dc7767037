"""The gates: what is stored is checked, and each check has been seen failing on something bad."""

import re
import socket
import subprocess
import sys
from urllib.parse import unquote

import nbformat
import pytest
import test_foundation
import test_notebooks
import yaml

import run
from helpers import PROJECT_ROOT, console

pytestmark = pytest.mark.gate

SECRETS = ["detect_secrets.pre_commit_hook", "--exclude-lines", "^def test_"]
for guess in (
    "HexHighEntropyString",
    "Base64HighEntropyString",
    "KeywordDetector",
):  # hashes, pictures and planted keys are no secrets
    SECRETS += ["--disable-plugin", guess]
TOOLS = {
    "style": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "spelling": ["codespell_lib"],
    "secrets": SECRETS,
}
PYTHON = {"style", "format"}
BAD = {  # put together here, so that this file itself passes
    "style": ("bad.py", "import os\n"),
    "format": ("bad.py", "x = {  }\n"),
    "spelling": ("bad.md", "We reci" + "eve a vector.\n"),
    "secrets": ("bad.md", "OPENAI_API_KEY=sk-" + "a1B2" * 5 + "T3Blbk" + "FJ" + "c3D4" * 5 + "\n"),
}


def check(tool, files):
    command = [sys.executable, "-m", *TOOLS[tool], *map(str, files)]
    return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)


def as_notebook(path, source, kind):
    new_cell = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}[kind]
    nbformat.write(nbformat.v4.new_notebook(cells=[new_cell(source)]), path)
    return path


@pytest.fixture(scope="module")
def files():
    """Every file of the project that is text, as git sees it."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("only a git clone knows which files belong to the project")
    paths = [PROJECT_ROOT / name for name in done.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:1000]]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_project_passes(tool, files):
    done = check(
        tool, [path for path in files if tool not in PYTHON or path.suffix in (".py", ".ipynb")]
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("stored", ["in a file", "in a notebook"])
def test_something_bad_does_not_pass(tool, stored, tmp_path):
    name, text = BAD[tool]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    if stored == "in a notebook":
        path = as_notebook(tmp_path / "bad.ipynb", text, "code" if tool in PYTHON else "markdown")
    done = check(tool, [path])
    assert done.returncode not in (0, 2), (
        done.stdout + done.stderr
    )  # 2: the tool itself could not run


def bad_order(notebook):
    notebook.cells[0].execution_count = 7


def bad_picture(notebook):
    notebook.cells[0].outputs = [
        nbformat.v4.new_output(
            "display_data", {"image/png": "iVBOR"}, metadata={"image/png": {"alt": "a chart"}}
        )
    ] * 2


def bad_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-kernel"


def bad_script(notebook):
    notebook.cells[0].outputs = [
        nbformat.v4.new_output(
            "display_data", {"text/html": "<script src='https://example.com/x.js'></script>"}
        )
    ]


def bad_cell(notebook):
    notebook.cells[0].outputs = [
        nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    ]


@pytest.mark.parametrize(
    ("gate", "spoil"),
    [
        (test_notebooks.test_outputs_come_from_one_run_from_the_top, bad_order),
        (test_notebooks.test_every_picture_is_described_in_words, bad_picture),
        (test_notebooks.test_no_widget_and_no_state_of_a_machine_is_stored, bad_kernel),
        (test_notebooks.test_charts_ask_no_server, bad_script),
        (test_notebooks.test_no_cell_is_stored_with_an_error, bad_cell),
    ],
)
def test_a_bad_notebook_does_not_pass(gate, spoil):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", execution_count=1)])
    notebook.metadata = nbformat.from_dict({"kernelspec": {"name": "python3"}, "language_info": {}})
    if (
        gate is not test_notebooks.test_every_picture_is_described_in_words
    ):  # needs pictures to pass
        gate(notebook)
    spoil(notebook)
    with pytest.raises(AssertionError):
        gate(notebook)


def test_a_notebook_over_a_megabyte_does_not_pass(tmp_path):
    path = tmp_path / "large.ipynb"
    path.write_bytes(b" " * (test_notebooks.MEGABYTE + 1))
    with pytest.raises(AssertionError):
        test_notebooks.test_a_notebook_is_at_most_a_megabyte(path)


def test_a_pale_theme_does_not_pass(tmp_path, monkeypatch):
    light = (console.THEMES / "light.theme").read_text(encoding="utf-8")
    monkeypatch.setattr(console, "THEMES", tmp_path)
    for name, text in {"same": light, "pale": light.replace("#14471e", "#9fd4a9")}.items():
        (tmp_path / f"{name}.theme").write_text(
            text.replace("name = light", f"name = {name}"), encoding="utf-8"
        )
    test_foundation.test_every_coloured_style_brings_its_own_ground_and_reaches_4_5_to_1("same")
    with pytest.raises(AssertionError, match="score"):
        test_foundation.test_every_coloured_style_brings_its_own_ground_and_reaches_4_5_to_1("pale")


def prose(path):
    """The Markdown of a file or notebook, without its code blocks."""
    if path.suffix == ".ipynb":
        text = "\n".join(
            cell.source
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "markdown"
        )
    else:
        text = path.read_text(encoding="utf-8")
    return re.sub(r"```.*?```", "", text, flags=re.S)


def anchors(path):
    """The anchors that GitHub gives the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def faults(path):
    """Links inside the project that lead nowhere, and pictures without words."""
    text = prose(path)
    found = [
        f"{name}: a picture without words" for name in re.findall(r"!\[\s*\]\(([^)]*)\)", text)
    ]
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue  # the weekly run follows what leads outside
        name, _, anchor = unquote(target).partition("#")
        there = path.parent / name if name else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            found.append(f"{target}: leads nowhere")
    return found


def test_every_link_leads_somewhere_and_every_picture_has_words(files):
    assert not {
        path.name: found
        for path in files
        if path.suffix in (".md", ".ipynb") and (found := faults(path))
    }


@pytest.mark.parametrize(
    "text", ["[a](gone.md)", "[a](#gone)", "[a](here.md#gone)", "![](here.md)"]
)
@pytest.mark.parametrize("stored", ["in a file", "in a notebook"])
def test_a_link_that_leads_nowhere_does_not_pass(text, stored, tmp_path):
    here = tmp_path / "here.md"
    here.write_text(
        "# Here & now\n[a](#here--now)\n[b](here.md#here--now) ![words](here.md) [out](https://example.com/gone)",
        encoding="utf-8",
    )
    assert not faults(here)
    path = tmp_path / "bad.md"
    path.write_text(text, encoding="utf-8")
    assert faults(
        path if stored == "in a file" else as_notebook(tmp_path / "bad.ipynb", text, "markdown")
    )


REACH = """
import socket, sys
for family, host in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        socket.socket(family, socket.SOCK_DGRAM).connect((host, 9))
    except OSError as error:
        print(error)
try:
    socket.create_connection(("example.com", 80), timeout=5)
except OSError as error:
    print(error)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
    socket.create_connection(("localhost", server.getsockname()[1])).close()
print("this machine answers")
"""


def test_no_test_and_no_kernel_reaches_the_network_but_this_machine_answers():
    done = subprocess.run([sys.executable, "-c", REACH], capture_output=True, text=True)
    assert done.stdout.count("the network is cut while tests run") == 3 and done.stdout.endswith(
        "this machine answers\n"
    ), done.stderr
    with pytest.raises(OSError, match="the network is cut"):
        socket.create_connection(("192.0.2.1", 80))


WORKFLOWS = sorted((PROJECT_ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_reads_only_and_calls_commands_that_exist(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.search(r"@v\d", step["uses"]) for step in steps if "uses" in step)
    commands = re.findall(r"\brun\.py (\w+)", "\n".join(step.get("run", "") for step in steps))
    assert set(commands) <= set(run.COMMANDS)
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())


def test_the_workflow_covers_every_system_and_every_python():
    jobs = yaml.safe_load(
        (PROJECT_ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    )["jobs"]
    matrix = jobs["locked"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == [f"3.{minor}" for minor in range(run.OLDEST[1], run.NEWEST[1] + 1)]
