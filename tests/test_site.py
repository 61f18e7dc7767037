"""The site's sources and a small site in two languages; tests/system/test_site.py has the whole."""

import base64
import json
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from nbformat import v4, write

from helpers.charts import VEGALITE_MIME
from tests.support.site import faults_of_links
from website import build
from website.sources import Sources, outside_code, with_parts, without_front_matter
from website.sphinx_parts import ChinesePairs

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + (300).to_bytes(4, "big")).decode()
WORDS = build.words("en")


def chart(spec):
    data = {VEGALITE_MIME: spec, "image/png": PNG, "text/plain": "words"}
    metadata = {VEGALITE_MIME: {"embed_options": {}}, "image/png": {"alt": 'a "quoted" chart'}}
    return v4.new_output("display_data", data, metadata=metadata)


def notebook(title, *cells):
    cells = [v4.new_markdown_cell(title, id="title"), *cells]
    metadata = {
        "language_info": {"name": "python"},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
    }
    return v4.new_notebook(cells=cells, metadata=metadata)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    (root / "notebooks" / "zh").mkdir(parents=True)
    (root / "README.md").write_text(
        "# Home\n\n[one](notebooks/01.ipynb) [more](more.md#a-part) [file](file.txt)\n\n## End\n",
        encoding="utf-8",
    )
    (root / "more.md").write_text("# More\n\n## A part\n\n[home](README.md)", encoding="utf-8")
    (root / "file.txt").write_text("text", encoding="utf-8")
    folded = v4.new_code_cell(
        "print(1)", id="folded", metadata={"jupyter": {"outputs_hidden": True}}
    )
    folded.outputs = [v4.new_output("stream", text=" \n1\n")]
    drawn = v4.new_code_cell("draw()", id="drawn", outputs=[chart({"mark": "</script>"})])
    formula = v4.new_markdown_cell("## Formula\n\n$a^2$ and $$\\frac{1}{d}$$", id="formula")
    write(
        notebook("# First\n\n[home](../README.md)", folded, drawn, formula),
        root / "notebooks" / "01.ipynb",
    )
    chinese = v4.new_markdown_cell("## 公式\n\n[更多](../../more.md) 输入向量", id="formula")
    write(notebook("# 第一课", folded, drawn, chinese), root / "notebooks" / "zh" / "01.ipynb")
    return root


@pytest.fixture(scope="module")
def site(project, tmp_path_factory):
    """Both languages of the small project; without the scripts, which cost seconds."""
    folder, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:  # as `build` does
        jobs = [
            pool.submit(build.build_language, project, language, [other], folder, work)
            for language, other in (("en", "zh"), ("zh", "en"))
        ]
        assert [job.result() for job in jobs] == [0, 0]
    for name in ("vega.js", "token-map-data.js"):
        (folder / "_static" / name).touch()
    return folder


def page(site, name):
    return (site / name).read_text(encoding="utf-8")


def test_both_languages_have_the_same_pages_and_the_same_places(site):
    places = r'class="place" id="([^"]+)"'
    for name in ("index.html", "more.html", "notebooks/01.html"):
        found = re.findall(places, page(site, name))
        assert found == re.findall(places, page(site, f"zh/{name}"))
    assert found == ["cell-title", "cell-folded", "cell-drawn", "cell-formula"]


def test_the_switch_leads_to_the_same_page_of_the_other_language(site):
    assert 'href="../zh/notebooks/01.html" lang="zh-CN"' in page(site, "notebooks/01.html")
    assert 'href="../../notebooks/01.html" lang="en"' in page(site, "zh/notebooks/01.html")
    assert 'href="./../index.html" lang="en"' in page(site, "zh/index.html")


def test_the_chinese_site_speaks_chinese_and_a_page_without_translation_is_english(site):
    text = page(site, "zh/notebooks/01.html")
    assert '<html lang="zh-CN"' in text and "显示输出" in text and "第一课" in text
    assert "A part" in page(site, "zh/more.html")


def test_every_link_of_the_small_site_leads_somewhere(site):
    assert not faults_of_links(site)


@pytest.mark.parametrize("link", ["gone.html", "index.html#gone", "#gone"])
def test_a_link_that_leads_nowhere_is_found(link, tmp_path):
    (tmp_path / "index.html").write_text('<a href="index.html"></a>', encoding="utf-8")
    assert not faults_of_links(tmp_path)
    (tmp_path / "bad.html").write_text(f'<a href="{link}"></a>', encoding="utf-8")
    assert faults_of_links(tmp_path) == [f"bad.html: {link}"]


def test_a_chart_keeps_its_picture_its_words_and_a_specification_that_ends_no_script(site):
    text = page(site, "notebooks/01.html")
    assert 'alt="a &quot;quoted&quot; chart"' in text and 'data-script="../_static/vega.js"' in text
    stored = re.search(r'<script type="application/json">(.*?)</script>', text)
    assert json.loads(stored[1])["spec"] == {"mark": "</script>"}
    assert (site / "notebooks/pictures/01-drawn-0.png").read_bytes() == base64.b64decode(PNG)
    assert 'data-script="../../_static/vega.js"' in page(site, "zh/notebooks/01.html")


def test_a_folded_output_is_folded_and_formulas_are_mathml(site):
    text = page(site, "notebooks/01.html")
    assert re.search('<details class="[^"]*hide', text) and "<msup>" in text and "<mfrac>" in text


def test_chinese_is_found_by_pairs_of_characters(site):
    index = page(site, "zh/searchindex.js")
    assert all(json.dumps(pair) in index for pair in ("输入", "入向", "向量"))
    assert "function splitQuery" in page(site, "zh/_static/language_data.js")
    assert ChinesePairs({}).split("词 a输入") == ["词", "a", "输入"]


@pytest.mark.parametrize(
    ("repository", "wanted"),
    [
        ("", []),
        ("https://example.com/a/b", []),
        ("https://github.com/a/b", ["colab.research.google.com/github/a/b", "mybinder.org/v2/gh"]),
    ],
)
def test_services_are_offered_where_an_address_is_set(project, tmp_path, repository, wanted):
    pages = Sources(project, "zh", WORDS, repository=repository)
    pages.collect()
    pages.write(tmp_path / "source", tmp_path / "extra")
    text = (tmp_path / "source" / "notebooks" / "01.ipynb").read_text(encoding="utf-8")
    assert all(address in text for address in wanted)
    assert (text.count("https://") == len(wanted) and "notebooks/zh/01.ipynb" in text) or not wanted
    original = project / "notebooks" / "zh" / "01.ipynb"
    assert (tmp_path / "extra" / "notebooks" / "01.ipynb").read_bytes() == original.read_bytes()


def test_a_page_that_links_to_nothing_stops_the_build_with_its_name(tmp_path):
    (tmp_path / "README.md").write_text("# Home\n\n[gone](gone.md)", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"README\.md links to gone\.md"):
        Sources(tmp_path, "en", WORDS).collect()


def test_both_catalogues_say_the_same_things():
    english, chinese = build.words("en"), build.words("zh")
    assert english.keys() == chinese.keys() and english["map"].keys() == chinese["map"].keys()
    for key, text in english["map"].items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(
            re.findall(r"{\w+}", chinese["map"][key])
        )


def test_code_is_left_alone():
    text = "a\n```\n# a\n```\na `a`"
    assert outside_code(text, str.upper) == "A\n```\n# a\n```\nA `a`"
    assert with_parts("# a\n```\n# b\n```\n## c").count("<div") == 1
    assert without_front_matter("---\nlicense: mit\n---\n# a") == "# a"
