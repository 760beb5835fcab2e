"""What the networks written here share, above all the calling convention of `keras.applications`.

Every network is a function of

- `input_tensor`: image tensor `(batch, height, width, 3)`, scaled as the network's table says;
  a new input of `input_shape` (height, width, 3) where none is given.
- `include_top`: whether it ends in logits `(batch, classes)`, for no softmax follows, or in its
  last feature map `(batch, h, w, channels)`.
- `weights`: path of a `.weights.h5` file of the same network with the same `include_top`, or
  None for random ones.
- `classes`: number of logits.

All layers are named, so that a cut is found by name whatever was built before.
"""

from __future__ import annotations

from pathlib import Path

import keras
from keras import layers


def image_input(
    input_tensor: keras.KerasTensor | None, input_shape: tuple[int, int, int]
) -> keras.KerasTensor:
    """The tensor a network starts from: the caller's own, or a new input."""
    return keras.Input(input_shape) if input_tensor is None else input_tensor


def finish(
    name: str, start: keras.KerasTensor, end: keras.KerasTensor, weights: str | Path | None
) -> keras.Model:
    """The functional model from `start` (or what it was made of) to `end`, with its weights.

    Raises:
        ValueError: `weights` is no file; nothing is downloaded for these networks.
    """
    (source,) = keras.utils.get_source_inputs(start)
    model = keras.Model(source, end, name=name)
    if weights is not None:
        if not Path(weights).is_file():
            raise ValueError(
                f"Expected the path of a .weights.h5 file for {name}, which Keras does not offer "
                f"for download. Received: {str(weights)!r}"
            )
        model.load_weights(weights)
    return model


def top(tensor: keras.KerasTensor, classes: int, dropout: float = 0.0) -> keras.KerasTensor:
    """Global average pooling and one Dense: the logits `(batch, classes)` of an ImageNet top."""
    tensor = layers.GlobalAveragePooling2D(name="top_pool")(tensor)
    if dropout:
        tensor = layers.Dropout(dropout, name="top_dropout")(tensor)
    return layers.Dense(classes, name="top_logits")(tensor)


def torch_conv(
    tensor: keras.KerasTensor,
    filters: int,
    kernel: int,
    stride: int = 1,
    *,
    name: str,
    layer: type[layers.Conv2D] = layers.Conv2D,
    **settings,
) -> keras.KerasTensor:
    """A convolution without bias that pads `kernel // 2` on every side, as PyTorch's do.

    TensorFlow's "same" pads a strided convolution on the lower right first; weights trained with
    one kind of padding answer differently with the other.
    """
    padding = "same"
    if stride > 1:
        padding = "valid"
        if kernel > 1:
            tensor = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(tensor)
    convolution = layer(
        filters,
        kernel,
        stride,
        padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
        **settings,
    )
    return convolution(tensor)


def torch_batchnorm(tensor: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """BatchNormalization with PyTorch's constants."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(tensor)


def torch_max_pool(tensor: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Max pooling 3x3, stride 2, one pixel of padding; expects no negative values (after ReLU)."""
    tensor = layers.ZeroPadding2D(1, name=f"{name}_pad")(tensor)
    return layers.MaxPooling2D(3, 2, name=name)(tensor)
