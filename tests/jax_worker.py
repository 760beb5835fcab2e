"""Answers on the JAX backend: one JSON line in, a file of arrays out, one JSON line back.

Started by the contract test with `KERAS_BACKEND=jax`. It is one process for all networks, because
importing JAX and Keras takes longer than most of them.
"""

import json
import sys

import keras
import numpy as np

from dermsa.models.classifier import ClassifierConfig, build_classifier


def answer(settings: dict, weights: str, inputs: str, out: str) -> None:
    keras.backend.clear_session()
    classifier = build_classifier(ClassifierConfig(**settings))
    classifier.load_weights(weights)
    with np.load(inputs) as arrays:
        outputs = classifier(dict(arrays))
    np.savez(out, **{name: np.asarray(value) for name, value in outputs.items()})


if __name__ == "__main__":
    for line in sys.stdin:
        answer(**json.loads(line))
        print(json.dumps({"backend": keras.backend.backend()}), flush=True)
