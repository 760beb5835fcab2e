"""Published figures beside those of a model."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import Chosen, cell, published_models
from dermsa.evaluation import published
from dermsa.evaluation.compare import Figure
from dermsa.plots_compare import printed_text

PLACES = {True: "in the interval", False: "outside", None: ""}


def show_papers(chosen: Chosen, papers: Sequence[str]) -> None:
    if not papers:
        st.info("Choose published models above.", icon=":material/menu_book:")
        return
    left, right = st.columns(2, gap="medium")
    model = left.selectbox(
        "Measured",
        [one.model for one in chosen.evaluations],
        format_func=chosen.labels.get,
        key="papers-measured",
    )
    title = right.selectbox("Published", papers, key="papers-published")
    evaluation_ = next(one for one in chosen.evaluations if one.model == model)
    rows = published.beside(evaluation_, published_models()[title].values())
    st.table(
        [
            {
                "Figure": Figure(row.published.metric, row.published.of_class).title,
                "Published": f"*{printed_text(row.published.value)}*"
                + (f":small[, n = {row.published.n:,}]" if row.published.n else ""),
                "Measured": cell(row.measured) + f":small[, n = {row.measured.n:,}]",
                "Difference": plots_compare.signed_figure(row.difference),
                "Published lies": PLACES[row.inside],
            }
            for row in rows
        ],
        border="horizontal",
        hide_index=True,
        alt="Published figures beside those measured.",
    )
    name = next(iter(published_models()[title].values())).source
    source = published.SOURCES[name]
    own = (published.MEANINGS.get((name, row.published.metric), "") for row in rows)
    sentences = dict.fromkeys((*(row.caveat for row in rows), source.meaning, *own))
    st.markdown("\n".join(f"- {sentence}" for sentence in sentences if sentence))
    link = f" [{source.link}]({source.link})" if source.link else ""
    st.caption(f"{source.title}.{link}")
