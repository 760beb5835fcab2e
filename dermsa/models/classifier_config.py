"""What determines a classifier's graph, as data. `classifier.build_classifier` builds it.

Importing this takes no Keras: the page's form and the list of runs read the fields alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from dermsa.settings import setting
from dermsa.taxonomy import HAM10000_CLASSES

HEADS = ("soft_attention", "global_pooling", "soft_attention_dense512")
KERNELS = ("formula", "published")
CHANNEL_ORDERS = ("rgb", "bgr")
PATIENT_BRANCHES = ("none", "dense4096", "gessert")


@dataclass(frozen=True)
class ClassifierConfig:
    """Everything that determines a classifier's graph; `metadata["help"]` explains each field.

    The soft attention's scale gamma starts at 0.01 in the papers. From there it hardly moves: a
    larger `initial_gamma` lets the attention take part from the first step. Cards and runs made
    before there was a choice have the `patient_branch` True for "dense4096" and False for "none".

    Raises:
        UnknownName: A name that does not exist; the message offers the nearest.
        ValueError: A value that cannot be, or an input size the network cannot take.
    """

    backbone: str = setting("MobileNetV3Small", "image network; the command models lists them")
    cut: str = setting(
        "trunk", "where its features are taken: trunk, published, or another of its cuts"
    )
    head: str = setting("soft_attention", "what decides from the features", HEADS)
    kernel: str = setting("formula", "of soft attention, as printed or as in the code", KERNELS)
    attention_maps: int = setting(16, "how many attention maps are summed")
    initial_gamma: float = setting(0.01, "where soft attention's scale starts")
    patient_branch: str = setting(
        "dense4096",
        "how age, sex and site take part: not, by one layer of 4,096 (the papers; two of them "
        "before the Dense 512), or by two of 256 with normalisation (Gessert et al. 2020, who "
        "trained with forget_rate 0.1 and forget_all_rate 0)",
        PATIENT_BRANCHES,
    )
    dropout: float = setting(0.5, "rate in front of the layers that decide")
    input_size: tuple[int, int] | None = setting(
        None, "height and width in pixels (empty: the backbone's own)"
    )
    channel_order: str = setting(
        "rgb",
        "of the pixels that the backbone is given; bgr repeats the runs that read their photos so "
        "by mistake, and callers hand over RGB to either",
        CHANNEL_ORDERS,
    )
    classes: tuple[str, ...] = setting(HAM10000_CLASSES, "diagnoses, as the data set has them")

    def __post_init__(self) -> None:
        if isinstance(self.patient_branch, bool):
            branch = "dense4096" if self.patient_branch else "none"
            object.__setattr__(self, "patient_branch", branch)
        from dermsa.models import (  # Keras, for seconds: only where it is built
            backbones,
            classifier,
        )

        record = backbones.backbone(self.backbone)
        for kind, name, known in (
            (f"cut of {self.backbone}", self.cut, record.cuts),
            ("head", self.head, HEADS),
            ("attention kernel", self.kernel, KERNELS),
            ("patient branch", self.patient_branch, PATIENT_BRANCHES),
            ("channel order", self.channel_order, CHANNEL_ORDERS),
        ):
            if name not in known:
                raise backbones.UnknownName(kind, name, known)
        if self.head not in classifier.heads_at(self.backbone, self.cut):
            raise ValueError(
                f"{self.backbone} goes on by itself after the attention at the cut {self.cut}. "
                f"Expected the head {' or '.join(classifier.heads_at(self.backbone, self.cut))}. "
                f"Received: {self.head}"
            )
        if self.attention_maps < 1:
            raise ValueError(f"Expected at least 1 attention map. Received: {self.attention_maps}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Expected a dropout rate from 0 to below 1. Received: {self.dropout}")
        size = tuple(self.input_size or record.input_size)
        if len(size) != 2 or min(size) < record.min_size:
            raise ValueError(
                f"{self.backbone} needs an input size of at least {record.min_size} x "
                f"{record.min_size}. Received: {' x '.join(map(str, size))}"
            )
        classes = tuple(self.classes)
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise ValueError(f"Expected two or more different classes. Received: {classes}")
        object.__setattr__(self, "input_size", size)
        object.__setattr__(self, "classes", classes)
