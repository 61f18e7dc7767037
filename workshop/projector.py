"""One switch for a room with a projector: larger text in JupyterLab, larger charts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import dotenv

from helpers import PROJECT_ROOT, files

ENV = PROJECT_ROOT / ".env"
OVERRIDES = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
VARIABLE = "EMBEDDINGS_PROJECTOR"

#: JupyterLab's settings while the switch is on. At 1,280 pixels, printed lines of 100 characters
#: and code lines of 88 still fit.
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension:themes": {
        "overrides": {
            "code-font-size": "18px",  # printed outputs too
            "content-font-size1": "20px",
            "ui-font-size1": "16px",
        }
    },
    "@jupyterlab/terminal-extension:plugin": {"fontSize": 20},
}

ON = """\
The projector is on: text has 18 to 20 pixels, labels in charts 16.

  1. Reload JupyterLab's page (F5). It need not be started again.
  2. In each notebook: Kernel > Restart Kernel and Run All Cells. Charts are then drawn larger;
     those stored in a notebook keep their size until then.
  3. View > Presentation Mode, then close the sidebar (Ctrl+B; on a Mac Cmd+B).

Diagrams in the text are pictures, and grow with the browser's zoom alone (Ctrl and +).
Afterwards: python run.py workshop projector off"""
OFF = """\
The projector is off. Reload JupyterLab's page (F5), restart the kernels, and leave
View > Presentation Mode."""


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


def without(settings: dict[str, Any], less: dict[str, Any]) -> dict[str, Any]:
    """Settings without those in `less`; one that has another value now is somebody else's.

    >>> without({"a": {"b": 1, "d": 3}, "c": 2}, {"a": {"b": 1}, "c": 5})
    {'a': {'d': 3}, 'c': 2}
    """
    result = {}
    for name, value in settings.items():
        if isinstance(value, dict) and isinstance(less.get(name), dict):
            value = without(value, less[name])
            if value:
                result[name] = value
        elif name not in less or less[name] != value:
            result[name] = value
    return result


def switch(*, on: bool, overrides: Path = OVERRIDES, env: Path = ENV) -> None:
    """Turn everything on or off; what else stands in the two files stays.

    Args:
        overrides: JupyterLab's settings for everybody who uses this environment.
        env: settings of the series, which kernels read when they start.

    Raises:
        ValueError: `overrides` is not JSON.
        OSError: a file cannot be written.
    """
    text = overrides.read_text(encoding="utf-8") if overrides.is_file() else "{}"
    settings = json.loads(text)
    settings = combined(settings, SETTINGS) if on else without(settings, SETTINGS)
    files.write_whole(overrides, (json.dumps(settings, indent=2) + "\n").encode())
    if on:
        dotenv.set_key(env, VARIABLE, "1", quote_mode="never", encoding="utf-8")
    elif env.is_file() and VARIABLE in dotenv.dotenv_values(env, encoding="utf-8-sig"):
        dotenv.unset_key(env, VARIABLE, encoding="utf-8")
        if not env.read_bytes().strip():
            env.unlink()


def main(arguments: list[str]) -> int:
    """Turn the projector's settings on or off; 1 if a file could not be written."""
    parser = argparse.ArgumentParser(
        prog="run.py workshop projector",
        description="Larger text in JupyterLab and larger charts, for a room with a projector.",
    )
    parser.add_argument("state", choices=["on", "off"])
    on = parser.parse_args(arguments).state == "on"
    try:
        switch(on=on)
    except (OSError, ValueError) as error:
        print(f"Not switched: {error}. To mend it: python run.py repair", file=sys.stderr)
        return 1
    print(ON if on else OFF)
    return 0
