"""How a data set is divided: protocols, and their splits on disk.

`lesion` is the default: all photos of a lesion fall into the same part, so that no lesion of the
test part was seen in training. Diagnoses are spread over the parts in equal shares.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dermsa.datasets.dataset import Dataset, DatasetError

PARTS = ("train", "validation", "test")
PROTOCOLS = {
    "lesion": "Grouped by lesion, stratified by diagnosis: 70 % training, 15 % validation, "
    "15 % test lesions.",
}


@dataclass(frozen=True)
class Split:
    """Which image belongs to which part.

    Attributes:
        protocol: A key of `PROTOCOLS`.
        seed: The seed that the split was drawn with.
        parts: Series of `PARTS` values, indexed by image id, sorted by image id.
    """

    protocol: str
    seed: int
    parts: pd.Series

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
        return np.flatnonzero((assigned == part).to_numpy())

    @property
    def sha256(self) -> str:
        """Hash of the split file: two splits with the same hash are the same."""
        return hashlib.sha256(self._csv().encode()).hexdigest()

    def write(self, path: str | os.PathLike) -> None:
        """Writes `image_id,part` with the protocol and the seed in a first comment line."""
        Path(path).write_text(self._csv(), encoding="utf-8")

    def _csv(self) -> str:
        text = io.StringIO()
        text.write(f"# protocol={self.protocol} seed={self.seed}\n")
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
        split = Split(header["protocol"], int(header["seed"]), table["part"].sort_index())
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path} is not a readable split file: {error}") from None
    strange = set(split.parts) - set(PARTS)
    if strange or split.parts.index.duplicated().any():
        raise DatasetError(f"{path} is not a split file: unknown parts or repeated images.")
    return split


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
    random = np.random.default_rng(seed)
    lesions = dataset.table.groupby("lesion_id").agg(dx=("dx", "first"), n=("dx", "size"))
    lesions["several"] = lesions["n"] > 1
    part_of = {}
    for code in dataset.classes:
        of_class = lesions[lesions["dx"] == code]
        groups = [group.index.to_numpy() for _, group in of_class.groupby("several")]
        if len(of_class) < 20:  # too few to deal single and repeated photos apart
            groups = [of_class.index.to_numpy()]
        for ids in groups:
            ids = random.permutation(np.sort(ids))
            first, second = np.round(np.cumsum(shares[:2]) * len(ids)).astype(int)
            if len(ids) >= 3:
                first = int(np.clip(first, 1, len(ids) - 2))
                second = int(np.clip(second, first + 1, len(ids) - 1))
            for part, chosen in zip(PARTS, np.split(ids, [first, second]), strict=True):
                part_of.update(dict.fromkeys(chosen, part))
    images = dataset.table.set_index("image_id")["lesion_id"].sort_index()
    return Split("lesion", seed, images.map(part_of))


def draw(dataset: Dataset, protocol: str, seed: int = 0) -> Split:
    """Draws a split by the name of its protocol."""
    if protocol != "lesion":
        raise ValueError(f"Unknown protocol {protocol!r}. Expected one of: {', '.join(PROTOCOLS)}.")
    return lesion_split(dataset, seed)
