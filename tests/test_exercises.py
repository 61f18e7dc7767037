"""Every exercise: the right answer passes, each typical mistake gets the hint that fits it."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import exercises as ex
from helpers.cde import load_mini_cde
from helpers.retrieval import bootstrap


def norm(v):
    return np.linalg.norm(v)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda a, b: a @ b, "dot product"),
        (lambda a, b: 1 - a @ b / norm(a) / norm(b), "distance"),
        (lambda a, b: norm(a - b), "Euclidean distance"),
        (lambda a, b: a @ b / norm(a), "length of `a` only"),
        (lambda a, b: a @ b / norm(b), "length of `b` only"),
        (lambda a, b: a @ b / (norm(a) + norm(b)), "sum of the lengths"),
        (lambda a, b: a @ b / (a @ a) / (b @ b), "squared lengths"),
        (lambda a, b: a * b, "one number"),
        (lambda a, b: None, "return"),
        (lambda a: a, "TypeError"),
        ("not a function", "function itself"),
        (lambda a, b: 7, "dot product divided"),
    ],
)
def test_cosine_mistakes(function, words):
    feedback = ex.check_cosine(function)
    assert not feedback.correct and words in feedback.message


def test_cosine_right():
    assert ex.check_cosine(lambda a, b: a @ b / norm(a) / norm(b)).correct


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda v, k: v[:k], "not of length 1"),
        (lambda v, k: v[-k:] / norm(v[-k:]), "last numbers"),
        (lambda v, k: np.where(np.arange(len(v)) < k, v, 0), "as long as before"),
        (lambda v, k: v / norm(v), "as long as before"),
        (lambda v, k: v[:k] / np.abs(v[:k]).sum(), "squares sum to 1"),
        (lambda v, k: [], "Two steps"),
    ],
)
def test_shorten_mistakes(function, words):
    feedback = ex.check_shorten(function)
    assert not feedback.correct and words in feedback.message


def test_shorten_right():
    assert ex.check_shorten(lambda v, k: v[:k] / norm(v[:k])).correct


COST = {"texts": 57_638, "tokens_per_text": 170, "per_million": 0.02}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (..., "replace it"),
        (57_638 * 170 * 0.02, "not for one"),
        (57_638 * 170 * 0.02 / 1e3, "not for a thousand"),
        (57_638 * 0.02 / 1e6, "Tokens are billed"),
        (170 * 0.02 / 1e6, "price of one text"),
        (57_638 * 170 * 0.02 / 1e6 * 100, "cents"),
        ("two", "one number"),
        (3.5, "gives tokens"),
    ],
)
def test_cost_mistakes(answer, words):
    feedback = ex.check_cost(answer, **COST)
    assert not feedback.correct and words in feedback.message


def test_cost_right():
    assert ex.check_cost(0.196, **COST).correct


def requests(counts, texts=2048, tokens=300_000, last=True):
    """Greedy requests under these limits; without the last one if `last` is false."""
    sizes, used = [0], 0
    for count in counts:
        if sizes[-1] == texts or used + count > tokens:
            sizes, used = [*sizes, 0], 0
        sizes[-1] += 1
        used += count
    return sizes if last else sizes[:-1]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda counts: [len(counts)], "3,887 texts: at most 2,048"),
        (lambda counts: requests(counts, tokens=10**9), "at most 300,000 fit"),
        (lambda counts: requests(counts, texts=10**9), "2,625 texts: at most 2,048"),
        (lambda counts: requests(counts, last=False), "Is the last request"),
        (lambda counts: [0, *requests(counts)], "empty request"),
        (lambda counts: requests(counts, tokens=299_999), "3 would do"),
        (lambda counts: [1] * len(counts), "3 would do"),
        (lambda counts: [*requests(counts), 5], "there are 3,887"),
        (lambda counts: [counts], "list of whole numbers"),
        (lambda counts: sum(counts), "list of whole numbers"),
        (lambda counts: None, "return"),
        (4, "function itself"),
    ],
)
def test_batches_mistakes(function, words):
    feedback = ex.check_batches(function)
    assert not feedback.correct and words in feedback.message


def test_batches_right():
    assert requests([100] * 2500 + [400] * 1387) == [2048, 1089, 750]
    assert ex.check_batches(requests).correct
    assert ex.check_batches(lambda counts: np.array(requests(counts))).correct


TEXT = "Zürich's cryptocurrency fees"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda t: ..., "replace it"),
        (lambda t: t(TEXT)["input_ids"], "[CLS] and [SEP]"),
        (lambda t: t.tokenize(TEXT), "These are the tokens"),
        (lambda t: t.convert_tokens_to_ids(TEXT.lower().split()), "Splitting at spaces"),
        (lambda t: [ord(c) for c in TEXT], "code points"),
        (lambda t: [1, 2], "ids are expected"),
        (lambda t: 5, "ids are expected"),
    ],
)
def test_id_mistakes(encoder, answer, words):
    feedback = ex.check_ids(answer(encoder.tokenizer), encoder.tokenizer, TEXT)
    assert not feedback.correct and words in feedback.message


def test_ids_right(encoder):
    right = encoder.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert ex.check_ids(right, encoder.tokenizer, TEXT).correct
    assert ex.check_ids(np.array(right), encoder.tokenizer, TEXT).correct


RATE = 3446


def cosines(table):
    return table @ table[RATE] / np.linalg.norm(table, axis=1)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda t: lambda i, k: np.argsort(-cosines(t))[:k], "leave it out"),
        (lambda t: lambda i, k: np.argsort(cosines(t))[:k], "farthest"),
        (lambda t: lambda i, k: np.argsort(-(t @ t[i]))[1 : k + 1], "dot product"),
        (lambda t: lambda i, k: np.argsort(-cosines(t))[k:0:-1], "another order"),
        (lambda t: lambda i, k: np.argsort(-cosines(t))[1:k], "3 ids are expected"),
        (lambda t: lambda i, k: ["rates", "rating", "##rate"], "whole numbers"),
        (lambda t: lambda i, k: [1, 2, 3], "Normalise every row"),
    ],
)
def test_nearest_token_mistakes(table, function, words):
    feedback = ex.check_nearest_tokens(function(table), table, RATE)
    assert not feedback.correct and words in feedback.message


def test_nearest_tokens_right(table):
    assert ex.check_nearest_tokens(
        lambda i, k: np.argsort(-cosines(table))[1 : k + 1], table, RATE
    ).correct


WORDS = ["interest", "interesting", "uninterested", "embeddings", "heatmap"]


PIECES = {"h", "he", "hed", "##d", "##ging", "##ed", "ging", "interest", "a"}


def right(word):
    return {"hedging": 2, "interest": 1}.get(word)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda word: ..., "returns nothing yet"),
        (lambda word: None, "returns nothing yet"),
        (lambda word: {}[word], "stopped with KeyError"),
        (lambda word: [2], "one whole number"),
        (lambda word: right(word) and right(word) + 1, "Try every first piece"),
        (lambda word: 1, "1 pieces cannot make it up, it takes 2"),
        (lambda word: right(word) or 2, "has to be None, not 2"),
        (lambda word: right(word) or {}[word], "stopped with KeyError"),
        (5, "Give the function itself"),
    ],
)
def test_mistakes_in_counting_the_fewest_pieces(function, words):
    feedback = ex.check_fewest(function, PIECES)
    assert not feedback.correct and words in feedback.message


def test_pieces_without_marks_inside_a_word_are_told_apart():
    feedback = ex.check_fewest(
        lambda word: {"hedging": 2}.get(word), {"hed", "ging", "##g", "##ing"}
    )
    assert "inside a word only pieces with ## count, and then 3" in feedback.message


def test_the_fewest_pieces_are_recognised(encoder):
    assert ex.check_fewest(right, PIECES).correct
    known = encoder.tokenizer.get_vocab()
    assert (
        "2 pieces are enough, not 3"
        in ex.check_fewest(lambda word: len(encoder.tokenizer.tokenize(word)), known).message
    )


def unit(v):
    return v / v.norm()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda v, m: v[m == 1].mean(dim=0), "length is not 1"),
        (lambda v, m: v[0], "[CLS]"),
        (lambda v, m: unit(v.mean(dim=0)), "padding was averaged"),
        (lambda v, m: v[m == 1].sum(dim=0), "divide by the norm"),
        (lambda v, m: v[m == 1].max(dim=0).values, "max pooling"),
        (lambda v, m: v.mean(dim=1), "wrong axis"),
        (lambda v, m: torch.zeros(4), "Sum the vectors"),
    ],
)
def test_pooling_mistakes(function, words):
    feedback = ex.check_pooling(function)
    assert not feedback.correct and words in feedback.message


def test_pooling_right():
    assert ex.check_pooling(lambda v, m: unit(v[m == 1].mean(dim=0))).correct


ATTENTION = [np.full((1, 3, 4, 4), 0.1) for _ in range(2)]
ATTENTION[0][0, 2, 1, 3] = 0.7  # layer 1, head 3: token 1 attends to token 3
ATTENTION[1][0, 1, 3, 1] = 0.9  # layer 2, head 2: the other way round


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (..., "replace it"),
        ((0, 2), "counted from 0"),
        ((2, 2), "Rows and columns"),
        ((3, 1), "layer comes first"),
        ((2, 4), "2 layers with 3 heads"),
        ((1, 1), "gives it 0.10"),
        (3, "two whole numbers"),
        ("layer 1", "two whole numbers"),
    ],
)
def test_head_mistakes(answer, words):
    feedback = ex.check_head(answer, ATTENTION, 1, 3)
    assert not feedback.correct and words in feedback.message


def test_head_right():
    assert ex.check_head((1, 3), ATTENTION, 1, 3).correct
    assert ex.check_head(torch.tensor([1, 3]), [torch.tensor(a) for a in ATTENTION], 1, 3).correct


TRUTH, COMPANY = [False, True, False, True], [False, True, True, True]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (..., "replace it"),
        ([True, False, True, False], "other way round"),
        ([True] * 4, "All the same"),
        (COMPANY, "sentence vectors"),
        ([True, True, False, True], "1 of 4"),
        ([True], "4 answers"),
    ],
)
def test_sense_mistakes(answer, words):
    feedback = ex.check_senses(answer, TRUTH, COMPANY)
    assert not feedback.correct and words in feedback.message


def test_senses_right():
    assert ex.check_senses(np.array(TRUTH), TRUTH, COMPANY).correct
    assert repr(ex.check_senses(TRUTH, TRUTH)).startswith("✓ Correct.")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda s, p: s.mean(axis=0) / norm(s.mean(axis=0)), "mean of all tokens"),
        (lambda s, p: s.mean(axis=0), "mean of all tokens"),
        (lambda s, p: s[p < 0.5].mean(axis=0), "divide the vector by its length"),
        (lambda s, p: s[p < 0.5].sum(axis=0), "divide the vector by its length"),
        (lambda s, p: (s * (p < 0.5)[:, None]).mean(axis=0), "divide the vector by its length"),
        (lambda s, p: s[p >= 0.5].mean(axis=0), "Keep the others"),
        (lambda s, p: (1 - p) @ s / norm((1 - p) @ s), "kept or dropped"),
        (lambda s, p: (0.2 + p) ** -2.8 @ s, "kept or dropped"),
        (lambda s, p: s[p < 0.5], "one vector"),
        (lambda s, p: s[p < 0.5].mean(axis=1), "one vector"),
        (lambda s, p: s.mean(axis=1), "one vector"),
        (lambda s, p: s[p > 1].sum(axis=0) * np.nan, "one vector"),
        (lambda s, p: s[1], "with a condition"),
        (lambda s, p: 0 * s[0], "with a condition"),
        (lambda s, p: 1e308 * s[0], "one vector"),
        (lambda s, p: None, "return"),
        (lambda s: s, "TypeError"),
        (np.eye(3), "function itself"),
    ],
)
def test_own_mean_mistakes(function, words):
    with np.errstate(over="ignore"):
        feedback = ex.check_own_mean(function)
    assert not feedback.correct and words in feedback.message


@pytest.mark.parametrize(
    "function",
    [
        lambda s, p: s[p < 0.5].mean(axis=0) / norm(s[p < 0.5].mean(axis=0)),
        lambda s, p: torch.nn.functional.normalize(torch.tensor(s[p < 0.5]).sum(dim=0), dim=0),
        lambda s, p: ((p < 0.5) @ s / norm((p < 0.5) @ s)).tolist(),
    ],
)
def test_own_mean_right(function):
    assert ex.check_own_mean(function).correct


HOBBIES = ("keeps bees", "plays the flute", "grows roses", "bakes bread", "paints boats")
SHARING = [f"A mortgage costs five percent a year. Your adviser {h}." for h in HOBBIES]
HURT = [*SHARING, "What does a cinema ticket cost? Eight pounds."]
ASKED = "What does a mortgage cost?"


@pytest.mark.parametrize(
    ("texts", "question", "relevant", "words"),
    [
        (..., ASKED, {0}, "replace it"),
        (HURT, ..., {0}, "replace it"),
        (HURT, ASKED, ..., "replace it"),
        (HURT, "Which adviser likes flowers?", {2}, "Text 2 still comes first in context"),
        (HURT, ASKED, {5}, "MiniLM gets it wrong already"),
        (HURT, ASKED, range(6), "Every text is relevant"),
        (HURT, ASKED, set(), "set of positions"),
        (HURT, ASKED, {6}, "counted from 0"),
        (HURT, ASKED, {-1}, "counted from 0"),
        (HURT, ASKED, {0.5}, "set of positions"),
        (HURT, ASKED, {HURT[0]}, "set of positions"),
        (HURT, ASKED, 2, "set of positions"),
        ([], ASKED, {0}, "counted from 0"),
        (HURT[0], ASKED, {0}, "list of texts"),
        ([HURT, HURT], ASKED, {0}, "text 0 is a list"),
        (["a\ud83d", "b"], ASKED, {0}, "lone surrogate"),
        (HURT, [ASKED], {0}, "question one text"),
        (np.eye(2), ASKED, {0}, "list of texts"),
        (["bank", "bank"], "bank", {1}, "Text 1 still comes first"),
    ],
)
def test_hurtful_mistakes(texts, question, relevant, words):
    feedback = ex.check_hurtful(load_mini_cde(), texts, question, relevant)
    assert not feedback.correct and words in feedback.message, feedback


def test_what_is_no_model_cannot_rank():
    assert "cannot rank" in ex.check_hurtful(None, HURT, ASKED, {0}).message


@pytest.mark.parametrize("listed", [list, tuple, np.array, iter], ids=lambda kind: kind.__name__)
def test_hurtful_right(listed):
    feedback = ex.check_hurtful(load_mini_cde(), listed(HURT), ASKED, listed(range(5)))
    assert feedback.correct and feedback.message.endswith("in context text 5."), feedback


SYSTEMS = {
    name: pd.DataFrame({"nDCG@10": ndcg, "R@10": recall, "RR@10": reciprocal})
    for name, ndcg, recall, reciprocal in (
        ("MiniLM", [0.2, 0.5, 0.6], [0.5, 0.5, 1.0], [0.1, 0.3, 0.5]),
        ("right context", [0.3, 0.5, 0.8], [1.0, 0.5, 0.5], [0.2, 0.3, 0.8]),
    )
}


def systems(recall):
    """Both systems; their recall differs by these numbers, question by question."""
    right = SYSTEMS["right context"].assign(**{"R@10": SYSTEMS["MiniLM"]["R@10"] + recall})
    return {**SYSTEMS, "right context": right}


@pytest.mark.parametrize("scale", [1, 100])
@pytest.mark.parametrize(
    ("recall", "answer", "words"),
    [
        ([0.1, 0.2, 0.3], ..., "replace it"),
        ([0.1, 0.2, 0.3], "yes", "Answer"),
        ([-0.1, 0.2, 0.1], "better", "contains 0"),
        ([0.1, 0.2, 0.3], "cannot tell", "Does the interval contain 0"),
        ([0.1, 0.2, 0.3], "worse", "above 0, the right context is better"),
        ([0.1, 0.2, 0.3], "better", None),
        ([-0.1, -0.2, -0.3], "Worse", None),
        ([-0.1, 0.2, 0.1], "cannot tell", None),
    ],
)
def test_verdict(recall, answer, words, scale):
    gap = bootstrap(scale * np.array(recall))
    feedback = ex.check_verdict(answer, gap, systems(recall))
    assert feedback.correct == (words is None) and (words or "") in feedback.message, feedback


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-0.1, -0.2, -0.3], "other way round"),
        ([0.1, 0.0, 0.2], "by nDCG@10"),
        ([0.1, 0.0, 0.3], "by RR@10"),
        ([0.1, 0.0, 0.7], "not the difference"),
        ([0.5, 0.5, 1.0], "one system (MiniLM)"),
        ([0.3, 0.5, 0.8], "one system (right context)"),
    ],
)
@pytest.mark.parametrize("answer", ["better", "worse", "cannot tell"])
def test_no_verdict_is_right_about_the_wrong_difference(values, words, answer):
    feedback = ex.check_verdict(answer, bootstrap(values), systems([0.1, 0.2, 0.3]))
    assert not feedback.correct and words in feedback.message, feedback


def test_a_verdict_needs_an_interval():
    feedback = ex.check_verdict("better", 0.2, SYSTEMS)
    assert not feedback.correct and "no interval" in feedback.message
