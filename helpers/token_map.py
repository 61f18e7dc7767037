"""The map of the vocabulary: every token as a point, some of them marked or named.

`chart` and `region` give Altair charts. `show` draws the whole map: as a live widget with a search
box where somebody sits in front of the kernel, else as a picture.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import altair as alt
import numpy as np
import pandas as pd

from .charts import EMBED, axis_title, label, magnification, picture, room, styled
from .figures import worded
from .language import chosen
from .language import translated as _
from .settings import is_live
from .similarity import nearest
from .tokens import short

if TYPE_CHECKING:
    from ipywidgets import VBox

KIND_COLOURS = {  # colour-blind readers can tell them apart
    "word": "#0072B2",
    "continuation": "#E69F00",
    "special": "#CC3311",
}
KIND_SHAPES = {"word": "circle", "continuation": "triangle-up", "special": "square"}
WIDTH, HEIGHT = 760, 560  # of the whole map's plot, in pixels
PICTURE_SCALE = 1.5  # pixels of the picture for each pixel of the chart
RING = 6  # radius in pixels
#: Where a name may stand: the gap in pixels between its token's place and the nearest part of it.
NEXT_TO_IT, FURTHER_AWAY = (10,), (10, 20, 32, 46, 62, 80, 100, 125)
AXIS = alt.Axis(grid=False, labels=False, ticks=False)  # t-SNE coordinates have no meaning alone
SIZE, FIRST_SIZE = 12, 15  # of the letters, in pixels; the first is bold, which is wider
BOLD = 1.15
#: What the chart knows of each ringed token.
PLACE = ("dx", "dy", "from_x", "from_y", "to_x", "to_y")
MARKED = ("token", "id", "kind", "x", "y", "name", *PLACE)
#: The Vega-Lite that `alt.JupyterChart` contains, such as "v6.4". The picture is drawn by the same.
WIDGET_VEGALITE = alt.SCHEMA_VERSION.rpartition(".")[0]


def _tooltip() -> list[str | alt.Tooltip]:
    """What a tooltip says of a token; in Vega-Lite's own words unless they are translated."""
    if chosen() == "en":
        return ["token:N", "id:Q", "kind:N"]
    titles = {"token:N": _("token"), "id:Q": _("id"), "kind:N": _("kind of token")}
    return [alt.Tooltip(field, title=title) for field, title in titles.items()]


def _kind_channels(title: str, legend: alt.Legend) -> dict[str, Any]:
    """Channels that tell the kinds of tokens apart by colour and by shape.

    The names of the kinds are data, so the legend translates what it shows.
    """
    if chosen() != "en":
        named = {"word": _("word"), "continuation": _("continuation"), "special": _("special")}
        legend.labelExpr = f"{json.dumps(named, ensure_ascii=False)}[datum.label]"
    kinds = list(KIND_COLOURS)
    colours = alt.Scale(domain=kinds, range=list(KIND_COLOURS.values()))
    shapes = alt.Scale(domain=kinds, range=list(KIND_SHAPES.values()))
    return {
        "color": alt.Color("kind:N", title=title, scale=colours, legend=legend),
        "shape": alt.Shape("kind:N", title=title, scale=shapes, legend=legend),
    }


def _scale(values: pd.Series, pixels: int, margin: int) -> tuple[alt.Scale, np.ndarray]:
    """A scale with `margin` pixels to spare at both ends, and where the values are, in pixels."""
    low, high = float(values.min()), float(values.max())
    unit = ((high - low) or 1.0) / (pixels - 2 * margin)
    low -= margin * unit
    scale = alt.Scale(domain=[low, high + margin * unit], nice=False, zero=False)
    return scale, (values.to_numpy(dtype=float) - low) / unit


def _breadth(text: str, size: float) -> float:
    """About how many pixels a text is wide in the font of the series.

    >>> _breadth("bank", 10), _breadth("ill", 10), _breadth("東京", 10)
    (26.0, 12.0, 21.0)
    """

    def share(sign: str) -> float:
        if east_asian_width(sign) in "WF":
            return 1.05
        return 0.4 if sign in "fijlrt.,:;|!'[]()" else 0.95 if sign in "mwMW@%" else 0.65

    return round(size * sum(map(share, text)), 1)


def _places(
    points: np.ndarray,
    texts: list[str],
    sizes: list[float],
    gaps: tuple[int, ...],
    plot: np.ndarray,
) -> list[dict[str, float] | None]:
    """Where each text can stand without covering an earlier one, or None where it cannot.

    In pixels from its point: `dx`, `dy` of its centre, and `from_x`, `from_y`, `to_x`, `to_y` of a
    line that leads to it, of no length if the text stands next to its point. Of the places that
    are free, the one that covers fewest points, its line included, wins; then the nearest.

    Args:
        points: shape (n, 2), pixels from the left and from the top of the plot.
        sizes: of the letters, one per text.
        plot: its width and height in pixels.
    """
    angles = np.arange(24) * np.pi / 12 - np.pi / 2  # the first is straight up
    rays = np.column_stack([np.cos(angles), np.sin(angles)]).round(3)
    centres, halves = np.empty((0, 2)), np.empty((0, 2))  # of the boxes that are taken
    lines: list[np.ndarray] = []  # points on each, close to one another
    found: list[dict[str, float] | None] = []

    def within(spots: np.ndarray, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Which of the spots (n, 2) lie in which of the boxes (m, 2): shape (n, m)."""
        return (np.abs(spots[:, None] - centre) < half).all(axis=2)

    for point, text, size in zip(points, texts, sizes, strict=True):
        half = np.array([_breadth(text, size) / 2 + 1, size * 0.6 + 1])
        best: tuple[int, int] | None = None
        for gap in gaps:
            middle = point + gap * rays + half * np.clip(1.5 * rays, -1, 1)
            leading = point + np.linspace(RING, gap, 12)[:, None, None] * rays  # (12, rays, 2)
            free = ((middle >= half) & (middle + half <= plot)).all(axis=1)
            free &= ~within(middle, centres, halves + half).any(axis=1)
            free &= ~within(leading.reshape(-1, 2), centres, halves).any(axis=1).reshape(
                12, -1
            ).any(0)
            for line in lines:
                free &= ~within(line, middle, half).any(axis=0)
            rest = np.flatnonzero(free)
            hidden = within(points, middle[rest], half + 3).sum(axis=0)
            if gap > NEXT_TO_IT[0]:  # a line through another ring would seem to lead to that one
                others = points[(np.abs(points - point) > 2 * RING).any(axis=1)]
                on_line = within(others, leading[:, rest].reshape(-1, 2), np.array([RING, RING]))
                hidden += on_line.reshape(len(others), 12, len(rest)).any(axis=1).sum(axis=0)
            for ray, covered in zip(rest, hidden, strict=True):
                cost = (int(covered), gap)
                if (best is None or cost < best) and not any(
                    _cross(leading[:, ray], line) for line in lines
                ):
                    best, chosen = cost, (middle[ray], rays[ray], leading[:, ray])
        if best is None:
            found.append(None)
            continue
        centre, direction, line = chosen
        centres, halves = np.vstack([centres, centre]), np.vstack([halves, half])
        start = end = direction * RING
        if best[1] > NEXT_TO_IT[0]:
            lines.append(line)
            end = direction * best[1]
        numbers = np.concatenate([centre - point, start, end]).round(1).tolist()
        found.append(dict(zip(PLACE, numbers, strict=True)))
    return found


def _cross(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two straight lines, each from its first point to its last, cross.

    >>> line = np.array([[0, 0], [2, 2]])
    >>> _cross(line, np.array([[0, 2], [2, 0]])), _cross(line, np.array([[1, 0], [3, 2]]))
    (True, False)
    """

    def sides(line: np.ndarray, ends: np.ndarray) -> float:
        along, offsets = line[-1] - line[0], ends[[0, -1]] - line[0]
        turns = along[0] * offsets[:, 1] - along[1] * offsets[:, 0]
        return float(turns[0] * turns[1])

    return sides(one, other) < 0 and sides(other, one) < 0


@worded
def chart(
    frame: pd.DataFrame,
    *,
    title: str,
    description: str,
    highlight: list[int] | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
    x_title: str = "t-SNE 1 (no unit)",
    y_title: str = "t-SNE 2 (no unit)",
    kind_title: str = "kind of token",
) -> alt.LayerChart:
    """All tokens as points: the wheel or a pinch zooms, dragging pans, hovering names a token.

    Args:
        frame: one row per token: `id`, `token`, `kind`, and its place `x`, `y` on the map.
        highlight: ids of the tokens to ring; as many are named as fit, the first in large letters.
        width, height: of the plot in pixels.

    Raises:
        ValueError: no token of `frame` has one of the ids.
    """
    ringed = _marked(frame, highlight or [], room(width), room(height))
    marked = alt.param(name="marked", value=ringed)
    zoom = alt.selection_interval(bind="scales", name="zoom")
    shown = frame.assign(token=[label(token) for token in frame["token"]]).round({"x": 2, "y": 2})
    x, y = _map_scales(frame, room(width), room(height))[0]
    places: dict[str, Any] = {
        "x": alt.X("x:Q", title=axis_title(x_title), axis=AXIS, scale=x),
        "y": alt.Y("y:Q", title=axis_title(y_title), axis=AXIS, scale=y),
    }
    below = alt.Legend(orient="bottom", titleOrient="left", symbolSize=120, symbolOpacity=1)
    kinds = _kind_channels(axis_title(kind_title), legend=below)
    points = (
        alt.Chart(shown)
        .mark_point(filled=True, size=9, opacity=0.45)
        .encode(**places, **kinds, tooltip=_tooltip())
    )
    # not the tokens' own rows: what is marked changes in the page, without asking the kernel
    chosen = alt.Chart(alt.sequence(len(ringed), as_="rank"))
    for field in MARKED:
        chosen = chosen.transform_calculate(field, f"marked[datum.rank].{field}")
    chosen = chosen.encode(**places)
    lines = chosen.mark_rule(
        color="black",
        strokeWidth=1,
        xOffset=_own("from_x"),
        yOffset=_own("from_y"),
        x2Offset=_own("to_x"),
        y2Offset=_own("to_y"),
    ).encode(x2="x", y2="y")
    rings = _rings(chosen).encode(tooltip=_tooltip())
    layers = points.add_params(zoom) + lines + rings + _names(chosen, SIZE)
    return styled(
        layers.add_params(marked).properties(
            title=label(title), width=width, height=height, description=description
        )
    )


def _own(field: str) -> alt.ExprRef:
    """A length that is a field of each row; expressions grow here, not in `charts.enlarged`."""
    return alt.ExprRef(f"datum.{field} * {magnification()}")


def _of_first(first: Any, others: Any) -> alt.ExprRef:
    """A property of a mark that is different for the token searched for; a number is a length."""
    if not isinstance(first, str):
        first, others = first * magnification(), others * magnification()
    return alt.ExprRef(f"datum.rank == 0 ? {first} : {others}")


def _rings(rows: alt.Chart) -> alt.Chart:
    """A ring around each row's place; around the token searched for it is larger and thicker."""
    size, thickness = _of_first(190, 110), _of_first(2.6, 1.6)
    return rows.mark_point(filled=False, stroke="black", size=size, strokeWidth=thickness)


def _names(rows: alt.Chart, size: int) -> alt.LayerChart:
    """Each row's `name` where `_places` has put it: black on a white halo, to be read on points."""
    named = rows.encode(text="name:N")
    look: dict[str, Any] = {
        "dx": _own("dx"),
        "dy": _own("dy"),
        "fontSize": _of_first(FIRST_SIZE, size),
        "fontWeight": _of_first("'bold'", "'normal'"),
    }
    halo = named.mark_text(**look, stroke="white", strokeWidth=4, strokeJoin="round")
    return halo + named.mark_text(**look, color="black")


def _map_scales(
    frame: pd.DataFrame, width: int, height: int
) -> tuple[tuple[alt.Scale, alt.Scale], np.ndarray]:
    """The scales of x and y, and where the tokens are: pixels from the left and from the top."""
    (x, across), (y, up) = _scale(frame["x"], width, 25), _scale(frame["y"], height, 25)
    return (x, y), np.column_stack([across, height - up])


def _marked(frame: pd.DataFrame, ids: list[int], width: int, height: int) -> list[dict[str, Any]]:
    """The tokens to ring, as what `chart` draws of each: the fields of `MARKED`.

    The first is named before the others; one whose name finds no room has an empty name.
    """
    rows = pd.Index(frame["id"]).get_indexer(pd.Index(ids))
    if (rows < 0).any():
        missing = [token_id for token_id, row in zip(ids, rows, strict=True) if row < 0]
        raise ValueError(
            _("no token has the id {missing}. Choose ids of frame['id'].").format(
                missing=missing[0]
            )
        )
    places = _map_scales(frame, width, height)[1][rows]
    chosen = frame.iloc[rows]
    names = [label(token) for token in chosen["token"]]
    sizes = [FIRST_SIZE * BOLD if rank == 0 else SIZE for rank in range(len(ids))]
    plot = np.array([width, height])
    found: list[dict[str, float] | None] = [None] * len(ids)
    # the further away the names are, the more room they leave to one another
    for nearest_gap in range(len(FURTHER_AWAY) // 2 + 1):
        tried = _places(places, names, sizes, FURTHER_AWAY[nearest_gap:], plot)
        found = min(found, tried, key=lambda placed: placed.count(None))
        if None not in found:
            break
    return [
        {
            "token": name,
            "id": int(row.id),
            "kind": row.kind,
            "x": round(float(row.x), 2),
            "y": round(float(row.y), 2),
            "name": name if place else "",
            **(place or dict.fromkeys(PLACE, 0.0)),
        }
        for row, name, place in zip(chosen.itertuples(), names, found, strict=True)
    ]


def _within(frame: pd.DataFrame, token: str, radius: float) -> pd.DataFrame:
    """Rows of `frame` within `radius` of `token` on the map, nearest first."""
    here = frame.loc[frame["token"] == token, ["x", "y"]]
    if here.empty:
        raise ValueError(
            _("{token} is not one of the {frame:,} tokens. Choose one of frame['token'].").format(
                token=short(token), frame=len(frame)
            )
        )
    distance = np.hypot(frame["x"] - here["x"].iloc[0], frame["y"] - here["y"].iloc[0])
    return frame.loc[distance[distance <= radius].sort_values(kind="stable").index]


@worded
def region(
    frame: pd.DataFrame,
    vectors: np.ndarray | None = None,
    *,
    token: str,
    radius: float,
    k: int = 8,
    title: str,
    description: str,
    x_title: str = "t-SNE 1 (no unit)",
    y_title: str = "t-SNE 2 (no unit)",
    kind_title: str = "kind of token",
    width: int = 620,
    height: int = 460,
) -> alt.LayerChart:
    """The part of the map within `radius` of `token`, with as many names as fit.

    `token` stands out: its ring is the thickest and its name the largest. A tooltip has the name of
    every point.

    Args:
        frame: one row per token: `id`, `token`, `kind`, and its place `x`, `y` on the map.
        vectors: shape (number of tokens, d), row i for the token with id i. If given, the `k`
            nearest to `token` by cosine are ringed too, those of them that lie in this part.
        radius: in units of the map.
        width, height: of the plot in pixels.

    Raises:
        ValueError: `token` is not in `frame`.
    """
    near = _within(frame, token, radius)
    ringed = near["token"] == token
    if vectors is not None:
        ringed |= near["id"].isin(_neighbour_ids(frame, vectors, token, k))
    near = near.assign(
        token=[label(name) for name in near["token"]],
        rank=np.where(near["token"] == token, 0, np.where(ringed, 1, 2)),
    ).sort_values("rank", kind="stable")  # names are given in this order
    plot = np.array([room(width), room(height)])  # in pixels of letters of usual size
    (x, across), (y, up) = _scale(near["x"], plot[0], 60), _scale(near["y"], plot[1], 25)
    found = _places(
        np.column_stack([across, plot[1] - up]),
        list(near["token"]),
        [FIRST_SIZE * BOLD if rank == 0 else SIZE - 1 for rank in near["rank"]],
        NEXT_TO_IT,
        plot,
    )
    nowhere = dict.fromkeys(PLACE, 0.0)
    near = near.assign(
        name=[name if place else "" for name, place in zip(near["token"], found, strict=True)],
        dx=[(place or nowhere)["dx"] for place in found],
        dy=[(place or nowhere)["dy"] for place in found],
    )
    base = alt.Chart(near).encode(
        x=alt.X("x:Q", title=axis_title(x_title), axis=AXIS, scale=x),
        y=alt.Y("y:Q", title=axis_title(y_title), axis=AXIS, scale=y),
        tooltip=_tooltip(),
    )
    below = alt.Legend(orient="bottom", titleOrient="left")
    kinds = _kind_channels(axis_title(kind_title), legend=below)
    points = base.mark_point(filled=True, size=45, opacity=1).encode(**kinds)
    rings = _rings(base.transform_filter("datum.rank < 2"))
    layers = (points + rings + _names(base, SIZE - 1)).properties(
        title=label(title), width=width, height=height, description=description
    )
    return styled(layers.interactive())


@worded
def show(
    frame: pd.DataFrame,
    vectors: np.ndarray,
    *,
    token: str,
    k: int = 8,
    title: str,
    description: str,
    x_title: str = "t-SNE 1 (no unit)",
    y_title: str = "t-SNE 2 (no unit)",
    kind_title: str = "kind of token",
) -> None:
    """Draw the map of all tokens with `token` and its `k` nearest neighbours marked.

    In JupyterLab: a live chart (zoom, tooltips, VegaFusion) with a search box. Headless: a picture.

    Args:
        frame: one row per token: `id`, `token`, `kind`, and its place `x`, `y` on the map.
        vectors: shape (number of tokens, d), row i for the token with id i. Neighbours are nearest
            by cosine of these vectors, not by distance on the map.

    Raises:
        ValueError: `token` is not in the vocabulary.
    """
    from IPython.display import display

    marked = _neighbour_ids(frame, vectors, token, k)
    drawn = chart(
        frame,
        title=title,
        description=description,
        x_title=x_title,
        y_title=y_title,
        kind_title=kind_title,
        highlight=marked,
    )
    if is_live():
        display(_live_map(drawn, frame, vectors, token, k))
        return
    with alt.data_transformers.enable("default", max_rows=None):
        png = picture(drawn.to_dict(), vegalite=WIDGET_VEGALITE, scale=PICTURE_SCALE)
    width = int.from_bytes(png[16:20], "big") / PICTURE_SCALE  # shown as large as the live chart
    metadata = {"image/png": {"alt": description, "width": round(width)}}
    display({"image/png": png, "text/plain": description}, metadata=metadata, raw=True)


def _neighbour_ids(frame: pd.DataFrame, vectors: np.ndarray, token: str, k: int) -> list[int]:
    """The id of `token`, then the ids of its `k` nearest by cosine."""
    ids = frame.loc[frame["token"] == token, "id"]
    if ids.empty:
        raise ValueError(
            _(
                "{token} is not one of the {frame:,} tokens. Words outside the "
                "vocabulary are split into pieces: tokenizer.tokenize({token}) lists "
                "them, and each piece can be looked up."
            ).format(token=short(token), frame=len(frame))
        )
    return [int(i) for i in nearest(vectors[int(ids.iloc[0])], vectors, k + 1)[0]]


def _live_map(
    drawn: alt.LayerChart, frame: pd.DataFrame, vectors: np.ndarray, token: str, k: int
) -> VBox:
    """The map as a widget: its search box marks a token and its neighbours.

    VegaFusion keeps the data in the kernel.
    """
    import ipywidgets as widgets

    alt.JupyterChart.enable_offline()
    options = {**EMBED, "renderer": "canvas"}
    with alt.data_transformers.enable("vegafusion"):
        # with a time zone given, the data is read here and now, while VegaFusion is enabled
        live: Any = alt.JupyterChart(drawn, embed_options=options, local_tz="UTC")
    names = frame["token"].to_numpy()
    known = set(names)
    box = widgets.Text(value=token, description=_("find token"), continuous_update=False)
    answer = widgets.HTML()  # a Label would cut off a long line

    def search(_change: Any = None) -> None:
        typed = box.value.strip()
        wanted = typed if typed in known else typed.lower()
        try:
            found = _neighbour_ids(frame, vectors, wanted, k)
        except ValueError as error:
            answer.value = escape(str(error), quote=False)
            return
        drawn_again = _marked(frame, found, room(WIDTH), room(HEIGHT))
        live.params.marked = drawn_again
        # where the page is loaded again, the chart starts from this
        next(s for s in live.spec["signals"] if s["name"] == "marked")["value"] = drawn_again
        near = ", ".join(names[i] for i in found[1:])
        answer.value = escape(
            _("nearest to {wanted!r}: {near}").format(wanted=wanted, near=near), quote=False
        )

    box.observe(search, names="value")
    search()
    return widgets.VBox([box, answer, live])
