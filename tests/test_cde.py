"""The native model against the author's code, what both models promise, and the Hub's layout."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import PROJECT_ROOT, artifacts, retrieval
from helpers.cde import (
    CDE,
    CheckpointError,
    Context,
    MiniCDE,
    Vectors,
    hub,
    load_mini_cde,
    mini,
    similarity,
)
from helpers.cde import train as training
from helpers.cde.train import Recipe, read_pairs, train
from helpers.settings import CLEAN_ENVIRONMENT
from helpers.similarity import cosine_matrix

FIXTURES = Path(__file__).parent / "fixtures" / "cde"
BACKBONES = ("modernbert", "bert")


@pytest.fixture(scope="module", params=BACKBONES)
def reference(request):
    """A tiny checkpoint in the published layout, and what the author's code computes with it."""
    return FIXTURES / request.param, load_file(FIXTURES / request.param / "reference.safetensors")


def run(model, io, variant):
    """Every reference output of one variant, computed here."""

    def given(name):
        return {
            "input_ids": io[f"in.{name}_input_ids"],
            "attention_mask": io[f"in.{name}_attention_mask"],
        }

    with torch.inference_mode():
        twelve, sixteen = (
            model.first_stage_model(**given("ctx")),
            model.first_stage_model(**given("ctx16")),
        )
        cases = {"doc": twelve, "query": twelve, "noprefix": twelve}
        found = {
            f"{variant}.{name}": model.second_stage_model(**given(name), dataset_embeddings=c)
            for name, c in cases.items()
        }
        found[f"{variant}.doc_ctx16_truncated"] = model.second_stage_model(
            **given("doc"), dataset_embeddings=sixteen
        )
        found[f"{variant}.doc_ctx8_short"] = model.second_stage_model(
            **given("doc"), dataset_embeddings=twelve[:8]
        )
    return twelve, found


@pytest.mark.parametrize("variant", ["hub", "card"])
def test_every_output_equals_the_authors_code_within_1e_4(reference, variant):
    directory, io = reference
    model = CDE.load(directory, variant=variant)
    context, found = run(model, io, variant)
    assert torch.allclose(context, io["out.first_stage"], atol=1e-4)
    assert torch.allclose(model.second_stage_model.prefix(context), io["out.prefix"], atol=1e-4)
    assert len(found) == 5
    for name, value in found.items():
        assert (value - io[f"out.{name}"]).abs().max() < 1e-4, name


def test_the_traps_are_not_what_we_compute(reference):
    directory, io = reference
    _, found = run(CDE.load(directory), io, "hub")
    traps = [name for name in io if name.startswith("trap.")]
    assert traps
    for name in traps:
        assert (found["hub.doc"] - io[name]).abs().max() > 0.5, name


def test_the_two_variants_differ(reference):
    _, io = reference
    assert (io["out.hub.doc"] - io["out.card.doc"]).abs().max() > 0.1


def test_the_order_of_the_context_matters(reference):
    directory, io = reference
    model = CDE.load(directory)
    with torch.inference_mode():
        given = {"input_ids": io["in.doc_input_ids"], "attention_mask": io["in.doc_attention_mask"]}
        context = io["out.first_stage"]
        a = model.second_stage_model(**given, dataset_embeddings=context)
        b = model.second_stage_model(**given, dataset_embeddings=context.flip(0))
    assert (a - b).abs().max() > 0.05


def test_the_model_reads_as_on_its_card(reference):
    model = CDE.load(reference[0])
    assert model.config.transductive_corpus_size == 12
    assert "first_stage_model" in repr(model) and "second_stage_model" in repr(model)


@pytest.fixture
def checkpoint(tmp_path):
    shutil.copytree(FIXTURES / "bert", tmp_path / "bert")
    return tmp_path / "bert"


def _edit_config(path, **changes):
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")


def _edit_weights(path, change):
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda p: (p / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda p: os.truncate(p / "model.safetensors", 5000), "cut or damaged"),
        (lambda p: (p / "config.json").write_text("{", encoding="utf-8"), "config.json"),
        (lambda p: (p / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda p: _edit_config(p, transductive_corpus_size=0), "above 0"),
        (
            lambda p: _edit_weights(p, lambda w: w.pop("first_stage_model.mlp.0.bias")),
            "missing .*mlp.0.bias",
        ),
        (lambda p: _edit_weights(p, lambda w: w.update(extra=torch.zeros(1))), "unknown .*extra"),
        (
            lambda p: _edit_weights(
                p, lambda w: w.update({"first_stage_model.mlp.0.bias": torch.zeros(3)})
            ),
            "instead of",
        ),
        (
            lambda p: ((p / "backbone_config.json").unlink(), _edit_config(p, embedder="else")),
            "backbone_config=",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_whole(checkpoint, fault, message):
    fault(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        CDE.load(checkpoint)


def test_an_unknown_variant_is_refused(checkpoint):
    with pytest.raises(ValueError, match="hub"):
        CDE.load(checkpoint, variant="paper")


def test_another_checkpoint_in_the_place_of_the_published_one_is_refused(checkpoint):
    with pytest.raises(artifacts.ArtifactError, match=r"305,706,240"):
        hub.check_published(checkpoint / "model.safetensors")


TEXTS = [
    "The bank pays interest on the loan.",
    "Stocks fell on Monday.",
    "A bond is a loan to a state or a company, and it pays a coupon every year until it matures.",
    "Money.",
    "How is a dividend taxed?",
    "The river bank gave way after the flood, and the path along it was closed for a month.",
    "Hedge.",
]


@pytest.fixture(scope="module", params=["mini", "native"])
def model(request):
    return load_mini_cde() if request.param == "mini" else CDE.load(FIXTURES / "modernbert")


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
def test_what_is_no_list_of_texts_is_refused(model, texts, message):
    with pytest.raises(TypeError, match=message):
        model.encode_documents(texts)


def test_empty_lists_and_contexts(model):
    assert model.encode_documents([]).shape == (0, model.dimension)
    with pytest.raises(ValueError, match="context=None"):
        model.embed_context([])


def test_a_context_of_another_model_is_refused():
    context = load_mini_cde().embed_context(TEXTS)
    with pytest.raises(ValueError, match="made by mini-cde"):
        CDE.load(FIXTURES / "bert").encode_queries(TEXTS, context)


def test_the_small_models_context_is_computed_once_and_reused_exactly(monkeypatch):
    model = load_mini_cde()
    context = model.embed_context(TEXTS)
    calls = []
    keys = model.pooling.keys
    monkeypatch.setattr(model.pooling, "keys", lambda given: calls.append(1) or keys(given))
    reused = model.encode_documents(TEXTS, context, batch_size=1)
    assert len(calls) == 1, "seven batches, one look at the context"
    batch = model.as_batch(model.token_ids(TEXTS))
    with torch.inference_mode():
        anew = model.second_stage_model(*batch, dataset_embeddings=context.vectors)
    anew = torch.nn.functional.normalize(anew, dim=1)
    assert np.abs(anew.cpu().numpy() - reused).max() < 1e-5


@pytest.fixture
def computed():
    """How many texts went through MiniLM, one entry per batch."""
    calls = []
    backbone = load_mini_cde().second_stage_model.tokens.backbone
    hook = backbone.register_forward_hook(
        lambda _module, _args, named, _made: calls.append(len(named["input_ids"])),
        with_kwargs=True,
    )
    yield calls
    hook.remove()


def test_token_vectors_are_computed_once_for_all_contexts(computed):
    model = load_mini_cde()
    model.second_stage_model.tokens.forget()
    model.encode_documents(TEXTS)
    assert sum(computed) == len(TEXTS)
    context = model.embed_context(TEXTS[::-1], batch_size=2)
    model.encode_documents(TEXTS[2:], context, batch_size=3)
    assert sum(computed) == len(TEXTS), "every text was seen before, in other batches"


def test_a_long_call_keeps_no_token_vectors(computed, monkeypatch):
    model = load_mini_cde()
    tokens = model.second_stage_model.tokens
    tokens.forget()
    monkeypatch.setattr(mini, "KEPT_TEXTS", len(TEXTS) - 1)
    long = model.encode_documents(TEXTS)
    assert not tokens.kept and tokens.bytes == 0
    short = model.encode_documents(TEXTS[:-1])
    assert len(tokens.kept) == len(TEXTS) - 1
    assert np.abs(long[:-1] - short).max() < 1e-6
    model.encode_documents(TEXTS)
    assert sum(computed) == 3 * len(TEXTS) - 1, "nor does it read what was kept before"


def test_kept_token_vectors_do_not_grow_without_bound(monkeypatch):
    model = load_mini_cde()
    tokens = model.second_stage_model.tokens
    monkeypatch.setattr(mini, "KEPT_BYTES", 50_000)
    many = model.encode_documents([f"text number {i}" for i in range(40)])
    assert tokens.bytes == sum(kept.nbytes for kept in tokens.kept.values()) <= 50_000
    assert (
        np.abs(many - model.encode_documents([f"text number {i}" for i in range(40)])).max() < 1e-5
    )


@pytest.fixture
def pair(encoder):
    """An encoder of its own and a small model upon it, free to be changed."""
    own = copy.deepcopy(encoder)
    model = MiniCDE(own, load_mini_cde().config)
    model.pooling.load_state_dict(load_mini_cde().pooling.state_dict())
    return own, model.eval()


def test_training_mode_of_the_encoder_leaves_the_small_models_vectors_alone(pair):
    encoder, model = pair
    before, basic = model.encode_documents(TEXTS), encoder.encode(TEXTS)
    for mode in (encoder.train, encoder.transformers_model.train):
        mode()
        assert encoder.transformers_model.encoder.training
        model.second_stage_model.tokens.forget()
        assert np.array_equal(model.encode_documents(TEXTS), before)
        assert encoder.transformers_model.encoder.training, "nor is the encoder set back"
        encoder.eval()
    encoder.transformers_model.train()
    batch = model.as_batch(model.token_ids(TEXTS))
    noisy = encoder.transformers_model(*batch).last_hidden_state
    assert (noisy - encoder.eval().transformers_model(*batch).last_hidden_state).abs().max() > 0.1
    assert np.array_equal(encoder.encode(TEXTS), basic)


def test_what_is_done_to_the_small_model_leaves_the_encoder_alone(pair):
    encoder, model = pair
    basic, before = encoder.encode(TEXTS), model.encode_documents(TEXTS)
    assert all(p.requires_grad for p in encoder.parameters()), "loading freezes nothing"
    model.train().requires_grad_(False).to(torch.float64)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    assert np.array_equal(encoder.encode(TEXTS), basic)
    assert np.abs(model.encode_documents(TEXTS) - before).max() < 1e-5, "and it still works"


def test_the_small_model_works_on_an_encoder_that_was_moved(pair):
    encoder, model = pair
    before = model.encode_documents(TEXTS)
    encoder.to(torch.float64)
    model.second_stage_model.tokens.forget()
    assert np.abs(model.encode_documents(TEXTS) - before).max() < 1e-5


def test_the_small_models_own_parameters_are_its_pooling(pair):
    _, model = pair
    assert sum(p.numel() for p in model.parameters()) == 25_346
    assert [name for name, _ in model.named_children()] == [
        "first_stage_model",
        "second_stage_model",
    ]
    assert repr(model).count("BertModel(") == 1 and "SoftIDFPooling(" in repr(model)


def test_the_state_of_the_small_model_identifies_pooling_and_backbone(pair):
    encoder, model = pair

    def state():
        return {name: value.clone() for name, value in model.state_dict().items()}

    def differing(a, b):
        return [name for name in a if not torch.equal(a[name], b[name])]

    shipped = state()
    assert not differing(shipped, load_mini_cde().state_dict())
    with torch.no_grad():
        model.pooling.gamma.add_(1)
    assert differing(shipped, state()) == ["second_stage_model.pooling.gamma"]
    model.load_state_dict(shipped)
    assert not differing(shipped, state())
    with torch.no_grad():
        next(encoder.transformers_model.parameters()).add_(1)
    assert differing(shipped, state()) == ["_extra_state"]
    with pytest.raises(CheckpointError, match="another backbone"):
        model.load_state_dict(shipped)


def test_the_pooling_can_be_trained_on_token_vectors_that_were_kept(pair):
    encoder, model = pair
    model.encode_documents(TEXTS)
    model.second_stage_model(*model.as_batch(model.token_ids(TEXTS))).sum().backward()
    assert model.pooling.score.grad.abs().max() > 0
    assert all(p.grad is None for p in encoder.parameters())


def test_token_shares_sum_to_one_and_rebuild_the_vector():
    model = load_mini_cde()
    context = model.embed_context(TEXTS)
    ((tokens, shares),) = model.token_weights(TEXTS[:1], context)
    assert tokens[0] == "[CLS]" and shares.sum() == pytest.approx(1, abs=1e-5)
    with torch.inference_mode():
        batch = model.as_batch(model.token_ids(TEXTS[:1]))
        states = model.second_stage_model.states(*batch)[0].cpu()
    rebuilt = torch.nn.functional.normalize((shares[:, None] * states).sum(0), dim=0)
    assert rebuilt.numpy() == pytest.approx(
        np.asarray(model.encode_documents(TEXTS[:1], context)[0]), abs=1e-5
    )


def test_the_shipped_model_is_small():
    directory = PROJECT_ROOT / "models" / "mini-cde"
    assert sum(path.stat().st_size for path in directory.iterdir()) < 5_000_000


@pytest.fixture(scope="module")
def shelves():
    """The small model, and a context of each bundled collection."""
    model = load_mini_cde()
    texts = {
        name: retrieval.texts(retrieval.load_beir(PROJECT_ROOT / "data" / name)[0])
        for name in ("money", "country")
    }
    return model, {name: model.embed_context(given) for name, given in texts.items()}


@pytest.mark.parametrize(
    ("word", "heavier"),
    [("interest", "country"), ("savings", "country"), ("gardener", "money"), ("spade", "money")],
)
def test_a_word_weighs_less_on_the_shelf_that_is_full_of_its_kind(shelves, word, heavier):
    model, contexts = shelves
    passage = (
        "The bank pays interest on the money in your savings account, "
        "and takes a fee when a gardener leaves his spade at the counter."
    )
    share = {}
    for name, context in contexts.items():
        ((tokens, shares),) = model.token_weights([passage], context)
        share[name] = shares[tokens.index(word)].item()
    assert max(share, key=share.get) == heavier and max(share.values()) > 1.1 * min(share.values())


def test_on_money_the_right_context_costs_nothing_against_minilm(shelves, encoder):
    """No gain is claimed there (see the model's card), but no loss above half a point either."""
    model, contexts = shelves
    corpus, queries, qrels = retrieval.load_beir(PROJECT_ROOT / "data" / "money")
    documents, questions = retrieval.texts(corpus), list(queries["text"])
    scores = {
        "right": similarity(
            model.encode_queries(questions, contexts["money"]),
            model.encode_documents(documents, contexts["money"]),
        ),
        "MiniLM": cosine_matrix(encoder.encode(questions), encoder.encode(documents)),
    }
    ndcg = {
        name: retrieval.measure(given, queries["_id"], corpus["_id"], qrels)["nDCG@10"].mean()
        for name, given in scores.items()
    }
    assert ndcg["right"] > ndcg["MiniLM"] - 0.005
    assert ndcg["MiniLM"] == pytest.approx(0.589, abs=0.002)


def test_the_card_shows_every_gain_of_the_small_model_once_and_the_readme_none():
    readme, card = (
        (PROJECT_ROOT / path).read_text(encoding="utf-8")
        for path in ("README.md", "models/mini-cde/README.md")
    )
    for gap in (
        "+1.8 [+0.5, +3.0]",
        "+1.1 [-0.1, +2.2]",
        "+1.2 [+0.0, +2.4]",
        "+0.6 [-0.6, +1.7]",
        "+0.3 [-0.6, +1.3]",
        "-0.2 [-1.3, +0.8]",
    ):
        assert card.count(gap) == 1 and gap not in readme, gap


def test_a_damaged_small_model_is_refused_with_the_command_that_restores_it(tmp_path):
    shutil.copytree(PROJECT_ROOT / "models" / "mini-cde", tmp_path / "mini-cde")
    os.truncate(tmp_path / "mini-cde" / "model.safetensors", 100)
    with pytest.raises(CheckpointError, match="git checkout -- models"):
        MiniCDE.load(tmp_path / "mini-cde")


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {
            "group": f"g{i % 3}",
            "query": f"what is thing {i}?",
            "document": f"Thing {i} is a tool of group {i % 3}.",
        }
        for i in range(40)
    ]
    rows += [{"group": "alone", "query": f"card {i}", "document": None} for i in range(4)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_training_repeats_with_its_seed_and_goes_on_after_a_stop(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    recipe = Recipe(steps=8, batch=8, context=8, rank=2)
    whole = train([pairs], tmp_path / "a", recipe, progress=False).pooling.state_dict()
    real, count = training.step_loss, []

    def stops(*arguments):
        count.append(1)
        if len(count) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "step_loss", stops)
    with pytest.raises(KeyboardInterrupt):
        train([pairs], tmp_path / "b", recipe, progress=False)
    monkeypatch.setattr(training, "step_loss", real)
    resumed = train([pairs], tmp_path / "b", recipe, progress=False).pooling.state_dict()
    for name, value in whole.items():
        assert torch.allclose(value, resumed[name], atol=1e-6), name
    assert not (tmp_path / "b" / "checkpoint.pt").exists()
    assert [
        json.loads(line)["step"]
        for line in (tmp_path / "b" / "train.jsonl").read_text().splitlines()
    ][-1] == 8


def test_pairs_that_cannot_be_read_are_named_by_line(pairs):
    assert len(read_pairs([pairs])) == 42, (
        "two queries of one group are a pair where there is no document"
    )
    pairs.write_text(pairs.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="pairs.jsonl, line 45"):
        read_pairs([pairs])


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """The Hub's cache with tiny weights, named as the published ones, and small data files."""
    import pandas as pd

    cache = tmp_path_factory.mktemp("hub")

    def snapshot(kind, repo, commit):
        root = cache / f"{kind}--{repo.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit, encoding="utf-8")
        (root / "snapshots" / commit).mkdir(parents=True)
        return root / "snapshots" / commit

    minilm = snapshot("models", artifacts.MINILM.repo_id, artifacts.MINILM.revision)
    shutil.copytree(artifacts.bundled_directory(artifacts.MINILM), minilm, dirs_exist_ok=True)
    weights = snapshot("models", hub.CDE_REPO, hub.CDE_REVISION)
    for name in ("config.json", "model.safetensors", "backbone_config.json"):
        shutil.copy(FIXTURES / "modernbert" / name, weights / name)
    words = snapshot("models", hub.CDE_TOKENIZER, "0" * 40)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(FIXTURES / "modernbert" / name, words / name)
    corpus, queries, qrels = retrieval.load_beir(PROJECT_ROOT / "data" / "country")
    data = snapshot("datasets", retrieval.FIQA, "1" * 40)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (data / name).mkdir()
        pd.DataFrame({"_id": rows["_id"], "title": rows["title"], "text": rows["text"]}).to_parquet(
            data / name / f"{name}-00000-of-00001.parquet"
        )
    judged = snapshot("datasets", retrieval.FIQA_QRELS, "2" * 40)
    lines = [f"{q}\t{d}\t{s}" for q, found in qrels.items() for d, s in found.items()]
    (judged / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n", encoding="utf-8"
    )
    return cache


def hub_python(code, cache, tmp_path, **settings):
    """Run code as on the Hub path, with tiny weights (and their counts) for the published ones."""
    prepared = textwrap.dedent("""
        from pathlib import Path
        import helpers, helpers.artifacts as artifacts, helpers.retrieval as retrieval
        from helpers.cde import hub, load_cde
        artifacts.PROJECT_ROOT = Path({folder!r})
        hub.CDE_TENSORS, hub.CDE_PARAMETERS = 76, {parameters}
    """)
    shapes = load_file(FIXTURES / "modernbert" / "model.safetensors")
    prepared = prepared.format(
        folder=str(tmp_path), parameters=sum(value.numel() for value in shapes.values())
    )
    environment = {
        **os.environ,
        **CLEAN_ENVIRONMENT,
        "EMBEDDINGS_SOURCE": "hub",
        "HF_HUB_CACHE": str(cache),
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-c", prepared + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=PROJECT_ROOT,
    )


def test_the_hub_path_loads_model_and_data_in_the_hubs_layout_with_tiny_weights(
    hub_cache, tmp_path
):
    code = """
        model = load_cde()
        corpus, queries, qrels = retrieval.load_fiqa()
        print(type(model).__name__, model.config.transductive_corpus_size, len(corpus))
        print(len(queries), len(qrels), corpus[0]["_id"])
        context = model.embed_context(corpus["text"][:20])
        print(model.encode_queries(queries["text"][:3], context).shape)
    """
    done = hub_python(code, hub_cache, tmp_path)
    assert done.stdout.splitlines() == ["CDE 12 294", "145 145 c0001", "(3, 64)"], done.stderr
    recorded = json.loads((tmp_path / ".cache" / "hub.json").read_text(encoding="utf-8"))
    assert recorded["BeIR/fiqa"]["commit"] == "1" * 40
    assert len(recorded["jxm/cde-small-v2"]["model.safetensors"]) == 64


def test_files_that_differ_from_the_recorded_ones_are_refused(hub_cache, tmp_path):
    assert hub_python("retrieval.load_fiqa()", hub_cache, tmp_path).returncode == 0
    altered = tmp_path / "cache"
    shutil.copytree(hub_cache, altered)
    (path,) = altered.glob("datasets--BeIR--fiqa-qrels/snapshots/*/test.tsv")
    path.write_text(path.read_text(encoding="utf-8") + "cq001\tc0001\t1\n", encoding="utf-8")
    done = hub_python("retrieval.load_fiqa()", altered, tmp_path)
    assert (
        done.returncode == 1
        and "BeIR/fiqa-qrels is not what was first downloaded: test.tsv" in done.stderr
    )


def test_the_published_model_is_refused_when_the_counts_differ(hub_cache, tmp_path):
    done = hub_python("hub.CDE_TENSORS = 280\nload_cde()", hub_cache, tmp_path)
    assert "76 tensors" in done.stderr.strip().splitlines()[-1]


def test_notebook_4_runs_on_the_hub_path_with_tiny_weights(hub_cache, tmp_path):
    import nbformat

    notebook = nbformat.read(PROJECT_ROOT / "notebooks" / "04_cde_bi_encoder.ipynb", as_version=4)
    source = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    (tmp_path / "cells.py").write_text(
        "from IPython.display import display\n" + source, encoding="utf-8"
    )
    run_it = f"import runpy\nrunpy.run_path({str(tmp_path / 'cells.py')!r}, run_name='__main__')"
    done = hub_python(run_it, hub_cache, tmp_path, MPLBACKEND="agg")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "CDE" in done.stdout and "source hub" in done.stdout
