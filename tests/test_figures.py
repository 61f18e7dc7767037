"""The words of the figures: what the catalogue holds, and what a call makes of it."""

import ast

import nbformat
import pytest

from helpers import charts, figures, token_map
from tests.support.lessons import PATHS

CATALOGUE = """
[one]
title = "{count:,} of {total} passages"
description = "A map of {count} passages, {{as they are}}."

[pair]
titles = ["before", "after {steps} steps"]
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    path = tmp_path / "figures.xx.toml"
    path.write_text(CATALOGUE, encoding="utf-8")
    monkeypatch.setitem(figures.CATALOGUES, "en", path)
    figures.catalogue.cache_clear()
    yield
    figures.catalogue.cache_clear()


def test_values_take_their_places_in_every_text(small):
    assert figures.words("one", count=1_000, total=2_000) == {
        "title": "1,000 of 2000 passages",
        "description": "A map of 1000 passages, {as they are}.",
    }
    assert figures.words("pair", steps=3) == {"titles": ("before", "after 3 steps")}


@pytest.mark.parametrize(
    ("figure", "values", "error", "message"),
    [
        ("two", {}, KeyError, r"no figure 'two' in figures\.xx\.toml; it has one, pair"),
        ("one", {}, ValueError, "figure 'one' needs a value for count, total"),
        ("one", {"count": 1}, ValueError, "figure 'one' needs a value for total"),
        ("one", {"count": 1, "total": 2, "n": 3}, ValueError, "no place for n"),
        ("one", {"count": 1, "total": 2, "co": 3}, ValueError, "no place for co"),
        ("one", {"count": 1, "total": 2, "as they are": 3}, ValueError, "no place for as they are"),
        ("pair", {}, ValueError, "needs a value for steps"),
    ],
)
def test_a_key_or_value_that_does_not_fit_is_named(small, figure, values, error, message):
    with pytest.raises(error, match=message):
        figures.words(figure, **values)


def test_a_chart_takes_its_words_from_the_catalogue_and_those_of_the_call_win():
    draw = figures.worded(lambda *args, **named: (args, named))
    known = figures.words("context-size")
    assert draw(1, figure="context-size", width=2) == ((1,), {**known, "width": 2})
    assert draw(figure="context-size", title="mine")[1] == {**known, "title": "mine"}
    assert draw(1, title="t") == ((1,), {"title": "t"})
    counted = draw(figure="own-map", values={"count": 7})[1]
    assert "7 passages" in counted["title"] and "7 passages" in counted["description"]
    with pytest.raises(ValueError, match="values fill the words of a figure"):
        draw(1, values={"count": 7})
    with pytest.raises(KeyError, match="no figure 'gone'"):
        draw(1, figure="gone")


# --- what the notebooks ask for -------------------------------------------------------------------


def calls(source):
    """(chart, figure's key, names of its values) of every call with `figure=`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            if "figure" in named and isinstance(node.func, ast.Attribute):
                values = named.get("values", ast.Dict([], []))
                assert isinstance(values, ast.Dict), "values are written out, to be checked here"
                names = tuple(ast.literal_eval(key) for key in values.keys)
                yield node.func.attr, ast.literal_eval(named["figure"]), names


def asked_for():
    return [
        call
        for path in PATHS
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and "figure=" in cell.source
        for call in calls(cell.source)
    ]


def test_a_call_is_read_with_its_values():
    source = 'x = 1\ndisplay(charts.scatter(p, figure="a", values={"n": x, "k": 2}))\nf(figure=1)'
    assert list(calls(source)) == [("scatter", "a", ("n", "k"))]


def test_the_notebooks_use_every_figure_of_the_catalogue_and_no_other():
    assert {key for _, key, _ in asked_for()} == set(figures.catalogue())


def test_every_call_of_the_notebooks_gives_the_values_that_its_words_need():
    for chart, key, names in asked_for():
        assert figures.words(key, **dict.fromkeys(names, 1)), key
        assert hasattr(charts, chart) or hasattr(token_map, chart), chart


def test_every_figure_is_described_in_at_least_60_characters():
    short = {
        key: entry.get("description")
        for key, entry in figures.catalogue().items()
        if len(entry.get("description", "")) < 60
    }
    assert figures.catalogue() and not short
