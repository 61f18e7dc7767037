"""Train the small contextual model: `python -m helpers.cde.train PAIRS.jsonl[.gz] ... --out DIR`.

Pairs are JSON lines `{"group": ..., "query": ..., "document": ...}`. Lines whose `document` is
null are paired among themselves: two queries of one group. A batch imitates a corpus: pairs whose
documents are so similar that only fine differences tell them apart.

The backbone is frozen, so every text is encoded once, and its token vectors are kept in `--cache`;
the steps train the pooling alone. Seeded, logged to `train.jsonl` in `--out`, and resumable: the
same command continues from the last checkpoint.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm.auto import tqdm

from ..artifacts import MINILM, load_encoder
from .mini import MiniCDE, SoftIDFPooling, frozen_backbone

SAVE_EVERY = 100  # steps between checkpoints
Pair = tuple[int, int]  # positions of a query and of its document among the texts


@dataclass
class Recipe:
    """Everything that shapes a training run."""

    seed: int = 0
    steps: int = 600
    batch: int = 256  # pairs
    context: int = 256  # documents in a context during training
    corpus: int = 512  # documents in a context in use
    rank: int = 32
    scale: float = 20.0
    tokens: int = 128  # of a text during training
    without_context: float = 0.15  # share of the steps
    pull_with: float = 0.2  # toward the plain mean, in steps with context
    pull_without: float = 1.0
    # low, so that the effect comes from the context, not from a fixed list of unimportant words
    rate_score: float = 3e-4
    rate_matrix: float = 1e-3
    rate_scalar: float = 1e-2


def read_pairs(paths: list[Path], seed: int = 0) -> list[tuple[str, str, str]]:
    """(group, query, document) of every pair, in the order of the files.

    Raises:
        ValueError: a line is not what is expected; the message names file and line.
    """
    pairs: list[tuple[str, str, str]] = []
    alone: dict[str, list[str]] = {}
    for path in paths:
        for group, query, document in _read_lines(path):
            if document is None:
                alone.setdefault(group, []).append(query)
            else:
                pairs.append((group, query, document))
    rng = random.Random(seed)
    for group, queries in sorted(alone.items()):
        rng.shuffle(queries)
        pairs += [(group, a, b) for a, b in zip(queries[::2], queries[1::2], strict=False)]
    return pairs


def _read_lines(path: Path) -> Iterator[tuple[str, str, str | None]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                yield f"{path.name}/{row['group']}", row["query"], row["document"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path.name}, line {number}: expected group, query and document ({error})"
                ) from error


class States:
    """Token vectors of all texts, and the plain mean of each.

    Attributes:
        flat: (all tokens, d), bfloat16, one text after the other.
        starts: where in `flat` each text begins; one more at the end.
        means: (texts, d), of length 1.
    """

    def __init__(self, flat: Tensor, lengths: Tensor, means: Tensor):
        self.flat, self.means = flat, means
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])

    @classmethod
    def encode(cls, texts: list[str], tokens: int, cache: Path | None) -> States:
        """Run the backbone over `texts`, or read the result of the same texts from `cache`."""
        key = hashlib.sha256(json.dumps([tokens, texts]).encode()).hexdigest()[:16]
        path = cache / f"states-{key}.pt" if cache else None
        if path and path.is_file():
            return cls(**torch.load(path, weights_only=True))
        parts = _token_vectors(texts, tokens)
        made = {
            "flat": torch.cat(parts),
            "lengths": torch.tensor([len(part) for part in parts]),
            "means": normalize(torch.stack([part.float().mean(0) for part in parts]), dim=1),
        }
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(made, path)
        return cls(**made)

    def batch(self, rows: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Padded token vectors (n, t, d) and mask (n, t) of some texts."""
        pieces = [self.flat[self.starts[i] : self.starts[i + 1]].float() for i in rows]
        states = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        lengths = torch.tensor([len(piece) for piece in pieces])
        mask = torch.arange(states.shape[1])[None] < lengths[:, None]
        return states.to(device), mask.long().to(device)


def _token_vectors(texts: list[str], tokens: int) -> list[Tensor]:
    """Token vectors (t, d) of each text, cut to `tokens`, bfloat16 on the CPU."""
    encoder = load_encoder()
    backbone = frozen_backbone(encoder)
    order = np.argsort([-len(text) for text in texts], kind="stable")
    parts: list[Any] = [None] * len(texts)
    with (
        torch.inference_mode(),
        torch.autocast(encoder.device.type, torch.bfloat16),
        tqdm(total=len(texts), desc="encoding") as bar,
    ):
        for start in range(0, len(texts), 64):
            chosen = order[start : start + 64]
            batch = encoder.tokenizer(
                [texts[i] for i in chosen],
                padding=True,
                truncation=True,
                max_length=tokens,
                return_tensors="pt",
            ).to(encoder.device)
            batch.pop("token_type_ids", None)
            states = backbone(**batch).last_hidden_state.to(torch.bfloat16).cpu()
            for row, i in enumerate(chosen):
                parts[i] = states[row, batch["attention_mask"][row].cpu() == 1].clone()
            bar.update(len(chosen))
    return parts


class Corpora:
    """Draws imitation corpora: the pairs whose documents lie nearest to a random one."""

    SMALLEST, LARGEST = 150, 800

    def __init__(self, pairs: list[Pair], means: Tensor):
        self.pairs = pairs
        self.means = means[[document for _, document in pairs]]

    def draw(self, rng: random.Random, batch: int, context: int) -> tuple[list[Pair], list[int]]:
        """The pairs of a batch, and the documents of its context."""
        smallest, largest = max(self.SMALLEST, batch), max(self.LARGEST, batch)
        size = int(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
        centre = self.means[rng.randrange(len(self.pairs))]
        members = (self.means @ centre).topk(min(size, len(self.pairs))).indices.tolist()
        chosen = rng.sample(members, min(batch, len(members)))
        shown = rng.sample(members, min(context, len(members)))
        return [self.pairs[i] for i in chosen], [self.pairs[i][1] for i in shown]


def contrastive(
    queries: Tensor, documents: Tensor, plain: Tensor, same: Tensor, scale: float
) -> Tensor:
    """InfoNCE in both directions (0.7 and 0.3) over a batch of n pairs.

    Args:
        queries, documents: unit vectors (n, d); row i of one belongs to row i of the other.
        plain: cosines (n, n) under MiniLM. A document more than 0.1 closer to the query than its
            own is probably a false negative, and does not count as a negative.
        same: (n, n), which documents are the same text; they do not count either.
        scale: multiplies the cosines.
    """
    scores = scale * queries @ documents.T
    own = plain.diagonal()[:, None]
    others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    hidden = others & ((plain > own + 0.1) | same)
    target = torch.arange(len(scores), device=scores.device)
    forward = cross_entropy(scores.masked_fill(hidden, -torch.inf), target)
    back = cross_entropy(scores.T.masked_fill(hidden.T, -torch.inf), target)
    return 0.7 * forward + 0.3 * back


def step_loss(
    model: MiniCDE, states: States, corpora: Corpora, rng: random.Random, recipe: Recipe
) -> Tensor:
    """Loss of one step: tell the pairs of an imitation corpus apart, and stay near the plain mean.

    In some steps there is no context, since the model has to work without one, too.
    """
    pairs, shown = corpora.draw(rng, recipe.batch, recipe.context)
    with_context = rng.random() >= recipe.without_context
    keys = model.pooling.keys(states.means[shown].to(model.device)) if with_context else None
    queries, plain_queries = _pooled(model, states, [query for query, _ in pairs], keys)
    documents, plain_documents = _pooled(model, states, [document for _, document in pairs], keys)
    loss = contrastive(
        queries,
        documents,
        plain=plain_queries @ plain_documents.T,
        same=_same([document for _, document in pairs], model.device),
        scale=recipe.scale,
    )
    pull = recipe.pull_with if with_context else recipe.pull_without
    away = _distance(queries, plain_queries) + _distance(documents, plain_documents)
    return loss + pull * away / 2


def _pooled(
    model: MiniCDE, states: States, rows: list[int], keys: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Unit vectors of some texts, by the pooling being trained and by the plain mean."""
    vectors = model.pooling(*states.batch(rows, model.device), keys)
    return normalize(vectors, dim=-1), states.means[rows].to(model.device)


def _same(rows: list[int], device: torch.device) -> Tensor:
    """(n, n), true where two of the texts are one."""
    ids = torch.tensor(rows, device=device)
    return ids[:, None] == ids[None, :]


def _distance(vectors: Tensor, plain: Tensor) -> Tensor:
    """Mean cosine distance of corresponding rows."""
    return 1 - (vectors * plain).sum(dim=1).mean()


def train(
    paths: list[Path], out: Path, recipe: Recipe, cache: Path | None = None, progress: bool = True
) -> MiniCDE:
    """Follow the recipe; model, configuration and log are written to `out`.

    If `out` holds a checkpoint of the same recipe, training continues from there.

    Raises:
        ValueError: a line of the pairs cannot be read.
    """
    pairs = read_pairs(paths)
    texts = sorted({text for _, query, document in pairs for text in (query, document)})
    position = {text: i for i, text in enumerate(texts)}
    states = States.encode(texts, recipe.tokens, cache)
    corpora = Corpora([(position[q], position[d]) for _, q, d in pairs], states.means)
    out.mkdir(parents=True, exist_ok=True)
    run = Run(recipe, out)
    run.resume()
    start = time.perf_counter()
    bar = tqdm(total=recipe.steps, initial=run.done, desc="steps", disable=not progress)
    with (out / "train.jsonl").open("a" if run.done else "w", encoding="utf-8") as log, bar:
        while run.done < recipe.steps:
            row = run.step(step_loss(run.model, states, corpora, run.rng, recipe))
            log.write(json.dumps(row) + "\n")
            bar.update()
            bar.set_postfix(loss=row["loss"])
            if run.done % SAVE_EVERY == 0 and run.done < recipe.steps:
                run.save()
    run.checkpoint.unlink(missing_ok=True)
    run.model.eval().save(out)
    seconds = time.perf_counter() - start
    print(f"{len(pairs):,} pairs, {recipe.steps} steps in {seconds:.0f} s -> {out.name}/")
    return run.model


class Run:
    """All that changes during training, and its checkpoint."""

    def __init__(self, recipe: Recipe, out: Path):
        torch.manual_seed(recipe.seed)
        self.recipe, self.checkpoint = recipe, out / "checkpoint.pt"
        self.rng, self.done = random.Random(recipe.seed), 0
        config = SimpleNamespace(
            backbone=MINILM.repo_id,
            transductive_corpus_size=recipe.corpus,
            max_seq_length=256,
            rank=recipe.rank,
        )
        self.model = MiniCDE(load_encoder(), config)
        self.optimizer = _optimizer(self.model.pooling, recipe)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            [group["lr"] for group in self.optimizer.param_groups],
            total_steps=recipe.steps,
            pct_start=0.1,
        )

    def step(self, loss: Tensor) -> dict[str, float]:
        """One step down the gradient; what it logs."""
        pooling = self.model.pooling
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(pooling.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.done += 1
        return {
            "step": self.done,
            "loss": round(loss.item(), 4),
            "gamma": round(pooling.gamma.item(), 4),
            "tau": round(pooling.log_tau.exp().item(), 2),
        }

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "recipe": asdict(self.recipe),
            "step": self.done,
            "rng": self.rng.getstate(),
            "pooling": self.model.pooling.state_dict(),
            "optimiser": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        torch.save(state, self.checkpoint)

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one of the same recipe."""
        if not self.checkpoint.is_file():
            return
        saved = torch.load(self.checkpoint, weights_only=True)
        if saved["recipe"] == asdict(self.recipe):
            self.model.pooling.load_state_dict(saved["pooling"])
            self.optimizer.load_state_dict(saved["optimiser"])
            self.schedule.load_state_dict(saved["schedule"])
            self.rng.setstate(saved["rng"])
            self.done = saved["step"]


def _optimizer(pooling: SoftIDFPooling, recipe: Recipe) -> torch.optim.Optimizer:
    matrix = [pooling.diagonal, pooling.left, pooling.right]
    scalars = [pooling.gamma, pooling.log_tau]
    groups: list[dict[str, Any]] = [
        {"params": [pooling.score], "lr": recipe.rate_score},
        {"params": matrix, "lr": recipe.rate_matrix},
        {"params": scalars, "lr": recipe.rate_scalar, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, weight_decay=0.01)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary, _, _ = __doc__.partition("\n")
    parser = argparse.ArgumentParser(prog="python -m helpers.cde.train", description=summary)
    parser.add_argument(
        "pairs",
        nargs="+",
        type=Path,
        help="JSON lines with group, query, document; .gz is read too",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help="folder for model.safetensors, config.json, train.jsonl",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder for the encoded texts, so that the next run starts at once",
    )
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args(arguments))
    paths, out, cache = options.pop("pairs"), options.pop("out"), options.pop("cache")
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    train(paths, out, Recipe(**options), cache)
    return 0


if __name__ == "__main__":
    sys.exit(main())
