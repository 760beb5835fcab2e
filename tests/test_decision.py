"""Decision curves against net benefits worked by hand."""

import numpy as np
import pytest
from drawn_evaluations import drawn_evaluation

from dermsa.evaluation.decision import decision_curve
from dermsa.evaluation.metrics import Predictions


def test_net_benefit_by_hand():
    malignancy = np.array([0.9, 0.6, 0.3, 0.4, 0.1])
    truth = np.array([1, 1, 1, 0, 0])
    predictions = Predictions(
        truth, np.stack([1 - malignancy, malignancy], 1), ("benign", "cancer"), {"cancer"}
    )
    curve = decision_curve(predictions, thresholds=(0.2, 0.5), samples=50)
    # At 0.2: three cancers and one benign case are referred, which counts 0.2 / 0.8.
    np.testing.assert_allclose(curve.model, [(3 - 1 * 0.25) / 5, 2 / 5])
    np.testing.assert_allclose(curve.refer_all, [(3 - 2 * 0.25) / 5, (3 - 2 * 1) / 5])
    assert (curve.n, curve.n_lesions) == (5, 5)


def test_net_benefit_of_a_thousand_patients():
    # At 20 % the model refers 180 of 200 cancers and 160 of 800 others.
    truth = np.repeat([1, 1, 0, 0], [180, 20, 160, 640])
    malignancy = np.repeat([0.5, 0.1, 0.2, 0.05], [180, 20, 160, 640])
    predictions = Predictions(
        truth, np.stack([1 - malignancy, malignancy], 1), ("benign", "cancer"), {"cancer"}
    )
    curve = decision_curve(predictions, thresholds=(0.0, 0.2), samples=20)
    np.testing.assert_allclose(curve.model, [0.2, (180 - 160 * 0.25) / 1000])


def test_the_band_holds_the_curve_and_classes_have_their_own():
    predictions = drawn_evaluation().predictions
    malignant, melanoma = decision_curve(predictions), decision_curve(predictions, "mel")
    for curve in (malignant, melanoma):
        assert (curve.low <= curve.model).all() and (curve.model <= curve.high).all()
        assert (curve.low < curve.high).all()
    assert (melanoma.model < malignant.model).all()  # fewer melanomas than cancers to be found
    with pytest.raises(ValueError, match="thresholds from 0"):
        decision_curve(predictions, thresholds=(1.0,))
