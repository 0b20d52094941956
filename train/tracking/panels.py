"""How every figure looks, in W&B's panels and on the page: one palette, one layout."""

from collections.abc import Sequence

import plotly.graph_objects as go

# Ten colors that stay apart for the color-blind: Okabe and Ito's eight, and Tol's wine and olive. Beyond ten they repeat
# with another symbol.
PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#882255", "#F0E442", "#000000", "#999933",
)  # fmt: skip
SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up")


def color(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def symbol(index: int) -> str:
    return SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]


def figure(title: str, x: str = "", y: str = "", traces: Sequence[object] = ()) -> go.Figure:
    """An empty figure in the lab's layout. Titles say what is seen, with units."""
    return go.Figure(
        data=list(traces),
        layout=go.Layout(
            template="plotly_white",
            title={"text": title, "x": 0.02, "font": {"size": 15}},
            xaxis={"title": {"text": x}},
            yaxis={"title": {"text": y}},
            colorway=PALETTE,
            font={"family": "system-ui, sans-serif", "size": 13},
            margin={"l": 60, "r": 20, "t": 50, "b": 50},
        ),
    )
