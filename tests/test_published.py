"""Published figures: as printed, with their protocol, and never compared silently."""

import dataclasses

import numpy as np
import pytest
from drawn_evaluations import drawn_evaluation

from dermsa.evaluation import published, record
from dermsa.evaluation.metrics import METRICS


def one(**wanted):
    found = [
        figure
        for figure in published.figures()
        if all(getattr(figure, name) == value for name, value in wanted.items())
    ]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("table", "which", "value", "n"),
    [
        ("sensors2022_recall", "backbone=MobileNetV3Large;of_class=df", 0.92, None),
        ("sensors2022_f1", "backbone=DenseNet201;variant=MD;metric=macro_f1", 0.83, 996),
        ("sensors2022_accuracy_auc", "backbone=DenseNet201;variant=MD;metric=accuracy", 0.89, 996),
        ("sensors2022_mobile", "backbone=NASNetMobile;metric=macro_specificity", 0.96, 996),
        ("sensors2022_size_time", "backbone=MobileNetV3Large;metric=parameters", 5.5e6, None),
        ("mobilenetv3large_cut_ablation", "variant=[:246], Dense 512", 0.85, 996),
        ("datta2021_soft_attention", "model=IRv2+SA;metric=precision;of_class=mel", 0.67, 34),
        ("datta2021_soft_attention", "model=VGG16;metric=weighted_roc_auc", 0.951, 828),
        (
            "datta2021_split_size",
            "metric=weighted_roc_auc;variant=soft attention, 30% held out",
            0.976,
            1655,
        ),
        ("usth2024_multimodel", "backbone=SEResNeXt101;variant=test", 0.825, None),
        # Neither author's VGG16 is the textbook network, and they are two.
        ("usth2024_multimodel", "backbone=ImprovedVGG16;variant=test", 0.687, None),
        (
            "datta2021_soft_attention",
            "backbone=DattaVGG16;of_class=mel;metric=precision;variant=soft attention",
            0.43,
            34,
        ),
        (
            "datta2021_soft_attention",
            "backbone=DattaResNet34;metric=weighted_precision;variant=no attention",
            0.857,
            828,
        ),
    ],
)
def test_figures_are_as_printed(table, which, value, n):
    wanted = dict(item.split("=") for item in which.split(";"))
    figure = one(table=f"{table}.csv", **wanted)
    assert figure.value == pytest.approx(value) and figure.n == n
    assert figure.title and figure.meaning


def test_every_figure_is_known_by_its_metric_source_and_backbone():
    from dermsa.models.backbones import BACKBONES

    figures = published.figures()
    for figure in figures:
        assert figure.metric in METRICS or figure.metric in published.COST_TITLES
        assert figure.source in published.SOURCES
        assert figure.backbone in {"", *BACKBONES}
        assert figure.value > 0 and (figure.metric not in METRICS or figure.value <= 1)
    assert {figure.table for figure in figures} <= {
        path.name for path in published.FOLDER.glob("*.csv")
    }
    assert len(published.figures(backbone="InceptionResNetV2", metric="accuracy")) > 3
    assert not published.figures(source="usth2024", metric="macro_f1")


def test_measured_stands_beside_published_with_the_reason_to_doubt_it():
    evaluation = drawn_evaluation()
    figures = published.figures(backbone="MobileNetV3Large", source="sensors2022")
    rows = published.beside(evaluation, figures)
    assert len(rows) == sum(figure.metric in METRICS for figure in figures) > 20
    for row in rows:
        measured = evaluation.interval(row.published.metric, row.published.of_class)
        assert row.measured == measured
        assert row.difference == pytest.approx(measured.value - row.published.value)
        assert row.inside == (measured.low <= row.published.value <= measured.high)
        assert row.caveat == "Published under image-90-10, measured under lesion."
    same = dataclasses.replace(evaluation, protocol="image-90-10")
    assert {row.caveat for row in published.beside(same, figures)} == {""}
    few = dataclasses.replace(
        evaluation.predictions,
        truth=np.minimum(evaluation.predictions.truth, 1),
        probabilities=np.full((300, 2), 0.5),
        classes=("akiec", "bcc"),
        malignant=(),
        lean=None,
    )
    other = dataclasses.replace(evaluation, predictions=few, dataset="isic2017")
    rows = published.beside(other, figures)
    assert {row.published.of_class for row in rows} == {None, "akiec", "bcc"}
    assert rows[0].caveat == "Published on ham10000, measured on isic2017."


def test_without_an_interval_a_published_figure_lies_neither_in_nor_outside():
    evaluation = drawn_evaluation()
    few = evaluation.predictions.subset(evaluation.predictions.truth != 3)
    part = dataclasses.replace(evaluation, predictions=few, **record.figures(few, 20))
    rows = published.beside(part, published.figures(metric="recall", backbone="MobileNetV2"))
    assert {row.published.of_class: row.inside for row in rows}["df"] is None


def test_what_a_number_means_is_said():
    mean = one(table="sensors2022_mobile.csv", backbone="MobileNetV2",
               metric="macro_papers_balanced_accuracy")  # fmt: skip
    assert "(sensitivity + specificity) / 2" in mean.meaning and "73.5 %" in mean.meaning
    seconds = one(table="sensors2022_size_time.csv", backbone="DenseNet201",
                  metric="seconds_per_epoch")  # fmt: skip
    assert seconds.value == 1000 and "training epoch" in seconds.meaning
    report = published.figures(source="usth2024")[0]
    assert "validation and test" in report.meaning
