"""Every row of the papers' parameter table comes out of the build, to the last parameter.

The papers' counts are those of their notebooks' summaries. They hold three weights of a
Normalization layer for age, which stands outside the network here, and no gamma: so a build has
two parameters less with a patient branch, one more without (those rows had no Normalization),
and one trainable parameter more in either case.
"""

import math

import pytest

from dermsa.models.classifier import ClassifierConfig, build_classifier

PAPERS, NONE = "dense4096", "none"

# backbone, cut, patient branch, feature map, total and trainable parameters
ROWS = (
    ("DenseNet201", "published", PAPERS, (7, 7, 128), 17_596_250, 17_382_935),
    ("InceptionResNetV2", "published", PAPERS, (8, 8, 192), 47_654_074, 47_599_671),
    ("ResNet50", "published", PAPERS, (7, 7, 2048), 24_460_186, 24_407_063),
    ("ResNet152", "published", PAPERS, (7, 7, 2048), 50_299_802, 50_160_663),
    ("NASNetMobile", "published", PAPERS, (7, 7, 176), 3_956_094, 3_922_873),
    ("NASNetLarge", "published", PAPERS, (11, 11, 672), 78_573_004, 78_389_773),
    ("MobileNetV2", "published", PAPERS, (7, 7, 960), 1_354_714, 1_334_039),
    ("MobileNetV3Small", "published", PAPERS, (7, 7, 576), 990_010, 979_239),
    ("MobileNetV3Large", "published", PAPERS, (7, 7, 960), 2_666_922, 2_646_679),
    ("MobileNetV3Large", "layer_246", PAPERS, (7, 7, 960), 2_694_762, 2_672_599),
    ("MobileNetV3Large", "layer_230", PAPERS, (1, 1, 960), 2_153_642, 2_135_639),
    ("MobileNetV3Large", "published", NONE, (7, 7, 960), 2_548_135, 2_527_895),
    ("DattaVGG16", "published", NONE, (28, 28, 512), 62_650_711, 62_642_263),
    ("DattaResNet34", "published", NONE, (28, 28, 128), 31_414_167, 31_391_767),
)


def parameters(classifier):
    """Total and trainable."""
    weights = classifier.trainable_variables
    return classifier.count_params(), sum(math.prod(weight.shape) for weight in weights)


@pytest.mark.parametrize(
    ("backbone", "cut", "patient_branch", "feature_map", "total", "trainable"),
    ROWS,
    ids=["-".join(row[:3]) for row in ROWS],
)
def test_a_row_of_the_table(backbone, cut, patient_branch, feature_map, total, trainable):
    classifier = build_classifier(
        ClassifierConfig(backbone, cut=cut, patient_branch=patient_branch)
    )
    assert classifier.get_layer("soft_attention").input.shape[1:] == feature_map
    offset = -2 if patient_branch == PAPERS else 1
    assert parameters(classifier) == (total + offset, trainable + 1)


def test_the_row_with_a_dense_layer_of_512():
    """37,062,250 needs a second Dense 4096 in the patient branch; see `classifier`."""
    classifier = build_classifier(
        ClassifierConfig("MobileNetV3Large", cut="layer_246", head="soft_attention_dense512")
    )
    assert parameters(classifier) == (37_062_250 - 2, 37_040_087 + 1)


@pytest.mark.parametrize(
    ("cut", "feature_map"),
    [
        ("layer_251", (1, 1, 960)),
        ("layer_260", (7, 7, 960)),
        ("layer_266", (1, 1, 1280)),
        ("layer_270", (1, 1, 1280)),
    ],
)
def test_the_other_cuts_of_the_ablation(cut, feature_map):
    classifier = build_classifier(ClassifierConfig("MobileNetV3Large", cut=cut))
    assert classifier.get_layer("soft_attention").input.shape[1:] == feature_map
