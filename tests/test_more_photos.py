"""Photos of another data set that train, too: which ones, under which names, and where not."""

import shutil

import numpy as np
import pandas as pd
import pytest
from tiny import config_of

from dermsa.cli import main
from dermsa.datasets import more_photos, registry
from dermsa.datasets.dataset import DatasetError
from dermsa.inference import store
from dermsa.taxonomy import HAM10000_CLASSES
from dermsa.training import runs
from dermsa.training.examples import split_rows
from dermsa.training.export import _more
from dermsa.training.runs import create_run
from dermsa.training.trainer import _read, train


@pytest.fixture(scope="module")
def own(both_sources):
    return registry.read("ham10000", both_sources)


def test_its_diagnoses_have_the_names_of_ham10000(both_sources, own):
    more = more_photos.read("isic2017", own, both_sources)
    original = registry.read("isic2017", both_sources).table.set_index("image_id")["dx"]
    assert more.classes == HAM10000_CLASSES
    for image_id, dx in zip(more.table["image_id"], more.table["dx"], strict=True):
        assert dx == {"mel": "mel", "nv": "nv", "sk": "bkl"}[original[image_id]]
    assert more_photos.by_class(more) | {"mel": 3, "nv": 4, "bkl": 4} == more_photos.by_class(more)


def test_what_shows_a_lesion_of_the_data_set_is_left_out(both_sources, own):
    told = []
    kept = more_photos.read("isic2017", own, both_sources, told.append).table["image_id"]
    assert "SYN_0000000" not in set(kept) and len(kept) == 11
    # What was found is kept: nothing is compared again.
    again, told_again = more_photos.read("isic2017", own, both_sources, told.append), len(told)
    assert again.table["image_id"].tolist() == kept.tolist() and len(told) == told_again


def test_a_half_and_the_rest_are_all_photos_once_and_neighbours_stay_together(
    both_sources, own, monkeypatch
):
    monkeypatch.setattr(more_photos, "TOGETHER", 2)
    whole, half, rest = (
        more_photos.read(name, own, both_sources).table["image_id"].tolist()
        for name in ("isic2017", "isic2017-half", "isic2017-rest")
    )
    assert sorted(half + rest) == sorted(whole) and not set(half) & set(rest)
    assert half == [f"SYN_{number:07d}" for number in (1, 4, 5, 8, 9)]  # 0 is of both data sets
    counted = [
        len(more_photos.listed(name, own, both_sources).table)
        for name in ("isic2017-half", "isic2017-rest")
    ]
    assert counted == [6, 6]


def test_no_lesion_of_the_half_is_in_the_rest(both_sources, own, monkeypatch, tmp_path):
    monkeypatch.setattr(more_photos, "TOGETHER", 2)
    root = tmp_path / "data"
    shutil.copytree(both_sources, root)
    photos = root / "isic2017" / "ISIC-2017_Training_Data"
    shutil.copy(photos / "SYN_0000001.jpg", photos / "SYN_0000003.jpg")
    half, rest = (
        set(more_photos.read(f"isic2017-{part}", own, root).table["image_id"])
        for part in ("half", "rest")
    )
    assert "SYN_0000001" in half and "SYN_0000003" not in rest and len(rest) == 5


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("isic2017 isic2017", True),
        ("isic2017 isic2017-half", True),
        ("isic2017-rest isic2017", True),
        ("isic2017-half isic2017-half", True),
        ("isic2017-half isic2017-rest", False),
        ("isic2017-rest isic2017-half", False),
    ],
)
def test_which_of_them_have_photos_in_common(names, expected):
    assert more_photos.overlap(*names.split()) is expected


def test_rows_of_the_data_set_keep_their_numbers(both_sources, own):
    more = more_photos.read("isic2017", own, both_sources)
    both = more_photos.joined(own, more)
    pd.testing.assert_frame_equal(both.table[: len(own.table)][own.table.columns], own.table)
    assert both.labels()[len(own.table) :].tolist() == more.labels().tolist()


@pytest.mark.usefixtures("tiny_backbone")
def test_they_train_and_are_neither_validated_nor_tested(both_sources, own):
    plain = create_run(config_of(epochs=1))
    run = create_run(config_of(epochs=1, more_photos="isic2017"))
    parts = split_rows(plain, plain.config(), own)
    examples, with_more = _read(run, run.config(), both_sources)
    rows = np.arange(len(own.table), len(own.table) + 11)
    assert with_more["train"].tolist() == [*parts["train"], *rows]
    for part in ("validation", "test"):
        assert with_more[part].tolist() == parts[part].tolist()
    # Each row has its own photo, label and patient, also across both data sets.
    more = more_photos.read("isic2017", own, both_sources)
    mixed = np.array([rows[4], 3, rows[0], 0])
    alone = [
        _read(plain, plain.config(), both_sources)[0].inputs(np.array([row])) for row in (3, 0)
    ]
    found = examples.inputs(mixed)
    np.testing.assert_array_equal(found["image"][1], alone[0]["image"][0])
    np.testing.assert_array_equal(found["image"][3], alone[1]["image"][0])
    np.testing.assert_array_equal(found["patient"][[1, 3]], [a["patient"][0] for a in alone])
    assert examples.labels[mixed].tolist() == [more.labels()[4], own.labels()[3]] + [
        more.labels()[0],
        own.labels()[0],
    ]
    train(run, both_sources)
    assert "11 photos of isic2017 train, too" in (run.folder / "train.log").read_text()


@pytest.mark.usefixtures("tiny_backbone")
def test_only_those_that_trained_are_told_of_where_there_is_a_limit(both_sources, own):
    run = create_run(config_of(epochs=1, more_photos="isic2017", limit=5))
    examples, parts = _read(run, run.config(), both_sources)
    rows = parts["train"][parts["train"] >= len(own.table)]
    found = _more(run.config(), own, both_sources)[0]["isic2017"]
    assert found["images"] == len(rows) == 5
    counts = np.bincount(examples.labels[rows], minlength=len(own.classes))
    assert [found["by_class"].get(code, 0) for code in own.classes] == counts.tolist()
    first = create_run(config_of(epochs=1, more_photos="isic2017"))
    second = create_run(config_of(epochs=1, more_photos="isic2017", limit=5, start_from=first.id))
    assert _more(second.config(), own, both_sources)[0]["isic2017"]["images"] == 11


@pytest.mark.usefixtures("tiny_backbone")
def test_a_model_tells_of_them_also_where_only_its_start_was_trained_on_them(
    both_sources, own, monkeypatch, tmp_path
):
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    settings = "--backbone Tiny --input-size 64 --initial-weights none --epochs 1 --batch-size 8"
    settings = ["train", *settings.split(), "--data", str(both_sources)]
    assert main([*settings, "--title", "with-more", "--more-photos", "isic2017"]) == 0
    first = next(run for run in runs.all_runs() if "with-more" in run.id)
    assert main([*settings, "--title", "second-stage", "--start-from", first.id]) == 0
    second = next(run for run in runs.all_runs() if "second-stage" in run.id)
    assert main(["export", second.id, "--name", "second", "--data", str(both_sources)]) == 0
    card = store.read_card("second")
    assert card["data"]["more"]["isic2017"]["images"] == 11 and "ISIC 2017" in card["licence"]
    assert main(["evaluate", "--model", "second", "--elsewhere", "isic2017"]) == 2
    # A third stage learns it from the model, and one whose start is gone says so.
    third = create_run(config_of(start_from="second"))
    assert _more(third.config(), own, both_sources) == (card["data"]["more"], [])
    runs.delete(first)
    found, (unknown,) = _more(second.config(), own, both_sources)
    assert found == {} and f"{first.id}, which is not there any more" in unknown


@pytest.mark.usefixtures("tiny_backbone")
def test_only_where_the_diagnoses_are_the_same():
    with pytest.raises(ValueError, match="More photos.*ham10000"):
        config_of(dataset="isic2017-nv-sk", more_photos="isic2017")


def test_a_missing_data_set_is_named(own, tmp_path):
    with pytest.raises(DatasetError, match="No ISIC 2017"):
        more_photos.read("isic2017", own, tmp_path)
