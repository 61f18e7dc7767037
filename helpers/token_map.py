"""The map of the vocabulary: every token as a point, some of them marked or named.

`chart` and `region` give Altair charts. `show` draws the whole map: as a live widget with a search
box where somebody sits in front of the kernel, else as a picture.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from .charts import EMBED, label, picture, room, styled
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
AXIS = alt.Axis(grid=False, labels=False, ticks=False)  # t-SNE coordinates have no meaning alone
TOOLTIP = ["token:N", "id:Q", "kind:N"]
#: The Vega-Lite that `alt.JupyterChart` contains, such as "v6.4". The picture is drawn by the same.
WIDGET_VEGALITE = alt.SCHEMA_VERSION.rpartition(".")[0]


def _kind_channels(title: str, **options: Any) -> dict[str, Any]:
    """Channels that tell the kinds of tokens apart by colour and by shape."""
    kinds = list(KIND_COLOURS)
    colours = alt.Scale(domain=kinds, range=list(KIND_COLOURS.values()))
    shapes = alt.Scale(domain=kinds, range=list(KIND_SHAPES.values()))
    return {
        "color": alt.Color("kind:N", title=title, scale=colours, **options),
        "shape": alt.Shape("kind:N", title=title, scale=shapes, **options),
    }


def chart(
    frame: pd.DataFrame,
    *,
    title: str,
    description: str,
    highlight: list[int] | None = None,
    width: int = 760,
    height: int = 560,
    kind_title: str = "kind of token",
) -> alt.LayerChart:
    """All tokens as points: the wheel or a pinch zooms, dragging pans, hovering names a token.

    Args:
        frame: one row per token: `id`, `token`, `kind`, and its place `x`, `y` on the map.
        highlight: ids of the tokens to ring; the first is also named.
        width, height: of the plot in pixels.
    """
    marked = alt.param(name="highlight", value=[int(i) for i in highlight or []])
    zoom = alt.selection_interval(bind="scales", name="zoom")
    shown = frame.assign(token=[label(token) for token in frame["token"]]).round({"x": 2, "y": 2})
    base = alt.Chart(shown).encode(
        x=alt.X("x:Q", title="t-SNE 1 (no unit)", axis=AXIS),
        y=alt.Y("y:Q", title="t-SNE 2 (no unit)", axis=AXIS),
    )
    kinds = _kind_channels(kind_title, legend=alt.Legend(symbolSize=120, symbolOpacity=1))
    points = base.mark_point(filled=True, size=9, opacity=0.45).encode(**kinds, tooltip=TOOLTIP)
    chosen = base.transform_filter("indexof(highlight, datum.id) >= 0")
    rings = chosen.mark_point(size=110, filled=False, stroke="black", strokeWidth=1.8)
    # only the first has a name: its neighbours lie too close together to name them all
    first = base.transform_filter("indexof(highlight, datum.id) == 0").encode(text="token:N")
    lettering: dict[str, Any] = {"dy": -13, "fontSize": 14, "fontWeight": "bold"}
    halo = first.mark_text(**lettering, stroke="white", strokeWidth=4)
    name = first.mark_text(**lettering, color="black")
    layers = points.add_params(zoom) + rings.encode(tooltip=TOOLTIP) + halo + name
    return styled(
        layers.add_params(marked).properties(
            title=label(title), width=width, height=height, description=description
        )
    )


def _free_labels(points: pd.DataFrame, width: int, height: int) -> list[str]:
    """The token of each point whose text would overlap no earlier one, else an empty label.

    >>> points = pd.DataFrame({"x": [0, 0, 9], "y": [0, 0, 9], "token": ["rate", "rates", "bank"]})
    >>> _free_labels(points, width=620, height=460)
    ['rate', '', 'bank']
    """
    spans = [float(points[axis].max() - points[axis].min()) or 1.0 for axis in ("x", "y")]
    across, down = points["x"] / spans[0] * (width - 60), points["y"] / spans[1] * (height - 30)
    taken: list[tuple[float, float, float]] = []
    labels = []
    for x, y, token in zip(across, down, points["token"], strict=True):
        margin = 2 if taken else 14  # the first is the token searched for, drawn larger
        half = 3.6 * len(token) + margin
        free = all(abs(x - x2) > half + half2 or abs(y - y2) > 13 for x2, y2, half2 in taken)
        labels.append(token if free else "")
        if free:
            taken.append((x, y, half))
    return labels


def _within(frame: pd.DataFrame, token: str, radius: float) -> pd.DataFrame:
    """Rows of `frame` within `radius` of `token` on the map, nearest first."""
    here = frame.loc[frame["token"] == token, ["x", "y"]]
    if here.empty:
        raise ValueError(
            f"{short(token)} is not one of the {len(frame):,} tokens. Choose one of frame['token']."
        )
    distance = np.hypot(frame["x"] - here["x"].iloc[0], frame["y"] - here["y"].iloc[0])
    return frame.loc[distance[distance <= radius].sort_values(kind="stable").index]


def region(
    frame: pd.DataFrame,
    *,
    token: str,
    radius: float,
    title: str,
    description: str,
    kind_title: str = "kind of token",
    width: int = 620,
    height: int = 460,
) -> alt.LayerChart:
    """The part of the map within `radius` of `token`, with as many names as fit.

    A tooltip has the name of every point.

    Args:
        frame: one row per token: `id`, `token`, `kind`, and its place `x`, `y` on the map.
        radius: in units of the map.
        width, height: of the plot in pixels.

    Raises:
        ValueError: `token` is not in `frame`.
    """
    near = _within(frame, token, radius)
    near = near.assign(token=[label(name) for name in near["token"]])
    names = _free_labels(near, room(width), room(height))
    near = near.assign(label=names, searched=near["token"] == label(token))
    across, down = (alt.Scale(zero=False, padding=padding) for padding in (30, 15))
    base = alt.Chart(near).encode(
        x=alt.X("x:Q", title="t-SNE 1 (no unit)", axis=AXIS, scale=across),
        y=alt.Y("y:Q", title="t-SNE 2 (no unit)", axis=AXIS, scale=down),
        tooltip=TOOLTIP,
    )
    points = base.mark_point(filled=True, size=45, opacity=1).encode(**_kind_channels(kind_title))
    size = alt.condition("datum.searched", alt.value(15), alt.value(11))
    texts = base.mark_text(dy=-9).encode(text="label:N", size=size)
    layers = (points + texts).properties(
        title=label(title), width=width, height=height, description=description
    )
    return styled(layers.interactive())


def show(
    frame: pd.DataFrame,
    vectors: np.ndarray,
    *,
    token: str,
    k: int = 8,
    title: str,
    description: str,
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
    drawn = chart(frame, title=title, description=description, highlight=marked)
    if is_live():
        display(_live_map(drawn, frame, vectors, token, k))
        return
    with alt.data_transformers.enable("default", max_rows=None):
        png = picture(drawn.to_dict(), vegalite=WIDGET_VEGALITE)
    metadata = {"image/png": {"alt": description, "width": 960}}
    display({"image/png": png, "text/plain": description}, metadata=metadata, raw=True)


def _neighbour_ids(frame: pd.DataFrame, vectors: np.ndarray, token: str, k: int) -> list[int]:
    """The id of `token`, then the ids of its `k` nearest by cosine."""
    ids = frame.loc[frame["token"] == token, "id"]
    if ids.empty:
        raise ValueError(
            f"{short(token)} is not one of the {len(frame):,} tokens. Words outside the "
            f"vocabulary are split into pieces: tokenizer.tokenize({short(token)}) lists them, "
            "and each piece can be looked up."
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
    box = widgets.Text(value=token, description="find token", continuous_update=False)
    answer = widgets.HTML()  # a Label would cut off a long line

    def search(_change: Any = None) -> None:
        wanted = box.value.strip().lower()
        try:
            found = _neighbour_ids(frame, vectors, wanted, k)
        except ValueError as error:
            answer.value = escape(str(error), quote=False)
            return
        live.params.highlight = found
        near = ", ".join(names[i] for i in found[1:])
        answer.value = escape(f"nearest to {wanted!r}: {near}", quote=False)

    box.observe(search, names="value")
    search()
    return widgets.VBox([box, answer, live])
