"""Where a training starts from: all logits at 0, or as Keras starts its layers."""

import keras
import numpy as np
import pytest
from tiny import SIZE

from dermsa.models.classifier_config import HEADS, ClassifierConfig
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import create_run
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
