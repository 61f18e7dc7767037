"""A corpus on Ray Data: the vectors of one process, and nothing mixed, lost or doubled."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import PROJECT_ROOT
from helpers.cde import CDE, encode_corpus, ray_encode, read_vectors
from tests.support.letters import IMPORTABLE, Broken, Deadly, Letters
from tests.support.processes import python

COUNTRY = PROJECT_ROOT / "data" / "country"
TINY = partial(CDE.load, Path(__file__).parent / "fixtures" / "cde" / "bert")
IDS = [f"p{i}" for i in range(50)]
PASSAGES = [
    {"_id": name, "title": None if i % 3 else f"Title {i}", "text": f"passage {i} " * (i % 7)}
    for i, name in enumerate(IDS)
]  # some are empty
TEXTS = [f"{row['title'] or ''} {row['text']}".strip() for row in PASSAGES]


@pytest.fixture(autouse=True)
def nobodys_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(scope="module")
def ray():
    """A Ray that runs before and after, as on a cluster: one for all tests of this file."""
    ray = ray_encode.import_ray()
    with pytest.MonkeyPatch.context() as patch:  # the workers inherit it
        patch.setenv("PYTHONPATH", IMPORTABLE["PYTHONPATH"])
        ray.init(
            "local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False
        )
    yield ray
    ray.shutdown()


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


# What it makes.


@pytest.mark.scale
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


@pytest.mark.scale
def test_a_given_context_and_none_give_the_vectors_of_one_process(ray, source, tmp_path):
    model = Letters()
    context = model.embed_context(TEXTS[5:12])
    for name, given in (("with", context), ("without", None)):
        encode(source, tmp_path / name, context=given, kind="query", block_rows=32)
        assert_same(tmp_path / name, model.encode_queries(TEXTS, given))
    assert np.abs(model.encode_queries(TEXTS, context) - model.encode_documents(TEXTS)).max() > 0.1


# Resuming, and refusing to.


@pytest.mark.scale
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


@pytest.mark.scale
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


# Bad input.


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
        encode(**{"source": COUNTRY, "out": tmp_path / "out", **changed})
    assert not (tmp_path / "out").exists()


def test_a_corpus_that_cannot_be_used_leaves_no_folder_behind(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="row 1: no text"):
        encode(tmp_path / "corpus.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_somebody_else_are_not_mixed_with_ours(source):
    with pytest.raises(
        ValueError, match="source/ holds Parquet files that encode_corpus did not write"
    ):
        encode(source, source)


@pytest.mark.scale
def test_more_workers_than_there_are_cores_are_refused(ray, source, tmp_path):
    with pytest.raises(
        ValueError, match="3 workers with num_cpus=1 were asked for, but Ray has 2 CPUs"
    ):
        encode(source, tmp_path / "out", workers=3)


@pytest.mark.scale
def test_what_goes_wrong_in_a_worker_keeps_its_message(ray, source, tmp_path):
    with pytest.raises(RuntimeError, match="config.json is missing from nowhere/"):
        encode(source, tmp_path / "out", model=partial(CDE.load, "nowhere"))
    with pytest.raises(TypeError, match="must load a ContextualEncoder.*not a str"):
        encode(source, tmp_path / "out", model=str)
    with pytest.raises(
        RuntimeError, match="a worker failed: TypeError: 'NoneType' object is not callable"
    ):
        encode(source, tmp_path / "out", model=Broken)


@pytest.mark.scale
def test_texts_that_kill_every_worker_end_in_an_error_and_not_in_a_loop(ray, source, tmp_path):
    with pytest.raises(
        RuntimeError,
        match="a worker failed: MemoryError: 4 workers died on block 0.*smaller batch_size",
    ):
        encode(source, tmp_path / "out", model=Deadly)


# Ray: missing, elsewhere, out of reach.


def test_importing_the_models_needs_no_ray():
    code = "import sys, helpers.cde; print('ray' in sys.modules)"
    assert python(code).stdout.strip() == "False"


def test_where_ray_cannot_be_imported_the_error_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ImportError) as caught:
        encode(COUNTRY, tmp_path / "out")
    assert str(caught.value).endswith(
        'python -m pip install -c tests/requirements.txt -e ".[scale]"'
    )


@pytest.mark.scale
def test_ray_address_names_the_cluster_that_works(ray, source, tmp_path):
    code = """
        import sys
        from helpers.cde import encode_corpus
        from support.letters import Letters
        encode_corpus(sys.argv[1], sys.argv[2], model=Letters, threads=1, workers=1)
    """
    address = ray.get_runtime_context().gcs_address
    jobs = len(ray._private.state.jobs())
    done = python(code, source, tmp_path / "out", RAY_ADDRESS=address, **IMPORTABLE)
    assert done.returncode == 0, done.stderr
    assert len(read_vectors(tmp_path / "out")[0]) == 50
    assert len(ray._private.state.jobs()) == jobs + 1


def test_a_cluster_that_does_not_answer_is_one_clear_error(monkeypatch, source, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ConnectionError, match="no Ray answers at RAY_ADDRESS=127.0.0.1:9"):
        encode(source, tmp_path / "out")
