"""The comparison to take away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from dermsa import comparison_report, comparison_sections
from dermsa.comparison import Chosen, what_was_tested
from ui.compare.table import table_rows


def show_downloads(chosen: Chosen, papers: Sequence[str]) -> None:
    files = (
        ("All figures (CSV)", "csv", partial(comparison_report.csv_table, chosen.evaluations)),
        ("Table (LaTeX)", "tex", partial(latex_of, chosen)),
        ("Report (HTML)", "html", partial(comparison_sections.report, chosen, papers)),
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, ending, content in files:
            st.download_button(
                label,
                content,
                f"dermsa-comparison.{ending}",
                on_click="ignore",
                icon=":material/download:",
                key=f"download-{ending}",
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


def latex_of(chosen: Chosen) -> str:
    rows, names = table_rows(chosen.key, chosen), list(chosen.labels.values())
    tested = dict.fromkeys(what_was_tested(one) for one in chosen.evaluations)
    return comparison_report.latex_table(rows, names, " ".join(tested))
