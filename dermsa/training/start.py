"""Where a training starts from: random, ImageNet's, another run's or a model's weights."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import keras
import numpy as np

from dermsa.datasets import splits
from dermsa.datasets.dataset import data_root
from dermsa.images import to_model_input
from dermsa.inference import store
from dermsa.models import backbones
from dermsa.models.backbone_record import Cut
from dermsa.models.classifier import build_classifier
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.models.warm_start import warm_start_mobilenet_v3_large
from dermsa.patient import VECTOR_SIZE
from dermsa.training.config import TrainingConfig
from dermsa.training.methods import backbone_of
from dermsa.training.runs import Run, RunError, find_run
from dermsa.training.shipped import ShippedTraining

log = logging.getLogger("dermsa.training")

SAME = 1e-3
"""By how much a network carried back from its file may answer otherwise, of its largest logit."""

LOGIT_TERMS = ("evidence_map", "patient_evidence", "image_logits", "patient_logits", "logits")
"""The layers whose answers are the logits or add up to them."""

PATIENT_TERMS = ("patient_evidence", "patient_logits", "joint_patient")
"""The layers whose answers are what the patient adds to a sum."""

IMAGE_TERMS = ("evidence_map", "image_logits", "joint_image")
"""The layers whose answers are what the image adds to a sum."""

EVIDENCE_KERNEL = "evidence_map/kernel"
"""The weights that see each position of the feature map apart."""


def starting_classifier(
    run: Run, config: TrainingConfig, data: Path | None, images: np.ndarray | None = None
) -> keras.Model:
    """The classifier of a run before its first step.

    Args:
        run: Its split is drawn.
        config: Of the run.
        data: The folder of the data sets; None for `data_root()`.
        images: Some training photos, uint8 `(n, height, width, 3)`: a start from a model in
            `weights/` needs them.

    Raises:
        RunError, NoWeights, ModelError, ValueError: The weights to start from are not there or do
            not fit.
    """
    if not config.start_from:
        return _new_classifier(config, data)
    if store.named(config.start_from) in store.model_names():
        return _as_served(run, config, images)
    first = find_run(config.start_from)
    trained = first.config().classifier
    if not _can_start(trained, config.classifier):
        raise RunError(f"The run {first.id} trained another classifier: it cannot be the start.")
    if splits.read_split(first.split).sha256 != splits.read_split(run.split).sha256:
        raise RunError(
            f"The run {first.id} had another split: what trained it would be validated "
            "or tested here."
        )
    classifier = build_classifier(trained)
    classifier.load_weights(first.best_weights)
    return carried_over(classifier, trained, config.classifier, config.start_from)


def _can_start(trained: ClassifierConfig, wanted: ClassifierConfig) -> bool:
    """Whether they differ in the size of photos or the cut, or a patient branch comes in, and else
    agree. Whether the wanted cut is an earlier one, the network tells, see `_backbone_weights`."""
    agreeing = dataclasses.replace(trained, input_size=wanted.input_size, cut=wanted.cut)
    if trained.patient_branch == "none":
        agreeing = dataclasses.replace(agreeing, patient_branch=wanted.patient_branch)
    return agreeing == wanted


def carried_over(
    classifier: keras.Model, trained: ClassifierConfig, wanted: ClassifierConfig, name: str
) -> keras.Model:
    """The classifier for photos of the wanted size, up to the wanted cut, and with the wanted
    patient branch.

    Convolutions have the same weights at any size, so that a training can go on with larger
    photos than it began with (Touvron et al. 2019, arXiv:1906.06423; Tan and Le 2021,
    arXiv:2104.00298). What weighs each position apart is resized, so that the logits stay about
    the same. A patient branch that comes in (a second stage) has no say at first, nor has the
    feature map of an earlier cut, where attention and evidence begin anew.

    Args:
        classifier, trained: The network, and what it was built of.
        wanted: What it shall be, see `_can_start`.
        name: What it is called where it cannot.

    Raises:
        RunError: It has weights that belong to its size of photos, or ends before the wanted cut.
    """
    if trained == wanted:
        return classifier
    cuts = backbones.backbone(wanted.backbone).cuts
    earlier = cuts[wanted.cut] if cuts[wanted.cut] != cuts[trained.cut] else None
    started = build_classifier(wanted)
    of_backbone = _backbone_weights(started, classifier, earlier, name)
    of_head = {weight.path: weight for weight in classifier.weights}
    for ours in started.weights:
        layer = ours.path.split("/")[0]
        theirs = of_backbone.get(ours.path, of_head.get(ours.path))
        if theirs is None or (earlier and layer in (*IMAGE_TERMS, "soft_attention")):
            if layer in (*IMAGE_TERMS, *PATIENT_TERMS):
                ours.assign(keras.ops.zeros(ours.shape))
        elif ours.shape == theirs.shape:
            ours.assign(theirs)
        elif ours.path == EVIDENCE_KERNEL:
            ours.assign(_resized(theirs, ours.shape))
        else:
            raise RunError(
                f"{name} has weights that belong to its size of photos ({ours.path}): it cannot go "
                "on with photos of another size."
            )
    return started


def _backbone_weights(
    started: keras.Model, classifier: keras.Model, earlier: Cut | None, name: str
) -> dict[str, keras.Variable]:
    """The weights of a classifier's backbone by the paths that they have in a new one; paired by
    their order, as Keras may have named the same layers otherwise.

    Args:
        earlier: The cut of the new one, where it is another.

    Raises:
        RunError: The backbone of the classifier does not reach as far.
    """
    try:
        backbone = backbone_of(classifier)
        if earlier:
            backbone = keras.Model(backbone.inputs, backbones.tensor_at(backbone, earlier))
        ours, theirs = (
            [weight for layer in network.layers for weight in layer.weights]
            for network in (backbone_of(started), backbone)
        )
        if [weight.shape for weight in ours] != [weight.shape for weight in theirs]:
            raise ValueError("other layers")
    except ValueError:
        raise RunError(
            f"{name} does not hold the network up to the wanted cut: one that goes on from it may "
            "end earlier, not later."
        ) from None
    return {weight.path: start for weight, start in zip(ours, theirs, strict=True)}


def _resized(kernel: keras.Variable, shape: tuple[int, ...]) -> keras.KerasTensor:
    """A kernel over all positions for more or fewer of them, with about the same sum.

    Args:
        kernel: `(height, width, features, classes)`.
        shape: Of the same form.
    """
    (*size, features, classes) = shape
    flat = keras.ops.reshape(kernel, (1, *kernel.shape[:2], features * classes))
    larger = keras.ops.image.resize(flat, size, antialias=True, data_format="channels_last")
    share = np.prod(kernel.shape[:2]) / np.prod(size)
    return keras.ops.reshape(larger, shape) * share


def _as_served(run: Run, config: TrainingConfig, images: np.ndarray) -> keras.Model:
    """The classifier with the weights of a model in `weights/`, which answers as that does."""
    model = store.open_model(config.start_from)
    if model.members:
        raise RunError(f"{model.name} is an ensemble: name one of its members as the start.")
    trained = ShippedTraining(model.name, model.card).classifier()
    if not _can_start(trained, config.classifier):
        raise RunError(f"The model {model.name} is another classifier: it cannot be the start.")
    if model.card["protocol"]["sha256"] != splits.read_split(run.split).sha256:
        raise RunError(
            f"The model {model.name} had another split: what trained it would be validated "
            "or tested here."
        )
    classifier = served_classifier(model, trained, images)
    log.info("Starting from the model %s, file %s.", model.name, model.sha256)
    return carried_over(classifier, trained, config.classifier, model.name)


def served_classifier(
    model: store.Model, trained: ClassifierConfig, images: np.ndarray
) -> keras.Model:
    """A network of `weights/` as it was built, with the weights of its file.

    Args:
        trained: What it was built of.
        images: Some training photos of any size, uint8 `(n, height, width, 3)`, for the
            statistics of its normalisations.

    Raises:
        RunError: It does not answer as the file does.
    """
    # Other starts need no ONNX: it may be missing where only training is done.
    from dermsa.inference.engine import Engine
    from dermsa.models.from_onnx import load_served

    if images.shape[1:3] != trained.input_size:
        images = np.stack([to_model_input(image, trained.input_size) for image in images])
    classifier = build_classifier(trained)
    load_served(classifier, model.onnx, images)
    few = images[:8].astype(np.float32)
    inputs = {"image": few, "patient": np.zeros((len(few), VECTOR_SIZE), np.float32)}
    ours = keras.ops.convert_to_numpy(classifier(inputs, training=False)["logits"])
    served = Engine(model.onnx)(few, inputs["patient"], ("logits",))["logits"]
    off = np.abs(ours - served).max() / max(1, np.abs(served).max())
    if not off < SAME:
        raise RunError(
            f"The weights of {model.name} could not be carried back from its file: the answers "
            f"differ by {off:.2g}. A run of this classifier can be gone on with instead."
        )
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
