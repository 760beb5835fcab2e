"""Two networks called ResNet34, neither of which keras.applications has.

| function | input | scaling | published cut | trunk |
|---|---|---|---|---|
| `ResNet34` | 224 | "torch" | as the trunk | `conv5_block3_out`, 7x7x512 |
| `DattaResNet34` | 224 | "minus_one_to_one" | `conv3_block4_out`, 28x28x128 | as above |

`ResNet34` is He et al. 2015 (arXiv:1512.03385) with the paddings and constants of torchvision:
21,797,672 trainable parameters with 1000 classes. `DattaResNet34` is what Datta et al. 2021
trained: it attends in the middle, at its published cut, and `datta_resnet34_tail` is what
follows the attention block there. Both take squares from 32 pixels on.
"""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers

from dermsa.models import own_network

# Filters and blocks of the stages conv2 to conv5.
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


def ResNet34(
    *,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    include_top: bool = False,
    weights: str | Path | None = None,
    classes: int = 1000,
) -> keras.Model:
    """The standard network; for the arguments see `own_network`."""
    image = own_network.image_input(input_tensor, input_shape)
    tensor = own_network.torch_conv(image, 64, 7, 2, name="conv1_conv")
    tensor = own_network.torch_batchnorm(tensor, name="conv1_bn")
    tensor = layers.ReLU(name="conv1_relu")(tensor)
    tensor = own_network.torch_max_pool(tensor, name="pool1")
    for stage, (filters, blocks) in enumerate(STAGES, start=2):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            tensor = _block(tensor, filters, stride, f"conv{stage}_block{block}")
    if include_top:
        tensor = own_network.top(tensor, classes)
    return own_network.finish("resnet34", image, tensor, weights)


def _block(tensor: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions; the skip is a 1x1 convolution where the shape changes."""
    skip = tensor
    if stride > 1:
        skip = own_network.torch_conv(tensor, filters, 1, stride, name=f"{name}_0_conv")
        skip = own_network.torch_batchnorm(skip, name=f"{name}_0_bn")
    tensor = own_network.torch_conv(tensor, filters, 3, stride, name=f"{name}_1_conv")
    tensor = own_network.torch_batchnorm(tensor, name=f"{name}_1_bn")
    tensor = layers.ReLU(name=f"{name}_1_relu")(tensor)
    tensor = own_network.torch_conv(tensor, filters, 3, name=f"{name}_2_conv")
    tensor = own_network.torch_batchnorm(tensor, name=f"{name}_2_bn")
    tensor = layers.Add(name=f"{name}_add")([skip, tensor])
    return layers.ReLU(name=f"{name}_out")(tensor)


def DattaResNet34(
    *,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    include_top: bool = False,
    weights: str | Path | None = None,
    classes: int = 1000,
) -> keras.Model:
    """Datta's network without attention: plain pooling stands where the attention block would.

    Convolutions have a bias, and ReLU before BatchNormalization; from 128 filters on every block
    has a 3x3 convolution in its skip. For the arguments see `own_network`.
    """
    image = own_network.image_input(input_tensor, input_shape)
    tensor = _datta_conv(image, 64, "conv1", strides=2)
    tensor = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(tensor)
    tensor = _datta_stage(tensor, 2)
    tensor = layers.MaxPooling2D(2, padding="same", name="pool2")(tensor)
    tensor = _datta_stage(tensor, 3)
    tensor = layers.MaxPooling2D(2, padding="same", name="pool3")(tensor)
    tensor = _datta_end(tensor)
    if include_top:
        tensor = own_network.top(tensor, classes)
    return own_network.finish("datta_resnet34", image, tensor, weights)


def datta_resnet34_tail(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """What follows the attention block: `(batch, h, w, channels)` to `(batch, 512)`."""
    return layers.GlobalAveragePooling2D(name="tail_pool")(_datta_end(tensor))


def _datta_end(tensor: keras.KerasTensor) -> keras.KerasTensor:
    tensor = _datta_stage(tensor, 4)
    tensor = layers.MaxPooling2D(2, padding="same", name="pool4")(tensor)
    return _datta_stage(tensor, 5)


def _datta_stage(tensor: keras.KerasTensor, stage: int) -> keras.KerasTensor:
    filters, blocks = STAGES[stage - 2]
    for block in range(1, blocks + 1):
        name = f"conv{stage}_block{block}"
        skip = tensor if stage == 2 else _datta_conv(tensor, filters, f"{name}_0")
        tensor = _datta_conv(tensor, filters, f"{name}_1")
        tensor = _datta_conv(tensor, filters, f"{name}_2")
        tensor = layers.Add(name=f"{name}_add")([skip, tensor])
        tensor = layers.ReLU(name=f"{name}_out")(tensor)
    return tensor


def _datta_conv(
    tensor: keras.KerasTensor, filters: int, name: str, strides: int = 1
) -> keras.KerasTensor:
    tensor = layers.Conv2D(filters, 3, strides, "same", activation="relu", name=f"{name}_conv")(
        tensor
    )
    return layers.BatchNormalization(name=f"{name}_bn")(tensor)
