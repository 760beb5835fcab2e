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


@pytest.fixture
def start_at_cut(monkeypatch):
    """The weights of a classifier at one cut as the start of a training at another."""
    cuts = tiny.TINY.cuts | {"early": Cut("first_bn", (16, 16, 8))}
    monkeypatch.setitem(BACKBONES, "Tiny", dataclasses.replace(tiny.TINY, cuts=cuts))
    monkeypatch.setattr(start.splits, "read_split", lambda path: type("Split", (), {"sha256": ""}))

    def began(network, cut):
        first = create_run(TrainingConfig(network, initial_weights="none"))
        trained = build_classifier(network)
        trained.save_weights(first.best_weights)
        config = TrainingConfig(dataclasses.replace(network, cut=cut), start_from=first.id)
        return trained, starting_classifier(create_run(config), config, None)

    return began


@pytest.mark.parametrize("head", ["soft_attention", "global_pooling"])
def test_an_earlier_cut_goes_on_without_a_say_of_the_photo_and_learns(start_at_cut, head):
    network = ClassifierConfig("Tiny", head=head, input_size=SIZE)
    trained, shorter = start_at_cut(network, "early")
    for ours in shorter.get_layer("first").weights + shorter.get_layer("first_bn").weights:
        theirs = next(each for each in trained.weights if each.path == ours.path)
        np.testing.assert_array_equal(ours, theirs)
    photos = np.random.default_rng(0).uniform(0, 255, (4, *SIZE, 3))
    patients = np.random.default_rng(1).random((4, 21))
    inputs = {"image": photos, "patient": patients}
    said, blind = (
        shorter.predict_on_batch(inputs | {"image": image})["logits"]
        for image in (photos, np.zeros_like(photos))
    )
    np.testing.assert_allclose(said, blind, atol=1e-6)
    assert said.any()  # of the patient, whom the longer network knew as well
    model = keras.Model(shorter.input, shorter.output["logits"])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = shorter.get_layer("first").get_weights()[0]
    for _ in range(2):
        model.train_on_batch([photos, patients], np.arange(4))
    assert np.abs(shorter.get_layer("first").get_weights()[0] - before).max() > 0


def test_a_later_cut_is_refused(start_at_cut):
    with pytest.raises(RunError, match="no layer last: .* may end earlier, not later"):
        start_at_cut(ClassifierConfig("Tiny", cut="early", input_size=SIZE), "trunk")
