"""Exact shares of the patient's properties, and maps laid over the photo."""

import itertools

import numpy as np
import pytest

from dermsa.evaluation.calibration import softmax
from dermsa.inference import explanation
from dermsa.patient import PROPERTIES, AgeScale, Patient

SCALE = AgeScale(50.0, 15.0)


def shapley_by_orders(evidence):
    """The definition: the average gain over all orders in which properties become known."""
    row = {frozenset(subset): i for i, subset in enumerate(explanation.SUBSETS)}
    shares = {name: 0.0 for name in PROPERTIES}
    orders = list(itertools.permutations(PROPERTIES))
    for order in orders:
        for k, name in enumerate(order):
            gain = evidence[row[frozenset(order[: k + 1])]] - evidence[row[frozenset(order[:k])]]
            shares[name] = shares[name] + gain / len(orders)
    return shares


def test_shapley_values_follow_the_definition_and_sum_to_the_whole():
    evidence = np.random.default_rng(0).normal(size=(8, 7))
    shares = explanation.shapley_values(evidence)
    for name, expected in shapley_by_orders(evidence).items():
        np.testing.assert_allclose(shares[name], expected, atol=1e-12)
    np.testing.assert_allclose(sum(shares.values()), evidence[-1] - evidence[0], atol=1e-12)


def test_counterfactual_vectors_run_from_unknown_to_the_full_patient():
    patient = Patient(70, "male", "face")
    vectors = explanation.counterfactual_vectors(patient, SCALE)
    assert vectors.shape == (8, 21) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[0], Patient().encode(SCALE))
    np.testing.assert_array_equal(vectors[-1], patient.encode(SCALE))
    only_age = vectors[explanation.SUBSETS.index(("age",))]
    np.testing.assert_array_equal(only_age, Patient(70).encode(SCALE))


def test_an_unknown_property_has_no_share():
    vectors = explanation.counterfactual_vectors(Patient(70, "male"), SCALE)
    weights = np.random.default_rng(0).normal(size=(21, 7))
    shares = explanation.shapley_values(np.maximum(vectors @ weights, 0))
    assert np.abs(shares["localization"]).max() == 0
    assert np.abs(shares["age"]).max() > 0


def test_what_all_diagnoses_share_explains_nothing():
    random = np.random.default_rng(0)
    evidence = random.normal(size=(7, 4, 5))
    centred = explanation.centred(evidence)
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=1e-12)
    shared = random.normal(scale=10, size=(1, 4, 5))
    np.testing.assert_allclose(explanation.centred(evidence + shared), centred, atol=1e-12)
    probabilities = softmax(evidence.sum(axis=(1, 2)))
    np.testing.assert_allclose(softmax(centred.sum(axis=(1, 2))), probabilities, atol=1e-12)
    rows = random.normal(size=(8, 7))
    np.testing.assert_allclose(explanation.centred(rows, axis=1).mean(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("crop", [(0, 0, 70, 140), (10, 20, 50, 100)])
def test_the_attention_peak_lies_where_the_grid_has_it(crop):
    grid = np.zeros((7, 7), np.float32)
    grid[5, 1] = 0.3
    over_photo = explanation.attention_at_image_size(grid, crop, (70, 140))
    assert over_photo.shape == (70, 140) and over_photo.max() == pytest.approx(1)
    top, left, height, width = crop
    peak = np.unravel_index(over_photo.argmax(), over_photo.shape)
    assert abs(peak[0] - (top + 5.5 / 7 * height)) <= height / 14 + 1
    assert abs(peak[1] - (left + 1.5 / 7 * width)) <= width / 14 + 1
    assert over_photo[:top].sum() == 0 and over_photo[:, :left].sum() == 0


def test_a_flat_attention_map_is_flat_over_the_photo():
    flat = explanation.attention_at_image_size(np.full((7, 7), 0.1), (0, 0, 50, 60), (50, 60))
    np.testing.assert_allclose(flat, 1)


@pytest.mark.parametrize("shape", [(7, 7), (8, 6), (5, 1)])
def test_unpooling_keeps_every_sum(shape):
    pooled = tuple((side + 1) // 2 for side in shape)
    evidence = np.random.default_rng(0).normal(size=(3, *pooled)).astype(np.float32)
    spread = explanation.unpool(evidence, shape)
    assert spread.shape == (3, *shape)
    np.testing.assert_allclose(spread.sum(axis=(1, 2)), evidence.sum(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(7, 7), (5, 8), (1, 3)])
def test_unpooled_evidence_is_gradient_times_features(shape):
    """The last row of an odd feature map is pooled alone, and its evidence is twice as dense: the
    network's own doing, not the map's."""
    import keras
    import tensorflow as tf

    pooled = [(side + 1) // 2 for side in shape]
    features = tf.constant(np.random.default_rng(0).random((1, *shape, 4000), np.float32))
    kernel = np.random.default_rng(1).normal(size=(*pooled, 1)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        terms = keras.layers.MaxPooling2D(2, padding="same")(features)[0] * kernel
        logit = tf.reduce_sum(terms)
    exact = tf.reduce_sum(tape.gradient(logit, features) * features, axis=-1)[0]
    spread = explanation.unpool(tf.reduce_sum(terms, axis=-1)[None].numpy(), shape)[0]
    np.testing.assert_allclose(spread.sum(), float(logit), rtol=1e-4)
    np.testing.assert_allclose(spread, exact, rtol=0.1)  # chance decides who wins a window


def test_evidence_lies_where_the_pooling_took_it_from():
    pooled = np.zeros((2, 4, 4), np.float32)
    pooled[1, 3, 0] = 2.0  # pooled from row 6 and columns 0 and 1 of a 7 x 7 feature map
    grid = explanation.unpool(pooled, (7, 7))
    np.testing.assert_allclose(grid[1, 6, :3], [1, 1, 0])
    maps = explanation.evidence_at_image_size(grid, (0, 0, 70, 70), (70, 70))
    assert maps.shape == (2, 70, 70) and np.abs(maps[0]).max() == 0
    assert maps[1].max() == pytest.approx(1)
    assert maps[1][66, 10] == pytest.approx(1) and maps[1][66, 30] == 0 and maps[1][50, 10] == 0
