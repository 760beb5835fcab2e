"""Splits: no lesion in two parts, equal shares, repeatable, and the same after a file."""

import resource

import numpy as np
import pandas as pd
import pytest

from dermsa.datasets import ham10000, splits
from dermsa.datasets.dataset import Dataset, DatasetError, data_root
from dermsa.datasets.splits import BOTH, FOLDS, LEFT_OUT, PARTS, leakage, lesion_split, read_split
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
    table["age"] = np.where(random.random(len(table)) < 0.05, np.nan, 50.0)
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


# --- folds ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folds(dataset):
    return [splits.draw(dataset, "lesion-kfold", 1, fold) for fold in range(FOLDS)]


def test_every_image_is_tested_in_one_fold(dataset, folds):
    tested = [split.rows(dataset, "test") for split in folds]
    assert sorted(np.concatenate(tested)) == list(range(len(dataset.table)))
    assert [split.fold for split in folds] == list(range(FOLDS))
    assert len({split.sha256 for split in folds}) == FOLDS


def test_folds_have_equal_shares_and_share_no_lesion(dataset, folds):
    for split in folds:
        assert not splits.shared_lesions(dataset, split)
        table = dataset.table.assign(part=part_of_rows(split, dataset))
        assert set(table["part"]) == set(PARTS)
        for code, count in zip(HAM10000_CLASSES, LESIONS, strict=True):
            of_class = table[table["dx"] == code].groupby("part")["lesion_id"].nunique()
            assert abs(of_class["test"] - count / FOLDS) <= 2
            assert abs(of_class["validation"] - 0.15 * 0.8 * count) <= 2


@pytest.mark.parametrize("fold", [-1, FOLDS])
def test_a_fold_that_is_not_there(dataset, fold):
    with pytest.raises(ValueError, match="Expected a fold from 0 to 4"):
        splits.draw(dataset, "lesion-kfold", fold=fold)
    with pytest.raises(ValueError, match="Expected a fold from 0 to 4"):
        splits.draw(dataset, "lesion-rotated", fold=fold)
    with pytest.raises(ValueError, match="lesion has no folds"):
        splits.draw(dataset, "lesion", fold=fold)


@pytest.fixture(scope="module")
def turns(dataset):
    return [splits.draw(dataset, "lesion-rotated", 1, fold) for fold in range(FOLDS)]


def test_every_lesion_that_is_not_tested_validates_once(dataset, turns):
    plain = lesion_split(dataset, 1)
    assert turns[0].parts.equals(plain.parts) and turns[0].sha256 != plain.sha256
    validated = [split.rows(dataset, "validation") for split in turns]
    others = np.setdiff1d(np.arange(len(dataset.table)), plain.rows(dataset, "test"))
    np.testing.assert_array_equal(np.sort(np.concatenate(validated)), others)
    for split in turns:
        assert not splits.shared_lesions(dataset, split)
        np.testing.assert_array_equal(split.rows(dataset, "test"), plain.rows(dataset, "test"))
        table = dataset.table.assign(part=part_of_rows(split, dataset))
        for code, count in zip(HAM10000_CLASSES, LESIONS, strict=True):
            of_class = table[table["dx"] == code].groupby("part")["lesion_id"].nunique()
            assert abs(of_class["validation"] - 0.17 * count) <= 0.02 * count + 2


# --- the papers' protocols and their leaks ----------------------------------------------------


def test_by_image_as_published_the_images_that_choose_are_reported(dataset):
    split = splits.draw(dataset, "image-90-10")
    known = dataset.table["age"].notna()
    test = split.rows(dataset, "test")
    np.testing.assert_array_equal(test, split.rows(dataset, "validation"))
    assert len(test) == -(-known.sum() // 10)
    assert len(split.rows(dataset, "train")) == known.sum() - len(test)
    assert set(split.parts) == {"train", BOTH, LEFT_OUT}
    assert ((split.parts == LEFT_OUT).to_numpy() == ~known).all()
    shares = dataset.table["dx"][known].value_counts(normalize=True)
    counts = dataset.table["dx"].iloc[test].value_counts()
    assert ((counts - shares * len(test)).abs() < 1).all()


def test_a_leak_is_counted(dataset):
    found = leakage(dataset, splits.draw(dataset, "image-90-10"))
    assert found.validation_is_test and 0 < found.share_of_images < 1
    assert "the figures are too good" in found.sentence and "chose the checkpoint" in found.sentence
    # By hand: lesion a is in both, b in test alone; a's third photo is in no part.
    places = {"I1": "train", "I2": "test", "I3": "test", "I4": "validation", "I5": LEFT_OUT}
    table = pd.DataFrame({"image_id": places.keys(), "lesion_id": list("aabca")})
    table["dx"] = ["mel", "mel", "nv", "nv", "mel"]
    by_hand = Dataset("by hand", ("mel", "nv", "vasc"), table)
    split = splits.Split("lesion", 0, pd.Series(places))
    found = leakage(by_hand, split)
    assert (found.images, found.shared_images, found.lesions, found.shared_lesions) == (2, 1, 2, 1)
    assert (found.by_class["mel"], found.by_class["nv"]) == (1.0, 0.0)
    assert np.isnan(found.by_class["vasc"]) and not found.validation_is_test
    assert splits.shared_lesions(by_hand, split) == {"a": ("test", "train")}


@pytest.mark.parametrize("protocol", ["lesion", "lesion-kfold", "lesion-rotated", "datta-85-15"])
def test_protocols_by_lesion_leak_nothing(dataset, protocol):
    split = splits.draw(dataset, protocol)
    found = leakage(dataset, split)
    assert found.shared_images == found.shared_lesions == 0 and not found.validation_is_test
    assert found.images == len(split.rows(dataset, "test")) > 0
    assert not splits.shared_lesions(dataset, split)


def test_datta_tests_lesions_with_a_single_photo(dataset):
    split = splits.draw(dataset, "datta-85-15", seed=2)
    photos = dataset.table.groupby("lesion_id")["image_id"].transform("size")
    test = split.rows(dataset, "test")
    assert (photos.iloc[test] == 1).all() and len(test) == -(-(photos == 1).sum() * 15 // 100)
    assert not (split.parts == LEFT_OUT).any()


# --- on disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocol, fold",
    [("lesion", 0), ("lesion-kfold", 3), ("lesion-rotated", 2), ("image-90-10", 0)],
)
def test_a_split_survives_its_file(dataset, protocol, fold, tmp_path):
    split = splits.draw(dataset, protocol, 11, fold)
    split.write(tmp_path / "split.csv")
    again = read_split(tmp_path / "split.csv")
    assert (again.protocol, again.seed, again.fold) == (protocol, 11, split.fold)
    assert again.sha256 == split.sha256
    for part in PARTS:
        np.testing.assert_array_equal(again.rows(dataset, part), split.rows(dataset, part))


def test_a_full_disk_leaves_the_file_as_it_was(dataset, tmp_path):
    path = tmp_path / "split.csv"
    first, second = lesion_split(dataset, 1), lesion_split(dataset, 2)
    first.write(path)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))  # no file may grow beyond
    try:
        with pytest.raises(OSError, match="File too large"):
            second.write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert read_split(path).sha256 == first.sha256
    assert [each.name for each in tmp_path.iterdir()] == ["split.csv"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "image_id,part\nI1,train\n",  # no header: which protocol?
        "# protocol=lesion seed=0\nimage,part\nI1,train\n",
        "# protocol=lesion seed=0\nimage_id,fold\nI1,train\n",
        "# protocol=lesion seed=x\nimage_id,part\nI1,train\n",
        "# protocol=lesion-kfold seed=0 fold=x\nimage_id,part\nI1,train\n",
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


@pytest.fixture(scope="module")
def real():
    try:
        return ham10000.read(data_root() or "ham10000")
    except DatasetError as reason:
        pytest.skip(f"HAM10000 is not here (set DERMSA_DATA): {reason}")


@pytest.mark.real_data
def test_the_split_of_the_real_data_set(real):
    split = lesion_split(real)
    # The shipped models were trained on this one: it must never change.
    assert split.sha256 == "c5f92214c27918ea6b501cf8493c8493c2b95cd83df360287abb7f9d15f5c5f0"
    table = real.table.assign(part=part_of_rows(split, real))
    shares = pd.crosstab(table["dx"], table["part"], normalize="index")
    for part, share in SHARES.items():
        np.testing.assert_allclose(shares[part], share, atol=0.04)


@pytest.mark.real_data
def test_the_papers_numbers_and_leaks(real):
    found = [leakage(real, splits.draw(real, "image-90-10", seed)) for seed in range(4)]
    assert {leak.images for leak in found} == {996}
    assert np.mean([leak.share_of_images for leak in found]) == pytest.approx(0.42, abs=0.03)
    assert np.mean([leak.by_class["mel"] for leak in found]) == pytest.approx(0.735, abs=0.05)
    assert len(splits.draw(real, "image-90-10").rows(real, "train")) == 8_962
    test = splits.draw(real, "datta-85-15").rows(real, "test")
    counts = real.table["dx"].iloc[test].value_counts().sort_index()
    assert counts.tolist() == [23, 26, 66, 6, 34, 663, 10]
