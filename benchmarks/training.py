"""Training speed of MobileNetV3Small: the whole input pipeline against one constant batch, and
the fused batch normalisation against Keras's own."""

from __future__ import annotations

import numpy as np

from benchmarks.common import in_turns, line
from dermsa.models.classifier import ClassifierConfig, build_classifier
from dermsa.training.config import TrainingConfig
from dermsa.training.fused_batchnorm import fuse_batch_normalization
from dermsa.training.sampling import Sampler
from dermsa.training.trainer import Examples, keep_freed_memory, trainable_model

IMAGES = 512


def main() -> None:
    keep_freed_memory()
    config = TrainingConfig(ClassifierConfig("MobileNetV3Small"), epochs=10)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, *config.classifier.input_size, 3), np.uint8)
    labels = random.integers(0, 7, IMAGES)
    examples = Examples(images, np.zeros((IMAGES, 21), np.float32), labels)
    sampler = Sampler(np.arange(IMAGES), labels, 7)
    fused, plain = build_classifier(config.classifier), build_classifier(config.classifier)
    fuse_batch_normalization(fused)
    model = trainable_model(fused, config, sampler.counts, steps=100)
    unfused = trainable_model(plain, config, sampler.counts, steps=100)
    batches = examples.batches(sampler, config.batch_size)
    constant = next(batches)
    taken = in_turns(
        {
            "constant": lambda: model.train_on_batch(*constant),
            "pipeline": lambda: model.train_on_batch(*next(batches)),
            "unfused": lambda: unfused.train_on_batch(*constant),
        },
        times=6,
    )
    print("Training MobileNetV3Small, 32 images of 224 x 224 a step:")
    line("with the input pipeline", f"{1000 * config.batch_size / taken['pipeline']:.0f} images/s")
    line("with one constant batch", f"{1000 * config.batch_size / taken['constant']:.0f} images/s")
    line("ratio of the times", f"{taken['pipeline'] / taken['constant']:.2f} x", "at most 1.05 x")
    line(
        "with Keras's own normalisation",
        f"{1000 * config.batch_size / taken['unfused']:.0f} images/s",
    )
    line("fused normalisation is faster by", f"{taken['unfused'] / taken['constant']:.2f} x")


main()
