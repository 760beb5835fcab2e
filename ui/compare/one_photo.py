"""One photo through all chosen models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dermsa import comparison_report, images, plots_compare
from dermsa.comparison import answer_row, describe_answers
from ui.compare.answers import answers_of, show_maps
from ui.figures import show_figure
from ui.inputs import ask_for_patient, ask_for_photos
from ui.quality import show_findings


def show_one_photo(served: Sequence[str]) -> None:
    if not served:
        st.info(
            "Choose models above; runs have to be exported before they can answer.",
            icon=":material/deployed_code:",
        )
        return
    show_photo(served)


@st.fragment
def show_photo(served: Sequence[str]) -> None:
    left, right = st.columns([1, 1.3], gap="medium")
    with left:
        photos = ask_for_photos("Photo of a lesion", "photo-{}".format, ("upload", "sample"))
    with right:
        patient = ask_for_patient("photo-{}".format)
    if not photos:
        st.info("Add a photo to send it through all models.", icon=":material/add_a_photo:")
    if not photos or patient is None:
        return
    try:
        diagnoses = answers_of(served, photos[0].data, patient)
    except images.ImageRefused as error:
        st.error(f"{photos[0].name}: {error}", icon=":material/block:")
        return
    if not diagnoses:
        return
    show_findings(next(iter(diagnoses.values())).photos[0].quality)
    labels = comparison_report.labels(list(served))
    by_classes: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for name, diagnosis in diagnoses.items():
        by_classes.setdefault(diagnosis.classes, {})[labels[name]] = diagnosis.probabilities
    for place, (classes, answers) in enumerate(by_classes.items()):
        figure = plots_compare.answer_bars(classes, answers)
        show_figure(figure, describe_answers(classes, answers), f"photo-{place}")
    st.table(
        [answer_row(labels[name], diagnosis) for name, diagnosis in diagnoses.items()],
        border="horizontal",
        hide_index=True,
        alt="What each model answers, and how long it took.",
    )
    st.caption("Time of this one answer, maps and all; “Cost” has times measured in turns.")
    show_maps(diagnoses, labels, "photo")
