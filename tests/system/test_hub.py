"""A Hub that refuses, is silent, breaks off or alters files; a full disk, a read-only cache."""

import hashlib
import json
import os
import shutil
import socket
import textwrap
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers import artifacts, files
from helpers.settings import CLEAN_ENVIRONMENT
from tests.support.hub import FILES, Hub
from tests.support.linux import mounted, needs_mount
from tests.support.processes import python, started


def test_the_hub_source_reads_the_pinned_revision_from_the_hubs_cache(tmp_path):
    repo = tmp_path / f"models--{artifacts.MINILM.repo_id.replace('/', '--')}"
    shutil.copytree(
        artifacts.bundled_directory(artifacts.MINILM),
        repo / "snapshots" / artifacts.MINILM.revision,
    )
    hub = {"EMBEDDINGS_SOURCE": "hub", "HF_HUB_CACHE": str(tmp_path)}
    code = "from helpers import artifacts; print(artifacts.load_encoder().encode('bank').shape)"
    done = python(code, **CLEAN_ENVIRONMENT | hub)
    assert done.stdout.strip() == "(384,)", done.stderr


LOCATE = """
    from helpers import artifacts
    directory = artifacts.locate(artifacts.MINILM)
    print("from", "the Hub" if "snapshots" in directory.parts else "the package")
"""


@pytest.fixture
def hub():
    with Hub() as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        yield server
        server.half_sent.set()
        server.shutdown()


def hub_environment(cache, url, **more):
    """Variables of a kernel that takes its models from the Hub at `url`, without any proxy."""
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    hub = {
        "EMBEDDINGS_SOURCE": "hub",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_CACHE": str(cache),
        "HF_ENDPOINT": url,
    }
    return {**dict.fromkeys(proxies), **CLEAN_ENVIRONMENT, **hub, **more}


def with_hub(code, cache, url, *, within=(), **more):
    """Run code in a kernel that takes its models from the Hub at `url`, for at most 15 s."""
    return python(code, within=within, timeout=15, **hub_environment(cache, url, **more))


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def half_written(cache):
    """Files in the cache that are not whole: partial files, and those with unpublished bytes."""
    parts = [path.name for path in cache.rglob("*") if path.suffix in (".incomplete", ".part")]
    snapshots = cache.glob("*/snapshots/*")
    wrong = [
        n
        for folder in snapshots
        for n, sha in artifacts.MINILM.files.items()
        if (folder / n).is_file() and files.sha256(folder / n) != sha
    ]
    return parts + wrong


def test_a_healthy_hub_delivers_the_published_files_and_is_asked_once(hub, tmp_path):
    done = with_hub(LOCATE, tmp_path, hub.url)
    assert done.stdout == "from the Hub\n", done.stderr
    hub.status = 500
    assert with_hub(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n", "the cache needs no Hub"


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


def test_a_hub_that_refuses_is_reported_and_the_bundled_copy_used(tmp_path):
    assert_bundled(with_hub(LOCATE, tmp_path, nobody()), "ConnectError")


def test_a_hub_that_never_answers_is_given_up_within_15_seconds(hub, tmp_path):
    hub.silent = True
    assert_bundled(with_hub(LOCATE, tmp_path, hub.url), "no answer within 8 seconds")


@pytest.mark.parametrize(("status", "why"), [(401, "401"), (404, "404"), (503, "503")])
def test_a_hub_that_turns_us_away_is_reported_with_its_status(hub, tmp_path, status, why):
    hub.status = status
    assert_bundled(with_hub(LOCATE, tmp_path, hub.url), why)


@pytest.mark.parametrize("call", ["cde.load_cde()", "retrieval.load_fiqa()"])
def test_another_model_or_other_data_never_replaces_what_was_asked_for(tmp_path, call):
    done = with_hub(f"from helpers import cde, retrieval\n{call}", tmp_path, nobody())
    assert done.returncode == 1 and done.stdout == ""
    assert "OutOfReach: " in last_line(
        done
    ) and "set EMBEDDINGS_SOURCE=bundled and restart the kernel" in last_line(done)


def test_a_proxy_that_points_nowhere_is_named_and_its_password_is_not(tmp_path):
    proxy = nobody().replace("//", "//me:planted-password@")
    done = with_hub(LOCATE, tmp_path, "http://hub.example", HTTP_PROXY=proxy)
    assert_bundled(done, "the proxy in HTTP_PROXY may be the reason")
    assert "planted-password" not in done.stdout + done.stderr


def test_offline_mode_is_named(tmp_path):
    assert_bundled(
        with_hub(LOCATE, tmp_path, nobody(), HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE is set"
    )


def test_files_with_other_bytes_are_an_error_and_never_replaced(hub, tmp_path):
    hub.altered = True
    for _ in range(2):  # the second time they lie in the cache
        done = with_hub(LOCATE, tmp_path, hub.url)
        assert done.returncode == 1 and done.stdout == ""
        assert "model.safetensors (90,868,376 bytes) is not the published file" in last_line(
            done
        ), last_line(done)
        assert "Fix it: hf cache rm model/sentence-transformers/all-MiniLM-L6-v2" in last_line(done)


def test_a_download_cut_in_half_is_resumed(hub, tmp_path):
    hub.cut = 2
    assert with_hub(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"
    assert hub.cut == 0 and half_written(tmp_path) == []


def test_a_download_that_keeps_breaking_off_leaves_no_partial_file(hub, tmp_path):
    hub.cut = 100
    assert_bundled(with_hub(LOCATE, tmp_path, hub.url), "RemoteProtocolError")
    assert half_written(tmp_path) == []
    hub.cut = 0
    assert with_hub(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"


def test_after_a_kill_during_a_download_the_next_run_finishes(hub, tmp_path):
    hub.pause = 60
    with started(LOCATE, **hub_environment(tmp_path, hub.url)):
        assert hub.half_sent.wait(15)
    hub.pause = 0
    assert with_hub(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"
    assert not [name for name in half_written(tmp_path) if not name.endswith(".incomplete")]


def test_what_another_program_left_in_the_hubs_cache_stays_there(hub, tmp_path):
    """Programs share the cache, and huggingface_hub alone knows which parts are still in use."""
    blobs = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / "of-another-program.incomplete"
    part.write_bytes(b"half")
    os.utime(part, (time.time() - 2 * files.STALE_SECONDS,) * 2)
    assert with_hub(LOCATE, tmp_path, hub.url).stdout == "from the Hub\n"
    assert part.read_bytes() == b"half"


def test_a_slow_download_is_not_given_up(hub, tmp_path):
    hub.pause = 3
    done = with_hub(
        "from helpers import artifacts\nartifacts.HUB_SECONDS = 2" + textwrap.dedent(LOCATE),
        tmp_path,
        hub.url,
    )
    assert done.stdout == "from the Hub\n", done.stdout + done.stderr


@needs_mount
def test_a_full_disk_is_reported_and_with_room_the_next_run_finishes(hub, tmp_path):
    """One namespace, two runs: on a disk of 20 MB, and after it grew."""
    steps = [
        f'mount -t tmpfs -o size=20m tmpfs "{tmp_path}"',
        '"$0" "$@"',
        f'find "{tmp_path}" -name "*.incomplete" -size +0',
        f'mount -o remount,size=300m "{tmp_path}"',
        '"$0" "$@"',
    ]
    within = ["unshare", "-rm", "sh", "-c", " && ".join(steps)]
    done = python(LOCATE, within=within, timeout=30, **hub_environment(tmp_path, hub.url))
    *first, again = done.stdout.splitlines()
    assert "the disk is full. Free some space, or set HF_HOME" in first[0], (
        done.stdout + done.stderr
    )
    assert first[2:] == ["from the package"] and again == "from the Hub", done.stderr


@needs_mount
def test_a_cache_that_cannot_be_written_is_reported(hub, tmp_path):
    within = mounted("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", tmp_path)
    assert_bundled(
        with_hub(LOCATE, tmp_path, hub.url, within=within),
        "the Hub's cache cannot be written. Set HF_HOME to a folder of your own",
    )


@needs_mount
def test_a_read_only_cache_that_has_the_files_is_enough(hub, tmp_path):
    assert with_hub(LOCATE, tmp_path, hub.url).returncode == 0
    within = mounted("--bind", "-o", "ro", tmp_path, tmp_path)
    assert with_hub(LOCATE, tmp_path, nobody(), within=within).stdout == "from the Hub\n"


RECORD = """
    import sys, time
    from pathlib import Path
    from helpers import artifacts
    files, book, repos = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    for repo in repos:
        artifacts.record(repo, files, book=book)
"""


@pytest.mark.skipif(
    os.name == "nt",
    reason="Windows replaces no open file: the second kernel warns and does not record",
)
def test_kernels_that_record_at_once_leave_a_record_that_can_be_read(tmp_path):
    files, book = FILES / "1_Pooling", tmp_path / "hub.json"
    with ExitStack() as stack:
        kernels = [
            stack.enter_context(started(RECORD, files, book, *(f"{k}/{i}" for i in range(50))))
            for k in range(3)
        ]
        errors = [kernel.communicate(timeout=30)[1] for kernel in kernels]
        assert [kernel.returncode for kernel in kernels] == [0, 0, 0], errors
    sha = hashlib.sha256((files / "config.json").read_bytes()).hexdigest()
    assert all(
        found["config.json"] == sha
        for found in json.loads(book.read_text(encoding="utf-8")).values()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["hub.json"]


@needs_mount
def test_a_record_that_cannot_be_written_is_reported_and_the_files_used(tmp_path):
    code = f"""
        from pathlib import Path
        from helpers import artifacts
        book = Path({str(tmp_path)!r}) / "hub.json"
        print(len(artifacts.record("a/b", Path({str(FILES)!r}), book=book)))
    """
    within = mounted("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", tmp_path)
    done = with_hub(code, tmp_path, nobody(), within=within)
    assert (
        int(done.stdout) > 10
        and "The hashes of a/b could not be recorded (Read-only file system)" in done.stderr
    )
    assert Path(tmp_path).exists()
