"""Two or more evaluations of the same cases, side by side.

    check_comparable(evaluations)                        # or say why not
    table(evaluations)                                   # figures; the best only where it holds
    pairs(evaluations, Figure("recall", "mel"))          # differences, p-values, sentences
    mcnemar(evaluations); delong(evaluations, "mel")     # the classical tests
    disagreements(evaluations)                           # the cases to look at

Every set of p-values is corrected for its size (Holm 1979), and "holds" means that the corrected
one is below 0.05.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermsa.evaluation import statistics
from dermsa.evaluation.metrics import METRICS, Predictions
from dermsa.evaluation.record import Evaluation
from dermsa.evaluation.statistics import Comparison, Interval
from dermsa.taxonomy import NAMES

SIGNIFICANT = 0.05
NOUNS = {
    "akiec": "actinic keratoses",
    "bcc": "basal cell carcinomas",
    "bkl": "benign keratoses",
    "df": "dermatofibromas",
    "mel": "melanomas",
    "nv": "nevi",
    "vasc": "vascular lesions",
}
"""What a sentence calls the lesions of a class."""


class NotComparable(ValueError):
    """Evaluations of different questions; the message says what differs."""


@dataclass(frozen=True)
class Figure:
    """One row of a table: a metric, of a class or of all.

    Attributes:
        metric: A key of `METRICS`.
        of_class: Code of a class where the metric is per class, else None.
    """

    metric: str
    of_class: str | None = None

    @property
    def title(self) -> str:
        title = METRICS[self.metric].title
        return f"{title}: {NAMES.get(self.of_class, self.of_class)}" if self.of_class else title

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.metric].higher_is_better


def figure(text: str, classes: Sequence[str]) -> Figure:
    """Reads "macro_recall" or "recall:mel".

    Raises:
        ValueError: No such metric, or a class where there is none or none where one is needed.
    """
    name, _, of_class = text.partition(":")
    if name not in METRICS:
        raise ValueError(f"There is no metric {name!r}. There are: {', '.join(METRICS)}.")
    if METRICS[name].is_per_class and of_class not in classes:
        raise ValueError(f"Expected {name}:CLASS with one of {', '.join(classes)}.")
    if of_class and not METRICS[name].is_per_class:
        raise ValueError(f"{name} is one figure for all classes; leave out :{of_class}.")
    return Figure(name, of_class or None)


HEADLINE: tuple[Figure, ...] = (
    Figure("macro_recall"),
    Figure("macro_roc_auc"),
    Figure("accuracy"),
    Figure("macro_f1"),
    Figure("macro_precision"),
    Figure("macro_average_precision"),
    Figure("macro_papers_balanced_accuracy"),
    Figure("recall", "mel"),
    Figure("roc_auc", "mel"),
    Figure("malignancy_roc_auc"),
    Figure("malignancy_sensitivity_at_90_specificity"),
    Figure("malignancy_specificity_at_95_sensitivity"),
    Figure("top_2"),
    Figure("top_3"),
    Figure("cohen_kappa"),
    Figure("log_loss"),
    Figure("brier"),
    Figure("expected_calibration_error"),
)
"""What the first table shows; figures of classes that a data set lacks are left out."""


@dataclass(frozen=True)
class Row:
    """A figure of every evaluation.

    Attributes:
        figure: Which.
        intervals: One per evaluation, in their order.
        best: Index of the evaluation that is better than every other one beyond chance, or None.
    """

    figure: Figure
    intervals: tuple[Interval, ...]
    best: int | None


@dataclass(frozen=True)
class Pair:
    """Two evaluations and whether they differ.

    Attributes:
        first, second: Names of the models or runs.
        test: "paired bootstrap", "McNemar over lesions" or "DeLong over lesions".
        comparison: Second minus first, with the p-value as computed.
        adjusted_p: The p-value after Holm's correction over all pairs of the same call.
        sentence: The result in plain words.
        too_many: Whether there are more pairs than the bootstrap samples can tell from chance,
            however much they differ.
    """

    first: str
    second: str
    test: str
    comparison: Comparison
    adjusted_p: float
    sentence: str
    too_many: bool = False

    @property
    def holds(self) -> bool:
        return self.adjusted_p < SIGNIFICANT


# ---------------------------------------------------------------------------------------------
# May they be compared?
# ---------------------------------------------------------------------------------------------


def check_comparable(evaluations: Sequence[Evaluation]) -> None:
    """Refuses evaluations of different cases.

    Raises:
        NotComparable: Fewer than two, one of them twice, or different data sets, parts, cases,
            classes or truths; says which of them differ in what.
    """
    if len(evaluations) < 2:
        raise NotComparable("Choose at least two models or runs to compare.")
    names = [evaluation.model for evaluation in evaluations]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise NotComparable(f"{', '.join(repeated)} is chosen twice.")
    first = evaluations[0]
    for other in evaluations[1:]:
        if reason := _difference_of_cases(first, other):
            raise NotComparable(
                f"{first.model} and {other.model} were measured on different cases and cannot be "
                f"compared: {reason}"
            )


def _difference_of_cases(first: Evaluation, second: Evaluation) -> str:
    """Why the two cannot be compared, in a sentence; "" where they can.

    Protocols and splits may divide what is not tested differently, as those of `lesion-rotated`
    do: where the cases are the same, that is no reason.
    """
    same = np.array_equal(first.predictions.case_ids, second.predictions.case_ids)
    compared = (("data set", "dataset"), ("part", "part"), ("protocol", "protocol"))
    for noun, name in compared[:2] if same else compared:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            return f"the {noun} is {one} for the first and {other} for the second."
    hashes = first.split_sha256[:16], second.split_sha256[:16]
    if all(hashes) and first.split_sha256 != second.split_sha256 and not same:
        return f"the split is {hashes[0]} for the first and {hashes[1]} for the second."
    if first.classes != second.classes:
        return (
            f"the classes are {', '.join(first.classes)} for the first and "
            f"{', '.join(second.classes)} for the second."
        )
    one, other = first.predictions, second.predictions
    if not np.array_equal(one.case_ids, other.case_ids):
        shared = len(np.intersect1d(one.case_ids, other.case_ids))
        return (
            f"{len(one):,} images for the first and {len(other):,} for the second, {shared:,} of "
            "them shared."
        )
    try:
        statistics.check_same_cases(one, other)
    except ValueError as error:
        return str(error)
    return ""


# ---------------------------------------------------------------------------------------------
# Figures side by side
# ---------------------------------------------------------------------------------------------


def table(
    evaluations: Sequence[Evaluation], figures: Sequence[Figure] = HEADLINE
) -> tuple[Row, ...]:
    """Figures of all evaluations; a best one is named only where it beats every other.

    p-values are corrected over the pairs of a row, not over the rows: each row is its own
    question. One evaluation alone has no best.

    Raises:
        NotComparable: See `check_comparable`.
    """
    if len(evaluations) > 1:
        check_comparable(evaluations)
    return tuple(
        Row(
            figure,
            tuple(one.interval(figure.metric, figure.of_class) for one in evaluations),
            _best(evaluations, figure),
        )
        for figure in figures
        if figure.of_class is None or figure.of_class in evaluations[0].classes
    )


def pairs(evaluations: Sequence[Evaluation], figure: Figure) -> tuple[Pair, ...]:
    """Differences in a figure between all pairs, by a paired bootstrap over lesions.

    Raises:
        NotComparable: See `check_comparable`.
    """
    check_comparable(evaluations)
    return _bootstrap_pairs(evaluations, figure)


def mcnemar(evaluations: Sequence[Evaluation]) -> tuple[Pair, ...]:
    """Whether all pairs are right equally often, by McNemar's test over lesions.

    The test for clustered pairs (see `statistics.mcnemar_test`), since photos of one lesion
    resemble each other.

    Raises:
        NotComparable: See `check_comparable`.
    """
    check_comparable(evaluations)

    def compare(first: Evaluation, second: Evaluation) -> tuple[Comparison, str]:
        right = [one.predictions.predicted == one.predictions.truth for one in (first, second)]
        test = statistics.mcnemar_test(*right, first.predictions.lesion_ids)
        shares = (float(of.mean()) for of in right)
        words = (
            f"{second.model} alone is right on {test.only_second} photos of {test.n:,} (of "
            f"{first.lesions:,} lesions), {first.model} alone on {test.only_first}"
        )
        return Comparison(*shares, test.difference, test.p_value), words

    return _all_pairs(evaluations, "McNemar over lesions", compare)


def delong(evaluations: Sequence[Evaluation], of_class: str | None = None) -> tuple[Pair, ...]:
    """Whether the ROC AUC of all pairs differs, by DeLong's test over lesions.

    Args:
        of_class: Against the rest; None for malignant or not.

    Raises:
        NotComparable: Other cases, or too few of one side to compare.
    """
    check_comparable(evaluations)
    of = NAMES.get(of_class, of_class) if of_class else "malignant or not"

    def compare(first: Evaluation, second: Evaluation) -> tuple[Comparison, str]:
        scores = [_score(one.predictions, of_class) for one in (first, second)]
        positive = (
            first.predictions.truth == first.classes.index(of_class)
            if of_class
            else first.predictions.is_malignant
        )
        try:
            result = statistics.delong_test(positive, *scores, first.predictions.lesion_ids)
        except ValueError as error:
            raise NotComparable(f"The ROC AUC ({of}) cannot be tested: {error}") from None
        return result, _more_or_less(first.model, second.model, f"ROC AUC ({of})", result, True)

    return _all_pairs(evaluations, "DeLong over lesions", compare)


def _score(predictions: Predictions, of_class: str | None) -> np.ndarray:
    if of_class is None:
        return predictions.malignancy_probability
    return predictions.probabilities[:, predictions.classes.index(of_class)]


def disagreements(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """The cases to look at: models disagree, or are wrong with confidence.

    Returns:
        A row a case, the most interesting first: what is known of it (`CASE_COLUMNS`); `row`, its
        place in the predictions; for every model its name with ` diagnosis` and ` probability`
        (of that diagnosis); `wrong`, how many models are; `disagree`, whether they differ; and
        `wrong_confidence`, the highest probability that any gives to a wrong diagnosis, 0 where
        none is wrong. Sorted by `disagree`, then by `wrong_confidence`, falling.
    """
    if len(evaluations) > 1:
        check_comparable(evaluations)
    truth = evaluations[0].predictions.truth
    columns = {"row": np.arange(len(truth))}
    predicted, confidence = [], []
    for evaluation in evaluations:
        predictions = evaluation.predictions
        predicted.append(predictions.predicted)
        confidence.append(predictions.probability_of_predicted)
        names = np.array(predictions.classes)
        columns[f"{evaluation.model} diagnosis"] = names[predicted[-1]]
        columns[f"{evaluation.model} probability"] = confidence[-1]
    predicted, confidence = np.stack(predicted), np.stack(confidence)
    wrong = predicted != truth
    columns["wrong"] = wrong.sum(axis=0)
    columns["disagree"] = (predicted != predicted[0]).any(axis=0)
    columns["wrong_confidence"] = np.where(wrong, confidence, 0.0).max(axis=0)
    table = pd.concat([evaluations[0].cases.reset_index(drop=True), pd.DataFrame(columns)], axis=1)
    return table.sort_values(
        ["disagree", "wrong_confidence", "row"], ascending=[False, False, True], ignore_index=True
    )


# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------


def _all_pairs(
    evaluations: Sequence[Evaluation],
    test: str,
    compare: Callable[[Evaluation, Evaluation], tuple[Comparison, str]],
    least_p: float = 0.0,
) -> tuple[Pair, ...]:
    """Compares every two.

    Args:
        compare: Gives the comparison and its sentence without the verdict.
        least_p: The smallest p-value that the test can give. Where even that would not hold after
            the correction, nothing can be told from so many models, which is not "within chance".
    """
    chosen = list(itertools.combinations(evaluations, 2))
    results = [compare(*pair) for pair in chosen]
    adjusted = _holm([comparison.p_value for comparison, _ in results])
    tested = int(np.isfinite(adjusted).sum())
    too_many = least_p * tested >= SIGNIFICANT
    return tuple(
        Pair(
            first.model,
            second.model,
            test,
            comparison,
            float(p),
            f"{words}; {_verdict(comparison, float(p), tested, too_many)}",
            too_many and math.isfinite(p),
        )
        for (first, second), (comparison, words), p in zip(chosen, results, adjusted, strict=True)
    )


def _bootstrap_pairs(evaluations: Sequence[Evaluation], figure: Figure) -> tuple[Pair, ...]:
    metric = METRICS[figure.metric]
    other_side = statistics.on_other_side(metric, evaluations[0].predictions, figure.of_class)
    drawn = {one.model: _drawn(one, figure) for one in evaluations}

    def compare(first: Evaluation, second: Evaluation) -> tuple[Comparison, str]:
        of = [one.interval(figure.metric, figure.of_class) for one in (first, second)]
        # Precisions rest on what each model called so: on the fewer of both.
        scarcer = min(of, key=lambda interval: interval.n)
        comparison = statistics.compare_samples(
            of[0].value,
            of[1].value,
            drawn[first.model],
            drawn[second.model],
            scarcer.n,
            scarcer.n_lesions,
            other_side=other_side,
            grows_when_resampled=metric.grows_when_resampled,
        )
        return comparison, _words(first.model, second.model, figure, comparison)

    samples = len(next(iter(drawn.values())))
    return _all_pairs(evaluations, "paired bootstrap", compare, 2 / (samples + 1))


def _drawn(evaluation: Evaluation, figure: Figure) -> np.ndarray:
    """The figure on every bootstrap sample, (samples,)."""
    drawn = evaluation.drawn[figure.metric]
    return drawn[:, evaluation.classes.index(figure.of_class)] if figure.of_class else drawn


def _best(evaluations: Sequence[Evaluation], figure: Figure) -> int | None:
    if len(evaluations) < 2:
        return None
    names = [evaluation.model for evaluation in evaluations]
    wins = dict.fromkeys(names, 0)
    for pair in _bootstrap_pairs(evaluations, figure):
        if pair.holds:
            second_wins = (pair.comparison.difference.value > 0) == figure.higher_is_better
            wins[pair.second if second_wins else pair.first] += 1
    return next((i for i, name in enumerate(names) if wins[name] == len(names) - 1), None)


def _holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's correction; what is not defined (NaN) stays so and does not count."""
    p_values = np.array(p_values, dtype=np.float64)
    defined = np.isfinite(p_values)
    p_values[defined] = statistics.holm_correction(p_values[defined])
    return p_values


def _words(first: str, second: str, figure: Figure, comparison: Comparison) -> str:
    if not math.isfinite(comparison.difference.value):
        return f"{figure.title} is not defined on these cases"
    n = comparison.difference.n
    if figure.metric == "recall":
        more = round((comparison.second - comparison.first) * n)
        photos = (
            f"photo{'' if abs(more) == 1 else 's'} of {NOUNS.get(figure.of_class, figure.of_class)}"
        )
        of = f"of {n}, which show {comparison.difference.n_lesions} lesions"
        if more == 0:
            return f"{first} and {second} find equally many {photos} ({of})"
        finder, other = (second, first) if more > 0 else (first, second)
        return f"{finder} finds {abs(more)} more {photos} than {other} ({of})"
    return _more_or_less(first, second, figure.title, comparison, figure.higher_is_better)


def _more_or_less(
    first: str, second: str, title: str, comparison: Comparison, higher_is_better: bool
) -> str:
    """ "B's accuracy is 0.012 higher than A's (0.812 against 0.800)"."""
    if comparison.second == comparison.first:
        return f"{first} and {second} have the same {title} ({comparison.first:.3f})"
    second_better = (comparison.second > comparison.first) == higher_is_better
    better, other = (second, first) if second_better else (first, second)
    values = comparison.second, comparison.first
    good, bad = values if second_better else values[::-1]
    way = "higher" if good > bad else "lower"
    return (
        f"{title}: {better} is {abs(good - bad):.3f} {way} than {other} "
        f"({good:.3f} against {bad:.3f})"
    )


def _verdict(comparison: Comparison, p: float, number_of_pairs: int, too_many: bool) -> str:
    if not math.isfinite(p):
        if abs(comparison.difference.value) > 0:  # which NaN is not
            return "whether that is chance cannot be told"
        return "there is nothing to test"
    if too_many:
        return (
            f"these bootstrap samples are too few to tell any of {number_of_pairs} pairs from "
            "chance: compare fewer models"
        )
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.1f}"
    corrected = f", corrected for {number_of_pairs} pairs" if number_of_pairs > 1 else ""
    if p < SIGNIFICANT:
        return f"the difference is more than chance ({shown}{corrected})"
    return f"the difference is within chance ({shown}{corrected})"
