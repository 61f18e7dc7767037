"""The site as a reader opens it: from the disk, in a real headless browser, without a network."""

import io
import re
from importlib.resources import files

import pytest
from PIL import Image
from playwright import sync_api as playwright

from helpers import PROJECT_ROOT
from helpers.translations import with_glyphs
from tests.support.browser import SHOTS
from tests.support.site import faults_of_links, read_pages
from website import build

pytestmark = pytest.mark.browser

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}}
NOTEBOOK = "notebooks/04_cde_bi_encoder.html"
QUIZ = "Because stage 1 is expensive"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, built as by `python run.py site`."""
    folder = tmp_path_factory.mktemp("built") / "site"
    assert build.build(PROJECT_ROOT, folder) == 0, "Sphinx warns of something"
    return folder


@pytest.fixture
def reader(browser):
    """Opens pages; whatever they ask of another host, and every error, fails the test."""
    contexts, faults = [], []

    def note_request(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            faults.append(f"asks for {request.url}")

    def note_message(message):
        if message.type == "error" or message.text.startswith("the picture stays"):
            faults.append(f"{message.page.url}: {message.text}")

    def open_page(path, **options):
        context = browser.new_context(offline=True, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", note_request)
        page.on("console", note_message)
        page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
        page.goto(path if isinstance(path, str) else path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


#: Shows all of a page: unfolds what is folded, and passes every chart and picture once.
WALK = """async () => {
    document.querySelectorAll('details:not([title])').forEach(fold => fold.open = true);
    for (const figure of document.querySelectorAll('figure[data-script], article img')) {
        figure.scrollIntoView();
        await new Promise(requestAnimationFrame);
    }
    await document.fonts.ready;
}"""
LIVE = """() => [...document.querySelectorAll('figure[data-script]')]
    .every(figure => figure.classList.contains('is-live'))"""
#: What is wrong with the page as it is drawn now. axe-core may fetch no stylesheets: nothing may.
FAULTS = """async () => {
    const found = [];
    const width = document.documentElement.scrollWidth;
    if (width > innerWidth) found.push(`${width} pixels wide`);
    for (const picture of document.images) {
        const name = picture.src.slice(-60);
        if (!picture.alt.trim()) found.push(`without words: ${name}`);
        if (!picture.complete || !picture.naturalWidth) found.push(`empty: ${name}`);
    }
    if (document.body.innerText.includes('Error displaying widget')) found.push('a widget');
    const { violations } = await axe.run(document, { preload: false });
    for (const { impact, id, nodes } of violations)
        if (['serious', 'critical'].includes(impact)) found.push(`${id}: ${nodes[0].html}`);
    return found;
}"""


@pytest.mark.parametrize(
    ("language", "look", "scheme"), [("en", DESK, "light"), ("zh", PHONE, "dark")]
)
def test_every_page_fits_its_screen_and_reads_without_eyes(site, reader, language, look, scheme):
    pages = [path for path in read_pages(site) if (path.parts[0] == "zh") == (language == "zh")]
    assert len(pages) > 10
    first, *others = [site / path for path in pages if path.name != "search.html"]
    page, found = reader(first, color_scheme=scheme, **look), {}
    for path in (first, *others):
        page.goto(path.as_uri())
        page.evaluate(WALK)
        page.wait_for_function(LIVE)
        page.evaluate(AXE)
        if faults := page.evaluate(FAULTS):
            found[path.relative_to(site).as_posix()] = faults
        if path.name[:1].isdigit():
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=SHOTS / f"site-{language}-{path.stem}.png")
    assert not found


def test_every_link_and_anchor_leads_somewhere(site):
    assert not faults_of_links(site)


def test_a_page_with_faults_would_be_noticed(site, reader, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        '<html><body style="width: 5000px"><img src="data:image/png;base64,xx">'
        '<p>Error displaying widget</p><p style="color: #ddd">pale</p><button></button></body>',
        encoding="utf-8",
    )
    page = reader(path, **DESK)
    page.evaluate(AXE)
    found = " ".join(page.evaluate(FAULTS))
    for fault in (
        "pixels wide",
        "without words",
        "empty",
        "widget",
        "color-contrast",
        "button-name",
    ):
        assert fault in found


def test_the_map_of_all_tokens_is_small_and_quick_and_finds_a_token(site, reader):
    scripts = [site / "_static" / name for name in ("token-map.js", "token-map-data.js")]
    assert sum(path.stat().st_size for path in scripts) < 2e6
    page = reader(site / "notebooks/02_input_embeddings.html", **DESK)
    seconds = page.evaluate(
        """async () => {
            const start = performance.now(), map = document.querySelector('figure.token-map');
            map.scrollIntoView();
            while (!map.classList.contains('is-live')) await new Promise(requestAnimationFrame);
            return (performance.now() - start) / 1000;
        }"""
    )
    assert seconds < 3
    card = page.locator("figure.token-map")
    for asked, answer in (("interest", "nearest to interest: interests"), ("xyzzy", "not one of")):
        card.locator("input").fill(asked)
        card.locator("form button").first.click()
        playwright.expect(card.locator(".answer")).to_contain_text(answer)
    # more colours than the paper's: points have been drawn
    colours = card.locator("canvas").first.evaluate(
        """canvas => {
            const { width, height } = canvas;
            const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
            return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    assert colours > 20


@pytest.mark.parametrize(
    ("start", "words", "page_found"),
    [
        ("search.html", "anisotropy", "03_contextual"),
        ("zh/search.html", "输入向量", "02_input"),
    ],
)
def test_search_finds_words_in_either_language(site, reader, start, words, page_found):
    page = reader(f"{(site / start).as_uri()}?q={words}", **DESK)
    result = page.locator(f'ul.search a[href*="{page_found}"]').first
    playwright.expect(result).to_be_visible()
    result.click()
    playwright.expect(page).to_have_url(re.compile(page_found))


def test_chinese_is_drawn_without_a_font_of_the_machine(site, reader):
    """Boxes for missing characters all look the same."""
    for path in sorted((site / "zh" / "notebooks").glob("0*.html")):
        page = reader(path, **PHONE)
        page.evaluate("document.fonts.ready")
        page.wait_for_timeout(300)
        drawn = Image.open(io.BytesIO(page.get_by_text("你将学到").first.screenshot())).convert("L")
        width = drawn.width // 4
        signs = {
            drawn.crop((i * width, 0, (i + 1) * width, drawn.height)).tobytes() for i in range(4)
        }
        assert len(signs) == 4, path.name


@pytest.mark.parametrize("look", [DESK, PHONE])
@pytest.mark.parametrize("place", ["cell-weights-prose", "cell-measures", "cell-own"])
def test_the_language_switch_keeps_page_and_place(site, reader, place, look):
    page = reader(f"{(site / NOTEBOOK).as_uri()}#{place}", **look)
    for folder in ("zh/", ""):
        page.wait_for_timeout(300)  # time for charts above to move the place
        page.locator("a.language").first.evaluate("link => link.click()")
        page.wait_for_url(f"{(site / folder / NOTEBOOK).as_uri()}#{place}")
        page.wait_for_load_state()
        page.wait_for_timeout(700)
        top = page.evaluate(f"document.getElementById('{place}').getBoundingClientRect().top")
        assert -5 < top < look["viewport"]["height"] / 3


def is_unfolded(summary):
    """Whether what belongs to a summary can be read, on the screen or on paper."""
    return summary.evaluate("line => line.parentElement.offsetHeight > line.offsetHeight + 10")


def test_hints_and_quizzes_answer_a_click(site, reader):
    page = reader(site / NOTEBOOK, **DESK)
    choice = page.locator("summary", has_text=QUIZ)
    assert not is_unfolded(choice)
    choice.click()
    assert is_unfolded(choice)


def assert_pictures(charts, least):
    """Charts are shown as their pictures and not as live ones."""
    assert charts.count() >= least
    for chart in charts.all():
        assert chart.locator("> img").is_visible()
        assert not any(live.is_visible() for live in chart.locator(".live").all())


def test_on_paper_charts_are_pictures_and_nothing_is_folded(site, reader):
    page = reader(site / NOTEBOOK, **DESK)
    page.evaluate(WALK)
    page.wait_for_function(LIVE)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false)")
    choice = page.locator("summary", has_text=QUIZ)
    assert not is_unfolded(choice)
    page.emulate_media(media="print")
    assert_pictures(page.locator("figure[data-script]"), 4)
    assert is_unfolded(choice)
    page.pdf(path=SHOTS / "site-04.pdf", format="A4")


def test_without_scripts_charts_are_pictures_and_folds_open(site, reader):
    page = reader(site / NOTEBOOK, java_script_enabled=False, **DESK)
    assert_pictures(page.locator("figure[data-script]:not(details *)"), 2)
    choice = page.locator("summary", has_text=QUIZ)
    choice.click()
    assert is_unfolded(choice)


def test_chinese_in_a_diagram_is_drawn_without_a_font_of_the_machine(reader, tmp_path):
    """Boxes for missing characters all look the same."""
    drawn = set()
    start = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">'
    for text in ("词", "元", "量"):
        svg = f'{start}<text x="5" y="30" font-size="24">{text}</text></svg>'
        (tmp_path / f"{text}.svg").write_text(with_glyphs(svg), encoding="utf-8")
        (tmp_path / f"{text}.html").write_text(f'<img src="{text}.svg">', encoding="utf-8")
        page = reader(tmp_path / f"{text}.html", **PHONE)
        page.wait_for_timeout(200)  # for the font inside the picture
        drawn.add(page.locator("img").screenshot())
    assert len(drawn) == 3
