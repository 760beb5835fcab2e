"""From the file that is served back to a network that trains on."""

import dataclasses

import numpy as np
import pytest

from dermsa.inference import store
from dermsa.inference.engine import Engine
from dermsa.models.classifier import ClassifierConfig, build_classifier
from dermsa.models.from_onnx import CannotLoad, load_served
from dermsa.models.weight_formats import with_weights_as
from dermsa.training import start
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import RunError, create_run
from dermsa.training.start import starting_classifier

SIZE = (96, 160)


@pytest.fixture(scope="module")
def photos():
    random = np.random.default_rng(4)
    coarse = random.integers(0, 256, (24, 6, 10, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "MobileNetV3Small"},
        {"backbone": "MobileNetV3Small", "head": "global_pooling"},
        {"backbone": "MobileNetV2"},
        {"backbone": "EfficientNetLite0"},
        # Its normalisations stand before the convolutions.
        {"backbone": "ResNet50V2", "cut": "conv5_block1_preact"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_it_answers_as_the_file_does(small_classifier, small_onnx, photos, photo_batch, settings):
    exported = small_classifier(**settings)
    config = ClassifierConfig(**settings, input_size=SIZE)
    restored = build_classifier(config)
    load_served(restored, small_onnx(**settings), photos)
    for name, expected in exported(photo_batch).items():
        found = restored(photo_batch)[name]
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, abs(expected).numpy().max()))


@pytest.mark.parametrize("weight_format", ["float16", "int8"])
def test_smaller_files_can_be_gone_on_from_as_well(small_onnx, photos, photo_batch, weight_format):
    content = with_weights_as(small_onnx("MobileNetV3Small"), weight_format)
    restored = build_classifier(ClassifierConfig("MobileNetV3Small", input_size=SIZE))
    load_served(restored, content, photos)
    expected = Engine(content)(photo_batch["image"], photo_batch["patient"], ("logits",))["logits"]
    found = restored(photo_batch)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_its_normalisations_hold_what_the_photos_show(small_onnx, photos):
    """While training, the batch's own mean and variance count: they must lead to much the same."""
    restored = build_classifier(ClassifierConfig("MobileNetV3Small", input_size=SIZE))
    load_served(restored, small_onnx("MobileNetV3Small"), photos)
    inputs = {"image": photos.astype(np.float32), "patient": np.zeros((len(photos), 21))}
    layer = restored.get_layer("conv_bn")
    before = layer.get_weights()
    layer.momentum = 0.0  # what this very batch shows
    restored(inputs, training=True)
    for old, new in zip(before[2:], layer.get_weights()[2:], strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-3 * np.abs(old).max())


def test_another_network_is_refused(small_onnx, photos):
    other = build_classifier(ClassifierConfig("MobileNetV2", input_size=SIZE))
    with pytest.raises(CannotLoad, match="no convolution for the layer"):
        load_served(other, small_onnx("MobileNetV3Small"), photos)


# --- as the start of a training -----------------------------------------------------------------


@pytest.fixture
def served(monkeypatch):
    """The split of a run and the configuration of the fast model that ships."""
    card = store.read_card("fast")
    classifier = start.ShippedTraining("fast", card).classifier()
    monkeypatch.setattr(
        start.splits, "read_split", lambda path: type("S", (), card["protocol"] | {})
    )
    return card, classifier


def test_a_training_starts_from_a_model_that_ships(served):
    card, classifier = served
    config = TrainingConfig(classifier, start_from=card["name"])
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (16, *classifier.input_size, 3), dtype=np.uint8)
    started = starting_classifier(create_run(config), config, None, images)
    bias = [card["bias"][code] for code in card["classes"]]
    np.testing.assert_allclose(started.get_layer("logits").bias, bias, atol=1e-6)
    assert float(started.get_layer("soft_attention").gamma) == pytest.approx(
        card["architecture"]["gamma"]
    )


def test_it_goes_on_with_photos_of_another_size(served):
    card, classifier = served
    other = dataclasses.replace(classifier, input_size=SIZE)
    config = TrainingConfig(other, start_from=card["name"])
    images = np.random.default_rng(0).integers(0, 256, (16, *SIZE, 3), dtype=np.uint8)
    started = starting_classifier(create_run(config), config, None, images)
    assert started.inputs[0].shape[1:3] == SIZE
    bias = [card["bias"][code] for code in card["classes"]]
    np.testing.assert_allclose(started.get_layer("logits").bias, bias, atol=1e-6)


def test_a_model_of_another_split_is_refused(served, monkeypatch):
    card, classifier = served
    monkeypatch.setattr(start.splits, "read_split", lambda path: type("S", (), {"sha256": "other"}))
    config = TrainingConfig(classifier, start_from="fast")
    with pytest.raises(RunError, match="another split"):
        starting_classifier(create_run(config), config, None, np.zeros((1, 8, 8, 3), np.uint8))


def test_another_classifier_and_an_ensemble_are_refused():
    config = TrainingConfig(
        ClassifierConfig("MobileNetV3Large", input_size=SIZE), start_from="fast"
    )
    with pytest.raises(RunError, match="another classifier"):
        starting_classifier(create_run(config), config, None)
    config = TrainingConfig(ClassifierConfig("MobileNetV2", input_size=SIZE), start_from="accurate")
    with pytest.raises(RunError, match="is an ensemble"):
        starting_classifier(create_run(config), config, None)
