"""Where a training starts from: all logits at 0, or as Keras starts its layers."""

import dataclasses

import keras
import numpy as np
import pytest
import tiny
from tiny import SIZE

from dermsa.models.backbone_record import Cut
from dermsa.models.backbones import BACKBONES
from dermsa.models.classifier import build_classifier
from dermsa.models.classifier_config import HEADS, ClassifierConfig
from dermsa.training import start
from dermsa.training.config import TrainingConfig
from dermsa.training.methods import backbone_layers
from dermsa.training.runs import RunError, create_run
from dermsa.training.start import starting_classifier

pytestmark = pytest.mark.usefixtures("tiny_backbone")


def started(classifier, **settings):
    config = TrainingConfig(classifier, initial_weights="none", **settings)
    return starting_classifier(create_run(config), config, None)


def answers(classifier):
    random = np.random.default_rng(0)
    image = random.uniform(0, 255, (2, *SIZE, 3)).astype(np.float32)
    return classifier.predict_on_batch({"image": image, "patient": random.random((2, 21))})


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("branch", ["none", "dense4096", "gessert"])
def test_all_logits_begin_at_zero_and_nothing_else_does(head, branch):
    network = ClassifierConfig("Tiny", head=head, patient_branch=branch, input_size=SIZE)
    found = answers(started(network))
    assert not found["logits"].any() and found["embedding"].any()
    assert answers(started(network, last_layer="glorot"))["logits"].any()


def test_so_do_those_behind_a_tail():
    network = ClassifierConfig("ResNet34", cut="published", input_size=SIZE)
    classifier = started(network)
    assert not answers(classifier)["logits"].any()


def test_a_network_that_begins_at_zero_learns():
    """Its first step moves the last layer, and the second one everything before."""
    classifier = started(ClassifierConfig("Tiny", input_size=SIZE))
    model = keras.Model(classifier.input, classifier.output["logits"])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = classifier.get_layer("first").get_weights()[0]
    inputs = [np.random.default_rng(0).uniform(0, 255, (4, *SIZE, 3)), np.zeros((4, 21))]
    for _ in range(2):
        model.train_on_batch(inputs, np.arange(4))
    assert np.abs(classifier.get_layer("evidence_map").get_weights()[0]).max() > 0
    assert np.abs(classifier.get_layer("first").get_weights()[0] - before).max() > 0


# --- going on with photos of another size -------------------------------------------------------


def gone_on_with(monkeypatch, classifier, size):
    """The classifier's weights as the start of a training whose photos are of this size."""
    monkeypatch.setattr(start.splits, "read_split", lambda path: type("Split", (), {"sha256": ""}))
    first = create_run(TrainingConfig(classifier, initial_weights="none"))
    trained = build_classifier(classifier)
    trained.save_weights(first.best_weights)
    larger = ClassifierConfig("Tiny", head=classifier.head, input_size=size)
    config = TrainingConfig(larger, start_from=first.id)
    return trained, starting_classifier(create_run(config), config, None)


@pytest.mark.parametrize("head", ["soft_attention", "global_pooling"])
def test_a_training_goes_on_with_larger_photos(monkeypatch, head):
    network = ClassifierConfig("Tiny", head=head, input_size=SIZE)
    trained, larger = gone_on_with(monkeypatch, network, (192, 256))
    for ours, theirs in zip(larger.weights, trained.weights, strict=True):
        if ours.path != start.EVIDENCE_KERNEL:
            np.testing.assert_array_equal(ours, theirs)
    colours = np.random.default_rng(0).uniform(0, 255, (16, 1, 1, 3))
    patient = np.random.default_rng(1).random((16, 21))
    answers = [
        network.predict_on_batch({"image": np.tile(colours, (1, *size, 1)), "patient": patient})
        for network, size in ((trained, SIZE), (larger, (192, 256)))
    ]
    logits = [each["logits"].ravel() for each in answers]
    assert np.corrcoef(*logits)[0, 1] > 0.9  # their edges are another part of the whole
    assert logits[1].std() == pytest.approx(logits[0].std(), rel=0.3)


def test_each_place_weighs_less_where_there_are_more():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 5, 7)).astype(np.float32)
    larger = start._resized(keras.Variable(kernel), (6, 9, 5, 7))
    whole = np.sum(larger, (0, 1)).ravel()
    assert np.corrcoef(whole, kernel.sum((0, 1)).ravel())[0, 1] > 0.9
    same = np.broadcast_to(kernel[:1, :1], kernel.shape)
    larger = start._resized(keras.Variable(same), (6, 9, 5, 7))
    np.testing.assert_allclose(np.sum(larger, (0, 1)), same.sum((0, 1)), rtol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_a_patient_branch_comes_in_without_a_say_and_learns(monkeypatch, head):
    monkeypatch.setattr(start.splits, "read_split", lambda path: type("Split", (), {"sha256": ""}))
    alone = ClassifierConfig("Tiny", head=head, patient_branch="none", input_size=SIZE)
    first = create_run(TrainingConfig(alone, initial_weights="none"))
    trained = build_classifier(alone)
    trained.save_weights(first.best_weights)
    for branch in ("dense4096", "gessert"):
        both = dataclasses.replace(alone, patient_branch=branch)
        config = TrainingConfig(both, start_from=first.id)
        classifier = starting_classifier(create_run(config), config, None)
        expected = answers(trained)["logits"]
        np.testing.assert_allclose(answers(classifier)["logits"], expected, atol=1e-5)
        assert len(classifier.weights) > len(trained.weights)
        model = keras.Model(classifier.input, classifier.output["logits"])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        patients = np.random.default_rng(0).random((4, 21))
        model.train_on_batch([np.zeros((4, *SIZE, 3)), patients], np.arange(4))
        last = next(w for w in classifier.weights if w.path.split("/")[0] in start.PATIENT_TERMS)
        assert np.abs(last.numpy()).max() > 0


def test_what_belongs_to_a_size_does_not_go_on_with_another(monkeypatch):
    network = ClassifierConfig("Tiny", head="soft_attention_dense512", input_size=SIZE)
    with pytest.raises(RunError, match="belong to its size of photos"):
        gone_on_with(monkeypatch, network, (128, 128))


# --- going on with a network that ends earlier --------------------------------------------------


CUTS = {
    "early": Cut("first_bn", (16, 16, 8)),
    "before the end": Cut("last_bn", (4, 4, 16)),  # of the same shape
    "the end": Cut("last", (4, 4, 16)),
}


def network_of_three(input_tensor=None, input_shape=None, include_top=False, weights=None):
    """As `tiny.network`, but for what lies between two feature maps of one shape."""
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", name="first")(input_tensor)
    x = keras.layers.BatchNormalization(name="first_bn")(x)
    x = keras.layers.Conv2D(16, 3, strides=4, activation="relu")(x)  # named by Keras
    x = keras.layers.BatchNormalization(name="last_bn")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="last")(x)
    return keras.Model(input_tensor, x)


@pytest.fixture
def start_at_cut(monkeypatch):
    """The weights of a classifier at one cut as the start of a training at another."""
    record = dataclasses.replace(
        tiny.TINY, build=network_of_three, cuts={"trunk": CUTS["the end"]} | CUTS
    )
    monkeypatch.setitem(BACKBONES, "Tiny", record)
    monkeypatch.setattr(start.splits, "read_split", lambda path: type("Split", (), {"sha256": ""}))

    def began(network, **wanted):
        first = create_run(TrainingConfig(network, initial_weights="none"))
        trained = build_classifier(network)
        trained.save_weights(first.best_weights)
        config = TrainingConfig(dataclasses.replace(network, **wanted), start_from=first.id)
        return trained, starting_classifier(create_run(config), config, None)

    return began


@pytest.mark.parametrize("cut", ["early", "before the end"])
@pytest.mark.parametrize("head", HEADS)
def test_an_earlier_cut_goes_on_without_a_say_of_the_photo_and_learns(start_at_cut, head, cut):
    trained, shorter = start_at_cut(ClassifierConfig("Tiny", head=head, input_size=SIZE), cut=cut)
    backbone = [weight.numpy() for layer in backbone_layers(shorter) for weight in layer.weights]
    longer = [weight.numpy() for layer in backbone_layers(trained) for weight in layer.weights]
    for ours, theirs in zip(backbone, longer, strict=False):
        np.testing.assert_array_equal(ours, theirs)
    assert len(backbone) == (6 if cut == "early" else 12)
    photos = np.random.default_rng(0).uniform(0, 255, (4, *SIZE, 3))
    patients = np.random.default_rng(1).random((4, 21))
    inputs = {"image": photos, "patient": patients}
    said, blind = (
        shorter.predict_on_batch(inputs | {"image": image})["logits"]
        for image in (photos, np.zeros_like(photos))
    )
    np.testing.assert_allclose(said, blind, atol=1e-6)
    assert said.any()  # of the patient, whom the longer network knew as well
    if head != "global_pooling":
        attention = [each.get_layer("soft_attention").kernel for each in (trained, shorter)]
        assert attention[0].shape != attention[1].shape or not np.allclose(*attention)
    model = keras.Model(shorter.input, shorter.output["logits"])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = shorter.get_layer("first").get_weights()[0]
    for _ in range(2):
        model.train_on_batch([photos, patients], np.arange(4))
    assert np.abs(shorter.get_layer("first").get_weights()[0] - before).max() > 0


def test_a_later_cut_is_refused(start_at_cut):
    for cut in ("early", "before the end"):
        network = ClassifierConfig("Tiny", cut=cut, input_size=SIZE)
        with pytest.raises(RunError, match="up to the wanted cut: .* may end earlier, not later"):
            start_at_cut(network, cut="trunk")


def test_the_same_cut_by_another_name_goes_on_whole(start_at_cut):
    network = ClassifierConfig("Tiny", input_size=SIZE)
    trained, same = start_at_cut(network, cut="the end")
    np.testing.assert_allclose(answers(same)["logits"], answers(trained)["logits"], atol=1e-5)
    _, larger = start_at_cut(network, cut="the end", input_size=(192, 256))
    assert np.abs(larger.get_layer("evidence_map").get_weights()[0]).max() > 0


def test_layers_that_keras_named_otherwise_go_on_with_larger_photos(start_at_cut):
    """InceptionResNetV2's first layers have such names."""
    trained, larger = start_at_cut(ClassifierConfig("Tiny", input_size=SIZE), input_size=(128, 128))
    ours, theirs = (
        [weight for layer in backbone_layers(each) for weight in layer.weights]
        for each in (larger, trained)
    )
    assert [weight.path for weight in ours] != [weight.path for weight in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
