"""What models said of photos, in files: asking again would take minutes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dermsa.datasets import cache
from dermsa.datasets.dataset import Dataset
from dermsa.files import write_atomically


def place_of(form: Mapping, dataset: Dataset, rows: np.ndarray) -> Path:
    """The file in the cache folder for what is said of these rows.

    Another form, other photos and photos that have changed have another file.

    Args:
        form: All that the answers depend on besides the photos, as plain data.
        dataset, rows: Which photos, in `dataset.table`.
    """
    asked = json.dumps([form, cache.fingerprint(dataset), rows.tolist()])
    digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
    return cache.cache_folder() / f"{dataset.name}-answers-{digest}.npz"


def read(path: Path, rows: np.ndarray) -> np.ndarray | None:
    """The answers `(n, classes)` that `keep` wrote of these rows; None where there are none."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as kept:
        found = "answers" in kept and np.array_equal(kept["rows"], rows)
        return kept["answers"] if found else None


def keep(path: Path, rows: np.ndarray, answers: np.ndarray) -> None:
    """Writes answers `(n, classes)` of these rows."""
    file = io.BytesIO()
    np.savez(file, rows=rows, answers=answers)
    write_atomically(path, file.getvalue())
