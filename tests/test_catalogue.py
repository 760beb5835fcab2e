"""The table of sizes: complete, and counted rightly; test_backbones builds every row of it."""

import pytest

from dermsa.models import catalogue, parameters
from dermsa.models.backbones import BACKBONES
from dermsa.models.classifier import ClassifierConfig, build_classifier


def test_every_classifier_is_listed_with_its_size():
    rows = catalogue.listing()
    assert {row["backbone"] for row in rows} == set(BACKBONES)
    assert set(parameters.kept()) == set(BACKBONES), "run python -m dermsa.models.catalogue"
    assert all(row["parameters"] >= row["trainable_parameters"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("head", "cut"), [("soft_attention_dense512", "published"), ("global_pooling", "trunk")]
)
def test_counting_in_parts_is_counting_the_whole(head, cut):
    config = ClassifierConfig("MobileNetV3Small", cut=cut, head=head)
    parameters, _ = catalogue.count("MobileNetV3Small")[cut, head]
    assert build_classifier(config).count_params() == parameters
