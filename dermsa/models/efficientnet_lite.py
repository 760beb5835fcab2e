"""EfficientNet-Lite0, Lite1 and Lite2 (Google 2020, after Tan and Le 2019, arXiv:1905.11946).

EfficientNet made for small devices: ReLU6 instead of swish, no squeeze-and-excite, and a stem
and a top that do not grow with the network.

| function | input | parameters, 1000 classes | trunk = published cut: `top_relu6` |
|---|---|---|---|
| `EfficientNetLite0` | 224 | 4,652,008 | 7x7x1280 |
| `EfficientNetLite1` | 240 | 5,416,680 | 8x8x1280 |
| `EfficientNetLite2` | 260 | 6,092,072 | 9x9x1280 |

Input: RGB 0 to 255; the scaling, (x - 127) / 128, is inside the network ("internal"). None of
the papers used them, so that their published cut is the trunk. `efficientnet_lite_weights`
brings their ImageNet weights (Apache-2.0).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers

from dermsa.models import own_network

STEM_FILTERS = 32
TOP_FILTERS = 1280
# Kernel, stride of the first block, expansion, filters, blocks; before scaling.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def _build(
    name: str,
    width: float,
    depth: float,
    size: int,
    dropout: float,
    *,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    include_top: bool = False,
    weights: str | Path | None = None,
    classes: int = 1000,
    drop_connect: float = 0.2,
) -> keras.Model:
    """Builds the network.

    Args:
        input_tensor: Image tensor `(batch, height, width, 3)`, RGB, 0 to 255.
        input_shape: `(height, width, 3)` of a new input where no tensor is given.
        include_top: Whether it ends in logits rather than in the feature map.
        weights: Path of a `.weights.h5` file, or None.
        classes: Number of logits.
        drop_connect: Chance at which training skips the last block; falls to 0 at the first.
    """
    image = own_network.image_input(input_tensor, input_shape or (size, size, 3))
    tensor = layers.Rescaling(1 / 128, -127 / 128, name="rescaling_lite")(image)
    tensor = layers.Conv2D(
        STEM_FILTERS,
        3,
        2,
        "same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name="stem_conv",
    )(tensor)
    tensor = _batchnorm(tensor, "stem", relu6=True)
    blocks = _blocks(width, depth)
    for index, block in enumerate(blocks):
        tensor = _block(tensor, f"block_{index}", *block, drop_connect * index / len(blocks))
    tensor = layers.Conv2D(
        TOP_FILTERS, 1, use_bias=False, kernel_initializer=_initializer(), name="top_conv"
    )(tensor)
    tensor = _batchnorm(tensor, "top", relu6=True)
    if include_top:
        tensor = own_network.top(tensor, classes, dropout)
    return own_network.finish(name, image, tensor, weights)


def _blocks(width: float, depth: float) -> list[tuple[int, int, int, int]]:
    """Kernel, stride, expansion and filters of every block; first and last stage stay short."""
    blocks = []
    for stage, (kernel, stride, expansion, filters, repeats) in enumerate(STAGES):
        filters = _scaled_filters(filters, width)
        if 0 < stage < len(STAGES) - 1:
            repeats = math.ceil(repeats * depth)
        blocks.append((kernel, stride, expansion, filters))
        blocks += [(kernel, 1, expansion, filters)] * (repeats - 1)
    return blocks


def _scaled_filters(filters: int, width: float) -> int:
    """The nearest multiple of 8, but never less than 90 % of what was asked for."""
    wanted = filters * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def _block(
    tensor: keras.KerasTensor,
    name: str,
    kernel: int,
    stride: int,
    expansion: int,
    filters: int,
    drop_connect: float,
) -> keras.KerasTensor:
    """Inverted residual: expand, depthwise, project, and a skip where the shape stays."""
    before, channels = tensor, tensor.shape[-1]
    if expansion > 1:
        tensor = layers.Conv2D(
            channels * expansion,
            1,
            use_bias=False,
            kernel_initializer=_initializer(),
            name=f"{name}_expand_conv",
        )(tensor)
        tensor = _batchnorm(tensor, f"{name}_expand", relu6=True)
    tensor = layers.DepthwiseConv2D(
        kernel,
        stride,
        "same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise_conv",
    )(tensor)
    tensor = _batchnorm(tensor, f"{name}_depthwise", relu6=True)
    tensor = layers.Conv2D(
        filters,
        1,
        use_bias=False,
        kernel_initializer=_initializer(),
        name=f"{name}_project_conv",
    )(tensor)
    tensor = _batchnorm(tensor, f"{name}_project", relu6=False)
    if stride > 1 or filters != channels:
        return tensor
    if drop_connect:
        tensor = layers.Dropout(
            drop_connect, noise_shape=(None, 1, 1, 1), name=f"{name}_drop_connect"
        )(tensor)
    return layers.Add(name=f"{name}_add")([before, tensor])


def _batchnorm(tensor: keras.KerasTensor, name: str, relu6: bool) -> keras.KerasTensor:
    tensor = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(tensor)
    return layers.ReLU(6.0, name=f"{name}_relu6")(tensor) if relu6 else tensor


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


EfficientNetLite0: Callable[..., keras.Model] = functools.partial(
    _build, "efficientnet_lite0", 1.0, 1.0, 224, 0.2
)
EfficientNetLite1: Callable[..., keras.Model] = functools.partial(
    _build, "efficientnet_lite1", 1.0, 1.1, 240, 0.2
)
EfficientNetLite2: Callable[..., keras.Model] = functools.partial(
    _build, "efficientnet_lite2", 1.1, 1.2, 260, 0.3
)
