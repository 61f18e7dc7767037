"""Search: collections in BEIR layout, the lexical baseline, measures with intervals."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from . import PROJECT_ROOT
from .artifacts import fetch, record
from .files import check_shipped
from .language import translated as _
from .settings import source
from .tokens import short

if TYPE_CHECKING:
    from datasets import Dataset

#: Relevance judgements: {query id: {document id: score}}, scores above 0.
Qrels = dict[str, dict[str, int]]
MEASURES = ("nDCG@10", "R@10", "RR@10")
KINDS = (".csv", ".jsonl", ".md", ".txt")  # what `read_passages` reads
FIQA, FIQA_QRELS = "BeIR/fiqa", "BeIR/fiqa-qrels"


def _json_lines(path: Path, *, ids: bool = True) -> list[dict[str, str]]:
    """Rows with _id (the line's number where `ids` is false and there is none), title, text."""
    rows: list[dict[str, str]] = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                title, text = row.get("title") or "", row["text"]
                if not (isinstance(text, str) and isinstance(title, str)):
                    raise TypeError(_("title and text must be texts"))
                (title + text).encode()  # fails on a lone surrogate, which JSON can express
                name = row["_id"] if ids else row.get("_id", number)
                rows.append({"_id": str(name), "title": title, "text": text})
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                wanted = _("_id and text") if ids else "text"
                raise ValueError(
                    _(
                        "{name}, line {number}: expected a JSON object with {wanted} ({error})"
                    ).format(name=path.name, number=number, wanted=wanted, error=error)
                ) from error
    return rows


def read_qrels(path: Path) -> Qrels:
    """The judgements above 0 in a BEIR table.

    Its columns are query-id, corpus-id and score, separated by tabs; its first line is a header.

    Raises:
        ValueError: a line cannot be read; the message names it.
    """
    qrels: Qrels = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                continue
            try:
                query, document, written = line.rstrip("\n").split("\t")[:3]
                score = int(written)
            except ValueError as error:
                raise ValueError(
                    _(
                        "{name}, line {number}: expected query-id, corpus-id and a whole "
                        "number as score"
                    ).format(name=path.name, number=number)
                ) from error
            if score > 0:
                qrels.setdefault(query, {})[document] = score
    return qrels


def load_beir(directory: str | Path, split: str = "test") -> tuple[Dataset, Dataset, Qrels]:
    """A collection in BEIR layout: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`.

    Returns:
        the corpus and the queries that have a judgement (columns `_id`, `title`, `text`), and the
        judgements as {query id: {document id: score}}.

    Raises:
        FileNotFoundError: a file of the layout is missing.
        ArtifactError: a file that ships with the project was cut or altered.
        ValueError: a line cannot be read, an id occurs twice, or a judgement points to no query or
            document.
    """
    from datasets import Dataset

    directory = Path(directory)
    paths = [
        directory / "corpus.jsonl",
        directory / "queries.jsonl",
        directory / "qrels" / f"{split}.tsv",
    ]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                _(
                    "{file} is missing from {folder}/, which should be in BEIR layout. "
                    "Restore it: git checkout -- data"
                ).format(file=path.relative_to(directory).as_posix(), folder=directory.name)
            )
    check_shipped(*paths)
    corpus, queries, qrels = _json_lines(paths[0]), _json_lines(paths[1]), read_qrels(paths[2])
    _check_ids(directory, corpus, queries, qrels)
    judged = [row for row in queries if row["_id"] in qrels]
    return Dataset.from_list(corpus), Dataset.from_list(judged), qrels


def _check_ids(
    directory: Path, corpus: list[dict[str, str]], queries: list[dict[str, str]], qrels: Qrels
) -> None:
    """Every id occurs once, and every judgement points to a query and a document."""
    for name, rows in (("corpus", corpus), ("queries", queries)):
        if len({row["_id"] for row in rows}) != len(rows):
            raise ValueError(
                _("{name}.jsonl of {folder}/ has an id twice; give each its own").format(
                    name=name, folder=directory.name
                )
            )
    known, asked = {row["_id"] for row in corpus}, {row["_id"] for row in queries}
    lost = [
        (q, d) for q, judged in qrels.items() for d in judged if q not in asked or d not in known
    ]
    if lost:
        raise ValueError(
            _(
                "judgement {first} of {folder}/ points to no query or document ({count} in all)"
            ).format(first=lost[0], folder=directory.name, count=len(lost))
        )


def load_fiqa(split: str = "test") -> tuple[Dataset, Dataset, Qrels]:
    """Financial questions and answers of the chosen source; see `load_beir` for what it returns.

    `bundled`: `data/money`; `hub`: `BeIR/fiqa`. No revision of the Hub's data set is pinned: its
    commit and hashes are recorded at the first download and checked from then on.

    Raises:
        ArtifactError: the Hub cannot be reached, or its files differ from the recorded ones.
    """
    if source() == "bundled":
        return load_beir(PROJECT_ROOT / "data" / "money", split)
    fallback = _("use the bundled collection: set EMBEDDINGS_SOURCE=bundled and restart the kernel")
    patterns = ["corpus*", "queries*", "corpus/*", "queries/*"]
    data = fetch(
        FIQA, "main", patterns, repo_type="dataset", size=_("about 20 MB"), fallback=fallback
    )
    judged = fetch(FIQA_QRELS, "main", [f"{split}.tsv"], repo_type="dataset", fallback=fallback)
    record(FIQA, data)
    record(FIQA_QRELS, judged)
    qrels = read_qrels(judged / f"{split}.tsv")
    corpus, queries = (_hub_table(data, name) for name in ("corpus", "queries"))
    return corpus, queries.filter(lambda row: row["_id"] in qrels), qrels


def _hub_table(directory: Path, name: str) -> Dataset:
    """`corpus` or `queries` of a data set from the Hub, stored as Parquet or as JSON lines."""
    from datasets import Dataset, load_dataset

    for pattern, kind in (
        (f"{name}/*.parquet", "parquet"),
        (f"{name}*.parquet", "parquet"),
        (f"{name}*.jsonl*", "json"),
        (f"{name}/*.jsonl*", "json"),
    ):
        files = sorted(str(path) for path in directory.glob(pattern))
        if files:
            rows = load_dataset(kind, data_files=files, split="train")
            columns = {
                column: [str(value or "") for value in rows[column]]
                for column in ("_id", "title", "text")
            }
            return Dataset.from_dict(columns)
    raise FileNotFoundError(
        _(
            "{fiqa} has no {name} in Parquet or JSON lines: its layout on the Hub "
            "has changed. Use the bundled collection: set "
            "EMBEDDINGS_SOURCE=bundled and restart the kernel"
        ).format(fiqa=FIQA, name=name)
    )


def subset(
    corpus: Dataset,
    queries: Dataset,
    qrels: Qrels,
    *,
    documents: int,
    questions: int,
    seed: int = 0,
) -> tuple[Dataset, Dataset, Qrels]:
    """A smaller collection: sampled questions, all their relevant documents, and sampled others.

    It is easier than the whole, so its figures cannot be compared with published ones.

    Args:
        documents: in the smaller corpus; more if the sampled questions need more.
        questions: to sample, without replacement.
    """
    rng = np.random.default_rng(seed)
    asked = sorted(rng.choice(len(queries), min(questions, len(queries)), replace=False).tolist())
    queries = queries.select(asked)
    qrels = {query: qrels[query] for query in queries["_id"]}
    needed = {document for judged in qrels.values() for document in judged}
    ids = corpus["_id"]
    kept = [i for i, name in enumerate(ids) if name in needed]
    others = [i for i, name in enumerate(ids) if name not in needed]
    if others:
        room = min(max(documents - len(kept), 0), len(others))
        kept += rng.choice(others, room, replace=False).tolist()
    return corpus.select(sorted(kept)), queries, qrels


def texts(corpus: Iterable[Mapping[str, str]]) -> list[str]:
    """Title and text of every document, joined.

    >>> texts([{"title": "Bonds", "text": "A bond is a loan."}, {"title": "", "text": "Cash."}])
    ['Bonds A bond is a loan.', 'Cash.']
    """
    return [f"{row['title']} {row['text']}".strip() for row in corpus]


def read_passages(path: str | Path, *, column: str | None = None) -> list[str]:
    """Passages from your own files, in their order, without repetitions.

    Args:
        path: a folder (all its `.txt`, `.md`, `.csv` and `.jsonl` files, by name, without hidden
            ones; in BEIR layout the corpus alone), or one such file. Texts and Markdown are cut at
            empty lines; a table gives one passage per row, JSON lines one per line.
        column: of a table; by default `text`, or else the column with the longest texts.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a file is of another kind or cannot be read, or there are no passages.
    """
    name = short(Path(path).name or str(path))
    path = Path(os.path.expanduser(path))  # leaves a user whom it does not know
    if not os.path.exists(path):  # whatever was typed
        raise FileNotFoundError(
            _("{name} does not exist; give a file or a folder of yours").format(name=name)
        )
    found = (text for file in _files_of(path) for text in _passages_of(file, column))
    passages = list(dict.fromkeys(text for text in found if text))
    if not passages:
        raise ValueError(
            _("{name} has no passages; give {kinds} files with some text").format(
                name=name, kinds=", ".join(KINDS)
            )
        )
    return passages


def _files_of(path: Path) -> list[Path]:
    """The files with passages: the one that was named, or those of a folder."""
    if not path.is_dir():
        if path.suffix.lower() not in KINDS:
            raise ValueError(
                _("{name} is of another kind; give a file that ends in {kinds}").format(
                    name=path.name, kinds=", ".join(KINDS)
                )
            )
        return [path]
    if (path / "corpus.jsonl").is_file():
        return [path / "corpus.jsonl"]
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in KINDS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]


def _passages_of(file: Path, column: str | None) -> list[str]:
    kind = file.suffix.lower()
    try:
        if kind == ".jsonl":
            return texts(_json_lines(file, ids=False))
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            _("{name} is not UTF-8; save it as UTF-8").format(name=file.name)
        ) from error
    except OSError as error:
        raise ValueError(
            _("{name} cannot be opened: {strerror}").format(name=file.name, strerror=error.strerror)
        ) from error
    if kind == ".csv":
        return _column_of(content, column, file.name)
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", content)]


def _column_of(content: str, column: str | None, name: str) -> list[str]:
    """A column of a CSV file; its name is for the messages."""
    header = content.partition("\n")[0]
    separator = max(",;\t", key=header.count)  # Excel writes semicolons in much of Europe
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells would be lost
            table = pd.read_csv(
                io.StringIO(content), sep=separator, dtype=str, na_filter=False, index_col=False
            )
    except pd.errors.EmptyDataError:
        return []
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise ValueError(
            _(
                "{name} is no table of comma-separated values: a row has more cells "
                "than the header, or a quote is not closed ({error})"
            ).format(name=name, error=str(error).strip())
        ) from error
    if column is None:
        lengths = {title: table[title].str.len().mean() for title in table.columns}
        column = "text" if "text" in table.columns else max(lengths, key=lambda n: lengths[n])
    if column not in table.columns:
        raise ValueError(
            _("{name} has no column {column!r}; it has {table}").format(
                name=name, column=column, table=", ".join(map(repr, table.columns))
            )
        )
    return [" ".join(text.split()) for text in table[column]]


def bm25_scores(documents: Sequence[str], queries: Sequence[str]) -> np.ndarray:
    """Scores of the lexical baseline, shape (queries, documents).

    BM25 as in Lucene, without English stop words, computed by bm25s.

    >>> scores = bm25_scores(["a bond is a loan", "cows eat grass"], ["what is a bond?"])
    >>> scores.argmax(), scores.shape
    (np.int64(0), (1, 2))
    """
    import bm25s

    found, asked = (
        bm25s.tokenize(list(part), stopwords="en", return_ids=False, show_progress=False)
        if len(part)
        else []
        for part in (documents, queries)
    )
    scores = np.zeros((len(asked), len(found)), dtype=np.float32)
    if any(found):  # documents without a single word cannot be indexed
        retriever = bm25s.BM25(method="lucene")
        retriever.index(found, show_progress=False)
        for row, words in zip(scores, asked, strict=True):
            if words:
                row[:] = retriever.get_scores(words)
    return scores


def measure(
    scores: ArrayLike,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    qrels: Qrels,
    *,
    depth: int = 100,
) -> pd.DataFrame:
    """nDCG@10, recall@10 and reciprocal rank@10 of every query; one row per query.

    Computed by ir-measures.

    Args:
        scores: (queries, documents), larger is better. Of documents with equal scores the first
            one ranks higher.
        depth: length of the ranking; documents below it count as not found.

    Raises:
        ValueError: the scores do not fit the ids or contain NaN, an id occurs twice, or a query
            has no judgement.

    >>> measure([[0.1, 0.9, 0.5]], ["q"], ["a", "b", "c"], {"q": {"c": 1}}).round(3).to_dict("list")
    {'nDCG@10': [0.631], 'R@10': [1.0], 'RR@10': [0.5]}
    """
    import ir_measures

    scores = np.asarray(scores, dtype=float)
    if scores.shape != (len(query_ids), len(document_ids)):
        raise ValueError(
            _(
                "scores {shape} do not fit {query_ids} queries and {document_ids} "
                "documents; their shape must be (queries, documents)"
            ).format(shape=scores.shape, query_ids=len(query_ids), document_ids=len(document_ids))
        )
    if np.isnan(scores).any():
        raise ValueError(_("scores contain NaN, which cannot be ranked"))
    for name, ids in (("query", query_ids), ("document", document_ids)):
        if len(set(ids)) != len(ids):
            raise ValueError(_("a {name} id stands twice").format(name=name))
    unjudged = [query for query in query_ids if query not in qrels]
    if unjudged:
        raise ValueError(
            _("query {first} has no judgement ({count} in all); leave it out").format(
                first=short(unjudged[0]), count=len(unjudged)
            )
        )
    run = {}
    for query, row in zip(query_ids, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:depth]
        run[query] = {document_ids[i]: float(depth - rank) for rank, i in enumerate(best)}
    wanted = [ir_measures.parse_measure(name) for name in MEASURES]
    table = pd.DataFrame(0.0, index=list(query_ids), columns=list(MEASURES))
    for found in ir_measures.iter_calc(wanted, {q: qrels[q] for q in query_ids}, run):
        table.loc[found.query_id, str(found.measure)] = found.value
    return table


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval over queries; see `bootstrap`."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> Interval:
    """Mean of per-query values with a 95 % percentile bootstrap over the queries.

    For two systems on the same queries, give the difference of their values: a paired bootstrap.

    Args:
        values: one number per query, shape (n,).
        draws: resamples.

    Raises:
        ValueError: `values` is empty or not one-dimensional, or a number is NaN or infinite.

    >>> print(bootstrap([0.0, 1.0, 1.0, 1.0]))
    0.750 [0.250, 1.000]
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(
            _("one value per query is needed, got shape {shape}").format(shape=numbers.shape)
        )
    if not np.isfinite(numbers).all():
        raise ValueError(_("the values contain NaN or infinity, so they have no mean"))
    rng = np.random.default_rng(seed)
    means = numbers[rng.integers(0, len(numbers), (draws, len(numbers)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(numbers.mean()), float(low), float(high))


def compare(systems: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per system: mean and interval of every measure, as text."""
    return pd.DataFrame(
        {name: {m: str(bootstrap(table[m])) for m in MEASURES} for name, table in systems.items()}
    ).T
