"""Collections in BEIR layout, measures and their intervals."""

import shutil

import numpy as np
import pytest

from helpers import PROJECT_ROOT, retrieval


@pytest.fixture
def broken(tmp_path):
    shutil.copytree(PROJECT_ROOT / "data" / "country", tmp_path / "country")
    return tmp_path / "country"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("corpus.jsonl", lambda text: text[:-40], r"corpus\.jsonl, line 294"),
        ("corpus.jsonl", lambda text: text + text.splitlines()[0] + "\n", "an id twice"),
        (
            "queries.jsonl",
            lambda text: text.replace('"_id": "cq001"', '"id": "cq001"'),
            r"queries\.jsonl, line 1",
        ),
        (
            "qrels/test.tsv",
            lambda text: text + "cq001\tnowhere\t1\n",
            "points to no query or document",
        ),
        ("qrels/test.tsv", lambda text: text + "cq001\n", "expected query-id"),
    ],
)
def test_a_damaged_collection_is_named_with_its_line(broken, file, change, message):
    path = broken / file
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        retrieval.load_beir(broken)


def test_a_missing_file_is_named_with_the_command_that_restores_it(broken):
    (broken / "queries.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"queries\.jsonl is missing.*git checkout -- data"):
        retrieval.load_beir(broken)


def test_measures_agree_with_the_formulas():
    qrels = {"a": {"y": 1, "z": 1}, "b": {"x": 1}}
    table = retrieval.measure([[3, 2, 1], [3, 2, 1]], ["a", "b"], ["x", "y", "z"], qrels)
    ideal = 1 + 1 / np.log2(3)
    assert table.loc["a", "nDCG@10"] == pytest.approx((1 / np.log2(3) + 1 / 2) / ideal)
    assert (table.loc["a", "R@10"], table.loc["a", "RR@10"], table.loc["b", "RR@10"]) == (
        1.0,
        0.5,
        1.0,
    )


def test_the_bootstrap_is_reproducible_and_covers_its_mean():
    values = np.random.default_rng(0).normal(0.3, 1, 200)
    first = retrieval.bootstrap(values)
    assert first == retrieval.bootstrap(values)
    assert first.low < first.mean < first.high
    assert first.high - first.low == pytest.approx(4 * values.std() / np.sqrt(200), rel=0.1)
