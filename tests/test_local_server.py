"""The local server, spoken to by the real SDK over real HTTP, and by others who should not."""

import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import openai
import psutil
import pytest
from openai import OpenAI

from helpers.local_server import LOCAL_MODEL, MAX_BODY_BYTES, LocalServer
from tests.support.processes import python

SENTENCES = ["I have no interest in politics", "The bank's interest rate rises"]


@pytest.fixture(scope="module")
def server(encoder):
    with LocalServer(encoder) as running:
        yield running


@pytest.fixture
def client(server):
    return OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)


def create(client, **request):
    return client.embeddings.create(**{"model": LOCAL_MODEL, "input": SENTENCES, **request})


def port_of(server):
    return int(server.base_url.rsplit(":", 1)[1].split("/")[0])


# --- what it answers ------------------------------------------------------------------------------


def test_vectors_over_http_are_those_of_the_model(client, encoder):
    answer = create(client)
    assert [item.index for item in answer.data] == [0, 1]
    got = np.array([item.embedding for item in answer.data])
    assert got == pytest.approx(encoder.encode(SENTENCES), abs=1e-6)


def test_usage_counts_tokens_as_the_model_does(client):
    assert create(client, input=SENTENCES[0]).usage.total_tokens == 8
    assert create(client, input=SENTENCES[1]).usage.total_tokens == 9
    assert create(client).usage.prompt_tokens == 17


def test_float_and_base64_are_the_same_numbers(client):
    plain = create(client, input="bank", encoding_format="float").data[0].embedding
    by_default = create(client, input="bank").data[0].embedding  # the SDK asks for base64
    assert by_default == pytest.approx(plain, abs=1e-7)


def test_dimensions_shortens_and_renormalises(client):
    full = np.array(create(client, input="bank").data[0].embedding)
    short = np.array(create(client, input="bank", dimensions=100).data[0].embedding)
    assert short == pytest.approx(full[:100] / np.linalg.norm(full[:100]), abs=1e-6)


def test_many_clients_at_once_get_their_own_vectors(client, encoder):
    words = ["bank", "river", "money", "politics", "fees", "rate"]
    got = {}

    def ask(word):
        got[word] = create(client, input=word).data[0].embedding

    threads = [threading.Thread(target=ask, args=(word,)) for word in words]
    [t.start() for t in threads], [t.join(60) for t in threads]
    expected = encoder.encode(words)
    for word, vector in zip(words, expected, strict=True):
        assert got[word] == pytest.approx(vector, abs=1e-6)


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "status", "message"),
    [
        ({"model": "nope"}, openai.NotFoundError, 404, "`nope` does not exist"),
        ({"input": ""}, openai.BadRequestError, 400, "empty text"),
        ({"input": ["fine", ""]}, openai.BadRequestError, 400, "empty text"),
        ({"input": []}, openai.BadRequestError, 400, "at least one"),
        ({"input": "interest " * 300}, openai.BadRequestError, 400, "length is 256 tokens"),
        ({"input": ["x"] * 2049}, openai.BadRequestError, 400, "2,048"),
        ({"input": [1, 2]}, openai.BadRequestError, 400, "takes texts"),
        ({"input": [[1, 2]]}, openai.BadRequestError, 400, "takes texts"),
        ({"input": ["a", 1]}, openai.BadRequestError, 400, "must be a text"),
        ({"dimensions": 0}, openai.BadRequestError, 400, "from 1 to 384"),
        ({"dimensions": 385}, openai.BadRequestError, 400, "from 1 to 384"),
        ({"dimensions": True}, openai.BadRequestError, 400, "from 1 to 384"),
        ({"encoding_format": "hex"}, openai.BadRequestError, 400, "encoding_format"),
    ],
)
def test_a_request_that_cannot_be_answered_gets_openais_error(
    client, request_, error, status, message
):
    with pytest.raises(error, match=message) as caught:
        create(client, **request_)
    assert caught.value.status_code == status
    assert set(caught.value.response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_request_of_too_many_tokens_is_refused(client, monkeypatch):
    monkeypatch.setattr("helpers.local_server.MAX_REQUEST_TOKENS", 16)
    with pytest.raises(openai.BadRequestError, match="Requested 17 tokens, max 16") as caught:
        create(client)
    error = caught.value.response.json()["error"]
    assert error["type"] == error["code"] == "max_tokens_per_request", "as OpenAI words it"


def test_a_wrong_key_is_401_and_is_not_repeated_in_the_answer(client):
    with pytest.raises(openai.AuthenticationError) as caught:
        create(client.with_options(api_key="planted-key-123"))
    assert "planted-key-123" not in str(caught.value) + caught.value.response.text


def test_an_unknown_address_on_the_server_is_404(client):
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.post("/completions", body={}, cast_to=object)


def test_a_body_of_unlimited_size_is_refused(client):
    with pytest.raises(openai.APIStatusError) as caught:
        create(client, input="x" * (MAX_BODY_BYTES + 1))
    assert caught.value.status_code == 413


def test_two_refusals_are_retried_by_the_sdk(server, client):
    before = server.requests
    server.fail_next(2, status=429, headers={"retry-after-ms": "50"})
    assert create(client.with_options(max_retries=2)).usage.total_tokens == 17
    assert server.requests - before == 3


def test_refusals_that_outlast_the_retries_reach_the_caller(server, client):
    server.fail_next(3, status=503, headers={"retry-after-ms": "50"})
    with pytest.raises(openai.InternalServerError):
        create(client.with_options(max_retries=2))
    server.fail_next(0)


# --- how it ends ----------------------------------------------------------------------------------


def test_the_server_listens_on_loopback_and_frees_its_port(encoder):
    server = LocalServer(encoder).start()
    host, port = server._socket.getsockname()
    assert host == "127.0.0.1"
    server.stop()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        pass
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url


@pytest.mark.slow
def test_the_server_ends_with_a_kernel_that_is_killed():
    done = python("""
        import os, signal
        from helpers.local_server import local_server
        print(local_server()._socket.getsockname()[1], flush=True)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    """)
    address = ("127.0.0.1", int(done.stdout))
    with pytest.raises(OSError), socket.create_connection(address, timeout=2):
        pass


# --- others who ask -------------------------------------------------------------------------------

BANK = b'{"model": "all-MiniLM-L6-v2", "input": "bank"}'


def ask(server, key, path="/embeddings", body=BANK, scheme="Bearer"):
    """Status and text of one raw request; without a key, no header that would hold it."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"{scheme} {key}"
    data = body if path == "/embeddings" else None
    request = urllib.request.Request(server.base_url + path, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_no_other_address_of_this_machine_reaches_the_local_server(server):
    port = port_of(server)
    addresses = [
        a.address
        for found in psutil.net_if_addrs().values()
        for a in found
        if a.family == socket.AF_INET
    ]
    others = [address for address in addresses if not address.startswith("127.")]
    if not others:
        pytest.skip("this machine has no other address")
    for address in others:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=3):
            pass
    listening = {
        c.laddr.ip
        for c in psutil.Process().net_connections()
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["/embeddings", "/models"])
def test_the_local_server_takes_its_own_token_and_no_other(server, encoder, path):
    own = server.api_key
    assert ask(server, own, path)[0] == 200
    other = LocalServer(encoder).api_key
    for key in (None, "", other, own[:-1], own + "x", own.upper(), "Bearer " + own):
        status, text = ask(server, key, path)
        assert status == 401 and own not in text, key
    assert ask(server, own, path, scheme="Basic")[0] == 401


def test_tokens_are_long_and_never_the_same(encoder):
    tokens = {LocalServer(encoder).api_key for _ in range(20)}
    assert len(tokens) == 20 and all(len(token) >= 32 for token in tokens)


def test_without_the_token_a_body_is_not_looked_at(server):
    assert ask(server, "wrong", body=b"no JSON")[0] == 401
    for body in (b"no JSON", b"{"):
        assert ask(server, server.api_key, body=body)[0] == 400


def test_a_body_without_an_announced_size_is_refused_once_it_is_too_large(server):
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as client:
        head = (
            "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {server.api_key}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.sendall(head.encode())
        sent = 0
        try:
            while sent < 200:  # MiB, if nobody stops it
                client.sendall(piece)
                sent += 1
                client.setblocking(False)
                try:
                    answer = client.recv(200)
                    break
                except BlockingIOError:
                    client.settimeout(20)
        except ConnectionError:
            answer = b"closed"
    assert sent < 50 and (b" 413 " in answer or answer == b"closed"), answer


def test_json_nested_without_end_is_a_refusal_and_the_server_lives_on(server):
    status, text = ask(server, server.api_key, body=b"[" * 1_000_000)
    assert status == 400 and "could not parse the JSON" in text
    assert ask(server, server.api_key)[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "all-MiniLM-L6-v2", "input": "\\ud800"}',
        b'{"model": {"a": 1}, "input": "x"}',
        b'{"model": "all-MiniLM-L6-v2", "input": {"a": 1}}',
    ],
)
def test_an_error_inside_the_server_tells_no_insides(server, body):
    status, text = ask(server, server.api_key, body=body)
    assert status in (200, 400, 404)
    assert "Traceback" not in text and str(Path.home()) not in text
