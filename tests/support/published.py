"""The published model and data in the Hub's cache layout: tiny weights and small files."""

import shutil
import textwrap

import pandas as pd
from safetensors.torch import load_file

from helpers import PROJECT_ROOT, artifacts, retrieval
from helpers.cde import hub
from helpers.settings import CLEAN_ENVIRONMENT
from tests.support.checkpoints import CHECKPOINTS
from tests.support.processes import python


def fill_cache(cache):
    """The Hub's cache with tiny weights, named as the published ones, and small data files."""

    def snapshot(kind, repo, commit):
        root = cache / f"{kind}--{repo.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit, encoding="utf-8")
        (root / "snapshots" / commit).mkdir(parents=True)
        return root / "snapshots" / commit

    minilm = snapshot("models", artifacts.MINILM.repo_id, artifacts.MINILM.revision)
    shutil.copytree(artifacts.bundled_directory(artifacts.MINILM), minilm, dirs_exist_ok=True)
    weights = snapshot("models", hub.CDE_REPO, hub.CDE_REVISION)
    for name in ("config.json", "model.safetensors", "backbone_config.json"):
        shutil.copy(CHECKPOINTS / "modernbert" / name, weights / name)
    words = snapshot("models", hub.CDE_TOKENIZER, "0" * 40)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(CHECKPOINTS / "modernbert" / name, words / name)
    corpus, queries, qrels = retrieval.subset(
        *retrieval.load_beir(PROJECT_ROOT / "data" / "country"), documents=120, questions=40
    )
    data = snapshot("datasets", retrieval.FIQA, "1" * 40)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (data / name).mkdir()
        pd.DataFrame({"_id": rows["_id"], "title": rows["title"], "text": rows["text"]}).to_parquet(
            data / name / f"{name}-00000-of-00001.parquet"
        )
    judged = snapshot("datasets", retrieval.FIQA_QRELS, "2" * 40)
    lines = [f"{q}\t{d}\t{s}" for q, found in qrels.items() for d, s in found.items()]
    (judged / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n", encoding="utf-8"
    )
    return cache


def hub_python(code, cache, tmp_path, **settings):
    """Run code as on the Hub path, with tiny weights (and their counts) for the published ones."""
    prepared = textwrap.dedent("""
        from pathlib import Path
        import helpers, helpers.artifacts as artifacts, helpers.retrieval as retrieval
        from helpers.cde import hub, load_cde
        artifacts.PROJECT_ROOT = Path({folder!r})
        hub.CDE_TENSORS, hub.CDE_PARAMETERS = 76, {parameters}
    """)
    shapes = load_file(CHECKPOINTS / "modernbert" / "model.safetensors")
    prepared = prepared.format(
        folder=str(tmp_path), parameters=sum(value.numel() for value in shapes.values())
    )
    places = {"HF_HUB_CACHE": str(cache), "HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    variables = {**CLEAN_ENVIRONMENT, "EMBEDDINGS_SOURCE": "hub", **places, **settings}
    return python(prepared + textwrap.dedent(code), timeout=600, **variables)
