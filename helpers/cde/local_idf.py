"""Local document frequency: how much of a text do the documents like it share?

A token counts less, the more of the context's documents hold it, and of these most of all the
documents that resemble the text. That is inverse document frequency (Spärck Jones 1972, IDF) with
attention over the documents instead of a count over all: in a collection with several templates
each text is compared with those of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..language import translated as _
from .encoding import Context

FEW_NEIGHBOURS = 2  # a document and another one, or nothing can be shared


class Holdings:
    """Which documents hold which keys: token ids, or pairs of neighbouring ones.

    Args:
        documents: the keys of each, whole numbers, in any order, repeated or not.

    >>> held = Holdings([np.array([101, 7, 8]), np.array([101, 7])])
    >>> held.shares(torch.tensor([[0.9, 0.1]]), torch.tensor([[101, 8, 5]]))
    tensor([[1.0000, 0.9000, 0.0000]])
    """

    def __init__(self, documents: Sequence[np.ndarray]):
        keys, rows = np.unique(np.concatenate(documents), return_inverse=True)
        owners = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
        table = np.zeros((len(keys) + 1, len(documents)), dtype=bool)  # the last row: not held
        table[rows, owners] = True
        self.keys, self.table = torch.from_numpy(keys), torch.from_numpy(table)

    def to(self, device: torch.device) -> Holdings:
        """Move both tables; returns itself."""
        self.keys, self.table = self.keys.to(device), self.table.to(device)
        return self

    def shares(self, attention: Tensor, wanted: Tensor) -> Tensor:
        """Attention on the documents that hold each key: (n, k) and (n, t) become (n, t)."""
        if not len(self.keys):
            return torch.zeros(wanted.shape).to(attention)
        places = torch.searchsorted(self.keys, wanted.contiguous()).clamp(max=len(self.keys) - 1)
        places = torch.where(self.keys[places] == wanted, places, len(self.keys))
        return (self.table[places].to(attention) @ attention.unsqueeze(-1)).squeeze(-1)


class PreparedContext(NamedTuple):
    """A context as stage 2 uses it, made once.

    Attributes:
        vectors: (k, d), of length 1.
        held: token ids of each document.
        exponent: beta, by which the weights fall; it depends on how much text is shared.
    """

    vectors: Tensor
    held: Holdings
    exponent: float


class LocalIDFPooling(nn.Module):
    """Token vectors (n, t, d) -> (n, d), a weighted mean. Nothing in it is trained.

    With x the plain mean of the text's token vectors, scaled to length 1, and c_k the vectors of
    the context's documents:

        a = softmax(sharpness * x . c_k)                   attention over the documents
        share_t = sum of a_k over the documents that hold token t
        weight_t = (smoothing + share_t) ** -beta

    Special tokens stand in every document and say nothing; they get the mean weight of the others.
    Without a context it is the plain mean.

    Args:
        sharpness, smoothing: as above.
        strength: beta where little text is shared, and where much is.
        shared: what is little and what is much, by `shared_text`; in between, beta rises evenly.
    """

    def __init__(
        self,
        sharpness: float,
        smoothing: float,
        strength: tuple[float, float],
        shared: tuple[float, float],
    ):
        super().__init__()
        self.sharpness, self.smoothing = sharpness, smoothing
        self.strength, self.shared = tuple(strength), tuple(shared)

    def extra_repr(self) -> str:
        return (
            f"sharpness={self.sharpness}, smoothing={self.smoothing}, "
            f"strength={self.strength}, shared={self.shared}"
        )

    def prepare(self, context: Context, device: torch.device) -> PreparedContext:
        """What depends on the context alone.

        Raises:
            ValueError: the context does not know the tokens of its documents.
        """
        tokens = _tokens(context)
        vectors = context.vectors.to(device)
        return PreparedContext(
            vectors, Holdings(tokens).to(device), self.exponent(shared_text(context))
        )

    def exponent(self, shared: float) -> float:
        """beta, for a collection that shares so much of its text.

        >>> pooling = LocalIDFPooling(5.0, 0.2, strength=(1.0, 3.0), shared=(0.1, 0.3))
        >>> [pooling.exponent(shared) for shared in (0.05, 0.2, 0.9)]
        [1.0, 2.0, 3.0]
        """
        return float(np.interp(shared, self.shared, self.strength))

    def weights(
        self,
        states: Tensor,
        input_ids: Tensor,
        mask: Tensor,
        special: Tensor,
        context: PreparedContext,
    ) -> Tensor:
        """Share of every token in its text, (n, t); the shares of a text sum to 1.

        Args:
            states: (n, t, d), zero where padded.
            input_ids, mask: (n, t).
            special: (n, t), true for [CLS] and [SEP].
            context: made by `prepare`.
        """
        plain = nn.functional.normalize(states.sum(dim=1), dim=1)
        attention = (self.sharpness * plain @ context.vectors.T).softmax(dim=1)
        shares = context.held.shares(attention, input_ids)
        weights = (self.smoothing + shares) ** -context.exponent
        words = (mask == 1) & ~special
        mean = (weights * words).sum(dim=1) / words.sum(dim=1).clamp(min=1)
        mean = torch.where(mean > 0, mean, 1.0)  # a text of special tokens alone
        weights = torch.where(special, mean.unsqueeze(1), weights) * mask
        return weights / weights.sum(dim=1, keepdim=True)

    def forward(
        self,
        states: Tensor,
        input_ids: Tensor,
        mask: Tensor,
        special: Tensor,
        context: PreparedContext | None,
    ) -> Tensor:
        if context is None:
            return states.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        shares = self.weights(states, input_ids, mask, special, context)
        return (shares.unsqueeze(-1) * states).sum(dim=1)


def shared_text(context: Context, *, sharpness: float = 5.0) -> float:
    """How much of their text the documents of a context share, from 0 to 1; no question is needed.

    It is the part of a document's neighbouring token pairs that more than half of the documents
    like it hold as well (by attention; the document itself does not count), averaged over the
    documents. Pairs, because single tokens such as "the" are shared by all English texts.

    Raises:
        ValueError: the context does not know the tokens of its documents.
    """
    tokens = _tokens(context)
    if len(tokens) < FEW_NEIGHBOURS:
        return 0.0
    scores = sharpness * context.vectors @ context.vectors.T
    attention = scores.fill_diagonal_(-torch.inf).softmax(dim=1)
    pairs = [_pairs(ids) for ids in tokens]
    held = Holdings(pairs)
    parts = [
        (held.shares(row[None], torch.from_numpy(pair)[None]) > 0.5).float().mean().item()
        for row, pair in zip(attention, pairs, strict=True)
        if len(pair)
    ]
    return float(np.sum(parts) / len(pairs))  # without pairs, nothing is shared


def _pairs(ids: np.ndarray) -> np.ndarray:
    """Neighbouring tokens, two in one number; [CLS] and [SEP], which all texts have, are left out.

    >>> _pairs(np.array([101, 1, 2, 3, 102])) - np.array([1 << 32, 2 << 32])
    array([2, 3])
    """
    inner = ids[1:-1].astype(np.int64)
    return inner[:-1] << 32 | inner[1:]


def _tokens(context: Context) -> tuple[np.ndarray, ...]:
    if context.tokens is None:
        raise ValueError(
            _(
                "the context of {model} does not know the tokens of its documents; "
                "make one with the small model: load_mini_cde().embed_context(texts)"
            ).format(model=context.model)
        )
    return context.tokens
