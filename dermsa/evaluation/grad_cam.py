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

    from dermsa.models.weight_formats import weights_of

    model = onnx_format.load_from_string(onnx)
    product = _product_of_evidence(model.graph)
    kernel = weights_of(model.graph).get(product.input[1]) if product is not None else None
    if kernel is None or kernel.ndim != 3:  # (positions, channels, classes)
        return None
    mean = np.broadcast_to(kernel.mean(axis=0, keepdims=True), kernel.shape)
    product.input[1] = "grad_cam/kernel"
    model.graph.initializer.append(
        numpy_helper.from_array(np.ascontiguousarray(mean), product.input[1])
    )
    return model.SerializeToString()


def _product_of_evidence(graph):
    """The node of the matrix product that gives the evidence map."""
    maker = {output: node for node in graph.node for output in node.output}
    node = maker.get("evidence_map")
    while node is not None and node.op_type in ("Reshape", "Transpose", "Identity", "Cast"):
        node = maker.get(node.input[0])
    return node if node is not None and node.op_type == "MatMul" else None
