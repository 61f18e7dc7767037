"""Figures: each one interactive in JupyterLab without a network, with a static picture and a description in words.

The `offline` renderer gives three forms of an Altair chart in one output: its Vega-Lite specification under
the version that JupyterLab itself can draw, a PNG for GitHub and nbconvert, and the description as plain text.
"""

from __future__ import annotations

import io
from html import escape
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .settings import is_live
from .tokens import short, visible

VEGALITE_MIME = "application/vnd.vegalite.v5+json"  # the newest that JupyterLab 4 draws by itself
EMBED = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}
KIND_COLOURS = {
    "word": "#0072B2",
    "continuation": "#E69F00",
    "special": "#CC3311",
}  # told apart by colour-blind readers
KIND_SHAPES = {"word": "circle", "continuation": "triangle-up", "special": "square"}
SERIES_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]  # Okabe and Ito 2008
MAP_AXIS = alt.Axis(
    grid=False, labels=False, ticks=False
)  # t-SNE coordinates mean nothing by themselves
INK = "#222222"
LONGEST, MOST_CELLS = (
    160,
    5_000,
)  # characters of a label, cells of a heatmap: more can be neither read nor drawn in reasonable time
FONT = "DejaVu Sans, Verdana, sans-serif"


def _label(text: Any) -> str:
    """What a reader typed, as the name of a row or the title of a chart: one line of bounded length."""
    line = " ".join(visible(text).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _title(text: Any) -> str:
    """A label for a channel. Vega-Lite copies it into expressions and escapes quotes there, but no backslash."""
    return _label(text).replace("\\", "∖")


def _fields(frame: pd.DataFrame, **columns: str) -> pd.DataFrame:
    """Columns of `frame` under names of ours, texts as labels: Vega reads dots, brackets and quotes in a field's name."""
    taken = {name: frame[column] for name, column in columns.items()}
    return pd.DataFrame(
        {
            name: list(values if pd.api.types.is_numeric_dtype(values) else map(_label, values))
            for name, values in taken.items()
        }
    )


def _heading(title: str, subtitle: str) -> alt.Title:
    return (
        alt.Title(_label(title), subtitle=_label(subtitle))
        if subtitle
        else alt.Title(_label(title))
    )


def _visible(part: Any) -> Any:
    """A specification whose texts can be drawn: one NUL or half a character ends the process that draws."""
    if isinstance(part, dict):
        return {visible(name): _visible(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_visible(value) for value in part]
    return visible(part) if isinstance(part, str) else part


def _png(spec: dict[str, Any], scale: float = 1.5, colours: int = 64) -> bytes:
    """The chart as a picture; few colours make it a third of the size, and nobody sees it."""
    import vl_convert
    from PIL import Image

    picture = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec, scale=scale))).convert("RGB")
    out = io.BytesIO()
    picture.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _offline(spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Altair renderer: the specification for JupyterLab, a PNG for everywhere else, words for everyone."""
    spec = _visible(spec)
    description = spec.get("description", "chart without a description")
    drawn = {**spec, "$schema": "https://vega.github.io/schema/vega-lite/v5.json"}
    bundle = {VEGALITE_MIME: drawn, "image/png": _png(spec), "text/plain": description}
    return bundle, {VEGALITE_MIME: {"embed_options": EMBED}, "image/png": {"alt": description}}


def enable() -> None:
    """Make the offline renderer the one that Altair uses in this kernel."""
    alt.renderers.register("offline", _offline)
    alt.renderers.enable("offline")


def _style(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """One look, with every colour named: JupyterLab's dark theme would else write white on our white ground."""
    axis = {
        "domainColor": INK,
        "tickColor": INK,
        "gridColor": "#dddddd",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": 220,
    }
    text = {"labelColor": INK, "titleColor": INK}
    return (
        chart.configure(font=FONT, background="white")
        .configure_axis(**axis, **text)
        .configure_title(
            fontSize=15, anchor="start", color=INK, subtitleFontSize=12, subtitleColor="#444444"
        )
        .configure_legend(labelFontSize=12, titleFontSize=12, **text)
        .configure_header(labelFontSize=12, titleFontSize=12, **text)
        .configure_text(color=INK)
        .configure_view(stroke="#dddddd")
    )


def _heatmap_layer(
    matrix: ArrayLike, rows: list[str], columns: list[str], *, title: str, row_title: str, column_title: str,
    value_title: str, signed: bool, top: float, decimals: int, cell: int,
) -> alt.LayerChart:  # fmt: skip
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(
            f"a matrix of shape {matrix.shape} needs as many labels, got {len(rows)} and {len(columns)}"
        )
    if not 1 <= matrix.size <= MOST_CELLS:
        raise ValueError(
            f"a heatmap shows 1 to {MOST_CELLS:,} cells, not {len(rows):,} by {len(columns):,}. Take a part, such as matrix[:50, :50]"
        )
    rows, columns = [_label(row) for row in rows], [_label(column) for column in columns]
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        raise ValueError(
            "labels must differ, or one cell would hide another: tokens.token_labels(...) makes them so"
        )
    title, row_title, column_title, value_title = (
        _label(title),
        _title(row_title),
        _title(column_title),
        _title(value_title),
    )
    frame = pd.DataFrame(
        {
            "row": np.repeat(rows, len(columns)),
            "column": np.tile(columns, len(rows)),
            "value": matrix.ravel().round(4),
            "label": [f"{value:.{decimals}f}" for value in matrix.ravel()],
        }
    )
    if signed:
        scale = alt.Scale(scheme="blueorange", domain=[-top, top], domainMid=0, clamp=True)
        white = f"datum.value > {0.72 * top} || datum.value < {-0.62 * top}"
    else:
        scale = alt.Scale(scheme="viridis", domain=[0, top], clamp=True)
        white = f"datum.value < {0.55 * top}"
    base = alt.Chart(frame).encode(
        x=alt.X(
            "column:N",
            sort=None,
            title=column_title,
            axis=alt.Axis(labelAngle=-40, orient="bottom"),
        ),
        y=alt.Y("row:N", sort=None, title=row_title),
        tooltip=[
            alt.Tooltip("row:N", title=row_title),
            alt.Tooltip("column:N", title=column_title),
            alt.Tooltip("value:Q", title=value_title, format=f".{max(decimals, 3)}f"),
        ],
    )
    squares = base.mark_rect(stroke="white", strokeWidth=0.5).encode(
        color=alt.Color("value:Q", scale=scale, title=value_title)
    )
    numbers = base.mark_text(fontSize=11 if cell >= 40 else 10).encode(
        text="label:N", color=alt.condition(white, alt.value("white"), alt.value("black"))
    )
    width, height = cell * len(columns), int(cell * 0.7) * len(rows)
    return (squares + numbers).properties(title=title, width=width, height=height)


def heatmap(
    matrix: ArrayLike, rows: list[str], columns: list[str], *, title: str, row_title: str, column_title: str,
    description: str, value_title: str = "cosine similarity", signed: bool = True, top: float = 1.0,
    decimals: int = 2, cell: int = 44,
) -> alt.LayerChart:  # fmt: skip
    """A matrix as a heatmap with its numbers in the cells.

    Args:
        matrix: shape (len(rows), len(columns)).
        rows, columns: one label each; labels must differ (see `tokens.token_labels`).
        description: what a reader who cannot see the figure should know.
        signed: diverging colours centred on 0 (cosine); False for magnitudes from 0 (attention).
        top: value at the end of the colour scale.
        cell: width of a cell in pixels.

    Raises:
        ValueError: the labels do not fit the matrix or are not all different, or there are too many cells.
    """
    layer = _heatmap_layer(
        matrix, rows, columns, title=title, row_title=row_title, column_title=column_title,
        value_title=value_title, signed=signed, top=top, decimals=decimals, cell=cell,
    )  # fmt: skip
    return _style(layer.properties(description=description))


def heatmap_pair(
    left: ArrayLike, right: ArrayLike, rows: list[str], columns: list[str], *, titles: tuple[str, str], row_title: str,
    column_title: str, description: str, value_title: str = "cosine similarity", cell: int = 40,
) -> alt.VConcatChart:  # fmt: skip
    """Two signed matrices with the same labels and the same colour scale, one above the other."""
    panels = [
        _heatmap_layer(
            matrix,
            rows,
            columns,
            title=title,
            row_title=row_title,
            column_title=column_title,
            value_title=value_title,
            signed=True,
            top=1.0,
            decimals=2,
            cell=cell,
        )
        for matrix, title in zip((left, right), titles, strict=True)
    ]
    return _style(alt.vconcat(*panels, spacing=30).properties(description=description))


def lines(
    frame: pd.DataFrame, *, x: str, y: str, title: str, description: str, series: str | None = None,
    x_title: str | None = None, y_title: str | None = None, y_domain: tuple[float, float] | None = None,
    subtitle: str = "", labels: bool = True, log_x: bool = False, decimals: int = 2, width: int = 560,
) -> alt.LayerChart:  # fmt: skip
    """A line with marked and labelled points; several when `series` names a column.

    Text columns on `x` keep the order of the rows. Lines differ by colour and by the shape of their points.
    """
    shown = _fields(frame, x=x, y=y, **({"series": series} if series else {}))
    order, x_name, y_name = (
        list(dict.fromkeys(shown["x"])),
        _title(x_title or x),
        _title(y_title or y),
    )
    numeric = pd.api.types.is_numeric_dtype(shown["x"])
    if numeric and log_x:
        axis = alt.X(
            "x:Q", title=x_name, scale=alt.Scale(type="log", base=2), axis=alt.Axis(values=order)
        )
    elif numeric:
        axis = alt.X("x:Q", title=x_name)
    else:
        axis = alt.X("x:N", title=x_name, sort=order, axis=alt.Axis(labelAngle=-20))
    y_axis = alt.Y(
        "y:Q", title=y_name, scale=alt.Scale(domain=list(y_domain)) if y_domain else alt.Undefined
    )
    base = alt.Chart(shown.assign(label=[f"{value:.{decimals}f}" for value in shown["y"]])).encode(
        x=axis, y=y_axis
    )
    tooltip = [
        alt.Tooltip("x:Q" if numeric else "x:N", title=x_name),
        alt.Tooltip("y:Q", title=y_name),
    ]
    if series:
        names, name = list(dict.fromkeys(shown["series"])), _title(series)
        colour = alt.Color(
            "series:N",
            title=name,
            sort=names,
            scale=alt.Scale(domain=names, range=SERIES_COLOURS[: len(names)]),
        )
        shape = alt.Shape("series:N", title=name, sort=names, scale=alt.Scale(domain=names))
        tooltip.insert(0, alt.Tooltip("series:N", title=name))
    else:
        colour, shape = alt.value(SERIES_COLOURS[0]), alt.value("circle")
    layers = [
        base.mark_line(strokeWidth=2).encode(color=colour),
        base.mark_point(size=70, filled=True, opacity=1).encode(
            color=colour, shape=shape, tooltip=tooltip
        ),
    ]
    if labels:
        layers.append(base.mark_text(dy=-12, fontSize=12).encode(text="label:N"))
    return _style(
        alt.layer(*layers).properties(
            title=_heading(title, subtitle), width=width, height=280, description=description
        )
    )


def token_map(
    frame: pd.DataFrame, *, title: str, description: str, highlight: list[int] | None = None, width: int = 760,
    height: int = 560, kind_title: str = "kind of token",
) -> alt.LayerChart:  # fmt: skip
    """All tokens as points: columns `id`, `token`, `kind`, `x`, `y`; `highlight` lists ids ringed, the first with its name.

    Wheel or pinch zooms, dragging moves, resting on a point names it.
    """
    kinds = list(KIND_COLOURS)
    marked = alt.param(name="highlight", value=[int(i) for i in highlight or []])
    zoom = alt.selection_interval(bind="scales", name="zoom")
    shown = frame.assign(token=[_label(token) for token in frame["token"]]).round({"x": 2, "y": 2})
    base = alt.Chart(shown).encode(
        x=alt.X("x:Q", title="t-SNE 1 (no unit)", axis=MAP_AXIS),
        y=alt.Y("y:Q", title="t-SNE 2 (no unit)", axis=MAP_AXIS),
    )
    legend = alt.Legend(symbolSize=120, symbolOpacity=1)
    points = base.mark_point(filled=True, size=9, opacity=0.45).encode(
        color=alt.Color("kind:N", title=kind_title, legend=legend, scale=alt.Scale(domain=kinds, range=list(KIND_COLOURS.values()))),
        shape=alt.Shape("kind:N", title=kind_title, legend=legend, scale=alt.Scale(domain=kinds, range=list(KIND_SHAPES.values()))),
        tooltip=["token:N", "id:Q", "kind:N"],
    ).add_params(zoom)  # fmt: skip
    chosen = base.transform_filter("indexof(highlight, datum.id) >= 0")
    rings = chosen.mark_point(size=110, filled=False, stroke="black", strokeWidth=1.8).encode(
        tooltip=["token:N", "id:Q", "kind:N"]
    )
    first = base.transform_filter(
        "indexof(highlight, datum.id) == 0"
    )  # neighbours lie too close together to name them all
    halo = first.mark_text(
        dy=-13, fontSize=14, fontWeight="bold", stroke="white", strokeWidth=4
    ).encode(text="token:N")
    name = first.mark_text(dy=-13, fontSize=14, fontWeight="bold", color="black").encode(
        text="token:N"
    )
    chart = alt.layer(points, rings, halo, name).add_params(marked)
    return _style(
        chart.properties(title=_label(title), width=width, height=height, description=description)
    )


def _free_labels(points: pd.DataFrame, width: int, height: int) -> list[str]:
    """The token of each point where its text overlaps no text before it, else an empty label. First come, first served."""
    spans = [(float(points[axis].max() - points[axis].min()) or 1.0) for axis in ("x", "y")]
    across, down = points["x"] / spans[0] * (width - 60), points["y"] / spans[1] * (height - 30)
    taken: list[tuple[float, float, float]] = []
    labels = []
    for x, y, token in zip(across, down, points["token"], strict=True):
        half = 3.6 * len(token) + (
            14 if not taken else 2
        )  # the first, the searched token, is drawn larger
        free = all(abs(x - x2) > half + half2 or abs(y - y2) > 13 for x2, y2, half2 in taken)
        labels.append(token if free else "")
        if free:
            taken.append((x, y, half))
    return labels


def map_region(
    frame: pd.DataFrame, *, token: str, radius: float, title: str, description: str, kind_title: str = "kind of token",
    width: int = 620, height: int = 460,
) -> alt.LayerChart:  # fmt: skip
    """The part of the token map within `radius` of `token`, with the names that find room; a tooltip has every name."""
    here = frame.loc[frame["token"] == token, ["x", "y"]]
    if here.empty:
        raise ValueError(
            f"{short(token)} is not one of the {len(frame):,} tokens. Choose one of frame['token']."
        )
    away = np.hypot(frame["x"] - here["x"].iloc[0], frame["y"] - here["y"].iloc[0])
    near = frame.assign(away=away).loc[away <= radius].sort_values("away", kind="stable")
    near["token"] = [_label(name) for name in near["token"]]
    near = near.assign(
        label=_free_labels(near, width, height), searched=near["token"] == _label(token)
    ).drop(columns="away")
    kinds = list(KIND_COLOURS)
    base = alt.Chart(near).encode(
        x=alt.X(
            "x:Q", title="t-SNE 1 (no unit)", axis=MAP_AXIS, scale=alt.Scale(zero=False, padding=30)
        ),
        y=alt.Y(
            "y:Q", title="t-SNE 2 (no unit)", axis=MAP_AXIS, scale=alt.Scale(zero=False, padding=15)
        ),
        tooltip=["token:N", "id:Q", "kind:N"],
    )
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        color=alt.Color(
            "kind:N",
            title=kind_title,
            scale=alt.Scale(domain=kinds, range=list(KIND_COLOURS.values())),
        ),
        shape=alt.Shape(
            "kind:N",
            title=kind_title,
            scale=alt.Scale(domain=kinds, range=list(KIND_SHAPES.values())),
        ),
    )
    bold = alt.condition("datum.searched", alt.value(15), alt.value(11))
    names = base.mark_text(dy=-9).encode(text="label:N", size=bold)
    chart = (points + names).properties(
        title=_label(title), width=width, height=height, description=description
    )
    return _style(chart.interactive())


def show_token_map(
    frame: pd.DataFrame, vectors: ArrayLike, *, token: str, k: int = 8, title: str, description: str
) -> None:
    """Draw the map of all tokens with `token` and its `k` nearest neighbours (cosine of `vectors`) marked.

    In JupyterLab: a live chart (zoom, tooltips, VegaFusion) with a search box. Headless: a picture.

    Raises:
        ValueError: `token` is not in the vocabulary.
    """
    from IPython.display import display

    found = _neighbour_ids(frame, vectors, token, k)
    chart = token_map(frame, title=title, description=description, highlight=found)
    if is_live():
        display(_live_map(chart, frame, vectors, token, k))
    else:
        with alt.data_transformers.enable("default", max_rows=None):
            picture = {"image/png": _png(_visible(chart.to_dict())), "text/plain": description}
        display(picture, metadata={"image/png": {"alt": description, "width": 960}}, raw=True)


def _neighbour_ids(frame: pd.DataFrame, vectors: ArrayLike, token: str, k: int) -> list[int]:
    """Id of `token`, then the ids of its `k` nearest by cosine."""
    from .similarity import nearest

    ids = frame.loc[frame["token"] == token, "id"]
    if ids.empty:
        raise ValueError(
            f"{short(token)} is not one of the {len(frame):,} tokens. Words outside the vocabulary are cut into pieces: "
            f"tokenizer.tokenize({short(token)}) names them, and each piece can be looked up."
        )
    return [int(i) for i in nearest(vectors[int(ids.iloc[0])], vectors, k + 1)[0]]


def _live_map(
    chart: alt.TopLevelMixin, frame: pd.DataFrame, vectors: ArrayLike, token: str, k: int
):
    """The map as a widget: VegaFusion keeps the data in the kernel, the search box marks a token and its neighbours."""
    import ipywidgets as widgets

    alt.JupyterChart.enable_offline()
    with alt.data_transformers.enable("vegafusion"):
        # with a time zone given, the data is taken over here and now, while VegaFusion is enabled
        live = alt.JupyterChart(
            chart, embed_options={**EMBED, "renderer": "canvas"}, local_tz="UTC"
        )
    names = frame["token"].to_numpy()
    box = widgets.Text(value=token, description="find token", continuous_update=False)
    answer = widgets.HTML()  # a Label would cut a long line off

    def search(_change: Any = None) -> None:
        wanted = box.value.strip().lower()
        try:
            found = _neighbour_ids(frame, vectors, wanted, k)
        except ValueError as error:
            answer.value = escape(str(error), quote=False)
            return
        live.params.highlight = found
        answer.value = escape(
            f"nearest to {wanted!r}: " + ", ".join(names[i] for i in found[1:]), quote=False
        )

    box.observe(search, names="value")
    search()
    return widgets.VBox([box, answer, live])


def intervals(
    frame: pd.DataFrame,
    *,
    system: str,
    measure: str,
    title: str,
    description: str,
    x_title: str,
    subtitle: str = "",
    width: int = 520,
) -> alt.LayerChart:
    """Means with their intervals, one row a system, one panel colour and shape a measure.

    Args:
        frame: columns `mean`, `low`, `high`, and the two named by `system` and `measure`.
    """
    shown = _fields(frame, system=system, measure=measure, mean="mean", low="low", high="high")
    systems, measures = list(dict.fromkeys(shown["system"])), list(dict.fromkeys(shown["measure"]))
    row, name = _title(system), _title(measure)
    base = alt.Chart(shown).encode(
        y=alt.Y("system:N", sort=systems, title=None),
        yOffset=alt.YOffset("measure:N", sort=measures),
        color=alt.Color(
            "measure:N",
            title=name,
            sort=measures,
            scale=alt.Scale(domain=measures, range=SERIES_COLOURS[: len(measures)]),
        ),
        tooltip=[
            alt.Tooltip("system:N", title=row),
            alt.Tooltip("measure:N", title=name),
            *(alt.Tooltip(f"{number}:Q", format=".3f") for number in ("mean", "low", "high")),
        ],
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=_title(x_title)), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x="mean:Q",
        shape=alt.Shape("measure:N", title=name, sort=measures, scale=alt.Scale(domain=measures)),
    )
    return _style(
        (bars + points).properties(
            title=_heading(title, subtitle),
            width=width,
            height=34 * len(systems) + 20,
            description=description,
        )
    )


def token_shares(
    frame: pd.DataFrame,
    *,
    title: str,
    description: str,
    series: str,
    x_title: str = "share of the vector",
    width: int = 420,
) -> alt.LayerChart:
    """Shares of the tokens of one text, in reading order: columns `token`, `share` and the one named by `series`."""
    shown = _fields(frame, token="token", share="share", series=series)  # noqa: S106 - a token is a word
    names, order, name = (
        list(dict.fromkeys(shown["series"])),
        list(dict.fromkeys(shown["token"])),
        _title(series),
    )
    base = alt.Chart(shown).encode(
        y=alt.Y("token:N", sort=order, title=None),
        x=alt.X(
            "share:Q",
            title=_title(x_title),
            axis=alt.Axis(format=".1%"),
            scale=alt.Scale(zero=False),
        ),
        color=alt.Color(
            "series:N",
            title=name,
            sort=names,
            scale=alt.Scale(domain=names, range=SERIES_COLOURS[: len(names)]),
        ),
        shape=alt.Shape("series:N", title=name, sort=names, scale=alt.Scale(domain=names)),
        tooltip=[
            "token:N",
            alt.Tooltip("series:N", title=name),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    span = (
        alt.Chart(shown)
        .mark_rule(stroke="#999999")
        .encode(y=alt.Y("token:N", sort=order), x="min(share):Q", x2="max(share):Q")
    )
    points = base.mark_point(filled=True, size=70, opacity=1)
    return _style(
        (span + points).properties(
            title=_label(title), width=width, height=17 * len(order), description=description
        )
    )


def _no_math(text: Any) -> str:
    """A label for matplotlib, which reads what stands between two dollars as a formula."""
    return _label(text).replace("$", r"\$")


def show_heatmaps(
    matrices: dict[str, ArrayLike],
    *,
    x_title: str,
    y_title: str,
    title: str,
    description: str,
    value_title: str = "cosine similarity",
) -> None:
    """Square matrices side by side (seaborn), sequential colours, each with a scale of its own that its bar states."""
    import matplotlib.pyplot as plt
    import seaborn
    from IPython.display import display

    figure, axes = plt.subplots(
        1, len(matrices), figsize=(6.4 * len(matrices), 5.6), layout="constrained"
    )
    for axis, (name, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
        labels = [str(i + 1) for i in range(len(matrix))]
        seaborn.heatmap(
            np.asarray(matrix, dtype=float), ax=axis, cmap="cividis", square=True, xticklabels=labels, yticklabels=labels,
            cbar_kws={"label": _no_math(value_title), "shrink": 0.8},
        )  # fmt: skip
        axis.set(title=_no_math(name), xlabel=_no_math(x_title), ylabel=_no_math(y_title))
    figure.suptitle(_no_math(title))
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=80, facecolor="white")
    plt.close(figure)
    words = visible(description)
    display(
        {"image/png": out.getvalue(), "text/plain": words},
        metadata={"image/png": {"alt": words}},
        raw=True,
    )
