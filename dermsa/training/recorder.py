"""What becomes of a run while it trains: its progress, and the results of each epoch."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

import keras
import numpy as np
import pandas as pd

from dermsa.evaluation import metrics
from dermsa.evaluation.calibration import softmax
from dermsa.files import replacing, write_atomically
from dermsa.memory import peak_memory
from dermsa.training import checkpoint, tensorboard
from dermsa.training.checkpoint import Position
from dermsa.training.config import TrainingConfig
from dermsa.training.examples import Examples
from dermsa.training.history import best_row
from dermsa.training.methods import AveragedModel
from dermsa.training.runs import Run
from dermsa.training.stopping import Stop, Stopped
from dermsa.training.tensorboard import EventFile

log = logging.getLogger("dermsa.training")

HEARTBEAT_SECONDS = 5


class Diverged(RuntimeError):
    """The loss is no number any more."""


class Recorder(keras.callbacks.Callback):
    """Follows the steps of a training, and ends its epochs.

    Args:
        run, config: What is trained.
        trained: The model that takes the steps.
        classifier: The network in it.
        examples: All photos.
        rows: Row numbers of the validation part.
        steps: Of an epoch.
        stop: Ends an epoch after the current batch.
    """

    def __init__(
        self,
        run: Run,
        config: TrainingConfig,
        trained: AveragedModel,
        classifier: keras.Model,
        examples: Examples,
        rows: np.ndarray,
        steps: int,
        stop: Stop,
    ):
        super().__init__()
        self.run, self.config, self.trained, self.classifier = run, config, trained, classifier
        self.examples, self.rows, self.steps, self.stop = examples, rows, steps, stop
        self._events = EventFile(run.folder / tensorboard.FOLDER)
        self._beat = 0.0
        self._first_step: tuple[float, float] | None = None  # of this process: when, and which

    # --- while an epoch runs ---

    def begin(self, position: Position) -> None:
        """The next steps go on from here."""
        self._start, self._taken = position, 0
        self._began, self._beat = time.monotonic(), 0.0

    @property
    def position(self) -> Position:
        """Where the training stands, between two steps."""
        return Position(
            self._start.epoch,
            self._start.step + self._taken,
            self._start.seconds + time.monotonic() - self._began,
            tuple(np.array(keras.ops.convert_to_numpy(v)) for v in self.trained.metrics_variables),
        )

    def on_epoch_begin(self, epoch, logs=None):
        if self._start.losses:  # Keras has just forgotten the steps before a stop
            for variable, value in zip(
                self.trained.metrics_variables, self._start.losses, strict=True
            ):
                variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        self._taken += 1
        self.stop.gently = True
        if self.stop.asked:
            self.trained.stop_training = True
        if time.monotonic() - self._beat >= HEARTBEAT_SECONDS:
            check_finite(float(logs["loss"]))
            self._tell_progress()

    def _tell_progress(self) -> None:
        now = self._beat = time.monotonic()
        total = self.config.epochs * self.steps
        done = self._start.epoch * self.steps + self._start.step + self._taken
        self._first_step = self._first_step or (now, done)
        began, first = self._first_step
        left = (total - done) * (now - began) / (done - first) if done > first else None
        with contextlib.suppress(OSError):  # a disk that is full now may not be at the epoch's end
            self.run.update(
                doing="Training",
                progress=done / total,
                seconds_left=None if left is None else round(left),
            )

    # --- when its steps are done ---

    def end_epoch(self, position: Position) -> Position:
        """Validates, keeps the best weights, writes metrics and a checkpoint.

        Args:
            position: All steps of an epoch are done.

        Returns:
            Where the training stands now.

        Raises:
            Diverged: A loss or a weight is no number. Nothing was written.
            Stopped: While validating. Nothing was written.
        """
        done = Position(position.epoch + 1)
        check_finite(position.loss)
        averages = self.trained.averages
        with averages.in_place() if averages else contextlib.nullcontext():
            row = {
                "epoch": done.epoch,
                "train_loss": position.loss,
                **self._validate(),
                "learning_rate": float(self.trained.optimizer.learning_rate),
                "seconds": round(position.seconds, 1),
            }
            table = self.run.metrics(position.epoch)  # a resumed run repeats what came after
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            best = best_row(table, self.config.monitor)
            if best == position.epoch:
                with replacing(self.run.best_weights) as partial:
                    self.classifier.save_weights(partial)
        # Weights first, then the row, then the checkpoint: whatever a crash leaves, the epoch
        # is either complete or repeated.
        write_atomically(self.run.folder / "metrics.csv", table.to_csv(index=False).encode())
        checkpoint.save(self.run.checkpoint, self.trained, done)
        self._events.write(done.epoch, {name: row[name] for name in row if name != "epoch"})
        monitor = self.config.monitor
        before = self.run.status().get("peak_memory") or 0
        self.run.update(
            epoch=done.epoch,
            best={monitor: float(table[monitor][best])},
            peak_memory=max(before, peak_memory()),
        )
        log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
        return done

    def _validate(self) -> dict[str, float]:
        self.run.update(doing="Validating")
        logits = predict_logits(self.classifier, self.examples, self.rows, self._between_batches)
        check_finite(logits)
        for weight in self.classifier.weights:  # a ReLU may hide one that is no number
            check_finite(keras.ops.convert_to_numpy(weight))
        return figures_of(logits, self.examples.labels[self.rows], self.config.classifier.classes)

    def _between_batches(self) -> None:
        if self.stop.asked:
            raise Stopped
        if time.monotonic() - self._beat >= HEARTBEAT_SECONDS:
            self._beat = time.monotonic()
            with contextlib.suppress(OSError):  # as in `_tell_progress`
                self.run.update()


def figures_of(
    logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> dict[str, float]:
    """What an epoch is judged by: every key of `config.MONITORS`."""
    predictions = metrics.Predictions(labels, softmax(logits), classes)
    return {
        "loss": float(metrics.log_loss(predictions)),
        "accuracy": float(metrics.accuracy(predictions)),
        "macro_recall": float(metrics.macro_recall(predictions)),
        "macro_auc": float(metrics.macro_average(metrics.roc_auc(predictions))),
    }


def check_finite(values: float | np.ndarray) -> None:
    """
    Raises:
        Diverged: Some loss, logit or weight is infinite or no number.
    """
    if not np.isfinite(values).all():
        raise Diverged(
            "The loss became infinite or no number, as it does when the learning rate is too high; "
            "what the epochs before had reached is kept."
        )


def predict_logits(
    classifier: keras.Model,
    examples: Examples,
    rows: np.ndarray,
    before_batch: Callable[[], None] = lambda: None,
    batch_size: int = 64,
) -> np.ndarray:
    """Logits float32 `(n, classes)` of the given rows."""
    parallel = keras.distribution.distribution()
    devices = 1 if parallel is None else parallel.device_mesh.devices.size
    logits = []
    for start in range(0, len(rows), batch_size):
        before_batch()
        chosen = rows[start : start + batch_size]
        # Every device takes an equal share: the last batch is filled up, and cut again.
        inputs = examples.inputs(np.resize(chosen, -(-len(chosen) // devices) * devices))
        inputs["image"] = inputs["image"].astype(np.float32)
        logits.append(classifier.predict_on_batch(inputs)["logits"][: len(chosen)])
    return np.concatenate(logits)
