"""The configuration of a training: all that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from dermsa.class_weights import CLASS_WEIGHTS, check_class_weights
from dermsa.datasets.more_photos import MORE_PHOTOS, SEVEN
from dermsa.datasets.recipes import RECIPES
from dermsa.datasets.registry import DATASETS
from dermsa.datasets.splits import FOLDED, FOLDS, PROTOCOLS, protocols_of
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.settings import setting
from dermsa.training.sampling import SAMPLING

MONITORS = {"macro_recall": max, "macro_auc": max, "accuracy": max, "loss": min}
LOSSES = {
    "cross_entropy": "Minus the log of the true diagnosis' probability.",
    "focal": "Cross-entropy times (1 - p)^gamma, so that what is easy counts less "
    "(Lin et al. 2017, arXiv:1708.02002).",
    "logit_adjusted": "Cross-entropy of the logits less the log of the class weights: images all "
    "count the same, and what the network says leans to the rare diagnoses (Menon et al. 2021, "
    "arXiv:2007.07314).",
}
OPTIMIZERS = ("adamw", "adam")
SCHEDULES = {
    "cosine": "a linear warm-up, then a cosine down to 0",
    "plateau": "lower whenever the validation loss stops falling",
    "constant": "the same throughout",
}
LAST_LAYER = {
    "zeros": "All logits begin at 0, so that the first steps do not throw the backbone off what "
    "it knows.",
    "glorot": "Random, as Keras starts it and the papers left it.",
}
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
BATCHNORM = {
    "train": "it follows the training photos",
    "keep_statistics": "mean and variance stay as they start, scale and offset are trained",
    "freeze": "all of it stays as it starts",
}
XLA = {
    "auto": "where it helps: on JAX, not on TensorFlow",
    "on": "compile the training step",
    "off": "never",
}


@dataclass(frozen=True)
class TrainingConfig:
    """One training of one classifier. Every field is plain data and checked here.

    The `metadata` of a field are its help text on the command line and the values that it may
    have, where they can be listed.
    """

    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    dataset: str = setting("ham10000", "what to train on", DATASETS)
    protocol: str = setting("lesion", "how the data are split", PROTOCOLS)
    more_photos: str = setting(
        "none", "photos of another data set that train, too, and are tested nowhere", MORE_PHOTOS
    )
    split_seed: int = setting(0, "seed of the split")
    fold: int = setting(0, "which fold is tested, or validates, for protocols that have several")
    initial_weights: str = setting(
        "imagenet",
        "starting weights of the backbone: imagenet (a file placed in the data folder, else "
        "downloaded by Keras), minimalistic (for MobileNetV3Large: the ImageNet weights of its "
        "minimalistic sibling), none, or a path",
    )
    start_from: str = setting(
        "",
        "a run or a model in weights/, on the same split, whose weights to start from, instead of "
        "initial_weights (second stage); the photos may have another size, the network may end at "
        "an earlier cut, and where it has no patient branch, one may come in",
    )
    last_layer: str = setting("zeros", "how the layer of the logits starts", LAST_LAYER)
    loss: str = setting("cross_entropy", "what is minimised", LOSSES)
    focal_gamma: float = setting(2.0, "how little easy images count in the focal loss; 0: fully")
    class_weights: str = setting(
        "sqrt",
        "weights of the diagnoses in the loss, from how often an epoch shows them "
        f"({', '.join(CLASS_WEIGHTS)}), or one number each, with commas between",
    )
    label_smoothing: float = setting(0.05, "0 to below 1")
    teacher: str = setting(
        "",
        "a model in weights/ on the same split whose probabilities are learnt beside the labels "
        "(distillation, Hinton et al. 2015, arXiv:1503.02531)",
    )
    teacher_share: float = setting(0.5, "what the teacher counts against the label, up to 1")
    sampling: str = setting("none", "which images an epoch shows", SAMPLING)
    epoch_images: int = setting(
        0, "length of an epoch with the sampling over or balanced, in images (0: its own)"
    )
    augmentation: str = setting("strong", "augmentation recipe", RECIPES)
    augmentation_strength: float = setting(1.0, "factor on all strengths of the recipe")
    mixup: float = setting(
        0.0,
        "mixes photos and their diagnoses two by two, with shares from a Beta distribution of "
        "this alpha, for example 0.2 (Zhang et al. 2018, arXiv:1710.09412; 0: none)",
    )
    forget_rate: float = setting(0.2, "chance of each patient property to be set to unknown")
    forget_all_rate: float = setting(0.1, "chance to set all patient properties to unknown")
    optimizer: str = setting("adamw", "how weights move", OPTIMIZERS)
    learning_rate: float = setting(6e-4, "highest learning rate")
    weight_decay: float = setting(1e-2, "of AdamW")
    epsilon: float = setting(1e-7, "of the optimizer; 0.1 in the papers, which shortens all steps")
    schedule: str = setting("cosine", "how the learning rate changes", SCHEDULES)
    warmup_steps: int = setting(300, "linear warm-up before the cosine")
    plateau_factor: float = setting(0.2, "what a plateau multiplies the learning rate by")
    plateau_patience: int = setting(5, "epochs without a lower validation loss that are a plateau")
    plateau_floor: float = setting(1e-7, "where the learning rate falls no further")
    layer_decay: float = setting(
        1.0,
        "layer-wise learning rate: factor from each twelfth of the backbone's layers to the one "
        "below, from the head down, on weight decay, too (1: the same rate everywhere)",
    )
    head_epochs: int = setting(
        0,
        "first train the head alone for so many epochs, the backbone frozen; schedule and early "
        "stopping begin after them (0: all from the start)",
    )
    head_learning_rate: float = setting(1e-3, "constant learning rate of the head epochs")
    average_decay: float = setting(
        0.0,
        "exponential moving average of the weights with this decay per step, for example 0.999; "
        "it is what is validated, kept as best and exported (0: none)",
    )
    epochs: int = setting(20, "length of the training, at most")
    early_stopping: int = setting(0, "stop after so many epochs without a better monitor (0: no)")
    batch_size: int = setting(32, "images per step")
    accumulate: int = setting(
        1,
        "steps whose gradients are averaged for one change of the weights; batch normalisation "
        "still sees single batches",
    )
    batchnorm_momentum: float = setting(
        0.9, "of the moving statistics; 0.999, as built, needs far more steps"
    )
    batchnorm: str = setting("train", "batch normalisation in the backbone", BATCHNORM)
    freeze_until: str = setting(
        "",
        "keep the starting weights of the backbone up to and including this layer, which spares "
        "their backward pass (empty: train all)",
    )
    precision: str = setting(
        "float32",
        "of the arithmetic; mixed ones are for accelerators, mixed_bfloat16 for processors with "
        "AMX, too: it doubles the speed of a ResNet there, and gains nothing for MobileNets",
        PRECISIONS,
    )
    xla: str = setting("auto", "the XLA compiler", XLA)
    device: str = setting(
        "auto",
        "what computes: cpu, gpu:0, gpu:1 and so on, auto (the GPU with the shortest queue, else "
        "the CPU), or all (every GPU has its share of each batch; on the JAX backend only)",
    )
    monitor: str = setting(
        "macro_recall", "validation figure that chooses the epoch and stops early", MONITORS
    )
    limit: int = setting(0, "use only this many images of each part (0: all)")
    seed: int = setting(0, "of weights, data order and augmentation")

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            allowed, value = each.metadata.get("choices"), getattr(self, each.name)
            if allowed and value not in allowed:
                raise ValueError(
                    f"Unknown {each.name} {value!r}. Expected one of: {', '.join(allowed)}."
                )
        check_class_weights(self.class_weights, self.classifier.classes)
        self._check_that("from 0 to below 1", lambda value: 0 <= value < 1, *SHARES)
        self._check_that("above 0", lambda value: 0 < value < float("inf"), *POSITIVE)
        self._check_that("above 0 and below 1", lambda value: 0 < value < 1, "plateau_factor")
        self._check_that(
            "above 0 and at most 1", lambda value: 0 < value <= 1, "layer_decay", "teacher_share"
        )
        self._check_that("at least 1", lambda value: value >= 1, *COUNTS)
        self._check_that("at least 0", lambda value: 0 <= value < float("inf"), *NOT_NEGATIVE)
        if self.head_epochs >= self.epochs:
            raise ValueError(
                f"Expected head_epochs to leave some of the {self.epochs} epochs for the whole "
                f"network. Received: {self.head_epochs}"
            )
        if self.more_photos != "none" and self.dataset not in SEVEN:
            raise ValueError(
                f"More photos can stand beside those of {' and '.join(SEVEN)} only: their "
                f"diagnoses are not those of {self.dataset}."
            )
        known = DATASETS[self.dataset].classes
        if self.classifier.classes != known:
            raise ValueError(
                f"Expected a classifier of the {len(known)} diagnoses of {self.dataset}: "
                f"{', '.join(known)}. Received: {', '.join(self.classifier.classes)}."
            )
        self._check_split()
        if self.epoch_images and self.sampling not in ("over", "balanced"):
            raise ValueError(f"The sampling {self.sampling!r} has its own length: no epoch_images.")
        if self.epoch_images and self.epoch_images < max(self.batch_size, len(known)):
            raise ValueError(
                f"Expected epoch_images to fill a batch of {self.batch_size} and to hold all "
                f"{len(known)} diagnoses. Received: {self.epoch_images}"
            )

    def _check_split(self) -> None:
        """What `splits.draw` would refuse, before anything is read."""
        fitting = protocols_of(self.dataset)
        if self.protocol not in fitting:
            raise ValueError(
                f"The protocol {self.protocol} does not divide the data set {self.dataset}. "
                f"Expected one of: {', '.join(fitting)}."
            )
        if self.protocol not in FOLDED and self.fold:
            raise ValueError(f"The protocol {self.protocol} has no folds. Received: {self.fold}")
        if self.fold >= FOLDS:
            raise ValueError(f"Expected a fold from 0 to {FOLDS - 1}. Received: {self.fold}")

    def _check_that(self, what: str, holds, *names: str) -> None:
        for name in names:
            if not holds(getattr(self, name)):
                raise ValueError(f"Expected {name} to be {what}. Received: {getattr(self, name)}")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """Reads what `dataclasses.asdict` gave, or the `config` of a run."""
        values = EARLIER | values
        return cls(classifier=ClassifierConfig(**values.pop("classifier")), **values)


EARLIER = {"last_layer": "glorot"}
"""What trainings did before there was such a setting, where that is not its default."""

SHARES = (
    "label_smoothing",
    "forget_rate",
    "forget_all_rate",
    "batchnorm_momentum",
    "average_decay",
)
POSITIVE = ("learning_rate", "head_learning_rate", "epsilon")
COUNTS = ("epochs", "batch_size", "accumulate", "plateau_patience")
NOT_NEGATIVE = (
    "focal_gamma",
    "augmentation_strength",
    "mixup",
    "weight_decay",
    "warmup_steps",
    "plateau_floor",
    "epoch_images",
    "head_epochs",
    "early_stopping",
    "fold",
    "limit",
)
