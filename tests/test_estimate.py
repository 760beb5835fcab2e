"""What a training will take: by what was measured here, else by what the network computes."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from dermsa.datasets import synthetic
from dermsa.datasets.dataset import DatasetError
from dermsa.files import write_atomically
from dermsa.models import arithmetic
from dermsa.models.backbones import BACKBONES
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import devices, estimate, form
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import create_run
from dermsa.training.telemetry import machine_of

TRAINED, VALIDATED = 35, 7  # photos of the synthetic data set, by the protocol lesion


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path))


def values(backbone="MobileNetV2", **settings):
    return form.defaults() | {"backbone": backbone, "device": "cpu"} | settings


def finished_run(seconds, backbone="MobileNetV2", machine=None, title="", **settings):
    """A run on this processor, of 1,000 images an epoch."""
    config = TrainingConfig(ClassifierConfig(backbone), **settings)
    run = create_run(config, title)
    table = pd.DataFrame({"epoch": range(1, 1 + len(seconds)), "seconds": seconds})
    write_atomically(run.folder / "metrics.csv", table.to_csv(index=False).encode())
    machine = machine or machine_of("cpu")
    run.update(state="finished", machine=machine, epoch_images=1000, peak_memory=9 * 10**9)
    return run


def test_a_run_of_the_same_network_says_how_long_its_images_took(synthetic_data):
    run = finished_run([90.0, 40.0, 50.0, 60.0])  # the first epoch has the compiling in it
    found = estimate.estimate(values(), synthetic_data)
    photos = TRAINED + VALIDATED / estimate.BACKWARD
    assert found.seconds_per_epoch == pytest.approx(50 / 1000 * photos)
    assert found.memory == 9 * 10**9
    assert "Measured" in found.how and run.id in found.how


def test_the_backbones_own_size_is_the_same_whether_said_or_not(synthetic_data):
    finished_run([50.0])
    assert "Measured" in estimate.estimate(values(input_size=(224, 224)), synthetic_data).how
    assert "Scaled" in estimate.estimate(values(input_size=(160, 160)), synthetic_data).how


def test_a_run_of_another_network_is_scaled_by_what_both_compute(synthetic_data):
    finished_run([50.0], "VGG16", title="heavy")
    found = estimate.estimate(values(), synthetic_data)
    ratio = arithmetic.kept()["VGG16"]["trunk"].multiply_adds / 300e6
    assert 5 < 50 / 1000 * TRAINED / found.seconds_per_epoch < 2 * ratio
    assert "Scaled from another network" in found.how and "heavy" in found.how
    assert found.memory < 9 * 10**9


def test_runs_on_other_machines_and_from_before_machines_were_noted_say_nothing(synthetic_data):
    finished_run([1e6], machine="Some other processor, 64 cores")
    old = finished_run([1e6], title="old")
    status = json.loads((old.folder / "status.json").read_text())
    del status["machine"]
    (old.folder / "status.json").write_text(json.dumps(status))
    found = estimate.estimate(values(), synthetic_data)
    assert "rule of thumb" in found.how and found.seconds_per_epoch < 1e4


def test_larger_and_heavier_trainings_are_estimated_so(synthetic_data):
    plain = estimate.estimate(values(), synthetic_data)
    for heavier in (
        values(input_size=(320, 320)),
        values("ResNet50"),
        values(sampling="over"),
    ):
        found = estimate.estimate(heavier, synthetic_data)
        assert found.seconds_per_epoch > plain.seconds_per_epoch
    sizes = (values(input_size=(320, 320)), values(input_size=(224, 320)))
    for larger in (*sizes, values(batch_size=64), values(average_decay=0.99)):
        assert estimate.estimate(larger, synthetic_data).memory > plain.memory
    limited = estimate.estimate(values(limit=4), synthetic_data)
    assert limited.seconds_per_epoch < plain.seconds_per_epoch / 5


def test_more_photos_take_more_time(synthetic_data, tmp_path):
    finished_run([50.0])
    plain = estimate.estimate(values(), synthetic_data).seconds_per_epoch
    shutil.copytree(synthetic_data / "ham10000", tmp_path / "ham10000")
    synthetic.write_isic2017(tmp_path / "isic2017", lesions_per_class=4, size=(64, 64))
    more = estimate.estimate(values(more_photos="isic2017"), tmp_path).seconds_per_epoch
    assert more - plain == pytest.approx(50 / 1000 * 12)


def test_a_new_gpu_is_not_guessed(synthetic_data, monkeypatch):
    monkeypatch.setattr(devices, "_gpus", lambda: ("GPU-a1",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(estimate, "machine_of", lambda device: "Some GPU")
    found = estimate.estimate(values(device="gpu:0"), synthetic_data)
    assert found.seconds_per_epoch is None and found.memory > 0
    assert "Nothing was trained on this Some GPU yet" in found.how


def test_missing_data_and_names_are_said(tmp_path, synthetic_data):
    with pytest.raises(DatasetError, match="DERMSA_DATA|No "):
        estimate.estimate(values(), tmp_path)
    with pytest.raises(ValueError, match="no cut 'top' of a backbone 'MobileNetV2'"):
        estimate.estimate(values(cut="top"), synthetic_data)


def test_the_server_of_the_page_needs_no_keras_for_it(synthetic_data):
    script = (
        "import sys; from pathlib import Path; from dermsa.training import estimate, form\n"
        "print(estimate.estimate(form.defaults() | {'device': 'cpu'}, Path(sys.argv[1])))\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, synthetic_data], check=True)


# --- the table --------------------------------------------------------------------------------


def test_every_cut_of_every_backbone_is_counted():
    kept = arithmetic.kept()
    expected = {name: set(record.cuts) for name, record in BACKBONES.items()}
    told = "run python -m dermsa.models.arithmetic"
    assert {name: set(cuts) for name, cuts in kept.items()} == expected, told
    assert kept["MobileNetV3Small"] == arithmetic.count("MobileNetV3Small")


@pytest.mark.parametrize(
    ("backbone", "published"),  # multiply-adds of the whole network, from its paper
    [
        ("MobileNetV2", 300e6),
        ("NASNetMobile", 564e6),
        ("MobileNetV3Large", 219e6),
        ("MobileNetV3Small", 56e6),
        ("ResNet50", 3.8e9),
        ("EfficientNetLite0", 407e6),
        ("VGG16", 15.3e9),
    ],
)
def test_multiply_adds_are_those_of_the_papers(backbone, published):
    """The papers' include the layers after the trunk."""
    counted = arithmetic.kept()[backbone]["trunk"].multiply_adds
    assert 0.93 * published < counted < 1.03 * published
