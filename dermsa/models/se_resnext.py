"""SE-ResNeXt-101 32x4d (Hu et al. 2017, arXiv:1709.01507; Xie et al. 2016, arXiv:1611.05431).

| function | input | scaling | trunk = published cut |
|---|---|---|---|
| `SEResNeXt101` | 224 | "torch" | `conv5_block3_out`, 7x7x2048 |

Built as its authors' ImageNet weights in PyTorch are: 48,955,416 trainable parameters with 1000
classes. None of the papers cut it anywhere but at its end. It takes squares from 32 pixels on.
"""

from __future__ import annotations

import functools
from pathlib import Path

import keras
from keras import layers

from dermsa.models import own_network

# Filters of a block's output, and blocks, of the stages conv2 to conv5.
STAGES = ((256, 3), (512, 4), (1024, 23), (2048, 3))
GROUPS = 32
REDUCTION = 16


def SEResNeXt101(
    *,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    include_top: bool = False,
    weights: str | Path | None = None,
    classes: int = 1000,
) -> keras.Model:
    """The network; for the arguments see `own_network`."""
    image = own_network.image_input(input_tensor, input_shape)
    tensor = _conv_bn(image, 64, 7, 2, name="conv1")
    tensor = layers.ReLU(name="conv1_relu")(tensor)
    tensor = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(tensor)
    for stage, (filters, blocks) in enumerate(STAGES, start=2):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            tensor = _block(tensor, filters, stride, f"conv{stage}_block{block}")
    if include_top:
        tensor = own_network.top(tensor, classes)
    return own_network.finish("se_resnext101_32x4d", image, tensor, weights)


def _block(tensor: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    """1x1, grouped 3x3, 1x1, squeeze-and-excite; a 1x1 skip where the shape changes."""
    skip = tensor
    if tensor.shape[-1] != filters:
        skip = _conv_bn(tensor, filters, 1, stride, name=f"{name}_0")
    tensor = _conv_bn(tensor, filters // 2, 1, name=f"{name}_1")
    tensor = layers.ReLU(name=f"{name}_1_relu")(tensor)
    tensor = _conv_bn(
        tensor, filters // 2, 3, stride, name=f"{name}_2", layer=GroupedConv2D, groups=GROUPS
    )
    tensor = layers.ReLU(name=f"{name}_2_relu")(tensor)
    tensor = _conv_bn(tensor, filters, 1, name=f"{name}_3")
    tensor = _squeeze_and_excite(tensor, f"{name}_se")
    tensor = layers.Add(name=f"{name}_add")([skip, tensor])
    return layers.ReLU(name=f"{name}_out")(tensor)


def _squeeze_and_excite(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Scales each channel by what all channels' means say of it."""
    filters = tensor.shape[-1]
    scale = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(tensor)
    scale = layers.Conv2D(filters // REDUCTION, 1, activation="relu", name=f"{name}_reduce")(scale)
    scale = layers.Conv2D(filters, 1, activation="sigmoid", name=f"{name}_expand")(scale)
    return layers.Multiply(name=f"{name}_scale")([tensor, scale])


def _conv_bn(
    tensor: keras.KerasTensor, filters: int, kernel: int, stride: int = 1, *, name: str, **kwargs
) -> keras.KerasTensor:
    tensor = own_network.torch_conv(tensor, filters, kernel, stride, name=f"{name}_conv", **kwargs)
    return own_network.torch_batchnorm(tensor, name=f"{name}_bn")


@keras.saving.register_keras_serializable("dermsa")
class GroupedConv2D(layers.Conv2D):
    """`Conv2D(groups=...)` that trains on every device and exports to ONNX as one `Conv`.

    Under TensorFlow, Keras compiles every grouped convolution with XLA, which no ONNX converter
    can read. TensorFlow's own operation can be exported; but on a CPU some builds and types lack
    its gradient (float16, or any without oneDNN). Only there the groups are convolved one by one.
    """

    def convolution_op(self, inputs, kernel):
        if keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        convolve = functools.partial(
            tf.nn.conv2d, strides=self.strides, padding=self.padding.upper()
        )
        if _tensorflow_differentiates_groups(inputs.dtype):
            return convolve(inputs, kernel)
        pairs = zip(
            tf.split(inputs, self.groups, axis=-1),
            tf.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return tf.concat([convolve(part, filters) for part, filters in pairs], axis=-1)


@functools.cache
def _tensorflow_differentiates_groups(dtype) -> bool:
    import tensorflow as tf

    with tf.init_scope():
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=(1, 3, 3, 4),
                filter=tf.ones((3, 3, 2, 4), dtype),
                out_backprop=tf.ones((1, 3, 3, 4), dtype),
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
        except tf.errors.InvalidArgumentError:
            return False
    return True
