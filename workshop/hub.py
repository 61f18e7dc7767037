"""One machine for the room: JupyterHub, without root or Docker, and one command.

JupyterHub and its proxy live in `.venv-hub`, installed at the first start; kernels run in `.venv`.
Learners' folders, and the hub's own files in `.hub`, are in `learners/`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

import psutil

from helpers import PROJECT_ROOT
from helpers.execute import NOTEBOOKS

from . import confine
from .copy import Update

HERE = PROJECT_ROOT / "workshop"
VENV = PROJECT_ROOT / ".venv-hub"
PYTHON = VENV / "bin" / "python"
PROXY = VENV / "node_modules" / ".bin" / "configurable-http-proxy"
REQUIREMENTS = HERE / "hub-requirements.txt"
SOURCES = (REQUIREMENTS, HERE / "package.json", HERE / "package-lock.json")

CACHE = PROJECT_ROOT / ".cache"  # where the notebooks keep what they have computed
ADMIN = "teacher"
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is mistaken for another on paper
SECONDS_TO_START, SECONDS_TO_STOP = 120, 20
IDLE_KERNEL, IDLE_SERVER = 30 * 60, 2 * 60 * 60  # seconds
#: What a learner's server would load, and a workshop does not need.
WITHOUT = ("jupyter_lsp", "jupyter_server_terminals", "notebook_shim")
SERVER = {
    "ServerApp": {
        "jpserver_extensions": dict.fromkeys(WITHOUT, False),
        "allow_root": True,  # the hub itself has asked
    },
    "LabApp": {"extension_manager": "readonly"},  # no list of extensions from the network
    # sockets in files: two learners' kernels cannot choose the same port, nor others reach them
    "KernelManager": {"transport": "ipc" if sys.platform == "linux" else "tcp"},
    "MappingKernelManager": {"cull_idle_timeout": IDLE_KERNEL, "cull_interval": 60},
}


class CannotStart(Exception):
    """The hub cannot run here as asked; the message says why, and what to type next."""


# --- the environment ------------------------------------------------------------------------------


def fingerprint() -> str:
    """Changes when `.venv-hub` has to be installed again."""
    digest = hashlib.sha256(f"{sys.version}\n{PROJECT_ROOT}".encode())
    for path in (*SOURCES, PROJECT_ROOT / "requirements.txt"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_installed() -> bool:
    """Whether `.venv-hub` is complete and fits the files that it is made from."""
    stamp = VENV / "installed.sha256"
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == fingerprint()


def set_up() -> None:
    """Make `.venv-hub` unless it is there, and let its JupyterLab start this project's kernels.

    Raises:
        CannotStart: it cannot be made.
    """
    if not is_installed():
        install()
    _register()


def install() -> None:
    """Make `.venv-hub`: JupyterHub by pip, its proxy by npm, both in pinned versions.

    Raises:
        CannotStart: Node.js is missing, or the packages cannot be had.
    """
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise CannotStart(
                f"{program} is missing; the hub's proxy needs Node.js 20 or newer, with npm. "
                "On Debian and Ubuntu: sudo apt install nodejs npm   "
                "On macOS: brew install node   Then type this command again."
            )
    print("hub: installing into .venv-hub (first time: a minute or two, 0.4 GB) ...", flush=True)
    if VENV.exists():
        shutil.rmtree(VENV)
    _run([sys.executable, "-m", "venv", str(VENV)], "python")
    pinned = (PROJECT_ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    constraints = VENV / "constraints.txt"
    constraints.write_text("\n".join(line for line in pinned if "==" in line), encoding="utf-8")
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, "--requirement", str(REQUIREMENTS), "--constraint", str(constraints)], "pip")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, VENV / name)
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    _run(["npm", "ci", "--prefix", str(VENV), *quiet], "npm")
    (VENV / "installed.sha256").write_text(fingerprint(), encoding="utf-8")
    print("hub: installed. From now on it starts without a network.", flush=True)


def _run(command: list[str], program: str) -> None:
    """Run a program of the installation.

    Raises:
        CannotStart: it failed.
    """
    quiet = {"NO_UPDATE_NOTIFIER": "1", "npm_config_update_notifier": "false"}
    if subprocess.run(command, cwd=PROJECT_ROOT, env={**os.environ, **quiet}).returncode:
        raise CannotStart(
            f"{program} could not install the hub; its last lines above say why. The first start "
            "needs a network, and the servers that packages come from. With one, type this again."
        )


def _register() -> None:
    """Give JupyterLab in `.venv-hub` the kernels of `.venv`, and how to start them."""
    share = VENV / "share" / "jupyter"
    kernel = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "metadata": {"debugger": True, "kernel_provisioner": {"provisioner_name": "warm-kernels"}},
        # without warm kernels: threads that wait should sleep; see helpers/__init__.py
        "env": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000", "OMP_NUM_THREADS": "1"},
    }
    _write(share / "kernels" / "python3" / "kernel.json", json.dumps(kernel, indent=1))
    news = {"fetchNews": "false", "checkForUpdates": False}
    overrides = {"@jupyterlab/apputils-extension:notification": news}
    _write(share / "lab" / "settings" / "overrides.json", json.dumps(overrides, indent=1))
    _write(VENV / "etc" / "jupyter" / "jupyter_server_config.json", json.dumps(SERVER, indent=1))
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([PYTHON, "-c", where], capture_output=True, text=True, check=True)
    packages = Path(found.stdout.strip())
    _write(packages / "workshop.pth", f"{PROJECT_ROOT}\n")
    info = packages / "workshop_hub-0.dist-info"
    _write(info / "METADATA", "Metadata-Version: 2.1\nName: workshop-hub\nVersion: 0\n")
    entry = "warm-kernels = workshop.provisioner:WarmProvisioner"
    _write(info / "entry_points.txt", f"[jupyter_client.kernel_provisioners]\n{entry}\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- learners -------------------------------------------------------------------------------------


def learners(count: int, names: Path | None) -> list[str]:
    """Names to log in with: `learner01` to `learnerNN`, or those of a file, one a line.

    Raises:
        CannotStart: the file cannot be read, or a name is no folder name or there twice.
    """
    if names is None:
        if not 1 <= count <= 99:
            raise CannotStart(f"--learners takes 1 to 99, not {count}.")
        return [f"learner{number:02}" for number in range(1, count + 1)]
    try:
        lines = names.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"{names} cannot be read as UTF-8 text ({error}).") from None
    found = [line.strip().lower() for line in lines if line.strip()]
    for name in found:
        if not re.fullmatch("[a-z][a-z0-9_-]{0,30}", name) or name == ADMIN:
            raise CannotStart(
                f"{name!r} in {names} cannot be a name: take a to z, 0 to 9, - and _, "
                f"a letter first, at most 31, and not {ADMIN!r}."
            )
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise CannotStart(f"{', '.join(twice)} in {names} more than once: names must differ.")
    if not found:
        raise CannotStart(f"{names} holds no names: write one a line.")
    return found


def password(length: int) -> str:
    """Random, and easy to type from a board: groups of four."""
    letters = "".join(secrets.choice(LETTERS) for _ in range(length))
    return "-".join(letters[i : i + 4] for i in range(0, length, 4))


def put_notebooks(folder: Path) -> None:
    """Give a learner working copies of the notebooks, or update them; says which could not be."""
    folder.mkdir(exist_ok=True)
    update = Update(NOTEBOOKS, folder)
    with redirect_stdout(io.StringIO()):
        update.run()
    if update.failed:
        print(f"hub: the lines above are about {folder}; all other folders are ready.")


def prepare(home: Path, names: Sequence[str]) -> int:
    """Make the folder of each learner, readable by nobody else; returns how many were there."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    (home / ".hub").mkdir(mode=0o700, exist_ok=True)
    CACHE.mkdir(exist_ok=True)
    known = 0
    for name in names:
        folder = home / name
        known += folder.exists()
        (folder / ".tmp").mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        put_notebooks(folder / "notebooks")
    return known


# --- the hub --------------------------------------------------------------------------------------


def refuse_taken(address: str, port: int) -> None:
    """Say so when the hub cannot listen there.

    Raises:
        CannotStart: the port is taken, reserved, or the address is not this machine's.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CannotStart(
                f"the hub cannot listen on {address}, port {port} ({reason}). Another hub may be "
                f"running: stop it with Ctrl+C where it was started. Or take another port: "
                f"python run.py workshop hub --port {port + 1 if port < 65_000 else 8000}"
            ) from None


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def addresses(address: str) -> list[str]:
    """What learners may type to reach a hub that listens on `address`."""
    if address not in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        return [address]
    found = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not entry.address.startswith("127.")
    ]
    return found or ["127.0.0.1"]


def server_command(home: Path, sockets: Path, *, confined: bool) -> list[str]:
    """What starts a learner's server, with `{home}` for the learner's folder."""
    server = str(VENV / "bin" / "jupyterhub-singleuser")
    if sys.platform != "linux":
        return [server]
    own_home = Path.home().resolve()
    hidden = [home] + [own_home] * (own_home != Path("/") and not home.is_relative_to(own_home))
    visible = [sockets, PROJECT_ROOT, *map(Path, (sys.prefix, sys.base_prefix))]
    inside = [path for path in dict.fromkeys(visible) if path.is_relative_to(own_home)]
    options = [f"--hide={path}" for path in hidden]
    options += [f"--keep={path}" for path in dict.fromkeys([PROJECT_ROOT, *inside])]
    options += [f"--own={CACHE}", f"--own={sockets / 'run'}"]
    how = options if confined else ["--open"]
    return [str(PYTHON), "-I", str(HERE / "confine.py"), "{home}", *how, "--", server]


def kernel_threads(count: int) -> int:
    """Threads of torch in each kernel; together not many more than the machine has cores."""
    return max(1, (os.cpu_count() or 1) // count)


@contextmanager
def warm_kernels(folder: Path, threads: int, log: Path) -> Iterator[str]:
    """The socket of a process that forks kernels; empty where there is none."""
    if sys.platform != "linux":
        print("hub: every kernel starts by itself: sharing needs Linux. Expect 1 GB each.")
        yield ""
        return
    address = folder / "warm"
    command = [sys.executable, "-m", "workshop.warm_kernels", str(address)]
    with log.open("ab") as messages:
        process = subprocess.Popen(
            [*command, f"--threads={threads}"],
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            start_new_session=True,
        )
    try:
        while process.poll() is None and not address.exists():
            time.sleep(0.1)
        is_ready = process.poll() is None
        if not is_ready:
            print(
                f"hub: kernels share no memory, because the process that would start them failed "
                f"({log} says why). Each takes 1 GB and starts 5 s later; all else works."
            )
        yield str(address) if is_ready else ""
    finally:
        process.kill()
        process.communicate()


@contextmanager
def running(
    home: Path,
    names: Sequence[str],
    *,
    address: str = "127.0.0.1",
    port: int = 8000,
    threads: int = 1,
) -> Iterator[dict[str, str]]:
    """A hub that answers: its URL and passwords. When the block ends, all it started has ended.

    Raises:
        CannotStart: it does not come up; the message names its log.
    """
    hub = home / ".hub"
    log = hub / "hub.log"
    with tempfile.TemporaryDirectory(prefix="hub-") as scratch:
        sockets = Path(scratch).resolve()
        (sockets / "run").mkdir()
        confined = not confine.why_not()
        with warm_kernels(sockets, threads, log) as warm:
            url = f"http://{'127.0.0.1' if address == '0.0.0.0' else address}:{port}"  # noqa: S104
            words = {"password": password(8), "admin_password": password(32)}
            settings = {
                **words,
                "hub": str(hub),
                "home": str(home),
                "address": address,
                "port": port,
                "ports": free_ports(2),
                "proxy": [str(PROXY)],
                "learners": list(names),
                "admin": ADMIN,
                "warm": warm,
                "run": str(sockets / "run"),
                "command": server_command(home, sockets, confined=confined),
                "idle": IDLE_SERVER,
            }
            with log.open("ab") as messages:
                log.chmod(0o600)
                process = subprocess.Popen(
                    [PYTHON, "-m", "jupyterhub", "--config", str(HERE / "hub_config.py")],
                    cwd=hub,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.PIPE,
                    stdout=messages,
                    stderr=messages,
                    start_new_session=True,  # Ctrl+C comes here; this ends it
                )
            try:
                with process.stdin as pipe:  # type: ignore[union-attr]  # it is one
                    pipe.write(json.dumps(settings).encode())
                _wait_until_up(process, url, log)
                yield {
                    "url": url,
                    **words,
                    "pid": str(process.pid),
                    "warm": warm,
                }
                if process.poll() is not None:
                    raise CannotStart(f"the hub has ended by itself; {log} says why.")
            finally:
                _stop(process)


def _wait_until_up(process: subprocess.Popen, url: str, log: Path) -> None:
    import urllib.request

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), direct.open(f"{url}/hub/health", timeout=5):
            return
        time.sleep(0.2)
    last = "".join(log.read_text(encoding="utf-8", errors="replace").splitlines(True)[-5:])
    raise CannotStart(f"the hub does not answer. The end of {log}:\n{last}")


def _stop(process: subprocess.Popen) -> None:
    """End the hub, which ends its servers and its proxy; what has not ended by then is killed."""
    family = [process]
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
    if process.poll() is None:
        process.terminate()
    _, left = psutil.wait_procs(family, timeout=SECONDS_TO_STOP)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


# --- the command ----------------------------------------------------------------------------------


def refuse_root(allowed: bool) -> None:
    """As JupyterLab does.

    Raises:
        CannotStart: the hub was started as root, and nobody said that this is meant.
    """
    if os.geteuid() == 0 and not allowed:
        raise CannotStart(
            "you are root. The hub needs no root: start it as an ordinary user. In a container, or "
            "on a machine that holds nothing but this workshop: "
            "python run.py workshop hub --allow-root"
        )


def announce(home: Path, names: Sequence[str], known: int, access: dict[str, str], at: str) -> None:
    """Say where the hub is, who gets in, and who can see what."""
    port = access["url"].rpartition(":")[2]
    places = "   or   ".join(f"http://{address}:{port}" for address in addresses(at))
    people = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
    new = "" if not known else "   (new: those of the last start no longer work)"
    print(
        f"""
Open in a browser:   {places}
Learners:            {people}   ({len(names)}; a folder each in {home})
Their password:      {access["password"]}{new}
Yours:               {ADMIN}, password {access["admin_password"]}
Who is running:      {access["url"]}/hub/admin   (log in as {ADMIN}; stop servers there)

The passwords are stored nowhere: write them down. They change at the next start; folders stay.
{f"Folders used again: {known}." if known else "All folders are new."}
"""
    )
    if reason := confine.why_not():
        print(
            f"NOT SEPARATED: {reason}.\nAll learners run as your system user: with a cell, each "
            "can read, change and delete the\nfiles of every other, and yours. Keep nothing here "
            "that the room may not see."
        )
    else:
        print(
            "Each learner's cells see only the learner's own folder and, read-only, the series. "
            "They do not\nsee other learners' folders or your home folder. But all learners share "
            "one password, so one can\nlog in under another's name, and all processes belong to "
            "your system user, so a cell can end those\nof others. Trust the room that far."
        )
    if (PROJECT_ROOT / ".env").exists():
        print(
            "\nYour .env is read by every learner's notebooks: a key in it is a key for the room."
        )
    if at == "127.0.0.1":
        print("\nOnly this machine reaches it. For the room: --address 0.0.0.0")
    else:
        print(
            f"\nEXPOSED: everyone on the network that {at} belongs to, such as the whole Wi-Fi, "
            "reaches the login page.\nIt is plain HTTP: passwords and everything typed travel "
            "unencrypted, and anyone on the way can read\nthem. Whoever logs in runs programs on "
            "this machine. Use a network of your own, and stop the hub\nafterwards."
        )
    print(
        f"\nStop: Ctrl+C (notebooks stay as last saved). Log: {home / '.hub' / 'hub.log'}",
        flush=True,
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py workshop hub",
        description="Start JupyterHub on this machine for a room: learners need only a browser. "
        "Linux or macOS, without root or Docker; Node.js is needed for its proxy. The first start "
        "installs it into .venv-hub and needs a network, later ones do not.",
    )
    add = parser.add_argument
    add("--learners", type=int, default=30, metavar="N", help="learner01 to learnerNN (default 30)")
    add(
        "--names",
        type=Path,
        metavar="FILE",
        help="instead: a file of names to log in with, one a line",
    )
    add(
        "--address",
        default="127.0.0.1",
        help="where to listen: 0.0.0.0 for the whole network (default: this machine only)",
    )
    add("--port", type=int, default=8000, help="default 8000")
    add(
        "--home",
        type=Path,
        default=PROJECT_ROOT / "learners",
        metavar="FOLDER",
        help="learners' folders (default: learners/ in the project's folder)",
    )
    add("--allow-root", action="store_true", help="in a container, where there is no other user")
    add("--install-only", action="store_true", help="make .venv-hub, and start nothing")
    return parser


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Run a hub until Ctrl+C; 2 if it cannot start."""
    options = parser().parse_args(arguments)
    try:
        if os.name == "nt":
            raise CannotStart(
                "JupyterHub does not run on Windows. Use a machine with Linux or macOS, or WSL on "
                "this one. On each learner's own Windows: python run.py lab"
            )
        if options.install_only:
            set_up()
            return 0
        refuse_root(options.allow_root)
        names = learners(options.learners, options.names)
        refuse_taken(options.address, options.port)
        set_up()
        home = options.home.expanduser().resolve()
        known = prepare(home, [*names, ADMIN])
        signal.signal(signal.SIGTERM, stopped)
        threads = kernel_threads(len(names))
        with running(
            home, names, address=options.address, port=options.port, threads=threads
        ) as access:
            announce(home, names, known, access, options.address)
            process = psutil.Process(int(access["pid"]))
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(1)
    except CannotStart as error:
        print(f"hub: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nhub: stopped; learners' folders are as they were last saved.")
    return 0
