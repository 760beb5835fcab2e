"""What follows from probabilities and a model's card, be it a network or an ensemble."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dermsa.evaluation.calibration import not_ruled_out
from dermsa.inference import store
from dermsa.inference.diagnosis import MeasuredRate, Novelty, Triage


class Answering:
    """What every opened model shares.

    Args:
        model: Its card says how to answer.

    Attributes:
        classes: Codes of the diagnoses.
        malignant: bool `(classes,)`.
        temperature: Of the calibration.
        lean: float64 `(classes,)`: the diagnosis with the largest `probability * lean` is named,
            see `calibration.fit_calibration`; 1 for all names the most probable one.
        quantiles: float64 `(classes,)`, for the prediction set.
    """

    def __init__(self, model: store.Model):
        card = model.card
        self.model = model
        self.classes: tuple[str, ...] = tuple(card["classes"])
        self.malignant = np.array([code in card["malignant"] for code in self.classes])
        self.temperature = float(card["temperature"])
        self.lean = lean_of(card)
        self.quantiles = np.array([card["conformal"]["quantiles"][code] for code in self.classes])

    def named(self, probabilities: np.ndarray) -> str:
        """Code of the diagnosis that is named, of probabilities `(classes,)`."""
        return self.classes[int(np.argmax(probabilities * self.lean))]

    def malignancy(self, probabilities: np.ndarray) -> np.ndarray | float:
        """Probability that the lesion is malignant, of probabilities `(..., classes)`."""
        total = probabilities[..., self.malignant].sum(axis=-1)
        return float(total) if np.ndim(total) == 0 else total

    @property
    def operating_point(self) -> dict | None:
        """The card's entry of the threshold that the default triage uses.

        None where the model knows no malignant diagnosis: there is nothing to refer for.
        """
        if not self.malignant.any():
            return None
        target = self.model.card["triage"]["default_sensitivity"]
        points = self.model.card["triage"]["malignancy"]
        return next(point for point in points if point["target_sensitivity"] == target)

    def decision(self, probabilities: np.ndarray) -> dict:
        """The fields of a `Diagnosis` that its probabilities `(classes,)` decide."""
        malignancy = self.malignancy(probabilities) if self.malignant.any() else None
        possible = not_ruled_out(probabilities, self.quantiles, self.lean)
        return {
            "probabilities": probabilities,
            "named": self.named(probabilities),
            "malignancy": malignancy,
            "triage": self._triage(malignancy),
            "prediction_set": tuple(
                self.classes[k] for k in np.argsort(-probabilities) if possible[k]
            ),
            "coverage": float(self.model.card["conformal"]["coverage"]),
            "model": self.model.name,
            "model_version": self.model.card["version"],
            "model_sha256": self.model.sha256,
            "card_sha256": self.model.card_sha256,
        }

    def novelty_of(self, score: float) -> Novelty:
        """What a score says, by the card's threshold."""
        entry = self.model.card["novelty"]
        threshold = entry["threshold"]
        return Novelty(score > threshold, score, threshold, entry["false_alarm_rate"])

    def _triage(self, malignancy: float | None) -> Triage | None:
        point = self.operating_point
        if point is None:
            return None
        return Triage(
            refer=malignancy >= point["threshold"],
            threshold=point["threshold"],
            target_sensitivity=point["target_sensitivity"],
            sensitivity=_rate(point["sensitivity"]),
            specificity=_rate(point["specificity"]),
        )


def lean_of(about: Mapping) -> np.ndarray:
    """float64 `(classes,)`: what a model weighs diagnoses by where it names one.

    Args:
        about: A card, or an evaluation's file. Those of earlier versions have no lean: named was
            the most probable diagnosis.

    Raises:
        ModelError: It is not one positive number for each class.
    """
    if "lean" not in about:
        return np.ones(len(about["classes"]))
    try:
        lean = np.array([float(about["lean"][code]) for code in about["classes"]])
    except (KeyError, TypeError, ValueError):
        lean = np.zeros(1)
    if not ((lean > 0) & np.isfinite(lean)).all():
        raise store.ModelError(
            f"{about.get('name', 'The file')} is damaged: its lean is {about['lean']}, not a "
            "number above 0 for each diagnosis."
        )
    return lean


def _rate(interval: dict) -> MeasuredRate:
    names = ("value", "low", "high", "n", "n_lesions")
    return MeasuredRate(*(interval.get(name) for name in names))
