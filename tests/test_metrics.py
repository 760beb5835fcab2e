"""Metrics against scikit-learn, against tables worked by hand, and on data that is not right."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning

from dermsa.evaluation import metrics
from dermsa.evaluation.metrics import METRICS, Predictions, Ranking, rank, reliability_curve

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
MALIGNANT = frozenset({"akiec", "bcc", "mel"})
FREQUENCIES = (0.05, 0.06, 0.12, 0.03, 0.12, 0.58, 0.04)


def draw(n=400, seed=0, decimals=None, classes=CLASSES, weighted=False) -> Predictions:
    """Cases as unbalanced as the real ones; `decimals` rounds the scores, which makes ties."""
    generator = np.random.default_rng(seed)
    c = len(classes)
    frequencies = np.array(FREQUENCIES[:c]) / sum(FREQUENCIES[:c])
    truth = np.concatenate([np.arange(c), generator.choice(c, n - c, p=frequencies)])
    logits = generator.normal(size=(n, c))
    logits[np.arange(n), truth] += 1.5
    if decimals is not None:
        logits = np.round(logits, decimals)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    weights = generator.integers(0, 4, n).astype(float) if weighted else None
    malignant = MALIGNANT & set(classes)
    return Predictions(truth, probabilities, classes, malignant, weights=weights)


@pytest.fixture(params=["plain", "weighted", "ties", "three classes"])
def predictions(request) -> Predictions:
    return {
        "plain": draw(),
        "weighted": draw(weighted=True),
        "ties": draw(decimals=0, weighted=True),
        "three classes": draw(classes=("benign", "keratosis", "melanoma")),
    }[request.param]


def by_class(function, p: Predictions) -> np.ndarray:
    """A scikit-learn score of each class's probability against the rest."""
    return np.array(
        [
            function(p.truth == k, p.probabilities[:, k], sample_weight=p.weights)
            for k in range(len(p.classes))
        ]
    )


# Against scikit-learn


def test_confusion_and_what_follows_from_it(predictions):
    p = predictions
    answers = (p.truth, p.predicted)
    weights = {"sample_weight": p.weights}
    np.testing.assert_allclose(p.confusion, reference.confusion_matrix(*answers, **weights))
    assert metrics.accuracy(p) == pytest.approx(reference.accuracy_score(*answers, **weights))
    assert metrics.macro_recall(p) == pytest.approx(
        reference.balanced_accuracy_score(*answers, **weights)
    )
    assert metrics.cohen_kappa(p) == pytest.approx(reference.cohen_kappa_score(*answers, **weights))


@pytest.mark.parametrize("average", [None, "macro", "weighted"])
def test_precision_recall_and_f1(predictions, average):
    p = predictions
    expected = reference.precision_recall_fscore_support(
        p.truth, p.predicted, average=average, sample_weight=p.weights, zero_division=0
    )[:3]
    names = [name if average is None else f"{average}_{name}" for name in ("precision", "recall")]
    names.append("f1" if average is None else f"{average}_f1")
    for name, values in zip(names, expected, strict=True):
        np.testing.assert_allclose(METRICS[name].compute(p), values)


def test_specificity_is_the_recall_of_the_rest_and_npv_its_precision(predictions):
    p = predictions
    for k in range(len(p.classes)):
        rest = (p.truth != k, p.predicted != k)
        expected = reference.recall_score(*rest, sample_weight=p.weights)
        assert metrics.specificity(p)[k] == pytest.approx(expected)
        expected = reference.precision_score(*rest, sample_weight=p.weights)
        assert metrics.npv(p)[k] == pytest.approx(expected)


def test_areas(predictions):
    p = predictions
    np.testing.assert_allclose(metrics.roc_auc(p), by_class(reference.roc_auc_score, p))
    np.testing.assert_allclose(
        metrics.average_precision(p), by_class(reference.average_precision_score, p)
    )


def test_macro_auc_is_the_one_vs_rest_average():
    p = draw()
    expected = reference.roc_auc_score(p.truth, p.probabilities, multi_class="ovr")
    assert METRICS["macro_roc_auc"].compute(p) == pytest.approx(expected)


def test_malignancy_auc():
    p = draw(weighted=True)
    score = p.probabilities[:, [0, 1, 4]].sum(axis=1)
    expected = reference.roc_auc_score(np.isin(p.truth, [0, 1, 4]), score, sample_weight=p.weights)
    assert METRICS["malignancy_roc_auc"].compute(p) == pytest.approx(expected)


def test_proper_scores(predictions):
    p = predictions
    labels = range(len(p.classes))
    assert metrics.log_loss(p) == pytest.approx(
        reference.log_loss(p.truth, p.probabilities, labels=labels, sample_weight=p.weights)
    )
    assert metrics.brier(p) == pytest.approx(
        reference.brier_score_loss(p.truth, p.probabilities, labels=labels, sample_weight=p.weights)
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k(k):
    p = draw(weighted=True)
    expected = reference.top_k_accuracy_score(
        p.truth, p.probabilities, k=k, sample_weight=p.weights
    )
    assert metrics.top_k_accuracy(p, k) == pytest.approx(expected)


def test_top_1_is_the_accuracy_even_with_ties(predictions):
    assert metrics.top_k_accuracy(predictions, 1) == metrics.accuracy(predictions)


def test_roc_and_precision_recall_curves(predictions):
    p = predictions
    ranking = p.rankings[0]
    positive, score = p.truth == 0, p.probabilities[:, 0]
    false_rate, true_rate, thresholds = reference.roc_curve(
        positive, score, sample_weight=p.weights, drop_intermediate=False
    )
    # scikit-learn leaves cases of weight 0 out; they add thresholds but no new point.
    kept = np.isin(ranking.thresholds, thresholds)
    np.testing.assert_allclose(1 - ranking.specificity()[kept], false_rate, atol=1e-12)
    np.testing.assert_allclose(ranking.sensitivity()[kept], true_rate)

    precision, recall, thresholds = reference.precision_recall_curve(
        positive, score, sample_weight=p.weights
    )
    at = np.searchsorted(-ranking.thresholds, -thresholds)
    np.testing.assert_allclose(ranking.precision()[at], precision[:-1])
    np.testing.assert_allclose(ranking.sensitivity()[at], recall[:-1])


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 1.0])
def test_operating_points_are_the_best_points_of_the_curve(predictions, target):
    p = predictions
    for k, ranking in enumerate(p.rankings):
        false_rate, true_rate, _ = reference.roc_curve(
            p.truth == k, p.probabilities[:, k], sample_weight=p.weights, drop_intermediate=False
        )
        specific_enough = 1 - false_rate >= target - 1e-9
        assert ranking.sensitivity_at(target) == pytest.approx(true_rate[specific_enough].max())
        sensitive_enough = true_rate >= target - 1e-9
        assert ranking.specificity_at(target) == pytest.approx(
            1 - false_rate[sensitive_enough].min()
        )


def test_reliability_curve_where_scikit_learn_can_draw_one():
    from sklearn.calibration import calibration_curve

    p = draw(n=600)
    happened = p.truth == 5
    curve = reliability_curve(p.probabilities[:, 5], happened, bins=10)
    seen, said = calibration_curve(happened, p.probabilities[:, 5], n_bins=10)
    filled = curve.share > 0
    np.testing.assert_allclose(curve.seen[filled], seen)
    np.testing.assert_allclose(curve.said[filled], said)
    assert curve.share.sum() == pytest.approx(1)


# Worked by hand


def test_a_table_worked_by_hand():
    # 10 melanomas of which 7 are called melanoma; 90 nevi of which 81 are called nevus.
    truth = np.repeat([0, 1], [10, 90])
    called = np.concatenate([np.repeat([0, 1], [7, 3]), np.repeat([0, 1], [9, 81])])
    p = Predictions(truth, np.eye(2)[called], ("mel", "nv"), {"mel"})
    np.testing.assert_array_equal(p.confusion, [[7, 3], [9, 81]])
    assert metrics.recall(p)[0] == pytest.approx(7 / 10)
    assert metrics.specificity(p)[0] == pytest.approx(81 / 90)
    assert metrics.precision(p)[0] == pytest.approx(7 / 16)
    assert metrics.npv(p)[0] == pytest.approx(81 / 84)
    assert metrics.f1(p)[0] == pytest.approx(14 / 26)
    assert metrics.macro_recall(p) == pytest.approx((0.7 + 0.9) / 2)
    np.testing.assert_allclose(metrics.papers_balanced_accuracy(p), [0.8, 0.8])


def test_the_papers_balanced_accuracy_is_not_the_mean_recall():
    p = draw()
    papers = METRICS["macro_papers_balanced_accuracy"].compute(p)
    assert papers > metrics.macro_recall(p) + 0.05


def test_calibration_error_worked_by_hand():
    # Two bins: confidence 0.9, 3 of 4 right; confidence 0.6, 1 of 2 right.
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    truth = np.array([0, 0, 0, 1, 0, 1])
    p = Predictions(truth, np.stack([confidence, 1 - confidence], axis=1), ("a", "b"))
    expected = 4 / 6 * (0.9 - 3 / 4) + 2 / 6 * (0.6 - 1 / 2)
    assert metrics.expected_calibration_error(p) == pytest.approx(expected)
    np.testing.assert_allclose(metrics.classwise_calibration_error(p), expected)


def test_calibration_error_is_what_the_reliability_curve_shows():
    p = dataclasses.replace(draw(), lean=np.linspace(1, 4, len(CLASSES)))
    right = p.probabilities.argmax(axis=1) == p.truth  # whatever is named
    curve = reliability_curve(p.probabilities.max(axis=1), right)
    expected = np.nansum(curve.share * np.abs(curve.said - curve.seen))
    assert metrics.expected_calibration_error(p) == pytest.approx(expected)


def test_rates_at_a_threshold_worked_by_hand():
    # 1,000 patients; at 20 % the model refers 180 of 200 cancers and 160 of 800 others.
    positive = np.repeat([True, True, False, False], [180, 20, 160, 640])
    score = np.repeat([0.5, 0.1, 0.2, 0.05], [180, 20, 160, 640])
    assert rank(score, positive).rates_at(0.2) == (pytest.approx(0.9), pytest.approx(0.8))


def test_operating_points_do_not_trip_over_rounding():
    # One false positive in ten is 90 % specificity, although 1 - 0.9 is less than 0.1.
    score = np.concatenate([[0.95], np.linspace(0.1, 0.5, 9), [0.9]])
    ranking = rank(score, np.arange(11) == 10)
    assert ranking.sensitivity_at(0.9) == 1.0
    assert ranking.sensitivity_at(0.91) == 0.0


def test_perfect_and_useless_models():
    truth = np.arange(7).repeat(3)
    perfect = Predictions(truth, np.eye(7)[truth], CLASSES, MALIGNANT)
    useless = Predictions(truth, np.full((21, 7), 1 / 7), CLASSES, MALIGNANT)
    for name, metric in METRICS.items():
        best = 1 if metric.higher_is_better else 0
        np.testing.assert_allclose(metric.compute(perfect), best, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(metrics.roc_auc(useless), 0.5)
    assert metrics.log_loss(useless) == pytest.approx(np.log(7))


# Over the registry


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_many_weights_at_once_give_what_each_gives_alone(metric):
    p = draw(n=120, decimals=1)
    weights = np.random.default_rng(1).integers(0, 3, size=(2, 4, 120))
    together = metric.compute(p.weighted(weights))
    assert together.shape == ((2, 4, 7) if metric.is_per_class else (2, 4))
    for i in range(2):
        for j in range(4):
            alone = metric.compute(p.weighted(weights[i, j]))
            np.testing.assert_allclose(together[i, j], alone, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_weight_of_two_is_the_same_case_twice(metric):
    p = draw(n=100)
    times = np.random.default_rng(2).integers(0, 3, size=100)
    repeated = Predictions(
        p.truth.repeat(times), p.probabilities.repeat(times, axis=0), CLASSES, MALIGNANT
    )
    np.testing.assert_allclose(
        metric.compute(p.weighted(times)), metric.compute(repeated), atol=1e-12
    )


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_rests_on_has_the_shape_of_the_metric(metric):
    cases = metric.rests_on(draw(n=50))
    assert cases.dtype == bool
    assert cases.shape == ((50, 7) if metric.is_per_class else (50,))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_an_empty_class_is_nan_and_leaves_the_averages_alone(metric):
    p = draw()
    p = p.subset(p.truth != 3)
    values = metric.compute(p)
    if metric.is_per_class:
        assert np.isnan(values[3])
        assert np.isfinite(np.delete(values, 3)).all()
        macro = METRICS[f"macro_{metric.name}"].compute(p)
        assert macro == pytest.approx(np.delete(values, 3).mean())
    else:
        assert np.isfinite(values)


@pytest.mark.filterwarnings("error")
def test_one_class_only_has_no_ranking():
    p = draw()
    p = p.subset(p.truth == 5)
    for name in ("roc_auc", "sensitivity_at_95_specificity", "specificity_at_95_sensitivity"):
        assert np.isnan(METRICS[name].compute(p)).all(), name
        assert np.isnan(METRICS[f"malignancy_{name}"].compute(p)), name
    assert metrics.macro_recall(p) == metrics.recall(p)[5]


@pytest.mark.filterwarnings("error")
def test_without_malignant_classes_there_is_no_malignancy():
    p = draw()
    p = Predictions(p.truth, p.probabilities, CLASSES)
    assert np.isnan(METRICS["malignancy_roc_auc"].compute(p))


def test_a_class_never_predicted_has_precision_zero():
    truth = np.array([0, 0, 1, 2])
    p = Predictions(truth, np.eye(3)[[0, 0, 1, 1]], ("a", "b", "c"))
    assert metrics.precision(p)[2] == 0
    with pytest.warns(UndefinedMetricWarning):
        expected = reference.precision_score(truth, p.predicted, average="macro")
    assert METRICS["macro_precision"].compute(p) == pytest.approx(expected)


def test_equal_scores_are_one_threshold():
    ranking = rank(np.array([0.5, 0.5, 0.2]), np.array([True, False, False]))
    np.testing.assert_array_equal(ranking.thresholds, [np.inf, 0.5, 0.2])
    np.testing.assert_array_equal(ranking.true_positives, [0, 1, 1])
    np.testing.assert_array_equal(ranking.false_positives, [0, 1, 2])
    assert Ranking.roc_auc(ranking) == pytest.approx(0.75)


def test_subset_keeps_ids_with_their_cases():
    p = Predictions(
        [0, 1, 1], np.eye(2)[[0, 1, 0]], ("a", "b"), case_ids=["x", "y", "z"], lesion_ids=[7, 8, 8]
    )
    chosen = p.subset(np.array([False, True, True]))
    assert list(chosen.case_ids) == ["y", "z"]
    assert list(chosen.lesion_ids) == [8, 8]
    assert metrics.accuracy(chosen) == 0.5


# Input that is not right

GOOD = {
    "truth": np.array([0, 1]),
    "probabilities": np.array([[0.7, 0.3], [0.2, 0.8]]),
    "classes": ("mel", "nv"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.array([0.0, 1.0])}, "integers"),
        ({"truth": np.array([], dtype=int)}, "at least one case"),
        ({"truth": np.array([0, 2])}, "between 0 and 1"),
        ({"truth": np.array([-1, 1])}, "between 0 and 1"),
        ({"truth": np.array([0, 1, 1])}, r"shape \(3, 2\)"),
        ({"probabilities": np.ones((2, 3)) / 3}, r"shape \(2, 2\)"),
        ({"probabilities": np.array([[0.7, np.nan], [0.2, 0.8]])}, "first in row 0"),
        ({"probabilities": np.array([[0.7, 0.3], [1.2, -0.2]])}, "between 0 and 1"),
        ({"probabilities": np.array([[0.7, 0.3], [0.5, 0.4]])}, "row 1 sums to 0.9"),
        ({"classes": ("mel", "mel")}, "different class names"),
        ({"malignant": {"bcc"}}, "bcc"),
        ({"case_ids": ["a", "a"]}, "repeated case_ids"),
        ({"lesion_ids": ["a"]}, "lesion_ids of shape"),
        ({"weights": np.ones(3)}, "weights of shape"),
        ({"weights": np.array([1.0, -1.0])}, "finite and >= 0"),
        ({"weights": np.array([1.0, np.nan])}, "finite and >= 0"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected_and_received(change, message):
    with pytest.raises(ValueError, match=message) as refused:
        Predictions(**{**GOOD, **change})
    assert "Expected" in str(refused.value)
    assert "Received" in str(refused.value)


def test_top_k_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="between 1 and 2"):
        metrics.top_k_accuracy(Predictions(**GOOD), 3)


def test_probabilities_in_half_precision_are_accepted():
    p = draw()
    rounded = Predictions(p.truth, p.probabilities.astype(np.float16), CLASSES, MALIGNANT)
    assert metrics.log_loss(rounded) == pytest.approx(metrics.log_loss(p), abs=1e-3)


def test_weighed_alike_a_rare_class_needs_less():
    answers = Predictions([1, 0, 0], [[0.8, 0.2], [0.9, 0.1], [0.6, 0.4]], ("common", "rare"))
    alike = answers.divided_by([9, 1])
    # 0.8/9 to 0.2/1 is 4 to 9; 0.9/9 to 0.1/1 is 1 to 1, a tie that the first class wins.
    np.testing.assert_allclose(alike.probabilities[:2], [[4 / 13, 9 / 13], [0.5, 0.5]])
    assert alike.predicted.tolist() == [1, 0, 1]
    assert metrics.macro_recall(answers) == 0.5 and metrics.macro_recall(alike) == 0.75
    same = answers.divided_by([2, 2])
    np.testing.assert_allclose(same.probabilities, answers.probabilities)


def test_a_lean_changes_what_is_named_and_no_figure_of_the_probabilities():
    plain = draw()
    lean = np.linspace(1, 4, len(CLASSES))
    leaning = dataclasses.replace(plain, lean=lean)
    assert (leaning.predicted == (plain.probabilities * lean).argmax(axis=1)).all()
    assert (leaning.predicted != plain.predicted).any()
    of_named = plain.probabilities[np.arange(len(plain)), leaning.predicted]
    assert (leaning.probability_of_predicted == of_named).all()
    answers = (plain.truth, leaning.predicted)
    assert metrics.accuracy(leaning) == reference.accuracy_score(*answers)
    assert metrics.macro_recall(leaning) == pytest.approx(
        reference.balanced_accuracy_score(*answers)
    )
    for figure in (
        metrics.log_loss,
        metrics.brier,
        metrics.expected_calibration_error,
        metrics.classwise_calibration_error,
        metrics.roc_auc,
    ):
        np.testing.assert_array_equal(figure(leaning), figure(plain))
    assert (leaning.subset(slice(10)).predicted == leaning.predicted[:10]).all()
    assert (leaning.divided_by(1 / lean).predicted == leaning.predicted).all()


@pytest.mark.parametrize("lean", [[1], [1, 2, 3], [1, 0], [1, np.inf]])
def test_a_lean_is_one_positive_number_per_class(lean):
    with pytest.raises(ValueError, match="Expected 2 positive numbers"):
        Predictions([0], [[0.5, 0.5]], ("a", "b"), lean=lean)


@pytest.mark.parametrize("numbers", [[1], [1, 2, 3], [1, 0], [1, np.nan]])
def test_a_divisor_is_one_positive_number_per_class(numbers):
    answers = Predictions([0], [[0.5, 0.5]], ("a", "b"))
    with pytest.raises(ValueError, match="Expected 2 positive numbers"):
        answers.divided_by(numbers)
