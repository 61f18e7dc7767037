"""Charts: three forms of a figure in one output, drawn by one Vega-Lite, in colours that stay."""

import io
import json
import re
import struct
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from jupyterlab.commands import get_app_dir
from PIL import Image

from helpers import charts, token_map

WORDS = {"title": "t", "description": "words for those who do not see"}


def heatmap(matrix=((1, 0), (0, 1)), **options):
    rows, columns = (
        [f"{side}{i}" for i in range(n)] for side, n in zip("rc", np.shape(matrix), strict=True)
    )
    names = {"row_title": "r", "column_title": "c"}
    return charts.heatmap(matrix, rows, columns, **WORDS, **names, **options)


def scatter():
    """Half a map: kinds of token that overlap, as translucent points."""
    n, generator = 15_000, np.random.default_rng(0)
    places = pd.DataFrame(generator.normal(size=(n, 2)), columns=["x", "y"])
    kinds = generator.choice(list(token_map.KIND_COLOURS), n)
    frame = places.assign(id=range(n), token=[f"t{i}" for i in range(n)], kind=kinds)
    return token_map.chart(frame, **WORDS, highlight=[1, 2])


def lines():
    frame = pd.DataFrame({"x": [1, 2] * 4, "y": np.arange(8), "of": np.repeat(list("abcd"), 2)})
    return charts.lines(frame, x="x", y="y", series="of", **WORDS)


def size(png):
    return struct.unpack(">II", png[16:24])


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


# --- one output, three forms ----------------------------------------------------------------------


def test_a_chart_is_interactive_static_and_described_in_one_output():
    bundle, metadata = charts._offline(heatmap().to_dict())
    assert bundle[charts.VEGALITE_MIME]["$schema"].endswith("vega-lite/v5.json")
    assert bundle["image/png"].startswith(b"\x89PNG") and min(size(bundle["image/png"])) > 100
    assert bundle["text/plain"] == metadata["image/png"]["alt"] == "words for those who do not see"


def test_a_chart_is_the_same_twice():
    assert charts._offline(heatmap().to_dict()) == charts._offline(heatmap().to_dict())


# --- one Vega-Lite --------------------------------------------------------------------------------


def test_what_vega_lite_6_alone_can_draw_is_no_better_in_the_picture():
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [2, None, 5]})
    points = alt.Chart(frame, description="d").mark_point(invalid="show").encode(x="a:Q", y="b:Q")
    spec = points.to_dict()  # only newer versions know the value "show"
    ours, newest = (
        pixels(vl_convert.vegalite_to_png(spec, vl_version=version, scale=1.5))
        for version in (charts.VEGALITE, vl_convert.get_vegalite_versions()[-1])
    )
    shown = pixels(charts._offline(spec)[0]["image/png"])
    assert np.abs(shown - ours).max() <= 8 < 100 < np.abs(shown - newest).max()


def test_the_picture_is_drawn_from_what_jupyterlab_gets(monkeypatch):
    drawn, draw = [], vl_convert.vegalite_to_png
    monkeypatch.setattr(
        "vl_convert.vegalite_to_png",
        lambda spec, vl_version, **options: (
            drawn.append((spec, vl_version)) or draw(spec, vl_version=vl_version, **options)
        ),
    )
    bundle, _ = charts._offline(heatmap().to_dict())
    ((spec, version),) = drawn
    assert spec == bundle[charts.VEGALITE_MIME]
    major = version.split(".")[0]
    assert spec["$schema"].endswith(f"/v{major}.json") and f".v{major}+" in charts.VEGALITE_MIME


def test_no_vega_lite_in_vl_convert_is_closer_to_jupyterlabs_than_ours():
    licences = Path(get_app_dir(), "static", "third-party-licenses.json")
    packages = json.loads(licences.read_text(encoding="utf-8"))["packages"]
    (jupyterlab,) = (p["versionInfo"] for p in packages if p["name"] == "vega-lite")

    def distance(version):
        (major, minor), (theirs, minor_theirs) = (
            map(int, text.split(".")[:2]) for text in (version, jupyterlab)
        )
        return abs(major - theirs), abs(minor - minor_theirs)

    assert min(vl_convert.get_vegalite_versions(), key=distance) == charts.VEGALITE


# --- colours --------------------------------------------------------------------------------------

FIGURES = {
    "cosines": lambda: heatmap(np.linspace(-1, 1, 110).reshape(10, 11)),
    "magnitudes": lambda: heatmap(np.linspace(0, 1, 110).reshape(10, 11), signed=False),
    "lines": lines,
    "map": scatter,
}


@pytest.mark.parametrize("figure", FIGURES)
def test_no_colour_of_a_picture_changes_visibly(figure):
    """In levels of 255: at most 8 in an area of one colour, at most 24 at its edges."""
    with alt.data_transformers.disable_max_rows():
        spec = FIGURES[figure]().to_dict()
    drawn = pixels(vl_convert.vegalite_to_png(spec, vl_version=charts.VEGALITE, scale=1.5))
    changed = np.abs(pixels(charts.picture(spec)) - drawn).max(axis=2)
    around = np.lib.stride_tricks.sliding_window_view(drawn, (3, 3), axis=(0, 1))
    areas = (np.ptp(around, axis=(3, 4)) == 0).all(axis=2)
    assert 0.3 < areas.mean() < 1
    assert changed[1:-1, 1:-1][areas].max() <= 8
    assert changed.max() <= 24


def luminance(colour):
    """Relative luminance, as the Web Content Accessibility Guidelines define it."""
    if colour in ("black", "white"):
        return float(colour == "white")
    levels = (
        [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        if colour.startswith("#")
        else list(map(int, re.findall(r"\d+", colour)))
    )
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.divide(levels, 255)
    ]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def items(part, kind):
    """All items of the marks of one kind in a drawn scene."""
    if isinstance(part, list):
        return [item for inner in part for item in items(inner, kind)]
    if not isinstance(part, dict):
        return []
    own = part.get("items", []) if part.get("marktype") == kind else []
    return [*own, *items(list(part.values()), kind)]


@pytest.mark.parametrize("top", [1, 0.3])
@pytest.mark.parametrize("signed", [True, False])
def test_the_number_in_every_cell_stands_out_4_5_to_1(signed, top):
    matrix = np.linspace(-top if signed else 0, top, 600).reshape(20, 30)
    spec = heatmap(matrix, signed=signed, top=top).to_dict()
    scene = vl_convert.vegalite_to_scenegraph(spec, vl_version=charts.VEGALITE)
    cells = [item["fill"] for item in items(scene, "rect") if item.get("stroke") == "white"]
    inks = [item["fill"] for item in items(scene, "text") if item["fill"] in ("black", "white")]
    assert len(cells) == len(inks) == matrix.size
    pairs = [sorted(map(luminance, pair)) for pair in zip(cells, inks, strict=True)]
    assert min((light + 0.05) / (dark + 0.05) for dark, light in pairs) >= 4.5


# --- heatmaps -------------------------------------------------------------------------------------


def test_labels_that_do_not_fit_the_matrix_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        charts.heatmap(np.zeros((3, 2)), ["a"], ["b", "c"], row_title="", column_title="", **WORDS)


def test_the_panels_of_a_pair_have_the_same_labels_and_colours():
    names = {"row_title": "r", "column_title": "c", "titles": ("before", "after")}
    above, below = charts.heatmap_pair(
        np.eye(2), np.ones((2, 2)), ["a", "b"], ["c", "d"], description="d", **names
    ).to_dict()["vconcat"]
    assert (above.pop("title"), below.pop("title")) == ("before", "after")
    assert above["layer"] == below["layer"]
