"""The comparison to take away."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import comparison_report, plots_compare
from dermsa.comparison import (
    Chosen,
    caveats,
    describe_areas,
    on_these_data,
    published_models,
    what_was_tested,
)
from dermsa.evaluation.compare import Figure
from dermsa.taxonomy import NAMES
from ui.compare.table import pairs, table_rows


def show_downloads(chosen: Chosen, papers: Sequence[str]) -> None:
    rows = table_rows(chosen.key, chosen)
    names = list(chosen.labels.values())
    files = (
        ("All figures (CSV)", "dermsa-comparison.csv", lambda: csv_of(chosen)),
        (
            "Table (LaTeX)",
            "dermsa-comparison.tex",
            lambda: comparison_report.latex_table(
                rows, names, what_was_tested(chosen.evaluations[0])
            ),
        ),
        ("Report (HTML)", "dermsa-comparison.html", lambda: report_of(chosen, papers)),
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, file_name, content in files:
            st.download_button(
                label,
                content,
                file_name,
                on_click="ignore",
                icon=":material/download:",
                key=f"download-{file_name}",
            )
        st.segmented_control(
            "Figures are saved as",
            ["svg", "png"],
            format_func=str.upper,
            default="svg",
            required=True,
            key="figure-format",
            help="By the camera at the top right of each figure.",
        )


def csv_of(chosen: Chosen) -> str:
    return comparison_report.csv_table(chosen.evaluations)


def report_of(chosen: Chosen, papers: Sequence[str]) -> str:
    predictions = chosen.predictions
    recalls = chosen.by_label(
        lambda one: {code: one.interval("recall", code) for code in one.classes}
    )
    malignant = chosen.evaluations[0].predictions.malignant
    of_class = None if malignant else chosen.classes[0]
    prefix = "" if of_class else "malignancy_"
    areas = {
        name: chosen.by_label(lambda one, name=name: one.interval(prefix + name, of_class))
        for name in ("roc_auc", "average_precision")
    }
    Section = comparison_report.Section
    sections = [
        Section(
            f"Curves: {NAMES[of_class] if of_class else 'malignant or not'}",
            figure=plots_compare.curves(predictions, of_class, areas),
            alt=describe_areas(areas),
        ),
        Section(
            "Sensitivity by diagnosis",
            figure=plots_compare.class_bars(recalls, title="Sensitivity"),
            alt=plots_compare.describe("Sensitivity", recalls),
        ),
        Section(
            "Confusion matrices",
            figure=plots_compare.confusions(predictions),
            alt=plots_compare.describe_confusions(predictions),
        ),
    ]
    if len(chosen.evaluations) > 1:
        figures = [Figure("macro_recall"), Figure("accuracy")]
        figures += [Figure("recall", "mel")] if "mel" in chosen.classes else []
        sentences = [
            f"{pair.sentence}."
            for figure in figures
            for pair in pairs(chosen.key, figure, "bootstrap", chosen)
        ]
        sections.insert(0, Section("What differs", sentences))
    shown = on_these_data(chosen, papers)
    if shown:
        plain = [sentence.replace("*", "") for sentence in caveats(shown)]
        sections.append(Section("What the published figures mean", plain))
    printed = {
        title: {key: figure.value for key, figure in published_models()[title].items()}
        for title in shown
    }
    rows = table_rows(chosen.key, chosen)
    return comparison_report.html_report(rows, chosen.evaluations, sections, printed)
