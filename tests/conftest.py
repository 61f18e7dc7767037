"""The real model, loaded once for all tests; `tests/support/plugin.py` sets the environment."""

import pytest


@pytest.fixture(scope="session")
def encoder():
    """The real model."""
    from helpers.artifacts import load_encoder

    return load_encoder()


@pytest.fixture(scope="session")
def table(encoder):
    """The input embeddings, shape (30522, 384)."""
    return encoder.transformers_model.get_input_embeddings().weight.detach().cpu().numpy()
