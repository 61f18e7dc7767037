"""The published two-stage model, written out: no remote code, transformers 5, ModernBERT and BERT backbones.

Stage 1 embeds the documents that stand for a corpus. Stage 2 puts their vectors, as if they were tokens, in front of each text.
Source: Morris and Rush 2024, arXiv 2410.02525, and the forward pass of `jxm/cde-small-v2` at its pinned revision.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .encoding import DOCUMENT, QUERY, Context, ContextualEncoder

SOFT_PROMPTS = 8
VARIANTS = ("hub", "card")
MODERNBERT_BASE = "answerdotai/ModernBERT-base"


class CheckpointError(RuntimeError):
    """A checkpoint's files do not fit together, or are not the published ones."""


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of (n, t, d) over the tokens whose mask (n, t) is 1: (n, d)."""
    mask = mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)


def two_layers(width: int, out: int, between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), between, nn.Linear(width, out))


class FirstStage(nn.Module):
    """A text becomes one vector: (n, t) ids -> (n, d). Special tokens and the prompt's words count; no normalisation."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.embedder = backbone
        width = backbone.config.hidden_size
        self.mlp = two_layers(width, width, nn.GELU())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.embedder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.mlp(masked_mean(states, attention_mask))


class SecondStage(nn.Module):
    """A text among the vectors of its corpus: (n, t) ids and (k, d) context -> (n, d), not normalised.

    Two variants are public. `hub`, the code that the Hub serves: mean of all text tokens. `card`, the model card and the author's
    later code: the words of the prompt are left out of the mean, and the projection is added to it.
    """

    def __init__(
        self, backbone: nn.Module, *, context_size: int, variant: str, colon_id: int | None
    ):
        super().__init__()
        self.backbone = backbone
        self.context_size, self.variant, self.colon_id = context_size, variant, colon_id
        width = backbone.config.hidden_size
        self.prompt_projection = two_layers(width, width * SOFT_PROMPTS, nn.ReLU())
        self.output_projection = two_layers(width, width, nn.ReLU())

    def prefix(self, dataset_embeddings: Tensor) -> Tensor:
        """Context vectors in their order, at most `context_size`, then the soft prompts: (k + 8, d). Order matters: rotary is on."""
        context = torch.as_tensor(dataset_embeddings)
        weight = self.prompt_projection[0].weight
        context = context.to(device=weight.device, dtype=weight.dtype)[..., : self.context_size, :]
        width = weight.shape[1]
        if context.shape[-1] != width or context.ndim not in (2, 3):
            raise ValueError(
                f"dataset_embeddings must be (k, {width}) or (n, k, {width}), got {tuple(context.shape)}"
            )
        prompts = self.prompt_projection(weight.new_ones(1, width)).reshape(SOFT_PROMPTS, width)
        return torch.cat([context, prompts.expand(*context.shape[:-2], -1, -1)], dim=-2)

    def text_mask(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Which tokens are averaged: (n, t)."""
        if self.variant == "hub" or self.colon_id is None:
            return attention_mask
        colon = input_ids == self.colon_id
        colon[:, 0] = False
        first = colon.int().argmax(dim=1, keepdim=True)  # 0 where there is none
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        return attention_mask * ((first == 0) | (place > first))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, dataset_embeddings: Tensor
    ) -> Tensor:
        prefix = self.prefix(dataset_embeddings)
        prefix = prefix.expand(len(input_ids), -1, -1)
        text = self.backbone.embeddings(
            input_ids=input_ids
        )  # normed here, and again below with the prefix: as published
        ones = attention_mask.new_ones(prefix.shape[:2])
        states = self.backbone(
            inputs_embeds=torch.cat([prefix, text], dim=1),
            attention_mask=torch.cat([ones, attention_mask], dim=1),
        ).last_hidden_state[:, prefix.shape[1] :]
        mean = masked_mean(states, self.text_mask(input_ids, attention_mask))
        return self.output_projection(mean) + (mean if self.variant == "card" else 0)


def _backbone_config(given: Any, directory: Path, embedder: str) -> Any:
    from transformers import AutoConfig, ModernBertConfig, PretrainedConfig

    if isinstance(given, PretrainedConfig):
        return given
    if isinstance(given, (str, Path)):
        given = json.loads(Path(given).read_text(encoding="utf-8"))
    if given is None and (directory / "backbone_config.json").is_file():
        given = json.loads((directory / "backbone_config.json").read_text(encoding="utf-8"))
    if given is not None:
        return AutoConfig.for_model(**given)
    if embedder == MODERNBERT_BASE:
        return ModernBertConfig()  # its defaults are those of ModernBERT-base
    raise CheckpointError(
        f"the backbone {embedder!r} is not known here: pass backbone_config=... with its configuration"
    )


class CDE(ContextualEncoder):
    """Contextual document embeddings in two stages; see `CDE.load`."""

    prompts: ClassVar[dict[str, str]] = {"query": QUERY, "document": DOCUMENT}

    def __init__(
        self,
        config: SimpleNamespace,
        tokenizer: Any,
        backbone_config: Any,
        *,
        variant: str,
        name: str,
    ):
        super().__init__()
        from transformers import AutoModel

        def backbone() -> nn.Module:
            return AutoModel.from_config(backbone_config, attn_implementation="sdpa")

        self.config, self.tokenizer, self.name = config, tokenizer, name
        self.max_length = config.max_seq_length
        self.dimension = backbone_config.hidden_size
        colon = tokenizer.convert_tokens_to_ids(":") if tokenizer is not None else None
        self.first_stage_model = FirstStage(backbone())
        self.second_stage_model = SecondStage(
            backbone(),
            context_size=config.transductive_corpus_size,
            variant=variant,
            colon_id=colon,
        )

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        variant: str = "hub",
        backbone_config: Any = None,
        tokenizer: str | Path | None = None,
    ) -> CDE:
        """The model in a folder of the published layout: `config.json`, `model.safetensors`, tokenizer files.

        Args:
            variant: `hub` (what the Hub's code computes) or `card` (what the model card describes).
            backbone_config: configuration of the backbone (object, dictionary or file); ModernBERT-base when the
                checkpoint says so.
            tokenizer: folder of the tokenizer's files, when they are not in `directory`.

        Raises:
            CheckpointError: a file is missing, or keys, shapes or numbers do not fit; nothing is loaded partly.
            ValueError: an unknown variant.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import (
            PreTrainedTokenizerFast,
        )  # AutoTokenizer would ask to run the code that config.json names

        directory = Path(directory)
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r} is not known; choose one of {VARIANTS}")
        for name in ("config.json", "model.safetensors"):
            if not (directory / name).is_file():
                raise CheckpointError(
                    f"{name} is missing from {directory.name}/; a checkpoint has config.json, model.safetensors and tokenizer files"
                )
        try:
            config = SimpleNamespace(
                **json.loads((directory / "config.json").read_text(encoding="utf-8"))
            )
            shape = _backbone_config(backbone_config, directory, config.embedder)
            needed = (config.transductive_corpus_size, config.max_seq_length)
        except (ValueError, AttributeError, KeyError) as error:
            raise CheckpointError(
                f"config.json of {directory.name}/ cannot be used: {error}"
            ) from error
        if not all(isinstance(number, int) and number > 0 for number in needed):
            raise CheckpointError(
                "config.json: transductive_corpus_size and max_seq_length must be whole numbers above 0"
            )
        words = Path(tokenizer or directory)
        if not (words / "tokenizer.json").is_file():
            raise CheckpointError(f"tokenizer.json is missing from {words.name}/")
        words = PreTrainedTokenizerFast.from_pretrained(str(words), local_files_only=True)
        model = cls(config, words, shape, variant=variant, name=f"cde:{config.embedder}:{variant}")
        try:
            weights = load_file(str(directory / "model.safetensors"))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"model.safetensors of {directory.name}/ is cut or damaged: {error}"
            ) from error
        model._check(weights)
        model.load_state_dict(weights, strict=True)
        return model.eval()

    def _check(self, weights: dict[str, Tensor]) -> None:
        """Keys and shapes must be exactly those that the configuration asks for."""
        expected = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        missing, extra = (
            sorted(expected.keys() - weights.keys()),
            sorted(weights.keys() - expected.keys()),
        )
        if missing or extra:
            raise CheckpointError(
                f"model.safetensors does not fit config.json: missing {missing[:3]} ({len(missing)}), unknown {extra[:3]} ({len(extra)})"
            )
        wrong = [
            f"{name}: {tuple(weights[name].shape)} instead of {shape}"
            for name, shape in expected.items()
            if tuple(weights[name].shape) != shape
        ]
        if wrong:
            raise CheckpointError(
                f"model.safetensors does not fit config.json: {wrong[0]} ({len(wrong)} tensors)"
            )

    def seconds_per_text(self) -> float:
        """From operations: 2 a parameter and token of a 180-token passage behind its prefix, at 125 GFLOP/s on a CPU, 20 TFLOP/s on a GPU."""
        parameters = sum(p.numel() for p in self.second_stage_model.backbone.parameters())
        tokens = 180 + self.config.transductive_corpus_size + SOFT_PROMPTS
        return 2 * parameters * tokens / (125e9 if self.device.type == "cpu" else 20e12)

    def _prefix(self, context: Context | None) -> int:
        return SOFT_PROMPTS + (
            0 if context is None else min(len(context), self.config.transductive_corpus_size)
        )

    def _stage_1(self, batch: dict[str, Tensor]) -> Tensor:
        return self.first_stage_model(**batch)

    def _stage_2(self, batch: dict[str, Tensor], prepared: Tensor | None) -> Tensor:
        if prepared is None:
            prepared = torch.empty(0, self.dimension, device=self.device)
        return self.second_stage_model(**batch, dataset_embeddings=prepared)
