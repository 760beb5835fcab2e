"""Drawn lesions: repeatable, different per diagnosis, and laid out on disk like HAM10000."""

import csv

import cv2
import numpy as np
import pytest

from dermsa import images
from dermsa.datasets.synthetic import draw_lesion, write_ham10000
from dermsa.taxonomy import HAM10000_CLASSES, LOCALIZATIONS, SEXES

SMALL = (120, 160)


@pytest.mark.parametrize("diagnosis", HAM10000_CLASSES)
def test_a_lesion_is_a_picture_and_its_mask(diagnosis):
    rgb, mask = draw_lesion(diagnosis, 0)
    assert rgb.shape == (336, 448, 3) and rgb.dtype == np.uint8
    assert mask.shape == (336, 448) and mask.dtype == bool
    assert rgb.std() > 5


@pytest.mark.parametrize("diagnosis", HAM10000_CLASSES)
def test_lesions_lie_in_the_picture_and_differ_from_the_skin(diagnosis):
    for seed in range(8):
        rgb, mask = draw_lesion(diagnosis, seed, SMALL)
        assert 0.02 < mask.mean() < 0.6
        height, width = np.argwhere(mask).mean(0) / SMALL
        assert 0.25 < height < 0.75 and 0.25 < width < 0.75
        window = rgb.max(2) > 60  # without the black corners
        around = cv2.dilate(mask.astype(np.uint8), np.ones((25, 25))) == 0
        difference = rgb[mask].mean(0) - rgb[around & window].mean(0)
        assert np.abs(difference).max() > 12


def test_the_same_seed_gives_the_same_lesion_and_another_one_another():
    first, again, other = (draw_lesion("mel", seed, SMALL)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


@pytest.mark.parametrize("size", [(32, 32), (33, 200), (301, 97)])
def test_any_size_can_be_drawn(size):
    for diagnosis in HAM10000_CLASSES:
        rgb, mask = draw_lesion(diagnosis, 1, size)
        assert rgb.shape == (*size, 3) and mask.shape == size


def test_the_diagnoses_can_be_told_apart():
    """A nearest neighbour over a few colour figures does far better than chance (1 in 7)."""

    def look(diagnosis, seed):
        rgb, mask = draw_lesion(diagnosis, seed, SMALL)
        skin, lesion = np.median(rgb[~mask], 0), rgb[mask].astype(float)
        ratio = lesion / np.maximum(skin, 1)
        ratio = ratio[np.linspace(0, len(ratio) - 1, 400).astype(int)]
        return np.concatenate([np.percentile(ratio, (5, 25, 50, 75, 95), axis=0).ravel()])

    known = [(d, look(d, seed)) for d in HAM10000_CLASSES for seed in range(12)]
    right = 0
    for diagnosis in HAM10000_CLASSES:
        for seed in range(100, 106):
            seen = look(diagnosis, seed)
            right += min(known, key=lambda k: np.abs(k[1] - seen).sum())[0] == diagnosis
    assert right / (6 * len(HAM10000_CLASSES)) > 0.6


def test_unknown_codes_and_tiny_sizes_are_refused():
    with pytest.raises(ValueError, match="Expected one of akiec, bcc"):
        draw_lesion("wart", 0)
    with pytest.raises(ValueError, match="at least 32 x 32"):
        draw_lesion("nv", 0, (31, 100))
    with pytest.raises(ValueError, match="at least 1 lesion"):
        write_ham10000("nowhere", 0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = write_ham10000(tmp_path_factory.mktemp("data") / "ham10000", 6, seed=5, size=SMALL)
    with open(folder / "HAM10000_metadata.csv", encoding="utf-8", newline="") as file:
        return folder, list(csv.DictReader(file))


def test_the_folder_is_laid_out_like_ham10000(written):
    folder, rows = written
    columns = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    assert list(rows[0]) == columns
    photos = {path.stem for path in (folder / "HAM10000_images").glob("*.jpg")}
    assert photos == {row["image_id"] for row in rows} and len(photos) == len(rows)
    for row in rows[:5]:
        rgb = images.load(folder / "HAM10000_images" / f"{row['image_id']}.jpg")
        name = f"{row['image_id']}_segmentation.png"
        mask = cv2.imread(str(folder / "HAM10000_segmentations" / name), cv2.IMREAD_UNCHANGED)
        assert rgb.shape == (*SMALL, 3) and mask.shape == SMALL
        assert set(np.unique(mask)) == {0, 255}


def test_the_patients_are_as_varied_as_real_ones(written):
    _, rows = written
    lesions = {row["lesion_id"]: row for row in rows}
    counts = [sum(row["dx"] == code for row in lesions.values()) for code in HAM10000_CLASSES]
    assert counts == [6] * len(HAM10000_CLASSES)
    assert len(lesions) < len(rows)  # some lesions have two photos
    assert all(row["image_id"].startswith("SYN_") for row in rows)
    assert {row["sex"] for row in rows} == set(SEXES)
    assert {row["localization"] for row in rows} <= set(LOCALIZATIONS)
    assert any(row["localization"] == "unknown" for row in rows)
    ages = [row["age"] for row in rows]
    assert "" in ages and all(0 <= float(age) <= 85 for age in ages if age)


def test_photos_of_one_lesion_share_the_patient_but_not_the_pixels(written):
    folder, rows = written
    pairs = [
        (a, b) for a, b in zip(rows, rows[1:], strict=False) if a["lesion_id"] == b["lesion_id"]
    ]
    assert pairs
    for one, other in pairs:
        assert one | {"image_id": ""} == other | {"image_id": ""}
        first, second = (
            images.load(folder / "HAM10000_images" / f"{row['image_id']}.jpg")
            for row in (one, other)
        )
        assert np.abs(first.astype(int) - second).mean() > 3


def test_the_same_seed_writes_the_same_files(tmp_path):
    files = []
    for name in ("one", "other"):
        folder = write_ham10000(tmp_path / name, 1, seed=9, size=SMALL)
        files.append({p.name: p.read_bytes() for p in sorted(folder.rglob("*.*"))})
    assert files[0] == files[1]
