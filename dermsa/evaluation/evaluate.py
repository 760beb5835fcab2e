"""A model of `weights/`, the cases that it is measured on, and what it says about them."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dermsa.datasets import registry, splits
from dermsa.datasets.dataset import Dataset, DatasetError, load_photo
from dermsa.evaluation.metrics import Predictions
from dermsa.inference.ensemble import AnyPredictor, open_predictor

BATCH = 32


@dataclass(frozen=True)
class Subject:
    """A model and the cases that it is measured on.

    Attributes:
        predictor: The opened model.
        dataset: The data set that the cases are of.
        split: Says which cases these are: the model's own split, or another protocol's.
        part: "validation" or "test".
        rows: Of the part, in `dataset.table`.
        leaks: What of them the model has seen before.
        sentence: What is tested on what, for the first line of every report.
    """

    predictor: AnyPredictor
    dataset: Dataset
    split: splits.Split
    part: str
    rows: np.ndarray
    leaks: Leaks
    sentence: str


@dataclass(frozen=True, eq=False)
class Leaks:
    """Which cases show a lesion that a model has seen before; arrays (n,).

    Attributes:
        lesions: Which lesion a case shows.
        trained: bool, whether the model's training part has a photo of it.
        chosen: bool, whether its validation part has one, which chose epoch, calibration
            and thresholds.
    """

    lesions: np.ndarray
    trained: np.ndarray
    chosen: np.ndarray

    @property
    def share_of_images(self) -> float:
        """Of the cases, those whose lesion was seen in training, 0 to 1."""
        return float(self.trained.mean())

    @property
    def share_of_lesions(self) -> float:
        """Of the lesions, those seen in training, 0 to 1."""
        return self._shares(self.trained)[1]

    @property
    def sentence(self) -> str:
        """What a reader of the figures has to know."""
        found = "No lesion is shared with training."
        if self.trained.any():
            found = (
                f"{self._counted(self.trained)} show lesions that training images show, too: the "
                "figures are too good."
            )
        if self.chosen.any():
            found += (
                f" {self._counted(self.chosen)} show lesions of the validation part, which chose "
                "epoch, temperature and thresholds."
            )
        return found

    def _counted(self, cases: np.ndarray) -> str:
        of_images, of_lesions = self._shares(cases)
        return (
            f"{int(cases.sum())} of these images ({of_images:.1%}; {of_lesions:.1%} of the lesions)"
        )

    def _shares(self, cases: np.ndarray) -> tuple[float, float]:
        lesions = len(np.unique(self.lesions[cases])) / len(np.unique(self.lesions))
        return float(cases.mean()), lesions


def subject(
    name: str | None,
    part: str = "test",
    data: Path | None = None,
    protocol: str | None = None,
    seed: int = 0,
    fold: int = 0,
) -> Subject:
    """Opens a model and finds the cases of a part.

    Args:
        name: A model in `weights/`; None for the default one.
        part: "validation" or "test".
        data: The folder of the data sets; None for `data_root()`.
        protocol: A key of `splits.PROTOCOLS`, whose cases to take; None for the model's own split.
        seed, fold: Of the protocol.

    Raises:
        ModelError: No such model.
        DatasetError: No data, not those the model was split on, or the protocol does not fit them.
    """
    predictor = open_predictor(name)
    card = predictor.model.card
    own = registry.read(card["data"]["name"], data)
    trained = split_of(card, own)
    dataset, split = own, trained
    if protocol:
        dataset = registry.read("isic2018", data) if protocol == "isic2018" else own
        split = splits.draw(dataset, protocol, seed, fold)
    if dataset.classes != predictor.classes:
        raise DatasetError(f"{predictor.model.name} knows other diagnoses than {dataset.name}.")
    if "folds" in card and part == "validation" and not protocol:
        raise DatasetError(
            f"{predictor.model.name} is an ensemble over folds: some of its members were trained "
            "on the photos of validation, so that nothing measured there would hold. Take the part "
            "test."
        )
    rows = split.rows(dataset, part)
    found = leaks(dataset, rows, own, _as_trained(card, trained))
    under = trained.protocol if split.sha256 != trained.sha256 else ""
    folds = card.get("folds", {}).get("count", 1)
    words = sentence(predictor.model.name, dataset, split, part, rows, found, under, folds)
    if dataset.name != own.name and card["data"].get("more"):
        words += (
            f" That is said of {own.name} alone: photos of {', '.join(card['data']['more'])} "
            f"trained it, too, and whether any shows a lesion of {dataset.name} was not looked at."
        )
    return Subject(predictor, dataset, split, part, rows, found, words)


def _as_trained(card: dict, split: splits.Split) -> splits.Split:
    """The model's split; of an ensemble over folds, validation has trained some members."""
    if "folds" not in card:
        return split
    return dataclasses.replace(split, parts=split.parts.replace("validation", "train"))


def leaks(dataset: Dataset, rows: np.ndarray, own: Dataset, split: splits.Split) -> Leaks:
    """What of the given rows a model has seen before.

    Args:
        rows: Of `dataset.table`.
        own, split: What the model was trained on, and how that was divided.
    """
    lesions = dataset.table["lesion_id"].iloc[rows]
    seen = (
        own.table["lesion_id"].iloc[split.rows(own, part)].unique()
        for part in ("train", "validation")
    )
    return Leaks(lesions.to_numpy(str), *(lesions.isin(of).to_numpy() for of in seen))


def sentence(
    name: str,
    dataset: Dataset,
    split: splits.Split,
    part: str,
    rows: np.ndarray,
    leaks: Leaks,
    trained_under: str = "",
    folds: int = 1,
) -> str:
    """What is tested on what, for the first line of every report.

    Args:
        leaks: Of the rows.
        trained_under: The protocol of the training, where it was another split.
        folds: How many the members of an ensemble are of.
    """
    lesions = dataset.table["lesion_id"].iloc[rows].nunique()
    trained = f" It was trained under {trained_under}." if trained_under else ""
    if folds > 1:
        trained += (
            f" Its members are of {folds} folds of lesion-rotated: what validates some of them has "
            "trained others."
        )
    return (
        f"{name} on {len(rows)} {part} images of {lesions} lesions of {dataset.name}, protocol "
        f"{split.protocol}: {splits.PROTOCOLS[split.protocol]}{trained} {leaks.sentence} "
        "Intervals: 95 %, bootstrap over lesions."
    )


def split_of(card: dict, dataset: Dataset) -> splits.Split:
    """The split of a model, drawn again.

    Raises:
        DatasetError: The data are not those the model was split on.
    """
    protocol = card["protocol"]
    split = splits.draw(dataset, protocol["name"], protocol["seed"], protocol.get("fold") or 0)
    if split.sha256 != protocol["sha256"]:
        raise DatasetError(
            "These data are not those the model was trained on: the same protocol divides them "
            "differently, so training lesions could be tested. Nothing was measured."
        )
    return split


def predict_rows(
    predictor: AnyPredictor, dataset: Dataset, rows: np.ndarray, progress: bool = False
) -> Predictions:
    """Calibrated probabilities of the given rows beside their truth, from the image files.

    Args:
        progress: Shows a progress bar with the time left.
    """

    def prepare(path: str) -> np.ndarray | tuple[np.ndarray, ...]:
        return predictor.seen(load_photo(path))

    paths = dataset.table["path"].to_numpy()
    patients = dataset.patients()
    answers = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(rows), desc="Photos", unit="image", disable=not progress) as bar,
    ):
        for chosen in np.array_split(rows, range(BATCH, len(rows), BATCH)):
            seen = list(pool.map(prepare, paths[chosen]))
            answers.append(predictor.answers(seen, [patients[row] for row in chosen]))
            bar.update(len(seen))
    return predictions_of(dataset, rows, np.concatenate(answers), predictor.lean)


def predictions_of(
    dataset: Dataset, rows: np.ndarray, probabilities: np.ndarray, lean: np.ndarray | None = None
) -> Predictions:
    """Probabilities `(n, classes)` of the given rows beside their truth.

    Args:
        lean: How a class is named, see `Predictions`.
    """
    table = dataset.table.iloc[rows]
    return Predictions(
        dataset.labels()[rows],
        probabilities,
        dataset.classes,
        malignant=dataset.malignant,
        case_ids=table["image_id"].to_numpy(),
        lesion_ids=table["lesion_id"].to_numpy(),
        lean=lean,
    )
