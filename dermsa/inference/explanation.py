"""From the network's own maps and sums to what a doctor can read. Exact; no gradients."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np

from dermsa.patient import PROPERTIES, AgeScale, Patient

SUBSETS: tuple[tuple[str, ...], ...] = tuple(
    subset
    for size in range(len(PROPERTIES) + 1)
    for subset in itertools.combinations(PROPERTIES, size)
)
"""All sets of known properties, from none to all three."""


def centred(terms: np.ndarray, axis: int = 0) -> np.ndarray:
    """Terms of the logits, less their mean over the classes.

    Softmax sees nothing but the differences between logits: a term that all classes share cancels
    out, however large it is. What is left speaks for or against a diagnosis compared with the
    mean of all, and gives the same probabilities. Where a photo moves all logits down together,
    evidence that is not centred speaks against the very diagnosis that it decides for.

    Args:
        terms: Logits, or what adds up to them.
        axis: That of the classes.
    """
    return terms - terms.mean(axis=axis, keepdims=True)


def counterfactual_vectors(patient: Patient, age_scale: AgeScale) -> np.ndarray:
    """The patient with every subset of the properties known, float32 `(8, 21)`."""
    vectors = []
    for subset in SUBSETS:
        hidden = [name for name in PROPERTIES if name not in subset]
        vectors.append(patient.without(*hidden).encode(age_scale))
    return np.stack(vectors)


def shapley_values(evidence: np.ndarray) -> dict[str, np.ndarray]:
    """Each property's share of the patient evidence (Shapley 1953), exact over all subsets.

    Args:
        evidence: float `(8, classes)`, patient evidence in the order of `SUBSETS`.

    Returns:
        By property, float64 `(classes,)`. They sum to the evidence of the full patient minus
        that of an unknown one; a property that is unknown has exactly 0.
    """
    row = {frozenset(subset): i for i, subset in enumerate(SUBSETS)}
    evidence = np.asarray(evidence, np.float64)
    n = len(PROPERTIES)
    shares = {}
    for name in PROPERTIES:
        share = np.zeros(evidence.shape[1])
        for subset in SUBSETS:
            if name in subset:
                continue
            weight = math.factorial(len(subset)) * math.factorial(n - len(subset) - 1)
            gain = evidence[row[frozenset({*subset, name})]] - evidence[row[frozenset(subset)]]
            share += weight / math.factorial(n) * gain
        shares[name] = share
    return shares


def attention_at_image_size(
    attention_map: np.ndarray, crop: tuple[int, int, int, int], shape: tuple[int, int]
) -> np.ndarray:
    """The attention map over the photo, float32 `shape`, 0 to 1 relative to its maximum.

    Args:
        attention_map: `(h, w)`, not negative.
        crop: What the model saw of the photo: (top, left, height, width).
        shape: Height and width of the photo.
    """
    smooth = np.clip(_resize(attention_map, crop[2:]), 0, None)
    peak = float(smooth.max())
    return _paste(smooth / peak if peak > 0 else smooth, crop, shape)


def unpool(evidence: np.ndarray, feature_shape: tuple[int, int]) -> np.ndarray:
    """Evidence per position of the feature map, float32 `(classes, *feature_shape)`, same sum.

    The head pools the feature map 2 x 2 with "same" padding: position i of the evidence covers
    rows 2i and 2i + 1 of the feature map, and the last one only one row where their number is
    odd. Each term is divided evenly among the positions that it was pooled from. A last row that
    is pooled alone has its terms to itself, in the network as in the map.

    Args:
        evidence: `(classes, h', w')`.
        feature_shape: Height and width of the feature map before pooling.
    """
    height, width = feature_shape
    covered = np.outer(_covered(height), _covered(width)).astype(np.float32)
    spread = (evidence / covered).repeat(2, axis=1).repeat(2, axis=2)
    return spread[:, :height, :width]


def evidence_at_image_size(
    evidence_grid: np.ndarray, crop: tuple[int, int, int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Evidence maps over the photo, float32 `(classes, *shape)`, in logits per grid position.

    Args:
        evidence_grid: `(classes, h, w)`.
        crop, shape: See `attention_at_image_size`.
    """
    return np.stack([_paste(_resize(grid, crop[2:]), crop, shape) for grid in evidence_grid])


def _covered(length: int) -> np.ndarray:
    """How many positions of a feature map's side each pooled position covers."""
    pooled = (length + 1) // 2
    return np.minimum(2, length - 2 * np.arange(pooled))


def _resize(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grid = np.ascontiguousarray(grid, np.float32)
    return cv2.resize(grid, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def _paste(part: np.ndarray, crop: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    top, left, height, width = crop
    if (height, width) == tuple(shape):
        return part
    whole = np.zeros(shape, np.float32)
    whole[top : top + height, left : left + width] = part
    return whole
