"""The way from photos and a patient to a `Diagnosis`, without Keras or TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from dermsa import images
from dermsa.evaluation.calibration import softmax
from dermsa.inference import explanation, novelty, quality, store, views
from dermsa.inference.answering import Answering
from dermsa.inference.diagnosis import Diagnosis, Novelty, PhotoExplanation
from dermsa.inference.engine import Engine
from dermsa.patient import PROPERTIES, AgeScale, Patient

Photo = bytes | str | os.PathLike | np.ndarray


class Predictor(Answering):
    """One opened network that answers. Thread-safe.

    Args:
        model: A model of `weights/`, by name or opened; None for the default one.
        threads: Processor threads for one pass; None for up to four.

    Raises:
        ModelError: The model is missing or damaged, or an ensemble (see `open_predictor`).
    """

    def __init__(self, model: store.Model | str | None = None, threads: int | None = None):
        if not isinstance(model, store.Model):
            model = store.open_model(model or store.default_model())
        if model.onnx is None:
            raise store.ModelError(f"The model {model.name} is an ensemble, not one network.")
        super().__init__(model)
        self.engine = Engine(model.onnx, threads)
        self.age_scale = AgeScale(**model.card["age_scale"])
        self.views = int(model.card["views"])
        self.decomposes = "evidence_map" in self.engine.outputs
        if model.novelty is not None and set(model.novelty) != novelty.ARRAYS:
            raise store.ModelError(
                f"The model {model.name} was made by another version; export it again."
            )

    def diagnose(
        self,
        photos: Sequence[Photo],
        patient: Patient | None = None,
        findings: Sequence[tuple[quality.Finding, ...]] | None = None,
    ) -> Diagnosis:
        """The answer for one lesion; the logits of several photos are averaged.

        Args:
            photos: One or more: the content of an image file, a path, or upright RGB uint8
                `(h, w, 3)`.
            patient: None for all unknown.
            findings: What is wrong with each photo, where that is known already.

        Raises:
            ImageRefused: A photo cannot be used; the message says why.
        """
        if len(photos) == 0:
            raise ValueError("Expected at least one photo. Received: none")
        started = time.perf_counter()
        patient = patient or Patient()
        vectors = explanation.counterfactual_vectors(patient, self.age_scale)
        findings = findings or [None] * len(photos)
        answers = [
            self._look(photo, vectors, len(photos), found)
            for photo, found in zip(photos, findings, strict=True)
        ]
        explanations = tuple(answer[0] for answer in answers)
        # One row of logits for every subset of known properties, the full patient last.
        if self.decomposes:
            terms = self._terms(explanations, answers[0][1]["patient_evidence"])
            logits = sum(terms.values())
        else:
            terms = {}
            logits = np.mean([out["logits"] for _, out in answers], axis=0, dtype=np.float64)
            logits = explanation.centred(logits, axis=1)
        probabilities = self.probabilities(logits)
        # Taken back from the bias, so that what is told adds up to what the probabilities are of.
        lean = explanation.centred(self.temperature * np.log(self.lean))
        return Diagnosis(
            **self.decision(probabilities[-1]),
            classes=self.classes,
            logits=logits[-1] - lean,
            bias=terms["bias"] - lean if terms else None,
            image_evidence=terms.get("image_evidence"),
            patient_evidence=terms["patient_evidence"][-1] if terms else None,
            patient_contributions=explanation.shapley_values(logits),
            if_unknown=_if_unknown(patient, probabilities),
            patient=patient,
            photos=explanations,
            seconds=time.perf_counter() - started,
        )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of the network's logits, float64 `(..., classes)`."""
        return softmax(logits, self.temperature, self.lean)

    def logits(self, inputs: np.ndarray, patients: np.ndarray) -> np.ndarray:
        """Logits of many cases, without explanations, float32 `(n, classes)`.

        Args:
            inputs: From `images.to_model_input`, uint8 `(n, height, width, 3)`.
            patients: float32 `(n, 21)`.
        """
        return mean_logits(self.engine, inputs, patients, self.views)

    def seen(self, rgb: np.ndarray) -> np.ndarray:
        """An upright RGB photo uint8 `(h, w, 3)` as `answers` takes it."""
        return images.to_model_input(rgb, self.engine.input_size)

    def answers(self, seen: Sequence[np.ndarray], patients: Sequence[Patient]) -> np.ndarray:
        """Calibrated probabilities of many cases, without explanations.

        Args:
            seen: Each from `self.seen`.
            patients: As many.

        Returns:
            float64 `(n, classes)`.
        """
        return self.probabilities(self.logits(np.stack(seen), self._vectors(patients)))

    def answers_with_novelty(
        self, seen: Sequence[np.ndarray], patients: Sequence[Patient]
    ) -> tuple[np.ndarray, list[Novelty | None]]:
        """The same, and how far each photo lies from what the model was trained on."""
        inputs, vectors = np.stack(seen), self._vectors(patients)
        wanted = ("logits", "embedding")
        outs = [
            self.engine(views.of_images(inputs, view), vectors, wanted if view == 0 else wanted[:1])
            for view in range(self.views)
        ]
        logits = sum(out["logits"] for out in outs) / self.views
        return self.probabilities(logits), self._novelties(outs[0]["embedding"])

    def _vectors(self, patients: Sequence[Patient]) -> np.ndarray:
        return np.stack([patient.encode(self.age_scale) for patient in patients])

    def _look(
        self,
        photo: Photo,
        vectors: np.ndarray,
        photos: int,
        findings: tuple[quality.Finding, ...] | None,
    ) -> tuple[PhotoExplanation, dict[str, np.ndarray]]:
        """One photo explained, and the network's outputs; `logits` are the mean of the views."""
        rgb = photo if isinstance(photo, np.ndarray) else images.load(photo)
        seen = self.seen(rgb)[None]
        outs = [self.engine(views.of_images(seen, view), vectors) for view in range(self.views)]
        attention = evidence = None
        if "attention_map" in self.engine.outputs:
            attention = sum(_attention(out, view) for view, out in enumerate(outs)) / self.views
        if self.decomposes:
            evidence = sum(_evidence(out, view) for view, out in enumerate(outs))
            evidence = evidence / (self.views * photos)
        explained = PhotoExplanation(
            rgb=rgb,
            attention_grid=attention,
            evidence_grid=evidence,
            crop=images.crop_box(*rgb.shape[:2]),
            quality=quality.findings(rgb) if findings is None else findings,
            novelty=self._novelties(outs[0]["embedding"])[0],
        )
        return explained, outs[0] | {"logits": sum(out["logits"] for out in outs) / self.views}

    def _terms(
        self, photos: tuple[PhotoExplanation, ...], patient_evidence: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What the centred logits are the sum of, float64; the patient's part `(8, classes)`."""
        bias = np.array([self.model.card["bias"][code] for code in self.classes])
        return {
            "bias": explanation.centred(bias),
            "image_evidence": sum(
                photo.evidence_grid.sum(axis=(1, 2), dtype=np.float64) for photo in photos
            ),
            "patient_evidence": explanation.centred(patient_evidence.astype(np.float64), axis=1),
        }

    def _novelties(self, embeddings: np.ndarray) -> list[Novelty | None]:
        """Of embeddings `(n, d)`; None each where the model has no measure of it."""
        if self.model.novelty is None:
            return [None] * len(embeddings)
        scores = novelty.scores(self.model.novelty, embeddings)
        return [self.novelty_of(float(score)) for score in scores]


def mean_logits(
    engine: Engine, inputs: np.ndarray, patients: np.ndarray, number_of_views: int
) -> np.ndarray:
    """Logits averaged over the first views of each image, float32 `(n, classes)`."""
    of_views = (
        engine(views.of_images(inputs, view), patients, ("logits",))["logits"]
        for view in range(number_of_views)
    )
    return sum(of_views) / number_of_views


def _attention(out: dict[str, np.ndarray], view: int) -> np.ndarray:
    """The attention of one view, laid back on the photo."""
    return views.back(out["attention_map"][0], view)


def _evidence(out: dict[str, np.ndarray], view: int) -> np.ndarray:
    """The centred evidence of one view, at the feature map's size, laid back on the photo."""
    evidence = explanation.centred(out["evidence_map"][0])
    if "attention_map" in out:  # soft attention's head pools the feature map, no other does
        evidence = explanation.unpool(evidence, out["attention_map"].shape[1:])
    return views.back(evidence, view)


def _if_unknown(patient: Patient, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of `probabilities` (8, classes) for each known property hidden, and for all."""
    rows = dict(zip(explanation.SUBSETS, probabilities, strict=True))
    known = patient.known()
    answers = {name: rows[tuple(other for other in PROPERTIES if other != name)] for name in known}
    if len(known) > 1:
        answers["all"] = rows[()]
    return answers
