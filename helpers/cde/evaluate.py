"""Measure the small model: `python -m helpers.cde.evaluate DIR --wrong DIR`.

The values of each query are first averaged over several samples of the contexts; intervals are
paired bootstraps over the queries.
"""

from __future__ import annotations

import argparse
import sys
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd

from .. import retrieval
from ..artifacts import load_encoder
from ..similarity import cosine_matrix
from .encoding import similarity
from .local_idf import shared_text
from .mini import DIRECTORY, MiniCDE

HALVES = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}


def measure_model(
    model: MiniCDE,
    collection: Path,
    wrong: Path,
    *,
    split: str = "test",
    half: str = "all",
    seeds: tuple[int, ...] = (0, 1, 2),
) -> dict[str, pd.DataFrame]:
    """Measures per query: of BM25, of MiniLM, and of the model in each of three conditions.

    Args:
        model: any small model.
        collection: folder in BEIR layout; its documents are the right context.
        wrong: another, whose documents are the wrong context.
        split: which judgements are read.
        half: `all` queries, or every second one: `even` (0, 2, ...) or `odd`.
        seeds: of the contexts' samples; a collection that fits into a context has but one.
    """
    corpus, queries, qrels = retrieval.load_beir(collection, split)
    queries = queries.select(range(len(queries))[HALVES[half]])
    documents, questions = retrieval.texts(corpus), list(queries["text"])
    others = retrieval.texts(retrieval.load_beir(wrong)[0])

    def measured(scores: np.ndarray) -> pd.DataFrame:
        return retrieval.measure(scores, queries["_id"], corpus["_id"], qrels)

    def in_contexts(texts: list[str] | None) -> pd.DataFrame:
        tables = []
        size = model.config.transductive_corpus_size
        for seed in seeds if texts is not None and len(texts) > size else seeds[:1]:
            context = None if texts is None else model.embed_context(texts, seed=seed)
            asked = model.encode_queries(questions, context)
            tables.append(measured(similarity(asked, model.encode_documents(documents, context))))
        return reduce(pd.DataFrame.add, tables) / len(tables)

    encoder = load_encoder()
    return {
        "BM25": measured(retrieval.bm25_scores(documents, questions)),
        "MiniLM": measured(cosine_matrix(encoder.encode(questions), encoder.encode(documents))),
        "right context": in_contexts(documents),
        "wrong context": in_contexts(others),
        "no context": in_contexts(None),
    }


def as_markdown(found: dict[str, pd.DataFrame]) -> str:
    """Two tables: every system, and the right context minus each other one in points of nDCG@10."""
    lines = [
        "| system | " + " | ".join(retrieval.MEASURES) + " |",
        "|---" * (len(retrieval.MEASURES) + 1) + "|",
    ]
    compared = retrieval.compare(found).to_numpy().tolist()
    lines += [
        f"| {name} | " + " | ".join(row) + " |" for name, row in zip(found, compared, strict=True)
    ]
    lines += ["", "| right context minus | points of nDCG@10 |", "|---|---|"]
    for name in ("MiniLM", "no context", "wrong context", "BM25"):
        gap = retrieval.bootstrap(found["right context"]["nDCG@10"] - found[name]["nDCG@10"])
        lines.append(
            f"| {name} | {100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary, _, _ = __doc__.partition("\n")
    parser = argparse.ArgumentParser(prog="python -m helpers.cde.evaluate", description=summary)
    parser.add_argument("collection", type=Path, help="folder in BEIR layout")
    parser.add_argument(
        "--wrong",
        type=Path,
        required=True,
        help="collection whose documents serve as the wrong context",
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=DIRECTORY,
        help="folder of the config.json to be measured; by default the model that ships",
    )
    parser.add_argument("--split", default="test", help="judgements to use: qrels/SPLIT.tsv")
    parser.add_argument("--half", choices=HALVES, default="all")
    options = parser.parse_args(arguments)
    model = MiniCDE.load(options.model)
    found = measure_model(
        model, options.collection, options.wrong, split=options.split, half=options.half
    )
    documents = retrieval.texts(retrieval.load_beir(options.collection, options.split)[0])
    shared = shared_text(model.embed_context(documents))
    print(
        f"{options.collection.name}, {len(found['MiniLM'])} queries, 95 % bootstrap intervals; "
        f"shared text {shared:.2f}, strength {model.pooling.exponent(shared):.2f}\n"
    )
    print(as_markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
