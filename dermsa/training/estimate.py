"""How long an epoch will take and how much memory, before a training starts.

    estimate(values)        # Estimate(seconds_per_epoch=95.0, memory=2.1e9, how="...")

What was measured on the same machine says most: runs of the same network, else any run, scaled by
what the two networks compute. Before the first run only a rule of thumb is left, and that for the
processor alone. Nothing here needs Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dermsa.datasets import more_photos, registry, splits
from dermsa.models import arithmetic, parameters
from dermsa.training import devices
from dermsa.training.form import flat
from dermsa.training.runs import Run, all_runs
from dermsa.training.sampling import Sampler
from dermsa.training.telemetry import machine_of

# What decides about the speed of a step, and so makes a run comparable.
SAME = (
    "backbone",
    "cut",
    "head",
    "patient_branch",
    "augmentation",
    "batch_size",
    "precision",
    "xla",
    "freeze_until",
)

BACKWARD = 3  # a training step computes about three times what one forward pass does
# From the training speeds of MobileNetV3Small and Large, MobileNetV2 and DenseNet201 on two cores
# at 2.6 GHz, which these two figures meet within a tenth.
SECONDS_PER_WORK = 1.5e-10  # of one core, for one multiply-add of a forward pass and what follows
VALUE_MOVED = 16  # multiply-adds that reading and writing one value takes as long as
# From the memory of MobileNetV3Small's and EfficientNetLite0's trainings, met within a third.
PROGRAM = 1.2e9  # bytes of Python, TensorFlow and its reserves
ACTIVATIONS_KEPT = 0.9


@dataclass(frozen=True)
class Estimate:
    """What a training will probably take.

    Attributes:
        seconds_per_epoch: Of training, validation included; None where nothing is known.
        memory: Bytes: of the main memory on a processor, of the GPU's on a GPU.
        how: What the estimate rests on, in a sentence.
    """

    seconds_per_epoch: float | None
    memory: int
    how: str


def estimate(values: Mapping[str, Any], data: Path | None = None) -> Estimate:
    """Estimates a training on this machine.

    Args:
        values: All settings side by side, as `form.flat` gives them.
        data: The folder of the data sets; None for `data_root()`.

    Raises:
        DatasetError, DeviceError, ValueError: The data set, the device or the backbone is not
            there, or the protocol does not fit.
    """
    device = devices.resolve(values["device"])
    machine = machine_of(device)
    images, validated = _images(values, data)
    measured = [each for each in map(_measured, all_runs()) if each and each.machine == machine]
    alike = [each for each in measured if each.is_like(values)]
    if measured:
        nearest = (alike or measured)[0]  # the newest
        rate = nearest.rate * _work(values) / _work(nearest.values)
        how = "Measured on this device: " if alike else "Scaled from another network's "
        how += f"the run {nearest.run.id}." if alike else f"run on this device: {nearest.run.id}."
    elif device == "cpu":
        rate = _work(values) * SECONDS_PER_WORK / (psutil.cpu_count(logical=False) or 1)
        how = "A rule of thumb by what the network computes: nothing was trained here yet."
    else:
        rate = None
        how = f"Nothing was trained on this {machine} yet; the memory is a rule of thumb."
    seconds = None if rate is None else rate * (images + validated / BACKWARD)
    peaks = [each.peak_memory for each in alike if each.peak_memory and device == "cpu"]
    return Estimate(seconds, peaks[0] if peaks else _memory(values, device), how)


# ---------------------------------------------------------------------------------------------
# What was measured
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """A run that says how long its images took: `rate`, in seconds per image and epoch."""

    run: Run
    values: dict[str, Any]
    machine: str
    rate: float
    peak_memory: int | None

    def is_like(self, values: Mapping[str, Any]) -> bool:
        return _pixels(self.values) == _pixels(values) and all(
            self.values[name] == values[name] for name in SAME
        )


def _measured(run: Run) -> _Measured | None:
    """None where a run has no finished epoch, or was made before runs said what they ran on."""
    status, epochs = run.status(), run.metrics()
    if not len(epochs) or "machine" not in status or "epoch_images" not in status:
        return None
    values = flat(run.about()["config"])
    # The first epoch has the compiling in it, and those of the head alone are faster.
    seconds = epochs["seconds"].iloc[min(max(1, values["head_epochs"]), len(epochs) - 1) :]
    rate = float(seconds.median()) / status["epoch_images"]
    return _Measured(run, values, status["machine"], rate, status.get("peak_memory"))


def _images(values: Mapping[str, Any], data: Path | None) -> tuple[int, int]:
    """Images that an epoch trains on, and those that it validates."""
    dataset = registry.listed(values["dataset"], data)
    split = splits.draw(dataset, values["protocol"], values["split_seed"], values["fold"])
    limit = values["limit"] or len(dataset.table)
    rows, validated = (split.rows(dataset, part)[:limit] for part in ("train", "validation"))
    labels = dataset.labels()[rows]
    if values["more_photos"] != "none":
        more = more_photos.listed(values["more_photos"], dataset, data).labels()[:limit]
        rows = np.append(rows, len(dataset.table) + np.arange(len(more)))
        labels = np.append(labels, more)
    sampler = Sampler(
        rows,
        labels,
        len(dataset.classes),
        values["sampling"],
        epoch_images=values["epoch_images"],
    )
    return int(sampler.counts.sum()), len(validated)


# ---------------------------------------------------------------------------------------------
# Rules of thumb
# ---------------------------------------------------------------------------------------------


def _arithmetic(values: Mapping[str, Any]) -> arithmetic.Arithmetic:
    known = arithmetic.kept()
    if values["cut"] not in known.get(values["backbone"], ()):
        raise ValueError(f"There is no cut {values['cut']!r} of a backbone {values['backbone']!r}.")
    found = known[values["backbone"]][values["cut"]]
    return found.at(*values["input_size"]) if values["input_size"] else found


def _pixels(values: Mapping[str, Any]) -> int:
    network = _arithmetic(values)
    return network.height * network.width


def _work(values: Mapping[str, Any]) -> float:
    """What one image costs, in multiply-adds; moving a value counts as several of them."""
    network = _arithmetic(values)
    return network.multiply_adds + VALUE_MOVED * network.activations


def _memory(values: Mapping[str, Any], device: str) -> int:
    """Weights with gradients and two moments; what a batch leaves for the way back."""
    weights, _ = parameters.kept()[values["backbone"]][values["cut"], values["head"]]
    kept = values["batch_size"] * _arithmetic(values).activations
    width = 4 if values["precision"] == "float32" else 2
    average = 1 if values["average_decay"] else 0
    program = PROGRAM if device == "cpu" else 0.0
    return round(program + 4 * weights * (4 + average) + ACTIVATIONS_KEPT * width * kept)
