"""Diagnose one lesion: photos and patient in, an explained answer out. Nothing is stored."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dermsa import images, plots
from dermsa.evaluation import elsewhere, record
from dermsa.evaluation.attention_quality import AttentionQuality
from dermsa.evaluation.calibration import NEVER_RULED_OUT
from dermsa.evaluation.metrics import METRICS
from dermsa.evaluation.statistics import Interval
from dermsa.inference import store
from dermsa.inference.diagnosis import Diagnosis, MeasuredRate, PhotoExplanation
from dermsa.inference.ensemble import AnyPredictor
from dermsa.inference.explanation import evidence_at_image_size
from dermsa.patient import Patient
from dermsa.plots import percent
from dermsa.taxonomy import MALIGNANT, NAMES, UNKNOWN, in_sentence
from ui.frame import run_page
from ui.inputs import Photo, ask_for_patient, ask_for_photos
from ui.models import one_at_a_time, opened
from ui.quality import show_findings

TEST_FIGURES = ("macro_recall", "macro_roc_auc", "malignancy_roc_auc", "accuracy")
CLASS_FIGURES = ("recall", "specificity", "roc_auc")


class Overlay(NamedTuple):
    """A map laid over the photo, with its legend and the name it is saved under."""

    kind: str | None  # a key of `attention_quality.KINDS`; None where nothing like it was measured
    title: str
    file_name: str
    picture: np.ndarray
    alt: str
    legend: go.Figure
    legend_alt: str


class Question(NamedTuple):
    """What is to be explained: a diagnosis, compared with another or, if None, with all."""

    code: str
    rival: str | None

    @property
    def short(self) -> str:
        return f"{self.code} against {self.rival}" if self.rival else self.code

    @property
    def title(self) -> str:
        name = NAMES[self.code]
        return f"{name} against {in_sentence(self.rival)}" if self.rival else name

    @property
    def rival_name(self) -> str:
        return in_sentence(self.rival) if self.rival else "the (geometric) mean of all diagnoses"

    def terms(self, diagnosis: Diagnosis, of_classes: np.ndarray) -> np.ndarray:
        """What speaks for the diagnosis, of terms `(classes, ...)` of the centred logits."""
        terms = of_classes[diagnosis.classes.index(self.code)]
        return terms - of_classes[diagnosis.classes.index(self.rival)] if self.rival else terms


class Answer(NamedTuple):
    """A diagnosis (None if no photo could be used), its photos' names, and what was refused."""

    diagnosis: Diagnosis | None
    names: list[str]
    refused: list[str]


def main() -> None:
    left, right = st.columns([1, 1.3], gap="medium")
    with left:
        photos = ask_for_photos("Photos of one lesion", key, several=True)
    with right:
        patient = ask_for_patient(key)
        predictor = ask_for_model()
    if patient is None or predictor is None:
        return
    if not photos:
        forget_answer()
        st.info(
            "Add one or more photos of the lesion to get an answer.", icon=":material/add_a_photo:"
        )
        return
    answer = answer_for(photos, patient, predictor)
    for sentence in answer.refused:
        st.error(sentence, icon=":material/block:")
    if answer.diagnosis:
        show(answer.diagnosis, answer.names, predictor.model.card)


# --- what is asked ------------------------------------------------------------------------------


def key(name: str) -> str:
    """The key of an input; starting over counts the case up, and so empties every input."""
    return f"{name}-{case()}"


def case() -> int:
    return st.session_state.setdefault("case", 0)


def start_over() -> None:
    # Streamlit keeps the files of an upload field that is gone until the browser disconnects.
    context = get_script_run_ctx()
    context.uploaded_file_mgr.remove_session_files(context.session_id)
    forget_answer()
    st.session_state.pop("answers", None)  # those of the Compare page, whose photo is gone as well
    for name in [name for name in st.session_state if str(name).endswith(f"-{case()}")]:
        del st.session_state[name]
    st.session_state.case = case() + 1


def forget_answer() -> None:
    """It holds the photos and the patient."""
    st.session_state.pop("question", None)
    st.session_state.pop("answer", None)


def ask_for_model() -> AnyPredictor | None:
    """The model, opened, or None after showing what is wrong."""
    names, again = st.columns([2.4, 1], gap="small", vertical_alignment="bottom")
    roles = {name: role for role, name in store.models_by_role().items()}
    name = names.selectbox(
        "Model",
        store.offered_models(),
        format_func=lambda name: f"{name} ({roles[name]})" if name in roles else name,
        key=key("model"),
    )
    again.button(
        "Start over",
        icon=":material/restart_alt:",
        on_click=start_over,
        width="stretch",
        help="Forgets the photos, the patient and the answer.",
    )
    try:
        return opened(name or store.default_model())
    except store.ModelError as error:
        st.error(str(error), icon=":material/block:")
        return None


# --- the answer ---------------------------------------------------------------------------------


def answer_for(photos: list[Photo], patient: Patient, predictor: AnyPredictor) -> Answer:
    """The answer, computed again only when something it depends on has changed."""
    digests = [(photo.name, hashlib.sha256(photo.data).hexdigest()) for photo in photos]
    question = (digests, patient, predictor.model.name, predictor.model.card_sha256)
    if st.session_state.get("question") != question:
        with st.spinner("Looking at the photos"), one_at_a_time:
            st.session_state.answer = diagnose(photos, patient, predictor)
        st.session_state.question = question
    return st.session_state.answer


def diagnose(photos: list[Photo], patient: Patient, predictor: AnyPredictor) -> Answer:
    """Diagnoses from the photos that can be used, and says why each of the others cannot."""
    started = time.perf_counter()
    names, pictures, refused = [], [], []
    for photo in photos:
        try:
            pictures.append(images.load(photo.data))
            names.append(photo.name)
        except images.ImageRefused as error:
            refused.append(f"{photo.name}: {error}")
    if not pictures:
        return Answer(None, names, refused)
    diagnosis = predictor.diagnose(pictures, patient)
    return Answer(replace(diagnosis, seconds=time.perf_counter() - started), names, refused)


# --- what is shown ------------------------------------------------------------------------------


def show(diagnosis: Diagnosis, names: list[str], card: dict) -> None:
    show_doubts(diagnosis, names)
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        show_probabilities(diagnosis)
    with right:
        show_triage(diagnosis)
    show_explanation(diagnosis, names)
    show_if_unknown(diagnosis)
    show_model(diagnosis, card)


def show_doubts(diagnosis: Diagnosis, names: list[str]) -> None:
    """Why the answer may not be worth much, before the answer."""
    for name, photo in zip(names, diagnosis.photos, strict=True):
        prefix = f"{name}: " if len(names) > 1 else ""
        show_findings(photo.quality, prefix)
        if photo.novelty and photo.novelty.unfamiliar:
            st.error(
                f"{prefix}This photo is unlike those the model was trained on; do not rely on the "
                f"probabilities. Its distance is {photo.novelty.score:.2f}; "
                f"{percent(photo.novelty.false_alarm_rate)} of validation photos exceed "
                f"{photo.novelty.threshold:.2f}.",
                icon=":material/error:",
            )


def show_probabilities(diagnosis: Diagnosis) -> None:
    st.subheader("Diagnosis", anchor=False)
    st.plotly_chart(
        plots.probability_bars(diagnosis.classes, diagnosis.probabilities),
        config={"displayModeBar": False},
        alt=plots.describe_probabilities(diagnosis.classes, diagnosis.probabilities),
    )
    if diagnosis.named != diagnosis.best:
        st.markdown(
            f"**{NAMES[diagnosis.named]} is what the model names**, though "
            f"{in_sentence(diagnosis.best)} is more probable: it was trained to give some "
            "diagnoses more weight, so as to miss fewer of them. Its test figures are of diagnoses "
            "so named."
        )
    if diagnosis.reliable:
        possible = ", ".join(NAMES[code] for code in diagnosis.prediction_set)
        how = (
            f"Chosen so that it holds the right diagnosis of {percent(diagnosis.coverage)} of the "
            "lesions of each diagnosis, on validation; beside these, what the model names and "
            f"whatever has at least {percent(NEVER_RULED_OUT)}."
        )
    else:
        possible, how = f"any diagnosis, since {not_to_be_judged(diagnosis)}", None
    st.markdown(f"**Cannot be ruled out**: {possible}.", help=how)
    with st.expander("In numbers"):
        order = ranked(diagnosis)
        st.table(
            {
                "Diagnosis": [NAMES[diagnosis.classes[k]] for k in order],
                "": [kind(diagnosis.classes[k]) for k in order],
                "Probability": [percent(diagnosis.probabilities[k]) for k in order],
            },
            border="horizontal",
            hide_index=True,
        )


def not_to_be_judged(diagnosis: Diagnosis) -> str:
    """Of an answer that is not reliable."""
    if len(diagnosis.photos) == 1:
        return "the photo cannot be judged, for what is said above"
    return "not every photo can be judged, for what is said above"


def show_triage(diagnosis: Diagnosis) -> None:
    triage = diagnosis.triage
    st.subheader("Malignancy", anchor=False)
    if triage is None:
        st.info(
            "This model tells benign diagnoses apart only: it cannot say whether to refer.",
            icon=":material/info:",
        )
        return
    st.metric("Probability that the lesion is malignant", percent(diagnosis.malignancy))
    st.plotly_chart(
        plots.malignancy_bar(diagnosis.malignancy, triage.threshold),
        config={"displayModeBar": False},
        alt=f"Probability of malignancy {percent(diagnosis.malignancy)}, threshold "
        f"{percent(triage.threshold)}.",
    )
    if diagnosis.verdict == "refer":
        st.warning(
            f"**Refer.** The probability is not below the threshold of "
            f"{percent(triage.threshold)}.",
            icon=":material/priority_high:",
        )
    elif diagnosis.verdict == "no verdict":
        st.warning(
            f"**No verdict.** The probability is below {percent(triage.threshold)}, which excludes "
            f"nothing: {not_to_be_judged(diagnosis)}.",
            icon=":material/error:",
        )
    else:
        st.info(
            f"**No referral by this threshold.** The probability is below "
            f"{percent(triage.threshold)}.",
            icon=":material/check:",
        )
    st.markdown(
        f":small[The threshold was chosen for {percent(triage.target_sensitivity)} sensitivity on "
        f"validation lesions. On test lesions it had a sensitivity of {rate(triage.sensitivity)} "
        f"and a specificity of {rate(triage.specificity)}.]"
    )
    measured = elsewhere.read(diagnosis.model)
    point = measured and measured.at(triage.target_sensitivity)
    if point:
        st.markdown(
            f":small[**On {measured.whose}**, it had a sensitivity of "
            f"{rate(point.sensitivity)} and a specificity of {rate(point.specificity)}. Those of "
            f"your own camera may be {'more' if measured.trained else 'as'} foreign to it.]"
        )


def rate(measured: MeasuredRate | Interval) -> str:
    if measured.value is None or not np.isfinite(measured.value):
        return "that was not measured"
    ends = ""
    if measured.low is not None and np.isfinite(measured.low):
        ends = f"95 % interval {percent(measured.low)} to {percent(measured.high)}, "
    lesions = measured.n_lesions
    whose = f" of {lesions:,} lesions" if lesions and lesions != measured.n else ""
    return f"{percent(measured.value)} ({ends}{measured.n:,} photos{whose})"


@st.fragment
def show_explanation(diagnosis: Diagnosis, names: list[str]) -> None:
    """The pictures and the sums; a fragment, so that its controls compute nothing anew."""
    number = ask_which_photo(names)
    if diagnosis.explained_by:
        st.caption(
            f"Maps and sums are those of {diagnosis.explained_by}, a member of this ensemble: "
            "each member looks at the photo on a grid of its own."
        )
    photo = diagnosis.photos[number]
    opacity, scale, question = ask_how_to_explain(diagnosis)
    quality = map_quality(diagnosis)
    overlays = []
    if photo.attention_grid is not None:
        overlays.append(attention_overlay(photo, opacity, scale))
    if question:
        overlays.append(evidence_overlay(diagnosis, photo, opacity, question))

    columns = st.columns(3, gap="small")
    with columns[0]:
        st.image(photo.rgb, width="stretch", alt="The lesion as photographed.")
        st.caption(f"As photographed: {names[number]}{left_out(photo)}")
    for column, overlay in zip(columns[1:], overlays, strict=False):
        with column:
            st.image(overlay.picture, width="stretch", alt=overlay.alt)
            st.plotly_chart(overlay.legend, config={"staticPlot": True}, alt=overlay.legend_alt)
            if overlay.kind and (measured := how_good(quality, overlay.kind)):
                st.caption(measured)
    if not diagnosis.decomposes:
        st.info(
            "There is no evidence map: layers that are not linear lie between this model's "
            "feature map and its answer, so that nothing adds up to it exactly.",
            icon=":material/info:",
        )
    show_downloads(diagnosis, overlays)
    show_sums(diagnosis, question)


def left_out(photo: PhotoExplanation) -> str:
    """How much of the photo the model did not see, where that is more than a rim."""
    seen = photo.crop[2] * photo.crop[3] / (photo.rgb.shape[0] * photo.rgb.shape[1])
    return "" if seen > 0.98 else f". The model saw its middle {percent(seen)}, nothing else."


def map_quality(diagnosis: Diagnosis) -> AttentionQuality | None:
    """What was measured of the maps that are shown; None where nothing was."""
    try:
        quality = record.map_quality(store.weights_folder() / diagnosis.model)
    except record.EvaluationError:
        return None
    shown = diagnosis.explained_by or diagnosis.model
    return quality if quality and quality.network == shown else None


def how_good(quality: AttentionQuality | None, kind: str) -> str:
    """How far a kind of map may be trusted, in a sentence; "" where that was not measured."""
    maps = quality and quality.of(kind)
    if not maps or not np.isfinite(maps.measures["pointing"].low):
        return ""
    pointing = maps.measures["pointing"]
    return (
        f"On test photos its highest point lay on the lesion in {percent(pointing.value)} "
        f"(95 % interval {percent(pointing.low)} to {percent(pointing.high)}, n = {pointing.n:,})."
    )


def attention_overlay(photo: PhotoExplanation, opacity: float, scale: str) -> Overlay:
    return Overlay(
        "soft_attention",
        "Attention (PNG)",
        "dermsa-attention.png",
        plots.attention_overlay(photo.rgb, photo.attention_map, opacity, scale, photo.crop),
        "The lesion under its attention map.",
        plots.attention_legend(scale),
        f"{scale} colours, from little to much.",
    )


def evidence_overlay(
    diagnosis: Diagnosis, photo: PhotoExplanation, opacity: float, question: Question
) -> Overlay:
    of_photos = [question.terms(diagnosis, each.evidence_grid) for each in diagnosis.photos]
    # One scale for the photos of a lesion. Each question has its own: what speaks against other
    # diagnoses is often many times as strong, and would leave this one without colour.
    limit = plots.evidence_limit(of_photos)
    # Of one question only; `photo.evidence_map` would draw all diagnoses.
    grid = question.terms(diagnosis, photo.evidence_grid)
    evidence = evidence_at_image_size(grid[None], photo.crop, photo.rgb.shape[:2])[0]
    return Overlay(
        None if question.rival else "evidence",
        f"Evidence for {question.short} (PNG)",
        f"dermsa-evidence-{question.short.replace(' ', '-')}.png",
        plots.evidence_overlay(photo.rgb, evidence, opacity, limit),
        f"The lesion with the evidence for {question.title} and against it.",
        plots.evidence_legend(limit),
        "Purple is against, orange is for.",
    )


def ask_which_photo(names: list[str]) -> int:
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.subheader("What the model saw", anchor=False, width="content")
        if len(names) == 1:
            return 0
        return st.segmented_control(
            "Photo",
            range(len(names)),
            format_func=lambda k: f"Photo {k + 1}",
            default=0,
            required=True,
            label_visibility="collapsed",
            key=key(f"photo-of-{len(names)}"),
        )


def ask_how_to_explain(diagnosis: Diagnosis) -> tuple[float, str | None, Question | None]:
    """The opacity, the colours, and the question whose evidence is shown, where there is any."""
    scale = question = None
    first, second, third, fourth = st.columns(4, gap="small")
    opacity = first.slider("Opacity of the overlays", 0, 100, 50, 5, "%d %%", key=key("opacity"))
    if diagnosis.photos[0].attention_grid is not None:
        scale = second.selectbox("Attention, in colours", plots.COLOUR_SCALES, key=key("scale"))
    if diagnosis.decomposes:
        codes = [diagnosis.classes[k] for k in ranked(diagnosis)]
        code = third.selectbox(
            "Evidence for",
            codes,
            codes.index(diagnosis.named),  # of its map it is told how well it lies
            format_func=NAMES.get,
            key=key(f"evidence-{diagnosis.named}"),  # starts there again when that changes
        )
        rival = fourth.selectbox(
            "Compared with",
            [None, *(other for other in codes if other != code)],
            format_func=lambda rival: NAMES[rival] if rival else "The mean of all diagnoses",
            key=key(f"rival-of-{code}"),
        )
        question = Question(code, rival)
    return opacity / 100, scale, question


def show_downloads(diagnosis: Diagnosis, overlays: list[Overlay]) -> None:
    files = [("Result (JSON)", "dermsa-result.json", lambda: as_json(diagnosis))]
    files += [(each.title, each.file_name, partial(plots.png, each.picture)) for each in overlays]
    with st.container(horizontal=True):
        for label, file_name, content in files:
            st.download_button(
                label,
                content,
                file_name,
                on_click="ignore",
                icon=":material/download:",
                key=key(f"download-{file_name}"),
            )


def as_json(diagnosis: Diagnosis) -> str:
    return json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False)


def show_sums(diagnosis: Diagnosis, question: Question | None) -> None:
    """The exact sum behind one answer, and each patient property's share in all of them."""
    left, right = st.columns(2, gap="medium")
    if question:
        with left:
            show_sum(diagnosis, question)
    with right if question else left:
        st.subheader("What the patient adds, in logits", anchor=False)
        known = diagnosis.patient.known()
        if not known:
            st.info("Age, sex and site are unknown, so none of them moved the answer.")
            return
        order = ranked(diagnosis)
        classes = [diagnosis.classes[k] for k in order]
        shares = {
            property_label(diagnosis.patient, name): diagnosis.patient_contributions[name][order]
            for name in known
        }
        st.plotly_chart(
            plots.contribution_cells(classes, shares),
            config={"displayModeBar": False},
            alt=plots.describe_contributions(classes, shares),
        )
        st.caption("Against the same patient with nothing known (Shapley values).")


def show_sum(diagnosis: Diagnosis, question: Question) -> None:
    # The same shares as in the table beside it: an unknown patient has none, and what the
    # network says where nothing is known of anybody belongs to the bias.
    known = sum(diagnosis.patient_contributions.values())
    bias, image, patient = (
        float(question.terms(diagnosis, values))
        for values in (
            diagnosis.bias + diagnosis.patient_evidence - known,
            diagnosis.image_evidence,
            known,
        )
    )
    st.subheader(f"The sum for {question.title}", anchor=False)
    st.plotly_chart(
        plots.decomposition_bars(bias, image, patient, question.short),
        config={"displayModeBar": False},
        alt=f"Bias {bias:+.2f}, image {image:+.2f} and patient {patient:+.2f} make the sum "
        f"{bias + image + patient:+.2f}.",
    )
    # Other members of an ensemble may see it otherwise.
    network = f" to {diagnosis.explained_by}" if diagnosis.explained_by else ""
    st.caption(
        "Exact: the network adds these three up. The bias is that of an unknown patient, less what "
        "its training made it lean to; the image's part is the evidence map. Above 0, "
        f"{in_sentence(question.code)} is more probable than {question.rival_name}{network}."
    )


def property_label(patient: Patient, name: str) -> str:
    if name == "age":
        return f"Age {patient.age:g}"
    return str(getattr(patient, name)).capitalize()


def kind(code: str) -> str:
    return "malignant" if code in MALIGNANT else "benign"


def ranked(diagnosis: Diagnosis) -> np.ndarray:
    """Indices of the classes, the most probable first."""
    return np.argsort(-diagnosis.probabilities)


def show_if_unknown(diagnosis: Diagnosis) -> None:
    if not diagnosis.if_unknown:
        return
    st.subheader("If less were known of the patient", anchor=False)
    titles = {"age": "Age", "sex": "Sex", "localization": "Site", "all": "All"}
    columns = {"As given": diagnosis.probabilities} | {
        f"{titles[name]} unknown": values for name, values in diagnosis.if_unknown.items()
    }
    order = ranked(diagnosis)
    malignant = [k for k in order if diagnosis.classes[k] in MALIGNANT]
    table = {"Probability of": [NAMES[diagnosis.classes[k]] for k in order]}
    table |= {title: [percent(values[k]) for k in order] for title, values in columns.items()}
    if malignant:
        table["Probability of"].append("**Malignancy**")
        for title, values in columns.items():
            table[title].append(f"**{percent(values[malignant].sum())}**")
    st.table(table, border="horizontal", hide_index=True)


def show_model(diagnosis: Diagnosis, card: dict) -> None:
    st.subheader("The model", anchor=False)
    st.markdown(
        f"**{diagnosis.model}**, made with DermSA {diagnosis.model_version}; hashes: model "
        f"`{diagnosis.model_sha256[:12]}`, card `{diagnosis.card_sha256[:12]}`. This answer took "
        f"{1000 * diagnosis.seconds:.0f} ms. {store.composition(card)}"
    )
    overall, by_class = test_figures(card)
    if overall:
        st.table(overall, border="horizontal", hide_index=True)
    if by_class:
        with st.expander("Test figures of each diagnosis"):
            st.table(by_class, border="horizontal", hide_index=True)
    if foreign := elsewhere.read(diagnosis.model):
        st.table(foreign_figures(foreign), border="horizontal", hide_index=True)
        st.caption(foreign.sentence)
    data, protocol = card.get("data", {}), card.get("protocol", {})
    st.markdown(
        f":small[Measured on test lesions of {data.get('name', UNKNOWN)}, protocol "
        f"“{protocol.get('name', UNKNOWN)}”: {protocol.get('description', '')}]"
    )
    for note in card.get("notes", ()):
        st.caption(note)


def test_figures(card: dict) -> tuple[list[dict], list[dict]]:
    """Table rows, overall and by diagnosis; the only place that knows how cards hold figures."""
    metrics, of_class = card.get("metrics", {}), card.get("metrics_per_class", {})
    overall = [(METRICS[name].title, metrics.get(name)) for name in TEST_FIGURES]
    overall.insert(2, ("ROC AUC, melanoma", of_class.get("roc_auc", {}).get("mel")))
    by_class = [
        (f"{NAMES[code]}: {METRICS[name].title}", of_class.get(name, {}).get(code))
        for code in card["classes"]
        for name in CLASS_FIGURES
    ]
    return tuple(
        # Some have no value, such as those of melanoma where no class is one.
        [figure_row(title, each) for title, each in found if each and each["value"] is not None]
        for found in (overall, by_class)
    )


def foreign_figures(foreign: elsewhere.Elsewhere) -> list[dict]:
    """Table rows of what was measured on another source."""
    of_class = {f"ROC AUC, {in_sentence(code)}": of for code, of in foreign.roc_auc.items()}
    figures = {"Accuracy": foreign.accuracy} | of_class
    heading = f"On {foreign.whose}"
    rows = [
        figure_row(title, each.as_dict(), heading)
        for title, each in figures.items()
        if np.isfinite(each.value)
    ]
    # The source does not tell which photos show the same lesion.
    return [{column: row[column] for column in row if column != "Lesions"} for row in rows]


def figure_row(title: str, figure: dict, heading: str = "On test lesions") -> dict[str, str]:
    low, high = figure["low"], figure["high"]
    return {
        heading: title,
        "Value": f"{figure['value']:.3f}",
        "95 % interval": "" if low is None else f"{low:.3f} to {high:.3f}",
        "Photos": f"{figure['n']:,}",
        "Lesions": f"{figure['n_lesions']:,}" if figure.get("n_lesions") else "",
    }


run_page(main)
