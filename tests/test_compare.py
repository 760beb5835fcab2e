"""Comparing evaluations: only of the same cases, and never more than chance allows."""

import dataclasses

import numpy as np
import pytest
from drawn_evaluations import drawn_evaluation

from dermsa import comparison
from dermsa.evaluation import compare, statistics
from dermsa.evaluation.compare import Figure, NotComparable
from dermsa.evaluation.metrics import METRICS, macro_recall


@pytest.fixture(scope="module")
def good():
    return drawn_evaluation("good", skill=3.0, seed=1)


@pytest.fixture(scope="module")
def alike():
    return drawn_evaluation("alike", skill=3.0, seed=2)


@pytest.fixture(scope="module")
def poor():
    return drawn_evaluation("poor", skill=0.5, seed=3)


def answering(evaluation, model, answers):
    """The evaluation of a model that is certain of the given classes, int (n,)."""
    predictions = dataclasses.replace(
        evaluation.predictions, probabilities=np.eye(7)[answers].astype(float)
    )
    figures = compare.statistics.draw_samples(predictions, samples=200)
    return dataclasses.replace(
        evaluation,
        model=model,
        predictions=predictions,
        drawn=figures,
        estimates=statistics.report_of_samples(predictions, figures),
    )


# --- who may be compared ------------------------------------------------------------------------


def test_different_questions_are_not_compared(good, poor):
    def refused(reason, **changes):
        with pytest.raises(NotComparable, match=f"good and poor.*{reason}"):
            compare.table([good, dataclasses.replace(poor, **changes)])

    few = poor.predictions.subset(np.arange(100, 300))
    refused("protocol is lesion.* and image-90-10", protocol="image-90-10", predictions=few)
    refused("part is test for the first and validation", part="validation")
    refused(
        "split is hash of the spli for the first and another split for",
        split_sha256="another split",
        predictions=few,
    )
    refused("data set is ham10000 for the first and isic2017", dataset="isic2017")
    refused("300 images for the first and 200 for the second, 200 of them", predictions=few)
    other = (poor.predictions.truth + 1) % 7
    refused("truth", predictions=dataclasses.replace(poor.predictions, truth=other))
    compare.check_comparable([good, dataclasses.replace(poor, split_sha256="")])
    with pytest.raises(NotComparable, match="at least two"):
        compare.pairs([good], Figure("accuracy"))
    with pytest.raises(NotComparable, match="good is chosen twice"):
        compare.mcnemar([good, poor, good])


def test_the_same_cases_are_compared_however_the_others_were_divided(good, poor):
    other = dataclasses.replace(poor, protocol="lesion-rotated", split_sha256="another split")
    assert [row.intervals for row in compare.table([good, other])] == [
        row.intervals for row in compare.table([good, poor])
    ]


# --- differences --------------------------------------------------------------------------------


def test_the_best_is_marked_only_where_it_holds(good, alike, poor):
    rows = {row.figure: row for row in compare.table([poor, good])}
    assert rows[Figure("accuracy")].best == 1
    assert rows[Figure("log_loss")].best == 1  # lower is better
    assert rows[Figure("accuracy")].intervals[0] == poor.interval("accuracy")
    for row in compare.table([good, alike, poor], [Figure("accuracy"), Figure("macro_roc_auc")]):
        assert row.best is None  # better than one of them is not best
    assert all(row.best is None for row in compare.table([good]))


def test_a_difference_from_files_is_the_paired_bootstrap(good, poor):
    (pair,) = compare.pairs([good, poor], Figure("macro_recall"))
    fresh = statistics.paired_bootstrap(
        macro_recall, good.predictions, poor.predictions, samples=200
    )
    assert pair.comparison.difference.low == pytest.approx(fresh.difference.low, abs=1e-9)
    assert pair.comparison.p_value == fresh.p_value == pair.adjusted_p
    assert pair.holds and (pair.first, pair.second) == ("good", "poor")


def test_sentences_count_what_is_found(good):
    truth = good.predictions.truth
    melanomas = np.flatnonzero(truth == 4)
    first = answering(good, "A", np.where(truth == 4, 5, truth))
    found = np.where(truth == 4, 5, truth)
    found[melanomas[:3]] = 4
    second = answering(good, "B", found)
    (pair,) = compare.pairs([first, second], Figure("recall", "mel"))
    n = len(melanomas)
    of = f"(of {n}, which show {pair.comparison.difference.n_lesions} lesions)"
    assert pair.sentence.startswith(f"B finds 3 more photos of melanomas than A {of}; the diff")
    assert pair.comparison.difference.n == n
    (pair,) = compare.pairs([second, second_named(second, "C")], Figure("recall", "mel"))
    assert pair.sentence == (
        f"B and C find equally many photos of melanomas {of}; the difference is within chance "
        "(p = 1.0)"
    )
    assert not pair.holds


def second_named(evaluation, model):
    return dataclasses.replace(evaluation, model=model)


def test_sentences_tell_better_from_worse(good, poor):
    (pair,) = compare.pairs([poor, good], Figure("log_loss"))
    values = good.interval("log_loss").value, poor.interval("log_loss").value
    assert pair.sentence.startswith(
        f"Log loss: good is {values[1] - values[0]:.3f} lower than poor "
        f"({values[0]:.3f} against {values[1]:.3f}); the difference is more than chance (p = 0.010"
    )


def test_p_values_of_several_pairs_are_corrected(good, alike, poor):
    pairs = compare.pairs([good, alike, poor], Figure("accuracy"))
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("good", "alike"), ("good", "poor"), ("alike", "poor"),
    ]  # fmt: skip
    raw = np.array([pair.comparison.p_value for pair in pairs])
    np.testing.assert_allclose([pair.adjusted_p for pair in pairs], statistics.holm_correction(raw))
    assert "corrected for 3 pairs" in pairs[0].sentence


def test_mcnemar_counts_photos(good):
    truth = good.predictions.truth
    wrong = (truth + 1) % 7
    cases = np.arange(len(truth))
    first = answering(good, "A", np.where(cases < 10, wrong, truth))
    second = answering(good, "B", np.where((cases >= 8) & (cases < 40), wrong, truth))
    (pair,) = compare.mcnemar([first, second])
    # 0 to 7 only B gets right, 8 and 9 neither, 10 to 39 only A.
    assert pair.test == "McNemar over lesions"
    lesions = len(np.unique(first.predictions.lesion_ids))
    assert pair.sentence.startswith(
        f"B alone is right on 8 photos of 300 (of {lesions} lesions), A alone on 30; "
    )
    difference = pair.comparison.difference
    assert difference.value == pytest.approx((8 - 30) / 300)
    assert difference.low < difference.value < difference.high and difference.n == 300
    right = [one.predictions.predicted == truth for one in (first, second)]
    expected = statistics.mcnemar_test(*right, first.predictions.lesion_ids)
    assert pair.comparison.p_value == expected.p_value
    assert pair.comparison.p_value > statistics.mcnemar_test(*right).p_value  # pairs of photos


def test_differences_of_calibration_errors_are_centred(good, poor):
    (pair,) = compare.pairs([good, poor], Figure("expected_calibration_error"))
    fresh = statistics.paired_bootstrap(
        METRICS["expected_calibration_error"].compute,
        good.predictions,
        poor.predictions,
        samples=200,
        grows_when_resampled=True,
    )
    assert pair.comparison.difference.low == pytest.approx(fresh.difference.low, abs=1e-6)
    assert pair.comparison.difference.high == pytest.approx(fresh.difference.high, abs=1e-6)


def test_more_pairs_than_the_samples_can_tell_apart_are_called_so(good):
    truth = good.predictions.truth
    models = [answering(good, name, (truth + (name == "A")) % 7) for name in "ABCDE"]
    few, many = (
        compare.pairs(models[:3], Figure("accuracy")),
        compare.pairs(models, Figure("accuracy")),
    )
    assert [pair.holds for pair in few] == [True, True, False]  # 200 samples, 3 pairs
    assert not any(pair.holds for pair in many)
    assert all("too few to tell any of 10 pairs from chance" in pair.sentence for pair in many)
    assert all(pair.too_many for pair in many) and not any(pair.too_many for pair in few)
    assert "too few to tell any of 10 pairs" in comparison.in_short(many, Figure("accuracy"))


def test_a_single_lesion_tells_no_difference_from_chance(good):
    truth = good.predictions.truth
    kept = np.concatenate([np.flatnonzero(truth == 4)[:1], np.flatnonzero(truth == 5)])
    part = dataclasses.replace(
        good, predictions=good.predictions.subset(kept), cases=good.cases.iloc[kept]
    )
    right = part.predictions.truth
    models = [answering(part, "A", right), answering(part, "B", np.full(len(right), 5))]
    (pair,) = compare.pairs(models, Figure("roc_auc", "mel"))
    assert pair.comparison.difference.value == pytest.approx(-0.5)
    assert not pair.holds and pair.sentence.endswith("whether that is chance cannot be told")


def test_delong_compares_areas_over_lesions(good, poor):
    (pair,) = compare.delong([good, poor], "mel")
    assert pair.comparison.first == pytest.approx(good.interval("roc_auc", "mel").value)
    assert pair.comparison.second == pytest.approx(poor.interval("roc_auc", "mel").value)
    (pair,) = compare.delong([good, poor])
    assert pair.comparison.second == pytest.approx(poor.interval("malignancy_roc_auc").value)
    assert pair.holds and "malignant or not" in pair.sentence


def test_a_figure_that_is_not_defined_is_no_difference(good):
    few = good.predictions.truth != 3
    part = dataclasses.replace(
        good, predictions=good.predictions.subset(few), cases=good.cases[few]
    )
    first = answering(part, "A", part.predictions.truth)
    second = answering(part, "B", part.predictions.truth)
    (pair,) = compare.pairs([first, second], Figure("recall", "df"))
    assert pair.sentence.endswith("is not defined on these cases; there is nothing to test")
    assert not pair.holds


# --- cases and names ------------------------------------------------------------------------------


def test_disagreements_come_first_and_confident_mistakes_before_mild_ones(good, poor):
    cases = compare.disagreements([good, poor])
    assert len(cases) == 300 and set(cases["row"]) == set(range(300))
    disagree = cases["disagree"].to_numpy()
    assert disagree.any() and (np.diff(disagree.astype(int)) <= 0).all()
    falling = cases["wrong_confidence"].to_numpy()
    assert (np.diff(falling[disagree]) <= 0).all()
    first = cases.iloc[0]
    row = first["row"]
    assert first["image_id"] == good.cases["image_id"][row]
    wrong = [
        one.predictions.probabilities[row].max()
        for one in (good, poor)
        if one.predictions.predicted[row] != one.predictions.truth[row]
    ]
    assert first["wrong"] == len(wrong) and first["wrong_confidence"] == max(wrong)
    assert first["poor diagnosis"] == good.classes[poor.predictions.predicted[row]]


def test_figures_are_read_from_words(good):
    assert compare.figure("macro_recall", good.classes) == Figure("macro_recall")
    assert compare.figure("recall:mel", good.classes) == Figure("recall", "mel")
    assert Figure("recall", "mel").title == "Sensitivity (recall): Melanoma"
    for text, sentence in (
        ("beauty", "no metric 'beauty'"),
        ("recall", "recall:CLASS with one of akiec"),
        ("accuracy:mel", "leave out :mel"),
    ):
        with pytest.raises(ValueError, match=sentence):
            compare.figure(text, good.classes)


def test_every_headline_figure_exists(good):
    assert all(figure.metric in METRICS for figure in compare.HEADLINE)
    assert len(compare.table([good])) == len(compare.HEADLINE)
