"""What is compared: the choice, and the evaluations that it stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dermsa.comparison import published_models, with_code
from dermsa.evaluation import compare, record
from dermsa.evaluation.record import Evaluation, EvaluationError, Source
from dermsa.inference import store
from dermsa.plots_compare import MAX_MODELS

PAPERS_FIRST = ("InceptionResNetV2 (Sensors 2022)", "MobileNetV3Large (Sensors 2022)")


def ask_what_to_compare() -> tuple[list[Source], list[str]]:
    """Models and runs, and titles of published models to show beside them."""
    found = {source.name: source for source in record.sources()}
    measured = [name for name, source in found.items() if not source.problem]
    if "models" not in st.session_state:
        asked = st.query_params.get_all("models")
        shipped = [name for name in store.offered_models() if name in found]
        ready = [name for name in shipped if name in measured]
        known = list(dict.fromkeys(name for name in asked if name in found))
        st.session_state.models = (known or ready or shipped)[:MAX_MODELS]
        if len(known) > MAX_MODELS:
            st.warning(
                f"The link names {len(known)} models; the first {MAX_MODELS} of them are shown.",
                icon=":material/link_off:",
            )
        if strange := [name for name in asked if name not in found]:
            st.warning(
                f"The link also names {', '.join(strange)}, which are not on this machine.",
                icon=":material/link_off:",
            )
    # A run may have been deleted since it was chosen.
    st.session_state.models = [name for name in st.session_state.models if name in found]
    left, right = st.columns([1.6, 1], gap="medium")
    names = left.multiselect(
        "Models and runs",
        [*measured, *(name for name in found if name not in measured)],
        format_func=lambda name: name if name in measured else f"{name} (not measured)",
        max_selections=MAX_MODELS,
        placeholder="Choose two to six",
        key="models",
        persist_state="session",
        help="The address of this page carries the selection: send it to a colleague who has the "
        "same models.",
    )
    # Not bound to the address, which would leave out what is chosen at first: another machine
    # has other models, and would choose others at first.
    st.query_params["models"] = names
    papers = right.multiselect(
        "Published beside them",
        list(published_models()),
        default=PAPERS_FIRST,
        placeholder="None",
        key="papers",
        bind="query-params",
        help="Figures as printed in the papers, where they state them.",
    )
    return [found[name] for name in names], papers


def read_evaluations(sources: Sequence[Source]) -> tuple[tuple[Evaluation, ...], str]:
    """The evaluations that can be read, and a key that changes when any of their files does;
    says what is wrong with the others."""
    evaluations, stamps = [], []
    for source in sources:
        if source.problem:
            st.info(with_code(source.problem), icon=":material/straighten:")
            continue
        digest = stamp(source.folder)
        try:
            evaluations.append(evaluation(str(source.folder), digest))
            stamps.append(digest)
        except EvaluationError as error:
            st.error(with_code(str(error)), icon=":material/block:")
    return tuple(evaluations), "-".join(stamps)


def stamp(folder: Path) -> str:
    """Changes when any of the files of an evaluation does, the model's card or a run's weights."""
    names = (record.EVALUATION, record.PREDICTIONS, record.SAMPLES, store.CARD)
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    weights = folder / record.RUN_WEIGHTS
    if weights.is_file():  # too large to be read on every run of the page
        about = weights.stat()
        digest.update(f"{about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


@st.cache_resource(max_entries=24, show_spinner="Reading evaluations")
def evaluation(folder: str, stamp: str) -> Evaluation:
    return record.load(Path(folder))


def comparable(evaluations: Sequence[Evaluation]) -> bool:
    """Whether all were measured on the same cases; says why where they were not."""
    if len(evaluations) == 1:
        st.info("Choose a second model or run to compare with this one.", icon=":material/compare:")
        return True
    try:
        compare.check_comparable(evaluations)
    except compare.NotComparable as error:
        st.error(str(error), icon=":material/block:")
        return False
    return True
