"""A corpus of any size, encoded on Ray Data: on a laptop, or on a cluster.

Each block of `corpus_blocks` becomes one file, whichever worker encodes it and however often. So
nothing is lost or doubled when a worker or the driver dies, and finished blocks are not done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from ..device import pick_device
from ..files import whole, write_whole
from ..language import translated as _
from ..settings import choice
from .corpus_blocks import (
    CONTEXT,
    MANIFEST,
    Block,
    block_file,
    digest,
    is_finished,
    plan,
    read_block,
    read_manifest,
    sweep,
    unfinished_files,
    write_vectors,
)
from .encoding import Context, ContextualEncoder
from .mini import load_mini_cde

Loader = Callable[[], ContextualEncoder]
ENCODE = {"document": "encode_documents", "query": "encode_queries"}
RETRIES = 3  # of a block whose worker died; Ray itself would retry forever
FEW_CORES = 4  # per worker; more hardly speed up a batch of short texts
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": Ray's default on Windows and macOS


@dataclass(frozen=True)
class Summary:
    """What `encode_corpus` did.

    Attributes:
        rows: in the corpus.
        encoded: rows that this run encoded; the others were there already.
        seconds: for the whole call, including the start of Ray.
        rate: texts per second, all workers together, from the first finished block to the last;
            NaN for fewer than two blocks.
        workers: processes that held the model.
    """

    rows: int
    encoded: int
    seconds: float
    rate: float
    workers: int


def encode_corpus(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    context: Context | Literal["sample"] | None = "sample",
    model: Loader = load_mini_cde,
    kind: Literal["document", "query"] = "document",
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    block_rows: int = 256,
    seed: int = 0,
    progress: bool = True,
) -> Summary:
    """Encode a corpus into Parquet files of `_id` and `vector` (float32, unit length).

    After an interruption, call it again to resume. It runs on the cluster that `RAY_ADDRESS` names;
    without one it starts Ray on this machine, which ends with the call. On a cluster every machine
    needs this project installed, and `source` and `out` under the same path.

    Args:
        source: Parquet or JSONL files with `_id`, `text` and optionally `title`, or a folder of
            them (only its `corpus*` files, where it has any).
        out: folder for the vectors and the context.
        context: one made before; or `"sample"`, documents drawn as `embed_context(texts,
            seed=seed)` draws them (a resumed run keeps those drawn first); or None for no context.
        model: function without arguments that loads the model, called once in each worker:
            `load_mini_cde`, or `functools.partial(CDE.load, "folder")`.
        workers: processes that hold the model. Default: one per GPU, or as many as the cores allow.
        threads: CPU cores per worker; at most 4 by default.
        batch_size: texts computed at a time; by default as many as suit the machine.
        block_rows: texts in one file, and the most that are lost with a worker.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: the cluster that `RAY_ADDRESS` names does not answer or cannot be joined.
        FileNotFoundError, ValueError, TypeError: source, arguments or model cannot be used, or
            `out` holds other vectors.
    """
    started = time.perf_counter()
    _check_choices(context, model, kind)
    _check_counts(workers=workers, threads=threads, batch_size=batch_size, block_rows=block_rows)
    ray = import_ray()
    blocks = plan(source, block_rows)
    rows = sum(block.rows for block in blocks)
    out = Path(out).absolute()
    begun = _open_folder(out)
    if begun and context == "sample" and (out / CONTEXT).is_file():
        context = Context.load(out / CONTEXT)

    with _running(ray):
        workers, needs = _allot(ray.cluster_resources(), workers, threads)
        job = _Job(model, needs, out, kind, batch_size)
        fingerprint, used = _first_stage(ray, job, context, blocks, seed)
        manifest = _describe(blocks, block_rows, kind, fingerprint, used)
        _begin_or_resume(out, begun, used, manifest)
        missing = [block for block in blocks if not is_finished(out, block)]
        sweep(out)  # from here on, every partial file left behind is a worker that died
        finished = _second_stage(ray, job, used, missing, workers)
        encoded, rate = _count(finished, rows, sum(block.rows for block in missing), progress)
    sweep(out)
    return Summary(rows, encoded, time.perf_counter() - started, rate, workers)


# Before Ray starts: arguments, and the folder of vectors.


def _check_choices(context: Any, model: Any, kind: Any) -> None:
    if not callable(model) or isinstance(model, ContextualEncoder):
        raise TypeError(
            _(
                "model must be a function that loads it in each worker, such as "
                "load_mini_cde or partial(CDE.load, folder)"
            )
        )
    if not (context is None or context == "sample" or isinstance(context, Context)):
        raise TypeError(
            _('context must be a Context, "sample" or None, not {context!r}').format(
                context=context
            )
        )
    if kind not in ENCODE:
        raise ValueError(_('kind must be "document" or "query", not {kind!r}').format(kind=kind))


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(
                _("{name} must be at least 1, got {value}").format(name=name, value=value)
            )


def _open_folder(out: Path) -> dict[str, Any] | None:
    """The manifest of a run that was begun in `out`; None for a new folder, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    begun = read_manifest(out)
    if begun is None and any(out.glob("*.parquet")):
        raise ValueError(
            _(
                "{name}/ holds Parquet files that encode_corpus did not write; give a "
                "new or an empty folder"
            ).format(name=out.name)
        )
    return begun


def _describe(
    blocks: list[Block], block_rows: int, kind: str, model: str, context: Context | None
) -> dict[str, Any]:
    """The manifest: whatever must stay the same for vectors to belong together."""
    return {
        "block_rows": block_rows,
        "source": digest(block.digest for block in blocks),
        "kind": kind,
        "model": model,
        "context": "none" if context is None else context.name,
        "rows": sum(block.rows for block in blocks),
        "blocks": len(blocks),
    }


def _begin_or_resume(
    out: Path, begun: dict[str, Any] | None, context: Context | None, manifest: dict[str, Any]
) -> None:
    """Store context and manifest in a new folder; in one that was begun, compare the manifests.

    Raises:
        ValueError: it was begun with something else, so that the vectors would not fit together.
    """
    if begun is None:
        if context is not None:
            with whole(out / CONTEXT) as part:
                context.save(part)
        write_whole(out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        return
    for name, value in manifest.items():
        if value != begun.get(name):
            raise ValueError(
                _(
                    "{name}/ was begun with another {setting} ({before}, now {value}); such "
                    "vectors do not belong together. Give the same {setting} to resume, or "
                    "another folder."
                ).format(name=out.name, setting=name, before=begun.get(name), value=value)
            )


# What Ray's workers run.


@dataclass(frozen=True)
class _Job:
    """What every worker has to know."""

    model: Loader
    needs: dict[str, int]  # of one worker: num_gpus or num_cpus
    out: Path
    kind: str
    batch_size: int | None

    def load_model(self) -> ContextualEncoder:
        """The model, on the worker's own GPU or on as many threads as it was given."""
        if "num_gpus" in self.needs:
            os.environ["EMBEDDINGS_DEVICE"] = "cuda"  # Ray shows a worker only its own
        else:
            torch.set_num_threads(self.needs["num_cpus"])
        encoder = self.model()
        if not isinstance(encoder, ContextualEncoder):
            raise TypeError(
                _(
                    "model must load a ContextualEncoder, such as MiniCDE or CDE, not a {kind}"
                ).format(kind=type(encoder).__name__)
            )
        return encoder.to(pick_device()).eval()


def _identify(
    job: _Job, context: Context | str | None, blocks: list[Block], seed: int
) -> tuple[str, Context | None]:
    """Which model this is, and the context: the given one, or one sampled from the corpus."""
    encoder = job.load_model()
    used = context if isinstance(context, Context) else None
    if used is not None and used.model != encoder.name:
        raise ValueError(
            _(
                "this context was made by {model}, but the model is {name}; make one "
                "with it, or context='sample'"
            ).format(model=used.model, name=encoder.name)
        )
    if context == "sample":
        ids, texts = _sample(blocks, encoder.config.transductive_corpus_size, seed)
        used = encoder.embed_context(texts, ids=ids)
    return f"{encoder.name}, weights {_weights_digest(encoder)[:12]}", used


def _sample(blocks: list[Block], size: int, seed: int) -> tuple[list[str], list[str]]:
    """Ids and texts of the documents that `embed_context(all_texts, seed=seed)` would draw."""
    rows = sum(block.rows for block in blocks)
    drawn = list(range(rows))
    if rows > size:
        drawn = np.random.default_rng(seed).choice(rows, size, replace=False).tolist()
    wanted, found, start = set(drawn), {}, 0
    for block in blocks:
        if places := wanted.intersection(range(start, start + block.rows)):
            passages = list(zip(*read_block(block), strict=True))
            found.update({place: passages[place - start] for place in places})
        start += block.rows
    return [found[place][0] for place in drawn], [found[place][1] for place in drawn]


def _weights_digest(encoder: ContextualEncoder) -> str:
    weights = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        weights.update(name.encode() + raw.numpy().tobytes())
    return weights.hexdigest()


class _Worker:
    """Loads the model once, takes the context from the object store, writes a file per block."""

    def __init__(self, job: _Job, context: Any):
        import ray

        self.job, self.context = job, ray.get(context)
        self.encode = getattr(job.load_model(), ENCODE[job.kind])

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        block = Block(**row)
        if not is_finished(self.job.out, block):  # else a worker died before it could report
            self._check_retries(block)
            ids, texts = read_block(block)
            with whole(block_file(self.job.out, block.number)) as part:
                vectors = self.encode(texts, self.context, batch_size=self.job.batch_size)
                write_vectors(part, ids, vectors)
        return {"rows": block.rows}

    def _check_retries(self, block: Block) -> None:
        """Only a killed worker leaves a partial file, so their number counts the deaths."""
        if len(unfinished_files(self.job.out, block.number)) > RETRIES:
            raise MemoryError(
                _(
                    "{count} workers died on block {number}, perhaps from lack of "
                    "memory: try a smaller batch_size or fewer workers; finished blocks "
                    "stay"
                ).format(count=RETRIES + 1, number=block.number)
            )


# The two stages, on Ray.


def _first_stage(
    ray: Any, job: _Job, context: Context | str | None, blocks: list[Block], seed: int
) -> tuple[str, Context | None]:
    """`_identify` in one worker, so that the driver needs neither the model nor a GPU."""
    with _plain_errors(ray):
        return ray.get(ray.remote(**job.needs)(_identify).remote(job, context, blocks, seed))


def _second_stage(
    ray: Any, job: _Job, context: Context | None, blocks: list[Block], workers: int
) -> Iterator[int]:
    """Every block through a pool of `_Worker`; yields the rows of each that is finished.

    Ray Data replaces a lost worker and gives its blocks to another.
    """
    if not blocks:
        return
    data = ray.data.from_items([asdict(block) for block in blocks], override_num_blocks=len(blocks))
    data.context.enable_progress_bars = False  # ours counts texts
    pool = ray.data.ActorPoolStrategy(
        size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=1
    )
    arguments = (job, ray.put(context))
    with _plain_errors(ray):
        finished = data.map(_Worker, fn_constructor_args=arguments, compute=pool, **job.needs)
        for row in finished.iter_rows():
            yield row["rows"]


def _count(finished: Iterable[int], rows: int, missing: int, progress: bool) -> tuple[int, float]:
    """Draw the progress bar; texts encoded, and texts per second from the first block on."""
    encoded, rate, first, since = 0, float("nan"), 0, 0.0
    with tqdm(total=rows, initial=rows - missing, unit="text", disable=not progress) as bar:
        for texts in finished:
            encoded += texts
            bar.update(texts)
            if first:
                rate = (encoded - first) / (time.perf_counter() - since)
            else:
                first, since = encoded, time.perf_counter()
    return encoded, rate


# Ray itself.


def import_ray() -> Any:
    """Ray with Ray Data, kept to this machine unless `RAY_ADDRESS` names another.

    Left alone, Ray on Linux asks an outside address for this machine's own and listens on all of
    its network interfaces; on Windows and macOS it keeps to loopback by default.

    Raises:
        ImportError: Ray is not installed.
    """
    here = "local", "127.0.0.1", "localhost"
    unset = LOOPBACK_ONLY not in os.environ and _cluster().partition(":")[0] in here
    if unset:
        os.environ[LOOPBACK_ONLY] = "0"  # read once, when Ray is imported
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(
            _(
                "Encoding at scale needs Ray, which is not installed. In the folder of "
                "this project: python -m pip install -c tests/requirements.txt -e "
                '".[scale]"'
            )
        ) from error
    finally:
        if unset:
            del os.environ[LOOPBACK_ONLY]
    return ray


def _cluster() -> str:
    """The address in `RAY_ADDRESS`, or `"local"`."""
    return os.environ.get("RAY_ADDRESS", "").strip() or "local"


@contextmanager
def _running(ray: Any) -> Iterator[None]:
    """The Ray that this process uses already, the cluster of `RAY_ADDRESS`, or one of our own."""
    if ray.is_initialized():
        yield
        return
    _start(ray, _cluster())
    try:
        yield
    finally:
        ray.shutdown()


def _start(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        ray.init(address, include_dashboard=False, **quiet)
        return
    _check_answer(address)
    try:
        ray.init(address, **quiet)
    except ConnectionError as error:
        raise ConnectionError(
            _(
                "the Ray at RAY_ADDRESS={address} cannot be joined ({error}). If it "
                "asks for credentials, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what "
                "`ray get-auth-token` prints there"
            ).format(address=address, error=error)
        ) from error


def _check_answer(address: str) -> None:
    """Whether anybody listens at host:port, as Ray itself would keep trying for minutes."""
    host, _colon, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ConnectionError(
            _(
                "no Ray answers at RAY_ADDRESS={address}; start it there (ray start "
                "--head), or unset the variable"
            ).format(address=address)
        ) from error


def _allot(
    there: dict[str, float], workers: int | None, threads: int | None
) -> tuple[int, dict[str, int]]:
    """How many workers, and what each asks of Ray: a GPU where there are any, else cores.

    Raises:
        ValueError: more is wanted than there is.
    """
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if gpus and not choice("EMBEDDINGS_DEVICE").startswith(("cpu", "mps")):
        most, needs = gpus, {"num_gpus": 1}
    else:
        threads = threads or min(FEW_CORES, cpus)
        most, needs = cpus // max(threads, 1), {"num_cpus": threads}
    wanted = workers or max(most, 1)
    if wanted > most:
        each = " ".join(f"{name}={value}" for name, value in needs.items())
        raise ValueError(
            _(
                "{wanted} workers with {each} were asked for, but Ray has {cpus} CPUs "
                "and {gpus} GPUs; ask for fewer workers or threads"
            ).format(wanted=wanted, each=each, cpus=cpus, gpus=gpus)
        )
    return wanted, needs


@contextmanager
def _plain_errors(ray: Any) -> Iterator[None]:
    """Errors of a worker, with their own type and message where Ray passes them on."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise _plain(ray, error) from error


def _plain(ray: Any, error: Exception) -> Exception:
    if not isinstance(error, ray.exceptions.RayTaskError):  # it crashed, or did not even start
        return RuntimeError(
            _("a worker failed: {last_line}").format(last_line=_last_line(str(error)))
        )
    if not isinstance(error.cause, ray.exceptions.UserCodeException):
        return error.cause
    # Ray Data keeps only the text of the traceback
    traceback = str(error).split("\n\nThe above exception")[0]
    return RuntimeError(_("a worker failed: {last_line}").format(last_line=_last_line(traceback)))


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
