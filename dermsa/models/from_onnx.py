"""Back from the file that is served to a network that can be trained on.

    load_served(classifier, onnx_bytes, photos)

The file has every batch normalisation merged into the convolution before it, or as one scale and
one offset of its own. The answers of such a pair do not tell mean and variance apart from scale and
offset; while training, the batch's own mean and variance take their place. They are therefore
measured again on training photos, and scale and offset are what then gives the same answers:

    conv(x) * scale + offset = gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta
    with gamma = scale * sqrt(variance + epsilon), beta = offset + scale * mean
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras
import numpy as np
import onnx
from keras import ops

from dermsa.models.soft_attention import SoftAttention
from dermsa.models.weight_formats import weights_of

BATCH = 32


class CannotLoad(ValueError):
    """A file whose weights have no place in the network."""


@dataclass
class _Affine:
    """What the file has of a normalisation.

    Attributes:
        scale, offset: `(channels,)`.
    """

    scale: np.ndarray
    offset: np.ndarray


@dataclass
class _Convolution(_Affine):
    """One of the file; scale and offset are those of the normalisation behind it.

    Attributes:
        kernel: `(out, in, height, width)`, as ONNX has it.
    """

    kernel: np.ndarray


def load_served(classifier: keras.Model, content: bytes, images: np.ndarray) -> None:
    """Gives a classifier the weights of an exported one, in place.

    Args:
        classifier: What `build_classifier` made, of the configuration that was exported.
        content: Of the ONNX file, its weights in any of `weight_formats.FORMATS`.
        images: Training photos, uint8 or float `(n, height, width, 3)`, 0 to 255: enough to know
            mean and variance of every channel.

    Raises:
        CannotLoad: Not all weights could be found. That the answers are the same is for the
            caller to check.
    """
    model = onnx.load_from_string(content)
    constants = weights_of(model.graph)
    users = _users(model.graph)
    convolutions = _convolutions(model.graph, constants, users)
    normalised: list[tuple[keras.layers.BatchNormalization, _Affine]] = []
    for layer in classifier.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | SoftAttention):
            found = _take(convolutions, layer)
            normalisation = _normalisation_behind(layer)
            if normalisation is None:
                _set_plain(layer, found)
            else:
                layer.kernel.assign(_as_keras(layer, found.kernel))
                normalised.append((normalisation, found))
            if isinstance(layer, SoftAttention):
                layer.gamma.assign(_of_layer(constants, layer, layer.gamma.shape))
        elif isinstance(layer, keras.layers.BatchNormalization):
            if not _is_behind_a_convolution(layer):
                normalised.append((layer, _own_affine(model.graph, constants, users, layer)))
        elif layer.weights:
            for weight in layer.weights:
                weight.assign(_of_layer(constants, layer, weight.shape, weight.name == "bias"))
    _set_normalisations(classifier, normalised, images)


def _convolutions(
    graph: onnx.GraphProto,
    constants: dict[str, np.ndarray],
    users: dict[str, list[onnx.NodeProto]],
) -> list[_Convolution]:
    """All convolutions of a file, in its order."""
    found = []
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in constants:
            continue
        kernel = constants[node.input[1]]
        size = len(kernel)
        scale, offset = np.ones(size, np.float32), np.zeros(size, np.float32)
        if len(node.input) > 2:
            offset = constants[node.input[2]]
        last, factor = _behind(node, "Mul", size, users, constants)
        if factor is not None:
            scale, offset = factor, offset * factor
        _, summand = _behind(last, "Add", size, users, constants)
        if summand is not None:
            offset = offset + summand
        found.append(_Convolution(scale, offset, kernel))
    return found


def _own_affine(
    graph: onnx.GraphProto,
    constants: dict[str, np.ndarray],
    users: dict[str, list[onnx.NodeProto]],
    layer: keras.layers.BatchNormalization,
) -> _Affine:
    """Of a normalisation that no convolution could take in, found by its name."""
    named, size = _named_after(layer), layer.moving_mean.shape[0]
    for node in graph.node:
        if node.op_type == "Mul" and named.search(node.output[0]):
            scale = _constant(node, size, constants)
            _, offset = _behind(node, "Add", size, users, constants)
            if scale is not None and offset is not None:
                return _Affine(scale, offset)
    raise CannotLoad(f"The file has no scale and offset for the layer {layer.name}.")


def _users(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Which nodes take a value, by its name."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def _behind(
    node: onnx.NodeProto,
    operation: str,
    size: int,
    users: dict[str, list[onnx.NodeProto]],
    constants: dict[str, np.ndarray],
) -> tuple[onnx.NodeProto, np.ndarray | None]:
    """The next node and its constant, where it alone goes on with one for each channel; else the
    node itself."""
    following = users.get(node.output[0], [])
    if len(following) == 1 and following[0].op_type == operation:
        constant = _constant(following[0], size, constants)
        if constant is not None:
            return following[0], constant
    return node, None


def _constant(
    node: onnx.NodeProto, size: int, constants: dict[str, np.ndarray]
) -> np.ndarray | None:
    """What a node takes that is one number for each channel."""
    for name in node.input:
        if name in constants and constants[name].size == size:
            return constants[name].reshape(-1)
    return None


def _named_after(layer: keras.layers.Layer) -> re.Pattern:
    """Finds a layer's name in those that the conversion gives."""
    return re.compile(rf"/{re.escape(layer.name)}(_\d+)?/")


def _take(convolutions: list[_Convolution], layer: keras.layers.Layer) -> _Convolution:
    """The first one left that fits the layer: both orders are those of the computation."""
    for number, found in enumerate(convolutions):
        if _as_keras(layer, found.kernel).shape == tuple(layer.kernel.shape):
            return convolutions.pop(number)
    raise CannotLoad(f"The file has no convolution for the layer {layer.name}.")


def _as_keras(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return np.transpose(kernel, (2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def _normalisation_behind(
    layer: keras.layers.Layer,
) -> keras.layers.BatchNormalization | None:
    # A layer that was called once more while the classifier was put together has each twice.
    following = {id(node.operation): node.operation for node in layer._outbound_nodes}
    alone = next(iter(following.values())) if len(following) == 1 else None
    return alone if isinstance(alone, keras.layers.BatchNormalization) else None


def _is_behind_a_convolution(layer: keras.layers.BatchNormalization) -> bool:
    convolution = layer.input._keras_history.operation
    return (
        isinstance(convolution, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
        and _normalisation_behind(convolution) is layer
    )


def _set_plain(layer: keras.layers.Layer, found: _Convolution) -> None:
    kernel = found.kernel * found.scale.reshape(-1, 1, 1, 1)
    layer.kernel.assign(_as_keras(layer, kernel))
    if layer.bias is not None:
        layer.bias.assign(found.offset)


def _of_layer(
    constants: dict[str, np.ndarray],
    layer: keras.layers.Layer,
    shape: tuple[int, ...],
    may_be_zero: bool = False,
) -> np.ndarray:
    """The constant that the conversion named after a layer and that has as many values.

    Args:
        may_be_zero: A bias of zeros leaves no trace in a file.
    """
    named = _named_after(layer)
    size = int(np.prod(shape))
    for name, values in constants.items():
        if named.search(name) and values.size == size and values.dtype == np.float32:
            return values.reshape(shape)
    if may_be_zero:
        return np.zeros(shape, np.float32)
    raise CannotLoad(f"The file has no weight {tuple(shape)} for the layer {layer.name}.")


def _set_normalisations(
    classifier: keras.Model,
    normalised: list[tuple[keras.layers.BatchNormalization, _Affine]],
    images: np.ndarray,
) -> None:
    """Mean and variance from the photos, scale and offset so that the answers stay.

    For one pass, scale and offset stand alone: mean 0, variance 1.
    """
    for layer, found in normalised:
        one = np.sqrt(1 + layer.epsilon, dtype=np.float32)
        layer.set_weights(
            [found.scale * one, found.offset, np.zeros_like(found.scale), np.ones_like(found.scale)]
        )
    before = keras.Model(classifier.inputs[0], [layer.input for layer, _ in normalised])
    sums = [np.zeros((2, len(found.scale))) for _, found in normalised]
    counts = np.zeros(len(normalised))
    for start in range(0, len(images), BATCH):
        batch = ops.cast(images[start : start + BATCH], "float32")
        for number, values in enumerate(keras.tree.flatten(before(batch, training=False))):
            values = ops.convert_to_numpy(values).astype(float)
            sums[number] += values.sum((0, 1, 2)), np.square(values).sum((0, 1, 2))
            counts[number] += values[..., 0].size
    for (layer, found), (total, squares), count in zip(normalised, sums, counts, strict=True):
        mean = total / count
        variance = squares / count - mean**2
        gamma = found.scale * np.sqrt(variance + layer.epsilon)
        layer.set_weights([gamma, found.offset + found.scale * mean, mean, variance])
