"""Weights kept in fewer bits: smaller files, the same answers, and answers that still split."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dermsa.inference.engine import Engine
from dermsa.models.weight_formats import FORMATS, with_weights_as


@pytest.fixture(scope="module")
def content(small_onnx):
    return small_onnx("MobileNetV3Small")


def convolution(weights):
    """An ONNX file of one convolution."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=weights.shape[2:])]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weights.shape[1], 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(weights), None, None])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 15)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model.SerializeToString()


def weights_in(content):
    """The weights of `convolution`, as the file restores them."""
    model = onnx.load_from_string(content)
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    size = session.get_inputs()[0].shape
    return session.run(["w"], {"x": np.zeros(size, np.float32)})[0]


@pytest.mark.parametrize(
    ("weight_format", "at_most", "off"), [("float16", 0.55, 2e-3), ("int8", 0.35, 0.1)]
)
def test_the_file_shrinks_and_its_answers_stay(content, photo_batch, weight_format, at_most, off):
    smaller = with_weights_as(content, weight_format)
    assert len(smaller) < at_most * len(content)
    expected = Engine(content)(photo_batch["image"], photo_batch["patient"])
    received = Engine(smaller)(photo_batch["image"], photo_batch["patient"])
    assert set(received) == set(expected)
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(received[name] / scale, value / scale, atol=off, err_msg=name)
    assert np.abs(received["logits"] - expected["logits"]).max() > 0  # it is another file


@pytest.mark.parametrize("weight_format", FORMATS)
def test_logits_still_split_into_what_they_are_made_of(
    content, small_classifier, photo_batch, weight_format
):
    bias = np.asarray(small_classifier(backbone="MobileNetV3Small").get_layer("logits").bias)
    out = Engine(with_weights_as(content, weight_format))(
        photo_batch["image"], photo_batch["patient"]
    )
    parts = out["evidence_map"].sum(axis=(2, 3)) + out["patient_evidence"] + bias
    np.testing.assert_allclose(parts, out["logits"], atol=1e-4)


def test_eight_bits_have_a_scale_for_every_channel():
    random = np.random.default_rng(0)
    sizes = np.logspace(-3, 3, 32).reshape(32, 1, 1, 1)
    weights = (random.normal(size=(32, 16, 3, 3)) * sizes).astype(np.float32)
    weights[5] = 0
    restored = weights_in(with_weights_as(convolution(weights), "int8"))
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(restored - weights) <= largest / 254 * 1.001).all()
    assert (restored[5] == 0).all()


def test_sixteen_bits_are_numpy_s():
    weights = np.random.default_rng(1).normal(size=(32, 16, 3, 3)).astype(np.float32)
    restored = weights_in(with_weights_as(convolution(weights), "float16"))
    np.testing.assert_array_equal(restored, weights.astype(np.float16).astype(np.float32))


def test_sixteen_bits_become_any_other_form_and_eight_none():
    weights = np.random.default_rng(2).normal(size=(32, 16, 3, 3)).astype(np.float32)
    half = with_weights_as(convolution(weights), "float16")
    rounded = convolution(weights.astype(np.float16).astype(np.float32))
    for weight_format in FORMATS:
        again = weights_in(with_weights_as(half, weight_format))
        np.testing.assert_array_equal(again, weights_in(with_weights_as(rounded, weight_format)))
    with pytest.raises(ValueError, match="in 8 bits"):
        with_weights_as(with_weights_as(convolution(weights), "int8"), "float16")


def test_what_does_not_fit_is_refused():
    weights = np.full((32, 16, 3, 3), 1e6, np.float32)
    with pytest.raises(ValueError, match="do not fit into 16 bits"):
        with_weights_as(convolution(weights), "float16")
    with pytest.raises(ValueError, match="Unknown weight format 'int4'.*float32, float16, int8"):
        with_weights_as(b"", "int4")
    small = convolution(weights[:1])
    kept = numpy_helper.to_array(
        onnx.load_from_string(with_weights_as(small, "float16")).graph.initializer[0]
    )
    assert kept.dtype == np.float32  # too few to be worth it
