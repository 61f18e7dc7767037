"""A contextual model that counts letters and loads at once, to test what surrounds a model."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from helpers import PROJECT_ROOT
from helpers.cde import Context, ContextualEncoder, Vectors
from helpers.cde.encoding import Stage

#: Environment of a process, and of the workers it starts, that may import this module.
PLACES = [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]
IMPORTABLE = {"PYTHONPATH": os.pathsep.join(filter(None, PLACES))}
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 "


class Letters(ContextualEncoder):
    """Vectors: how often each letter occurs, plus the mean of the context. Queries count double."""

    name = "letters"

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.config = SimpleNamespace(transductive_corpus_size=12)

    def embed_context(self, texts: Sequence[str], *, ids: Sequence[str] | None = None) -> Context:
        names = tuple(ids or map(str, range(len(texts))))
        tokens = tuple(np.array([*map(ord, text)], dtype=np.int32) for text in texts)
        return Context(torch.from_numpy(_counts(texts)), names, self.name, tokens)

    def encode_documents(
        self, texts: Sequence[str], context: Context | None = None, *, batch_size: int | None = None
    ) -> Vectors:
        return self._vectors(_counts(texts), context)

    def encode_queries(
        self, texts: Sequence[str], context: Context | None = None, *, batch_size: int | None = None
    ) -> Vectors:
        return self._vectors(2 * _counts(texts), context)

    def seconds_per_text(self) -> float:
        return 0.0

    def _stage_1(self, count: int) -> Stage:
        raise NotImplementedError("letters are counted without stages")

    def _stage_2(self, context: Context | None, count: int) -> Stage:
        raise NotImplementedError("letters are counted without stages")

    def _vectors(self, counts: np.ndarray, context: Context | None) -> Vectors:
        if context is not None:
            counts = counts + context.vectors.numpy().mean(axis=0)
        unit = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return Vectors(unit, "none" if context is None else context.name, self.name)


def _counts(texts: Sequence[str]) -> np.ndarray:
    """Shape (texts, letters), the first column 1 so that an empty text has a length too."""
    rows = [[1, *map(text.count, ALPHABET)] for text in texts]
    return np.array(rows, dtype=np.float32)


# Models that misbehave. A worker imports them from here by name.


class Waiting(Letters):
    """Encodes until `out` holds so many files, then waits in the middle of a block for `gate`."""

    def __init__(self, out: Path, files: int, gate: Path):
        super().__init__()
        self.out, self.files, self.gate = out, files, gate

    def encode_documents(self, *arguments: object, **options: object) -> Vectors:
        while len(list(self.out.glob("*.parquet"))) >= self.files and not self.gate.exists():
            time.sleep(0.02)
        return super().encode_documents(*arguments, **options)


class Deadly(Letters):
    """Ends the process that encodes with it, as the kernel does when memory runs out."""

    def encode_documents(self, *_: object, **__: object) -> Vectors:
        os._exit(1)


class Broken(Letters):
    encode_documents = None
