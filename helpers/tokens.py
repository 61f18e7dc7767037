"""Text, tokens and ids."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("word", "suffix", "control")
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def kind(token: str) -> str:
    """What a WordPiece token is: `control` ([CLS], [unused7]), `suffix` (##ing) or `word`.

    >>> [kind(t) for t in ("[CLS]", "##ing", "bank", "[", "##")]
    ['control', 'suffix', 'word', 'word', 'word']
    """
    if token.startswith("[") and token.endswith("]") and len(token) > 2:
        return "control"
    return "suffix" if token.startswith("##") and len(token) > 2 else "word"


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """All tokens, the one with id `i` at place `i` (`get_vocab()` has another order in every process)."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def vocabulary_frame(tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row a token: `id`, `token`, `kind`."""
    words = vocabulary(tokenizer)
    return pd.DataFrame({"id": range(len(words)), "token": words, "kind": [kind(word) for word in words]})


def token_labels(tokens: list[str]) -> list[str]:
    """Names for the axis of a chart: repeated tokens get a number, so that no two are the same.

    >>> token_labels(["the", "rate", "the"])
    ['the₁', 'rate', 'the₂']
    """
    counts, seen = Counter(tokens), Counter()
    labels = []
    for token in tokens:
        seen[token] += 1
        labels.append(token + str(seen[token]).translate(SUBSCRIPTS) if counts[token] > 1 else token)
    return labels


def find_token(tokens: list[str], token: str) -> int:
    """Place of the first `token` in `tokens`.

    Raises:
        ValueError: it is not among them; the message lists those that are.
    """
    if token not in tokens:
        raise ValueError(f"{token!r} is not one of the tokens {tokens}. Choose one of these.")
    return tokens.index(token)
