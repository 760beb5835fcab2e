"""Twins: photos of one lesion under two lesion ids are found, alike lesions are not."""

import cv2
import numpy as np
import pytest

from dermsa import images
from dermsa.datasets import registry, twins
from dermsa.datasets.dataset import DatasetError, data_root
from dermsa.datasets.synthetic import draw_lesion

SIZE = (240, 320)


@pytest.fixture(scope="module")
def photo():
    return draw_lesion("nv", 30, SIZE)[0]


@pytest.fixture(scope="module")
def others():
    """Other lesions of the same and other diagnoses."""
    return [draw_lesion(code, seed, SIZE)[0] for code in ("nv", "mel", "bkl") for seed in range(8)]


def moved(rgb, angle, zoom, shift):
    matrix = cv2.getRotationMatrix2D((SIZE[1] / 2, SIZE[0] / 2), angle, zoom)
    matrix[:, 2] += shift
    return cv2.warpAffine(rgb, matrix, SIZE[::-1], borderMode=cv2.BORDER_REFLECT_101)


COPIES = {
    "compressed": lambda rgb: cv2.imdecode(
        cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR
    ),
    "smaller": lambda rgb: cv2.resize(rgb, (200, 150), interpolation=cv2.INTER_AREA),
    "recoloured": lambda rgb: np.clip(rgb * (0.8, 0.9, 1.1) + 10, 0, 255).astype(np.uint8),
    "turned and nearer": lambda rgb: moved(rgb, 2, 1.03, (4, -3)),
    "cropped": lambda rgb: rgb[8:-4, 6:-8],
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_under_another_lesion_id_is_found(photo, others, copy):
    photos = [*others, photo, COPIES[copy](photo)]
    prints = [twins.fingerprint(rgb) for rgb in photos]
    (twin,) = twins.find_twins(prints, [f"L{i}" for i in range(len(photos))], progress=False)
    assert (twin.first, twin.second) == (len(others), len(others) + 1)
    assert twins.MIN_AGREEMENT <= twin.agreement <= 1


def test_photos_of_one_lesion_are_no_twins(photo):
    prints = [twins.fingerprint(photo)] * 2
    assert twins.find_twins(prints, ["L1", "L1"], progress=False) == []
    (twin,) = twins.find_twins(prints, ["L1", "L2"], progress=False)
    assert twin == twins.Twin(0, 1, 1.0)


def test_the_best_comes_first(photo, others):
    first, second = photo, others[20]
    photos = [second, COPIES["turned and nearer"](second), first, first]
    found = twins.find_twins(
        [twins.fingerprint(rgb) for rgb in photos], list("abcd"), progress=False
    )
    assert [(twin.first, twin.second) for twin in found] == [(2, 3), (0, 1)]


def test_pictures_without_detail_and_no_pictures_at_all():
    grey = twins.fingerprint(np.full((*SIZE, 3), 128, np.uint8))
    black = twins.fingerprint(np.zeros((*SIZE, 3), np.uint8))
    assert twins.find_twins([grey, grey, black, black], list("abcd"), progress=False) == []
    assert twins.find_twins([], [], progress=False) == []


def test_the_window_of_the_dermatoscope_makes_no_twins(others):
    """Round black frames are alike in all photos of a camera."""
    y, x = np.mgrid[-1 : 1 : SIZE[0] * 1j, -1.33 : 1.33 : SIZE[1] * 1j]
    window = (1 / (1 + np.exp(30 * (np.hypot(x, y) - 1.0))))[..., None]
    prints = [twins.fingerprint((rgb * window).astype(np.uint8)) for rgb in others]
    assert twins.find_twins(prints, np.arange(len(prints)).astype(str), progress=False) == []


@pytest.mark.real_data
def test_the_real_twins_are_told_from_real_photos_that_only_look_alike():
    try:
        table = registry.read("ham10000", data_root() or "ham10000").table.set_index("image_id")
    except DatasetError as reason:
        pytest.skip(f"HAM10000 is not here (set DERMSA_DATA): {reason}")
    same = [(27027, 29036), (25226, 30074), (34228, 34248), (33421, 33481), (27636, 27994)]
    alike = [(28754, 33249), (33408, 33409), (33253, 33852), (28513, 33462)]
    names = [f"ISIC_{number:07d}" for pair in same + alike for number in pair]
    prints = [twins.fingerprint(images.load(table.loc[name, "path"])) for name in names]
    found = twins.find_twins(prints, table.loc[names, "lesion_id"].tolist(), progress=False)
    assert {(twin.first, twin.second) for twin in found} == {(2 * i, 2 * i + 1) for i in range(5)}
