"""The way from photos and a patient to a `Diagnosis`, without Keras or TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from dermsa import images
from dermsa.evaluation.calibration import prediction_set, softmax
from dermsa.inference import explanation, novelty, quality, store, views
from dermsa.inference.diagnosis import (
    Diagnosis,
    MeasuredRate,
    Novelty,
    PhotoExplanation,
    Triage,
)
from dermsa.inference.engine import Engine
from dermsa.patient import PROPERTIES, AgeScale, Patient

Photo = bytes | str | os.PathLike | np.ndarray


class Predictor:
    """One opened model that answers. Thread-safe.

    Args:
        name: A model in `weights/`; None for the default one.
        threads: Processor threads for one pass; None for up to four.

    Raises:
        ModelError: The model is missing or damaged.
    """

    def __init__(self, name: str | None = None, threads: int | None = None):
        self.model = store.open_model(name or store.default_model())
        card = self.model.card
        self.engine = Engine(self.model.onnx, threads)
        self.classes: tuple[str, ...] = tuple(card["classes"])
        self.malignant = np.array([code in card["malignant"] for code in self.classes])
        self.age_scale = AgeScale(**card["age_scale"])
        self.temperature = float(card["temperature"])
        self.views = int(card["views"])
        if self.model.novelty is not None and set(self.model.novelty) != novelty.ARRAYS:
            raise store.ModelError(
                f"The model {self.model.name} was made by another version; export it again."
            )
        self.quantiles = np.array([card["conformal"]["quantiles"][code] for code in self.classes])

    def diagnose(self, photos: Sequence[Photo], patient: Patient | None = None) -> Diagnosis:
        """The answer for one lesion; the logits of several photos are averaged.

        Args:
            photos: One or more: the content of an image file, a path, or upright RGB uint8
                `(h, w, 3)`.
            patient: None for all unknown.

        Raises:
            ImageRefused: A photo cannot be used; the message says why.
        """
        if len(photos) == 0:
            raise ValueError("Expected at least one photo. Received: none")
        started = time.perf_counter()
        patient = patient or Patient()
        vectors = explanation.counterfactual_vectors(patient, self.age_scale)
        answers = [self._look(photo, vectors, len(photos)) for photo in photos]

        explanations = tuple(answer[0] for answer in answers)
        patient_evidence = answers[0][1].astype(np.float64)
        bias = np.array([self.model.card["bias"][code] for code in self.classes])
        image_evidence = sum(
            photo.evidence_grid.sum(axis=(1, 2), dtype=np.float64) for photo in explanations
        )
        # One row of logits for every subset of known properties, the full patient last.
        logits = bias + image_evidence + patient_evidence
        probabilities = softmax(logits, self.temperature)
        return Diagnosis(
            classes=self.classes,
            probabilities=probabilities[-1],
            malignancy=self.malignancy(probabilities[-1]),
            triage=self._triage(self.malignancy(probabilities[-1])),
            prediction_set=self._prediction_set(probabilities[-1]),
            coverage=float(self.model.card["conformal"]["coverage"]),
            logits=logits[-1],
            bias=bias,
            image_evidence=image_evidence,
            patient_evidence=patient_evidence[-1],
            patient_contributions=explanation.shapley_values(patient_evidence),
            if_unknown=_if_unknown(patient, probabilities),
            patient=patient,
            photos=explanations,
            model=self.model.name,
            model_version=self.model.card["version"],
            model_sha256=self.model.card["files"]["model.onnx"],
            seconds=time.perf_counter() - started,
        )

    def logits(self, inputs: np.ndarray, patients: np.ndarray) -> np.ndarray:
        """Logits of many cases, without explanations, float32 `(n, classes)`.

        Args:
            inputs: From `images.to_model_input`, uint8 `(n, height, width, 3)`.
            patients: float32 `(n, 21)`.
        """
        return mean_logits(self.engine, inputs, patients, self.views)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 `(..., classes)`."""
        return softmax(logits, self.temperature)

    def malignancy(self, probabilities: np.ndarray) -> np.ndarray | float:
        """Probability that the lesion is malignant, of probabilities `(..., classes)`."""
        total = probabilities[..., self.malignant].sum(axis=-1)
        return float(total) if np.ndim(total) == 0 else total

    @property
    def operating_point(self) -> dict:
        """The card's entry of the threshold that the default triage uses."""
        target = self.model.card["triage"]["default_sensitivity"]
        points = self.model.card["triage"]["malignancy"]
        return next(point for point in points if point["target_sensitivity"] == target)

    def _look(
        self, photo: Photo, vectors: np.ndarray, photos: int
    ) -> tuple[PhotoExplanation, np.ndarray]:
        rgb = photo if isinstance(photo, np.ndarray) else images.load(photo)
        seen = images.to_model_input(rgb, self.engine.input_size)[None]
        out = self.engine(seen, vectors)
        attention, evidence = _grids(out, 0)
        for view in range(1, self.views):
            mirrored = self.engine(
                views.of_images(seen, view), vectors[-1:], ("attention_map", "evidence_map")
            )
            more = _grids(mirrored, view)
            attention, evidence = attention + more[0], evidence + more[1]
        return (
            PhotoExplanation(
                rgb=rgb,
                attention_grid=attention / self.views,
                evidence_grid=evidence / (self.views * photos),
                crop=images.crop_box(*rgb.shape[:2]),
                quality=quality.findings(rgb),
                novelty=self._novelty(out["embedding"]),
            ),
            out["patient_evidence"],
        )

    def _novelty(self, embedding: np.ndarray) -> Novelty | None:
        if self.model.novelty is None:
            return None
        entry = self.model.card["novelty"]
        score = float(novelty.scores(self.model.novelty, embedding)[0])
        return Novelty(
            score > entry["threshold"], score, entry["threshold"], entry["false_alarm_rate"]
        )

    def _triage(self, malignancy: float) -> Triage:
        point = self.operating_point
        return Triage(
            refer=malignancy >= point["threshold"],
            threshold=point["threshold"],
            target_sensitivity=point["target_sensitivity"],
            sensitivity=_rate(point["sensitivity"]),
            specificity=_rate(point["specificity"]),
        )

    def _prediction_set(self, probabilities: np.ndarray) -> tuple[str, ...]:
        possible = prediction_set(probabilities, self.quantiles)
        ranked = np.argsort(-probabilities)
        return tuple(self.classes[k] for k in ranked if possible[k])


def mean_logits(
    engine: Engine, inputs: np.ndarray, patients: np.ndarray, number_of_views: int
) -> np.ndarray:
    """Logits averaged over the first views of each image, float32 `(n, classes)`."""
    of_views = (
        engine(views.of_images(inputs, view), patients, ("logits",))["logits"]
        for view in range(number_of_views)
    )
    return sum(of_views) / number_of_views


def _grids(out: dict[str, np.ndarray], view: int) -> tuple[np.ndarray, np.ndarray]:
    """Attention and evidence of one view, at the feature map's size, laid back on the photo."""
    attention = out["attention_map"][0]
    evidence = explanation.unpool(out["evidence_map"][0], attention.shape)
    return views.back(attention, view), views.back(evidence, view)


def _rate(interval: dict) -> MeasuredRate:
    return MeasuredRate(interval["value"], interval["low"], interval["high"], interval["n"])


def _if_unknown(patient: Patient, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of `probabilities` (8, classes) for each known property hidden, and for all."""
    rows = dict(zip(explanation.SUBSETS, probabilities, strict=True))
    known = patient.known()
    answers = {name: rows[tuple(other for other in PROPERTIES if other != name)] for name in known}
    if len(known) > 1:
        answers["all"] = rows[()]
    return answers
