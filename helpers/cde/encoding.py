"""What both contextual models share: context, batches, and vectors that remember their context."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..device import batches, give_back_memory
from ..tokens import check_texts

CHUNK = 1024  # texts tokenized and sorted at a time, so that memory does not grow with the corpus
PRECISIONS = ("float32", "bfloat16")
QUERY, DOCUMENT = "search_query: ", "search_document: "


@dataclass(frozen=True)
class Context:
    """Stage 1: the documents that stand for a corpus, and their vectors.

    Attributes:
        vectors: (k, d) on the CPU, in the order in which the model sees them.
        ids: which documents they are: the caller's ids, or their places in the list that was given.
        model: name of the model that made them.
    """

    vectors: torch.Tensor
    ids: tuple[str, ...]
    model: str

    @cached_property
    def name(self) -> str:
        """Fingerprint of model, documents and numbers; two contexts are the same when their names are."""
        digest = hashlib.sha256(repr((self.model, self.ids)).encode())
        digest.update(self.vectors.numpy().round(4).astype("<f4").tobytes())
        return digest.hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.ids)

    def save(self, path: str | Path) -> None:
        """Write vectors and ids as one safetensors file."""
        from safetensors.torch import save_file

        save_file(
            {"vectors": self.vectors.contiguous()},
            str(path),
            metadata={"model": self.model, "ids": "\x1f".join(self.ids)},
        )

    @classmethod
    def load(cls, path: str | Path) -> Context:
        """Read what `save` wrote."""
        from safetensors import safe_open

        with safe_open(str(path), "pt") as file:
            metadata = file.metadata()
            return cls(
                file.get_tensor("vectors"), tuple(metadata["ids"].split("\x1f")), metadata["model"]
            )


class Vectors(np.ndarray):
    """Unit vectors (n, d), float32, that remember which context they were made in (`.context`, "none" without one)."""

    context: str

    def __new__(cls, values: np.ndarray, context: str) -> Vectors:
        self = np.asarray(values, dtype=np.float32).view(cls)
        self.context = context
        return self

    def __array_finalize__(self, other: object) -> None:
        self.context = getattr(other, "context", "unknown")


def similarity(
    queries: np.ndarray, documents: np.ndarray, *, mixed_contexts: bool = False
) -> np.ndarray:
    """Cosine of every query with every document, shape (queries, documents).

    Raises:
        ValueError: they were encoded in different contexts, and `mixed_contexts` was not asked for.
    """
    from ..similarity import cosine_matrix

    a, b = getattr(queries, "context", None), getattr(documents, "context", None)
    if a != b and not mixed_contexts:
        raise ValueError(
            f"queries were encoded in context {a}, documents in context {b}: such vectors do not belong together. "
            "Encode both with the same context, or pass mixed_contexts=True to compare them all the same."
        )
    return cosine_matrix(np.asarray(queries), np.asarray(documents))


class ContextualEncoder(torch.nn.Module):
    """Base of both models. A subclass sets `name`, `prompts`, `max_length`, and gives `_stage_1` and `_stage_2`."""

    name: str
    prompts: ClassVar[dict[str, str]]
    max_length: int

    def seconds_per_text(self) -> float:
        """Rough time of stage 2 for one passage on this machine, for saying beforehand how long something takes."""
        raise NotImplementedError

    def how_long(self, texts: int) -> str:
        """In words, about how long `texts` passages take."""
        seconds = texts * self.seconds_per_text()
        return (
            f"{seconds / 3600:.0f} hours"
            if seconds > 5400
            else f"{seconds / 60:.0f} minutes"
            if seconds > 90
            else f"{seconds:.0f} seconds"
        )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return (
            self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
            if texts
            else []
        )

    def _tokens(self, ids: list[list[int]]) -> dict[str, torch.Tensor]:
        """Ids of some texts as one batch, padded at the end to the longest of them: both tensors (n, t)."""
        rows = [torch.tensor(row) for row in ids]
        input_ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return {"input_ids": input_ids.to(self.device), "attention_mask": mask.to(self.device)}

    def _batched(
        self,
        texts: list[str],
        stage,
        *,
        prefix: int,
        batch_size: int | None,
        precision: str,
        label: str,
        progress: bool,
    ) -> torch.Tensor:
        """`stage` over all texts, in batches of like length; vectors in the order given, (n, d) on the CPU."""
        from tqdm.auto import tqdm

        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not known; choose one of {PRECISIONS}")
        device = self.device
        narrow = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
        made = torch.empty(len(texts), self.dimension)
        with (
            torch.inference_mode(),
            narrow,
            tqdm(total=len(texts), desc=label, unit="text", disable=not progress) as bar,
        ):
            for start in range(0, len(texts), CHUNK):
                ids = self._ids(texts[start : start + CHUNK])
                for places in batches(
                    [len(row) for row in ids], device, extra=prefix, most=batch_size
                ):
                    made[start + torch.from_numpy(places)] = (
                        stage(self._tokens([ids[i] for i in places])).float().cpu()
                    )
                    bar.update(len(places))
                if len(texts) > CHUNK:
                    give_back_memory()
        return made

    def embed_context(
        self, texts: Sequence[str], *, seed: int = 0, ids: Sequence[str] | None = None, size: int | None = None,
        batch_size: int | None = None, precision: str = "float32", progress: bool = False,
    ) -> Context:  # fmt: skip
        """Stage 1: sample documents without replacement and embed them; done once for a corpus.

        Args:
            texts: the corpus, or a part of it. Up to `size` documents are sampled; fewer are all taken, in their order.
            seed: of the sample.
            ids: names of the texts, kept with the context; their places when not given.
            size: documents to take; the model's own `config.transductive_corpus_size` when not given.
            batch_size, precision: as in `encode_documents`.
        """
        texts = check_texts(texts)
        names = [str(i) for i in (ids if ids is not None else range(len(texts)))]
        if len(names) != len(texts):
            raise ValueError(f"{len(texts)} texts but {len(names)} ids")
        if not texts:
            raise ValueError(
                "A context needs at least one document. Without any, pass context=None."
            )
        size = self.config.transductive_corpus_size if size is None else size
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        chosen = list(range(len(texts)))
        if len(texts) > size:
            chosen = np.random.default_rng(seed).choice(len(texts), size, replace=False).tolist()
        prompted = [self.prompts["document"] + texts[i] for i in chosen]
        vectors = self._batched(
            prompted,
            self._stage_1,
            prefix=0,
            batch_size=batch_size,
            precision=precision,
            label="stage 1",
            progress=progress,
        )
        return Context(vectors, tuple(names[i] for i in chosen), self.name)

    def encode_queries(
        self, texts: Sequence[str], context: Context | None = None, **options: Any
    ) -> Vectors:
        """Stage 2 for questions: unit vectors (n, d). Options as in `encode_documents`."""
        return self._encode("query", texts, context, **options)

    def encode_documents(
        self, texts: Sequence[str], context: Context | None = None, **options: Any
    ) -> Vectors:
        """Stage 2 for documents: unit vectors (n, d), in the order of the texts.

        Args:
            texts: any number; they are computed a piece at a time.
            context: what `embed_context` gave; None encodes without.
            batch_size: texts computed at a time; as many as suit the machine when not given.
            precision: `float32`, or `bfloat16`, which is faster where the processor has it and gives slightly other vectors.
            progress: draw a progress bar.
        """
        return self._encode("document", texts, context, **options)

    def _encode(
        self, kind: str, texts: Sequence[str], context: Context | None, *,
        batch_size: int | None = None, precision: str = "float32", progress: bool = False,
    ) -> Vectors:  # fmt: skip
        if context is not None and context.model != self.name:
            raise ValueError(
                f"this context was made by {context.model}; make one with this model: embed_context(texts)"
            )
        prompted = [self.prompts[kind] + text for text in check_texts(texts)]
        prepared = self._prepare(context)
        made = self._batched(
            prompted, lambda batch: self._stage_2(batch, prepared), prefix=self._prefix(context),
            batch_size=batch_size, precision=precision, label="stage 2", progress=progress,
        )  # fmt: skip
        return Vectors(
            torch.nn.functional.normalize(made, dim=1, out=made).numpy(),
            context.name if context is not None else "none",
        )

    def _prefix(self, context: Context | None) -> int:
        """How many tokens stage 2 puts before each text."""
        return 0

    def _prepare(self, context: Context | None):
        """What of a context is computed once, and not for each batch."""
        return None if context is None else context.vectors.to(self.device)
