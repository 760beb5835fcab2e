"""DenseNet161 (Huang et al. 2016, arXiv:1608.06993), the wide DenseNet of 161 layers.

| function | input | scaling | trunk = published cut |
|---|---|---|---|
| `DenseNet161` | 224 | "torch" | `relu`, 7x7x2208 |

28,681,000 trainable parameters with 1000 classes, as in torchvision, whose paddings and constants
it has. None of the papers cut it anywhere but at its end. It takes squares from 32 pixels on.
"""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers

from dermsa.models import own_network

# Layers of the dense blocks conv2 to conv5.
BLOCKS = (6, 12, 36, 24)
GROWTH = 48
STEM_FILTERS = 96


def DenseNet161(
    *,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    include_top: bool = False,
    weights: str | Path | None = None,
    classes: int = 1000,
) -> keras.Model:
    """The network; for the arguments see `own_network`."""
    image = own_network.image_input(input_tensor, input_shape)
    tensor = own_network.torch_conv(image, STEM_FILTERS, 7, 2, name="conv1_conv")
    tensor = _bn_relu(tensor, "conv1_bn", "conv1_relu")
    tensor = own_network.torch_max_pool(tensor, name="pool1")
    for stage, count in enumerate(BLOCKS, start=2):
        if stage > 2:
            tensor = _transition(tensor, f"pool{stage - 1}")
        for index in range(1, count + 1):
            tensor = _dense_layer(tensor, f"conv{stage}_block{index}")
    tensor = _bn_relu(tensor, "bn", "relu")
    if include_top:
        tensor = own_network.top(tensor, classes)
    return own_network.finish("densenet161", image, tensor, weights)


def _dense_layer(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Adds `GROWTH` channels, made of all those before them."""
    new = _bn_relu(tensor, f"{name}_0_bn", f"{name}_0_relu")
    new = own_network.torch_conv(new, 4 * GROWTH, 1, name=f"{name}_1_conv")
    new = _bn_relu(new, f"{name}_1_bn", f"{name}_1_relu")
    new = own_network.torch_conv(new, GROWTH, 3, name=f"{name}_2_conv")
    return layers.Concatenate(name=f"{name}_concat")([tensor, new])


def _transition(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Halves the channels, the height and the width."""
    tensor = _bn_relu(tensor, f"{name}_bn", f"{name}_relu")
    tensor = own_network.torch_conv(tensor, tensor.shape[-1] // 2, 1, name=f"{name}_conv")
    return layers.AveragePooling2D(2, name=f"{name}_pool")(tensor)


def _bn_relu(tensor: keras.KerasTensor, bn: str, relu: str) -> keras.KerasTensor:
    return layers.ReLU(name=relu)(own_network.torch_batchnorm(tensor, name=bn))
