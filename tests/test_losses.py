"""Class weights against the papers' printed figures; the loss against numpy and scikit-learn."""

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from dermsa.class_weights import CLASS_WEIGHTS, check_class_weights, class_weights
from dermsa.losses import (
    LogitAdjustedCrossEntropy,
    WeightedCrossEntropy,
    WeightedFocalLoss,
)

LOSSES = (WeightedCrossEntropy, WeightedFocalLoss, LogitAdjustedCrossEntropy)

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


def test_effective_numbers_are_those_of_cui():
    """E_n = (1 - b^n) / (1 - b) as the sum that it abbreviates."""
    sums = np.array([sum(0.999**k for k in range(count)) for count in COUNTS])
    weights = class_weights("effective-number", COUNTS)
    np.testing.assert_allclose(weights / weights[5], sums[5] / sums, rtol=1e-5)
    assert np.average(weights, weights=COUNTS) == pytest.approx(1)


def test_weights_may_be_given_one_by_one():
    weights = class_weights("1,1,1,1,5,0.5,1", COUNTS)
    assert weights.dtype == np.float32
    assert weights.tolist() == [1, 1, 1, 1, 5, 0.5, 1]


CODES = ("akiec", "bcc", "mel")


def test_weights_that_do_not_fit_the_diagnoses_are_refused_by_name():
    with pytest.raises(ValueError, match="Unknown class_weights 'new'.*balanced"):
        class_weights("new", COUNTS)
    with pytest.raises(ValueError, match="3 class_weights, for akiec, bcc, mel. Received 2: 1,5"):
        check_class_weights("1,5", CODES)
    for impossible in ("1,-2,1", "1,inf,1", "1,,1", ""):
        with pytest.raises(ValueError, match="Unknown class_weights.*numbers above 0"):
            check_class_weights(impossible, CODES)
    with pytest.raises(ValueError, match="one count for each of akiec, bcc, mel"):
        class_weights("balanced", COUNTS, CODES)


@pytest.mark.parametrize("kind", CLASS_WEIGHTS)
def test_a_diagnosis_without_training_images_is_refused_by_name(kind):
    with pytest.raises(ValueError, match="positive count.*Without training images: bcc, mel"):
        class_weights(kind, np.array([5, 0, 0]), CODES)


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


@pytest.mark.parametrize("kind", LOSSES)
def test_a_mixture_of_classes_has_the_mixture_of_their_losses(batch, kind):
    labels, logits = batch
    other = np.roll(labels, 1)
    share = np.random.default_rng(1).random(50).astype(np.float32)[:, None]
    one_hot = np.eye(7, dtype=np.float32)
    loss = kind(class_weights("balanced", COUNTS), 0.1)
    each = [np.asarray(loss.call(truth, logits)) for truth in (labels, other)]
    mixed = loss.call(one_hot[labels] * share + one_hot[other] * (1 - share), logits)
    expected = share[:, 0] * each[0] + (1 - share[:, 0]) * each[1]
    np.testing.assert_allclose(np.asarray(mixed), expected, rtol=1e-4)


def test_logits_of_another_number_of_classes_are_refused(batch):
    with pytest.raises(ValueError, match="Expected logits of 7 classes"):
        WeightedCrossEntropy(np.ones(7))(batch[0], batch[1][:, :5])


@pytest.mark.parametrize("classes", [2, 3])
def test_the_number_of_classes_is_that_of_the_weights(classes):
    logits = np.random.default_rng(0).normal(size=(8, classes)).astype(np.float32)
    loss = WeightedCrossEntropy(np.ones(classes))(np.zeros(8), logits)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[:, 0]
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-5)


# --- focal loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_what_the_paper_says(batch, gamma):
    labels, logits = batch
    weights = class_weights("balanced", COUNTS)
    p = np.exp(logits.astype(float))
    p = (p / p.sum(axis=1, keepdims=True))[np.arange(50), labels]
    expected = (-weights[labels] * (1 - p) ** gamma * np.log(p)).mean()
    assert float(WeightedFocalLoss(weights, gamma=gamma)(labels, logits)) == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_loss_agrees_with_keras_and_with_cross_entropy_at_gamma_0(batch, smoothing):
    labels, logits = batch
    keras_loss = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=2.0, from_logits=True, label_smoothing=smoothing
    )
    expected = float(keras_loss(np.eye(7, dtype=np.float32)[labels], logits))
    assert float(WeightedFocalLoss(np.ones(7), smoothing)(labels, logits)) == pytest.approx(
        expected, rel=1e-4
    )
    plain = float(WeightedCrossEntropy(np.ones(7), smoothing)(labels, logits))
    none = float(WeightedFocalLoss(np.ones(7), smoothing, gamma=0.0)(labels, logits))
    assert none == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_finite_where_all_is_certain(gamma):
    """Right and wrong by a wide margin; the gradient through a Dense layer stays a number."""
    layer = keras.layers.Dense(7, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((7,)), layer])
    model.compile(keras.optimizers.SGD(0.1), WeightedFocalLoss(np.ones(7), gamma=gamma))
    layer.kernel.assign(1e4 * np.eye(7))
    value = model.train_on_batch(np.eye(7, dtype=np.float32)[[0, 1]], np.array([0, 2]))
    assert np.isfinite(value)
    assert np.isfinite(np.asarray(layer.kernel)).all()


# --- logit-adjusted cross-entropy -------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_logits_are_adjusted_by_the_shares_of_the_diagnoses(batch, tau):
    """Equation 10 of Menon et al., `-log softmax(logits + tau log share)` of the truth."""
    labels, logits = batch
    shares = COUNTS / COUNTS.sum()
    adjusted = logits.astype(float) + tau * np.log(shares)
    expected = (np.log(np.exp(adjusted).sum(axis=1)) - adjusted[np.arange(50), labels]).mean()
    loss = LogitAdjustedCrossEntropy(shares**-tau)(labels, logits)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    kind = {0.0: "none", 0.5: "sqrt", 1.0: "balanced"}[tau]
    named = LogitAdjustedCrossEntropy(class_weights(kind, COUNTS))(labels, logits)
    assert float(named) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [WeightedCrossEntropy, LogitAdjustedCrossEntropy])
def test_the_best_answer_is_weight_times_probability(kind):
    """Where photos that look the same have several diagnoses."""
    diagnoses = np.array([0, 1, 1, 4, 5, 5, 5, 5])
    weights = np.array([2.6, 2.1, 1.4, 4.4, 1.4, 0.6, 4.0], np.float32)
    layer = keras.layers.Dense(7, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.Adam(0.05), kind(weights))
    for _ in range(400):
        model.train_on_batch(np.ones((8, 1), np.float32), diagnoses)
    said = np.exp(np.asarray(layer.kernel)[0])
    expected = weights * np.bincount(diagnoses, minlength=7)
    np.testing.assert_allclose(said / said.sum(), expected / expected.sum(), atol=0.01)


@pytest.mark.parametrize("kind", LOSSES)
def test_it_survives_serialisation(batch, kind):
    loss = kind(class_weights("balanced", COUNTS), 0.1)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is kind
    assert float(again(*batch)) == float(loss(*batch))
