"""The OpenAI embeddings endpoint: yours if there is a key, else the local server of this kernel.

`connect()` sets the SDK's own environment variables, so that the same `OpenAI()` talks to either.
What an endpoint answers is checked before it is used: many deviate from OpenAI's protocol.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .local_server import LOCAL_MODEL, is_local_key, local_server
from .settings import hide_key, load_env
from .tokens import visible

if TYPE_CHECKING:
    from openai.types import CreateEmbeddingResponse

DEFAULT_MODEL = "text-embedding-3-small"

#: Dollars per million input tokens, standard tier, at OpenAI's own endpoint; source:
#: https://developers.openai.com/api/docs/pricing on PRICES_DATE.
PRICES_PER_MILLION = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}
PRICES_DATE = "2026-07-03"


# --- which endpoint -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Endpoint:
    """Which endpoint answers, and with which model. Holds no key."""

    base_url: str
    model: str
    is_local: bool

    def __str__(self) -> str:
        if self.is_local:
            return (
                "No key found: a local server in this kernel answers, "
                f"on a free port of 127.0.0.1, with {self.model}."
            )
        return f"Your key is used: {self.base_url} answers, with {self.model}."


def connect() -> Endpoint:
    """Decide which endpoint answers, and set the variables through which `OpenAI()` finds it.

    With `OPENAI_API_KEY` (from the environment or `.env`): the endpoint in `OPENAI_BASE_URL`, else
    OpenAI's own. Without: the local server. It can be called again at any time.

    Raises:
        ValueError: an `OPENAI_BASE_URL` without a key, which no provider could answer.
    """
    load_env()
    key, url = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if key and not is_local_key(key):
        model = os.environ.get("OPENAI_EMBEDDING_MODEL", DEFAULT_MODEL)
        return Endpoint(_without_secrets(url or "https://api.openai.com/v1"), model, is_local=False)
    if url and not key:
        raise ValueError(
            "OPENAI_BASE_URL is set but OPENAI_API_KEY is not. Put the provider's key into .env as "
            "well (any word will do for a server without keys), or remove the URL to use the local "
            "server."
        )
    server = local_server()
    os.environ["OPENAI_API_KEY"], os.environ["OPENAI_BASE_URL"] = server.api_key, server.base_url
    return Endpoint(server.base_url, LOCAL_MODEL, is_local=True)


def _without_secrets(url: str) -> str:
    """The address without user, password and query, any of which may hold a key."""
    return re.sub(r"(?<=//)[^/]*@|[?#].*", "", url)


def price_per_million(endpoint: Endpoint) -> float | None:
    """Dollars for a million tokens: 0 for the local server, None if the price is not known."""
    if endpoint.is_local:
        return 0.0
    is_openai = "://api.openai.com" in endpoint.base_url
    return PRICES_PER_MILLION.get(endpoint.model) if is_openai else None


def cost_in_dollars(tokens: int, per_million: float) -> float:
    """What `tokens` input tokens cost.

    >>> cost_in_dollars(1_000_000, 0.02)
    0.02
    """
    return tokens * per_million / 1_000_000


# --- what an answer holds -------------------------------------------------------------------------

#: What to do about an answer that cannot be used.
ANOTHER = "tell the provider, or take another endpoint or model in .env and restart the kernel."
ONCE_MORE = f"Run the cell again; if it stays, {ANOTHER}"


class DimensionsIgnored(ValueError):
    """The provider accepted `dimensions` and answered vectors of another length."""


def vectors_of(
    response: CreateEmbeddingResponse, count: int, *, dimensions: int | None = None
) -> np.ndarray:
    """The vectors of an answer in the order of the texts sent, shape (count, d), float64.

    What comes from outside is checked before it is used. Vectors in base64 are decoded, whether or
    not base64 was asked for.

    Args:
        count: number of texts sent.
        dimensions: the length that the request asked for; None if it did not.

    Raises:
        DimensionsIgnored: the vectors are not of length `dimensions`.
        ValueError: not one vector per text, vectors of several lengths, or entries that are not
            finite numbers.

    >>> from types import SimpleNamespace as Item
    >>> second, first = Item(index=1, embedding=[0.0, 1.0]), Item(index=0, embedding=[1.0, 0.0])
    >>> vectors_of(Item(data=[second, first]), 2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    rows = [_decode(item.embedding) for item in _in_order(response.data or [], count)]
    _check_lengths({len(row) for row in rows}, dimensions)
    try:
        vectors = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):  # words among the numbers
        vectors = np.full(1, np.nan)
    if not np.isfinite(vectors).all():
        raise ValueError(
            "The endpoint answered a vector with entries that are not finite numbers. " + ONCE_MORE
        )
    return vectors


def _in_order(data: Sequence[Any], count: int) -> list[Any]:
    """The entries of an answer by their `index`, one for each text."""
    if len(data) != count:
        raise ValueError(
            f"The endpoint answered {len(data)} vectors for {count} texts. {ONCE_MORE}"
        )
    by_index = {item.index: item for item in data if isinstance(item.index, int)}
    if by_index.keys() != set(range(count)):
        raise ValueError(
            f"The endpoint's {count} vectors are not numbered from 0 to {count - 1}. {ONCE_MORE}"
        )
    return [by_index[i] for i in range(count)]


def _decode(embedding: Any) -> Sequence[Any]:
    """The entries of one vector; the bytes of float32 numbers if the provider answered base64."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").tolist()
        except ValueError:
            raise ValueError(
                f"The endpoint answered text that is not a vector in base64. {ONCE_MORE}"
            ) from None
    return embedding if isinstance(embedding, list) else ()


def _check_lengths(lengths: set[int], dimensions: int | None) -> None:
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"The endpoint answered vectors of lengths {sorted(lengths)}; all vectors of a model "
            f"have the same length, which is not 0. {ANOTHER.capitalize()}"
        )
    (length,) = lengths
    if dimensions is not None and length != dimensions:
        raise DimensionsIgnored(
            f"this provider ignored dimensions and answered {length} numbers instead of "
            f"{dimensions}. Shorten by hand: keep the first {dimensions} and renormalise."
        )


def tokens_billed(response: CreateEmbeddingResponse) -> int | None:
    """Tokens counted in `usage`; None if the provider does not count them.

    Some leave `usage` out. Others always say 0, which is not a count: no text has 0 tokens.

    >>> from types import SimpleNamespace as Answer
    >>> tokens_billed(Answer(usage=Answer(prompt_tokens=8, total_tokens=8)))
    8
    >>> tokens_billed(Answer(usage=Answer(prompt_tokens=0, total_tokens=0))) is None
    True
    """
    usage = getattr(response, "usage", None)
    counts = [getattr(usage, name, None) for name in ("total_tokens", "prompt_tokens")]
    return next((count for count in counts if type(count) is int and count > 0), None)


def model_named(response: CreateEmbeddingResponse, endpoint: Endpoint) -> str:
    """The model that the answer names; says so if it is not the one that was asked for.

    >>> from types import SimpleNamespace as Answer
    >>> here = Endpoint("https://provider.example/v1", "small", is_local=False)
    >>> model_named(Answer(model="small"), here)
    'small'
    >>> model_named(Answer(model="small-v2"), here)
    'small-v2 (asked for: small; the provider renames it, or another model answered)'
    """
    name = getattr(response, "model", None)
    if name == endpoint.model:
        return endpoint.model
    if not name:
        return f"(not named; asked for: {endpoint.model})"
    name = visible(hide_key(name))
    return (
        f"{name} (asked for: {endpoint.model}; the provider renames it, or another model answered)"
    )


# --- what an error means --------------------------------------------------------------------------

#: What to do about an error of the endpoint, by HTTP status; others count as 400 or 500.
BY_STATUS = {
    400: (
        "The request has to change: texts empty or too long, or dimensions out of range. If the "
        'message names encoding_format, pass encoding_format="float": the SDK asks for base64.'
    ),
    401: (
        "The key was refused. Check OPENAI_API_KEY and OPENAI_BASE_URL together in .env, and "
        "restart the kernel."
    ),
    403: (
        "The key does not allow this. Check OPENAI_API_KEY and OPENAI_EMBEDDING_MODEL in .env, and "
        "restart the kernel."
    ),
    404: (
        "There is no such model or address. Check OPENAI_EMBEDDING_MODEL and OPENAI_BASE_URL in "
        ".env, and restart the kernel."
    ),
    413: "The request is too large. Send fewer texts at a time.",
    429: (
        "Too many requests, or no credit left; the SDK has tried again already. Wait a minute and "
        "run the cell again, or check the balance."
    ),
    500: (
        "The provider has a problem; the SDK has tried again already. Run the cell again later, "
        f"or {ANOTHER}"
    ),
}

#: The same by the SDK's class of error, for errors without a status; the most specific first.
BY_CLASS = {
    "APITimeoutError": (
        "No answer in time; the SDK has tried again already. Check the network and run the cell "
        f"again, or {ANOTHER}"
    ),
    "APIConnectionError": (
        "Nobody answered, or the connection broke. Check network, proxy and OPENAI_BASE_URL, and "
        "run the cell again. Without a key in .env, the local server answers."
    ),
    "OpenAIError": (
        "Check OPENAI_API_KEY in .env, and restart the kernel. Without it, connect() starts the "
        "local server."
    ),
}

NOT_EMBEDDINGS = (
    "The answer is not that of an embeddings endpoint: some other page, or cut off. Check "
    "OPENAI_BASE_URL in .env (it usually ends in /v1), and restart the kernel."
)


def clarify(error: BaseException) -> BaseException:
    """The same error with a note on what to do, and without a key in its words or its causes'."""
    advice = _advice(error)
    if advice and advice not in getattr(error, "__notes__", ()):
        error.add_note(advice)
    cause: BaseException | None = error
    while cause is not None:
        cause.args = tuple(hide_key(part) if isinstance(part, str) else part for part in cause.args)
        cause = cause.__cause__ or cause.__context__
    return error


def _advice(error: BaseException) -> str:
    """What to do about an error of the SDK; empty for errors from elsewhere."""
    openai = sys.modules.get("openai")
    if openai is None:  # not loaded, so it raised nothing; loading it takes a second
        return ""
    if isinstance(error, openai.APIStatusError):
        return _advice_on_status(error.status_code)
    for name, advice in BY_CLASS.items():
        if isinstance(error, getattr(openai, name)):
            return advice
    return NOT_EMBEDDINGS if _passed_through(error, "openai.") else ""


def _advice_on_status(status: int) -> str:
    return BY_STATUS.get(status) or BY_STATUS[400 if status < 500 else 500]


def _passed_through(error: BaseException, package: str) -> bool:
    """Whether the error came out of code of `package`.

    An answer that the SDK cannot read ends in an error of Python's own.
    """
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(package):
            return True
        trace = trace.tb_next
    return False
