"""Every test, and every kernel a test starts, runs bundled, on the CPU, without network, without anybody's `.env` or key."""

import os
import runpy
from pathlib import Path

from helpers.settings import clean_environment

clean_environment()  # before anything reads the environment; kernels inherit it
OFFLINE = Path(__file__).parent / "offline"
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])
)  # every process started from here
runpy.run_path(str(OFFLINE / "sitecustomize.py"))  # and this one

import pytest  # noqa: E402

pytest.register_assert_rewrite("tests.support")


@pytest.fixture(scope="session")
def encoder():
    """The real model."""
    from helpers.artifacts import load_encoder

    return load_encoder()


@pytest.fixture(scope="session")
def table(encoder):
    """The input embeddings, shape (30522, 384)."""
    return encoder.transformers_model.get_input_embeddings().weight.detach().cpu().numpy()
