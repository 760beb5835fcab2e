"""The whole report of a comparison: what the Compare page shows, one view after the other.

Where the page asks which figure to show, the report has the one that the page shows first, and
every measure of the maps. Single photos stay on the page.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from dermsa import plots_compare
from dermsa.comparison import (
    Chosen,
    agreement_rows,
    caveats,
    cost_rows,
    describe_areas,
    describe_points,
    describe_removal,
    difference_row,
    grouped,
    machines,
    map_figures,
    not_measured_together,
    on_these_data,
    paper_rows,
    priced,
    published_models,
    removal,
    what_grey_means,
)
from dermsa.comparison_report import Section, html_report
from dermsa.evaluation import attention_quality, compare, published, subgroups
from dermsa.evaluation.compare import Figure
from dermsa.evaluation.decision import decision_curve
from dermsa.evaluation.metrics import METRICS
from dermsa.taxonomy import NAMES

QUALITY = "macro_recall"


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
        *_papers(chosen, shown),
    ]
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
    found = [
        (figure.title, pair)
        for figure in figures
        for pair in compare.pairs(chosen.evaluations, figure)
    ]
    sentences = [f"{pair.sentence}." for _, pair in found]
    found += [(METRICS["accuracy"].title, pair) for pair in compare.mcnemar(chosen.evaluations)]
    if chosen.evaluations[0].predictions.malignant:
        # Too few of one side cannot be tested, which leaves the others as they are.
        with contextlib.suppress(compare.NotComparable):
            title = METRICS["malignancy_roc_auc"].title
            found += [(title, pair) for pair in compare.delong(chosen.evaluations)]
    rows = [
        {"Figure": title, "Test": pair.test} | difference_row(pair, chosen.labels)
        for title, pair in found
    ]
    return [Section("What differs", sentences, rows=rows)]


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
    warning = not_measured_together(chosen)
    return [
        Section(
            "Cost",
            [machines(chosen), *([warning] if warning else [])],
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
                [what_grey_means("accuracy")] if found.small else [],
                plots_compare.interval_rows(found.figures, "Accuracy", found.small, found.shown),
                plots_compare.describe("Accuracy", found.figures),
            )
        )
    return sections


def _maps(chosen: Chosen) -> list[Section]:
    measured = [one for one in chosen.evaluations if one.attention]
    if not measured:
        return []
    sentences = [
        f"{chosen.labels[one.model]} shows the maps of its member {one.attention.network}."
        for one in measured
        if one.attention.network != one.model
    ]
    sections = []
    for measure, title in attention_quality.MEASURES.items():
        figures = map_figures(chosen, measure)
        if any(figures.values()):
            figure = plots_compare.interval_rows(figures, title)
            alt = plots_compare.describe(title, figures)
            sections.append(Section(f"Attention: {title}", sentences, figure, alt))
    if rows := agreement_rows(chosen):
        sections.append(Section("Attention: agreement of the maps", rows=rows))
    for kind, title in attention_quality.KINDS.items():
        found = removal(chosen, kind)
        if any(found.values()):
            figure = plots_compare.removal_curves(found)
            alt = describe_removal(kind, found)
            sections.append(Section(f"Attention: deletion and insertion, {title}", (), figure, alt))
    return sections


def _papers(chosen: Chosen, titles: Sequence[str]) -> list[Section]:
    sections = [
        Section(f"{title}, published, beside {chosen.labels[one.model]}", rows=rows)
        for title in titles
        for one in chosen.evaluations
        if (rows := paper_rows(published.beside(one, published_models()[title].values())))
    ]
    if titles:
        plain = [sentence.replace("*", "") for sentence in caveats(titles)]
        sections.append(Section("What the published figures mean", plain))
    return sections
