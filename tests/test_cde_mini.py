"""The small contextual model: what it keeps, what it leaves alone, what its card promises."""

import copy
import os
import shutil

import numpy as np
import pytest
import torch

from helpers import PROJECT_ROOT, retrieval
from helpers.cde import CheckpointError, MiniCDE, load_mini_cde, mini, similarity
from helpers.similarity import cosine_matrix
from tests.support.checkpoints import TEXTS


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
        made_now = MiniCDE(encoder, model.config)
        made_now.pooling.load_state_dict(model.pooling.state_dict())
        assert np.array_equal(made_now.encode_documents(TEXTS), before)
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
    batch = model.as_batch(model.token_ids(TEXTS))
    for keep in (True, False):
        model.zero_grad()
        model.second_stage_model(*batch, keep=keep).sum().backward()
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
def collections():
    """The small model, and a context of each bundled collection."""
    model = load_mini_cde()
    texts = {
        name: retrieval.texts(retrieval.load_beir(PROJECT_ROOT / "data" / name)[0])
        for name in ("money", "country")
    }
    return model, {name: model.embed_context(given) for name, given in texts.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "heavier"),
    [("interest", "country"), ("savings", "country"), ("gardener", "money"), ("spade", "money")],
)
def test_a_word_weighs_less_in_the_context_that_is_full_of_its_kind(collections, word, heavier):
    model, contexts = collections
    passage = (
        "The bank pays interest on the money in your savings account, "
        "and takes a fee when a gardener leaves his spade at the counter."
    )
    share = {}
    for name, context in contexts.items():
        ((tokens, shares),) = model.token_weights([passage], context)
        share[name] = shares[tokens.index(word)].item()
    assert max(share, key=share.get) == heavier and max(share.values()) > 1.1 * min(share.values())


@pytest.mark.slow
def test_on_money_the_right_context_costs_nothing_against_minilm(collections, encoder):
    """No gain is claimed there (see the model's card), but no loss above half a point either."""
    model, contexts = collections
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
