"""A start for MobileNetV3Large where only its minimalistic sibling's weights are at hand.

The sibling has the same blocks and widths, but ReLU for hard-swish, 3x3 for 5x5 kernels, and no
squeeze-and-excite. Its weights are carried over so that the larger network begins by computing
nearly what the sibling computes:

- A 3x3 kernel becomes the middle of a 5x5 kernel; the ring around it starts at zero.
- Squeeze-and-excite starts as the identity: its second convolution is zero, so that its
  hard-sigmoid gives 1/2 for every image, and the projection behind it counts twice. (A bias that
  opened the gate to 1 would sit at the hard-sigmoid's edge, where no gradient passes.)
- Hard-swish of x is near ReLU only for large x. Where it stands for ReLU, the
  BatchNormalization before it is multiplied by `sharpness` and the convolution after it divided
  by the same: hard-swish(s x) / s tends to ReLU(x) as s grows.
"""

from __future__ import annotations

import keras
import numpy as np

BLOCKS = range(6, 15)  # those with hard-swish

# The BatchNormalizations before a hard-swish, and the convolutions that take its answer. The
# first one's answer also goes around its block: the block's own answer is scaled with it. The
# last one's goes to the head, and keeps its scale.
BEFORE_HARD_SWISH = (
    "conv_bn",
    "expanded_conv_project_bn",
    *(f"expanded_conv_{block}_{kind}_bn" for block in BLOCKS for kind in ("expand", "depthwise")),
)
AFTER_HARD_SWISH = (
    "expanded_conv_depthwise",
    "expanded_conv_1_expand",
    *(f"expanded_conv_{block}_{kind}" for block in BLOCKS for kind in ("depthwise", "project")),
)


def warm_start_mobilenet_v3_large(
    model: keras.Model, minimalistic: keras.Model, sharpness: float = 3.0
) -> None:
    """Carries the sibling's weights over, in place; layers it does not have are left alone.

    Args:
        model: MobileNetV3Large up to any cut, or a classifier built on it.
        minimalistic: `MobileNetV3Large(minimalistic=True)`, with or without its top.
        sharpness: See above; 1 leaves the scale of all weights as it was trained.

    Raises:
        ValueError: `model` is not MobileNetV3Large.
    """
    layers = {layer.name: layer for layer in model.layers}
    if "expanded_conv_13_squeeze_excite_conv_1" not in layers:
        raise ValueError(f"Expected MobileNetV3Large. Received: {model.name}")
    for source in minimalistic.layers:
        target = layers.get(source.name)
        if source.weights and target is not None:
            target.set_weights(
                [
                    _in_the_middle(array, weight.shape)
                    for array, weight in zip(source.get_weights(), target.weights, strict=True)
                ]
            )
    for name, layer in layers.items():
        if name.endswith("squeeze_excite_conv_1"):
            layer.set_weights([np.zeros(weight.shape) for weight in layer.weights])
            _scale(layers, name.replace("squeeze_excite_conv_1", "project"), 2)
    for before, after in zip(BEFORE_HARD_SWISH, AFTER_HARD_SWISH, strict=True):
        if after in layers:
            _scale(layers, before, sharpness)
            _scale(layers, after, 1 / sharpness)


def _in_the_middle(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel in the middle of a larger one of zeros; anything else as it is."""
    margins = [(wide - narrow) // 2 for wide, narrow in zip(shape, array.shape, strict=True)]
    return np.pad(array, [(margin, margin) for margin in margins])


def _scale(layers: dict[str, keras.layers.Layer], name: str, factor: float) -> None:
    """Multiplies a kernel, or gamma and beta of a BatchNormalization."""
    layer = layers.get(name)
    if layer is None:
        return
    is_normalisation = isinstance(layer, keras.layers.BatchNormalization)
    for weight in (layer.gamma, layer.beta) if is_normalisation else (layer.kernel,):
        weight.assign(weight * factor)
