"""What both contextual models share: contexts, batches, vectors that know their context."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from ..device import batches, give_back_memory
from ..language import translated as _
from ..similarity import cosine_matrix
from ..tokens import check_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 1024  # texts tokenized and sorted at a time, so that memory stays flat as a corpus grows
PRECISIONS = ("float32", "bfloat16")
QUERY, DOCUMENT = "search_query: ", "search_document: "
#: What `Vectors.context` says of vectors encoded without one, and of vectors whose past is lost.
NO_CONTEXT, UNKNOWN = "none", "unknown"


@dataclass(frozen=True, eq=False)
class Context:
    """What stage 1 gives: the documents that stand for a corpus, and their vectors.

    Attributes:
        vectors: (k, d) on the CPU, in the order in which the model sees them.
        ids: which documents they are: the caller's ids, or their positions in the given list.
        model: name of the model that made them.
        tokens: token ids of each document, int32, as far as the model reads it; None from a model
            whose stage 2 has no use for them.

    >>> context = Context(torch.eye(2), ids=("d1", "d2"), model="mini-cde")
    >>> len(context)
    2
    >>> context.name == Context(torch.eye(2), ids=("d1", "d3"), model="mini-cde").name
    False
    """

    vectors: Tensor
    ids: tuple[str, ...]
    model: str
    tokens: tuple[np.ndarray, ...] | None = None

    @cached_property
    def name(self) -> str:
        """Fingerprint of model, documents, numbers and tokens; equal names mean equal contexts."""
        digest = hashlib.sha256(repr((self.model, self.ids)).encode())
        digest.update(self.vectors.numpy().round(4).astype("<f4").tobytes())
        for ids in self.tokens or ():
            digest.update(len(ids).to_bytes(4, "little") + ids.astype("<i4").tobytes())
        return digest.hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.ids)

    def save(self, path: str | Path) -> None:
        """Write vectors, ids, tokens and the model's name to one safetensors file."""
        metadata = {"model": self.model, "ids": "\x1f".join(self.ids)}
        tensors = {"vectors": self.vectors.contiguous()}
        if self.tokens is not None:
            tensors["tokens"] = torch.from_numpy(np.concatenate(self.tokens).astype(np.int32))
            tensors["lengths"] = torch.tensor([len(ids) for ids in self.tokens], dtype=torch.int32)
        save_file(tensors, str(path), metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> Context:
        """Read what `save` wrote."""
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata()
            ids = tuple(metadata["ids"].split("\x1f"))
            tokens = None
            if "tokens" in list(file.keys()):
                ends = file.get_tensor("lengths").cumsum(0)[:-1].numpy()
                tokens = tuple(np.split(file.get_tensor("tokens").numpy(), ends))
            return cls(file.get_tensor("vectors"), ids, metadata["model"], tokens)


class Vectors(np.ndarray):
    """Unit vectors (n, d), float32, that know the model and the context they were encoded in.

    Slices, copies and pickles keep both. Where arrays meet (`np.concatenate`, `np.vstack`,
    arithmetic, assignment), the result keeps what all of them share; the rest becomes `unknown`.

    Attributes:
        context: name of the context; `none` if encoded without one, `unknown` if that is lost.
        model: name of the model, or `unknown`.

    >>> money = Vectors(np.eye(2), "money", model="mini-cde")
    >>> country = Vectors(np.eye(2), "country", model="mini-cde")
    >>> np.vstack([money, money[:1]]).context, np.vstack([money, country]).context
    ('money', 'unknown')
    """

    context: str
    model: str

    def __new__(cls, values: ArrayLike, context: str, model: str = UNKNOWN) -> Vectors:
        self = np.asarray(values, dtype=np.float32).view(cls)
        self.context, self.model = context, model
        return self

    def __array_finalize__(self, other: object) -> None:
        self.context = getattr(other, "context", UNKNOWN)
        self.model = getattr(other, "model", UNKNOWN)

    def _keep_shared(self, parts: Iterable[object]) -> Vectors:
        """Take over the model and the context that all `parts` have in common."""
        parts = list(parts)
        for name in ("context", "model"):
            found = {getattr(part, name, UNKNOWN) for part in parts}
            setattr(self, name, found.pop() if len(found) == 1 else UNKNOWN)
        return self

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        made = super().__array_function__(func, types, args, kwargs)
        if func not in JOINED:  # `np.vstack`, `np.stack`, `np.append` call `np.concatenate`
            return made
        return made.view(Vectors)._keep_shared(JOINED[func](*args, **kwargs))

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        made = super().__array_wrap__(array, context, return_scalar)
        if context is not None and isinstance(made, Vectors):  # arithmetic: (ufunc, inputs, output)
            # a smaller plain array scales or shifts, as lengths and weights do
            parts = [x for x in context[1] if isinstance(x, Vectors) or np.shape(x) == array.shape]
            made._keep_shared(parts)
        return made

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._keep_shared([self, value] if np.ndim(value) else [self])

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (np.asarray(self), self.context, self.model)


def _unpickled(array: np.ndarray, context: str, model: str) -> Vectors:
    vectors = array.view(Vectors)
    vectors.context, vectors.model = context, model
    return vectors


#: numpy's functions that join arrays, and which of their arguments are joined.
JOINED: dict[Any, Callable[..., Iterable[object]]] = {
    np.concatenate: lambda arrays, axis=0, out=None, **_: arrays,
    np.insert: lambda arr, obj, values, axis=None: (arr, values),
}


def similarity(
    queries: ArrayLike, documents: ArrayLike, *, mixed_contexts: bool = False
) -> np.ndarray:
    """Cosine of every query with every document, refused unless both share one context.

    It checks the contexts and calls `helpers.similarity.cosine_matrix`, which knows of none.

    Args:
        queries, documents: (n, d) and (m, d), as `encode_queries` and `encode_documents` give them.
        mixed_contexts: compare whatever is given, unchecked.

    Returns:
        the cosines, shape (n, m).

    Raises:
        ValueError: contexts or models differ, or are not known.
    """
    if not mixed_contexts:
        _check_shared_context(queries, documents)
    return cosine_matrix(queries, documents)


def _check_shared_context(queries: Any, documents: Any) -> None:
    advice = _(
        "Encode both with the same model and context, or pass "
        "mixed_contexts=True to compare them anyway."
    )
    for name, side in (("queries", queries), ("documents", documents)):
        if getattr(side, "context", UNKNOWN) == UNKNOWN:
            reason = (
                _("vectors of different contexts were joined.")
                if isinstance(side, Vectors)
                else _("a plain array; were they encoded by another model?")
            )
            raise ValueError(
                _("{name} carry no context: {reason} {advice}").format(
                    name=name, reason=reason, advice=advice
                )
            )
    # a context belongs to one model; without one, the models have to be compared
    same_model = queries.model == documents.model != UNKNOWN
    if queries.context != documents.context or (queries.context == NO_CONTEXT and not same_model):
        raise ValueError(
            _(
                "queries were encoded {asked}, documents {found}: such vectors do not "
                "belong together. {advice}"
            ).format(asked=_how(queries), found=_how(documents), advice=advice)
        )


def _how(vectors: Vectors) -> str:
    model = _("an unknown model") if vectors.model == UNKNOWN else vectors.model
    without = vectors.context == NO_CONTEXT
    return _("by {model} ").format(model=model) + (
        _("without a context")
        if without
        else _("in context {context}").format(context=vectors.context)
    )


class Stage(NamedTuple):
    """One stage of a model, made ready for a context.

    Attributes:
        compute: input ids and attention mask, both (n, t), become vectors (n, d).
        prefix: tokens that it puts in front of every text; they count toward a batch's size.
    """

    compute: Callable[[Tensor, Tensor], Tensor]
    prefix: int = 0


class ContextualEncoder(nn.Module, ABC):
    """Base of both models: what they share, and what each has to give.

    A query takes this way: `encode_queries` adds the prompt, the model's `_stage_2` gives the
    stage, `in_batches` runs it, and the vectors are normalized once, at the end.

    Attributes:
        name: tells models apart, in a `Context` and in `Vectors`.
        prompts: put in front of each `query` and `document`.
        config: the model's; `transductive_corpus_size` is how many documents a context takes.
        tokenizer: turns texts into token ids.
        max_length: tokens of a text that are read; the rest is cut off.
        dimension: length of a vector.
    """

    name: str
    prompts: ClassVar[dict[str, str]]
    config: SimpleNamespace
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    dimension: int

    @abstractmethod
    def _stage_1(self, count: int) -> Stage:
        """The stage that embeds the documents of a context; `count` says how many will come."""

    @abstractmethod
    def _stage_2(self, context: Context | None, count: int) -> Stage:
        """The stage that embeds texts in a context; `count` says how many will come."""

    def _context_tokens(self, texts: list[str]) -> tuple[np.ndarray, ...] | None:
        """Token ids of a context's documents, if stage 2 needs them."""
        return None

    @abstractmethod
    def seconds_per_text(self) -> float:
        """Rough time that stage 2 takes for one passage on this machine."""

    def how_long(self, texts: int) -> str:
        """In words, about how long `texts` passages take."""
        seconds = texts * self.seconds_per_text()
        if seconds > 5400:
            return _("{seconds:.0f} hours").format(seconds=seconds / 3600)
        if seconds > 90:
            return _("{seconds:.0f} minutes").format(seconds=seconds / 60)
        return _("{seconds:.0f} seconds").format(seconds=seconds)

    @property
    def device(self) -> torch.device:
        """Where the model's own parameters are; batches go there."""
        return next(self.parameters()).device

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of every text, cut to `max_length`, special tokens included."""
        if not texts:
            return []
        return self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]

    def as_batch(self, token_ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Input ids and attention mask, both (n, t), padded at the end to the longest text."""
        rows = [torch.tensor(row) for row in token_ids]
        padding = self.tokenizer.pad_token_id
        input_ids = pad_sequence(rows, batch_first=True, padding_value=padding)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return input_ids.to(self.device), mask.to(self.device)

    def embed_context(
        self,
        texts: Sequence[str],
        *,
        seed: int = 0,
        ids: Sequence[str] | None = None,
        size: int | None = None,
        batch_size: int | None = None,
        precision: str = "float32",
        progress: bool = False,
    ) -> Context:
        """Stage 1: sample documents without replacement and embed them, once per corpus.

        Args:
            texts: the corpus, or a part of it. Up to `size` of them are sampled; if there are
                fewer, all are taken, in their order.
            seed: of the sample.
            ids: names of the texts, kept with the context; by default their positions.
            size: documents to take; by default the model's `config.transductive_corpus_size`.
            batch_size, precision, progress: as in `encode_documents`.

        Raises:
            TypeError: `texts` is not a list of texts.
            ValueError: there are no texts, the ids are not as many, or `size` is below 1.
        """
        texts = check_texts(texts)
        names = [str(i) for i in (ids if ids is not None else range(len(texts)))]
        if len(names) != len(texts):
            raise ValueError(
                _("{texts} texts but {names} ids; give one id per text").format(
                    texts=len(texts), names=len(names)
                )
            )
        if not texts:
            raise ValueError(
                _("A context needs at least one document. Without any, pass context=None.")
            )
        size = self.config.transductive_corpus_size if size is None else size
        if size < 1:
            raise ValueError(_("size must be at least 1, got {size}").format(size=size))
        chosen = _sample(len(texts), size, seed)
        sample = [self.prompts["document"] + texts[i] for i in chosen]
        vectors = in_batches(
            sample,
            self._stage_1(len(chosen)),
            self,
            batch_size=batch_size,
            precision=precision,
            progress=_("stage 1") if progress else None,
        )
        tokens = self._context_tokens(sample)
        return Context(vectors, tuple(names[i] for i in chosen), self.name, tokens)

    def encode_queries(
        self,
        texts: Sequence[str],
        context: Context | None = None,
        *,
        batch_size: int | None = None,
        precision: str = "float32",
        progress: bool = False,
    ) -> Vectors:
        """Stage 2 for queries: unit vectors (n, d). Arguments as in `encode_documents`."""
        return self._encode("query", texts, context, batch_size, precision, progress)

    def encode_documents(
        self,
        texts: Sequence[str],
        context: Context | None = None,
        *,
        batch_size: int | None = None,
        precision: str = "float32",
        progress: bool = False,
    ) -> Vectors:
        """Stage 2 for documents: unit vectors (n, d), in the order of the texts.

        Args:
            texts: any number; memory holds one batch at a time, and the vectors.
            context: what `embed_context` gave; None encodes without a context.
            batch_size: largest number of texts in a batch; by default what suits the machine.
            precision: `float32`, or `bfloat16`, which is faster where the processor supports it
                and gives slightly different vectors.
            progress: draw a progress bar.

        Raises:
            TypeError: `texts` is not a list of texts.
            ValueError: the context was made by another model, or the precision is not known.
        """
        return self._encode("document", texts, context, batch_size, precision, progress)

    def _encode(
        self,
        kind: str,
        texts: Sequence[str],
        context: Context | None,
        batch_size: int | None,
        precision: str,
        progress: bool,
    ) -> Vectors:
        if context is not None and context.model != self.name:
            raise ValueError(
                _(
                    "this context was made by {model}; make one with this model: "
                    "embed_context(texts)"
                ).format(model=context.model)
            )
        prompted = [self.prompts[kind] + text for text in check_texts(texts)]
        vectors = in_batches(
            prompted,
            self._stage_2(context, len(prompted)),
            self,
            batch_size=batch_size,
            precision=precision,
            progress=_("stage 2") if progress else None,
        )
        unit = nn.functional.normalize(vectors, dim=1, out=vectors).numpy()
        return Vectors(unit, NO_CONTEXT if context is None else context.name, self.name)


def _sample(count: int, size: int, seed: int) -> list[int]:
    """Up to `size` of the positions 0 ... count - 1: drawn by `seed`, or all in their order."""
    if count <= size:
        return list(range(count))
    return np.random.default_rng(seed).choice(count, size, replace=False).tolist()


def in_batches(
    texts: list[str],
    stage: Stage,
    model: ContextualEncoder,
    *,
    batch_size: int | None = None,
    precision: str = "float32",
    progress: str | None = None,
) -> Tensor:
    """`stage` over all texts; its vectors in their order, (n, d) on the CPU.

    Args:
        model: tokenizes the texts; its device computes.
        progress: label of a progress bar; None draws none.

    Raises:
        ValueError: the precision is not known.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            _("precision {precision!r} is not known; choose one of {precisions}").format(
                precision=precision, precisions=PRECISIONS
            )
        )
    narrow = torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    bar = tqdm(total=len(texts), desc=progress, unit="text", disable=progress is None)
    vectors = torch.empty(len(texts), model.dimension)
    with torch.inference_mode(), narrow, bar:
        for rows, batch in _token_batches(texts, model, stage.prefix, batch_size):
            vectors[rows] = stage.compute(*batch).float().cpu()
            bar.update(len(rows))
    return vectors


def _token_batches(
    texts: list[str], model: ContextualEncoder, prefix: int, batch_size: int | None
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Texts of similar length together: which rows of the result they are, and their tokens."""
    for start in range(0, len(texts), CHUNK):
        ids = model.token_ids(texts[start : start + CHUNK])
        lengths = [len(row) for row in ids]
        for places in batches(lengths, model.device, extra=prefix, most=batch_size):
            yield start + torch.from_numpy(places), model.as_batch([ids[i] for i in places])
        if len(texts) > CHUNK:
            give_back_memory()
