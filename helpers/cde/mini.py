"""A small contextual model on `all-MiniLM-L6-v2`, made for this series; it runs on a laptop.

Stage 1 is MiniLM itself. Stage 2 replaces MiniLM's mean pooling by a weighted mean, in which a
token weighs less, the more of the documents like its text hold it: `LocalIDFPooling`. Nothing is
trained; the model's few constants stand in its `config.json`.
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
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from .. import PROJECT_ROOT
from ..artifacts import load_encoder
from ..files import check_shipped
from ..language import marked as N_
from ..language import translated as _
from ..tokens import check_texts
from .encoding import Context, ContextualEncoder, Stage
from .local_idf import LocalIDFPooling, PreparedContext
from .native import CheckpointError, masked_mean

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DIRECTORY = PROJECT_ROOT / "models" / "mini-cde"
WIDTH = 384
#: Token vectors are kept for calls of up to so many texts. Longer calls keep nothing: their texts
#: would only push each other out, and leave the memory in pieces.
KEPT_TEXTS = 1_000
KEPT_BYTES = 260_000_000  # about 170,000 tokens: all bundled collections
FIX = N_("Restore it: git checkout -- models")
FIELDS = {
    "backbone": str,
    "transductive_corpus_size": int,
    "max_seq_length": int,
    "sharpness": float,
    "smoothing": float,
    "strength": list,
    "shared": list,
}


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
        raise TypeError(_("the encoder has no transformer; use artifacts.load_encoder()"))
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


class MiniSecondStage(nn.Module):
    """A text in the light of its corpus: (n, t) ids and a prepared context -> (n, 384).

    The result is not normalized, as in the published model.
    """

    def __init__(self, tokens: TokenStates, pooling: LocalIDFPooling, special_ids: Sequence[int]):
        super().__init__()
        self.tokens, self.pooling, self.special_ids = tokens, pooling, tuple(special_ids)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        context: PreparedContext | None = None,
        *,
        keep: bool = True,
    ) -> Tensor:
        states = self.tokens(input_ids, attention_mask, keep=keep)
        special = self.is_special(input_ids)
        return self.pooling(states, input_ids, attention_mask, special, context)

    def is_special(self, input_ids: Tensor) -> Tensor:
        """Where [CLS], [SEP] and padding are, (n, t)."""
        return torch.isin(input_ids, torch.tensor(self.special_ids, device=input_ids.device))

    def extra_repr(self) -> str:
        return "(tokens, shared): as in the first stage"


class MiniCDE(ContextualEncoder):
    """The small contextual model; `load_mini_cde()` gives the one that ships.

    It has no parameters of its own. MiniLM is used and never changed: `.to()`, `train()` and
    `requires_grad_()` do not reach it, and what is done to the encoder's modes leaves this model
    as it is. Without a context its vectors are MiniLM's.
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
        pooling = LocalIDFPooling(
            config.sharpness, config.smoothing, config.strength, config.shared
        )
        known = encoder.tokenizer
        special = [known.cls_token_id, known.sep_token_id, known.pad_token_id]
        self.first_stage_model = MiniFirstStage(tokens)
        self.second_stage_model = MiniSecondStage(tokens, pooling, special)
        self._prepared: WeakKeyDictionary[Context, PreparedContext] = WeakKeyDictionary()

    @property
    def device(self) -> torch.device:
        """Where MiniLM is."""
        return self.second_stage_model.tokens.device

    @property
    def pooling(self) -> LocalIDFPooling:
        """All that tells the model from MiniLM."""
        return self.second_stage_model.pooling

    @classmethod
    def load(cls, directory: str | Path = DIRECTORY) -> MiniCDE:
        """The model whose `config.json` lies in `directory`, on the encoder of `load_encoder()`.

        Raises:
            ArtifactError: a file that ships with the project was cut or altered.
            CheckpointError: the configuration is missing or damaged.
        """
        path = Path(directory) / "config.json"
        check_shipped(path)
        return cls(load_encoder(), SimpleNamespace(**_read(path))).eval()

    def token_vectors(self, texts: Sequence[str]) -> list[Tensor]:
        """MiniLM's vectors of the tokens of each text, (t, 384), in the order of `token_ids`.

        They do not depend on a context. Texts that were encoded before are not computed again.
        """
        found = []
        with torch.inference_mode():
            for ids in self.token_ids(check_texts(texts)):
                found.append(self.second_stage_model.tokens(*self.as_batch([ids]))[0].cpu())
        return found

    def token_weights(
        self, texts: Sequence[str], context: Context | None = None
    ) -> list[tuple[list[str], Tensor]]:
        """For each text its tokens and their shares in its vector, which sum to 1.

        They show which tokens the context weighs up and which it weighs down.
        """
        found = []
        stage = self.second_stage_model
        prepared = self._prepare(context)
        with torch.inference_mode():
            for ids in self.token_ids(check_texts(texts)):
                tokens = list(self.tokenizer.convert_ids_to_tokens(ids))
                shares = torch.full((len(ids),), 1 / len(ids))
                if prepared is not None:
                    batch = self.as_batch([ids])
                    states, special = stage.tokens(*batch), stage.is_special(batch[0])
                    shares = self.pooling.weights(states, *batch, special, prepared)[0].cpu()
                found.append((tokens, shares))
        return found

    def seconds_per_text(self) -> float:
        """Measured on two CPU cores, with passages of about 90 tokens."""
        return 0.012 if self.device.type == "cpu" else 0.001

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_prepared"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepared = WeakKeyDictionary()  # weak references cannot be pickled

    def get_extra_state(self) -> Tensor:
        """Fingerprint of MiniLM's weights and of the constants: `state_dict()` is the model."""
        digest = hashlib.sha256(self.second_stage_model.tokens.fingerprint())
        digest.update(json.dumps(vars(self.config), sort_keys=True).encode())
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the `state_dict` of a model with another backbone or other constants."""
        if not torch.equal(state, self.get_extra_state()):
            raise CheckpointError(
                _("this is the state of a model with another backbone or constants")
            )

    def _context_tokens(self, texts: list[str]) -> tuple[np.ndarray, ...]:
        return tuple(np.array(ids, dtype=np.int32) for ids in self.token_ids(texts))

    def _prepare(self, context: Context | None) -> PreparedContext | None:
        """What stage 2 needs of a context, made at its first use."""
        if context is None:
            return None
        prepared = self._prepared.get(context)
        if prepared is None or prepared.vectors.device != self.device:  # MiniLM was moved
            with torch.inference_mode():
                prepared = self.pooling.prepare(context, self.device)
            self._prepared[context] = prepared
        return prepared

    def _stage_1(self, count: int) -> Stage:
        return Stage(partial(self.first_stage_model, keep=count <= KEPT_TEXTS))

    def _stage_2(self, context: Context | None, count: int) -> Stage:
        prepared = self._prepare(context)
        return Stage(partial(self.second_stage_model, context=prepared, keep=count <= KEPT_TEXTS))


def _read(path: Path) -> dict[str, Any]:
    """The configuration of a model."""
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            _("{name} of {folder}/ cannot be read ({kind}). {fix}").format(
                name=path.name, folder=path.parent.name, kind=type(error).__name__, fix=_(FIX)
            )
        ) from error
    for field, kind in FIELDS.items():
        if not _usable(config.get(field), kind):
            raise CheckpointError(
                _("{name} of {folder}/ has no usable {field}. {fix}").format(
                    name=path.name, folder=path.parent.name, field=field, fix=_(FIX)
                )
            )
    return config


def _usable(value: Any, kind: type) -> bool:
    if kind is list:  # from, to
        pair = isinstance(value, list) and len(value) == 2
        return pair and all(isinstance(x, float) for x in value) and value[0] <= value[1]
    if kind is str:
        return isinstance(value, str)
    number: Any = value
    return type(value) is kind and number > 0


@cache
def load_mini_cde() -> MiniCDE:
    """The model that ships with the project, `models/mini-cde`; one copy per kernel."""
    return MiniCDE.load()
