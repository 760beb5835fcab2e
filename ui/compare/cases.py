"""The cases where models disagree or are wrong, as a gallery that opens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from dermsa import images, plots_compare
from dermsa.comparison import CASES, Chosen, describe_answers, filtered, said
from dermsa.datasets.dataset import DatasetError, data_root
from dermsa.evaluation import compare
from dermsa.patient import Patient
from dermsa.taxonomy import NAMES, UNKNOWN
from ui.compare.answers import answers_of, show_maps
from ui.figures import show_figure

PER_PAGE = 12
THUMBNAIL_SIDE = 320


@st.cache_data(max_entries=8, show_spinner=False)
def cases_of(key: str, _chosen: Chosen) -> pd.DataFrame:
    return compare.disagreements(_chosen.evaluations)


@st.fragment
def show_cases(chosen: Chosen, papers: Sequence[str]) -> None:
    left, right = st.columns([1.4, 1], gap="medium")
    which = left.segmented_control(
        "Cases",
        list(CASES),
        format_func=CASES.get,
        default="disagree" if len(chosen.evaluations) > 1 else "wrong",
        required=True,
        key="cases",
    )
    truth = right.selectbox(
        "Truth",
        [None, *chosen.classes],
        format_func=lambda code: NAMES.get(code, code) if code else "Any",
        key="cases-truth",
    )
    table = filtered(cases_of(chosen.key, chosen), which, truth, len(chosen.evaluations))
    if table.empty:
        st.info("There is no such case.", icon=":material/task_alt:")
        return
    photos, why = photos_of(chosen.evaluations[0].dataset, str(data_root()))
    if why:
        st.info(
            f"The photos cannot be shown: {why} What was said of them is below.",
            icon=":material/hide_image:",
        )
    pages = math.ceil(len(table) / PER_PAGE)
    st.markdown(f"**{len(table):,} cases**, the most confident mistakes first")
    page = st.pagination(pages, key=f"page-{which}-{truth}") if pages > 1 else 1
    shown = table.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
    columns = st.columns(4, gap="small")
    for place, (_, case) in enumerate(shown.iterrows()):
        with columns[place % 4], st.container(border=True):
            show_card(chosen, case, photos)


@st.cache_resource(max_entries=2, show_spinner="Looking for the photos")
def photos_of(dataset: str, root: str) -> tuple[dict[str, str], str]:
    """Paths of the photos by image id, or why there are none."""
    from dermsa.datasets import registry

    try:
        table = registry.read(dataset).table
    except (DatasetError, ValueError) as error:
        return {}, str(error)
    return dict(zip(table["image_id"], table["path"], strict=True)), ""


@st.cache_data(max_entries=256, show_spinner=False)
def thumbnail(path: str) -> np.ndarray:
    return images.load(path, THUMBNAIL_SIDE)


def show_card(chosen: Chosen, case: pd.Series, photos: dict[str, str]) -> None:
    """One case of the gallery: photo, truth, and what each model said."""
    image_id = case["image_id"]
    if image_id in photos:
        alt = f"{image_id}, {NAMES.get(case['truth'], case['truth'])}."
        st.image(thumbnail(photos[image_id]), width="stretch", alt=alt)
    lines = [f"**{NAMES.get(case['truth'], case['truth'])}**"]
    lines += [
        f":small[{chosen.labels[one.model]}: {said(case, one.model)}]" for one in chosen.evaluations
    ]
    st.markdown("  \n".join(lines))
    if st.button(
        f"Open {image_id}",
        icon=":material/open_in_full:",
        key=f"open-{image_id}",
        width="stretch",
    ):
        title = f"{image_id}: {NAMES.get(case['truth'], case['truth'])}"
        st.dialog(title, width="large")(show_case)(chosen, case, photos)


def show_case(chosen: Chosen, case: pd.Series, photos: dict[str, str]) -> None:
    """One case in full: patient, maps where the photo is there, and what each model said."""
    age = None if math.isnan(case["age"]) else float(case["age"])
    patient = Patient(age, case["sex"] or UNKNOWN, case["localization"] or UNKNOWN)
    st.caption(
        f"Lesion {case['lesion_id']}, age {UNKNOWN if age is None else f'{age:g}'}, sex "
        f"{patient.sex}, site {patient.localization}, confirmed by {case['dx_type'] or UNKNOWN}"
    )
    if case["image_id"] in photos:
        models = [one.model for one in chosen.evaluations if one.kind == "model"]
        content = Path(photos[case["image_id"]]).read_bytes()
        if diagnoses := answers_of(models, content, patient):
            show_maps(diagnoses, chosen.labels, "case", case["truth"])
        runs = [chosen.labels[one.model] for one in chosen.evaluations if one.kind == "run"]
        if runs:
            st.caption(f"Runs have no served form to draw maps with: {', '.join(runs)}.")
    answers = chosen.by_label(lambda one: one.predictions.probabilities[case["row"]])
    show_figure(
        plots_compare.answer_bars(chosen.classes, answers),
        describe_answers(chosen.classes, answers),
        "case",
    )
