"""Compare models and runs on the same cases: what differs, how sure that is, and what it costs."""

from __future__ import annotations

import streamlit as st

from dermsa import comparison_report
from dermsa.comparison import Chosen
from ui.compare.attention import show_attention
from ui.compare.cases import show_cases
from ui.compare.cost import show_cost
from ui.compare.differences import show_differences
from ui.compare.downloads import show_downloads
from ui.compare.groups import show_groups
from ui.compare.one_photo import show_one_photo
from ui.compare.papers import show_papers
from ui.compare.performance import show_confusions, show_curves, show_diagnoses
from ui.compare.selection import ask_what_to_compare, comparable, read_evaluations
from ui.compare.table import show_table
from ui.frame import run_page

VIEWS = {
    "Curves": show_curves,
    "Confusion": show_confusions,
    "Diagnoses": show_diagnoses,
    "Differences": show_differences,
    "Cost": show_cost,
    "Groups": show_groups,
    "Attention": show_attention,
    "Cases": show_cases,
    "One photo": None,  # asks for models alone; see `main`
    "Papers": show_papers,
}


def main() -> None:
    sources, papers = ask_what_to_compare()
    evaluations, key = read_evaluations(sources)
    chosen = None
    if evaluations and comparable(evaluations):
        labels = comparison_report.labels([one.model for one in evaluations])
        chosen = Chosen(evaluations, labels, key)
        show_table(chosen, papers)
    view = st.segmented_control(
        "Look at",
        list(VIEWS),
        default=next(iter(VIEWS)),
        required=True,
        key="view",
        bind="query-params",
    )
    if view == "One photo":
        show_one_photo([source.name for source in sources if source.kind == "model"])
    elif chosen is None:
        st.info("There is nothing measured to look at yet.", icon=":material/straighten:")
    else:
        VIEWS[view](chosen, papers)
    if chosen:
        show_downloads(chosen, papers)


run_page(main)
