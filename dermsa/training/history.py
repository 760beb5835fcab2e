"""What the epochs so far say: which was best, and what follows for the next.

All are functions of the rows of `metrics.csv` and keep no counters of their own, so that a
resumed training decides as an unbroken one.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from dermsa.training.config import MONITORS, TrainingConfig

LEAST_GAIN = 1e-4  # a loss that fell by less stands still, as for Keras' ReduceLROnPlateau


def plateau_rate(config: TrainingConfig, losses: Iterable[float]) -> float:
    """The learning rate after these validation losses; Keras' ReduceLROnPlateau.

    It is multiplied by `plateau_factor`, but never below `plateau_floor`, whenever
    `plateau_patience` epochs in sequence did not bring the loss down.
    """
    rate, best, waited = config.learning_rate, float("inf"), 0
    for loss in losses:
        waited += 1
        if loss < best - LEAST_GAIN:
            best, waited = loss, 0
        if waited >= config.plateau_patience:
            rate, waited = max(rate * config.plateau_factor, min(rate, config.plateau_floor)), 0
    return rate


def best_row(metrics: pd.DataFrame, monitor: str) -> int:
    """The place, from 0, of the epoch that a training chose; of equals the first.

    Args:
        metrics: A row per epoch, at least one.
        monitor: A key of `MONITORS`.
    """
    values = list(metrics[monitor])
    return values.index(MONITORS[monitor](values))


def epochs_without_gain(metrics: pd.DataFrame, monitor: str, head_epochs: int) -> int:
    """How many epochs in sequence, up to the last, brought no better `monitor`.

    Epochs of the head alone do not count: what follows them has yet to show what it brings.
    """
    if not len(metrics):
        return 0
    return max(0, len(metrics) - max(best_row(metrics, monitor) + 1, head_epochs))


def stops_early(config: TrainingConfig, metrics: pd.DataFrame) -> bool:
    """Whether the last `early_stopping` epochs brought no better `monitor`."""
    waited = epochs_without_gain(metrics, config.monitor, config.head_epochs)
    return 0 < config.early_stopping <= waited


def ended(config: TrainingConfig, metrics: pd.DataFrame) -> bool:
    """Whether a training with these epochs behind it is done."""
    return len(metrics) >= config.epochs or stops_early(config, metrics)
