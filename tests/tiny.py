"""A backbone that is ready to train in seconds, and a process that forks trainings of it.

    python tests/tiny.py        reads lines of "RUN DATA WRITES"; answers each with a process id,
                                and with the exit status once that process is gone

The process imports TensorFlow once; its children only train, so that a test can afford to kill
many of them. With WRITES above 0 a child kills itself in place of its so many-th replacement of a
file.
"""

import os
import signal
import sys
from pathlib import Path

import keras

from dermsa.models.backbones import BACKBONES, Backbone, Cut
from dermsa.models.classifier import ClassifierConfig
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import find_run

SIZE = (64, 64)


def network(input_tensor=None, input_shape=None, include_top=False, weights=None):
    """Two convolutions with normalisation."""
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", name="first")(input_tensor)
    x = keras.layers.BatchNormalization(name="first_bn")(x)
    x = keras.layers.Conv2D(16, 3, strides=4, activation="relu", name="last")(x)
    return keras.Model(input_tensor, x)


TINY = Backbone(
    "Tiny",
    network,
    "minus_one_to_one",
    SIZE,
    {"trunk": Cut("last", (4, 4, 16))},
    "none.weights.h5",
    "none",
    "drawn up for these tests",
    imagenet="",
)


def config_of(backbone="Tiny", **settings):
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


def die_at_write(number: int) -> None:
    replace, left = os.replace, [number]

    def replace_or_die(*arguments):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*arguments)

    os.replace = replace_or_die


def main() -> None:
    from dermsa.training.trainer import train

    BACKBONES["Tiny"] = TINY
    print("ready", flush=True)
    for line in sys.stdin:
        run, data, writes = line.split()
        child = os.fork()
        if child == 0:
            die_at_write(int(writes))
            train(find_run(run), Path(data))
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
