"""Size, time and memory against quality."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import Chosen, cost_row, describe_points, published_points
from dermsa.evaluation.metrics import METRICS
from dermsa.plots_compare import Priced
from ui.figures import show_figure

QUALITIES = ("macro_recall", "accuracy", "macro_roc_auc", "malignancy_roc_auc", "macro_f1")


def show_cost(chosen: Chosen, papers: Sequence[str]) -> None:
    measured = [one for one in chosen.evaluations if one.cost]
    if not measured:
        st.info(
            "The cost of these models was not measured. Measure them together, so that their "
            "times can be compared: `python -m dermsa evaluate --model NAME --save` measures all.",
            icon=":material/timer:",
        )
        return
    metric = st.segmented_control(
        "Quality",
        QUALITIES,
        format_func=lambda name: METRICS[name].title,
        default=QUALITIES[0],
        required=True,
        key="quality",
    )
    points = chosen.by_label(
        lambda one: Priced(
            one.interval(metric),
            one.cost.answer_p50 if one.cost else None,
            one.cost.parameters if one.cost else None,
        )
    ) | published_points(papers, metric)
    figure = plots_compare.trade(points, METRICS[metric].title)
    show_figure(figure, describe_points(points, METRICS[metric].title), "cost")
    st.table(
        [cost_row(chosen.labels[one.model], one.cost) for one in measured],
        border="horizontal",
        hide_index=True,
        alt="Size, arithmetic, time and memory.",
    )
    together = {frozenset(one.cost.measured_with) for one in measured}
    if len(together) > 1:
        st.warning(
            "These times were not measured together, so they may differ for other reasons than "
            "the models.",
            icon=":material/timer:",
        )
    cost = measured[0].cost
    st.caption(
        f"An answer is that of the page: all views, maps and checks. Times in the served form on "
        f"{cost.processor}, {cost.threads} threads, models taking turns. The line joins measured "
        "models that no other one beats. Open signs are published, under another protocol."
    )
