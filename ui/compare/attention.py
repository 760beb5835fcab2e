"""How good the maps are."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import Chosen, cell
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
            "`python -m dermsa evaluate --model NAME --save` measures them where the masks are.",
            icon=":material/center_focus_strong:",
        )
        return
    left, right = st.columns([2, 1], gap="medium")
    measure = left.segmented_control(
        "Measure",
        list(attention_quality.MEASURES),
        format_func=attention_quality.MEASURES.get,
        default=next(iter(attention_quality.MEASURES)),
        required=True,
        key="map-measure",
    )
    of_class = right.selectbox(
        "Lesions",
        [None, *chosen.classes],
        format_func=lambda code: NAMES.get(code, code) if code else "All",
        key="map-class",
    )
    figures = chosen.by_label(
        lambda one: {
            title: found.measures[measure]
            for kind, title in attention_quality.KINDS.items()
            if one.attention
            and (found := one.attention.of(kind, of_class))
            and measure in found.measures
        }
    )
    title = attention_quality.MEASURES[measure]
    show_figure(
        plots_compare.interval_rows(figures, title),
        plots_compare.describe(title, figures),
        "attention",
    )
    area = measured[0].attention.lesion_area
    st.caption(
        f"Measured on {measured[0].attention.images:,} photos with a lesion mask, deletion and "
        f"insertion on {measured[0].attention.curve_images:,}. The lesions cover "
        f"{percent(area.value)} of the photos, which is what an even map would score in the first "
        "measure; “centre of the photo” is a blob in the middle, which explains nothing."
    )
    show_removal(chosen)
    show_agreement(chosen, measured)


def show_removal(chosen: Chosen) -> None:
    kind = st.segmented_control(
        "Blur or restore pixels in the order of",
        list(attention_quality.KINDS),
        format_func=attention_quality.KINDS.get,
        default="soft_attention",
        required=True,
        key="map-kind",
    )
    found = chosen.by_label(
        lambda one: (
            next((curve for curve in one.attention.curves if curve.kind == kind), None)
            if one.attention
            else None
        )
    )
    if not any(found.values()):
        st.info("This kind of map was not measured.")
        return
    show_figure(
        plots_compare.removal_curves(found),
        f"Mean probability of the diagnosis by {attention_quality.KINDS[kind]}. "
        + " ".join(
            f"{name}: deletion to {curve.deletion[-1]:.2f}, insertion to {curve.insertion[-1]:.2f}."
            for name, curve in found.items()
            if curve
        ),
        "removal",
    )


def show_agreement(chosen: Chosen, measured: Sequence[Evaluation]) -> None:
    kinds = attention_quality.KINDS
    by_pair = {
        (one.first, one.second): one
        for one in measured[0].attention.agreements
        if one.of_class is None
    }
    table = {"Agreement of the maps": [f"{kinds[a]} and {kinds[b]}" for a, b in by_pair]}
    for one in measured:
        own = {(a.first, a.second): a for a in one.attention.agreements if a.of_class is None}
        table[chosen.labels[one.model]] = [
            cell(own[pair].correlation) if pair in own else "" for pair in by_pair
        ]
    if by_pair:
        st.table(table, border="horizontal", hide_index=True)
        st.caption("Rank correlation over the positions of a photo, 1 where two maps agree.")
