"""`python -m helpers.cde.evaluate` on a collection of three passages."""

import json

import pytest

from helpers.cde import load_mini_cde
from helpers.cde.evaluate import main, measure_model

TOPICS = ["river bank", "savings bank", "blood bank"]


@pytest.fixture
def collection(tmp_path):
    """A folder in BEIR layout; each question asks for one passage."""
    folder = tmp_path / "banks"
    (folder / "qrels").mkdir(parents=True)
    for name, words in (("corpus", "This is about a {}."), ("queries", "What is a {}?")):
        rows = [
            {"_id": f"{name[0]}{i}", "title": "", "text": words.format(topic)}
            for i, topic in enumerate(TOPICS)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    judged = "".join(f"q{i}\tc{i}\t1\n" for i in range(len(TOPICS)))
    (folder / "qrels" / "dev.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", "utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tc0\t1\n", "utf-8")
    return folder


def test_every_system_is_measured_on_the_questions_that_were_asked_for(collection):
    model = load_mini_cde()
    found = measure_model(model, collection, collection, split="dev", half="even", seeds=(0,))
    assert list(found) == ["BM25", "MiniLM", "right context", "wrong context", "no context"]
    for table in found.values():
        assert list(table.index) == ["q0", "q2"]
    assert found["MiniLM"].equals(found["no context"])
    assert found["right context"].equals(found["wrong context"]), "here they are the same"
    odd = measure_model(model, collection, collection, split="dev", half="odd", seeds=(0, 1))
    assert list(odd["right context"].index) == ["q1"]


def test_the_command_prints_both_tables_and_how_much_text_is_shared(collection, capsys):
    assert main([str(collection), "--wrong", str(collection), "--split", "dev"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("banks, 3 queries, ") and "strength 2.80" in printed
    for line in ("| system | nDCG@10 ", "| right context | 1.000 ", "| wrong context | +0.0 [+0.0"):
        assert line in printed
