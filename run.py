"""Make the environment and run the series, with nothing but Python's standard library.

    python run.py lab [arguments of jupyter lab]     open the notebooks
    python run.py quick [arguments of pytest]        unit tests and gates, at most 2 minutes
    python run.py tests [arguments of pytest]        every test, notebooks and browser included
    python run.py benchmarks [--store] [part ...]    measure the series against its alternatives
    python run.py execute [--store] [notebook ...]   run notebooks headlessly, pages in output/
    python run.py workshop [command]                 teach it to a room: what for is listed
    python run.py doctor                             print a report to paste into a bug report
    python run.py repair                             install everything again from scratch

The environment is `.venv` next to this file; nothing else on the machine changes. It is installed
when it is missing, and again when requirements.txt or pyproject.toml changes; after that no network
is needed. `quick`, `tests` and `benchmarks` need a little more, listed in tests/requirements.txt,
and install it the first time you run one of them.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST, NEWEST = (3, 11), (3, 14)

QUICK = "not slow and not scale and not browser"
TWO_AT_A_TIME = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]  # files of tests
COMMANDS = {
    "lab": ["-m", "jupyterlab", "--notebook-dir", str(ROOT)],
    "quick": ["-m", "pytest", "-q", *TWO_AT_A_TIME, "-m", QUICK, "--ignore=tests/system"],
    "tests": ["-m", "pytest", *TWO_AT_A_TIME],
    "benchmarks": ["-m", "benchmarks"],
    "execute": ["-m", "helpers.execute"],
    "workshop": ["-m", "workshop"],
    "doctor": ["-m", "helpers.doctor"],
    "repair": [],
}
# all other commands: requirements.txt
NEEDS = dict.fromkeys(("quick", "tests", "benchmarks"), "tests/requirements.txt")

# Idle threads sleep soon instead of spinning. OpenMP reads these when torch is loaded, so they are
# set before Python starts; helpers/__init__.py has the same ones and the reason for the values.
OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}

LEADS_OUT = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")  # of .venv


def fail(what):
    print("run.py: " + what, file=sys.stderr)
    sys.exit(2)


def fingerprint(requirements):
    """Changes when the environment has to be installed again."""
    digest = hashlib.sha256(sys.version.encode())
    for name in sorted({"requirements.txt", "pyproject.toml", requirements}):
        digest.update((ROOT / name).read_bytes())
    digest.update(str(ROOT).encode())  # once the folder moves, .venv points to the old place
    return digest.hexdigest()


def environment():
    """The environment variables of everything that is started from here."""
    variables = {**OPENMP, **os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return {name: value for name, value in variables.items() if name not in LEADS_OUT}


def call(arguments):
    command = [str(argument) for argument in arguments]
    return subprocess.run(command, cwd=ROOT, env=environment()).returncode


def quiet_lab():
    """At its first start JupyterLab asks about news and updates over the network; answer no."""
    folder = VENV / "share" / "jupyter" / "lab" / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "@jupyterlab/apputils-extension:notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
        }
    }
    (folder / "overrides.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def set_up_kernel():
    """Give every kernel OpenMP's variables, also one that `jupyter lab` starts without run.py."""
    path = VENV / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    specification = json.loads(path.read_text(encoding="utf-8"))
    specification["env"] = {**specification.get("env", {}), **OPENMP}
    path.write_text(json.dumps(specification, indent=1), encoding="utf-8")


def stamp(requirements):
    return VENV / f"installed-{requirements.replace('/', '-')}.sha256"


def is_installed(requirements):
    path = stamp(requirements)
    return path.is_file() and path.read_text(encoding="utf-8") == fingerprint(requirements)


def is_this_python():
    """Whether `.venv` is there and has the version of Python that runs this."""
    version = sys.version_info[:2]
    check = f"import sys; sys.exit(sys.version_info[:2] != {version!r})"
    return PYTHON.exists() and call([PYTHON, "-c", check]) == 0


def install(requirements):
    """Make `.venv` and install the pinned versions into it."""
    first = not PYTHON.exists()
    why = "first time: several minutes, some GB" if first else f"{requirements} is new or changed"
    print(f"run.py: installing into .venv ({why}) ...", flush=True)
    if not is_this_python():
        if VENV.exists():
            shutil.rmtree(VENV)
        if call([sys.executable, "-m", "venv", VENV]):
            fail(
                "could not create the environment .venv. "
                "On Debian and Ubuntu, install its tool first: sudo apt install python3-venv"
            )
    if call([PYTHON, "-m", "pip", "install", "--quiet", "--requirement", requirements]):
        fail(
            "the installation failed; the lines above say why. "
            "Check that you are online, then run the same command again."
        )
    quiet_lab()
    set_up_kernel()
    for name in {"requirements.txt", requirements}:  # the larger list includes the smaller
        stamp(name).write_text(fingerprint(name), encoding="utf-8")
    print("run.py: installed. From now on it starts without a network.", flush=True)


def refuse_root(arguments):
    """JupyterLab refuses to run as root; say so before minutes of installing, with the way out."""
    asks = [argument.partition("=")[0].replace("-", "_") for argument in arguments]
    allowed = any(ask.endswith("allow_root") for ask in asks)
    only_informs = {"_h", "__help", "__help_all", "__version"}.intersection(asks)
    is_root = getattr(os, "geteuid", lambda: None)() == 0  # Windows has no such user
    if is_root and not allowed and not only_informs:
        python = Path(sys.orig_argv[0])
        python = python.name if shutil.which(python.name) else str(python)
        fail(
            "you are root, and JupyterLab runs as root only when told to. In a container, or on a "
            "machine of\nyour own, type:\n\n    "
            f"{shlex.join([python, *sys.orig_argv[1:], '--allow-root'])}\n\n"
            "Notebooks then run with all rights: a cell, or anyone who has the address with its "
            "token, can read,\nchange and delete every file on this system (in a container: in the "
            "container and in the folders\nmounted into it). Elsewhere, log in as an ordinary user "
            "and run it there."
        )


def lab_arguments(arguments):
    """Arguments of JupyterLab; it opens the folder of the notebooks unless told what to open."""
    arguments = [str(Path(a)) if a.endswith(".ipynb") else a for a in arguments]
    return arguments if any(not a.startswith("-") for a in arguments) else [*arguments, "notebooks"]


def main():
    version = ".".join(map(str, sys.version_info[:2]))
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fail(
            f"this is Python {version}, and the series needs 3.11 to 3.14. "
            "Start it with one of those, for example: python3.12 run.py lab"
        )
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(__doc__.strip())
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "lab":
        refuse_root(arguments)
        arguments = lab_arguments(arguments)
    if command == "repair" and VENV.exists():
        print("run.py: removing .venv", flush=True)
        shutil.rmtree(VENV)
    requirements = NEEDS.get(command, "requirements.txt")
    if not is_installed(requirements):
        install(requirements)
    if command == "repair":
        sys.exit(call([PYTHON, "-m", "helpers.doctor"]))
    if command == "quick" and not any(Path(a.partition("::")[0]).exists() for a in arguments):
        arguments += ["tests", "helpers"]  # not the notebooks, which nbval would run
    try:
        sys.exit(call([PYTHON, *COMMANDS[command], *arguments]))
    except KeyboardInterrupt:  # Ctrl+C ends JupyterLab, which has already said so itself
        sys.exit(130)


if __name__ == "__main__":
    main()
