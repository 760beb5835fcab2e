"""Looking a data set over: each kind of damage is found, and nothing else."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from dermsa import cli
from dermsa.datasets import check, registry, splits, synthetic

METADATA = "HAM10000_metadata.csv"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    synthetic.write_ham10000(root / "ham10000", lesions_per_class=3, size=(96, 128))
    synthetic.write_isic2017(root / "isic2017", lesions_per_class=3, size=(96, 96))
    synthetic.write_isic2018_test(root / "isic2018", lesions_per_class=1, size=(96, 128))
    return root


@pytest.fixture
def root(drawn, tmp_path):
    """A copy, to be damaged."""
    shutil.copytree(drawn, tmp_path / "data")
    return tmp_path / "data"


def image(root, number):
    return root / "ham10000" / "HAM10000_images" / f"SYN_{number:07d}.jpg"


def mask(root, number):
    name = f"SYN_{number:07d}_segmentation.png"
    return root / "ham10000" / "HAM10000_segmentations" / name


def ids(rows):
    return [row["image_id"] for row in rows]


def found_in(root, name="ham10000", split=None):
    """What was found, without the kinds that were not and without unknown values."""
    report = check.check(name, root, split, progress=False)
    return {kind: rows for kind, rows in report.found.items() if rows and kind != "unknown_values"}


@pytest.mark.parametrize("name", registry.DATASETS)
def test_nothing_is_wrong_with_a_drawn_data_set(name, drawn):
    report = check.check(name, drawn, progress=False)
    dataset = registry.read(name, drawn)
    assert report.problems == []
    assert report.images == len(dataset.table) == sum(report.sizes.values())
    assert report.lesions == dataset.table["lesion_id"].nunique()
    assert report.by_class == {
        code: int((dataset.table["dx"] == code).sum()) for code in dataset.classes
    }
    assert report.unknown["age"] == dataset.table["age"].isna().sum()
    assert json.loads(json.dumps(report.plain(), allow_nan=False))["dataset"] == name


def test_images_that_are_missing_unlisted_unreadable_or_odd(root):
    image(root, 2).unlink()
    shutil.copy(image(root, 3), image(root, 99))
    image(root, 4).write_bytes(image(root, 4).read_bytes()[:500])
    # One odd size of 28 images is less than one in twenty.
    cv2.imwrite(str(image(root, 5)), np.full((90, 120, 3), 128, np.uint8))
    found = found_in(root)
    assert set(found) == {
        "missing_images",
        "unlisted_images",
        "unreadable_images",
        "odd_sizes",
    }
    assert ids(found["missing_images"]) == ["SYN_0000002"]
    assert ids(found["unlisted_images"]) == ["SYN_0000099"]
    assert ids(found["unreadable_images"]) == ["SYN_0000004"]
    assert "damaged" in found["unreadable_images"][0]["fault"]
    assert found["odd_sizes"] == [{"image_id": "SYN_0000005", "size": "120 x 90"}]


def test_repeated_files_and_twins(root):
    table = pd.read_csv(root / "ham10000" / METADATA)
    lesion = dict(zip(table["image_id"], table["lesion_id"], strict=True))
    shutil.copy(image(root, 7), image(root, 20))
    assert lesion["SYN_0000007"] != lesion["SYN_0000020"]
    found = found_in(root)
    pair = ["SYN_0000007", "SYN_0000020"]
    assert set(found) == {"same_files", "twins"}
    assert found["same_files"][0]["image_ids"] == pair
    assert found["same_files"][0]["lesion_ids"] == sorted(lesion[name] for name in pair)
    assert found["twins"][0]["image_ids"] == pair and found["twins"][0]["agreement"] == 1


def test_masks_that_are_missing_unlisted_or_do_not_fit(root):
    mask(root, 1).rename(mask(root, 98))
    cv2.imwrite(str(mask(root, 2)), np.eye(96, dtype=np.uint8))
    found = found_in(root)
    assert set(found) == {"missing_masks", "unlisted_masks", "unfit_masks"}
    assert ids(found["missing_masks"]) == ["SYN_0000001"]
    assert ids(found["unlisted_masks"]) == ["SYN_0000098"]
    assert ids(found["unfit_masks"]) == ["SYN_0000002"]
    shutil.rmtree(mask(root, 1).parent)
    assert found_in(root) == {}  # masks are optional


def test_lesions_with_several_diagnoses_and_rows_with_unknown_values(root):
    path = root / "ham10000" / METADATA
    table = pd.read_csv(path).assign(age=50, sex="male", localization="back")
    lesions = table["lesion_id"].value_counts()
    twice = lesions.index[lesions == 2][0]
    row = table.index[table["lesion_id"] == twice][0]
    table.loc[row, "dx"] = "mel" if table.loc[row, "dx"] != "mel" else "nv"
    table.loc[4, ["sex", "localization"]] = "unknown"
    table.to_csv(path, index=False)
    report = check.check("ham10000", root, progress=False)
    assert report.found["lesions_with_several_diagnoses"] == [{"lesion_id": twice}]
    assert report.found["unknown_values"] == [
        {"image_id": table.loc[4, "image_id"], "unknown": ["sex", "localization"]}
    ]
    assert report.unknown == {"age": 0, "sex": 1, "localization": 1}
    assert report.problems == ["1 lesions with several diagnoses."]


def test_label_files_that_do_not_fit_each_other(root):
    path = root / "isic2017" / "ISIC-2017_Training_Data_metadata.csv"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    found = found_in(root, "isic2017")
    assert "lacks 1 images of" in found["label_files"][0]["fault"]


def test_a_split_is_looked_over_too(root):
    shutil.copy(image(root, 7), image(root, 19))
    table = pd.read_csv(root / "ham10000" / METADATA)
    again = table["image_id"][table["lesion_id"].duplicated()].tolist()
    parts = pd.Series("train", sorted(table["image_id"]))
    parts[["SYN_0000019", again[0]]] = "test"
    split = splits.Split("lesion", 0, parts)
    assert not {"SYN_0000007", "SYN_0000019"} & set(again)
    report = check.check("ham10000", root, split, progress=False)
    lesion = table.loc[table["image_id"] == again[0], "lesion_id"].item()
    assert report.found["shared_lesions"] == [{"lesion_id": lesion, "parts": ["test", "train"]}]
    assert report.found["shared_twins"] == [
        {"image_ids": ["SYN_0000007", "SYN_0000019"], "parts": ["train", "test"]}
    ]
    assert report.leakage.shared_images == 1
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    assert plain["leakage"]["images"] == 2


# --- the command line -------------------------------------------------------------------------


def test_the_command_prints_what_it_found(root, capsys):
    image(root, 2).unlink()
    assert cli.main(["data", "check", "--data", str(root), "--protocol", "image-90-10"]) == 0
    out = capsys.readouterr().out
    assert "1 images that are missing." in out and "SYN_0000002" in out
    assert "The test images also chose the checkpoint." in out


def test_the_command_reads_a_split_and_prints_json(drawn, tmp_path, capsys):
    split = splits.draw(registry.read("isic2017-nv-sk", drawn), "lesion")
    split.write(tmp_path / "split.csv")
    arguments = ["--dataset", "isic2017-nv-sk", "--split", str(tmp_path / "split.csv"), "--json"]
    assert cli.main(["data", "check", "--data", str(drawn), *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == 6 and report["problems"] == []
    assert report["leakage"]["shared_images"] == 0


def test_the_command_refuses_in_one_sentence(drawn, tmp_path, capsys):
    (tmp_path / "wrong.csv").write_text("nothing")
    for arguments, message in (
        (["--dataset", "ham"], "Unknown data set 'ham'"),
        (["--dataset", "isic2017", "--protocol", "isic2018"], "--dataset isic2018"),
        (["--split", str(tmp_path / "wrong.csv")], "wrong.csv is not a readable split file"),
        (["--split", "a.csv", "--protocol", "lesion"], "either --split or --protocol"),
    ):
        assert cli.main(["data", "check", "--data", str(drawn), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_the_data_sets_are_listed(capsys):
    assert cli.main(["data", "list", "--json"]) == 0
    listed = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(registry.DATASETS)
    assert listed["isic2017"]["classes"] == ["mel", "nv", "sk"]
    assert cli.main(["data", "list"]) == 0
    assert "CC BY-NC 4.0" in capsys.readouterr().out
