"""One process that has imported what the notebooks need, and forks a kernel on request.

    python -m workshop.warm_kernels SOCKET [--threads N]

A forked kernel starts at once and shares the imports and the models with all others: only what it
changes takes memory of its own. It listens on a Unix socket; a request is one message, a JSON
object with the kernel's arguments, folder and environment, and a file for its messages. The answers
are the kernel's process and, when it has ended, its exit status. A kernel runs confined as the
process that asked for it, and ends with it. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import confine

MOST_BYTES = 200_000  # of a request
#: Read when libraries are loaded; a thread that runs at the time of a fork would be lost in it.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # look for a GPU without starting to use it
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a warning that no learner can act on
}
#: The main one, and one of pyarrow's allocator, which expects forks.
SAFE_THREADS = ("python", "jemalloc_bg_thd")
IMPORTS = (
    "helpers.session",
    "helpers.exercises",
    "helpers.projection",
    "helpers.token_map",
    "helpers.retrieval",
    "helpers.cde",
    "sentence_transformers",
    "sklearn.neighbors",
    "datasets",
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "ipywidgets",
    "helpers.tables",
    "openTSNE",
    "PIL.PngImagePlugin",
    "sqlite3",
    "vegafusion",
    "vl_convert",
)


#: Bytes by which a kernel may grow; a cell that needs more gets a MemoryError, and it alone.
ROOM = 3 * 2**30


def warm_up() -> None:
    """Import and load what every notebook needs, as its first cells would."""
    from helpers import artifacts, cde, settings
    from helpers.device import pick_device

    settings.load_env()
    if settings.source() == "bundled":
        os.environ["HF_HUB_OFFLINE"] = "1"  # as session.start() does, before it is read
    for name in IMPORTS:
        importlib.import_module(name)
    if settings.source() == "bundled" and pick_device().type == "cpu":
        artifacts.load_encoder()
        cde.load_mini_cde()


def threads() -> list[str]:
    """Names of this process's threads."""
    tasks = Path("/proc/self/task")
    return sorted((task / "comm").read_text().strip() for task in tasks.iterdir())


def data_kilobytes() -> int:
    """What counts against the limit of this process's data."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line
    )
    return int(line.split()[1])


@dataclass
class Kernel:
    """A kernel, and the connection over which it was asked for."""

    pid: int
    connection: socket.socket


@dataclass
class Request:
    """What a learner's server wants started: arguments, folder and environment of a kernel."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    log: int  # file for its messages
    peer: int  # the server's process

    @classmethod
    def receive(cls, connection: socket.socket) -> Request:
        """Read one from a connection.

        Raises:
            ValueError: it is incomplete.
        """
        raw, numbers, _, _ = socket.recv_fds(connection, MOST_BYTES, 1)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        try:
            asked = json.loads(raw)
            return cls(
                asked["arguments"],
                asked["folder"],
                asked["environment"],
                log=numbers[0],
                peer=struct.unpack("3i", credentials)[0],
            )
        except (LookupError, TypeError) as error:
            raise ValueError(f"no request: {error}") from error


def serve(listener: socket.socket) -> Request:
    """Fork a kernel for every request. Returns only in a forked process, with its request."""
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            source, kernel = key.fileobj, key.data
            if source is listener:
                waiting.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            waiting.unregister(source)
            if isinstance(kernel, Kernel) and source is kernel.connection:
                with suppress(ProcessLookupError):  # its server is gone
                    os.killpg(kernel.pid, signal.SIGKILL)
            elif isinstance(kernel, Kernel) and isinstance(source, int):
                os.close(source)
                _, status = os.waitpid(kernel.pid, 0)
                with suppress(OSError, KeyError):
                    waiting.unregister(kernel.connection)
                    kernel.connection.send(json.dumps({"exit": status}).encode())
                kernel.connection.close()
            elif isinstance(source, socket.socket):
                try:
                    request = Request.receive(source)
                except (OSError, ValueError):
                    source.close()
                    continue
                pid = os.fork()
                if pid == 0:
                    for other in [source, *(key.fileobj for key in waiting.get_map().values())]:
                        if isinstance(other, socket.socket):
                            other.close()
                        elif isinstance(other, int):
                            os.close(other)
                    waiting.close()
                    return request
                os.close(request.log)
                kernel = Kernel(pid, source)
                waiting.register(source, selectors.EVENT_READ, kernel)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, kernel)
                with suppress(OSError):
                    source.send(json.dumps({"pid": pid}).encode())


def renew_bars() -> None:
    """Let progress bars be widgets: when tqdm was imported, this was no kernel yet."""
    plain = sys.modules["tqdm.auto"].tqdm
    for name in ("tqdm.auto", "tqdm.autonotebook"):
        sys.modules.pop(name, None)
    fitting = importlib.import_module("tqdm.auto").tqdm
    for module in filter(None, [*sys.modules.values()]):
        if vars(module).get("tqdm") is plain:
            vars(module)["tqdm"] = fitting


def give_back(_: object) -> None:
    """Return freed memory to the machine, where thirty kernels share it, and not to this kernel."""
    ctypes.CDLL(None).malloc_trim(0)


def become(request: Request, threads: int) -> None:
    """Turn this forked process into the kernel that was asked for; returns when it has ended."""
    import ipywidgets
    import numpy as np
    import torch
    from ipykernel.kernelapp import IPKernelApp
    from IPython import get_ipython

    os.setsid()  # an interrupt reaches the kernel and what it started
    confine.join(request.peer)
    confine.die_with_parent()
    Path("/proc/self/oom_score_adj").write_text("500")  # should memory run out: this one first
    for number in (1, 2):
        os.dup2(request.log, number)
    os.close(request.log)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    del sys.path[0]  # the folder that this module is in, which no other kernel has
    sys.argv = ["ipykernel_launcher", *request.arguments]
    random.seed()
    np.random.seed()  # the state that every learner would share
    torch.set_num_threads(threads)
    sys.modules["ray"] = None  # type: ignore[assignment]  # thirty clusters on one machine
    limit = ROOM + 1024 * data_kilobytes()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    kernel = IPKernelApp.instance()
    kernel.initialize(request.arguments)
    ipywidgets.load_ipython_extension(get_ipython())
    renew_bars()
    get_ipython().events.register("post_run_cell", give_back)
    kernel.start()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="workshop.warm_kernels", description=__doc__)
    parser.add_argument("socket", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each kernel")
    options = parser.parse_args(arguments)
    confine.die_with_parent()
    os.environ.update(ENVIRONMENT)
    warm_up()
    if unexpected := [name for name in threads() if name not in SAFE_THREADS]:
        sys.exit(f"kernels cannot be forked: threads are running ({', '.join(unexpected)})")
    gc.collect()
    gc.freeze()  # the collector would write to pages that are shared
    os.umask(0o077)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(options.socket))
    listener.listen(128)
    become(serve(listener), options.threads)


if __name__ == "__main__":
    main(sys.argv[1:])
