"""Answers on the JAX backend: one JSON line in, a file of arrays out, one JSON line back.

Started by the contract test with `KERAS_BACKEND=jax`. It is one process for all networks, because
importing JAX and Keras takes longer than most of them.
"""

import contextlib
import importlib
import json
import sys
from unittest import mock

import keras
import numpy as np

from dermsa.models.classifier import ClassifierConfig, build_classifier


def zeros(initializer, shape, dtype=None):
    """Weights to be loaded over; drawn at random, every shape would be compiled first."""
    return np.zeros(shape, dtype or keras.config.floatx())


def answer(settings: dict, constants: dict, weights: str, inputs: str, out: str) -> None:
    """`constants` are those of modules that have other values meanwhile, by module and name."""
    keras.backend.clear_session()
    with contextlib.ExitStack() as stack:
        drawn = keras.initializers.VarianceScaling  # Glorot's and He's are made of it
        stack.enter_context(mock.patch.object(drawn, "__call__", zeros))
        for module, values in constants.items():
            stack.enter_context(mock.patch.multiple(importlib.import_module(module), **values))
        classifier = build_classifier(ClassifierConfig(**settings))
    classifier.load_weights(weights)
    with np.load(inputs) as arrays:
        outputs = classifier.predict_on_batch(dict(arrays))
    np.savez(out, **{name: np.asarray(value) for name, value in outputs.items()})


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        answer(**request)
        reply = {"backend": keras.backend.backend(), "out": request["out"]}
        print(json.dumps(reply), flush=True)
