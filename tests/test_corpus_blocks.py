"""A corpus on disk: cut into blocks that can be read alone, and refused by name where it is bad."""

import json
import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import PROJECT_ROOT
from helpers.cde import corpus_blocks, read_vectors

PASSAGES = [
    {"_id": i, "title": None if i % 3 else f"Title {i}", "text": f"passage {i} " * (i % 7)}
    for i in range(50)
]  # some are empty
IDS = [str(i) for i in range(50)]
TEXTS = [f"{row['title'] or ''} {row['text']}".strip() for row in PASSAGES]


def lines(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def parquet(tmp_path):
    """50 passages in two Parquet files of several row groups."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, rows in (("a", PASSAGES[:31]), ("b", PASSAGES[31:])):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", row_group_size=7)
    return folder


# Blocks.


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_blocks_read_in_any_order_give_the_whole_corpus_once(parquet, tmp_path, suffix):
    source = parquet if suffix == "parquet" else lines(tmp_path / "a.jsonl", *PASSAGES)
    blocks = corpus_blocks.plan(source, 8)
    assert [block.number for block in blocks] == list(range(7))
    assert {block.rows for block in blocks[:3]} == {8}
    read = {block.number: corpus_blocks.read_block(block) for block in reversed(blocks)}
    assert [name for number in range(7) for name in read[number][0]] == IDS
    assert [text for number in range(7) for text in read[number][1]] == TEXTS and "" in TEXTS


def test_a_folder_in_beir_layout_gives_its_corpus_and_not_its_queries():
    blocks = corpus_blocks.plan(PROJECT_ROOT / "data" / "country", 200)
    assert [block.rows for block in blocks] == [200, 94]


def test_a_source_that_changed_after_it_was_planned_is_refused(tmp_path):
    source = lines(tmp_path / "a.jsonl", {"_id": "a", "text": "x"}, {"_id": "b", "text": "y"})
    first, second = corpus_blocks.plan(source, 1)
    lines(source, {"_id": "a", "text": "x"}, {"_id": "b", "text": "z"})
    assert corpus_blocks.read_block(first) == (["a"], ["x"])
    with pytest.raises(ValueError, match=r"a\.jsonl changed while it was being encoded"):
        corpus_blocks.read_block(second)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"_id": "a", "text": "x"}, {"_id": "b", "text": "y"}, {"_id": "a", "text": "z"}],
            "1 ids occur more than once.*'a'",
        ),
        (
            [{"_id": "a", "text": "x"}, {"_id": "b", "title": "y"}],
            "corpus.jsonl, row 2: no text.*has _id, title",
        ),
        ([{"_id": "a", "text": None}], "row 1: no text"),
        ([{"_id": "a", "text": 5}], "row 1: no text"),
        ([{"text": "x"}], "row 1: no _id"),
        (["[1]"], "row 1: no _id.*has nothing"),
        (
            ['{"_id": "a", "text": "x"}', '{"_id": '],
            "corpus.jsonl: the line that ends at byte 35 is not JSON",
        ),
        (
            [{"_id": "a", "text": "x"}, {"_id": "b", "text": "\ud83d"}],
            "row 2: text contains a lone",
        ),
        ([{"_id": "\ud83d", "text": "x"}], "row 1: _id contains a lone surrogate.*repair it"),
        ([], "corpus.jsonl: no rows"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_clear_error(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        corpus_blocks.plan(lines(tmp_path / "corpus.jsonl", *rows), 8)


def test_parquet_that_cannot_be_used_is_one_clear_error(parquet):
    pq.write_table(pa.table({"_id": ["x"], "body": ["y"]}), parquet / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet, row 1: no text.*has _id, body"):
        corpus_blocks.plan(parquet, 8)
    os.truncate(parquet / "b.parquet", 100)
    with pytest.raises(ValueError, match="b.parquet cannot be read as Parquet"):
        corpus_blocks.plan(parquet, 8)


# The folder of vectors. What encode_corpus writes into it stands in test_ray_encode.


def test_a_folder_without_vectors_is_told_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"encode_corpus\(source"):
        read_vectors(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text('{"blocks": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json of .* is damaged.*into a new folder"):
        read_vectors(tmp_path)


def test_only_a_whole_file_of_all_rows_counts_as_finished(tmp_path):
    (block,) = corpus_blocks.plan(lines(tmp_path / "a.jsonl", {"_id": "a", "text": "x"}), 8)
    path = corpus_blocks.block_file(tmp_path, 0)
    assert not corpus_blocks.is_finished(tmp_path, block)
    pq.write_table(pa.table({"_id": ["a"]}), path)
    assert corpus_blocks.is_finished(tmp_path, block)
    assert not corpus_blocks.is_finished(tmp_path, replace(block, rows=2))
    os.truncate(path, 20)
    assert not corpus_blocks.is_finished(tmp_path, block)
