"""How much each diagnosis counts in the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CLASS_WEIGHTS = {
    "none": "Every image counts the same.",
    "sqrt": "Square root of the balanced weights: rare diagnoses count more, but not fully.",
    "effective-number": "(1 - b) / (1 - b^N_i) with b = 0.999: images of a diagnosis count less "
    "and less for each other (Cui et al. 2019, arXiv:1901.05555).",
    "balanced": "W_i = N / (C N_i): every diagnosis counts the same in total.",
    "original": "Inverse frequency, normalised to sum 1: the balanced weights up to one factor "
    "(about 32 on HAM10000). With Adam's usual epsilon this factor changes nothing; with the "
    "papers' epsilon of 0.1 it shortens every step.",
}
EFFECTIVE_NUMBER_BETA = 0.999


def class_weights(
    kind: str, counts: np.ndarray, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Weights by diagnosis (Nguyen, Bui, Do, Sensors 2022, equations of "class weights").

    Args:
        kind: A key of `CLASS_WEIGHTS`, or the weights themselves, with commas between.
        counts: Training images per diagnosis, `(classes,)`, all positive.
        classes: Codes of the diagnoses, for messages.

    Returns:
        float32 `(classes,)`. "sqrt" and "effective-number" have the mean 1 over the images,
        so that they leave the length of a step alone; "balanced" has it by its formula.

    Raises:
        ValueError: An unknown kind, another number of weights than of diagnoses, or a diagnosis
            without training images.
    """
    counts = np.asarray(counts, float)
    if counts.ndim != 1 or len(counts) != len(classes or counts):
        raise ValueError(
            f"Expected one count for each of {', '.join(classes or ('the diagnoses',))}. "
            f"Received: {counts}"
        )
    classes = tuple(classes or map(str, range(len(counts))))
    check_class_weights(kind, classes)
    if kind not in CLASS_WEIGHTS:
        return np.array(_given(kind), np.float32)
    if (counts <= 0).any():
        raise ValueError(
            "Expected a positive count for every diagnosis. Without training images: "
            + ", ".join(code for code, count in zip(classes, counts, strict=True) if count <= 0)
        )
    balanced = counts.sum() / (len(counts) * counts)
    effective = (1 - EFFECTIVE_NUMBER_BETA) / (1 - EFFECTIVE_NUMBER_BETA**counts)
    weights = {
        "none": np.ones_like(counts),
        "sqrt": np.sqrt(balanced) / np.average(np.sqrt(balanced), weights=counts),
        "effective-number": effective / np.average(effective, weights=counts),
        "balanced": balanced,
        "original": (1 / counts) / (1 / counts).sum(),
    }[kind]
    return weights.astype(np.float32)


def check_class_weights(kind: str, classes: Sequence[str]) -> None:
    """Refuses what `class_weights` cannot use for these diagnoses.

    Raises:
        ValueError: An unknown kind, or another number of weights than of diagnoses.
    """
    if kind in CLASS_WEIGHTS:
        return
    weights = _given(kind)
    if weights is None:
        raise ValueError(
            f"Unknown class_weights {kind!r}. Expected one of: {', '.join(CLASS_WEIGHTS)}; or "
            "numbers above 0 with commas between."
        )
    if len(weights) != len(classes):
        raise ValueError(
            f"Expected {len(classes)} class_weights, for {', '.join(classes)}. "
            f"Received {len(weights)}: {kind}"
        )


def _given(kind: str) -> list[float] | None:
    """The numbers in "1,1,5"; None if that is no list of usable weights."""
    try:
        weights = [float(number) for number in kind.split(",")]
    except ValueError:
        return None
    return weights if all(0 < weight < np.inf for weight in weights) else None
