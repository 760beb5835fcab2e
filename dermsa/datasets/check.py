"""Looks a data set over before anyone trusts it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from dermsa import images
from dermsa.datasets import ham10000
from dermsa.taxonomy import UNKNOWN


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds and what is wrong with it; `problems` is empty when nothing is."""

    images: int
    lesions: int
    lesions_with_several_photos: int
    by_class: dict[str, int]
    unknown: dict[str, int]
    missing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    lesions_with_several_diagnoses: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """One sentence per kind of problem."""
        sentences = []
        if self.missing:
            sentences.append(f"{len(self.missing)} images are missing.")
        if self.unreadable:
            sentences.append(f"{len(self.unreadable)} images cannot be read.")
        if self.lesions_with_several_diagnoses:
            sentences.append(
                f"{len(self.lesions_with_several_diagnoses)} lesions have several diagnoses."
            )
        return sentences


def check_ham10000(root: str | os.PathLike, progress: bool = True) -> CheckReport:
    """Reads every image of HAM10000 once.

    Raises:
        DatasetError: There is no such data set, or its table cannot be read.
    """
    table = ham10000.read_metadata(root)
    files = ham10000.image_files(root)
    lesions = table.groupby("lesion_id")["dx"].agg(["size", "nunique"])
    present = table.loc[table["image_id"].isin(files), "image_id"]

    def fault(image_id: str) -> str | None:
        try:
            images.load(Path(files[image_id]))
        except images.ImageRefused as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = list(tqdm(pool.map(fault, present), "Reading", len(present), disable=not progress))
    return CheckReport(
        images=len(table),
        lesions=len(lesions),
        lesions_with_several_photos=int((lesions["size"] > 1).sum()),
        by_class={code: int(n) for code, n in table["dx"].value_counts().sort_index().items()},
        unknown={
            "age": int(table["age"].isna().sum()),
            "sex": int((table["sex"] == UNKNOWN).sum()),
            "localization": int((table["localization"] == UNKNOWN).sum()),
        },
        missing=sorted(set(table["image_id"]) - set(files)),
        unreadable={
            image_id: error for image_id, error in zip(present, faults, strict=True) if error
        },
        lesions_with_several_diagnoses=sorted(lesions.index[lesions["nunique"] > 1]),
    )
