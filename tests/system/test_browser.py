"""The notebooks as a reader meets them: in JupyterLab, in a real headless browser, no network.

Each notebook is run once in the light theme, where everything is tried; then the same kernel is
shown in the dark theme, and at 200 %. What the browser drew is in output/browser afterwards.
"""

import base64
import io
import json
import re
import secrets
from functools import cached_property
from urllib.parse import urlsplit

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright import sync_api as playwright

from helpers import execute
from helpers.charts import VEGALITE_MIME
from tests.support.browser import SHOTS
from tests.support.processes import started_python, wait_until
from workshop import projector

pytestmark = pytest.mark.browser

PATHS = sorted(execute.NOTEBOOKS.glob("*.ipynb"))
SCREEN = {"width": 1360, "height": 1500}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab with copies of the notebooks, no user's settings, its own token."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for path in PATHS:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                # what is seen later has been computed here
                cell.update(outputs=[], execution_count=None)
        nbformat.write(notebook, folder / path.name)
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8"
    )
    environment = {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "EMBEDDINGS_HEADLESS": None,  # somebody sits in front
    }
    environment |= {
        f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    token = secrets.token_hex(16)
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--IdentityProvider.token={token}",
    ]
    options += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={home / 'notebooks'}"]
    command = ["-m", "jupyterlab", *options]
    with (
        (home / "log").open("wb") as log,
        started_python(*command, cwd=home, log=log, **environment) as server,
    ):

        def announced():
            assert server.poll() is None, (home / "log").read_text(encoding="utf-8")
            return list((home / "runtime").glob("jpserver-*.json"))

        try:
            (found,) = wait_until(announced)
            port = json.loads(found.read_text(encoding="utf-8"))["port"]
            yield f"http://127.0.0.1:{port}/lab/tree/{{name}}?reset&token={token}", settings
        finally:
            server.terminate()  # it ends its kernels too
            server.wait(30)


#: Whether every cell has run to its end, or one has failed.
ENDED = """() => {
    const panel = jupyterapp.shell.currentWidget;
    const cells = [...panel.content.model.cells].filter(cell => cell.type === 'code');
    const failed = output => output.output_type === 'error';
    if (cells.some(cell => cell.outputs.toJSON().some(failed))) return true;
    const status = panel.sessionContext.session?.kernel?.status;
    return cells.every(cell => cell.executionCount) && status === 'idle';
}"""
#: Parts of a cell's output that no scrollbar brings fully into view.
#: JupyterLab itself moves charts by 8 pixels.
CUT_OFF = """cell => {
    const parts = 'canvas, svg.marks, img, pre, table, p, summary, .jupyter-widgets';
    const hides = box => ['hidden', 'clip'].includes(getComputedStyle(box).overflowX);
    const isCut = part => {
        if (hides(part) && part.scrollWidth > part.clientWidth + 9) return true;
        let right = part.getBoundingClientRect().right;
        for (let box = part.parentElement; box; box = box.parentElement) {
            const edge = box.getBoundingClientRect().right;
            if (right <= edge + 9 || getComputedStyle(box).overflowX === 'visible') continue;
            if (hides(box)) return true;
            right = edge;
        }
        return false;
    };
    return [...cell.querySelectorAll(parts)].filter(isCut).map(part => [
        part.tagName, part.className, part.textContent.slice(0, 60),
        part.scrollWidth, part.clientWidth,
    ].join(' '));
}"""
#: Takes the data out of a chart, or puts the original back; returns what was there.
EMPTY = """([position, original]) => {
    const outputs = jupyterapp.shell.currentWidget.content.model.cells.get(position).outputs;
    const before = outputs.get(0).toJSON(), after = original ?? structuredClone(before);
    if (!original) {
        for (const data of Object.values(after.data)) {
            for (const name in data.datasets ?? {}) data.datasets[name] = [];
        }
    }
    outputs.set(0, after);
    return before;
}"""


class Lesson:
    """One notebook, its kernel, and the tab in which it is open."""

    def __init__(self, browser, path, address, settings):
        self.browser, self.path, self.address, self.settings = browser, path, address, settings
        self.context = None
        self.stored = nbformat.read(path, as_version=4)
        self.ids = [cell.id for cell in self.stored.cells]
        self.requests, self.faults = [], []
        self.predicted = [
            cell.id
            for cell in self.stored.cells
            if cell.metadata.get("jupyter", {}).get("outputs_hidden")
        ]
        self.folded, self.previews = None, []

    def open(self, theme="Light", zoom=1, **settings):
        """A new tab on the same kernel, with the outputs of predictions unfolded."""
        if self.context:
            self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
            self.context.close()
        theme_file = self.settings / "themes.jupyterlab-settings"
        settings = {"theme": f"JupyterLab {theme}", **settings}
        theme_file.write_text(json.dumps(settings), encoding="utf-8")
        screen = {name: side // zoom for name, side in SCREEN.items()}
        self.context = self.browser.new_context(viewport=screen, device_scale_factor=zoom)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        record(self.page, self.requests)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(self.address)
        self.page.wait_for_function(
            "window.jupyterapp?.shell?.currentWidget"
            "?.sessionContext?.session?.kernel?.status === 'idle'"
        )
        self.page.locator(f'body[data-jp-theme-light="{str(theme == "Light").lower()}"]').wait_for(
            state="attached"
        )
        if self.folded is None:
            placeholders = [(name, ".jp-OutputPlaceholder") for name in self.predicted]
            self.folded = [n for n, place in placeholders if self.cell(n).locator(place).count()]
            self.previews = [
                self.cell(n).locator(".jp-PlaceholderText").inner_text() for n in self.folded
            ]
        self.page.evaluate("jupyterapp.commands.execute('notebook:show-all-cell-outputs')")

    def run_all(self):
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(ENDED, timeout=400_000, polling=500)

    def outputs(self):
        """Cell id to what JupyterLab holds as its outputs."""
        cells = "[...jupyterapp.shell.currentWidget.content.model.cells]"
        return dict(
            self.page.evaluate(f"{cells}.map(cell => [cell.id, cell.outputs?.toJSON() ?? []])")
        )

    def cell(self, name):
        """The cell with this id, scrolled to: JupyterLab renders only what is near the viewport."""
        position = self.ids.index(name)
        self.page.evaluate(
            "position => jupyterapp.shell.currentWidget.content.scrollToItem(position, 'start')",
            position,
        )
        cell = self.page.locator(f'.jp-Cell[data-windowed-list-index="{position}"]')
        cell.wait_for()
        return cell

    def figure(self, name):
        figure = (
            self.cell(name)
            .locator(".vega-embed canvas, .vega-embed svg.marks, .jp-RenderedImage img")
            .first
        )
        figure.wait_for()
        return figure

    def picture(self, name, label):
        """A figure as PNG, kept in output/browser too."""
        return self.figure(name).screenshot(path=SHOTS / f"{self.path.stem[:2]}-{name}-{label}.png")

    @cached_property
    def light(self):
        """Cell id to the figure in the light theme, which is on when this is first asked for."""
        return {name: self.picture(name, "light") for name in self.stored_pictures}

    @cached_property
    def stored_pictures(self):
        """Cell id to the PNG in the repository."""
        found = {}
        for cell in self.stored.cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    found[cell.id] = base64.b64decode(output.data["image/png"])
        return found


def record(page, requests):
    page.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda socket: requests.append(socket.url))


def away(requests):
    """The requests that do not stay on this machine."""
    return [
        url
        for url in requests
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname != "127.0.0.1"
    ]


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem[:2])
def lesson(request, browser, lab):
    address, settings = lab
    lesson = Lesson(browser, request.param, address.format(name=request.param.name), settings)
    SHOTS.mkdir(parents=True, exist_ok=True)
    lesson.open()
    try:
        lesson.run_all()
    except playwright.Error:
        lesson.page.screenshot(path=SHOTS / f"FAILED-{request.param.stem}.png")
        raise
    yield lesson
    lesson.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    lesson.context.close()


@pytest.fixture(autouse=True)
def photograph(request, lesson):
    """The page as it was when a test failed."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        lesson.page.screenshot(path=SHOTS / f"FAILED-{request.node.name}.png")


def coloured(png):
    """Share of coloured pixels: only data and scales have colour.

    Text, axes and background are grey, black or white.
    """
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)
    return float((np.ptp(pixels, axis=2) > 40).mean())


def is_drawn(png, stored):
    """Whether a figure has about as much colour as the repository's picture of it.

    Without its data it would have less than half.
    """
    return 0.75 < coloured(png) / coloured(stored) < 1.33


def difference(one, other):
    """Share of pixels that differ visibly, at best when one picture is moved up or down by one.

    Formulas give cells heights of fractions of a pixel, which a screenshot rounds.
    """
    one, other = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int) for png in (one, other)
    )
    if one.shape != other.shape:
        return 1.0
    height = len(one)
    parts = [one[2 + up : height - 2 + up, 2:-2] for up in (-1, 0, 1)]
    return min(float((np.abs(part - other[2:-2, 2:-2]).max(axis=2) > 48).mean()) for part in parts)


def test_every_cell_runs_without_an_error(lesson):
    errors = {
        name: output
        for name, got in lesson.outputs().items()
        for output in got
        if output["output_type"] == "error"
    }
    assert not errors and not lesson.faults


def test_every_chart_is_drawn(lesson):
    assert len(lesson.light) >= 2
    assert not [
        name
        for name, png in lesson.light.items()
        if not is_drawn(png, lesson.stored_pictures[name])
    ]


def test_a_chart_without_its_data_would_be_noticed(lesson):
    emptied = 0
    for name, outputs in lesson.outputs().items():
        if len(outputs) == 1 and VEGALITE_MIME in outputs[0].get("data", {}):
            position = lesson.ids.index(name)
            original = lesson.page.evaluate(EMPTY, [position, None])
            assert not is_drawn(lesson.picture(name, "empty"), lesson.stored_pictures[name]), name
            lesson.page.evaluate(EMPTY, [position, original])
            emptied += 1
    assert emptied


def test_the_box_for_ones_own_text_answers_and_says_what_is_wrong(lesson):
    name = next(
        cell.id
        for cell in lesson.stored.cells
        if cell.cell_type == "code" and "session.try_it(" in cell.source
    )
    cell = lesson.cell(name)
    boxes = cell.locator("input[type=text]").all()
    run, answer = (
        cell.get_by_role("button", name="Run", exact=True),
        cell.locator(".jupyter-widgets .jp-OutputArea").last,
    )
    boxes[0].fill("otters on the bank")
    run.click()
    playwright.expect(answer).to_contain_text("otter")
    answered = answer.inner_text()
    boxes[-1].fill("")
    run.click()
    playwright.expect(answer).not_to_have_text(answered, use_inner_text=True)
    # notebook 4 weighs the two tokens of an empty text
    playwright.expect(answer).to_have_text(re.compile(r"Error: |\[CLS\]"))


def test_exercises_answer_the_starter_and_unfold_their_hints(lesson):
    exercises = [
        cell.id
        for cell in lesson.stored.cells
        if cell.id.startswith("ex") and cell.cell_type == "code"
    ]
    assert len(exercises) >= 3
    for name in exercises:
        playwright.expect(lesson.cell(name).locator(".jp-OutputArea").first).to_contain_text(
            "✗ Not yet."
        )
        folds = lesson.cell(lesson.ids[lesson.ids.index(name) + 1]).locator("details").all()
        assert len(folds) == 3
        for fold in folds:
            closed = fold.bounding_box()["height"]
            fold.locator("summary").click()
            assert fold.bounding_box()["height"] > closed + 10


def test_the_answer_to_a_prediction_is_folded_when_a_notebook_is_opened(lesson):
    assert len(lesson.predicted) >= 3 and lesson.folded == lesson.predicted
    assert [preview.strip() for preview in lesson.previews] == [""] * len(lesson.folded)


@pytest.mark.parametrize("lesson", PATHS[1:2], ids=["02"], indirect=True)
def test_the_token_map_names_points_and_finds_tokens(lesson):
    before = lesson.light["token-map"]
    canvas = lesson.figure("token-map")
    box, tooltip = canvas.bounding_box(), lesson.page.locator("#vg-tooltip-element.visible")
    for step in range(0, 200, 2):  # from left to right through a part full of points
        lesson.page.mouse.move(box["x"] + box["width"] * 0.3 + step, box["y"] + box["height"] / 2)
        lesson.page.wait_for_timeout(30)
        if tooltip.count():
            break
    assert re.fullmatch(
        r"token\s+\S+\s+id\s+\d+\s+kind\s+(word|continuation|special)", tooltip.inner_text().strip()
    )
    lesson.page.mouse.move(0, 0)
    river = searched(lesson, "river", "nearest to 'river': ")
    assert difference(river, before) > 0.001
    assert difference(searched(lesson, "zzzz", "is not one of the 30,522 tokens"), river) < 0.001
    special = searched(lesson, "[CLS]", "nearest to '[CLS]': ")
    assert difference(special, river) > 0.001 < difference(special, before)
    assert not lesson.cell("token-map").evaluate(CUT_OFF)
    # the page is loaded again, the kernel lives on
    lesson.open()
    assert find_token(lesson).input_value() == "[CLS]"
    lesson.page.wait_for_timeout(1000)
    assert difference(lesson.picture("token-map", "again"), special) < 0.001
    assert difference(searched(lesson, "river", "nearest to 'river': "), river) < 0.001
    assert difference(searched(lesson, "interest", "nearest to 'interest': "), before) < 0.001


def find_token(lesson):
    return lesson.cell("token-map").get_by_role("textbox", name="find token")


def searched(lesson, token, answer):
    """The map after somebody has typed `token` and the answer has come."""
    find_token(lesson).fill(token)
    find_token(lesson).press("Enter")
    lesson.cell("token-map").get_by_text(answer).wait_for()
    lesson.page.wait_for_timeout(1000)  # the rings follow
    return lesson.picture("token-map", re.sub(r"\W", "", token))


@pytest.mark.parametrize("lesson", PATHS[1:2], ids=["02"], indirect=True)
def test_the_maps_fit_beside_the_file_browser_at_1280_pixels(lesson):
    lesson.page.set_viewport_size({**SCREEN, "width": 1280})
    assert lesson.page.locator(".jp-FileBrowser").is_visible()
    for name in ("token-map", "map-region"):
        figure, room = lesson.figure(name), lesson.cell(name).locator(".jp-Cell-outputWrapper")
        ends = [box["x"] + box["width"] for box in (figure.bounding_box(), room.bounding_box())]
        assert ends[0] < ends[1], (name, ends)
    lesson.page.set_viewport_size(SCREEN)


def test_the_dark_theme_shows_the_same_charts(lesson):
    light = lesson.light
    lesson.open(theme="Dark")
    shares = {name: difference(lesson.picture(name, "dark"), light[name]) for name in light}
    assert shares and max(shares.values()) < 0.001, shares
    lesson.page.screenshot(path=SHOTS / f"{lesson.path.stem[:2]}-dark.png")


def test_nothing_is_cut_off_at_twice_the_size(lesson):
    lesson.open(zoom=2)
    assert not {name: cut for name in lesson.ids if (cut := lesson.cell(name).evaluate(CUT_OFF))}
    lesson.figure(list(lesson.stored_pictures)[-1])
    lesson.page.screenshot(path=SHOTS / f"{lesson.path.stem[:2]}-200.png")


def test_a_projector_has_larger_letters_and_nothing_is_cut_off_at_1280_pixels(lesson):
    lesson.open(**projector.SETTINGS["@jupyterlab/apputils-extension/themes"])
    lesson.page.set_viewport_size({"width": 1280, "height": 720})
    lesson.page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
    sizes = [
        lesson.page.locator(part).first.evaluate("part => getComputedStyle(part).fontSize")
        for part in (".jp-RenderedMarkdown p", ".cm-content")
    ]
    assert sizes == ["20px", "17px"]
    assert not {name: cut for name in lesson.ids if (cut := lesson.cell(name).evaluate(CUT_OFF))}
    lesson.page.screenshot(path=SHOTS / f"{lesson.path.stem[:2]}-projector.png")


def test_what_is_cut_off_would_be_noticed(lesson):
    lesson.open(zoom=2)
    lesson.page.add_style_tag(content=".jp-OutputArea-output { overflow-x: hidden !important }")
    assert any(lesson.cell(name).evaluate(CUT_OFF) for name in lesson.stored_pictures)


def test_no_request_leaves_the_machine(lesson):
    assert lesson.requests and not away(lesson.requests)


def test_a_request_that_leaves_would_be_noticed(lesson):
    requests, page = [], lesson.context.new_page()
    record(page, requests)
    page.evaluate("fetch('https://example.com/').catch(() => 0)")
    page.close()
    assert away(requests) == ["https://example.com/"]
