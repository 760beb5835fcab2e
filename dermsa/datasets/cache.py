"""Decoded images in one memory-mapped array, so that training never waits for JPEG decoding.

One file per (data set, input size). Its name carries a fingerprint of the image files and of
the resizing, so a changed data set or a changed resizing gets a new file.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from dermsa import images
from dermsa.datasets.dataset import Dataset, DatasetError, load_photo
from dermsa.files import replacing

LOCK = ".lock"  # of who decodes: one process at a time
FORMAT = 1  # raise when the resizing in dermsa.images changes
ENDS = 4096  # bytes at either end of a file


def cache_folder() -> Path:
    """`DERMSA_CACHE`, else `~/.cache/dermsa`."""
    return Path(os.environ.get("DERMSA_CACHE", "~/.cache/dermsa")).expanduser()


def decoded(
    dataset: Dataset,
    size: tuple[int, int],
    progress: bool = True,
    report: Callable[[float], None] = lambda done: None,
) -> np.ndarray:
    """All images of a data set at the classifier's input size.

    They are decoded once, by all cores; whoever wants them meanwhile waits. Later calls, of any
    process, map the same file.

    Args:
        dataset: Rows in the order of its table.
        size: Height and width in pixels.
        progress: Shows a progress bar while decoding for the first time.
        report: Called while decoding, after each image, with the share that is done.

    Returns:
        Read-only memory map, uint8 `(n, height, width, 3)`, RGB.

    Raises:
        DatasetError: An image cannot be read (the message names the file), or there is no room.
        OSError: The disk filled up meanwhile.
    """
    path = cache_folder() / f"{dataset.name}-{size[0]}x{size[1]}-{fingerprint(dataset)}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(LOCK)):
            if not path.exists():  # another process has built it meanwhile
                _build(dataset, size, path, progress, report)
    return np.load(path, mmap_mode="r")


def fingerprint(dataset: Dataset) -> str:
    """Changes when an image file of the data set comes, goes or changes; not when it is copied."""
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for image_id, path in zip(dataset.table["image_id"], dataset.table["path"], strict=True):
        digest.update(f"{image_id} {of_file(path)}\n".encode())
    return digest.hexdigest()[:16]


def of_file(path: str | os.PathLike) -> str:
    """Changes when a picture file does: its length, and a hash of how it begins and ends.

    Its time would change when the folder is copied or mounted anew, and to read all of every photo
    takes long from a network's drive. What changes the pixels of a JPEG or PNG all but always
    changes its length or its end, too; what changes the orientation stands at the beginning. A
    picture that is not compressed, changed in its middle alone, passes for the same.
    """
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(ENDS))
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - ENDS))
        digest.update(file.read(ENDS))
    return f"{length} {digest.hexdigest()}"


def _build(
    dataset: Dataset,
    size: tuple[int, int],
    path: Path,
    progress: bool,
    report: Callable[[float], None],
) -> None:
    shape = (len(dataset.table), *size, 3)
    for left in path.parent.glob(".partial.*.npy"):  # of a process that was killed
        left.unlink()
    _require_room(path.parent, shape)
    with replacing(path) as partial:  # a reader never sees half a cache
        array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        with partial.open("r+b") as file:
            # A disk that fills up under a memory map would kill the process.
            os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)

        def decode(item: tuple[int, str]) -> None:
            row, file = item
            array[row] = images.to_model_input(load_photo(file), size)

        # Decoding and resizing release the interpreter's lock: threads use all cores.
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            jobs = pool.map(decode, enumerate(dataset.table["path"]))
            for row, _ in enumerate(tqdm(jobs, "Decoding", shape[0], disable=not progress)):
                report((row + 1) / shape[0])
                if row % 256 == 0:  # what was written need not stay in this process' memory
                    array.base.madvise(mmap.MADV_DONTNEED)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or a stop much is left
        array.flush()


def _require_room(folder: Path, shape: tuple[int, ...]) -> None:
    """Refuses what the disk cannot hold, before an hour of decoding shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = math.prod(shape), shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"Decoded to {shape[2]} x {shape[1]} pixels, {shape[0]} images take "
            f"{needed / 1e9:,.1f} GB; {folder} has {free / 1e9:,.1f} GB left. Choose a smaller "
            "input size, or another folder with DERMSA_CACHE."
        )
