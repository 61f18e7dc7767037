"""The one way in which tests start a Python process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from helpers import PROJECT_ROOT


def run_python(
    *arguments: object,
    within: Sequence[str] = (),
    cwd: Path = PROJECT_ROOT,
    timeout: float = 120,
    **environment: str | None,
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS...` to its end; its output is captured as text.

    Args:
        within: a command that runs it, such as `unshare -rm sh -c '... exec "$0" "$@"'`, as a list.
        timeout: seconds; a process that takes longer is killed, and the test fails.
        environment: variables on top of those of this process; None unsets one.
    """
    return subprocess.run(
        _command(within, arguments), cwd=cwd, timeout=timeout, **_pipes(environment, stdin=False)
    )


def python(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run code, which may be indented, in a new Python process; options as for `run_python`."""
    return run_python("-c", textwrap.dedent(code), *arguments, **options)


@contextmanager
def started(
    code: str,
    *arguments: object,
    within: Sequence[str] = (),
    cwd: Path = PROJECT_ROOT,
    **environment: str | None,
) -> Iterator[subprocess.Popen[str]]:
    """Start code and go on beside it; stdin, stdout and stderr are pipes. Killed at the end."""
    command = _command(within, ("-c", textwrap.dedent(code), *arguments))
    process = subprocess.Popen(command, cwd=cwd, **_pipes(environment, stdin=True))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(
    condition: Callable[[], Any], *, seconds: float = 60, alive: subprocess.Popen | None = None
) -> Any:
    """Ask twenty times a second until the answer is true, and return it.

    Raises:
        AssertionError: the time was up, or the process `alive` ended before.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        assert alive is None or alive.poll() is None, alive.communicate()
        time.sleep(0.05)
    return answer


def family(pid: int) -> list[psutil.Process]:
    """All processes that a process started, and those that they started."""
    return psutil.Process(pid).children(recursive=True)


def survivors(processes: Sequence[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Those that still run after at most so many seconds."""
    return psutil.wait_procs(processes, timeout=seconds)[1]


def _command(within: Sequence[str], arguments: Sequence[object]) -> list[str]:
    return [*within, sys.executable, *map(str, arguments)]


def _pipes(environment: dict[str, str | None], *, stdin: bool) -> dict[str, Any]:
    variables = {**os.environ, **environment}
    return {
        "env": {name: value for name, value in variables.items() if value is not None},
        "stdin": subprocess.PIPE if stdin else subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
