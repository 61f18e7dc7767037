"""`encode_corpus` before Ray starts. What it does on a running Ray stands in system/test_ray.py."""

import json
import socket
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers import PROJECT_ROOT
from helpers.cde import Context, encode_corpus, load_mini_cde, ray_encode, similarity
from helpers.cde.corpus_blocks import plan
from tests.support.processes import python

COUNTRY = PROJECT_ROOT / "data" / "country"


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
        encode_corpus(**{"source": COUNTRY, "out": tmp_path / "out", **changed})
    assert not (tmp_path / "out").exists()


def test_a_corpus_that_cannot_be_used_leaves_no_folder_behind(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "a"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"corpus\.jsonl, row 1: no text"):
        encode_corpus(tmp_path / "corpus.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_somebody_else_are_not_mixed_with_ours(tmp_path):
    pq.write_table(pa.table({"_id": ["a"], "text": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="holds Parquet files that encode_corpus did not write"):
        encode_corpus(tmp_path, tmp_path)


def test_importing_the_models_needs_no_ray():
    code = "import sys, helpers.cde; print('ray' in sys.modules)"
    assert python(code).stdout.strip() == "False"


def test_where_ray_cannot_be_imported_the_error_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ImportError) as caught:
        encode_corpus(COUNTRY, tmp_path / "out")
    assert str(caught.value).endswith(
        'python -m pip install -c tests/requirements.txt -e ".[scale]"'
    )


def test_the_folder_keeps_the_context_with_the_tokens_that_the_small_model_needs(tmp_path):
    rows = [{"_id": f"p{i}", "text": f"passage {i}"} for i in range(5)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "corpus.jsonl").write_text(lines, encoding="utf-8")
    blocks = plan(tmp_path, block_rows=2)
    job = ray_encode._Job(load_mini_cde, {"num_cpus": torch.get_num_threads()}, tmp_path, "", None)
    model, used = ray_encode._identify(job, "sample", blocks, seed=0)
    ray_encode._begin_or_resume(tmp_path, None, used, {})
    again = Context.load(tmp_path / "context.safetensors")
    small = load_mini_cde()
    assert [ids.tolist() for ids in again.tokens] == small.token_ids([r["text"] for r in rows])
    asked = [small.encode_queries(["passage 3"], context) for context in (used, again)]
    assert np.array_equal(*asked) and similarity(*asked) == pytest.approx(1)
    assert model.startswith("mini-cde, weights ")


@pytest.fixture
def ray(monkeypatch):
    """Ray, not started."""
    ray = ray_encode.import_ray()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    return ray


def test_a_cluster_that_does_not_answer_is_one_clear_error(ray, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConnectionError, match="no Ray answers at RAY_ADDRESS=127.0.0.1:9"):
        encode_corpus(COUNTRY, tmp_path / "out")


def test_a_cluster_that_refuses_is_not_called_silent(ray, monkeypatch, tmp_path):
    """`ray start --head` asks for a token unless told otherwise."""

    def refuse(*_, **__):
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(
            ConnectionError, match=rf"{address} cannot be joined \(Failed.*RAY_AUTH"
        ):
            encode_corpus(COUNTRY, tmp_path / "out")
