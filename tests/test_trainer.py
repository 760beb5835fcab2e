"""Training on drawn lesions: what it leaves behind, how it ends and fails."""

import errno
import re
import shutil
import signal

import keras
import numpy as np
import pandas as pd
import pytest
from tiny import SIZE, config_of

from dermsa.datasets import cache, splits
from dermsa.datasets.dataset import DatasetError
from dermsa.machine import processor
from dermsa.models.backbones import NoWeights
from dermsa.models.classifier import build_classifier
from dermsa.patient import age_scale_of
from dermsa.training import checkpoint, methods, trainer
from dermsa.training.checkpoint import Position
from dermsa.training.examples import Examples
from dermsa.training.fused_batchnorm import fuse_batch_normalization
from dermsa.training.reasons import reason
from dermsa.training.recorder import Diverged, Recorder, predict_logits
from dermsa.training.runs import Run, RunError, create_run
from dermsa.training.trainer import train

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture(scope="module")
def trained(synthetic_data, own_folders):
    """A finished run of a real backbone."""
    run = create_run(config_of("MobileNetV3Small"), "trained")
    train(run, synthetic_data)
    return run


# --- what a training leaves -------------------------------------------------------------------


def test_a_finished_run_says_so(trained):
    status = trained.status()
    assert (status["state"], status["epoch"], status["error"]) == ("finished", 2, None)
    assert status["seconds_left"] == 0 and status["doing"] is None
    assert status["peak_memory"] > 2**27 and status["machine"] == processor()
    assert "finished" in (trained.folder / "train.log").read_text()


def test_it_leaves_a_row_for_every_epoch(trained):
    table = trained.metrics()
    assert list(table["epoch"]) == [1, 2]
    for name in ("train_loss", "loss", "accuracy", "macro_recall", "macro_auc", "seconds"):
        assert np.isfinite(table[name]).all()
    assert table["learning_rate"].iloc[-1] < table["learning_rate"].max()  # the cosine's end


def test_it_leaves_the_same_figures_for_tensorboard(trained):
    import tensorflow as tf

    (path,) = (trained.folder / "tensorboard").iterdir()
    events = [e for e in tf.compat.v1.train.summary_iterator(str(path)) if e.summary.value]
    table = trained.metrics().set_index("epoch")
    assert [event.step for event in events] == list(table.index)
    for event in events:
        values = {value.tag: value.simple_value for value in event.summary.value}
        assert values == pytest.approx(table.loc[event.step].to_dict())


def test_it_leaves_the_split_it_drew(trained, synthetic_dataset):
    split = splits.read_split(trained.split)
    assert split.sha256 == splits.lesion_split(synthetic_dataset, 0).sha256


def test_the_best_weights_are_those_of_the_best_epoch(trained, synthetic_dataset):
    """Loaded into a new classifier, they reach the validation figures of that row again."""
    parts = splits.read_split(trained.split)
    age_scale = age_scale_of(
        synthetic_dataset.table["age"].to_numpy()[parts.rows(synthetic_dataset, "train")]
    )
    examples = Examples(
        cache.decoded(synthetic_dataset, SIZE, progress=False),
        synthetic_dataset.patient_vectors(age_scale),
        synthetic_dataset.labels(),
    )
    classifier = build_classifier(trained.config().classifier)
    classifier.load_weights(trained.best_weights)
    rows = parts.rows(synthetic_dataset, "validation")
    logits = predict_logits(classifier, examples, rows)
    table = trained.metrics()
    best = table.loc[table["macro_recall"].idxmax()]  # the first of equals
    accuracy = (logits.argmax(axis=1) == examples.labels[rows]).mean()
    assert accuracy == pytest.approx(best["accuracy"])
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(len(rows)), examples.labels[rows]].mean()
    assert loss == pytest.approx(best["loss"], rel=1e-3)


def test_a_run_says_what_it_is_doing(synthetic_data, tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_CACHE", str(tmp_path))
    monkeypatch.setattr(trainer, "PROGRESS_SECONDS", 0.0)
    said, update = [], Run.update

    def listen(self, **changes):
        if "doing" in changes:
            said.append((changes["doing"], changes.get("fraction")))
        update(self, **changes)

    monkeypatch.setattr(Run, "update", listen)
    train(create_run(config_of(epochs=1)), synthetic_data)
    assert list(dict.fromkeys(doing for doing, _ in said)) == [
        "Reading the data",
        "Decoding the photos",
        "Building the network",
        "Compiling the training step",
        "Training",
        "Validating",
        None,
    ]
    decoded = [fraction for doing, fraction in said if doing == "Decoding the photos"]
    assert decoded == sorted(decoded) and decoded[-1] == 1.0


def test_no_half_written_file_is_left(trained):
    names = {path.name for path in trained.folder.rglob("*") if path.is_file()}
    assert not {name for name in names if name.startswith(".") or "partial" in name}
    assert {"config.json", "status.json", "metrics.csv", "state.npz"} <= names


def test_training_a_finished_run_again_changes_nothing(trained, synthetic_data):
    before = trained.metrics()
    train(trained, synthetic_data)
    assert trained.status()["state"] == "finished"
    pd.testing.assert_frame_equal(trained.metrics(), before)


def test_a_run_that_stops_getting_better_ends_early_and_stays_ended(synthetic_data):
    run = create_run(
        config_of(epochs=30, early_stopping=2, learning_rate=1e-12, monitor="accuracy")
    )
    train(run, synthetic_data)
    table = run.metrics()
    assert run.status()["state"] == "finished"
    assert len(table) < 30
    assert table["accuracy"].iloc[-2:].max() <= table["accuracy"].iloc[:-2].max()
    train(run, synthetic_data)
    pd.testing.assert_frame_equal(run.metrics(), table)


# --- failing ----------------------------------------------------------------------------------


def assert_fails(run, data, kind, message):
    with pytest.raises(kind):
        train(run, data)
    status = run.status()
    assert status["state"] == "failed" and re.search(message, status["error"])
    assert kind.__name__ not in status["error"] and "\n" not in status["error"]
    assert "Traceback" in (run.folder / "train.log").read_text()


def test_missing_data_fail_in_one_sentence(tmp_path):
    assert_fails(create_run(config_of()), tmp_path, DatasetError, "DERMSA_DATA")


def test_missing_starting_weights_fail_in_one_sentence(synthetic_data):
    run = create_run(config_of(initial_weights="/nowhere/to.weights.h5"))
    assert_fails(run, synthetic_data, RunError, "no file of starting weights at /nowhere")


def test_a_start_that_does_not_fit_the_backbone_fails_in_one_sentence(synthetic_data):
    run = create_run(config_of(initial_weights="minimalistic"))
    assert_fails(run, synthetic_data, RunError, "for MobileNetV3Large only.*backbone Tiny")
    run = create_run(config_of(initial_weights="imagenet"))
    assert_fails(run, synthetic_data, NoWeights, "Place none.weights.h5 in the folder")


def test_too_few_images_fail_in_one_sentence(synthetic_data):
    run = create_run(config_of(batch_size=500))
    assert_fails(run, synthetic_data, DatasetError, "do not fill one batch of 500")


def test_a_loss_that_is_no_number_ends_the_run_and_frees_the_signals(synthetic_data):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run = create_run(config_of(learning_rate=1e30, warmup_steps=0, epochs=2))
    assert_fails(run, synthetic_data, Diverged, "infinite or no number.*learning rate")
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert after == before


def at_epoch(epoch, action):
    """A `Recorder.begin` that does something else before an epoch (from 0)."""
    begin = Recorder.begin

    def begin_after(self, position):
        if position.epoch == epoch:
            action(self)
        begin(self, position)

    return begin_after


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_weights_that_are_no_numbers_leave_the_last_good_epoch(synthetic_data, monkeypatch):
    def spoil(recorder):
        weight = recorder.classifier.get_layer("last").kernel
        weight.assign(np.full(weight.shape, np.nan))

    run = create_run(config_of())
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "begin", at_epoch(1, spoil))
        assert_fails(run, synthetic_data, Diverged, "what the epochs before had reached is kept")
    assert checkpoint.position(run.checkpoint) == Position(1)
    build_classifier(run.config().classifier).load_weights(run.best_weights)
    train(run, synthetic_data)
    assert run.state == "finished" and np.isfinite(run.metrics().to_numpy()).all()


def test_a_stop_does_not_overwrite_the_last_good_epoch_with_what_is_no_number(
    synthetic_data, monkeypatch
):
    follow = Recorder.on_train_batch_end

    def spoil_and_stop(self, batch, logs=None):
        self._beat = np.inf  # the look that is taken every few seconds comes too late
        follow(self, batch, logs)
        if self.position.epoch == 1:
            self.trained.metrics_variables[0].assign(np.nan)
            self.stop.asked = self.trained.stop_training = True

    run = create_run(config_of())
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", spoil_and_stop)
        assert_fails(run, synthetic_data, Diverged, "infinite or no number")
    assert checkpoint.position(run.checkpoint) == Position(1)


def test_going_on_does_not_need_the_starting_weights(synthetic_data):
    first = create_run(config_of())
    train(first, synthetic_data)
    run = create_run(config_of(start_from=first.id, epochs=1))
    train(run, synthetic_data)
    shutil.rmtree(first.folder)
    run.extend(2)
    train(run, synthetic_data)
    assert run.state == "finished" and len(run.metrics()) == 2


def test_a_full_disk_fails_in_one_sentence_and_the_run_goes_on_later(synthetic_data, monkeypatch):
    run = create_run(config_of())
    with monkeypatch.context() as patch:
        fill = at_epoch(1, lambda _: patch.setattr(np, "savez", full_disk))
        patch.setattr(Recorder, "begin", fill)
        assert_fails(run, synthetic_data, OSError, "^The disk is full: make room")
    assert checkpoint.position(run.checkpoint) == Position(1)
    train(run, synthetic_data)
    assert run.state == "finished" and list(run.metrics()["epoch"]) == [1, 2]


def test_a_failure_is_told_without_room_for_another_file(tmp_path, monkeypatch):
    update = Run.update

    def no_room_at_the_end(self, **changes):
        return full_disk() if changes.get("state") == "failed" else update(self, **changes)

    monkeypatch.setattr(Run, "update", no_room_at_the_end)
    assert_fails(create_run(config_of()), tmp_path, DatasetError, "DERMSA_DATA")


def test_photos_deleted_in_mid_training_are_not_missed_before_the_next_start(
    synthetic_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("DERMSA_CACHE", str(tmp_path / "cache"))
    shutil.copytree(synthetic_data, tmp_path / "data")

    def delete(_):
        shutil.rmtree(tmp_path / "data")
        shutil.rmtree(tmp_path / "cache")

    run = create_run(config_of())
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "begin", at_epoch(1, delete))
        train(run, tmp_path / "data")
    assert run.state == "finished" and len(run.metrics()) == 2
    run.extend(3)
    assert_fails(run, tmp_path / "data", DatasetError, "DERMSA_DATA")
    assert checkpoint.position(run.checkpoint) == Position(2)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (FileNotFoundError(2, "No such file", "/data/a.jpg"), "/data/a.jpg .* is gone"),
        (PermissionError(13, "Permission denied", "/runs/x"), "could not be read or written"),
        (MemoryError(), "smaller batch size"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes"), "smaller batch"),
        (ValueError("Cannot freeze\nuntil 'x'."), "^Cannot freeze until 'x'.$"),
        (KeyError("x"), "unforeseen.*KeyError"),
        (RuntimeError("long " * 200), r"\.\.\.$"),
    ],
)
def test_a_reason_is_one_short_line(error, sentence):
    said = reason(error)
    assert re.search(sentence, said) and "\n" not in said and len(said) <= 300


# --- the parts --------------------------------------------------------------------------------


def test_a_loss_has_the_weights_of_what_an_epoch_shows():
    classifier = build_classifier(config_of().classifier)
    counts = np.array([4, 8, 8, 8, 8, 16, 4])
    config = config_of(class_weights="balanced", loss="focal", focal_gamma=1.5, label_smoothing=0.1)
    loss = trainer.trainable_model(classifier, config, counts, 5).loss
    assert (loss.gamma, loss.label_smoothing) == (1.5, 0.1)
    np.testing.assert_allclose(loss.weights, 8 / counts)
    even = trainer.trainable_model(classifier, config, np.full(7, 16), 5).loss
    assert set(even.weights) == {1.0}


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_with_exact_answers(synthetic_data, precision):
    run = create_run(config_of(precision=precision, epochs=1))
    train(run, synthetic_data)
    assert keras.config.dtype_policy().name == "float32"
    assert np.isfinite(run.metrics()[["train_loss", "loss"]].to_numpy()).all()
    config = config_of(precision=precision)
    with methods.precision(precision):
        classifier = build_classifier(config.classifier)
        fuse_batch_normalization(classifier)
        model = trainer.trainable_model(classifier, config, np.ones(7), 1)
    assert classifier.get_layer("first").compute_dtype == precision.removeprefix("mixed_")
    assert {output.dtype for output in classifier.output.values()} == {"float32"}
    checkpoint.restore(run.checkpoint, model)


def test_batch_normalisation_follows_a_fine_tuning(small_classifier):
    classifier = small_classifier("MobileNetV3Small", cut="trunk")
    methods.set_batchnorm_momentum(classifier, 0.7)
    layers = [x for x in classifier.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert layers and {layer.momentum for layer in layers} == {0.7}
