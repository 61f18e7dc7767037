"""One embeddings endpoint on loopback that misbehaves as told, for the real SDK to talk to."""

import base64
import json
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


@dataclass
class Quirks:
    """How a provider's answers deviate from OpenAI's. As it stands: not at all.

    `dimensions`: "honoured", "ignored" or "refused".
    `encoding`: "float" or "base64", whatever was asked for; None: as asked.
    `model`: the name that comes back, "the key" for the key that was sent; None: the one asked for.
    `usage`: the number of tokens under `usage`; None: there is no `usage`.
    """

    size: int = 384
    dimensions: str = "honoured"
    encoding: str | None = None
    model: str | None = None
    usage: int | None = 8


def vector(text, size):
    """The unit vector that the endpoint gives a text."""
    numbers = np.random.default_rng(zlib.crc32(text.encode())).normal(size=size)
    return numbers / np.linalg.norm(numbers)


def answer_with(vectors, order=None, **more):
    """The body of an answer, in the given order of rows; what is None in `more` is left out."""
    data = [
        {"object": "embedding", "index": i, "embedding": vectors[i]}
        for i in order or range(len(vectors))
    ]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    body = {"object": "list", "model": "m", "data": data, "usage": usage, **more}
    return json.dumps({name: value for name, value in body.items() if value is not None})


class Endpoint(ThreadingHTTPServer):
    """Answers from `answers`, the last one again and again; while there are none, as `quirks` say.

    An answer is a dictionary with any of: `status`, `headers`, `body` (an error that repeats the
    key if left out), `cut` (only half of the body is sent), `silent` (nothing is sent for long).
    """

    daemon_threads = True

    def __init__(self, quirks):
        super().__init__(("127.0.0.1", 0), Request)
        self.quirks, self.answers = quirks, []
        self.times, self.keys = [], set()  # when each request came; every key that was sent
        self.end = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_):
        pass  # the client hung up, as the test wants

    def answer_to(self, request, key):
        """The answer to one request."""
        self.times.append(time.monotonic())
        self.keys.add(key)
        if self.answers:
            return self.answers[min(len(self.times), len(self.answers)) - 1]
        if "dimensions" in request and self.quirks.dimensions == "refused":
            return {"status": 400}
        return {"body": self.embed(request, key)}

    def embed(self, request, key):
        """The body of an answer to a request that can be answered, with the quirks."""
        quirks = self.quirks
        texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
        vectors = np.array([vector(text, quirks.size) for text in texts])
        if quirks.dimensions == "honoured":
            vectors = vectors[:, : request.get("dimensions")]
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = vectors.tolist()
        if (quirks.encoding or request.get("encoding_format")) == "base64":
            rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
        tokens = quirks.usage
        return answer_with(
            rows,
            model={None: request["model"], "the key": key}.get(quirks.model, quirks.model),
            usage=None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens},
        )


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sent = self.headers["Authorization"]
        answer = self.server.answer_to(request, sent.removeprefix("Bearer "))
        refusal = json.dumps({"error": {"message": f"You sent {sent}", "code": "planted"}})
        body = answer.get("body", refusal).encode()
        if answer.get("silent"):
            self.server.end.wait(40)
        self.send_response(answer.get("status", 200))
        # Announced, or the client's next request may meet the connection while it is being closed.
        headers = {"Connection": "close", "Content-Type": "application/json"}
        headers["Content-Length"] = str(len(body))
        for name, value in {**headers, **answer.get("headers", {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if answer.get("cut") else body)


@contextmanager
def running(**quirks):
    """An `Endpoint` with these `Quirks`, answering in a thread."""
    with Endpoint(Quirks(**quirks)) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        try:
            yield server
        finally:
            server.end.set()
            server.shutdown()
