"""The configuration of a training: all that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from dermsa.datasets.augmentation import RECIPES
from dermsa.datasets.splits import PROTOCOLS
from dermsa.losses import CLASS_WEIGHTS
from dermsa.models.classifier import ClassifierConfig

MONITORS = {"macro_recall": max, "macro_auc": max, "loss": min}


@dataclass(frozen=True)
class TrainingConfig:
    """One training of one classifier. Every field is plain data and checked here.

    The `metadata` of a field is its help text on the command line.
    """

    classifier: ClassifierConfig
    protocol: str = field(default="lesion", metadata={"help": "how the data are split"})
    split_seed: int = field(default=0, metadata={"help": "seed of the split"})
    initial_weights: str = field(
        default="imagenet",
        metadata={
            "help": "starting weights of the backbone: imagenet (a file placed in the data "
            "folder, else downloaded by Keras), none, or a path"
        },
    )
    start_from: str = field(
        default="",
        metadata={
            "help": "a run on the same split whose best weights to start from, instead of "
            "initial_weights (second stage)"
        },
    )
    class_weights: str = field(default="sqrt", metadata={"help": "class weights in the loss"})
    label_smoothing: float = field(default=0.05, metadata={"help": "0 to below 1"})
    augmentation: str = field(default="strong", metadata={"help": "augmentation recipe"})
    forget_rate: float = field(
        default=0.2, metadata={"help": "chance of each patient property to be set to unknown"}
    )
    forget_all_rate: float = field(
        default=0.1, metadata={"help": "chance to set all patient properties to unknown"}
    )
    learning_rate: float = field(default=6e-4, metadata={"help": "peak learning rate of AdamW"})
    weight_decay: float = field(default=1e-2, metadata={"help": "of AdamW"})
    epsilon: float = field(default=1e-7, metadata={"help": "of AdamW"})
    warmup_steps: int = field(default=300, metadata={"help": "linear warm-up before the cosine"})
    epochs: int = field(default=20, metadata={"help": "length of the training"})
    batch_size: int = field(default=32, metadata={"help": "images per step"})
    batchnorm_momentum: float = field(
        default=0.9,
        metadata={"help": "of the moving statistics; 0.999, as built, needs far more steps"},
    )
    freeze_until: str = field(
        default="",
        metadata={
            "help": "keep the starting weights of the backbone up to and including this layer, "
            "which spares their backward pass (empty: train all)"
        },
    )
    monitor: str = field(
        default="macro_recall",
        metadata={"help": "validation figure that chooses the epoch: " + ", ".join(MONITORS)},
    )
    limit: int = field(
        default=0, metadata={"help": "use only this many images of each part (0: all)"}
    )
    seed: int = field(default=0, metadata={"help": "of weights, data order and augmentation"})

    def __post_init__(self) -> None:
        choices = {
            "protocol": PROTOCOLS,
            "class_weights": CLASS_WEIGHTS,
            "augmentation": RECIPES,
            "monitor": MONITORS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"Unknown {name} {getattr(self, name)!r}. "
                    f"Expected one of: {', '.join(allowed)}."
                )
        for name in ("label_smoothing", "forget_rate", "forget_all_rate", "batchnorm_momentum"):
            self._check(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        for name in ("learning_rate", "epsilon"):
            self._check(name, getattr(self, name) > 0, "above 0")
        for name in ("epochs", "batch_size"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("weight_decay", "warmup_steps", "limit"):
            self._check(name, getattr(self, name) >= 0, "at least 0")

    def _check(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"Expected {name} to be {what}. Received: {getattr(self, name)}")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """Reads what `dataclasses.asdict` gave, or the `config` of a run."""
        values = dict(values)
        return cls(classifier=ClassifierConfig(**values.pop("classifier")), **values)
