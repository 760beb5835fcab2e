"""Intervals cover, tests agree with literal or published answers, other cases are refused."""

import math
import time

import numpy as np
import pytest
from scipy.stats import binomtest, chi2, norm

from dermsa.evaluation.metrics import (
    METRICS,
    Predictions,
    accuracy,
    expected_calibration_error,
    macro_recall,
    recall,
)
from dermsa.evaluation.statistics import (
    Interval,
    _bootstrap_p_value,
    bootstrap_interval,
    bootstrap_report,
    check_same_cases,
    compare_samples,
    delong_test,
    draw_samples,
    holm_correction,
    lesion_bootstrap_weights,
    mcnemar_test,
    mean_intervals,
    on_other_side,
    paired_bootstrap,
    report_of_samples,
    wilson_interval,
)

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
MALIGNANT = frozenset({"akiec", "bcc", "mel"})


def draw(n=300, lesions=200, seed=0, skill=1.5, noise_seed=None) -> Predictions:
    """Photos of lesions: one diagnosis per lesion, one or more photos each."""
    generator = np.random.default_rng(seed)
    diagnosis = generator.choice(7, lesions, p=[0.05, 0.06, 0.12, 0.03, 0.12, 0.58, 0.04])
    lesion_ids = np.concatenate([np.arange(lesions), generator.integers(lesions, size=n - lesions)])
    truth = diagnosis[lesion_ids]
    if noise_seed is not None:
        generator = np.random.default_rng(noise_seed)
    logits = generator.normal(size=(n, 7))
    logits[np.arange(n), truth] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(truth, probabilities, CLASSES, MALIGNANT, lesion_ids=lesion_ids)


def right_or_wrong(correct: np.ndarray, lesion_ids=None) -> Predictions:
    truth = np.zeros(len(correct), dtype=int)
    return Predictions(truth, np.eye(2)[1 - correct.astype(int)], ("a", "b"), (), None, lesion_ids)


# Wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # All of n: the lower end is n / (n + z^2), 29 / 32.8415.
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_wilson_against_published_values(successes, n, low, high):
    interval = wilson_interval(successes, n)
    assert interval.value == successes / n
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=6e-5)


def test_wilson_is_scipys_at_any_confidence():
    expected = binomtest(7, 30).proportion_ci(0.9, method="wilson")
    interval = wilson_interval(7, 30, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))


def test_wilson_of_nothing_knows_nothing():
    interval = wilson_interval(0, 0)
    assert math.isnan(interval.value)
    assert (interval.low, interval.high, interval.n) == (0, 1, 0)


# Bootstrap of lesions


def test_weights_draw_lesions_and_not_photos():
    lesion_ids = np.array(["b", "a", "b", "c", "b"])
    weights = lesion_bootstrap_weights(lesion_ids, samples=500, seed=3)
    assert weights.shape == (500, 5)
    assert np.issubdtype(weights.dtype, np.integer)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 0], weights[:, 4])
    # As many lesions are drawn as there are, and each equally often.
    np.testing.assert_array_equal(weights[:, [0, 1, 3]].sum(axis=1), 3)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)


def test_the_same_seed_draws_the_same():
    ids = np.arange(20)
    first, again = (lesion_bootstrap_weights(ids, 10, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != lesion_bootstrap_weights(ids, 10, seed=6)).any()


def test_the_interval_is_that_of_resampling_literally():
    p = draw(n=80, lesions=50)
    weights = lesion_bootstrap_weights(p.lesion_ids, samples=200, seed=1)
    values = [(p.predicted == p.truth)[np.arange(80).repeat(sample)].mean() for sample in weights]
    interval = bootstrap_interval(accuracy, p, samples=200, seed=1)
    expected = np.quantile(values, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    assert interval.value == (p.predicted == p.truth).mean()
    assert (interval.n, interval.n_lesions) == (80, 50)


def test_intervals_cover_the_truth_when_photos_of_a_lesion_are_alike():
    generator = np.random.default_rng(0)
    lesion_ids = np.arange(120).repeat(3)
    by_lesion = by_photo = 0
    for seed in range(200):
        ease = generator.beta(1.6, 0.4, size=120)  # a lesion is easy or hard in all its photos
        correct = generator.random(360) < ease[lesion_ids]
        for grouped in (True, False):
            p = right_or_wrong(correct, lesion_ids if grouped else None)
            interval = bootstrap_interval(accuracy, p, samples=400, seed=seed)
            covered = interval.low <= 0.8 <= interval.high
            by_lesion += grouped and covered
            by_photo += (not grouped) and covered
    assert 0.90 <= by_lesion / 200 <= 0.98
    assert by_photo / 200 < 0.88


def test_the_report_agrees_with_single_intervals():
    p = draw()
    report = {(e.metric, e.of_class): e.interval for e in bootstrap_report(p, samples=150, seed=2)}
    assert report["macro_recall", None] == bootstrap_interval(macro_recall, p, samples=150, seed=2)
    melanoma = bootstrap_interval(lambda p: recall(p)[..., 4], p, samples=150, seed=2)
    of_report = report["recall", "mel"]
    assert (of_report.value, of_report.low, of_report.high) == (
        melanoma.value,
        melanoma.low,
        melanoma.high,
    )
    expected = sum(7 if metric.is_per_class else 1 for metric in METRICS.values())
    assert len(report) == expected


def test_the_report_counts_the_cases_that_a_figure_rests_on():
    p = draw()
    report = {(e.metric, e.of_class): e.interval for e in bootstrap_report(p, samples=20)}
    melanomas = p.truth == 4
    assert report["recall", "mel"].n == melanomas.sum()
    assert report["recall", "mel"].n_lesions == len(np.unique(p.lesion_ids[melanomas]))
    assert report["precision", "mel"].n == (p.predicted == 4).sum()
    assert report["specificity", "mel"].n == (~melanomas).sum()
    assert report["malignancy_roc_auc", None].n == np.isin(p.truth, [0, 1, 4]).sum()
    assert report["accuracy", None].n == 300


def test_every_interval_of_a_calibrated_model_holds_its_value():
    # Resampling alone raises calibration errors, here beyond the value itself.
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet((0.3, 0.3, 0.6, 0.2, 0.6, 2, 0.2), size=800)
    truth = (generator.random(800)[:, None] > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    p = Predictions(truth, probabilities, CLASSES, MALIGNANT)
    for estimate in bootstrap_report(p, samples=200):
        interval = estimate.interval
        assert 0 <= interval.low <= interval.value <= interval.high, estimate
    plain = bootstrap_interval(expected_calibration_error, p, samples=200)
    moved = bootstrap_interval(
        expected_calibration_error, p, samples=200, grows_when_resampled=True
    )
    assert moved.high < plain.high
    assert moved.low <= moved.value <= moved.high


def test_all_found_is_not_proof_that_all_are_found():
    truth = np.repeat([0, 1], [6, 30])
    p = Predictions(truth, np.eye(2)[truth], ("df", "nv"))
    report = {(e.metric, e.of_class): e.interval for e in bootstrap_report(p, samples=50)}
    interval = report["recall", "df"]
    assert (interval.value, interval.high) == (1, 1)
    assert interval.low == pytest.approx(wilson_interval(6, 6).low)


def test_samples_that_all_agree_do_not_rule_out_chance():
    # One malignant photo, scored above all others: every sample has an area of 1.
    truth = np.repeat([0, 1], [1, 39])
    probabilities = np.repeat([[0.9, 0.1], [0.2, 0.8]], [1, 39], axis=0)
    p = Predictions(truth, probabilities, ("mel", "nv"), {"mel"})
    report = {(e.metric, e.of_class): e.interval for e in bootstrap_report(p, samples=50)}
    for name, of_class in (("malignancy_roc_auc", None), ("roc_auc", "mel"), ("cohen_kappa", None)):
        interval = report[name, of_class]
        assert interval.value == 1 and np.isnan([interval.low, interval.high]).all()
    assert str(report["malignancy_roc_auc", None]) == "1.000, n = 1"
    alone = bootstrap_interval(METRICS["malignancy_roc_auc"].compute, p, samples=50)
    assert np.isnan([alone.low, alone.high]).all()
    (of_means,) = mean_intervals(np.full((5, 1), 0.3), np.arange(5), samples=50)
    assert of_means.value == pytest.approx(0.3) and np.isnan([of_means.low, of_means.high]).all()


@pytest.mark.parametrize("alone", [0, 1], ids=["positive", "negative"])
def test_an_area_over_a_single_lesion_on_one_side_has_no_ends(alone):
    truth = np.repeat([alone, 1 - alone], [2, 60])
    lesion_ids = np.concatenate([[0, 0], np.arange(1, 61)])
    scores = np.random.default_rng(0).random(62)
    probabilities = np.stack([scores, 1 - scores], axis=1)
    p = Predictions(truth, probabilities, ("mel", "nv"), {"mel"}, lesion_ids=lesion_ids)
    report = {(e.metric, e.of_class): e.interval for e in bootstrap_report(p, samples=50)}
    for name in ("malignancy_roc_auc", "malignancy_specificity_at_90_sensitivity"):
        interval = report[name, None]
        assert np.isfinite(interval.value) and np.isnan([interval.low, interval.high]).all()
    lesions = [1, 60] if alone == 0 else [60, 1]  # malignant, then others
    assert on_other_side(METRICS["malignancy_roc_auc"], p) == lesions[1]
    drawn = np.full(50, 0.2), np.full(50, 0.9)
    comparison = compare_samples(0.2, 0.9, *drawn, 62, lesions[0], other_side=lesions[1])
    assert math.isnan(comparison.difference.low) and math.isnan(comparison.p_value)


def test_the_precision_of_what_was_never_said_rests_on_nothing():
    truth = np.repeat([0, 1], [6, 30])
    p = Predictions(truth, np.eye(2)[np.ones(36, dtype=int)], ("df", "nv"))
    report = {(e.metric, e.of_class): e.interval for e in bootstrap_report(p, samples=50)}
    interval = report["precision", "df"]  # 0 as in scikit-learn
    assert (interval.value, interval.n) == (0, 0)
    assert np.isnan([interval.low, interval.high]).all()


@pytest.mark.filterwarnings("error")
def test_an_empty_class_has_no_interval():
    p = draw()
    p = p.subset(p.truth != 3)
    report = {(e.metric, e.of_class): e.interval for e in bootstrap_report(p, samples=50)}
    interval = report["recall", "df"]
    assert np.isnan([interval.value, interval.low, interval.high]).all()
    assert interval.n == 0
    assert np.isfinite(report["macro_recall", None].low)


def test_all_metrics_of_1500_cases_take_seconds():
    p = draw(n=1500, lesions=1000)
    start = time.perf_counter()
    bootstrap_report(p, samples=2000)
    # Measured at about 1.2 s on two busy cores; the limit only catches a lost order of magnitude.
    assert time.perf_counter() - start < 15


# Two models


def test_paired_bootstrap_finds_a_difference_and_no_difference():
    weak, strong = draw(skill=1.0, noise_seed=1), draw(skill=2.0, noise_seed=2)
    comparison = paired_bootstrap(macro_recall, weak, strong, samples=500)
    assert comparison.difference.value == pytest.approx(comparison.second - comparison.first)
    assert comparison.difference.low > 0
    assert comparison.p_value < 0.01
    same = paired_bootstrap(macro_recall, weak, weak, samples=100)
    assert (same.difference.value, same.p_value) == (0, 1)
    assert np.isnan([same.difference.low, same.difference.high]).all()


def test_a_tie_is_one_also_where_one_side_was_kept_in_single_precision():
    drawn = np.round(np.random.default_rng(0).normal(0.01, 0.01, 2000), 2)
    rounded = drawn + np.random.default_rng(1).normal(0, 3e-8, 2000)
    assert (drawn == 0).mean() > 0.1
    assert _bootstrap_p_value(rounded) == _bootstrap_p_value(drawn)


def test_paired_bootstrap_is_symmetric():
    first, second = draw(noise_seed=1), draw(noise_seed=2)
    there = paired_bootstrap(accuracy, first, second, samples=300)
    back = paired_bootstrap(accuracy, second, first, samples=300)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.p_value == back.p_value


def test_pairing_narrows_the_interval():
    # The second model is the first with a few answers mended.
    correct = np.random.default_rng(0).random(400) < 0.7
    mended = correct.copy()
    mended[np.flatnonzero(~correct)[:10]] = True
    first, second = right_or_wrong(correct), right_or_wrong(mended)
    difference = paired_bootstrap(accuracy, first, second, samples=500).difference
    alone = bootstrap_interval(accuracy, first, samples=500)
    assert difference.high - difference.low < (alone.high - alone.low) / 2


def test_paired_p_values_are_right_as_often_as_they_say():
    generator = np.random.default_rng(0)
    small = 0
    for seed in range(200):
        models = [right_or_wrong(generator.random(150) < 0.8) for _ in range(2)]
        small += paired_bootstrap(accuracy, *models, samples=300, seed=seed).p_value < 0.05
    assert 0.01 <= small / 200 <= 0.09


def test_differences_of_calibration_errors_are_centred_as_the_errors_are():
    # The better calibrated of two models grows more by resampling, which is no difference.
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet((0.3, 0.3, 0.6, 0.2, 0.6, 2, 0.2), size=800)
    truth = (generator.random(800)[:, None] > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    sharper = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    good, poor = (Predictions(truth, p, CLASSES, MALIGNANT) for p in (probabilities, sharper))
    plain, moved = (
        paired_bootstrap(
            expected_calibration_error, good, poor, samples=400, grows_when_resampled=grows
        ).difference
        for grows in (False, True)
    )
    middle = (moved.low + moved.high) / 2
    assert middle == pytest.approx(moved.value, abs=0.003)
    assert (plain.low + plain.high) / 2 < middle - 0.005


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda p: p.subset(np.arange(200)), "200 of them shared"),
        (lambda p: p.subset(np.arange(300)[::-1]), "same order"),
        (lambda p: Predictions(p.truth, p.probabilities, CLASSES[::-1], MALIGNANT), "classes"),
        (lambda p: Predictions((p.truth + 1) % 7, p.probabilities, CLASSES, MALIGNANT), "truth"),
        (lambda p: Predictions(p.truth, p.probabilities, CLASSES, MALIGNANT), "lesion_ids"),
    ],
)
def test_different_cases_are_not_compared(other, message):
    p = draw()
    with pytest.raises(ValueError, match=message):
        check_same_cases(p, other(p))
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(accuracy, p, other(p))


# McNemar


def correct_by_table(both, only_first, only_second, neither):
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first, second


def test_mcnemar_worked_by_hand():
    # 1 against 5: 2 * (C(6,0) + C(6,1)) / 2^6 = 14 / 64.
    result = mcnemar_test(*correct_by_table(40, 1, 5, 4))
    assert (result.only_first, result.only_second, result.n) == (1, 5, 50)
    assert result.p_value == pytest.approx(14 / 64)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 3), (4, 4), (12, 30), (150, 86), (86, 150)])
def test_mcnemar_is_the_binomial_test(b, c):
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_test(*correct_by_table(10, b, c, 10)).p_value == pytest.approx(expected)


def test_mcnemar_against_agresti():
    # Approval of a prime minister, asked twice: 794, 150, 86, 570; the statistic is 17.36
    # (Agresti, Categorical Data Analysis). The exact p-value is close to that of chi-square.
    p_value = mcnemar_test(*correct_by_table(794, 150, 86, 570)).p_value
    assert p_value == pytest.approx(chi2.sf((150 - 86) ** 2 / (150 + 86), 1), rel=0.3)
    assert p_value < 1e-4


def test_mcnemar_over_lesions_of_one_photo_is_chi_square():
    correct = correct_by_table(794, 150, 86, 570)
    result = mcnemar_test(*correct, np.arange(1600))
    assert result.p_value == pytest.approx(chi2.sf(17.36, 1), rel=0.01)
    # Agresti: 0.040 less, 95 % interval 0.021 to 0.059.
    assert result.difference.value == pytest.approx(-0.04)
    assert (result.difference.low, result.difference.high) == pytest.approx(
        (-0.0587, -0.0213), abs=1e-4
    )
    assert mcnemar_test(*correct_by_table(5, 0, 0, 5), np.arange(10)).p_value == 1


def test_mcnemar_over_lesions_worked_by_hand():
    # Lesions a to d: +2, -1, +1 - 1 = 0, +1; (2)^2 / (4 + 1 + 1).
    first = np.array([0, 0, 1, 0, 1, 0, 1], dtype=bool)
    second = np.array([1, 1, 0, 1, 0, 1, 1], dtype=bool)
    result = mcnemar_test(first, second, np.array(list("aabccdd")))
    assert (result.only_first, result.only_second) == (2, 4)
    assert result.p_value == pytest.approx(chi2.sf(4 / 6, 1))
    assert (result.difference.n, result.difference.n_lesions) == (7, 4)


def test_copies_of_a_photo_do_not_make_mcnemar_surer():
    first, second = correct_by_table(40, 9, 22, 20)
    once = mcnemar_test(first, second, np.arange(91))
    copied = mcnemar_test(first.repeat(3), second.repeat(3), np.arange(91).repeat(3))
    assert copied.p_value == pytest.approx(once.p_value)
    assert copied.difference.low == pytest.approx(once.difference.low)
    assert mcnemar_test(first.repeat(3), second.repeat(3)).p_value < once.p_value / 10


def test_mcnemar_over_lesions_agrees_with_exchanging_the_models_lesion_by_lesion():
    generator = np.random.default_rng(2)
    lesion_ids = generator.integers(120, size=300)
    ease = generator.beta(1, 1, size=(2, 120))
    first, second = generator.random((2, 300)) < ease[:, lesion_ids]
    of_lesion = np.bincount(lesion_ids, second.astype(float) - first, minlength=120)
    signs = generator.choice([-1, 1], size=(20000, 120))
    extreme = np.abs(signs @ of_lesion) - abs(of_lesion.sum())
    permuted = (extreme > 0).mean() + (extreme == 0).mean() / 2  # of whole numbers: half of a tie
    assert mcnemar_test(first, second, lesion_ids).p_value == pytest.approx(permuted, abs=0.03)


def test_mcnemar_over_lesions_is_right_as_often_as_it_says():
    generator = np.random.default_rng(0)
    lesion_ids = np.arange(150).repeat(3)
    small = {True: 0, False: 0}
    for _ in range(400):
        ease = generator.beta(0.4, 0.4, size=(2, 150))
        first, second = generator.random((2, 450)) < ease[:, lesion_ids]
        for grouped in small:
            test = mcnemar_test(first, second, lesion_ids if grouped else None)
            small[grouped] += test.p_value < 0.05
    assert 0.03 <= small[True] / 400 <= 0.08
    assert small[False] / 400 > 0.12


# DeLong


def delong_literally(positive, first, second):
    """DeLong, DeLong, Clarke-Pearson 1988, equations 3 to 8, with every pair compared."""
    placements = []
    for score in (first, second):
        pairs = score[positive][:, None] - score[~positive][None, :]
        wins = (pairs > 0) + 0.5 * (pairs == 0)
        placements.append((wins.mean(axis=1), wins.mean(axis=0)))
    areas = [above.mean() for above, _ in placements]
    s10 = np.cov([above for above, _ in placements])
    s01 = np.cov([below for _, below in placements])
    covariance = s10 / positive.sum() + s01 / (~positive).sum()
    contrast = np.array([-1, 1])
    error = np.sqrt(contrast @ covariance @ contrast)
    return areas, error, 2 * norm.sf(abs(areas[1] - areas[0]) / error)


@pytest.mark.parametrize("decimals", [1, 8], ids=["ties", "no ties"])
def test_delong_is_the_literal_computation(decimals):
    generator = np.random.default_rng(0)
    positive = generator.random(150) < 0.3
    first = np.round(generator.normal(size=150) + positive, decimals)
    second = np.round(0.5 * first + generator.normal(size=150) + positive, decimals)
    areas, error, p_value = delong_literally(positive, first, second)
    result = delong_test(positive, first, second)
    assert (result.first, result.second) == pytest.approx(tuple(areas))
    assert result.p_value == pytest.approx(p_value)
    half_width = (result.difference.high - result.difference.low) / 2
    assert half_width == pytest.approx(norm.ppf(0.975) * error)


# DeLong, DeLong, Clarke-Pearson 1988: patients with ovarian cancer, whether surgery helps them.
# Albumin, total protein, the K-G score (lower is better), the outcome; as in the SAS/STAT User's
# Guide, "Comparing Receiver Operating Characteristic Curves", whose results stand in the test.
OVARIAN_CANCER = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
1.6 5.6  5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
4.3 7.0  4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
3.0 4.7  8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
3.2 5.1  5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
3.5 6.2  5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
3.6 6.6  5 1
"""


@pytest.mark.parametrize(
    ("column", "area", "difference", "low", "high", "p_value"),
    [(0, 0.7366, 0.0108, -0.1761, 0.1976, 0.9102), (1, 0.6478, -0.0780, -0.2830, 0.1271, 0.4561)],
    ids=["albumin", "total protein"],
)
def test_delong_of_their_own_example(column, area, difference, low, high, p_value):
    table = np.array(OVARIAN_CANCER.split(), dtype=float).reshape(-1, 4)
    result = delong_test(table[:, 3] == 1, 10 - table[:, 2], table[:, column])
    interval = result.difference
    assert (result.first, result.second) == pytest.approx((0.7258, area), abs=5e-5)
    expected = pytest.approx((difference, low, high), abs=5e-5)
    assert (interval.value, interval.low, interval.high) == expected
    assert result.p_value == pytest.approx(p_value, abs=5e-5)


def test_copies_of_a_photo_do_not_make_delong_surer():
    generator = np.random.default_rng(1)
    positive = generator.random(80) < 0.4
    first, second = generator.normal(size=(2, 80)) + positive
    once = delong_test(positive, first, second)
    lesion_ids = np.arange(80).repeat(3)
    copies = [values.repeat(3) for values in (positive, first, second)]
    assert delong_test(*copies, lesion_ids).p_value == pytest.approx(once.p_value)
    assert delong_test(*copies).p_value < once.p_value


def test_delong_and_the_paired_bootstrap_agree():
    first, second = draw(n=600, lesions=400, noise_seed=1), draw(n=600, lesions=400, noise_seed=2)
    bootstrap = paired_bootstrap(METRICS["malignancy_roc_auc"].compute, first, second)
    delong = delong_test(
        first.is_malignant,
        first.malignancy_probability,
        second.malignancy_probability,
        first.lesion_ids,
    )
    assert delong.first == pytest.approx(bootstrap.first)
    assert delong.difference.low == pytest.approx(bootstrap.difference.low, abs=0.01)
    assert delong.difference.high == pytest.approx(bootstrap.difference.high, abs=0.01)


def test_delong_of_the_same_scores_finds_nothing():
    score = np.arange(10.0)
    assert delong_test(score > 4, score, score).p_value == 1


def test_delong_of_areas_that_no_lesion_moves_tells_nothing():
    positive = np.arange(6) > 2
    result = delong_test(positive, 1.0 * positive, -1.0 * positive)
    assert (result.first, result.second) == (1, 0)
    assert np.isnan([result.p_value, result.difference.low, result.difference.high]).all()
    ranks = np.arange(5.0)  # alike for all lesions, but for rounding
    result = delong_test(np.arange(10) > 4, np.tile(ranks, 2), np.r_[ranks, ranks - 0.25])
    assert np.isnan([result.p_value, result.difference.low, result.difference.high]).all()


# Holm


def test_holm_worked_by_hand():
    # 0.01 * 4, 0.02 * 3, 0.03 * 2 raised to the one before, 0.04 * 1 likewise.
    adjusted = holm_correction(np.array([0.03, 0.01, 0.04, 0.02]))
    np.testing.assert_allclose(adjusted, [0.06, 0.04, 0.06, 0.06])


def test_holm_never_exceeds_one_and_takes_one_or_none():
    np.testing.assert_array_equal(holm_correction([0.9, 0.8]), [1, 1])
    np.testing.assert_array_equal(holm_correction([0.3]), [0.3])
    assert holm_correction([]).shape == (0,)


# Input that is not right


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(5, 4), "successes <= n"),
        (lambda: wilson_interval(1, 4, confidence=95), "confidence"),
        (lambda: lesion_bootstrap_weights([]), "lesion_ids"),
        (lambda: lesion_bootstrap_weights([1, 2], samples=0), "at least 1"),
        (lambda: bootstrap_interval(recall, draw(), samples=5), "one per class"),
        (lambda: bootstrap_interval(accuracy, draw().weighted(np.zeros(300))), "without weights"),
        (lambda: paired_bootstrap(recall, draw(), draw(), samples=5), "one per class"),
        (lambda: mcnemar_test([1, 0], [0, 1]), "bool"),
        (lambda: mcnemar_test(np.array([True]), np.array([True, False])), "one shape"),
        (lambda: delong_test(np.array([True, False]), [1, 2], [1, 2]), "at least two positive"),
        (lambda: delong_test(np.arange(4) > 1, [1, 2, 3, np.nan], [1, 2, 3, 4]), "finite"),
        (lambda: delong_test(np.arange(4), [1, 2, 3, 4], [1, 2, 3, 4]), "bool"),
        (
            lambda: delong_test(np.arange(6) > 2, range(6), range(6), np.array([0, 1, 2, 2, 3, 4])),
            "both",
        ),
        (lambda: holm_correction([0.5, 1.5]), "between 0 and 1"),
        (lambda: holm_correction([0.5, math.nan]), "between 0 and 1"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected_and_received(call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "Expected" in str(refused.value)
    assert "Received" in str(refused.value)


# Kept samples


def test_kept_samples_give_the_report_and_the_comparison():
    first, second = draw(noise_seed=1), draw(noise_seed=2, skill=1.0)
    drawn = [draw_samples(model, samples=60) for model in (first, second)]
    assert report_of_samples(first, drawn[0]) == bootstrap_report(first, samples=60)
    values = float(macro_recall(first)), float(macro_recall(second))
    kept = (of["macro_recall"] for of in drawn)
    assert compare_samples(*values, *kept, 300, 200) == paired_bootstrap(
        macro_recall, first, second, samples=60
    )


def test_an_interval_survives_json():
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    assert str(nothing) == "not defined, n = 0"
    for interval in (Interval(0.5, 0.4, 0.6, 10, 8), wilson_interval(0, 0), nothing):
        again = Interval.from_dict(interval.as_dict())
        assert str(again) == str(interval) and again.n_lesions == interval.n_lesions
    assert wilson_interval(0, 0).as_dict()["value"] is None


def test_intervals_of_means_are_those_of_the_accuracy():
    predictions = draw()
    right = predictions.predicted == predictions.truth
    values = np.stack([right, np.ones(300), np.full(300, np.nan)], axis=1).astype(float)
    of_right, of_ones, of_nothing = mean_intervals(values, predictions.lesion_ids, samples=200)
    expected = bootstrap_interval(accuracy, predictions, samples=200)
    assert (of_right.value, of_right.n_lesions) == (expected.value, expected.n_lesions)
    assert of_right.low == pytest.approx(expected.low)
    assert of_right.high == pytest.approx(expected.high)
    assert (of_ones.low, of_ones.high) == pytest.approx(
        (wilson_interval(200, 200).low, 1.0)
    )  # as of lesions, not of photos
    assert of_nothing.n == 0 and math.isnan(of_nothing.value)


def test_means_count_only_the_cases_that_were_measured():
    values = np.array([[1.0], [np.nan], [0.0], [1.0]])
    (interval,) = mean_intervals(values, np.array(["a", "a", "b", "c"]), samples=50)
    assert (interval.value, interval.n, interval.n_lesions) == (2 / 3, 3, 3)
