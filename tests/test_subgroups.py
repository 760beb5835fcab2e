"""Subgroups: every case in one group of each property, figures their own, small ones told."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from drawn_evaluations import drawn_cases, drawn_evaluation

from dermsa.evaluation import subgroups
from dermsa.evaluation.metrics import METRICS


@pytest.fixture(scope="module")
def evaluation():
    return drawn_evaluation()


def test_ages_fall_into_bands():
    ages = [0, 29.9, 30, 44, 45, 60, 75, 110, np.nan]
    assert subgroups.age_bands(np.array(ages)).tolist() == [
        "under 30", "under 30", "30 to 44", "30 to 44", "45 to 59", "60 to 74", "75 and over",
        "75 and over", "unknown",
    ]  # fmt: skip


def test_every_case_is_in_one_group_of_each_property(evaluation):
    by_property = {}
    for group in evaluation.groups:
        by_property.setdefault(group.property, []).append(group)
        assert sum(group.by_class.values()) == group.n
    assert list(by_property) == ["sex", "age", "localization", "dx_type"]  # no source is known
    for groups in by_property.values():
        assert sum(group.n for group in groups) == 300
    assert [group.value for group in by_property["sex"]] == ["female", "male", "unknown"]
    ages = [group.value for group in by_property["age"]]
    assert ages[0] == "under 30" and ages[-2:] == ["75 and over", "unknown"]


def test_a_figure_is_small_by_the_lesions_that_it_rests_on(evaluation):
    group = next(group for group in evaluation.groups if group.value == "female")
    accuracy, melanomas = group.intervals["accuracy"], group.intervals["melanoma_recall"]
    assert melanomas.n_lesions < subgroups.SMALL <= accuracy.n_lesions == group.n_lesions
    assert subgroups.is_small(group, "melanoma_recall")
    assert not subgroups.is_small(group, "accuracy")


def test_an_average_over_diagnoses_is_small_where_one_of_them_is_rare(evaluation):
    group = max(evaluation.groups, key=lambda group: group.n)
    for fewest, small in ((subgroups.FEW, False), (subgroups.FEW - 1, True), (1, True)):
        of = dataclasses.replace(group, by_class={**group.by_class, "df": fewest, "vasc": 0})
        assert subgroups.is_small(of, "macro_recall") is small
        assert not subgroups.is_small(of, "accuracy")


def test_groups_of_older_files_are_read(evaluation):
    group = evaluation.groups[0]
    assert subgroups.Group.from_dict({**group.as_dict(), "small": True}) == group


def test_figures_are_those_of_the_group_alone(evaluation):
    cases, _ = drawn_cases()
    women = evaluation.predictions.subset(np.flatnonzero(cases["sex"] == "female"))
    group = next(group for group in evaluation.groups if group.value == "female")
    for name in subgroups.METRIC_NAMES:
        assert group.intervals[name].value == pytest.approx(float(METRICS[name].compute(women)))
    found = group.intervals["melanoma_recall"]
    melanomas = women.truth == 4
    assert found.value == pytest.approx((women.predicted == 4)[melanomas].mean())
    assert found.n == melanomas.sum() and found.low < found.value < found.high


def test_a_group_without_a_class_or_cancer_has_figures_that_are_not_defined(evaluation):
    benign = np.flatnonzero(np.isin(evaluation.predictions.truth, [2, 5]))
    cases = pd.DataFrame({"source": ["clinic A"] * len(benign)})
    (group,) = subgroups.measure(evaluation.predictions.subset(benign), cases, samples=20)
    assert group.value == "clinic A" and np.isfinite(group.intervals["accuracy"].value)
    assert np.isnan(group.intervals["melanoma_recall"].value)
    assert np.isnan(group.intervals["malignancy_roc_auc"].value)
