"""Files that ship are whole: the manifest, and what happens when one byte differs."""

import json
import shutil

import pytest

from helpers import PROJECT_ROOT, artifacts, files, retrieval
from helpers.cde import MiniCDE


def test_the_manifest_names_every_file_that_ships_and_its_bytes():
    listed = json.loads(files.MANIFEST.read_text(encoding="utf-8"))
    there = {
        path.relative_to(PROJECT_ROOT).as_posix()
        for pattern in files.SHIPPED
        for path in PROJECT_ROOT.glob(pattern)
    }
    assert set(listed) == there
    assert len(there) == 12
    assert not [
        name for name, digest in listed.items() if files.sha256(PROJECT_ROOT / name) != digest
    ]


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("models/mini-cde/config.json", lambda root: MiniCDE.load(root / "models" / "mini-cde")),
        ("data/money/corpus.jsonl", lambda root: retrieval.load_beir(root / "data" / "money")),
        (
            "data/country/qrels/test.tsv",
            lambda root: retrieval.load_beir(root / "data" / "country"),
        ),
        (
            "data/notices/qrels/dev.tsv",
            lambda root: retrieval.load_beir(root / "data" / "notices", "dev"),
        ),
    ],
)
def test_a_file_that_ships_is_checked_before_it_is_opened(tmp_path, monkeypatch, name, load):
    for folder in ("models", "data"):
        shutil.copytree(PROJECT_ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(
        files, "PROJECT_ROOT", tmp_path.resolve()
    )  # a copy of the project's files, one of them altered
    load(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(
        artifacts.ArtifactError, match=rf"{name} .*truncated or altered.*git checkout -- {name}"
    ):
        load(tmp_path)
