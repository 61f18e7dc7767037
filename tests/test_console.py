"""The themes: contrast, names, and files that are damaged."""

import os
import shutil

import pytest

from helpers import console
from tests.support import contrast


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_coloured_style_reaches_4_5_to_1_on_its_own_ground(name):
    theme = console.load_theme(name)
    assert len(contrast.coloured(theme)) >= 5
    assert not contrast.faults(theme)


def test_both_themes_name_the_same_styles():
    assert console.load_theme("light").style_names == console.load_theme("dark").style_names


def test_an_unknown_theme_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="dark, light"):
        console.load_theme("solarized")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    path.write_bytes(b"")


def cut_at_the_end_of_a_line(path):
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("success")], encoding="utf-8")


@pytest.fixture
def themes(tmp_path, monkeypatch):
    shutil.copytree(console.THEMES, tmp_path / "themes")
    monkeypatch.setattr(console, "THEMES", tmp_path / "themes")
    return tmp_path / "themes"


def test_a_missing_theme_is_named_with_what_there_is(themes):
    (themes / "light.theme").unlink()
    with pytest.raises(
        ValueError, match=r"no theme 'light' in themes/ \(found: dark\).*git checkout -- themes"
    ):
        console.load_theme("light")


@pytest.mark.parametrize(
    "fault",
    [
        cut,
        cut_at_the_end_of_a_line,
        emptied,
        lambda path: path.write_bytes(b"\xff\xfe\x00"),
        lambda path: path.write_text("[styles]\nfocus = bold on on\n", encoding="utf-8"),
    ],
    ids=["cut", "cut at a line", "emptied", "bytes", "no style"],
)
def test_a_broken_theme_is_named_with_the_command_that_restores_it(themes, fault):
    fault(themes / "dark.theme")
    with pytest.raises(
        ValueError,
        match=r"(?s)themes/dark\.theme cannot be read \(.*\)\. Restore it: git checkout -- themes",
    ):
        console.load_theme("dark")
    assert console.load_theme("light")
