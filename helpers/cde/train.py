"""Train the small contextual model: `python -m helpers.cde.train PAIRS.jsonl[.gz] ... --out models/mini-cde`.

Pairs are JSON lines `{"group": ..., "query": ..., "document": ...}`; where `document` is null, two queries of one group are a pair.
A batch is an imitation corpus: pairs whose documents lie close together, so that only fine differences tell them apart.
The backbone is frozen, so every text is encoded once and its token vectors are kept in `--cache`; the steps then touch the pooling
alone. Seeded, logged to `train.jsonl` in `--out`, resumable: the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from ..artifacts import load_encoder
from .mini import MiniCDE

SAVE_EVERY = 100  # steps between checkpoints


@dataclass
class Recipe:
    """Everything that shapes a run."""

    seed: int = 0
    steps: int = 600
    batch: int = 256
    context: int = 256  # documents in the context while training
    corpus: int = 512  # documents in the context when used
    rank: int = 32
    scale: float = 20.0
    tokens: int = 128  # of a text while training
    without_context: float = 0.15  # share of steps
    pull_with: float = 0.2  # toward the plain mean, with and without context
    pull_without: float = 1.0
    rate_score: float = 3e-4  # low, so that the context and not a fixed list of unimportant words carries the effect
    rate_matrix: float = 1e-3
    rate_scalar: float = 1e-2


def read_pairs(paths: list[Path], seed: int = 0) -> list[tuple[str, str, str]]:
    """(group, query, document) of every pair, in the order of the files.

    Raises:
        ValueError: a line is not what is expected; the message names file and line.
    """
    pairs, alone = [], {}
    for path in paths:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    group, query, document = (
                        f"{path.name}/{row['group']}",
                        row["query"],
                        row["document"],
                    )
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{path.name}, line {number}: expected group, query and document ({error})"
                    ) from error
                if document is None:
                    alone.setdefault(group, []).append(query)
                else:
                    pairs.append((group, query, document))
    rng = random.Random(seed)
    for group, queries in sorted(alone.items()):
        rng.shuffle(queries)
        pairs += [(group, a, b) for a, b in zip(queries[::2], queries[1::2], strict=False)]
    return pairs


class States:
    """Token vectors of all texts under the frozen backbone, bfloat16, and each text's plain mean (unit length)."""

    def __init__(
        self, texts: list[str], flat: torch.Tensor, lengths: torch.Tensor, means: torch.Tensor
    ):
        self.texts, self.flat, self.means = texts, flat, means
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])

    @classmethod
    def encode(cls, texts: list[str], tokens: int, cache: Path | None) -> States:
        """Run the backbone over `texts`, or take its result from `cache` when exactly these were encoded before."""
        from tqdm.auto import tqdm

        key = hashlib.sha256(json.dumps([tokens, texts]).encode()).hexdigest()[:16]
        path = cache / f"states-{key}.pt" if cache else None
        if path and path.is_file():
            return cls(texts, **torch.load(path, weights_only=True))
        encoder = load_encoder()
        order = np.argsort([-len(text) for text in texts], kind="stable")
        parts: list = [None] * len(texts)
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
                states = (
                    encoder.transformers_model(**batch).last_hidden_state.to(torch.bfloat16).cpu()
                )
                for row, i in enumerate(chosen):
                    parts[i] = states[row, batch["attention_mask"][row].cpu() == 1].clone()
                bar.update(len(chosen))
        made = {
            "flat": torch.cat(parts),
            "lengths": torch.tensor([len(part) for part in parts]),
            "means": normalize(torch.stack([part.float().mean(0) for part in parts]), dim=1),
        }
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(made, path)
        return cls(texts, **made)

    def batch(self, rows: list[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded token vectors (n, t, d) and mask (n, t) of some texts."""
        pieces = [self.flat[self.starts[i] : self.starts[i + 1]].float() for i in rows]
        states = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        lengths = torch.tensor([len(piece) for piece in pieces])
        mask = torch.arange(states.shape[1])[None] < lengths[:, None]
        return states.to(device), mask.long().to(device)


class Corpora:
    """Draws imitation corpora: the pairs whose documents lie nearest to a random one."""

    SMALLEST, LARGEST = 150, 800

    def __init__(self, pairs: list[tuple[int, int]], means: torch.Tensor):
        self.pairs = pairs
        self.means = means[[document for _, document in pairs]]

    def draw(self, rng: random.Random, batch: int, context: int) -> tuple[list[int], list[int]]:
        """Places of the pairs of a batch, and of those whose documents are its context."""
        size = int(
            np.exp(rng.uniform(np.log(max(self.SMALLEST, batch)), np.log(max(self.LARGEST, batch))))
        )
        centre = self.means[rng.randrange(len(self.pairs))]
        members = (self.means @ centre).topk(min(size, len(self.pairs))).indices.tolist()
        return rng.sample(members, min(batch, len(members))), rng.sample(
            members, min(context, len(members))
        )


def contrastive(
    queries: torch.Tensor,
    documents: torch.Tensor,
    plain: torch.Tensor,
    same: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """InfoNCE both ways (0.7 and 0.3); the same text and probable false negatives do not count as negatives."""
    scores = scale * queries @ documents.T
    right = plain.diagonal()[:, None]
    off = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    hidden = off & ((plain > right + 0.1) | same)
    target = torch.arange(len(scores), device=scores.device)
    forward = cross_entropy(scores.masked_fill(hidden, -torch.inf), target)
    back = cross_entropy(scores.T.masked_fill(hidden.T, -torch.inf), target)
    return 0.7 * forward + 0.3 * back


def step_loss(
    model: MiniCDE, states: States, corpora: Corpora, rng: random.Random, recipe: Recipe
) -> torch.Tensor:
    chosen, shown = corpora.draw(rng, recipe.batch, recipe.context)
    device = model.device
    query_rows, document_rows = ([corpora.pairs[i][side] for i in chosen] for side in (0, 1))
    with_context = rng.random() >= recipe.without_context
    keys = None
    if with_context:
        context = states.means[[corpora.pairs[i][1] for i in shown]].to(device)
        keys = model.pooling.keys(context)
    queries, documents = (
        model.pooling(*states.batch(rows, device), keys) for rows in (query_rows, document_rows)
    )
    plain_q, plain_d = states.means[query_rows].to(device), states.means[document_rows].to(device)
    ids = torch.tensor(document_rows, device=device)
    loss = contrastive(
        queries, documents, plain_q @ plain_d.T, ids[:, None] == ids[None, :], recipe.scale
    )
    away = 1 - 0.5 * ((queries * plain_q).sum(1).mean() + (documents * plain_d).sum(1).mean())
    return loss + (recipe.pull_with if with_context else recipe.pull_without) * away


def train(
    paths: list[Path], out: Path, recipe: Recipe, cache: Path | None = None, progress: bool = True
) -> MiniCDE:
    """Run the recipe and write model, configuration and log to `out`; goes on from a checkpoint of the same recipe."""
    from tqdm.auto import tqdm

    pairs = read_pairs(paths)
    texts = sorted({text for _, query, document in pairs for text in (query, document)})
    place = {text: i for i, text in enumerate(texts)}
    states = States.encode(texts, recipe.tokens, cache)
    corpora = Corpora(
        [(place[query], place[document]) for _, query, document in pairs], states.means
    )
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    config = SimpleNamespace(
        backbone="sentence-transformers/all-MiniLM-L6-v2",
        transductive_corpus_size=recipe.corpus,
        max_seq_length=256,
        rank=recipe.rank,
    )
    model = MiniCDE(load_encoder(), config)
    pooling = model.pooling
    optimiser = torch.optim.AdamW(
        [
            {"params": [pooling.score], "lr": recipe.rate_score},
            {"params": [pooling.diagonal, pooling.left, pooling.right], "lr": recipe.rate_matrix},
            {
                "params": [pooling.gamma, pooling.log_tau],
                "lr": recipe.rate_scalar,
                "weight_decay": 0.0,
            },
        ],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [group["lr"] for group in optimiser.param_groups],
        total_steps=recipe.steps,
        pct_start=0.1,
    )
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / "checkpoint.pt", out / "train.jsonl"
    done = 0
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["recipe"] == asdict(recipe):
            pooling.load_state_dict(saved["pooling"])
            optimiser.load_state_dict(saved["optimiser"])
            schedule.load_state_dict(saved["schedule"])
            rng.setstate(saved["rng"])
            done = saved["step"]
    start = time.perf_counter()
    with (
        log.open("a" if done else "w", encoding="utf-8") as lines,
        tqdm(total=recipe.steps, initial=done, desc="steps", disable=not progress) as bar,
    ):
        for step in range(done + 1, recipe.steps + 1):
            loss = step_loss(model, states, corpora, rng, recipe)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(pooling.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            row = {
                "step": step,
                "loss": round(loss.item(), 4),
                "gamma": round(pooling.gamma.item(), 4),
                "tau": round(pooling.log_tau.exp().item(), 2),
            }
            lines.write(json.dumps(row) + "\n")
            bar.update()
            bar.set_postfix(loss=row["loss"])
            if step % SAVE_EVERY == 0 and step < recipe.steps:
                state = {
                    "recipe": asdict(recipe),
                    "step": step,
                    "rng": rng.getstate(),
                    "pooling": pooling.state_dict(),
                }
                torch.save(
                    {
                        **state,
                        "optimiser": optimiser.state_dict(),
                        "schedule": schedule.state_dict(),
                    },
                    checkpoint,
                )
    checkpoint.unlink(missing_ok=True)
    model.eval().save(out)
    print(
        f"{len(pairs):,} pairs, {recipe.steps} steps in {time.perf_counter() - start:.0f} s -> {out.name}/"
    )
    return model


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.cde.train", description=__doc__.splitlines()[0]
    )
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
        help="folder for the encoded texts, so that a second run starts at once",
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
