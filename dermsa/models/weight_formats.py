"""Smaller files of the same network: weights kept in 16 or 8 bits, arithmetic in 32.

ONNX Runtime makes 32-bit weights of them once, when the model is opened, so that an answer takes
as long as before. What this costs in accuracy is measured by `make bench ARGS=models`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FORMATS = {
    "float32": "as trained",
    "float16": "half the size",
    "int8": "a quarter of the size; one scale for each channel",
}
LEAST_VALUES = 1024  # smaller tensors (biases, scales) save nothing and matter more
LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def with_weights_as(content: bytes, weight_format: str) -> bytes:
    """The ONNX file with its weights kept otherwise.

    Args:
        content: Of an ONNX file with weights of 32 bits, or of 16, which are made 32 first.
        weight_format: A key of `FORMATS`.

    Raises:
        ValueError: Unknown format, weights of 8 bits already, or one beyond the range of 16 bits.
    """
    if weight_format not in FORMATS:
        raise ValueError(
            f"Unknown weight format {weight_format!r}. Expected one of: {', '.join(FORMATS)}."
        )
    model = onnx.load_from_string(content)
    graph = model.graph
    restored = _restore_float32(graph)
    if weight_format == "float32":
        return model.SerializeToString() if restored else content
    shrink = _as_float16 if weight_format == "float16" else _as_int8
    channel_axes = _channel_axes(graph)
    nodes = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= LEAST_VALUES:
            kept, restoring = shrink(tensor.name, values, channel_axes.get(tensor.name))
            graph.initializer.remove(tensor)
            graph.initializer.extend(kept)
            nodes += restoring
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def weights_of(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """All weights of a file by name; those kept in 16 or 8 bits as the 32-bit values that they
    stand for, under the name by which the network uses them."""
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Cast", "Mul") and all(name in weights for name in node.input):
            # The parts are gone then: only the whole may be taken for a layer's weight.
            values = [weights.pop(name).astype(np.float32) for name in node.input]
            weights[node.output[0]] = np.prod(np.broadcast_arrays(*values), axis=0)
    return weights


def _restore_float32(graph: onnx.GraphProto) -> bool:
    """Makes 32-bit weights of those in 16 bits, in place; says whether there were any."""
    kept = {tensor.name: tensor for tensor in graph.initializer}
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in kept]
    if any(kept[node.input[0]].data_type == TensorProto.INT8 for node in casts):
        raise ValueError("The weights are in 8 bits: what they were before is lost.")
    halves = [node for node in casts if kept[node.input[0]].data_type == TensorProto.FLOAT16]
    for node in halves:
        tensor = kept[node.input[0]]
        whole = numpy_helper.to_array(tensor).astype(np.float32)
        graph.node.remove(node)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(whole, node.output[0]))
    return bool(halves)


def _as_float16(name: str, values: np.ndarray, _) -> tuple[list, list]:
    if np.abs(values).max() > LARGEST_FLOAT16:
        raise ValueError(f"The weights {name} do not fit into 16 bits.")
    half = numpy_helper.from_array(values.astype(np.float16), f"{name}/float16")
    return [half], [helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)]


def _as_int8(name: str, values: np.ndarray, channel_axis: int | None) -> tuple[list, list]:
    axis = values.ndim - 1 if channel_axis is None else channel_axis
    others = tuple(each for each in range(values.ndim) if each != axis)
    scale = np.abs(values).max(axis=others, keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    whole = np.rint(values / scale).astype(np.int8)
    kept = [
        numpy_helper.from_array(whole, f"{name}/int8"),
        numpy_helper.from_array(scale, f"{name}/scale"),
    ]
    # Not DequantizeLinear: ONNX Runtime would run that anew for every photo.
    restoring = [
        helper.make_node("Cast", [kept[0].name], [f"{name}/whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}/whole", kept[1].name], [name]),
    ]
    return kept, restoring


def _channel_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """The output channels of convolutions come first; of everything else they come last."""
    return {node.input[1]: 0 for node in graph.node if node.op_type == "Conv"}
