"""How tests get a real browser, and where what it drew is kept."""

import os
import shutil

import pytest
from playwright import sync_api as playwright

from benchmarks.token_map import QUIET
from helpers import PROJECT_ROOT

SHOTS = PROJECT_ROOT / "output" / "browser"
MISSING = (
    "no Chromium, Chrome or Edge on this machine: apt-get install chromium (Debian), "
    "or inside .venv: python -m playwright install chromium"
)
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def launch(chromium):
    """The first browser that starts: the system's Chromium, Playwright's own, Chrome, Edge."""
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    for choice in [{"executable_path": system}] * bool(system) + [
        {},
        {"channel": "chrome"},
        {"channel": "msedge"},
    ]:
        try:
            return chromium.launch(args=[*QUIET, OFFLINE], **choice)
        except playwright.Error as error:
            last = error
    if os.environ.get("CI"):
        pytest.fail(f"{MISSING}\n{last}")
    pytest.skip(MISSING)
