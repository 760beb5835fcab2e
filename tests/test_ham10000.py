"""The reader of HAM10000: on a drawn folder, on damaged ones, and on the real one where it is."""

import shutil

import numpy as np
import pandas as pd
import pytest

from dermsa.datasets import ham10000
from dermsa.datasets.dataset import DatasetError, data_root
from dermsa.patient import AgeScale, Patient
from dermsa.taxonomy import HAM10000_CLASSES

REAL_COUNTS = {
    "akiec": 327,
    "bcc": 514,
    "bkl": 1099,
    "df": 115,
    "mel": 1113,
    "nv": 6705,
    "vasc": 142,
}


@pytest.fixture
def folder(synthetic_data, tmp_path):
    """A copy of the drawn data set, to be damaged."""
    shutil.copytree(synthetic_data / "ham10000", tmp_path / "ham10000")
    return tmp_path / "ham10000"


def edit(folder, change):
    path = folder / ham10000.METADATA_NAMES[0]
    change(pd.read_csv(path, keep_default_na=False)).to_csv(path, index=False)


# --- what is read -----------------------------------------------------------------------------


def test_every_photo_is_read_with_its_truth_and_its_file(synthetic_data, synthetic_dataset):
    table = synthetic_dataset.table
    assert synthetic_dataset.name == "ham10000" and synthetic_dataset.classes == HAM10000_CLASSES
    assert len(table) == 56 and table["lesion_id"].nunique() == 42
    assert table["image_id"].is_monotonic_increasing
    for row in table.itertuples():
        assert row.path == str(
            synthetic_data / "ham10000" / "HAM10000_images" / f"{row.image_id}.jpg"
        )


def test_labels_are_indices_into_the_classes(synthetic_dataset):
    labels = synthetic_dataset.labels()
    codes = [synthetic_dataset.classes[label] for label in labels]
    assert codes == list(synthetic_dataset.table["dx"]) and set(labels) == set(range(7))


def test_patients_come_with_unknown_ages(synthetic_dataset):
    patients = synthetic_dataset.patients()
    ages = synthetic_dataset.table["age"].to_numpy()
    assert [patient.age is None for patient in patients] == list(np.isnan(ages))
    assert any(np.isnan(ages)) and not all(np.isnan(ages))
    scale = AgeScale(50, 10)
    vectors = synthetic_dataset.patient_vectors(scale)
    assert vectors.shape == (56, 21) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[7], patients[7].encode(scale))


def test_a_subset_takes_rows_by_number_and_by_truth_value(synthetic_dataset):
    rows = np.array([1, 5, 8])
    chosen = np.isin(np.arange(56), rows)
    for subset in (synthetic_dataset.subset(rows), synthetic_dataset.subset(chosen)):
        assert list(subset.table["image_id"]) == list(
            synthetic_dataset.table["image_id"].iloc[rows]
        )
        assert len(subset.labels()) == 3


def test_the_folder_itself_is_as_good_as_its_parent(synthetic_data, synthetic_dataset):
    again = ham10000.read(synthetic_data / "ham10000")
    pd.testing.assert_frame_equal(again.table, synthetic_dataset.table)


def test_the_images_may_lie_in_the_two_folders_of_the_download(folder, synthetic_dataset):
    first = folder / "HAM10000_images_part_1"
    second = folder / "HAM10000_images_part_2"
    (folder / "HAM10000_images").rename(first)
    second.mkdir()
    for path in sorted(first.iterdir())[::2]:
        path.rename(second / path.name)
    table = ham10000.read(folder).table
    assert len(table) == len(synthetic_dataset.table)


def test_the_tab_separated_table_of_the_dataverse_is_read_too(folder, synthetic_dataset):
    path = folder / "HAM10000_metadata.csv"
    table = pd.read_csv(path, keep_default_na=False).assign(dataset="vidir_modern")
    table.to_csv(folder / "HAM10000_metadata.tab", sep="\t", index=False)
    path.unlink()
    columns = ["image_id", "dx", "age", "sex"]
    read = ham10000.read(folder).table
    pd.testing.assert_frame_equal(read[columns], synthetic_dataset.table[columns])
    assert set(read["source"]) == {"vidir_modern"}  # it names the collections, which ours do not


def test_values_outside_the_lists_become_unknown(folder):
    def change(table):
        table.loc[0, ["age", "sex", "localization"]] = ["", "other", "left knee"]
        return table

    edit(folder, change)
    row = ham10000.read(folder).table.iloc[0]
    assert np.isnan(row["age"]) and row["sex"] == row["localization"] == "unknown"
    assert ham10000.read(folder).patients()[0] == Patient()


# --- what is refused, and how it is said ------------------------------------------------------


def test_a_missing_folder_says_where_to_get_the_data(tmp_path):
    with pytest.raises(DatasetError, match="10.7910/DVN/DBW86T.*DERMSA_DATA"):
        ham10000.read(tmp_path / "nowhere")


def test_no_images_at_all(folder):
    shutil.rmtree(folder / "HAM10000_images")
    with pytest.raises(DatasetError, match="No image.*HAM10000_images"):
        ham10000.read(folder)
    assert len(ham10000.listing(folder).table) == 56  # the table alone needs none


def test_some_images_are_missing(folder):
    for name in ("SYN_0000003", "SYN_0000005"):
        (folder / "HAM10000_images" / f"{name}.jpg").unlink()
    with pytest.raises(DatasetError, match=r"2 of 56 images are missing.*SYN_0000003\.jpg"):
        ham10000.read(folder)


def test_a_repeated_image(folder):
    edit(folder, lambda table: pd.concat([table, table.iloc[[4]]]))
    with pytest.raises(DatasetError, match="SYN_0000004 twice"):
        ham10000.read(folder)


@pytest.mark.parametrize("code", ["scc", "", "NV"])
def test_an_unknown_diagnosis(folder, code):
    def change(table):
        table.loc[2, "dx"] = code
        return table

    edit(folder, change)
    with pytest.raises(DatasetError, match="diagnoses that HAM10000 does not have"):
        ham10000.read(folder)


def test_several_unknown_diagnoses_are_all_named(folder):
    def change(table):
        table.loc[[2, 3], "dx"] = ["", "scc"]
        return table

    edit(folder, change)
    with pytest.raises(DatasetError, match="nan, scc"):
        ham10000.read(folder)


def test_a_missing_column(folder):
    edit(folder, lambda table: table.drop(columns=["age", "lesion_id"]))
    with pytest.raises(DatasetError, match="lacks the column.* lesion_id, age"):
        ham10000.read(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 50, b"no table at all"])
def test_a_file_that_is_no_table(folder, content):
    (folder / "HAM10000_metadata.csv").write_bytes(content)
    with pytest.raises(DatasetError, match="HAM10000_metadata.csv"):
        ham10000.read(folder)


# --- the data folder --------------------------------------------------------------------------


def test_dermsa_data_names_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DERMSA_DATA", str(tmp_path))
    assert data_root() == tmp_path


# --- the real data set ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    try:
        return ham10000.read(data_root() or "ham10000")
    except DatasetError as reason:
        pytest.skip(f"HAM10000 is not here (set DERMSA_DATA): {reason}")


@pytest.mark.real_data
def test_the_real_data_set_is_complete(real):
    assert len(real.table) == 10_015
    lesions = real.table.groupby("lesion_id").size()
    assert len(lesions) == 7_470 and (lesions > 1).sum() == 1_956
    assert real.table["dx"].value_counts().to_dict() == REAL_COUNTS
    assert real.table["age"].isna().sum() == 57
    assert (real.table["sex"] == "unknown").sum() == 57
    assert (real.table["localization"] == "unknown").sum() == 234


@pytest.mark.real_data
def test_a_lesion_has_one_diagnosis(real):
    assert (real.table.groupby("lesion_id")["dx"].nunique() == 1).all()
