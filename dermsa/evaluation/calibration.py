"""What a model may say after it was trained: calibrated, with a referral line and honest sets.

Fit on validation data, then carried in the model's card and applied while serving:

    temperature, lean = fit_calibration(logits, truth, emphasis)  # one number, one per class
    probabilities = softmax(logits, temperature, lean)
    threshold = malignancy_threshold(malignancy, is_malignant)    # refer if p >= threshold
    quantiles = conformal_quantile(probabilities, truth)          # one number per class
    possible = not_ruled_out(probabilities, quantiles, lean)

Importing this module loads numpy only, because serving needs it: scipy is loaded by the fit.
"""

from __future__ import annotations

import math

import numpy as np

TEMPERATURE_RANGE = (0.05, 20.0)
STRENGTH_RANGE = (0.0, 2.0)
SUM_TOLERANCE = 1e-3

NEVER_RULED_OUT = 0.1
"""From this probability on, no diagnosis is ruled out.

The conformal quantiles are one per diagnosis, so that each one's own lesions are covered: where a
nevus is easily told, it leaves the set below 0.69 (MobileNetEnsemble-3). Of that model's test
photos 14 % had a diagnosis of at least 0.1 left out, a fifth of these the right one."""


def softmax(
    logits: np.ndarray, temperature: float = 1.0, lean: np.ndarray | float = 1.0
) -> np.ndarray:
    """Probabilities of logits divided by a temperature, with a lean taken back.

    Args:
        logits: float (..., c), finite.
        temperature: Above 0; above 1 softens, below 1 sharpens; the order never changes.
        lean: float (c,), above 0, what each probability is divided by before they are made to
            sum to 1: see `fit_calibration`. One number for all changes nothing.

    Returns:
        float64 (..., c), in [0, 1], sums to 1 along the last axis.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"Expected a temperature above 0. Received: {temperature}")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if not np.isfinite(scaled).all():
        raise ValueError("Expected finite logits. Received: NaN or infinity")
    scaled = scaled - np.log(lean)
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Temperature that minimises the log loss on validation cases (Guo et al. 2017).

    Args:
        logits: float (n, c), finite, of cases the model was not trained on.
        truth: int (n,), index of the true class.

    Returns:
        Temperature between 0.05 and 20. A value at either end says that the logits carry no
        information, or separate these cases perfectly: then calibrate on more cases.

    Raises:
        ValueError: Shapes or values that do not fit together.
    """
    from scipy.optimize import minimize_scalar

    distances = _distances(logits, truth)

    def log_loss(log_temperature: float) -> float:
        return np.logaddexp.reduce(distances / math.exp(log_temperature), axis=1).mean()

    # In log T the loss is smooth and halving counts as much as doubling.
    bounds = tuple(math.log(limit) for limit in TEMPERATURE_RANGE)
    found = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)


def fit_calibration(
    logits: np.ndarray, truth: np.ndarray, emphasis: np.ndarray
) -> tuple[float, np.ndarray]:
    """Temperature and lean that together minimise the log loss on validation cases.

    Training with class weights, or with classes shown more often than they are, teaches a
    network to say w p instead of p, up to a factor, as far as it does not fit its labels exactly
    (Elkan 2001; for logit-adjusted losses Menon et al. 2021). No temperature can mend that. How
    far it goes is fitted as a power of w, one more number: p = softmax(logits / T - s log w).

    Args:
        logits, truth: As for `fit_temperature`.
        emphasis: float (c,), above 0: w, what each class counted in training against its share,
            in any unit.

    Returns:
        The temperature, between 0.05 and 20, and the lean w^s, float64 (c,) with a geometric mean
        of 1 and s between 0 and 2. The lean is 1 where all classes counted the same.

    Raises:
        ValueError: Shapes or values that do not fit together.
    """
    from scipy.optimize import minimize

    logits, emphasis = np.asarray(logits, dtype=np.float64), np.asarray(emphasis, np.float64)
    if emphasis.shape != logits.shape[-1:] or not ((emphasis > 0) & np.isfinite(emphasis)).all():
        raise ValueError(
            f"Expected an emphasis above 0 for each of {logits.shape[-1]} classes. Received: "
            f"{emphasis}"
        )
    log_emphasis = np.log(emphasis)
    log_emphasis -= log_emphasis.mean()
    if np.allclose(log_emphasis, 0):
        return fit_temperature(logits, truth), np.ones(len(emphasis))
    # One row a case and class, of both terms: the loss is convex in their factors 1/T and s.
    terms = np.stack(
        [_distances(logits, truth), _distances(np.broadcast_to(-log_emphasis, logits.shape), truth)]
    )

    def loss_and_slope(factors: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(factors, terms, axes=1)
        loss = np.logaddexp.reduce(scores, axis=1)
        said = np.exp(scores - loss[:, None])
        return loss.mean(), (terms * said).sum(axis=2).mean(axis=1)

    bounds = [tuple(1 / limit for limit in reversed(TEMPERATURE_RANGE)), STRENGTH_RANGE]
    found = minimize(
        loss_and_slope, (1.0, 0.5), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"ftol": 1e-14, "gtol": 1e-9},
    )  # fmt: skip
    return 1 / found.x[0], np.exp(found.x[1] * log_emphasis)


def malignancy_threshold(
    malignancy_probability: np.ndarray, is_malignant: np.ndarray, sensitivity: float = 0.95
) -> float:
    """Largest threshold at which "refer if p >= threshold" still finds enough malignant cases.

    Args:
        malignancy_probability: float (n,), in [0, 1].
        is_malignant: bool (n,), at least one True.
        sensitivity: Share of malignant cases to be referred, in (0, 1].

    Returns:
        The threshold, one of the malignant cases' own probabilities. The sensitivity holds on
        these cases; on others it has to be measured.

    Raises:
        ValueError: No malignant case, or values out of range.
    """
    probability, malignant = np.asarray(malignancy_probability), np.asarray(is_malignant)
    if probability.ndim != 1 or malignant.shape != probability.shape or malignant.dtype != bool:
        raise ValueError(
            "Expected probabilities and a bool each, both of shape (n,). Received: "
            f"{probability.shape} and {malignant.dtype} of shape {malignant.shape}"
        )
    _check_share(sensitivity, "sensitivity")
    _check_probabilities(probability)
    falling = np.sort(probability[malignant])[::-1]
    if len(falling) == 0:
        raise ValueError(f"Expected at least one malignant case. Received: 0 of {len(malignant)}")
    # The slack keeps 0.95 of 20 cases at 19, whatever the rounding of the product.
    needed = max(1, math.ceil(sensitivity * len(falling) - 1e-9))
    return float(falling[needed - 1])


def conformal_quantile(
    probabilities: np.ndarray,
    truth: np.ndarray,
    coverage: float = 0.9,
    *,
    by_class: bool = True,
) -> np.ndarray:
    """Split-conformal quantiles of 1 - p(true class), for `prediction_set`.

    The score is LAC (Sadinle, Lei, Wasserman 2019), not APS. LAC gives the smallest sets for its
    coverage and needs no random number, so that one photo has one answer. APS sums probabilities
    down to the true class: on clear-cut nevi that sum is 1 but for rounding, its quantile lands
    there, and sets fill up with classes of negligible probability.

    Two thirds of the cases are nevi, so one quantile for all reaches its coverage by covering
    nevi and misses melanomas. `by_class` calibrates each class on its own cases: 90 % of the
    melanomas have melanoma in their set, and so for every class (Vovk 2012).

    Args:
        probabilities: float (n, c), calibrated, rows sum to 1, of cases the model was not
            trained on.
        truth: int (n,), index of the true class.
        coverage: Share of new cases whose set holds the truth, in (0, 1).
        by_class: Whether the coverage holds within each class, or only over all cases.

    Returns:
        float64 (c,), in [0, 1]: the largest 1 - p at which a class belongs to the set. Without
        `by_class` all are equal. A class with fewer than coverage / (1 - coverage) cases gets 1:
        nothing is known about it, so it is in every set. The guarantee takes new cases to be
        drawn like these; photos of one lesion resemble each other and make it weaker.

    Raises:
        ValueError: Shapes or values that do not fit together.
    """
    probabilities, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    _check_truth(truth, probabilities, "probabilities")
    _check_probabilities(probabilities, rows_sum_to_one=True)
    _check_share(coverage, "coverage")
    scores = 1 - np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0]
    classes = range(probabilities.shape[1])
    if not by_class:
        return np.full(len(classes), _upper_quantile(scores, coverage))
    return np.array([_upper_quantile(scores[truth == k], coverage) for k in classes])


def prediction_set(probabilities: np.ndarray, quantile: np.ndarray | float) -> np.ndarray:
    """Which diagnoses stay possible. The most probable one always does.

    Args:
        probabilities: float (..., c), in [0, 1].
        quantile: From `conformal_quantile`: (c,), or one number for all classes.

    Returns:
        bool (..., c), at least one True along the last axis. More than one says "unsure between
        these". Always keeping the first can only raise the coverage.
    """
    probabilities, quantile = np.asarray(probabilities), np.asarray(quantile)
    c = probabilities.shape[-1] if probabilities.ndim else 0
    if c == 0 or quantile.shape not in ((), (c,)):
        raise ValueError(
            "Expected probabilities (..., c) and one quantile, or one per class. Received: "
            f"{probabilities.shape} and {quantile.shape}"
        )
    most_probable = probabilities.argmax(axis=-1)[..., None] == np.arange(c)
    return (1 - probabilities <= quantile) | most_probable


def not_ruled_out(
    probabilities: np.ndarray, quantile: np.ndarray | float, lean: np.ndarray | float = 1.0
) -> np.ndarray:
    """What a doctor is told cannot be ruled out: the prediction set, what is named, and whatever
    has a probability of at least `NEVER_RULED_OUT`. That can only raise the coverage.

    Args:
        probabilities, quantile: As of `prediction_set`.
        lean: float (c,): the diagnosis with the largest `probability * lean` is named.

    Returns:
        bool (..., c).
    """
    possible = prediction_set(probabilities, quantile)
    named = (probabilities * lean).argmax(axis=-1)[..., None] == np.arange(probabilities.shape[-1])
    return possible | named | (probabilities >= NEVER_RULED_OUT)


def _upper_quantile(scores: np.ndarray, coverage: float) -> float:
    """The ceil((n + 1) * coverage)-th smallest score; 1, the largest possible, beyond the last."""
    position = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[position - 1]) if position <= len(scores) else 1.0


def _distances(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Logits less that of the true class: the log loss is log(sum(exp(distance))), never infinite.

    Raises:
        ValueError: Shapes or values that do not fit together.
    """
    logits, truth = np.asarray(logits, dtype=np.float64), np.asarray(truth)
    _check_truth(truth, logits, "logits")
    if not np.isfinite(logits).all():
        raise ValueError("Expected finite logits. Received: NaN or infinity")
    return logits - np.take_along_axis(logits, truth[:, None], axis=1)


def _check_truth(truth: np.ndarray, values: np.ndarray, name: str) -> None:
    if values.ndim != 2 or truth.shape != values.shape[:1] or len(truth) == 0:
        raise ValueError(
            f"Expected {name} (n, c) and truth (n,), n at least 1. Received: {values.shape} and "
            f"{truth.shape}"
        )
    c = values.shape[1]
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= c:
        raise ValueError(
            f"Expected truth as integers between 0 and {c - 1}. Received: {truth.dtype} from "
            f"{truth.min()} to {truth.max()}"
        )


def _check_probabilities(probabilities: np.ndarray, rows_sum_to_one: bool = False) -> None:
    # Written so that NaN, which fails every comparison, is refused too.
    if probabilities.size and not (
        probabilities.min() >= 0 and probabilities.max() <= 1 + SUM_TOLERANCE
    ):
        raise ValueError(
            "Expected probabilities between 0 and 1. Received: values from "
            f"{probabilities.min()} to {probabilities.max()}"
        )
    if rows_sum_to_one and np.abs(probabilities.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise ValueError("Expected rows of probabilities that sum to 1. Received: others")


def _check_share(share: float, name: str) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"Expected a {name} above 0 and up to 1. Received: {share}")
