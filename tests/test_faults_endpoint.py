"""An endpoint out of order: a server on loopback that refuses, breaks off, lies or is silent, asked by the real SDK."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import openai
import pytest

from helpers import openai_api

KEY = "planted-key-0123456789"
TEXTS = ["one", "two", "three"]
GOOD = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]


def embeddings(vectors, order=None):
    data = [
        {"object": "embedding", "index": i, "embedding": vectors[i]}
        for i in order or range(len(vectors))
    ]
    return json.dumps(
        {
            "object": "list",
            "model": "m",
            "data": data,
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }
    )


class Endpoint(ThreadingHTTPServer):
    """Answers from a list, the last one again and again; notes when each request came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers, self.times, self.end = [], [], threading.Event()

    def handle_error(self, *_):
        pass  # the client hung up: meant


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        server = self.server
        self.rfile.read(int(self.headers["Content-Length"]))
        server.times.append(time.monotonic())
        answer = server.answers[min(len(server.times), len(server.answers)) - 1]
        body = answer.get(
            "body",
            json.dumps(
                {
                    "error": {
                        "message": f"You sent {self.headers['Authorization']}",
                        "code": "planted",
                    }
                }
            ),
        ).encode()
        if answer.get("silent"):
            server.end.wait(40)
        self.send_response(answer.get("status", 200))
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **answer.get("headers", {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if answer.get("cut") else body)
        self.close_connection = True


@pytest.fixture
def endpoint():
    with Endpoint() as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        yield server
        server.end.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def ask(endpoint, *answers, **settings):
    """What notebook 1 does: one call, its answer checked."""
    endpoint.answers = list(answers)
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{endpoint.server_port}/v1", **{"timeout": 5, **settings}
    )
    return openai_api.vectors_of(client.embeddings.create(model="m", input=TEXTS), len(TEXTS))


def fails(endpoint, *answers, **settings):
    """The error a reader gets, with its note; the key is nowhere in it."""
    with pytest.raises(Exception) as caught:
        ask(endpoint, *answers, **settings)
    error = openai_api.clarify(caught.value)
    (note,) = getattr(error, "__notes__", [""])
    assert KEY not in repr(error) + str(error) + note
    return error, note


OK = {"body": embeddings(GOOD)}


def test_a_refused_key_is_asked_once_and_the_note_names_both_settings(endpoint):
    error, note = fails(endpoint, {"status": 401})
    assert isinstance(error, openai.AuthenticationError) and len(endpoint.times) == 1
    assert "You sent Bearer [OPENAI_API_KEY]" in str(error), (
        "an endpoint that repeats the key does not get it shown"
    )
    assert (
        "Check OPENAI_API_KEY and OPENAI_BASE_URL together in .env, and restart the kernel" in note
    )


def test_a_model_that_is_not_there_is_asked_once_and_the_note_names_the_setting(endpoint):
    error, note = fails(endpoint, {"status": 404})
    assert isinstance(error, openai.NotFoundError) and len(endpoint.times) == 1
    assert "Check OPENAI_EMBEDDING_MODEL" in note


def test_a_rate_limit_without_a_time_is_waited_out(endpoint):
    assert ask(endpoint, {"status": 429}, OK) == pytest.approx(np.array(GOOD))
    assert len(endpoint.times) == 2


def test_a_rate_limit_with_a_time_is_waited_out_that_long(endpoint):
    assert ask(endpoint, {"status": 429, "headers": {"Retry-After": "2"}}, OK) == pytest.approx(
        np.array(GOOD)
    )
    first, second = endpoint.times
    assert 2.0 <= second - first < 4.0, "the SDK's own first wait is at most half a second"


def test_a_rate_limit_that_stays_names_the_balance(endpoint):
    error, note = fails(endpoint, {"status": 429, "headers": {"retry-after-ms": "10"}})
    assert isinstance(error, openai.RateLimitError) and len(endpoint.times) == 3
    assert "Wait a minute and run the cell again, or check the balance" in note


def test_500_and_503_in_a_row_are_survived(endpoint):
    quickly = {"headers": {"retry-after-ms": "10"}}
    assert ask(
        endpoint, {"status": 500, **quickly}, {"status": 503, **quickly}, OK
    ) == pytest.approx(np.array(GOOD))
    assert len(endpoint.times) == 3


def test_a_provider_that_stays_broken_is_said_to_be(endpoint):
    error, note = fails(endpoint, {"status": 503, "headers": {"retry-after-ms": "10"}})
    assert isinstance(error, openai.InternalServerError) and "The provider has a problem" in note


def test_a_connection_that_closes_in_the_middle_is_asked_again(endpoint):
    assert ask(endpoint, {**OK, "cut": True}, OK) == pytest.approx(np.array(GOOD))
    assert len(endpoint.times) == 2


def test_a_connection_that_always_closes_is_one_error(endpoint):
    error, note = fails(endpoint, {**OK, "cut": True}, max_retries=0)
    assert (
        type(error) is openai.APIConnectionError
        and "the connection broke. Check network, proxy and OPENAI_BASE_URL" in note
    )


@pytest.mark.parametrize(
    "answer",
    [
        {"body": "<html>Please log in</html>", "headers": {"Content-Type": "text/html"}},
        {"body": '{"data": ['},
        {"body": "[1, 2]"},
        {"body": "null"},
        {"body": "{}"},
        {"body": embeddings([])},
        {"body": embeddings(["AAAA", "AAAA", "AAAA"])},
    ],
    ids=["page", "cut", "list", "null", "empty", "no data", "base64"],
)
def test_an_answer_that_is_not_embeddings_points_to_the_base_url(endpoint, answer):
    _, note = fails(endpoint, answer)
    assert (
        "The answer is not that of an embeddings endpoint" in note
        and "Check OPENAI_BASE_URL" in note
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (embeddings(GOOD[:2]), "answered 2 vectors for 3 texts"),
        (embeddings(GOOD, order=[0, 1, 1]), "not numbered from 0 to 2"),
        (embeddings([GOOD[0], [float("nan"), 1.0], GOOD[2]]), "no finite numbers"),
        (embeddings([GOOD[0], [float("inf"), 1.0], GOOD[2]]), "no finite numbers"),
        (embeddings([GOOD[0], ["a", 1.0], GOOD[2]]), "no finite numbers"),
        (embeddings(GOOD).replace('"index": 1', '"index": null'), "not numbered from 0 to 2"),
        (embeddings([GOOD[0], GOOD[1], [0.1, 0.2, 0.3]]), r"lengths \[2, 3\]"),
        (embeddings([GOOD[0], GOOD[1], None]), r"lengths \[0, 2\]"),
        (embeddings([[], [], []]), r"lengths \[0\]"),
    ],
    ids=["missing", "twice", "nan", "inf", "word", "no number", "length", "null", "empty"],
)
def test_vectors_that_cannot_be_right_are_refused_with_what_to_do(endpoint, body, message):
    with pytest.raises(ValueError, match=f"(?i){message}.*take another endpoint or model in .env"):
        ask(endpoint, {"body": body})


def test_an_answer_out_of_order_is_put_in_order(endpoint):
    assert ask(endpoint, {"body": embeddings(GOOD, order=[2, 0, 1])}) == pytest.approx(
        np.array(GOOD)
    )


def test_thirty_seconds_of_silence_end_at_the_timeout(endpoint):
    start = time.monotonic()
    error, note = fails(endpoint, {"silent": True}, timeout=0.5, max_retries=1)
    assert isinstance(error, openai.APITimeoutError) and "No answer in time" in note
    assert time.monotonic() - start < 5 and len(endpoint.times) == 2


def test_nobody_at_the_address_is_one_error(endpoint):
    port = endpoint.server_port
    endpoint.shutdown()
    endpoint.server_close()
    with pytest.raises(openai.APIConnectionError) as caught:
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", max_retries=0).embeddings.create(
            model="m", input="one"
        )
    assert "Nobody answered" in openai_api.clarify(caught.value).__notes__[0]


def test_errors_from_elsewhere_stay_as_they_are():
    error = openai_api.clarify(ValueError("mine", 3))
    assert error.args == ("mine", 3) and not hasattr(error, "__notes__")


def test_a_key_with_a_line_end_would_stand_in_the_error_and_is_hidden(endpoint):
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(endpoint, OK, api_key=KEY + "\n", max_retries=0)
    assert KEY in repr(caught.value.__cause__), "this is what the HTTP library says"
    assert KEY not in repr(openai_api.clarify(caught.value).__cause__)
