"""Which differences are more than chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import TESTS, Chosen, difference_row, tests_for
from dermsa.evaluation import compare
from dermsa.evaluation.compare import Figure
from ui.compare.table import pairs, table_rows
from ui.figures import show_figure


def show_differences(chosen: Chosen, papers: Sequence[str]) -> None:
    if len(chosen.evaluations) < 2:
        st.info("Differences need two models or runs.", icon=":material/compare:")
        return
    left, right = st.columns(2, gap="medium")
    figures = [row.figure for row in table_rows(chosen.key, chosen)]
    figures += [Figure(m, c) for m in ("recall", "precision", "roc_auc") for c in chosen.classes]
    figure = left.selectbox(
        "Figure",
        list(dict.fromkeys(figures)),
        format_func=lambda figure: figure.title,
        key="difference-of",
    )
    test = right.segmented_control(
        "Test",
        tests_for(figure),
        format_func=TESTS.get,
        default="bootstrap",
        required=True,
        key=f"test-of-{tests_for(figure)[-1]}",
    )
    try:
        found = pairs(chosen.key, figure, test, chosen)
    except compare.NotComparable as error:
        st.error(str(error), icon=":material/block:")
        return
    names = list(chosen.labels)
    differences, p_values = np.zeros((2, len(names), len(names)))
    for pair in found:
        i, j = names.index(pair.first), names.index(pair.second)
        differences[j, i] = pair.comparison.difference.value
        differences[i, j] = -pair.comparison.difference.value
        p_values[i, j] = p_values[j, i] = pair.adjusted_p
    matrix = plots_compare.significance_matrix(
        list(chosen.labels.values()), differences, p_values, figure.title
    )
    show_figure(matrix, " ".join(f"{pair.sentence}." for pair in found), "differences")
    better = "orange is better" if figure.higher_is_better else "purple is better"
    st.caption(
        f"Shaded where the difference is more than chance (p < 0.05 after Holm's correction for "
        f"{len(found)} pairs): orange is higher, purple is lower; {better}."
    )
    if len(found) <= 3:
        st.markdown("\n".join(f"- {pair.sentence}." for pair in found))
    st.table(
        [difference_row(pair, chosen.labels) for pair in found],
        border="horizontal",
        hide_index=True,
        alt="Every pair with its difference and p-value.",
    )
