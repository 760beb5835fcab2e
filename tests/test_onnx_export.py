"""The served ONNX file against the Keras classifier that it was made from."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from dermsa.inference.engine import Engine
from dermsa.models.classifier_config import HEADS, PATIENT_BRANCHES
from dermsa.models.onnx_export import to_onnx
from dermsa.models.outputs import NoDecomposition

OTHER_BRANCHES = [name for name in PATIENT_BRANCHES if name != "dense4096"]
VARIANTS = [
    *({"backbone": "MobileNetV3Small", "head": head} for head in HEADS),
    *({"backbone": "MobileNetV3Small", "patient_branch": name} for name in OTHER_BRANCHES),
    {"backbone": "MobileNetV3Small", "head": "global_pooling", "patient_branch": "gessert"},
    {"backbone": "MobileNetV3Large", "cut": "layer_266"},
    {"backbone": "MobileNetV3Small", "kernel": "published", "channel_order": "bgr"},
    {"backbone": "MobileNetV3Small", "classes": ("mel", "nv", "sk")},
    {"backbone": "DattaResNet34", "cut": "published", "patient_branch": "gessert"},
]


@pytest.fixture(
    scope="module", params=VARIANTS, ids=lambda v: "-".join(str(value) for value in v.values())
)
def pair(request, small_classifier, small_onnx):
    """A Keras classifier and the content of its ONNX file."""
    return small_classifier(**request.param), small_onnx(**request.param)


def answers(content, batch):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, batch), strict=True))


def assert_close(received, expected):
    """To 1e-4, relative to the size of what is compared."""
    expected = np.asarray(expected)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(received / scale, expected / scale, atol=1e-4)


def test_both_give_the_same_answers(pair, photo_batch):
    classifier, content = pair
    expected = classifier(photo_batch)
    received = answers(content, photo_batch)
    assert set(received) == set(expected)
    for name, value in received.items():
        assert value.dtype == np.float32
        assert_close(value, expected[name])


def test_one_image_meets_several_patients(pair, photo_batch):
    classifier, content = pair
    image = photo_batch["image"][:1]
    patients = np.random.default_rng(0).normal(size=(8, 21)).astype(np.float32)
    expected = classifier({"image": image.repeat(8, axis=0), "patient": patients})
    received = answers(content, {"image": image, "patient": patients})
    for name, value in received.items():
        by_patient = name in ("logits", "patient_evidence")
        assert len(value) == (8 if by_patient else 1)
        assert_close(value, expected[name] if by_patient else expected[name][:1])


def test_one_patient_has_several_photos(pair, photo_batch):
    classifier, content = pair
    patient = photo_batch["patient"][:1]
    expected = classifier({"image": photo_batch["image"], "patient": patient.repeat(3, axis=0)})
    received = answers(content, {"image": photo_batch["image"], "patient": patient})
    for name in set(received) - {"patient_evidence"}:
        assert len(received[name]) == 3
        assert_close(received[name], expected[name])


def test_names_and_shapes_are_those_of_the_classifier(pair):
    classifier, content = pair
    graph = onnx.load_from_string(content).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert [value.name for value in graph.input] == ["image", "patient"]
    assert shapes.pop("image") == ["images", 96, 160, 3]
    assert shapes.pop("patient") == ["patients", 21]
    expected = {name: list(tensor.shape[1:]) for name, tensor in classifier.output.items()}
    assert {name: shape[1:] for name, shape in shapes.items()} == expected
    varying = {"logits": "answers", "patient_evidence": "patients"}
    assert all(shape[0] == varying.get(name, "images") for name, shape in shapes.items())


def test_the_engine_knows_what_a_file_answers(pair, photo_batch):
    classifier, content = pair
    engine = Engine(content)
    assert engine.outputs == tuple(classifier.output)
    assert engine.input_size == (96, 160)
    if "evidence_map" in classifier.output:
        return
    with pytest.raises(NoDecomposition, match="do not split into evidence"):
        engine(photo_batch["image"], photo_batch["patient"], ("evidence_map",))


def test_the_layout_is_not_turned_over_and_over(pair):
    """Transposes left around every activation would cost half of the speed."""
    operations = [node.op_type for node in onnx.load_from_string(pair[1]).graph.node]
    assert operations.count("Conv") > 30
    assert operations.count("Transpose") < 12


def test_another_backend_than_tensorflow_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        to_onnx(None)
