"""How good the maps are."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import (
    Chosen,
    agreement_rows,
    describe_removal,
    map_figures,
    removal,
)
from dermsa.evaluation import attention_quality
from dermsa.evaluation.record import Evaluation
from dermsa.plots import percent
from dermsa.taxonomy import NAMES
from ui.figures import show_figure


def show_attention(chosen: Chosen, papers: Sequence[str]) -> None:
    measured = [one for one in chosen.evaluations if one.attention]
    if not measured:
        st.info(
            "The maps of these models were not measured; that needs the lesion masks of HAM10000. "
            "`python -m dermsa evaluate --all --save` measures them where the masks are.",
            icon=":material/center_focus_strong:",
        )
        return
    measure = st.segmented_control(
        "Measure",
        list(attention_quality.MEASURES),
        format_func=attention_quality.MEASURES.get,
        default=next(iter(attention_quality.MEASURES)),
        required=True,
        key="map-measure",
    )
    of_class = st.selectbox(
        "Of lesions that are",
        [None, *chosen.classes],
        format_func=lambda code: NAMES.get(code, code) if code else "Any diagnosis",
        key="map-class",
        width=360,
    )
    figures = map_figures(chosen, measure, of_class)
    title = attention_quality.MEASURES[measure]
    show_figure(
        plots_compare.interval_rows(figures, title),
        plots_compare.describe(title, figures),
        "attention",
    )
    say_what_was_measured(chosen, measured)
    show_agreement(chosen, measured, of_class)
    show_removal(chosen)


def say_what_was_measured(chosen: Chosen, measured: Sequence[Evaluation]) -> None:
    of = measured[0].attention
    shown = [
        f"{chosen.labels[one.model]} shows the maps of its member {one.attention.network}, so "
        "these are its figures. "
        for one in measured
        if one.attention.network != one.model
    ]
    st.caption(
        "".join(shown)
        + f"Measured on {of.images:,} photos with a lesion mask, deletion and insertion on "
        f"{of.curve_images:,}; 95 % intervals, bootstrap over lesions. The lesions cover "
        f"{percent(of.lesion_area.value)} of the photos, which is what an even map would score in "
        "the first measure; “centre of the photo” is a blob in the middle, which explains nothing."
    )


def show_removal(chosen: Chosen) -> None:
    kind = st.segmented_control(
        "Blur or restore pixels in the order of",
        list(attention_quality.KINDS),
        format_func=attention_quality.KINDS.get,
        default="soft_attention",
        required=True,
        key="map-kind",
    )
    found = removal(chosen, kind)
    if not any(found.values()):
        st.info("This kind of map was not measured.")
        return
    show_figure(plots_compare.removal_curves(found), describe_removal(kind, found), "removal")


def show_agreement(chosen: Chosen, measured: Sequence[Evaluation], of_class: str | None) -> None:
    rows = agreement_rows(chosen, of_class)
    if not rows:
        return
    st.table(rows, border="horizontal", hide_index=True)
    n = next(
        of.correlation.n
        for one in measured
        for of in one.attention.agreements
        if of.of_class == of_class
    )
    st.caption(
        f"Rank correlation over the positions of a photo, 1 where two maps agree; n = {n:,}."
    )
