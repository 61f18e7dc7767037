"""The Hub out of order: a server on loopback that refuses, is silent, cuts or alters files; a full disk, a read-only cache."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers import PROJECT_ROOT, artifacts, files
from helpers.settings import CLEAN_ENVIRONMENT

FILES = artifacts.bundled_directory(artifacts.MINILM)
WEIGHTS = "model.safetensors"
LOCATE = """
    from helpers import artifacts
    directory = artifacts.locate(artifacts.MINILM)
    print("from", "the Hub" if "snapshots" in directory.parts else "the package")
"""


class Hub(ThreadingHTTPServer):
    """Serves MiniLM's real files as the Hub does: an answer about the revision, its tree, HEAD and GET (with ranges) of every file."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 200  # of everything
        self.silent = False  # takes connections, never answers
        self.altered = False  # the weights have one other byte
        self.cut = 0  # so many answers with the weights stop half way
        self.pause = 0.0  # seconds in the middle of the weights
        self.half_sent = threading.Event()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server
        if hub.silent:
            hub.half_sent.wait(60)
        path = self.path.split("?")[0]
        if hub.status != 200:
            return self.say(b"{}", hub.status)
        if "/tree/" in path:
            tree = [
                {
                    "type": "file",
                    "path": name,
                    "size": (FILES / name).stat().st_size,
                    "oid": artifacts.MINILM.files[name][:40],
                }
                for name in artifacts.MINILM.files
            ]
            return self.say(json.dumps(tree).encode())
        if "/resolve/" in path:
            return self.file(path.split("/resolve/")[1].split("/", 1)[1])
        return self.say(
            json.dumps(
                {"id": artifacts.MINILM.repo_id, "sha": artifacts.MINILM.revision, "siblings": []}
            ).encode()
        )

    do_HEAD = do_GET

    def say(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def file(self, name):
        hub, data = self.server, (FILES / name).read_bytes()
        headers = {
            "ETag": f'"{artifacts.MINILM.files[name]}"',
            "X_Repo_Commit": artifacts.MINILM.revision,
        }
        if name != WEIGHTS or self.command == "HEAD":
            return self.say(data, **headers)
        if hub.altered:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        rest = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        half = 0 if start and hub.cut else len(rest) // 2  # the second time not a byte: no progress
        self.wfile.write(rest[:half])
        hub.half_sent.set()
        if hub.cut:
            hub.cut -= 1
            self.close_connection = True
            return None
        time.sleep(hub.pause)
        return self.wfile.write(rest[half:])


@pytest.fixture
def hub():
    with Hub() as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        yield server
        server.half_sent.set()
        server.shutdown()


def settings(cache, url, **more):
    environment = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    return environment | CLEAN_ENVIRONMENT | {
        "EMBEDDINGS_SOURCE": "hub", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_CACHE": str(cache), "HF_ENDPOINT": url, **more,
    }  # fmt: skip


def python(code, cache, url, *, within=(), **more):
    """Run code as a kernel would that takes its models from the Hub at `url`; at most 15 s, or the test fails."""
    command = [*within, sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=settings(cache, url, **more),
        cwd=PROJECT_ROOT,
        timeout=15,
    )


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def half_written(cache):
    """Files in the cache that are not whole: parts, and files of other bytes than the published ones."""
    parts = [path.name for path in cache.rglob("*") if path.suffix in (".incomplete", ".part")]
    snapshots = cache.glob("*/snapshots/*")
    wrong = [
        n
        for folder in snapshots
        for n, sha in artifacts.MINILM.files.items()
        if (folder / n).is_file() and files.sha256(folder / n) != sha
    ]
    return parts + wrong


def test_a_hub_that_is_well_delivers_the_published_files_and_is_asked_once(hub, tmp_path):
    done = python(LOCATE, tmp_path, hub.url)
    assert done.stdout == "from the Hub\n", done.stderr
    hub.status = 500
    assert python(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n", "the cache needs no Hub"


def nobody():
    """A loopback address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def assert_bundled(done, why):
    first, second, third = done.stdout.splitlines()
    assert "all-MiniLM-L6-v2 could not be fetched from the Hub: " in first and why in first, first
    assert "run this cell again, or use the bundled copy: set EMBEDDINGS_SOURCE=bundled" in first
    assert (second, third) == (
        "Using the bundled copy, which has the same bytes.",
        "from the package",
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_hub_that_refuses_is_said_and_the_bundled_copy_taken(tmp_path):
    assert_bundled(python(LOCATE, tmp_path, nobody()), "ConnectError")


def test_a_hub_that_takes_the_call_and_never_answers_is_given_up_within_15_seconds(hub, tmp_path):
    hub.silent = True
    assert_bundled(python(LOCATE, tmp_path, hub.url), "no answer within 8 seconds")


@pytest.mark.parametrize(("status", "why"), [(401, "401"), (404, "404"), (503, "503")])
def test_a_hub_that_turns_us_away_is_said_with_its_status(hub, tmp_path, status, why):
    hub.status = status
    assert_bundled(python(LOCATE, tmp_path, hub.url), why)


@pytest.mark.parametrize("call", ["cde.load_cde()", "retrieval.load_fiqa()"])
def test_what_is_another_model_or_other_data_is_not_replaced_but_asked_for(tmp_path, call):
    done = python(f"from helpers import cde, retrieval\n{call}", tmp_path, nobody())
    assert done.returncode == 1 and done.stdout == ""
    assert "OutOfReach: " in last_line(
        done
    ) and "set EMBEDDINGS_SOURCE=bundled and restart the kernel" in last_line(done)


def test_a_proxy_that_points_nowhere_is_named_and_its_password_is_not(tmp_path):
    proxy = nobody().replace("//", "//me:planted-password@")
    done = python(LOCATE, tmp_path, "http://hub.example", HTTP_PROXY=proxy)
    assert_bundled(done, "the proxy in HTTP_PROXY may be the reason")
    assert "planted-password" not in done.stdout + done.stderr


def test_offline_mode_is_named(tmp_path):
    assert_bundled(python(LOCATE, tmp_path, nobody(), HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE is set")


def test_other_bytes_are_an_error_and_never_replaced_silently(hub, tmp_path):
    hub.altered = True
    for _ in range(2):  # the second time they lie in the cache
        done = python(LOCATE, tmp_path, hub.url)
        assert done.returncode == 1 and done.stdout == ""
        assert "model.safetensors (90,868,376 bytes) is not the published file" in last_line(
            done
        ), last_line(done)
        assert "Fix it: hf cache rm model/sentence-transformers/all-MiniLM-L6-v2" in last_line(done)


def test_a_download_cut_in_half_is_resumed(hub, tmp_path):
    hub.cut = 2
    assert python(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"
    assert hub.cut == 0 and half_written(tmp_path) == []


def test_a_download_cut_again_and_again_leaves_nothing_half_and_the_next_run_finishes(
    hub, tmp_path
):
    hub.cut = 100
    assert_bundled(python(LOCATE, tmp_path, hub.url), "RemoteProtocolError")
    assert half_written(tmp_path) == []
    hub.cut = 0
    assert python(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"


def test_after_a_kill_during_a_download_the_next_run_finishes(hub, tmp_path):
    hub.pause = 60
    killed = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LOCATE)],
        env=settings(tmp_path, hub.url),
        cwd=PROJECT_ROOT,
    )
    assert hub.half_sent.wait(15)
    killed.kill()
    killed.wait()
    hub.pause = 0
    assert python(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"
    assert not [name for name in half_written(tmp_path) if not name.endswith(".incomplete")]


def test_what_another_program_left_in_the_hubs_cache_stays_there(hub, tmp_path):
    """Programs share the cache, and huggingface_hub alone knows which parts are still in use."""
    blobs = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / "of-another-program.incomplete"
    part.write_bytes(b"half")
    os.utime(part, (time.time() - 2 * files.STALE_SECONDS,) * 2)
    assert python(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"
    assert part.read_bytes() == b"half"


def test_a_slow_download_is_not_given_up(hub, tmp_path):
    hub.pause = 3
    done = python(
        "from helpers import artifacts\nartifacts.HUB_SECONDS = 2" + textwrap.dedent(LOCATE),
        tmp_path,
        hub.url,
    )
    assert done.stdout == "from the Hub\n", done.stdout + done.stderr


def can_mount():
    """Whether a process may mount in a namespace of its own; the mounts end with it."""
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


needs_mount = pytest.mark.skipif(
    not can_mount(),
    reason="a small disk needs Linux and the right to mount (root, or user namespaces)",
)


@needs_mount
def test_a_full_disk_is_said_nothing_half_stays_and_with_room_the_next_run_finishes(hub, tmp_path):
    """One namespace, two runs: on a disk of 20 MB, and after it grew."""
    run = f'"{sys.executable}" -c "$0"'
    look = f'find "{tmp_path}" -name "*.incomplete" -size +0'
    script = f'mount -t tmpfs -o size=20m tmpfs "{tmp_path}" && {run} && {look} && mount -o remount,size=300m "{tmp_path}" && {run}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, textwrap.dedent(LOCATE)], capture_output=True, text=True, env=settings(tmp_path, hub.url), cwd=PROJECT_ROOT, timeout=30,
    )  # fmt: skip
    *first, again = done.stdout.splitlines()
    assert "the disk is full. Free some space, or set HF_HOME" in first[0], (
        done.stdout + done.stderr
    )
    assert first[2:] == ["from the package"] and again == "from the Hub", done.stderr


@needs_mount
def test_a_cache_that_cannot_be_written_is_said(hub, tmp_path):
    within = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        f'mount -t tmpfs -o ro,size=1m tmpfs "{tmp_path}" && exec "$0" "$@"',
    ]
    assert_bundled(
        python(LOCATE, tmp_path, hub.url, within=within),
        "the Hub's cache cannot be written. Set HF_HOME to a folder of your own",
    )


@needs_mount
def test_a_read_only_cache_that_has_the_files_needs_neither_hub_nor_pen(hub, tmp_path):
    assert python(LOCATE, tmp_path, hub.url).returncode == 0
    within = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        f'mount --bind -o ro "{tmp_path}" "{tmp_path}" && exec "$0" "$@"',
    ]
    assert python(LOCATE, tmp_path, nobody(), within=within).stdout == "from the Hub\n"


RECORD = """
    import sys, time
    from pathlib import Path
    from helpers import artifacts
    files, book, repos = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    for repo in repos:
        artifacts.record(repo, files, book=book)
"""


def test_a_damaged_record_is_named_with_what_to_do(tmp_path):
    book = tmp_path / "hub.json"
    for damaged in (b'{"a": {"com', b"[1]", b"\xff\xfe"):
        book.write_bytes(damaged)
        with pytest.raises(
            artifacts.ArtifactError, match=r"hub\.json.* is damaged.*remove \.cache/hub\.json"
        ):
            artifacts.record("a/b", FILES / "1_Pooling", book=book)
        assert book.read_bytes() == damaged, "what was recorded is not thrown away"


@pytest.mark.skipif(
    os.name == "nt",
    reason="Windows replaces no open file: the second kernel warns and does not record",
)
def test_kernels_that_record_at_once_leave_a_record_that_can_be_read(tmp_path):
    files, book = FILES / "1_Pooling", tmp_path / "hub.json"
    kernels = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(RECORD),
                str(files),
                str(book),
                *(f"{k}/{i}" for i in range(50)),
            ],
            cwd=PROJECT_ROOT,
        )
        for k in range(3)
    ]
    assert [kernel.wait(30) for kernel in kernels] == [0, 0, 0]
    sha = hashlib.sha256((files / "config.json").read_bytes()).hexdigest()
    assert all(
        found["config.json"] == sha
        for found in json.loads(book.read_text(encoding="utf-8")).values()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["hub.json"]


@needs_mount
def test_a_record_that_cannot_be_written_is_said_and_the_files_are_used(tmp_path):
    within = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        f'mount -t tmpfs -o ro,size=1m tmpfs "{tmp_path}" && exec "$0" "$@"',
    ]
    code = f"from pathlib import Path\nfrom helpers import artifacts\nprint(len(artifacts.record('a/b', Path({str(FILES)!r}), book=Path({str(tmp_path)!r}) / 'hub.json')))"
    done = python(code, tmp_path, nobody(), within=within)
    assert (
        int(done.stdout) > 10
        and "The hashes of a/b could not be recorded (Read-only file system)" in done.stderr
    )
    assert Path(tmp_path).exists()
