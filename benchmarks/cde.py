"""Both stages of the published architecture, the size of MiniLM, against the model card's loop."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import torch
from transformers import ModernBertConfig

from helpers.artifacts import load_encoder
from helpers.cde import CDE, Context
from helpers.cde.native import SOFT_PROMPTS

from .harness import Row, part, timed
from .texts import mixed

CONTEXT, TEXTS, MAX_TOKENS, CARD_BATCH = 512, 192, 512, 32


def random_model() -> CDE:
    """Random weights and MiniLM's tokenizer.

    Each backbone has 10.6 million parameters, as many as MiniLM without its token table.
    """
    encoder = load_encoder()
    special = {
        "pad_token_id": 0,
        "cls_token_id": 101,
        "sep_token_id": 102,
        "bos_token_id": 101,
        "eos_token_id": 102,
    }
    backbone = ModernBertConfig(
        vocab_size=30_522,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=12,
        **special,
    )
    config = SimpleNamespace(
        embedder="random", transductive_corpus_size=CONTEXT, max_seq_length=MAX_TOKENS
    )
    torch.manual_seed(0)
    return (
        CDE(config, encoder.tokenizer, backbone, variant="hub", name="random")
        .eval()
        .requires_grad_(False)
        .to(encoder.device)
    )


@torch.inference_mode()
def card(
    model: CDE, texts: list[str], dataset_embeddings: torch.Tensor | None = None
) -> torch.Tensor:
    """What the card shows: texts padded to the longest of all, batches of 32 in the given order."""
    prompted = [model.prompts["document"] + text for text in texts]
    tokens = model.tokenizer(
        prompted, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    ).to(model.device)
    made = []
    for start in range(0, len(texts), CARD_BATCH):
        batch = {
            name: tokens[name][start : start + CARD_BATCH]
            for name in ("input_ids", "attention_mask")
        }
        if dataset_embeddings is None:
            made.append(model.first_stage_model(**batch))
        else:
            made.append(model.second_stage_model(**batch, dataset_embeddings=dataset_embeddings))
    return torch.cat(made).float().cpu()


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors, dim=1).numpy()


def run() -> list[Row]:
    model, drawn = random_model(), mixed(CONTEXT + TEXTS)
    of_corpus, texts = drawn[:CONTEXT], drawn[CONTEXT:]
    lengths = [
        len(ids)
        for ids in model.tokenizer(drawn, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    ]
    print(
        f"context of {CONTEXT} texts, {TEXTS} texts; tokens per text: mean {np.mean(lengths):.0f}, "
        f"median {np.median(lengths):.0f}, {min(lengths)} to {max(lengths)}",
        flush=True,
    )
    model.encode_documents(texts[:2], model.embed_context(of_corpus[:8]))  # warm up
    found: dict[str, tuple[Context | torch.Tensor, np.ndarray]] = {}

    def ours(precision: str = "float32") -> None:
        context = model.embed_context(of_corpus, precision=precision)
        found[precision] = context, model.encode_documents(texts, context, precision=precision)

    def theirs() -> None:
        context = card(model, of_corpus)
        found["card"] = context, unit(card(model, texts, context))

    narrow, seconds = timed(lambda: ours("bfloat16"), repeats=1), timed(ours, repeats=3)
    other = timed(theirs, repeats=1)
    (context, vectors), (their_context, their_vectors) = found["float32"], found["card"]
    away = max(
        float((context.vectors - their_context).abs().max()),
        float(np.abs(vectors - their_vectors).max()),
    )
    cosine = float((found["bfloat16"][1] * vectors).sum(axis=1).min())
    padded = CONTEXT * max(lengths) + TEXTS * (max(lengths) + CONTEXT + SOFT_PROMPTS)
    needed = sum(lengths) + TEXTS * (CONTEXT + SOFT_PROMPTS)
    print(
        f"tokens that have to be computed: {needed:,}; with the card's padding: {padded:,}, "
        f"{padded / needed:.2f} times as many",
        flush=True,
    )
    shortest, longest = min(lengths), max(lengths)
    return [
        Row(
            what="CDE stages 1 and 2, MiniLM-sized random weights: "
            f"context of {CONTEXT}, {TEXTS} texts of {shortest} to {longest} tokens",
            against="the loop of the model's card, fp32",
            ours=seconds,
            theirs=other,
            unit="s",
            floor=2.5,
            goal=4,
            claims={f"vectors differ by {away:.0e} (at most 1e-05)": away <= 1e-5},
        ),
        Row(
            what='the same with `precision="bfloat16"`',
            against="ours in fp32",
            ours=narrow,
            theirs=seconds,
            unit="s",
            floor=None,
            goal=None,
            claims={f"smallest cosine to the fp32 vector of the same text: {cosine:.5f}": True},
        ),
    ]


if __name__ == "__main__":
    sys.exit(part(run))
