"""What a machine can carry: N learners log in to a hub at once and run a notebook to the end.

Each is a thread that does over HTTP and a websocket what a browser does: log in, start a server,
open the notebook, start a kernel, run every cell. The hub is one of its own on loopback, with
passwords and folders that are gone afterwards. The table goes to `output/`.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import json
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import websocket

from helpers.execute import OUTPUT, choose

from . import hub

MOST_LEARNERS, MOST_SECONDS = 60, 3600
MB = 2**20


@dataclass
class Visit:
    """What one learner met; times in seconds since this learner's start."""

    name: str
    server: float = 0.0
    first: float = 0.0  # the first cell's result
    last: float = 0.0
    cells: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass
class Row:
    """One line of the table; memory in MB (proportional set size), times in seconds."""

    notebook: str
    learners: int
    spread: float
    finished: int
    failures: list[str]
    first_median: float
    first_worst: float
    last_median: float
    last_worst: float
    server_mb: float
    kernel_mb: float
    total_mb: float
    used_mb: float
    swapped_mb: float
    cpu_seconds: float
    client_cpu_seconds: float
    ratio: float | None = None


class Browser:
    """One learner's requests to the hub: cookies, tokens against forged requests, redirects."""

    def __init__(self, url: str, name: str, deadline: float):
        self.url, self.name, self.deadline = url, name, deadline
        self.own = f"{url}/user/{name}"
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )
        self.opener.addheaders = [("Sec-Fetch-Mode", "navigate"), ("User-Agent", "load test")]

    def open(self, url: str, data: bytes | None = None, **headers: str) -> tuple[str, bytes]:
        """Address after redirects, and what it holds.

        Raises:
            OSError: no answer, or an error's status.
        """
        request = urllib.request.Request(url, data, headers)  # noqa: S310  # http, loopback
        with self.opener.open(request, timeout=self.left()) as answer:
            return answer.geturl(), answer.read()

    def left(self) -> float:
        """Seconds until the test must end.

        Raises:
            TimeoutError: none are left.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the time limit of the test")
        return seconds

    def token(self, path: str) -> str:
        """The token against forged requests that belongs to a path."""
        return next(c.value or "" for c in self.jar if c.name == "_xsrf" and c.path == path)

    def log_in(self, password: str) -> None:
        """Log in.

        Raises:
            PermissionError: the hub does not let this learner in.
        """
        self.open(f"{self.url}/hub/login")
        asked = {"username": self.name, "password": password, "_xsrf": self.token("/hub/")}
        try:
            self.open(f"{self.url}/hub/login?next=", urllib.parse.urlencode(asked).encode())
        except urllib.error.HTTPError as error:
            raise PermissionError(f"login as {self.name} refused ({error.code})") from error

    def start_server(self) -> None:
        """Wait until this learner's own server shows JupyterLab, and load its program."""
        self.open(f"{self.url}/hub/spawn/{self.name}")
        wanted = f"{self.own}/lab"
        while True:
            where, page = self.open(wanted)
            if where.startswith(wanted):
                break
            time.sleep(min(1.0, self.left()))
        for script in re.findall(rb'<script[^>]* src="([^"]+)"', page):
            self.open(urllib.parse.urljoin(self.url, script.decode()))

    def call(self, path: str, data: Any = None) -> Any:
        """An answer of the learner's server, from JSON; None if it says nothing more."""
        token = {"X-XSRFToken": self.token(f"/user/{self.name}/")}
        body = None if data is None else json.dumps(data).encode()
        _, text = self.open(
            f"{self.own}/api/{path}", body, **{**token, "Content-Type": "application/json"}
        )
        return json.loads(text) if text else None

    def start_kernel(self, path: str, kernel: str = "python3") -> str:
        """Open a notebook with a kernel; returns the kernel's id."""
        asked = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
        return self.call("sessions", asked)["kernel"]["id"]

    def connect(self, kernel: str) -> Channels:
        """A websocket to a kernel."""
        cookies = "; ".join(
            f"{c.name}={c.value}" for c in self.jar if f"/user/{self.name}/".startswith(c.path)
        )
        address = f"{self.own}/api/kernels/{kernel}/channels".replace("http:", "ws:", 1)
        return Channels(
            websocket.create_connection(
                address, timeout=self.left(), cookie=cookies, http_no_proxy=["*"]
            ),
            self,
        )


class Channels:
    """Cells sent to a kernel, and what they give."""

    def __init__(self, socket: websocket.WebSocket, browser: Browser):
        self.socket, self.browser, self.session = socket, browser, uuid.uuid4().hex

    def send(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send a message; returns its id."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": kind,
            "username": self.browser.name,
            "session": self.session,
            "version": "5.3",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps({**message, "channel": channel, "buffers": []}))
        return header["msg_id"]

    def answers(self, message_id: str) -> list[dict[str, Any]]:
        """All messages about one that was sent, until the kernel is idle and has replied."""
        found, open_ends = [], {"idle", "reply"}
        while open_ends:
            self.socket.settimeout(self.browser.left())
            raw = self.socket.recv()
            if isinstance(raw, bytes):
                if raw[:4] == b"":
                    raise ConnectionError("the kernel's connection was closed")
                raw = _text_of(raw)
            if not raw:
                raise ConnectionError("the kernel's connection was closed")
            message = json.loads(raw)
            if message["parent_header"].get("msg_id") != message_id:
                if message["content"].get("execution_state") in ("restarting", "dead"):
                    raise ConnectionError("the kernel died")
                continue
            found.append(message)
            if message["content"].get("execution_state") == "idle":
                open_ends.discard("idle")
            if message["msg_type"].endswith("_reply"):
                open_ends.discard("reply")
        return found

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run one cell; returns all messages about it."""
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": True}
        return self.answers(self.send("execute_request", {**content, "allow_stdin": False}))


def _text_of(frame: bytes) -> bytes:
    """The JSON part of a message with buffers, such as a chart's: offsets come first."""
    count = int.from_bytes(frame[:4], "big")
    ends = [int.from_bytes(frame[4 * i : 4 * i + 4], "big") for i in range(1, count + 1)]
    return frame[ends[0] : ends[1] if count > 1 else None]


def visit(browser: Browser, password: str, notebook: str, into: Visit) -> None:
    """Do what a learner does, from the login to the last cell; times and failures go to `into`."""
    begin = time.monotonic()

    def passed() -> float:
        return time.monotonic() - begin

    try:
        browser.log_in(password)
        browser.start_server()
        into.server = passed()
        path = f"notebooks/{notebook}"
        cells = browser.call(f"contents/{path}")["content"]["cells"]
        channels = browser.connect(browser.start_kernel(path))
        channels.answers(channels.send("kernel_info_request", {}))
        for cell in cells:
            if cell["cell_type"] != "code":
                continue
            for message in channels.run("".join(cell["source"])):
                if message["msg_type"] == "error":
                    content = message["content"]
                    into.failures.append(f"{cell['id']}: {content['ename']}: {content['evalue']}")
            into.cells += 1
            into.first = into.first or passed()
        into.last = passed()
    except (OSError, websocket.WebSocketException, StopIteration) as error:
        into.failures.append(f"after cell {into.cells}: {type(error).__name__}: {error}")


# --- measuring ------------------------------------------------------------------------------------


def proportional(process: psutil.Process) -> float:
    """Proportional set size in MB: pages that several processes share are divided among them."""
    try:
        return process.memory_full_info().pss / MB
    except (psutil.Error, AttributeError):  # gone, or no Linux
        return 0.0


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """What processes, and those they started that have ended, have computed."""
    total = 0.0
    for process in processes:
        try:
            total += sum(process.cpu_times()[:4] if len(process.cpu_times()) > 3 else ())
        except psutil.Error:
            continue
    return total


def used() -> float:
    """Memory of the machine that is not available to new programs, in MB."""
    memory = psutil.virtual_memory()
    return (memory.total - memory.available) / MB


class Watch(threading.Thread):
    """Largest memory and swap of the whole machine, once a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.memory, self.swap, self.swap_before = 0.0, 0.0, psutil.swap_memory().used

    def run(self) -> None:
        while not self.done.wait(1):
            self.memory = max(self.memory, used())
            self.swap = max(self.swap, (psutil.swap_memory().used - self.swap_before) / MB)


def measure(count: int, notebook: str, spread: float, limit: float, port: int, threads: int) -> Row:
    """One hub, `count` learners on it, one row of the table.

    Raises:
        CannotStart: the hub does not start.
    """
    names = hub.learners(count, None)
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        home = Path(folder).resolve() / "learners"
        hub.prepare(home, [*names, hub.ADMIN])
        with hub.running(home, names, port=port, threads=threads) as access:
            family = psutil.Process().children(recursive=True)
            before = cpu_seconds(family)
            own_before = cpu_seconds([psutil.Process()])
            watch = Watch()
            watch.start()
            deadline = time.monotonic() + limit
            visits = [Visit(name) for name in names]
            learners = []
            for position, one in enumerate(visits):
                browser = Browser(access["url"], one.name, deadline)
                learner = threading.Timer(
                    spread * position / max(1, count - 1),
                    visit,
                    (browser, access["password"], notebook, one),
                )
                learner.daemon = True
                learner.start()
                learners.append(learner)
            for learner in learners:
                learner.join()
            family = psutil.Process().children(recursive=True)
            after, own_after = cpu_seconds(family), cpu_seconds([psutil.Process()])
            watch.done.set()
            watch.join()
            servers = [p for p in family if "jupyterhub-singleuser" in " ".join(p.cmdline())]
            started = _kernels(family, servers)
            OUTPUT.mkdir(exist_ok=True)
            shutil.copyfile(home / ".hub" / "hub.log", OUTPUT / "load.log")
            sizes = [sum(map(proportional, group)) for group in (servers, started, family)]
    done = [one for one in visits if one.last and not one.failures]
    return Row(
        notebook=notebook,
        learners=count,
        spread=spread,
        finished=len(done),
        failures=[f"{one.name}, {failure}" for one in visits for failure in one.failures],
        first_median=statistics.median([one.first for one in visits]),
        first_worst=max(one.first for one in visits),
        last_median=statistics.median([one.last for one in visits]),
        last_worst=max(one.last for one in visits),
        server_mb=sizes[0] / count,
        kernel_mb=sizes[1] / count,
        total_mb=sizes[2],
        used_mb=watch.memory,
        swapped_mb=watch.swap,
        cpu_seconds=after - before,
        client_cpu_seconds=own_after - own_before,
    )


def _kernels(
    family: Sequence[psutil.Process], servers: Sequence[psutil.Process]
) -> list[psutil.Process]:
    """Kernels: what a server or the warm process has started."""
    parents = {process.pid for process in servers}
    parents |= {p.pid for p in family if "workshop.warm_kernels" in p.cmdline()}
    return [p for p in family if p.ppid() in parents and p not in servers]


# --- the table ------------------------------------------------------------------------------------

HEAD = (
    "learners | finished | first result, s: median / worst | last result, s: median / worst | "
    "worst wait : what must be computed | memory a learner, MB (server + kernel) | "
    "hub and all, MB | machine at most, MB | swap, MB | CPU, s"
)


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    lines = [f"| {HEAD} |", "|" + "---|" * (HEAD.count("|") + 1)]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells = [
            f"{row.learners}" + (f" over {row.spread:.0f} s" if row.spread else ""),
            f"{row.finished}",
            f"{row.first_median:.0f} / {row.first_worst:.0f}",
            f"{row.last_median:.0f} / {row.last_worst:.0f}",
            ratio,
            f"{row.server_mb + row.kernel_mb:.0f} ({row.server_mb:.0f} + {row.kernel_mb:.0f})",
            f"{row.total_mb:,.0f}",
            f"{row.used_mb:,.0f}",
            f"{row.swapped_mb:.0f}",
            f"{row.cpu_seconds:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the test; 1 if a learner did not finish, 2 if the hub cannot start."""
    parser = argparse.ArgumentParser(
        prog="run.py workshop load",
        description="Try what this machine carries: a hub on loopback, and learners who log in and "
        "run a notebook to the end, all at once. One learner is measured first, for comparison.",
    )
    add = parser.add_argument
    add("--learners", type=int, nargs="+", default=[30], metavar="N", help="several give a table")
    add("--notebook", default="02", help="which: its number (default 02)")
    add("--over", type=float, default=0, metavar="S", help="spread their starts over S seconds")
    add("--limit", type=float, default=1800, metavar="S", help="give up after S seconds")
    add("--port", type=int, default=8123, help="for the hub of the test (default 8123)")
    options = parser.parse_args(arguments)
    if not all(1 <= count <= MOST_LEARNERS for count in options.learners):
        parser.error(f"--learners takes 1 to {MOST_LEARNERS}")
    if not 0 < options.limit <= MOST_SECONDS or not 0 <= options.over < options.limit:
        parser.error(f"--limit takes up to {MOST_SECONDS} seconds, and --over less than that")
    (path,) = choose([options.notebook])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = hub.kernel_threads(max(options.learners))  # for one learner too: to be compared
    rows: list[Row] = []
    signal.signal(signal.SIGTERM, hub.stopped)
    try:
        hub.set_up()
        for count in sorted({1, *options.learners}):
            print(f"load: {count} of {path.name} ...", flush=True)
            hub.refuse_taken("127.0.0.1", options.port)
            spread = options.over if count > 1 else 0
            row = measure(count, path.name, spread, options.limit, options.port, threads)
            rows.append(row)
            if count > 1 and not spread:  # all at once: the cores have work all the time
                row.ratio = row.last_worst / (count * rows[0].cpu_seconds / (cores or 1))
            print(table([row]).splitlines()[-1], *row.failures[:5], sep="\n", flush=True)
    except hub.CannotStart as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nload: stopped; nothing is left running.")
        return 130
    name = f"load-{path.stem[:2]}"
    found = {
        "command": "python run.py workshop load " + " ".join(arguments),
        "cores": cores,
        "memory_mb": psutil.virtual_memory().total // MB,
        "rows": [asdict(row) for row in rows],
    }
    (OUTPUT / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (OUTPUT / f"{name}.md").write_text(table(rows) + "\n", encoding="utf-8")
    print(f"\n{table(rows)}\n\nAlso in output/{name}.md and .json; the hub's log: output/load.log")
    return int(any(row.finished < row.learners for row in rows))
