"""A corpus of any size, encoded on Ray Data: `encode_corpus` on a laptop or a cluster, `read_vectors` to have the result.

The corpus is cut into blocks of consecutive rows, numbered from 0. Block 7 becomes the file `00000007.parquet`, whole or not at all,
whoever encodes it and however often. So nothing is lost or doubled when a worker or the driver dies; the files that are there are done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from .. import retrieval
from ..device import pick_device
from .encoding import Context, ContextualEncoder, Vectors
from .mini import load_mini_cde

Loader = Callable[[], ContextualEncoder]
MANIFEST, CONTEXT = "manifest.json", "context.safetensors"
ENCODE = {"document": "encode_documents", "query": "encode_queries"}
RETRIES = 3  # of a block whose worker died; Ray itself would try for ever
FEW_CORES = 4  # of a worker; more speed up one batch of short texts only little


@dataclass(frozen=True)
class Summary:
    """What `encode_corpus` did.

    Attributes:
        rows: of the corpus.
        encoded: rows that this run encoded; the others were there already.
        seconds: of the whole call, Ray's start included.
        rate: texts a second, all workers together, from the first finished block to the last; NaN for fewer than two blocks.
        workers: processes that held the model.
    """

    rows: int
    encoded: int
    seconds: float
    rate: float
    workers: int


def encode_corpus(
    source: str | Path | Sequence[str | Path], out: str | Path, *, context: Context | Literal["sample"] | None = "sample",
    model: Loader = load_mini_cde, kind: Literal["document", "query"] = "document", workers: int | None = None,
    threads: int | None = None, batch_size: int | None = None, block_rows: int = 256, seed: int = 0, progress: bool = True,
) -> Summary:  # fmt: skip
    """Encode a corpus into Parquet files of `_id` and `vector` (float32, unit length); call it again to go on after an interruption.

    It runs on the cluster that `RAY_ADDRESS` names, else on a Ray of its own on this machine, which ends with the call. On a cluster
    every machine needs this project installed, and `source` and `out` under the same path.

    Args:
        source: Parquet or JSONL with `_id`, `text` and perhaps `title`: files, or a folder (of it `corpus*`, where there is such a file).
        out: folder for the vectors and the context.
        context: made before; or `"sample"`, documents drawn as `embed_context(texts, seed=seed)` draws them
            (when the work goes on, those that were drawn first); or None, without.
        model: function without arguments that loads the model, called once in each worker: `load_mini_cde`, or
            `functools.partial(CDE.load, "folder")`.
        workers: processes that hold the model. Default: one a GPU, or as many as the cores allow.
        threads: CPU cores of one worker; at most 4 by default.
        batch_size: texts computed at a time; as many as suit the machine when not given.
        block_rows: texts in one file: at most so many are encoded again for each worker that was lost.

    Raises:
        ImportError: Ray is not installed.
        FileNotFoundError, ValueError, TypeError: source, arguments or model cannot be used, or `out` holds other vectors.
    """
    ray = _ray()
    started = time.perf_counter()
    if not callable(model) or isinstance(model, ContextualEncoder):
        raise TypeError(
            "model must be a function that loads it in each worker, such as load_mini_cde or partial(CDE.load, folder)"
        )
    if not (context is None or context == "sample" or isinstance(context, Context)):
        raise TypeError(f'context must be a Context, "sample" or None, not {context!r}')
    if kind not in ENCODE:
        raise ValueError(f'kind must be "document" or "query", not {kind!r}')
    for name, value in (
        ("workers", workers),
        ("threads", threads),
        ("batch_size", batch_size),
        ("block_rows", block_rows),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    out = Path(out).absolute()
    blocks = _plan(_files(source), block_rows)
    rows = sum(block["rows"] for block in blocks)
    out.mkdir(parents=True, exist_ok=True)
    before = _manifest(out)
    if before is None and any(out.glob("*.parquet")):
        raise ValueError(
            f"{out.name}/ holds Parquet files that are not from here; give a new or an empty folder"
        )
    if before is not None and context == "sample" and (out / CONTEXT).is_file():
        context = Context.load(out / CONTEXT)

    with _running(ray):
        workers, needs = _share(ray.cluster_resources(), workers, threads)
        with _plain_errors(ray):
            fingerprint, context = ray.get(
                ray.remote(**needs)(_first_stage).remote(model, needs, context, blocks, seed)
            )
        now = {
            "block_rows": block_rows, "source": _digest(block["digest"] for block in blocks), "kind": kind, "model": fingerprint,
            "context": "none" if context is None else context.name, "rows": rows, "blocks": len(blocks),
        }  # fmt: skip
        if before is None:
            if context is not None:
                with _whole(out / CONTEXT) as part:
                    context.save(part)
            with _whole(out / MANIFEST) as part:
                part.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
        elif other := [name for name in now if now[name] != before.get(name)]:
            name = other[0]
            raise ValueError(
                f"{out.name}/ was begun with another {name} ({before.get(name)}, now {now[name]}); vectors of both do not belong together. "
                f"Give the same {name} to go on, or another folder."
            )
        missing = [
            block for block in blocks if not _finished(_file(out, block["number"]), block["rows"])
        ]
        encoded, rate, first, since = 0, float("nan"), 0, 0.0
        _sweep(out)  # what killed workers left; below, a part more is a worker less
        arguments = (model, needs, ray.put(context), str(out), kind, batch_size)
        with tqdm(
            total=rows,
            initial=rows - sum(block["rows"] for block in missing),
            unit="text",
            disable=not progress,
        ) as bar:
            for done in _second_stage(ray, missing, workers, needs, arguments):
                encoded += done["rows"]
                bar.update(done["rows"])
                if first:
                    rate = (encoded - first) / (time.perf_counter() - since)
                else:
                    first, since = encoded, time.perf_counter()
    _sweep(out)
    return Summary(rows, encoded, time.perf_counter() - started, rate, workers)


def read_vectors(out: str | Path) -> tuple[list[str], Vectors]:
    """Ids and vectors (n, d) that `encode_corpus` wrote, in the order of its source.

    Raises:
        FileNotFoundError: nothing was encoded into this folder.
        ValueError: a block is missing or damaged, or an id stands twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = Path(out)
    manifest = _manifest(out)
    if manifest is None:
        raise FileNotFoundError(
            f"{out.name}/ holds no vectors: {MANIFEST} is missing. Make them: encode_corpus(source, {out.name!r})"
        )
    go_on = "Call encode_corpus again with the same arguments; what is done stays."
    files = [_file(out, number) for number in range(manifest["blocks"])]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ValueError(
            f"{out.name}/ is not complete: {len(missing)} of {len(files)} blocks are missing, first {missing[0]}. {go_on}"
        )
    ids, vectors = [], []
    for path in files:
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"{path.name} of {out.name}/ is cut or damaged ({error}). {go_on}"
            ) from error
        ids += table["_id"].to_pylist()
        vectors += [
            chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in table["vector"].chunks
        ]
    if not len(set(ids)) == len(ids) == manifest["rows"]:
        raise ValueError(
            f"{out.name}/ has {len(ids)} rows and {len(set(ids))} ids instead of {manifest['rows']}; encode into a new folder"
        )
    return ids, Vectors(np.concatenate(vectors), manifest["context"])


# The two functions that Ray runs.


def _first_stage(
    load: Loader, needs: dict, context: Context | str | None, blocks: list[dict], seed: int
) -> tuple[str, Context | None]:
    """Which model this is, and the context: as it was given, or of documents drawn from the whole corpus."""
    encoder = _load(load, needs)
    if context == "sample":
        rows = sum(block["rows"] for block in blocks)
        size = min(encoder.config.transductive_corpus_size, rows)
        drawn = (
            range(rows)
            if size == rows
            else np.random.default_rng(seed).choice(rows, size, replace=False).tolist()
        )
        wanted, found, start = set(drawn), {}, 0
        for block in blocks:
            places = wanted.intersection(range(start, start + block["rows"]))
            if places:
                ids, texts = _read(block)
                found.update(
                    {place: (ids[place - start], texts[place - start]) for place in places}
                )
            start += block["rows"]
        context = encoder.embed_context(
            [found[place][1] for place in drawn], ids=[found[place][0] for place in drawn]
        )
    elif context is not None and context.model != encoder.name:
        raise ValueError(
            f"this context was made by {context.model}, but the model is {encoder.name}; make one with it, or context='sample'"
        )
    weights = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        weights.update(
            name.encode()
            + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return f"{encoder.name}, weights {weights.hexdigest()[:12]}", context


class _SecondStage:
    """One worker: it loads the model once, takes the context from the object store, and makes a file of each block it is given."""

    def __init__(
        self, load: Loader, needs: dict, context: Any, out: str, kind: str, batch_size: int | None
    ):
        import ray

        self.encoder, self.context = _load(load, needs), ray.get(context)
        self.out, self.encode, self.batch_size = (
            Path(out),
            getattr(self.encoder, ENCODE[kind]),
            batch_size,
        )

    def __call__(self, block: dict) -> dict:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = _file(self.out, block["number"])
        if _finished(path, block["rows"]):  # the worker died between the file and its report
            return {"rows": block["rows"]}
        if len(list(self.out.glob(f"{path.name}.*.part"))) > RETRIES:
            raise MemoryError(
                f"{RETRIES + 1} workers died on block {block['number']}, perhaps for want of memory: "
                "try a smaller batch_size or fewer workers; what is done stays"
            )
        ids, texts = _read(block)
        with _whole(path) as part:
            vectors = self.encode(texts, self.context, batch_size=self.batch_size)
            column = pa.FixedSizeListArray.from_arrays(
                pa.array(np.asarray(vectors).reshape(-1)), vectors.shape[1]
            )
            pq.write_table(pa.table({"_id": pa.array(ids, pa.string()), "vector": column}), part)
        return {"rows": block["rows"]}


def _second_stage(
    ray: Any, blocks: list[dict], workers: int, needs: dict, arguments: tuple
) -> Iterator[dict]:
    """Every block through a pool of `_SecondStage`; Ray Data replaces a lost worker and gives its blocks to another."""
    if not blocks:
        return
    data = ray.data.from_items(blocks, override_num_blocks=len(blocks))
    data.context.enable_progress_bars = False  # ours counts texts
    pool = ray.data.ActorPoolStrategy(
        size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=1
    )
    with _plain_errors(ray):
        yield from data.map(
            _SecondStage, fn_constructor_args=arguments, compute=pool, **needs
        ).iter_rows()


# Source: files -> blocks -> passages.


def _files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    given = [
        Path(path).absolute() for path in ([source] if isinstance(source, (str, Path)) else source)
    ]
    files = []
    for path in given:
        if path.is_dir():
            inside = sorted(
                file for file in path.iterdir() if file.suffix in (".parquet", ".jsonl")
            )
            corpus = [
                file for file in inside if file.name.startswith("corpus")
            ]  # beside it, in BEIR layout, lie the questions
            files += corpus or inside
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(
                f"{path} does not exist; give Parquet or JSONL files, or a folder of them"
            )
    if not files or any(file.suffix not in (".parquet", ".jsonl") for file in files):
        raise ValueError(
            f"{', '.join(path.name for path in given) or 'source'}: no files that end in .parquet or .jsonl"
        )
    return files


def _rows(path: Path, start: int = 0) -> Iterator[tuple[int, dict]]:
    """From `start` on, each row behind the place where the next one starts: its number in Parquet, its first byte in JSONL."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".jsonl":
        with path.open("rb") as lines:
            lines.seek(start)
            for line in lines:
                start += len(line)
                try:
                    yield start, json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"{path.name}: the line that ends at byte {start} is no JSON ({error})"
                    ) from error
        return
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path.name} cannot be read as Parquet: {error}") from error
    with file:
        wanted = [name for name in ("_id", "title", "text") if name in file.schema_arrow.names]
        columns = wanted if {"_id", "text"} <= set(wanted) else None  # all of them, for the message
        place = 0
        for group in range(file.num_row_groups):
            if place + file.metadata.row_group(group).num_rows <= start:
                place += file.metadata.row_group(group).num_rows
                continue
            for batch in file.iter_batches(row_groups=[group], columns=columns):
                skipped = min(max(start - place, 0), len(batch))
                place += skipped
                for row in batch.slice(skipped).to_pylist():
                    place += 1
                    yield place, row


def _passages(rows: list[dict], path: Path, first: int) -> tuple[list[str], list[str]]:
    """Ids and texts of rows; `first` is the number of the first one, for the message."""
    for number, row in enumerate(rows, start=first):
        found = (
            [name for name, value in row.items() if value is not None]
            if isinstance(row, dict)
            else []
        )
        if "_id" not in found or not isinstance(row.get("text"), str):
            lacking = "_id" if "_id" not in found else "text"
            raise ValueError(
                f"{path.name}, row {number}: no {lacking}; a passage needs _id and text, this has {', '.join(found) or 'nothing'}"
            )
    return [str(row["_id"]) for row in rows], retrieval.texts(
        [{**row, "title": row.get("title") or ""} for row in rows]
    )


def _plan(files: list[Path], block_rows: int) -> list[dict]:
    """One pass over the source: where every block starts, how many rows it has, and a digest of what stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    blocks, names = [], []
    for path in files:
        rows, start, first = _rows(path), 0, 1
        while chunk := list(islice(rows, block_rows)):
            ids, texts = _passages([row for _, row in chunk], path, first)
            blocks.append(
                {
                    "number": len(blocks),
                    "path": str(path),
                    "start": start,
                    "rows": len(ids),
                    "digest": _digest(ids + texts),
                }
            )
            names.append(pa.array(ids, pa.string()))
            start, first = chunk[-1][0], first + len(chunk)
    if not blocks:
        raise ValueError(f"{', '.join(path.name for path in files)}: not one row")
    counts = pc.value_counts(pa.chunked_array(names))
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise ValueError(
            f"{len(twice)} ids stand more than once in the source, first {twice[0]['values'].as_py()!r}; give each row its own"
        )
    return blocks


def _read(block: dict) -> tuple[list[str], list[str]]:
    """Ids and texts of one block, the same that `_plan` saw."""
    path = Path(block["path"])
    ids, texts = _passages(
        [row for _, row in islice(_rows(path, block["start"]), block["rows"])], path, 1
    )
    if _digest(ids + texts) != block["digest"]:
        raise ValueError(
            f"{path.name} was changed while it was encoded; restore it and call again, or encode it into a new folder"
        )
    return ids, texts


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


# Files of `out`.


def _file(out: Path, number: int) -> Path:
    return out / f"{number:08d}.parquet"


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Write into what this gives; it is renamed at the end, so the file is there whole or not at all. Only a killed process leaves a part."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    part.touch()
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _sweep(out: Path) -> None:
    for part in out.glob("*.part"):
        part.unlink(missing_ok=True)


def _finished(path: Path, rows: int) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows == rows
    except (OSError, pa.ArrowInvalid):  # not there, or cut by a machine that lost its power
        return False


def _manifest(out: Path) -> dict | None:
    try:
        return json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{MANIFEST} of {out.name}/ is damaged ({error}); encode into a new folder"
        ) from error


# Ray.


def _ray() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(
            'Encoding at scale needs Ray, which is not installed. In the folder of this project: python -m pip install -c tests/requirements.txt -e ".[scale]"'
        ) from error
    return ray


@contextmanager
def _plain_errors(ray: Any) -> Iterator[None]:
    """What went wrong in a worker, with its own type and message where Ray hands them on."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, ray.exceptions.UserCodeException):
            raise error.cause from error
        raised = (
            str(error).split("\n\nThe above exception")[0].splitlines()[-1]
        )  # Ray Data keeps the error itself as text only
        raise RuntimeError(f"a worker failed: {raised}") from error
    except ray.exceptions.RayError as error:  # it did not even start, or crashed without a word
        raise RuntimeError(f"a worker failed: {str(error).strip().splitlines()[-1]}") from error


@contextmanager
def _running(ray: Any) -> Iterator[None]:
    """The Ray that runs in this process already, or the cluster of `RAY_ADDRESS`, or one of our own on this machine."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "").strip() or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"include_dashboard": False} if address == "local" else {}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdigit():
            socket.create_connection(
                (host, int(port)), timeout=5
            ).close()  # Ray itself asks for minutes
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except OSError as error:
        raise ConnectionError(
            f"no Ray answers at RAY_ADDRESS={address}; start it there (ray start --head), or unset the variable"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _share(there: dict, workers: int | None, threads: int | None) -> tuple[int, dict]:
    """How many workers, and what each asks of Ray: a GPU where there are any, else cores.

    Raises:
        ValueError: more is wanted than there is.
    """
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if gpus and not os.environ.get("EMBEDDINGS_DEVICE", "").strip().lower().startswith(
        ("cpu", "mps")
    ):
        most, needs = gpus, {"num_gpus": 1}
    else:
        threads = threads or min(FEW_CORES, cpus)
        most, needs = cpus // max(threads, 1), {"num_cpus": threads}
    if (workers or 1) > most:
        wanted = f"{workers or 1} workers with {' '.join(f'{value} {name}' for name, value in needs.items())} each"
        raise ValueError(
            f"{wanted} are wanted, but Ray has {cpus} CPUs and {gpus} GPUs; ask for fewer workers or threads"
        )
    return workers or most, needs


def _load(load: Loader, needs: dict) -> ContextualEncoder:
    """The model, in a worker: on its own GPU, or on as many threads as it was given."""
    if "num_gpus" in needs:
        os.environ["EMBEDDINGS_DEVICE"] = "cuda"  # Ray shows a worker only its own
    else:
        torch.set_num_threads(needs["num_cpus"])
    encoder = load()
    if not isinstance(encoder, ContextualEncoder):
        raise TypeError(
            f"model must load a ContextualEncoder, such as MiniCDE or CDE, not a {type(encoder).__name__}"
        )
    return encoder.to(pick_device()).eval()
