"""The token map in JupyterLab, from running its cell until its points are on the screen, offline.

Needs Playwright and a Chromium, Chrome or Edge on this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from helpers import PROJECT_ROOT
from helpers.settings import CLEAN_ENVIRONMENT

from .harness import Row, Spread, part

POINTS, REPEATS = 30_522, 3
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge", "microsoft-edge")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

PREPARE = """\
import altair as alt
from helpers import artifacts, projection, session, token_map, tokens
console = session.start()
encoder = artifacts.load_encoder()
table = encoder.transformers_model.get_input_embeddings().weight.detach().cpu().numpy()
xy = projection.tsne_2d(table)
points = tokens.vocabulary_frame(encoder.tokenizer).assign(x=xy[:, 0], y=xy[:, 1])
"""
OURS = """\
token_map.show(points, table, token="interest", title="All tokens", description="The token map")
"""
THEIRS = """\
alt.renderers.enable("jupyter", offline=True)
alt.data_transformers.disable_max_rows()
token_map.chart(points, title="All tokens", description="The token map", highlight=[3037])
"""
#: In the page: whether the map is drawn. Canvas: enough pixels that are not white. SVG: marks.
DRAWN = {
    "ours": """() => [...document.querySelectorAll('.jp-OutputArea canvas')].some(c => {
        const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let inked = 0;
        for (let i = 0; i < data.length; i += 4)
            if (data[i + 3] && Math.min(data[i], data[i + 1], data[i + 2]) < 200) inked++;
        return inked > 20000;
    })""",
    "theirs": f"""() =>
        document.querySelectorAll('.jp-OutputArea .mark-symbol path').length >= {POINTS}""",
}
FIRST_CELL_DONE = """() => [...document.querySelectorAll('.jp-InputPrompt')].some(
    prompt => prompt.textContent.includes('[1]:'))"""
TWO_FRAMES = """() => new Promise(
    done => requestAnimationFrame(() => requestAnimationFrame(done)))"""
HERE = re.compile(r"(https?|ws)://127\.0\.0\.1|data:|blob:")


def find_browser() -> str:
    """Path of a browser that Playwright can drive.

    Raises:
        SystemExit: there is none; the message says how to install one.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        raise SystemExit(
            "No Chromium, Chrome or Edge was found. Install one; on Debian and Ubuntu: "
            "sudo apt-get install chromium"
        )
    return found


def serve(folder: Path) -> tuple[subprocess.Popen, str]:
    """JupyterLab on a free port, with settings of its own, over `folder`; it is ready to answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        **CLEAN_ENVIRONMENT,
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "s"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "w"),
        "EMBEDDINGS_HEADLESS": "0",
    }
    options = [
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--notebook-dir={folder}",
    ]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            stdout=log,
            stderr=log,
            cwd=PROJECT_ROOT,
            env=environment,
        )
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return server, address
        except OSError:
            time.sleep(0.5)
    server.kill()
    raise SystemExit("JupyterLab did not start:\n" + (folder / "lab.log").read_text()[-2000:])


def draw(browser, address: str, kind: str, turn: int) -> float:
    """Seconds from running the second cell until its points are drawn.

    Raises:
        SystemExit: the page asked for something that is not on this machine.
    """
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{address}/lab/tree/{kind}-{turn}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-InputArea-editor", timeout=90_000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    cell = page.locator(".jp-CodeCell").first
    cell.click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_function(FIRST_CELL_DONE, timeout=120_000)
    page.wait_for_timeout(2000)
    start = time.perf_counter()
    page.keyboard.press("Shift+Enter")
    page.wait_for_function(DRAWN[kind], timeout=120_000, polling=100)
    page.evaluate(TWO_FRAMES)  # painted
    seconds = time.perf_counter() - start
    for session in page.request.get(f"{address}/api/sessions").json():
        page.request.delete(f"{address}/api/sessions/{session['id']}")  # or it slows the next one
    page.close()
    if away := [url for url in requests if not HERE.match(url)]:
        raise SystemExit(f"the page asked for {away[0]}: this should work without a network")
    return seconds


def run() -> list[Row]:
    from playwright.sync_api import sync_playwright

    values: dict[str, list[float]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        for kind, cell in (("ours", OURS), ("theirs", THEIRS)):
            cells = [
                nbformat.v4.new_code_cell(PREPARE, id="prepare"),
                nbformat.v4.new_code_cell(cell, id="draw"),
            ]
            notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
            for turn in range(REPEATS):  # each has its own file: JupyterLab saves what was drawn
                nbformat.write(notebook, folder / f"{kind}-{turn}.ipynb")
        server, address = serve(folder)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=find_browser(), args=list(QUIET)
                )
                for turn in range(REPEATS):
                    for kind, seconds in values.items():
                        seconds.append(draw(browser, address, kind, turn))
                        print(f"{kind}: {seconds[-1]:.1f} s", flush=True)
                browser.close()
        finally:
            server.terminate()
            server.wait(30)
    what = f"token map drawn, {POINTS:,} points, JupyterLab in Chromium"
    against = 'Altair\'s offline "jupyter" renderer'
    ours, theirs = (Spread(tuple(values[kind])) for kind in ("ours", "theirs"))
    return [Row(what, against, ours, theirs, "s", 2, 4)]


if __name__ == "__main__":
    sys.exit(part(run))
