"""The map of the vocabulary: a live widget with a search box, a picture where nobody looks."""

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from helpers import token_map

WORDS = {"title": "t", "description": "d"}


@pytest.fixture
def frame():
    numbers = np.random.default_rng(0).normal(size=(40, 2))
    kinds = ["word"] * 20 + ["continuation"] * 15 + ["special"] * 5
    return pd.DataFrame(
        {
            "id": range(40),
            "token": [f"t{i}" for i in range(40)],
            "kind": kinds,
            "x": numbers[:, 0],
            "y": numbers[:, 1],
        }
    )


@pytest.fixture
def vectors():
    return np.random.default_rng(1).normal(size=(40, 5))


def test_the_map_tells_kinds_apart_by_colour_and_by_shape(frame):
    spec = token_map.chart(frame, **WORDS, highlight=[3]).to_dict()
    encoding = spec["layer"][0]["encoding"]
    for channel in ("color", "shape"):
        assert encoding[channel]["field"] == "kind"
        assert len(set(encoding[channel]["scale"]["range"])) == 3


def test_a_region_names_the_token_and_those_whose_names_it_does_not_hide(frame):
    crowd = frame.assign(x=np.where(frame["id"] == 39, 9, frame["id"] / 1e6), y=0.0)
    (rows,) = token_map.region(crowd, token="t7", radius=10, **WORDS).to_dict()["datasets"].values()
    assert [row["label"] for row in rows] == ["t7", *[""] * 38, "t39"]


def test_searching_a_token_that_does_not_exist_says_what_to_do(frame):
    with pytest.raises(ValueError, match="tokenizer.tokenize"):
        token_map.show(frame, np.ones((40, 3)), token="absent", **WORDS)


def test_the_live_map_marks_a_token_and_its_neighbours_when_one_searches(frame, vectors):
    marked = token_map._neighbour_ids(frame, vectors, "t7", 4)
    chart = token_map.chart(frame, **WORDS, highlight=marked)
    box, answer, live = token_map._live_map(chart, frame, vectors, "t7", 4).children
    assert live.params.highlight[0] == 7 and len(live.params.highlight) == 5
    box.value = "t9"
    assert live.params.highlight[0] == 9 and "t9" in answer.value
    box.value = "absent"
    assert "not one of the 40 tokens" in answer.value and live.params.highlight[0] == 9


def test_nobody_in_front_gets_a_described_picture_by_the_widgets_vega_lite(
    frame, vectors, monkeypatch
):
    shown, versions = [], []
    draw, bundle = vl_convert.vegalite_to_png, vl_convert.javascript_bundle
    monkeypatch.setattr(
        "IPython.display.display", lambda data, metadata, raw: shown.append((data, metadata))
    )
    monkeypatch.setattr(
        "vl_convert.vegalite_to_png",
        lambda spec, vl_version, **options: (
            versions.append(vl_version) or draw(spec, vl_version=vl_version, **options)
        ),
    )
    monkeypatch.setattr(
        "vl_convert.javascript_bundle",
        lambda source, vl_version: (
            versions.append(vl_version) or bundle(source, vl_version=vl_version)
        ),
    )
    token_map.show(frame, vectors, token="t7", **WORDS)
    ((data, metadata),) = shown
    assert data["image/png"].startswith(b"\x89PNG") and data["text/plain"] == "d"
    assert metadata["image/png"]["alt"] == "d"
    monkeypatch.setattr(alt.JupyterChart, "_is_offline", False)
    alt.JupyterChart.enable_offline()
    picture, widget = (version.strip("v").replace("_", ".") for version in versions)
    assert picture == widget
