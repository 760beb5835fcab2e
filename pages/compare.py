"""Compare models and runs on the same cases: what differs, how sure that is, and what it costs."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from dermsa import comparison_report, images, plots, plots_compare, samples
from dermsa.comparison import (
    BEST_MARK,
    CASES,
    TESTS,
    Chosen,
    answer_row,
    caveats,
    cell,
    cost_row,
    describe_answers,
    describe_areas,
    describe_points,
    difference_row,
    filtered,
    in_short,
    on_these_data,
    published_models,
    published_points,
    said,
    tests_for,
    what_was_tested,
)
from dermsa.datasets.dataset import DatasetError, data_root
from dermsa.evaluation import attention_quality, compare, published, record, subgroups
from dermsa.evaluation.compare import Figure
from dermsa.evaluation.metrics import METRICS
from dermsa.evaluation.record import Evaluation, EvaluationError, Source
from dermsa.inference import store
from dermsa.inference.diagnosis import Diagnosis
from dermsa.inference.ensemble import AnyPredictor, open_predictor
from dermsa.inference.explanation import evidence_at_image_size
from dermsa.patient import Patient, PatientError, parse
from dermsa.plots import percent
from dermsa.plots_compare import MAX_MODELS, Priced, printed_text
from dermsa.taxonomy import LOCALIZATIONS, NAMES, SEXES, UNKNOWN
from ui.frame import run_page

FIRST_ROWS = 8
CLASS_METRICS = ("recall", "precision", "f1", "roc_auc", "average_precision", "specificity")
QUALITIES = ("macro_recall", "accuracy", "macro_roc_auc", "malignancy_roc_auc", "macro_f1")
PAPERS_FIRST = ("InceptionResNetV2 (Sensors 2022)", "MobileNetV3Large (Sensors 2022)")
PER_PAGE = 12
MAPS_ACROSS = 4
THUMBNAIL_SIDE = 320


def main() -> None:
    sources, papers = ask_what_to_compare()
    evaluations, key = read_evaluations(sources)
    chosen = None
    if evaluations and comparable(evaluations):
        labels = comparison_report.labels([one.model for one in evaluations])
        chosen = Chosen(evaluations, labels, key)
        show_table(chosen, papers)
    view = st.segmented_control(
        "Look at",
        list(VIEWS),
        default=next(iter(VIEWS)),
        required=True,
        key="view",
        bind="query-params",
    )
    if view == "One photo":
        show_one_photo([source.name for source in sources if source.kind == "model"])
    elif chosen is None:
        st.info("There is nothing measured to look at yet.", icon=":material/straighten:")
    else:
        VIEWS[view](chosen, papers)
    if chosen:
        show_downloads(chosen, papers)


# --- what is compared ---------------------------------------------------------------------------


def ask_what_to_compare() -> tuple[list[Source], list[str]]:
    """Models and runs, and titles of published models to show beside them."""
    found = {source.name: source for source in record.sources()}
    measured = [name for name, source in found.items() if not source.problem]
    if "models" not in st.session_state:
        asked = st.query_params.get_all("models")
        shipped = [name for name in found if found[name].kind == "model"]
        ready = [name for name in shipped if name in measured]
        st.session_state.models = [name for name in asked if name in found] or (
            (ready or shipped)[:MAX_MODELS]
        )
        if strange := [name for name in asked if name not in found]:
            st.warning(
                f"The link also names {', '.join(strange)}, which are not on this machine.",
                icon=":material/link_off:",
            )
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
            st.info(source.problem, icon=":material/straighten:")
            continue
        digest = stamp(source.folder)
        try:
            evaluations.append(evaluation(str(source.folder), digest))
            stamps.append(digest)
        except EvaluationError as error:
            st.error(str(error), icon=":material/block:")
    return tuple(evaluations), "-".join(stamps)


def stamp(folder: Path) -> str:
    """Changes when any of the files of an evaluation does, or the model's card."""
    names = (record.EVALUATION, record.PREDICTIONS, record.SAMPLES, store.CARD)
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
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


# --- the table ----------------------------------------------------------------------------------


@st.cache_resource(max_entries=16, show_spinner=False)
def table_rows(key: str, _chosen: Chosen) -> tuple[compare.Row, ...]:
    return compare.table(_chosen.evaluations)


@st.cache_resource(max_entries=64, show_spinner=False)
def pairs(key: str, figure: Figure, test: str, _chosen: Chosen) -> tuple[compare.Pair, ...]:
    if test == "McNemar":
        return compare.mcnemar(_chosen.evaluations)
    if test == "DeLong":
        return compare.delong(_chosen.evaluations, figure.of_class)
    return compare.pairs(_chosen.evaluations, figure)


def show_table(chosen: Chosen, papers: Sequence[str]) -> None:
    first = chosen.evaluations[0]
    for sentence in dict.fromkeys(what_was_tested(one) for one in chosen.evaluations):
        st.markdown(f":small[{sentence}]")
    for note in dict.fromkeys(note for one in chosen.evaluations for note in one.notes):
        st.caption(note)
    warn_of_leaks(chosen)
    rows = table_rows(chosen.key, chosen)
    shown = on_these_data(chosen, papers)
    write_table(chosen, rows[:FIRST_ROWS], shown)
    with st.expander("More figures"):
        write_table(chosen, rows[FIRST_ROWS:], shown)
    marks = f"{BEST_MARK} better than every other one beyond chance. "
    st.caption(
        (marks if len(chosen.evaluations) > 1 else "")
        + f"Brackets: 95 % interval, bootstrap over {first.lesions:,} lesions. "
        + " ".join(caveats(shown))
    )
    if len(chosen.evaluations) > 1:
        figures = (Figure("recall", "mel"), Figure("macro_recall"))
        st.markdown(
            "\n".join(
                f"- {in_short(pairs(chosen.key, figure, 'bootstrap', chosen), figure)}"
                for figure in figures
                if figure.of_class in (None, *chosen.classes)
            )
        )


def write_table(chosen: Chosen, rows: Sequence[compare.Row], papers: Sequence[str]) -> None:
    columns = {"": [row.figure.title for row in rows]}
    for place, one in enumerate(chosen.evaluations):
        columns[chosen.labels[one.model]] = [
            cell(row.intervals[place], best=row.best == place) for row in rows
        ]
    for title in papers:
        of = published_models()[title]
        keys = ((row.figure.metric, row.figure.of_class) for row in rows)
        columns[f"*{title}*"] = [
            f"*{printed_text(of[key].value)}*" if key in of else "" for key in keys
        ]
    st.table(columns, border="horizontal", hide_index=True, alt="Figures with 95 % intervals.")


def warn_of_leaks(chosen: Chosen) -> None:
    for one in chosen.evaluations:
        if one.leaked_share:
            st.warning(
                f"{chosen.labels[one.model]}: {percent(one.leaked_share)} of the cases show a "
                "lesion that was seen in training, so its figures are too good.",
                icon=":material/warning:",
            )


# --- views --------------------------------------------------------------------------------------


def show_figure(figure, alt: str, name: str) -> None:
    """A figure that can be saved; SVG unless PNG was asked for."""
    kind = st.session_state.get("figure-format", "svg")
    save = {"format": kind, "filename": f"dermsa-{name}", "scale": 3 if kind == "png" else 1}
    config = {
        "displayModeBar": True,
        "displaylogo": False,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": save,
    }
    st.plotly_chart(figure, config=config, alt=alt, key=f"figure-{name}")


def ask_question(chosen: Chosen, label: str, key: str) -> str | None:
    """A diagnosis to be told from the rest, or None for malignant or not."""
    any_malignant = [None] if chosen.evaluations[0].predictions.malignant else []
    return st.selectbox(
        label,
        [*any_malignant, *chosen.classes],
        format_func=lambda code: NAMES.get(code, code) if code else "Malignant or not",
        key=key,
    )


def show_curves(chosen: Chosen, papers: Sequence[str]) -> None:
    of_class = ask_question(chosen, "Found among all others", "curves-of")
    prefix = "" if of_class else "malignancy_"
    areas = {
        name: chosen.by_label(lambda one, name=name: one.interval(prefix + name, of_class))
        for name in ("roc_auc", "average_precision")
    }
    figure = plots_compare.curves(chosen.predictions, of_class, areas)
    show_figure(figure, describe_areas(areas), "curves")
    st.caption(
        "Point at a curve to read all models there; a click on a name in the legend hides that "
        "model in all four, a double click leaves it alone. Numbers in the corners are the areas "
        "with their 95 % intervals. Larger dots of the reliability curve hold more cases."
    )


def show_confusions(chosen: Chosen, papers: Sequence[str]) -> None:
    figure = plots_compare.confusions(chosen.predictions)
    show_figure(figure, plots_compare.describe_confusions(chosen.predictions), "confusion")
    st.caption(
        "Photos, coloured by their share of the true diagnosis. Point at a cell to read it in "
        "every model. " + ", ".join(f"{code}: {NAMES.get(code, code)}" for code in chosen.classes)
    )


def show_diagnoses(chosen: Chosen, papers: Sequence[str]) -> None:
    metric = st.segmented_control(
        "Figure of each diagnosis",
        CLASS_METRICS,
        format_func=lambda name: METRICS[name].title,
        default=CLASS_METRICS[0],
        required=True,
        key="class-metric",
    )
    title = METRICS[metric].title
    figures = chosen.by_label(
        lambda one: {code: one.interval(metric, code) for code in one.classes}
    )
    of_papers = {
        name: {code: of[metric, code].value for code in chosen.classes if (metric, code) in of}
        for name, of in ((name, published_models()[name]) for name in on_these_data(chosen, papers))
    }
    of_papers = {name: values for name, values in of_papers.items() if values}
    figure = plots_compare.class_bars(figures, of_papers, title)
    show_figure(figure, plots_compare.describe(title, figures), "diagnoses")
    with st.expander("In numbers"):
        table = {"": [f"{NAMES.get(code, code)}" for code in chosen.classes]}
        for label, by_class in figures.items():
            table[label] = [cell(by_class[code]) for code in chosen.classes]
        for name, values in of_papers.items():
            table[f"*{name}*"] = [
                f"*{printed_text(values[code])}*" if code in values else ""
                for code in chosen.classes
            ]
        st.table(table, border="horizontal", hide_index=True)


def show_differences(chosen: Chosen, papers: Sequence[str]) -> None:
    if len(chosen.evaluations) < 2:
        st.info("Differences need two models or runs.", icon=":material/compare:")
        return
    left, right = st.columns(2, gap="medium")
    figures = [row.figure for row in table_rows(chosen.key, chosen)]
    figures += [Figure(m, c) for m in ("recall", "precision", "roc_auc") for c in chosen.classes]
    figure = left.selectbox(
        "Figure",
        list(dict.fromkeys(figures)),
        format_func=lambda figure: figure.title,
        key="difference-of",
    )
    test = right.segmented_control(
        "Test",
        tests_for(figure),
        format_func=TESTS.get,
        default="bootstrap",
        required=True,
        key=f"test-of-{tests_for(figure)[-1]}",
    )
    try:
        found = pairs(chosen.key, figure, test, chosen)
    except compare.NotComparable as error:
        st.error(str(error), icon=":material/block:")
        return
    names = list(chosen.labels)
    differences, p_values = np.zeros((2, len(names), len(names)))
    for pair in found:
        i, j = names.index(pair.first), names.index(pair.second)
        differences[j, i] = pair.comparison.difference.value
        differences[i, j] = -pair.comparison.difference.value
        p_values[i, j] = p_values[j, i] = pair.adjusted_p
    matrix = plots_compare.significance_matrix(
        list(chosen.labels.values()), differences, p_values, figure.title
    )
    show_figure(matrix, " ".join(f"{pair.sentence}." for pair in found), "differences")
    better = "orange is better" if figure.higher_is_better else "purple is better"
    st.caption(
        f"Shaded where the difference is more than chance (p < 0.05 after Holm's correction for "
        f"{len(found)} pairs): orange is higher, purple is lower; {better}."
    )
    if len(found) <= 3:
        st.markdown("\n".join(f"- {pair.sentence}." for pair in found))
    st.table(
        [difference_row(pair, chosen.labels) for pair in found],
        border="horizontal",
        hide_index=True,
        alt="Every pair with its difference and p-value.",
    )


def show_cost(chosen: Chosen, papers: Sequence[str]) -> None:
    measured = [one for one in chosen.evaluations if one.cost]
    if not measured:
        st.info(
            "The cost of these models was not measured. Measure them together, so that their "
            "times can be compared: `python -m dermsa evaluate --model NAME --save` measures all.",
            icon=":material/timer:",
        )
        return
    metric = st.segmented_control(
        "Quality",
        QUALITIES,
        format_func=lambda name: METRICS[name].title,
        default=QUALITIES[0],
        required=True,
        key="quality",
    )
    points = chosen.by_label(
        lambda one: Priced(
            one.interval(metric),
            one.cost.answer_p50 if one.cost else None,
            one.cost.parameters if one.cost else None,
        )
    ) | published_points(papers, metric)
    figure = plots_compare.trade(points, METRICS[metric].title)
    show_figure(figure, describe_points(points, METRICS[metric].title), "cost")
    st.table(
        [cost_row(chosen.labels[one.model], one.cost) for one in measured],
        border="horizontal",
        hide_index=True,
        alt="Size, arithmetic, time and memory.",
    )
    together = {frozenset(one.cost.measured_with) for one in measured}
    if len(together) > 1:
        st.warning(
            "These times were not measured together, so they may differ for other reasons than "
            "the models.",
            icon=":material/timer:",
        )
    cost = measured[0].cost
    st.caption(
        f"An answer is that of the page: all views, maps and checks. Times in the served form on "
        f"{cost.processor}, {cost.threads} threads, models taking turns. The line joins measured "
        "models that no other one beats. Open signs are published, under another protocol."
    )


def show_groups(chosen: Chosen, papers: Sequence[str]) -> None:
    with_groups = [one for one in chosen.evaluations if one.groups]
    if not with_groups:
        st.info("These evaluations have no subgroups.", icon=":material/groups:")
        return
    first = with_groups[0]
    left, right = st.columns(2, gap="medium")
    property_ = left.segmented_control(
        "Group by",
        list(dict.fromkeys(group.property for group in first.groups)),
        format_func=subgroups.PROPERTIES.get,
        default=first.groups[0].property,
        required=True,
        key="group-by",
    )
    metric = right.selectbox(
        "Figure",
        list(first.groups[0].intervals),
        format_func=subgroups.TITLES.get,
        key="group-figure",
    )
    groups = [group for group in first.groups if group.property == property_]
    titles = {group.value: f"{group.value.capitalize()}, n = {group.n:,}" for group in groups}
    figures = chosen.by_label(
        lambda one: {
            titles[group.value]: group.intervals[metric]
            for group in one.groups
            if group.property == property_
            and metric in group.intervals
            and math.isfinite(group.intervals[metric].value)
        }
    )
    small = [titles[group.value] for group in groups if group.small]
    defined = [title for title in titles.values() if any(title in of for of in figures.values())]
    title = subgroups.TITLES[metric]
    figure = plots_compare.interval_rows(figures, title, small, defined)
    show_figure(figure, plots_compare.describe(title, figures), "groups")
    missing = [title for title in titles.values() if title not in defined]
    st.caption(
        f"Grey: fewer than {subgroups.SMALL} lesions. "
        + (f"Not defined for: {'; '.join(missing)}. " if missing else "")
        + "Groups differ in their mix of diagnoses, which moves these figures, too:"
    )
    mix = {"Group": [group.value.capitalize() for group in groups]}
    mix |= {"Photos": [group.n for group in groups], "Lesions": [g.n_lesions for g in groups]}
    mix |= {code: [group.by_class[code] for group in groups] for code in chosen.classes}
    with st.expander("Diagnoses in each group"):
        st.table(mix, border="horizontal", hide_index=True)


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


# --- cases --------------------------------------------------------------------------------------


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


# --- one photo through all ----------------------------------------------------------------------


@st.cache_resource(max_entries=MAX_MODELS, show_spinner="Opening the models")
def opened(name: str, folder: str, sha256: str) -> AnyPredictor:
    """A model, warm after a first pass, so that its first time is no worse than the next."""
    predictor = open_predictor(name)
    predictor.diagnose([np.full((96, 128, 3), 128, np.uint8)])
    return predictor


@st.cache_resource
def one_at_a_time() -> threading.Lock:
    """Several pages that compute at once would only slow each other down."""
    return threading.Lock()


def answers_of(models: Sequence[str], photo: bytes, patient: Patient) -> dict[str, Diagnosis]:
    """The diagnosis of each model that can be opened; says what is wrong with the others.

    Kept in the session for the last photo of each view, never shared: it may be a patient's.
    """
    digest = hashlib.sha256(photo).hexdigest()
    kept = st.session_state.setdefault("answers", {})
    if kept.get("photo") != (digest, patient):
        kept.clear()
        kept["photo"] = (digest, patient)
    diagnoses = {}
    for name in models:
        try:
            sha256 = hashlib.sha256(
                (store.weights_folder() / name / store.CARD).read_bytes()
            ).hexdigest()
            predictor = opened(name, str(store.weights_folder()), sha256)
            if (name, sha256) not in kept:
                with one_at_a_time():
                    kept[name, sha256] = predictor.diagnose([photo], patient)
            diagnoses[name] = kept[name, sha256]
        except (store.ModelError, OSError) as error:
            st.error(str(error), icon=":material/block:")
    return diagnoses


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
        photo = ask_for_photo()
    with right:
        patient = ask_for_patient()
    if photo is None or patient is None:
        st.info("Add a photo to send it through all models.", icon=":material/add_a_photo:")
        return
    try:
        diagnoses = answers_of(served, photo, patient)
    except images.ImageRefused as error:
        st.error(str(error), icon=":material/block:")
        return
    if not diagnoses:
        return
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


def ask_for_photo() -> bytes | None:
    source = st.segmented_control(
        "Photo of a lesion",
        ["upload", "sample"],
        format_func={
            "upload": ":material/upload: Upload",
            "sample": ":material/collections: Sample",
        }.get,
        default="upload",
        required=True,
        key="photo-source",
    )
    if source == "sample":
        drawn = {sample.title: sample for sample in samples.drawn_samples()}
        title = st.selectbox(
            "Sample lesion",
            list(drawn),
            index=None,
            placeholder="Choose a lesion",
            key="photo-sample",
            on_change=fill_in_patient,
            help="Drawings, which come from no patient. Choosing one also fills in its patient.",
        )
        return next(iter(drawn[title].photos().values())) if title else None
    file = st.file_uploader(
        "Photo of a lesion",
        ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "heic", "heif"],
        label_visibility="collapsed",
        key="photo-upload",
    )
    return file.getvalue() if file else None


def fill_in_patient() -> None:
    drawn = {sample.title: sample.patient for sample in samples.drawn_samples()}
    patient = drawn.get(st.session_state["photo-sample"], Patient())
    st.session_state["photo-age"] = "" if patient.age is None else f"{patient.age:g}"
    st.session_state["photo-sex"] = patient.sex
    st.session_state["photo-localization"] = patient.localization


def ask_for_patient() -> Patient | None:
    """The patient, or None after showing what is wrong."""
    age, sex, site = st.columns([1, 1, 1.4], gap="small")

    def choices(values: Sequence[str]) -> list[str]:
        return [UNKNOWN, *(value for value in values if value != UNKNOWN)]

    given = (
        age.text_input("Age in years", placeholder=UNKNOWN, key="photo-age"),
        sex.selectbox("Sex", choices(SEXES), format_func=str.capitalize, key="photo-sex"),
        site.selectbox(
            "Site of the lesion",
            choices(LOCALIZATIONS),
            format_func=str.capitalize,
            key="photo-localization",
        ),
    )
    try:
        patient, warnings = parse(*given)
    except PatientError as error:
        st.error(str(error), icon=":material/block:")
        return None
    for warning in warnings:
        st.warning(warning)
    return patient


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
        one.photos[0].evidence_grid
        for one in diagnoses.values()
        if one.photos[0].evidence_grid is not None
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


# --- papers -------------------------------------------------------------------------------------


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
                "Published lies": "in the interval" if row.inside else "outside",
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


VIEWS = {
    "Curves": show_curves,
    "Confusion": show_confusions,
    "Diagnoses": show_diagnoses,
    "Differences": show_differences,
    "Cost": show_cost,
    "Groups": show_groups,
    "Attention": show_attention,
    "Cases": show_cases,
    "One photo": None,  # asks for models alone; see `main`
    "Papers": show_papers,
}


# --- downloads ----------------------------------------------------------------------------------


def show_downloads(chosen: Chosen, papers: Sequence[str]) -> None:
    rows = table_rows(chosen.key, chosen)
    names = list(chosen.labels.values())
    files = (
        ("All figures (CSV)", "dermsa-comparison.csv", lambda: csv_of(chosen)),
        (
            "Table (LaTeX)",
            "dermsa-comparison.tex",
            lambda: comparison_report.latex_table(
                rows, names, what_was_tested(chosen.evaluations[0])
            ),
        ),
        ("Report (HTML)", "dermsa-comparison.html", lambda: report_of(chosen, papers)),
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, file_name, content in files:
            st.download_button(
                label,
                content,
                file_name,
                on_click="ignore",
                icon=":material/download:",
                key=f"download-{file_name}",
            )
        st.segmented_control(
            "Figures are saved as",
            ["svg", "png"],
            format_func=str.upper,
            default="svg",
            required=True,
            key="figure-format",
            help="By the camera at the top right of each figure.",
        )


def csv_of(chosen: Chosen) -> str:
    return comparison_report.csv_table(chosen.evaluations)


def report_of(chosen: Chosen, papers: Sequence[str]) -> str:
    predictions = chosen.predictions
    recalls = chosen.by_label(
        lambda one: {code: one.interval("recall", code) for code in one.classes}
    )
    malignant = chosen.evaluations[0].predictions.malignant
    of_class = None if malignant else chosen.classes[0]
    prefix = "" if of_class else "malignancy_"
    areas = {
        name: chosen.by_label(lambda one, name=name: one.interval(prefix + name, of_class))
        for name in ("roc_auc", "average_precision")
    }
    Section = comparison_report.Section
    sections = [
        Section(
            f"Curves: {NAMES[of_class] if of_class else 'malignant or not'}",
            figure=plots_compare.curves(predictions, of_class, areas),
            alt=describe_areas(areas),
        ),
        Section(
            "Sensitivity by diagnosis",
            figure=plots_compare.class_bars(recalls, title="Sensitivity"),
            alt=plots_compare.describe("Sensitivity", recalls),
        ),
        Section(
            "Confusion matrices",
            figure=plots_compare.confusions(predictions),
            alt=plots_compare.describe_confusions(predictions),
        ),
    ]
    if len(chosen.evaluations) > 1:
        figures = [Figure("macro_recall"), Figure("accuracy")]
        figures += [Figure("recall", "mel")] if "mel" in chosen.classes else []
        sentences = [
            f"{pair.sentence}."
            for figure in figures
            for pair in pairs(chosen.key, figure, "bootstrap", chosen)
        ]
        sections.insert(0, Section("What differs", sentences))
    shown = on_these_data(chosen, papers)
    if shown:
        plain = [sentence.replace("*", "") for sentence in caveats(shown)]
        sections.append(Section("What the published figures mean", plain))
    printed = {
        title: {key: figure.value for key, figure in published_models()[title].items()}
        for title in shown
    }
    rows = table_rows(chosen.key, chosen)
    return comparison_report.html_report(rows, chosen.evaluations, sections, printed)


run_page(main)
