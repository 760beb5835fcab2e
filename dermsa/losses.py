"""The losses that class weights enter."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("dermsa")
class WeightedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits, weighted by the true class, averaged over the batch.

    The truth is a class number, `(batch,)` or `(batch, 1)`, or shares of all classes, float
    `(batch, classes)` summing to 1. The loss of shares is the mean, in these shares, of the losses
    of the classes: that of mixup (Zhang et al. 2018, section 2), weights included.

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
        if len(labels.shape) == 2 and labels.shape[-1] == classes:
            shares = ops.cast(labels, logits.dtype)
        else:
            labels = ops.cast(ops.reshape(labels, (-1,)), "int32")  # Keras hands over floats
            shares = ops.one_hot(labels, classes, dtype=logits.dtype)
        shares = shares * ops.convert_to_tensor(self.weights, logits.dtype)
        spread = self.label_smoothing / classes * ops.sum(shares, axis=-1, keepdims=True)
        target = shares * (1 - self.label_smoothing) + spread
        return ops.sum(target * self._cost(ops.log_softmax(logits, axis=-1)), axis=-1)

    def _cost(self, log_probabilities):
        return -log_probabilities

    def get_config(self):
        return {"weights": list(self.weights), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("dermsa")
class WeightedFocalLoss(WeightedCrossEntropy):
    """`-alpha (1 - p)^gamma log p` of the true class's probability p (Lin et al. 2017).

    With label smoothing every class enters with its share of the target. With gamma 0 it is the
    cross-entropy.

    Args:
        weights: alpha, one per class.
        label_smoothing: Share of the target spread over all classes.
        gamma: 2 in the paper.
    """

    def __init__(self, weights, label_smoothing=0.0, gamma=2.0, name="weighted_focal_loss"):
        super().__init__(weights, label_smoothing, name)
        self.gamma = gamma

    def _cost(self, log_probabilities):
        # The power of an exact 0 has an infinite derivative where gamma is below 1.
        missing = ops.maximum(-ops.expm1(log_probabilities), 1e-7)
        return -(missing**self.gamma) * log_probabilities

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("dermsa")
class LogitAdjustedCrossEntropy(WeightedCrossEntropy):
    """Cross-entropy of `logits - log weights`: no image counts more, the answer leans instead.

    With weights `1 / share^tau` it is the logit-adjusted loss of Menon et al. 2021
    (arXiv:2007.07314, equation 10): "balanced" weights are tau 1, "sqrt" ones tau 1/2. The logits
    then tend to those of `weight * probability`, as under the weighted cross-entropy, but also
    where the network fits its labels exactly and weights would have nothing left to weigh.

    Args:
        weights: One per class, above 0; a factor on all of them changes nothing.
        label_smoothing: Share of the target spread over all classes.
    """

    def __init__(self, weights, label_smoothing=0.0, name="logit_adjusted_cross_entropy"):
        super().__init__(weights, label_smoothing, name)

    def call(self, labels, logits):
        classes = len(self.weights)
        plain = WeightedCrossEntropy((1.0,) * classes, self.label_smoothing)
        adjustment = ops.log(ops.convert_to_tensor(self.weights, logits.dtype))
        return plain.call(labels, logits - adjustment)
