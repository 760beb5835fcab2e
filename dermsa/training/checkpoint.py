"""The full state of a training on disk, so that it goes on exactly where it stood."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from dermsa.files import replacing
from dermsa.training.runs import RunError


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Attributes:
        epoch: Finished epochs: trained, validated and written down.
        step: Steps done of the next epoch.
        seconds: That these steps took.
        losses: Keras' running mean of the training loss over these steps: total and count.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    losses: tuple[np.ndarray, ...] = ()

    @property
    def loss(self) -> float:
        """Mean training loss over these steps."""
        total, count = self.losses
        return float(total / count)

    @property
    def last_epoch(self) -> int:
        """The epoch, from 0, that the last step belonged to."""
        return self.epoch if self.step else max(0, self.epoch - 1)


def save(path: Path, model: keras.Model, position: Position) -> None:
    """Writes weights, averages, seeds and optimiser state, for `restore`."""
    arrays = {f"v{i:05}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_state(model))}
    arrays |= {f"loss{i}": value for i, value in enumerate(position.losses)}
    with replacing(path) as partial:
        np.savez(
            partial, epoch=position.epoch, step=position.step, seconds=position.seconds, **arrays
        )


def position(path: Path) -> Position:
    """Where the training stood that wrote a checkpoint."""
    with np.load(path) as arrays:
        if "step" not in arrays.files:  # written when epochs were saved whole
            return Position(int(arrays["epoch"]))
        losses = sorted(name for name in arrays.files if name.startswith("loss"))
        return Position(
            int(arrays["epoch"]),
            int(arrays["step"]),
            float(arrays["seconds"]),
            tuple(arrays[name] for name in losses),
        )


def restore(path: Path, model: keras.Model) -> None:
    """Loads what `save` wrote into a model that was compiled for the same stage, its optimiser
    built.

    Raises:
        RunError: The checkpoint belongs to another network.
    """
    variables = _state(model)
    with np.load(path) as arrays:
        values = [arrays[name] for name in sorted(arrays.files) if name.startswith("v")]
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise RunError(f"{path} does not belong to this classifier.")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _state(model: keras.Model) -> list:
    return [*model.variables, *model.optimizer.variables]
