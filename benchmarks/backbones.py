"""Every backbone in one table: size, building, one photo's answer, training.

Each is built as a classifier at its own input size, with random weights: they cost the same;
and in a process of its own, so that none pays for another's memory.

    python -m benchmarks.backbones                     all, 20 minutes on two cores
    python -m benchmarks.backbones MobileNetV2 VGG16   some
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import in_turns
from dermsa.inference.engine import Engine
from dermsa.memory import keep_freed_memory
from dermsa.models.arithmetic import kept
from dermsa.models.backbones import BACKBONES, backbone
from dermsa.models.classifier import ClassifierConfig, build_classifier
from dermsa.models.onnx_export import to_onnx
from dermsa.patient import VECTOR_SIZE
from dermsa.training.fused_batchnorm import fuse_batch_normalization

BATCH = 8
SMALL_BATCH = 2  # NASNetLarge would take more than 20 GB for 8
MANY_ACTIVATIONS = 100e6  # of one image
STEPS = 2
COLUMNS = (
    ("backbone", 30),
    ("pixels", 8),
    ("parameters", 13),
    ("build s", 9),
    ("Keras ms", 10),
    ("served ms", 11),
    ("ratio", 8),
    ("batch", 7),
    ("train images/s", 16),
)


def measure(name: str) -> tuple[str, ...]:
    """One row of the table."""
    keep_freed_memory()
    started = time.perf_counter()
    config = ClassifierConfig(name)
    classifier = build_classifier(config)
    built = time.perf_counter() - started

    random = np.random.default_rng(0)
    batch = BATCH if kept()[name][config.cut].activations < MANY_ACTIVATIONS else SMALL_BATCH
    images = random.uniform(0, 255, (batch, *config.input_size, 3)).astype(np.float32)
    patients = np.zeros((batch, VECTOR_SIZE), np.float32)
    engine = Engine(to_onnx(classifier))
    compiled = tf.function(lambda image, patient: classifier([image, patient], training=False))
    one = tf.constant(images[:1]), tf.constant(patients[:1])
    taken = in_turns(
        {
            "keras": lambda: compiled(*one)["logits"].numpy(),
            "served": lambda: engine(images[:1], patients[:1]),
        },
        times=9,
    )
    return (
        name,
        str(config.input_size[0]),
        f"{classifier.count_params():,}",
        f"{built:.1f}",
        f"{taken['keras']:.1f}",
        f"{taken['served']:.1f}",
        f"{taken['keras'] / taken['served']:.1f} x",
        str(batch),
        f"{_training_speed(classifier, images, patients):.1f}",
    )


def _training_speed(classifier: keras.Model, images: np.ndarray, patients: np.ndarray) -> float:
    """Images per second of whole steps, without augmentation."""
    fuse_batch_normalization(classifier)
    model = keras.Model(classifier.inputs, classifier.output["logits"])
    model.compile(
        "adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    labels = np.arange(len(images)) % 7
    model.train_on_batch([images, patients], labels)  # traces
    started = time.perf_counter()
    for _ in range(STEPS):
        model.train_on_batch([images, patients], labels)
    return len(images) * STEPS / (time.perf_counter() - started)


def main() -> None:
    names = [backbone(name).name for name in sys.argv[1:]] or list(BACKBONES)
    print("Every backbone: one photo's answer (median of 9), and training:")
    print("".join(f"{title:>{width}}" for title, width in COLUMNS))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, max_tasks_per_child=1) as process:
        for values in process.map(measure, names):
            row = zip(values, COLUMNS, strict=True)
            print("".join(f"{value:>{width}}" for value, (_, width) in row), flush=True)


if __name__ == "__main__":
    main()
