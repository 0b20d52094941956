"""Figures as the page draws them: clouds of points by its own canvas, everything else by plotly.js.

WebGL, which plotly.js needs for many points, allows a page only a handful of figures, and some browsers none.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from train.tracking.panels import PALETTE, color

Kind = Literal["map", "plot"]

# Clouds of points, which are classes and clusters, have colors that no variant has: at least 28 apart in CIE Lab from each of
# PALETTE, and 22 from each other as dichromats see them.
CLOUDS = (
    "#0000FF", "#EE0099", "#66DD00", "#664400", "#005555", "#FF9999", "#6633AA", "#FF1144", "#BBBBFF", "#EE00FF",
)  # fmt: skip
CLUSTER = re.compile(r"(\d+): (?:(\d+) ?% (.+)|empty)")  # how eval.cluster calls a cluster

# Variants stay apart without color too.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "5px,2px,1px,2px")
GUESSING = "chance"  # how the name of a trace begins that shows what guessing gives
PATTERNS = ("", "/", "x", ".")  # of bars, when all colors are in use
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


@dataclass(frozen=True)
class Style:
    """How the curves of one variant look, in plotly's words."""

    color: str
    dash: str
    symbol: str
    pattern: str


@dataclass(frozen=True)
class Drawing:
    """What the page's script reads. data of a plot: the figure's JSON. data of a map: its traces, each with name,
    color, symbol, landmark (few and large: drawn on top), and x, y (float32), rows (int32 or null) in base64."""

    kind: Kind
    title: str
    data: dict[str, Any]

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """Name, color and symbol of each trace of a map: its legend."""
        return [(trace["name"], trace["color"], trace["symbol"]) for trace in self.data["traces"]]


def drawing(figure: go.Figure) -> Drawing:
    plain = json.loads(figure.to_json())
    title = _title(plain["layout"].pop("title", None))
    if _is_map(plain):
        return Drawing("map", title, _map(plain))
    for trace in plain["data"]:
        if trace.get("type", "").endswith("gl"):
            trace["type"] = trace["type"].removesuffix("gl")
    for size in ("width", "height"):
        plain["layout"].pop(size, None)
    return Drawing("plot", title, plain)


def style(index: int) -> Style:
    """Of the variant at this place of the book, everywhere on the page."""
    pattern = PATTERNS[index // len(PALETTE) % len(PATTERNS)]
    return Style(color(index), DASHES[index % len(DASHES)], SHAPES[index % len(SHAPES)], pattern)


def overlay(
    drawings: Mapping[str, Drawing],
    order: Sequence[str],
    only: str | None = None,
    names: Mapping[str, str] | None = None,
) -> Drawing:
    """The plots of several variants in one, each trace in its variant's style and marked as the variant's own.

    order: all variants of the book, which gives the styles. only: take just the traces of this name. names: of the variants
    in the legend, where not what the traces are called. What guessing gives belongs to no variant: it is drawn once, as it is.
    """
    first = next(iter(drawings.values()))
    traces, shared = [], []
    for variant, plot in drawings.items():
        own = []
        for trace in plot.data["data"]:
            if str(trace.get("name", "")).startswith(GUESSING):
                shared += [trace] if trace not in shared else []
            elif only in (None, trace.get("name", "")):
                own.append(trace)
        look = style(order.index(variant))
        traces += [_styled(trace, variant, look, bare=only is not None) for trace in own]
        if len(own) > 1:  # one line of the legend stands for them all
            for index, trace in enumerate(traces[-len(own) :]):
                trace.update({"showlegend": False} if index else {"name": variant})
        if names and own:
            traces[-len(own)]["name"] = names[variant]
    titles = {_without(variant, plot.title) for variant, plot in drawings.items()}
    title = titles.pop() if len(titles) == 1 else ""
    curves = [*traces, *shared]
    axes = {f"yaxis{str(trace.get('yaxis', 'y'))[1:]}" for trace in curves}
    layout = {
        key: part
        for key, part in first.data["layout"].items()
        if not key.startswith("yaxis") or key in axes or not curves
    }
    return Drawing("plot", title, {**first.data, "data": curves, "layout": layout})


def _styled(trace: dict[str, Any], variant: str, style: Style, bare: bool) -> dict[str, Any]:
    """bare: the variant's name says all; the trace's own is left out."""
    name = "" if bare else str(trace.get("name", ""))
    styled = {**trace, "meta": {"variant": variant}, "legendgroup": variant, "showlegend": True}
    styled["name"] = name if variant in name else f"{variant}: {name}".rstrip(": ")
    if trace.get("type", "scatter") == "bar":
        pattern = {"pattern": {"shape": style.pattern}} if style.pattern else {}
        styled["marker"] = {**trace.get("marker", {}), "color": style.color, **pattern}
        return styled
    styled["line"] = {**trace.get("line", {}), "color": style.color, "dash": style.dash}
    if "markers" in trace.get("mode", "lines"):  # what is measured once an epoch stands out from the batches
        styled["marker"] = {**trace.get("marker", {}), "color": style.color, "symbol": style.symbol, "size": 7}
        styled["line"]["width"] = 2
    return styled


def _without(variant: str, title: str) -> str:
    return title.replace(variant, "").strip(" ,:–")


def rows_by_name(map_: Drawing) -> dict[str, NDArray[np.int32]]:
    """The image rows that each trace of a map shows, where it says."""
    return {
        trace["name"]: np.frombuffer(base64.b64decode(trace["rows"]), "<i4")
        for trace in map_.data["traces"]
        if trace["rows"] is not None
    }


def _is_map(plain: dict[str, Any]) -> bool:
    """Whether a figure is nothing but markers over one pair of linear axes."""
    layout = plain["layout"]
    if any(layout.get(part) for part in ("annotations", "shapes", "images", "xaxis2", "yaxis2")):
        return False
    if any(layout.get(axis, {}).get("type", "linear") != "linear" for axis in ("xaxis", "yaxis")):
        return False
    return bool(plain["data"]) and all(
        trace.get("type", "scatter") in ("scatter", "scattergl")
        and trace.get("mode") == "markers"
        and not any(trace.get(part) for part in ("error_x", "error_y", "text"))
        and isinstance(trace.get("marker", {}).get("color", ""), str)
        and isinstance(trace.get("marker", {}).get("symbol", ""), str)
        and _are_places(_array(trace, "x"), _array(trace, "y"))
        for trace in plain["data"]
    )


def _are_places(x: NDArray[Any] | None, y: NDArray[Any] | None) -> bool:
    """Whether they are two numbers of each point."""
    if x is None or y is None:
        return False
    return x.dtype.kind in "fiu" and y.dtype.kind in "fiu" and x.shape == y.shape


def _map(plain: dict[str, Any]) -> dict[str, Any]:
    sizes = [_size(trace) for trace in plain["data"]]
    traces = []
    for index, trace in enumerate(plain["data"]):
        marker = trace.get("marker", {})
        rows, landmark = _array(trace, "customdata"), sizes[index] > 1.5 * min(sizes)
        if rows is not None and (rows.dtype.kind not in "iu" or rows.size != rows.shape[0]):
            rows = None
        traces.append(
            {
                "name": _name(str(trace.get("name", ""))),
                "color": _color(marker.get("color") or color(index), landmark),
                "symbol": marker.get("symbol") or "circle",
                "landmark": landmark,
                "x": _packed(_array(trace, "x"), "<f4"),
                "y": _packed(_array(trace, "y"), "<f4"),
                "rows": None if rows is None else _packed(rows.reshape(-1), "<i4"),
            }
        )
    axes = {axis: _title(plain["layout"].get(f"{axis}axis", {}).get("title")) for axis in "xy"}
    return {"traces": traces, **axes}


def _name(published: str) -> str:
    """Of a cloud; a cluster's in words: `cluster 3, 41 % of it ship`."""
    if not (cluster := CLUSTER.fullmatch(published)):
        return published
    return f"cluster {cluster[1]}, " + (f"{cluster[2]} % of it {cluster[3]}" if cluster[2] else "empty")


def _color(published: str, landmark: bool) -> str:
    """The page's color of a cloud, for the one that W&B's panels have."""
    return published if landmark or published not in PALETTE else CLOUDS[PALETTE.index(published)]


def _size(trace: dict[str, Any]) -> float:
    size = trace.get("marker", {}).get("size", 6)  # plotly's own default
    return float(size) if isinstance(size, int | float) else 6.0


def _array(trace: dict[str, Any], field: str) -> NDArray[Any] | None:
    """A trace's values; plotly writes numpy's arrays as base64 with a dtype and, for tables, a shape."""
    value = trace.get(field)
    if isinstance(value, dict):
        array = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]).newbyteorder("<"))
        return array.reshape([int(side) for side in str(value["shape"]).split(",")]) if "shape" in value else array
    return np.asarray(value) if isinstance(value, list) else None


def _packed(array: NDArray[Any] | None, dtype: str) -> str:
    assert array is not None
    return base64.b64encode(array.astype(dtype).tobytes()).decode()


def _title(title: Any) -> str:
    """The text of a plotly title, without its markup."""
    text = title.get("text", "") if isinstance(title, dict) else title
    return re.sub(r"\s+", " ", re.sub(r"</?(?:b|i|br|sup|sub|span)\b[^>]*>", " ", text or "")).strip()
