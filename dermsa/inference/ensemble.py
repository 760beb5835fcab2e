"""Several models that answer as one: the weighted geometric mean of their calibrated
probabilities, made to sum to 1 and calibrated once more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dermsa import images
from dermsa.evaluation.calibration import softmax
from dermsa.inference import quality, store
from dermsa.inference.answering import Answering
from dermsa.inference.diagnosis import Diagnosis, Novelty
from dermsa.inference.predictor import Photo, Predictor
from dermsa.patient import Patient

SMALLEST = 1e-12
"""Below this a probability is rounding; its logarithm would be without end."""


def open_predictor(name: str | None = None, threads: int | None = None) -> AnyPredictor:
    """Opens a model of `weights/`, be it a network or an ensemble; None for the default one.

    Raises:
        ModelError: The model, or a member of it, is missing, damaged or changed.
    """
    model = store.open_model(name or store.default_model())
    return (EnsemblePredictor if model.members else Predictor)(model, threads)


class EnsemblePredictor(Answering):
    """An opened ensemble; answers like a `Predictor`. Thread-safe.

    Args:
        model: An ensemble.
        threads: Processor threads for one pass of one member; None for up to four.

    Attributes:
        members: One `Predictor` each, in the order of the card.
        weights: float64 `(members,)`, sum 1.
        explaining: The member whose maps, logits and sums its answers show: the one that the
            card names, whose maps lay best on validation; else the heaviest, among those that
            explain the most.

    Raises:
        ModelError: A member cannot be run.
    """

    def __init__(self, model: store.Model, threads: int | None = None):
        super().__init__(model)
        if "lean" not in model.card:  # calibrated as an arithmetic mean
            raise store.ModelError(
                f"The ensemble {model.name} was made by an earlier version; make it again "
                "(python -m dermsa ensemble)."
            )
        self.members = tuple(Predictor(member.model, threads) for member in model.members)
        self.weights = np.array([member.weight for member in model.members])
        named = model.card.get("explained_by", {}).get("model")
        self.explaining = max(
            zip(self.members, self.weights, strict=True),
            key=lambda one: (one[0].model.name == named, len(one[0].engine.outputs), one[1]),
        )[0]

    def diagnose(self, photos: Sequence[Photo], patient: Patient | None = None) -> Diagnosis:
        """The answer for one lesion; see `Predictor.diagnose`.

        Members see a photo at sizes and on grids of their own. Maps, logits and their parts are
        those of one of them, the member `explaining`, which `Diagnosis.explained_by` names.
        """
        started = time.perf_counter()
        photos = [p if isinstance(p, np.ndarray) else images.load(p) for p in photos]
        findings = [quality.findings(rgb) for rgb in photos]  # of the photo, for all members
        answers = [member.diagnose(photos, patient, findings) for member in self.members]
        shown = answers[self.members.index(self.explaining)]
        probabilities = self._mean([answer.probabilities for answer in answers])
        if_unknown = {
            name: self._mean([answer.if_unknown[name] for answer in answers])
            for name in shown.if_unknown
        }
        novelties = (
            self._novelty([answer.photos[k].novelty for answer in answers])
            for k in range(len(photos))
        )
        return replace(
            shown,
            **self.decision(probabilities),
            if_unknown=if_unknown,
            photos=tuple(
                replace(photo, novelty=novelty)
                for photo, novelty in zip(shown.photos, novelties, strict=True)
            ),
            explained_by=shown.model,
            seconds=time.perf_counter() - started,
        )

    def seen(self, rgb: np.ndarray) -> tuple[np.ndarray, ...]:
        """An upright RGB photo uint8 `(h, w, 3)` as `answers` takes it."""
        return tuple(member.seen(rgb) for member in self.members)

    def answers(
        self, seen: Sequence[tuple[np.ndarray, ...]], patients: Sequence[Patient]
    ) -> np.ndarray:
        """Calibrated probabilities of many cases; see `Predictor.answers`."""
        of_members = [
            member.answers(inputs, patients)
            for member, inputs in zip(self.members, zip(*seen, strict=True), strict=True)
        ]
        return self._mean(of_members)

    def answers_with_novelty(
        self, seen: Sequence[tuple[np.ndarray, ...]], patients: Sequence[Patient]
    ) -> tuple[np.ndarray, list[Novelty | None]]:
        """See `Predictor.answers_with_novelty`."""
        of_members = [
            member.answers_with_novelty(inputs, patients)
            for member, inputs in zip(self.members, zip(*seen, strict=True), strict=True)
        ]
        probabilities, novelties = zip(*of_members, strict=True)
        of_photos = zip(*novelties, strict=True)
        return self._mean(probabilities), [self._novelty(of_photo) for of_photo in of_photos]

    def _mean(self, of_members: Sequence[np.ndarray]) -> np.ndarray:
        """Calibrated probabilities, of the members' own: these have taken back their lean."""
        return softmax(mean_log(of_members, self.weights), self.temperature)

    def _novelty(self, of_members: Sequence[Novelty | None]) -> Novelty | None:
        if "novelty" not in self.model.card or None in of_members:
            return None
        scores = np.array([novelty.score / novelty.threshold for novelty in of_members])
        return self.novelty_of(float(self.weights @ scores))


AnyPredictor = Predictor | EnsemblePredictor


def mean_log(probabilities: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Weighted mean of the logarithms of the members' probabilities: what a temperature divides.

    `softmax` of it is the logarithmic opinion pool (Genest, Zidek 1986). On validation it was
    as good as the mean of the probabilities themselves or a little better (docs/models.md): a
    member that all but rules a diagnosis out is heard, where a mean would drown it.

    Args:
        probabilities: `(members, ..., classes)`.
        weights: `(members,)`, sum 1.

    Returns:
        float64 `(..., classes)`.
    """
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), SMALLEST))
    return np.tensordot(weights, logs, axes=1)
