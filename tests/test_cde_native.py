"""The native two-stage model against the author's code, and checkpoints that do not fit."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.cde import CDE, CheckpointError
from tests.support.checkpoints import CHECKPOINTS

BACKBONES = ("modernbert", "bert")


@pytest.fixture(scope="module", params=BACKBONES)
def reference(request):
    """A tiny checkpoint in the published layout, and what the author's code computes with it."""
    return CHECKPOINTS / request.param, load_file(
        CHECKPOINTS / request.param / "reference.safetensors"
    )


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


def test_none_of_the_known_mistakes_is_made(reference):
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
    shutil.copytree(CHECKPOINTS / "bert", tmp_path / "bert")
    return tmp_path / "bert"


def edit_config(path, **changes):
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")


def edit_weights(path, change):
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
        (lambda p: edit_config(p, transductive_corpus_size=0), "above 0"),
        (
            lambda p: edit_weights(p, lambda w: w.pop("first_stage_model.mlp.0.bias")),
            "missing .*mlp.0.bias",
        ),
        (lambda p: edit_weights(p, lambda w: w.update(extra=torch.zeros(1))), "unknown .*extra"),
        (
            lambda p: edit_weights(
                p, lambda w: w.update({"first_stage_model.mlp.0.bias": torch.zeros(3)})
            ),
            "instead of",
        ),
        (
            lambda p: ((p / "backbone_config.json").unlink(), edit_config(p, embedder="else")),
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
