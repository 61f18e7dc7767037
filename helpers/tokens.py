"""Texts and tokens: what kind a token is, how it is printed, where it stands."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from .language import translated as _

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
#: Control characters, bidirectional marks, lone surrogates: no screen shows them, and charts,
#: tables and UTF-8 break on them.
UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def kind(token: str) -> str:
    """What a WordPiece token is: `special` ([CLS], [unused7]), `continuation` (##ing) or `word`.

    >>> [kind(t) for t in ("[CLS]", "##ing", "bank", "[", "##")]
    ['special', 'continuation', 'word', 'word', 'word']
    """
    if token.startswith("[") and token.endswith("]") and len(token) > 2:
        return "special"
    return "continuation" if token.startswith("##") and len(token) > 2 else "word"


def check_texts(texts: Sequence[str]) -> list[str]:
    """`texts` as a list, after making sure that a model can read every one of them.

    Raises:
        TypeError: one text instead of a list, or an element that is not a text.
        ValueError: a text contains a lone surrogate, which is half of a pair and no character.

    >>> check_texts(("interest", "rate"))
    ['interest', 'rate']
    """
    if isinstance(texts, str):
        raise TypeError(_("Give a list of texts, not one text: [text]."))
    checked = list(texts)
    for i, text in enumerate(checked):
        if not isinstance(text, str):
            raise TypeError(
                _("text {i} is a {kind}; every element must be a text").format(
                    i=i, kind=type(text).__name__
                )
            )
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(
                _(
                    "text {i} contains a lone surrogate; repair it: text.encode('utf-8', "
                    "'replace').decode()"
                ).format(i=i)
            )
    return checked


def visible(text: object) -> str:
    """`text` as a screen can show it: unprintable characters as escapes. New lines and tabs stay.

    >>> print(visible("bank\\x00 \\ud83d"))
    bank\\x00 \\ud83d
    """
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def short(value: object) -> str:
    """`value` as Python writes it, for an error message; `...` marks what a long one omits."""
    brief = reprlib.Repr()
    brief.maxlist = brief.maxstring = brief.maxother = 60
    return visible(brief.repr(value))


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """All tokens by id (`get_vocab()` has a different order in every process)."""
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def vocabulary_frame(tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row per token: `id`, `token`, `kind`."""
    words = vocabulary(tokenizer)
    return pd.DataFrame(
        {"id": range(len(words)), "token": words, "kind": [kind(word) for word in words]}
    )


def token_labels(tokens: Sequence[str]) -> list[str]:
    """Labels for the axis of a chart: repeated tokens are numbered, so that all labels differ.

    >>> token_labels(["the", "rate", "the"])
    ['the₁', 'rate', 'the₂']
    """
    counts = Counter(tokens)
    taken, seen, labels = set(counts), Counter[str](), []
    for token in tokens:
        label = token
        while counts[token] > 1 and label in taken:  # the text itself may contain "the₁"
            seen[token] += 1
            label = token + str(seen[token]).translate(SUBSCRIPTS)
        taken.add(label)
        labels.append(label)
    return labels


def find_token(tokens: Sequence[str], token: str) -> int:
    """Position of the first `token` in `tokens`.

    Raises:
        ValueError: it is not among them; the message lists those that are.

    >>> find_token(["the", "bank", "rate"], "bank")
    1
    """
    if token not in tokens:
        raise ValueError(
            _("{token} is not one of the tokens {tokens}. Choose one of these.").format(
                token=short(token), tokens=short(list(tokens))
            )
        )
    return list(tokens).index(token)
