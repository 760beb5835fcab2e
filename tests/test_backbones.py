"""The registry of backbones: every record keeps its word, whatever was built before."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from dermsa.models import backbones
from dermsa.models.backbones import BACKBONES, UnknownName, features

CUTS = [(record, cut) for record in BACKBONES.values() for cut in record.cuts]
IDS = [f"{record.name}-{cut}" for record, cut in CUTS]
ALL = pytest.mark.parametrize("record", BACKBONES.values(), ids=BACKBONES)
ALL_CUTS = pytest.mark.parametrize(("record", "cut"), CUTS, ids=IDS)

# What each network expects of pixels from 0 to 255, by its own module in keras.applications.
PREPROCESS = {
    "MobileNetV2": keras.applications.mobilenet_v2.preprocess_input,
    "MobileNetV3Small": keras.applications.mobilenet_v3.preprocess_input,
    "MobileNetV3Large": keras.applications.mobilenet_v3.preprocess_input,
}


def cut_network(record, cut, size, weights=None):
    image = keras.Input((*size, 3))
    return keras.Model(image, features(record, cut, image, weights))


@ALL
def test_a_record_is_complete(record):
    assert BACKBONES[record.name] is record
    assert {"published", "trunk"} <= set(record.cuts)
    assert record.weights_file.endswith(".weights.h5")
    assert record.licence and record.source


@ALL_CUTS
def test_a_cut_has_the_registered_shape(record, cut):
    image = keras.Input((*record.input_size, 3))
    assert features(record, cut, image, None).shape[1:] == record.cuts[cut].feature_shape


def test_what_was_built_before_does_not_matter():
    """Automatic layer names count on through a process; cuts must not depend on them."""

    def anatomy(record, cut):
        network = cut_network(record, cut, (64, 64))
        return [(type(layer), layer.output.shape) for layer in network.layers]

    keras.utils.clear_session()
    first = [anatomy(record, "published") for record in BACKBONES.values()]
    again = [anatomy(record, "published") for record in reversed(BACKBONES.values())]
    assert again[::-1] == first


@ALL
def test_the_trunk_is_the_whole_network_and_scales_pixels_itself(record):
    """Equal to keras.applications fed with its own preprocessing."""
    keras.utils.set_random_seed(0)
    network = cut_network(record, "trunk", (64, 64))
    reference = record.build(input_shape=(64, 64, 3), include_top=False, weights=None)
    reference.set_weights(network.get_weights())
    photo = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    expected = reference(PREPROCESS[record.name](photo.copy()))
    np.testing.assert_allclose(network(photo), expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected) > 0


@ALL
def test_starting_weights_are_read_from_a_file(record, tmp_path):
    keras.utils.set_random_seed(7)
    reference = record.build(input_shape=(64, 64, 3), include_top=False, weights=None)
    path = tmp_path / record.weights_file
    reference.save_weights(path)
    keras.utils.set_random_seed(8)
    network = cut_network(record, "trunk", (64, 64), str(path))
    for loaded, saved in zip(network.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, saved)


@ALL
def test_weights_placed_by_hand_are_found(record, tmp_path):
    assert backbones.find_weights(record, None) is None
    assert backbones.find_weights(record, tmp_path) is None
    path = tmp_path / "imagenet_weights" / record.weights_file
    path.parent.mkdir()
    path.touch()
    assert backbones.find_weights(record, tmp_path) == str(path)


def test_a_network_that_keras_builds_differently_is_refused():
    record = BACKBONES["MobileNetV2"]
    cut = replace(record.cuts["trunk"], feature_shape=(7, 7, 999))
    with pytest.raises(ValueError, match=r"out_relu gives \(7, 7, 1280\).*\(7, 7, 999\)"):
        features(replace(record, cuts={"trunk": cut}), "trunk", keras.Input((224, 224, 3)), None)


def test_a_cut_before_a_fork_is_refused():
    record = BACKBONES["MobileNetV2"]
    fork = replace(record.cuts["trunk"], layer="block_1_project_BN", consumer=True)
    with pytest.raises(ValueError, match="one layer after block_1_project_BN. Found: 2"):
        features(replace(record, cuts={"fork": fork}), "fork", keras.Input((64, 64, 3)), None)


@pytest.mark.parametrize("name", ["MobilNetV2", "mobilenetv2", "MobileNet-V2"])
def test_a_misspelt_name_gets_the_nearest_ones(name):
    with pytest.raises(UnknownName, match="Did you mean .*MobileNetV2"):
        backbones.backbone(name)


def test_a_name_like_no_other_gets_the_whole_list():
    with pytest.raises(UnknownName, match="MobileNetV2 or MobileNetV3Large or MobileNetV3Small"):
        backbones.backbone("zzz")


def test_an_unknown_cut_is_refused_by_name():
    with pytest.raises(UnknownName, match="cut of MobileNetV2 'trunc'. Did you mean trunk"):
        features(BACKBONES["MobileNetV2"], "trunc", keras.Input((64, 64, 3)), None)
