"""The map of the vocabulary: a live widget with a search box, a picture where nobody looks."""

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from helpers import figures, token_map

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


def overlaps(names, sizes):
    """Pairs of names that share pixels, with letters as narrow as 0.6 of their size."""
    boxes = [
        (left + n["dx"], top + n["dy"], 0.3 * size * len(n["name"]), size / 2, n["name"])
        for (left, top), n, size in zip(names["places"], names["rows"], sizes, strict=True)
        if n["name"]
    ]
    return [
        (a[4], b[4])
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if abs(a[0] - b[0]) < a[2] + b[2] and abs(a[1] - b[1]) < a[3] + b[3]
    ]


def test_all_nine_rings_have_names_though_they_lie_on_one_spot(frame):
    crowd = frame.assign(
        x=np.where(frame["id"] < 9, frame["id"] / 100, frame["x"]),
        y=np.where(frame["id"] < 9, 0, frame["y"]),
        token=[f"river{i}" for i in range(40)],
    )
    rows = token_map._marked(crowd, [4, 0, 1, 2, 3, 5, 6, 7, 8], 760, 560)
    assert [row["name"] for row in rows] == [f"river{i}" for i in [4, 0, 1, 2, 3, 5, 6, 7, 8]]
    places = token_map._map_scales(crowd, 760, 560)[1][[4, 0, 1, 2, 3, 5, 6, 7, 8]]
    sizes = [token_map.FIRST_SIZE] + [token_map.SIZE] * 8
    assert not overlaps({"places": places, "rows": rows}, sizes)
    together = [{**row, "dx": 0, "dy": 0} for row in rows]
    assert len(overlaps({"places": places, "rows": together}, sizes)) > 30, "it sees overlaps"
    led = [row for row in rows if (row["from_x"], row["from_y"]) != (row["to_x"], row["to_y"])]
    assert led, "names further away have a line that leads to them"


def test_a_line_leads_past_another_ring():
    def end_of_line(other):
        points = np.array([[200.0, 100.0], other])
        first, _ = token_map._places(points, ["a", "b"], [12, 12], (60,), np.array([400, 400]))
        return first["to_x"], first["to_y"]

    assert end_of_line([200, 300]) == (0, -60), "straight up, where nothing is in the way"
    assert end_of_line([200, 72]) != (0, -60)


def test_a_name_without_room_is_left_out_and_stays_in_the_tooltip(frame):
    wide = frame.assign(token=[f"{'w' * 150}{i}" for i in range(40)])
    (row,) = token_map._marked(wide, [3], 760, 560)
    assert row["name"] == "" and row["token"] == f"{'w' * 150}3" and row["id"] == 3


def test_an_id_that_no_token_has_is_named(frame):
    with pytest.raises(ValueError, match="no token has the id 99"):
        token_map.chart(frame, highlight=[3, 99], **WORDS)


def rows_of(chart):
    (rows,) = chart.to_dict()["datasets"].values()
    return rows


def test_a_region_names_the_token_and_those_whose_names_it_does_not_hide(frame):
    crowd = frame.assign(x=np.where(frame["id"] == 39, 9, frame["id"] / 1e6), y=0.0)
    rows = rows_of(token_map.region(crowd, token="t7", radius=10, **WORDS))
    named = [row["name"] for row in rows if row["name"]]
    assert named[0] == "t7" and named[-1] == "t39" and 3 < len(named) < 30


def test_a_region_rings_the_token_and_its_nearest_by_cosine(frame, vectors):
    ranks = {row["token"]: row["rank"] for row in rows_of(region(frame))}
    assert len(ranks) == 40 and [t for t, rank in ranks.items() if rank < 2] == ["t7"]
    ranks = {row["token"]: row["rank"] for row in rows_of(region(frame, vectors, k=4))}
    first, *others = token_map._neighbour_ids(frame, vectors, "t7", 4)
    assert ranks[f"t{first}"] == 0
    assert {t for t, rank in ranks.items() if rank == 1} == {f"t{i}" for i in others}


def region(frame, *vectors, **options):
    return token_map.region(frame, *vectors, token="t7", radius=99, **WORDS, **options)


def test_words_come_from_the_catalogue(frame):
    assert (
        token_map.region(frame, token="t7", radius=9, figure="map-region").title
        == (figures.words("map-region")["title"])
    )
    assert token_map.chart(frame, figure="token-map", title="mine").title == "mine"


def test_searching_a_token_that_does_not_exist_says_what_to_do(frame):
    with pytest.raises(ValueError, match="tokenizer.tokenize"):
        token_map.show(frame, np.ones((40, 3)), token="absent", **WORDS)


def live_map(frame, vectors, *, token):
    marked = token_map._neighbour_ids(frame, vectors, token, 4)
    chart = token_map.chart(frame, **WORDS, highlight=marked)
    return token_map._live_map(chart, frame, vectors, token, 4).children


def test_the_live_map_marks_a_token_and_its_neighbours_when_one_searches(frame, vectors):
    box, answer, live = live_map(frame, vectors, token="t7")
    assert live.params.marked[0]["name"] == "t7" and len(live.params.marked) == 5
    box.value = "t9"
    assert live.params.marked[0]["name"] == "t9" and "t9" in answer.value
    assert [row["id"] for row in live.params.marked] == token_map._neighbour_ids(
        frame, vectors, "t9", 4
    )
    box.value = "absent"
    assert "not one of the 40 tokens" in answer.value and live.params.marked[0]["name"] == "t9"


def test_a_page_that_is_loaded_again_starts_from_the_last_search(frame, vectors):
    box, _, live = live_map(frame, vectors, token="t7")
    box.value = "t9"
    (signal,) = [s for s in live.get_state()["spec"]["signals"] if s["name"] == "marked"]
    assert signal["value"] == live.params.marked and signal["value"][0]["id"] == 9


@pytest.mark.parametrize(
    ("typed", "found"), [("[CLS]", "[CLS]"), (" River ", "river"), ("Nile", "Nile")]
)
def test_the_box_looks_for_what_is_typed_and_then_for_its_lower_case(frame, vectors, typed, found):
    tokens = ["[CLS]", "river", "Nile", "nile", *frame["token"][4:]]
    box, answer, live = live_map(frame.assign(token=tokens), vectors, token="t8")
    box.value = typed
    assert live.params.marked[0]["token"] == found
    assert answer.value.startswith(f"nearest to '{found}'")


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
    assert token_map.WIDTH < metadata["image/png"]["width"] < 840, "room beside the file browser"
    monkeypatch.setattr(alt.JupyterChart, "_is_offline", False)
    alt.JupyterChart.enable_offline()
    picture, widget = (version.strip("v").replace("_", ".") for version in versions)
    assert picture == widget
