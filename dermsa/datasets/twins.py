"""Finds photos that show the same lesion although their lesion ids say otherwise.

Such twins are copies, other crops, recoloured versions, or second shots of a lesion. They matter
because a split by lesion may train on one and test on the other. Three steps, each far dearer and
far stricter than the one before:

1. a 64-bit perceptual hash (which low frequencies of the cosine transform are above their median);
   all pairs are compared, those within `MAX_DISTANCE` bits go on;
2. the correlation of fine detail (skin lines, hairs, pigment network, with the local contrast and
   the round window of the dermatoscope taken out), at the best shift;
3. the same after an affine alignment (Evangelidis and Psarakis 2008).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

# On HAM10000, of the 185 pairs of photos of one lesion that agree in detail by more than 0.6 at
# the best shift, 173 are within 12 bits; of all pairs of different lesions, 1 in 1,000 is.
MAX_DISTANCE = 12
WORTH_ALIGNING = 0.22

# Looked at one by one: all 5 pairs of HAM10000 and all 15 of ISIC 2017 above this show the same
# lesion; the first that does not agrees to 0.44.
MIN_AGREEMENT = 0.47

FORMAT = 1  # raise when other pairs are found than before

HASH_SIDE = 32
DETAIL_SIZE = (96, 128)  # height, width
MAX_SHIFT = 8
_DETAIL_SCALE = 30  # of the int8 in which detail is kept


@dataclass(frozen=True)
class Fingerprint:
    """What of a photo is compared.

    Attributes:
        hash: 64 bits, uint64.
        detail: int8 `DETAIL_SIZE`, 0 where there is no detail or no skin.
    """

    hash: np.uint64
    detail: np.ndarray


@dataclass(frozen=True)
class Twin:
    """Two photos, by their place in the list, and the correlation of their detail, 0 to 1."""

    first: int
    second: int
    agreement: float


def fingerprint(rgb: np.ndarray) -> Fingerprint:
    """The fingerprint of a photo, uint8 `(height, width, 3)`."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return Fingerprint(_hash(grey), _detail(grey))


def find_twins(
    fingerprints: Sequence[Fingerprint], lesion_ids: Sequence[str], progress: bool = True
) -> list[Twin]:
    """Pairs of photos of different lesions that show the same, best agreement first."""
    details = [item.detail for item in fingerprints]
    pairs = _similar(np.array([item.hash for item in fingerprints], np.uint64), lesion_ids)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV releases the interpreter's lock
        agreements = list(
            tqdm(
                pool.map(lambda pair: _agreement(details[pair[0]], details[pair[1]]), pairs),
                "Comparing",
                len(pairs),
                disable=not progress,
            )
        )
    found = [
        Twin(int(first), int(second), round(agreement, 3))
        for (first, second), agreement in zip(pairs, agreements, strict=True)
        if agreement >= MIN_AGREEMENT
    ]
    return sorted(found, key=lambda twin: -twin.agreement)


def _hash(grey: np.ndarray) -> np.uint64:
    small = cv2.resize(grey, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()[1:]  # without the brightness
    bits = np.append(low > np.median(low), False)
    return np.packbits(bits).view(np.uint64)[0]


def _detail(grey: np.ndarray) -> np.ndarray:
    size = DETAIL_SIZE[::-1]
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = small - cv2.GaussianBlur(small, (0, 0), 3)
    contrast = np.sqrt(cv2.GaussianBlur(fine**2, (0, 0), 6))
    detail = np.clip(fine / (contrast + 1.5), -4, 4) * _DETAIL_SCALE
    detail[_outside_window(small)] = 0
    return detail.astype(np.int8)


def _outside_window(small: np.ndarray) -> np.ndarray:
    """Dark areas that touch a corner, and their rims: the same in photos of one camera."""
    dark = (cv2.GaussianBlur(small, (0, 0), 2) < 80).astype(np.uint8)
    _, areas = cv2.connectedComponents(dark)
    corners = areas[[0, 0, -1, -1], [0, -1, 0, -1]]
    outside = np.isin(areas, corners[corners > 0])
    return cv2.dilate(outside.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0


def _similar(hashes: np.ndarray, lesion_ids: Sequence[str], rows: int = 256) -> np.ndarray:
    """Pairs of different lesions within `MAX_DISTANCE` bits, int `(n, 2)`."""
    lesions = np.unique(np.asarray(lesion_ids, str), return_inverse=True)[1]
    found = [np.empty((0, 2), int)]
    for start in range(0, len(hashes), rows):  # in bands, so that memory stays small
        block = slice(start, start + rows)
        near = np.bitwise_count(hashes[block, None] ^ hashes[None]) <= MAX_DISTANCE
        near &= lesions[block, None] != lesions[None]
        first, second = np.nonzero(near)
        first += start
        found.append(np.stack([first, second], axis=1)[first < second])
    return np.concatenate(found)


def _agreement(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first.astype(np.float32), second.astype(np.float32)
    inner = first[MAX_SHIFT:-MAX_SHIFT, MAX_SHIFT:-MAX_SHIFT]
    if not inner.any() or not second.any():
        return 0.0
    scores = cv2.matchTemplate(second, inner, cv2.TM_CCOEFF_NORMED)
    agreement, (left, top) = float(scores.max()), cv2.minMaxLoc(scores)[3]
    if not np.isfinite(agreement) or agreement < WORTH_ALIGNING:
        return 0.0
    start = np.float32([[1, 0, left - MAX_SHIFT], [0, 1, top - MAX_SHIFT]])
    return max(agreement, _aligned_agreement(first, second, start))


def _aligned_agreement(first: np.ndarray, second: np.ndarray, start: np.ndarray) -> float:
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-3)
    try:
        warp = cv2.findTransformECC(first, second, start, cv2.MOTION_AFFINE, stop, None, 7)[1]
    except cv2.error:  # they do not align
        return 0.0
    scale = np.sqrt(abs(np.linalg.det(warp[:, :2])))
    moved = cv2.warpAffine(
        second, warp, DETAIL_SIZE[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    both = (first != 0) & (moved != 0)
    if both.mean() < 0.4 or not 0.7 < scale < 1.4:
        return 0.0
    agreement = float(np.corrcoef(first[both], moved[both])[0, 1])
    return agreement if np.isfinite(agreement) else 0.0
