"""The published two-stage model: no remote code, transformers 5, ModernBERT or BERT backbones.

Stage 1 embeds the documents that stand for a corpus. Stage 2 puts their vectors in front of each
text, as if they were tokens. Source: Morris and Rush 2024, arXiv 2410.02525, and the forward pass
of `jxm/cde-small-v2` at its pinned revision.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .encoding import DOCUMENT, QUERY, Context, ContextualEncoder, Stage

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SOFT_PROMPTS = 8
VARIANTS = ("hub", "card")
MODERNBERT_BASE = "answerdotai/ModernBERT-base"


class CheckpointError(RuntimeError):
    """A checkpoint's files do not fit together, or are not the published ones."""


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of (n, t, d) over the tokens whose mask (n, t) is 1: (n, d).

    >>> masked_mean(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2., 3.]])
    """
    mask = mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)


def two_layers(width: int, out: int, between: nn.Module) -> nn.Sequential:
    """Two linear layers with an activation between them."""
    return nn.Sequential(nn.Linear(width, width), between, nn.Linear(width, out))


class FirstStage(nn.Module):
    """A text becomes one vector: (n, t) ids -> (n, d), not normalized.

    Special tokens and the words of the prompt count in the mean.
    """

    def __init__(self, backbone: PreTrainedModel):
        super().__init__()
        self.embedder = backbone
        width: int = backbone.config.hidden_size
        self.mlp = two_layers(width, width, nn.GELU())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.embedder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.mlp(masked_mean(states, attention_mask))


class SecondStage(nn.Module):
    """A text among the vectors of its corpus: (n, t) ids and (k, d) context -> (n, d).

    The result is not normalized. Two variants are public. `hub`, the code that the Hub serves:
    mean of all text tokens. `card`, the model card and the author's later code: the words of the
    prompt are left out of the mean, and the projection is added to it.
    """

    def __init__(
        self, backbone: PreTrainedModel, *, context_size: int, variant: str, colon_id: int | None
    ):
        super().__init__()
        self.backbone = backbone
        self.context_size, self.variant, self.colon_id = context_size, variant, colon_id
        self.width: int = backbone.config.hidden_size
        self.prompt_projection = two_layers(self.width, self.width * SOFT_PROMPTS, nn.ReLU())
        self.output_projection = two_layers(self.width, self.width, nn.ReLU())

    def prefix(self, dataset_embeddings: Tensor) -> Tensor:
        """Context vectors in their order, at most `context_size`, then the soft prompts.

        The order matters, since the backbone's positions are rotary. Shape (k + 8, d), or
        (n, k + 8, d) if every text has a context of its own.

        Raises:
            ValueError: the context has another shape.
        """
        weight = next(self.prompt_projection.parameters())
        context = torch.as_tensor(dataset_embeddings).to(weight)[..., : self.context_size, :]
        if context.shape[-1] != self.width or context.ndim not in (2, 3):
            raise ValueError(
                f"dataset_embeddings must be (k, {self.width}) or (n, k, {self.width}), "
                f"got {tuple(context.shape)}"
            )
        prompts = self.prompt_projection(weight.new_ones(1, self.width))
        prompts = prompts.reshape(SOFT_PROMPTS, self.width).expand(*context.shape[:-2], -1, -1)
        return torch.cat([context, prompts], dim=-2)

    def text_mask(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Which tokens are averaged: (n, t)."""
        if self.variant == "hub" or self.colon_id is None:
            return attention_mask
        colon = input_ids == self.colon_id
        colon[:, 0] = False
        first = colon.int().argmax(dim=1, keepdim=True)  # 0 if there is none
        position = torch.arange(input_ids.shape[1], device=input_ids.device)
        return attention_mask * ((first == 0) | (position > first))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, dataset_embeddings: Tensor
    ) -> Tensor:
        prefix = self.prefix(dataset_embeddings).expand(len(input_ids), -1, -1)
        # normalized here, and once more below together with the prefix: as published
        text = self.backbone.get_submodule("embeddings")(input_ids=input_ids)
        ones = attention_mask.new_ones(prefix.shape[:2])
        states = self.backbone(
            inputs_embeds=torch.cat([prefix, text], dim=1),
            attention_mask=torch.cat([ones, attention_mask], dim=1),
        ).last_hidden_state[:, prefix.shape[1] :]
        mean = masked_mean(states, self.text_mask(input_ids, attention_mask))
        projected = self.output_projection(mean)
        return projected + mean if self.variant == "card" else projected


class CDE(ContextualEncoder):
    """Contextual document embeddings in two stages; see `CDE.load`."""

    prompts: ClassVar[dict[str, str]] = {"query": QUERY, "document": DOCUMENT}

    def __init__(
        self,
        config: SimpleNamespace,
        tokenizer: PreTrainedTokenizerBase,
        backbone_config: PretrainedConfig,
        *,
        variant: str,
        name: str,
    ):
        super().__init__()
        from transformers import AutoModel

        def backbone() -> PreTrainedModel:
            return AutoModel.from_config(backbone_config, attn_implementation="sdpa")

        self.config, self.tokenizer, self.name = config, tokenizer, name
        self.max_length = config.max_seq_length
        self.dimension = backbone_config.hidden_size
        colon: Any = tokenizer.convert_tokens_to_ids(":")  # of one token, one id
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
        backbone_config: PretrainedConfig | dict[str, Any] | str | Path | None = None,
        tokenizer: str | Path | None = None,
    ) -> CDE:
        """The model in a folder of the published layout.

        That is `config.json`, `model.safetensors`, and the tokenizer's files.

        Args:
            variant: `hub` (what the Hub's code computes) or `card` (what the model card describes).
            backbone_config: the backbone's configuration, as object, dictionary or file; without
                it `backbone_config.json` in the folder, or ModernBERT-base if the checkpoint
                names it.
            tokenizer: folder of the tokenizer's files, if they are not in `directory`.

        Raises:
            CheckpointError: a file is missing, or keys, shapes or numbers do not fit. Nothing is
                loaded in part.
            ValueError: an unknown variant.
        """
        directory = Path(directory)
        if variant not in VARIANTS:
            raise ValueError(f"variant {variant!r} is not known; choose one of {VARIANTS}")
        for name in ("config.json", "model.safetensors"):
            if not (directory / name).is_file():
                raise CheckpointError(
                    f"{name} is missing from {directory.name}/; a checkpoint has config.json, "
                    "model.safetensors and tokenizer files"
                )
        config, shape = _read_config(directory, backbone_config)
        model = cls(
            config,
            _read_tokenizer(Path(tokenizer or directory)),
            shape,
            variant=variant,
            name=f"cde:{config.embedder}:{variant}",
        )
        weights = _read_weights(directory)
        _check_weights(weights, model.state_dict())
        model.load_state_dict(weights, strict=True)
        return model.eval()

    def seconds_per_text(self) -> float:
        """From the number of operations, for a passage of 180 tokens behind its prefix.

        2 operations per parameter and token, at 125 GFLOP/s on a CPU and 20 TFLOP/s on a GPU.
        """
        parameters = sum(p.numel() for p in self.second_stage_model.backbone.parameters())
        tokens = 180 + self.config.transductive_corpus_size + SOFT_PROMPTS
        return 2 * parameters * tokens / (125e9 if self.device.type == "cpu" else 20e12)

    def _stage_1(self, count: int) -> Stage:
        return Stage(self.first_stage_model)

    def _stage_2(self, context: Context | None, count: int) -> Stage:
        vectors = torch.empty(0, self.dimension) if context is None else context.vectors
        vectors = vectors.to(self.device)
        prefix = min(len(vectors), self.config.transductive_corpus_size) + SOFT_PROMPTS
        return Stage(partial(self.second_stage_model, dataset_embeddings=vectors), prefix)


def _read_config(directory: Path, backbone_config: Any) -> tuple[SimpleNamespace, PretrainedConfig]:
    """The model's configuration and its backbone's."""
    try:
        text = (directory / "config.json").read_text(encoding="utf-8")
        config = SimpleNamespace(**json.loads(text))
        shape = _backbone_config(backbone_config, directory, config.embedder)
        needed = (config.transductive_corpus_size, config.max_seq_length)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"config.json of {directory.name}/ cannot be used: {error}"
        ) from error
    if not all(isinstance(number, int) and number > 0 for number in needed):
        raise CheckpointError(
            "config.json: transductive_corpus_size and max_seq_length must be whole numbers above 0"
        )
    return config, shape


def _backbone_config(given: Any, directory: Path, embedder: str) -> PretrainedConfig:
    from transformers import AutoConfig, ModernBertConfig, PretrainedConfig

    if isinstance(given, PretrainedConfig):
        return given
    stored = directory / "backbone_config.json"
    if given is None and stored.is_file():
        given = stored
    if isinstance(given, (str, Path)):
        given = json.loads(Path(given).read_text(encoding="utf-8"))
    if given is not None:
        return AutoConfig.for_model(**given)
    if embedder == MODERNBERT_BASE:
        return ModernBertConfig()  # its defaults are those of ModernBERT-base
    raise CheckpointError(
        f"the backbone {embedder!r} is not known here: "
        "pass backbone_config=... with its configuration"
    )


def _read_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    # not AutoTokenizer, which would ask to run the code that config.json names
    from transformers import PreTrainedTokenizerFast

    if not (directory / "tokenizer.json").is_file():
        raise CheckpointError(f"tokenizer.json is missing from {directory.name}/")
    return PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)


def _read_weights(directory: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(directory / "model.safetensors"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"model.safetensors of {directory.name}/ is cut or damaged: {error}"
        ) from error


def _check_weights(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Names and shapes must be exactly those that the configuration asks for."""
    missing, extra = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing or extra:
        raise CheckpointError(
            f"model.safetensors does not fit config.json: missing {missing[:3]} ({len(missing)}), "
            f"unknown {extra[:3]} ({len(extra)})"
        )
    wrong = [
        f"{name}: {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if weights[name].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"model.safetensors does not fit config.json: {wrong[0]} ({len(wrong)} tensors)"
        )
