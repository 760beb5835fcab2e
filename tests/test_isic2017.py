"""The readers of ISIC 2017 and ISIC 2018: on drawn folders and on damaged ones."""

import numpy as np
import pandas as pd
import pytest

from dermsa.datasets import isic2018, registry, splits, synthetic
from dermsa.datasets.dataset import DatasetError, data_root

TRUTH = "ISIC-2017_Training_Part3_GroundTruth.csv"
METADATA = "ISIC-2017_Training_Data_metadata.csv"


@pytest.fixture
def isic2017(tmp_path):
    return synthetic.write_isic2017(tmp_path / "isic2017", lesions_per_class=4, size=(64, 64))


@pytest.fixture
def with_test_part(tmp_path):
    """A data folder with HAM10000 and the official test images, both drawn."""
    synthetic.write_ham10000(tmp_path / "ham10000", lesions_per_class=4, size=(64, 80))
    synthetic.write_isic2018_test(tmp_path / "isic2018", lesions_per_class=2, size=(64, 80))
    return tmp_path


def edit(path, change):
    table = pd.read_csv(path)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, index=False)


# --- ISIC 2017 --------------------------------------------------------------------------------


def test_neither_melanoma_nor_keratosis_is_a_nevus(isic2017):
    table = registry.read("isic2017", isic2017.parent).table
    truth = pd.read_csv(isic2017 / TRUTH).set_index("image_id")
    for row in table.itertuples():
        melanoma, keratosis = truth.loc[row.image_id]
        assert row.dx == {(1, 0): "mel", (0, 1): "sk", (0, 0): "nv"}[melanoma, keratosis]


def test_each_photo_is_a_lesion_somewhere_on_the_body(isic2017):
    dataset = registry.read("isic2017", isic2017)  # the folder itself is as good as its parent
    assert (dataset.table["lesion_id"] == dataset.table["image_id"]).all()
    metadata = pd.read_csv(isic2017 / METADATA).set_index("image_id")
    for image_id, patient in zip(dataset.table["image_id"], dataset.patients(), strict=True):
        age = metadata.loc[image_id, "age_approximate"]
        assert patient.localization == "unknown"
        assert patient.sex == metadata.loc[image_id, "sex"]
        assert patient.age is None if age == "unknown" else patient.age == float(age)


def test_the_binary_task_leaves_melanomas_out_everywhere(isic2017):
    listing = registry.record("isic2017-nv-sk").listing(isic2017)
    assert set(listing.table["dx"]) == {"nv", "sk"} and len(listing.table) == 8
    assert set(listing.images) == set(listing.masks) == set(listing.table["image_id"])


def test_the_metadata_may_lie_beside_the_images(isic2017):
    (isic2017 / METADATA).rename(isic2017 / "ISIC-2017_Training_Data" / METADATA)
    assert len(registry.read("isic2017", isic2017).table) == 12


@pytest.mark.parametrize("damaged, other", [(TRUTH, METADATA), (METADATA, TRUTH)])
def test_a_label_file_of_other_images_is_refused_by_name(isic2017, damaged, other):
    edit(isic2017 / damaged, lambda table: table.iloc[2:])
    with pytest.raises(DatasetError, match=f"{damaged} lacks 2 images of {other}.*SYN_0000000"):
        registry.read("isic2017", isic2017)


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.5, 0.0), (None, 0.0)])
def test_a_row_that_is_not_one_diagnosis_is_refused_by_name(isic2017, values):
    def change(table):
        table.loc[3, ["melanoma", "seborrheic_keratosis"]] = values

    edit(isic2017 / TRUTH, change)
    with pytest.raises(DatasetError, match=f"{TRUTH} has 1 rows.*SYN_0000003"):
        registry.read("isic2017", isic2017)


def test_a_file_of_another_task_is_refused_by_name(isic2017):
    edit(isic2017 / TRUTH, lambda table: table.drop(columns="melanoma"))
    with pytest.raises(DatasetError, match=rf"{TRUTH} lacks the column\(s\) melanoma"):
        registry.read("isic2017", isic2017)


# --- ISIC 2018 --------------------------------------------------------------------------------


def test_the_official_photos_are_tested_and_ham10000_is_for_the_rest(with_test_part):
    dataset = registry.read("isic2018", with_test_part)
    split = splits.draw(dataset, "isic2018", seed=3)
    test = dataset.table.iloc[split.rows(dataset, "test")]
    assert len(test) == 14 and all(name.startswith("SYT_") for name in test["image_id"])
    assert test["age"].isna().all() and (test["sex"] == "unknown").all()
    others = np.concatenate([split.rows(dataset, part) for part in ("train", "validation")])
    assert len(others) == len(dataset.table) - 14
    assert not splits.shared_lesions(dataset, split)
    assert splits.leakage(dataset, split).shared_images == 0
    truth = pd.read_csv(with_test_part / "isic2018" / f"{isic2018.TRUTH}.csv").set_index("image")
    assert all(truth.loc[row.image_id, row.dx.upper()] == 1 for row in test.itertuples())


def test_the_form_of_the_dataverse_brings_lesions_and_patients(with_test_part):
    folder = with_test_part / "isic2018"
    (folder / "ISIC2018_Task3_Test_Input").rename(folder / "ISIC2018_Task3_Test_Images")
    table = registry.read("isic2018", with_test_part).table
    table = table[table["official_part"] == "test"].assign(age=40, sex="male", lesion_id="HAM_9")
    (folder / f"{isic2018.TRUTH}.csv").unlink()
    (folder / isic2018.TRUTH).mkdir()
    table.drop(columns=["path", "official_part"]).to_csv(
        folder / isic2018.TRUTH / f"{isic2018.TRUTH}.csv", index=False
    )
    again = registry.read("isic2018", with_test_part).table
    again = again[again["official_part"] == "test"]
    assert again["dx"].tolist() == table["dx"].tolist()
    assert set(again["lesion_id"]) == {"HAM_9"} and set(again["age"]) == {40}


def test_lesions_of_ham10000_among_the_official_ones_are_refused(with_test_part):
    """Their photos in HAM10000 would be tested, too."""
    dataset = registry.read("isic2018", with_test_part)
    official = dataset.table["official_part"] == "test"
    known = dataset.table.loc[~official, "lesion_id"].iloc[0]
    dataset.table.loc[dataset.table.index[official][:3], "lesion_id"] = known
    with pytest.raises(DatasetError, match=f"1 lesion.* of HAM10000, too, for example {known}:"):
        splits.draw(dataset, "isic2018")


def test_without_the_official_photos_it_says_what_to_place_where(with_test_part):
    folder = with_test_part / "isic2018"
    for path in (folder / "ISIC2018_Task3_Test_Input").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="No test image.*isic2018/ISIC2018_Task3_Test_Input/"):
        registry.read("isic2018", with_test_part)
    (folder / f"{isic2018.TRUTH}.csv").unlink()
    with pytest.raises(DatasetError, match="not in.*isic2018/ISIC2018_Task3_Test_GroundTruth.csv"):
        registry.read("isic2018", with_test_part)


def test_a_missing_official_photo_is_named(with_test_part):
    (with_test_part / "isic2018" / "ISIC2018_Task3_Test_Input" / "SYT_0000005.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of .* images are missing.*SYT_0000005\.jpg"):
        registry.read("isic2018", with_test_part)


def test_wrong_ground_truths_are_refused_by_name(with_test_part):
    path = with_test_part / "isic2018" / f"{isic2018.TRUTH}.csv"
    right = pd.read_csv(path)
    for changed, message in (
        (right.assign(MEL=1.0), "has 12 rows that are not one diagnosis"),
        (right.drop(columns="VASC"), "lacks the column.* VASC"),
        (right.replace({"image": {"SYT_0000001": "SYN_0000001"}}), "lists 1 images of HAM10000"),
    ):
        changed.to_csv(path, index=False)
        with pytest.raises(DatasetError, match=f"{isic2018.TRUTH}.csv {message}"):
            registry.read("isic2018", with_test_part)


# --- the real data set ------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_real_data_set_is_complete():
    try:
        dataset = registry.read("isic2017", data_root() or "isic2017")
    except DatasetError as reason:
        pytest.skip(f"ISIC 2017 is not here (set DERMSA_DATA): {reason}")
    assert dataset.table["dx"].value_counts().to_dict() == {"nv": 1372, "mel": 374, "sk": 254}
    assert dataset.table["age"].isna().sum() == 256
    assert (dataset.table["sex"] == "unknown").sum() == 229
