"""Soft attention (Datta et al. 2021; Nguyen, Bui, Do, Sensors 2022)."""

from __future__ import annotations

import keras
from keras import ops

from dermsa.models.classifier_config import KERNELS

WINDOW = 3


@keras.saving.register_keras_serializable("dermsa")
class SoftAttention(keras.layers.Layer):
    """Weighs a feature map by where it looks: `f_sa = gamma * t * sum_k softmax(W_k * t)`.

    `t` is the feature map. Each of the K maps `W_k * t` passes a ReLU and a softmax over its
    positions; the K maps are summed into one attention map, which therefore sums to K.

    A 3-D convolution whose kernel spans the full depth of `t` is a plain 2-D convolution with
    K filters; that is how `kernel="formula"` computes it. `kernel="published"` is what the
    published code computes instead: its kernel of shape (d, 3, 3) runs d along the height, 3
    along the width, and reaches only the channels 0, 1 and 2.

    Args:
        num_maps: K, the number of attention maps.
        kernel: "formula" or "published".
        initial_gamma: The scale gamma starts here; 0.01 in the papers.

    Input shape:
        `(batch, height, width, d)`.

    Output shape:
        The weighted features `(batch, height, width, d)`, and the attention map
        `(batch, height, width)`.

    Example:

    >>> weighted, attention_map = SoftAttention(num_maps=16)(keras.ops.ones((1, 7, 7, 32)))
    >>> weighted.shape[1:] == (7, 7, 32), attention_map.shape[1:] == (7, 7)
    (True, True)
    """

    def __init__(
        self,
        num_maps: int = 16,
        kernel: str = "formula",
        initial_gamma: float = 0.01,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if kernel not in KERNELS:
            raise ValueError(f"Expected kernel to be one of {KERNELS}. Received: {kernel!r}")
        if num_maps < 1:
            raise ValueError(f"Expected num_maps to be at least 1. Received: {num_maps}")
        self.num_maps = num_maps
        self.kernel_kind = kernel
        self.initial_gamma = initial_gamma

    def build(self, input_shape):
        _, height, _, depth = input_shape
        if self.kernel_kind == "published" and (height is None or depth < WINDOW):
            raise ValueError(
                "The published kernel needs a fixed height and at least 3 channels. "
                f"Received the input shape {tuple(input_shape)}."
            )
        formula = self.kernel_kind == "formula"
        self.kernel = self.add_weight(
            name="kernel",
            shape=(WINDOW, WINDOW, depth, self.num_maps)
            if formula
            else (depth, WINDOW, WINDOW, 1, self.num_maps),
            initializer="glorot_uniform",
        )
        self.bias = self.add_weight(name="bias", shape=(self.num_maps,), initializer="zeros")
        self.gamma = self.add_weight(
            name="gamma", shape=(), initializer=keras.initializers.Constant(self.initial_gamma)
        )

    def call(self, features):
        maps = ops.relu(self._convolve(features) + self.bias)
        _, height, width, _ = maps.shape
        scores = ops.softmax(ops.reshape(maps, (-1, height * width, self.num_maps)), axis=1)
        attention_map = ops.reshape(ops.sum(scores, axis=-1), (-1, height, width))
        weighted = self.gamma * features * ops.expand_dims(attention_map, -1)
        return weighted, attention_map

    def _convolve(self, features):
        if self.kernel_kind == "formula":
            return ops.conv(features, self.kernel, padding="same")
        height, depth = features.shape[1], features.shape[3]
        # "same" padding aligns row (d-1)//2 of the kernel with the output's row; rows farther
        # than height-1 from it never touch the map, so leave them out.
        kernel = ops.squeeze(self.kernel, 3)
        centre = (depth - 1) // 2
        if centre >= height - 1 and depth - centre >= height:
            kernel = kernel[centre - (height - 1) : centre + height]
        return ops.conv(features[..., :WINDOW], kernel, padding="same")

    def compute_output_shape(self, input_shape):
        return tuple(input_shape), tuple(input_shape[:3])

    def get_config(self):
        return {
            **super().get_config(),
            "num_maps": self.num_maps,
            "kernel": self.kernel_kind,
            "initial_gamma": self.initial_gamma,
        }
