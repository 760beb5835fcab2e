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
    nested["classifier"]["classes"] = config.classifier.classes
    assert TrainingConfig.from_dict(nested) == config


def test_older_configurations_get_the_defaults_of_what_they_lack():
    old = dataclasses.asdict(TrainingConfig(ClassifierConfig(patient_branch=False)))
    del old["device"]
    old["classifier"]["patient_branch"] = True
    values = form.flat(old)
    assert values["device"] == "auto" and values["patient_branch"] == "dense4096"


def test_what_does_not_matter_has_its_default():
    values = form.defaults() | {"epoch_images": 2000, "fold": 3, "epsilon": 0.1}
    told = form.that_apply(values)
    assert (told["epoch_images"], told["fold"], told["epsilon"]) == (0, 0, 0.1)
    values |= {"sampling": "over", "protocol": "lesion-kfold"}
    told = form.that_apply(values)
    assert (told["epoch_images"], told["fold"]) == (2000, 3)
    frozen = values | {"batchnorm": "freeze", "batchnorm_momentum": 0.99}
    assert form.that_apply(frozen)["batchnorm_momentum"] == 0.9
    own = frozen | {"patient_branch": "gessert"}  # normalises by itself, whatever the backbone does
    assert form.that_apply(own)["batchnorm_momentum"] == 0.99


def test_a_size_keeps_both_its_sides():
    config = TrainingConfig(ClassifierConfig(input_size=(192, 256)))
    values = form.flat(json.loads(config.to_json()))
    assert values["input_size"] == (192, 256)
    assert form.in_words(values["input_size"]) == "192 x 256"
    assert form.read_size("192 x 256") == form.read_size("192×256 ") == (192, 256)
    assert form.read_size("224") == (224, 224)
    with pytest.raises(ValueError, match="such as 224, or 192 x 256 .* Received: large"):
        form.read_size("large")
