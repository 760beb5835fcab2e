"""Soft attention against its formula in plain loops, and against a real 3-D convolution."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dermsa.models.classifier_config import KERNELS
from dermsa.models.soft_attention import SoftAttention

SHAPES = [(2, 7, 7, 12), (1, 5, 8, 3), (3, 4, 3, 9), (1, 1, 1, 6)]
MAPS = 4


def layer_and_features(shape, kernel, num_maps=MAPS):
    """A layer with random weights (bias and gamma too), and features as after a ReLU."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    layer = SoftAttention(num_maps, kernel)
    features = random.gamma(1.0, 1.0, shape).astype(np.float32)
    layer(features)
    layer.set_weights([random.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    return layer, features


def numpy_call(layer, features):
    return tuple(np.asarray(output) for output in layer(features))


def attention_of(maps):
    """The tail of the formula: ReLU, softmax over positions, sum over the K maps."""
    maps = np.maximum(maps, 0)
    flat = np.exp(maps.reshape(len(maps), -1, maps.shape[-1]))
    return (flat / flat.sum(axis=1, keepdims=True)).sum(axis=-1).reshape(maps.shape[:3])


def convolved_by_loops(features, kernel, bias):
    batch, height, width, depth = features.shape
    maps = np.zeros((batch, height, width, kernel.shape[-1]))
    for b, y, x, k in np.ndindex(maps.shape):
        total = bias[k]
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    for c in range(depth):
                        total += features[b, y + dy, x + dx, c] * kernel[dy + 1, dx + 1, c, k]
        maps[b, y, x, k] = total
    return maps


# --- the formula ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_formula_written_out(shape):
    layer, features = layer_and_features(shape, "formula")
    kernel, bias, gamma = (w.astype(float) for w in layer.get_weights())
    attention = attention_of(convolved_by_loops(features.astype(float), kernel, bias))
    weighted, attention_map = numpy_call(layer, features)
    np.testing.assert_allclose(attention_map, attention, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        weighted, gamma * features * attention[..., None], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_a_3d_convolution_whose_kernel_spans_the_full_depth(shape):
    layer, features = layer_and_features(shape, "formula")
    kernel, bias, _ = layer.get_weights()
    depth = shape[3]
    # Over (batch, h, w, d, 1): a window of 3 x 3 x d, which has one place along the depth.
    maps = tf.nn.conv3d(
        tf.pad(features, [(0, 0), (1, 1), (1, 1), (0, 0)])[..., None],
        kernel[:, :, :, None, :],
        strides=(1, 1, 1, depth, 1),
        padding="VALID",
    )
    assert maps.shape[3] == 1
    attention = attention_of(np.asarray(maps)[:, :, :, 0] + bias)
    np.testing.assert_allclose(numpy_call(layer, features)[1], attention, rtol=1e-4, atol=1e-6)


# --- the published kernel ---------------------------------------------------------------------


@tf.function(jit_compile=True)
def published_convolution(features, kernel):
    """The published code: a kernel (d, 3, 3) over (batch, h, w, d, 1), strides (1, 1, d), "same".

    Compiled, because TensorFlow's plain CPU forward pass departs from its own definition of
    "same" where a stride exceeds the window: it reads the three middle channels, while its
    gradient, XLA and that definition all take channels 0, 1 and 2.
    """
    depth = kernel.shape[0]
    return tf.nn.conv3d(features[..., None], kernel, (1, 1, 1, depth, 1), padding="SAME")


@pytest.mark.parametrize(
    "shape", [*SHAPES[:3], (1, 7, 7, 13), (1, 7, 7, 14), (2, 7, 6, 40), (1, 9, 4, 16)]
)
def test_the_published_kernel_is_the_published_computation(shape):
    layer, features = layer_and_features(shape, "published")
    kernel, bias, gamma = layer.get_weights()
    maps = np.asarray(published_convolution(features, kernel))
    assert maps.shape == (*shape[:3], 1, MAPS)
    attention = attention_of(maps[:, :, :, 0] + bias)
    weighted, attention_map = numpy_call(layer, features)
    np.testing.assert_allclose(attention_map, attention, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        weighted, gamma * features * attention[..., None], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("kernel", "reached"), [("published", {0, 1, 2}), ("formula", set())])
@pytest.mark.parametrize("depth", [12, 192, 960])
def test_which_channels_reach_the_attention_map(kernel, reached, depth):
    """The published code looks at three channels only; the formula at all of them."""
    layer, features = layer_and_features((1, 7, 7, depth), kernel)
    features = tf.Variable(features)
    with tf.GradientTape() as tape:
        # The map alone sums to K whatever its input, so weigh its positions differently.
        attention_map = layer(features)[1]
        probe = tf.reduce_sum(attention_map * np.arange(49, dtype=np.float32).reshape(1, 7, 7))
    gradient = np.abs(tape.gradient(probe, features)).sum(axis=(0, 1, 2))
    assert set(np.flatnonzero(gradient)) == (reached or set(range(depth)))


# --- both -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("num_maps", [1, 16])
def test_the_attention_map_is_positive_and_sums_to_k(kernel, num_maps):
    layer, features = layer_and_features((3, 7, 5, 8), kernel, num_maps)
    attention_map = numpy_call(layer, features)[1]
    assert (attention_map > 0).all()
    np.testing.assert_allclose(attention_map.sum(axis=(1, 2)), num_maps, rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_starts_with_gamma_at_a_hundredth_and_the_papers_parameter_count(kernel):
    layer = SoftAttention(16, kernel)
    layer.build((None, 7, 7, 20))
    assert float(layer.gamma) == pytest.approx(0.01)
    assert layer.count_params() == 9 * 20 * 16 + 16 + 1
    assert len(layer.trainable_variables) == 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_survives_saving(kernel, tmp_path):
    inputs = keras.Input((6, 5, 7))
    outputs = SoftAttention(3, kernel)(inputs)
    model = keras.Model(inputs, outputs)
    features = np.random.default_rng(0).random((2, 6, 5, 7), np.float32)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for expected, received in zip(model(features), again(features), strict=True):
        np.testing.assert_array_equal(received, expected)
    config = again.layers[-1].get_config()
    assert (config["num_maps"], config["kernel"]) == (3, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mixed_precision_computes_in_half_and_keeps_whole_weights(kernel):
    layer, features = layer_and_features((2, 7, 7, 8), kernel)
    half = SoftAttention(MAPS, kernel, dtype="mixed_float16")
    half.build(features.shape)
    half.set_weights(layer.get_weights())
    weighted, attention_map = half(features)
    assert weighted.dtype == attention_map.dtype == "float16"
    assert all(weight.dtype == "float32" for weight in half.weights)
    np.testing.assert_allclose(attention_map, numpy_call(layer, features)[1], rtol=0.05)


@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_are_known_before_anything_is_computed(kernel):
    layer = SoftAttention(2, kernel)
    assert layer.compute_output_shape((None, 7, 5, 8)) == ((None, 7, 5, 8), (None, 7, 5))
    weighted, attention_map = layer(keras.Input((7, 5, 8)))
    assert weighted.shape == (None, 7, 5, 8) and attention_map.shape == (None, 7, 5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_its_weights_learn(kernel):
    layer, features = layer_and_features((2, 7, 7, 8), kernel)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(features)[0] ** 2)
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.abs(gradient).max() > 0


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"Expected kernel to be one of.*Received: 'paper'"):
        SoftAttention(16, "paper")
    with pytest.raises(ValueError, match="at least 1. Received: 0"):
        SoftAttention(0)
    with pytest.raises(ValueError, match="at least 3 channels"):
        SoftAttention(4, "published").build((None, 7, 7, 2))
