"""Trains one run, from its configuration to its best weights.

The network that is trained is `classifier(augment(image), forget(patient))["logits"]`: images
arrive as uint8 straight from the decoded cache, and everything else happens on the device.

A training is a row of epochs; an epoch is its steps, the validation and what is written down. It
can stop between any two steps, and goes on there exactly as if it had not.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from dermsa.datasets import cache, more_photos, registry
from dermsa.datasets.augmentation import Augment, ForgetPatient
from dermsa.datasets.dataset import DatasetError
from dermsa.memory import keep_freed_memory
from dermsa.models.classifier import build_classifier
from dermsa.patient import VECTOR_SIZE
from dermsa.training import checkpoint, devices, methods, stopping, teacher
from dermsa.training.checkpoint import Position
from dermsa.training.config import TrainingConfig
from dermsa.training.examples import (
    Examples,
    split_rows,
    training_age_scale,
    training_sampler,
)
from dermsa.training.fused_batchnorm import fuse_batch_normalization
from dermsa.training.history import ended, plateau_rate
from dermsa.training.reasons import reason
from dermsa.training.recorder import Recorder, check_finite
from dermsa.training.runs import Run
from dermsa.training.sampling import Sampler
from dermsa.training.start import starting_classifier
from dermsa.training.stopping import Stop, Stopped
from dermsa.training.telemetry import machine_of

log = logging.getLogger("dermsa.training")

PROGRESS_SECONDS = 1.0
STARTING_PHOTOS = 256


def train(run: Run, data: Path | None = None, wait: bool = False) -> None:
    """Trains a run, or continues it from its checkpoint.

    SIGTERM and SIGINT stop it: at once while it prepares, else after the current batch.

    Args:
        run: Its configuration says what to do; its folder takes all results.
        data: The folder of the data sets; None for `data_root()`.
        wait: For the device, where another run has it.

    Raises:
        DeviceError: It is not there, or busy.
        DatasetError, RunError, Diverged: The status has the same in one sentence.
    """
    device = devices.of_run(run)
    os.environ.update(devices.environment(device))
    with devices.held(device, wait):
        devices.check_seen(device)
        run.claim(device)
        run.update(machine=machine_of(device))
        _train_logged(run, data)


def _train_logged(run: Run, data: Path | None) -> None:
    keep_freed_memory()
    handler = logging.FileHandler(run.folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)  # whoever calls: the log belongs to the run
    try:
        with stopping.on_signals(lambda: run.update(state="stopping")) as stop:
            _train(run, run.config(), data, stop)
            run.update(state="finished", doing=None, seconds_left=0)
            log.info("The run is finished.")
    except Stopped:
        run.update(state="stopped", doing=None, seconds_left=None)
        log.info("The run is stopped.")
    except BaseException as error:
        log.exception("The run failed.")
        _say_failed(run, reason(error))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _say_failed(run: Run, why: str) -> None:
    changes = {"state": "failed", "error": why, "doing": None, "seconds_left": None}
    try:
        run.update(**changes)
    except OSError:  # no room for another file: the new status takes the place of the old one
        text = json.dumps(run.status() | changes, indent=2)
        (run.folder / "status.json").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Training:
    """A run at work.

    Attributes:
        run, config: What is trained.
        classifier: Its network.
        model: The same behind the augmentation, which is what takes the steps.
        examples: All photos.
        sampler: Which of them an epoch shows.
        steps: Of an epoch.
        recorder: Follows the steps and ends the epochs.
        stop: Whether somebody wants it to end.
    """

    run: Run
    config: TrainingConfig
    classifier: keras.Model
    model: methods.AveragedModel
    examples: Examples
    sampler: Sampler
    steps: int
    recorder: Recorder
    stop: Stop


def _train(run: Run, config: TrainingConfig, data: Path | None, stop: Stop) -> None:
    keras.utils.set_random_seed(config.seed)
    with methods.precision(config.precision), methods.distribution(config):
        resumes = run.checkpoint.exists()
        position = checkpoint.position(run.checkpoint) if resumes else Position()
        head_only = position.last_epoch < config.head_epochs
        training = _prepare(run, config, data, stop, resumes=resumes, head_only=head_only)
        if resumes:
            checkpoint.restore(run.checkpoint, training.model)
        run.update(
            state="running",
            doing="Compiling the training step",
            epoch=position.epoch,
            epochs=config.epochs,
            epoch_images=training.steps * config.batch_size,
        )
        log.info("Going on after %d epochs and %d steps.", position.epoch, position.step)
        while not ended(config, run.metrics(position.epoch)):
            if stop.asked:
                raise Stopped
            position = _train_epoch(training, position)


def _prepare(
    run: Run,
    config: TrainingConfig,
    data: Path | None,
    stop: Stop,
    *,
    resumes: bool,
    head_only: bool,
) -> Training:
    examples, parts = _read(run, config, data)
    sampler = training_sampler(config, examples, parts["train"])
    steps = int(sampler.counts.sum()) // config.batch_size
    if steps == 0:
        raise DatasetError(
            f"{sampler.counts.sum()} training images do not fill one batch of {config.batch_size}."
        )

    run.update(doing="Building the network", fraction=None)
    if resumes:  # the checkpoint has every weight: what they once were may be gone
        classifier = build_classifier(config.classifier)
    else:
        shown = sampler.order(0)[:STARTING_PHOTOS]
        classifier = starting_classifier(run, config, data, examples.inputs(shown)["image"])
    methods.set_batchnorm_momentum(classifier, config.batchnorm_momentum)
    fuse_batch_normalization(classifier)
    if config.batchnorm == "keep_statistics":
        methods.keep_statistics(classifier)
    model = trainable_model(classifier, config, sampler.counts, steps, head_only)
    recorder = Recorder(run, config, model, classifier, examples, parts["validation"], steps, stop)
    log.info(
        "Training %s on %d images, validating on %d, %d epochs of %d steps.",
        run.id,
        len(parts["train"]),
        len(parts["validation"]),
        config.epochs,
        steps,
    )
    weights = zip(config.classifier.classes, model.loss.weights, strict=True)
    in_words = ", ".join(f"{code} {weight:.3g}" for code, weight in weights)
    log.info("Weights of the diagnoses in the loss: %s.", in_words)
    return Training(run, config, classifier, model, examples, sampler, steps, recorder, stop)


def _read(
    run: Run, config: TrainingConfig, data: Path | None
) -> tuple[Examples, dict[str, np.ndarray]]:
    """The photos, and which rows of them train, validate and test."""
    run.update(doing="Reading the data")
    dataset = registry.read(config.dataset, data)
    parts = split_rows(run, config, dataset)
    age_scale = training_age_scale(dataset, parts["train"])
    size, tell = config.classifier.input_size, _teller(run, "Decoding the photos")
    images = [cache.decoded(dataset, size, report=tell)]
    if config.more_photos != "none":
        comparing = _teller(run, f"Leaving out of {config.more_photos} what {dataset.name} shows")
        more = more_photos.read(config.more_photos, dataset, data, comparing)
        images.append(cache.decoded(more, size, report=tell))
        rows = len(dataset.table) + np.arange(len(more.table))[: config.limit or None]
        parts["train"] = np.concatenate([parts["train"], rows])
        dataset = more_photos.joined(dataset, more)
        log.info("%d photos of %s train, too.", len(rows), config.more_photos)
    targets = None
    if config.teacher:
        asking = _teller(run, f"Asking {config.teacher}")
        targets = teacher.targets(run, config, dataset, parts["train"], asking)
    patients = dataset.patient_vectors(age_scale)
    return Examples(images, patients, dataset.labels(), targets), parts


def _teller(run: Run, doing: str) -> Callable[[float], None]:
    """Writes what a run is doing, and what share of it is done, into its status."""
    told = 0.0

    def tell(fraction: float) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            run.update(doing=doing, fraction=round(fraction, 3))

    return tell


def _train_epoch(training: Training, position: Position) -> Position:
    """Finishes an epoch: its remaining steps, the validation, the files.

    Raises:
        Stopped: Before its end. The checkpoint has what was done of it.
        Diverged: The loss is no number.
    """
    config, run, model = training.config, training.run, training.model
    if position.step == 0 and 0 < position.epoch == config.head_epochs:
        log.info("From here on, the backbone is trained, too.")
        counts = training.sampler.counts
        compile_stage(model, training.classifier, config, counts, training.steps)
    if config.schedule == "plateau" and position.epoch >= config.head_epochs:
        losses = list(run.metrics(position.epoch).get("loss", ()))[config.head_epochs :]
        model.optimizer.learning_rate = plateau_rate(config, losses)
    try:
        position = _take_steps(training, position)
        if training.stop.asked:
            raise Stopped
        return training.recorder.end_epoch(position)
    except Stopped:
        if training.stop.gently:
            if position.losses:
                check_finite(position.loss)  # or the last good checkpoint would be overwritten
            checkpoint.save(run.checkpoint, model, position)
        raise


def _take_steps(training: Training, position: Position) -> Position:
    """The steps that an epoch lacks, or those until a stop."""
    if position.step == training.steps:
        return position
    training.recorder.begin(position)
    training.model.fit(
        training.examples.batches(
            training.sampler,
            training.config.batch_size,
            position.epoch,
            position.step,
            training.config.mixup,
        ),
        steps_per_epoch=training.steps - position.step,
        initial_epoch=position.epoch,
        epochs=position.epoch + 1,
        callbacks=[training.recorder],
        shuffle=False,
        verbose=0,
    )
    return training.recorder.position


def trainable_model(
    classifier: keras.Model,
    config: TrainingConfig,
    counts: np.ndarray,
    steps: int,
    head_only: bool = False,
) -> methods.AveragedModel:
    """The classifier with augmentation in front, compiled for its first stage.

    Args: As for `compile_stage`.
    """
    image = keras.Input((*config.classifier.input_size, 3), dtype="uint8", name="image")
    patient = keras.Input((VECTOR_SIZE,), name="patient")
    augmented = Augment(
        config.augmentation, config.seed, config.augmentation_strength, name="augment"
    )(image)
    forgotten = ForgetPatient(
        config.forget_rate, config.forget_all_rate, config.seed, name="forget"
    )(patient)
    network = methods.logits_of(classifier, config.xla)
    logits = network({"image": augmented, "patient": forgotten})
    model = methods.AveragedModel({"image": image, "patient": patient}, logits)
    if config.average_decay:
        model.average(classifier, config.average_decay)
    compile_stage(model, classifier, config, counts, steps, head_only)
    return model


def compile_stage(
    model: methods.AveragedModel,
    classifier: keras.Model,
    config: TrainingConfig,
    counts: np.ndarray,
    steps: int,
    head_only: bool = False,
) -> None:
    """Compiles a model with loss and a new optimiser for one stage of its training.

    Args:
        model: The classifier with augmentation in front.
        classifier: What `build_classifier` made.
        config: Of the training.
        counts: Images that an epoch shows, per diagnosis: the class weights follow from them.
        steps: Of an epoch.
        head_only: For the epochs of the head alone.
    """
    methods.let_train(classifier, config, head_only)
    # On several devices it has been compiled for other lists of weights that train.
    classifier.predict_function = None
    model.compile(
        methods.optimizer_of(config, classifier, steps, head_only),
        methods.loss_of(config, counts),
        # On TensorFlow the network alone can be compiled, see `logits_of`.
        jit_compile=keras.backend.backend() == "jax" and config.xla != "off",
    )
    # TensorFlow traces a step twice that makes the optimiser's variables: 17 CPU seconds more for
    # MobileNetV3Small.
    model.optimizer.build(model.trainable_variables)
