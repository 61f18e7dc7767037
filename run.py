"""Make the environment and run the series, with nothing but Python's own library.

    python run.py lab [arguments of jupyter lab]     open the notebooks
    python run.py tests [arguments of pytest]        run every test, the notebooks included
    python run.py check                              the quick tests of what is stored: style, spelling, secrets, links
    python run.py benchmarks [part ...]              measure the series against what one would run without it
    python run.py execute [--store] [notebook ...]   run notebooks headlessly, HTML pages in output/
    python run.py doctor                             a report for a bug report
    python run.py repair                             install everything anew, from scratch

The environment is `.venv` beside this file; nothing else on the machine is changed. It is installed when
it is missing or when requirements.txt or pyproject.toml changed; after that no network is needed.
Tests and benchmarks need a little more, tests/requirements.txt, which they install the first time.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST, NEWEST = (3, 11), (3, 14)

COMMANDS = {
    "lab": ["-m", "jupyterlab", "--notebook-dir", str(ROOT)],
    "tests": ["-m", "pytest"],
    "check": [
        "-m",
        "pytest",
        "-q",
        "-m",
        "gate",
        "tests/test_hygiene.py",
        "tests/test_notebooks.py",
    ],
    "benchmarks": ["-m", "benchmarks"],
    "execute": ["-m", "helpers.execute"],
    "doctor": ["-m", "helpers.doctor"],
    "repair": [],
}
NEEDS = dict.fromkeys(
    ("tests", "check", "benchmarks"), "tests/requirements.txt"
)  # the others: requirements.txt


def fail(what):
    print("run.py: " + what, file=sys.stderr)
    sys.exit(2)


def fingerprint(requirements):
    """Changes when the environment has to be installed again."""
    digest = hashlib.sha256(sys.version.encode())
    for name in sorted({"requirements.txt", "pyproject.toml", requirements}):
        digest.update((ROOT / name).read_bytes())
    digest.update(
        str(ROOT).encode()
    )  # a moved folder leaves an environment that points to the old place
    return digest.hexdigest()


def call(arguments):
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    for name in ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"):
        environment.pop(name, None)  # each of these would lead out of .venv
    return subprocess.run([str(part) for part in arguments], cwd=ROOT, env=environment).returncode


def quiet_lab():
    """JupyterLab asks about news and updates over the network at its first start; a classroom needs neither."""
    folder = VENV / "share" / "jupyter" / "lab" / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "@jupyterlab/apputils-extension:notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
        }
    }
    (folder / "overrides.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def stamp(requirements):
    return VENV / f"installed-{requirements.replace('/', '-')}.sha256"


def install(requirements):
    """Make `.venv` and install the pinned versions into it."""
    say = (
        "first time: several minutes and some GB"
        if not PYTHON.exists()
        else f"{requirements} is new or changed"
    )
    print(f"run.py: installing into .venv ({say}) ...", flush=True)
    if not PYTHON.exists() or call(
        [PYTHON, "-c", f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"]
    ):
        if VENV.exists():
            shutil.rmtree(VENV)
        if call([sys.executable, "-m", "venv", VENV]):
            fail(
                "the environment could not be made. On Debian and Ubuntu: sudo apt install python3-venv"
            )
    if call([PYTHON, "-m", "pip", "install", "--quiet", "--requirement", requirements]):
        fail(
            "the installation failed; the lines above say why. With a network, run the same command again."
        )
    quiet_lab()
    for name in {"requirements.txt", requirements}:  # the larger list includes the smaller
        stamp(name).write_text(fingerprint(name), encoding="utf-8")
    print("run.py: installed. From now on it starts without a network.", flush=True)


def main():
    version = ".".join(map(str, sys.version_info[:2]))
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fail(
            f"Python {version} runs this; the series needs 3.11 to 3.14. Call it with one of these, such as: python3.12 run.py lab"
        )
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(__doc__.strip())
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "repair" and VENV.exists():
        print("run.py: removing .venv", flush=True)
        shutil.rmtree(VENV)
    requirements = NEEDS.get(command, "requirements.txt")
    if not stamp(requirements).is_file() or stamp(requirements).read_text(
        encoding="utf-8"
    ) != fingerprint(requirements):
        install(requirements)
    if command == "repair":
        sys.exit(call([PYTHON, "-m", "helpers.doctor"]))
    if command == "lab":
        arguments = [str(Path(a)) if a.endswith(".ipynb") else a for a in arguments] or [
            "notebooks"
        ]
    try:
        sys.exit(call([PYTHON, *COMMANDS[command], *arguments]))
    except KeyboardInterrupt:  # Ctrl+C ends JupyterLab; it has said so itself
        sys.exit(130)


if __name__ == "__main__":
    main()
