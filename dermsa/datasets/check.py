"""Looks a data set over before anyone trusts it.

Every image and mask is read once. What is found is a list of rows per kind of finding, for people
(a table) and for programs (JSON).
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from dermsa import images
from dermsa.datasets import masks, registry, splits, twins
from dermsa.datasets.dataset import Dataset, DatasetError, Listing, require_root
from dermsa.datasets.splits import Leakage, Split
from dermsa.taxonomy import UNKNOWN

COMMON_SIZE = 0.95  # a size that so many images share is the right one

KINDS = {
    "label_files": "label files that do not fit each other",
    "missing_images": "images that are missing",
    "unlisted_images": "images that no label file lists",
    "unreadable_images": "images that cannot be read",
    "odd_sizes": "images of another size than nearly all",
    "same_files": "groups of images with the very same bytes",
    "twins": "pairs of images with different lesion ids that show the same",
    "lesions_with_several_diagnoses": "lesions with several diagnoses",
    "missing_masks": "images without a lesion mask",
    "unlisted_masks": "lesion masks without an image",
    "unfit_masks": "lesion masks that cannot be used",
    "shared_lesions": "lesions in several parts of the split",
    "shared_twins": "pairs that show the same in several parts of the split",
    "unknown_values": "images with unknown values of the patient",
}
NOT_PROBLEMS = ("unknown_values",)


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds and what was found.

    Attributes:
        dataset: Its name.
        folder: Where it lies.
        images: Rows of its table.
        lesions: Their number.
        lesions_with_several_photos: Their number.
        by_class: Images by diagnosis.
        sizes: Images by "width x height" in pixels, commonest first.
        unknown: Images by property of the patient that is unknown.
        masks: Lesion masks that are there.
        found: Rows by kind, for the kinds of `KINDS` that were looked for.
        leakage: What the split lets through; None without one.
    """

    dataset: str
    folder: str
    images: int
    lesions: int
    lesions_with_several_photos: int
    by_class: dict[str, int]
    sizes: dict[str, int]
    unknown: dict[str, int]
    masks: int
    found: dict[str, list[dict[str, Any]]]
    leakage: Leakage | None = None

    @property
    def problems(self) -> list[str]:
        """One sentence per kind of problem."""
        return [
            f"{len(rows)} {KINDS[kind]}."
            for kind, rows in self.found.items()
            if rows and kind not in NOT_PROBLEMS
        ]

    def plain(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        values = {**asdict(self), "problems": self.problems}
        if self.leakage:
            by_class = self.leakage.by_class.items()
            values["leakage"] |= {
                "by_class": {code: None if np.isnan(share) else share for code, share in by_class},
                "sentence": self.leakage.sentence,
            }
        return values


@dataclass(frozen=True)
class _Photo:
    """What reading an image file told."""

    sha256: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    fingerprint: twins.Fingerprint | None = None
    fault: str = ""
    mask_fault: str = ""


def check(
    name: str,
    root: str | os.PathLike | None = None,
    split: Split | None = None,
    progress: bool = True,
) -> CheckReport:
    """Reads every image and mask of a data set once.

    Args:
        name: A key of `registry.DATASETS`.
        root: The folder that holds the data sets' folders; None for `data_root()`.
        split: Looks for lesions that its parts share.
        progress: Shows progress bars.

    Raises:
        ValueError: No such name.
        DatasetError: There is no such data set, a table cannot be read, or the split is another's.
    """
    record = registry.record(name)
    listing = record.listing(require_root(root))
    table = listing.table
    dataset = Dataset(name, record.classes, table)
    lesions = table.groupby("lesion_id")["dx"].agg(["size", "nunique"])
    photos = _read_photos(listing, progress)
    by_size = Counter(f"{w} x {h}" for w, h in (p.size for p in photos.values() if not p.fault))
    found = {
        "label_files": [{"fault": fault} for fault in listing.faults],
        "missing_images": _ids(set(table["image_id"]) - set(listing.images)),
        "unlisted_images": _ids(set(listing.images) - set(table["image_id"])),
        "unreadable_images": [
            {"image_id": image_id, "fault": photo.fault}
            for image_id, photo in photos.items()
            if photo.fault
        ],
        "odd_sizes": _odd_sizes(photos, by_size),
        "same_files": _same_files(table, photos),
        "twins": _twins(table, photos, progress),
        "lesions_with_several_diagnoses": [
            {"lesion_id": lesion} for lesion in sorted(lesions.index[lesions["nunique"] > 1])
        ],
        **_masks(listing, photos),
    }
    leakage = None
    if split:
        leakage = splits.leakage(dataset, split)
        found["shared_lesions"] = [
            {"lesion_id": lesion, "parts": list(parts)}
            for lesion, parts in splits.shared_lesions(dataset, split).items()
        ]
        found["shared_twins"] = _shared_twins(found["twins"], split)
    unknown = _unknown(table)
    found["unknown_values"] = [
        {"image_id": image_id, "unknown": list(unknown.columns[row])}
        for image_id, row in zip(table["image_id"], unknown.to_numpy(), strict=True)
        if row[~unknown.all().to_numpy()].any()  # what nobody knows is not news of a row
    ]
    return CheckReport(
        dataset=name,
        folder=str(listing.folder),
        images=len(table),
        lesions=len(lesions),
        lesions_with_several_photos=int((lesions["size"] > 1).sum()),
        by_class={code: int((table["dx"] == code).sum()) for code in record.classes},
        sizes=dict(by_size.most_common()),
        unknown={name: int(count) for name, count in unknown.sum().items()},
        masks=len(listing.masks),
        found={kind: found[kind] for kind in KINDS if kind in found},
        leakage=leakage,
    )


def _read_photos(listing: Listing, progress: bool) -> dict[str, _Photo]:
    """What the listed images that are there look like, by image id."""
    present = [image_id for image_id in listing.table["image_id"] if image_id in listing.images]

    def read(image_id: str) -> _Photo:
        return _read_photo(listing.images[image_id], listing.masks.get(image_id))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        photos = tqdm(pool.map(read, present), "Reading", len(present), disable=not progress)
        return dict(zip(present, photos, strict=True))


def _read_photo(path: str, mask: str | None) -> _Photo:
    try:
        data = Path(path).read_bytes()
        rgb = images.load(data)
    except (images.ImageRefused, OSError) as error:
        return _Photo(fault=str(error))
    mask_fault = ""
    if mask:
        try:
            masks.load(mask, rgb.shape[:2])
        except DatasetError as error:
            mask_fault = str(error)
    with Image.open(io.BytesIO(data)) as header:  # `load` may have reduced it
        size = header.size
    return _Photo(
        hashlib.sha256(data).hexdigest(), size, twins.fingerprint(rgb), mask_fault=mask_fault
    )


def _ids(image_ids: set[str]) -> list[dict[str, Any]]:
    return [{"image_id": image_id} for image_id in sorted(image_ids)]


def _odd_sizes(photos: dict[str, _Photo], by_size: Counter) -> list[dict[str, Any]]:
    if not by_size or by_size.most_common(1)[0][1] < COMMON_SIZE * by_size.total():
        return []
    usual = by_size.most_common(1)[0][0]
    sizes = {name: "{} x {}".format(*p.size) for name, p in photos.items() if not p.fault}
    return [{"image_id": name, "size": size} for name, size in sizes.items() if size != usual]


def _same_files(table: pd.DataFrame, photos: dict[str, _Photo]) -> list[dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for image_id, photo in photos.items():
        if photo.sha256:
            groups.setdefault(photo.sha256, []).append(image_id)
    lesion_of = table.set_index("image_id")["lesion_id"]
    return [
        {"image_ids": group, "lesion_ids": sorted(set(lesion_of[group]))}
        for group in groups.values()
        if len(group) > 1
    ]


def _twins(table: pd.DataFrame, photos: dict[str, _Photo], progress: bool) -> list[dict[str, Any]]:
    rows = table.set_index("image_id").loc[[name for name in photos if not photos[name].fault]]
    fingerprints = [photos[name].fingerprint for name in rows.index]
    return [
        {
            "image_ids": [rows.index[twin.first], rows.index[twin.second]],
            "diagnoses": [rows["dx"].iloc[twin.first], rows["dx"].iloc[twin.second]],
            "agreement": twin.agreement,
        }
        for twin in twins.find_twins(fingerprints, rows["lesion_id"].tolist(), progress)
    ]


def _masks(listing: Listing, photos: dict[str, _Photo]) -> dict[str, list[dict[str, Any]]]:
    """Nothing where there are no masks at all: they are optional."""
    if not listing.masks:
        return {}
    masked = set(listing.masks)
    covered = listing.table["image_id"]
    if "official_part" in listing.table:
        covered = covered[listing.table["official_part"] == "train"]
    return {
        "missing_masks": _ids(set(covered) - masked),
        "unlisted_masks": _ids(masked - set(listing.table["image_id"])),
        "unfit_masks": [
            {"image_id": image_id, "fault": photo.mask_fault}
            for image_id, photo in photos.items()
            if photo.mask_fault
        ],
    }


def _shared_twins(found: list[dict[str, Any]], split: Split) -> list[dict[str, Any]]:
    rows = []
    for row in found:
        places = split.parts[row["image_ids"]].tolist()
        if splits.LEFT_OUT not in places and places[0] != places[1]:
            rows.append({"image_ids": row["image_ids"], "parts": places})
    return rows


def _unknown(table: pd.DataFrame) -> pd.DataFrame:
    """bool, one column a property of the patient."""
    return pd.DataFrame(
        {
            "age": table["age"].isna(),
            "sex": table["sex"] == UNKNOWN,
            "localization": table["localization"] == UNKNOWN,
        }
    )
