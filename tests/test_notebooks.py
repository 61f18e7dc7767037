"""What every stored notebook promises; that it runs again is checked by nbval on `notebooks/`."""

import re
import zlib

import nbformat
import pytest

from helpers import session, wording
from tests.support import notebooks
from tests.support.lessons import CHINESE, PATHS, exercises
from tests.support.notebooks import code_cells


def number(path):
    return f"zh/{path.stem[:2]}" if path in CHINESE else path.stem[:2]


@pytest.fixture(params=[*PATHS, *CHINESE], ids=number)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture
def said(path):
    """A phrase of every lesson in the language of the notebook."""
    return lambda phrase: wording.glossary()[phrase]["zh"] if path in CHINESE else phrase


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_series_is_complete():
    assert [path.stem[:2] for path in PATHS] == ["01", "02", "03", "04"]


@pytest.mark.gate
def test_outputs_come_from_one_run_from_the_top(notebook):
    faults = notebooks.not_from_one_run(notebook)
    assert not faults, "store them: python run.py execute --store"


@pytest.mark.gate
def test_no_cell_is_stored_with_an_error(notebook):
    assert not notebooks.stored_errors(notebook)


def test_cells_whose_output_must_repeat_have_one(notebook):
    tagged = [
        cell
        for cell in code_cells(notebook)
        if "nbval-check-output" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) >= 5
    assert not [cell.id for cell in tagged if not cell.outputs]


@pytest.mark.gate
def test_no_widget_and_no_state_of_a_machine_is_stored(notebook):
    assert not notebooks.stored_state(notebook)


@pytest.mark.gate
def test_every_picture_is_described_in_words(notebook):
    assert len(notebooks.pictures(notebook)) >= 2
    assert not notebooks.pictures_without_words(notebook)


@pytest.mark.gate
def test_charts_ask_no_server(notebook):
    assert not notebooks.pages_that_ask_a_server(notebook)


@pytest.mark.gate
def test_a_notebook_is_at_most_a_megabyte(path):
    assert not notebooks.too_large(path)


def test_cell_ids_are_stable_names(notebook):
    assert not [cell.id for cell in notebook.cells if not re.fullmatch(r"[a-z][a-z0-9-]+", cell.id)]


def test_more_prose_than_code_and_short_cells(notebook):
    code = code_cells(notebook)
    assert len(notebook.cells) - len(code) >= len(code)
    lengths = sorted(len(cell.source.splitlines()) for cell in code)
    assert lengths[len(lengths) // 2] <= 6
    assert lengths[int(0.9 * len(lengths))] <= 15
    assert lengths[-1] <= 30


def test_the_parts_that_every_lesson_has(notebook, said):
    text = text_of(notebook)
    titles = re.findall(r"^# .+", text, re.M)
    assert len(titles) == 1
    for part in (
        "**You will learn**",
        "**Prerequisites**",
        "**Time**",
        "**Network**",
        "## Quiz",
        "## Summary",
        "## Further reading",
    ):
        assert said(part) in text, part
    assert text.count("> " + said("**Predict:**")) >= 3
    quiz = text[text.index(said("## Quiz")) : text.index(said("## Summary"))]
    assert len(re.findall(r"^\*\*\d\.", quiz, re.M)) == 3
    assert quiz.count("<details>") == 9, "three options for each question, every one explained"


def test_the_answer_to_every_prediction_is_folded(notebook, said):
    """In JupyterLab; on GitHub and in HTML the outputs are seen."""
    text = text_of(notebook)
    predictions = text.count("> " + said("**Predict:**"))
    assert text.count("<details>" + said("<summary>Answer</summary>")) == predictions
    folded = [
        c for c in code_cells(notebook) if c.metadata.get("jupyter", {}).get("outputs_hidden")
    ]
    assert len(folded) >= predictions


def test_the_preview_of_a_folded_output_is_empty(notebook):
    """JupyterLab writes the first line of a folded output that is not empty beside it."""
    for cell in code_cells(notebook):
        if cell.metadata.get("jupyter", {}).get("outputs_hidden"):
            first = cell.outputs[0]
            assert first.output_type == "stream", cell.id
            assert next(line for line in first.text.split("\n") if line) == " ", cell.id


def test_starters_run_and_are_not_yet_right(notebook):
    found = exercises(notebook)
    assert len(found) >= 3
    for cell, _ in found:
        told = cell.outputs[-1].data["text/plain"]
        assert told.startswith(("✗ Not yet.", "✗ 还不对。")), cell.id


def test_wordpiece_by_hand_cuts_every_word_as_the_tokenizer_does(encoder):
    """Words of the vocabulary, beginnings of one glued to ends of another, and odd letters."""
    (path,) = (path for path in PATHS if path.stem.startswith("02"))
    cell = next(c for c in nbformat.read(path, as_version=4).cells if c.id == "wordpiece")
    names = {"tokenizer": encoder.tokenizer, "session": session}
    exec(cell.source, names)  # noqa: S102 - the notebook's own code is what is tested
    whole = [token for token in encoder.tokenizer.get_vocab() if token.isalpha()]
    latin = sorted(token for token in whole if token.isascii())
    glued = [a[:4] + b[2:] for a, b in zip(latin, sorted(latin, key=hash_of), strict=True)]
    words = [*whole, *glued, "aⴀ", "ⴀ"]
    assert len(words) > 40_000
    assert not [
        word for word in words if names["wordpiece"](word) != encoder.tokenizer.tokenize(word)
    ]


def hash_of(word):
    """A fixed order that has nothing to do with the alphabet."""
    return zlib.crc32(word.encode())


#: Terms that a newcomer does not know. In reading order, each is bold where it is explained, or
#: follows in parentheses: "**inverse document frequency** (IDF)".
TERMS = [
    *("endpoint", "SDK", "dimension", "passage", "token", "cosine", "dot product", "norm"),
    *("unit vector", "chunk", "bootstrap", "nDCG", "paired", "renormalise", "encoder"),
    *("transformer", "vocabulary", "pooling", "subword", "WordPiece", "continuation"),
    *("special token", "standard deviation", "t-SNE", "perplexity", "padding", "mask"),
    *("LayerNorm", "softmax", "head", "residual", "percentile", "anisotropy"),
    *("contrastive training", "held-out", "in-batch negative", "cross-entropy", "optimizer"),
    *("learning rate", "bi-encoder", "cross-encoder", "inverse document frequency", "IDF"),
    *("local document frequency", "BM25", "recall", "backbone"),
]


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_explained_before_it_is_used(term):
    word = re.compile(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])", re.I)
    for path in PATHS:
        for cell in nbformat.read(path, as_version=4).cells:
            # the title says what will be learned; a picture's alt text repeats the diagram
            if cell.cell_type != "markdown" or cell.id == "title":
                continue
            prose = re.sub(r"!\[.*?\]\(.*?\)|\]\(.*?\)|`[^`]*`", " ", cell.source, flags=re.S)
            if word.search(prose):
                bold = " ".join(re.findall(r"\*\*(.+?\*\*(?: \([^)]+\))?)", prose, re.S))
                assert word.search(bold), f"{path.stem[:2]}/{cell.id} uses it first"
                return
    raise AssertionError("no notebook uses it")
