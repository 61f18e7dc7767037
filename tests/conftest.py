"""The real model and a real browser; `tests/support/plugin.py` sets the environment."""

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


@pytest.fixture(scope="module")
def browser():
    """A real headless browser without a network; skips the test where there is none."""
    from playwright.sync_api import sync_playwright

    from tests.support.browser import launch

    with sync_playwright() as driver:
        yield launch(driver.chromium)
