"""The answer for one lesion, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dermsa.inference import explanation
from dermsa.inference.quality import Finding
from dermsa.models.outputs import NoDecomposition
from dermsa.patient import Patient


@dataclass(frozen=True)
class MeasuredRate:
    """A proportion of test photos, with its 95 % interval, from a bootstrap over lesions.

    `n` photos showed `n_lesions` lesions, None where that is not known. The ends are None where
    they cannot be told, the value where there was no photo.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_lesions: int | None


@dataclass(frozen=True)
class Triage:
    """Whether to refer, by the probability of malignancy.

    Attributes:
        refer: `malignancy >= threshold`.
        threshold: Chosen on validation to reach `target_sensitivity` there.
        target_sensitivity: 0 to 1.
        sensitivity: Of that threshold, measured on the test lesions.
        specificity: Likewise.
    """

    refer: bool
    threshold: float
    target_sensitivity: float
    sensitivity: MeasuredRate
    specificity: MeasuredRate


@dataclass(frozen=True)
class Novelty:
    """How far the photo lies from what the model was trained on.

    Attributes:
        unfamiliar: `score > threshold`: the probabilities should not be relied on.
        score: Distance of the photo's features from the training photos', unitless.
        threshold: Exceeded by `false_alarm_rate` of the validation photos.
        false_alarm_rate: 0 to 1.
    """

    unfamiliar: bool
    score: float
    threshold: float
    false_alarm_rate: float


def may_be_judged(quality: Sequence[Finding], novelty: Novelty | None) -> bool:
    """Whether what a model says of a photo means anything: not with a severe finding, and not
    where it is unlike those of training, however low the probability of malignancy."""
    return all(finding.severity != "severe" for finding in quality) and not (
        novelty and novelty.unfamiliar
    )


def verdict_of(refer: bool, reliable: bool) -> str:
    """One of "refer", "no referral" and "no verdict".

    A low probability of malignancy of a photo that cannot be judged excludes nothing.

    Args:
        refer: Whether the probability reaches the threshold.
        reliable: See `may_be_judged`.
    """
    if refer:
        return "refer"
    return "no referral" if reliable else "no verdict"


@dataclass(frozen=True)
class PhotoExplanation:
    """What one photo contributed.

    It keeps the network's small grids; maps at image size, of which the evidence for all
    diagnoses would take 50 MB for a large photo, are drawn from them on demand.

    Attributes:
        rgb: The upright photo, uint8 `(h, w, 3)`.
        attention_grid: float32 `(h', w')`, the network's attention map, averaged over views;
            None where it has no attention.
        evidence_grid: float32 `(classes, h', w')`, in logits, the network's own exact terms,
            averaged over views and photos: bias + all grids + patient evidence = logits. None
            where the logits are no such sum.
        crop: (top, left, height, width) of what the model saw, in pixels of `rgb`.
        quality: Findings about the picture; empty when it is fine.
        novelty: None where the model has no measure of it.
    """

    rgb: np.ndarray
    attention_grid: np.ndarray | None
    evidence_grid: np.ndarray | None
    crop: tuple[int, int, int, int]
    quality: tuple[Finding, ...]
    novelty: Novelty | None

    @property
    def reliable(self) -> bool:
        """See `may_be_judged`."""
        return may_be_judged(self.quality, self.novelty)

    @property
    def attention_map(self) -> np.ndarray | None:
        """float32 `(h, w)`, 0 to 1 relative to its maximum; 0 where the photo was cropped.

        None where the network has no attention.
        """
        if self.attention_grid is None:
            return None
        return explanation.attention_at_image_size(
            self.attention_grid, self.crop, self.rgb.shape[:2]
        )

    @property
    def evidence_map(self) -> np.ndarray:
        """float32 `(classes, h, w)`, in logits per position of `evidence_grid`.

        Raises:
            NoDecomposition: The logits are no sum of evidence.
        """
        if self.evidence_grid is None:
            raise NoDecomposition("This model")
        return explanation.evidence_at_image_size(self.evidence_grid, self.crop, self.rgb.shape[:2])


@dataclass(frozen=True)
class Diagnosis:
    """The answer for one lesion, from one or several photos of it.

    All arrays over classes are in the order of `classes`. Before the temperature,
    `logits = bias + image_evidence + patient_evidence` holds exactly where the network
    `decomposes`; elsewhere these three are None. What training with class weights made the network
    lean to (`calibration.fit_calibration`) has been taken back from bias and logits. All four are
    `explanation.centred`: their mean over the classes is 0, for what all classes share changes no
    probability. Of an ensemble, logits, their parts and the maps are those of the member
    `explained_by`.

    Attributes:
        classes: Codes of the diagnoses.
        probabilities: Calibrated, float64 `(classes,)`, sum to 1.
        named: Code of the diagnosis that the model names, weighing diagnoses as its training did
            (`Answering.lean`); the figures of an evaluation are of diagnoses so named. Most often
            the most probable one.
        malignancy: Sum of the probabilities of the malignant classes; None where the model
            knows none.
        triage: Whether to refer; None likewise.
        prediction_set: Codes that cannot be ruled out, see `calibration.not_ruled_out`, most
            probable first.
        coverage: Coverage the set was calibrated for, 0 to 1.
        logits: float64 `(classes,)`.
        bias: float64 `(classes,)`.
        image_evidence: float64 `(classes,)`: all positions of all photos together.
        patient_evidence: float64 `(classes,)`.
        patient_contributions: For each property of the patient (age, sex, localization) its
            share of the logits against "all unknown": exact Shapley values, float64
            `(classes,)`. They sum to `logits - logits of an unknown patient`.
        if_unknown: For each known property, and "all" where several are known, the calibrated
            probabilities had it been unknown.
        patient: As given.
        photos: One explanation per photo.
        model: Name of the model.
        model_version: Of DermSA, when the model was made.
        model_sha256: Hash of its network; of its card, where it is an ensemble.
        card_sha256: Hash of its card: of calibration and thresholds.
        seconds: Wall time of the whole diagnosis, decoding included.
        explained_by: Name of the member of an ensemble that the explanation is of; "" where the
            model explains itself.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    named: str
    malignancy: float | None
    triage: Triage | None
    prediction_set: tuple[str, ...]
    coverage: float
    logits: np.ndarray
    bias: np.ndarray | None
    image_evidence: np.ndarray | None
    patient_evidence: np.ndarray | None
    patient_contributions: dict[str, np.ndarray]
    if_unknown: dict[str, np.ndarray]
    patient: Patient
    photos: tuple[PhotoExplanation, ...]
    model: str
    model_version: str
    model_sha256: str
    card_sha256: str
    seconds: float
    explained_by: str = ""

    @property
    def best(self) -> str:
        """Code of the most probable diagnosis."""
        return self.classes[int(np.argmax(self.probabilities))]

    @property
    def reliable(self) -> bool:
        """Whether every photo may be judged, see `may_be_judged`."""
        return all(photo.reliable for photo in self.photos)

    @property
    def verdict(self) -> str | None:
        """See `verdict_of`; None where the model knows no malignant diagnosis."""
        return self.triage and verdict_of(self.triage.refer, self.reliable)

    @property
    def decomposes(self) -> bool:
        """Whether the logits split into bias, image evidence and patient evidence."""
        return self.bias is not None

    def to_dict(self) -> dict:
        """The answer as JSON-ready values, without the pictures and maps at image size.

        What the model does not have is None.
        """

        def by_class(values: np.ndarray | None) -> dict[str, float] | None:
            if values is None:
                return None
            return dict(zip(self.classes, np.round(values, 6).tolist(), strict=True))

        return {
            "model": self.model,
            "model_version": self.model_version,
            "model_sha256": self.model_sha256,
            "card_sha256": self.card_sha256,
            "explained_by": self.explained_by or self.model,
            "patient": {
                "age": self.patient.age,
                "sex": self.patient.sex,
                "localization": self.patient.localization,
            },
            "diagnosis": self.named,
            "most_probable": self.best,
            "probabilities": by_class(self.probabilities),
            "malignancy": None if self.malignancy is None else round(self.malignancy, 6),
            "verdict": self.verdict,
            "reliable": self.reliable,
            "triage": _plain(self.triage),
            "prediction_set": list(self.prediction_set),
            "prediction_set_coverage": self.coverage,
            "decomposes": self.decomposes,
            "logits": by_class(self.logits),
            "bias": by_class(self.bias),
            "image_evidence": by_class(self.image_evidence),
            "patient_evidence": by_class(self.patient_evidence),
            "patient_contributions": {
                name: by_class(values) for name, values in self.patient_contributions.items()
            },
            "probabilities_if_unknown": {
                name: by_class(values) for name, values in self.if_unknown.items()
            },
            "photos": [
                {
                    "size": list(photo.rgb.shape[:2]),
                    "crop": list(photo.crop),
                    "quality": [_plain(finding) for finding in photo.quality],
                    "novelty": _plain(photo.novelty),
                    "attention_grid": _rounded(photo.attention_grid),
                    "evidence_grid": None
                    if photo.evidence_grid is None
                    else dict(zip(self.classes, _rounded(photo.evidence_grid), strict=True)),
                }
                for photo in self.photos
            ],
            "seconds": round(self.seconds, 4),
            "note": "Decision support for research use; not a medical device.",
        }


def _rounded(grid: np.ndarray | None) -> list | None:
    return None if grid is None else np.round(grid, 6).tolist()


def _plain(record: object) -> object:
    return None if record is None else asdict(record)
