"""Real texts for the parts: those of the project, of mixed length, or as many as wanted."""

from __future__ import annotations

import random
import re

import nbformat

from helpers import PROJECT_ROOT, retrieval

COLLECTIONS = ("money", "country")


def passages() -> list[str]:
    """All bundled passages."""
    return [
        text
        for name in COLLECTIONS
        for text in retrieval.texts(retrieval.load_beir(PROJECT_ROOT / "data" / name)[0])
    ]


def questions() -> list[str]:
    """All bundled questions, each once."""
    return sorted(
        {
            text
            for name in COLLECTIONS
            for text in retrieval.load_beir(PROJECT_ROOT / "data" / name)[1]["text"]
        }
    )


def mixed(count: int, seed: int = 0) -> list[str]:
    """`count` texts from a line to a page long, drawn without replacement.

    They are the bundled passages and questions, and the cells of the notebooks.
    """
    cells = [
        cell.source
        for path in sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
    ]
    return random.Random(seed).sample([*passages(), *questions(), *cells], count)


def many(count: int, seed: int = 0) -> list[str]:
    """`count` passages as long as the bundled ones, put together from their sentences.

    No two are the same.
    """
    pool = [re.split(r"(?<=[.?!]) ", text) for text in passages()]
    sentences = sorted({sentence for passage in pool for sentence in passage})
    rng, made = random.Random(seed), {}
    while len(made) < count:
        made[" ".join(rng.sample(sentences, len(rng.choice(pool))))] = None
    return list(made)
