"""Grad-CAM of a served network, without a gradient.

Grad-CAM (Selvaraju et al. 2017) weighs each channel of a feature map by the mean gradient of a
logit over the map's positions. Taken at the last ReLU, what follows is linear: the gradient of
logit c in channel k at position p is the entry `W[p, k, c]` of the last layer's kernel, the same
for every photo. Replacing the kernel by its mean over positions therefore turns the network's
evidence map into the Grad-CAM map, before its closing ReLU; with the kernel as it is, gradient
times feature without the mean, the evidence map is what HiResCAM (Draelos, Carin 2020) shows.
"""

from __future__ import annotations

import numpy as np


def with_grad_cam(onnx: bytes) -> bytes | None:
    """The network with the Grad-CAM map in place of the evidence map.

    Args:
        onnx: Content of a model file.

    Returns:
        Content of a model file, whose `logits` are of no use. None where the last layer is not
        linear from the last ReLU on, or has one kernel for all positions: then Grad-CAM and the
        evidence map are the same.
    """
    import onnx as onnx_format
    from onnx import numpy_helper

    model = onnx_format.load_from_string(onnx)
    kernel = _kernel_of_evidence(model.graph)
    if kernel is None:
        return None
    values = numpy_helper.to_array(kernel)
    mean = np.broadcast_to(values.mean(axis=0, keepdims=True), values.shape)
    kernel.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(mean), kernel.name))
    return model.SerializeToString()


def _kernel_of_evidence(graph):
    """The initializer `(positions, channels, classes)` that the evidence map is a product with."""
    maker = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    node = maker.get("evidence_map")
    while node is not None and node.op_type in ("Reshape", "Transpose", "Identity", "Cast"):
        node = maker.get(node.input[0])
    if node is None or node.op_type != "MatMul":
        return None
    kernel = constants.get(node.input[1])
    return kernel if kernel is not None and len(kernel.dims) == 3 else None
