"""The local server, spoken to by the real SDK over real HTTP."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import urllib.request

import numpy as np
import openai
import pytest
from openai import OpenAI

from helpers import PROJECT_ROOT, openai_api, settings

SENTENCES = ["I have no interest in politics", "The bank's interest rate rises"]


@pytest.fixture(scope="module")
def server(encoder):
    with openai_api.LocalServer(encoder) as running:
        yield running


@pytest.fixture
def client(server):
    return OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)


def create(client, **request):
    return client.embeddings.create(
        **{"model": openai_api.LOCAL_MODEL, "input": SENTENCES, **request}
    )


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
    assert create(client, input="bank").data[0].embedding == pytest.approx(
        plain, abs=1e-7
    )  # the SDK asks for base64


def test_dimensions_shortens_and_renormalises(client):
    full = np.array(create(client, input="bank").data[0].embedding)
    short = np.array(create(client, input="bank", dimensions=100).data[0].embedding)
    assert short == pytest.approx(full[:100] / np.linalg.norm(full[:100]), abs=1e-6)


@pytest.mark.parametrize(
    ("request_", "error", "status", "message"),
    [
        ({"model": "nope"}, openai.NotFoundError, 404, "`nope` does not exist"),
        ({"input": ""}, openai.BadRequestError, 400, "empty text"),
        ({"input": ["fine", ""]}, openai.BadRequestError, 400, "empty text"),
        ({"input": []}, openai.BadRequestError, 400, "at least one"),
        (
            {"input": "interest " * 300},
            openai.BadRequestError,
            400,
            "maximum context length is 256 tokens",
        ),
        ({"input": ["x"] * 2049}, openai.BadRequestError, 400, "2,048"),
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


def test_a_wrong_key_is_401_and_is_not_repeated_in_the_answer(client):
    with pytest.raises(openai.AuthenticationError) as caught:
        create(client.with_options(api_key="planted-key-123"))
    assert "planted-key-123" not in str(caught.value) + caught.value.response.text


def test_no_key_is_401(server):
    request = urllib.request.Request(server.base_url + "/models")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)


def test_an_unknown_address_on_the_server_is_404(client):
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.post("/completions", body={}, cast_to=object)


def test_a_body_that_is_not_json_is_400(server):
    request = urllib.request.Request(
        server.base_url + "/embeddings",
        b"{",
        {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


def test_a_body_of_unlimited_size_is_refused(client):
    with pytest.raises(openai.APIStatusError) as caught:
        create(client, input="x" * (openai_api.MAX_BODY_BYTES + 1))
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


def test_the_server_listens_on_loopback_and_frees_its_port(encoder):
    server = openai_api.LocalServer(encoder).start()
    host, port = server._socket.getsockname()
    assert host == "127.0.0.1"
    server.stop()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        pass
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url


def test_the_server_ends_with_a_kernel_that_is_killed():
    code = textwrap.dedent("""
        import os, signal
        from helpers import openai_api
        openai_api.connect()
        print(openai_api.local_server()._socket.getsockname()[1], flush=True)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_ROOT
    )
    with (
        pytest.raises(OSError),
        socket.create_connection(("127.0.0.1", int(done.stdout)), timeout=2),
    ):
        pass


@pytest.fixture
def bare_environment(monkeypatch, tmp_path):
    """No OpenAI variables, and a project folder with a `.env` of its own."""
    for name in settings.OPENAI_VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores whatever a test sets
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "PROJECT_ROOT", tmp_path)
    return tmp_path / ".env"


def test_without_a_key_the_local_server_answers(bare_environment):
    endpoint = openai_api.connect()
    assert endpoint.is_local and "No key found" in str(endpoint)
    assert OpenAI().embeddings.create(model=endpoint.model, input="bank").usage.total_tokens == 3
    assert openai_api.connect() == endpoint, "the cell can be run twice"


def test_with_a_key_in_env_the_provider_answers_and_the_key_is_not_shown(
    bare_environment, monkeypatch
):
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    bare_environment.write_bytes(
        b"\xef\xbb\xbfOPENAI_API_KEY='planted'\r\nOPENAI_BASE_URL=\"https://provider.example/v1\"\r\nOPENAI_EMBEDDING_MODEL=big\r\n"
    )
    endpoint = openai_api.connect()
    assert (endpoint.base_url, endpoint.model, endpoint.is_local) == (
        "https://provider.example/v1",
        "big",
        False,
    )
    assert "planted" not in repr(endpoint) + str(endpoint)
    assert openai_api.price_per_million(endpoint) is None


def test_tests_never_see_a_developers_env_file(bare_environment):
    bare_environment.write_text("OPENAI_API_KEY=planted\n", encoding="utf-8")
    assert openai_api.connect().is_local
    assert os.environ["OPENAI_API_KEY"] != "planted"


def test_empty_variables_count_as_not_set(bare_environment, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    assert openai_api.connect().is_local


def test_a_base_url_without_a_key_is_refused(bare_environment, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not"):
        openai_api.connect()


def test_a_proxy_variable_does_not_catch_loopback_calls(bare_environment, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    endpoint = openai_api.connect()
    assert (
        OpenAI(max_retries=0)
        .embeddings.create(model=endpoint.model, input="bank")
        .usage.total_tokens
        == 3
    )


def test_prices():
    openai_endpoint = openai_api.Endpoint(
        "https://api.openai.com/v1", "text-embedding-3-small", False
    )
    assert openai_api.price_per_million(openai_endpoint) == 0.02
    assert (
        openai_api.price_per_million(
            openai_api.Endpoint("http://127.0.0.1:1/v1", "all-MiniLM-L6-v2", True)
        )
        == 0.0
    )
