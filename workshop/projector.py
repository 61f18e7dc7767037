"""One switch for a room with a projector: larger text in JupyterLab, larger charts.

JupyterLab reads font sizes from a user's settings alone, not from the defaults of an installation
(jupyterlab/jupyterlab#17611). While the switch is on, it therefore uses a copy of the user's
settings inside `.venv`; the user's own files are never changed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import dotenv

from helpers import PROJECT_ROOT, files

ENV = PROJECT_ROOT / ".env"
VARIABLE = "EMBEDDINGS_PROJECTOR"
CONFIG = Path("etc", "jupyter", "jupyter_lab_config.json")
COPY = Path("share", "jupyter", "lab", "projector-settings")

#: JupyterLab's settings while the switch is on. At 1,280 pixels, printed lines of 100 characters
#: and code lines of 88 still fit.
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension/themes": {
        "overrides": {
            "code-font-size": "17px",  # printed outputs too
            "content-font-size1": "20px",
            "ui-font-size1": "15px",
        }
    },
    "@jupyterlab/terminal-extension/plugin": {"fontSize": 20},
}

ON = """\
The projector is on: code and printed text have 17 pixels, text 20, labels in charts 16.

  1. Start JupyterLab again: python run.py lab
  2. In each notebook: Kernel > Restart Kernel and Run All Cells. Charts are then drawn larger;
     those stored in a notebook keep their size until then.
  3. Close the file browser (Ctrl+B; on a Mac Cmd+B).

Leave View > Presentation Mode off: it is JupyterLab's own, smaller step (code 16, text 17), and
where both are on, it wins. Diagrams in the text grow with the browser's zoom (Ctrl and +).
Afterwards: python run.py workshop projector off"""
OFF = (
    "The projector is off. Start JupyterLab again (python run.py lab), and run the notebooks again."
)


def combined(settings: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Settings with more settings in them; of two values of one name, the second counts.

    >>> combined({"a": {"b": 1}, "c": 2}, {"a": {"d": 3}})
    {'a': {'b': 1, 'd': 3}, 'c': 2}
    """
    result = dict(settings)
    for name, value in more.items():
        old = result.get(name)
        nested = isinstance(old, dict) and isinstance(value, dict)
        result[name] = combined(dict(old or {}), value) if nested else value
    return result


def parsed(text: str) -> dict[str, Any]:
    """Settings as JupyterLab stores them: JSON after lines of comments; empty if it is not that.

    >>> parsed('{\\n    // Theme\\n    "theme": "JupyterLab Dark"\\n}')
    {'theme': 'JupyterLab Dark'}
    """
    lines = [line for line in text.splitlines() if not line.strip().startswith("//")]
    try:
        settings = json.loads("\n".join(lines))
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def turn_on(user_settings: Path, *, prefix: Path, env: Path) -> None:
    """Let JupyterLab and charts use large letters.

    Args:
        user_settings: the folder of the user's own settings of JupyterLab, which is only read.
        prefix: the environment whose JupyterLab is meant.
        env: settings of the series, which kernels read when they start.

    Raises:
        OSError: a file cannot be written.
    """
    copy, config = prefix / COPY, prefix / CONFIG
    if user_settings.is_dir():
        shutil.copytree(user_settings, copy, dirs_exist_ok=True)
    for name, settings in SETTINGS.items():
        path = copy / f"{name}.jupyterlab-settings"
        old = parsed(path.read_text(encoding="utf-8")) if path.is_file() else {}
        files.write_whole(path, json.dumps(combined(old, settings), indent=2).encode())
    old = parsed(config.read_text(encoding="utf-8")) if config.is_file() else {}
    setting = {"LabApp": {"user_settings_dir": str(copy)}}
    files.write_whole(config, json.dumps(combined(old, setting), indent=2).encode())
    dotenv.set_key(env, VARIABLE, "1", quote_mode="never")


def turn_off(*, prefix: Path, env: Path) -> None:
    """Undo `turn_on`; the rest of `.env` stays.

    Raises:
        OSError: a file cannot be removed.
    """
    config = prefix / CONFIG
    if config.is_file():
        rest = parsed(config.read_text(encoding="utf-8"))
        rest.get("LabApp", {}).pop("user_settings_dir", None)
        if any(rest.values()):
            files.write_whole(config, json.dumps(rest, indent=2).encode())
        else:
            config.unlink()
    if (prefix / COPY).exists():
        shutil.rmtree(prefix / COPY)
    if env.is_file() and VARIABLE in dotenv.dotenv_values(env):
        dotenv.unset_key(env, VARIABLE)
        if not env.read_bytes().strip():
            env.unlink()


def main(arguments: list[str]) -> int:
    """Turn the projector's settings on or off; 1 if a file could not be written."""
    parser = argparse.ArgumentParser(
        prog="run.py workshop projector",
        description="Larger text in JupyterLab and larger charts, for a room with a projector.",
    )
    parser.add_argument("state", choices=["on", "off"])
    state, prefix = parser.parse_args(arguments).state, Path(sys.prefix)
    try:
        if state == "on":
            from jupyterlab.commands import get_user_settings_dir

            turn_on(Path(get_user_settings_dir()), prefix=prefix, env=ENV)
        else:
            turn_off(prefix=prefix, env=ENV)
    except (OSError, ValueError) as error:
        print(f"Not switched {state}: {error}", file=sys.stderr)
        return 1
    print(ON if state == "on" else OFF)
    return 0
