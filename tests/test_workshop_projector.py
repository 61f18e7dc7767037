"""The switch for a projector: what it changes, and that it undoes all of it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import vl_convert

from helpers import charts, settings, token_map
from tests.support.processes import run_python
from workshop import projector

TOKENS = pd.DataFrame(
    {
        "id": range(5),
        "token": ["bank", "rate", "##s", "river", "[CLS]"],
        "kind": ["word", "word", "continuation", "word", "special"],
        "x": [0, 1, 2, 3, 4],
        "y": [0, 2, 1, 4, 3],
    }
)
NAMES = [f"token{number}" for number in range(7)]


def heatmap():
    words = {"title": "Cosines", "row_title": "row", "column_title": "column"}
    return charts.heatmap(np.eye(7), NAMES, NAMES, cell=64, description="a heatmap", **words)


def whole_map():
    return token_map.chart(TOKENS, title="All tokens", description="a map", highlight=[1])


def region():
    return token_map.region(TOKENS, token="rate", radius=9, title="Near", description="a part")


DRAWN = pytest.mark.parametrize("draw", [heatmap, whole_map, region])


def drawn(chart):
    """Width in pixels, and the sizes of its letters."""
    svg = vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=token_map.WIDGET_VEGALITE[1:])
    width = re.search(r'<svg[^>]*? width="([\d.]+)"', svg).group(1)
    return float(width), [float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)]


@pytest.fixture
def room(tmp_path):
    """A user's settings, an environment, and a `.env`."""
    theme = tmp_path / "user" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    theme.parent.mkdir(parents=True)
    theme.write_text('{\n    // Theme\n    "theme": "JupyterLab Dark"\n}', encoding="utf-8")
    (tmp_path / ".env").write_text("# mine\nEMBEDDINGS_DEVICE=cpu", encoding="utf-8")
    return tmp_path


def on(room):
    projector.turn_on(room / "user", prefix=room / "venv", env=room / ".env")


def off(room):
    projector.turn_off(prefix=room / "venv", env=room / ".env")


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8").strip() for path in files}


# --- the switch -----------------------------------------------------------------------------------


def test_jupyterlab_reads_the_copy_in_which_the_users_theme_is_kept(room):
    on(room)
    done = run_python(
        *("-m", "jupyterlab", "--show-config-json", "--allow-root"),
        JUPYTER_CONFIG_PATH=str(room / "venv" / "etc" / "jupyter"),
        JUPYTER_CONFIG_DIR=str(room / "none"),
    )
    shown = json.loads(done.stdout[done.stdout.index("{") :])
    copy = room / "venv" / projector.COPY
    assert shown["LabApp"]["user_settings_dir"] == str(copy)
    theme = copy / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    theme = json.loads(theme.read_text(encoding="utf-8"))
    assert theme["theme"] == "JupyterLab Dark"
    assert theme["overrides"]["code-font-size"] == "17px"


def test_off_undoes_all_of_on(room):
    before = contents(room)
    on(room)
    on(room)
    assert (
        contents(room / "user").items()
        <= {name.removeprefix("user/"): text for name, text in before.items()}.items()
    ), "the user's own settings are only read"
    assert "EMBEDDINGS_PROJECTOR=1" in contents(room)[".env"]
    off(room)
    assert contents(room) == before
    off(room)
    assert contents(room) == before


def test_the_command_switches_and_says_what_to_do_next(room, monkeypatch, capsys):
    before = contents(room)
    monkeypatch.setattr(sys, "prefix", str(room / "venv"))
    monkeypatch.setattr(projector, "ENV", room / ".env")
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(room / "user"))
    assert projector.main(["on"]) == 0 and contents(room) != before
    assert "Restart Kernel and Run All Cells" in capsys.readouterr().out
    assert projector.main(["off"]) == 0 and contents(room) == before


def test_where_nothing_can_be_written_the_command_says_so(room, monkeypatch, capsys):
    (room / "venv").write_text("a file where a folder should be")
    monkeypatch.setattr(sys, "prefix", str(room / "venv"))
    monkeypatch.setattr(projector, "ENV", room / ".env")
    assert projector.main(["on"]) == 1 and "Not switched on" in capsys.readouterr().err
    assert projector.VARIABLE not in (room / ".env").read_text(encoding="utf-8")


def test_without_an_env_none_is_left(room):
    (room / ".env").unlink()
    on(room)
    off(room)
    assert not (room / ".env").exists()


def test_other_configuration_of_the_environment_stays(room):
    config = room / "venv" / projector.CONFIG
    config.parent.mkdir(parents=True)
    config.write_text('{"LabApp": {"news_url": null}}', encoding="utf-8")
    on(room)
    assert json.loads(config.read_text())["LabApp"].keys() == {"news_url", "user_settings_dir"}
    off(room)
    assert json.loads(config.read_text()) == {"LabApp": {"news_url": None}}


def test_every_setting_is_one_that_jupyterlab_knows():
    schemas = Path(sys.prefix) / "share" / "jupyter" / "lab" / "schemas"
    for name, given in projector.SETTINGS.items():
        schema = json.loads((schemas / f"{name}.json").read_text(encoding="utf-8"))
        assert given.keys() <= schema["properties"].keys()
    fonts = json.loads((schemas / "@jupyterlab/apputils-extension/themes.json").read_text("utf-8"))
    known = fonts["definitions"]["cssOverrides"]["properties"].keys()
    assert projector.SETTINGS["@jupyterlab/apputils-extension/themes"]["overrides"].keys() <= known


# --- charts ---------------------------------------------------------------------------------------


@DRAWN
def test_projected_charts_have_labels_of_16_pixels_and_fit_the_screen(draw, monkeypatch):
    usual, letters = drawn(draw())
    assert min(letters) < 16
    monkeypatch.setenv(projector.VARIABLE, "1")
    wide, larger = drawn(draw())
    assert usual < wide <= 1050, "of the 1,092 pixels that JupyterLab has for it at 1,280"
    smallest = 16 if draw is whole_map else 14.5  # numbers in cells, names of points
    assert min(larger) >= smallest and larger.count(16) > 0
    assert len(larger) == len(letters)


@DRAWN
def test_what_is_stored_never_depends_on_the_switch(draw, monkeypatch):
    usual = draw().to_dict()
    monkeypatch.setenv(projector.VARIABLE, "1")
    assert draw().to_dict() != usual
    settings.clean_environment()
    assert draw().to_dict() == usual


def test_data_and_areas_of_points_are_told_apart_from_lengths():
    chart = {"mark": {"type": "point", "size": 10}, "data": {"values": [{"width": 7, "size": 3}]}}
    assert charts.enlarged(chart, 2) == {**chart, "mark": {"type": "point", "size": 40}}
    assert charts.enlarged({"mark": {"type": "bar", "size": 10}}, 2)["mark"]["size"] == 20


def test_labels_have_less_room_where_letters_grow_more_than_the_plot(monkeypatch):
    assert charts.room(620) == 620
    monkeypatch.setenv(projector.VARIABLE, "1")
    assert charts.room(620) == 540 and charts.room(150) == 150
