"""The networks that keras.applications lacks, against the counts of those who published them."""

import re

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from dermsa.models import densenet161, efficientnet_lite, own_network, resnet34, se_resnext, vgg

# Trainable parameters with 1000 classes (torchvision, Cadene, Google's authors), feature map.
STANDARD = {
    "ResNet34": (resnet34.ResNet34, 21_797_672, (7, 7, 512)),
    "SEResNeXt101": (se_resnext.SEResNeXt101, 48_955_416, (7, 7, 2048)),
    "DenseNet161": (densenet161.DenseNet161, 28_681_000, (7, 7, 2208)),
    "EfficientNetLite0": (efficientnet_lite.EfficientNetLite0, 4_652_008, (7, 7, 1280)),
    "EfficientNetLite1": (efficientnet_lite.EfficientNetLite1, 5_416_680, (8, 8, 1280)),
    "EfficientNetLite2": (efficientnet_lite.EfficientNetLite2, 6_092_072, (9, 9, 1280)),
}


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def automatic_names(model):
    """Names that change with whatever was built before, the input's apart."""
    kinds = [re.sub("(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__) for layer in model.layers]
    return [
        layer.name
        for layer, kind in zip(model.layers[1:], kinds[1:], strict=True)
        if re.fullmatch(rf"{kind.lower()}(_\d+)?", layer.name)
    ]


@pytest.mark.parametrize("name", STANDARD)
def test_it_has_the_published_number_of_parameters(name):
    build, parameters, feature_shape = STANDARD[name]
    network = build(include_top=True)
    assert network.output.shape == (None, 1000)
    assert trainable(network) == parameters
    assert network.get_layer("top_pool").input.shape[1:] == feature_shape
    assert not automatic_names(network)


@pytest.mark.parametrize("build", [resnet34.DattaResNet34, vgg.DattaVGG16])
def test_dattas_networks_name_all_their_layers(build):
    assert not automatic_names(build(input_shape=(32, 32, 3)))


def test_the_improved_vgg16_is_built_as_the_report_says():
    network = vgg.ImprovedVGG16(include_top=True, classes=7)
    assert not automatic_names(network)
    kinds = [type(layer) for layer in network.layers]
    assert kinds.count(layers.Conv2D) == 14
    assert kinds.count(layers.BatchNormalization) == 5
    assert [layer.units for layer in network.layers if isinstance(layer, layers.Dense)] == [7]
    assert network.get_layer("top_pool").input.shape[1:] == (7, 7, 512)


def test_it_starts_from_any_tensor_at_32_pixels():
    image = keras.Input((32, 32, 3), name="image")
    network = resnet34.ResNet34(input_tensor=layers.Rescaling(1.0, name="mine")(image))
    assert [layer.name for layer in network.layers[:2]] == ["image", "mine"]
    assert network.output.shape == (None, 1, 1, 512)


def test_weights_that_are_no_file_are_refused():
    with pytest.raises(ValueError, match="Expected the path of a .weights.h5 file for resnet34"):
        resnet34.ResNet34(input_shape=(32, 32, 3), weights="imagenet")


@pytest.mark.parametrize("size", [7, 8])
def test_strided_convolutions_and_pooling_pad_as_pytorch_does(size):
    image = np.random.default_rng(0).random((1, size, size, 1)).astype(np.float32)
    tensor = keras.Input(image.shape[1:])
    convolved = own_network.torch_conv(tensor, 1, 3, 2, name="conv")
    pooled = own_network.torch_max_pool(tensor, name="pool")
    model = keras.Model(tensor, [convolved, pooled])
    kernel = np.asarray(model.get_layer("conv").kernel)[:, :, 0, 0]
    padded = np.pad(image[0, :, :, 0], 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::2, ::2]
    received = [np.asarray(output)[0, :, :, 0] for output in model(image)]
    np.testing.assert_allclose(received[0], (windows * kernel).sum(axis=(2, 3)), atol=1e-6)
    np.testing.assert_array_equal(received[1], windows.max(axis=(2, 3)))


# --- grouped convolution ------------------------------------------------------------------------


def convolve_groups(image, kernel, groups):
    """A 3x3 convolution of each group of channels by itself, padded by one pixel."""
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    parts = zip(np.split(windows, groups, 3), np.split(kernel, groups, 3), strict=True)
    return np.concatenate(
        [np.einsum("nyxcij,ijcf->nyxf", part, filters) for part, filters in parts], axis=-1
    )


@pytest.mark.parametrize("supported", [True, False])
def test_grouped_convolution_keeps_groups_apart_and_passes_gradients(monkeypatch, supported):
    import tensorflow as tf

    if not supported:
        monkeypatch.setattr(se_resnext, "_tensorflow_differentiates_groups", lambda dtype: False)
    elif not se_resnext._tensorflow_differentiates_groups(tf.float32):
        pytest.skip("this TensorFlow lacks the gradient")
    image = np.random.default_rng(0).normal(size=(2, 5, 6, 8)).astype(np.float32)
    layer = se_resnext.GroupedConv2D(12, 3, padding="same", groups=4, use_bias=False)
    with tf.GradientTape() as tape:
        output = layer(image)
        loss = tf.reduce_sum(output * output)
    kernel = np.asarray(layer.kernel)
    expected = convolve_groups(image, kernel, 4)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    # The loss is quadratic in the kernel: its gradient along the kernel is twice itself.
    gradient = np.asarray(tape.gradient(loss, layer.kernel))
    np.testing.assert_allclose((gradient * kernel).sum(), 2 * (expected**2).sum(), rtol=1e-4)


def test_grouped_convolution_trains_in_half_precision():
    import tensorflow as tf

    layer = se_resnext.GroupedConv2D(8, 3, padding="same", groups=4, dtype="mixed_float16")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(np.ones((1, 4, 4, 8), np.float32)))
    gradient = np.asarray(tape.gradient(loss, layer.kernel))
    assert np.isfinite(gradient).all() and gradient.any()


def test_grouped_convolution_is_one_node_in_onnx(tmp_path):
    image = keras.Input((6, 6, 8))
    layer = se_resnext.GroupedConv2D(8, 3, padding="same", groups=4)
    model = keras.Model(image, layer(image))
    model(np.zeros((1, 6, 6, 8), np.float32))
    model.export(tmp_path / "grouped.onnx", format="onnx", verbose=False)
    nodes = onnx.load(tmp_path / "grouped.onnx").graph.node
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    groups = [item.i for node in convolutions for item in node.attribute if item.name == "group"]
    assert groups == [4]
