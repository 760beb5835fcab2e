"""Whether a model serves everyone alike: its figures by sex, age, site, confirmation and source.

    groups = measure(predictions, cases)

Differences between groups are not the model's alone: the mix of diagnoses differs (there are
hardly any melanomas under thirty), and "confirmed by" is itself a matter of how suspicious a
lesion looked. The mix is therefore part of every group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermsa.evaluation.metrics import METRICS, Metric, Predictions, recall
from dermsa.evaluation.statistics import SAMPLES, Interval, bootstrap_report
from dermsa.taxonomy import UNKNOWN

AGE_EDGES = (30, 45, 60, 75)
"""Years at which a new band begins."""
SMALL = 30
"""Figures that rest on fewer lesions are shown, but greyed: one lesion more or less moves them."""
FEW = 5
"""Likewise averages over the diagnoses where one of them has fewer photos."""
PROPERTIES = {
    "sex": "Sex",
    "age": "Age",
    "localization": "Site",
    "dx_type": "Confirmed by",
    "source": "Source",
}
METRIC_NAMES = ("accuracy", "macro_recall", "macro_roc_auc", "malignancy_roc_auc")
TITLES = {name: METRICS[name].title for name in METRIC_NAMES} | {
    "melanoma_recall": "Photos of melanomas found"
}
"""The figures of a group, by name, with their titles."""


@dataclass(frozen=True)
class Group:
    """The figures of the cases that share a property.

    Attributes:
        property: A key of `PROPERTIES`.
        value: What they share, such as "female" or "45 to 59".
        n, n_lesions: Cases and different lesions.
        by_class: Number of cases by diagnosis.
        intervals: By the names of `TITLES`; NaN where the group lacks the cases for a figure.
    """

    property: str
    value: str
    n: int
    n_lesions: int
    by_class: Mapping[str, int]
    intervals: Mapping[str, Interval]

    def as_dict(self) -> dict:
        intervals = {name: one.as_dict() for name, one in self.intervals.items()}
        return {**vars(self), "by_class": dict(self.by_class), "intervals": intervals}

    @classmethod
    def from_dict(cls, values: Mapping) -> Group:
        intervals = {name: Interval.from_dict(one) for name, one in values["intervals"].items()}
        # Files of before say of the whole group whether it is small.
        known = {name: of for name, of in values.items() if name != "small"}
        return cls(**{**known, "intervals": intervals})


def is_small(group: Group, metric: str) -> bool:
    """Whether a figure of a group rests on too little to be believed: on few lesions, as a recall
    on three melanomas does, or as an average over the diagnoses on `FEW` photos of one of them,
    which count as much there as hundreds of another."""
    lesions = group.intervals[metric].n_lesions
    if lesions is not None and lesions < SMALL:
        return True
    return metric.startswith("macro") and min(filter(None, group.by_class.values())) < FEW


def measure(
    predictions: Predictions, cases: pd.DataFrame, samples: int = SAMPLES
) -> tuple[Group, ...]:
    """Every group of every property that is known of any case.

    Args:
        predictions: n cases.
        cases: n rows in the same order, with columns out of `PROPERTIES`; "", NaN and "unknown"
            mean unknown, and those cases form a group of their own.
        samples: Bootstrap samples of lesions within the group.

    Returns:
        In the order of `PROPERTIES`; ages from young to old, other values by name, the unknown
        last. A property that is unknown throughout has no groups.
    """
    groups = []
    for name in PROPERTIES:
        if name not in cases.columns:
            continue
        values = age_bands(cases[name]) if name == "age" else _texts(cases[name])
        if (values == UNKNOWN).all():
            continue
        for value in sorted(set(values), key=lambda text: _order(name, text)):
            chosen = np.flatnonzero(values == value)
            groups.append(_group(name, value, predictions.subset(chosen), samples))
    return tuple(groups)


def age_bands(ages: pd.Series | np.ndarray) -> np.ndarray:
    """Name of the band of each age in years, str (n,); "unknown" for NaN."""
    ages = np.asarray(ages, dtype=np.float64)
    names = np.array([*_band_names(), UNKNOWN])
    band = np.searchsorted(AGE_EDGES, ages, side="right")
    return names[np.where(np.isfinite(ages), band, len(names) - 1)]


def _band_names() -> tuple[str, ...]:
    between = (
        f"{low} to {high - 1}" for low, high in zip(AGE_EDGES[:-1], AGE_EDGES[1:], strict=True)
    )
    return (f"under {AGE_EDGES[0]}", *between, f"{AGE_EDGES[-1]} and over")


def _texts(values: pd.Series) -> np.ndarray:
    texts = values.astype(object).where(values.notna(), UNKNOWN).astype(str).str.strip()
    return texts.replace("", UNKNOWN).to_numpy(dtype=str)


def _order(name: str, value: str) -> tuple:
    place = _band_names().index(value) if name == "age" and value != UNKNOWN else 0
    return value == UNKNOWN, place, value


def _group(name: str, value: str, predictions: Predictions, samples: int) -> Group:
    n_lesions = len(np.unique(predictions.lesion_ids))
    counts = np.bincount(predictions.truth, minlength=len(predictions.classes))
    metrics = [METRICS[name] for name in METRIC_NAMES]
    if "mel" in predictions.classes:
        metrics.append(_melanoma_recall(predictions.classes.index("mel")))
    if not predictions.malignant:
        metrics = [metric for metric in metrics if not metric.name.startswith("malignancy")]
    return Group(
        property=name,
        value=value,
        n=len(predictions),
        n_lesions=n_lesions,
        by_class=dict(zip(predictions.classes, counts.tolist(), strict=True)),
        intervals={
            estimate.metric: estimate.interval
            for estimate in bootstrap_report(predictions, metrics, samples=samples)
        },
    )


def _melanoma_recall(column: int) -> Metric:
    return Metric(
        "melanoma_recall",
        TITLES["melanoma_recall"],
        lambda predictions: recall(predictions)[..., column],
        False,
        lambda predictions: predictions.truth == column,
        is_proportion=True,
    )
