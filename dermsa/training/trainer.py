"""Trains one run, from its configuration to its best weights.

The network that is trained is `classifier(augment(image), forget(patient))["logits"]`: images
arrive as uint8 straight from the decoded cache, and everything else happens on the device.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from dermsa.class_weights import class_weights
from dermsa.datasets import cache, registry, splits
from dermsa.datasets.augmentation import Augment, ForgetPatient
from dermsa.datasets.dataset import Dataset, DatasetError, data_root
from dermsa.evaluation import metrics
from dermsa.evaluation.calibration import softmax
from dermsa.losses import WeightedCrossEntropy, WeightedFocalLoss
from dermsa.models import backbones
from dermsa.models.classifier import build_classifier
from dermsa.models.warm_start import warm_start_mobilenet_v3_large
from dermsa.patient import VECTOR_SIZE, AgeScale, age_scale_of
from dermsa.training import devices
from dermsa.training.config import MONITORS, TrainingConfig
from dermsa.training.fused_batchnorm import fuse_batch_normalization
from dermsa.training.history import ended, plateau_rate, stops_early
from dermsa.training.runs import Run, RunError, find_run, write_atomically
from dermsa.training.sampling import Sampler

log = logging.getLogger("dermsa.training")


class Diverged(RuntimeError):
    """The loss is no number any more."""


def train(run: Run, data: Path | None = None, wait: bool = False) -> None:
    """Trains a run, or continues it from its checkpoint.

    Args:
        run: Its configuration says what to do; its folder takes all results.
        data: The folder of the data sets; None for `data_root()`.
        wait: For the device, where another run has it.

    Raises:
        DeviceError: It is not there, or busy.
        DatasetError, RunError, Diverged: Also written into the status, as one sentence.
    """
    status = run.status()  # of a run from the queue it names the device already
    launched = status["state"] == "preparing"
    device = status["device"] if launched else devices.resolve(run.config().device)
    os.environ.update(devices.environment(device))
    with devices.held(device, wait):
        run.claim(device)
        _train_logged(run, data)


def _train_logged(run: Run, data: Path | None) -> None:
    keep_freed_memory()
    handler = logging.FileHandler(run.folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)  # whoever calls: the log belongs to the run
    try:
        _train(run, run.config(), data)
    except BaseException as error:
        run.update(state="failed", error=f"{type(error).__name__}: {error}")
        log.exception("The run failed.")
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _train(run: Run, config: TrainingConfig, data: Path | None) -> None:
    keras.utils.set_random_seed(config.seed)
    dataset = registry.read(config.dataset, data)
    parts = split_rows(run, config, dataset)
    images = cache.decoded(dataset, config.classifier.input_size)
    age_scale = training_age_scale(dataset, parts["train"])
    examples = Examples(images, dataset.patient_vectors(age_scale), dataset.labels())
    sampler = training_sampler(config, examples, parts["train"])
    steps = int(sampler.counts.sum()) // config.batch_size
    if steps == 0:
        raise DatasetError(
            f"{sampler.counts.sum()} training images do not fill one batch of {config.batch_size}."
        )

    with precision(config.precision):
        classifier = _starting_classifier(run, config, data)
        set_batchnorm_momentum(classifier, config.batchnorm_momentum)
        fuse_batch_normalization(classifier)
        freeze(classifier, config.freeze_until)
        model = trainable_model(classifier, config, sampler.counts, steps)
    first_epoch = restore(run.checkpoint, model) if run.checkpoint.exists() else 0

    recorder = EpochRecorder(run, config, classifier, examples, parts["validation"])
    run.update(state="running", epoch=first_epoch, epochs=config.epochs)
    log.info(
        "Training %s on %d images, validating on %d, epochs %d to %d of %d steps.",
        run.id,
        len(parts["train"]),
        len(parts["validation"]),
        first_epoch + 1,
        config.epochs,
        steps,
    )
    log.info("Weights of the diagnoses in the loss: %s.", _weights_in_words(config, model.loss))
    if not ended(config, run.metrics(first_epoch)):
        try:
            model.fit(
                examples.batches(sampler, config.batch_size, first_epoch),
                steps_per_epoch=steps,
                initial_epoch=first_epoch,
                epochs=config.epochs,
                callbacks=[recorder],
                shuffle=False,
                verbose=0,
            )
        finally:
            recorder.on_train_end()  # Keras leaves it out after an error
    state = "finished" if ended(config, run.metrics()) else "stopped"
    run.update(state=state, seconds_left=0)
    log.info("The run is %s.", state)


def _weights_in_words(config: TrainingConfig, loss: WeightedCrossEntropy) -> str:
    pairs = zip(config.classifier.classes, loss.weights, strict=True)
    return ", ".join(f"{code} {weight:.3g}" for code, weight in pairs)


def keep_freed_memory() -> None:
    """Lets glibc keep what a step freed for the next step.

    By default it gives every large buffer back to the system and takes it anew, page by page: in
    a MobileNetV3Small training on two cores the kernel then took up to half of the time.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not Linux with glibc
        return
    mmap_max, trim_threshold, arena_max, top_pad = -4, -1, -8, -2  # malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(arena_max, 1)
    libc.mallopt(top_pad, 256 * 2**20)


class Examples:
    """Images, patients and labels of a whole data set, served by row number."""

    def __init__(self, images: np.ndarray, patients: np.ndarray, labels: np.ndarray):
        self.images, self.patients, self.labels = images, patients, labels

    def inputs(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        # Sorted reads of a memory map touch the disk in order.
        order = np.argsort(rows)
        images = np.empty((len(rows), *self.images.shape[1:]), np.uint8)
        images[order] = self.images[rows[order]]
        return {"image": images, "patient": self.patients[rows]}

    def batches(
        self, sampler: Sampler, batch_size: int, first_epoch: int = 0
    ) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Endless training batches; images that do not fill an epoch's last batch are left out."""
        epoch = first_epoch
        while True:
            order = sampler.order(epoch)
            for start in range(0, len(order) - batch_size + 1, batch_size):
                chosen = order[start : start + batch_size]
                yield self.inputs(chosen), self.labels[chosen]
            epoch += 1


def split_rows(run: Run, config: TrainingConfig, dataset: Dataset) -> dict[str, np.ndarray]:
    """Row numbers by part; the split is drawn once per run and then read from its folder."""
    if run.split.exists():
        split = splits.read_split(run.split)
    else:
        split = splits.draw(dataset, config.protocol, config.split_seed, config.fold)
        split.write(run.split)
    random = np.random.default_rng(config.seed)
    rows = {part: split.rows(dataset, part) for part in splits.PARTS}
    if config.limit:
        rows = {part: np.sort(random.permutation(of)[: config.limit]) for part, of in rows.items()}
    return rows


def training_sampler(config: TrainingConfig, examples: Examples, rows: np.ndarray) -> Sampler:
    return Sampler(
        rows,
        examples.labels[rows],
        len(config.classifier.classes),
        config.sampling,
        config.seed,
        config.epoch_images,
    )


def training_age_scale(dataset: Dataset, train_rows: np.ndarray) -> AgeScale:
    return age_scale_of(dataset.table["age"].to_numpy()[train_rows])


def _starting_classifier(run: Run, config: TrainingConfig, data: Path | None) -> keras.Model:
    if not config.start_from and config.initial_weights == "minimalistic":
        return _minimalistic_start(config, data)
    if not config.start_from:
        return build_classifier(config.classifier, _starting_weights(config, data))
    first = find_run(config.start_from)
    if first.config().classifier != config.classifier:
        raise RunError(f"The run {first.id} trained another classifier: it cannot be the start.")
    if splits.read_split(first.split).sha256 != splits.read_split(run.split).sha256:
        raise RunError(
            f"The run {first.id} had another split: its training photos would be tested here."
        )
    classifier = build_classifier(config.classifier)
    classifier.load_weights(first.best_weights)
    return classifier


def _starting_weights(config: TrainingConfig, data: Path | None) -> str | None:
    if config.initial_weights == "none":
        return None
    if config.initial_weights == "imagenet":
        record = backbones.backbone(config.classifier.backbone)
        placed = backbones.find_weights(record, data or data_root(), config.classifier.cut)
        return placed or "imagenet"
    if not Path(config.initial_weights).is_file():
        raise RunError(f"There is no file of starting weights at {config.initial_weights}.")
    return config.initial_weights


def _minimalistic_start(config: TrainingConfig, data: Path | None) -> keras.Model:
    """MobileNetV3Large with the ImageNet weights of its minimalistic sibling."""
    if config.classifier.backbone != "MobileNetV3Large":
        raise RunError(
            "The starting weights minimalistic are for MobileNetV3Large only. Received the "
            f"backbone {config.classifier.backbone}."
        )
    sibling = backbones.backbone("MobileNetV3LargeMinimalistic")
    placed = backbones.find_weights(sibling, data or data_root())
    image = keras.Input((*config.classifier.input_size, 3))
    features = backbones.features(sibling, "trunk", image, placed or "imagenet")
    classifier = build_classifier(config.classifier)
    warm_start_mobilenet_v3_large(classifier, keras.Model(image, features))
    return classifier


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Layers that are made within compute in this precision; weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def set_batchnorm_momentum(model: keras.Model, momentum: float) -> None:
    """Keras builds MobileNets with 0.999: far too slow to follow a fine-tuning."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


def freeze(model: keras.Model, last_layer: str) -> None:
    """Freezes the layers up to and including the named one; "" freezes none.

    Raises:
        ValueError: No such layer.
    """
    if not last_layer:
        return
    names = [layer.name for layer in model.layers]
    if last_layer not in names:
        raise ValueError(f"Cannot freeze until {last_layer!r}: {model.name} has no such layer.")
    for layer in model.layers[: names.index(last_layer) + 1]:
        layer.trainable = False


def trainable_model(
    classifier: keras.Model, config: TrainingConfig, counts: np.ndarray, steps: int
) -> keras.Model:
    """The classifier with augmentation in front, compiled with loss and optimiser.

    Args:
        classifier: What `build_classifier` made.
        config: Of the training.
        counts: Images that an epoch shows, per diagnosis: the class weights follow from them.
        steps: Of an epoch.
    """
    image = keras.Input((*config.classifier.input_size, 3), dtype="uint8", name="image")
    patient = keras.Input((VECTOR_SIZE,), name="patient")
    augmented = Augment(
        config.augmentation, config.seed, config.augmentation_strength, name="augment"
    )(image)
    forgotten = ForgetPatient(
        config.forget_rate, config.forget_all_rate, config.seed, name="forget"
    )(patient)
    logits = classifier({"image": augmented, "patient": forgotten})["logits"]
    model = keras.Model({"image": image, "patient": patient}, logits)
    model.compile(
        _optimizer(config, steps),
        _loss(config, counts),
        jit_compile=keras.backend.backend() == "jax",  # XLA slows TensorFlow down on a CPU
    )
    return model


def _loss(config: TrainingConfig, counts: np.ndarray) -> WeightedCrossEntropy:
    weights = class_weights(config.class_weights, counts, config.classifier.classes)
    if config.loss == "focal":
        return WeightedFocalLoss(weights, config.label_smoothing, config.focal_gamma)
    return WeightedCrossEntropy(weights, config.label_smoothing)


def _optimizer(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    rate = config.learning_rate
    if config.schedule == "cosine":
        total = config.epochs * steps
        warmup = min(config.warmup_steps, total // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else config.learning_rate,
            total - warmup,
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, epsilon=config.epsilon)
    return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, epsilon=config.epsilon)


class EpochRecorder(keras.callbacks.Callback):
    """After every epoch: validates, keeps the best weights, writes metrics and a checkpoint.

    SIGTERM and SIGINT end the training after the current batch.
    """

    HEARTBEAT_SECONDS = 5

    def __init__(
        self,
        run: Run,
        config: TrainingConfig,
        classifier: keras.Model,
        examples: Examples,
        rows: np.ndarray,
    ):
        super().__init__()
        self.run, self.config, self.classifier = run, config, classifier
        self.examples, self.rows = examples, rows
        self.stopping = False
        self._previous_handlers: dict = {}

    def on_train_begin(self, logs=None):
        self._beat = self._started = time.monotonic()
        self._batches = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous_handlers[number] = signal.signal(number, self._stop)
            except ValueError:  # not in the main thread: whoever runs it stops it
                break

    def on_train_end(self, logs=None):
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _stop(self, *_):
        self.stopping = True
        self.run.update(state="stopping")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = time.monotonic()
        if self.config.schedule == "plateau":
            table = self.run.metrics(until_epoch=epoch)
            losses = table["loss"] if len(table) else ()
            self.model.optimizer.learning_rate = plateau_rate(self.config, losses)

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        if self.stopping:
            self.model.stop_training = True
        now = time.monotonic()
        if now - self._beat < self.HEARTBEAT_SECONDS:
            return
        self._beat = now
        steps = self.params["steps"]
        first = self.run.status().get("epoch", 0)
        done = first + (batch + 1) / steps
        per_step = (now - self._started) / self._batches
        self.run.update(
            progress=done / self.config.epochs,
            seconds_left=round((self.config.epochs - done) * steps * per_step),
        )
        if logs and not np.isfinite(logs["loss"]):
            raise Diverged(
                "The loss became infinite or no number. Lower the learning rate and start again; "
                "the last good checkpoint was kept."
            )

    def on_epoch_end(self, epoch, logs=None):
        if self.stopping:  # a partial epoch is done again when the run resumes
            return
        if not np.isfinite(logs["loss"]):
            raise Diverged("The loss became infinite or no number; lower the learning rate.")
        training_seconds = time.monotonic() - self._epoch_started
        row = {
            "epoch": epoch + 1,
            "train_loss": logs["loss"],
            **self._validate(),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(training_seconds, 1),
        }
        table = self.run.metrics(until_epoch=epoch)  # a resumed run repeats what came after
        monitor = self.config.monitor
        best = MONITORS[monitor]([*(table[monitor] if len(table) else ()), row[monitor]])
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
        if row[monitor] == best:
            partial = self.run.folder / ".best.partial.weights.h5"
            self.classifier.save_weights(partial)
            partial.replace(self.run.best_weights)
        # Weights first, then the row, then the checkpoint: whatever a crash leaves, the epoch
        # is either complete or repeated.
        write_atomically(self.run.folder / "metrics.csv", table.to_csv(index=False).encode())
        save(self.run.checkpoint, self.model, epoch + 1)
        self.run.update(epoch=epoch + 1, best={monitor: best})
        log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
        if stops_early(self.config, table):
            log.info("No better %s in %d epochs.", monitor, self.config.early_stopping)
            self.model.stop_training = True

    def _validate(self) -> dict[str, float]:
        logits = predict_logits(self.classifier, self.examples, self.rows)
        labels = self.examples.labels[self.rows]
        predictions = metrics.Predictions(labels, softmax(logits), self.config.classifier.classes)
        return {
            "loss": float(metrics.log_loss(predictions)),
            "accuracy": float(metrics.accuracy(predictions)),
            "macro_recall": float(metrics.macro_recall(predictions)),
            "macro_auc": float(metrics.macro_average(metrics.roc_auc(predictions))),
        }


def predict_logits(
    classifier: keras.Model, examples: Examples, rows: np.ndarray, batch_size: int = 64
) -> np.ndarray:
    """Logits float32 `(n, classes)` of the given rows."""
    logits = []
    for start in range(0, len(rows), batch_size):
        inputs = examples.inputs(rows[start : start + batch_size])
        inputs["image"] = inputs["image"].astype(np.float32)
        logits.append(classifier.predict_on_batch(inputs)["logits"])
    return np.concatenate(logits)


def save(path: Path, model: keras.Model, epoch: int) -> None:
    """Writes weights, seeds and optimiser state, so that `restore` continues exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"v{i:05}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_state(model))}
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, epoch=epoch, **arrays)
    partial.replace(path)


def restore(path: Path, model: keras.Model) -> int:
    """Loads what `save` wrote; returns the number of finished epochs.

    Raises:
        RunError: The checkpoint belongs to another network.
    """
    model.optimizer.build(model.trainable_variables)
    variables = _state(model)
    with np.load(path) as arrays:
        if len(arrays.files) != len(variables) + 1:
            raise RunError(f"{path} does not belong to this classifier.")
        for i, variable in enumerate(variables):
            value = arrays[f"v{i:05}"]
            if tuple(value.shape) != tuple(variable.shape):
                raise RunError(f"{path} does not belong to this classifier.")
            variable.assign(value)
        return int(arrays["epoch"])


def _state(model: keras.Model) -> list:
    return [*model.variables, *model.optimizer.variables]
