"""A small contextual model on frozen `all-MiniLM-L6-v2`, trained for this series: same two stages, runs on a laptop.

Stage 1 is MiniLM itself. Stage 2 is **soft-IDF pooling**: instead of the plain mean, a token counts the less, the more documents of the
corpus resemble it. It is inverse document frequency without counting words, learned from pairs of texts.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .. import PROJECT_ROOT
from ..tokens import check_texts
from .encoding import Context, ContextualEncoder
from .native import CheckpointError, masked_mean

DIRECTORY = PROJECT_ROOT / "models" / "mini-cde"
WIDTH = 384
KEPT_TEXTS = 1_000  # of more texts nothing is kept: they would push each other out, and leave the memory in pieces
KEPT_BYTES = 140_000_000  # token vectors kept for another context: some 90,000 tokens, both bundled collections
FIELDS = {"backbone": str, "transductive_corpus_size": int, "max_seq_length": int, "rank": int}


class TokenStates(nn.Module):
    """The frozen backbone. A text's token vectors do not depend on its corpus, so they are kept: another context costs the pooling only."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self.bytes, self.keeping = 0, True

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, t) ids, padded at the end -> token vectors (n, t, 384), zero where padded."""
        if not self.keeping:
            states = self.backbone(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state.float()
            return states * attention_mask.unsqueeze(-1)
        lengths = attention_mask.sum(dim=1).tolist()
        precision = b"bfloat16" if torch.is_autocast_enabled(input_ids.device.type) else b""
        names = [
            precision + ids[:length].tobytes()
            for ids, length in zip(input_ids.cpu().numpy(), lengths, strict=True)
        ]
        missing = [row for row, name in enumerate(names) if name not in self.kept]
        if missing:
            made = self.backbone(
                input_ids=input_ids[missing], attention_mask=attention_mask[missing]
            ).last_hidden_state
            for row, states in zip(missing, made, strict=True):
                self._keep(names[row], states[: lengths[row]].float().clone())
        rows = [self.kept[name] for name in names]
        while self.bytes > KEPT_BYTES and len(self.kept) > 1:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def forget(self) -> None:
        """Drop what is kept."""
        self.kept.clear()
        self.bytes = 0

    def _keep(self, name: bytes, states: Tensor) -> None:
        if name not in self.kept:
            self.kept[name] = states
            self.bytes += states.nbytes


class MiniFirstStage(nn.Module):
    """A document becomes its ordinary MiniLM vector: (n, t) ids -> (n, 384), of length 1."""

    def __init__(self, tokens: TokenStates):
        super().__init__()
        self.tokens = tokens

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return normalize(masked_mean(self.tokens(input_ids, attention_mask), attention_mask), dim=1)


class SoftIDFPooling(nn.Module):
    """Token vectors (n, t, d) and context keys (k, d) -> sentence vectors (n, d), of length 1.

    The weight of token t is the softmax over the tokens of

        score . h_t  -  gamma * log sum_k exp(tau * <M h_t, c_k>)

    with h_t the token's vector of length 1, c_k the context and M = diagonal + low rank. Untrained (score 0, gamma 0) it is the plain mean.
    """

    def __init__(self, width: int, rank: int):
        super().__init__()
        self.score = nn.Parameter(torch.zeros(width))
        self.gamma = nn.Parameter(torch.tensor(0.15))
        self.log_tau = nn.Parameter(torch.tensor(20.0).log())
        self.diagonal = nn.Parameter(torch.ones(width))
        self.left = nn.Parameter(torch.zeros(width, rank))
        self.right = nn.Parameter(torch.randn(rank, width) * width**-0.5)

    def extra_repr(self) -> str:
        width, rank = self.left.shape
        return f"width={width}, rank={rank}, {sum(p.numel() for p in self.parameters()):,} parameters, gamma={self.gamma.item():.2f}, tau={self.log_tau.exp().item():.1f}"

    def keys(self, context: Tensor) -> Tensor:
        """tau * M^T c for every context vector (..., k, d): all that stage 2 needs of a corpus, computed once."""
        return self.log_tau.exp() * (context * self.diagonal + context @ self.right.T @ self.left.T)

    def weights(self, states: Tensor, mask: Tensor, keys: Tensor | None) -> Tensor:
        """Share of every token in the sentence, (n, t); the shares of a text sum to 1."""
        unit = normalize(states, dim=-1)
        logits = 10.0 * unit @ self.score
        if keys is not None and keys.shape[-2]:
            logits = logits - self.gamma * (unit @ keys.transpose(-1, -2)).logsumexp(dim=-1)
        return logits.masked_fill(mask == 0, -torch.inf).softmax(dim=-1)

    def forward(self, states: Tensor, mask: Tensor, keys: Tensor | None) -> Tensor:
        return normalize(
            (self.weights(states, mask, keys).unsqueeze(-1) * states).sum(dim=1), dim=-1
        )


class MiniSecondStage(nn.Module):
    """A text in the light of its corpus: (n, t) ids and (k, 384) context -> (n, 384), of length 1."""

    def __init__(self, tokens: TokenStates, pooling: SoftIDFPooling):
        super().__init__()
        self.tokens, self.pooling = tokens, pooling

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        dataset_embeddings: Tensor | None = None,
        *,
        keys: Tensor | None = None,
    ) -> Tensor:
        if keys is None and dataset_embeddings is not None:
            keys = self.pooling.keys(torch.as_tensor(dataset_embeddings).to(self.pooling.score))
        return self.pooling(self.tokens(input_ids, attention_mask), attention_mask, keys)


class MiniCDE(ContextualEncoder):
    """The small contextual model; `load_mini_cde()` gives the trained one."""

    prompts: ClassVar[dict[str, str]] = {"query": "", "document": ""}  # MiniLM was trained without
    dimension = WIDTH

    def __init__(self, encoder: Any, config: SimpleNamespace, *, name: str = "mini-cde"):
        super().__init__()
        self.config, self.tokenizer, self.name = config, encoder.tokenizer, name
        self.max_length = config.max_seq_length
        tokens = TokenStates(encoder.transformers_model.requires_grad_(False))
        self.first_stage_model = MiniFirstStage(tokens)
        self.second_stage_model = MiniSecondStage(
            tokens, SoftIDFPooling(WIDTH, config.rank).to(encoder.device)
        )

    @property
    def pooling(self) -> SoftIDFPooling:
        return self.second_stage_model.pooling

    @classmethod
    def load(cls, directory: str | Path = DIRECTORY) -> MiniCDE:
        """The trained weights in `directory` on the encoder of `artifacts.load_encoder()`.

        Raises:
            ArtifactError: the files that ship with the project were cut or altered.
            CheckpointError: a file is missing or damaged, or the weights do not fit the configuration.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from ..artifacts import load_encoder
        from ..files import check_shipped

        directory = Path(directory)
        check_shipped(directory / "config.json", directory / "model.safetensors")
        mend = "Restore it: git checkout -- models"
        try:
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            weights = load_file(str(directory / "model.safetensors"))
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"{directory.name}/ cannot be read ({type(error).__name__}). {mend}"
            ) from error
        for field, kind in FIELDS.items():
            if not isinstance(config.get(field), kind) or (kind is int and config[field] < 1):
                raise CheckpointError(
                    f"config.json of {directory.name}/ has no usable {field}. {mend}"
                )
        model = cls(load_encoder(), SimpleNamespace(**config))
        expected = {name: tuple(value.shape) for name, value in model.pooling.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if found != expected:
            raise CheckpointError(
                f"model.safetensors of {directory.name}/ has {found} instead of {expected}. {mend}"
            )
        model.pooling.load_state_dict(weights)
        return model.eval()

    def save(self, directory: str | Path) -> None:
        """Write the pooling's weights and the configuration; the frozen backbone is not copied."""
        from safetensors.torch import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = {
            name: value.detach().cpu().contiguous()
            for name, value in self.pooling.state_dict().items()
        }
        save_file(weights, str(directory / "model.safetensors"))
        (directory / "config.json").write_text(
            json.dumps(vars(self.config), indent=2) + "\n", encoding="utf-8", newline="\n"
        )

    def token_weights(
        self, texts: Sequence[str], context: Context | None = None
    ) -> list[tuple[list[str], torch.Tensor]]:
        """For each text its tokens and their shares in the vector, which sum to 1: what the context turned up and down."""
        found, keys = [], self._prepare(context)
        with torch.inference_mode():
            for ids in self._ids(check_texts(texts)):
                batch = self._tokens([ids])
                states = self.second_stage_model.tokens(**batch)
                shares = self.pooling.weights(states, batch["attention_mask"], keys)[0].cpu()
                found.append(
                    (self.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist()), shares)
                )
        return found

    def _batched(self, texts: list[str], *arguments: Any, **options: Any) -> Tensor:
        tokens = self.second_stage_model.tokens
        tokens.keeping = len(texts) <= KEPT_TEXTS
        try:
            return super()._batched(texts, *arguments, **options)
        finally:
            tokens.keeping = True

    def _prepare(self, context: Context | None) -> Tensor | None:
        if context is None:
            return None
        with torch.inference_mode():
            return self.pooling.keys(context.vectors.to(self.device))

    def seconds_per_text(self) -> float:
        """Measured on two CPU cores, passages of about 90 tokens."""
        return 0.012 if self.device.type == "cpu" else 0.001

    def _stage_1(self, batch: dict[str, Tensor]) -> Tensor:
        return self.first_stage_model(**batch)

    def _stage_2(self, batch: dict[str, Tensor], prepared: Tensor | None) -> Tensor:
        return self.second_stage_model(**batch, keys=prepared)


@cache
def load_mini_cde() -> MiniCDE:
    """The model that ships with the project, `models/mini-cde`; one copy per kernel."""
    return MiniCDE.load()
