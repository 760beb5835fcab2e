"""The fused batch normalisation: the same numbers as Keras's own, in training and out of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dermsa.models.classifier import ClassifierConfig, build_classifier
from dermsa.training.fused_batchnorm import fuse_batch_normalization


def network(**settings):
    keras.utils.set_random_seed(5)
    image = keras.Input((6, 5, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(image)
    x = keras.layers.BatchNormalization(momentum=0.7, name="norm", **settings)(x)
    return keras.Model(image, keras.layers.Conv2D(2, 1, name="last")(x))


def step(model, images):
    """Outputs, gradients and moving statistics of one training pass."""
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_sum(outputs**3)
    gradients = tape.gradient(loss, model.trainable_variables)
    state = [v.numpy() for v in model.non_trainable_variables]
    return [outputs.numpy(), *(g.numpy() for g in gradients), *state]


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}])
def test_the_numbers_are_those_of_keras(settings):
    images = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 3)).astype(np.float32)
    plain, fused = network(**settings), network(**settings)
    assert fuse_batch_normalization(fused) == 1
    for expected, got in zip(step(plain, images), step(fused, images), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fused(images), plain(images), rtol=1e-4, atol=1e-5)


def test_a_frozen_layer_keeps_its_statistics():
    model = network()
    fuse_batch_normalization(model)
    layer = model.get_layer("norm")
    layer.trainable = False
    before = [w.copy() for w in layer.get_weights()]
    model(np.ones((2, 6, 5, 3), np.float32), training=True)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_every_normalisation_of_a_backbone_is_changed_and_weights_are_not():
    model = build_classifier(ClassifierConfig("MobileNetV3Small", input_size=(64, 64)))
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    names = [v.path for v in model.variables]
    assert fuse_batch_normalization(model) == len(layers) > 30
    assert [v.path for v in model.variables] == names
