"""What only Linux offers to tests: mounting file systems."""

import shlex
import shutil
import subprocess

import pytest


def can_mount():
    """Whether a process may mount in a namespace of its own; the mounts end with it."""
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


def mounted(*arguments):
    """A command after which Python runs in a namespace where `mount ARGUMENTS...` has been done."""
    mount = shlex.join(["mount", *map(str, arguments)])
    return ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" "$@"']


needs_mount = pytest.mark.skipif(
    not can_mount(),
    reason="a small disk needs Linux and the right to mount (root, or user namespaces)",
)
