"""Figures: interactive in JupyterLab without a network, with a static picture and a description.

The `offline` renderer puts three forms of an Altair chart into one output: the Vega-Lite
specification that JupyterLab draws by itself, a PNG for GitHub and nbconvert, and the description
as plain text. The map of the vocabulary is in `token_map`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .figures import worded
from .language import CHINESE_FONT_FILE, chosen, given
from .language import marked as N_
from .language import translated as _
from .settings import is_projected
from .tokens import short, visible

VEGALITE_MIME = "application/vnd.vegalite.v5+json"  # the newest that JupyterLab 4 draws by itself
VEGALITE_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
#: The version that draws the static pictures. JupyterLab 4 contains 5.6.1, and this is the closest
#: that vl-convert offers: both compile the charts of the series to the same Vega specification.
VEGALITE = "5.8"
EMBED = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}

#: The first four are those of Okabe and Ito 2008; the last two are darker.
SERIES_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A4A00", "#444444"]
INK = "#222222"
FONT = "DejaVu Sans, Verdana, sans-serif"
CHINESE_FONT = "Noto Sans SC"  # a part of it ships, for pictures: fonts/README.md
COSINE, SHARE = N_("cosine similarity"), N_("share of the vector")  # titles unless others are given
LONGEST = 160  # characters of a label
MOST_BINS = 1_000  # of a histogram
MOST_CELLS = 5_000  # of a heatmap; more can neither be read nor be drawn in reasonable time
#: Where black numbers on a colour scale give way to white ones, as shares of its top: at least
#: 4.5:1 contrast in every cell. Cosines are dark at both ends, magnitudes only near 0.
DARK_BELOW, DARK_ABOVE = -0.79, 0.87
DARK_MAGNITUDE = 0.43
#: How much larger charts are on a projector: labels of axes have 16 pixels instead of 12.
PROJECTED = 4 / 3
#: A plot grows by no more, so that every chart of the series fits a screen of 1,280 pixels.
MOST_ADDED = 100
#: Further properties that are lengths in pixels. `size` is one for texts and bars, but
#: an area for points.
LENGTHS = {
    *("fontSize", "labelFontSize", "titleFontSize", "subtitleFontSize", "labelLimit"),
    *("dx", "dy", "strokeWidth", "spacing", "padding"),
}
AREAS = {"symbolSize"}
POINTS = {"point", "circle", "square"}

ChartType = TypeVar("ChartType", bound=alt.TopLevelMixin)


def label(text: Any) -> str:
    """A reader's text as a row name or chart title: one line of at most 160 characters.

    >>> label("interest\\n  rate")
    'interest rate'
    >>> label("x" * 200) == "x" * 159 + "…"
    True
    """
    line = " ".join(visible(text).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def axis_title(text: Any) -> str:
    """A label that is safe as the title of an axis, legend or tooltip.

    Vega-Lite 5 copies these titles into expressions, between quotes and without escaping anything:
    characters that look alike take the place of quotes and backslashes.

    >>> axis_title('the "bank"')
    'the ”bank”'
    """
    return label(text).replace("\\", "∖").replace('"', "”")


def _fields(frame: pd.DataFrame, **columns: str) -> pd.DataFrame:
    """Columns of `frame` under safe names, their texts as labels.

    Vega gives dots, brackets and quotes in a field name a meaning of their own. Texts of a notebook
    are shown in its language, except tokens.

    >>> _fields(pd.DataFrame({"a.b[0]": ["one\\ntwo"]}), x="a.b[0]").to_dict("list")
    {'x': ['one two']}
    """

    def values(column: pd.Series, name: str) -> list[Any]:
        if pd.api.types.is_numeric_dtype(column):
            return list(column)
        return [label(text if name == "token" else given(text)) for text in column]

    return pd.DataFrame({name: values(frame[column], name) for name, column in columns.items()})


def _heading(title: str, subtitle: str) -> alt.Title:
    return alt.Title(label(title), subtitle=label(subtitle) if subtitle else alt.Undefined)


def styled(chart: ChartType) -> ChartType:
    """`chart` in the look of the series, larger where it is projected.

    Every colour is set: JupyterLab's dark theme would otherwise write white on white.
    """
    axis: dict[str, Any] = {
        "domainColor": INK,
        "tickColor": INK,
        "gridColor": "#dddddd",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": 220,
    }
    text = {"labelColor": INK, "titleColor": INK}
    # Vega-Lite's own limit, which has to grow with the letters
    legend: dict[str, Any] = {"labelLimit": 160} if is_projected() else {}
    font = FONT.replace("sans-serif", f"{CHINESE_FONT}, sans-serif") if chosen() == "zh" else FONT
    chart = (
        chart.configure(font=font, background="white")
        .configure_axis(**axis, **text)
        .configure_title(
            fontSize=15, anchor="start", color=INK, subtitleFontSize=12, subtitleColor="#444444"
        )
        .configure_legend(labelFontSize=12, titleFontSize=12, **legend, **text)
        .configure_header(labelFontSize=12, titleFontSize=12, **text)
        .configure_text(color=INK)
        .configure_view(stroke="#dddddd")
    )
    return enlarged(chart, PROJECTED) if is_projected() else chart


def magnification() -> float:
    """How much larger letters are drawn: `PROJECTED` for a room, else 1."""
    return PROJECTED if is_projected() else 1.0


def room(pixels: int) -> int:
    """How much of a plot's width or height labels of usual size have: less where it is projected.

    There, letters grow by `PROJECTED`, but a plot by at most `MOST_ADDED` pixels.
    """
    if not is_projected():
        return pixels
    return int(min(pixels * PROJECTED, pixels + MOST_ADDED) / PROJECTED)


def enlarged(part: Any, factor: float, *, mark: str = "", inherited: str = "") -> Any:
    """A chart, or part of one, with every length multiplied by a factor; data are left alone.

    Plots grow by at most `MOST_ADDED` pixels in either direction.

    Args:
        mark: what the part draws, such as `"text"`.
        inherited: the property that a bare `value` inside the part belongs to.

    >>> enlarged({"width": 300, "encoding": {"size": {"value": 90}}}, 2, mark="point")
    {'width': 400, 'encoding': {'size': {'value': 360}}}
    """
    if isinstance(part, list):
        return [enlarged(item, factor, mark=mark, inherited=inherited) for item in part]
    if not isinstance(part, (dict, alt.SchemaBase)):
        return part
    held = part if isinstance(part, dict) else part._kwds
    drawn = held.get("mark", mark)
    drawn = drawn if isinstance(drawn, str) else str(_given(drawn, "type") or mark)
    larger = {}
    for name, value in held.items():
        meant = inherited if name == "value" else name
        if name in ("data", "datasets", "scale", "params") or value is alt.Undefined:
            larger[name] = value
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            larger[name] = enlarged(
                value, factor, mark=drawn, inherited="size" if name == "size" else inherited
            )
        elif meant in AREAS or (meant == "size" and drawn in POINTS):
            larger[name] = value * factor**2
        elif meant in ("width", "height"):
            larger[name] = min(value * factor, value + MOST_ADDED)
        elif meant in LENGTHS or meant == "size":
            larger[name] = value * factor
        else:
            larger[name] = value
    if isinstance(part, dict):
        return larger
    copy = part.copy(deep=False)
    for name, value in larger.items():
        copy[name] = value
    return copy


def _given(part: Any, name: str) -> Any:
    """A property of part of a chart; None if it has no such property."""
    held = part if isinstance(part, dict) else getattr(part, "_kwds", {})
    value = held.get(name)
    return None if value is alt.Undefined else value


# --- the renderer -------------------------------------------------------------------------------


def _visible(part: Any) -> Any:
    """`part` of a specification with texts that can be drawn.

    A single NUL or lone surrogate would end the process that draws.
    """
    if isinstance(part, dict):
        return {visible(name): _visible(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_visible(value) for value in part]
    return visible(part) if isinstance(part, str) else part


@cache
def _load_chinese_font() -> None:
    """Let vl-convert and matplotlib draw Chinese on a machine without a Chinese font."""
    import vl_convert
    from matplotlib import font_manager

    vl_convert.register_font_directory(str(CHINESE_FONT_FILE.parent))
    font_manager.fontManager.addfont(CHINESE_FONT_FILE)


def picture(spec: dict[str, Any], *, vegalite: str = VEGALITE, scale: float = 1.5) -> bytes:
    """A Vega-Lite specification drawn as a PNG.

    A palette of 256 colours makes the file a third of the size. It is chosen so that no colour
    changes visibly.

    Args:
        vegalite: version that draws it; the one that draws the interactive form.
        scale: pixels of the picture for each pixel of the chart.
    """
    import vl_convert
    from PIL import Image

    if chosen() == "zh":
        _load_chinese_font()
    drawn = vl_convert.vegalite_to_png(_visible(spec), vl_version=vegalite, scale=scale)
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    # median cut, the default, would spend the palette on large areas and change what is rare
    image = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _offline(spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Altair renderer: the specification for JupyterLab, a PNG and the description in words."""
    spec = {**_visible(spec), "$schema": VEGALITE_SCHEMA}
    description = spec.get("description", _("chart without a description"))
    bundle = {VEGALITE_MIME: spec, "image/png": picture(spec), "text/plain": description}
    return bundle, {VEGALITE_MIME: {"embed_options": EMBED}, "image/png": {"alt": description}}


def enable() -> None:
    """Make the offline renderer the one that Altair uses in this kernel."""
    alt.renderers.register("offline", _offline)
    alt.renderers.enable("offline")


# --- heatmaps -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What the panels of a heatmap share: titles, colours, decimals and the width of a cell."""

    row_title: str
    column_title: str
    value_title: str
    cell: int
    signed: bool = True
    top: float = 1.0
    decimals: int = 2

    def scale(self) -> alt.Scale:
        if self.signed:
            ends = [-self.top, self.top]
            return alt.Scale(scheme="blueorange", domain=ends, domainMid=0, clamp=True)
        return alt.Scale(scheme="viridis", domain=[0, self.top], clamp=True)

    def is_dark(self) -> str:
        """Vega expression: whether the number of a cell stands on a dark colour."""
        if self.signed:
            low, high = DARK_BELOW * self.top, DARK_ABOVE * self.top
            return f"datum.value > {high} || datum.value < {low}"
        return f"datum.value < {DARK_MAGNITUDE * self.top}"


def _check_cells(matrix: np.ndarray, rows: list[str], columns: list[str]) -> None:
    """Raise a `ValueError` unless every cell has a place of its own, and there are few enough."""
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(
            _(
                "a matrix of shape {shape} needs one label for each row and column, "
                "got {rows} and {columns}"
            ).format(shape=matrix.shape, rows=len(rows), columns=len(columns))
        )
    if not 1 <= matrix.size <= MOST_CELLS:
        raise ValueError(
            _(
                "a heatmap shows 1 to {most_cells:,} cells, not {rows:,} by "
                "{columns:,}. Show a part, such as matrix[:50, :50]"
            ).format(most_cells=MOST_CELLS, rows=len(rows), columns=len(columns))
        )
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        raise ValueError(
            _(
                "labels must differ, or one cell would hide another: "
                "tokens.token_labels(...) numbers those that repeat"
            )
        )


def _name(text: Any) -> str:
    """A label of a row or column. A word may be a token, so only longer ones are translated."""
    return label(given(text) if " " in str(text) else text)


def _cells(matrix: ArrayLike, rows: list[str], columns: list[str], decimals: int) -> pd.DataFrame:
    """One row per cell of a heatmap.

    >>> _cells([[0.5, 1]], ["a"], ["b", "c"], decimals=1).to_numpy().tolist()
    [['a', 'b', 0.5, '0.5'], ['a', 'c', 1.0, '1.0']]
    """
    matrix = np.asarray(matrix, dtype=float)
    rows, columns = list(map(_name, rows)), list(map(_name, columns))
    _check_cells(matrix, rows, columns)
    return pd.DataFrame(
        {
            "row": np.repeat(rows, len(columns)),
            "column": np.tile(columns, len(rows)),
            "value": matrix.ravel().round(4),
            "label": [f"{value:.{decimals}f}" for value in matrix.ravel()],
        }
    )


def _panel(
    matrix: ArrayLike, rows: list[str], columns: list[str], title: str, look: _Look
) -> alt.LayerChart:
    """One matrix as coloured cells with numbers in them."""
    row, column, value = map(axis_title, (look.row_title, look.column_title, _(look.value_title)))
    turned = alt.Axis(labelAngle=-40, orient="bottom")
    cells = alt.Chart(_cells(matrix, rows, columns, look.decimals)).encode(
        x=alt.X("column:N", sort=None, title=column, axis=turned),
        y=alt.Y("row:N", sort=None, title=row),
        tooltip=[
            alt.Tooltip("row:N", title=row),
            alt.Tooltip("column:N", title=column),
            alt.Tooltip("value:Q", title=value, format=f".{max(look.decimals, 3)}f"),
        ],
    )
    colour = alt.Color("value:Q", scale=look.scale(), title=value)
    squares = cells.mark_rect(stroke="white", strokeWidth=0.5).encode(color=colour)
    ink = alt.condition(look.is_dark(), alt.value("white"), alt.value("black"))
    numbers = cells.mark_text(fontSize=11 if look.cell >= 40 else 10).encode(
        text="label:N", color=ink
    )
    width, height = look.cell * len(columns), int(look.cell * 0.7) * len(rows)
    return (squares + numbers).properties(title=label(title), width=width, height=height)


@worded
def heatmap(
    matrix: ArrayLike,
    rows: list[str],
    columns: list[str],
    *,
    title: str,
    row_title: str,
    column_title: str,
    description: str,
    value_title: str = COSINE,
    signed: bool = True,
    top: float = 1.0,
    decimals: int = 2,
    cell: int = 44,
) -> alt.LayerChart:
    """A matrix as a heatmap with its numbers in the cells.

    Args:
        matrix: shape (len(rows), len(columns)).
        rows, columns: one label each; labels must differ (see `tokens.token_labels`).
        description: what a reader who cannot see the figure should know.
        signed: diverging colours centred on 0 (cosine); False for magnitudes from 0 (attention).
        top: value at the end of the colour scale.
        decimals: decimal places of the numbers in the cells.
        cell: width of a cell in pixels.

    Raises:
        ValueError: the labels do not fit the matrix or are not all different, or there are too
            many cells.
    """
    look = _Look(row_title, column_title, value_title, cell, signed, top, decimals)
    return styled(_panel(matrix, rows, columns, title, look).properties(description=description))


@worded
def heatmap_pair(
    left: ArrayLike,
    right: ArrayLike,
    rows: list[str],
    columns: list[str],
    *,
    titles: tuple[str, str],
    row_title: str,
    column_title: str,
    description: str,
    value_title: str = COSINE,
    cell: int = 40,
) -> alt.VConcatChart:
    """Two signed matrices with the same labels and colour scale, `left` above `right`.

    Raises:
        ValueError: as for `heatmap`.
    """
    look = _Look(row_title, column_title, value_title, cell)
    panels = [
        _panel(matrix, rows, columns, title, look)
        for matrix, title in zip((left, right), titles, strict=True)
    ]
    return styled(alt.vconcat(*panels, spacing=30).properties(description=description))


def _no_math(text: Any) -> str:
    """A label for matplotlib, which reads text between two dollar signs as a formula.

    >>> print(_no_math("$5 or $10"))
    \\$5 or \\$10
    """
    return label(text).replace("$", r"\$")


@worded
def show_heatmaps(
    matrices: dict[str, ArrayLike],
    *,
    x_title: str,
    y_title: str,
    title: str,
    description: str,
    value_title: str = COSINE,
    span: tuple[float, float] | None = None,
) -> None:
    """Draw square matrices side by side (seaborn), in sequential colours.

    Args:
        span: ends of one colour scale for all; without it, each matrix has a scale of its own,
            which the bar beside it shows.
    """
    import matplotlib.pyplot as plt
    import seaborn
    from IPython.display import display

    letters: Any = {"font.size": 14.5} if is_projected() else {}  # points: 16 pixels at 80 dpi
    if chosen() == "zh":
        _load_chinese_font()
        letters["font.family"] = ["DejaVu Sans", CHINESE_FONT]
    with plt.rc_context(letters):
        size = (6.4 * len(matrices), 5.6)
        figure, axes = plt.subplots(1, len(matrices), figsize=size, layout="constrained")
        bar = {"label": _no_math(_(value_title)), "shrink": 0.8}
        low, high = (None, None) if span is None else span
        for axis, (name, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
            values = np.asarray(matrix, dtype=float)
            ticks = [str(i + 1) for i in range(len(values))]
            look = {"xticklabels": ticks, "yticklabels": ticks, "vmin": low, "vmax": high}
            seaborn.heatmap(values, ax=axis, cmap="cividis", square=True, cbar_kws=bar, **look)
            axis.set(
                title=_no_math(given(name)), xlabel=_no_math(x_title), ylabel=_no_math(y_title)
            )
        figure.suptitle(_no_math(title))
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=80, facecolor="white")
    plt.close(figure)
    words = visible(description)
    bundle = {"image/png": out.getvalue(), "text/plain": words}
    display(bundle, metadata={"image/png": {"alt": words}}, raw=True)


# --- lines, intervals, shares -------------------------------------------------------------------


def _unique(column: pd.Series) -> list[Any]:
    """Values of a column in the order in which they first appear."""
    return list(dict.fromkeys(column))


def _colour_and_shape(field: str, names: list[str], title: str) -> tuple[alt.Color, alt.Shape]:
    """Channels that tell `names` apart by colour and, for colour-blind readers, by shape."""
    palette = alt.Scale(domain=names, range=SERIES_COLOURS[: len(names)])
    colour = alt.Color(f"{field}:N", title=title, sort=names, scale=palette)
    shape = alt.Shape(f"{field}:N", title=title, sort=names, scale=alt.Scale(domain=names))
    return colour, shape


def _x_axis(column: pd.Series, title: str, log: bool) -> alt.X:
    """Axis for numbers, linear or logarithmic, or for texts in the order of the rows."""
    if not pd.api.types.is_numeric_dtype(column):
        return alt.X("x:N", title=title, sort=_unique(column), axis=alt.Axis(labelAngle=-20))
    if log:
        scale, ticks = alt.Scale(type="log", base=2), alt.Axis(values=_unique(column))
        return alt.X("x:Q", title=title, scale=scale, axis=ticks)
    return alt.X("x:Q", title=title)


@worded
def lines(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    title: str,
    description: str,
    series: str | None = None,
    x_title: str | None = None,
    y_title: str | None = None,
    y_domain: tuple[float, float] | None = None,
    subtitle: str = "",
    labels: bool = True,
    log_x: bool = False,
    decimals: int = 2,
    width: int = 560,
) -> alt.LayerChart:
    """A line with marked points; one line per value of the column `series`, if given.

    Texts on `x` keep the order of the rows. Lines differ in colour and in the shape of the points.

    Args:
        frame: the columns named by `x`, `y` and `series`.
        y_domain: ends of the vertical axis.
        labels: write the value at each point, with `decimals` decimal places.
        log_x: logarithmic horizontal axis, base 2.
        width: of the plot in pixels.
    """
    shown = _fields(frame, x=x, y=y, **({"series": series} if series else {}))
    shown["label"] = [f"{value:.{decimals}f}" for value in shown["y"]]
    x_name, y_name = axis_title(x_title or given(x)), axis_title(y_title or given(y))
    x_axis = _x_axis(shown["x"], x_name, log_x)
    y_scale = alt.Scale(domain=list(y_domain)) if y_domain else alt.Undefined
    tooltip = [alt.Tooltip(x_axis.shorthand, title=x_name), alt.Tooltip("y:Q", title=y_name)]
    colour: Any = alt.value(SERIES_COLOURS[0])
    shape: Any = alt.value("circle")
    if series:
        name = axis_title(given(series))
        colour, shape = _colour_and_shape("series", _unique(shown["series"]), name)
        tooltip.insert(0, alt.Tooltip("series:N", title=name))
    base = alt.Chart(shown).encode(x=x_axis, y=alt.Y("y:Q", title=y_name, scale=y_scale))
    strokes = base.mark_line(strokeWidth=2).encode(color=colour)
    points = base.mark_point(size=70, filled=True, opacity=1).encode(
        color=colour, shape=shape, tooltip=tooltip
    )
    drawn = strokes + points
    if labels:
        drawn += base.mark_text(dy=-12, fontSize=12).encode(text="label:N")
    heading = _heading(title, subtitle)
    return styled(drawn.properties(title=heading, width=width, height=280, description=description))


@worded
def histogram(
    samples: Mapping[str, ArrayLike],
    *,
    step: float,
    title: str,
    description: str,
    x_title: str,
    y_title: str,
    series_title: str,
    subtitle: str = "",
    width: int = 560,
) -> alt.LayerChart:
    """Several samples as outlined histograms, one over the other.

    They differ in colour and in the dashes of the outline. What is drawn, and stored in a notebook,
    are the shares of the bins, not the values.

    Args:
        samples: values (n,) by the name of their sample, at least one value each.
        step: width of a bin; bins begin at multiples of it.
        width: of the plot in pixels.

    Raises:
        ValueError: there are no samples, `step` is not a positive number, or a sample has no
            values or one that is not finite.
    """
    if not samples or not (np.isfinite(step) and step > 0):
        raise ValueError(
            _("give samples and a positive step, not {samples} and {step}").format(
                samples=len(samples), step=step
            )
        )
    values = {
        given(name): np.asarray(sample, dtype=float).ravel() for name, sample in samples.items()
    }
    for name, sample in values.items():
        if not sample.size or not np.isfinite(sample).all():
            raise ValueError(
                _("{name} has no values, or one that is NaN or infinite").format(name=short(name))
            )
    every = np.concatenate(list(values.values()))
    low, high = (int(edge) for edge in (np.floor(every.min() / step), np.ceil(every.max() / step)))
    if high - low > MOST_BINS:
        raise ValueError(
            _("a step of {step} makes {bins:,} bins; choose a larger one").format(
                step=step, bins=high - low
            )
        )
    edges = np.arange(low - 1, high + 2) * step  # an empty bin at either end closes the outline
    bins = pd.concat(
        pd.DataFrame(
            {
                "sample": label(name),
                "x": edges[:-1].round(6),
                "share": (np.histogram(sample, edges)[0] / sample.size).round(5),
            }
        )
        for name, sample in values.items()
    )
    names = [label(name) for name in values]
    legend = axis_title(series_title)
    colours = alt.Scale(domain=names, range=SERIES_COLOURS[: len(names)])
    dashes = alt.Scale(domain=names, range=[[1, 0], [6, 3], [2, 2], [8, 3, 2, 3]][: len(names)])
    base = alt.Chart(bins).encode(
        x=alt.X("x:Q", title=axis_title(x_title)),
        y=alt.Y("share:Q", title=axis_title(y_title), axis=alt.Axis(format="%"), stack=None),
        color=alt.Color("sample:N", title=legend, sort=names, scale=colours),
        tooltip=[
            alt.Tooltip("sample:N", title=legend),
            "x:Q",
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    fill = alt.Fill("sample:N", title=legend, sort=names, scale=colours)
    areas = base.mark_area(interpolate="step-after", opacity=0.2).encode(fill=fill)
    outlines = base.mark_line(interpolate="step-after", strokeWidth=2).encode(
        color=alt.Color("sample:N", title=legend, sort=names, scale=colours),
        strokeDash=alt.StrokeDash("sample:N", title=legend, sort=names, scale=dashes),
    )
    heading = _heading(title, subtitle)
    return styled(
        (areas + outlines).properties(
            title=heading, width=width, height=260, description=description
        )
    )


@worded
def intervals(
    frame: pd.DataFrame,
    *,
    system: str,
    measure: str,
    title: str,
    description: str,
    x_title: str,
    subtitle: str = "",
    zero: bool = False,
    width: int = 520,
) -> alt.LayerChart:
    """Means with their intervals: one row per system, one colour and shape per measure.

    Args:
        frame: columns `mean`, `low`, `high`, and the two named by `system` and `measure`.
        zero: draw a line at 0, for differences.
        width: of the plot in pixels.
    """
    shown = _fields(frame, system=system, measure=measure, mean="mean", low="low", high="high")
    systems, measures = _unique(shown["system"]), _unique(shown["measure"])
    name = axis_title(given(measure))
    colour, shape = _colour_and_shape("measure", measures, name)
    numbers = [alt.Tooltip(f"{number}:Q", format=".3f") for number in ("mean", "low", "high")]
    base = alt.Chart(shown).encode(
        y=alt.Y("system:N", sort=systems, title=None),
        yOffset=alt.YOffset("measure:N", sort=measures),
        color=colour,
        tooltip=[
            alt.Tooltip("system:N", title=axis_title(given(system))),
            alt.Tooltip("measure:N", title=name),
            *numbers,
        ],
    )
    x_axis = alt.X("low:Q", title=axis_title(x_title))
    bars = base.mark_rule(strokeWidth=2).encode(x=x_axis, x2="high:Q")
    points = base.mark_point(filled=True, size=80, opacity=1).encode(x="mean:Q", shape=shape)
    drawn = bars + points
    if zero:
        origin = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(stroke="#555555", strokeDash=[4, 3])
        drawn = origin.encode(x="x:Q") + drawn
    heading = _heading(title, subtitle)
    height = 34 * len(systems) + 20
    return styled(
        drawn.properties(title=heading, width=width, height=height, description=description)
    )


@worded
def arrows(
    vectors: dict[str, tuple[float, float]], *, title: str, description: str, width: int = 460
) -> alt.LayerChart:
    """Vectors of two numbers as arrows from the origin, with their angles to the first one.

    An arc from the first arrow to every other one carries the angle in degrees and its cosine.

    Args:
        vectors: the two numbers of every vector, by name.
        width: of the plot in pixels.

    Raises:
        ValueError: there are no vectors, one is not two finite numbers, or one has no direction.
    """
    places = {label(name): np.asarray(place, dtype=float) for name, place in vectors.items()}
    if not places or any(p.shape != (2,) or not np.isfinite(p).all() for p in places.values()):
        raise ValueError(_("at least one vector of two finite numbers is needed"))
    lengths = {name: float(np.hypot(*place)) for name, place in places.items()}
    if not all(lengths.values()):
        raise ValueError(_("a vector of zeros has no direction to draw"))
    longest = max(lengths.values())
    names = list(places)
    start, *angles = [float(np.arctan2(y, x)) for x, y in places.values()]
    turns = [(angle - start + np.pi) % (2 * np.pi) - np.pi for angle in angles]
    notes = [
        _("{name}: {angle:.0f}°, cosine {cosine:.2f}").format(
            name=name, angle=abs(np.degrees(t)), cosine=np.cos(t)
        )
        for name, t in zip(names[1:], turns, strict=True)
    ]
    shown = pd.DataFrame([[*place, 0.0] for place in places.values()], columns=["x", "y", "origin"])
    shown["name"], shown["note"] = names, [names[0], *notes]
    shown["turn"] = 90 - np.degrees([start, *angles])
    arcs = pd.DataFrame(
        [
            [number, step, reach * np.cos(angle), reach * np.sin(angle)]
            for number, turn in enumerate(turns)
            for reach in [longest * (0.17 + 0.08 * number)]
            for step, angle in enumerate(start + turn * np.linspace(0, 1, 41))
        ],
        columns=["arc", "step", "x", "y"],
    )
    ends = pd.concat([shown, arcs])[["x", "y"]].to_numpy(dtype=float)
    margin = np.array([0.5, 0.25]) * longest  # the words at the tips need room
    (left, bottom), (right, top) = ends.min(axis=0) - margin, ends.max(axis=0) + margin
    x_scale, y_scale = (
        alt.Scale(domain=[low, high], nice=False) for low, high in ((left, right), (bottom, top))
    )
    x, y = alt.X("x:Q", title=None, scale=x_scale), alt.Y("y:Q", title=None, scale=y_scale)
    palette = [SERIES_COLOURS[i % len(SERIES_COLOURS)] for i in range(len(names))]
    scale = alt.Scale(domain=names, range=palette)
    base = alt.Chart(shown).encode(color=alt.Color("name:N", scale=scale, legend=None))
    shafts = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("origin:Q", title=None, scale=x_scale),
        x2="x",
        y=alt.Y("origin:Q", title=None, scale=y_scale),
        y2="y",
    )
    heads = base.mark_point(shape="triangle-up", filled=True, size=170, opacity=1).encode(
        x=x, y=y, angle=alt.Angle("turn:Q", scale=None), tooltip=["name:N", "x:Q", "y:Q"]
    )
    layers = shafts + heads
    if turns:
        drawn = alt.Chart(arcs).mark_line(stroke="#555555", strokeDash=[4, 3])
        layers += drawn.encode(x=x, y=y, detail="arc:N", order="step:Q")
    for side, dy in (("datum.y >= 0", -16), ("datum.y < 0", 20)):
        words = alt.Chart(shown).transform_filter(side).mark_text(dy=dy, fontSize=13)
        layers += words.encode(x=x, y=y, text="note:N")
    height = int(width * (top - bottom) / (right - left))  # one unit is as long in both directions
    return styled(
        layers.properties(title=label(title), width=width, height=height, description=description)
    )


@worded
def token_shares(
    frame: pd.DataFrame,
    *,
    title: str,
    description: str,
    series: str,
    x_title: str = SHARE,
    width: int = 420,
) -> alt.LayerChart:
    """Shares of the tokens of one text, in reading order: one row per token, one mark per series.

    Args:
        frame: columns `token`, `share` and the one named by `series`.
        width: of the plot in pixels.
    """
    shown = _fields(frame, token="token", share="share", series=series)  # noqa: S106 - a token is a word
    order, name = _unique(shown["token"]), axis_title(given(series))
    colour, shape = _colour_and_shape("series", _unique(shown["series"]), name)
    percent = alt.Axis(format=".1%")
    points = (
        alt.Chart(shown)
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            y=alt.Y("token:N", sort=order, title=None),
            x=alt.X(
                "share:Q",
                title=axis_title(_(x_title)),
                axis=percent,
                scale=alt.Scale(zero=False),
            ),
            color=colour,
            shape=shape,
            tooltip=[
                "token:N",
                alt.Tooltip("series:N", title=name),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    span = (
        alt.Chart(shown)
        .mark_rule(stroke="#999999")
        .encode(y=alt.Y("token:N", sort=order), x="min(share):Q", x2="max(share):Q")
    )
    height = 17 * len(order)
    return styled(
        (span + points).properties(
            title=label(title), width=width, height=height, description=description
        )
    )


@worded
def token_changes(
    frame: pd.DataFrame,
    *,
    title: str,
    description: str,
    part: str,
    y_title: str,
    subtitle: str = "",
    width: int = 680,
) -> alt.Chart:
    """One bar per token of a text, in reading order, told apart by the part of the text.

    Parts differ in colour and in how full their bars are.

    Args:
        frame: columns `token` (all different), `change`, and the one named by `part`.
        width: of the plot in pixels.

    Raises:
        ValueError: two tokens have the same label.
    """
    shown = _fields(frame, token="token", change="change", part=part)  # noqa: S106 - a token is a word
    if shown["token"].duplicated().any():
        raise ValueError(
            _(
                "tokens must differ, or their bars would be one: "
                "tokens.token_labels(...) numbers those that repeat"
            )
        )
    parts, name = _unique(shown["part"]), axis_title(given(part))
    colours = alt.Scale(domain=parts, range=SERIES_COLOURS[: len(parts)])
    fills = alt.Scale(domain=parts, range=np.linspace(0.15, 1, len(parts)).tolist())
    number = axis_title(y_title)
    above = alt.Legend(orient="top")
    upright = alt.Axis(labelAngle=-90, labelLimit=120)
    bars = (
        alt.Chart(shown)
        .mark_bar(strokeWidth=1.2)
        .encode(
            x=alt.X("token:N", sort=_unique(shown["token"]), title=None, axis=upright),
            y=alt.Y("change:Q", title=number),
            color=alt.Color("part:N", title=name, sort=parts, scale=colours, legend=above),
            stroke=alt.Stroke("part:N", title=name, sort=parts, scale=colours, legend=above),
            fillOpacity=alt.FillOpacity(
                "part:N", title=name, sort=parts, scale=fills, legend=above
            ),
            tooltip=["token:N", alt.Tooltip("change:Q", title=number, format="+.2f")],
        )
    )
    heading = _heading(title, subtitle)
    return styled(bars.properties(title=heading, width=width, height=240, description=description))


@worded
def scatter(
    points: ArrayLike,
    texts: list[str],
    *,
    title: str,
    description: str,
    groups: list[str] | None = None,
    group_title: str = "group",
    subtitle: str = "",
    size: int = 460,
) -> alt.Chart:
    """A map of texts: one point each, its text under the pointer.

    Args:
        points: shape (n, 2); axes carry no numbers, as those of a t-SNE map mean nothing.
        groups: one per text, told apart by colour and shape.
        size: of the plot in pixels.

    Raises:
        ValueError: points, texts and groups are not as many, there are none, or a point has no
            finite place.
    """
    places = np.asarray(points, dtype=float)
    if places.shape != (len(texts), 2) or len(texts if groups is None else groups) != len(texts):
        raise ValueError(
            _("points {shape} do not fit {texts} texts").format(
                shape=places.shape, texts=len(texts)
            )
            + ("" if groups is None else _(" and {groups} groups").format(groups=len(groups)))
        )
    if not texts:
        raise ValueError(_("a map needs at least one text"))
    if not np.isfinite(places).all():
        raise ValueError(_("points contain NaN or infinity, which have no place on a map"))
    decimals = 2 - int(np.floor(np.log10(min(np.ptp(places, axis=0).max() or 1, 1))))
    rounded = [[round(number, decimals) for number in place] for place in places.tolist()]
    shown = pd.DataFrame(rounded, columns=["x", "y"])
    shown["text"] = [label(text) for text in texts]
    colour: Any = alt.value(SERIES_COLOURS[0])
    shape: Any = alt.value("circle")
    if groups is not None:
        shown["group"] = [label(group) for group in groups]
        names = _unique(shown["group"])
        colour, shape = _colour_and_shape("group", names, axis_title(group_title))
    bare = alt.Axis(labels=False, ticks=False, grid=False, title=None)
    dots = (
        alt.Chart(shown)
        .mark_point(filled=True, size=45, opacity=0.8)
        .encode(
            x=alt.X("x:Q", axis=bare, scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", axis=bare, scale=alt.Scale(zero=False)),
            color=colour,
            shape=shape,
            tooltip=["text:N"],
        )
    )
    heading = _heading(title, subtitle)
    return styled(dots.properties(title=heading, width=size, height=size, description=description))
