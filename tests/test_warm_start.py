"""The warm start of MobileNetV3Large: weights land where they should, and answers follow."""

import keras
import numpy as np
import pytest

from dermsa.models.backbones import BACKBONES, features
from dermsa.models.warm_start import warm_start_mobilenet_v3_large


def network(name, cut="trunk"):
    image = keras.Input((64, 64, 3))
    return keras.Model(image, features(BACKBONES[name], cut, image, None))


@pytest.fixture(scope="module")
def photos():
    random = np.random.default_rng(3)
    coarse = random.uniform(0, 255, (8, 8, 8, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def sibling(photos):
    """Random weights, and statistics of a batch in every BatchNormalization, as after training."""
    keras.utils.set_random_seed(1)
    model = network("MobileNetV3LargeMinimalistic")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(photos, training=True)
    return model


def likeness(first, second):
    """Correlation of two feature maps, each channel about its own mean."""
    first, second = (
        np.asarray(features) - np.mean(features, axis=(0, 1, 2)) for features in (first, second)
    )
    return (first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum())


def test_kernels_land_in_the_middle_of_larger_ones(sibling):
    model = network("MobileNetV3Large")
    warm_start_mobilenet_v3_large(model, sibling, sharpness=1)
    name = "expanded_conv_3_depthwise"
    kernel, small = (net.get_layer(name).get_weights()[0] for net in (model, sibling))
    assert kernel.shape[:2] == (5, 5) and small.shape[:2] == (3, 3)
    np.testing.assert_array_equal(kernel[1:4, 1:4], small)
    assert np.count_nonzero(kernel) == np.count_nonzero(small)
    for same in ("conv", "conv_1_bn", "expanded_conv_7_depthwise", "expanded_conv_9_project"):
        for loaded, saved in zip(
            model.get_layer(same).get_weights(), sibling.get_layer(same).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(loaded, saved)


def test_squeeze_and_excite_starts_as_the_identity_and_can_learn(sibling, photos):
    """Block 3 has ReLU in both networks, so that up to its end both answer alike."""
    model = network("MobileNetV3Large")
    warm_start_mobilenet_v3_large(model, sibling, sharpness=1)
    tensors = [net.get_layer("expanded_conv_3_project_bn").output for net in (model, sibling)]
    before = [net.get_layer("expanded_conv_3_expand").input for net in (model, sibling)]
    block, reference = (keras.Model(*ends) for ends in zip(before, tensors, strict=True))
    features = np.random.default_rng(0).normal(size=(2, 16, 16, 24)).astype(np.float32)
    np.testing.assert_allclose(block(features), reference(features), rtol=1e-4, atol=1e-5)

    gate = model.get_layer("expanded_conv_3_squeeze_excite_mul").input[1]
    np.testing.assert_array_equal(keras.Model(model.input, gate)(photos), 0.5)


def test_the_features_follow_the_sibling_s(sibling, photos):
    expected = sibling(photos)
    keras.utils.set_random_seed(2)
    model = network("MobileNetV3Large")
    random = likeness(model(photos), expected)
    found = []
    for sharpness in (1, 4, 16):
        warm_start_mobilenet_v3_large(model, sibling, sharpness)
        found.append(likeness(model(photos), expected))
    assert abs(random) < found[0] < found[1] < found[2]
    assert found[2] > 0.8


def test_a_network_that_ends_earlier_is_started_as_far_as_it_goes(sibling):
    model = network("MobileNetV3Large", "published")
    warm_start_mobilenet_v3_large(model, sibling)
    np.testing.assert_array_equal(
        model.get_layer("expanded_conv_14_expand").get_weights()[0],
        sibling.get_layer("expanded_conv_14_expand").get_weights()[0],
    )


def test_another_network_is_refused(sibling):
    with pytest.raises(ValueError, match="Expected MobileNetV3Large. Received: functional"):
        warm_start_mobilenet_v3_large(network("MobileNetV3Small"), sibling)
