"""Sweeps: every combination, once, and the published tables."""

import pytest

from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import sweeps
from dermsa.training.config import TrainingConfig
from dermsa.training.presets import PRESETS


def test_a_grid_has_every_combination_once():
    planned = sweeps.grid(
        TrainingConfig(ClassifierConfig(cut="published"), epochs=3),
        {"backbone": ["MobileNetV2", "MobileNetV3Small"], "seed": [0, 1, 2]},
    )
    assert [each.title for each in planned] == [
        f"{backbone}, seed {seed}"
        for backbone in ("MobileNetV2", "MobileNetV3Small")
        for seed in (0, 1, 2)
    ]
    assert {each.config.epochs for each in planned} == {3}
    assert {each.config.classifier.cut for each in planned} == {"published"}
    assert len({each.config for each in planned}) == 6


def test_what_follows_from_a_setting_follows():
    config = sweeps.changed(
        TrainingConfig(ClassifierConfig(input_size=(64, 64))),
        {"backbone": "InceptionResNetV2", "dataset": "isic2017"},
    )
    assert config.classifier.input_size == (299, 299)
    assert config.classifier.classes == ("mel", "nv", "sk")
    assert sweeps.changed(config, {"input_size": 320}).classifier.input_size == (320, 320)


def test_a_field_that_does_not_exist_is_refused_by_name():
    with pytest.raises(ValueError, match="no setting 'lerning_rate'. Did you mean learning_rate"):
        sweeps.grid(TrainingConfig(), {"lerning_rate": [1e-3]})
    with pytest.raises(ValueError, match="no value to try for seed"):
        sweeps.grid(TrainingConfig(), {"seed": []})
    with pytest.raises(ValueError, match="no value to try for any setting"):
        sweeps.grid(TrainingConfig(), {})


def test_every_preset_stands_in_a_table():
    tables = sweeps.tables()
    assert {preset.name for presets in tables.values() for preset in presets} == set(PRESETS)
    for name, same in sweeps.NUMBERS.items():
        assert sweeps.table(name) == sweeps.table(same)


def test_a_table_gives_its_rows():
    planned = sweeps.table("datta2021/split-size")
    assert [each.config.protocol for each in planned] == [
        "datta-85-15",
        "datta-80-20",
        "datta-70-30",
    ]
    with pytest.raises(ValueError, match="no published table 'sensors'.*sensors2022/mobile"):
        sweeps.table("sensors")


def test_its_runs_are_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path))
    made = sweeps.make_runs(sweeps.grid(TrainingConfig(), {"seed": [1, 2]}), "seeds")
    assert [run.about()["tags"] for run in made] == [["seeds"], ["seeds"]]
    assert [run.config().seed for run in made] == [1, 2]
