"""Class weights and the loss they enter."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

CLASS_WEIGHTS = {
    "none": "Every image counts the same.",
    "sqrt": "Square root of the balanced weights: rare diagnoses count more, but not fully.",
    "balanced": "W_i = N / (C N_i): every diagnosis counts the same in total.",
    "original": "Inverse frequency, normalised to sum 1: the balanced weights up to one factor "
    "(about 32 on HAM10000). With Adam's usual epsilon this factor changes nothing; with the "
    "papers' epsilon of 0.1 it shortens every step.",
}


def class_weights(kind: str, counts: np.ndarray) -> np.ndarray:
    """Weights by diagnosis (Nguyen, Bui, Do, Sensors 2022, equations of "class weights").

    Args:
        kind: A key of `CLASS_WEIGHTS`.
        counts: Training images per diagnosis, `(classes,)`, all positive.

    Returns:
        float32 `(classes,)`.

    Raises:
        ValueError: An unknown kind, or a diagnosis without training images.
    """
    if kind not in CLASS_WEIGHTS:
        raise ValueError(
            f"Unknown class weights {kind!r}. Expected one of: {', '.join(CLASS_WEIGHTS)}."
        )
    counts = np.asarray(counts, float)
    if counts.ndim != 1 or (counts <= 0).any():
        raise ValueError(f"Expected a positive count for every diagnosis. Received: {counts}")
    balanced = counts.sum() / (len(counts) * counts)
    weights = {
        "none": np.ones_like(counts),
        "sqrt": np.sqrt(balanced) / np.average(np.sqrt(balanced), weights=counts),
        "balanced": balanced,
        "original": (1 / counts) / (1 / counts).sum(),
    }[kind]
    return weights.astype(np.float32)


@keras.saving.register_keras_serializable("dermsa")
class WeightedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits, weighted by the true class, averaged over the batch.

    Weights live in the loss because Keras ignores `class_weight` with string keys silently.

    Args:
        weights: One per class.
        label_smoothing: Share of the target spread over all classes.
    """

    def __init__(self, weights, label_smoothing: float = 0.0, name="weighted_cross_entropy"):
        super().__init__(name=name)
        self.weights = tuple(float(w) for w in weights)
        self.label_smoothing = label_smoothing

    def call(self, labels, logits):
        classes = len(self.weights)
        if logits.shape[-1] != classes:
            raise ValueError(f"Expected logits of {classes} classes. Received: {logits.shape}")
        labels = ops.cast(ops.reshape(labels, (-1,)), "int32")  # Keras hands over floats
        target = ops.one_hot(labels, classes, dtype=logits.dtype)
        target = target * (1 - self.label_smoothing) + self.label_smoothing / classes
        losses = -ops.sum(target * ops.log_softmax(logits, axis=-1), axis=-1)
        return losses * ops.take(ops.convert_to_tensor(self.weights, logits.dtype), labels)

    def get_config(self):
        return {"weights": list(self.weights), "label_smoothing": self.label_smoothing}
