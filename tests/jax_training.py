"""Trains the tiny network on the JAX backend, on one device and on all; prints both as JSON.

Started by `test_methods.py` with `KERAS_BACKEND=jax` and two virtual devices.
"""

import contextlib
import json
import sys
from pathlib import Path

import keras
import tiny

from dermsa.models.backbones import BACKBONES
from dermsa.training.runs import create_run
from dermsa.training.trainer import train

METHODS = {
    "average_decay": 0.9,
    "accumulate": 2,
    "layer_decay": 0.8,
    "head_epochs": 1,
    "epochs": 2,
    "augmentation": "none",  # it takes long to compile
}


def devices_of(device: str) -> int:
    """How many devices the steps were divided among."""
    counts = []
    fit = keras.Model.fit

    def counting(self, *arguments, **settings):
        parallel = keras.distribution.distribution()
        counts.append(1 if parallel is None else parallel.device_mesh.devices.size)
        return fit(self, *arguments, **settings)

    keras.Model.fit = counting
    run = create_run(tiny.config_of(**METHODS, device=device), device)
    with contextlib.redirect_stdout(sys.stderr):
        train(run, Path(sys.argv[1]))
    keras.Model.fit = fit
    metrics.append(run.metrics().drop(columns="seconds").to_numpy().tolist())
    return counts[0]


BACKBONES["Tiny"] = tiny.TINY
metrics: list = []
devices = [devices_of("cpu"), devices_of("all")]
print(json.dumps({"devices": devices, "metrics": metrics}))
