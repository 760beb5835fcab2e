"""Curves of trainings: data in, a plotly `Figure` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dermsa.plots import tidy
from dermsa.plots_compare import MAX_MODELS, styles

PANELS = {
    "loss": "Loss (thin: training)",
    "macro_recall": "Macro recall",
    "macro_auc": "Macro ROC AUC",
    "learning_rate": "Learning rate",
}
HEIGHT = 560
SHARES = ("macro_recall", "macro_auc")
SHARES_SPAN = 0.02
"""Their axes show at least so much: what differs by less would look like a change."""
MAX_RUNS = MAX_MODELS


def training_curves(metrics: Mapping[str, pd.DataFrame], smoothing: float = 0.0) -> go.Figure:
    """Loss, macro recall, macro AUC and learning rate by epoch, several runs over each other.

    Args:
        metrics: Rows of `metrics.csv` by the name to show; up to six runs.
        smoothing: 0 (as measured) to below 1: share of the smoothed value before in each smoothed
            value. The measured points stay visible. The learning rate is never smoothed.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"Expected a smoothing from 0 to below 1. Received: {smoothing}")
    figure = make_subplots(
        2, 2, subplot_titles=list(PANELS.values()), horizontal_spacing=0.09, vertical_spacing=0.16
    )
    for (name, table), style in zip(metrics.items(), styles(list(metrics)).values(), strict=True):
        for place, column in enumerate(PANELS):
            cell = {"row": place // 2 + 1, "col": place % 2 + 1}
            values = table.get(column, pd.Series(dtype=float))
            epochs = table.get("epoch", pd.Series(dtype=int))
            smooth = smoothing if column != "learning_rate" else 0.0
            line = {"color": style.colour, "dash": style.dash, "width": 2.5}
            figure.add_trace(
                go.Scatter(
                    x=epochs,
                    y=smoothed(values, smooth),
                    name=name,
                    legendgroup=name,
                    showlegend=place == 0,
                    mode="lines" if smooth else "lines+markers",
                    line=line,
                    marker={"symbol": style.symbol, "size": 7},
                    hovertemplate="%{y:.4g}",
                ),
                **cell,
            )
            if smooth:
                measured = {"color": style.colour, "symbol": style.symbol, "size": 5}
                figure.add_trace(_behind(epochs, values, name, "markers", marker=measured), **cell)
            if column == "loss" and "train_loss" in table:
                thin = line | {"width": 1}
                trained = smoothed(table["train_loss"], smooth)
                figure.add_trace(_behind(epochs, trained, name, "lines", line=thin), **cell)
    figure = tidy(figure, HEIGHT)
    figure.update_layout(
        showlegend=len(metrics) > 1,
        legend={"y": -0.16},  # below the titles of the axes
        margin={"t": 34, "r": 8},
        hovermode="x",
    )
    figure.update_xaxes(title_text="Epoch", row=2)
    longest = max((len(table) for table in metrics.values()), default=0)
    figure.update_xaxes(tick0=0, dtick=max(1, -(-longest // 10)))  # whole epochs
    figure.update_yaxes(tickformat=".2~e", row=2, col=2)
    for place, column in enumerate(PANELS):
        if column in SHARES:
            figure.update_yaxes(
                range=_at_least(SHARES_SPAN, [table.get(column) for table in metrics.values()]),
                row=place // 2 + 1,
                col=place % 2 + 1,
            )
    return figure


def _at_least(span: float, columns: Sequence[pd.Series | None]) -> list[float] | None:
    """A range around all values where they lie closer together; None where they fill it."""
    values = pd.concat([column for column in columns if column is not None] or [pd.Series()])
    low, high = values.min(), values.max()
    if not high - low < span:
        return None
    return [(low + high - span) / 2, (low + high + span) / 2]


def _behind(epochs, values, name: str, mode: str, **look) -> go.Scatter:
    """A line or points that accompany a run's curve and have no say of their own."""
    return go.Scatter(
        x=epochs,
        y=values,
        mode=mode,
        legendgroup=name,
        showlegend=False,
        opacity=0.7,
        hoverinfo="skip",
        **look,
    )


def smoothed(values: pd.Series, share: float) -> pd.Series:
    """Exponential moving average, unbiased at the start; the values themselves for 0."""
    return values.ewm(alpha=1 - share, adjust=True).mean() if share else values


def describe_training(metrics: Mapping[str, pd.DataFrame]) -> str:
    """The figure in words."""
    parts = []
    for name, table in metrics.items():
        if not len(table):
            parts.append(f"{name}: no epoch yet")
            continue
        last = table.iloc[-1]
        parts.append(
            f"{name}: after epoch {int(last['epoch'])} loss {last['loss']:.3f}, macro recall "
            f"{last['macro_recall']:.3f}, macro AUC {last['macro_auc']:.3f}"
        )
    return f"Training curves. {'; '.join(parts)}."
