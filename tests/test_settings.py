"""Settings: the environment, `.env` in whatever form an editor saved it, and keys."""

import os

import pytest

from helpers import settings
from helpers.settings import OPENAI_VARIABLES
from tests.support.processes import python


def test_an_unknown_source_is_refused(monkeypatch):
    monkeypatch.setenv("EMBEDDINGS_SOURCE", "usb")
    with pytest.raises(ValueError, match="bundled or hub"):
        settings.source()


@pytest.fixture
def env(monkeypatch, tmp_path):
    """Write a `.env` in a project folder of its own; the environment has no OpenAI variable."""
    for name in OPENAI_VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores whatever a test sets
        monkeypatch.delenv(name)
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    monkeypatch.setattr(settings, "PROJECT_ROOT", tmp_path)

    def load(data):
        (tmp_path / ".env").write_bytes(data)
        settings.load_env()
        return os.environ.get("OPENAI_API_KEY")

    return load


@pytest.mark.parametrize(
    "data",
    [
        b"OPENAI_API_KEY=sk-1",
        b"\xef\xbb\xbfOPENAI_API_KEY=sk-1\n",
        b"# mine\r\nOPENAI_API_KEY=sk-1\r\n",
        b'\xef\xbb\xbfOPENAI_API_KEY="sk-1"\r\n',
        b"OPENAI_API_KEY='sk-1'\n",
        b"export OPENAI_API_KEY=sk-1 # at work\n",
        b"OPENAI_API_KEY = sk-1  \n",
        b'OPENAI_API_KEY="sk-1 "\n',
        b'OPENAI_API_KEY="sk-1\\n"\n',
    ],
    ids=[
        "plain",
        "bom",
        "crlf",
        "bom quotes crlf",
        "quotes",
        "export",
        "spaces",
        "space in quotes",
        "line end in quotes",
    ],
)
def test_a_key_is_read_however_the_editor_wrote_the_file(env, data):
    assert env(data) == "sk-1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OPENAI_API_KEY=\n",
        b'OPENAI_API_KEY=""\r\n',
        b"OPENAI_API_KEY=   \n",
        b"\xef\xbb\xbf# OPENAI_API_KEY=sk-1\n",
    ],
)
def test_an_empty_key_is_no_key(env, data):
    assert env(data) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_file_of_another_encoding_is_named(env, encoding):
    with pytest.raises(ValueError, match=r"\.env is not UTF-8 text.*Save it as UTF-8"):
        env("# für später\nOPENAI_API_KEY=sk-planted\n".encode(encoding))


@pytest.mark.parametrize("key", ["sk–planted", "“sk-planted”", "sk-planted and more"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(env, key):
    with pytest.raises(
        ValueError, match="OPENAI_API_KEY contains a character that no key has"
    ) as caught:
        env(f"OPENAI_API_KEY={key}\n".encode())
    assert "planted" not in str(caught.value)


def test_a_kernel_is_live_only_with_a_front_end(monkeypatch):
    for name in (*settings.FRONT_ENDS, "EMBEDDINGS_HEADLESS"):
        monkeypatch.delenv(name, raising=False)
    assert not settings.is_live()
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert settings.is_live()
    monkeypatch.setenv("EMBEDDINGS_HEADLESS", "1")
    assert not settings.is_live()


def test_tests_and_stored_outputs_run_without_anybodys_key():
    code = """
        import os
        from helpers.settings import clean_environment
        clean_environment()
        print(any(name.startswith("OPENAI_") for name in os.environ))
        print(os.environ["EMBEDDINGS_SOURCE"])
    """
    planted = {
        "OPENAI_API_KEY": "planted",
        "OPENAI_BASE_URL": "https://provider.example",
        "EMBEDDINGS_SOURCE": "hub",
    }
    done = python(code, **planted)
    assert done.stdout.split() == ["False", "bundled"], done.stderr
