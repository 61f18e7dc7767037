"""The small contextual model: what it keeps, what it leaves alone, what its card promises."""

import copy
import gc
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from helpers import PROJECT_ROOT, retrieval
from helpers.cde import CheckpointError, MiniCDE, load_mini_cde, mini, shared_text
from helpers.cde.evaluate import measure_model
from helpers.cde.local_idf import LocalIDFPooling
from tests.support.checkpoints import TEXTS

DATA = PROJECT_ROOT / "data"


@pytest.fixture
def prepared(monkeypatch):
    """The contexts that were prepared, in turn."""
    calls = []
    prepare = LocalIDFPooling.prepare

    def noted(self, context, device):
        calls.append(context)
        return prepare(self, context, device)

    monkeypatch.setattr(LocalIDFPooling, "prepare", noted)
    return calls


def test_a_context_is_prepared_once_and_reused_by_every_batch(prepared):
    model = load_mini_cde()
    context = model.embed_context(TEXTS)
    reused = model.encode_documents(TEXTS, context, batch_size=1)
    model.encode_queries(TEXTS[:2], context)
    model.token_weights(TEXTS, context)
    assert prepared == [context]
    anew = model.pooling.prepare(context, model.device)
    with torch.inference_mode():
        vectors = model.second_stage_model(*model.as_batch(model.token_ids(TEXTS)), anew)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    assert np.abs(vectors.cpu().numpy() - reused).max() < 1e-6


def test_without_a_context_the_vectors_are_those_of_minilm(encoder):
    texts = [*TEXTS, "", "interest " * 1_000, "[SEP] [PAD] [UNK] \u94f6"]
    basic, model = encoder.encode(texts), load_mini_cde()
    for encode in (model.encode_documents, model.encode_queries):
        assert np.abs(encode(texts) - basic).max() < 1e-6
    for tokens, shares in model.token_weights(texts):
        assert shares == pytest.approx(1 / len(tokens))


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
    return own, MiniCDE(own, load_mini_cde().config).eval()


def test_dropped_contexts_do_not_pile_up(pair):
    _, model = pair
    for i in range(5):
        context = model.embed_context([*TEXTS, f"text number {i}"])
        model.encode_documents(TEXTS, context)
    gc.collect()
    assert list(model._prepared) == [context]
    del context
    gc.collect()
    assert not model._prepared


def test_a_small_model_that_has_prepared_a_context_can_be_pickled_and_copied(pair):
    _, model = pair
    context = model.embed_context(TEXTS)
    before = model.encode_documents(TEXTS, context)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):  # noqa: S301
        assert np.array_equal(again.encode_documents(TEXTS, context), before)
        assert again.encode_documents(TEXTS, context).context == context.name


def test_training_mode_of_the_encoder_leaves_the_small_models_vectors_alone(pair):
    encoder, model = pair
    context = model.embed_context(TEXTS)
    before, basic = model.encode_documents(TEXTS, context), encoder.encode(TEXTS)
    for mode in (encoder.train, encoder.transformers_model.train):
        mode()
        assert encoder.transformers_model.encoder.training
        model.second_stage_model.tokens.forget()
        assert np.array_equal(model.encode_documents(TEXTS, context), before)
        made_now = MiniCDE(encoder, model.config)
        assert np.array_equal(made_now.encode_documents(TEXTS, context), before)
        assert encoder.transformers_model.encoder.training, "nor is the encoder set back"
        encoder.eval()
    encoder.transformers_model.train()
    batch = model.as_batch(model.token_ids(TEXTS))
    noisy = encoder.transformers_model(*batch).last_hidden_state
    assert (noisy - encoder.eval().transformers_model(*batch).last_hidden_state).abs().max() > 0.1
    assert np.array_equal(encoder.encode(TEXTS), basic)


def test_what_is_done_to_the_small_model_leaves_the_encoder_alone(pair):
    encoder, model = pair
    context = model.embed_context(TEXTS)
    basic, before = encoder.encode(TEXTS), model.encode_documents(TEXTS, context)
    assert all(p.requires_grad for p in encoder.parameters()), "loading freezes nothing"
    model.train().requires_grad_(False).to(torch.float64)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    assert np.array_equal(encoder.encode(TEXTS), basic)
    assert np.abs(model.encode_documents(TEXTS, context) - before).max() < 1e-5, "it still works"


def test_the_small_model_works_on_an_encoder_that_was_moved(pair, prepared):
    encoder, model = pair
    context = model.embed_context(TEXTS)
    before = model.encode_documents(TEXTS, context)
    encoder.to(torch.float64)
    model.second_stage_model.tokens.forget()
    assert np.abs(model.encode_documents(TEXTS, context) - before).max() < 1e-5
    assert len(prepared) == 1
    encoder.to("meta")  # a device that every machine has, though it computes nothing
    assert model._prepare(context).vectors.device == torch.device("meta")
    assert model._prepare(context).held.table.device == torch.device("meta")
    assert len(prepared) == 2


def test_the_small_model_has_no_parameters_of_its_own(pair):
    _, model = pair
    assert not list(model.parameters()) and not list(model.buffers())
    assert [name for name, _ in model.named_children()] == [
        "first_stage_model",
        "second_stage_model",
    ]
    assert repr(model).count("BertModel(") == 1 and "LocalIDFPooling(sharpness=" in repr(model)


def test_the_state_of_the_small_model_identifies_backbone_and_constants(pair):
    encoder, model = pair

    def state(model):
        (name, value), *more = model.state_dict().items()
        assert name == "_extra_state" and not more
        return value.tolist()

    shipped = model.state_dict()
    assert state(model) == state(load_mini_cde())
    for name, value in {"smoothing": 0.3, "strength": [1.0, 2.0], "max_seq_length": 128}.items():
        config = copy.copy(model.config)
        setattr(config, name, value)
        other = MiniCDE(encoder, config)
        assert state(other) != state(model), name
        with pytest.raises(CheckpointError, match="another backbone or constants"):
            other.load_state_dict(shipped)
    model.load_state_dict(shipped)
    with torch.no_grad():
        next(encoder.transformers_model.parameters()).add_(1)
    assert state(model) != state(load_mini_cde())
    with pytest.raises(CheckpointError, match="another backbone or constants"):
        model.load_state_dict(shipped)


def test_token_shares_sum_to_one_and_rebuild_the_vector():
    model = load_mini_cde()
    context = model.embed_context(TEXTS)
    vectors = model.encode_documents(TEXTS, context)
    for row, (tokens, shares) in enumerate(model.token_weights(TEXTS, context)):
        assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]") and len(tokens) == len(shares)
        assert shares.sum() == pytest.approx(1, abs=1e-5) and shares.min() > 0
        batch = model.as_batch(model.token_ids([TEXTS[row]]))
        states = model.second_stage_model.tokens(*batch)[0].cpu()
        rebuilt = torch.nn.functional.normalize((shares[:, None] * states).sum(0), dim=0)
        assert rebuilt.numpy() == pytest.approx(np.asarray(vectors[row]), abs=1e-5)


def test_token_vectors_average_to_the_vector_and_are_copies_of_those_kept(computed):
    model = load_mini_cde()
    texts = [*TEXTS, ""]
    basic = model.encode_documents(texts)
    computed.clear()
    found = [vectors.numpy() for vectors in model.token_vectors(texts)]
    assert not computed, "they were kept"
    assert [len(vectors) for vectors in found] == [len(ids) for ids in model.token_ids(texts)]
    means = np.stack([vectors.mean(axis=0) for vectors in found])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert np.abs(means - basic).max() < 1e-6
    for vectors in found:
        vectors[:] = 0
    assert np.array_equal(model.encode_documents(texts), basic)


def test_half_the_precision_gives_nearly_the_same_vectors_in_a_context():
    model = load_mini_cde()
    context = model.embed_context(TEXTS)
    narrow = model.encode_documents(TEXTS, context, precision="bfloat16")
    whole = model.encode_documents(TEXTS, context)
    assert np.asarray(narrow * whole).sum(axis=1).min() > 0.999


def test_the_shipped_model_is_a_few_constants():
    directory = PROJECT_ROOT / "models" / "mini-cde"
    assert sum(path.stat().st_size for path in directory.iterdir()) < 100_000
    assert set(json.loads((directory / "config.json").read_text("utf-8"))) == set(mini.FIELDS)


def change(**fields):
    """Write fields into a configuration; None takes one out."""

    def spoil(path):
        config = json.loads(path.read_text(encoding="utf-8")) | fields
        kept = {name: value for name, value in config.items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: os.truncate(path, 100), r"config\.json of small/ cannot be read"),
        (lambda path: path.unlink(), r"config\.json of small/ cannot be read \(FileNotFoundError"),
        (lambda path: path.write_text("null"), "cannot be read"),
        (lambda path: path.write_text("[]"), "no usable backbone"),
        (change(smoothing=None), "no usable smoothing"),
        (change(backbone=6), "no usable backbone"),
        (change(max_seq_length="256"), "no usable max_seq_length"),
        (change(max_seq_length=True), "no usable max_seq_length"),
        (change(transductive_corpus_size=0), "no usable transductive_corpus_size"),
        (change(sharpness=-5.0), "no usable sharpness"),
        (change(sharpness=float("nan")), "no usable sharpness"),
        (change(strength=2.8), "no usable strength"),
        (change(strength=[0.8, 1.0, 2.8]), "no usable strength"),
        (change(strength=[2.8, 0.8]), "no usable strength"),
        (change(shared=["0.05", "0.2"]), "no usable shared"),
    ],
)
def test_a_damaged_configuration_is_refused_with_the_command_that_restores_it(
    tmp_path, spoil, message
):
    directory = shutil.copytree(PROJECT_ROOT / "models" / "mini-cde", tmp_path / "small")
    assert MiniCDE.load(directory).pooling.strength == load_mini_cde().pooling.strength
    spoil(directory / "config.json")
    with pytest.raises(CheckpointError, match=f"{message}.*git checkout -- models"):
        MiniCDE.load(directory)


# --- on the bundled collections -------------------------------------------------------------------


@pytest.fixture(scope="module")
def contexts():
    """A context of each bundled collection."""
    return {
        name: load_mini_cde().embed_context(retrieval.texts(retrieval.load_beir(DATA / name)[0]))
        for name in ("money", "country", "notices")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "heavier"),
    [("interest", "country"), ("bank", "country"), ("leaves", "money"), ("spade", "money")],
)
def test_a_word_weighs_less_in_the_context_where_it_is_frequent(contexts, word, heavier):
    model = load_mini_cde()
    token = model.tokenizer.convert_tokens_to_ids(word)
    passage = (
        "The bank pays interest on the money in your account, "
        "and takes a fee when somebody leaves a spade at the counter."
    )
    share, frequency = {}, {}
    for name in ("money", "country"):
        ((tokens, shares),) = model.token_weights([passage], contexts[name])
        share[name] = shares[tokens.index(word)].item()
        frequency[name] = np.mean([token in ids for ids in contexts[name].tokens])
    assert max(share, key=share.get) == min(frequency, key=frequency.get) == heavier
    assert max(share.values()) > 1.1 * min(share.values())


@pytest.mark.slow
def test_in_their_context_the_template_of_every_notice_weighs_less_than_its_own(contexts):
    model = load_mini_cde()
    lines = (DATA / "notices" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][::8]
    weighed = model.token_weights([row["text"] for row in rows], contexts["notices"])
    for row, (_, shares) in zip(rows, weighed, strict=True):
        start, end = row["metadata"]["own"]
        places = model.tokenizer(row["text"], return_offsets_mapping=True)["offset_mapping"]
        own = np.array([start <= a < end for a, _ in places])
        words = np.array([a < b for a, b in places])  # special tokens have no place
        means = [shares[torch.from_numpy(part & words)].mean() for part in (own, ~own)]
        assert means[0] > 3 * means[1], row["_id"]


@pytest.mark.slow
def test_the_constants_turn_the_model_up_on_notices_and_down_elsewhere(contexts):
    pooling = load_mini_cde().pooling
    found = {name: pooling.exponent(shared_text(context)) for name, context in contexts.items()}
    gentle, strong = pooling.strength
    assert found == {"money": gentle, "country": gentle, "notices": strong}


def gains(collection, wrong, **options):
    """Points of nDCG@10 by which the right context beats MiniLM and a wrong context."""
    found = measure_model(load_mini_cde(), DATA / collection, DATA / wrong, **options)
    mean = {name: 100 * table["nDCG@10"].mean() for name, table in found.items()}
    assert mean["no context"] == pytest.approx(mean["MiniLM"], abs=0.01)
    return mean["right context"] - mean["MiniLM"], mean["right context"] - mean["wrong context"]


@pytest.mark.slow
def test_on_notices_the_right_context_is_worth_several_points():
    over_minilm, over_wrong = gains("notices", "money", split="dev", seeds=(0,))
    assert over_minilm >= 8 and over_wrong >= 5


@pytest.mark.slow
def test_on_money_the_right_context_costs_at_most_half_a_point():
    over_minilm, _ = gains("money", "country", seeds=(0,))
    assert over_minilm >= -0.5
