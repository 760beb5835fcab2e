"""What the Compare page says of evaluations: cells, rows and sentences, without the page.

`Chosen` is what is compared. Text is Streamlit's markdown: `**bold**`, `*published*`,
`:small[...]`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from dermsa import plots, plots_compare
from dermsa.evaluation import attention_quality, compare, published
from dermsa.evaluation.compare import Figure
from dermsa.evaluation.published import Published
from dermsa.evaluation.record import Evaluation
from dermsa.evaluation.statistics import Interval
from dermsa.evaluation.subgroups import FEW, SMALL, Group, is_small
from dermsa.inference.diagnosis import Diagnosis
from dermsa.plots import percent
from dermsa.plots_compare import Priced, interval_text
from dermsa.taxonomy import NAMES
from dermsa.training.presets import PRESETS

BEST_MARK = "★"
NBSP = "\N{NO-BREAK SPACE}"


class Chosen(NamedTuple):
    """What is compared: evaluations of the same cases, what figures call them, and a key that
    changes when any of their files does."""

    evaluations: tuple[Evaluation, ...]
    labels: dict[str, str]
    key: str

    @property
    def predictions(self) -> dict:
        """Predictions by label, as figures take them."""
        return {self.labels[one.model]: one.predictions for one in self.evaluations}

    @property
    def classes(self) -> tuple[str, ...]:
        return self.evaluations[0].classes

    def by_label(self, figure) -> dict:
        """`figure(evaluation)` of every evaluation, by label."""
        return {self.labels[one.model]: figure(one) for one in self.evaluations}


def what_was_tested(one: Evaluation) -> str:
    return (
        f"{one.images:,} {one.part} images of {one.lesions:,} lesions of {one.dataset}, protocol "
        f"“{one.protocol}”{_leak(one.leaked_share)}"
    )


def _leak(share: float | None) -> str:
    if share is None:
        return ". Whether a lesion is shared with training is not known."
    if share == 0:
        return ": no lesion is shared with training."
    return f": {percent(share)} of the images show lesions that were seen in training."


def with_code(sentence: str) -> str:
    """A sentence that may end in a command of this project, the command set as code."""
    return re.sub(r"(python -m dermsa .+?)(\.?)$", r"`\1`\2", sentence)


# --- tables --------------------------------------------------------------------------------------


def cell(interval: Interval, best: bool = False) -> str:
    if not math.isfinite(interval.value):
        return "not defined"
    value = f"**{interval.value:.3f}** {BEST_MARK}" if best else f"{interval.value:.3f}"
    if not math.isfinite(interval.low):
        return value
    ends = f"({interval.low:.3f} to {interval.high:.3f})".replace(" ", NBSP)
    return f"{value} :small[{ends}]"


def in_short(found: Sequence[compare.Pair], figure: Figure) -> str:
    """One pair in its own words; of many, how many differ."""
    if len(found) == 1:
        return f"{found[0].sentence}."
    if any(pair.too_many for pair in found):
        return (
            f"{figure.title}: the bootstrap samples are too few to tell any of {len(found)} pairs "
            "from chance. Compare fewer models."
        )
    holding = sum(pair.holds for pair in found)
    return (
        f"{figure.title}: {holding} of {len(found)} pairs differ beyond chance. "
        f"“Differences” has each of them."
    )


TESTS = {
    "bootstrap": "Paired bootstrap",
    "McNemar": "McNemar over lesions",
    "DeLong": "DeLong over lesions",
}


def tests_for(figure: Figure) -> list[str]:
    if figure.metric == "accuracy":
        return ["bootstrap", "McNemar"]
    if figure.metric in ("roc_auc", "malignancy_roc_auc"):
        return ["bootstrap", "DeLong"]
    return ["bootstrap"]


def difference_row(pair: compare.Pair, labels: dict[str, str]) -> dict[str, str]:
    difference = pair.comparison.difference
    interval = ""
    if math.isfinite(difference.low):
        low, high = map(plots_compare.signed_figure, (difference.low, difference.high))
        interval = f" :small[({low} to {high})]"
    return {
        "First": labels[pair.first],
        "Second": labels[pair.second],
        "n": f"{difference.n:,}",
        "Second minus first": plots_compare.signed_figure(difference.value) + interval,
        "By itself": plots_compare.p_text(pair.comparison.p_value),
        "Corrected": plots_compare.p_text(pair.adjusted_p),
        "Difference": _verdict(pair),
    }


def _verdict(pair: compare.Pair) -> str:
    if not math.isfinite(pair.adjusted_p):
        return "not defined"
    if pair.too_many:
        return "too many pairs"
    return "**more than chance**" if pair.holds else "within chance"


def machines(chosen: Chosen) -> str:
    """On what the times were measured: once, or of each model where that differs."""
    measured = {
        label: f"{cost.processor}, {cost.threads} threads"
        for label, cost in chosen.by_label(lambda one: one.cost).items()
        if cost
    }
    if len(set(measured.values())) == 1:
        return f"Times in the served form on {next(iter(measured.values()))}."
    return f"Times in the served form: {'; '.join(f'{k} on {v}' for k, v in measured.items())}."


def not_measured_together(chosen: Chosen) -> str:
    """A warning where the times do not come of one measurement, else ""."""
    turns = {frozenset(one.cost.measured_with) for one in chosen.evaluations if one.cost}
    if len(turns) < 2:
        return ""
    return (
        "These times were not measured together, so they may differ for other reasons than the "
        "models."
    )


def cost_rows(chosen: Chosen, papers: Sequence[str]) -> list[dict[str, str]]:
    """What is known of the cost of every model and run, then of what was published on the same
    data; columns that nobody fills are left out."""
    rows = [_cost_row(chosen.labels[one.model], one) for one in chosen.evaluations]
    rows += [_published_cost_row(title) for title in on_these_data(chosen, papers)]
    rows = [row for row in rows if any(list(row.values())[1:])]
    filled = {name for row in rows for name, text in row.items() if text}
    return [{name: row.get(name, "") for name in COST_COLUMNS if name in filled} for row in rows]


COST_COLUMNS = (
    "Model", "Parameters", "File", "Multiply-adds", "One pass, ms", "Answer, ms", "Images/s",
    "Memory", "Training, s/epoch", "Training memory",
)  # fmt: skip


def _cost_row(label: str, one: Evaluation) -> dict[str, str]:
    row = {"Model": label}
    if cost := one.cost:
        row |= {
            "Parameters": _millions(cost.parameters),
            "File": f"{cost.file_bytes / 1e6:.1f}{NBSP}MB",
            "Multiply-adds": _millions(cost.multiply_adds, 0),
            "One pass, ms": f"{cost.pass_p50:.1f} :small[(p95{NBSP}{cost.pass_p95:.1f})]",
            "Answer, ms": f"{cost.answer_p50:.1f} :small[(p95{NBSP}{cost.answer_p95:.1f}, "
            f"{cost.views}{NBSP}views)]",
            "Images/s": f"{cost.images_per_second:.0f}",
            "Memory": f"{cost.peak_memory / 1e6:.0f}{NBSP}MB",
        }
    if training := one.training:
        seconds, memory = training.seconds_per_epoch, training.peak_memory
        row["Training, s/epoch"] = f"{seconds:,.0f}" if seconds else ""
        row["Training memory"] = f"{memory / 1e9:.1f}{NBSP}GB" if memory else ""
    return row


def _published_cost_row(title: str) -> dict[str, str]:
    of = published_models()[title]
    row = {"Model": f"*{title}*"}
    if known := of.get(("parameters", None)):
        row["Parameters"] = f"*{_millions(known.value)}*"
    if known := of.get(("seconds_per_epoch", None)):
        row["Training, s/epoch"] = f"*{known.value:,.0f}*"
    return row


def _millions(number: float, decimals: int = 2) -> str:
    return f"{number / 1e6:,.{decimals}f}{NBSP}M"


def answer_row(label: str, diagnosis: Diagnosis) -> dict[str, str]:
    triage = diagnosis.triage
    novelty = diagnosis.photos[0].novelty
    return {
        "Model": label,
        "Most probable": NAMES[diagnosis.best],
        "Probability": percent(diagnosis.probabilities.max()),
        "Named": NAMES[diagnosis.named],
        "Malignant": "" if diagnosis.malignancy is None else percent(diagnosis.malignancy),
        "Referral": ""
        if triage is None
        else f"{diagnosis.verdict} :small[(from {percent(triage.threshold)})]",
        "Unlike its training": "yes" if novelty and novelty.unfamiliar else "no" if novelty else "",
        "Time": f"{1000 * diagnosis.seconds:.0f} ms",
    }


# --- published -----------------------------------------------------------------------------------


@cache
def published_models() -> dict[str, dict[tuple[str, str | None], Published]]:
    """Figures of each published model by metric and class, by a title to choose it by."""
    models: dict[str, dict] = {}
    for figure in published.figures():
        if title := _published_title(figure):
            # Where two tables of a paper print the same figure, the first one counts.
            models.setdefault(title, {}).setdefault((figure.metric, figure.of_class), figure)
    return models


REGIMES = {
    "MD": "",
    "MD, balanced class weights": "",  # the same training, in another table
    "AD": ", augmented only",
    "MD, original class weights": ", original class weights",
}


def _published_title(figure: Published) -> str:
    """Network, variant and source; "" for what the Sensors paper quotes from others."""
    if figure.source == "sensors2022":
        # Cuts are called by the layers that they keep.
        variant = REGIMES.get(figure.variant, f", {figure.variant}")
        return f"{figure.backbone}{variant} (Sensors 2022)" if figure.backbone else ""
    if figure.source == "datta2021":
        _, _, more = figure.variant.partition("soft attention, ")
        if figure.variant.startswith("as compared"):
            return "IRv2+SA, as compared in Sensors 2022 (Datta 2021)"
        return f"{figure.model}{f', {more}' if more else ''} (Datta 2021)"
    if figure.source == "datta2021-isic2017":
        quoted = ", quoted" if figure.variant == "quoted" else ""
        return f"{figure.model}{quoted} (Datta 2021, ISIC 2017)"
    if figure.source == "usth2024":
        return f"{figure.model}, {figure.variant} (USTH 2024)"
    return f"{figure.model} ({figure.variant})"


def on_these_data(chosen: Chosen, papers: Sequence[str]) -> list[str]:
    """The published models that were measured on the same data set, if on other images of it."""
    dataset = chosen.evaluations[0].dataset
    return [title for title in papers if dataset_of(title) == dataset]


def dataset_of(title: str) -> str:
    figure = next(iter(published_models()[title].values()))
    return published.SOURCES[figure.source].dataset


def training_command(title: str) -> str:
    """How to train a published model here; "" where its own training was not published."""
    figure = next(iter(published_models()[title].values()))
    for name, preset in PRESETS.items():
        if preset.source == figure.source and (figure.model, figure.variant) in preset.rows:
            return f"python -m dermsa train --preset {name}"
    return ""


def not_trained(titles: Sequence[str], trained: Collection[str]) -> str:
    """Which published models have a network that is not among the trained backbones, and how to
    train them; "" where there is none, or no training is published."""
    missing = [
        f"{title}: `{command}`"
        for title in titles
        if next(iter(published_models()[title].values())).backbone not in trained
        and (command := training_command(title))
    ]
    return f"No trained weights here; to train them: {'; '.join(missing)}" if missing else ""


def caveats(titles: Sequence[str]) -> list[str]:
    """Under which protocol figures were published and what they were measured on, once each."""
    first = (next(iter(published_models()[title].values())) for title in titles)
    return list(
        dict.fromkeys(
            f"*Published ({of.protocol or 'protocol not stated'}):* {of.conditions}" for of in first
        )
    )


def priced(chosen: Chosen, papers: Sequence[str], metric: str) -> dict[str, Priced]:
    """Quality and cost of every model, then of those published on the same data, as
    `plots_compare.trade` takes them."""
    points = chosen.by_label(
        lambda one: Priced(
            one.interval(metric),
            one.cost.answer_p50 if one.cost else None,
            one.cost.parameters if one.cost else None,
        )
    )
    for title in on_these_data(chosen, papers):
        of = published_models()[title]
        if (metric, None) in of and ("parameters", None) in of:
            quality = Interval(of[metric, None].value, math.nan, math.nan, of[metric, None].n or 0)
            points[title] = Priced(quality, None, of["parameters", None].value, published=True)
    return points


PLACES = {True: "in the interval", False: "outside", None: ""}


def paper_rows(rows: Sequence[published.Beside]) -> list[dict[str, str]]:
    """Published figures beside those of an evaluation."""
    return [
        {
            "Figure": Figure(row.published.metric, row.published.of_class).title,
            "Published": f"*{plots_compare.printed_text(row.published.value)}*"
            + (f":small[, n = {row.published.n:,}]" if row.published.n else ""),
            "Measured": cell(row.measured) + f":small[, n = {row.measured.n:,}]",
            "Difference": plots_compare.signed_figure(row.difference),
            "Published lies": PLACES[row.inside],
        }
        for row in rows
    ]


# --- groups and maps ------------------------------------------------------------------------------


class Grouped(NamedTuple):
    """A figure of the groups of one property.

    Attributes:
        figures: By label of the model, then by title of the group; only where it is defined.
        shown: Titles of the groups that have it, in their order.
        small: Of them those whose figure rests on too little to be believed, see `is_small`.
        missing: Titles of those that have it not.
    """

    figures: dict[str, dict[str, Interval]]
    shown: list[str]
    small: list[str]
    missing: list[str]


def grouped(chosen: Chosen, groups: Sequence[Group], metric: str) -> Grouped:
    """A figure of every model in the given groups of one property."""
    titles = {group.value: _group_title(group, metric) for group in groups}
    too_small = {titles[g.value] for g in groups if metric in g.intervals and is_small(g, metric)}
    of_property = {group.property for group in groups}
    figures = chosen.by_label(
        lambda one: {
            titles[group.value]: group.intervals[metric]
            for group in one.groups
            if group.property in of_property
            and metric in group.intervals
            and math.isfinite(group.intervals[metric].value)
        }
    )
    shown = [title for title in titles.values() if any(title in of for of in figures.values())]
    small = [title for title in shown if title in too_small]
    return Grouped(figures, shown, small, [t for t in titles.values() if t not in shown])


def what_grey_means(metric: str) -> str:
    """What makes a group's figure grey, and what an average over diagnoses leaves out."""
    if not metric.startswith("macro"):
        return f"Grey: rests on fewer than {SMALL} lesions."
    return (
        f"Grey: rests on fewer than {SMALL} lesions, or on fewer than {FEW} photos of one of the "
        "diagnoses. Diagnoses that a group lacks are left out of its average."
    )


def _group_title(group: Group, metric: str) -> str:
    """With the photos that the figure rests on, which may be the melanomas alone."""
    interval = group.intervals.get(metric)
    n = f"{group.n:,}"
    if interval is not None and interval.n != group.n and math.isfinite(interval.value):
        n = f"{interval.n:,} of {group.n:,}"
    return f"{group.value.capitalize()}, n = {n}"


def map_figures(
    chosen: Chosen, measure: str, of_class: str | None = None
) -> dict[str, dict[str, Interval]]:
    """A measure of every kind of map, by label of the model; see `attention_quality`."""
    return chosen.by_label(
        lambda one: {
            title: found.measures[measure]
            for kind, title in attention_quality.KINDS.items()
            if one.attention
            and (found := one.attention.of(kind, of_class))
            and measure in found.measures
        }
    )


def agreement_rows(chosen: Chosen, of_class: str | None = None) -> list[dict[str, str]]:
    """How far each two kinds of map agree, a column a model whose maps were measured."""
    found = {
        chosen.labels[one.model]: {
            (of.first, of.second): of.correlation
            for of in one.attention.agreements
            if of.of_class == of_class
        }
        for one in chosen.evaluations
        if one.attention
    }
    kinds = attention_quality.KINDS
    return [
        {"Agreement of the maps": f"{kinds[pair[0]]} and {kinds[pair[1]]}"}
        | {label: cell(of[pair]) if pair in of else "" for label, of in found.items()}
        for pair in dict.fromkeys(pair for of in found.values() for pair in of)
    ]


def removal(chosen: Chosen, kind: str) -> dict[str, attention_quality.Curve | None]:
    """Deletion and insertion by one kind of map, by label; None where they were not measured."""
    return chosen.by_label(
        lambda one: (
            next((curve for curve in one.attention.curves if curve.kind == kind), None)
            if one.attention
            else None
        )
    )


# --- cases ---------------------------------------------------------------------------------------


CASES = {
    "disagree": "Models disagree",
    "wrong": "Wrong with confidence",
    "all wrong": "All are wrong",
}


def filtered(table: pd.DataFrame, which: str, truth: str | None, models: int) -> pd.DataFrame:
    chosen = {
        "disagree": table["disagree"],
        "wrong": table["wrong"] > 0,
        "all wrong": table["wrong"] == models,
    }[which]
    if truth:
        chosen &= table["truth"] == truth
    return table[chosen].sort_values("wrong_confidence", ascending=False, kind="stable")


def said(case: pd.Series, model: str) -> str:
    """The diagnosis of a model with its probability, marked where it is wrong."""
    code = case[f"{model} diagnosis"]
    sign = "✓" if code == case["truth"] else "✗"
    return f"{sign} {code} {percent(case[f'{model} probability'])}"


# --- figures in words ----------------------------------------------------------------------------


def describe_areas(areas: dict[str, dict[str, Interval]]) -> str:
    titles = {"roc_auc": "ROC AUC", "average_precision": "Average precision"}
    return " ".join(
        f"{titles[name]}: "
        + ", ".join(f"{label} {interval_text(of)}" for label, of in by_label.items())
        + "."
        for name, by_label in areas.items()
    )


def describe_points(points: dict[str, Priced], title: str) -> str:
    parts = (
        f"{name}: {interval_text(point.quality)}"
        + (f", {point.milliseconds:.1f} ms" if point.milliseconds else "")
        + (f", {point.parameters:,.0f} parameters" if point.parameters else "")
        for name, point in points.items()
    )
    return f"{title} against cost. " + "; ".join(parts) + "."


def describe_removal(kind: str, found: dict[str, attention_quality.Curve | None]) -> str:
    return f"Mean probability of the diagnosis by {attention_quality.KINDS[kind]}. " + " ".join(
        f"{name}: deletion to {curve.deletion[-1]:.2f}, insertion to {curve.insertion[-1]:.2f}."
        for name, curve in found.items()
        if curve
    )


def describe_answers(classes: Sequence[str], answers: dict[str, np.ndarray]) -> str:
    return " ".join(
        f"{label}: {plots.describe_probabilities(classes, probabilities)}"
        for label, probabilities in answers.items()
    )
