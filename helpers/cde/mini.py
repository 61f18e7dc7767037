"""A small contextual model on `all-MiniLM-L6-v2`, trained for this series; it runs on a laptop.

Stage 1 is MiniLM itself. Stage 2 is **soft-IDF pooling**: instead of the plain mean, a weighted
one, in which a token weighs less, the more documents of the corpus resemble it. That is inverse
document frequency (IDF) without counting words, learned from pairs of texts.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from .. import PROJECT_ROOT
from ..artifacts import load_encoder
from ..files import check_shipped
from ..tokens import check_texts
from .encoding import Context, ContextualEncoder, Stage
from .native import CheckpointError, masked_mean

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DIRECTORY = PROJECT_ROOT / "models" / "mini-cde"
WIDTH = 384
#: Token vectors are kept for calls of up to so many texts. Longer calls keep nothing: their texts
#: would only push each other out, and leave the memory in pieces.
KEPT_TEXTS = 1_000
KEPT_BYTES = 140_000_000  # about 90,000 tokens: both bundled collections
FIX = "Restore it: git checkout -- models"
FIELDS = {"backbone": str, "transductive_corpus_size": int, "max_seq_length": int, "rank": int}


def frozen_view(module: nn.Module) -> nn.Module:
    """`module` once more, always in evaluation mode: the same weights, but flags of its own.

    The weights are shared, not copied. So the view follows when `module` is moved by `.to()`,
    and stays in evaluation mode when `module.train()` is called.

    >>> layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9))
    >>> view = frozen_view(layer)
    >>> view[0].weight is layer[0].weight, layer[1].training, view[1].training
    (True, True, False)
    """
    view = copy.copy(module)
    view._modules = {
        name: child if child is None else frozen_view(child)
        for name, child in module._modules.items()
    }
    view.training = False
    return view


def frozen_backbone(encoder: SentenceTransformer) -> nn.Module:
    """A frozen view of the encoder's transformer.

    Raises:
        TypeError: it has none.
    """
    if encoder.transformers_model is None:
        raise TypeError("the encoder has no transformer; use artifacts.load_encoder()")
    return frozen_view(encoder.transformers_model)


class TokenStates:
    """MiniLM's token vectors. They do not depend on the corpus, so another context reuses them.

    Not a module: MiniLM belongs to whoever loaded it, and `.to()`, `train()` or
    `requires_grad_()` on a model that uses it must not reach it.
    """

    def __init__(self, backbone: nn.Module):
        self.backbone = backbone
        self.kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self.bytes = 0

    @property
    def device(self) -> torch.device:
        """Where MiniLM is, which may be another device than that of the model around it."""
        return next(self.backbone.parameters()).device

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, *, keep: bool = True) -> Tensor:
        """Token vectors (n, t, 384), zero where padded, on the device of the ids.

        Args:
            input_ids, attention_mask: (n, t), padded at the end.
            keep: remember the vectors, and take those of texts seen before from memory.
        """
        if not keep:
            return self._compute(input_ids, attention_mask) * attention_mask.unsqueeze(-1)
        lengths = attention_mask.sum(dim=1).tolist()
        names = self._names(input_ids, lengths)
        missing = [row for row, name in enumerate(names) if name not in self.kept]
        if missing:
            states = self._compute(input_ids[missing], attention_mask[missing])
            for row, made in zip(missing, states, strict=True):
                self._keep(names[row], made[: lengths[row]])
        rows = [self.kept[name].to(input_ids.device) for name in names]
        self._drop_oldest()
        return pad_sequence(rows, batch_first=True)

    def forget(self) -> None:
        """Drop all kept vectors."""
        self.kept.clear()
        self.bytes = 0

    def fingerprint(self) -> bytes:
        """SHA-256 of MiniLM's weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.digest()

    @torch.inference_mode()
    def _compute(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        here, there = self.device, input_ids.device
        made = self.backbone(input_ids=input_ids.to(here), attention_mask=attention_mask.to(here))
        return made.last_hidden_state.float().to(there)

    def _names(self, input_ids: Tensor, lengths: list[int]) -> list[bytes]:
        """Keys to `kept`: a text's ids without padding, and the precision if it is reduced."""
        precision = b"bfloat16" if torch.is_autocast_enabled(self.device.type) else b""
        rows = zip(input_ids.cpu().numpy(), lengths, strict=True)
        return [precision + ids[:length].tobytes() for ids, length in rows]

    def _keep(self, name: bytes, states: Tensor) -> None:
        if name in self.kept:
            return
        with torch.inference_mode(False):  # what is kept may later serve in training
            self.kept[name] = states.clone()  # a view would keep the whole batch alive
        self.bytes += states.nbytes

    def _drop_oldest(self) -> None:
        while self.bytes > KEPT_BYTES and len(self.kept) > 1:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes


class MiniFirstStage(nn.Module):
    """A document becomes its ordinary MiniLM vector: (n, t) ids -> (n, 384), of length 1."""

    def __init__(self, tokens: TokenStates):
        super().__init__()
        self.tokens = tokens

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *, keep: bool = True) -> Tensor:
        states = self.tokens(input_ids, attention_mask, keep=keep)
        return normalize(masked_mean(states, attention_mask), dim=1)

    def extra_repr(self) -> str:
        return f"(tokens, shared): {self.tokens.backbone}"


class SoftIDFPooling(nn.Module):
    """Token vectors (n, t, d) and context keys (k, d) -> (n, d), the weighted mean of each text.

    The weight of token t is the softmax over the tokens of

        10 * score . h_t  -  gamma * log sum_k exp(tau * <M h_t, c_k>)

    with h_t the token's vector scaled to length 1, c_k the context, M a diagonal plus a matrix of
    low rank. With score and gamma at 0 it is the plain mean. Here the first of two tokens points
    where the context does, so it weighs less:

    >>> pooling = SoftIDFPooling(width=2, rank=1)
    >>> states, mask = torch.eye(2).unsqueeze(0), torch.ones(1, 2)
    >>> keys = pooling.keys(torch.tensor([[1.0, 0.0]]))
    >>> [[round(share, 2) for share in row] for row in pooling.weights(states, mask, keys).tolist()]
    [[0.05, 0.95]]
    >>> pooling.weights(states, mask, None).tolist()
    [[0.5, 0.5]]
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
        count = sum(p.numel() for p in self.parameters())
        learned = f"gamma={self.gamma.item():.2f}, tau={self.log_tau.exp().item():.1f}"
        return f"width={width}, rank={rank}, {count:,} parameters, {learned}"

    def keys(self, context: Tensor) -> Tensor:
        """tau * M^T c for context vectors (..., k, d): all that stage 2 needs of a corpus."""
        return self.log_tau.exp() * (context * self.diagonal + context @ self.right.T @ self.left.T)

    def weights(self, states: Tensor, mask: Tensor, keys: Tensor | None) -> Tensor:
        """Share of every token in its text, (n, t); the shares of a text sum to 1."""
        unit = normalize(states, dim=-1)
        logits = 10.0 * unit @ self.score
        if keys is not None and keys.shape[-2]:
            logits = logits - self.gamma * (unit @ keys.transpose(-1, -2)).logsumexp(dim=-1)
        return logits.masked_fill(mask == 0, -torch.inf).softmax(dim=-1)

    def forward(self, states: Tensor, mask: Tensor, keys: Tensor | None) -> Tensor:
        return (self.weights(states, mask, keys).unsqueeze(-1) * states).sum(dim=1)


class MiniSecondStage(nn.Module):
    """A text in the light of its corpus: (n, t) ids and (k, 384) context -> (n, 384).

    The result is not normalized, as in the published model. `keys`, the context as
    `SoftIDFPooling.keys` gives it, may stand in for `dataset_embeddings`.
    """

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
        keep: bool = True,
    ) -> Tensor:
        if keys is None and dataset_embeddings is not None:
            keys = self.pooling.keys(torch.as_tensor(dataset_embeddings).to(self.pooling.score))
        states = self.states(input_ids, attention_mask, keep=keep)
        return self.pooling(states, attention_mask, keys)

    def states(self, input_ids: Tensor, attention_mask: Tensor, *, keep: bool = True) -> Tensor:
        """Token vectors (n, t, 384), on the device and in the precision of the pooling."""
        return self.tokens(input_ids, attention_mask, keep=keep).to(self.pooling.score)

    def extra_repr(self) -> str:
        return "(tokens, shared): as in the first stage"


class MiniCDE(ContextualEncoder):
    """The small contextual model; `load_mini_cde()` gives the trained one.

    MiniLM is used and never changed: `.to()`, `train()`, `requires_grad_()` and `parameters()`
    concern the pooling alone, and what is done to the encoder's modes leaves this model as it is.
    If the two are on different devices, token vectors are moved to the pooling's.
    """

    prompts: ClassVar[dict[str, str]] = {"query": "", "document": ""}  # MiniLM was trained without
    dimension = WIDTH

    def __init__(
        self, encoder: SentenceTransformer, config: SimpleNamespace, *, name: str = "mini-cde"
    ):
        super().__init__()
        self.config, self.tokenizer, self.name = config, encoder.tokenizer, name
        self.max_length = config.max_seq_length
        tokens = TokenStates(frozen_backbone(encoder))
        pooling = SoftIDFPooling(WIDTH, config.rank).to(encoder.device)
        self.first_stage_model = MiniFirstStage(tokens)
        self.second_stage_model = MiniSecondStage(tokens, pooling)

    @property
    def pooling(self) -> SoftIDFPooling:
        """All that was trained."""
        return self.second_stage_model.pooling

    @classmethod
    def load(cls, directory: str | Path = DIRECTORY) -> MiniCDE:
        """The trained weights in `directory`, on the encoder of `load_encoder()`.

        Raises:
            ArtifactError: files that ship with the project were cut or altered.
            CheckpointError: a file is missing or damaged, or weights and configuration do not fit.
        """
        directory = Path(directory)
        check_shipped(directory / "config.json", directory / "model.safetensors")
        config, weights = _read(directory)
        model = cls(load_encoder(), SimpleNamespace(**config))
        expected = {name: tuple(value.shape) for name, value in model.pooling.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if found != expected:
            raise CheckpointError(
                f"model.safetensors of {directory.name}/ has {found} instead of {expected}. {FIX}"
            )
        model.pooling.load_state_dict(weights)
        return model.eval()

    def save(self, directory: str | Path) -> None:
        """Write the pooling's weights and the configuration; MiniLM is not copied."""
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
    ) -> list[tuple[list[str], Tensor]]:
        """For each text its tokens and their shares in its vector, which sum to 1.

        They show which tokens the context weighs up and which it weighs down.
        """
        found = []
        with torch.inference_mode():
            keys = self._keys(context)
            for ids in self.token_ids(check_texts(texts)):
                input_ids, mask = self.as_batch([ids])
                states = self.second_stage_model.states(input_ids, mask)
                tokens = list(self.tokenizer.convert_ids_to_tokens(ids))
                found.append((tokens, self.pooling.weights(states, mask, keys)[0].cpu()))
        return found

    def seconds_per_text(self) -> float:
        """Measured on two CPU cores, with passages of about 90 tokens."""
        return 0.012 if self.device.type == "cpu" else 0.001

    def get_extra_state(self) -> Tensor:
        """MiniLM's fingerprint, so that `state_dict()` identifies the whole model."""
        return torch.tensor(list(self.second_stage_model.tokens.fingerprint()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse a `state_dict` of a pooling that was trained on another backbone."""
        if not torch.equal(state, self.get_extra_state()):
            raise CheckpointError("these weights were trained on another backbone than this one")

    def _keys(self, context: Context | None) -> Tensor | None:
        if context is None:
            return None
        return self.pooling.keys(context.vectors.to(self.pooling.score))

    def _stage_1(self, count: int) -> Stage:
        return Stage(partial(self.first_stage_model, keep=count <= KEPT_TEXTS))

    def _stage_2(self, context: Context | None, count: int) -> Stage:
        with torch.inference_mode():
            keys = self._keys(context)
        return Stage(partial(self.second_stage_model, keys=keys, keep=count <= KEPT_TEXTS))


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of a stored model."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        weights = load_file(str(directory / "model.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{directory.name}/ cannot be read ({type(error).__name__}). {FIX}"
        ) from error
    for field, kind in FIELDS.items():
        if not isinstance(config.get(field), kind) or (kind is int and config[field] < 1):
            raise CheckpointError(f"config.json of {directory.name}/ has no usable {field}. {FIX}")
    return config, weights


@cache
def load_mini_cde() -> MiniCDE:
    """The model that ships with the project, `models/mini-cde`; one copy per kernel."""
    return MiniCDE.load()
