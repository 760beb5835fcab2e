"""Splits: no lesion in two parts, equal shares, repeatable, and the same after a file."""

import numpy as np
import pandas as pd
import pytest

from dermsa.datasets import ham10000, splits
from dermsa.datasets.dataset import Dataset, DatasetError, data_root
from dermsa.datasets.splits import PARTS, lesion_split, read_split
from dermsa.taxonomy import HAM10000_CLASSES

SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}
LESIONS = (60, 90, 150, 21, 160, 800, 24)  # as unequal as the real ones


def drawn(lesions=LESIONS, several=0.3, seed=0):
    """A data set without pictures: lesions of one to four photos."""
    random = np.random.default_rng(seed)
    rows = []
    for code, count in zip(HAM10000_CLASSES, lesions, strict=True):
        for number in range(count):
            photos = random.integers(2, 5) if random.random() < several else 1
            rows += [(f"{code}_{number}", code)] * photos
    random.shuffle(rows)
    table = pd.DataFrame(rows, columns=["lesion_id", "dx"])
    table["image_id"] = [f"I{row:05}" for row in range(len(table))]
    return Dataset("drawn", HAM10000_CLASSES, table)


@pytest.fixture(scope="module")
def dataset():
    return drawn()


def part_of_rows(split, dataset):
    parts = np.full(len(dataset.table), "none", object)
    for part in PARTS:
        parts[split.rows(dataset, part)] = part
    return parts


@pytest.mark.parametrize("seed", range(5))
def test_every_image_is_in_one_part_and_no_lesion_in_two(dataset, seed):
    split = lesion_split(dataset, seed)
    rows = np.concatenate([split.rows(dataset, part) for part in PARTS])
    assert sorted(rows) == list(range(len(dataset.table)))
    parts = pd.Series(part_of_rows(split, dataset)).groupby(dataset.table["lesion_id"])
    assert (parts.nunique() == 1).all()


def test_diagnoses_have_equal_shares_of_lesions_and_nearly_of_images(dataset):
    table = dataset.table.assign(part=part_of_rows(lesion_split(dataset), dataset))
    for part, share in SHARES.items():
        for code, count in zip(HAM10000_CLASSES, LESIONS, strict=True):
            of_class = table[table["dx"] == code]
            inside = of_class[of_class["part"] == part]
            # Two groups a diagnosis, and each is off by less than one lesion.
            assert abs(inside["lesion_id"].nunique() - share * count) <= 2
        assert (table["part"] == part).mean() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("count", [3, 4, 7, 19])
def test_a_rare_diagnosis_is_in_every_part(count):
    dataset = drawn(lesions=(50, 50, 50, count, 50, 50, 50))
    split = lesion_split(dataset)
    for part in PARTS:
        assert "df" in set(dataset.table["dx"].iloc[split.rows(dataset, part)])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_lesions_of_a_diagnosis_do_not_break_it(count):
    dataset = drawn(lesions=(50, 50, 50, count, 50, 50, 50))
    assert not lesion_split(dataset).parts.isna().any()


def test_the_seed_alone_decides(dataset):
    first, again, other = (lesion_split(dataset, seed) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256
    pd.testing.assert_series_equal(first.parts, again.parts)


def test_the_order_of_the_table_does_not_matter(dataset):
    shuffled = dataset.subset(np.random.default_rng(0).permutation(len(dataset.table)))
    assert lesion_split(shuffled).sha256 == lesion_split(dataset).sha256


def test_other_shares(dataset):
    split = lesion_split(dataset, shares=(0.5, 0.25, 0.25))
    assert len(split.rows(dataset, "train")) / len(dataset.table) == pytest.approx(0.5, abs=0.02)


def test_shares_must_sum_to_one(dataset):
    with pytest.raises(ValueError, match="sum to 1"):
        lesion_split(dataset, shares=(0.7, 0.2, 0.2))


def test_protocols_are_drawn_by_name(dataset):
    assert splits.draw(dataset, "lesion", 7).sha256 == lesion_split(dataset, 7).sha256
    with pytest.raises(ValueError, match="Expected one of: lesion"):
        splits.draw(dataset, "nonsense")


# --- on disk ----------------------------------------------------------------------------------


def test_a_split_survives_its_file(dataset, tmp_path):
    split = lesion_split(dataset, seed=11)
    split.write(tmp_path / "split.csv")
    again = read_split(tmp_path / "split.csv")
    assert (again.protocol, again.seed, again.sha256) == ("lesion", 11, split.sha256)
    for part in PARTS:
        np.testing.assert_array_equal(again.rows(dataset, part), split.rows(dataset, part))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "image_id,part\nI1,train\n",  # no header: which protocol?
        "# protocol=lesion seed=0\nimage,part\nI1,train\n",
        "# protocol=lesion seed=0\nimage_id,fold\nI1,train\n",
        "# protocol=lesion seed=x\nimage_id,part\nI1,train\n",
        "# protocol=lesion seed=0\nimage_id,part\nI1,tes\n",
        "# protocol=lesion seed=0\nimage_id,part\nI1,train\nI2,\n",
        "# protocol=lesion seed=0\nimage_id,part\nI1,train\nI1,test\n",
        "\x00\x01\x02",
    ],
)
def test_a_damaged_file_is_named(content, tmp_path):
    path = tmp_path / "split.csv"
    path.write_text(content)
    with pytest.raises(DatasetError, match="split.csv is not a"):
        read_split(path)


def test_a_file_of_another_encoding_or_none_at_all(tmp_path):
    (tmp_path / "split.csv").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("split.csv", "missing.csv"):
        with pytest.raises(DatasetError, match=f"{name} is not a readable split file"):
            read_split(tmp_path / name)


def test_a_split_of_another_data_set_is_refused(dataset):
    split = lesion_split(dataset.subset(np.arange(10, len(dataset.table))))
    with pytest.raises(DatasetError, match="lacks 10 images of drawn, for example I00000"):
        split.rows(dataset, "train")


# --- the real data set ------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_split_of_the_real_data_set():
    try:
        dataset = ham10000.read(data_root() or "ham10000")
    except DatasetError as reason:
        pytest.skip(f"HAM10000 is not here (set DERMSA_DATA): {reason}")
    table = dataset.table.assign(part=part_of_rows(lesion_split(dataset), dataset))
    assert (table.groupby("lesion_id")["part"].nunique() == 1).all()
    shares = pd.crosstab(table["dx"], table["part"], normalize="index")
    for part, share in SHARES.items():
        np.testing.assert_allclose(shares[part], share, atol=0.04)
