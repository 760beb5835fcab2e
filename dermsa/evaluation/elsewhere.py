"""What a model does on photos of another source, none of which it has seen; kept in its folder.

    keep(assess_elsewhere("MobileNetV2", "isic2017"))
    read("MobileNetV2")          # None where it was not measured, or the model has changed since

A model's own figures are of lesions from the clinics and cameras that it was trained on. Where it
will be used, both are others, and so are the patients: these figures say what that can cost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from dermsa.datasets import more_photos, registry
from dermsa.evaluation import record, report
from dermsa.evaluation.record import Evaluation
from dermsa.evaluation.statistics import SAMPLES, Interval
from dermsa.files import write_atomically
from dermsa.inference import store

FILE = "elsewhere.json"


@dataclass(frozen=True)
class Point:
    """A threshold of the model's card, and what it does elsewhere.

    Attributes:
        target_sensitivity: What it was chosen for on the model's own validation part, 0 to 1.
        threshold: Of the probability, 0 to 1.
        sensitivity, specificity: Measured elsewhere.
    """

    target_sensitivity: float
    threshold: float
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True)
class Elsewhere:
    """The figures of a model on another source.

    Attributes:
        title: Of the other data set, such as "ISIC 2017".
        sentence: What was measured on what.
        images: How many photos.
        trained: How many others of that source trained the model.
        accuracy: Any diagnosis of the model counts as an answer.
        roc_auc: By diagnosis, of those that the source has.
        malignancy, melanoma: The card's thresholds for both, in its order.
    """

    title: str
    sentence: str
    images: int
    trained: int
    accuracy: Interval
    roc_auc: dict[str, Interval]
    malignancy: tuple[Point, ...]
    melanoma: tuple[Point, ...]

    @property
    def whose(self) -> str:
        """The photos, in words that go on after "On"."""
        if self.trained:
            others = f"{self.trained:,} others trained it"
            return f"photos of {self.title} that it has not seen ({others})"
        return f"photos of another source, {self.title}, of which it has seen none"

    def at(self, target_sensitivity: float) -> Point | None:
        """The threshold for malignancy that was chosen for this sensitivity."""
        points = [p for p in self.malignancy if p.target_sensitivity == target_sensitivity]
        return points[0] if points else None


def keep(evaluation: Evaluation, samples: int = SAMPLES) -> None:
    """Writes the figures of `assess.assess_elsewhere` into the model's folder.

    Args:
        samples: Bootstrap samples for what the thresholds do.
    """
    found, card = evaluation.predictions, store.read_card(evaluation.model)
    positive = {"malignancy": frozenset(found.malignant), "melanoma": frozenset({"mel"})}
    about = {
        "served": evaluation.served,
        "dataset": evaluation.dataset,
        "sentence": evaluation.sentence,
        "images": evaluation.images,
        "trained": sum(
            more["images"]
            for name, more in card["data"].get("more", {}).items()
            if more_photos.source(name) == more_photos.source(evaluation.dataset)
        ),
        "accuracy": evaluation.interval("accuracy").as_dict(),
        "roc_auc": {
            code: evaluation.interval("roc_auc", code).as_dict()
            for k, code in enumerate(found.classes)
            if (found.truth == k).any()
        },
        **{
            kind: [
                {
                    "target_sensitivity": point["target_sensitivity"],
                    "threshold": point["threshold"],
                    **report.rates_at(found, positive[kind], point["threshold"], samples),
                }
                for point in card["triage"][kind]
            ]
            for kind in positive
        },
    }
    folder = store.weights_folder() / evaluation.model
    write_atomically(folder / FILE, (json.dumps(about, indent=1) + "\n").encode())


def read(name: str) -> Elsewhere | None:
    """What `keep` wrote of a model, or a role; None where its present form was not measured."""
    name = store.named(name)
    path = store.weights_folder() / name / FILE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["served"] != record.served_form(store.read_card(name)):
            return None
        return Elsewhere(
            registry.record(more_photos.source(about["dataset"])).title.partition(":")[0],
            about["sentence"],
            about["images"],
            about.get("trained", 0),
            Interval.from_dict(about["accuracy"]),
            {code: Interval.from_dict(of) for code, of in about["roc_auc"].items()},
            *(tuple(map(_point, about[kind])) for kind in ("malignancy", "melanoma")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def all_measured() -> dict[str, Elsewhere]:
    """What there is of all models in `weights/`, by name, the default one first."""
    found = {name: read(name) for name in store.model_names()}
    return {name: measured for name, measured in found.items() if measured}


def _point(of: dict) -> Point:
    return Point(
        of["target_sensitivity"],
        of["threshold"],
        Interval.from_dict(of["sensitivity"]),
        Interval.from_dict(of["specificity"]),
    )
