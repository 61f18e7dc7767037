"""Training the small model: seeded, resumable, clear about bad input."""

import json

import pytest
import torch

from helpers.cde import train as training
from helpers.cde.train import Recipe, read_pairs, train


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {
            "group": f"g{i % 3}",
            "query": f"what is thing {i}?",
            "document": f"Thing {i} is a tool of group {i % 3}.",
        }
        for i in range(40)
    ]
    rows += [{"group": "alone", "query": f"card {i}", "document": None} for i in range(4)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_training_is_reproducible_and_resumes_after_an_interruption(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    recipe = Recipe(steps=8, batch=8, context=8, rank=2)
    whole = train([pairs], tmp_path / "a", recipe, progress=False).pooling.state_dict()
    real, count = training.step_loss, []

    def stops(*arguments):
        count.append(1)
        if len(count) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "step_loss", stops)
    with pytest.raises(KeyboardInterrupt):
        train([pairs], tmp_path / "b", recipe, progress=False)
    monkeypatch.setattr(training, "step_loss", real)
    resumed = train([pairs], tmp_path / "b", recipe, progress=False).pooling.state_dict()
    for name, value in whole.items():
        assert torch.allclose(value, resumed[name], atol=1e-6), name
    assert not (tmp_path / "b" / "checkpoint.pt").exists()
    assert [
        json.loads(line)["step"]
        for line in (tmp_path / "b" / "train.jsonl").read_text().splitlines()
    ][-1] == 8


def test_pairs_that_cannot_be_read_are_named_by_line(pairs):
    assert len(read_pairs([pairs])) == 42, (
        "two queries of one group are a pair where there is no document"
    )
    pairs.write_text(pairs.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="pairs.jsonl, line 45"):
        read_pairs([pairs])
