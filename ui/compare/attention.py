"""How good the maps are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from dermsa.evaluation.statistics import Interval
from dermsa.plots import percent
from dermsa.plots_compare import n_text
from dermsa.taxonomy import NAMES, in_sentence
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
    say_what_was_measured(chosen, measured, figures, of_class)
    show_agreement(chosen, measured, of_class)
    show_removal(chosen)


def say_what_was_measured(
    chosen: Chosen,
    measured: Sequence[Evaluation],
    figures: Mapping[str, Mapping[str, Interval]],
    of_class: str | None,
) -> None:
    of = measured[0].attention
    rests_on = [interval for by_kind in figures.values() for interval in by_kind.values()]
    n = f"n = {n_text(rests_on)} photos" if rests_on else "No photo"
    shown = [
        f"{chosen.labels[one.model]} shows the maps of its member {one.attention.network}, so "
        "these are its figures. "
        for one in measured
        if one.attention.network != one.model
    ]
    st.caption(
        "".join(shown)
        + f"{n} with a lesion mask{f' that show {in_sentence(of_class)}' if of_class else ''}; "
        f"deletion and insertion on up to {attention_quality.CURVE_IMAGES_PER_CLASS} photos of "
        "each diagnosis. 95 % intervals, bootstrap over lesions. All lesions together cover "
        f"{percent(of.lesion_area.value)} of the photos: an even map would score that in the first "
        "measure over all diagnoses, and more or less of a single one. “Centre of the photo” is a "
        "blob in the middle, which explains nothing."
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
    most = max(one.attention.curve_images for one in chosen.evaluations if one.attention)
    st.caption(
        f"Mean over {most:,} photos, up to {attention_quality.CURVE_IMAGES_PER_CLASS} of each "
        "diagnosis, whichever is chosen above."
    )


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
