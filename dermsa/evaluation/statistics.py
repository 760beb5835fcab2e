"""How sure a figure is, and whether two models differ beyond chance.

Photos of one lesion resemble each other, so the unit that is resampled is the lesion, not the
photo: a bootstrap sample draws as many lesions as there are, with replacement, and weighs every
photo by how often its lesion was drawn.

    bootstrap_interval(macro_recall, predictions)            # one figure
    bootstrap_report(predictions)                            # all of them, in one pass
    paired_bootstrap(macro_recall, first, second)            # two models, same cases
    drawn = draw_samples(predictions)                        # kept on disk, so that reports and
    report_of_samples(predictions, drawn)                    # comparisons need no new drawing
    compare_samples(first_value, second_value, first_drawn, second_drawn, n, n_lesions)
    mcnemar_test, delong_test, holm_correction
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dermsa.evaluation.metrics import METRICS, Metric, Predictions

SAMPLES = 2000
NORMAL = NormalDist()
CONFIDENCE = 0.95
SAMPLES_AT_ONCE = 100
"""Weights of so many samples fit in the processor's cache; more at once is slower."""
NO_WIDTH = 1e-6
"""Intervals of figures, all of the order of 1, that are not wider have no width but rounding."""


@dataclass(frozen=True)
class Interval:
    """A figure, its confidence interval, and how much data it rests on.

    Attributes:
        value: The figure on the data; NaN where it is not defined.
        low, high: Ends of the interval; NaN where it cannot be told.
        n: Cases (photos).
        n_lesions: Different lesions among them; None where not known.
    """

    value: float
    low: float
    high: float
    n: int
    n_lesions: int | None = None

    @property
    def words(self) -> str:
        """ "0.812 (0.790 to 0.834)", without the ends where they cannot be told."""
        if not math.isfinite(self.value):
            return "not defined"
        ends = f" ({self.low:.3f} to {self.high:.3f})" if math.isfinite(self.low) else ""
        return f"{self.value:.3f}{ends}"

    def __str__(self) -> str:
        return f"{self.words}, n = {self.n:,}"

    def as_dict(self) -> dict:
        """JSON-ready values; NaN becomes None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping) -> Interval:
        """What `as_dict` gave."""
        numbers = {
            name: math.nan if values[name] is None else float(values[name])
            for name in ("value", "low", "high")
        }
        return cls(**numbers, n=values["n"], n_lesions=values.get("n_lesions"))


@dataclass(frozen=True)
class Estimate:
    """One line of a report: which metric, of which class (None: of all), and its interval."""

    metric: str
    of_class: str | None
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Second model minus first, on the same cases, with the two-sided p-value of no difference."""

    first: float
    second: float
    difference: Interval
    p_value: float


# ---------------------------------------------------------------------------------------------
# One model
# ---------------------------------------------------------------------------------------------


def wilson_interval(
    successes: int, n: int, confidence: float = CONFIDENCE, n_lesions: int | None = None
) -> Interval:
    """Wilson's score interval of a proportion (1927), without continuity correction.

    It takes the n cases to be independent; it stays honest where all or none succeed. With n = 0
    the value is NaN and the interval is 0 to 1: nothing is known.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"Expected 0 <= successes <= n. Received: {successes} of {n}")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0, n_lesions)
    z = NORMAL.inv_cdf((1 + _checked(confidence)) / 2)
    share = successes / n
    centre = share + z**2 / (2 * n)
    margin = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Rounding must not push an end past the value where all or none succeed.
    low = max(0.0, (centre - margin) / (1 + z**2 / n)) if successes else 0.0
    high = min(1.0, (centre + margin) / (1 + z**2 / n)) if successes < n else 1.0
    return Interval(share, float(low), float(high), n, n_lesions)


def lesion_bootstrap_weights(
    lesion_ids: np.ndarray, samples: int = SAMPLES, seed: int = 0
) -> np.ndarray:
    """How often each case occurs in each bootstrap sample of lesions.

    Args:
        lesion_ids: (n,), any type; equal ids are photos of one lesion.
        samples: Number of bootstrap samples, b.
        seed: The same seed gives the same samples, on any machine.

    Returns:
        int32 (b, n), equal within a lesion.
    """
    lesion_ids = np.asarray(lesion_ids)
    if lesion_ids.ndim != 1 or len(lesion_ids) == 0 or samples < 1:
        raise ValueError(
            "Expected lesion_ids of shape (n,) with n and samples at least 1. Received: "
            f"{lesion_ids.shape} and {samples}"
        )
    names, lesion_of_case = np.unique(lesion_ids, return_inverse=True)
    lesions = len(names)
    drawn = np.random.default_rng(seed).integers(lesions, size=(samples, lesions))
    # One count over all samples: sample s owns the numbers from s * lesions on.
    drawn += lesions * np.arange(samples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=samples * lesions)
    return counts.reshape(samples, lesions).astype(np.int32)[:, lesion_of_case]


def bootstrap_interval(
    metric: Callable[[Predictions], np.ndarray],
    predictions: Predictions,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    grows_when_resampled: bool = False,
) -> Interval:
    """Percentile interval of one figure over a bootstrap of lesions (Efron 1979).

    Args:
        metric: `Predictions` with weights (..., n) to one value per sample, (...). For one class
            of a per-class metric pass `lambda p: recall(p)[..., k]`.
        predictions: Without weights of their own; choose subgroups with `Predictions.subset`.
        samples, seed: See `lesion_bootstrap_weights`.
        confidence: In (0, 1).
        grows_when_resampled: As in `Metric`. The samples are then moved down until their median
            is the value: the interval tells what other data of the same size would give.

    Returns:
        The interval, with n of all cases. Samples in which the metric is not defined are left
        out. The ends are NaN where that is more than half of them, and where all samples agree,
        as they do when nothing went wrong: that does not rule out chance.
    """
    drawn = _bootstrap([metric], predictions, samples, seed)[0]
    if drawn.ndim != 1:
        raise ValueError(
            "Expected a metric that gives one value. Received: one per class; choose a class "
            "with `lambda p: metric(p)[..., k]`, or use `bootstrap_report`"
        )
    value = float(metric(predictions))
    if grows_when_resampled:
        drawn = _centred(drawn, value)
    n, n_lesions = _count(predictions, np.ones(len(predictions), dtype=bool))
    return Interval(value, *_percentiles(drawn, confidence), n, n_lesions)


def bootstrap_report(
    predictions: Predictions,
    metrics: Iterable[Metric] = tuple(METRICS.values()),
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[Estimate, ...]:
    """Every metric with its interval, from one set of bootstrap samples.

    As `bootstrap_interval`, with three differences. Each figure's n counts the cases that it
    rests on (`Metric.rests_on`): the melanomas for the melanomas' recall. A proportion of exactly
    0 or 1, on which all samples agree, gets Wilson's interval over its lesions: 6 found of 6
    does not prove that all are found. And the ends are NaN where a side has a single lesion,
    which no sample can replace by another.
    """
    metrics = tuple(metrics)
    drawn = draw_samples(predictions, metrics, samples=samples, seed=seed)
    return report_of_samples(predictions, drawn, metrics, confidence=confidence)


def draw_samples(
    predictions: Predictions,
    metrics: Iterable[Metric] = tuple(METRICS.values()),
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Every metric on every bootstrap sample of lesions, by its name.

    Samples depend on the lesions and the seed alone: two models measured on the same cases share
    them, whenever each was drawn, and sample by sample their difference is a paired one.

    Returns:
        float64 (samples,), or (samples, c) where the metric is per class.
    """
    metrics = tuple(metrics)
    drawn = _bootstrap([metric.compute for metric in metrics], predictions, samples, seed)
    return {metric.name: of_metric for metric, of_metric in zip(metrics, drawn, strict=True)}


def report_of_samples(
    predictions: Predictions,
    drawn: Mapping[str, np.ndarray],
    metrics: Iterable[Metric] = tuple(METRICS.values()),
    *,
    confidence: float = CONFIDENCE,
) -> tuple[Estimate, ...]:
    """As `bootstrap_report`, of samples that `draw_samples` drew of the same predictions."""
    estimates = []
    for metric in metrics:
        names = predictions.classes if metric.is_per_class else (None,)
        values = np.atleast_1d(metric.compute(predictions))
        of_metric = drawn[metric.name].reshape(-1, len(names))
        for k, name in enumerate(names):
            interval = _report_interval(
                metric,
                float(values[k]),
                of_metric[:, k],
                confidence,
                resting_on(metric, predictions, name),
                on_other_side(metric, predictions, name),
            )
            estimates.append(Estimate(metric.name, name, interval))
    return tuple(estimates)


def resting_on(
    metric: Metric, predictions: Predictions, of_class: str | None = None
) -> tuple[int, int]:
    """Numbers of cases and of lesions that a figure rests on (`Metric.rests_on`)."""
    return _count(predictions, _cases_of(metric.rests_on, metric, predictions, of_class))


def on_other_side(
    metric: Metric, predictions: Predictions, of_class: str | None = None
) -> int | None:
    """Number of lesions on the other side of a figure (`Metric.other_side`); None without one."""
    if metric.other_side is None:
        return None
    return _count(predictions, _cases_of(metric.other_side, metric, predictions, of_class))[1]


def _cases_of(
    side: Callable[[Predictions], np.ndarray],
    metric: Metric,
    predictions: Predictions,
    of_class: str | None,
) -> np.ndarray:
    cases = side(predictions)
    return cases[:, predictions.classes.index(of_class)] if metric.is_per_class else cases


def _report_interval(
    metric: Metric,
    value: float,
    drawn: np.ndarray,
    confidence: float,
    counted: tuple[int, int],
    other_side: int | None,
) -> Interval:
    n, n_lesions = counted
    if metric.is_proportion and n and value in (0.0, 1.0):
        exact = wilson_interval(round(value * n_lesions), n_lesions, confidence)
        return Interval(value, exact.low, exact.high, n, n_lesions)
    if not _can_vary(n_lesions, other_side):
        return Interval(value, math.nan, math.nan, n, n_lesions)
    if metric.grows_when_resampled:
        drawn = _centred(drawn, value)
    return Interval(value, *_percentiles(drawn, confidence), n, n_lesions)


def mean_intervals(
    values: np.ndarray,
    lesion_ids: np.ndarray,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[Interval, ...]:
    """Means of several measurements of each case, with intervals over a bootstrap of lesions.

    Args:
        values: float (n, k); NaN where a case has no such measurement.
        lesion_ids: (n,).

    Returns:
        One per column; n counts the cases with a measurement. A column of zeros or of ones alone
        gets Wilson's interval over its lesions, as in `bootstrap_report`; the ends are NaN where
        all samples agree on another value.
    """
    values, lesion_ids = np.asarray(values, dtype=np.float64), np.asarray(lesion_ids)
    if values.ndim != 2 or lesion_ids.shape != values.shape[:1]:
        raise ValueError(
            "Expected values (n, k) and lesion_ids (n,). Received: "
            f"{values.shape} and {lesion_ids.shape}"
        )
    defined = np.isfinite(values)
    known = np.where(defined, values, 0.0)
    if len(values) == 0:
        return (Interval(math.nan, math.nan, math.nan, 0, 0),) * values.shape[1]
    weights = lesion_bootstrap_weights(lesion_ids, samples, seed).astype(np.float64)
    total, count = weights @ known, weights @ defined
    drawn = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    intervals = []
    for k in range(values.shape[1]):
        n = int(defined[:, k].sum())
        lesions = len(np.unique(lesion_ids[defined[:, k]]))
        value = float(known[:, k].sum() / n) if n else math.nan
        if n and value in (0.0, 1.0):
            exact = wilson_interval(round(value * lesions), lesions, confidence)
            intervals.append(Interval(value, exact.low, exact.high, n, lesions))
        else:
            intervals.append(Interval(value, *_percentiles(drawn[:, k], confidence), n, lesions))
    return tuple(intervals)


# ---------------------------------------------------------------------------------------------
# Two models on the same cases
# ---------------------------------------------------------------------------------------------


def check_same_cases(first: Predictions, second: Predictions) -> None:
    """Refuses to compare models that were asked different questions.

    Raises:
        ValueError: Different classes, cases, order of cases, truths or lesions; says which.
    """
    if first.classes != second.classes or first.malignant != second.malignant:
        raise ValueError(
            "Expected two models with the same classes. Received: "
            f"{first.classes} and {second.classes}, malignant {sorted(first.malignant)} and "
            f"{sorted(second.malignant)}"
        )
    if not np.array_equal(first.case_ids, second.case_ids):
        shared = len(np.intersect1d(first.case_ids, second.case_ids))
        raise ValueError(
            "Expected two models evaluated on the same cases in the same order. Received: "
            f"{len(first)} and {len(second)} cases, {shared} of them shared"
        )
    for name in ("truth", "lesion_ids"):
        differing = int((getattr(first, name) != getattr(second, name)).sum())
        if differing:
            raise ValueError(f"Expected the same {name} twice. Received: {differing} that differ")


def paired_bootstrap(
    metric: Callable[[Predictions], np.ndarray],
    first: Predictions,
    second: Predictions,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    grows_when_resampled: bool = False,
) -> Comparison:
    """Difference of any figure between two models, both on the same bootstrap samples of lesions.

    Args:
        metric: As in `bootstrap_interval`: one value per sample.
        first, second: The same cases in the same order (`check_same_cases`).
        grows_when_resampled: As in `bootstrap_interval`: the samples of each model are moved
            before the difference is taken. The better calibrated of two models grows more.

    Returns:
        Second minus first; the ends are NaN where all samples agree. The p-value inverts the
        percentile interval: twice the smaller share
        of samples on either side of 0, counting the data themselves as one sample, so that it is
        never 0 (Davison and Hinkley 1997); at most 1.

    Raises:
        ValueError: Different cases, or a metric with one value per class.
    """
    check_same_cases(first, second)
    drawn = [_bootstrap([metric], model, samples, seed)[0] for model in (first, second)]
    if drawn[0].ndim != 1:
        raise ValueError("Expected a metric that gives one value. Received: one per class")
    values = float(metric(first)), float(metric(second))
    counted = _count(first, np.ones(len(first), dtype=bool))
    return compare_samples(
        *values,
        *drawn,
        *counted,
        confidence=confidence,
        grows_when_resampled=grows_when_resampled,
    )


def compare_samples(
    first: float,
    second: float,
    first_drawn: np.ndarray,
    second_drawn: np.ndarray,
    n: int,
    n_lesions: int,
    *,
    other_side: int | None = None,
    confidence: float = CONFIDENCE,
    grows_when_resampled: bool = False,
) -> Comparison:
    """As `paired_bootstrap`, of figures already drawn on the same samples.

    Args:
        first, second: The figure of each model on the data.
        first_drawn, second_drawn: float (samples,), from `draw_samples` with the same lesions
            and the same seed.
        n, n_lesions: What the figure rests on.
        other_side: See `on_other_side`. Where one of the sides has a single lesion, which every
            sample repeats, no difference can be told from chance: ends and p-value are NaN.
        grows_when_resampled: As in `paired_bootstrap`.
    """
    if grows_when_resampled:
        first_drawn, second_drawn = _centred(first_drawn, first), _centred(second_drawn, second)
    differences = second_drawn - first_drawn
    if not _can_vary(n_lesions, other_side):
        differences = np.full(len(differences), np.nan)
    difference = Interval(second - first, *_percentiles(differences, confidence), n, n_lesions)
    return Comparison(first, second, difference, _bootstrap_p_value(differences))


@dataclass(frozen=True)
class McNemar:
    """Whether two models are right equally often.

    Attributes:
        only_first, only_second: Cases that only that model gets right.
        n: Cases.
        p_value: Two-sided, of no difference.
        difference: Share right of the second less that of the first, with its normal interval;
            the ends are NaN where they cannot be told.
    """

    only_first: int
    only_second: int
    n: int
    p_value: float
    difference: Interval


def mcnemar_test(
    first_correct: np.ndarray,
    second_correct: np.ndarray,
    lesion_ids: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> McNemar:
    """McNemar's test (1947) that two models are right equally often.

    Without lesions it takes cases to be independent and is exact at every size: under no
    difference each case that only one model gets right is a fair coin.

    With lesions it is the test for clustered pairs (Obuchowski 1998; Durkalski et al. 2003): with
    d_k photos of lesion k that the second model alone gets right, less those that the first alone
    does, (sum of d_k)^2 / sum of d_k^2 follows chi-square with one degree of freedom. Of lesions
    with one photo each that is McNemar's own approximation. It wants some ten lesions or more on
    which the models differ.

    Args:
        first_correct, second_correct: bool (n,), the same cases.
        lesion_ids: (n,), equal for photos of one lesion; None for independent cases.
        confidence: Of the interval of the difference, in (0, 1). Its variance is that of the sums
            over lesions.
    """
    first, second = np.asarray(first_correct), np.asarray(second_correct)
    if (
        first.shape != second.shape
        or first.ndim != 1
        or {first.dtype, second.dtype} != {np.dtype(bool)}
    ):
        raise ValueError(
            f"Expected two bool arrays of one shape (n,). Received: {first.dtype} {first.shape} "
            f"and {second.dtype} {second.shape}"
        )
    n = len(first)
    clusters = np.arange(n) if lesion_ids is None else np.asarray(lesion_ids)
    if clusters.shape != (n,):
        raise ValueError(f"Expected lesion_ids of shape {(n,)}. Received: {clusters.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    gained = second.astype(np.float64) - first
    if lesion_ids is None:
        discordant = only_first + only_second
        from scipy.special import bdtr  # pages never ask for this one, and would wait for scipy

        tail = bdtr(min(only_first, only_second), discordant, 0.5) if discordant else 1.0
        p_value = min(1.0, 2 * float(tail))
    else:
        _, lesion_of_case = np.unique(clusters, return_inverse=True)
        of_lesion = np.bincount(lesion_of_case, gained)
        spread = math.sqrt((of_lesion**2).sum())
        p_value = 2 * float(NORMAL.cdf(-abs(of_lesion.sum()) / spread)) if spread else 1.0
    difference = _mean_over_lesions(gained, clusters, confidence)
    return McNemar(only_first, only_second, n, p_value, difference)


def _mean_over_lesions(values: np.ndarray, lesion_ids: np.ndarray, confidence: float) -> Interval:
    """Mean of values (n,) with its normal interval, lesions being what varies."""
    mean, n_lesions = float(values.mean()), len(np.unique(lesion_ids))
    low = high = math.nan
    if n_lesions > 1:
        error = math.sqrt(_clustered_covariance((values - mean)[None], lesion_ids)[0, 0])
        if error:
            margin = NORMAL.inv_cdf((1 + _checked(confidence)) / 2) * error
            low, high = mean - float(margin), mean + float(margin)
    return Interval(mean, low, high, len(values), n_lesions)


def delong_test(
    positive: np.ndarray,
    first_score: np.ndarray,
    second_score: np.ndarray,
    lesion_ids: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compares the ROC AUC of two scores on the same cases.

    DeLong et al. (1988), by midranks as in Sun and Xu (2014). With `lesion_ids` the placements of
    a lesion's photos are added up first and lesions are what varies (Obuchowski 1997).

    Args:
        positive: bool (n,).
        first_score, second_score: float (n,), finite.
        lesion_ids: (n,), or None where each case is its own lesion. All photos of one lesion are
            positive, or none is.
        confidence: Of the interval of the difference, in (0, 1).

    Returns:
        Both areas, and second minus first with its normal interval and p-value; ends and p-value
        are NaN where the areas differ and no lesion varies.

    Raises:
        ValueError: Fewer than two positive or two negative lesions, a lesion that is both, or
            shapes and values that do not fit.
    """
    positive = np.asarray(positive)
    scores = np.stack([first_score, second_score]).astype(np.float64)
    n = scores.shape[-1]
    lesion_ids = np.arange(n) if lesion_ids is None else np.asarray(lesion_ids)
    _check_delong(positive, scores, lesion_ids)
    areas, above, below = _placements(positive, scores)
    covariance = _clustered_covariance(above - areas[:, None], lesion_ids[positive])
    covariance += _clustered_covariance(below - areas[:, None], lesion_ids[~positive])
    value = float(areas[1] - areas[0])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    rounding = 1e-12 * (covariance[0, 0] + covariance[1, 1])
    error = math.sqrt(variance) if variance > rounding else 0.0
    margin = NORMAL.inv_cdf((1 + _checked(confidence)) / 2) * error
    if error:
        p_value = 2 * float(NORMAL.cdf(-abs(value) / error))
    elif value == 0:
        p_value = 1.0
    else:  # lesions that all say the same do not tell how far chance would move it
        margin = p_value = math.nan
    difference = Interval(
        value, value - float(margin), value + float(margin), n, len(np.unique(lesion_ids))
    )
    return Comparison(float(areas[0]), float(areas[1]), difference, p_value)


def holm_correction(p_values: np.ndarray) -> np.ndarray:
    """p-values adjusted for being several (Holm 1979): compare each with 0.05 as before.

    Args:
        p_values: float (k,), in [0, 1], in any order.

    Returns:
        float64 (k,), in the same order, never below the originals.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"Expected p-values between 0 and 1, shape (k,). Received: {p_values}")
    order = np.argsort(p_values)
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------


def _bootstrap(
    metrics: list[Callable[[Predictions], np.ndarray]],
    predictions: Predictions,
    samples: int,
    seed: int,
) -> list[np.ndarray]:
    """Each metric on every sample: one array (b,) or (b, c) per metric."""
    if predictions.weights.ndim != 1 or (predictions.weights != 1).any():
        raise ValueError(
            "Expected predictions without weights: the bootstrap sets them. Received: weights of "
            f"shape {predictions.weights.shape}; choose subgroups with `Predictions.subset`"
        )
    # All metrics see the same resample object, so they share its confusions and rankings.
    parts = [
        [part.kept(metric) for metric in metrics] for part in _resamples(predictions, samples, seed)
    ]
    return [np.concatenate(of_metric) for of_metric in zip(*parts, strict=True)]


def _resamples(predictions: Predictions, samples: int, seed: int) -> Iterator[Predictions]:
    weights = lesion_bootstrap_weights(predictions.lesion_ids, samples, seed)
    for start in range(0, samples, SAMPLES_AT_ONCE):
        yield predictions.weighted(weights[start : start + SAMPLES_AT_ONCE])


def _centred(drawn: np.ndarray, value: float) -> np.ndarray:
    """Samples moved until their median is the value; errors, so never below 0."""
    defined = drawn[np.isfinite(drawn)]
    return np.maximum(drawn - np.median(defined) + value, 0.0) if len(defined) else drawn


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values):
        return math.nan, math.nan
    tail = (1 - _checked(confidence)) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    # Samples that all agree, but for rounding, do not tell how far chance would move the figure.
    return (float(low), float(high)) if high - low > NO_WIDTH else (math.nan, math.nan)


def _bootstrap_p_value(differences: np.ndarray) -> float:
    defined = differences[np.isfinite(differences)]
    if len(defined) * 2 < len(differences):
        return math.nan
    # A tie counts for both sides, also where one model's samples were kept in single precision.
    smaller = min((defined <= NO_WIDTH).sum(), (defined >= -NO_WIDTH).sum())
    return min(1.0, 2 * float(smaller + 1) / (len(defined) + 1))


def _can_vary(n_lesions: int, other_side: int | None) -> bool:
    """Whether samples of lesions differ on every side of a figure."""
    return min(n_lesions, n_lesions if other_side is None else other_side) > 1


def _count(predictions: Predictions, cases: np.ndarray) -> tuple[int, int]:
    """Cases and different lesions among the chosen, bool (n,)."""
    return int(cases.sum()), len(np.unique(predictions.lesion_ids[cases]))


def _placements(
    positive: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas (2,); per positive the share of negatives below it (2, m); per negative the share of
    positives above it (2, n - m). Ties count half."""
    m, n = int(positive.sum()), int((~positive).sum())
    everyone = np.stack([midranks(score) for score in scores])
    among_positives = np.stack([midranks(score[positive]) for score in scores])
    among_negatives = np.stack([midranks(score[~positive]) for score in scores])
    above = (everyone[:, positive] - among_positives) / n
    below = 1 - (everyone[:, ~positive] - among_negatives) / m
    return above.mean(axis=1), above, below


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[group]


def _clustered_covariance(deviations: np.ndarray, lesion_ids: np.ndarray) -> np.ndarray:
    """Covariance (k, k) of the means of deviations (k, m), lesions being what varies."""
    names, lesion_of_case = np.unique(lesion_ids, return_inverse=True)
    sums = np.stack([np.bincount(lesion_of_case, row, len(names)) for row in deviations])
    return len(names) / (len(names) - 1) * (sums @ sums.T) / deviations.shape[1] ** 2


def _check_delong(positive: np.ndarray, scores: np.ndarray, lesion_ids: np.ndarray) -> None:
    n = scores.shape[-1]
    if positive.dtype != bool or scores.ndim != 2 or {positive.shape, lesion_ids.shape} != {(n,)}:
        raise ValueError(
            "Expected bool positive, two scores and lesion_ids, all of shape (n,). Received: "
            f"{positive.dtype} {positive.shape}, {scores.shape[1:]}, {lesion_ids.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("Expected finite scores. Received: NaN or infinity")
    sides = np.unique(lesion_ids[positive]), np.unique(lesion_ids[~positive])
    if min(len(side) for side in sides) < 2:
        raise ValueError(
            "Expected at least two positive and two negative lesions. Received: "
            f"{len(sides[0])} and {len(sides[1])}"
        )
    if mixed := len(np.intersect1d(*sides)):
        raise ValueError(f"Expected lesions positive or negative. Received: {mixed} that are both")


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1. Received: {confidence}")
    return confidence
