"""Text that nobody should type and somebody will.

Every place that takes text gives the right result or one clear error.
"""

import json
import xml.etree.ElementTree as ET

import nbformat
import numpy as np
import openai
import pandas as pd
import pytest
import vl_convert
from openai import OpenAI

from helpers import PROJECT_ROOT, charts, local_server, openai_api, session, tables, tokens
from helpers.cde import load_mini_cde, shared_text
from helpers.console import get_console

TEXTS = {
    "empty": "",
    "only spaces": "   ",
    "100,000 characters": "interest " * 11_111,
    "one word of 100,000 characters": "x" * 100_000,
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "right to left": "ריבית الفائدة",
    "a mark that turns the direction": "\u202eknab",
    "Chinese": "银行利率",
    "control characters": "a\x00b\x1b[31mred\x07\x08\x7f\x9b\ufffe",
    "lines": "one\r\ntwo\tthree\u2028four",
    "a lone surrogate": "a\ud83db",
    "markup of rich": "[bold red]x[/] [/] :smile: [link=https://x.example]y[/link]",
    "an expression of Vega": "datum.value",
    "an object of Vega": '{"expr": "1 + 1"}',
    "a string that ends early": '\\" + datum.value + "\\',
    "a field's name": "a.b[0]['c']:Q",
    "HTML": "<script>alert(1)</script> &amp;",
    "a formula": r"$\frac{1}$",
}


@pytest.fixture(params=TEXTS)
def text(request):
    return TEXTS[request.param]


def is_whole(text):
    return not any("\ud800" <= character <= "\udfff" for character in text)


# --- the model ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd_context():
    """A context of all these texts."""
    return load_mini_cde().embed_context([text for text in TEXTS.values() if is_whole(text)])


def test_a_context_of_odd_texts_is_one_like_any_other(odd_context):
    assert 0 <= shared_text(odd_context) < 1
    for _, shares in load_mini_cde().token_weights(["bank", "", TEXTS["emoji"]], odd_context):
        assert shares.min() > 0 and shares.sum() == pytest.approx(1, abs=1e-5)


def test_the_models_give_every_text_a_vector_of_length_1_or_say_why_not(encoder, odd_context, text):
    if not is_whole(text):
        pytest.skip("no model takes a lone surrogate: test_a_lone_surrogate_typed_into_a_box...")
    model = load_mini_cde()
    contexts = [None, model.embed_context([text]), odd_context]
    vectors = [encoder.encode(text)]
    vectors += [model.encode_documents([text], context)[0] for context in contexts]
    assert [np.linalg.norm(vector) for vector in vectors] == pytest.approx([1] * 4, abs=1e-5)


@pytest.mark.parametrize("texts", [[None], [1], ["a", 2.5], [["nested"]]])
def test_a_list_that_holds_no_texts_is_refused_with_the_kind_it_holds(encoder, texts):
    kind = type(texts[-1]).__name__
    with pytest.raises(ValueError, match=f"input type: {kind}"):
        encoder.encode(texts)
    with pytest.raises(TypeError, match=f"text {len(texts) - 1} is a {kind}"):
        load_mini_cde().encode_documents(texts)


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(encoder):
    with local_server.LocalServer(encoder) as server:
        yield OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)


def test_a_text_over_http_gets_its_vector_or_the_reason(client, encoder, text):
    if not is_whole(text):
        with pytest.raises(
            UnicodeEncodeError, match="surrogates not allowed"
        ):  # the SDK's own: it never leaves the machine
            client.embeddings.create(model=openai_api.LOCAL_MODEL, input=[text])
        return
    refused = {
        "": "empty text",
        TEXTS["100,000 characters"]: "maximum context length is 256 tokens",
    }
    if text in refused:
        with pytest.raises(openai.BadRequestError, match=refused[text]):
            client.embeddings.create(model=openai_api.LOCAL_MODEL, input=[text])
        return
    answer = client.embeddings.create(model=openai_api.LOCAL_MODEL, input=[text])
    assert answer.data[0].embedding == pytest.approx(encoder.encode(text), abs=1e-6)


# --- the console ----------------------------------------------------------------------------------


def shown(*things):
    console = get_console()
    with console.capture() as capture:
        console.print(*things)
    return capture.get()


def letters(text):
    """What stays of a text when tables fold it: everything but space."""
    return "".join(text.split())


def test_a_table_a_panel_and_chips_show_what_was_typed_and_obey_none_of_it(text):
    frame = pd.DataFrame({"a text": [text]}, dtype=object)
    for thing in (
        tables.pair_panel(text, "second", 0.5, title="t"),
        tables.chips([text]),
        tables.from_frame(frame, title="t"),
    ):
        printed = shown(thing)
        printed.encode()  # a page and a pipe take UTF-8
        plain = letters(printed.replace("│", ""))
        for piece in tokens.visible(text).split():
            assert letters(piece)[:60] in plain
        assert not set(printed) & {"\x00", "\x07", "\x08", "\x7f", "\x9b", "\u202e"}
        assert "\x1b[31m" not in printed


def test_titles_and_names_are_text_as_well(text):
    text = text[:30]
    named = (
        pd.DataFrame([[1.0]], columns=pd.Index([text], dtype=object))
        if is_whole(text)
        else pd.DataFrame({"a": [1.0]})
    )
    printed = shown(
        tables.from_frame(named, title=text, caption=text),
        tables.pair_panel("a", "b", 0.1, title=text, name=text, verdict=text),
    )
    assert letters(tokens.visible(text)) in letters(printed)
    assert "\x1b[31m" not in printed


# --- charts ---------------------------------------------------------------------------------------


def heatmap(text):
    return charts.heatmap(
        [[1, 0], [0, 1]],
        [text, "second"],
        ["third", text],
        title=text,
        row_title=text,
        column_title=text,
        value_title=text,
        description=text,
    )


def lines(text):
    column = text if is_whole(text) else "x"
    frame = pd.DataFrame({"y": [1.0, 2.0], "s": pd.Series([text, "b"], dtype=object)})
    frame[column] = pd.Series(["a", text], dtype=object)
    return charts.lines(
        frame,
        x=column,
        y="y",
        series="s",
        title=text,
        subtitle=text,
        x_title=text,
        y_title=text,
        description=text,
    )


def shares(text):
    frame = pd.DataFrame(
        {
            "token": pd.Series([text, "b"], dtype=object),
            "share": [0.4, 0.6],
            "of": pd.Series([text] * 2, dtype=object),
        }
    )
    return charts.token_shares(frame, series="of", x_title=text, title=text, description=text)


def intervals(text):
    names = pd.Series([text], dtype=object)
    frame = pd.DataFrame(
        {"mean": [1.0], "low": [0.0], "high": [2.0], "system": names, "measure": names}
    )
    return charts.intervals(
        frame,
        system="system",
        measure="measure",
        x_title=text,
        title=text,
        subtitle=text,
        description=text,
    )


def differences(text):
    names = pd.Series([text], dtype=object)
    frame = pd.DataFrame({"mean": [1.0], "low": [0.0], "high": [2.0], "a": names, "b": names})
    words = {"x_title": text, "title": text, "subtitle": text, "description": text}
    return charts.intervals(frame, system="a", measure="b", zero=True, **words)


def changes(text):
    column = text if is_whole(text) else "x"
    frame = pd.DataFrame({"token": pd.Series([text, "b"], dtype=object), "change": [0.4, -0.6]})
    frame[column] = pd.Series([text] * 2, dtype=object)
    words = {"y_title": text, "title": text, "subtitle": text, "description": text}
    return charts.token_changes(frame, part=column, **words)


def texts_on_a_map(text):
    words = {"group_title": text, "title": text, "subtitle": text, "description": text}
    return charts.scatter([[0, 0], [1, 1]], [text, "b"], groups=[text, "b"], **words)


@pytest.mark.parametrize(
    "draw", [heatmap, lines, shares, intervals, differences, changes, texts_on_a_map]
)
def test_a_chart_draws_what_was_typed_as_text(draw, text):
    bundle, _ = charts._offline(draw(text).to_dict())
    json.dumps(bundle, ensure_ascii=False, default=str).encode()  # what a kernel sends
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert bundle["text/plain"] == tokens.visible(text), "the description is kept whole"
    spec = bundle[charts.VEGALITE_MIME]
    svg = vl_convert.vegalite_to_svg(spec, vl_version=charts.VEGALITE)
    texts = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - drawn here
    drawn = {letters("".join(part.itertext())) for part in texts}
    label = letters(charts.label(text))
    begin = 20 if len(label) > 20 else None  # a long label ends in an ellipsis
    assert any(words[:begin] == label[:begin] for words in drawn) or not label


def test_a_control_character_in_a_learners_own_chart_does_not_end_the_kernel():
    import altair as alt

    data = alt.Data(values=[{"name": "a\x00b"}])
    bundle, _ = charts._offline(
        alt.Chart(data, title="\ud83d", description="d").mark_bar().encode(x="name:N").to_dict()
    )
    assert "a\\x00b" in json.dumps(bundle[charts.VEGALITE_MIME], default=str).replace("\\\\", "\\")


TITLES = {"title": "t", "row_title": "r", "column_title": "c", "description": "d"}


def test_a_heatmap_too_large_to_read_is_refused_with_a_way_to_a_smaller_one():
    words = tokens.token_labels(["interest"] * 200)
    with pytest.raises(ValueError, match=r"5,000 cells, not 200 by 200.*matrix\[:50, :50\]"):
        charts.heatmap(np.eye(200), words, words, **TITLES)
    with pytest.raises(ValueError, match="1 to 5,000 cells, not 0 by 1"):
        charts.heatmap(np.empty((0, 1)), [], ["a"], **TITLES)


def test_labels_that_would_hide_each_other_are_refused_with_what_makes_them_differ():
    with pytest.raises(ValueError, match="token_labels"):
        charts.heatmap(np.eye(2), ["the", "the"], ["a", "b"], **TITLES)


@pytest.mark.filterwarnings("ignore:Glyph")  # a font without these letters draws boxes
def test_the_heatmaps_of_seaborn_take_every_text_as_text(text, monkeypatch):
    drawn = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: drawn.append(data))
    charts.show_heatmaps(
        {text: np.eye(2), "second": np.eye(3)},
        x_title=text,
        y_title=text,
        title=text,
        description=text,
        value_title=text,
        span=(0, 1),
    )
    assert drawn[0]["image/png"].startswith(b"\x89PNG")
    assert drawn[0]["text/plain"] == tokens.visible(text)


# --- what a learner types into a notebook ---------------------------------------------------------


def cell_of(notebook, words):
    path = next((PROJECT_ROOT / "notebooks").glob(f"{notebook}*.ipynb"))
    return next(
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and words in cell.source
    )


@pytest.fixture(scope="module")
def lesson(encoder, table):
    """The two functions that notebooks 2 and 3 put behind a box, as they stand there."""
    names = {
        "encoder": encoder,
        "tokenizer": encoder.tokenizer,
        "table": table,
        "vocabulary": tokens.vocabulary_frame(encoder.tokenizer),
    }
    setup = (
        "from helpers import session, tables, tokens\n"
        "from helpers.similarity import cosine_matrix, nearest\n"
        "from helpers.console import get_console\nconsole = get_console()\n"
    )
    for notebook, words in (("02", "def show_nearest"), ("03", "def part(")):
        exec(setup + cell_of(notebook, words), names)  # noqa: S102 - the lesson's own cell
    return names


@pytest.mark.parametrize("typed", [name for name, text in TEXTS.items() if is_whole(text)])
def test_a_box_of_notebooks_2_and_3_answers_or_says_in_words_what_is_missing(lesson, typed):
    text = TEXTS[typed]
    if lesson["tokenizer"].tokenize(text):
        lesson["show_nearest"](text)
    else:
        with pytest.raises(ValueError, match="Type at least one letter"):
            lesson["show_nearest"](text)
    with pytest.raises(ValueError, match="(?s)^.{,1000}Choose one of these"):
        lesson["part"](text, "The bank", "bank")


def test_a_lone_surrogate_typed_into_a_box_becomes_a_question_mark(monkeypatch, capsys):
    boxes = []
    monkeypatch.setattr("IPython.display.display", boxes.append)
    monkeypatch.delenv("EMBEDDINGS_HEADLESS")
    monkeypatch.setenv("JPY_SESSION_NAME", "as JupyterLab sets it")
    session.try_it(print, "fine")
    box, button, _ = boxes[0].children
    box.value = "bank\ud83d"
    button.click()
    assert [
        word for word in capsys.readouterr().out.split() if word.isascii() and "\x1b" not in word
    ] == ["fine", "bank?"]
