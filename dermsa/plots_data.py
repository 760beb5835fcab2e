"""Figures of data sets: data in, a plotly `Figure` or a picture out."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import plotly.graph_objects as go

from dermsa.plots import NEUTRAL_COLOUR
from dermsa.plots_compare import STYLES, Style, small_print

WHOLE_STYLE = Style(NEUTRAL_COLOUR, "solid", "circle", "")
OUTLINE_WIDTH = 0.003
"""Of the photo's longer side."""


def distribution(parts: Mapping[str, Mapping[str, int]], title: str) -> go.Figure:
    """How the parts of a data set are made up: shares of each part as bars, a colour a part.

    Args:
        parts: By the part's title, the whole first; then counts by value, all with the same values
            in the order to show them in. Values that no part has are left out.
        title: What the values are.
    """
    values = [value for value in next(iter(parts.values())) if _anywhere(parts, value)]
    figure = go.Figure()
    for (name, counts), look in zip(parts.items(), (WHOLE_STYLE, *STYLES), strict=False):
        total = max(1, sum(counts.values()))
        figure.add_bar(
            y=values,
            x=[100 * counts[value] / total for value in values],
            orientation="h",
            name=f"{name}, n = {sum(counts.values()):,}",
            marker={
                "color": look.colour,
                "pattern": {"shape": look.hatch, "fillmode": "overlay", "fgcolor": "white"},
            },
            customdata=[f"{counts[value]:,}" for value in values],
            hovertemplate="%{x:.1f} % (%{customdata})",
        )
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    figure.update_xaxes(title="share of the part, %", rangemode="tozero")
    height = 120 + len(values) * (12 + 11 * len(parts))
    return small_print(figure, height, top=40).update_layout(
        showlegend=True,
        hovermode="y unified",
        barmode="group",
        bargap=0.25,
        legend={"y": 1.0 + 6 / height, "yanchor": "bottom"},
    )


def describe_distribution(parts: Mapping[str, Mapping[str, int]], title: str) -> str:
    """The bars of `distribution` in words."""
    return f"{title}. " + " ".join(
        f"{name}: "
        + ", ".join(f"{value} {number:,}" for value, number in counts.items() if number)
        + "."
        for name, counts in parts.items()
    )


def outlined(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The photo with the edge of the lesion drawn in, bright on dark so that any skin shows it.

    Args:
        rgb: uint8 `(h, w, 3)`.
        mask: bool `(h, w)`, True where there is lesion.

    Returns:
        uint8 `(h, w, 3)`.
    """
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(OUTLINE_WIDTH * max(rgb.shape[:2])))
    drawn = rgb.copy()
    cv2.drawContours(drawn, edges, -1, (22, 34, 46), 3 * width, cv2.LINE_AA)
    cv2.drawContours(drawn, edges, -1, (255, 255, 255), width, cv2.LINE_AA)
    return drawn


def _anywhere(parts: Mapping[str, Mapping[str, int]], value: str) -> bool:
    return any(counts[value] for counts in parts.values())
