"""The published model: checked, and loaded from the Hub's layout with tiny weights."""

import json
import shutil

import pytest

from helpers import artifacts
from helpers.cde import hub
from tests.support.checkpoints import CHECKPOINTS
from tests.support.published import fill_cache, hub_python


@pytest.fixture
def checkpoint(tmp_path):
    shutil.copytree(CHECKPOINTS / "bert", tmp_path / "bert")
    return tmp_path / "bert"


def test_another_checkpoint_in_place_of_the_published_one_is_refused(checkpoint):
    with pytest.raises(artifacts.ArtifactError, match=r"305,706,240"):
        hub.check_published(checkpoint / "model.safetensors")


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    return fill_cache(tmp_path_factory.mktemp("hub"))


@pytest.mark.slow
def test_the_hub_path_loads_model_and_data_in_the_hubs_layout_with_tiny_weights(
    hub_cache, tmp_path
):
    code = """
        model = load_cde()
        corpus, queries, qrels = retrieval.load_fiqa()
        print(type(model).__name__, model.config.transductive_corpus_size, len(corpus))
        print(len(queries), len(qrels))
        context = model.embed_context(corpus["text"][:20])
        print(model.encode_queries(queries["text"][:3], context).shape)
    """
    done = hub_python(code, hub_cache, tmp_path)
    assert done.stdout.splitlines() == ["CDE 12 120", "40 40", "(3, 64)"], done.stderr
    recorded = json.loads((tmp_path / ".cache" / "hub.json").read_text(encoding="utf-8"))
    assert recorded["BeIR/fiqa"]["commit"] == "1" * 40
    assert len(recorded["jxm/cde-small-v2"]["model.safetensors"]) == 64


@pytest.mark.slow
def test_files_that_differ_from_the_recorded_ones_are_refused(hub_cache, tmp_path):
    assert hub_python("retrieval.load_fiqa()", hub_cache, tmp_path).returncode == 0
    altered = tmp_path / "cache"
    shutil.copytree(hub_cache, altered)
    (path,) = altered.glob("datasets--BeIR--fiqa-qrels/snapshots/*/test.tsv")
    path.write_text(path.read_text(encoding="utf-8") + "q\tc0001\t1\n", encoding="utf-8")
    done = hub_python("retrieval.load_fiqa()", altered, tmp_path)
    assert (
        done.returncode == 1
        and "BeIR/fiqa-qrels is not what was first downloaded: test.tsv" in done.stderr
    )


@pytest.mark.slow
def test_the_published_model_is_refused_when_the_counts_differ(hub_cache, tmp_path):
    done = hub_python("hub.CDE_TENSORS = 280\nload_cde()", hub_cache, tmp_path)
    assert "76 tensors" in done.stderr.strip().splitlines()[-1]
