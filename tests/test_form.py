"""Settings as they are asked for: all of them, in one group each, and only where they matter."""

import dataclasses
import json

import pytest

from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import form
from dermsa.training.config import TrainingConfig
from dermsa.training.presets import PRESETS


def test_every_setting_stands_in_one_group_and_explains_itself():
    grouped = [name for names in form.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(form.FIELDS)
    assert all(field.metadata["help"] for field in form.FIELDS.values())
    assert set(form.NEEDS) <= set(form.FIELDS)


def test_what_does_not_matter_is_not_asked():
    values = form.defaults()
    assert form.applies("warmup_steps", values)
    assert not form.applies("warmup_steps", values | {"schedule": "plateau"})
    assert form.applies("plateau_factor", values | {"schedule": "plateau"})
    assert not form.applies("focal_gamma", values)
    assert not form.applies("augmentation_strength", values | {"augmentation": "none"})
    assert not form.applies("kernel", values | {"head": "global_pooling"})


@pytest.mark.parametrize("name", ["sensors2022/VGG16/AD", "datta2021/isic2017/IRv2-12x12+SA"])
def test_settings_survive_the_form(name):
    config = PRESETS[name].config()
    values = form.flat(json.loads(config.to_json()))
    nested = form.nested(values)
    nested["classifier"]["input_size"] = (values["input_size"],) * 2
    nested["classifier"]["classes"] = config.classifier.classes
    assert TrainingConfig.from_dict(nested) == config


def test_older_configurations_get_the_defaults_of_what_they_lack():
    old = dataclasses.asdict(TrainingConfig(ClassifierConfig(patient_branch=False)))
    del old["device"]
    old["classifier"]["patient_branch"] = True
    values = form.flat(old)
    assert values["device"] == "auto" and values["patient_branch"] == "dense4096"
