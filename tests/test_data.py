"""The bundled collections keep what their data cards promise."""

import collections
import json
import re

import numpy as np
import pandas as pd
import pytest

from helpers import PROJECT_ROOT, retrieval

LEAST = {"money": (480, 150), "country": (200, 60), "notices": (360, 160)}
BOTH = ("money", "country")  # the same words in two senses
NOTICES = PROJECT_ROOT / "data" / "notices"


@pytest.fixture(scope="module", params=LEAST)
def named(request):
    return request.param, retrieval.load_beir(PROJECT_ROOT / "data" / request.param)


@pytest.fixture(scope="module")
def notices():
    lines = (NOTICES / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_each_collection_is_large_enough_and_has_no_duplicates(named):
    name, (corpus, queries, qrels) = named
    passages, questions = LEAST[name]
    assert len(corpus) >= passages and len(queries) >= questions
    for rows in (corpus, queries):
        assert len(set(rows["_id"])) == len(rows)
        assert len({text.lower() for text in rows["text"]}) == len(rows)
    assert set(qrels) == set(queries["_id"])


def test_passages_and_questions_have_the_stated_lengths(named):
    name, (corpus, queries, _) = named
    shortest, longest = (80, 150) if name == "notices" else (45, 110)
    assert all(shortest <= len(text.split()) <= longest for text in corpus["text"])
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
    texts = [set(retrieval.load_beir(PROJECT_ROOT / "data" / name)[1]["text"]) for name in BOTH]
    assert len(texts[0] & texts[1]) >= 40
    assert "How do I get a better yield?" in texts[0] & texts[1]


def test_the_collections_share_words_and_no_passage():
    corpora = [retrieval.load_beir(PROJECT_ROOT / "data" / name)[0]["text"] for name in BOTH]
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


def test_the_notices_are_of_six_templates_that_share_two_thirds_of_their_words(notices):
    templates = collections.Counter(row["metadata"]["template"] for row in notices)
    assert len(templates) == 6 and min(templates.values()) >= 60
    for template in templates:
        texts = [row["text"] for row in notices if row["metadata"]["template"] == template]
        words = [re.findall(r"[a-z']+", text.lower()) for text in texts]
        held = collections.Counter(word for passage in words for word in set(passage))
        shared = [np.mean([held[w] > len(texts) / 2 for w in passage]) for passage in words]
        assert np.mean(shared) > 2 / 3, template


def test_each_notice_says_which_sentences_are_its_own(notices):
    own = [row["text"][slice(*row["metadata"]["own"])] for row in notices]
    assert len(set(own)) == len(own)
    assert all(text[0].isupper() and text[-1] in ".!?" for text in own)
    for row, text in zip(notices, own, strict=True):
        assert 20 <= len(text.split()) <= 36
        assert len(text.split()) < len(row["text"].split()) / 3


def test_choosing_and_reporting_use_different_questions_of_the_notices():
    corpus, chosen, of_chosen = retrieval.load_beir(NOTICES, "dev")
    _, reported, of_reported = retrieval.load_beir(NOTICES)
    assert not set(of_chosen) & set(of_reported) and not set(chosen["text"]) & set(reported["text"])
    assert len(chosen) + len(reported) >= 240
    assert sum(1 for judged in (of_chosen | of_reported).values() if len(judged) > 1) >= 40
    assert set(corpus["_id"]) >= {d for judged in of_chosen.values() for d in judged}


def test_paraphrases_share_no_more_words_than_what_says_something_else():
    table = pd.read_csv(PROJECT_ROOT / "data" / "failures.csv")
    assert table["kind"].value_counts().tolist() == [6] * 5

    def words_of(text):
        return set(re.findall(r"\w+", text.lower()))

    for row in table[table["kind"] != "another language"].itertuples():
        shared = [len(words_of(row.sentence) & words_of(o)) for o in (row.changed, row.paraphrase)]
        assert shared[0] >= shared[1], row.sentence
