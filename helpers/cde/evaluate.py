"""Measure contextual models: `python -m helpers.cde.evaluate DIR --models DIR ... --wrong DIR`.

The values of each query are first averaged over the models (one per seed); intervals are paired
bootstraps over the queries.
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
from .mini import MiniCDE

CONDITIONS = ("right context", "wrong context", "no context")
HALVES = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}


def measure_models(
    directories: list[Path], collection: Path, wrong: Path, *, half: str = "all", seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Measures per query: of BM25, of MiniLM, and of the models in each of three conditions.

    Args:
        directories: of the trained models; one per seed.
        collection: folder in BEIR layout; its documents are the right context.
        wrong: another, whose documents are the wrong context.
        half: `all` queries, or every second one: `even` (0, 2, ...) or `odd`.
        seed: of the contexts' samples.
    """
    corpus, queries, qrels = retrieval.load_beir(collection)
    queries = queries.select(range(len(queries))[HALVES[half]])
    documents, questions = retrieval.texts(corpus), list(queries["text"])
    others = retrieval.texts(retrieval.load_beir(wrong)[0])

    def measured(scores: np.ndarray) -> pd.DataFrame:
        return retrieval.measure(scores, queries["_id"], corpus["_id"], qrels)

    encoder = load_encoder()
    found = {
        "BM25": measured(retrieval.bm25_scores(documents, questions)),
        "MiniLM": measured(cosine_matrix(encoder.encode(questions), encoder.encode(documents))),
    }
    runs: dict[str, list[pd.DataFrame]] = {name: [] for name in CONDITIONS}
    for directory in directories:
        model = MiniCDE.load(directory)
        contexts = {
            "right context": model.embed_context(documents, seed=seed),
            "wrong context": model.embed_context(others, seed=seed),
            "no context": None,
        }
        for name, context in contexts.items():
            scores = similarity(
                model.encode_queries(questions, context), model.encode_documents(documents, context)
            )
            runs[name].append(measured(scores))
    return found | {name: _mean(tables) for name, tables in runs.items()}


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return reduce(pd.DataFrame.add, tables) / len(tables)


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
        "--models",
        nargs="+",
        type=Path,
        required=True,
        help="folders of trained models, one per seed",
    )
    parser.add_argument(
        "--wrong",
        type=Path,
        required=True,
        help="collection whose documents serve as the wrong context",
    )
    parser.add_argument("--half", choices=HALVES, default="all")
    options = parser.parse_args(arguments)
    found = measure_models(options.models, options.collection, options.wrong, half=options.half)
    print(
        f"{options.collection.name}, {len(found['MiniLM'])} queries, "
        f"mean of {len(options.models)} model(s), 95 % bootstrap intervals\n"
    )
    print(as_markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
