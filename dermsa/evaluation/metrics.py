"""How well predicted probabilities match the truth, as pure functions of `Predictions`.

    predictions = Predictions(truth, probabilities, classes, malignant)
    accuracy(predictions)                       # one number
    recall(predictions)                         # one number per class
    macro_average(recall(predictions))          # the field's balanced accuracy

Every metric honours `Predictions.weights`, and the weights may carry leading axes: with weights
of shape (b, n) each metric returns its b values at once. A bootstrap sample is only a vector of
integer weights, so many of them are a matrix, sorted once and summed along one axis.

Three rules hold throughout:

- A class without cases has no metrics: NaN, left out of every average over classes.
- A class that has cases but was never predicted has precision 0, as in scikit-learn: a model must
  not gain by never naming it. The same holds for NPV.
- Ties go to the class that comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

SUM_TOLERANCE = 1e-3
CALIBRATION_BINS = 15
TARGETS = (0.90, 0.95)
"""Sensitivities and specificities at which operating points are reported."""


# ---------------------------------------------------------------------------------------------
# The data: checked once, here
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model said about n cases, and what they were.

    A model need not name the most probable class: to find rare ones it may weigh some more than
    others, and its probabilities are calibrated all the same. Accuracy, recall and all else that
    follows from the confusion matrix are of the class that is named.

    Attributes:
        truth: int (n,), index into `classes`.
        probabilities: float (n, c), in [0, 1], rows sum to 1 within 0.001; kept as float64.
        classes: Names of the c classes, in the order of the columns.
        lean: float (c,), above 0: the class with the largest `probability * lean` is named; None
            names the most probable one.
        malignant: The classes whose probabilities add up to the probability of malignancy.
        case_ids: (n,) one name per photo; None numbers them.
        lesion_ids: (n,) which lesion each photo shows; None means one lesion per photo.
        weights: float (..., n), finite, >= 0; None weighs every case 1.

    Raises:
        ValueError: Anything else, with what was expected and what was received.
    """

    truth: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    malignant: Collection[str] = ()
    case_ids: np.ndarray | None = None
    lesion_ids: np.ndarray | None = None
    weights: np.ndarray | None = None
    lean: np.ndarray | None = None

    def __post_init__(self) -> None:
        cases = np.arange(np.shape(self.truth)[0] if np.ndim(self.truth) else 0)
        fields = {
            "truth": np.asarray(self.truth),
            "probabilities": np.asarray(self.probabilities, dtype=np.float64),
            "classes": tuple(self.classes),
            "malignant": frozenset(self.malignant),
            "case_ids": cases if self.case_ids is None else np.asarray(self.case_ids),
            "lesion_ids": cases if self.lesion_ids is None else np.asarray(self.lesion_ids),
            "weights": np.ones(len(cases))
            if self.weights is None
            else np.asarray(self.weights, dtype=np.float64),
            "lean": np.ones(len(self.classes))
            if self.lean is None
            else np.asarray(self.lean, dtype=np.float64),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        _check_classes(self)
        _check_truth_and_probabilities(self)
        _check_ids_and_weights(self)

    def __len__(self) -> int:
        return len(self.truth)

    def weighted(self, weights: np.ndarray) -> Predictions:
        """The same cases with other weights, (..., n): a resample, or many at once."""
        return replace(self, weights=weights)

    def subset(self, chosen: np.ndarray) -> Predictions:
        """Only the chosen cases: bool (n,) or integer indices. For subgroups."""
        return replace(
            self,
            truth=self.truth[chosen],
            probabilities=self.probabilities[chosen],
            case_ids=self.case_ids[chosen],
            lesion_ids=self.lesion_ids[chosen],
            weights=self.weights[..., chosen],
        )

    def divided_by(self, numbers: np.ndarray) -> Predictions:
        """The same cases, each probability divided by a number of its class, and made to sum to 1.

        Named is then the class that this makes the most probable.

        Args:
            numbers: float (c,), > 0, in any unit.

        Raises:
            ValueError: Not so many numbers, or not all positive.
        """
        numbers = np.asarray(numbers, dtype=np.float64)
        _check_positive(numbers, self.classes)
        divided = self.probabilities / numbers
        return replace(self, probabilities=divided / divided.sum(axis=1, keepdims=True), lean=None)

    @cached_property
    def predicted(self) -> np.ndarray:
        """int (n,): the class that is named."""
        return (self.probabilities * self.lean).argmax(axis=1)

    @cached_property
    def probability_of_predicted(self) -> np.ndarray:
        """float (n,): that of the class that is named."""
        return np.take_along_axis(self.probabilities, self.predicted[:, None], axis=1)[:, 0]

    @cached_property
    def is_malignant(self) -> np.ndarray:
        """bool (n,): whether the truth is one of the malignant classes."""
        return np.isin(self.truth, self._malignant_columns)

    @cached_property
    def malignancy_probability(self) -> np.ndarray:
        """float (n,): the summed probability of the malignant classes."""
        return self.probabilities[:, self._malignant_columns].sum(axis=1)

    @cached_property
    def total(self) -> np.ndarray:
        """float (...): the summed weight."""
        return self.weights.sum(axis=-1)

    @cached_property
    def confusion(self) -> np.ndarray:
        """float (..., c, c): summed weight, rows are the truth, columns the prediction."""
        c = len(self.classes)
        sums = _sum_by_group(self.weights, self.truth * c + self.predicted, c * c)
        return sums.reshape(*self.weights.shape[:-1], c, c)

    @cached_property
    def support(self) -> np.ndarray:
        """float (..., c): summed weight of each class's cases."""
        return self.confusion.sum(axis=-1)

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """One ranking per class, that class against the rest."""
        return tuple(
            rank(self.probabilities[:, k], self.truth == k, self.weights)
            for k in range(len(self.classes))
        )

    @cached_property
    def malignancy_ranking(self) -> Ranking:
        """The malignant classes together against the rest."""
        return rank(self.malignancy_probability, self.is_malignant, self.weights)

    def kept(self, compute: Callable[[Predictions], np.ndarray]) -> np.ndarray:
        """compute(self), worked out once: a report asks for each figure and for its averages."""
        if compute not in self._kept:
            self._kept[compute] = compute(self)
        return self._kept[compute]

    @cached_property
    def _kept(self) -> dict[Callable, np.ndarray]:
        return {}

    @cached_property
    def _malignant_columns(self) -> np.ndarray:
        return np.flatnonzero([name in self.malignant for name in self.classes])


def _check_classes(predictions: Predictions) -> None:
    classes = predictions.classes
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise ValueError(f"Expected two or more different class names. Received: {classes}")
    if unknown := sorted(predictions.malignant - set(classes)):
        raise ValueError(f"Expected malignant classes out of {classes}. Received: {unknown}")
    _check_positive(predictions.lean, classes)


def _check_positive(numbers: np.ndarray, classes: tuple[str, ...]) -> None:
    if numbers.shape != (len(classes),) or not ((numbers > 0) & np.isfinite(numbers)).all():
        raise ValueError(
            f"Expected {len(classes)} positive numbers, one per class. Received: {numbers}"
        )


def _check_truth_and_probabilities(predictions: Predictions) -> None:
    truth, probabilities = predictions.truth, predictions.probabilities
    c = len(predictions.classes)
    if truth.ndim != 1 or len(truth) == 0 or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(
            "Expected truth as integers of shape (n,) with at least one case. "
            f"Received: {truth.dtype} of shape {truth.shape}"
        )
    if truth.min() < 0 or truth.max() >= c:
        raise ValueError(
            f"Expected truth between 0 and {c - 1}, one of {predictions.classes}. "
            f"Received: values from {truth.min()} to {truth.max()}"
        )
    if probabilities.shape != (len(truth), c):
        raise ValueError(
            f"Expected probabilities of shape {(len(truth), c)}: a row per case, a column per "
            f"class. Received: {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        rows = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        raise ValueError(
            f"Expected finite probabilities. Received: NaN or infinity in {len(rows)} of "
            f"{len(truth)} rows, first in row {rows[0]}"
        )
    if probabilities.min() < 0 or probabilities.max() > 1 + SUM_TOLERANCE:
        raise ValueError(
            "Expected probabilities between 0 and 1. Received: values from "
            f"{probabilities.min():.6g} to {probabilities.max():.6g}"
        )
    sums = probabilities.sum(axis=1)
    worst = np.abs(sums - 1).argmax()
    if abs(sums[worst] - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"Expected every row of probabilities to sum to 1. Received: row {worst} sums to "
            f"{sums[worst]:.6g}"
        )


def _check_ids_and_weights(predictions: Predictions) -> None:
    n, weights = len(predictions), predictions.weights
    for name in ("case_ids", "lesion_ids"):
        ids = getattr(predictions, name)
        if ids.shape != (n,):
            raise ValueError(f"Expected {name} of shape {(n,)}. Received: {ids.shape}")
    if len(np.unique(predictions.case_ids)) != n:
        raise ValueError("Expected every case once. Received: repeated case_ids")
    if weights.ndim == 0 or weights.shape[-1] != n:
        raise ValueError(f"Expected weights of shape (..., {n}). Received: {weights.shape}")
    if weights.size and not (np.isfinite(weights.sum()) and weights.min() >= 0):
        raise ValueError("Expected weights finite and >= 0. Received: negative, NaN or infinite")


# ---------------------------------------------------------------------------------------------
# Metrics of the chosen class
# ---------------------------------------------------------------------------------------------


def accuracy(predictions: Predictions) -> np.ndarray:
    """Share of cases of which the true class is named. (...), in [0, 1]."""
    return _mean(predictions, predictions.predicted == predictions.truth)


def top_k_accuracy(predictions: Predictions, k: int) -> np.ndarray:
    """Share of cases whose true class is among the k most probable. (...), in [0, 1]."""
    c = len(predictions.classes)
    if not 1 <= k <= c:
        raise ValueError(f"Expected k between 1 and {c}. Received: {k}")
    probabilities, truth = predictions.probabilities, predictions.truth[:, None]
    of_truth = np.take_along_axis(probabilities, truth, axis=1)
    earlier_tie = (probabilities == of_truth) & (np.arange(c) < truth)
    ahead = ((probabilities > of_truth) | earlier_tie).sum(axis=1)
    return _mean(predictions, ahead < k)


def recall(predictions: Predictions) -> np.ndarray:
    """Sensitivity, TP / (TP + FN). (..., c), in [0, 1]."""
    true_positives, _, false_negatives, _ = _one_vs_rest(predictions)
    return _ratio(true_positives, true_positives + false_negatives)


def precision(predictions: Predictions) -> np.ndarray:
    """Positive predictive value (PPV), TP / (TP + FP). (..., c), in [0, 1]."""
    true_positives, false_positives, _, _ = _one_vs_rest(predictions)
    values = _ratio(true_positives, true_positives + false_positives, empty=0.0)
    return _of_present_classes(predictions, values)


def specificity(predictions: Predictions) -> np.ndarray:
    """TN / (TN + FP). (..., c), in [0, 1]."""
    _, false_positives, _, true_negatives = _one_vs_rest(predictions)
    values = _ratio(true_negatives, true_negatives + false_positives)
    return _of_present_classes(predictions, values)


def npv(predictions: Predictions) -> np.ndarray:
    """Negative predictive value, TN / (TN + FN). (..., c), in [0, 1]."""
    _, _, false_negatives, true_negatives = _one_vs_rest(predictions)
    values = _ratio(true_negatives, true_negatives + false_negatives, empty=0.0)
    return _of_present_classes(predictions, values)


def f1(predictions: Predictions) -> np.ndarray:
    """2 TP / (2 TP + FP + FN). (..., c), in [0, 1].

    Nguyen, Bui, Do (Sensors 2022) print a formula with TN in the denominator; their code uses
    this one.
    """
    true_positives, false_positives, false_negatives, _ = _one_vs_rest(predictions)
    values = _ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives)
    return _of_present_classes(predictions, values)


def papers_balanced_accuracy(predictions: Predictions) -> np.ndarray:
    """(sensitivity + specificity) / 2, one class against the rest. (..., c), in [0, 1].

    What Nguyen, Bui, Do (Sensors 2022) call balanced accuracy. The field means the mean recall
    by that name (`macro_recall`), which is lower: specificity is high for any rare class.
    """
    return (recall(predictions) + specificity(predictions)) / 2


def macro_recall(predictions: Predictions) -> np.ndarray:
    """Mean recall over the classes: the field's balanced accuracy (ISIC 2018). (...)."""
    return macro_average(recall(predictions))


def cohen_kappa(predictions: Predictions) -> np.ndarray:
    """Agreement beyond chance (Cohen 1960), unweighted. (...), in [-1, 1]; NaN for one class."""
    confusion, total = predictions.confusion, predictions.total
    observed = _ratio(np.trace(confusion, axis1=-2, axis2=-1), total)
    by_chance = _ratio((confusion.sum(-1) * confusion.sum(-2)).sum(-1), total**2)
    return _ratio(observed - by_chance, 1 - by_chance)


# ---------------------------------------------------------------------------------------------
# Metrics of the probabilities
# ---------------------------------------------------------------------------------------------


def log_loss(predictions: Predictions) -> np.ndarray:
    """Mean -ln(probability of the true class), in nats. (...), >= 0.

    Probabilities are clipped at the machine epsilon of float64, as in scikit-learn: one certain
    mistake costs 36 nats, not infinity.
    """
    of_truth = predictions.probabilities[np.arange(len(predictions)), predictions.truth]
    return _mean(predictions, -np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1.0)))


def brier(predictions: Predictions) -> np.ndarray:
    """Mean squared distance to the one-hot truth, summed over classes. (...), in [0, 2].

    Brier (1950), his original definition; twice the usual binary score where c = 2.
    """
    one_hot = np.eye(len(predictions.classes))[predictions.truth]
    return _mean(predictions, ((predictions.probabilities - one_hot) ** 2).sum(axis=1))


def expected_calibration_error(predictions: Predictions) -> np.ndarray:
    """Mean gap between confidence and accuracy, over 15 bins of confidence. (...), in [0, 1].

    Guo et al. (2017): the confidence is the largest probability, and accuracy that of the most
    probable class, named or not; bins have equal width and include their upper edge; each bin
    counts by its share of the cases.
    """
    confidence = predictions.probabilities.max(axis=1)
    right = predictions.probabilities.argmax(axis=1) == predictions.truth
    return _calibration_error(predictions, confidence, right)


def classwise_calibration_error(predictions: Predictions) -> np.ndarray:
    """As `expected_calibration_error`, for each class's probability. (..., c), in [0, 1].

    Kull et al. (2019); their classwise ECE is the macro average.
    """
    values = [
        _calibration_error(predictions, predictions.probabilities[:, k], predictions.truth == k)
        for k in range(len(predictions.classes))
    ]
    return _of_present_classes(predictions, np.stack(values, axis=-1))


def roc_auc(predictions: Predictions) -> np.ndarray:
    """Area under the ROC curve, each class against the rest. (..., c), in [0, 1]."""
    return per_class(Ranking.roc_auc, predictions)


def average_precision(predictions: Predictions) -> np.ndarray:
    """Average precision, each class against the rest. (..., c), in [0, 1]."""
    return per_class(Ranking.average_precision, predictions)


def per_class(figure: Callable[[Ranking], np.ndarray], predictions: Predictions) -> np.ndarray:
    """A figure of a `Ranking`, for each class against the rest. (..., c)."""
    return np.stack([figure(ranking) for ranking in predictions.rankings], axis=-1)


# ---------------------------------------------------------------------------------------------
# Averages over classes
# ---------------------------------------------------------------------------------------------


def macro_average(values: np.ndarray) -> np.ndarray:
    """Plain mean over classes, (..., c) to (...). NaN classes are left out."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))


def weighted_average(values: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Mean over classes by number of cases, (..., c) to (...). NaN classes are left out.

    On data where most cases are nevi this is mostly the figure of the nevi.
    """
    defined = np.isfinite(values)
    summed = np.where(defined, values, 0.0) * support
    return _ratio(summed.sum(axis=-1), (support * defined).sum(axis=-1))


# ---------------------------------------------------------------------------------------------
# Rankings: everything that depends on a threshold
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ranking:
    """How much weight scores at or above each threshold, from the strictest to the laxest.

    ROC and precision-recall curves, their areas and operating points all read from this, so the
    cases are sorted once for all of them.

    Attributes:
        thresholds: float (t,), falling; the first is infinity, where nothing is called positive.
        true_positives: float (..., t), rising from 0 to the weight of all positives.
        false_positives: float (..., t), rising from 0 to the weight of all negatives.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray

    @property
    def positives(self) -> np.ndarray:
        return self.true_positives[..., -1]

    @property
    def negatives(self) -> np.ndarray:
        return self.false_positives[..., -1]

    def sensitivity(self) -> np.ndarray:
        """TP / positives at each threshold: the ROC curve's vertical axis. (..., t)."""
        return _ratio(self.true_positives, self.positives[..., None])

    def specificity(self) -> np.ndarray:
        """TN / negatives at each threshold; the ROC curve's horizontal axis is 1 - this."""
        return 1 - _ratio(self.false_positives, self.negatives[..., None])

    def precision(self) -> np.ndarray:
        """TP / (TP + FP) at each threshold; 1 where nothing is called positive. (..., t)."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives, empty=1.0)

    def roc_auc(self) -> np.ndarray:
        """Chance that a positive scores above a negative, ties counting half. (...)."""
        tp, fp = self.true_positives, self.false_positives
        area = (np.diff(fp) * (tp[..., 1:] + tp[..., :-1])).sum(axis=-1) / 2
        return _ratio(area, self.positives * self.negatives)

    def average_precision(self) -> np.ndarray:
        """Precision averaged over the steps of recall, without interpolation. (...)."""
        steps = np.diff(self.true_positives)
        return _ratio((steps * self.precision()[..., 1:]).sum(axis=-1), self.positives)

    def sensitivity_at(self, specificity: float) -> np.ndarray:
        """Largest sensitivity whose specificity is at least the given one. (...)."""
        allowed = (1 - specificity) * self.negatives + _slack(self.negatives)
        last = (self.false_positives <= allowed[..., None]).sum(axis=-1) - 1
        return self._where_both(_ratio(_pick(self.true_positives, last), self.positives))

    def specificity_at(self, sensitivity: float) -> np.ndarray:
        """Largest specificity whose sensitivity is at least the given one. (...)."""
        needed = sensitivity * self.positives - _slack(self.positives)
        first = (self.true_positives < needed[..., None]).sum(axis=-1)
        return self._where_both(1 - _ratio(_pick(self.false_positives, first), self.negatives))

    def rates_at(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Sensitivity and specificity of calling a score >= threshold positive. (...) each."""
        last = int((self.thresholds >= threshold).sum()) - 1
        return self.sensitivity()[..., last], self.specificity()[..., last]

    def _where_both(self, values: np.ndarray) -> np.ndarray:
        return np.where((self.positives > 0) & (self.negatives > 0), values, np.nan)


def rank(score: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> Ranking:
    """Sorts cases by score, once for all weights.

    Args:
        score: float (n,), higher means more likely positive.
        positive: bool (n,).
        weights: float (..., n), >= 0; None weighs every case 1.
    """
    weights = np.ones(len(score)) if weights is None else weights
    order = np.argsort(-score, kind="stable")
    weights, positive, score = weights[..., order], positive[order], score[order]
    true_positives = _running_sum(weights * positive)
    false_positives = _running_sum(weights * ~positive)
    # Equal scores cannot be told apart by any threshold: keep the last of each group.
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    if len(ends) < len(score):
        steps = np.append(0, ends + 1)
        true_positives, false_positives = true_positives[..., steps], false_positives[..., steps]
    return Ranking(np.append(np.inf, score[ends]), true_positives, false_positives)


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Said against seen, per bin of probability; arrays (bins,), NaN in empty bins.

    Attributes:
        said: Mean predicted probability in the bin.
        seen: Share of the bin's cases where the event happened.
        share: Share of all cases in the bin; sums to 1.
    """

    said: np.ndarray
    seen: np.ndarray
    share: np.ndarray


def reliability_curve(
    probability: np.ndarray, happened: np.ndarray, bins: int = CALIBRATION_BINS
) -> ReliabilityCurve:
    """Bins a probability of an event, (n,) in [0, 1], against whether it happened, bool (n,)."""
    bin_of_case = _bin_of(probability, bins)
    count = np.bincount(bin_of_case, minlength=bins)
    return ReliabilityCurve(
        said=_ratio(np.bincount(bin_of_case, probability, bins), count),
        seen=_ratio(np.bincount(bin_of_case, happened, bins), count),
        share=count / len(probability),
    )


# ---------------------------------------------------------------------------------------------
# The registry: what reports, tables and tests run over
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metric:
    """One figure of a report, with what is needed to show and to judge it.

    Attributes:
        name: Key in files and on the command line.
        title: Words for people.
        compute: `Predictions` to (...), or to (..., c) if `is_per_class`.
        is_per_class: Whether there is one value per class.
        rests_on: `Predictions` to bool (n,), or (n, c) if `is_per_class`: the cases counted as
            the figure's n. For areas and F1 these are the positives, the scarcer side.
        is_proportion: Whether the value is a plain share of those cases.
        higher_is_better: Otherwise lower is.
        grows_when_resampled: Whether drawing cases twice raises it. Calibration errors do: they
            add up absolute gaps, and less data has larger ones by chance.
        other_side: As `rests_on`: the cases that those are told from, where the figure needs
            both; None where it does not.
    """

    name: str
    title: str
    compute: Callable[[Predictions], np.ndarray]
    is_per_class: bool
    rests_on: Callable[[Predictions], np.ndarray]
    is_proportion: bool = False
    higher_is_better: bool = True
    grows_when_resampled: bool = False
    other_side: Callable[[Predictions], np.ndarray] | None = None


def _all_cases(predictions: Predictions) -> np.ndarray:
    return np.ones(len(predictions), dtype=bool)


def _malignant_cases(predictions: Predictions) -> np.ndarray:
    return predictions.is_malignant


def _benign_cases(predictions: Predictions) -> np.ndarray:
    return ~predictions.is_malignant


def _of_class(predictions: Predictions) -> np.ndarray:
    return predictions.truth[:, None] == np.arange(len(predictions.classes))


def _not_of_class(predictions: Predictions) -> np.ndarray:
    return ~_of_class(predictions)


def _called_class(predictions: Predictions) -> np.ndarray:
    return predictions.predicted[:, None] == np.arange(len(predictions.classes))


def _not_called_class(predictions: Predictions) -> np.ndarray:
    return ~_called_class(predictions)


def _registry() -> dict[str, Metric]:
    per_class_metrics = (*_class_metrics(), *_ranking_metrics())
    averages = [average for metric in per_class_metrics for average in _averages(metric)]
    metrics = (*_overall_metrics(), *per_class_metrics, *averages, *_malignancy_metrics())
    return {metric.name: metric for metric in metrics}


def _overall_metrics() -> tuple[Metric, ...]:
    def overall(name, title, compute, **more) -> Metric:
        return Metric(name, title, compute, False, _all_cases, **more)

    return (
        overall("accuracy", "Accuracy", accuracy, is_proportion=True),
        overall("top_2", "Top-2 accuracy", partial(_top, k=2), is_proportion=True),
        overall("top_3", "Top-3 accuracy", partial(_top, k=3), is_proportion=True),
        overall("cohen_kappa", "Cohen's kappa", cohen_kappa),
        overall("log_loss", "Log loss", log_loss, higher_is_better=False),
        overall("brier", "Brier score", brier, higher_is_better=False),
        overall(
            "expected_calibration_error",
            "Expected calibration error",
            expected_calibration_error,
            higher_is_better=False,
            grows_when_resampled=True,
        ),
    )


def _top(predictions: Predictions, k: int) -> np.ndarray:
    """`top_k_accuracy`; of fewer than k classes each is among them."""
    return top_k_accuracy(predictions, min(k, len(predictions.classes)))


def _class_metrics() -> tuple[Metric, ...]:
    return (
        Metric("recall", "Sensitivity (recall)", recall, True, _of_class, True),
        Metric("precision", "Precision (PPV)", precision, True, _called_class, True),
        Metric("specificity", "Specificity", specificity, True, _not_of_class, True),
        Metric("npv", "Negative predictive value", npv, True, _not_called_class, True),
        Metric("f1", "F1", f1, True, _of_class),
        Metric(
            "papers_balanced_accuracy",
            "(Sensitivity + specificity) / 2",
            papers_balanced_accuracy,
            True,
            _of_class,
        ),
        Metric(
            "classwise_calibration_error",
            "Classwise calibration error",
            classwise_calibration_error,
            True,
            _of_class,
            higher_is_better=False,
            grows_when_resampled=True,
        ),
    )


def _ranking_figures() -> list[tuple[str, str, Callable[[Ranking], np.ndarray]]]:
    """Name, title and function of each figure that a ranking gives."""
    figures = [
        ("roc_auc", "ROC AUC", Ranking.roc_auc),
        ("average_precision", "Average precision", Ranking.average_precision),
    ]
    for target in TARGETS:
        percent = round(100 * target)
        figures += [
            (
                f"sensitivity_at_{percent}_specificity",
                f"Sensitivity at {percent} % specificity",
                partial(Ranking.sensitivity_at, specificity=target),
            ),
            (
                f"specificity_at_{percent}_sensitivity",
                f"Specificity at {percent} % sensitivity",
                partial(Ranking.specificity_at, sensitivity=target),
            ),
        ]
    return figures


def _ranking_metrics() -> list[Metric]:
    return [
        Metric(
            name,
            title,
            partial(per_class, figure),
            True,
            _not_of_class if name.startswith("specificity") else _of_class,
            other_side=_of_class if name.startswith("specificity") else _not_of_class,
        )
        for name, title, figure in _ranking_figures()
    ]


def _malignancy_metrics() -> list[Metric]:
    return [
        Metric(
            f"malignancy_{name}",
            f"{title}, malignant or not",
            partial(_of_malignancy, figure),
            False,
            _benign_cases if name.startswith("specificity") else _malignant_cases,
            other_side=_malignant_cases if name.startswith("specificity") else _benign_cases,
        )
        for name, title, figure in _ranking_figures()
    ]


def _of_malignancy(figure: Callable, predictions: Predictions) -> np.ndarray:
    return figure(predictions.malignancy_ranking)


def _averages(metric: Metric) -> tuple[Metric, Metric]:
    def average(name, compute) -> Metric:
        return replace(
            metric,
            name=f"{name}_{metric.name}",
            title=f"{metric.title}, {name} average",
            compute=compute,
            is_per_class=False,
            rests_on=_all_cases,
            is_proportion=False,
            other_side=None,
        )

    return (
        average("macro", lambda p: macro_average(p.kept(metric.compute))),
        average("weighted", lambda p: weighted_average(p.kept(metric.compute), p.support)),
    )


# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------


def _mean(predictions: Predictions, values: np.ndarray) -> np.ndarray:
    """Weighted mean over cases of values (n,). (...)."""
    return _ratio(predictions.weights @ values.astype(np.float64), predictions.total)


def _ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """above / below, and `empty` where below is 0."""
    above, below = np.broadcast_arrays(above, below)
    out = np.full(below.shape, empty, dtype=np.float64)
    return np.divide(above, below, out=out, where=below != 0)[()]


def _one_vs_rest(predictions: Predictions) -> tuple[np.ndarray, ...]:
    """True positives, false positives, false negatives, true negatives; each (..., c)."""
    confusion = predictions.confusion
    true_positives = np.diagonal(confusion, axis1=-2, axis2=-1)
    false_positives = confusion.sum(axis=-2) - true_positives
    false_negatives = confusion.sum(axis=-1) - true_positives
    total = confusion.sum(axis=(-2, -1))[..., None]
    true_negatives = total - true_positives - false_positives - false_negatives
    return true_positives, false_positives, false_negatives, true_negatives


def _of_present_classes(predictions: Predictions, values: np.ndarray) -> np.ndarray:
    return np.where(predictions.support > 0, values, np.nan)


def _calibration_error(
    predictions: Predictions, probability: np.ndarray, happened: np.ndarray
) -> np.ndarray:
    # A bin's share times its gap is its summed (happened - probability) over the total weight.
    weighted_gaps = predictions.weights * (happened - probability)
    bins = _bin_of(probability, CALIBRATION_BINS)
    gaps = _sum_by_group(weighted_gaps, bins, CALIBRATION_BINS)
    return _ratio(np.abs(gaps).sum(axis=-1), predictions.total)


def _bin_of(probability: np.ndarray, bins: int) -> np.ndarray:
    """int (n,): which of the equal-width bins, upper edges included, holds each probability."""
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.digitize(probability, inner_edges, right=True)


def _sum_by_group(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Sums of values (..., n) over the cases of each group, int (n,). (..., groups).

    Running sums and not a product with a one-hot matrix: threaded matrix products of this size
    take thirty times longer while a training run keeps the processor busy.
    """
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(groups + 1))
    return np.diff(_running_sum(values[..., order])[..., ends])


def _running_sum(values: np.ndarray) -> np.ndarray:
    """Cumulative sum along the last axis that starts with 0. (..., n + 1)."""
    out = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    np.cumsum(values, axis=-1, out=out[..., 1:])
    return out


def _pick(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """values[..., index], with one index per leading position."""
    return np.take_along_axis(values, np.asarray(index)[..., None], axis=-1)[..., 0]


def _slack(total: np.ndarray) -> np.ndarray:
    """Forgives rounding in "at least 90 % of 10 cases": (1 - 0.9) * 10 is less than 1."""
    return 1e-9 * total


METRICS: dict[str, Metric] = _registry()
"""Every metric by name: overall, per class, averages over classes, malignant or not."""
