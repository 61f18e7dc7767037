"""Make the environment and run the series, with nothing but Python's standard library.

    python run.py lab [arguments of jupyter lab]     open the notebooks
    python run.py quick [arguments of pytest]        unit tests and gates, at most 2 minutes
    python run.py tests [arguments of pytest]        every test, notebooks and browser included
    python run.py benchmarks [--store] [part ...]    measure the series against its alternatives
    python run.py execute [--store] [notebook ...]   run notebooks headlessly, pages in output/
    python run.py translate [notebook ...]           make the Chinese edition from its catalogues
    python run.py site [folder]                      the series as a website, in output/site/
    python run.py workshop [command]                 teach it to a room: what for is listed
    python run.py doctor                             print a report to paste into a bug report
    python run.py repair                             install everything again from scratch

The environment is `.venv` next to this file; nothing else on the machine changes. It is installed
when it is missing, and again when requirements.txt or pyproject.toml changes; after that no network
is needed. `quick`, `tests`, `benchmarks` and `site` need a little more, listed in
tests/requirements.txt, and install it the first time you run one of them; `tests` also makes the
hub's environment, `.venv-hub`. With a folder wheels/ beside this file, which
`python run.py workshop bundle` makes, it installs from there, without a network.
"""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
WHEELS = ROOT / "wheels"  # there in a bundle: see `python run.py workshop bundle --help`
OLDEST, NEWEST = (3, 11), (3, 14)

QUICK = "not slow and not scale and not browser"
TWO_AT_A_TIME = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]  # files of tests
COMMANDS = {
    "lab": ["-m", "jupyterlab", "--notebook-dir", str(ROOT)],
    "quick": ["-m", "pytest", "-q", *TWO_AT_A_TIME, "-m", QUICK, "--ignore=tests/system"],
    "tests": ["-m", "pytest", *TWO_AT_A_TIME],
    "benchmarks": ["-m", "benchmarks"],
    "execute": ["-m", "helpers.execute"],
    "translate": ["-m", "helpers.translations"],
    "site": ["-m", "website"],
    "workshop": ["-m", "workshop"],
    "doctor": ["-m", "helpers.doctor"],
    "repair": [],
}
# all other commands: requirements.txt
NEEDS = dict.fromkeys(("quick", "tests", "benchmarks", "site"), "tests/requirements.txt")

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


def call(arguments, variables=None):
    command = [str(argument) for argument in arguments]
    return subprocess.run(command, cwd=ROOT, env=variables or environment()).returncode


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


def this_platform():
    """This system and this Python's processor, in a bundle's words: `windows-x86_64`."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    machine = sysconfig.get_platform().rpartition("-")[2]
    if machine == "universal2":  # a Python for both kinds of Mac
        machine = platform.machine()
    return f"{system}-{machine.replace('amd64', 'x86_64')}"


def is_a_wheel(path):
    """Not what file managers leave in a folder: .DS_Store, ._torch.whl, Thumbs.db, desktop.ini."""
    return not path.name.startswith(".") and path.name not in ("Thumbs.db", "desktop.ini")


def check_bundle(requirements):
    """Refuse a bundle that is not for this machine, or whose wheels are not those of its list."""
    again = "Copy the whole folder again from where you got it, then repeat the command."
    sums, about = ROOT / "SHA256SUMS", ROOT / "bundle.json"
    if not sums.is_file() or not about.is_file():
        fail(
            "there is a folder wheels/ here without its list (SHA256SUMS, bundle.json), so this "
            f"bundle is not whole.\n{again}\nIf wheels/ is a folder of your own, rename it."
        )
    about = json.loads(about.read_text(encoding="utf-8"))
    version = ".".join(map(str, sys.version_info[:2]))
    if [this_platform(), version] not in about["targets"]:
        held = "\n".join(f"    {system}, Python {python}" for system, python in about["targets"])
        fail(
            f"this is {this_platform()}, Python {version}, and the bundle is for\n{held}\n"
            "Start it with one of those Pythons (START-HERE.html says how), or ask your teacher."
        )
    if requirements != "requirements.txt" and not about["tests"]:
        fail(
            f"the bundle does not hold what this command needs ({requirements}). It is made with "
            "`--with-tests`,\nor use the series from its repository, with a network."
        )
    print("run.py: checking the bundle's wheels ...", flush=True)
    lines = [line.partition("  ") for line in sums.read_text(encoding="utf-8").splitlines()]
    listed = {name: digest for digest, _, name in lines if name.startswith("wheels/")}
    there = {f"wheels/{path.name}": path for path in WHEELS.iterdir() if is_a_wheel(path)}
    wrong = [f"missing: {name}" for name in sorted(listed.keys() - there.keys())]
    wrong += [f"not in the list: {name}" for name in sorted(there.keys() - listed.keys())]
    for name in sorted(listed.keys() & there.keys()):
        with there[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != listed[name]:
                wrong.append(f"changed: {name}")
    if wrong:
        fail(
            "the bundle is damaged, and nothing was installed.\n    "
            + "\n    ".join(wrong)
            + f"\n{again}\nIf that does not help, the original is damaged: tell your teacher."
        )


def pip_install(requirements):
    """pip's exit status; in a bundle it gets the bundle's wheels and nothing else."""
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--requirement", requirements]
    if not WHEELS.is_dir():
        return call(command)
    variables = {name: v for name, v in environment().items() if not name.startswith("PIP_")}
    variables["PIP_CONFIG_FILE"] = os.devnull  # an index or a cache of this machine has no say
    return call([*command, "--no-index", "--find-links", WHEELS], variables)


def install(requirements):
    """Make `.venv` and install the pinned versions into it."""
    if WHEELS.is_dir():
        check_bundle(requirements)
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
    if pip_install(requirements):
        check = "there is room on the disk" if WHEELS.is_dir() else "you are online"
        fail(
            "the installation failed; the lines above say why. "
            f"Check that {check}, then run the same command again."
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
        started = Path(sys.orig_argv[0])
        python = started.name if shutil.which(started.name) else str(started)
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
        if WHEELS.is_dir():
            check_bundle("requirements.txt")  # or there would soon be no environment at all
        print("run.py: removing .venv", flush=True)
        shutil.rmtree(VENV)
    requirements = NEEDS.get(command, "requirements.txt")
    if not is_installed(requirements):
        install(requirements)
    if command == "repair":
        sys.exit(call([PYTHON, "-m", "helpers.doctor"]))
    if command == "tests":  # a hub of their own; without Node.js the tests that need it are skipped
        call([PYTHON, "-m", "workshop", "hub", "--install-only"])
    if command == "quick" and not any(Path(a.partition("::")[0]).exists() for a in arguments):
        arguments += ["tests", "helpers"]  # not the notebooks, which nbval would run
    try:
        sys.exit(call([PYTHON, *COMMANDS[command], *arguments]))
    except KeyboardInterrupt:  # Ctrl+C ends JupyterLab, which has already said so itself
        sys.exit(130)


if __name__ == "__main__":
    main()
