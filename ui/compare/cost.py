"""Size, time and memory against quality."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import (
    Chosen,
    cost_rows,
    describe_points,
    machines,
    not_measured_together,
    priced,
)
from dermsa.evaluation.metrics import METRICS
from ui.figures import show_figure

QUALITIES = ("macro_recall", "accuracy", "macro_roc_auc", "malignancy_roc_auc", "macro_f1")


def show_cost(chosen: Chosen, papers: Sequence[str]) -> None:
    measured = [one.cost for one in chosen.evaluations if one.cost]
    if measured:
        show_trade(chosen, papers)
    else:
        st.info(
            "The time and memory of these models were not measured. Measure all models together, "
            "so that they can be compared: `python -m dermsa evaluate --all --save`.",
            icon=":material/timer:",
        )
    rows = cost_rows(chosen, papers)
    if rows:
        st.table(
            rows,
            border="horizontal",
            hide_index=True,
            alt="Size, arithmetic, time and memory.",
        )
    warning = not_measured_together(chosen)
    if warning:
        st.warning(warning, icon=":material/timer:")
    if measured:
        turns = "" if warning else " Models took turns."
        st.caption(
            f"An answer is that of the page: all views, maps and checks. {machines(chosen)}{turns} "
            "Memory is that of a process that answers, Python included. The line joins measured "
            "models that no other one beats. Open signs are published, under another protocol."
        )
    st.caption(
        "Training: the median epoch (of an ensemble or a soup one of every part) and the most "
        "memory, on the machine where it ran; machines differ."
    )


def show_trade(chosen: Chosen, papers: Sequence[str]) -> None:
    metric = st.segmented_control(
        "Quality",
        QUALITIES,
        format_func=lambda name: METRICS[name].title,
        default=QUALITIES[0],
        required=True,
        key="quality",
    )
    points = priced(chosen, papers, metric)
    figure = plots_compare.trade(points, METRICS[metric].title)
    show_figure(figure, describe_points(points, METRICS[metric].title), "cost")
