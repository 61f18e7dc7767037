"""The OpenAI embeddings endpoint: yours if there is a key, else the local server of this kernel.

`connect()` sets the SDK's own environment variables, so that the same `OpenAI()` talks to either.
What an endpoint answers is checked before it is used: many deviate from OpenAI's protocol.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import PROJECT_ROOT
from .artifacts import MINILM
from .files import write_whole
from .language import marked as N_
from .language import translated as _
from .local_server import (
    LOCAL_MODEL,
    MAX_INPUT_TOKENS,
    MAX_INPUTS,
    MAX_REQUEST_TOKENS,
    is_local_key,
    local_server,
)
from .settings import hide_key, load_env
from .similarity import unit
from .tokens import visible

if TYPE_CHECKING:
    from openai import OpenAI
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
            return _(
                "No key found: a local server in this kernel answers, on a free port "
                "of 127.0.0.1, with {model}."
            ).format(model=self.model)
        return _("Your key is used: {base_url} answers, with {model}.").format(
            base_url=self.base_url, model=self.model
        )


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
            _(
                "OPENAI_BASE_URL is set but OPENAI_API_KEY is not. Put the provider's "
                "key into .env as well (any word will do for a server without keys), "
                "or remove the URL to use the local server."
            )
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
ANOTHER = N_("tell the provider, or take another endpoint or model in .env and restart the kernel.")


def _once_more() -> str:
    return _("Run the cell again; if it stays, {another}").format(another=_(ANOTHER))


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
            _("The endpoint answered a vector with entries that are not finite numbers. ")
            + _once_more()
        )
    return vectors


def _in_order(data: Sequence[Any], count: int) -> list[Any]:
    """The entries of an answer by their `index`, one for each text."""
    if len(data) != count:
        raise ValueError(
            _("The endpoint answered {data} vectors for {count} texts. {once_more}").format(
                data=len(data), count=count, once_more=_once_more()
            )
        )
    by_index = {item.index: item for item in data if isinstance(item.index, int)}
    if by_index.keys() != set(range(count)):
        raise ValueError(
            _(
                "The endpoint's {count} vectors are not numbered from 0 to {last}. {once_more}"
            ).format(count=count, last=count - 1, once_more=_once_more())
        )
    return [by_index[i] for i in range(count)]


def _decode(embedding: Any) -> Sequence[Any]:
    """The entries of one vector; the bytes of float32 numbers if the provider answered base64."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").tolist()
        except ValueError:
            raise ValueError(
                _("The endpoint answered text that is not a vector in base64. {once_more}").format(
                    once_more=_once_more()
                )
            ) from None
    return embedding if isinstance(embedding, list) else ()


def _check_lengths(lengths: set[int], dimensions: int | None) -> None:
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            _(
                "The endpoint answered vectors of lengths {lengths}; all vectors of a "
                "model have the same length, which is not 0. {another}"
            ).format(lengths=sorted(lengths), another=_(ANOTHER).capitalize())
        )
    (length,) = lengths
    if dimensions is not None and length != dimensions:
        raise DimensionsIgnored(
            _(
                "this provider ignored dimensions and answered {length} numbers "
                "instead of {dimensions}. Shorten by hand: keep the first {dimensions} "
                "and renormalise."
            ).format(length=length, dimensions=dimensions)
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
        return _("(not named; asked for: {model})").format(model=endpoint.model)
    name = visible(hide_key(name))
    return _(
        "{name} (asked for: {model}; the provider renames it, or another model answered)"
    ).format(name=name, model=endpoint.model)


# --- many texts -----------------------------------------------------------------------------------

#: Where `embed` keeps the vectors of every request.
STORE = PROJECT_ROOT / ".cache" / "vectors"


def most_tokens(text: str) -> int:
    """An upper bound of the tokens of a text, for tokenizers that are not at hand.

    A token of OpenAI's models or of MiniLM covers at least one byte of UTF-8; MiniLM adds a special
    token at each end. English has about four bytes per token, so the bound is generous.

    >>> most_tokens("fees")
    6
    """
    return len(text.encode("utf-8", "replace")) + 2


def batches(
    texts: Sequence[str],
    *,
    count_tokens: Callable[[str], int] | None = None,
    per_request: int = MAX_INPUTS,
) -> list[list[str]]:
    """The texts in their order, cut into as few requests as OpenAI's limits allow.

    The limits: 2,048 texts and 300,000 tokens per request, and 8,192 tokens per text.

    Args:
        count_tokens: tokens of one text. Without it, the upper bound `most_tokens` fills the
            requests, and too long a text is left for the endpoint to refuse.
        per_request: texts in one request, if fewer than 2,048 are wanted.

    Raises:
        ValueError: `per_request` is not between 1 and 2,048, or a text is longer than 8,192 tokens
            by `count_tokens`.

    >>> batches(["a", "b", "c"], per_request=2)
    [['a', 'b'], ['c']]
    """
    if not 1 <= per_request <= MAX_INPUTS:
        raise ValueError(
            _("per_request must lie between 1 and {max_inputs:,}, got {per_request}").format(
                max_inputs=MAX_INPUTS, per_request=per_request
            )
        )
    cut: list[list[str]] = []
    room = 0
    for number, text in enumerate(texts):
        tokens = (count_tokens or most_tokens)(text)
        if count_tokens and tokens > MAX_INPUT_TOKENS:
            raise ValueError(
                _(
                    "text {number} has {tokens:,} tokens, and a request takes at most "
                    "{max_input_tokens:,} per text: cut it into chunks"
                ).format(number=number, tokens=tokens, max_input_tokens=MAX_INPUT_TOKENS)
            )
        if not cut or len(cut[-1]) == per_request or tokens > room:
            cut.append([])
            room = MAX_REQUEST_TOKENS
        cut[-1].append(text)
        room -= tokens
    return cut


def embed(
    client: OpenAI,
    texts: Sequence[str],
    endpoint: Endpoint,
    *,
    per_request: int = 64,
    store: Path | None = STORE,
    progress: bool = False,
) -> np.ndarray:
    """The unit vectors of many texts, asked for in batches and stored, shape (len(texts), d).

    Most providers answer unit vectors; those of others are divided by their norms here.
    The vectors of every request are kept in a file whose name is a hash of address, model and
    texts: what has been paid for is not asked for again, and a run that was interrupted goes on
    where it stopped. The files hold neither texts nor keys, and may be deleted at any time.

    Args:
        per_request: texts in one request. The limit is 2,048; less shows progress, and answers
            within the client's timeout on a slow machine.
        store: the folder of these files; None stores nothing.
        progress: draw a progress bar.

    Raises:
        ValueError: there are no texts, or an answer cannot be used; see `vectors_of`.
        OpenAIError: the endpoint refused a request or could not be reached.
    """
    from tqdm.auto import tqdm

    parts = []
    with tqdm(total=len(texts), desc=_("embedding"), unit="text", disable=not progress) as bar:
        for batch in batches(texts, per_request=per_request):
            path = store / f"{_store_key(batch, endpoint)}.npy" if store else None
            vectors = _read_stored(path, len(batch)) if path else None
            if vectors is None:
                answer = client.embeddings.create(model=endpoint.model, input=batch)
                vectors = vectors_of(answer, len(batch))
                if path:
                    _write_stored(path, vectors)
            parts.append(vectors)
            bar.update(len(batch))
    if not parts:
        raise ValueError(_("there are no texts to embed"))
    _check_lengths({part.shape[1] for part in parts}, None)
    return unit(np.concatenate(parts))


def _store_key(texts: Sequence[str], endpoint: Endpoint) -> str:
    """Name of the stored vectors: a hash of who answers, the model and the texts."""
    who = MINILM.revision if endpoint.is_local else endpoint.base_url  # the local port changes
    return hashlib.sha256(json.dumps([who, endpoint.model, *texts]).encode()).hexdigest()[:32]


def _read_stored(path: Path, count: int) -> np.ndarray | None:
    """Stored vectors, or None: there are none, or they are damaged, which a warning reports."""
    if not path.is_file():
        return None
    try:
        vectors = np.load(path, allow_pickle=False).astype(np.float64)
        if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
            raise ValueError(
                _("expected {count} rows of finite numbers, found {shape}").format(
                    count=count, shape=vectors.shape
                )
            )
    except Exception as error:  # a truncated file raises OS, EOF or value errors
        warnings.warn(
            _("{name} is damaged and not used: {error}").format(name=path.name, error=error),
            stacklevel=3,
        )
        return None
    return vectors


def _write_stored(path: Path, vectors: np.ndarray) -> None:
    out = io.BytesIO()
    np.save(out, vectors.astype("<f8"), allow_pickle=False)
    try:
        write_whole(path, out.getvalue())
    except OSError as error:  # a full disk, a read-only folder: the vectors are there all the same
        warnings.warn(
            _("The vectors could not be stored: {strerror}").format(strerror=error.strerror),
            stacklevel=3,
        )


# --- what an error means --------------------------------------------------------------------------

#: What to do about an error of the endpoint, by HTTP status; others count as 400 or 500.
BY_STATUS = {
    400: N_(
        "The request has to change: texts empty or too long, or dimensions out of range. If the "
        'message names encoding_format, pass encoding_format="float": the SDK asks for base64.'
    ),
    401: N_(
        "The key was refused. Check OPENAI_API_KEY and OPENAI_BASE_URL together in .env, and "
        "restart the kernel."
    ),
    403: N_(
        "The key does not allow this. Check OPENAI_API_KEY and OPENAI_EMBEDDING_MODEL in .env, and "
        "restart the kernel."
    ),
    404: N_(
        "There is no such model or address. Check OPENAI_EMBEDDING_MODEL and OPENAI_BASE_URL in "
        ".env, and restart the kernel."
    ),
    413: N_("The request is too large. Send fewer texts at a time."),
    429: N_(
        "Too many requests, or no credit left; the SDK has tried again already. Wait a minute and "
        "run the cell again. If the message names insufficient_quota, waiting does not help: check "
        "the balance."
    ),
    500: N_(
        "The provider has a problem; the SDK has tried again already. Run the cell again later, "
        "or {another}"
    ),
}

#: The same by the SDK's class of error, for errors without a status; the most specific first.
BY_CLASS = {
    "APITimeoutError": N_(
        "No answer in time; the SDK has tried again already. Check the network and run the cell "
        "again, or {another}"
    ),
    "APIConnectionError": N_(
        "Nobody answered, or the connection broke. Check network, proxy and OPENAI_BASE_URL, and "
        "run the cell again. Without a key in .env, the local server answers."
    ),
    "OpenAIError": N_(
        "Check OPENAI_API_KEY in .env, and restart the kernel. Without it, connect() starts the "
        "local server."
    ),
}

NOT_EMBEDDINGS = N_(
    "The answer is not that of an embeddings endpoint: some other page, or cut off. Check "
    "OPENAI_BASE_URL in .env (it usually ends in /v1), and restart the kernel."
)


def clarify(error: BaseException) -> BaseException:
    """The same error with a note on what to do, and without a key in its words or its causes'."""
    advice = _(_advice(error)).replace("{another}", _(ANOTHER))
    if advice and advice not in getattr(error, "__notes__", ()):
        error.add_note(advice)
    cause: BaseException | None = error
    while cause is not None:
        cause.args = tuple(hide_key(part) if isinstance(part, str) else part for part in cause.args)
        cause = cause.__cause__ or cause.__context__
    return error


def _advice(error: BaseException) -> str:
    """What to do about an error of the SDK, in English; empty for errors from elsewhere."""
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
