"""How a data set is divided: protocols, and their splits on disk.

`lesion` is the default: all photos of a lesion fall into the same part, so that no lesion of the
test part was seen in training. Diagnoses are spread over the parts in equal shares. The protocols
of the papers are here as published, leaks included; `leakage` puts numbers on those.

A split gives each image one of `PLACES`. In `image-90-10` the images that choose the checkpoint
are the ones reported: their place is "validation+test", and both parts have the same rows. Images
that a protocol does not use (there: of patients without an age) are "left_out", in no part.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dermsa.datasets.dataset import Dataset, DatasetError
from dermsa.files import write_atomically

PARTS = ("train", "validation", "test")
BOTH = "validation+test"
LEFT_OUT = "left_out"
PLACES = (*PARTS, BOTH, LEFT_OUT)

FOLDS = 5
FOLDED = ("lesion-kfold", "lesion-rotated")  # the protocols that have folds
DATTA_SHARES = {"datta-85-15": 0.15, "datta-80-20": 0.20, "datta-70-30": 0.30}
VALIDATION_SHARE = 0.15  # of the lesions that are not tested, where a protocol leaves it open

PROTOCOLS = {
    "lesion": "Grouped by lesion, stratified by diagnosis: 70 % training, 15 % validation, "
    "15 % test lesions.",
    "lesion-kfold": f"Grouped by lesion, stratified by diagnosis: one of {FOLDS} folds is tested; "
    "15 % of the lesions of the others are for validation.",
    "lesion-rotated": "As lesion, with the same test lesions; the others take turns at "
    f"validation, in {FOLDS} folds, the first of which is that of lesion.",
    "image-90-10": "As published by Nguyen, Bui, Do 2022: by image, stratified by diagnosis, "
    "images without an age left out; the 10 % that choose the checkpoint are those reported, and "
    "many of them show lesions of the training part.",
    "datta-85-15": "After Datta et al. 2021: 15 % of the lesions that have a single photo, "
    "stratified by diagnosis, are tested; 15 % of the other lesions are for validation.",
    "datta-80-20": "As datta-85-15, but 20 % of these lesions are tested.",
    "datta-70-30": "As datta-85-15, but 30 % of these lesions are tested.",
    "isic2018": "The official test images of ISIC 2018 are tested; of HAM10000, grouped by lesion "
    "and stratified by diagnosis, 85 % of the lesions are for training and 15 % for validation.",
}


OFFICIAL = "isic2018"  # the data set with official test images, and its only protocol


def protocols_of(dataset: str) -> tuple[str, ...]:
    """The protocols by which a data set, by its name, can be divided."""
    return tuple(name for name in PROTOCOLS if (name == OFFICIAL) == (dataset == OFFICIAL))


@dataclass(frozen=True)
class Split:
    """Which image belongs to which part.

    Attributes:
        protocol: A key of `PROTOCOLS`.
        seed: The seed that the split was drawn with.
        parts: Series of `PLACES` values, indexed by image id, sorted by image id.
        fold: Which fold is tested, or validates in `lesion-rotated`; None where the protocol has
            no folds.
    """

    protocol: str
    seed: int
    parts: pd.Series
    fold: int | None = None

    def rows(self, dataset: Dataset, part: str) -> np.ndarray:
        """Row numbers of `dataset.table` in a part, int `(n,)`.

        Raises:
            DatasetError: The split does not cover the data set.
        """
        assigned = dataset.table["image_id"].map(self.parts)
        if assigned.isna().any():
            raise DatasetError(
                f"The split lacks {int(assigned.isna().sum())} images of {dataset.name}, for "
                f"example {dataset.table.loc[assigned.isna(), 'image_id'].iloc[0]}."
            )
        return np.flatnonzero([part in place.split("+") for place in assigned])

    @property
    def sha256(self) -> str:
        """Hash of the split file: two splits with the same hash are the same."""
        return hashlib.sha256(self._csv().encode()).hexdigest()

    def write(self, path: str | os.PathLike) -> None:
        """Writes `image_id,part` with protocol, seed and fold in a first comment line.

        In one step: a run could not go on with half a file.
        """
        write_atomically(Path(path), self._csv().encode())

    def _csv(self) -> str:
        text = io.StringIO()
        fold = "" if self.fold is None else f" fold={self.fold}"
        text.write(f"# protocol={self.protocol} seed={self.seed}{fold}\n")
        self.parts.rename("part").to_csv(text, index_label="image_id", lineterminator="\n")
        return text.getvalue()


def read_split(path: str | os.PathLike) -> Split:
    """Reads what `Split.write` wrote.

    Raises:
        DatasetError: It is no split file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8")
        header = dict(word.split("=") for word in lines.partition("\n")[0].lstrip("# ").split())
        table = pd.read_csv(io.StringIO(lines), comment="#", index_col="image_id")
        fold = int(header["fold"]) if "fold" in header else None
        split = Split(header["protocol"], int(header["seed"]), table["part"].sort_index(), fold)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path} is not a readable split file: {error}") from None
    strange = set(split.parts) - set(PLACES)
    if strange or split.parts.index.duplicated().any():
        raise DatasetError(f"{path} is not a split file: unknown parts or repeated images.")
    return split


@dataclass(frozen=True)
class Leakage:
    """What a split lets through from training to test.

    Attributes:
        validation_is_test: Whether the images that choose the checkpoint are those reported.
        images: Of the test part.
        shared_images: Those of them whose lesion has another photo in the training part.
        lesions: Of the test part.
        shared_lesions: Those of them that have a photo in the training part.
        by_class: Share of the test images of each diagnosis that are shared, 0 to 1; NaN where
            the part has none.
    """

    validation_is_test: bool
    images: int
    shared_images: int
    lesions: int
    shared_lesions: int
    by_class: dict[str, float]

    @property
    def share_of_images(self) -> float:
        return self.shared_images / max(1, self.images)

    @property
    def share_of_lesions(self) -> float:
        return self.shared_lesions / max(1, self.lesions)

    @property
    def sentence(self) -> str:
        """What a reader of the figures has to know."""
        shared = "No lesion of the test part is in the training part."
        if self.shared_images:
            shared = (
                f"{self.share_of_images:.1%} of the test images, and {self.share_of_lesions:.1%} "
                "of the test lesions, are of lesions in the training part: the figures are too "
                "good."
            )
        if self.validation_is_test:
            shared += " The test images also chose the checkpoint."
        return shared


def leakage(dataset: Dataset, split: Split) -> Leakage:
    """Measures what a split lets through.

    Raises:
        DatasetError: The split does not cover the data set.
    """
    table = dataset.table
    validation, test = split.rows(dataset, "validation"), split.rows(dataset, "test")
    trained = set(table["lesion_id"].iloc[split.rows(dataset, "train")])
    tested = table.iloc[test]
    shared = tested["lesion_id"].isin(trained)
    return Leakage(
        bool(len(test)) and np.array_equal(validation, test),
        len(test),
        int(shared.sum()),
        tested["lesion_id"].nunique(),
        tested.loc[shared, "lesion_id"].nunique(),
        {code: float(shared[tested["dx"] == code].mean()) for code in dataset.classes},
    )


def shared_lesions(dataset: Dataset, split: Split) -> dict[str, tuple[str, ...]]:
    """The lesions whose photos are in several places, with these places ("left_out" aside)."""
    places = dataset.table["image_id"].map(split.parts)
    used = dataset.table.assign(place=places)[places != LEFT_OUT]
    by_lesion = used.groupby("lesion_id")["place"].unique()
    return {lesion: tuple(sorted(found)) for lesion, found in by_lesion.items() if len(found) > 1}


def draw(dataset: Dataset, protocol: str, seed: int = 0, fold: int = 0) -> Split:
    """Draws a split by the name of its protocol.

    Args:
        dataset: Its rows are divided.
        protocol: A key of `PROTOCOLS`.
        seed: Same seed, same data: same split.
        fold: Which fold is tested (`lesion-rotated`: validates), 0 to `FOLDS` - 1; 0 for
            protocols without folds.

    Raises:
        ValueError: No such protocol or fold.
        DatasetError: The protocol does not fit the data set.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"Unknown protocol {protocol!r}. Expected one of: {', '.join(PROTOCOLS)}.")
    if "official_part" in dataset.table and protocol != "isic2018":
        raise DatasetError(
            f"The protocol {protocol} would mix the official test images of {dataset.name} into "
            "training: use the protocol isic2018, or the data set ham10000."
        )
    if protocol in FOLDED:
        if not 0 <= fold < FOLDS:
            raise ValueError(f"Expected a fold from 0 to {FOLDS - 1}. Received: {fold}")
        folded = lesion_kfold_split if protocol == "lesion-kfold" else lesion_rotated_split
        return folded(dataset, seed, fold)
    if fold:
        raise ValueError(f"The protocol {protocol} has no folds. Received: fold {fold}")
    drawers = {
        "lesion": lesion_split,
        "image-90-10": image_split,
        **{name: partial(datta_split, protocol=name) for name in DATTA_SHARES},
        "isic2018": isic2018_split,
    }
    return drawers[protocol](dataset, seed)


def lesion_split(
    dataset: Dataset, seed: int = 0, shares: tuple[float, float, float] = (0.70, 0.15, 0.15)
) -> Split:
    """Draws the `lesion` protocol.

    Lesions of each diagnosis are shuffled and dealt to the parts by their shares, each part
    getting at least one lesion where there are three. Lesions with one and with several photos
    are dealt apart, so that the number of images follows the shares, too.

    Args:
        dataset: Its `lesion_id` groups the images.
        seed: Same seed, same data: same split.
        shares: Train, validation, test; they sum to 1.
    """
    if abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"Expected shares that sum to 1. Received: {shares}")
    place_of = _deal(_lesions(dataset.table), np.random.default_rng(seed), shares, PARTS)
    return Split("lesion", seed, _places(dataset, "lesion_id", place_of))


def lesion_kfold_split(dataset: Dataset, seed: int = 0, fold: int = 0) -> Split:
    """Draws the `lesion-kfold` protocol: the folds of a seed are the same whichever is tested."""
    lesions = _lesions(dataset.table)
    tested = lesions.index.map(_folds(lesions, np.random.default_rng(seed), FOLDS)) == fold
    place_of = _train_and_validation(lesions[~tested], np.random.default_rng((seed, fold)))
    place_of.update(dict.fromkeys(lesions.index[tested], "test"))
    return Split("lesion-kfold", seed, _places(dataset, "lesion_id", place_of), fold)


def lesion_rotated_split(dataset: Dataset, seed: int = 0, fold: int = 0) -> Split:
    """Draws the `lesion-rotated` protocol, by which networks train on all but the test lesions.

    Each lesion that is not tested validates in one fold and trains in the others. Fold 0 is the
    split of `lesion`, so that models trained by that protocol are of this fold; the others divide
    its training lesions.
    """
    places = lesion_split(dataset, seed).parts
    lesions = _lesions(dataset.table)
    of = dataset.table.set_index("lesion_id")["image_id"].map(places)
    place_of = of[~of.index.duplicated()].to_dict()
    if fold:
        trained = lesions[lesions.index.map(place_of) == "train"]
        fold_of = _folds(trained, np.random.default_rng((seed, FOLDS)), FOLDS - 1)
        validates = {lesion for lesion, number in fold_of.items() if number == fold - 1}
        place_of = {
            lesion: place if place == "test" else ("validation" if lesion in validates else "train")
            for lesion, place in place_of.items()
        }
    return Split("lesion-rotated", seed, _places(dataset, "lesion_id", place_of), fold)


def image_split(dataset: Dataset, seed: int = 0) -> Split:
    """Draws the `image-90-10` protocol: a tenth of the images whose patient's age is known.

    The papers' own draw is not published; their shares and numbers are.
    """
    images = dataset.table.set_index("image_id")
    images = images[images["age"].notna()].sort_index()
    tested = _stratified(images["dx"], math.ceil(0.10 * len(images)), np.random.default_rng(seed))
    place_of = dict.fromkeys(images.index, "train") | dict.fromkeys(tested, BOTH)
    return Split("image-90-10", seed, _places(dataset, "image_id", place_of))


def datta_split(dataset: Dataset, seed: int = 0, protocol: str = "datta-85-15") -> Split:
    """Draws the `datta-85-15` protocol, or one with another share of `DATTA_SHARES`.

    The test images come from the lesions with a single photo. How the paper's checkpoints were
    chosen is left open here: validation takes `VALIDATION_SHARE` of the other lesions, so that
    neither training nor test shares a lesion with it.
    """
    lesions = _lesions(dataset.table)
    single = lesions[lesions["n"] == 1]
    random = np.random.default_rng(seed)
    tested = _stratified(single["dx"], math.ceil(DATTA_SHARES[protocol] * len(single)), random)
    place_of = _train_and_validation(lesions.drop(tested), random)
    place_of.update(dict.fromkeys(tested, "test"))
    return Split(protocol, seed, _places(dataset, "lesion_id", place_of))


def isic2018_split(dataset: Dataset, seed: int = 0) -> Split:
    """Draws the `isic2018` protocol, of the data set of that name.

    Raises:
        DatasetError: The data set has no official test part, or shares lesions with it.
    """
    if "official_part" not in dataset.table:
        raise DatasetError(
            "The protocol isic2018 tests on the official images of ISIC 2018: it divides the data "
            f"set isic2018 (--dataset isic2018), not {dataset.name}."
        )
    official = dataset.table["official_part"]
    lesions = _lesions(dataset.table[official == "train"])
    tested = dataset.table.loc[official == "test", "lesion_id"]
    shared = sorted(set(tested) & set(lesions.index))
    if shared:
        raise DatasetError(
            f"{len(shared)} lesion(s) of the official test images are of HAM10000, too, for "
            f"example {shared[0]}: the ground truth does not name its lesions as HAM10000 does."
        )
    place_of = _train_and_validation(lesions, np.random.default_rng(seed))
    place_of.update(dict.fromkeys(tested, "test"))
    return Split("isic2018", seed, _places(dataset, "lesion_id", place_of))


def _lesions(table: pd.DataFrame) -> pd.DataFrame:
    """`dx` and `n`, the number of photos, by lesion id."""
    return table.groupby("lesion_id").agg(dx=("dx", "first"), n=("dx", "size"))


def _shuffled_groups(lesions: pd.DataFrame, random: np.random.Generator):
    """Lesion ids by diagnosis, with one and with several photos apart, each group shuffled."""
    several = lesions["n"] > 1
    for code in sorted(lesions["dx"].unique()):
        of_class = lesions["dx"] == code
        groups = [lesions.index[of_class & ~several], lesions.index[of_class & several]]
        if of_class.sum() < 20:  # too few to deal single and repeated photos apart
            groups = [lesions.index[of_class]]
        for ids in groups:
            if len(ids):
                yield random.permutation(np.sort(ids.to_numpy()))


def _folds(lesions: pd.DataFrame, random: np.random.Generator, count: int) -> dict[str, int]:
    """The fold of each lesion id, 0 to `count` - 1, equally large ones."""
    fold_of, dealt = {}, 0
    for ids in _shuffled_groups(lesions, random):
        # Going on where the last group ended keeps the folds equally large.
        fold_of.update({lesion: (dealt + i) % count for i, lesion in enumerate(ids)})
        dealt += len(ids)
    return fold_of


def _deal(
    lesions: pd.DataFrame,
    random: np.random.Generator,
    shares: tuple[float, ...],
    parts: tuple[str, ...],
) -> dict[str, str]:
    """The part of each lesion id; see `lesion_split`."""
    place_of = {}
    for ids in _shuffled_groups(lesions, random):
        cuts = np.round(np.cumsum(shares[:-1]) * len(ids)).astype(int)
        if len(ids) >= len(parts):
            for i, cut in enumerate(cuts):
                before = cuts[i - 1] if i else 0
                cuts[i] = np.clip(cut, before + 1, len(ids) - len(cuts) + i)
        for part, chosen in zip(parts, np.split(ids, cuts), strict=True):
            place_of.update(dict.fromkeys(chosen, part))
    return place_of


def _train_and_validation(lesions: pd.DataFrame, random: np.random.Generator) -> dict[str, str]:
    return _deal(lesions, random, (1 - VALIDATION_SHARE, VALIDATION_SHARE), PARTS[:2])


def _stratified(dx: pd.Series, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` of the index of `dx`, each diagnosis by its share (largest remainders round up)."""
    wanted = dx.value_counts().sort_index() * count / len(dx)
    numbers = np.floor(wanted).astype(int)
    numbers[(wanted - numbers).nlargest(count - numbers.sum()).index] += 1
    return np.concatenate(
        [
            random.permutation(np.sort(dx.index[dx == code].to_numpy()))[:number]
            for code, number in numbers.items()
        ]
    )


def _places(dataset: Dataset, key: str, place_of: dict[str, str]) -> pd.Series:
    """The place of each image, by its lesion id or image id; "left_out" where it has none."""
    images = dataset.table.set_index("image_id", drop=False)[key].sort_index()
    return images.map(place_of).fillna(LEFT_OUT)
