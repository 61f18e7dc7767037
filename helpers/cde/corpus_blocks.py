"""A corpus on disk, in blocks: the passages that go in, and the files of vectors that come out.

The corpus is cut into blocks of consecutive rows, numbered from 0. Block 7 becomes the file
`00000007.parquet`, either whole or not at all, so every file that exists is finished work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import retrieval
from ..language import marked as N_
from ..language import translated as _
from ..tokens import check_texts
from .encoding import Vectors

MANIFEST, CONTEXT = "manifest.json", "context.safetensors"
SUFFIXES = (".parquet", ".jsonl")
COLUMNS = ("_id", "title", "text")
RESUME = N_("Call encode_corpus again with the same arguments; finished blocks stay.")


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one source file.

    Attributes:
        number: counts the blocks of the whole corpus from 0.
        path: the source file.
        start: where the block begins: a row number in Parquet, a byte offset in JSONL.
        rows: passages in the block.
        digest: SHA-256 of its ids and texts.
    """

    number: int
    path: str
    start: int
    rows: int
    digest: str


# From source files to blocks to passages.


def plan(source: str | Path | Sequence[str | Path], block_rows: int) -> list[Block]:
    """Cut a corpus into blocks of at most `block_rows` passages, in one pass over its files.

    Args:
        source: Parquet or JSONL files with `_id`, `text` and optionally `title`, or folders of
            them; where a folder has files named `corpus*`, these alone are read.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a file or a row cannot be used, an id occurs twice, or there are no rows.
    """
    import pyarrow as pa

    blocks: list[Block] = []
    ids_of_blocks = []
    files = _source_files(source)
    for path in files:
        rows, start, first = _rows(path, 0), 0, 1
        while chunk := list(islice(rows, block_rows)):
            ids, texts = _passages([row for _, row in chunk], path, first)
            blocks.append(Block(len(blocks), str(path), start, len(ids), digest(ids + texts)))
            ids_of_blocks.append(pa.array(ids, pa.string()))
            start, first = chunk[-1][0], first + len(chunk)
    if not blocks:
        raise ValueError(_("{names}: no rows").format(names=", ".join(path.name for path in files)))
    _check_unique(pa.chunked_array(ids_of_blocks))
    return blocks


def read_block(block: Block) -> tuple[list[str], list[str]]:
    """Ids and texts of one block, the same that `plan` saw.

    Raises:
        ValueError: the source file has changed since.
    """
    path = Path(block.path)
    rows = islice(_rows(path, block.start), block.rows)
    ids, texts = _passages([row for _, row in rows], path, 1)
    if digest(ids + texts) != block.digest:
        raise ValueError(
            _(
                "{name} changed while it was being encoded; restore it and call again, "
                "or encode it into a new folder"
            ).format(name=path.name)
        )
    return ids, texts


def digest(texts: Iterable[str]) -> str:
    """SHA-256 of a list of texts, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def _source_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    paths = [source] if isinstance(source, (str, Path)) else source
    given = [Path(path).absolute() for path in paths]
    files = [file for path in given for file in (_in_folder(path) if path.is_dir() else [path])]
    for path in files:
        if not path.exists():
            raise FileNotFoundError(
                _("{path} does not exist; give Parquet or JSONL files, or a folder of them").format(
                    path=path
                )
            )
    if not files or any(path.suffix not in SUFFIXES for path in files):
        names = ", ".join(path.name for path in given) or "source"
        raise ValueError(_("{names}: no files that end in .parquet or .jsonl").format(names=names))
    return files


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    # In BEIR layout the queries lie beside the corpus.
    return [path for path in files if path.name.startswith("corpus")] or files


def _rows(path: Path, start: int) -> Iterator[tuple[int, Any]]:
    """Rows of a file from `start` on, each after the `start` of the row that follows it."""
    return (_json_rows if path.suffix == ".jsonl" else _parquet_rows)(path, start)


def _json_rows(path: Path, start: int) -> Iterator[tuple[int, Any]]:
    """`start` is a byte offset."""
    with path.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            start += len(line)
            try:
                yield start, json.loads(line)
            except ValueError as error:
                raise ValueError(
                    _("{name}: the line that ends at byte {start} is not JSON ({error})").format(
                        name=path.name, start=start, error=error
                    )
                ) from error


def _parquet_rows(path: Path, start: int) -> Iterator[tuple[int, Any]]:
    """`start` is a row number. One row group at a time is in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(
            _("{name} cannot be read as Parquet: {error}").format(name=path.name, error=error)
        ) from error
    with file:
        names = file.schema_arrow.names
        # Where a column is missing all are read, for the error message.
        columns = (
            [name for name in COLUMNS if name in names] if {"_id", "text"} <= set(names) else None
        )
        for group, place in _row_groups(file, start):
            for batch in file.iter_batches(row_groups=[group], columns=columns):
                skipped = min(max(start - place, 0), len(batch))
                rows = batch.slice(skipped).to_pylist()
                yield from enumerate(rows, start=place + skipped + 1)
                place += len(batch)


def _row_groups(file: Any, start: int) -> Iterator[tuple[int, int]]:
    """Row groups of a Parquet file with rows from `start` on, each with its first row number."""
    place = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if place + rows > start:
            yield group, place
        place += rows


def _passages(rows: Sequence[Any], path: Path, first: int) -> tuple[list[str], list[str]]:
    """Ids and texts of rows; `first` is the number of the first one, for error messages."""
    for number, row in enumerate(rows, start=first):
        try:
            _check_passage(row)
        except ValueError as error:
            raise ValueError(
                _("{name}, row {number}: {error}").format(
                    name=path.name, number=number, error=error
                )
            ) from error
    titled = [{**row, "title": row.get("title") or ""} for row in rows]
    return [str(row["_id"]) for row in rows], retrieval.texts(titled)


def _check_passage(row: Any) -> None:
    filled = (
        [name for name, value in row.items() if value is not None] if isinstance(row, dict) else []
    )
    for name in ("_id", "text"):
        if name not in filled or (name == "text" and not isinstance(row["text"], str)):
            raise ValueError(
                _("no {name}; a passage needs _id and text, this one has {filled}").format(
                    name=name, filled=", ".join(filled) or "nothing"
                )
            )
    for name in set(COLUMNS).intersection(filled):
        try:
            check_texts([str(row[name])])
        except ValueError as error:
            raise ValueError(
                _(
                    "{name} contains a lone surrogate; repair it: text.encode('utf-8', "
                    "'replace').decode()"
                ).format(name=name)
            ) from error


def _check_unique(ids: Any) -> None:
    import pyarrow.compute as pc

    counts = pc.value_counts(ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise ValueError(
            _(
                "{count} ids occur more than once in the source, first "
                "{first!r}; give each row its own"
            ).format(count=len(repeated), first=repeated[0]["values"].as_py())
        )


# The folder of vectors: one file per block, the manifest, the context.


def block_file(out: Path, number: int) -> Path:
    """Where the vectors of a block go."""
    return out / f"{number:08d}.parquet"


def is_finished(out: Path, block: Block) -> bool:
    """Whether the vectors of a block are there, all of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(block_file(out, block.number)).num_rows == block.rows
    except (OSError, pa.ArrowInvalid):  # missing, or truncated by a machine that lost power
        return False


def write_vectors(path: Path, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Write ids and vectors (n, d) as one Parquet file of `_id` and `vector`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.asarray(vectors).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    pq.write_table(pa.table({"_id": pa.array(ids, pa.string()), "vector": column}), path)


def unfinished_files(out: Path, number: int | None = None) -> list[Path]:
    """Partial files of one block, or of all: each was left by a worker that died, or is in use."""
    name = "*" if number is None else f"{block_file(out, number).name}.*"
    return list(out.glob(f"{name}.part"))


def sweep(out: Path) -> None:
    """Delete the partial files that killed workers left."""
    for part in unfinished_files(out):
        part.unlink(missing_ok=True)


def read_manifest(out: Path) -> dict[str, Any] | None:
    """What a folder of vectors was made from; None if nothing was begun there.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            _("{manifest} of {name}/ is damaged ({error}); encode into a new folder").format(
                manifest=MANIFEST, name=out.name, error=error
            )
        ) from error


def read_vectors(out: str | Path) -> tuple[list[str], Vectors]:
    """Ids and vectors (n, d) that `encode_corpus` wrote, in the order of its source.

    Raises:
        FileNotFoundError: nothing was encoded into this folder.
        ValueError: a block is missing or damaged, or an id occurs twice.
    """
    out = Path(out)
    manifest = read_manifest(out)
    if manifest is None:
        raise FileNotFoundError(
            _(
                "{name}/ holds no vectors: {manifest} is missing. Make them: "
                "encode_corpus(source, {name!r})"
            ).format(name=out.name, manifest=MANIFEST)
        )
    files = [block_file(out, number) for number in range(manifest["blocks"])]
    if missing := [path.name for path in files if not path.is_file()]:
        raise ValueError(
            _(
                "{name}/ is not complete: {missing} of {files} blocks are missing, "
                "first {first}. {resume}"
            ).format(
                name=out.name,
                missing=len(missing),
                files=len(files),
                first=missing[0],
                resume=_(RESUME),
            )
        )
    ids: list[str] = []
    parts: list[np.ndarray] = []
    for path in files:
        names, vectors = _read_file(path)
        ids += names
        parts += vectors
    if not len(set(ids)) == len(ids) == manifest["rows"]:
        raise ValueError(
            _(
                "{name}/ has {rows} rows and {ids} ids instead of {expected}; encode "
                "into a new folder"
            ).format(name=out.name, rows=len(ids), ids=len(set(ids)), expected=manifest["rows"])
        )
    model = manifest["model"].rsplit(", weights ", 1)[0]
    return ids, Vectors(np.concatenate(parts), manifest["context"], model)


def _read_file(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Ids of one file of vectors, and its vectors in pieces of shape (k, d)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            _("{name} of {folder}/ is truncated or damaged ({error}). {resume}").format(
                name=path.name, folder=path.parent.name, error=error, resume=_(RESUME)
            )
        ) from error
    chunks = table["vector"].chunks
    return table["_id"].to_pylist(), [
        chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in chunks
    ]
