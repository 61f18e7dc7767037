"""English and Chinese: which is chosen, what is said in it, and what is wrong with the messages."""

import re

import pytest

from helpers import charts, exercises, figures, language, messages, session, settings, tables
from helpers.language import given, translated


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("EMBEDDINGS_LANGUAGE", "zh")


def test_the_language_is_that_of_the_folder_unless_it_is_set(tmp_path, monkeypatch):
    monkeypatch.delenv("EMBEDDINGS_LANGUAGE", raising=False)
    folder = tmp_path / "zh"
    folder.mkdir()
    assert language.chosen() == "en"
    monkeypatch.chdir(folder)
    assert language.chosen() == "zh"
    monkeypatch.setenv("EMBEDDINGS_LANGUAGE", " EN ")
    assert language.chosen() == "en"
    monkeypatch.setenv("EMBEDDINGS_LANGUAGE", "fr")
    with pytest.raises(ValueError, match="EMBEDDINGS_LANGUAGE='fr' is unknown. Set it to en or zh"):
        language.chosen()


def test_stored_outputs_have_the_language_of_their_folder(monkeypatch):
    monkeypatch.setenv("EMBEDDINGS_LANGUAGE", "zh")
    with monkeypatch.context() as patch:
        for name, value in settings.CLEAN_ENVIRONMENT.items():
            patch.setenv(name, value)
        assert language.chosen() == "en"


def test_a_check_speaks_chinese_in_the_chinese_edition(chinese):
    said = repr(exercises.check_cosine(lambda a, b: a @ b))
    assert said == "✗ 还不对。这是点积。只有当两个向量的长度都为 1 时它才等于余弦：请除以两个长度。"
    assert repr(exercises.not_started()).startswith("✗ 还不对。答案还是 `...`")


def test_an_unknown_message_stays_english_and_nothing_is_looked_up_in_english(chinese, monkeypatch):
    assert translated("nobody says this") == "nobody says this" and translated("") == ""
    monkeypatch.setenv("EMBEDDINGS_LANGUAGE", "en")
    assert translated("token") == "token" and given("Your sentences") == "Your sentences"


def test_texts_of_a_notebook_are_translated_with_their_values_and_tokens_are_not(chinese):
    assert given("Your sentences") == "你的句子"
    assert given("Nearest to question") == "离 question 最近的词元"
    assert given("right context minus wrong context") == "正确上下文 − 错误上下文"
    assert given("layer 3") == "第 3 层" and given("what a reader types") == "what a reader types"


def test_tables_boxes_and_charts_show_the_chinese_words(chinese, capsys):
    panel = tables.pair_panel("a", "b", 0.5, title="Your sentences")
    assert panel.title.plain == "你的句子"
    drawn = charts.heatmap(
        [[1.0, 0.5]], ["bank"], ["sentence 1", "first"], figure="three-sentences"
    )
    spec = drawn.to_dict()
    assert spec["title"] == "三个句子两两之间的余弦相似度"
    held = next(iter(spec["datasets"].values()))
    assert [row["column"] for row in held] == ["句子 1", "first"], "a single word may be a token"
    session.try_it(print, "shown", labels=("question",))
    assert capsys.readouterr().out == "shown\n"


@pytest.mark.gate
def test_messages_and_figures_are_translated_and_whole():
    faults = [*messages.faults(), *messages.figure_faults()]
    assert not faults, "\n".join(faults)


# --- every verdict --------------------------------------------------------------------------------

SAID = {(None, "{count} tokens, `x`"): ["helpers/a.py"], ("notebook", "title"): ["01:a"]}
GOOD = {(None, "{count} tokens, `x`"): "{count} 个词元，`x`", ("notebook", "title"): "标题"}


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """A small catalogue in order; the test spoils it."""
    monkeypatch.setattr(messages, "CATALOGUE", tmp_path / "helpers.po")
    monkeypatch.setattr(messages, "COMPILED", tmp_path / "helpers.mo")
    monkeypatch.setattr(messages, "in_helpers", lambda: {k: SAID[k] for k in SAID if not k[0]})
    monkeypatch.setattr(
        messages, "in_notebooks", lambda every=False: {k: SAID[k] for k in SAID if k[0]}
    )
    with monkeypatch.context() as patch:
        patch.setattr(messages, "_read", lambda: GOOD)
        tmp_path.joinpath("helpers.po").touch()
        messages.renew()
    assert not list(messages.faults())
    return tmp_path / "helpers.po"


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ('msgid "title"', 'msgid "heading"', "01:a: 'title' is not in helpers.po"),
        ('msgid "title"', 'msgid "heading"', "'heading': nothing says it any more"),
        ('msgstr "标题"', 'msgstr ""', "'title': not translated"),
        ("#: 01:a", "#, fuzzy\n#: 01:a", "'title': not translated"),
        ("{count} 个", "{n} 个", "its placeholders are"),
        ('`x`"\n\n', 'x"\n\n', "code '`x`' is lost"),
        ("个词元", "个令牌", "'令牌' for 'token' (write: 词元)"),
        ("词元，", "词元,", "half-width punctuation"),
        ("标题", "题目", "helpers.mo is not made from helpers.po"),
    ],
)
def test_a_fault_of_the_messages_is_reported(catalogue, old, new, verdict):
    text = catalogue.read_text(encoding="utf-8")
    assert old in text, text
    before, _, after = text.rpartition(old)
    catalogue.write_text(before + new + after, encoding="utf-8")
    assert verdict in "\n".join(messages.faults())


def test_renewing_adds_new_messages_empty_and_removes_old_ones(catalogue, monkeypatch):
    monkeypatch.setitem(SAID, (None, "new"), ["helpers/b.py"])
    assert messages.renew() == 1
    assert "'new': not translated" in "\n".join(messages.faults())
    monkeypatch.delitem(SAID, (None, "new"))
    assert messages.renew() == 0 and not list(messages.faults())


def test_a_missing_compiled_catalogue_is_reported(catalogue):
    catalogue.with_suffix(".mo").unlink()
    assert "helpers.mo is not made" in "\n".join(messages.faults())


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("[own-map]", "[own-maps]", "own-map: not in both languages"),
        ("{count} 个段落的地图", "段落的地图", "own-map, title: its placeholders are"),
        ("30,522 个词元", "许多词元", "token-map, description: number '30522' is lost"),
        ('y_title = "损失"\n', "", "loss-falls: has ['title'"),
        (
            'titles = ["输入端：表中的行", ',
            "titles = [",
            "input-and-output, titles: not as many texts",
        ),
    ],
)
def test_a_fault_of_the_chinese_figures_is_reported(tmp_path, monkeypatch, old, new, verdict):
    text = figures.CATALOGUES["zh"].read_text(encoding="utf-8")
    path = tmp_path / "figures.zh.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setitem(figures.CATALOGUES, "zh", path)
    figures.catalogue.cache_clear()
    try:
        assert verdict in "\n".join(messages.figure_faults())
    finally:
        figures.catalogue.cache_clear()


def test_messages_are_found_in_helpers_and_in_what_notebooks_give_them():
    assert "helpers/exercises.py" in messages.in_helpers()[None, "✓ Correct. {message}"]
    given_texts = {message for _, message in messages.in_notebooks()}
    assert {"Your sentences", "Nearest to {0}", "a word"} <= given_texts
    assert not [m for m in given_texts if re.search(r"[\n`]", m)]
