"""Two variants of VGG16 (Simonyan and Zisserman 2014, arXiv:1409.1556).

| function | input | published cut | trunk |
|---|---|---|---|
| `DattaVGG16` | 224 | `block4_conv3_bn`, 28x28x512 | `block5_conv3_bn`, 14x14x512 |
| `ImprovedVGG16` | 224 | as the trunk | `block6_conv1`, 7x7x512 |

Scaling: "minus_one_to_one".

`DattaVGG16` is what Datta et al. 2021 trained: it attends in the middle, at its published cut,
and `datta_vgg16_tail` is what follows the attention block there. `ImprovedVGG16` is the 2024
report's. Both take squares from 32 pixels on.
"""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers

from dermsa.models import own_network

# Filters, and the kernels of the convolutions, of the five blocks.
DATTA_BLOCKS = (
    (64, (3, 1)),
    (128, (3, 1)),
    (256, (3, 3, 1)),
    (512, (3, 3, 1)),
    (512, (3, 3, 1)),
)
# Filters and 3x3 convolutions of the five blocks.
IMPROVED_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
DENSE_UNITS = 4096


def DattaVGG16(
    *,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    include_top: bool = False,
    weights: str | Path | None = None,
    classes: int = 1000,
) -> keras.Model:
    """Datta's network without attention: plain pooling stands where the attention block would.

    Every convolution has a bias and is followed by ReLU, then BatchNormalization; the last one
    of a block is 1x1. For the arguments see `own_network`.
    """
    image = tensor = own_network.image_input(input_tensor, input_shape)
    for block in range(1, 5):
        tensor = _datta_block(tensor, block)
        tensor = layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(tensor)
    if include_top:
        tensor = layers.Dense(classes, name="top_logits")(datta_vgg16_tail(tensor))
    else:
        tensor = _datta_block(tensor, 5)
    return own_network.finish("datta_vgg16", image, tensor, weights)


def datta_vgg16_tail(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """What follows the attention block: `(batch, h, w, channels)` to `(batch, 4096)`."""
    tensor = _datta_block(tensor, 5)
    tensor = layers.MaxPooling2D(4, padding="same", name="block5_pool")(tensor)
    tensor = layers.Flatten(name="tail_flatten")(tensor)
    tensor = layers.Dense(DENSE_UNITS, "relu", name="tail_dense1")(tensor)
    return layers.Dense(DENSE_UNITS, "relu", name="tail_dense2")(tensor)


def _datta_block(tensor: keras.KerasTensor, block: int) -> keras.KerasTensor:
    filters, kernels = DATTA_BLOCKS[block - 1]
    for index, kernel in enumerate(kernels, start=1):
        name = f"block{block}_conv{index}"
        tensor = layers.Conv2D(filters, kernel, padding="same", activation="relu", name=name)(
            tensor
        )
        tensor = layers.BatchNormalization(name=f"{name}_bn")(tensor)
    return tensor


def ImprovedVGG16(
    *,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    include_top: bool = False,
    weights: str | Path | None = None,
    classes: int = 1000,
) -> keras.Model:
    """VGG16 with five BatchNormalizations and without its two large Dense layers.

    A BatchNormalization closes each of the five blocks, and a 1x1 convolution, the fourteenth,
    with global average pooling takes the place of the Dense layers. The report gives neither
    the place of the BatchNormalizations within a block nor the width of the 1x1 convolution:
    here they come before the pooling, and it keeps the 512 channels. For the arguments see
    `own_network`.
    """
    image = tensor = own_network.image_input(input_tensor, input_shape)
    for block, (filters, convolutions) in enumerate(IMPROVED_BLOCKS, start=1):
        for index in range(1, convolutions + 1):
            tensor = layers.Conv2D(
                filters, 3, padding="same", activation="relu", name=f"block{block}_conv{index}"
            )(tensor)
        tensor = layers.BatchNormalization(name=f"block{block}_bn")(tensor)
        tensor = layers.MaxPooling2D(2, name=f"block{block}_pool")(tensor)
    tensor = layers.Conv2D(512, 1, activation="relu", name="block6_conv1")(tensor)
    if include_top:
        tensor = own_network.top(tensor, classes)
    return own_network.finish("improved_vgg16", image, tensor, weights)
