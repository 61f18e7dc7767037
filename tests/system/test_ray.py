"""A corpus on a running Ray: the vectors of one process, and nothing mixed, lost or done twice.

All tests that need Ray stand here, so that one Ray serves them. Starting it takes eight processes.
"""

import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.cde import CDE, Context, encode_corpus, ray_encode, read_vectors
from tests.support.letters import IMPORTABLE, Broken, Deadly, Letters
from tests.support.processes import family, started, survivors, wait_until

pytestmark = pytest.mark.scale

TINY = partial(CDE.load, Path(__file__).parents[1] / "fixtures" / "cde" / "bert")
IDS = [f"p{i}" for i in range(50)]
PASSAGES = [
    {"_id": name, "title": None if i % 3 else f"Title {i}", "text": f"passage {i} " * (i % 7)}
    for i, name in enumerate(IDS)
]  # some are empty
TEXTS = [f"{row['title'] or ''} {row['text']}".strip() for row in PASSAGES]
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
named = pytest.mark.skipif(os.name == "nt", reason="Ray gives its processes no names there")


@pytest.fixture(autouse=True, scope="module")
def nobodys_cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def ray():
    """A Ray that runs before and after, as on a cluster. It is started and ended as by a call."""
    ray = ray_encode.import_ray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", IMPORTABLE["PYTHONPATH"])  # its workers inherit it
        with ray_encode._running(ray):
            yield ray
            processes = family(os.getpid())
    assert not survivors(processes, seconds=30), "Ray outlived the call that started it"


def write_source(folder):
    """The passages in two Parquet files of several row groups."""
    folder.mkdir()
    for name, rows in (("a", PASSAGES[:31]), ("b", PASSAGES[31:])):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", row_group_size=7)
    return folder


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "source")


def encode(source, out, **changed):
    """In one worker, with a model that is there at once."""
    usual = {"model": Letters, "workers": 1, "threads": 1, "block_rows": 8, "progress": False}
    return encode_corpus(source, out, **{**usual, **changed})


@pytest.fixture(scope="module")
def encoded(ray, tmp_path_factory):
    """Summary, source and vectors of one run with the tiny CDE: for reading only."""
    folder = tmp_path_factory.mktemp("encoded")
    source = write_source(folder / "source")
    return encode(source, folder / "out", model=TINY, seed=3), source, folder / "out"


@pytest.fixture
def begun(encoded, tmp_path):
    """A source and a folder of its vectors, to be changed: copies of `encoded`."""
    _, source, out = encoded
    return (
        shutil.copytree(source, tmp_path / "source"),
        shutil.copytree(out, tmp_path / "out"),
    )


def assert_same(out, vectors):
    ids, read = read_vectors(out)
    assert ids == IDS
    assert np.abs(np.asarray(read) - vectors).max() < 1e-5
    assert read.context == vectors.context
    assert not list(out.glob("*.part"))


# Killed: first a driver with a Ray of its own, then a worker of the run that resumes, on a cluster.

DRIVER = """
    import sys
    from functools import partial
    from pathlib import Path
    from helpers.cde import encode_corpus
    from tests.support.letters import Waiting
    source, out, files, gate = sys.argv[1:]
    model = partial(Waiting, Path(out), int(files), Path(gate))
    done = encode_corpus(source, out, model=model, workers=2, threads=1, block_rows=4)
    print(done.rows, done.encoded)
"""


@pytest.fixture(scope="session")
def orphans():
    """Processes whose driver was killed. Two of Ray's agents notice only after a minute, so they
    are waited for when all other tests are done."""
    processes = []
    yield processes
    left = survivors(processes, seconds=120)
    assert not left, f"outlived their killed driver, in tests/system/test_ray.py: {left}"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Where the two runs read and write; until the gate is there they wait in the middle."""
    folder = tmp_path_factory.mktemp("killed")
    source = write_source(folder / "source")
    return SimpleNamespace(source=source, out=folder / "out", gate=folder / "gate")


def drive(job, files, **environment):
    """Encode, and wait once there are so many files."""
    return started(DRIVER, job.source, job.out, files, job.gate, **IMPORTABLE, **environment)


def until_both_wait(job, driver, files):
    """Until both workers stand in the middle of a block."""

    def both_wait():
        parts = list(job.out.glob("*.parquet.*.part"))
        return len(parts) == 2 and len(list(job.out.glob("*.parquet"))) >= files

    wait_until(both_wait, seconds=120, alive=driver)


def workers(processes):
    """Those that hold the model, by Ray Data's name for them."""
    found = []
    for process in processes:
        try:
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # ended meanwhile
            continue
    return found


def addresses(pid):
    """Where a process and those that it started listen."""
    connections = [
        connection
        for process in [psutil.Process(pid), *family(pid)]
        for connection in process.net_connections("inet")
    ]
    return {found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN}


def stored(out):
    """Each finished file, with what would change if it were written again, and its rows."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, pq.read_metadata(path).num_rows)
        for path in out.glob("*.parquet")
    }


@pytest.fixture(scope="module")
def killed_driver(job, orphans):
    """What was seen of a driver that was killed while both its workers were at work."""
    seen = SimpleNamespace()
    with drive(job, files=3, RAY_ADDRESS=None) as driver:
        until_both_wait(job, driver, files=3)
        seen.addresses = addresses(driver.pid)
        processes = family(driver.pid)
        orphans += processes
        driver.kill()
    seen.workers_left = survivors(workers(processes), seconds=30)
    seen.finished = stored(job.out)
    with pytest.raises(ValueError) as seen.unfinished:
        read_vectors(job.out)
    return seen


@pytest.fixture(scope="module")
def killed_worker(job, killed_driver, ray):
    """What was seen of the run that resumed on the cluster, one of whose workers was killed."""
    seen = SimpleNamespace(jobs=len(ray._private.state.jobs()))
    address = ray.get_runtime_context().gcs_address
    files = len(killed_driver.finished) + 2
    with drive(job, files, RAY_ADDRESS=address) as driver:
        until_both_wait(job, driver, files)
        if os.name != "nt":
            victim, other = workers(family(os.getpid()))
            victim.kill()
            wait_until(lambda: set(workers(family(os.getpid()))) - {victim, other}, alive=driver)
            seen.replaced = not victim.is_running() and other.is_running()
        job.gate.touch()
        seen.printed, seen.log = driver.communicate(timeout=120)
    seen.new_jobs = len(ray._private.state.jobs()) - seen.jobs
    return seen


def test_after_a_killed_driver_finished_blocks_are_told_from_missing_ones(killed_driver):
    assert len(killed_driver.finished) >= 3 and not killed_driver.workers_left
    assert "blocks are missing" in str(killed_driver.unfinished.value)


def test_a_ray_of_our_own_listens_on_this_machine_alone(killed_driver):
    assert killed_driver.addresses and killed_driver.addresses <= LOOPBACK


def test_after_a_killed_driver_the_finished_blocks_are_not_done_again(
    job, killed_driver, killed_worker
):
    finished = sum(rows for *_, rows in killed_driver.finished.values())
    assert killed_worker.printed.split()[-2:] == ["50", str(50 - finished)], killed_worker.log
    now = stored(job.out)
    assert {name: now[name] for name in killed_driver.finished} == killed_driver.finished


@named
def test_a_worker_killed_in_the_middle_is_replaced(killed_worker):
    assert killed_worker.replaced, killed_worker.log


def test_after_a_driver_and_a_worker_were_killed_nothing_is_lost_or_doubled(job, killed_worker):
    context = Context.load(job.out / "context.safetensors")
    texts = ["".join(map(chr, ids)) for ids in context.tokens]
    assert texts == [TEXTS[IDS.index(name)] for name in context.ids]
    assert_same(job.out, Letters().encode_documents(TEXTS, context))


def test_ray_address_names_the_cluster_that_works(killed_worker):
    assert killed_worker.new_jobs == 1


# What it makes.


def test_on_a_running_ray_the_vectors_equal_those_of_one_process(ray, encoded):
    summary, _, out = encoded
    model = TINY()
    context = model.embed_context(TEXTS, seed=3, ids=IDS)
    assert "" in TEXTS and len(context) == 12 < len(TEXTS)
    assert (summary.rows, summary.encoded, summary.workers) == (50, 50, 1)
    assert_same(out, model.encode_documents(TEXTS, context))
    assert pq.read_schema(out / "00000000.parquet").field("vector").type == pa.list_(
        pa.float32(), model.dimension
    )
    assert ray.is_initialized()


def test_a_given_context_and_none_give_the_vectors_of_one_process(ray, source, tmp_path):
    model = Letters()
    context = model.embed_context(TEXTS[5:12])
    for name, given in (("with", context), ("without", None)):
        encode(source, tmp_path / name, context=given, kind="query", block_rows=32)
        assert_same(tmp_path / name, model.encode_queries(TEXTS, given))
    assert np.abs(model.encode_queries(TEXTS, context) - model.encode_documents(TEXTS)).max() > 0.1


# Resuming, and refusing to.


def test_other_vectors_are_refused_and_what_is_there_stays(begun):
    source, out = begun
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = TINY().embed_context(["another corpus"])
    card = partial(TINY, variant="card")
    for changed, message in (
        ({"context": other}, "another context.*Give the same context"),
        ({"context": None}, "another context"),
        ({"model": card, "context": None}, "another model"),
        ({"model": card}, "context was made by"),
        ({"kind": "query"}, "another kind"),
        ({"block_rows": 9}, "another block_rows .8, now 9"),
    ):
        with pytest.raises(ValueError, match=message):
            encode(source, out, **{"model": TINY, **changed})
    (source / "c.jsonl").write_text('{"_id": "new", "text": "one more"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="another source"):
        encode(source, out, model=TINY)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_missing_or_truncated_block_is_reported_and_encoded_again(begun):
    source, out = begun
    complete = np.array(read_vectors(out)[1])
    os.truncate(out / "00000002.parquet", 500)
    with pytest.raises(
        ValueError, match="00000002.parquet .*truncated or damaged.*encode_corpus again"
    ):
        read_vectors(out)
    (out / "00000003.parquet").unlink()
    with pytest.raises(ValueError, match="1 of 7 blocks are missing, first 00000003"):
        read_vectors(out)
    assert encode(source, out, model=TINY).encoded == 8 + 7  # block 3 ends the first file
    assert np.array_equal(read_vectors(out)[1], complete)
    (out / "00000001.parquet").write_bytes((out / "00000000.parquet").read_bytes())
    with pytest.raises(ValueError, match="50 rows and 42 ids instead of 50"):
        read_vectors(out)


# What goes wrong.


def test_more_workers_than_there_are_cores_are_refused(ray, source, tmp_path):
    cpus = int(ray.cluster_resources()["CPU"])
    with pytest.raises(
        ValueError,
        match=f"{cpus + 1} workers with num_cpus=1 were asked for, but Ray has {cpus} CPUs",
    ):
        encode(source, tmp_path / "out", workers=cpus + 1)


def test_what_goes_wrong_in_a_worker_keeps_its_message(ray, source, tmp_path):
    with pytest.raises(RuntimeError, match="config.json is missing from nowhere/"):
        encode(source, tmp_path / "out", model=partial(CDE.load, "nowhere"))
    with pytest.raises(TypeError, match="must load a ContextualEncoder.*not a str"):
        encode(source, tmp_path / "out", model=str)
    with pytest.raises(
        RuntimeError, match="a worker failed: TypeError: 'NoneType' object is not callable"
    ):
        encode(source, tmp_path / "out", model=Broken)


def test_texts_that_kill_every_worker_end_in_an_error_and_not_in_a_loop(ray, source, tmp_path):
    with pytest.raises(
        RuntimeError,
        match="a worker failed: MemoryError: 4 workers died on block 0.*smaller batch_size",
    ):
        encode(source, tmp_path / "out", model=Deadly)
