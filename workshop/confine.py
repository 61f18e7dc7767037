"""Let a learner's processes see no other learner's files: namespaces of Linux, without root.

All learners run as the system user who started the hub, so ordinary permissions do not separate
them. `python confine.py HOME --hide FOLDER ... --keep FOLDER ... -- COMMAND` runs a command that
sees the hidden folders empty, apart from HOME, and may only read the kept ones. In the place of a
folder named by `--own` it sees one of HOME's. It needs nothing but the standard library, because
two environments run it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18  # MS_...
LOCKED = 2 | 4 | 8 | 1024 | 2048  # nosuid, nodev, noexec, noatime, nodiratime: must be kept
RELATIME_FLAG, RELATIME = 4096, 1 << 21  # what statvfs says, what mount takes
DEATH_SIGNAL, DUMPABLE, NO_NEW_PRIVILEGES = 1, 4, 38  # PR_SET_...
OWN = ".own"  # folder of HOME that holds what is seen elsewhere
CAPABILITY_VERSION = 0x20080522


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library.

    Raises:
        OSError: it failed.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    texts = (source, str(target), kind)
    _call("mount", *map(os.fsencode, texts), ctypes.c_ulong(flags), os.fsencode(options))


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Let the kernel end this process when the one that started it ends, however that happens."""
    _call("prctl", DEATH_SIGNAL, number, 0, 0, 0)


def _drop_privileges() -> None:
    """Give up what a new namespace has granted; without it, the mounts cannot be undone."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("prctl", DUMPABLE, 1, 0, 0, 0)  # as before: its own user may measure its memory


def enter(home: Path, hidden: Sequence[Path], kept: Sequence[Path], own: Sequence[Path]) -> None:
    """Put this process, which must have one thread, and all it starts under the rules above.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", NEW_USER | NEW_MOUNTS)
    Path("/proc/self/setgroups").write_text("deny")
    # never root inside: capabilities go with the next program that is started
    Path("/proc/self/uid_map").write_text(f"{user or 1000} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group or 1000} {group} 1")
    _mount("none", Path("/"), "", RECURSIVE | PRIVATE)
    # before anything is hidden: where things are now
    sources = {path: path for path in [*kept, home]}
    for path in own:
        sources[path] = home / OWN / path.name
        sources[path].mkdir(parents=True, exist_ok=True)
    places = {path: os.open(source, os.O_PATH) for path, source in sources.items()}
    for path in sorted({*hidden, *places}, key=lambda path: len(path.parts)):
        if path not in places:
            _mount("tmpfs", path, "tmpfs", 0, "mode=755,size=1m")
            continue
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{places[path]}", path, "", BIND | RECURSIVE)
        os.close(places[path])
        if path in kept:
            _read_only(path)
    for path in hidden:
        _read_only(path)
    os.chdir(home)
    _drop_privileges()


def _read_only(path: Path) -> None:
    flags = os.statvfs(path).f_flag
    kept = flags & LOCKED | (RELATIME if flags & RELATIME_FLAG else 0)
    _mount("none", path, "", REMOUNT | BIND | READ_ONLY | kept)


def join(pid: int) -> None:
    """Put this process, which must have one thread, where process `pid` of the same user is.

    Raises:
        OSError: that process has ended, or belongs to somebody else.
    """
    kinds = {"user": NEW_USER, "mnt": NEW_MOUNTS}
    theirs = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in kinds}
    if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
        for kind, number in theirs.items():
            _call("setns", number, kinds[kind])
        _drop_privileges()
    for number in theirs.values():
        os.close(number)


def why_not() -> str:
    """Why this system does not separate learners, in words; empty if it does. It is tried out."""
    if sys.platform != "linux":
        return "only Linux has the namespaces that this needs"
    with tempfile.TemporaryDirectory() as folder:
        own, other = Path(folder, "own"), Path(folder, "other")
        for path in (own, other):
            path.mkdir()
            (path / "note").touch()
        look = f"import os; print(os.listdir({folder!r}), os.listdir({str(own)!r}))"
        command = [sys.executable, __file__, str(own), "--hide", folder, "--"]
        tried = subprocess.run(
            [*command, sys.executable, "-c", look], capture_output=True, text=True
        )
    if tried.returncode == 0 and tried.stdout.split("\n")[0] == "['own'] ['note']":
        return ""
    last = (tried.stderr.strip().splitlines() or ["its folders stayed visible"])[-1]
    return f"user namespaces are switched off or restricted here ({last})"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--hide", type=Path, action="append", default=[])
    parser.add_argument("--keep", type=Path, action="append", default=[])
    parser.add_argument("--own", type=Path, action="append", default=[])
    parser.add_argument("--open", action="store_true", help="hide nothing, only end with the hub")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if not options.open:
        try:
            enter(options.home, options.hide, options.keep, options.own)
        except OSError as error:
            sys.exit(f"confine.py: {error}")
    die_with_parent(signal.SIGTERM)
    os.execvp(options.command[0], options.command)  # noqa: S606  # the hub's own command line


if __name__ == "__main__":
    main(sys.argv[1:])
