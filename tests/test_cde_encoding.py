"""What both contextual models share: contexts, batches, vectors that know their context."""

import copy
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open

from helpers.cde import CDE, Context, Vectors, load_mini_cde, similarity
from tests.support.checkpoints import CHECKPOINTS, TEXTS


@pytest.fixture(scope="module", params=["mini", "native"])
def model(request):
    return load_mini_cde() if request.param == "mini" else CDE.load(CHECKPOINTS / "modernbert")


def test_vectors_are_unit_rows_and_do_not_depend_on_batches_or_order(model):
    context = model.embed_context(TEXTS)
    whole = model.encode_documents(TEXTS, context)
    assert whole.shape == (len(TEXTS), model.dimension) and whole.dtype == np.float32
    assert np.linalg.norm(whole, axis=1) == pytest.approx(1, abs=1e-5)
    alone = model.encode_documents(TEXTS, context, batch_size=1)
    backwards = model.encode_documents(TEXTS[::-1], context, batch_size=3)[::-1]
    assert np.abs(whole - alone).max() < 1e-5 and np.abs(whole - backwards).max() < 1e-5


def test_the_context_is_sampled_without_replacement_by_its_seed_and_keeps_its_ids(model):
    many = [f"Text number {i} about money." for i in range(40)]
    ids = [f"d{i}" for i in range(40)]
    first = model.embed_context(many, seed=1, ids=ids, size=10)
    assert len(set(first.ids)) == len(first) == 10 and set(first.ids) <= set(ids)
    assert model.embed_context(many, seed=1, ids=ids, size=10).name == first.name
    assert model.embed_context(many, seed=2, ids=ids, size=10).name != first.name
    assert model.embed_context(many[:5]).ids == ("0", "1", "2", "3", "4"), (
        "fewer than wanted: all, in their order"
    )


def test_a_context_is_stored_with_its_ids_and_read_back_exactly(model, tmp_path):
    context = model.embed_context(TEXTS, ids=[f"d{i}" for i in range(len(TEXTS))])
    context.save(tmp_path / "context.safetensors")
    again = Context.load(tmp_path / "context.safetensors")
    assert (
        again.name == context.name
        and torch.equal(again.vectors, context.vectors)
        and again.ids == context.ids
    )
    assert np.array_equal(
        model.encode_queries(TEXTS[:2], again), model.encode_queries(TEXTS[:2], context)
    )


def test_the_small_models_context_keeps_the_tokens_of_its_documents(tmp_path):
    model = load_mini_cde()
    context = model.embed_context(["", *TEXTS, "interest " * 1_000])
    read = [ids.tolist() for ids in context.tokens]
    assert read == model.token_ids(["", *TEXTS, "interest " * 1_000])
    assert (len(read[0]), len(read[-1])) == (2, 256), "what is cut off is not kept"
    context.save(tmp_path / "context.safetensors")
    again = Context.load(tmp_path / "context.safetensors")
    assert [ids.tolist() for ids in again.tokens] == read
    assert {ids.dtype for ids in (*again.tokens, *context.tokens)} == {np.dtype("int32")}
    shares = [model.token_weights(TEXTS[:1], given)[0][1] for given in (context, again)]
    assert torch.equal(*shares)


def test_the_name_of_a_context_covers_its_tokens():
    def name(*tokens):
        ids = tuple(np.array(given, dtype=np.int32) for given in tokens) or None
        return Context(torch.eye(2), ("a", "b"), "mini-cde", ids).name

    assert name([1, 2, 3], [4]) == name([1, 2, 3], [4])
    others = {name(), name([1, 2, 9], [4]), name([1, 2], [3, 4]), name([4], [1, 2, 3])}
    assert len(others | {name([1, 2, 3], [4])}) == 5


def test_a_published_models_context_has_no_tokens_and_the_name_it_always_had(tmp_path):
    context = CDE.load(CHECKPOINTS / "modernbert").embed_context(TEXTS)
    context.save(tmp_path / "context.safetensors")
    with safe_open(str(tmp_path / "context.safetensors"), "pt") as file:
        assert list(file.keys()) == ["vectors"]
    assert context.tokens is None is Context.load(tmp_path / "context.safetensors").tokens
    stored_by_version_0_1 = Context(torch.eye(2), ("d1", "d2"), "cde:modernbert:hub")
    assert stored_by_version_0_1.name == "19e3f617d94e"


def test_a_context_of_the_small_models_first_edition_is_refused_with_what_to_do(tmp_path):
    model = load_mini_cde()
    new = model.embed_context(TEXTS)
    Context(new.vectors, new.ids, new.model).save(tmp_path / "context.safetensors")
    old = Context.load(tmp_path / "context.safetensors")
    for use in (model.encode_queries, model.encode_documents, model.token_weights):
        with pytest.raises(ValueError, match=r"tokens.*load_mini_cde\(\)\.embed_context\(texts\)"):
            use(TEXTS, old)


def test_vectors_of_different_contexts_are_not_compared_unless_asked_for(model):
    one, two = model.embed_context(TEXTS[:3]), model.embed_context(TEXTS[3:])
    queries, documents = model.encode_queries(TEXTS[:2], one), model.encode_documents(TEXTS, two)
    with pytest.raises(ValueError, match="such vectors do not belong together"):
        similarity(queries, documents)
    with pytest.raises(ValueError, match=f"context {one.name}, documents by .* without a context"):
        similarity(queries, model.encode_documents(TEXTS))
    assert similarity(queries, documents, mixed_contexts=True).shape == (2, len(TEXTS))
    assert similarity(queries, model.encode_documents(TEXTS, one)[2:5]).shape == (2, 3)


def vectors(context="money", model="mini-cde", count=2):
    return Vectors(np.eye(count, 4), context, model)


@pytest.mark.parametrize(
    ("documents", "reason"),
    [
        (np.eye(2, 4), "a plain array; were they encoded by another model"),
        (torch.eye(2, 4), "a plain array; were they encoded by another model"),
        (np.asarray(vectors()), "a plain array; were they encoded by another model"),
        (np.vstack([vectors(), vectors("country")]), "vectors of different contexts were joined"),
        (np.vstack([vectors(), np.eye(2, 4)]), "vectors of different contexts were joined"),
    ],
)
def test_vectors_of_unknown_context_are_refused_unless_asked_for(documents, reason):
    with pytest.raises(ValueError, match=f"^documents carry no context: {reason}.*mixed_contexts="):
        similarity(vectors(), documents)
    with pytest.raises(ValueError, match=f"^queries carry no context: {reason}.*mixed_contexts="):
        similarity(documents, vectors())
    with pytest.raises(ValueError, match="carry no context"):
        similarity(documents, documents)
    assert similarity(vectors(), documents, mixed_contexts=True).shape == (2, len(documents))


def test_vectors_of_minilm_do_not_pass_as_those_of_the_small_model(encoder):
    basic, queries = encoder.encode(TEXTS), load_mini_cde().encode_queries(TEXTS[:2])
    with pytest.raises(ValueError, match="documents carry no context: a plain array"):
        similarity(queries, basic)
    assert similarity(queries, basic, mixed_contexts=True).shape == (2, len(TEXTS))


def test_without_a_context_the_models_must_be_the_same():
    mini, published = vectors("none"), vectors("none", "cde:bert:hub")
    assert similarity(mini, mini[:1]).shape == (2, 1)
    for other in (published, Vectors(np.eye(2, 4), "none")):
        with pytest.raises(ValueError, match="by mini-cde without a context, documents by"):
            similarity(mini, other)
    with pytest.raises(ValueError, match="by an unknown model without a context"):
        similarity(Vectors(np.eye(2, 4), "none"), Vectors(np.eye(2, 4), "none"))
    joined = np.vstack([mini, published])
    assert (joined.context, joined.model) == ("none", "unknown")


JOINS = {
    "concatenate": np.concatenate,
    "vstack": np.vstack,
    "stack": np.stack,
    "row_": lambda parts: np.r_[tuple(parts)],
    "append": lambda parts: np.append(*parts, axis=0),
    "insert": lambda parts: np.insert(parts[0], 0, parts[1], axis=0),
    "add": lambda parts: parts[0] + parts[1],
    "maximum": lambda parts: np.maximum(*parts),
    "assign": lambda parts: assign(parts[0].copy(), parts[1]),
    "add in place": lambda parts: np.add(*parts, out=parts[0].copy()),
}


def assign(array, values):
    array[:] = values
    return array


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS)
def test_joined_vectors_keep_the_context_that_all_share_and_lose_any_other(join):
    same = join([vectors(), vectors()])
    assert (same.context, same.model) == ("money", "mini-cde")
    for other in (vectors("country"), vectors("none"), np.eye(2, 4, dtype=np.float32)):
        assert join([vectors(), other]).context == "unknown"
    assert join([vectors(), vectors("money", "another")]).model == "unknown"


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[1:],
        lambda v: v[[0, 1]],
        lambda v: np.take(v, [0], axis=0),
        lambda v: np.split(v, 2)[1],
        lambda v: v.copy(),
        copy.copy,
        copy.deepcopy,
        lambda v: v.astype(np.float16),
        lambda v: pickle.loads(pickle.dumps(v)),  # noqa: S301
        lambda v: pickle.loads(pickle.dumps(v.astype(np.float64), 5)),  # noqa: S301
        lambda v: 2 * v,
        lambda v: v / np.linalg.norm(v, axis=1, keepdims=True),
        lambda v: v - v.mean(axis=0),
    ],
)
def test_a_part_a_copy_and_a_scaled_version_keep_their_context(change):
    changed = change(vectors())
    assert (changed.context, changed.model) == ("money", "mini-cde")


def test_a_pickle_keeps_numbers_type_and_shape():
    given = vectors().astype(np.float64)[::2]
    again = pickle.loads(pickle.dumps(given))  # noqa: S301
    assert again.dtype == np.float64 and np.array_equal(again, given)


def test_the_vectors_of_a_model_name_it_and_their_context(model):
    context = model.embed_context(TEXTS)
    encoded = model.encode_documents(TEXTS, context)
    assert (encoded.context, encoded.model) == (context.name, model.name)


def test_both_models_work_without_a_context(model):
    assert model.encode_queries(TEXTS[:2]).context == "none"
    assert model.encode_queries(TEXTS[:2]).model == model.name
    assert (
        np.abs(
            model.encode_queries(TEXTS[:2])
            - model.encode_queries(TEXTS[:2], model.embed_context(TEXTS))
        ).max()
        > 1e-3
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "list of texts"),
        (["a", None], "text 1 is a NoneType"),
        ([3], "text 0 is a int"),
    ],
)
def test_anything_but_a_list_of_texts_is_refused(model, texts, message):
    with pytest.raises(TypeError, match=message):
        model.encode_documents(texts)


def test_no_texts_give_no_vectors_and_no_context(model):
    assert model.encode_documents([]).shape == (0, model.dimension)
    with pytest.raises(ValueError, match="context=None"):
        model.embed_context([])


def test_a_context_of_another_model_is_refused():
    context = load_mini_cde().embed_context(TEXTS)
    with pytest.raises(ValueError, match="made by mini-cde"):
        CDE.load(CHECKPOINTS / "bert").encode_queries(TEXTS, context)
