"""Where to compute: the automatic choice and the one that `EMBEDDINGS_DEVICE` makes."""

import pytest
import torch

from helpers import device


def test_cpu_is_chosen_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.delenv("EMBEDDINGS_DEVICE", raising=False)
    expected = (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
    assert device.pick_device().type == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_refused_with_the_ones_that_are(monkeypatch, name):
    monkeypatch.setenv("EMBEDDINGS_DEVICE", name)
    with pytest.raises(ValueError, match="(?s)EMBEDDINGS_DEVICE.*cpu|CUDA device"):
        device.pick_device()
