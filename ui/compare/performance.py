"""Curves, confusion matrices and figures of each diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import Chosen, cell, describe_areas, on_these_data, published_models
from dermsa.evaluation.decision import DecisionCurve, decision_curve
from dermsa.evaluation.metrics import METRICS
from dermsa.plots_compare import printed_text
from dermsa.taxonomy import NAMES
from ui.figures import show_figure

CLASS_METRICS = ("recall", "precision", "f1", "roc_auc", "average_precision", "specificity")


def ask_question(chosen: Chosen, label: str, key: str) -> str | None:
    """A diagnosis to be told from the rest, or None for malignant or not."""
    any_malignant = [None] if chosen.evaluations[0].predictions.malignant else []
    return st.selectbox(
        label,
        [*any_malignant, *chosen.classes],
        format_func=lambda code: NAMES.get(code, code) if code else "Malignant or not",
        key=key,
    )


@st.cache_resource(max_entries=32, show_spinner=False)
def net_benefits(key: str, of_class: str | None, _chosen: Chosen) -> dict[str, DecisionCurve]:
    return _chosen.by_label(lambda one: decision_curve(one.predictions, of_class))


def show_curves(chosen: Chosen, papers: Sequence[str]) -> None:
    of_class = ask_question(chosen, "Found among all others", "curves-of")
    prefix = "" if of_class else "malignancy_"
    areas = {
        name: chosen.by_label(lambda one, name=name: one.interval(prefix + name, of_class))
        for name in ("roc_auc", "average_precision")
    }
    benefits = net_benefits(chosen.key, of_class, chosen)
    figure = plots_compare.curves(chosen.predictions, benefits, of_class, areas)
    show_figure(figure, describe_areas(areas), "curves")
    st.caption(
        "Point at a curve to read all models there; a click on a name in the legend hides that "
        "model in all four, a double click leaves it alone. Numbers in the corners are the areas "
        "with their 95 % intervals. Larger dots of the reliability curve hold more cases."
    )


def show_confusions(chosen: Chosen, papers: Sequence[str]) -> None:
    figure = plots_compare.confusions(chosen.predictions)
    show_figure(figure, plots_compare.describe_confusions(chosen.predictions), "confusion")
    st.caption(
        "Photos, coloured by their share of the true diagnosis. Point at a cell to read it in "
        "every model. " + ", ".join(f"{code}: {NAMES.get(code, code)}" for code in chosen.classes)
    )


def show_diagnoses(chosen: Chosen, papers: Sequence[str]) -> None:
    metric = st.segmented_control(
        "Figure of each diagnosis",
        CLASS_METRICS,
        format_func=lambda name: METRICS[name].title,
        default=CLASS_METRICS[0],
        required=True,
        key="class-metric",
    )
    title = METRICS[metric].title
    figures = chosen.by_label(
        lambda one: {code: one.interval(metric, code) for code in one.classes}
    )
    of_papers = {
        name: {code: of[metric, code].value for code in chosen.classes if (metric, code) in of}
        for name, of in ((name, published_models()[name]) for name in on_these_data(chosen, papers))
    }
    of_papers = {name: values for name, values in of_papers.items() if values}
    figure = plots_compare.class_bars(figures, of_papers, title)
    show_figure(figure, plots_compare.describe(title, figures), "diagnoses")
    with st.expander("In numbers"):
        table = {"": [f"{NAMES.get(code, code)}" for code in chosen.classes]}
        for label, by_class in figures.items():
            table[label] = [cell(by_class[code]) for code in chosen.classes]
        for name, values in of_papers.items():
            table[f"*{name}*"] = [
                f"*{printed_text(values[code])}*" if code in values else ""
                for code in chosen.classes
            ]
        st.table(table, border="horizontal", hide_index=True)
