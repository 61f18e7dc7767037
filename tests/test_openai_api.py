"""Which endpoint answers, what its answers hold, how its faults are reported: over real HTTP."""

import os
import time

import numpy as np
import openai
import pytest
from openai import OpenAI

from helpers import openai_api, settings
from tests.support.endpoint import answer_with, running, vector

KEY = "planted-key-0123456789"
TEXTS = ["one", "two", "three"]
GOOD = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
OK = {"body": answer_with(GOOD)}


# --- which endpoint answers -----------------------------------------------------------------------


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
    lines = [
        b"\xef\xbb\xbfOPENAI_API_KEY='planted'",
        b'OPENAI_BASE_URL="https://provider.example/v1"',
        b"OPENAI_EMBEDDING_MODEL=big",
    ]
    bare_environment.write_bytes(b"\r\n".join([*lines, b""]))
    endpoint = openai_api.connect()
    found = (endpoint.base_url, endpoint.model, endpoint.is_local)
    assert found == ("https://provider.example/v1", "big", False)
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


def test_the_endpoint_in_words_holds_no_key_from_its_address(bare_environment, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://me:{KEY}@provider.example/v1?api-key={KEY}")
    assert openai_api.connect().base_url == "https://provider.example/v1"


def test_a_proxy_variable_does_not_catch_loopback_calls(bare_environment, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    endpoint = openai_api.connect()
    response = OpenAI(max_retries=0).embeddings.create(model=endpoint.model, input="bank")
    assert response.usage.total_tokens == 3


def test_prices():
    small = openai_api.Endpoint("https://api.openai.com/v1", "text-embedding-3-small", False)
    local = openai_api.Endpoint("http://127.0.0.1:1/v1", "all-MiniLM-L6-v2", True)
    assert openai_api.price_per_million(small) == 0.02
    assert openai_api.price_per_million(local) == 0.0


# --- one endpoint that misbehaves -----------------------------------------------------------------


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running() as server:
        yield server


def create(endpoint, **request):
    """One request to the model "m" about the three texts, without retries."""
    client = OpenAI(base_url=endpoint.url, timeout=5, max_retries=0)
    return client.embeddings.create(**{"model": "m", "input": TEXTS, **request})


def ask(endpoint, *answers, **options):
    """What notebook 1 does: one call, its answer checked."""
    endpoint.answers = list(answers)
    client = OpenAI(base_url=endpoint.url, **{"timeout": 5, **options})
    return openai_api.vectors_of(client.embeddings.create(model="m", input=TEXTS), len(TEXTS))


def fails(endpoint, *answers, **options):
    """The error a reader gets, with its note; the key is nowhere in it."""
    with pytest.raises(Exception) as caught:
        ask(endpoint, *answers, **options)
    error = openai_api.clarify(caught.value)
    (note,) = getattr(error, "__notes__", [""])
    assert KEY not in repr(error) + str(error) + note
    return error, note


# --- providers with ways of their own -------------------------------------------------------------


def test_a_provider_that_ignores_dimensions_is_named_with_both_lengths(endpoint):
    endpoint.quirks.dimensions = "ignored"
    response = create(endpoint, dimensions=192)
    assert openai_api.vectors_of(response, 3).shape == (3, 384)
    words = "this provider ignored dimensions and answered 384 numbers instead of 192. Shorten by"
    with pytest.raises(openai_api.DimensionsIgnored, match=words):
        openai_api.vectors_of(response, 3, dimensions=192)


def test_a_provider_that_honours_dimensions_passes_the_same_check(endpoint):
    vectors = openai_api.vectors_of(create(endpoint, dimensions=192), 3, dimensions=192)
    assert vectors.shape == (3, 192)


def test_a_provider_that_refuses_dimensions_gets_the_note_that_names_them(endpoint):
    endpoint.quirks.dimensions = "refused"
    assert openai_api.vectors_of(create(endpoint), 3).shape == (3, 384)
    with pytest.raises(openai.BadRequestError) as caught:
        create(endpoint, dimensions=192)
    assert "dimensions out of range" in openai_api.clarify(caught.value).__notes__[0]


@pytest.mark.parametrize(
    ("usage", "count"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, 8),
        ({"prompt_tokens": 5}, 5),
        ({"prompt_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": -1, "total_tokens": "8"}, None),
        ({}, None),
        ("eight", None),
        (None, None),
    ],
    ids=["both", "prompt only", "zero", "no count", "empty", "words", "missing"],
)
def test_tokens_are_a_count_or_nothing_and_never_zero(endpoint, usage, count):
    endpoint.answers = [{"body": answer_with(GOOD, usage=usage)}]
    response = create(endpoint)
    assert openai_api.tokens_billed(response) == count
    assert len(openai_api.vectors_of(response, 3)) == 3, "the vectors can be used all the same"


@pytest.mark.parametrize("asked", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
@pytest.mark.parametrize("answered", ["float", "base64"])
def test_vectors_are_read_in_either_encoding_whichever_was_asked_for(endpoint, asked, answered):
    endpoint.quirks.encoding = answered
    vectors = openai_api.vectors_of(create(endpoint, **asked), 3)
    expected = [vector(text, 384) for text in TEXTS]
    assert vectors == pytest.approx(np.array(expected), abs=1e-7)


@pytest.mark.parametrize("text", ["AAAA", "no base64!"])
def test_text_that_is_no_vector_is_refused_with_what_to_do(endpoint, text):
    endpoint.answers = [{"body": answer_with([text] * 3)}]
    response = create(endpoint, encoding_format="float")
    with pytest.raises(ValueError, match=r"not a vector in base64.*take another endpoint"):
        openai_api.vectors_of(response, 3)


def test_a_provider_that_refuses_base64_gets_the_argument_that_helps(endpoint):
    _, note = fails(endpoint, {"status": 400})
    assert 'names encoding_format, pass encoding_format="float"' in note


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m", "m"),
        ("m-0613", "m-0613 (asked for: m; the provider renames it, or another model answered)"),
        (None, "(not named; asked for: m)"),
        ("", "(not named; asked for: m)"),
        (KEY, "[OPENAI_API_KEY] (asked for: m; "),
    ],
    ids=["same", "another", "missing", "empty", "key"],
)
def test_a_model_name_that_comes_back_changed_is_said_to_be(endpoint, name, words):
    endpoint.answers = [{"body": answer_with(GOOD, model=name)}]
    here = openai_api.Endpoint(endpoint.url, "m", is_local=False)
    named = openai_api.model_named(create(endpoint), here)
    assert named == words if words[-1] in "m)" else named.startswith(words)


# --- many texts -----------------------------------------------------------------------------------


def test_requests_are_filled_up_to_the_limits_and_no_further():
    assert [len(b) for b in openai_api.batches(["a"] * 5000)] == [2048, 2048, 904]
    counted = openai_api.batches(["a"] * 2000, count_tokens=lambda _: 170)
    assert [len(batch) for batch in counted] == [1764, 236], "300,000 tokens are the tighter limit"
    just = openai_api.batches(["a"] * 600, count_tokens=lambda _: 1000)
    assert [len(batch) for batch in just] == [300, 300], "a full request is allowed"
    assert [len(b) for b in openai_api.batches(["x" * 200_000] * 2)] == [1, 1]


def test_a_text_or_a_size_beyond_the_limits_is_refused_before_it_is_sent():
    with pytest.raises(ValueError, match="text 1 has 8,193 tokens.*cut it into chunks"):
        openai_api.batches(["a", "b" * 8193], count_tokens=len)
    for wrong in (0, 2049):
        with pytest.raises(ValueError, match=f"between 1 and 2,048, got {wrong}"):
            openai_api.batches(["a"], per_request=wrong)


def asked(endpoint, texts, folder, model="m", **options):
    """`embed` at the endpoint, with what it stores in `folder`."""
    client = OpenAI(base_url=endpoint.url, timeout=5, max_retries=0)
    here = openai_api.Endpoint(endpoint.url, model, is_local=False)
    return openai_api.embed(client, texts, here, store=folder, **options)


MANY = [f"text {i}" for i in range(10)]


def test_what_was_asked_for_once_is_stored_and_not_asked_for_again(endpoint, tmp_path):
    first = asked(endpoint, MANY, tmp_path, per_request=4)
    assert first == pytest.approx(np.array([vector(text, 384) for text in MANY]))
    assert len(endpoint.times) == 3
    assert np.array_equal(asked(endpoint, MANY, tmp_path, per_request=4), first)
    assert len(endpoint.times) == 3, "nothing was asked"
    asked(endpoint, MANY, tmp_path, model="another", per_request=4)
    asked(endpoint, MANY[::-1], tmp_path, per_request=4)
    assert len(endpoint.times) == 9, "another model and other texts are"
    asked(endpoint, MANY, None, per_request=10)
    asked(endpoint, MANY, None, per_request=10)
    assert len(endpoint.times) == 11, "without a store, every time"
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY.encode() not in stored and b"text 1" not in stored


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(endpoint, tmp_path):
    good = {"body": answer_with([vector(text, 8).tolist() for text in MANY[:5]])}
    endpoint.answers = [good, {"status": 500}]
    with pytest.raises(Exception, match="500"):
        asked(endpoint, MANY, tmp_path, per_request=5)
    endpoint.answers = [good]
    endpoint.times.clear()
    assert asked(endpoint, MANY, tmp_path, per_request=5).shape == (10, 8)
    assert len(endpoint.times) == 1, "the first five were stored"


def test_a_damaged_store_is_reported_and_asked_for_again(endpoint, tmp_path):
    first = asked(endpoint, MANY, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged and not used"):
        again = asked(endpoint, MANY, tmp_path)
    assert np.array_equal(first, again) and len(endpoint.times) == 2
    assert np.array_equal(asked(endpoint, MANY, tmp_path), first), "and was written again"


def test_a_store_that_cannot_be_written_is_reported_and_the_vectors_are_there(endpoint, tmp_path):
    folder = tmp_path / "file"
    folder.write_text("no folder", encoding="utf-8")
    with pytest.warns(UserWarning, match="could not be stored"):
        assert asked(endpoint, MANY, folder).shape == (10, 384)


def test_answers_of_different_lengths_or_no_texts_are_refused(endpoint, tmp_path):
    endpoint.answers = [
        {"body": answer_with([vector(t, size).tolist() for t in MANY[:5]])} for size in (8, 9)
    ]
    with pytest.raises(ValueError, match=r"lengths \[8, 9\]"):
        asked(endpoint, MANY, tmp_path, per_request=5)
    with pytest.raises(ValueError, match="no texts"):
        asked(endpoint, [], tmp_path)


# --- refusals and retries -------------------------------------------------------------------------


def test_a_refused_key_is_asked_once_and_the_note_names_both_settings(endpoint):
    error, note = fails(endpoint, {"status": 401})
    assert isinstance(error, openai.AuthenticationError) and len(endpoint.times) == 1
    assert "You sent Bearer [OPENAI_API_KEY]" in str(error), (
        "an endpoint that repeats the key does not get it shown"
    )
    both = "Check OPENAI_API_KEY and OPENAI_BASE_URL together in .env, and restart the kernel"
    assert both in note


def test_a_model_that_is_not_there_is_asked_once_and_the_note_names_the_setting(endpoint):
    error, note = fails(endpoint, {"status": 404})
    assert isinstance(error, openai.NotFoundError) and len(endpoint.times) == 1
    assert "Check OPENAI_EMBEDDING_MODEL" in note


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "key does not allow"), (413, "too large"), (422, "has to change"), (502, "a problem")],
)
def test_every_status_has_its_note(endpoint, status, words):
    _, note = fails(endpoint, {"status": status}, max_retries=0)
    assert words in note


def test_a_client_without_a_key_names_the_setting(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(openai.OpenAIError) as caught:
        OpenAI()
    assert "Check OPENAI_API_KEY in .env" in openai_api.clarify(caught.value).__notes__[0]


def test_a_rate_limit_without_a_time_is_waited_out(endpoint):
    assert ask(endpoint, {"status": 429}, OK) == pytest.approx(np.array(GOOD))
    assert len(endpoint.times) == 2


def test_a_rate_limit_with_a_time_is_waited_out_that_long(endpoint):
    limited = {"status": 429, "headers": {"Retry-After": "2"}}
    assert ask(endpoint, limited, OK) == pytest.approx(np.array(GOOD))
    first, second = endpoint.times
    assert 2.0 <= second - first < 4.0, "the SDK's own first wait is at most half a second"


def test_a_rate_limit_that_stays_names_the_balance(endpoint):
    error, note = fails(endpoint, {"status": 429, "headers": {"retry-after-ms": "10"}})
    assert isinstance(error, openai.RateLimitError) and len(endpoint.times) == 3
    assert "Wait a minute and run the cell again" in note
    assert "insufficient_quota, waiting does not help: check the balance" in note


def test_500_and_503_in_a_row_are_survived(endpoint):
    quickly = {"headers": {"retry-after-ms": "10"}}
    answers = {"status": 500, **quickly}, {"status": 503, **quickly}, OK
    assert ask(endpoint, *answers) == pytest.approx(np.array(GOOD))
    assert len(endpoint.times) == 3


def test_a_provider_that_stays_broken_is_said_to_be(endpoint):
    error, note = fails(endpoint, {"status": 503, "headers": {"retry-after-ms": "10"}})
    assert isinstance(error, openai.InternalServerError) and "The provider has a problem" in note


# --- connections that break -----------------------------------------------------------------------


def test_a_connection_that_closes_in_the_middle_is_asked_again(endpoint):
    assert ask(endpoint, {**OK, "cut": True}, OK) == pytest.approx(np.array(GOOD))
    assert len(endpoint.times) == 2


def test_a_connection_that_always_closes_is_one_error(endpoint):
    error, note = fails(endpoint, {**OK, "cut": True}, max_retries=0)
    assert type(error) is openai.APIConnectionError
    assert "the connection broke. Check network, proxy and OPENAI_BASE_URL" in note


def test_thirty_seconds_of_silence_end_at_the_timeout(endpoint):
    start = time.monotonic()
    error, note = fails(endpoint, {"silent": True}, timeout=0.5, max_retries=1)
    assert isinstance(error, openai.APITimeoutError) and "No answer in time" in note
    assert time.monotonic() - start < 5 and len(endpoint.times) == 2


def test_nobody_at_the_address_is_one_error(endpoint):
    endpoint.shutdown()
    endpoint.server_close()
    with pytest.raises(openai.APIConnectionError) as caught:
        create(endpoint)
    assert "Nobody answered" in openai_api.clarify(caught.value).__notes__[0]


# --- answers that cannot be right -----------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        {"body": "<html>Please log in</html>", "headers": {"Content-Type": "text/html"}},
        {"body": '{"data": ['},
        {"body": "[1, 2]"},
        {"body": "null"},
        {"body": "{}"},
        {"body": answer_with([])},
        {"body": answer_with(["AAAA", "AAAA", "AAAA"])},
    ],
    ids=["page", "cut", "list", "null", "empty", "no data", "base64"],
)
def test_an_answer_that_is_not_embeddings_points_to_the_base_url(endpoint, answer):
    _, note = fails(endpoint, answer)
    assert "The answer is not that of an embeddings endpoint" in note
    assert "Check OPENAI_BASE_URL" in note


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (answer_with(GOOD[:2]), "answered 2 vectors for 3 texts"),
        (answer_with(GOOD, order=[0, 1, 1]), "not numbered from 0 to 2"),
        (answer_with([GOOD[0], [float("nan"), 1.0], GOOD[2]]), "not finite numbers"),
        (answer_with([GOOD[0], [float("inf"), 1.0], GOOD[2]]), "not finite numbers"),
        (answer_with([GOOD[0], ["a", 1.0], GOOD[2]]), "not finite numbers"),
        (answer_with(GOOD).replace('"index": 1', '"index": null'), "not numbered from 0 to 2"),
        (answer_with([GOOD[0], GOOD[1], [0.1, 0.2, 0.3]]), r"lengths \[2, 3\]"),
        (answer_with([GOOD[0], GOOD[1], None]), r"lengths \[0, 2\]"),
        (answer_with([[], [], []]), r"lengths \[0\]"),
        (answer_with([7, 7, 7]), r"lengths \[0\]"),
    ],
    ids=[
        "missing", "twice", "nan", "inf", "word", "no number", "length", "null", "empty", "number",
    ],
)  # fmt: skip
def test_vectors_that_cannot_be_right_are_refused_with_what_to_do(endpoint, body, message):
    with pytest.raises(ValueError, match=f"(?i){message}.*take another endpoint or model in .env"):
        ask(endpoint, {"body": body})


def test_an_answer_out_of_order_is_put_in_order(endpoint):
    shuffled = {"body": answer_with(GOOD, order=[2, 0, 1])}
    assert ask(endpoint, shuffled) == pytest.approx(np.array(GOOD))


# --- what is said ---------------------------------------------------------------------------------


def test_errors_from_elsewhere_stay_as_they_are():
    error = openai_api.clarify(ValueError("mine", 3))
    assert error.args == ("mine", 3) and not hasattr(error, "__notes__")


def test_a_key_with_a_line_end_would_stand_in_the_error_and_is_hidden(endpoint):
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(endpoint, OK, api_key=KEY + "\n", max_retries=0)
    assert KEY in repr(caught.value.__cause__), "this is what the HTTP library says"
    assert KEY not in repr(openai_api.clarify(caught.value).__cause__)
