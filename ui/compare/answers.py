"""What models say of one photo, and their maps of it side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import streamlit as st

from dermsa import images, plots
from dermsa.inference import store
from dermsa.inference.diagnosis import Diagnosis
from dermsa.inference.explanation import evidence_at_image_size
from dermsa.patient import Patient
from dermsa.taxonomy import NAMES
from ui.models import one_at_a_time, opened

MAPS_ACROSS = 4


def answers_of(models: Sequence[str], photo: bytes, patient: Patient) -> dict[str, Diagnosis]:
    """The diagnosis of each model that can be opened; says what is wrong with the others.

    Kept in the session for the last photo, never shared: it may be a patient's.
    """
    digest = hashlib.sha256(photo).hexdigest()
    kept = st.session_state.setdefault("answers", {})
    if kept.get("photo") != (digest, patient):
        kept.clear()
        kept["photo"] = (digest, patient)
    diagnoses = {}
    for name in models:
        try:
            sha256 = store.card_sha256(name)
            predictor = opened(name)
            if (name, sha256) not in kept:
                with one_at_a_time:
                    if "rgb" not in kept:
                        kept["rgb"] = images.load(photo)
                    kept[name, sha256] = predictor.diagnose([kept["rgb"]], patient)
            diagnoses[name] = kept[name, sha256]
        except store.ModelError as error:
            st.error(str(error), icon=":material/block:")
    return diagnoses


@st.fragment
def show_maps(
    diagnoses: dict[str, Diagnosis], labels: dict[str, str], key: str, truth: str | None = None
) -> None:
    """Attention and evidence of every model beside each other, under the same controls."""
    classes = list(dict.fromkeys(code for one in diagnoses.values() for code in one.classes))
    likely = truth or max(diagnoses.values(), key=lambda one: one.probabilities.max()).best
    left, right = st.columns(2, gap="medium")
    opacity = left.slider(
        "Opacity of the overlays", 0, 100, 50, format="%d %%", key=f"opacity-{key}"
    )
    code = right.selectbox(
        "Evidence for",
        classes,
        index=classes.index(likely),
        format_func=lambda code: NAMES.get(code, code),
        key=f"evidence-{key}-{likely}",
    )
    grids = [
        one.photos[0].evidence_grid[one.classes.index(code)]
        for one in diagnoses.values()
        if one.photos[0].evidence_grid is not None and code in one.classes
    ]
    limit = plots.evidence_limit(grids)
    rgb = next(iter(diagnoses.values())).photos[0].rgb
    cells = [("", None), *diagnoses.items()]
    across = min(len(cells), MAPS_ACROSS)
    for start in range(0, len(cells), across):
        columns = st.columns(across, gap="small")
        for column, (name, diagnosis) in zip(columns, cells[start : start + across], strict=False):
            with column:
                if diagnosis is None:
                    st.markdown("**As photographed**")
                    st.image(rgb, width="stretch", alt="The lesion as photographed.")
                    st.caption(f"Above: attention. Below: evidence for {NAMES.get(code, code)}.")
                else:
                    show_map(labels[name], diagnosis, code, opacity / 100, limit)
    legend, evidence = st.columns(2, gap="medium")
    config = {"staticPlot": True}
    with legend:
        st.plotly_chart(
            plots.attention_legend(plots.COLOUR_SCALES[0]),
            config=config,
            key=f"attention-legend-{key}",
            alt="Attention, from little to much.",
        )
    with evidence:
        st.plotly_chart(
            plots.evidence_legend(limit),
            config=config,
            key=f"evidence-legend-{key}",
            alt="Purple is against, orange is for.",
        )


def show_map(label: str, diagnosis: Diagnosis, code: str, opacity: float, limit: float) -> None:
    photo = diagnosis.photos[0]
    st.markdown(f"**{label}**")
    if photo.attention_map is None:
        st.caption("This model has no attention.")
    else:
        overlay = plots.attention_overlay(photo.rgb, photo.attention_map, opacity, crop=photo.crop)
        st.image(overlay, width="stretch", alt=f"The lesion under the attention of {label}.")
    if photo.evidence_grid is None or code not in diagnosis.classes:
        st.caption("This model has no evidence map of this diagnosis.")
        return
    k = diagnosis.classes.index(code)
    evidence = evidence_at_image_size(photo.evidence_grid[[k]], photo.crop, photo.rgb.shape[:2])
    overlay = plots.evidence_overlay(photo.rgb, evidence[0], opacity, limit)
    alt = f"The lesion with the evidence of {label} for and against {NAMES.get(code, code)}."
    st.image(overlay, width="stretch", alt=alt)
    if diagnosis.explained_by:
        st.caption(f"Maps of its member {diagnosis.explained_by}.")
