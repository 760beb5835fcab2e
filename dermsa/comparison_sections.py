"""The whole report of a comparison: what the Compare page shows, one view after the other."""

from __future__ import annotations

from collections.abc import Sequence

from dermsa import plots_compare
from dermsa.comparison import (
    Chosen,
    caveats,
    cost_rows,
    describe_areas,
    describe_points,
    grouped,
    map_figures,
    on_these_data,
    priced,
    published_models,
)
from dermsa.comparison_report import Section, html_report
from dermsa.evaluation import attention_quality, compare, subgroups
from dermsa.evaluation.compare import Figure
from dermsa.evaluation.decision import decision_curve
from dermsa.evaluation.metrics import METRICS
from dermsa.taxonomy import NAMES

QUALITY = "macro_recall"
MEASURE = "mass_inside"


def report(chosen: Chosen, papers: Sequence[str] = ()) -> str:
    """One HTML file that needs nothing else.

    Args:
        chosen: One evaluation, or several of the same cases.
        papers: Titles of published models to show beside them, where they are of the same data.
    """
    shown = on_these_data(chosen, papers)
    sections = [
        *_differences(chosen),
        _curves(chosen),
        _diagnoses(chosen),
        Section(
            "Confusion matrices",
            figure=plots_compare.confusions(chosen.predictions),
            alt=plots_compare.describe_confusions(chosen.predictions),
        ),
        *_cost(chosen, papers),
        *_groups(chosen),
        *_maps(chosen),
    ]
    if shown:
        plain = [sentence.replace("*", "") for sentence in caveats(shown)]
        sections.append(Section("What the published figures mean", plain))
    printed = {
        title: {key: figure.value for key, figure in published_models()[title].items()}
        for title in shown
    }
    rows = compare.table(chosen.evaluations)
    return html_report(rows, chosen.evaluations, sections, printed)


def _differences(chosen: Chosen) -> list[Section]:
    if len(chosen.evaluations) < 2:
        return []
    figures = [Figure("macro_recall"), Figure("accuracy")]
    figures += [Figure("recall", "mel")] if "mel" in chosen.classes else []
    sentences = [
        f"{pair.sentence}."
        for figure in figures
        for pair in compare.pairs(chosen.evaluations, figure)
    ]
    return [Section("What differs", sentences)]


def _curves(chosen: Chosen) -> Section:
    of_class = None if chosen.evaluations[0].predictions.malignant else chosen.classes[0]
    prefix = "" if of_class else "malignancy_"
    areas = {
        name: chosen.by_label(lambda one, name=name: one.interval(prefix + name, of_class))
        for name in ("roc_auc", "average_precision")
    }
    benefits = chosen.by_label(lambda one: decision_curve(one.predictions, of_class))
    return Section(
        f"Curves: {NAMES[of_class] if of_class else 'malignant or not'}",
        figure=plots_compare.curves(chosen.predictions, benefits, of_class, areas),
        alt=describe_areas(areas),
    )


def _diagnoses(chosen: Chosen) -> Section:
    recalls = chosen.by_label(
        lambda one: {code: one.interval("recall", code) for code in one.classes}
    )
    return Section(
        "Sensitivity by diagnosis",
        figure=plots_compare.class_bars(recalls, title="Sensitivity"),
        alt=plots_compare.describe("Sensitivity", recalls),
    )


def _cost(chosen: Chosen, papers: Sequence[str]) -> list[Section]:
    rows = cost_rows(chosen, papers)
    if not any(one.cost for one in chosen.evaluations):
        return [Section("Cost", rows=rows)] if rows else []
    title, points = METRICS[QUALITY].title, priced(chosen, papers, QUALITY)
    cost = next(one.cost for one in chosen.evaluations if one.cost)
    return [
        Section(
            "Cost",
            [f"Times in the served form on {cost.processor}, {cost.threads} threads."],
            plots_compare.trade(points, title),
            describe_points(points, title),
            rows,
        )
    ]


def _groups(chosen: Chosen) -> list[Section]:
    sections = []
    groups = chosen.evaluations[0].groups
    for name, title in subgroups.PROPERTIES.items():
        of_property = [group for group in groups if group.property == name]
        if not of_property:
            continue
        found = grouped(chosen, of_property, "accuracy")
        sections.append(
            Section(
                f"Accuracy by group: {title.lower()}",
                [f"Grey: rests on fewer than {subgroups.SMALL} lesions."] if found.small else [],
                plots_compare.interval_rows(found.figures, "Accuracy", found.small, found.shown),
                plots_compare.describe("Accuracy", found.figures),
            )
        )
    return sections


def _maps(chosen: Chosen) -> list[Section]:
    measured = [one for one in chosen.evaluations if one.attention]
    if not measured:
        return []
    title, figures = attention_quality.MEASURES[MEASURE], map_figures(chosen, MEASURE)
    sentences = [
        f"{chosen.labels[one.model]} shows the maps of its member {one.attention.network}."
        for one in measured
        if one.attention.network != one.model
    ]
    return [
        Section(
            "Attention",
            sentences,
            plots_compare.interval_rows(figures, title),
            plots_compare.describe(title, figures),
        )
    ]
