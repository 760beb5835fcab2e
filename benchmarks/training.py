"""Training of MobileNetV3Small: the whole input pipeline against one constant batch, the fused
batch normalisation against Keras's own, and the way to the first epoch against the papers' own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import in_turns, jpeg, line
from dermsa.datasets import cache, registry
from dermsa.datasets.dataset import Dataset, data_root
from dermsa.memory import keep_freed_memory, peak_memory
from dermsa.models.classifier import build_classifier
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.taxonomy import HAM10000_CLASSES
from dermsa.training.config import TrainingConfig
from dermsa.training.examples import Examples
from dermsa.training.fused_batchnorm import fuse_batch_normalization
from dermsa.training.sampling import Sampler
from dermsa.training.trainer import trainable_model

IMAGES = 512
PHOTOS = 2000
DRAWN = 200  # where there are no photos: each is read ten times
GIB = 2**30


def main() -> None:
    keep_freed_memory()
    config = TrainingConfig(ClassifierConfig("MobileNetV3Small"), epochs=10)
    random = np.random.default_rng(0)
    images = _on_disk(random.integers(0, 256, (IMAGES, *config.classifier.input_size, 3), np.uint8))
    labels = random.integers(0, 7, IMAGES)
    examples = Examples(images, np.zeros((IMAGES, 21), np.float32), labels)
    sampler = Sampler(np.arange(IMAGES), labels, 7)
    fused, plain = build_classifier(config.classifier), build_classifier(config.classifier)
    fuse_batch_normalization(fused)
    model = trainable_model(fused, config, sampler.counts, steps=100)
    unfused = trainable_model(plain, config, sampler.counts, steps=100)
    batches = (
        batch
        for epoch in range(100)
        for batch in examples.batches(sampler, config.batch_size, epoch)
    )
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
    compare_with_the_papers()


def _on_disk(images: np.ndarray) -> np.ndarray:
    """The same as a memory map, as `cache.decoded` gives it."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images)
        return np.load(f"{folder}/images.npy", mmap_mode="r")  # lives as long as it is used


# --- the papers' own way ------------------------------------------------------------------------


def compare_with_the_papers() -> None:
    """Each way in a process of its own, so that none pays for another's memory."""
    with tempfile.TemporaryDirectory() as folder:
        photos = _photos(Path(folder))
        os.environ["DERMSA_CACHE"] = f"{folder}/cache"
        papers, first, later = (_measured(way, photos) for way in ("papers", "ours", "ours"))
    print(f"The first epoch of {PHOTOS} photos, against OpenCV and float32 lists in memory:")
    line("photos ready, the papers' way", f"{papers['ready']:.1f} s")
    line("photos ready, the first time", f"{first['ready']:.1f} s")
    line("photos ready, every later time", f"{later['ready']:.1f} s")
    line("ratio, the first time", f"{papers['ready'] / first['ready']:.1f} x")
    line("to the end of the first epoch, the papers' way", f"{papers['epoch']:.1f} s")
    line("to the end of the first epoch, the first time", f"{first['epoch']:.1f} s")
    line("to the end of the first epoch, every later time", f"{later['epoch']:.1f} s")
    line("peak memory, the papers' way", f"{papers['peak'] / GIB:.2f} GiB")
    line("peak memory", f"{first['peak'] / GIB:.2f} GiB")
    line("ratio of the peaks", f"{papers['peak'] / first['peak']:.1f} x")
    line("of it for the photos, the papers' way", f"{papers['photos'] / GIB:.2f} GiB")
    line("of it for the photos", f"{first['photos'] / GIB:.2f} GiB")
    ratio = papers["photos"] / max(first["photos"], 2**20)
    line("ratio of the memory for the photos", f"{ratio:.1f} x", "at least 5 x")


def _photos(folder: Path) -> list[str]:
    if data_root() and (data_root() / "ham10000").is_dir():
        return registry.read("ham10000").table["path"].tolist()[:PHOTOS]
    drawn = [folder / f"{seed}.jpg" for seed in range(DRAWN)]
    for seed, path in enumerate(drawn):
        path.write_bytes(jpeg(600, 450, HAM10000_CLASSES[seed % 7], seed))
    return [str(path) for path in drawn] * (PHOTOS // DRAWN)


def _measured(way: str, photos: list[str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", way],
        input=json.dumps(photos),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def train_first_epoch(way: str, photos: list[str]) -> dict[str, float]:
    """Seconds until the photos are ready and until an epoch is done; bytes at most, and for them.

    Before the clock starts, the network has taken its first steps.
    """
    keep_freed_memory()
    config = TrainingConfig(ClassifierConfig("MobileNetV3Small"))
    labels = np.arange(len(photos)) % 7
    classifier = build_classifier(config.classifier)
    fuse_batch_normalization(classifier)
    steps = len(photos) // config.batch_size
    model = trainable_model(classifier, config, np.full(7, len(photos) // 7), steps)
    patients = np.zeros((len(photos), 21), np.float32)
    prepare = _the_papers_way if way == "papers" else _our_way
    few = 3 * config.batch_size
    model.fit(**prepare(photos[:few], patients[:few], labels[:few], config), epochs=1, verbose=0)
    before, started = peak_memory(), time.perf_counter()
    arguments = prepare(photos, patients, labels, config)
    ready = time.perf_counter() - started
    model.fit(**arguments, epochs=1, verbose=0)
    return {
        "ready": ready,
        "epoch": time.perf_counter() - started,
        "peak": peak_memory(),
        "photos": peak_memory() - before,
    }


def _the_papers_way(photos, patients, labels, config) -> dict:
    size = config.classifier.input_size[::-1]
    images = [cv2.resize(cv2.imread(path), size).astype(np.float32) for path in photos]
    inputs = {"image": np.array(images), "patient": patients}
    return {"x": inputs, "y": labels, "batch_size": config.batch_size}


def _our_way(photos, patients, labels, config) -> dict:
    import pandas as pd

    table = pd.DataFrame({"image_id": [f"{row}" for row in range(len(photos))], "path": photos})
    dataset = Dataset("bench", HAM10000_CLASSES, table)
    images = cache.decoded(dataset, config.classifier.input_size, progress=False)
    examples = Examples(images, patients, labels)
    batches = examples.batches(Sampler(np.arange(len(photos)), labels, 7), config.batch_size)
    return {"x": batches, "steps_per_epoch": len(photos) // config.batch_size, "shuffle": False}


if len(sys.argv) > 1:
    print(json.dumps(train_first_epoch(sys.argv[1], json.load(sys.stdin))))
else:
    main()
