"""A corpus on Ray Data: the vectors of one process, whatever dies on the way."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import PROJECT_ROOT, retrieval
from helpers.cde import CDE, encode_corpus, load_mini_cde, read_vectors

pytestmark = pytest.mark.scale

COUNTRY = PROJECT_ROOT / "data" / "country"
TINY = partial(CDE.load, Path(__file__).parent / "fixtures" / "cde" / "bert")
PASSAGES = [
    {"_id": i, "title": None if i % 3 else f"Title {i}", "text": f"passage {i} " * (i % 7)}
    for i in range(50)
]  # some are empty


@pytest.fixture(autouse=True)
def nobodys_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(scope="module")
def ray():
    """A Ray that runs before and after, as on a cluster."""
    import ray

    ray.init(
        "local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def parquet(tmp_path):
    """50 passages in two Parquet files of several row groups, and the same in one process."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, rows in (("a", PASSAGES[:31]), ("b", PASSAGES[31:])):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", row_group_size=7)
    return folder


def tiny(source, out, **changed):
    """The tiny model in one worker: quick."""
    return encode_corpus(
        source,
        out,
        **{
            "model": TINY,
            "workers": 1,
            "threads": 1,
            "block_rows": 8,
            "progress": False,
            **changed,
        },
    )


def lines(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def alone():
    """Ids and vectors of `data/country`, encoded in this process."""
    corpus = retrieval.load_beir(COUNTRY)[0]
    model, texts = load_mini_cde(), retrieval.texts(corpus)
    return list(corpus["_id"]), model.encode_documents(
        texts, model.embed_context(texts, ids=corpus["_id"])
    )


def assert_same(out, alone):
    ids, vectors = read_vectors(out)
    assert ids == alone[0]
    assert np.abs(np.asarray(vectors) - alone[1]).max() < 1e-5
    assert vectors.context == alone[1].context
    assert not list(out.glob("*.part"))


# What it makes.


def test_on_a_running_ray_the_vectors_equal_those_of_one_process(ray, parquet, tmp_path):
    model, texts = TINY(), [f"{row['title'] or ''} {row['text']}".strip() for row in PASSAGES]
    context = model.embed_context(texts, seed=3, ids=[str(i) for i in range(50)])
    assert "" in texts and len(context) == 12 < len(texts)
    summary = tiny(parquet, tmp_path / "out", seed=3)
    assert (summary.rows, summary.encoded) == (50, 50)
    assert_same(
        tmp_path / "out", ([str(i) for i in range(50)], model.encode_documents(texts, context))
    )
    assert pq.read_schema(tmp_path / "out" / "00000000.parquet").field("vector").type == pa.list_(
        pa.float32(), model.dimension
    )
    assert ray.is_initialized()


def test_a_context_that_was_given_and_none_at_all_give_those_of_one_process(ray, tmp_path):
    texts = [f"passage {i}" for i in range(20)]
    source = lines(
        tmp_path / "corpus.jsonl", *({"_id": f"p{i}", "text": text} for i, text in enumerate(texts))
    )
    model = TINY()
    context = model.embed_context(texts[5:12])
    for name, given in (("with", context), ("without", None)):
        tiny(source, tmp_path / name, context=given, kind="query")
        assert_same(
            tmp_path / name, ([f"p{i}" for i in range(20)], model.encode_queries(texts, given))
        )


def test_a_folder_in_beir_layout_gives_its_corpus_and_not_its_questions(ray, tmp_path):
    assert tiny(COUNTRY, tmp_path / "out", block_rows=200).rows == 294


# Going on, and refusing to.


def test_other_vectors_are_refused_and_what_is_there_stays(ray, parquet, tmp_path):
    out = tmp_path / "out"
    tiny(parquet, out)
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
            tiny(parquet, out, **changed)
    lines(parquet / "c.jsonl", {"_id": "new", "text": "one more"})
    with pytest.raises(ValueError, match="another source"):
        tiny(parquet, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_block_that_is_missing_or_cut_is_told_when_read_and_encoded_again(ray, parquet, tmp_path):
    out = tmp_path / "out"
    tiny(parquet, out)
    whole = np.array(read_vectors(out)[1])
    os.truncate(out / "00000002.parquet", 500)
    with pytest.raises(ValueError, match="00000002.parquet .*cut or damaged.*encode_corpus again"):
        read_vectors(out)
    (out / "00000003.parquet").unlink()
    with pytest.raises(ValueError, match="1 of 7 blocks are missing, first 00000003"):
        read_vectors(out)
    assert tiny(parquet, out).encoded == 7 + 8  # block 3 ends the first file
    assert np.array_equal(read_vectors(out)[1], whole)
    (out / "00000001.parquet").write_bytes((out / "00000000.parquet").read_bytes())
    with pytest.raises(ValueError, match="50 rows and 42 ids instead of 50"):
        read_vectors(out)


def test_a_folder_without_vectors_is_told_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"encode_corpus\(source"):
        read_vectors(tmp_path)


# Bad input.


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"_id": "a", "text": "x"}, {"_id": "b", "text": "y"}, {"_id": "a", "text": "z"}],
            "1 ids stand more than once.*'a'",
        ),
        (
            [{"_id": "a", "text": "x"}, {"_id": "b", "title": "y"}],
            "corpus.jsonl, row 2: no text.*has _id, title",
        ),
        ([{"_id": "a", "text": None}], "row 1: no text"),
        ([{"_id": "a", "text": 5}], "row 1: no text"),
        ([{"text": "x"}], "row 1: no _id"),
        (["[1]"], "row 1: no _id"),
        (
            ['{"_id": "a", "text": "x"}', '{"_id": '],
            "corpus.jsonl: the line that ends at byte 35 is no JSON",
        ),
        ([], "not one row"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_clear_error(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        tiny(lines(tmp_path / "corpus.jsonl", *rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parquet_that_cannot_be_used_is_one_clear_error(parquet, tmp_path):
    pq.write_table(pa.table({"_id": ["x"], "body": ["y"]}), parquet / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet, row 1: no text.*has _id, body"):
        tiny(parquet, tmp_path / "out")
    os.truncate(parquet / "b.parquet", 100)
    with pytest.raises(ValueError, match="b.parquet cannot be read as Parquet"):
        tiny(parquet, tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"source": "nowhere"}, FileNotFoundError, "nowhere does not exist"),
        ({"source": PROJECT_ROOT / "README.md"}, ValueError, "README.md: no files that end in"),
        ({"source": PROJECT_ROOT / "themes"}, ValueError, "themes: no files that end in"),
        ({"model": "mini"}, TypeError, "model must be a function"),
        ({"context": "mini"}, TypeError, "context must be"),
        ({"kind": "text"}, ValueError, "kind must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ],
)
def test_an_argument_that_cannot_be_used_is_one_clear_error(tmp_path, changed, error, message):
    with pytest.raises(error, match=message):
        tiny(**{"source": COUNTRY, "out": tmp_path / "out", **changed})
    assert not (tmp_path / "out").exists()


def test_files_of_somebody_else_are_not_mixed_with_ours(parquet, tmp_path):
    with pytest.raises(ValueError, match="source/ holds Parquet files that are not from here"):
        tiny(parquet, parquet)


def test_more_workers_than_there_are_cores_are_refused(ray, parquet, tmp_path):
    with pytest.raises(
        ValueError, match="3 workers with 1 num_cpus each are wanted, but Ray has 2 CPUs"
    ):
        tiny(parquet, tmp_path / "out", workers=3)


def test_what_goes_wrong_in_a_worker_keeps_its_message(ray, parquet, tmp_path):
    with pytest.raises(RuntimeError, match="config.json is missing from nowhere/"):
        tiny(parquet, tmp_path / "out", model=partial(CDE.load, "nowhere"))

    def no_model():
        return "no model"

    with pytest.raises(TypeError, match="must load a ContextualEncoder.*not a str"):
        tiny(parquet, tmp_path / "out", model=no_model)

    def one_that_fails():
        model = TINY()
        model.encode_documents = None
        return model

    with pytest.raises(
        RuntimeError, match="a worker failed: TypeError: 'NoneType' object is not callable"
    ):
        tiny(parquet, tmp_path / "out", model=one_that_fails)


def test_texts_that_kill_every_worker_end_in_an_error_and_not_in_a_loop(ray, parquet, tmp_path):
    def deadly():
        model = TINY()
        model.encode_documents = lambda *_, **__: os._exit(1)
        return model

    with pytest.raises(
        RuntimeError,
        match="a worker failed: MemoryError: 4 workers died on block 0.*smaller batch_size",
    ):
        tiny(parquet, tmp_path / "out", model=deadly)


def test_importing_the_models_needs_no_ray():
    code = "import sys, helpers.cde; print('ray' in sys.modules)"
    assert python(code).stdout.strip() == "False"


def test_where_ray_is_made_unimportable_the_error_names_the_command():
    code = "import sys; sys.modules['ray'] = None; import helpers.cde; helpers.cde.encode_corpus('data/country', 'never')"
    done = python(code)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        'python -m pip install -c tests/requirements.txt -e ".[scale]"'
    )


# Whole programs: what they start, and what dies.

DRIVER = """
import sys
from helpers.cde import encode_corpus
if __name__ == "__main__":
    done = encode_corpus("data/country", sys.argv[1], workers=2, threads=1, batch_size=6, block_rows=6)
    print(done.rows, done.encoded)
"""


def python(code, *arguments, **settings):
    environment = {**os.environ, **settings}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=PROJECT_ROOT,
    )


@pytest.fixture
def started(tmp_path):
    """A driver at work, once it has three of its 49 blocks; all processes it started; the folder it writes."""
    out = tmp_path / "out"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(out)],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while len(list(out.glob("*.parquet"))) < 3:
            assert driver.poll() is None, driver.communicate()[1]
            time.sleep(0.01)
        yield driver, psutil.Process(driver.pid).children(recursive=True), out
    finally:
        driver.kill()
        driver.wait()


def workers(family):
    """Those that hold the model, by Ray Data's name for them."""
    found = []
    for process in family:
        try:
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # ended meanwhile
            continue
    return found


def gone(processes):
    return not psutil.wait_procs(processes, timeout=120)[1]


@pytest.mark.skipif(os.name == "nt", reason="Ray gives its processes no names there")
def test_a_worker_killed_in_the_middle_is_replaced_and_nothing_is_lost_or_doubled(started, alone):
    driver, family, out = started
    victim = workers(family)[0]
    victim.kill()
    assert len(list(out.glob("*.parquet"))) < 40
    printed, log = driver.communicate(timeout=120)
    assert printed.splitlines()[-1].split() == ["294", "294"], (
        log
    )  # before it, Ray tells of the lost worker
    assert not victim.is_running()
    assert_same(out, alone)
    assert gone(family)


def test_after_a_killed_driver_the_finished_blocks_are_not_done_again(started, alone):
    driver, family, out = started
    driver.kill()
    driver.communicate()
    assert not psutil.wait_procs(workers(family), timeout=30)[
        1
    ]  # before what is finished is counted
    finished = {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, pq.read_metadata(path).num_rows)
        for path in out.glob("*.parquet")
    }
    assert 3 <= len(finished) < 40
    with pytest.raises(ValueError, match="blocks are missing"):
        read_vectors(out)
    again = python(DRIVER, str(out))
    assert again.stdout.split() == [
        "294",
        str(294 - sum(rows for *_, rows in finished.values())),
    ], again.stderr
    assert {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, rows)
        for path, (*_, rows) in finished.items()
    } == finished
    assert_same(out, alone)
    assert gone(family)  # two of Ray's helpers stay a minute
    said = [
        line
        for line in again.stderr.splitlines()
        if line.strip() and "text" not in line and "core_worker.cc" not in line
    ]
    assert not said  # beside the bar and one line that Ray Data's actor pools always write


def test_ray_address_names_the_cluster_that_works(ray, parquet, tmp_path):
    code = """
import sys
from functools import partial
from helpers.cde import CDE, encode_corpus
encode_corpus(sys.argv[1], sys.argv[2], model=partial(CDE.load, "tests/fixtures/cde/bert"), threads=1, workers=1)
"""
    address = ray.get_runtime_context().gcs_address
    jobs = len(ray._private.state.jobs())
    done = python(code, str(parquet), str(tmp_path / "out"), RAY_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    assert len(read_vectors(tmp_path / "out")[0]) == 50
    assert len(ray._private.state.jobs()) == jobs + 1


def test_a_cluster_that_does_not_answer_is_one_clear_error(parquet, tmp_path):
    code = "import sys; from helpers.cde import encode_corpus; encode_corpus(*sys.argv[1:])"
    done = python(code, str(parquet), str(tmp_path / "out"), RAY_ADDRESS="127.0.0.1:9")
    assert (
        "ConnectionError: no Ray answers at RAY_ADDRESS=127.0.0.1:9"
        in done.stderr.strip().splitlines()[-1]
    )
