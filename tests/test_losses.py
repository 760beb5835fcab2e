"""Class weights against the papers' printed figures; the loss against numpy and scikit-learn."""

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from dermsa.losses import CLASS_WEIGHTS, WeightedCrossEntropy, class_weights

# Images per diagnosis: akiec, bcc, bkl, df, mel, nv, vasc. The papers' printed weights follow
# from all 10,015 images (not from the 9,958 with an age), cut off after the last digit shown.
COUNTS = np.array([327, 514, 1099, 115, 1113, 6705, 142])
PRINTED = {
    "original": ((0.13, 0.08, 0.04, 0.38, 0.03, 0.006, 0.31), (2, 2, 2, 2, 2, 3, 2)),
    "balanced": ((4.37, 2.78, 1.30, 12.44, 1.28, 0.21, 10), (2, 2, 2, 2, 2, 2, 0)),
}


@pytest.mark.parametrize("kind", PRINTED)
def test_weights_are_those_that_the_papers_print(kind):
    weights = class_weights(kind, COUNTS)
    assert weights.shape == (7,) and weights.dtype == np.float32
    for weight, printed, digits in zip(weights, *PRINTED[kind], strict=True):
        assert np.floor(weight * 10**digits) / 10**digits == pytest.approx(printed)


def test_balanced_and_original_differ_by_one_factor_only():
    ratio = class_weights("balanced", COUNTS) / class_weights("original", COUNTS)
    np.testing.assert_allclose(ratio, 32.48, atol=0.01)


def test_balanced_gives_every_diagnosis_the_same_total():
    np.testing.assert_allclose(class_weights("balanced", COUNTS) * COUNTS, COUNTS.sum() / 7)


def test_original_sums_to_one():
    assert class_weights("original", COUNTS).sum() == pytest.approx(1)


def test_sqrt_lies_between_none_and_balanced():
    weights = class_weights("sqrt", COUNTS)
    np.testing.assert_allclose(weights[0] / weights[5], np.sqrt(6705 / 327), rtol=1e-5)
    assert np.average(weights, weights=COUNTS) == pytest.approx(1)
    assert set(class_weights("none", COUNTS)) == {1.0}


@pytest.mark.parametrize("kind", CLASS_WEIGHTS)
def test_all_kinds_give_positive_finite_weights(kind):
    weights = class_weights(kind, COUNTS)
    assert np.isfinite(weights).all() and (weights > 0).all()


def test_an_unknown_kind_and_an_empty_diagnosis_are_refused():
    with pytest.raises(ValueError, match="Unknown class weights 'new'.*balanced"):
        class_weights("new", COUNTS)
    with pytest.raises(ValueError, match="positive count"):
        class_weights("balanced", np.array([5, 0, 3]))


# --- the loss ---------------------------------------------------------------------------------


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return random.integers(0, 7, 50), random.normal(0, 3, (50, 7)).astype(np.float32)


def by_hand(labels, logits, weights, smoothing):
    total = 0.0
    for label, row in zip(labels, logits.astype(float), strict=True):
        log_probabilities = row - np.log(np.exp(row).sum())
        target = np.full(7, smoothing / 7)
        target[label] += 1 - smoothing
        total += -weights[label] * (target * log_probabilities).sum()
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", CLASS_WEIGHTS)
def test_the_loss_is_what_the_formula_says(batch, kind, smoothing):
    weights = class_weights(kind, COUNTS)
    loss = WeightedCrossEntropy(weights, smoothing)(*batch)
    assert float(loss) == pytest.approx(by_hand(*batch, weights, smoothing), rel=1e-5)


def test_without_smoothing_it_is_the_log_loss_of_scikit_learn(batch):
    labels, logits = batch
    weights = class_weights("balanced", COUNTS)
    probabilities = np.exp(logits.astype(float))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = log_loss(
        labels, probabilities, labels=range(7), sample_weight=weights[labels], normalize=False
    )
    loss = WeightedCrossEntropy(weights)(labels, logits)
    assert float(loss) == pytest.approx(expected / len(labels), rel=1e-5)


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e4] + [-1e4] * 6, [-1e4] * 6 + [1e4]], np.float32)
    loss = WeightedCrossEntropy(np.ones(7))
    assert float(loss(np.array([0, 6]), logits)) == 0
    assert float(loss(np.array([1, 1]), logits)) == pytest.approx(20_000)


def test_labels_may_come_as_a_column_of_floats(batch):
    labels, logits = batch
    loss = WeightedCrossEntropy(class_weights("sqrt", COUNTS))
    assert float(loss(labels[:, None].astype(np.float32), logits)) == float(loss(labels, logits))


def test_logits_of_another_number_of_classes_are_refused(batch):
    with pytest.raises(ValueError, match="Expected logits of 7 classes"):
        WeightedCrossEntropy(np.ones(7))(batch[0], batch[1][:, :5])


def test_it_survives_serialisation(batch):
    loss = WeightedCrossEntropy(class_weights("balanced", COUNTS), 0.1)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(*batch)) == float(loss(*batch))
