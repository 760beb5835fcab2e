"""How a configuration is asked for, by the command line and by the page: groups of settings, and
which of them matter, given the others."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from dermsa.datasets.more_photos import SEVEN
from dermsa.datasets.splits import FOLDED
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training.config import EARLIER, TrainingConfig

GROUPS: dict[str, tuple[str, ...]] = {
    "Data": ("dataset", "protocol", "split_seed", "fold", "more_photos", "limit"),
    "Network": (
        "backbone",
        "cut",
        "input_size",
        "channel_order",
        "head",
        "kernel",
        "attention_maps",
        "initial_gamma",
        "patient_branch",
        "dropout",
    ),
    "Starting weights": ("initial_weights", "last_layer", "start_from"),
    "Fine-tuning": (
        "freeze_until",
        "head_epochs",
        "head_learning_rate",
        "layer_decay",
        "batchnorm",
        "batchnorm_momentum",
    ),
    "Loss and balance": (
        "loss",
        "focal_gamma",
        "class_weights",
        "label_smoothing",
        "teacher",
        "teacher_share",
        "sampling",
        "epoch_images",
    ),
    "Augmentation": (
        "augmentation",
        "augmentation_strength",
        "mixup",
        "forget_rate",
        "forget_all_rate",
    ),
    "Optimiser": (
        "optimizer",
        "learning_rate",
        "weight_decay",
        "epsilon",
        "batch_size",
        "accumulate",
        "average_decay",
    ),
    "Schedule": (
        "schedule",
        "warmup_steps",
        "plateau_factor",
        "plateau_patience",
        "plateau_floor",
    ),
    "Length": ("epochs", "early_stopping", "monitor"),
    "Machine": ("device", "precision", "xla", "seed"),
}

FIELDS: dict[str, dataclasses.Field] = {
    field.name: field
    for config in (ClassifierConfig, TrainingConfig)
    for field in dataclasses.fields(config)
    if field.name not in ("classifier", "classes")
}

# What a setting needs of the others to matter; settings that are not named always do.
NEEDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "fold": ("protocol", FOLDED),
    "more_photos": ("dataset", SEVEN),
    "kernel": ("head", ("soft_attention", "soft_attention_dense512")),
    "attention_maps": ("head", ("soft_attention", "soft_attention_dense512")),
    "initial_gamma": ("head", ("soft_attention", "soft_attention_dense512")),
    "initial_weights": ("start_from", ("",)),
    "last_layer": ("start_from", ("",)),
    "focal_gamma": ("loss", ("focal",)),
    "epoch_images": ("sampling", ("over", "balanced")),
    "forget_rate": ("patient_branch", ("dense4096", "gessert")),
    "forget_all_rate": ("patient_branch", ("dense4096", "gessert")),
    "weight_decay": ("optimizer", ("adamw",)),
    "warmup_steps": ("schedule", ("cosine",)),
    "plateau_factor": ("schedule", ("plateau",)),
    "plateau_patience": ("schedule", ("plateau",)),
    "plateau_floor": ("schedule", ("plateau",)),
}


def applies(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a setting matters beside these values of the others."""
    if name == "augmentation_strength":
        return values["augmentation"] != "none"
    if name == "head_learning_rate":
        return values["head_epochs"] > 0
    if name == "teacher_share":
        return values["teacher"] != ""
    if name == "batchnorm_momentum":  # that branch has a normalisation of its own
        return values["batchnorm"] == "train" or values["patient_branch"] == "gessert"
    if name not in NEEDS:
        return True
    other, allowed = NEEDS[name]
    return values[other] in allowed


def that_apply(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with their defaults where they do not matter beside the others.

    Nobody sees what does not matter: it must not decide whether a training can start.
    """
    return {
        name: value if applies(name, values) else FIELDS[name].default
        for name, value in values.items()
    }


def read_size(text: str) -> tuple[int, int]:
    """Height and width of the input, from "224" or "192 x 256".

    Raises:
        ValueError: It is neither.
    """
    found = re.fullmatch(r"\s*(\d+)\s*(?:[x×]\s*(\d+)\s*)?", text)
    if found is None:
        raise ValueError(
            f"Expected an input size such as 224, or 192 x 256 (height x width). Received: {text}"
        )
    height, width = found.groups()
    return int(height), int(width or height)


def in_words(value: Any) -> str:
    """The value of a setting as people read it: of a size "192 x 256"."""
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings beside each other as `train --config` reads them."""
    names = {field.name for field in dataclasses.fields(ClassifierConfig)}
    classifier = {name: value for name, value in values.items() if name in names}
    others = {name: value for name, value in values.items() if name not in names}
    return {"classifier": classifier, **others}


def defaults() -> dict[str, Any]:
    """Every setting as it is where nobody says otherwise."""
    return {name: field.default for name, field in FIELDS.items()}


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as in `config.json`, with the classifier's settings beside the others'.

    Settings that it does not have, because it is older than they are, are as they were then.
    """
    values = defaults() | EARLIER | {**config, **config["classifier"]}
    if isinstance(values["patient_branch"], bool):  # as older runs have it
        values["patient_branch"] = "dense4096" if values["patient_branch"] else "none"
    values["input_size"] = tuple(values["input_size"]) if values["input_size"] else None
    return {name: values[name] for name in FIELDS}
