"""What the papers published, figure by figure, for showing beside what is measured here.

    published = figures(backbone="MobileNetV3Large")
    beside(evaluation, published)              # measured, published, difference, and the caveats

The tables lie in `dermsa/published/` as they were printed. A published figure is never compared
silently: each carries the protocol it was measured under and what the number means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from dermsa.evaluation.metrics import METRICS
from dermsa.evaluation.record import Evaluation
from dermsa.evaluation.statistics import Interval
from dermsa.taxonomy import HAM10000_CLASSES

FOLDER = Path(__file__).resolve().parents[1] / "published"
AVERAGES = {"mean": "macro", "weighted": "weighted"}
COST_TITLES = {
    "parameters": "Parameters",
    "seconds_per_epoch": "Seconds per training epoch",
}


@dataclass(frozen=True)
class Source:
    """Where figures were published.

    Attributes:
        title: Authors, place and year.
        link: DOI or address; "" where there is none.
        dataset, protocol: As in an `Evaluation`; the protocol is "" where it is not stated.
        n: Images that the figures rest on; None where not stated.
        meaning: What every figure of this source means, in a sentence.
    """

    title: str
    link: str
    dataset: str
    protocol: str
    n: int | None
    meaning: str


SOURCES: dict[str, Source] = {
    "sensors2022": Source(
        "Nguyen, Bui, Do: Skin Lesion Classification on Imbalanced Data Using Deep Learning with "
        "Soft Attention. Sensors 22 (2022)",
        "https://doi.org/10.3390/s22197530",
        "ham10000",
        "image-90-10",
        996,
        "Split by image: 42 % of the 996 evaluation images, and 73.5 % of the evaluation "
        "melanomas, have another photo of the same lesion in training, and the same images chose "
        "the checkpoint.",
    ),
    "datta2021": Source(
        "Datta, Shaikh, Srihari, Gao: Soft Attention Improves Skin Cancer Classification "
        "Performance (2021)",
        "https://arxiv.org/abs/2105.03358",
        "ham10000",
        "datta-85-15",
        828,
        "Tested on 828 images of lesions that have a single photo, so no lesion is shared with "
        "training; 80 % of them are nevi.",
    ),
    "datta2021-isic2017": Source(
        "Datta, Shaikh, Srihari, Gao (2021), ISIC 2017",
        "https://arxiv.org/abs/2105.03358",
        "isic2017-nv-sk",
        "",
        None,
        "Two classes of ISIC 2017, not the seven of HAM10000.",
    ),
    "usth2024": Source(
        "Student report on multiple networks (USTH, 2024)",
        "",
        "ham10000",
        "",
        None,
        "The columns are headed top-1 and top-2, but the second is below the first: they are "
        "validation and test accuracy.",
    ),
    "anchors": Source(
        "Outside results on the official test sets",
        "",
        "isic2018",
        "isic2018",
        None,
        "Measured on the official ISIC 2018 test images or in a clinic, which are not the test "
        "lesions here.",
    ),
}

MEANINGS = {
    ("sensors2022", "macro_papers_balanced_accuracy"): "The paper calls (sensitivity + "
    "specificity) / 2 balanced accuracy; the field means the mean recall by that name, which is "
    "lower.",
    ("sensors2022", "f1"): "The paper prints a formula with TN in the denominator; its code uses "
    "2 TP / (2 TP + FP + FN), as here.",
    ("sensors2022", "seconds_per_epoch"): 'The paper\'s "time prediction" is the time of one '
    "training epoch; an answer for one image takes milliseconds.",
}
MEANINGS["sensors2022", "macro_f1"] = MEANINGS["sensors2022", "f1"]

_ALONE = (
    "Tested on {} images of lesions that have a single photo, so no lesion is shared with training."
)
OTHER_CONDITIONS = {
    ("datta2021", "soft attention, 20% held out"): ("datta-80-20", _ALONE.format("1,103")),
    ("datta2021", "soft attention, 30% held out"): ("datta-70-30", _ALONE.format("1,655")),
    ("datta2021-isic2017", "quoted"): (
        "",
        "Quoted by Datta et al. from other papers; two classes of ISIC 2017, not the seven of "
        "HAM10000.",
    ),
}
"""Protocol and meaning of variants for which those of their source do not hold."""


@dataclass(frozen=True)
class Published:
    """One published figure.

    Attributes:
        source: A key of `SOURCES`.
        table: File that it stands in.
        model: As the publication names it.
        backbone: A name of the registry of backbones, or "" for others.
        variant: What sets it apart from others of its backbone: the regime (AD: augmented images
            only; MD: plain images, patient data and class weights), soft attention or not, a cut.
        metric: A key of `METRICS` or of `COST_TITLES`.
        of_class: Code of a class, or None.
        value: In the unit of the metric.
        n: Images it rests on: of the class where there is one; None where not stated.
    """

    source: str
    table: str
    model: str
    backbone: str
    variant: str
    metric: str
    of_class: str | None
    value: float
    n: int | None

    @property
    def title(self) -> str:
        return (
            COST_TITLES[self.metric] if self.metric in COST_TITLES else METRICS[self.metric].title
        )

    @property
    def protocol(self) -> str:
        own = OTHER_CONDITIONS.get((self.source, self.variant))
        return own[0] if own else SOURCES[self.source].protocol

    @property
    def conditions(self) -> str:
        """What it was measured on, in a sentence."""
        own = OTHER_CONDITIONS.get((self.source, self.variant))
        return own[1] if own else SOURCES[self.source].meaning

    @property
    def meaning(self) -> str:
        """What the number means, in a sentence or two."""
        own = MEANINGS.get((self.source, self.metric), "")
        return f"{own} {self.conditions}".strip()


@dataclass(frozen=True)
class Beside:
    """A published figure beside the measured one.

    Attributes:
        published: The figure.
        measured: The same metric of the evaluation.
        difference: Measured minus published.
        inside: Whether the published value lies in the measured interval; None where there is
            no interval.
        measured_protocol: Under which the evaluation was made.
        caveat: Why the two may differ for other reasons than the model; "" where the data set and
            the protocol are the same.
    """

    published: Published
    measured: Interval
    difference: float
    inside: bool | None
    measured_protocol: str
    caveat: str


def figures(
    backbone: str | None = None, source: str | None = None, metric: str | None = None
) -> tuple[Published, ...]:
    """Published figures, all or those of a backbone, a source or a metric."""
    wanted = {"backbone": backbone, "source": source, "metric": metric}
    return tuple(
        figure
        for figure in _all()
        if all(value is None or getattr(figure, name) == value for name, value in wanted.items())
    )


def beside(evaluation: Evaluation, published: Iterable[Published]) -> tuple[Beside, ...]:
    """Published figures beside those of an evaluation; what it does not have is left out."""
    rows = []
    for figure in published:
        known = figure.of_class is None or figure.of_class in evaluation.classes
        if figure.metric not in METRICS or not known:
            continue
        measured = evaluation.interval(figure.metric, figure.of_class)
        rows.append(
            Beside(
                figure,
                measured,
                measured.value - figure.value,
                _inside(measured, figure.value),
                evaluation.protocol,
                _caveat(evaluation, figure),
            )
        )
    return tuple(rows)


def _inside(measured: Interval, value: float) -> bool | None:
    if not math.isfinite(measured.value) or not math.isfinite(measured.low):
        return None
    return measured.low <= value <= measured.high


def _caveat(evaluation: Evaluation, figure: Published) -> str:
    source = SOURCES[figure.source]
    if source.dataset != evaluation.dataset:
        return f"Published on {source.dataset}, measured on {evaluation.dataset}."
    if figure.protocol != evaluation.protocol:
        stated = figure.protocol or "a protocol that is not stated"
        return f"Published under {stated}, measured under {evaluation.protocol}."
    return ""


# ---------------------------------------------------------------------------------------------
# One reader per table
# ---------------------------------------------------------------------------------------------

_BACKBONES = {
    "IRv2": "InceptionResNetV2",
    "DenseNet201": "DenseNet201",
    "ResNet50": "ResNet50",
    "VGG16": "DattaVGG16",  # neither is the textbook network of that name
    "ResNet34": "DattaResNet34",
}


@cache
def _all() -> tuple[Published, ...]:
    """Every figure of every table, in the order of `_READERS`."""
    return tuple(figure for reader in _READERS for figure in reader())


def _rows(file: str) -> Iterator[dict[str, str]]:
    table = pd.read_csv(FOLDER / file, dtype=str, keep_default_na=False)
    yield from table.to_dict("records")


def _figure(
    source: str, file: str, model: str, variant: str, metric: str, text: str, **more
) -> Iterator[Published]:
    """One figure, or none where the cell is empty; `scale` turns percents into shares."""
    if not text:
        return
    scale = more.pop("scale", 1.0)
    fields = {"backbone": model, "of_class": None, "n": SOURCES[source].n} | more
    yield Published(
        source,
        file,
        model,
        variant=variant,
        metric=metric,
        value=float(text) * scale,
        **fields,
    )


def _sensors_by_class(file: str, metric: str) -> Iterator[Published]:
    for row in _rows(file):
        common = ("sensors2022", file, row["backbone"], row["regime"])
        for code in HAM10000_CLASSES:
            yield from _figure(*common, metric, row[code], of_class=code, n=None)
        yield from _figure(*common, f"macro_{metric}", row["mean"])


def _sensors_accuracy_auc() -> Iterator[Published]:
    file = "sensors2022_accuracy_auc.csv"
    for row in _rows(file):
        for regime in ("AD", "MD"):
            common = ("sensors2022", file, row["backbone"], regime)
            yield from _figure(*common, "accuracy", row[f"accuracy_{regime}"])
            yield from _figure(*common, "macro_roc_auc", row[f"auc_{regime}"])


def _sensors_mobile() -> Iterator[Published]:
    file = "sensors2022_mobile.csv"
    names = {
        "accuracy": "accuracy",
        "mean_of_sensitivity_and_specificity": "macro_papers_balanced_accuracy",
        "precision": "macro_precision",
        "f1": "macro_f1",
        "sensitivity": "macro_recall",
        "specificity": "macro_specificity",
        "roc_auc": "macro_roc_auc",
    }
    for row in _rows(file):
        for backbone, text in row.items():
            if backbone != "metric":
                metric = names[row["metric"]]
                yield from _figure("sensors2022", file, backbone, "MD", metric, text)


def _sensors_comparison() -> Iterator[Published]:
    file = "sensors2022_comparison.csv"
    names = {
        "accuracy": "accuracy",
        "precision": "macro_precision",
        "f1": "macro_f1",
        "recall": "macro_recall",
        "auc": "macro_roc_auc",
    }
    for row in _rows(file):
        model = row["model"]
        source = "datta2021" if "Datta" in model else "sensors2022"
        own = model.startswith("InceptionResNetV2")
        backbone = "InceptionResNetV2" if own else ""
        variant = "as compared in the Sensors paper" if "Datta" in model else "MD" if own else ""
        for column, metric in names.items():
            n = SOURCES[source].n if own else None
            yield from _figure(
                source, file, model, variant, metric, row[column], backbone=backbone, n=n
            )


def _sensors_loss_weighting() -> Iterator[Published]:
    file = "sensors2022_loss_weighting.csv"
    for row in _rows(file):
        for weights in ("original", "balanced"):
            text = row[f"accuracy_{weights}_weights"]
            variant = f"MD, {weights} class weights"
            yield from _figure("sensors2022", file, row["backbone"], variant, "accuracy", text)


def _sensors_size_time() -> Iterator[Published]:
    file = "sensors2022_size_time.csv"
    for row in _rows(file):
        common = ("sensors2022", file, row["backbone"], "MD")
        yield from _figure(*common, "parameters", row["parameters_millions"], scale=1e6, n=None)
        seconds = row["seconds_per_training_epoch"]
        yield from _figure(*common, "seconds_per_epoch", seconds, n=None)


def _cut_ablation() -> Iterator[Published]:
    file = "mobilenetv3large_cut_ablation.csv"
    for row in _rows(file):
        variant = row["cut"].removeprefix("mobilenetv3large").strip(" ()")
        variant += "" if row["patient_metadata"] == "1" else ", no patient data"
        variant += f", Dense {row['extra_dense']}" if row["extra_dense"] != "0" else ""
        yield from _figure(
            "sensors2022", file, "MobileNetV3Large", variant, "accuracy", row["accuracy"]
        )


def _datta() -> Iterator[Published]:
    file = "datta2021_soft_attention.csv"
    for row in _rows(file):
        of_class = None if row["class"] in AVERAGES else row["class"]
        for column, text in row.items():
            if ":" not in column:
                continue
            name, network = column.split(":")
            metric = {"precision": "precision", "auc": "roc_auc"}[name]
            if of_class is None:
                metric = f"{AVERAGES[row['class']]}_{metric}"
            plain = network.removesuffix("+SA")
            yield from _figure(
                "datta2021",
                file,
                network,
                "soft attention" if network != plain else "no attention",
                metric,
                text,
                backbone=_BACKBONES[plain],
                of_class=of_class,
                n=int(row["support"]),
            )


def _datta_split_size() -> Iterator[Published]:
    file = "datta2021_split_size.csv"
    for row in _rows(file):
        for column in ("weighted_precision", "weighted_auc"):
            metric = column.replace("auc", "roc_auc")
            yield from _figure(
                "datta2021",
                file,
                "IRv2+SA",
                f"soft attention, {float(row['test_fraction']):.0%} held out",
                metric,
                row[column],
                backbone="InceptionResNetV2",
                n=int(row["support"]),
            )


def _datta_isic2017() -> Iterator[Published]:
    file = "datta2021_isic2017.csv"
    names = {"auc": "macro_roc_auc", "accuracy": "accuracy"}
    for row in _rows(file):
        own = row["network"].startswith("IRv2")
        for column, metric in names.items():
            yield from _figure(
                "datta2021-isic2017",
                file,
                row["network"],
                "soft attention" if own else "quoted",
                metric,
                row[column],
                backbone="InceptionResNetV2" if own else "",
            )


def _usth() -> Iterator[Published]:
    file = "usth2024_multimodel.csv"
    for row in _rows(file):
        own = {"SE-ResNeXt-101": "SEResNeXt101", "VGG16": "ImprovedVGG16"}
        backbone = own.get(row["model"], row["model"])
        for column, variant in (
            ("top1_or_validation", "validation"),
            ("top2_or_test", "test"),
        ):
            yield from _figure(
                "usth2024",
                file,
                row["model"],
                variant,
                "accuracy",
                row[column],
                backbone=backbone,
                scale=0.01,
            )


def _anchors() -> Iterator[Published]:
    file = "anchors.csv"
    for row in _rows(file):
        metric = "macro_recall" if "balanced accuracy (mean recall)" in row["what"] else ""
        if metric:
            variant = row["where_measured"]
            yield from _figure(
                "anchors", file, row["who"], variant, metric, row["figure"], backbone=""
            )


_READERS = (
    _sensors_accuracy_auc,
    lambda: _sensors_by_class("sensors2022_recall.csv", "recall"),
    lambda: _sensors_by_class("sensors2022_f1.csv", "f1"),
    _sensors_mobile,
    _sensors_comparison,
    _sensors_loss_weighting,
    _sensors_size_time,
    _cut_ablation,
    _datta,
    _datta_split_size,
    _datta_isic2017,
    _usth,
    _anchors,
)
