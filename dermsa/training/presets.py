"""Trainings as published: everything that a row of the papers' tables needs, by name.

    preset("sensors2022/InceptionResNetV2/MD").config()    # a TrainingConfig
    preset("sensors2022/InceptionResNetV2/MD").figures()   # what the paper reports of it
    all_presets()                             # these, after those of the models in weights/

Every row that its authors trained themselves has a preset; what they quote from others has none.
A preset is data: a network, a regime, and the published rows that came of them. What the papers
leave open, or did otherwise, is said in its notes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from dermsa.datasets import registry
from dermsa.evaluation.published import SOURCES, Published, figures
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import shipped
from dermsa.training.config import TrainingConfig
from dermsa.training.shipped import ShippedTraining

# Where there is room for one figure, the first of these that was published.
HEADLINES = ("accuracy", "weighted_precision", "macro_recall")

PUBLISHED_TRAINING = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "epsilon": 0.1,
    "weight_decay": 0.0,
    "schedule": "plateau",
    "plateau_factor": 0.2,
    "plateau_patience": 5,
    "plateau_floor": 1e-7,
    "warmup_steps": 0,
    "epochs": 500,
    "early_stopping": 35,
    "batch_size": 32,
    "label_smoothing": 0.0,
    "forget_rate": 0.0,
    "forget_all_rate": 0.0,
    "class_weights": "none",
    "augmentation": "none",
    "monitor": "accuracy",
    "last_layer": "glorot",
}

# As these networks are built, and all others of the presets with 0.99. As far as the papers say,
# nobody changed it for fine-tuning.
BATCHNORM_MOMENTUM = {
    "MobileNetV2": 0.999,
    "MobileNetV3Small": 0.999,
    "MobileNetV3Large": 0.999,
    "NASNetMobile": 0.9997,
    "NASNetLarge": 0.9997,
    "SEResNeXt101": 0.9,
}

DURATION = (
    "The runs had at most 250 to 500 epochs and a patience of 25 to 35, not said which: here 500 "
    "and 35. What chose the checkpoint is left open: here validation accuracy."
)
BGR = (
    "The runs read photos as BGR by mistake; here they are RGB, as the ImageNet weights expect. "
    "--channel-order bgr repeats the mistake."
)
KERNEL = (
    "The code behind the figures has no gamma, and an attention kernel that sees three channels: "
    "here this kernel, and a gamma that starts at 1."
)
RANDOM_START = (
    "There are no ImageNet weights of this network in Keras' form: it starts from random weights, "
    "or from a file given with --initial-weights."
)
ATTENTION_IN_THE_MIDDLE = (
    "From a file of the whole network, what follows the attention starts as well, but for its "
    "first convolutions, which see twice the channels, and the Dense layers."
)
ONE_POSITION = "The feature map has a single position, so that attention does nothing there."


@dataclass(frozen=True)
class Regime:
    """How a paper trained.

    Attributes:
        about: One line.
        settings: Fields of `TrainingConfig` that differ from `PUBLISHED_TRAINING`.
        patient_branch: As in `ClassifierConfig`.
        notes: What its paper leaves open or did otherwise, a sentence or two each.
    """

    about: str
    settings: dict[str, Any]
    patient_branch: str = "none"
    notes: tuple[str, ...] = ()


_METADATA = {"protocol": "image-90-10", "class_weights": "balanced"}
_OVERSAMPLED = {
    "protocol": "datta-85-15",
    "learning_rate": 0.01,
    "sampling": "over",
    "augmentation": "sensors2022",
}
_DATTA_NOTES = (
    "The paper says that training images were over-sampled, not how the copies were altered: here "
    "as in the Sensors paper. Its validation images are not described.",
    DURATION,
)

REGIMES: dict[str, Regime] = {
    "AD": Regime(
        "augmented photos alone, every diagnosis equally often",
        {
            "protocol": "image-90-10",
            "augmentation": "sensors2022",
            "sampling": "over",
            "epoch_images": 18015,
        },
        notes=(
            "The 18,015 altered photos were made once; here as many are drawn anew every epoch.",
            BGR,
            DURATION,
        ),
    ),
    "MD": Regime(
        "plain photos, patient data, balanced class weights",
        _METADATA,
        "dense4096",
        (BGR, DURATION),
    ),
    "MD, original weights": Regime(
        "plain photos, patient data, class weights that sum to 1",
        _METADATA | {"class_weights": "original"},
        "dense4096",
        (BGR, DURATION),
    ),
    "MD without patient data": Regime(
        "plain photos, balanced class weights",
        _METADATA,
        notes=("Whether these rows had class weights is left open: here balanced.", BGR, DURATION),
    ),
    "Datta": Regime(
        "over-sampled and augmented photos, learning rate 0.01", _OVERSAMPLED, notes=_DATTA_NOTES
    ),
    "Datta, ISIC 2017": Regime(
        "over-sampled and augmented photos, learning rate 0.01",
        _OVERSAMPLED | {"dataset": "isic2017-nv-sk", "protocol": "lesion"},
        notes=(
            "The paper tested on the official test photos; here a part of the official training "
            "photos is tested.",
            *_DATTA_NOTES,
        ),
    ),
    "USTH": Regime(
        "augmented photos",
        {"protocol": "lesion", "augmentation": "usth2024"},
        notes=(
            "The report states neither split nor optimiser nor strengths of the augmentation: here "
            "the protocol lesion and the optimiser of the Sensors paper.",
            "It prints the validation accuracy beside the test accuracy.",
        ),
    ),
}


@dataclass(frozen=True)
class Preset:
    """One published training.

    Attributes:
        name: `<source>/<network>[/...]`.
        source: A key of `published.SOURCES`.
        rows: The published rows that came of it, as (model, variant) of `Published`.
        regime: A key of `REGIMES`.
        backbone, cut, head: As in `ClassifierConfig`.
        map_size: Height and width of the feature map, where the experiment chose the input size
            for it; None for the backbone's own input size.
        settings: Fields of `TrainingConfig` that differ from the regime's.
        more_notes: Of this row alone.
    """

    name: str
    source: str
    rows: tuple[tuple[str, str], ...]
    regime: str
    backbone: str
    cut: str = "published"
    head: str = "soft_attention"
    map_size: tuple[int, int] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    more_notes: tuple[str, ...] = ()

    def config(self) -> TrainingConfig:
        """The training; a field can be changed with `dataclasses.replace`."""
        from dermsa.models.backbones import backbone  # Keras: the names alone take none

        regime, record = REGIMES[self.regime], backbone(self.backbone)
        settings = PUBLISHED_TRAINING | regime.settings | self.settings
        attends = self.head != "global_pooling"
        classifier = ClassifierConfig(
            self.backbone,
            cut=self.cut,
            head=self.head,
            **({"kernel": "published", "initial_gamma": 1.0} if attends else {}),
            patient_branch=regime.patient_branch,
            dropout=0.5 if attends else 0.0,
            input_size=record.sizes_by_map[self.map_size] if self.map_size else None,
            classes=registry.record(settings.get("dataset", "ham10000")).classes,
        )
        return TrainingConfig(
            classifier,
            initial_weights="imagenet" if record.imagenet else "none",
            batchnorm_momentum=BATCHNORM_MOMENTUM.get(self.backbone, 0.99),
            **settings,
        )

    def figures(self) -> tuple[Published, ...]:
        """Everything that its source reports of it, in the order of `rows`."""
        known = figures(source=self.source)
        return tuple(
            figure for row in self.rows for figure in known if (figure.model, figure.variant) == row
        )

    @property
    def headline(self) -> Published:
        """The figure to show where there is room for one."""
        found = self.figures()
        return next(
            figure
            for row in self.rows
            for metric in HEADLINES
            for figure in found
            if (figure.model, figure.variant, figure.metric) == (*row, metric)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the papers leave open or did otherwise."""
        from dermsa.models.backbones import backbone

        kernel = () if self.head == "global_pooling" else (KERNEL,)
        record = backbone(self.backbone)
        start = () if record.imagenet else (RANDOM_START,)
        if kernel and record.tail:
            start += (ATTENTION_IN_THE_MIDDLE,)
        return (*self.more_notes, *kernel, *start, *REGIMES[self.regime].notes)

    def summary(self) -> str:
        """One line of a list."""
        headline = self.headline
        return (
            f"{self.backbone}, {self.cut}, {self.head}; {self.regime}; {headline.title} "
            f"{headline.value:.3g}"
        )

    def as_dict(self) -> dict:
        """Everything of it as JSON-ready values."""
        return {
            "name": self.name,
            "backbone": self.backbone,
            "cut": self.cut,
            "head": self.head,
            "regime": self.regime,
            "about": REGIMES[self.regime].about,
            "source": SOURCES[self.source].title,
            "link": SOURCES[self.source].link,
            "notes": list(self.notes),
            "headline": {"title": self.headline.title, "value": self.headline.value},
            "published": [asdict(figure) for figure in self.figures()],
            "config": asdict(self.config()),
        }


def preset(name: str) -> Preset | ShippedTraining:
    """A preset by its name: a published training, or `shipped/<model>`.

    Raises:
        ValueError: There is none; the message offers the nearest.
    """
    if name.startswith(shipped.PREFIX):
        return shipped.training(name)
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3, cutoff=0.4) or list(PRESETS)[:3]
        raise ValueError(
            f"There is no preset {name!r}. Did you mean {' or '.join(near)}? All are listed by: "
            "python -m dermsa presets"
        )
    return PRESETS[name]


# ---------------------------------------------------------------------------------------------
# The rows
# ---------------------------------------------------------------------------------------------

_SENSORS_AD = ("InceptionResNetV2", "DenseNet201", "ResNet50", "VGG16")
_SENSORS_MD = (
    "InceptionResNetV2",
    "DenseNet201",
    "ResNet50",
    "ResNet152",
    "NASNetLarge",
    "NASNetMobile",
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
)
_COMPARED_LOSSES = ("InceptionResNetV2", "DenseNet201", "MobileNetV3Large")
_SENSORS_NOTES = {
    ("VGG16", "AD"): ("Where VGG16 was cut is left open: here after its last pooling.",),
}
# Other rows of the Sensors tables that repeat a training of the regime MD.
_REPEATED = {
    "InceptionResNetV2": (
        ("InceptionResNetV2+SA+metadata+weights (Sensors 2022)", "MD"),
        ("InceptionResNetV2", "MD, balanced class weights"),
    ),
    "DenseNet201": (("DenseNet201", "MD, balanced class weights"),),
    "MobileNetV3Large": (
        ("MobileNetV3Large", "MD, balanced class weights"),
        ("MobileNetV3Large", "[:240]"),
    ),
}


def _sensors() -> Iterator[Preset]:
    for regime, networks in (("MD", _SENSORS_MD), ("AD", _SENSORS_AD)):
        for network in networks:
            repeated = _REPEATED.get(network, ()) if regime == "MD" else ()
            yield Preset(
                f"sensors2022/{network}/{regime}",
                "sensors2022",
                ((network, regime), *repeated),
                regime,
                network,
                more_notes=_SENSORS_NOTES.get((network, regime), ()),
            )
    for network in _COMPARED_LOSSES:
        yield Preset(
            f"sensors2022/{network}/MD/original-weights",
            "sensors2022",
            ((network, "MD, original class weights"),),
            "MD, original weights",
            network,
        )


# The ablation of MobileNetV3Large's cut: the published row and what differs from "MD".
_ABLATION = (
    ("[:230]", "layer_230", {"cut": "layer_230", "more_notes": (ONE_POSITION,)}),
    (
        "[:230], no patient data",
        "layer_230-no-patient",
        {
            "cut": "layer_230",
            "regime": "MD without patient data",
            "more_notes": (ONE_POSITION,),
        },
    ),
    ("[:246]", "layer_246", {"cut": "layer_246"}),
    (
        "[:246], Dense 512",
        "layer_246-dense512",
        {"cut": "layer_246", "head": "soft_attention_dense512"},
    ),
    ("[:251]", "layer_251", {"cut": "layer_251", "more_notes": (ONE_POSITION,)}),
    ("[:260]", "layer_260", {"cut": "layer_260"}),
    ("[:266]", "layer_266", {"cut": "layer_266", "more_notes": (ONE_POSITION,)}),
    ("[:270]", "layer_270", {"cut": "layer_270", "more_notes": (ONE_POSITION,)}),
    (
        "no soft attention, no patient data",
        "no-attention",
        {
            "cut": "layer_270",
            "head": "global_pooling",
            "regime": "MD without patient data",
            "more_notes": (
                "The row keeps 272 of 273 layers, which end in the 1,000 ImageNet classes; what "
                "came after is left open: here one Dense layer on the features before them.",
            ),
        },
    ),
)


def _ablation() -> Iterator[Preset]:
    for variant, ending, differs in _ABLATION:
        yield Preset(
            f"sensors2022/MobileNetV3Large/MD/{ending}",
            "sensors2022",
            (("MobileNetV3Large", variant),),
            backbone="MobileNetV3Large",
            **{"regime": "MD"} | differs,
        )


_DATTA = {
    "IRv2": "InceptionResNetV2",
    "DenseNet201": "DenseNet201",
    "ResNet50": "ResNet50",
    "VGG16": "DattaVGG16",
    "ResNet34": "DattaResNet34",
}
_DATTA_REPEATED = (
    ("InceptionResNetV2+SA (Datta 2021)", "as compared in the Sensors paper"),
    ("IRv2+SA", "soft attention, 15% held out"),
)


def _datta() -> Iterator[Preset]:
    for title, network in _DATTA.items():
        repeated = _DATTA_REPEATED if title == "IRv2" else ()
        rows = ((f"{title}+SA", "soft attention"), *repeated)
        yield Preset(f"datta2021/{title}+SA", "datta2021", rows, "Datta", network)
        # Datta's own networks are whole at the published cut; Keras' are whole at the trunk.
        yield Preset(
            f"datta2021/{title}",
            "datta2021",
            ((title, "no attention"),),
            "Datta",
            network,
            cut="published" if network.startswith("Datta") else "trunk",
            head="global_pooling",
            more_notes=(
                "How the network without attention ended is left open: here in one Dense layer "
                "after its own pooling, without dropout.",
            ),
        )
    for share, protocol in (("20%", "datta-80-20"), ("30%", "datta-70-30")):
        yield Preset(
            f"datta2021/IRv2+SA/{protocol.removeprefix('datta-')}",
            "datta2021",
            (("IRv2+SA", f"soft attention, {share} held out"),),
            "Datta",
            "InceptionResNetV2",
            settings={"protocol": protocol},
        )
    for side in (5, 12):
        yield Preset(
            f"datta2021/isic2017/IRv2-{side}x{side}+SA",
            "datta2021-isic2017",
            ((f"IRv2 {side}x{side}+SA", "soft attention"),),
            "Datta, ISIC 2017",
            "InceptionResNetV2",
            map_size=(side, side),
            more_notes=("The input size is not printed: here one that gives this feature map.",),
        )


_USTH = {
    "ResNet152": ("ResNet152", ()),
    "SE-ResNeXt-101": ("SEResNeXt101", ()),
    "VGG16": ("ImprovedVGG16", ("The report's improved VGG16, not the textbook's.",)),
}


def _usth() -> Iterator[Preset]:
    for title, (network, notes) in _USTH.items():
        yield Preset(
            f"usth2024/{title}",
            "usth2024",
            ((title, "test"), (title, "validation")),
            "USTH",
            network,
            cut="trunk",
            head="global_pooling",
            more_notes=notes,
        )


PRESETS: dict[str, Preset] = {
    each.name: each for rows in (_sensors, _ablation, _datta, _usth) for each in rows()
}


def all_presets() -> dict[str, Preset | ShippedTraining]:
    """The trainings of the models that are there, then the published ones, by name."""
    return {**shipped.trainings(), **PRESETS}
