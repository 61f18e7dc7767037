"""An OpenAI-compatible embeddings server in a thread of this kernel, on loopback only.

It serves the `all-MiniLM-L6-v2` that the kernel has loaded, over real HTTP, and refuses what OpenAI
refuses. The thread is a daemon: it ends with the kernel, however the kernel ends.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .artifacts import MINILM, load_encoder
from .similarity import unit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse

LOCAL_MODEL = MINILM.name

#: What OpenAI's endpoint accepts in one request, and this one with it.
MAX_INPUTS, MAX_REQUEST_TOKENS, MAX_BODY_BYTES = 2048, 300_000, 8_000_000
#: Tokens in one input, for a model that states no limit of its own.
MAX_INPUT_TOKENS = 8192

ERROR_TYPES = {
    401: "authentication_error",
    429: "requests",
    500: "server_error",
    503: "server_error",
}


class ApiError(Exception):
    """One refusal, as OpenAI words it: message, type, param, code, HTTP status, headers."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        kind: str | None = None,
    ):
        super().__init__(message)
        self.status, self.headers = status, headers
        kind = kind or ERROR_TYPES.get(status, "invalid_request_error")
        self.body = {"message": message, "type": kind, "param": param, "code": code}


@dataclass
class Fault:
    """The next `times` requests fail with `status`: shows what the SDK does about it."""

    status: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)


# --- one request, step by step --------------------------------------------------------------------


def _parse_input(value: Any) -> list[str]:
    """The texts in a request's `input`, which is one text or a list of texts.

    Raises:
        ApiError: nothing in it, too many elements, or an element that is not a text.
    """
    items = [value] if isinstance(value, str) or _is_token_ids(value) else value
    if not isinstance(items, list) or not items:
        message = "'input' must be a text or a list of texts with at least one element."
        raise ApiError(400, message, "input", "empty_array")
    if len(items) > MAX_INPUTS:
        message = (
            f"'input' has {len(items):,} elements; at most {MAX_INPUTS:,} fit into one request."
        )
        raise ApiError(400, message, "input")
    return [_check_text(item) for item in items]


def _is_token_ids(value: Any) -> bool:
    """Whether `value` is one text given as token ids, which OpenAI's endpoint takes as well."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _check_text(item: Any) -> str:
    """One element of `input`, after making sure that the model can read it.

    Raises:
        ApiError: token ids, something else that is not a text, or an empty text.
    """
    if isinstance(item, list):
        message = (
            "This local server takes texts. Token ids belong to one tokenizer and differ here."
        )
        raise ApiError(400, message, "input")
    if not isinstance(item, str):
        raise ApiError(400, "every element of 'input' must be a text.", "input", "invalid_type")
    if not item:
        raise ApiError(400, "'input' cannot be an empty text.", "input", "empty_string")
    return item.encode("utf-8", "replace").decode()  # a lone surrogate becomes "?"


def _count_tokens(texts: list[str], tokenizer: Any, limit: int) -> int:
    """Number of tokens in all texts, special tokens included: what is billed.

    Raises:
        ApiError: a text has more than `limit` tokens, or all of them more than fit into a request.
    """
    counts = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    if max(counts) > limit:
        message = (
            f"This model's maximum context length is {limit} tokens, "
            f"however you requested {max(counts)} tokens."
        )
        raise ApiError(400, message, "input")
    if sum(counts) > MAX_REQUEST_TOKENS:
        message = f"Requested {sum(counts)} tokens, max {MAX_REQUEST_TOKENS} tokens per request"
        raise ApiError(400, message, code="max_tokens_per_request", kind="max_tokens_per_request")
    return sum(counts)


def _check_model(name: Any) -> None:
    if name != LOCAL_MODEL:
        message = f"The model `{name}` does not exist here; this server has `{LOCAL_MODEL}`."
        raise ApiError(404, message, "model", "model_not_found")


def _check_dimensions(value: Any, full: int) -> int:
    if type(value) is not int or not 1 <= value <= full:
        message = f"Invalid value for 'dimensions': must be an integer from 1 to {full}."
        raise ApiError(400, message, "dimensions")
    return value


def _check_encoding(name: Any) -> str:
    if name not in ("float", "base64"):
        message = "Invalid value for 'encoding_format': must be 'float' or 'base64'."
        raise ApiError(400, message, "encoding_format")
    return name


def _encode_vector(vector: np.ndarray, encoding: str) -> list[float] | str:
    """One vector as JSON carries it: numbers, or the base64 of its float32 bytes."""
    if encoding == "float":
        return vector.tolist()
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _response(vectors: np.ndarray, tokens: int, encoding: str) -> dict[str, Any]:
    """The body of an answer, built from the SDK's own types."""
    from openai.types import CreateEmbeddingResponse, Embedding
    from openai.types.create_embedding_response import Usage

    data = [
        Embedding.model_construct(
            embedding=_encode_vector(vector, encoding), index=i, object="embedding"
        )
        for i, vector in enumerate(vectors)
    ]
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens)
    answer = CreateEmbeddingResponse.model_construct(
        data=data, model=LOCAL_MODEL, object="list", usage=usage
    )
    return answer.model_dump(warnings=False)  # a vector in base64 is not the declared list


# --- the server -----------------------------------------------------------------------------------


class LocalServer:
    """An OpenAI-compatible embeddings server in a thread of this process, on loopback only.

    Args:
        encoder: model that makes the vectors; it is shared, not copied.
        max_tokens: longest input it takes; the model's own limit if not given.

    Use as a context manager, or call `start()` and `stop()`. It also ends with the process.
    """

    def __init__(self, encoder: SentenceTransformer, *, max_tokens: int | None = None):
        self.encoder = encoder
        self.max_tokens: int = max_tokens or encoder.max_seq_length or MAX_INPUT_TOKENS
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
        if self._socket is None or not self.is_running:
            raise RuntimeError("The local server is not running. Start it: server.start()")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    @property
    def is_running(self) -> bool:
        """Whether its thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def fail_next(
        self, times: int, *, status: int = 429, headers: dict[str, str] | None = None
    ) -> None:
        """Let the next `times` requests fail with `status`; after them it works again."""
        self._fault = Fault(status, times, headers or {})

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
        self._wait_until_started(timeout)
        return self

    def _wait_until_started(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not self._server.started:
            if time.monotonic() > end or not self.is_running:
                self.stop()
                raise RuntimeError(
                    "The local server did not start. Restart the kernel and run the cell again."
                )
            time.sleep(0.01)

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

    def _app(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.routing import Route

        routes = [
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
        ]
        handlers: dict[Any, Any] = {ApiError: self._refuse, 404: self._unknown_route}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def _embeddings(self, request: Request) -> JSONResponse:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse

        self.requests += 1
        self._check_key(request)
        self._fail_if_told_to()
        body = await self._body(request)
        return JSONResponse(await run_in_threadpool(self._answer, body))

    async def _models(self, request: Request) -> JSONResponse:
        from starlette.responses import JSONResponse

        self._check_key(request)
        model = {"id": LOCAL_MODEL, "object": "model", "created": 0, "owned_by": "local"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _refuse(self, _: Request, error: ApiError) -> JSONResponse:
        from starlette.responses import JSONResponse

        return JSONResponse({"error": error.body}, status_code=error.status, headers=error.headers)

    async def _unknown_route(self, request: Request, _: Exception) -> JSONResponse:
        message = f"Invalid URL ({request.method} {request.url.path})"
        return await self._refuse(request, ApiError(404, message, code="unknown_url"))

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise ApiError(401, "You didn't provide an API key.", code="missing_api_key")
        if not secrets.compare_digest(key.encode(), self.api_key.encode()):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    def _fail_if_told_to(self) -> None:
        with self._lock:
            fault = self._fault
            if fault is None or fault.times <= 0:
                return
            fault.times -= 1
        message, code = "The server had an error.", None
        if fault.status == 429:
            message, code = "Rate limit reached for requests.", "rate_limit_exceeded"
        raise ApiError(fault.status, message, code=code, headers=fault.headers)

    @staticmethod
    async def _body(request: Request) -> dict[str, Any]:
        """The request's JSON object, read in pieces: its announced size may be missing or wrong."""
        data = b""
        async for piece in request.stream():
            data += piece
            if len(data) > MAX_BODY_BYTES:
                raise ApiError(
                    413,
                    f"The request is larger than {MAX_BODY_BYTES:,} bytes. "
                    "Send fewer texts at a time.",
                )
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:  # the latter for thousands of brackets
            raise ApiError(400, "We could not parse the JSON body of your request.") from error
        if not isinstance(body, dict):
            raise ApiError(400, "The body of the request must be a JSON object.")
        return body

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of the answer to one request."""
        full = cast(int, self.encoder.get_embedding_dimension())
        _check_model(body.get("model"))
        dimensions = _check_dimensions(body.get("dimensions", full), full)
        encoding = _check_encoding(body.get("encoding_format", "float"))
        texts = _parse_input(body.get("input"))
        with self._lock:  # tokenizer and model are shared by all requests
            tokens = _count_tokens(texts, self.encoder.tokenizer, self.max_tokens)
            vectors = self.encoder.encode(texts, show_progress_bar=False)
        return _response(unit(vectors[:, :dimensions]), tokens, encoding)


# --- the one server of this kernel ----------------------------------------------------------------


@dataclass
class _Running:
    server: LocalServer | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_running = _Running()


def local_server() -> LocalServer:
    """The one local server of this kernel, started when first asked for.

    Raises:
        ArtifactError: the model's files are missing, altered or out of reach.
        RuntimeError: the server did not come up.
    """
    with _running.lock:
        if _running.server is None or not _running.server.is_running:
            _running.server = LocalServer(load_encoder()).start()
            _exempt_loopback_from_proxies()
        return _running.server


def is_local_key(key: str) -> bool:
    """Whether `key` is the one that this kernel's local server takes."""
    return _running.server is not None and key == _running.server.api_key


def _exempt_loopback_from_proxies() -> None:
    for name in ("NO_PROXY", "no_proxy"):  # a proxy would be asked for 127.0.0.1 otherwise
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
