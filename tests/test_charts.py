"""Charts: three forms of a figure in one output, drawn by one Vega-Lite, in colours that stay."""

import io
import json
import re
import struct
from pathlib import Path

import altair as alt
import matplotlib.pyplot as plt
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


def test_six_series_have_colours_that_stand_out_3_to_1_from_the_page():
    contrasts = [1.05 / (luminance(colour) + 0.05) for colour in charts.SERIES_COLOURS]
    assert len(set(charts.SERIES_COLOURS)) == 6 and min(contrasts) >= 3
    assert min(contrasts[4:]) > max(contrasts[:4]), "the last two are darker"


def test_six_series_are_drawn_in_six_colours():
    frame = pd.DataFrame({"x": [1, 2] * 6, "y": np.arange(12), "of": np.repeat(list("abcdef"), 2)})
    spec = charts.lines(frame, x="x", y="y", series="of", **WORDS).to_dict()
    scene = vl_convert.vegalite_to_scenegraph(spec, vl_version=charts.VEGALITE)
    drawn = {item.get("stroke") for item in items(scene, "line")}
    assert {colour.lower() for colour in charts.SERIES_COLOURS} <= {str(c).lower() for c in drawn}


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


def drawn_by_seaborn(monkeypatch, **options):
    """The colour scales of two matrices, one with values up to 0.3 and one up to 1."""
    figures, close = [], plt.close
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    monkeypatch.setattr("matplotlib.pyplot.close", figures.append)
    names = {"x_title": "x", "y_title": "y", **WORDS}
    charts.show_heatmaps({"a": 0.3 * np.eye(3), "b": np.eye(3)}, **names, **options)
    close(figures[0])
    return [axis.collections[0].get_clim() for axis in figures[0].axes if axis.get_xlabel()]


def test_heatmaps_of_seaborn_have_one_scale_each_or_one_for_all(monkeypatch):
    assert drawn_by_seaborn(monkeypatch) == [(0, 0.3), (0, 1)]
    assert drawn_by_seaborn(monkeypatch, span=(-1, 0.7)) == [(-1, 0.7)] * 2
    assert drawn_by_seaborn(monkeypatch, span=np.array([0, 2])) == [(0, 2)] * 2


# --- differences, changes, maps -------------------------------------------------------------------


def scene(chart):
    return vl_convert.vegalite_to_scenegraph(chart.to_dict(), vl_version=charts.VEGALITE)


def differences(**options):
    frame = pd.DataFrame({"mean": [3.0], "low": [2.0], "high": [4.0], "of": "a", "by": "b"})
    return charts.intervals(frame, system="of", measure="by", x_title="gain", **WORDS, **options)


@pytest.mark.parametrize("zero", [False, True])
def test_an_interval_has_a_line_at_0_if_it_is_asked_for(zero):
    drawn = scene(differences(zero=zero))
    dashed = [item for item in items(drawn, "rule") if item.get("strokeDash") == [4, 3]]
    assert len(dashed) == zero
    for line in dashed:
        zeros = [item for item in items(drawn, "text") if item.get("text") == "0.0"]
        assert line["x"] == pytest.approx(zeros[0]["x"], abs=1) and not line.get("x2")
        assert abs(line.get("y", 0) - line.get("y2", 0)) >= 50, "as high as the plot"
    titles = [item["text"] for item in items(drawn, "text")]
    assert "gain" in titles and not [text for text in titles if "," in str(text)]


def changes(tokens=("the", "rain"), **options):
    frame = pd.DataFrame({"token": tokens, "change": [-0.5, 8], "part": ["template", "its own"]})
    return charts.token_changes(frame, part="part", y_title="points", **WORDS, **options)


def test_changes_are_bars_up_and_down_in_reading_order_coloured_by_part():
    bars = [
        item for item in items(scene(changes()), "rect") if item.get("fill", "").startswith("#")
    ]
    down, up = sorted(bars, key=lambda bar: bar["x"])
    assert [down["fill"].upper(), up["fill"].upper()] == charts.SERIES_COLOURS[:2]
    assert up["y"] + up["height"] == pytest.approx(down["y"]) and up["height"] > down["height"]


def test_two_tokens_with_one_name_are_refused_with_what_makes_them_differ():
    with pytest.raises(ValueError, match="token_labels"):
        changes(("the", "the"))


def dots(points, texts=("a", "b", "c"), **options):
    (rows,) = charts.scatter(points, list(texts), **WORDS, **options).to_dict()["datasets"].values()
    return rows


def test_a_map_has_a_point_per_text_wherever_it_lies():
    for scale in (1e-4, 1, 100):
        rows = dots(scale * np.array([[0, 0.01], [0.013, 1], [1, 0]]))
        assert [row["text"] for row in rows] == ["a", "b", "c"]
        places = np.array([[row["x"], row["y"]] for row in rows]) / scale
        assert places == pytest.approx(np.array([[0, 0.01], [0.013, 1], [1, 0]]), abs=0.006)
    assert dots([[1, 1]], "a") == [{"x": 1.0, "y": 1.0, "text": "a"}]
    assert len(dots([[1, 1]] * 3)) == 3


def test_groups_of_a_map_differ_in_colour_and_shape():
    chart = charts.scatter(np.eye(3, 2), list("abc"), groups=["x", "y", "x"], **WORDS)
    drawn = [item for item in items(scene(chart), "symbol") if item.get("size") == 45]
    assert len(drawn) == 3
    assert len({item["fill"] for item in drawn}) == len({item["shape"] for item in drawn}) == 2


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.eye(2), {}, r"\(2, 2\) do not fit 3 texts"),
        (np.eye(3), {}, r"\(3, 3\) do not fit 3 texts"),
        ([1, 2, 3], {}, r"\(3,\) do not fit 3 texts"),
        (np.eye(3, 2), {"groups": ["a"]}, "and 1 groups"),
        (np.eye(3, 2), {"groups": []}, "and 0 groups"),
        (np.eye(3, 2) * np.nan, {}, "NaN or infinity"),
        ([[0, 0], [1, 1], [np.inf, 0]], {}, "NaN or infinity"),
        (np.empty((0, 2)), {"texts": ()}, "at least one text"),
    ],
)
def test_points_that_fit_no_map_are_refused(points, options, message):
    with pytest.raises(ValueError, match=message):
        dots(points, **options)


# --- histogram ----------------------------------------------------------------------------------

TITLES = {**WORDS, "x_title": "cosine", "y_title": "share", "series_title": "pairs"}


def test_a_histogram_counts_in_shares_and_its_outline_is_closed():
    samples = {"a": [0.1, 0.12, 0.3, 0.31], "b": [-0.1]}
    chart = charts.histogram(samples, step=0.2, **TITLES)
    (rows,) = chart.to_dict()["datasets"].values()
    assert [row["share"] for row in rows if row["sample"] == "a"] == [0, 0, 0.5, 0.5, 0, 0][
        : len(rows) // 2
    ]
    assert {row["share"] for row in rows if row["sample"] == "b"} == {0, 1}
    assert rows[0]["share"] == rows[-1]["share"] == 0


@pytest.mark.parametrize(
    ("samples", "step", "message"),
    [
        ({}, 0.1, "give samples"),
        ({"a": [1.0]}, 0, "positive step"),
        ({"a": [1.0], "b": []}, 0.1, "'b' has no values"),
        ({"a": [float("nan")]}, 0.1, "NaN"),
        ({"a": [0, 1e6]}, 0.1, "choose a larger one"),
    ],
)
def test_a_histogram_of_nothing_or_in_too_many_bins_is_refused(samples, step, message):
    with pytest.raises(ValueError, match=message):
        charts.histogram(samples, step=step, **TITLES)


# --- arrows -------------------------------------------------------------------------------------


def test_arrows_say_their_angle_to_the_first_and_its_cosine():
    vectors = {"a": (3, 1), "b": (1, 2), "c": (-1, 3), "d": (-1.5, -0.5)}
    drawn = scene(charts.arrows(vectors, title="t", description="d" * 60))
    texts = {item.get("text") for item in items(drawn, "text")}
    assert {"a", "b: 45°, cosine 0.71", "c: 90°, cosine 0.00"} <= texts
    assert "d: 180°, cosine -1.00" in texts


@pytest.mark.parametrize(
    "vectors", [{}, {"a": (1, 2, 3)}, {"a": (1, float("nan"))}, {"a": (1, 2), "b": (0, 0)}]
)
def test_arrows_need_directions(vectors):
    with pytest.raises(ValueError, match="vector of"):
        charts.arrows(vectors, title="t", description="d")
