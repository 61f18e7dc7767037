"""Jupyter's side of the warm kernels: asks for a forked kernel, starts an ordinary one otherwise.

Installed in .venv-hub under the name `warm-kernels`; the hub's kernelspec names it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

SOCKET = "WORKSHOP_WARM_KERNELS"  # the variable that says where the warm process listens
SECONDS = 30  # until a busy warm process must have answered


class ForkedKernel:
    """A kernel that the warm process has forked, with the interface of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], folder: str, environment: dict[str, str]):
        """Ask for it.

        Raises:
            OSError: there is no warm process, or it does not answer.
            ValueError: the command is no ipykernel's.
        """
        arguments = command[command.index("ipykernel_launcher") + 1 :]
        asked = {"arguments": arguments, "folder": folder, "environment": environment}
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.settimeout(SECONDS)
        try:
            self._connection.connect(os.environ.get(SOCKET, ""))
            log = sys.__stderr__.fileno() if sys.__stderr__ else 2
            socket.send_fds(self._connection, [json.dumps(asked).encode()], [log])
            answer = self._connection.recv(4096)
            if not answer:
                raise ConnectionError("no kernel was started")
        except OSError:
            self._connection.close()
            raise
        self.pid: int = json.loads(answer)["pid"]

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._wait(0)

    def wait(self) -> int | None:
        """Exit status, once it has ended."""
        return self._wait(None)

    def _wait(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            self._connection.settimeout(seconds)
            try:
                answer = self._connection.recv(4096)
            except (BlockingIOError, TimeoutError):
                return None
            except OSError:
                answer = b""
            # without an answer the warm process has ended, and its kernels with it
            status = json.loads(answer)["exit"] if answer else 9
            self.returncode = os.waitstatus_to_exitcode(status)
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to a kernel that still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)


class WarmProvisioner(LocalProvisioner):
    """Starts kernels from the warm process where there is one."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        folder = str(kwargs.get("cwd") or Path.cwd())
        try:
            kernel = ForkedKernel(cmd, folder, kwargs["env"])
        except (OSError, ValueError) as error:
            self.log.warning("An ordinary kernel starts instead of a warm one: %s", error)
            return await super().launch_kernel(cmd, **kwargs)
        self.process: Any = kernel
        self.pid = self.pgid = kernel.pid
        self.cwd = folder
        return self.connection_info
