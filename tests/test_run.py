"""`run.py`, and the environment in which everything that it starts runs."""

import json
import os
import re
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import run
from helpers import PROJECT_ROOT
from tests.support.processes import python, run_python

# --- commands -------------------------------------------------------------------------------------


def test_every_command_is_explained_in_lines_that_fit():
    lines = run.__doc__.splitlines()
    assert max(map(len, lines)) <= 100
    for command in run.COMMANDS:
        assert [line for line in lines if line.strip().startswith(f"python run.py {command} ")]


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2), (["check"], 2)])
def test_without_a_command_or_with_an_unknown_one_it_explains_itself(arguments, status):
    done = run_python(PROJECT_ROOT / "run.py", *arguments)
    assert done.returncode == status and "python run.py quick" in done.stdout


def test_run_py_needs_nothing_but_the_standard_library():
    """Without site-packages and without the folder of the project on the path."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1])"
    done = run_python("-I", "-S", "-c", code, PROJECT_ROOT / "run.py")
    assert done.returncode == 0, done.stderr


# --- root -----------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """What run.py starts, without starting it; nothing is installed either."""
    calls = []
    monkeypatch.setattr(run, "is_installed", lambda requirements: False)
    monkeypatch.setattr(run, "install", lambda requirements: calls.append("installed"))
    monkeypatch.setattr(run, "call", lambda arguments: calls.append(arguments) or 0)
    return calls


def type_in(monkeypatch, *arguments, user=0):
    """Run `python run.py <arguments>` in this process; returns its exit status."""
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    monkeypatch.setattr(sys, "orig_argv", ["python", "run.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run.main()
    return ended.value.code


@pytest.mark.parametrize("more", [[], ["notebooks/02_input_embeddings.ipynb", "--port=8899"]])
def test_root_is_told_the_command_that_works_and_what_it_means(more, started, monkeypatch, capsys):
    assert type_in(monkeypatch, "lab", *more) == 2
    told = capsys.readouterr().err
    (command,) = [line.strip() for line in told.splitlines() if line.startswith("    ")]
    assert command == " ".join(["python run.py lab", *more, "--allow-root"])
    assert "all rights" in told and "container" in told
    assert not started, "neither installed nor started"
    assert type_in(monkeypatch, *command.split()[2:]) == 0
    assert started[0] == "installed" and "--allow-root" in started[1]


@pytest.mark.parametrize(
    "arguments",
    [["lab", "--allow-root"], ["lab", "--ServerApp.allow_root=True"], ["lab", "--version"]],
)
def test_root_may_start_what_is_allowed_or_only_informs(arguments, started, monkeypatch):
    assert type_in(monkeypatch, *arguments) == 0
    assert "notebooks" in started[-1], "it still opens the folder of the notebooks"


def test_other_users_and_other_commands_are_not_asked(started, monkeypatch):
    assert type_in(monkeypatch, "lab", user=1000) == 0
    assert type_in(monkeypatch, "doctor") == 0
    monkeypatch.delattr(os, "geteuid")  # Windows
    run.refuse_root([])


# --- what OpenMP reads ----------------------------------------------------------------------------


def test_openmps_variables_are_the_same_in_every_place():
    fallback = "import json, os, helpers; print(json.dumps(dict(os.environ)))"
    done = python(fallback, **dict.fromkeys(run.OPENMP))
    assert run.OPENMP.items() <= json.loads(done.stdout).items()
    image = (PROJECT_ROOT / "binder" / "Dockerfile").read_text(encoding="utf-8")
    for name, value in run.OPENMP.items():
        assert re.search(rf"^ENV .*\b{name}={value}\b", image, re.M)
    container = json.loads((PROJECT_ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["build"]["dockerfile"] == "../binder/Dockerfile"


def test_a_value_that_the_reader_has_set_wins(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert run.environment()["GOMP_SPINCOUNT"] == "7"


def installed_specification():
    (path,) = Path(sys.prefix).glob("share/jupyter/kernels/python3/kernel.json")
    return path.read_text(encoding="utf-8")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A kernel as ipykernel installs it, and a process in which nobody has set the variables."""
    for name in run.OPENMP:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run, "VENV", tmp_path)
    specification = json.loads(installed_specification())
    specification.pop("env", None)
    path = tmp_path / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(specification), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))


@pytest.fixture
def what_libgomp_took(bare, capfd):
    """Starts a kernel that loads torch before helpers; gives the spin counts that libgomp took."""
    if not list(Path(find_spec("torch").origin).parent.glob("lib/libgomp*")):
        pytest.skip("this torch brings no GNU OpenMP")

    def took(environment):
        cell = nbformat.v4.new_code_cell("import torch\nimport helpers")
        notebook = nbformat.v4.new_notebook(cells=[cell])
        client = NotebookClient(notebook, kernel_name="python3", timeout=120)
        with client.setup_kernel(env={**environment, "OMP_DISPLAY_ENV": "verbose"}):
            client.execute_cell(cell, 0)
        # written by C code: ipykernel passes it on as an output, but not under pytest
        shown = "".join(output.get("text", "") for output in cell.outputs)
        found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", shown + capfd.readouterr().err)
        assert found, "libgomp said nothing"
        return set(found)

    return took


def test_a_kernel_that_run_py_starts_takes_the_variables_before_torch(what_libgomp_took):
    assert what_libgomp_took(run.environment()) == {run.OPENMP["GOMP_SPINCOUNT"]}


@pytest.mark.slow
def test_a_kernel_of_another_jupyter_lab_takes_them_from_its_specification(what_libgomp_took):
    run.set_up_kernel()
    assert what_libgomp_took(dict(os.environ)) == {run.OPENMP["GOMP_SPINCOUNT"]}


@pytest.mark.slow
def test_without_either_the_fallback_comes_too_late(what_libgomp_took):
    """The counter-example: the two tests above can fail."""
    assert what_libgomp_took(dict(os.environ)) != {run.OPENMP["GOMP_SPINCOUNT"]}


# --- versions -------------------------------------------------------------------------------------


def names(path):
    """The packages that a file of requirements pins to one version."""
    lines = (PROJECT_ROOT / path).read_text(encoding="utf-8").splitlines()
    return {found.group(1).lower() for line in lines if (found := re.match(r"([\w.-]+)==", line))}


def declared(requirements):
    found = {re.match(r"[\w.-]+", text).group().lower() for text in requirements}
    return found - {"text-embeddings-tutorial"}


def test_everything_that_is_declared_has_one_tested_version():
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    series, extras = names("requirements.txt"), project["optional-dependencies"]
    assert declared(project["dependencies"]) <= series
    for extra in ("scale", "browser", "test"):
        assert declared(extras[extra]) <= series | names("tests/requirements.txt")


def test_no_list_of_versions_names_an_index_a_place_or_a_host():
    for path in ("requirements.txt", "tests/requirements.txt", "pyproject.toml"):
        text = (PROJECT_ROOT / path).read_text(encoding="utf-8")
        assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|trusted-host|@ ", text)


# --- property tests -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_weekly_workflow_draws_new_examples_and_more_of_them():
    code = "from tests.support.examples import quick; print(quick.derandomize, quick.max_examples)"
    drawn = {}
    for profile in ("series", "weekly"):
        done = python(code, HYPOTHESIS_PROFILE=profile, CI="true")
        derandomize, count = done.stdout.split()
        drawn[profile] = derandomize == "False", int(count)
    assert drawn["series"] == (False, 40)
    assert drawn["weekly"][0] and drawn["weekly"][1] > drawn["series"][1]
    weekly = (PROJECT_ROOT / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8")
    assert "HYPOTHESIS_PROFILE: weekly" in weekly and "--hypothesis-seed=" in weekly
