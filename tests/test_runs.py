"""Runs on disk: named, found, claimed by one process, and never believed alive when dead."""

import dataclasses
import json
import os
import subprocess
import sys

import pandas as pd
import psutil
import pytest

from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import overview, runs
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import Run, RunError, create_run, started_at

CONFIG = TrainingConfig(ClassifierConfig("MobileNetV3Small", input_size=(64, 96)), epochs=3)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def run():
    return create_run(CONFIG)


@pytest.fixture
def other_process():
    """A living process that is not this one."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def claimed_by(run, process, state="running"):
    run.update(state=state, pid=process.pid, pid_started=started_at(process.pid), error=None)


def test_a_process_stays_the_same_when_the_clock_is_put_right(monkeypatch):
    started, created, booted = started_at(os.getpid()), psutil.Process.create_time, psutil.boot_time
    boot, seconds = started
    assert runs.is_alive(os.getpid(), started)
    assert not runs.is_alive(os.getpid(), [boot, seconds - 5])
    assert not runs.is_alive(os.getpid(), ["another start of the machine", seconds])
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 1)
    monkeypatch.setattr(psutil, "boot_time", lambda: booted() + 1)
    assert runs.is_alive(os.getpid(), started)


# --- making and finding -----------------------------------------------------------------------


def test_a_run_keeps_all_that_is_needed_to_repeat_it(run):
    assert run.config() == CONFIG
    about = run.about()
    assert {"title", "created", "config", "versions", "git_commit"} <= set(about)
    assert {"python", "keras", "numpy"} <= set(about["versions"])


def test_it_is_named_by_its_title(folder):
    run = create_run(CONFIG, "Größer & bunter: 2nd try!")
    assert run.folder.parent == folder
    assert run.id.endswith("-gr-er-bunter-2nd-try")
    assert create_run(CONFIG).id.endswith("-mobilenetv3small")
    assert len(create_run(CONFIG, "x" * 500).id) < 80


def test_runs_of_the_same_second_get_folders_of_their_own():
    made = [create_run(CONFIG, "same") for _ in range(4)]
    assert len({run.folder for run in made}) == 4


def test_a_run_is_found_by_its_name_and_by_its_folder(run):
    assert runs.find_run(run.id) == run
    assert runs.find_run(str(run.folder)) == run
    with pytest.raises(RunError, match="There is no run 'nonsense'"):
        runs.find_run("nonsense")


def test_all_runs_come_newest_first(folder):
    assert runs.all_runs() == []
    for name in ("20250101-000000-a", "20260101-000000-c", "20250601-000000-b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "no-run").mkdir()
    assert [run.id[-1] for run in runs.all_runs()] == ["c", "b", "a"]


def test_metrics_are_empty_before_the_first_epoch(run):
    assert len(run.metrics()) == 0


# --- who trains -------------------------------------------------------------------------------


def test_a_claim_names_this_process(run):
    run.claim()
    status = run.status()
    assert status["state"] == "preparing" and status["pid"] == os.getpid()
    assert status["error"] is None and status["heartbeat"]


def test_a_run_that_another_process_trains_is_refused(run, other_process):
    claimed_by(run, other_process)
    with pytest.raises(RunError, match=f"trained by process {other_process.pid}"):
        run.claim()
    assert run.status()["state"] == "running" and run.status()["pid"] == other_process.pid


@pytest.mark.parametrize("state", runs.ACTIVE)
def test_a_run_whose_process_died_is_lost_and_can_be_claimed(run, other_process, state):
    claimed_by(run, other_process, state)
    assert run.status()["state"] == state
    other_process.kill()
    other_process.wait()
    assert run.status()["state"] == "lost"
    run.claim()
    assert run.status()["pid"] == os.getpid()


def test_another_process_under_the_same_number_is_not_taken_for_it(run, other_process):
    run.update(state="running", pid=other_process.pid, pid_started=1.0)
    assert run.status()["state"] == "lost"


@pytest.mark.parametrize("state", ["stopped", "finished", "failed"])
def test_a_run_that_ended_stays_so_whoever_has_its_number(run, other_process, state):
    claimed_by(run, other_process, state)
    assert run.status()["state"] == state
    run.claim()


# --- files ------------------------------------------------------------------------------------


def test_an_update_keeps_the_other_fields(run):
    run.claim()
    run.update(epoch=4)
    run.update(state="finished")
    status = run.status()
    assert (status["epoch"], status["state"], status["pid"]) == (4, "finished", os.getpid())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "status.json"
    runs.write_atomically(path, b"old")

    def broken(*_):
        assert path.read_bytes() == b"old"  # until the very last step
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        runs.write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["status.json"]


def test_the_folder_can_be_chosen(folder, monkeypatch):
    assert runs.runs_folder() == folder
    monkeypatch.delenv("DERMSA_RUNS")
    assert runs.runs_folder().name == "runs"


# --- the configuration ------------------------------------------------------------------------


def test_a_configuration_survives_json():
    assert TrainingConfig.from_dict(json.loads(CONFIG.to_json())) == CONFIG


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("protocol", "image", "Unknown protocol 'image'. Expected one of: lesion"),
        ("class_weights", "new", "Unknown class_weights 'new'.*balanced"),
        ("augmentation", "mild", "Unknown augmentation 'mild'.*strong"),
        ("monitor", "f1", "Unknown monitor 'f1'.*macro_recall"),
        ("label_smoothing", 1.0, "label_smoothing to be from 0 to below 1. Received: 1.0"),
        ("forget_rate", -0.1, "forget_rate"),
        ("learning_rate", 0, "learning_rate to be above 0. Received: 0"),
        ("epochs", 0, "epochs to be at least 1. Received: 0"),
        ("batch_size", 0, "batch_size"),
        ("limit", -1, "limit to be at least 0"),
        ("dataset", "ham", "Unknown dataset 'ham'.*ham10000"),
        ("dataset", "isic2017-nv-sk", "2 diagnoses of isic2017-nv-sk: nv, sk. Received: akiec"),
        ("loss", "hinge", "Unknown loss 'hinge'.*focal"),
        ("class_weights", "1,2,3", "7 class_weights, for akiec, bcc.*Received 3"),
        ("sampling", "smote", "Unknown sampling 'smote'.*balanced"),
        ("optimizer", "sgd", "Unknown optimizer 'sgd'. Expected one of: adamw, adam"),
        ("schedule", "step", "Unknown schedule 'step'.*plateau"),
        ("precision", "float16", "Unknown precision 'float16'.*mixed_float16"),
        ("plateau_factor", 1.0, "plateau_factor to be above 0 and below 1"),
        ("early_stopping", -1, "early_stopping to be at least 0"),
        ("focal_gamma", float("nan"), "focal_gamma to be at least 0"),
        ("augmentation_strength", -1, "augmentation_strength to be at least 0"),
        ("layer_decay", 0.0, "layer_decay to be above 0 and at most 1"),
        ("average_decay", 1.0, "average_decay to be from 0 to below 1"),
        ("accumulate", 0, "accumulate to be at least 1"),
        ("head_epochs", 20, "head_epochs to leave some of the 20 epochs.*Received: 20"),
        ("head_learning_rate", 0.0, "head_learning_rate to be above 0"),
        ("batchnorm", "off", "Unknown batchnorm 'off'.*keep_statistics"),
        ("xla", "yes", "Unknown xla 'yes'.*auto, on, off"),
        ("epoch_images", 100, "'none' has its own length: no epoch_images"),
        ("fold", 1, "protocol lesion has no folds. Received: 1"),
        ("protocol", "isic2018", "isic2018 does not divide the data set ham10000.*: lesion"),
        ("dataset", "isic2018", "lesion does not divide the data set isic2018.*: isic2018."),
    ],
)
def test_a_setting_that_cannot_be_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(CONFIG.classifier, **{field: value})


def test_a_fold_is_one_of_those_that_there_are():
    assert TrainingConfig(CONFIG.classifier, protocol="lesion-kfold", fold=4).fold == 4
    with pytest.raises(ValueError, match="a fold from 0 to 4. Received: 5"):
        TrainingConfig(CONFIG.classifier, protocol="lesion-kfold", fold=5)


def test_an_epoch_of_given_length_holds_a_batch_and_all_diagnoses():
    with pytest.raises(ValueError, match="fill a batch of 32.*all 7 diagnoses. Received: 31"):
        TrainingConfig(CONFIG.classifier, sampling="over", epoch_images=31)
    with pytest.raises(ValueError, match="Received: 6"):
        TrainingConfig(CONFIG.classifier, sampling="over", batch_size=2, epoch_images=6)


def test_every_setting_says_what_it_is():
    for setting in dataclasses.fields(TrainingConfig)[1:]:
        assert setting.metadata["help"]
        assert not setting.metadata["choices"] or setting.default in setting.metadata["choices"]


def test_a_run_made_before_there_were_choices_is_read(run):
    """Such a run names no data set, and says True for the patient branch that there was."""
    path = run.folder / "config.json"
    about = json.loads(path.read_text())
    about["config"]["classifier"]["patient_branch"] = True
    newer = ("dataset", "fold", "loss", "sampling", "optimizer", "schedule", "precision")
    newer += ("layer_decay", "head_epochs", "average_decay", "accumulate", "batchnorm", "xla")
    for name in newer:
        del about["config"][name]
    path.write_text(json.dumps(about))
    assert run.config() == CONFIG


def test_metrics_can_be_read_up_to_an_epoch_and_are_exact(run):
    losses = [1 / 3, 2 / 7, 1e-17 / 3]
    table = pd.DataFrame({"epoch": [1, 2, 3], "loss": losses})
    runs.write_atomically(run.folder / "metrics.csv", table.to_csv(index=False).encode())
    assert list(run.metrics()["loss"]) == losses
    assert list(run.metrics(until_epoch=2)["epoch"]) == [1, 2]


def test_a_run_reads_its_folder_every_time(run):
    run.claim()
    Run(run.folder).update(epoch=9)
    assert run.status()["epoch"] == 9


# --- more epochs ------------------------------------------------------------------------------


def with_epochs(run, recalls, state="finished"):
    table = pd.DataFrame({"epoch": range(1, 1 + len(recalls)), "macro_recall": recalls})
    table.to_csv(run.folder / "metrics.csv", index=False)
    run.update(state=state, epoch=len(recalls), progress=1.0)


def test_a_finished_run_that_is_extended_can_go_on(run):
    with_epochs(run, [0.1, 0.2, 0.3])
    run.extend(6)
    assert run.state == "stopped" and run.config().epochs == 6
    assert run.status()["progress"] == 0.5
    with pytest.raises(RunError, match="6 epochs, of which 3 are done: more are needed"):
        run.extend(6)
    assert run.about()["extended"][0]["to"] == 6


def test_one_that_stopped_early_goes_on_with_more_patience():
    early = dataclasses.replace(CONFIG, epochs=9, early_stopping=2)
    run = create_run(early)
    with_epochs(run, [0.3, 0.2, 0.1])
    with pytest.raises(RunError, match="stopped early: no epoch after epoch 1 .* above 2, or 0"):
        run.extend(12)
    with pytest.raises(RunError, match="with early_stopping 1 no further"):
        run.extend(12, early_stopping=1)
    with pytest.raises(RunError, match="more are needed"):
        run.extend(8, early_stopping=0)
    with pytest.raises(RunError, match="at least 0. Received: -1"):
        run.extend(12, early_stopping=-1)
    assert run.state == "finished" and run.config() == early
    run.extend(9, early_stopping=3)  # to the length that it was made for
    assert run.state == "stopped"
    assert run.config() == dataclasses.replace(early, early_stopping=3)


# --- what it says -----------------------------------------------------------------------------


def test_the_log_ends_with_what_only_the_process_printed(run):
    said, printed = run.folder / "train.log", run.folder / "console.log"
    printed.write_text("no such module\n")
    assert run.log() == "no such module\n"
    said.write_text("1 begins\n2 stops\n")
    printed.write_text("noise\n1 begins\n2 stops\n")
    assert run.log() == "1 begins\n2 stops\n"
    with printed.open("a") as file:
        file.write("Traceback\nno such module\n")
    assert run.log() == "1 begins\n2 stops\nTraceback\nno such module\n"
    os.utime(printed, (0, 0))  # it goes on in a terminal since
    assert run.log() == "1 begins\n2 stops\n"


def test_a_training_without_a_sign_of_life_does_not_respond(run, other_process, monkeypatch):
    claimed_by(run, other_process)
    assert "not_responding_since" not in run.status()
    past = "2026-01-01T10:00:00+00:00"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "now", lambda: past)
        claimed_by(run, other_process)
    assert run.status()["not_responding_since"] == past and run.state == "running"
    assert overview.row(run).silent_since.isoformat() == past
    other_process.kill()
    other_process.wait()
    assert run.state == "lost" and "not_responding_since" not in run.status()
