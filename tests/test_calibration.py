"""Temperature, referral threshold and prediction sets do what they promise on new data."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import softmax as reference_softmax

from dermsa.evaluation.calibration import (
    conformal_quantile,
    fit_calibration,
    fit_temperature,
    malignancy_threshold,
    not_ruled_out,
    prediction_set,
    softmax,
)


def draw(n=4000, temperature=1.0, seed=0, frequencies=(0.7, 0.2, 0.1)):
    """Logits and truths drawn from them: calibrated at `temperature`, by construction."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=2, size=(n, len(frequencies))) + np.log(frequencies)
    cumulative = softmax(logits).cumsum(axis=1)
    truth = (generator.random(n)[:, None] > cumulative[:, :-1]).sum(axis=1)
    return logits * temperature, truth


# Softmax and temperature


def test_softmax_is_scipys():
    logits, _ = draw(n=20)
    np.testing.assert_allclose(softmax(logits, 1.7), reference_softmax(logits / 1.7, axis=-1))
    np.testing.assert_allclose(softmax(logits[0]), reference_softmax(logits[0]))


def test_softmax_survives_large_logits():
    np.testing.assert_allclose(softmax(np.array([1e4, 0, -1e4])), [1, 0, 0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(temperature):
    logits, truth = draw(temperature=temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.06)


def test_the_temperature_is_the_best_of_a_fine_grid():
    logits, truth = draw(n=300, temperature=3)

    def loss(temperature):
        return -np.log(softmax(logits, temperature)[np.arange(300), truth]).mean()

    grid = np.geomspace(0.05, 20, 2000)
    assert loss(fit_temperature(logits, truth)) <= min(map(loss, grid)) + 1e-9


def test_extreme_cases_end_at_the_limits():
    truth = np.array([0, 1, 2] * 5)
    assert fit_temperature(np.eye(3)[truth] * 10, truth) == pytest.approx(0.05, rel=0.01)
    assert fit_temperature(-np.eye(3)[truth], truth) == pytest.approx(20, rel=0.01)


def test_a_model_that_is_certain_and_wrong_still_has_a_temperature():
    logits = np.eye(3)[[0, 1, 2, 0]] * 5000
    assert np.isfinite(fit_temperature(logits, np.array([0, 1, 2, 1])))


# Lean


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_the_lean_that_was_put_in_is_found(temperature, strength):
    logits, truth = draw(n=20_000)
    emphasis = np.linspace(1, 6, logits.shape[1])
    leaning = temperature * (logits + strength * np.log(emphasis))
    found, lean = fit_calibration(leaning, truth, 100 * emphasis)
    assert found == pytest.approx(temperature, rel=0.06)
    expected = emphasis**strength
    np.testing.assert_allclose(lean / lean[0], expected / expected[0], rtol=0.1)
    np.testing.assert_allclose(softmax(leaning, found, lean), softmax(logits), atol=0.03)


def test_a_lean_gives_back_each_class_its_share_where_a_temperature_cannot():
    logits, truth = draw(n=5000)
    emphasis = np.geomspace(1, 10, logits.shape[1])
    leaning = logits + np.log(emphasis)
    temperature, lean = fit_calibration(leaning, truth, emphasis)
    shares = np.bincount(truth) / len(truth)
    calibrated = softmax(leaning, temperature, lean).mean(axis=0)
    np.testing.assert_allclose(calibrated, shares, atol=0.02)
    with_temperature_alone = softmax(leaning, fit_temperature(leaning, truth)).mean(axis=0)
    assert np.abs(with_temperature_alone - shares).max() > 0.05


def test_no_other_temperature_and_lean_fit_better():
    logits, truth = draw(n=300, temperature=2)
    emphasis = np.geomspace(1, 10, logits.shape[1])

    def loss(temperature, lean):
        return -np.log(softmax(logits, temperature, lean)[np.arange(300), truth]).mean()

    best = loss(*fit_calibration(logits, truth, emphasis))
    for temperature in np.geomspace(0.1, 10, 60):
        for strength in np.linspace(0, 2, 41):
            assert best <= loss(temperature, emphasis**strength) + 1e-9


def test_without_emphasis_there_is_no_lean():
    logits, truth = draw(n=300, temperature=2)
    temperature, lean = fit_calibration(logits, truth, np.full(logits.shape[1], 5.0))
    assert temperature == fit_temperature(logits, truth)
    assert lean.tolist() == [1] * logits.shape[1]


@pytest.mark.parametrize("emphasis", [[1, 2], [1, 2, 0], [1, 2, np.nan]])
def test_an_emphasis_that_fits_no_classes_is_refused(emphasis):
    with pytest.raises(ValueError, match="emphasis above 0 for each of 3 classes"):
        fit_calibration(np.zeros((4, 3)), np.array([0, 1, 2, 0]), np.array(emphasis))


# Referral threshold


@pytest.mark.parametrize("sensitivity", [0.5, 0.9, 0.95, 1.0])
def test_the_threshold_is_the_largest_that_finds_enough(sensitivity):
    generator = np.random.default_rng(0)
    malignant = generator.random(300) < 0.2
    probability = np.round(generator.beta(1 + 2 * malignant, 2), 2)
    threshold = malignancy_threshold(probability, malignant, sensitivity)
    assert (probability[malignant] >= threshold).mean() >= sensitivity
    stricter = np.unique(probability)[np.unique(probability) > threshold]
    for value in stricter:
        assert (probability[malignant] >= value).mean() < sensitivity


def test_nineteen_of_twenty_is_95_percent():
    probability = np.arange(20) / 20
    assert malignancy_threshold(probability, np.ones(20, dtype=bool), 0.95) == 0.05


def test_the_threshold_holds_for_float32_as_served():
    probability = np.random.default_rng(0).random(50).astype(np.float32)
    threshold = malignancy_threshold(probability, np.ones(50, dtype=bool), 1.0)
    assert (probability >= threshold).all()


# Prediction sets


def test_by_class_every_class_reaches_its_coverage_on_new_data():
    covered = []
    for seed in range(20):
        logits, truth = draw(seed=seed)
        probabilities = softmax(logits)
        quantile = conformal_quantile(probabilities[:2000], truth[:2000])
        sets = prediction_set(probabilities[2000:], quantile)
        new = truth[2000:]
        covered.append([sets[new == k, k].mean() for k in range(3)])
    np.testing.assert_allclose(np.mean(covered, axis=0), 0.9, atol=0.015)


def test_one_quantile_for_all_covers_the_common_class_and_misses_the_rare_one():
    logits, truth = draw(n=20000)
    probabilities = softmax(logits)
    quantile = conformal_quantile(probabilities[:10000], truth[:10000], by_class=False)
    assert len(set(quantile)) == 1
    sets, new = prediction_set(probabilities[10000:], quantile), truth[10000:]
    assert sets[np.arange(10000), new].mean() == pytest.approx(0.9, abs=0.015)
    assert sets[new == 0, 0].mean() > 0.92
    assert sets[new == 2, 2].mean() < 0.85


def test_the_quantile_worked_by_hand():
    # Nine cases at 90 %: the ceil(10 * 0.9) = 9th smallest score, which is the largest.
    of_truth = np.arange(1, 10) / 10
    probabilities = np.stack([of_truth, 1 - of_truth], axis=1)
    quantile = conformal_quantile(probabilities, np.zeros(9, dtype=int), by_class=False)
    np.testing.assert_allclose(quantile, 0.9)
    # Eight are too few to promise 90 %.
    quantile = conformal_quantile(probabilities[:8], np.zeros(8, dtype=int), by_class=False)
    np.testing.assert_array_equal(quantile, 1.0)


def test_a_class_without_cases_is_in_every_set():
    logits, truth = draw(n=500)
    probabilities = softmax(logits)
    quantile = conformal_quantile(probabilities[truth != 2], truth[truth != 2])
    assert prediction_set(probabilities, quantile)[:, 2].all()


def test_what_is_probable_or_named_is_not_ruled_out():
    said = np.array([[0.50, 0.12, 0.09, 0.29], [0.97, 0.01, 0.01, 0.01]])
    quantiles = np.array([0.9, 0.05, 0.05, 0.05])  # by them alone, the first or none
    assert not_ruled_out(said, quantiles).tolist() == [
        [True, True, False, True],
        [True, False, False, False],
    ]
    # The last one is named of both: 0.29 * 4 is more than 0.5, and 0.01 * 400 more than 0.97.
    for lean, row in (([1, 1, 1, 4], 0), ([1, 1, 1, 400], 1)):
        assert not_ruled_out(said, quantiles, np.array(lean))[row, 3]
    assert not not_ruled_out(said, quantiles, np.ones(4))[1, 3]


def test_no_set_is_empty():
    sets = prediction_set(np.array([[0.4, 0.3, 0.3], [0.1, 0.1, 0.8]]), 0.0)
    np.testing.assert_array_equal(sets, [[True, False, False], [False, False, True]])
    assert prediction_set(np.array([0.4, 0.35, 0.25]), np.full(3, 0.65)).tolist() == [
        True,
        True,
        False,
    ]


# Input that is not right


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax(np.zeros(3), 0.0), "temperature above 0"),
        (lambda: softmax(np.array([0.0, np.nan])), "finite logits"),
        (lambda: fit_temperature(np.zeros((3, 2)), np.array([0, 1])), r"\(n, c\)"),
        (lambda: fit_temperature(np.zeros((2, 2)), np.array([0, 2])), "between 0 and 1"),
        (lambda: fit_temperature(np.full((1, 2), np.inf), np.array([0])), "finite logits"),
        (lambda: malignancy_threshold([0.1], np.array([False])), "at least one malignant"),
        (lambda: malignancy_threshold([0.1], np.array([1])), "bool"),
        (lambda: malignancy_threshold([np.nan], np.array([True])), "between 0 and 1"),
        (lambda: malignancy_threshold([0.1], np.array([True]), 0), "sensitivity"),
        (lambda: conformal_quantile(np.ones((1, 2)), np.array([0])), "sum to 1"),
        (lambda: conformal_quantile(np.eye(2), np.array([0, 1]), 1.5), "coverage"),
        (lambda: prediction_set(np.eye(2), np.ones(3)), "one per class"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected_and_received(call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "Expected" in str(refused.value)
    assert "Received" in str(refused.value)


def test_serving_loads_numpy_only():
    code = (
        "import sys, dermsa.evaluation.calibration; "
        "print([m for m in ('scipy', 'pandas', 'sklearn') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]", loaded.stderr
