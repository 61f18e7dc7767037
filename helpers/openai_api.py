"""The OpenAI embeddings endpoint: yours when there is a key, else a local server that speaks the same HTTP.

Without `OPENAI_API_KEY`, `connect()` starts a server inside this kernel on a free loopback port, serving
`all-MiniLM-L6-v2`, and points the SDK's own environment variables at it, so that the same `OpenAI()` talks to
either. The server is a daemon thread: it ends with the kernel, however the kernel ends.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .settings import hide_key, load_env

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "text-embedding-3-small"
LOCAL_MODEL = "all-MiniLM-L6-v2"

#: Dollars per million input tokens, standard tier, at OpenAI's own endpoint; source:
#: https://developers.openai.com/api/docs/pricing on PRICES_DATE.
PRICES_PER_MILLION = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "text-embedding-ada-002": 0.10,
}
PRICES_DATE = "2026-07-03"

#: What OpenAI's endpoint accepts, and the local one with it (its tokens per input are the model's own).
MAX_INPUTS, MAX_REQUEST_TOKENS, MAX_BODY_BYTES = 2048, 300_000, 8_000_000

#: What to do about an error of the endpoint.
ANOTHER = "tell the provider, or take another endpoint or model in .env and restart the kernel."
BY_STATUS = {
    400: "The request has to change: texts empty or too long, or dimensions out of range.",
    401: "The key was refused. Check OPENAI_API_KEY and OPENAI_BASE_URL together in .env, and restart the kernel.",
    403: "The key may not do this. Check OPENAI_API_KEY and OPENAI_EMBEDDING_MODEL in .env, and restart the kernel.",
    404: "There is no such model or address. Check OPENAI_EMBEDDING_MODEL and OPENAI_BASE_URL in .env, and restart the kernel.",
    413: "The request is too large. Send fewer texts at a time.",
    429: "Too many requests, or no credit left; the SDK has tried again already. Wait a minute and run the cell again, or check the balance.",
    500: f"The provider has a problem; the SDK has tried again already. Run the cell again later, or {ANOTHER}",
}


@dataclass(frozen=True)
class Endpoint:
    """Which endpoint answers, and with which model. Holds no key."""

    base_url: str
    model: str
    is_local: bool

    def __str__(self) -> str:
        if self.is_local:
            return f"No key found: a local server in this kernel answers, on a free port of 127.0.0.1, with {self.model}."
        return f"Your key is used: {self.base_url} answers, with {self.model}."


def price_per_million(endpoint: Endpoint) -> float | None:
    """Dollars for one million tokens at `endpoint`: 0 for the local server, None when the price is not known."""
    if endpoint.is_local:
        return 0.0
    return (
        PRICES_PER_MILLION.get(endpoint.model) if "://api.openai.com" in endpoint.base_url else None
    )


def cost_in_dollars(tokens: int, per_million: float) -> float:
    """What `tokens` input tokens cost.

    >>> cost_in_dollars(1_000_000, 0.02)
    0.02
    """
    return tokens * per_million / 1_000_000


class Fault:
    """The next `times` requests fail with `status`; used to look at what the SDK does about it."""

    def __init__(self, status: int, times: int, headers: dict[str, str] | None = None):
        self.status, self.times, self.headers = status, times, headers or {}


class ApiError(Exception):
    """One refusal, as OpenAI words it: message, type, param, code, HTTP status, headers."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None,
        headers: dict[str, str] | None = None,
    ):  # fmt: skip
        super().__init__(message)
        self.headers = headers
        kinds = {
            401: "authentication_error",
            429: "requests",
            500: "server_error",
            503: "server_error",
        }
        self.status = status
        self.body = {
            "message": message,
            "type": kinds.get(status, "invalid_request_error"),
            "param": param,
            "code": code,
        }


def _texts(value: Any, tokenizer: Any, limit: int) -> tuple[list[list[int]], int]:
    """The request's input as token ids, and the number of tokens billed.

    Raises:
        ApiError: empty, too long, too many, or of a type the API does not take.
    """
    if isinstance(value, str):
        value = [value]
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    ):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ApiError(
            400,
            "'input' must be a text or a list of texts with at least one element.",
            "input",
            "empty_array",
        )
    if len(value) > MAX_INPUTS:
        raise ApiError(
            400,
            f"'input' has {len(value):,} elements; at most {MAX_INPUTS:,} fit into one request.",
            "input",
        )
    if all(isinstance(item, list) for item in value):
        raise ApiError(
            400,
            "This local server takes texts. Token ids belong to one tokenizer and differ here.",
            "input",
        )
    if not all(isinstance(item, str) for item in value):
        raise ApiError(400, "every element of 'input' must be a text.", "input", "invalid_type")
    if not all(item for item in value):
        raise ApiError(400, "'input' cannot be an empty text.", "input", "empty_string")
    value = [
        text.encode("utf-8", "replace").decode() for text in value
    ]  # half of a surrogate pair is no text
    ids = tokenizer(value, verbose=False)["input_ids"]
    longest = max(map(len, ids))
    if longest > limit:
        raise ApiError(
            400,
            f"This model's maximum context length is {limit} tokens, however you requested {longest} tokens.",
            "input",
        )
    if sum(map(len, ids)) > MAX_REQUEST_TOKENS:
        raise ApiError(400, f"at most {MAX_REQUEST_TOKENS:,} tokens fit into one request.", "input")
    return value, sum(map(len, ids))


class LocalServer:
    """An OpenAI-compatible embeddings server in a thread of this process, on loopback only.

    Args:
        encoder: model that makes the vectors; it is shared, not copied.
        max_tokens: longest input it takes; the model's own limit when not given.

    Use as a context manager, or call `start()` and `stop()`. It also ends with the process.
    """

    def __init__(self, encoder: SentenceTransformer, *, max_tokens: int | None = None):
        self.encoder = encoder
        self.max_tokens = max_tokens or encoder.max_seq_length
        self.api_key = "local-" + secrets.token_hex(16)  # only this kernel may ask
        self.requests = 0
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def base_url(self) -> str:
        """Where the SDK finds it, `http://127.0.0.1:<port>/v1`.

        Raises:
            RuntimeError: it is not running.
        """
        if not self.is_running:
            raise RuntimeError("The local server is not running. Start it: server.start()")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def fail_next(
        self, times: int, *, status: int = 429, headers: dict[str, str] | None = None
    ) -> None:
        """Let the next `times` requests fail with `status`, then work again."""
        self._fault = Fault(status, times, headers)

    def start(self, timeout: float = 20.0) -> LocalServer:
        """Take a free port and serve.

        Raises:
            RuntimeError: it did not come up within `timeout` seconds.
        """
        if self.is_running:
            return self
        import uvicorn

        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            self._app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="local-openai-server",
            daemon=True,
        )
        self._thread.start()
        end = time.monotonic() + timeout
        while not self._server.started:
            if time.monotonic() > end or not self._thread.is_alive():
                self.stop()
                raise RuntimeError(
                    "The local server did not start. Restart the kernel and run the cell again."
                )
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self._socket is not None:
            self._socket.close()
        self._server = self._thread = self._socket = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _app(self) -> Any:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def refused(_: Request, error: ApiError) -> JSONResponse:
            return JSONResponse(
                {"error": error.body}, status_code=error.status, headers=error.headers
            )

        async def unknown_route(request: Request, _: Exception) -> JSONResponse:
            error = ApiError(
                404, f"Invalid URL ({request.method} {request.url.path})", code="unknown_url"
            )
            return JSONResponse({"error": error.body}, status_code=404)

        async def embeddings(request: Request) -> JSONResponse:
            self.requests += 1
            self._check_key(request.headers.get("authorization", ""))
            self._maybe_fail()
            return JSONResponse(await run_in_threadpool(self._answer, await self._body(request)))

        async def models(request: Request) -> JSONResponse:
            self._check_key(request.headers.get("authorization", ""))
            model = {"id": LOCAL_MODEL, "object": "model", "created": 0, "owned_by": "local"}
            return JSONResponse({"object": "list", "data": [model]})

        routes = [
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v1/models", models, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={ApiError: refused, 404: unknown_route})

    def _check_key(self, header: str) -> None:
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise ApiError(401, "You didn't provide an API key.", code="missing_api_key")
        if not secrets.compare_digest(key.encode(), self.api_key.encode()):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    def _maybe_fail(self) -> None:
        with self._lock:
            fault = self._fault
            if fault is None or fault.times <= 0:
                return
            fault.times -= 1
        message = (
            "Rate limit reached for requests."
            if fault.status == 429
            else "The server had an error."
        )
        code = "rate_limit_exceeded" if fault.status == 429 else None
        raise ApiError(fault.status, message, code=code, headers=fault.headers)

    @staticmethod
    async def _body(request: Any) -> dict[str, Any]:
        import json

        data = b""
        async for piece in request.stream():
            data += piece
            if len(data) > MAX_BODY_BYTES:
                raise ApiError(
                    413,
                    f"The request is larger than {MAX_BODY_BYTES:,} bytes. Send fewer texts at a time.",
                )
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:  # the latter for thousands of brackets
            raise ApiError(400, "We could not parse the JSON body of your request.") from error
        if not isinstance(body, dict):
            raise ApiError(400, "The body of the request must be a JSON object.")
        return body

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The response to one request, in the SDK's own types."""
        from openai.types import CreateEmbeddingResponse, Embedding

        if body.get("model") != LOCAL_MODEL:
            raise ApiError(
                404, f"The model `{body.get('model')}` does not exist here; this server has `{LOCAL_MODEL}`.",
                "model", "model_not_found",
            )  # fmt: skip
        full = self.encoder.get_embedding_dimension()
        dimensions = body.get("dimensions", full)
        if (
            not isinstance(dimensions, int)
            or isinstance(dimensions, bool)
            or not 1 <= dimensions <= full
        ):
            raise ApiError(
                400,
                f"Invalid value for 'dimensions': must be an integer from 1 to {full}.",
                "dimensions",
            )
        form = body.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise ApiError(
                400,
                "Invalid value for 'encoding_format': must be 'float' or 'base64'.",
                "encoding_format",
            )
        texts, tokens = _texts(body.get("input"), self.encoder.tokenizer, self.max_tokens)
        with self._lock:
            vectors = np.asarray(self.encoder.encode(texts, show_progress_bar=False), dtype="<f4")[
                :, :dimensions
            ]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        data = [
            Embedding.model_construct(embedding=_form(v, form), index=i, object="embedding")
            for i, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = CreateEmbeddingResponse.model_construct(
            data=data, model=LOCAL_MODEL, object="list", usage=usage
        )
        return answer.model_dump(warnings=False)


def _form(vector: np.ndarray, form: str) -> list[float] | str:
    return vector.tolist() if form == "float" else base64.b64encode(vector.tobytes()).decode()


@dataclass
class _Running:
    server: LocalServer | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_running = _Running()


def local_server() -> LocalServer:
    """The one local server of this kernel, started when first asked for."""
    from .artifacts import load_encoder

    with _running.lock:
        if _running.server is None or not _running.server.is_running:
            _running.server = LocalServer(load_encoder()).start()
            for name in ("NO_PROXY", "no_proxy"):  # a proxy would be asked for 127.0.0.1 otherwise
                hosts = [host for host in os.environ.get(name, "").split(",") if host]
                os.environ[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
        return _running.server


def vectors_of(response: Any, count: int) -> np.ndarray:
    """The vectors of an answer in the order of the texts sent, shape (count, d): what comes from outside is checked first.

    Raises:
        ValueError: not one vector for each text, vectors of several lengths, or numbers that are not finite.
    """
    if len(response.data) != count:
        raise ValueError(
            f"The endpoint answered {len(response.data)} vectors for {count} texts. Run the cell again; if it stays, {ANOTHER}"
        )
    if {item.index for item in response.data} != set(range(count)):
        raise ValueError(
            f"The endpoint's {count} vectors are not numbered from 0 to {count - 1}. Run the cell again; if it stays, {ANOTHER}"
        )
    items = sorted(response.data, key=lambda item: item.index)
    lengths = {len(item.embedding or ()) for item in items}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"The endpoint answered vectors of the lengths {sorted(lengths)}; one model has one length. {ANOTHER.capitalize()}"
        )
    try:
        vectors = np.array([item.embedding for item in items], dtype=np.float64)
    except (TypeError, ValueError):  # words among the numbers
        vectors = np.full(1, np.nan)
    if not np.isfinite(vectors).all():
        raise ValueError(
            f"The endpoint answered a vector with entries that are no finite numbers. Run the cell again; if it stays, {ANOTHER}"
        )
    return vectors


def _advice(error: BaseException) -> str:
    """What to do about an error of the SDK; empty for errors from elsewhere."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return (
            BY_STATUS.get(error.status_code) or BY_STATUS[400 if error.status_code < 500 else 500]
        )
    if isinstance(error, openai.APITimeoutError):
        return f"No answer in time; the SDK has tried again already. Check the network and run the cell again, or {ANOTHER}"
    if isinstance(error, openai.APIConnectionError):
        return (
            "Nobody answered, or the connection broke. Check network, proxy and OPENAI_BASE_URL, and run the cell again. "
            "Without a key in .env, the local server answers."
        )
    if isinstance(error, openai.OpenAIError):
        return "Check OPENAI_API_KEY in .env, and restart the kernel. Without it, connect() starts the local server."
    frame = error.__traceback__
    while frame is not None:  # an answer the SDK could not read ends in an error of Python's own
        if frame.tb_frame.f_globals.get("__name__", "").startswith("openai."):
            return (
                "The answer is not that of an embeddings endpoint: some other page, or cut. "
                "Check OPENAI_BASE_URL in .env (it usually ends in /v1), and restart the kernel."
            )
        frame = frame.tb_next
    return ""


def clarify(error: BaseException) -> BaseException:
    """The same error with what to do as a note, and without a key in its words or in those of its causes."""
    if (advice := _advice(error)) and advice not in getattr(error, "__notes__", ()):
        error.add_note(advice)
    cause: BaseException | None = error
    while cause is not None:
        cause.args = tuple(hide_key(part) if isinstance(part, str) else part for part in cause.args)
        cause = cause.__cause__ or cause.__context__
    return error


def connect() -> Endpoint:
    """Decide which endpoint answers, and set the SDK's environment variables so that `OpenAI()` finds it.

    With `OPENAI_API_KEY` (from the environment or `.env`): the endpoint in `OPENAI_BASE_URL`, else OpenAI's own.
    Without: the local server. Runs again without harm.

    Raises:
        ValueError: an `OPENAI_BASE_URL` without a key, which no provider could answer.
    """
    load_env()
    key, url = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    ours = _running.server is not None and key == _running.server.api_key
    if key and not ours:
        model = os.environ.get("OPENAI_EMBEDDING_MODEL", DEFAULT_MODEL)
        shown = re.sub(
            r"(?<=//)[^/]*@|[?#].*", "", url or "https://api.openai.com/v1"
        )  # either may hold a key
        return Endpoint(base_url=shown, model=model, is_local=False)
    if url and not ours:
        raise ValueError(
            "OPENAI_BASE_URL is set but OPENAI_API_KEY is not. Put the provider's key into .env as well "
            "(a server without keys takes any word), or remove the URL to use the local server."
        )
    server = local_server()
    os.environ["OPENAI_API_KEY"], os.environ["OPENAI_BASE_URL"] = server.api_key, server.base_url
    return Endpoint(base_url=server.base_url, model=LOCAL_MODEL, is_local=True)
