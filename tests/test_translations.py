"""The Chinese edition: it follows the English notebooks, and every way to drift is reported."""

import base64
import re
from io import BytesIO

import nbformat
import pytest
from fontTools.ttLib import TTFont
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers import execute, translations, wording

ENGLISH = (
    "# One vector\n\n"
    "`embed` makes sixteen [vectors](02_b.ipynb), 0.71 of them by $a \\cdot b$, of {kind}.\n\n"
    "![A picture](images/a.svg)\n\n"
    "<details><summary>Answer</summary>\n\n- [card](../models/README.md)\n</details>"
)
CHINESE = (
    "# 一个向量\n\n"
    "`embed` 生成 16 个[向量](02_b.ipynb)，其中 0.71 来自 $a \\cdot b$，属于 {kind}。\n\n"
    "![一张图](images/a.svg)\n\n"
    "<details><summary>答案</summary>\n\n- [说明卡](../models/README.md)\n</details>"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of one English notebook, its catalogue and its Chinese edition, all in order."""
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path / "notebooks")
    source = tmp_path / "notebooks" / "09_a.ipynb"
    (source.parent / "zh").mkdir(parents=True)
    code = new_code_cell("print(1)", id="one", metadata={"tags": ["t"]})
    cells = [new_markdown_cell(ENGLISH, id="title"), code]
    write(source, new_notebook(cells=cells))
    catalogue = f"<!-- cell: title sha256: {translations.digest(ENGLISH)} -->\n{CHINESE}\n"
    (source.parent / "zh" / "09_a.md").write_text(catalogue, encoding="utf-8")
    built = translations.build(source)
    built.cells[1].execution_count = 1
    built.cells[1].outputs = [new_output("stream", text="1\n")]
    write(source.parent / "zh" / "09_a.ipynb", built)
    return source.parent


def write(path, notebook):
    path.write_text(nbformat.writes(notebook), encoding="utf-8")


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def diagram(folder):
    """A diagram and its Chinese edition, in order."""
    (folder / "images" / "zh").mkdir(parents=True)
    svg = "<svg><text>one token</text><text>bank</text><text>1</text></svg>"
    (folder / "images" / "a.svg").write_text(svg, encoding="utf-8")
    words = 'keep = ["bank"]\n[words]\n"one token" = "一个词元"\n'
    (folder / "images" / "zh" / "words.toml").write_text(words, encoding="utf-8")
    for path, chinese, _ in translations.diagrams():
        path.write_text(chinese, encoding="utf-8")
    return folder / "images"


def reported():
    return "\n".join(translations.check(translations.sources()))


@pytest.mark.gate
def test_the_chinese_edition_is_up_to_date():
    faults = translations.check(translations.sources())
    assert not faults, "\n".join(faults)


@pytest.mark.gate
def test_the_chinese_diagrams_are_made_from_the_english_ones():
    faults = list(translations.diagram_faults())
    assert not faults, "\n".join(faults)


@pytest.mark.gate
def test_the_glossary_has_one_term_for_each_and_forbids_none_of_its_own():
    terms = wording.glossary()
    avoided = {variant for entry in terms.values() for variant in entry.get("avoid", [])}
    assert len(terms) > 80
    assert not [term for term, entry in terms.items() if any(a in entry["zh"] for a in avoided)]
    assert all(set(entry) <= {"zh", "avoid", "always"} for entry in terms.values())


# --- what is made ---------------------------------------------------------------------------------


def test_the_edition_has_english_code_and_the_text_of_the_catalogue(folder):
    english = nbformat.read(folder / "09_a.ipynb", as_version=4)
    chinese = translations.build(folder / "09_a.ipynb")
    assert not reported()
    assert [cell.id for cell in chinese.cells] == ["title", "one"]
    assert chinese.cells[1].source == english.cells[1].source
    assert chinese.cells[1].metadata == english.cells[1].metadata
    assert (
        chinese.cells[0].source.startswith("# 一个向量") and chinese.cells[1].execution_count == 1
    )


def test_links_work_one_folder_further_down_and_stay_in_chinese_where_they_can(folder):
    def there(text):
        return translations.relocated(text, folder)

    assert there("[a](../models/README.md#x)") == "[a](../../models/README.md#x)"
    assert there("![a](images/a.svg)") == "![a](../images/a.svg)"
    assert there("[a](10_b.ipynb)") == "[a](../10_b.ipynb)"
    assert there("[a](09_a.ipynb)") == "[a](09_a.ipynb)", "it is there in Chinese"
    for path in (folder / "images" / "zh" / "a.svg", folder.parent / "models" / "README.zh.md"):
        path.parent.mkdir(parents=True)
        path.touch()
    assert there("![a](images/a.svg)") == "![a](../images/zh/a.svg)"
    assert there("[a](../models/README.md)") == "[a](../../models/README.zh.md)"
    kept = "[a](https://x.org/a.md) [b](#b) <https://x.org> `](images/a.svg)`"
    assert there(kept) == kept


def test_a_skeleton_keeps_what_is_translated_and_asks_for_the_rest(folder, capsys):
    source, catalogue = folder / "09_a.ipynb", folder / "zh" / "09_a.md"
    before = catalogue.read_text(encoding="utf-8")
    assert translations.main(["--new", "09"]) == 0
    assert catalogue.read_text(encoding="utf-8") == before
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[0].source = ENGLISH.replace("0.71", "0.72")
    notebook.cells.append(new_markdown_cell("More. -->", id="more"))
    write(source, notebook)
    translations.main(["--new", "09"])
    assert "2 cells to translate" in capsys.readouterr().out
    entries = translations.read(catalogue.read_text(encoding="utf-8"))
    assert entries["title"].pending and entries["title"].text == CHINESE
    assert entries["more"].pending and entries["more"].text == ""
    assert "cell title: not translated" in reported() and "cell more: not translated" in reported()


def test_the_command_makes_and_runs_a_notebook_and_refuses_a_faulty_catalogue(folder, capsys):
    (folder / "zh" / "09_a.ipynb").unlink()
    assert translations.main(["09"]) == 0
    ran = nbformat.read(folder / "zh" / "09_a.ipynb", as_version=4)
    assert ran.cells[1].outputs[0].text == "1\n" and not reported()
    edit(folder / "zh" / "09_a.md", "一个向量", "一条向量")
    assert "outdated. Run: python run.py translate --text 09" in reported()
    assert translations.main(["--text", "09"]) == 0 and not reported()
    edit(folder / "zh" / "09_a.md", "0.71", "0.7")
    assert translations.main(["09"]) == 1
    assert "cell title: number '0.71' is lost" in capsys.readouterr().out


# --- every verdict --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("`embed`", "嵌入", "code '`embed`' is lost"),
        ("`embed`", "`embed` 和 `embeds`", "code '`embeds`' is not in the English text"),
        ("16", "17", "number '17' is not in the English text"),
        ("0.71", "一些", "number '0.71' is lost"),
        ("$a \\cdot b$", "$a b$", r"formula '$a \\cdot b$' is lost"),
        ("{kind}", "{art}", "placeholder '{kind}' is lost"),
        ("(02_b.ipynb)", "", "link '02_b.ipynb' is lost"),
        ("images/a.svg", "images/b.svg", "link 'images/b.svg' is not in the English text"),
        ("</details>", "", "another structure"),
        ("# 一个", "## 一个", "another structure"),
        ("- [", "[", "another structure"),
        ("向量", "矢量", "'矢量' for 'vector' (write: 向量)"),
        ("向量", "箭头", "'vector' without '向量'"),
        ("答案", "回答", "'<summary>Answer</summary>' without '<summary>答案</summary>'"),
        ("，其中", ", 其中", "half-width punctuation"),
        ("，属于", "，即:属于", "half-width punctuation after Chinese"),
        ("一张图", "图(一张)", "half-width brackets around Chinese"),
        ("一张图", '"一张图"', "straight quotes around Chinese"),
        ("生成 16", "生成16", "no space between Chinese and Latin"),
        ("<!-- cell: title", "<!-- cell: head", "cell head: orphan"),
        (
            "<!-- cell: title",
            "<!-- cell: head",
            "cell title: missing. Run: python run.py translate",
        ),
        (
            "sha256: ",
            "sha256: 0123456789abcdef -->\n<!--",
            "cell title: the English text has changed",
        ),
        ("# 一个", "<!-- english\n# One\n-->\n# 一个", "cell title: not translated"),
        (CHINESE, "", "cell title: not translated"),
        ("<!-- cell", "<!-- cells", "text before the first header"),
        (CHINESE, "<!-- cell: more -->", "a header that cannot be read"),
    ],
)
def test_a_fault_of_a_catalogue_is_reported_with_its_cell(folder, old, new, verdict):
    assert not reported()
    edit(folder / "zh" / "09_a.md", old, new)
    assert verdict in reported()
    assert "09_a.md" in reported()


def test_a_cell_that_stands_twice_is_reported(folder):
    path = folder / "zh" / "09_a.md"
    path.write_text(2 * path.read_text(encoding="utf-8"), encoding="utf-8")
    assert "cell title stands twice" in reported()


def test_a_changed_english_cell_is_reported_until_its_translation_is_renewed(folder):
    edit(folder / "09_a.ipynb", "0.71", "0.72")
    assert "cell title: the English text has changed. Run: python run.py translate" in reported()


def test_changed_english_code_is_reported_until_the_edition_is_run_again(folder):
    edit(folder / "09_a.ipynb", "print(1)", "print(2)")
    assert "zh/09_a.ipynb, cell one: outdated. Run: python run.py translate 09" in reported()
    write(folder / "zh" / "09_a.ipynb", translations.build(folder / "09_a.ipynb"))
    assert "cell one: without the outputs of a run" in reported()


def test_a_missing_an_orphan_and_an_incomplete_edition_are_reported(folder):
    chinese = folder / "zh" / "09_a.ipynb"
    notebook = nbformat.read(chinese, as_version=4)
    notebook.cells.pop()
    write(chinese, notebook)
    assert "other cells than the English notebook" in reported()
    chinese.unlink()
    assert "zh/09_a.ipynb: missing. Run: python run.py translate 09" in reported()
    chinese.touch()
    (folder / "zh" / "09_a.md").unlink()
    assert "zh/09_a.ipynb: no catalogue" in reported()
    chinese.rename(folder / "zh" / "07_x.ipynb")
    assert "zh/07_x.ipynb: orphan" in reported()
    (folder / "zh" / "07_x.ipynb").unlink()
    assert not reported(), "a notebook without a catalogue has no Chinese edition"


def test_a_diagram_has_the_chinese_words_and_keeps_the_rest(diagram):
    assert not list(translations.diagram_faults())
    text = (diagram / "zh" / "a.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg><style>")
    assert text.endswith("</style><text>一个词元</text><text>bank</text><text>1</text></svg>")


def test_a_diagram_brings_the_glyphs_of_its_chinese_characters():
    svg = '<svg width="9">\n<text>一个“词元”，bank</text></svg>'
    text = translations.with_glyphs(svg)
    font = TTFont(BytesIO(base64.b64decode(re.search(r"base64,([^)]+)", text)[1])))
    assert {chr(code) for code in font.getBestCmap()} == set("一个词元，")
    assert len(text) < 6000
    assert (
        translations.with_glyphs("<svg><text>bank</text></svg>") == "<svg><text>bank</text></svg>"
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "verdict"),
    [
        ("a.svg", "one token", "two tokens", "a.svg says 'two tokens'. Add its Chinese words"),
        ("a.svg", "one token", "two tokens", "'one token': no diagram says it. Remove it"),
        ("a.svg", ">1<", ">2<", "images/zh/a.svg: outdated"),
        ("zh/words.toml", "一个词元", "一个标记", "'标记' for 'token'"),
        ("zh/words.toml", "一个词元", "1 个词元，2 种", "number '2' is not in the English text"),
        ("zh/a.svg", "一个词元", "一个词", "images/zh/a.svg: outdated"),
    ],
)
def test_a_fault_of_a_diagram_is_reported(diagram, name, old, new, verdict):
    edit(diagram / name, old, new)
    assert verdict in "\n".join(translations.diagram_faults())
