"""Local document frequency against plain Python and NumPy; how much text a collection shares."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import PROJECT_ROOT, retrieval
from helpers.cde import Context, load_mini_cde, shared_text
from helpers.cde.local_idf import Holdings, LocalIDFPooling, PreparedContext
from tests.support.checkpoints import TEXTS
from tests.support.examples import quick

CLS, SEP, PAD = 101, 102, 0
WIDTH = 8
REMEDY = "make one with the small model: load_mini_cde\\(\\).embed_context"


# --- which documents hold a key -------------------------------------------------------------------

keys = st.integers(0, 12) | st.integers(2**40, 2**40 + 2)  # a pair of tokens needs 64 bits
documents_of_keys = st.lists(st.lists(keys, max_size=6), min_size=1, max_size=5)


@quick
@given(documents_of_keys, st.lists(st.lists(keys, min_size=3, max_size=3), min_size=1), st.data())
def test_shares_are_those_that_plain_python_counts(documents, wanted, data):
    weights = st.lists(st.floats(0, 1), min_size=len(documents), max_size=len(documents))
    attention = data.draw(st.lists(weights, min_size=len(wanted), max_size=len(wanted)))
    held = Holdings([np.array(document, dtype=np.int64) for document in documents])
    shares = held.shares(torch.tensor(attention, dtype=torch.float64), torch.tensor(wanted))
    counted = [
        [sum(a for a, document in zip(row, documents, strict=True) if key in document) for key in t]
        for row, t in zip(attention, wanted, strict=True)
    ]
    assert shares.numpy() == pytest.approx(np.array(counted), abs=1e-12)


# --- the weights ----------------------------------------------------------------------------------

#: What lies outside of 105 ... 111 is in no document: below, between and above its tokens.
BATCHES = {
    "texts of one length": [[CLS, 105, 106, SEP], [CLS, 107, 105, SEP]],
    "padding": [[CLS, 105, 106, 107, 108, SEP], [CLS, 105, SEP], [CLS, 109, 109, SEP]],
    "unknown tokens": [[CLS, 3, 105, 30_521, SEP], [CLS, 3, 30_521, 30_521, SEP]],
    "special tokens alone": [[CLS, SEP], [CLS, 105, SEP], [CLS, SEP, SEP]],
}
DOCUMENTS = {
    "several": [[CLS, 105, 105, 106, SEP], [CLS, 105, 107, 109, SEP], [CLS, SEP], [CLS, 111, SEP]],
    "one": [[CLS, 105, 106, SEP]],
}


def by_the_formula(states, ids, documents, vectors, pooling, beta):
    """The docstring of LocalIDFPooling for one text, in float64."""
    x = states.mean(axis=0) / np.linalg.norm(states.mean(axis=0))
    a = np.exp([pooling.sharpness * np.dot(x, c) for c in vectors])
    a = a / a.sum()
    weights = []
    for token in ids:
        share = sum(a_k for a_k, document in zip(a, documents, strict=True) if token in document)
        weights.append((pooling.smoothing + share) ** -beta)
    words = [w for w, token in zip(weights, ids, strict=True) if token not in (CLS, SEP)]
    mean = np.mean(words) if words else 1.0
    weights = [mean if token in (CLS, SEP) else w for w, token in zip(weights, ids, strict=True)]
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("texts", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("beta", [0.8, 2.8])
def test_weights_and_vectors_are_those_of_the_formula(texts, documents, beta, dtype):
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(len(documents), WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    longest = max(map(len, texts))
    states = np.zeros((len(texts), longest, WIDTH))
    ids, mask = np.full((2, len(texts), longest), PAD)
    for row, text in enumerate(texts):
        states[row, : len(text)] = rng.normal(size=(len(text), WIDTH))
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    pooling = LocalIDFPooling(5.0, 0.2, (0.8, 2.8), (0.05, 0.2))
    held = Holdings([np.array(document, dtype=np.int32) for document in documents])
    prepared = PreparedContext(torch.tensor(vectors, dtype=dtype), held, beta)
    given = (torch.tensor(states, dtype=dtype), torch.tensor(ids), torch.tensor(mask))
    special = torch.isin(given[1], torch.tensor([CLS, SEP, PAD]))

    shares, pooled = pooling.weights(*given, special, prepared), pooling(*given, special, prepared)
    within = 1e-12 if dtype == torch.float64 else 1e-6
    for row, text in enumerate(texts):
        own = states[row, : len(text)]
        expected = by_the_formula(own, text, documents, vectors, pooling, beta)
        assert shares[row, : len(text)].numpy() == pytest.approx(expected, abs=within)
        assert not shares[row, len(text) :].any(), "padding weighs nothing"
        assert pooled[row].numpy() == pytest.approx(expected @ own, abs=10 * within)
    plain = pooling(*given, special, None)
    assert plain[0].numpy() == pytest.approx(states[0, : len(texts[0])].mean(0), abs=10 * within)


@pytest.mark.parametrize("corpus", [TEXTS, TEXTS[:1], ["", ""]], ids=["seven", "one", "empty"])
def test_the_small_models_weights_are_those_of_the_formula(corpus):
    model = load_mini_cde()
    context = model.embed_context(corpus)
    beta = model.pooling.exponent(shared_text(context))
    texts = [*TEXTS, "", "[SEP]", "\u94f6\u884c zyzzyva", "interest " * 300]
    vectors = context.vectors.double().numpy()
    for text, (tokens, shares) in zip(texts, model.token_weights(texts, context), strict=True):
        (ids,) = model.token_ids([text])
        states = model.second_stage_model.tokens(*model.as_batch([ids]))[0].double().cpu().numpy()
        expected = by_the_formula(states, ids, context.tokens, vectors, model.pooling, beta)
        assert shares.numpy() == pytest.approx(expected, abs=1e-6), tokens


@pytest.mark.parametrize(
    ("shared", "beta"),
    [(0.0, 0.8), (0.05, 0.8), (0.125, 1.8), (0.2, 2.8), (0.201, 2.8), (1.0, 2.8)],
)
def test_the_exponent_rises_between_its_bounds_and_not_beyond(shared, beta):
    pooling = LocalIDFPooling(5.0, 0.2, strength=(0.8, 2.8), shared=(0.05, 0.2))
    assert pooling.exponent(shared) == pytest.approx(beta)


def test_the_larger_the_exponent_the_further_the_weights_part():
    model = load_mini_cde()
    context, stage = model.embed_context(TEXTS), model.second_stage_model
    batch = model.as_batch(model.token_ids(["What does a bank pay for cement?"]))
    given = (stage.tokens(*batch), *batch, stage.is_special(batch[0]))
    spread = []
    for beta in (0.0, 1.0, 3.0):
        pooling = LocalIDFPooling(5.0, 0.2, strength=(beta, beta), shared=(0.05, 0.2))
        shares = pooling.weights(*given, pooling.prepare(context, model.device))
        spread.append((shares.max() / shares.min()).item())
    assert spread[0] == pytest.approx(1) and spread[2] == pytest.approx(spread[1] ** 3, rel=1e-4)
    assert spread[1] > 1.5


# --- how much text is shared ----------------------------------------------------------------------


def test_one_document_shares_nothing_and_equal_ones_share_everything():
    model = load_mini_cde()
    assert shared_text(model.embed_context(TEXTS[:1])) == 0
    assert shared_text(model.embed_context(TEXTS[:1] * 5)) == pytest.approx(1)


@pytest.mark.parametrize("corpus", [["", ""], ["money", "money"], ["", "bank", "[SEP]"]])
def test_texts_of_at_most_one_word_have_no_pairs_and_share_nothing(corpus):
    model = load_mini_cde()
    context = model.embed_context(corpus)
    assert shared_text(context) == 0.0
    assert np.isfinite(model.encode_documents(TEXTS, context)).all()
    longer = model.embed_context(["the bank is open"] * 3 + corpus[:1])
    assert shared_text(longer) == pytest.approx(3 / 4), "it counts among the documents"


def test_text_is_shared_in_pairs_of_tokens_by_most_of_those_like_it():
    near, far = torch.eye(2).tolist()
    words = [[1, 2, 3, 4], [1, 2, 4, 3], [1, 2, 9, 9], [8, 8, 3, 4], [5, 6, 7], [5, 6, 8]]
    context = Context(
        torch.tensor([near, near, near, near, far, far]),
        ids=tuple("abcdef"),
        model="mini-cde",
        tokens=tuple(np.array([CLS, *ids, SEP], dtype=np.int32) for ids in words),
    )
    # (1, 2) is in two of three others, (5, 6) in the only other one, (3, 4) in one of three;
    # pairs with CLS or SEP do not count
    assert shared_text(context, sharpness=20) == pytest.approx((3 * 1 / 3 + 2 * 1 / 2) / 6)


def test_the_order_of_the_documents_does_not_matter():
    model = load_mini_cde()
    texts = [f"The branch in {town} is closed today." for town in ("Ash", "Elm", "Oak")] + TEXTS
    there, back = model.embed_context(texts), model.embed_context(texts[::-1])
    assert 0.1 < shared_text(there) == pytest.approx(shared_text(back), abs=1e-6)
    shares = [model.token_weights(TEXTS, context) for context in (there, back)]
    for (_, one), (_, other) in zip(*shares, strict=True):
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-6)


def test_notices_share_more_than_a_tenth_of_their_text_and_money_less():
    shared = {
        name: shared_text(
            load_mini_cde().embed_context(
                retrieval.texts(retrieval.load_beir(PROJECT_ROOT / "data" / name)[0]), size=60
            )
        )
        for name in ("money", "notices")
    }
    assert shared["money"] < 0.1 < shared["notices"], shared


def test_a_context_without_tokens_is_refused_with_the_call_that_makes_one():
    context = Context(torch.eye(2, 384), ids=("a", "b"), model="mini-cde")
    for ask in (shared_text, lambda given: load_mini_cde().encode_queries(TEXTS, given)):
        with pytest.raises(ValueError, match=f"mini-cde does not know the tokens.*{REMEDY}"):
            ask(context)
