"""Environment variables and `.env`: the one place that reads them and hides their keys."""

from __future__ import annotations

import os

from dotenv import load_dotenv

from . import PROJECT_ROOT
from .language import translated as _

SOURCES = ("bundled", "hub")
SECRETS = ("OPENAI_API_KEY", "HF_TOKEN")
OPENAI_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_EMBEDDING_MODEL")

#: Variables that only a kernel with a live front end has: JupyterLab and Notebook, VS Code, Colab.
FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD", "COLAB_RELEASE_TAG")

#: What tests and stored outputs run under: no `.env`, no network, the same device everywhere.
CLEAN_ENVIRONMENT = {
    "EMBEDDINGS_SOURCE": "bundled",
    "EMBEDDINGS_DEVICE": "cpu",
    "EMBEDDINGS_LANGUAGE": "",  # that of the folder
    "EMBEDDINGS_THEME": "light",
    "EMBEDDINGS_HEADLESS": "1",
    "EMBEDDINGS_PROJECTOR": "0",
    "PYTHON_DOTENV_DISABLED": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def choice(name: str) -> str:
    """Value of an environment variable, stripped and in lower case; empty if unset."""
    return os.environ.get(name, "").strip().lower()


def source() -> str:
    """Where models and data come from: `"bundled"` or `"hub"`.

    Raises:
        ValueError: `EMBEDDINGS_SOURCE` is neither.
    """
    value = choice("EMBEDDINGS_SOURCE") or "bundled"
    if value not in SOURCES:
        raise ValueError(
            _(
                "EMBEDDINGS_SOURCE={value!r} is unknown. Set it to bundled or hub and "
                "restart the kernel."
            ).format(value=value)
        )
    return value


def is_live() -> bool:
    """Whether a reader sits in front of this kernel, so that widgets make sense.

    `EMBEDDINGS_HEADLESS=1` says no.
    """
    if choice("EMBEDDINGS_HEADLESS") not in ("", "0"):
        return False
    return any(name in os.environ for name in FRONT_ENDS)


def is_projected() -> bool:
    """Whether charts are drawn larger, for a room: `EMBEDDINGS_PROJECTOR=1`."""
    return choice("EMBEDDINGS_PROJECTOR") not in ("", "0")


def clean_environment() -> None:
    """Put this process, and every kernel it starts, under `CLEAN_ENVIRONMENT`.

    All OpenAI variables are removed.
    """
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        del os.environ[name]
    os.environ.update(CLEAN_ENVIRONMENT)


def load_env() -> None:
    """Read `.env` in the project's folder; variables already set win, empty ones count as unset.

    Raises:
        ValueError: the file is not UTF-8 text, or the key has a character that cannot be sent.
    """
    try:
        load_dotenv(PROJECT_ROOT / ".env", encoding="utf-8-sig")
    except ValueError:
        raise ValueError(
            _(
                ".env is not UTF-8 text (some editors save UTF-16). Save it as UTF-8, "
                "or copy .env.example again, and restart the kernel."
            )
        ) from None
    for name in OPENAI_VARIABLES:  # an empty key or URL breaks the SDK instead of meaning "none"
        value = os.environ.pop(name, "").strip()  # and a line end would break HTTP
        if value:
            os.environ[name] = value
    if not all("!" <= character <= "~" for character in os.environ.get("OPENAI_API_KEY", "")):
        raise ValueError(
            _(
                "OPENAI_API_KEY contains a character that no key has: a space, or a "
                "dash or quote that a word processor made typographic. Copy the key "
                "into .env again and restart the kernel."
            )
        )


def hide_key(text: object) -> str:
    """The text with every key of the environment replaced by its variable's name.

    Everything that is shown or stored goes through this.
    """
    text = str(text)
    for name in SECRETS:
        key = os.environ.get(name, "").strip()
        if len(key) > 3:  # shorter ones are placeholders for servers that need no key
            text = text.replace(key, f"[{name}]")
    return text
