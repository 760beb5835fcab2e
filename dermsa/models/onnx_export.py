"""From a Keras classifier to the ONNX file that is served."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout

import keras
import numpy as np
import onnx
from onnx import numpy_helper

from dermsa.memory import collecting_often


def to_onnx(classifier: keras.Model) -> bytes:
    """Converts a classifier; inputs and outputs keep their names.

    In the file the numbers of images and of patients are free of each other: one image may meet
    several patients (or the reverse), and `logits` and `patient_evidence` broadcast. So one pass
    over the image answers every "what if the patient were ...".

    Args:
        classifier: From `build_classifier`, on the TensorFlow backend.

    Returns:
        The content of an ONNX file: inputs `image`, `patient`; the outputs of the classifier,
        without evidence where its logits do not split (see `classifier.outputs_of`).

    Raises:
        RuntimeError: Another backend than TensorFlow runs.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError("Export needs the TensorFlow backend: set KERAS_BACKEND=tensorflow.")
    with collecting_often():
        model = _optimised(_with_vector_constants(_exported(classifier)))
    _name_dimensions(model, classifier)
    onnx.checker.check_model(model, full_check=True)
    assert {output.name for output in model.graph.output} == set(classifier.output)
    return model.SerializeToString()


def _exported(classifier: keras.Model) -> onnx.ModelProto:
    """As `keras.Model.export`, which first looks for all that a SavedModel would hold and then
    lets tf2onnx run every pass it has: together half of the time."""
    import tensorflow as tf
    import tf2onnx

    names = [tensor.name for tensor in classifier.inputs]
    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=tensor.name)
        for tensor in classifier.inputs
    ]
    function = tf.function(
        lambda *values: classifier(dict(zip(names, values, strict=True)), training=False)
    )
    # tf2onnx prints the traceback of a pass that is run again later.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    with _only("fold_constants"), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        model, _ = tf2onnx.convert.from_function(function, signature)
    return model


PASSES = (
    "optimize_transpose",
    "fold_constants",
    "merge_duplication",
    "reshape_optimizer",
    "global_pool_optimizer",
    "remove_identity",
    "remove_back_to_back",
)
"""Those of tf2onnx that find something in these networks: there are no loops, no einsum, no
upsampling and no 8-bit numbers. Each copies the whole network."""


@contextlib.contextmanager
def _only(*passes: str) -> Iterator[None]:
    """Meanwhile, tf2onnx converts with these passes alone."""
    from tf2onnx.optimizer import _get_optimizers

    known = _get_optimizers()
    before = dict(known)
    try:
        known.clear()
        known.update({name: before[name] for name in passes})
        yield
    finally:
        known.clear()
        known.update(before)


def _with_vector_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Scalars become vectors of one: on a scalar, tf2onnx's transpose optimiser gives up.

    It would leave a pair of transposes around every hard-swish, at twice the running time.
    """
    elementwise = {"Add", "Mul", "Sub", "Div"}
    names = {
        name for node in model.graph.node if node.op_type in elementwise for name in node.input
    }
    for tensor in model.graph.initializer:
        if tensor.name in names and len(tensor.dims) == 0:
            vector = numpy_helper.to_array(tensor).reshape(1)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(vector), tensor.name))
    return model


def _optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    from tf2onnx.graph import GraphUtil
    from tf2onnx.optimizer import _get_optimizers

    known = _get_optimizers()
    optimizers = {name: _on_a_copy(known[name]) for name in PASSES}
    return GraphUtil.optimize_model_proto(model, catch_errors=False, optimizers=optimizers)


def _on_a_copy(optimizer: type) -> type:
    """A pass over a copy of the graph, as tf2onnx itself does it where it catches errors.

    A graph that is passed on as it is keeps every weight that any pass has ever written.
    """

    class OnACopy(optimizer):
        def optimize(self, graph, iteration):
            return super().optimize(copy.deepcopy(graph), iteration)

    return OnACopy


def _name_dimensions(model: onnx.ModelProto, classifier: keras.Model) -> None:
    """Free dimensions get names that say what may differ from what; the others, their sizes."""
    by_image = {"image", "attention_map", "evidence_map", "embedding"}
    for value in [*model.graph.input, *model.graph.output]:
        first, *others = value.type.tensor_type.shape.dim
        if value.name in classifier.output:  # the conversion lost track of some
            for dimension, size in zip(
                others, classifier.output[value.name].shape[1:], strict=True
            ):
                dimension.dim_value = size
        if value.name in by_image:
            first.dim_param = "images"
        else:
            first.dim_param = "answers" if value.name == "logits" else "patients"
    del model.graph.value_info[:]
