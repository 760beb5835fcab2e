"""Training on drawn lesions: what it leaves behind, how it stops, goes on and fails."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import dermsa
from dermsa.datasets import cache, splits
from dermsa.datasets.dataset import DatasetError
from dermsa.models.backbones import BACKBONES, Backbone, Cut, NoWeights
from dermsa.models.classifier import ClassifierConfig, build_classifier
from dermsa.patient import age_scale_of
from dermsa.training import trainer
from dermsa.training.config import TrainingConfig
from dermsa.training.fused_batchnorm import fuse_batch_normalization
from dermsa.training.runs import RunError, create_run, find_run
from dermsa.training.sampling import Sampler
from dermsa.training.trainer import Diverged, EpochRecorder, Examples, train

SIZE = (64, 64)


def _tiny_network(input_tensor=None, input_shape=None, include_top=False, weights=None):
    """Two convolutions with normalisation: a backbone that is ready to train in seconds."""
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", name="first")(input_tensor)
    x = keras.layers.BatchNormalization(name="first_bn")(x)
    x = keras.layers.Conv2D(16, 3, strides=4, activation="relu", name="last")(x)
    return keras.Model(input_tensor, x)


TINY = Backbone(
    "Tiny",
    _tiny_network,
    "minus_one_to_one",
    SIZE,
    {"trunk": Cut("last", (4, 4, 16))},
    "none.weights.h5",
    "none",
    "drawn up for these tests",
    imagenet="",
)


def config_of(backbone, **settings):
    """A training of seconds, at 64 x 64 and from random weights."""
    settings = {
        "initial_weights": "none",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "seed": 3,
    } | settings
    return TrainingConfig(ClassifierConfig(backbone, input_size=SIZE), **settings)


@pytest.fixture(scope="module")
def trained(synthetic_data, own_folders):
    """A finished run of a real backbone."""
    run = create_run(config_of("MobileNetV3Small"), "trained")
    train(run, synthetic_data)
    return run


@pytest.fixture(scope="module")
def tiny():
    """Trainings of the tiny backbone, registered for this module only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "Tiny", TINY)
        yield functools.partial(config_of, "Tiny")


# --- what a training leaves -------------------------------------------------------------------


def test_a_finished_run_says_so(trained):
    status = trained.status()
    assert (status["state"], status["epoch"], status["error"]) == ("finished", 2, None)
    assert status["seconds_left"] == 0
    assert "finished" in (trained.folder / "train.log").read_text()


def test_it_leaves_a_row_for_every_epoch(trained):
    table = trained.metrics()
    assert list(table["epoch"]) == [1, 2]
    for name in ("train_loss", "loss", "accuracy", "macro_recall", "macro_auc", "seconds"):
        assert np.isfinite(table[name]).all()
    assert table["learning_rate"].iloc[-1] < table["learning_rate"].max()  # the cosine's end


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
    logits = trainer.predict_logits(classifier, examples, rows)
    table = trained.metrics()
    best = table.loc[table["macro_recall"][::-1].idxmax()]  # a tie goes to the later epoch
    accuracy = (logits.argmax(axis=1) == examples.labels[rows]).mean()
    assert accuracy == pytest.approx(best["accuracy"])
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -log_probabilities[np.arange(len(rows)), examples.labels[rows]].mean()
    assert loss == pytest.approx(best["loss"], rel=1e-3)


def test_no_half_written_file_is_left(trained):
    names = {path.name for path in trained.folder.rglob("*") if path.is_file()}
    assert not {name for name in names if name.startswith(".") or "partial" in name}
    assert {"config.json", "status.json", "metrics.csv", "state.npz"} <= names


def test_training_a_finished_run_again_changes_nothing(trained, synthetic_data):
    before = trained.metrics()
    train(trained, synthetic_data)
    assert trained.status()["state"] == "finished"
    pd.testing.assert_frame_equal(trained.metrics(), before)


# --- stopping and going on --------------------------------------------------------------------


def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(tiny, synthetic_data):
    epochs = 40
    unbroken, run = (create_run(tiny(epochs=epochs), title) for title in ("unbroken", "stopped"))
    train(unbroken, synthetic_data)
    expected = unbroken.metrics()
    assert expected["train_loss"].iloc[-5:].mean() < expected["train_loss"].iloc[:5].mean()

    process = subprocess.Popen(
        [sys.executable, __file__, run.folder, synthetic_data],
        env=os.environ | {"PYTHONPATH": str(Path(dermsa.__file__).parents[1])},
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 180
        while len(run.metrics()) < 2 and process.poll() is None:
            assert time.monotonic() < deadline, "no epoch was finished in three minutes"
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors.decode()
    assert run.status()["state"] == "stopped"
    assert 2 <= len(run.metrics()) < epochs

    train(run, synthetic_data)
    assert run.status()["state"] == "finished"
    columns = expected.columns.drop("seconds")
    np.testing.assert_allclose(
        run.metrics()[columns].to_numpy(), expected[columns].to_numpy(), atol=1e-6
    )


def test_a_resumed_run_remembers_the_plateau_it_stood_on(tiny, synthetic_data, monkeypatch):
    """A best loss forgotten at a stop would spare the run the lower rates that are due."""
    settings = {
        "epochs": 6,
        "schedule": "plateau",
        "plateau_patience": 1,
        "optimizer": "adam",
        "epsilon": 0.1,
        "learning_rate": 0.3,
        "monitor": "loss",
        "loss": "focal",
        "sampling": "balanced",
        "augmentation": "sensors2022",
    }
    unbroken, halting = create_run(tiny(**settings)), create_run(tiny(**settings))
    train(unbroken, synthetic_data)
    expected = unbroken.metrics()
    assert expected["learning_rate"].iloc[-1] < expected["learning_rate"].iloc[0]

    def stop_in_the_third_epoch(self, batch, logs=None):
        self.stopping = len(self.run.metrics()) == 2
        self.model.stop_training = self.stopping

    with monkeypatch.context() as patch:
        patch.setattr(EpochRecorder, "on_train_batch_end", stop_in_the_third_epoch)
        train(halting, synthetic_data)
        assert halting.status()["state"] == "stopped"
    train(halting, synthetic_data)
    assert halting.status()["state"] == "finished"
    columns = expected.columns.drop("seconds")
    np.testing.assert_allclose(
        halting.metrics()[columns].to_numpy(), expected[columns].to_numpy(), atol=1e-6
    )


def test_a_run_that_stops_getting_better_ends_early_and_stays_ended(tiny, synthetic_data):
    run = create_run(tiny(epochs=30, early_stopping=2, learning_rate=1e-12, monitor="accuracy"))
    train(run, synthetic_data)
    table = run.metrics()
    assert run.status()["state"] == "finished"
    assert len(table) < 30
    assert table["accuracy"].iloc[-2:].max() <= table["accuracy"].iloc[:-2].max()
    train(run, synthetic_data)
    pd.testing.assert_frame_equal(run.metrics(), table)


# --- failing ----------------------------------------------------------------------------------


def assert_fails(run, data, kind, message):
    with pytest.raises(kind, match=message):
        train(run, data)
    status = run.status()
    assert status["state"] == "failed" and status["error"].startswith(kind.__name__)
    assert "\n" not in status["error"]


def test_missing_data_fail_in_one_sentence(tiny, tmp_path):
    assert_fails(create_run(tiny()), tmp_path, DatasetError, "DERMSA_DATA")


def test_missing_starting_weights_fail_in_one_sentence(tiny, synthetic_data):
    run = create_run(tiny(initial_weights="/nowhere/to.weights.h5"))
    assert_fails(run, synthetic_data, RunError, "no file of starting weights at /nowhere")


def test_a_start_that_does_not_fit_the_backbone_fails_in_one_sentence(tiny, synthetic_data):
    run = create_run(tiny(initial_weights="minimalistic"))
    assert_fails(run, synthetic_data, RunError, "for MobileNetV3Large only.*backbone Tiny")
    run = create_run(tiny(initial_weights="imagenet"))
    assert_fails(run, synthetic_data, NoWeights, "Place none.weights.h5 in the folder")


def test_too_few_images_fail_in_one_sentence(tiny, synthetic_data):
    run = create_run(tiny(batch_size=500))
    assert_fails(run, synthetic_data, DatasetError, "do not fill one batch of 500")


def test_a_loss_that_is_no_number_ends_the_run_and_frees_the_signals(tiny, synthetic_data):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run = create_run(tiny(learning_rate=1e30, warmup_steps=0, epochs=2))
    assert_fails(run, synthetic_data, Diverged, "infinite or no number.*learning rate")
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert after == before


# --- the parts --------------------------------------------------------------------------------


@pytest.fixture
def examples():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 4, 4, 3), np.uint8)
    return Examples(images, random.random((20, 21), np.float32), np.arange(20))


def test_inputs_come_in_the_order_asked_for(examples):
    rows = np.array([7, 2, 11, 3])
    inputs = examples.inputs(rows)
    np.testing.assert_array_equal(inputs["image"], examples.images[rows])
    np.testing.assert_array_equal(inputs["patient"], examples.patients[rows])
    assert inputs["image"].dtype == np.uint8


def drawn(examples, count, first_epoch=0, seed=0, rows=tuple(range(2, 14))):
    rows = np.array(rows)
    batches = examples.batches(Sampler(rows, rows, 20, seed=seed), 4, first_epoch)
    return [next(batches)[1].tolist() for _ in range(count)]


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(examples):
    first, second = drawn(examples, 6)[:3], drawn(examples, 6)[3:]
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(2, 14))
    assert first != second


def test_the_order_depends_on_seed_and_epoch_alone(examples):
    assert drawn(examples, 6)[3:] == drawn(examples, 3, first_epoch=1)
    assert drawn(examples, 3) != drawn(examples, 3, seed=1)


def test_pictures_patients_and_labels_belong_together(examples):
    inputs, labels = next(examples.batches(Sampler(np.arange(20), np.arange(20), 20), 8))
    np.testing.assert_array_equal(inputs["image"], examples.images[labels])
    np.testing.assert_array_equal(inputs["patient"], examples.patients[labels])


def test_a_limit_takes_that_many_of_each_part(tiny, synthetic_dataset):
    config = tiny(limit=5)
    rows = trainer.split_rows(create_run(config), config, synthetic_dataset)
    assert {part: len(chosen) for part, chosen in rows.items()} == dict.fromkeys(splits.PARTS, 5)
    assert len(np.unique(np.concatenate(list(rows.values())))) == 15


def test_the_age_scale_is_of_the_training_part_only(synthetic_dataset):
    rows = np.arange(10)
    ages = synthetic_dataset.table["age"].to_numpy()[rows]
    scale = trainer.training_age_scale(synthetic_dataset, rows)
    assert scale.mean == pytest.approx(np.nanmean(ages))
    assert scale.std == pytest.approx(np.nanstd(ages))


def test_an_epoch_shows_what_the_sampling_says(tiny, synthetic_dataset, examples):
    labels = np.repeat(np.arange(7), [9, 1, 3, 2, 2, 2, 1])
    examples = Examples(np.zeros((20, 4, 4, 3), np.uint8), np.zeros((20, 21)), labels)
    rows = np.arange(20)
    sampler = trainer.training_sampler(tiny(sampling="balanced", seed=8), examples, rows)
    assert (sampler.classes, sampler.sampling, sampler.seed) == (7, "balanced", 8)
    _, shown = next(examples.batches(sampler, 7))
    assert sorted(shown) == list(range(7))


def test_a_loss_has_the_weights_of_what_an_epoch_shows(tiny):
    classifier = build_classifier(tiny().classifier)
    counts = np.array([4, 8, 8, 8, 8, 16, 4])
    config = tiny(class_weights="balanced", loss="focal", focal_gamma=1.5, label_smoothing=0.1)
    loss = trainer.trainable_model(classifier, config, counts, 5).loss
    assert (loss.gamma, loss.label_smoothing) == (1.5, 0.1)
    np.testing.assert_allclose(loss.weights, 8 / counts)
    even = trainer.trainable_model(classifier, config, np.full(7, 16), 5).loss
    assert set(even.weights) == {1.0}


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_with_exact_answers(tiny, synthetic_data, precision):
    run = create_run(tiny(precision=precision, epochs=1))
    train(run, synthetic_data)
    assert keras.config.dtype_policy().name == "float32"
    assert np.isfinite(run.metrics()[["train_loss", "loss"]].to_numpy()).all()
    config = tiny(precision=precision)
    with trainer.precision(precision):
        classifier = build_classifier(config.classifier)
        fuse_batch_normalization(classifier)
        model = trainer.trainable_model(classifier, config, np.ones(7), 1)
    assert classifier.get_layer("first").compute_dtype == precision.removeprefix("mixed_")
    assert {output.dtype for output in classifier.output.values()} == {"float32"}
    trainer.restore(run.checkpoint, model)


def small_network(units=3, steps=0):
    keras.utils.set_random_seed(units + steps)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(units), keras.layers.Dropout(0.5, seed=1)]
    )
    model.compile(keras.optimizers.AdamW(0.01), "mse")
    for _ in range(steps):
        model.train_on_batch(np.ones((8, 4)), np.ones((8, units)))
    return model


def test_a_checkpoint_holds_weights_seeds_and_optimiser(tmp_path):
    trained, restored = small_network(steps=3), small_network()
    trainer.save(tmp_path / "checkpoint" / "state.npz", trained, 7)
    assert trainer.restore(tmp_path / "checkpoint" / "state.npz", restored) == 7
    assert int(restored.optimizer.iterations) == 3
    for model in (trained, restored):
        model.train_on_batch(np.ones((8, 4)), np.ones((8, 3)))
    for one, other in zip(trained.get_weights(), restored.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    trainer.save(tmp_path / "state.npz", small_network(steps=1), 1)
    with pytest.raises(RunError, match="does not belong to this classifier"):
        trainer.restore(tmp_path / "state.npz", small_network(units=5))


def test_batch_normalisation_follows_a_fine_tuning(small_classifier):
    classifier = small_classifier("MobileNetV3Small", cut="trunk")
    trainer.set_batchnorm_momentum(classifier, 0.7)
    layers = [x for x in classifier.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert layers and {layer.momentum for layer in layers} == {0.7}


if __name__ == "__main__":  # the process that the test of stopping stops
    BACKBONES["Tiny"] = TINY
    train(find_run(sys.argv[1]), Path(sys.argv[2]))
