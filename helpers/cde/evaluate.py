"""Measure contextual models on a collection: `python -m helpers.cde.evaluate COLLECTION --models DIR ... --wrong COLLECTION`.

Values of each question are averaged over the models (seeds) first; intervals are paired bootstraps over questions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from .. import retrieval
from ..artifacts import load_encoder
from ..similarity import cosine_matrix
from .encoding import similarity
from .mini import MiniCDE

CONDITIONS = ("right context", "wrong context", "no context")


def measure_models(
    directories: list[Path], collection: Path, wrong: Path, *, half: str = "all", seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Per-question measures of MiniLM, BM25 and of the models without, in a wrong and in the right context.

    Args:
        half: `all` questions, or every second one: `even` (0, 2, ...) or `odd`.
        seed: of the contexts' samples.
    """
    corpus, queries, qrels = retrieval.load_beir(collection)
    if half != "all":
        queries = queries.select(range(0 if half == "even" else 1, len(queries), 2))
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
    return found | {name: sum(tables) / len(tables) for name, tables in runs.items()}


def as_markdown(found: dict[str, pd.DataFrame]) -> str:
    """Two tables: every system, and the right context minus each of the others, in points of nDCG@10."""
    lines = [
        "| system | " + " | ".join(retrieval.MEASURES) + " |",
        "|---" * (len(retrieval.MEASURES) + 1) + "|",
    ]
    lines += [
        f"| {name} | " + " | ".join(row) + " |"
        for name, row in zip(found, retrieval.compare(found).to_numpy().tolist(), strict=True)
    ]
    lines += ["", "| right context minus | points of nDCG@10 |", "|---|---|"]
    for name in ("MiniLM", "no context", "wrong context", "BM25"):
        gap = retrieval.bootstrap(found["right context"]["nDCG@10"] - found[name]["nDCG@10"])
        lines.append(
            f"| {name} | {100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}] |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.cde.evaluate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("collection", type=Path, help="folder in BEIR layout")
    parser.add_argument(
        "--models",
        nargs="+",
        type=Path,
        required=True,
        help="folders of trained models, one a seed",
    )
    parser.add_argument(
        "--wrong",
        type=Path,
        required=True,
        help="collection whose documents serve as the wrong context",
    )
    parser.add_argument("--half", choices=("all", "even", "odd"), default="all")
    options = parser.parse_args(arguments)
    found = measure_models(options.models, options.collection, options.wrong, half=options.half)
    print(
        f"{options.collection.name}, {len(found['MiniLM'])} questions, mean of {len(options.models)} model(s), 95 % bootstrap intervals\n"
    )
    print(as_markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
