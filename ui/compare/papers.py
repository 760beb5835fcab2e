"""Published figures beside those of a model."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa.comparison import Chosen, on_these_data, paper_rows, published_models
from dermsa.evaluation import published


def show_papers(chosen: Chosen, papers: Sequence[str]) -> None:
    shown = on_these_data(chosen, papers)
    if not shown:
        st.info(
            f"Choose published models above that were measured on {chosen.evaluations[0].dataset}.",
            icon=":material/menu_book:",
        )
        return
    left, right = st.columns(2, gap="medium")
    model = left.selectbox(
        "Measured",
        [one.model for one in chosen.evaluations],
        format_func=chosen.labels.get,
        key="papers-measured",
    )
    title = right.selectbox("Published", shown, key="papers-published")
    evaluation_ = next(one for one in chosen.evaluations if one.model == model)
    rows = published.beside(evaluation_, published_models()[title].values())
    st.table(
        paper_rows(rows),
        border="horizontal",
        hide_index=True,
        alt="Published figures beside those measured.",
    )
    first = next(iter(published_models()[title].values()))
    source = published.SOURCES[first.source]
    own = (published.MEANINGS.get((first.source, row.published.metric), "") for row in rows)
    sentences = dict.fromkeys((*(row.caveat for row in rows), first.conditions, *own))
    st.markdown("\n".join(f"- {sentence}" for sentence in sentences if sentence))
    link = f" [{source.link}]({source.link})" if source.link else ""
    st.caption(f"{source.title}.{link}")
