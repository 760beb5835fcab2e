"""Where a training starts from: random, ImageNet's or another run's weights."""

from __future__ import annotations

from pathlib import Path

import keras

from dermsa.datasets import splits
from dermsa.datasets.dataset import data_root
from dermsa.models import backbones
from dermsa.models.classifier import build_classifier
from dermsa.models.warm_start import warm_start_mobilenet_v3_large
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import Run, RunError, find_run

LOGIT_TERMS = ("evidence_map", "patient_evidence", "image_logits", "patient_logits", "logits")
"""The layers whose answers are the logits or add up to them."""


def starting_classifier(run: Run, config: TrainingConfig, data: Path | None) -> keras.Model:
    """The classifier of a run before its first step.

    Raises:
        RunError, NoWeights, ValueError: The weights to start from are not there or do not fit.
    """
    if not config.start_from:
        return _new_classifier(config, data)
    first = find_run(config.start_from)
    if first.config().classifier != config.classifier:
        raise RunError(f"The run {first.id} trained another classifier: it cannot be the start.")
    if splits.read_split(first.split).sha256 != splits.read_split(run.split).sha256:
        raise RunError(
            f"The run {first.id} had another split: its training photos would be tested here."
        )
    classifier = build_classifier(config.classifier)
    classifier.load_weights(first.best_weights)
    return classifier


def _new_classifier(config: TrainingConfig, data: Path | None) -> keras.Model:
    if config.initial_weights == "minimalistic":
        classifier = _minimalistic_start(config, data)
    else:
        classifier = build_classifier(config.classifier, _starting_weights(config, data))
    if config.last_layer == "zeros":
        _begin_at_zero(classifier)
    return classifier


def _begin_at_zero(classifier: keras.Model) -> None:
    """Makes all logits 0, by the kernels whose products they are sums of."""
    for layer in classifier.layers:
        if layer.name in LOGIT_TERMS:
            for weight in layer.weights:
                weight.assign(keras.ops.zeros(weight.shape))


def _starting_weights(config: TrainingConfig, data: Path | None) -> str | None:
    if config.initial_weights == "none":
        return None
    if config.initial_weights == "imagenet":
        record = backbones.backbone(config.classifier.backbone)
        placed = backbones.find_weights(record, data or data_root(), config.classifier.cut)
        return placed or "imagenet"
    if not Path(config.initial_weights).is_file():
        raise RunError(f"There is no file of starting weights at {config.initial_weights}.")
    return config.initial_weights


def _minimalistic_start(config: TrainingConfig, data: Path | None) -> keras.Model:
    """MobileNetV3Large with the ImageNet weights of its minimalistic sibling."""
    if config.classifier.backbone != "MobileNetV3Large":
        raise RunError(
            "The starting weights minimalistic are for MobileNetV3Large only. Received the "
            f"backbone {config.classifier.backbone}."
        )
    sibling = backbones.backbone("MobileNetV3LargeMinimalistic")
    placed = backbones.find_weights(sibling, data or data_root())
    image = keras.Input((*config.classifier.input_size, 3))
    features = backbones.features(sibling, "trunk", image, placed or "imagenet")
    classifier = build_classifier(config.classifier)
    warm_start_mobilenet_v3_large(classifier, keras.Model(image, features))
    return classifier
