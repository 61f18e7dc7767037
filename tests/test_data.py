"""The bundled collections keep what their data cards promise."""

import collections

import numpy as np
import pytest

from helpers import PROJECT_ROOT, retrieval

LEAST = {"money": (480, 150, 40), "country": (200, 60, 20)}


@pytest.fixture(scope="module", params=LEAST)
def named(request):
    return request.param, retrieval.load_beir(PROJECT_ROOT / "data" / request.param)


def test_each_collection_is_large_enough_and_has_no_duplicates(named):
    name, (corpus, queries, qrels) = named
    passages, questions, _ = LEAST[name]
    assert len(corpus) >= passages and len(queries) >= questions
    for rows in (corpus, queries):
        assert len(set(rows["_id"])) == len(rows)
        assert len({text.lower() for text in rows["text"]}) == len(rows)
    assert set(qrels) == set(queries["_id"])


def test_passages_and_questions_have_the_stated_lengths(named):
    _, (corpus, queries, _) = named
    assert all(45 <= len(text.split()) <= 110 for text in corpus["text"])
    assert all(4 <= len(text.split()) <= 30 for text in queries["text"])


def test_every_question_has_one_to_four_relevant_passages(named):
    _, (_, _, qrels) = named
    counts = collections.Counter(map(len, qrels.values()))
    assert set(counts) <= {1, 2, 3, 4}


def test_words_alone_put_a_relevant_passage_first_for_at_most_60_percent(named):
    _, (corpus, queries, qrels) = named
    scores = retrieval.bm25_scores(retrieval.texts(corpus), queries["text"])
    best = [corpus["_id"][i] for i in scores.argmax(axis=1)]
    assert (
        0.1
        <= np.mean(
            [document in qrels[query] for query, document in zip(queries["_id"], best, strict=True)]
        )
        <= 0.6
    )


def test_some_forty_questions_are_asked_word_for_word_in_both():
    texts = [set(retrieval.load_beir(PROJECT_ROOT / "data" / name)[1]["text"]) for name in LEAST]
    assert len(texts[0] & texts[1]) >= 40
    assert "How do I get a better yield?" in texts[0] & texts[1]


def test_the_collections_share_words_and_no_passage():
    corpora = [retrieval.load_beir(PROJECT_ROOT / "data" / name)[0]["text"] for name in LEAST]
    assert not set(corpora[0]) & set(corpora[1])
    for word in (
        "bank",
        "interest",
        "stock",
        "bond",
        "yield",
        "share",
        "branch",
        "hedge",
        "seed",
        "bull",
        "note",
        "bill",
        "pool",
        "margin",
    ):
        assert all(any(word in text.lower() for text in corpus) for corpus in corpora), word
