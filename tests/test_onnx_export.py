"""The served ONNX file against the Keras classifier that it was made from."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from dermsa.models.backbones import BACKBONES
from dermsa.models.classifier import OUTPUTS
from dermsa.models.onnx_export import to_onnx

VARIANTS = [
    *({"backbone": name, "cut": "trunk"} for name in BACKBONES),
    {"backbone": "MobileNetV3Small", "kernel": "published", "attention_maps": 3},
    {"backbone": "MobileNetV3Small", "patient_branch": False},
]


@pytest.fixture(
    scope="module", params=VARIANTS, ids=lambda v: "-".join(str(value) for value in v.values())
)
def pair(request, small_classifier):
    """A Keras classifier and the content of its ONNX file; each is exported once."""
    classifier = small_classifier(**request.param)
    return classifier, to_onnx(classifier)


def answers(content, batch):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(OUTPUTS, batch), strict=True))


def assert_close(received, expected):
    """To 1e-4, relative to the size of what is compared."""
    expected = np.asarray(expected)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(received / scale, expected / scale, atol=1e-4)


def test_both_give_the_same_answers(pair, photo_batch):
    classifier, content = pair
    expected = classifier(photo_batch)
    for name, value in answers(content, photo_batch).items():
        assert value.dtype == np.float32
        assert_close(value, expected[name])


def test_one_image_meets_several_patients(pair, photo_batch):
    classifier, content = pair
    image = photo_batch["image"][:1]
    patients = np.random.default_rng(0).normal(size=(8, 21)).astype(np.float32)
    expected = classifier({"image": image.repeat(8, axis=0), "patient": patients})
    received = answers(content, {"image": image, "patient": patients})
    assert received["evidence_map"].shape[0] == 1
    for name in ("logits", "patient_evidence"):
        assert received[name].shape == (8, 7)
        assert_close(received[name], expected[name])


def test_one_patient_has_several_photos(pair, photo_batch):
    classifier, content = pair
    patient = photo_batch["patient"][:1]
    expected = classifier({"image": photo_batch["image"], "patient": patient.repeat(3, axis=0)})
    received = answers(content, {"image": photo_batch["image"], "patient": patient})
    for name in ("logits", "attention_map", "evidence_map"):
        assert len(received[name]) == 3
        assert_close(received[name], expected[name])


def test_names_and_shapes_are_those_of_the_classifier(pair):
    graph = onnx.load_from_string(pair[1]).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert [value.name for value in graph.input] == ["image", "patient"]
    assert {value.name for value in graph.output} == set(OUTPUTS)
    assert shapes["image"] == ["images", 96, 160, 3] and shapes["patient"] == ["patients", 21]
    assert shapes["logits"] == ["answers", 7]
    assert shapes["attention_map"] == ["images", 3, 5]
    assert shapes["evidence_map"] == ["images", 7, 2, 3]


def test_the_layout_is_not_turned_over_and_over(pair):
    """Transposes left around every activation would cost half of the speed."""
    operations = [node.op_type for node in onnx.load_from_string(pair[1]).graph.node]
    assert operations.count("Conv") > 30
    assert operations.count("Transpose") < 12


def test_another_backend_than_tensorflow_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        to_onnx(None)
