"""Classifiers: the papers' parameter counts, and logits that split exactly into their evidence."""

import keras
import numpy as np
import pytest

from dermsa.models import backbones
from dermsa.models.backbones import BACKBONES, UnknownName
from dermsa.models.classifier import OUTPUTS, ClassifierConfig, EvidenceMap, build_classifier

VARIANTS = [
    *({"backbone": name, "cut": cut} for name in BACKBONES for cut in BACKBONES[name].cuts),
    {"backbone": "MobileNetV3Small", "kernel": "published", "attention_maps": 3},
    {"backbone": "MobileNetV3Small", "patient_branch": False},
]
ALL = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))

# Table of the Sensors paper's notebooks: (total, trainable), 224x224, published cut. Their build
# had 3 weights of a Normalization layer for age (none without the patient branch) and no gamma.
PUBLISHED_COUNTS = {
    ("MobileNetV2", True): (1_354_714, 1_334_039),
    ("MobileNetV3Small", True): (990_010, 979_239),
    ("MobileNetV3Large", True): (2_666_922, 2_646_679),
    ("MobileNetV3Large", False): (2_548_135, 2_527_895),
}
NORMALIZATION, GAMMA = 3, 1


def outputs_of(classifier, batch):
    return {name: np.asarray(value) for name, value in classifier(batch).items()}


@pytest.mark.parametrize(("name", "patient_branch"), PUBLISHED_COUNTS)
def test_the_published_cut_has_the_published_parameters(name, patient_branch):
    config = ClassifierConfig(name, cut="published", patient_branch=patient_branch)
    classifier = build_classifier(config)
    total, trainable = PUBLISHED_COUNTS[name, patient_branch]
    left_out = NORMALIZATION if patient_branch else 0
    assert classifier.count_params() == total - left_out + GAMMA
    counted = sum(np.prod(weight.shape) for weight in classifier.trainable_weights)
    assert counted == trainable + GAMMA


def test_every_backbone_has_a_published_count_here():
    assert {name for name, _ in PUBLISHED_COUNTS} == set(BACKBONES)


@ALL
def test_outputs_have_their_names_shapes_and_types(small_classifier, photo_batch, variant):
    outputs = outputs_of(small_classifier(**variant), photo_batch)
    assert tuple(outputs) == OUTPUTS
    assert all(value.dtype == np.float32 for value in outputs.values())
    assert all(np.isfinite(value).all() for value in outputs.values())
    height, width = outputs["attention_map"].shape[1:]
    assert (height, width) in {(3, 5), (6, 10)}
    assert outputs["logits"].shape == outputs["patient_evidence"].shape == (3, 7)
    assert outputs["evidence_map"].shape == (3, 7, -(-height // 2), -(-width // 2))
    assert outputs["embedding"].shape[0] == 3 and outputs["embedding"].ndim == 2


@ALL
def test_logits_split_exactly_into_bias_evidence_map_and_patient(
    small_classifier, photo_batch, variant
):
    classifier = small_classifier(**variant)
    outputs = outputs_of(classifier, photo_batch)
    bias = np.asarray(classifier.get_layer("logits").bias)
    total = bias + outputs["evidence_map"].sum(axis=(2, 3)) + outputs["patient_evidence"]
    np.testing.assert_allclose(outputs["logits"], total, atol=1e-4)
    assert np.ptp(bias) > 0.1 and np.ptp(outputs["evidence_map"]) > 0.01


@ALL
def test_the_attention_map_sums_to_k(small_classifier, photo_batch, variant):
    attention_map = outputs_of(small_classifier(**variant), photo_batch)["attention_map"]
    maps = variant.get("attention_maps", 16)
    np.testing.assert_allclose(attention_map.sum(axis=(1, 2)), maps, rtol=1e-4)


@ALL
def test_photos_and_patients_matter(small_classifier, photo_batch, variant):
    """Each answers for itself, and only the patient branch listens to the patient."""
    classifier = small_classifier(**variant)
    outputs = outputs_of(classifier, photo_batch)
    swapped = {**photo_batch, "patient": photo_batch["patient"][::-1].copy()}
    other = outputs_of(classifier, swapped)
    np.testing.assert_allclose(other["evidence_map"], outputs["evidence_map"], atol=1e-5)
    assert np.ptp(outputs["evidence_map"], axis=0).max() > 1e-3
    if variant.get("patient_branch", True):
        np.testing.assert_allclose(
            other["patient_evidence"], outputs["patient_evidence"][::-1], atol=1e-5
        )
        assert np.ptp(outputs["patient_evidence"], axis=0).max() > 1e-2
    else:
        assert not outputs["patient_evidence"].any()


@pytest.mark.parametrize("patient_branch", [True, False])
def test_the_head_is_figure_3_of_the_paper(small_classifier, photo_batch, patient_branch):
    """Built once more as drawn: pooling, concat, ReLU, Flatten, concat with the patient, Dense."""
    classifier = small_classifier("MobileNetV3Small", patient_branch=patient_branch)
    attention = classifier.get_layer("soft_attention")
    features = keras.Model(classifier.inputs, attention.input)(photo_batch)
    weighted, _ = attention(features)
    pool = keras.layers.MaxPooling2D(2, padding="same")
    head = np.maximum(np.concatenate([pool(features), pool(weighted)], axis=-1), 0)
    joined, kernel = [head.reshape(3, -1)], [classifier.get_layer("evidence_map").kernel]
    kernel = [np.asarray(kernel[0]).reshape(-1, 7)]
    if patient_branch:
        weights, bias = map(np.asarray, classifier.get_layer("patient_dense").weights)
        joined.append(np.maximum(photo_batch["patient"] @ weights + bias, 0))
        kernel.append(np.asarray(classifier.get_layer("patient_evidence").kernel))
    dense = np.concatenate(joined, axis=1) @ np.concatenate(kernel)
    expected = dense + np.asarray(classifier.get_layer("logits").bias)
    outputs = outputs_of(classifier, photo_batch)
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-3)
    np.testing.assert_allclose(outputs["embedding"], head.mean(axis=(1, 2)), atol=1e-4)


def test_the_evidence_map_is_a_dense_layer_kept_apart_by_position():
    features = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    layer = EvidenceMap(7)
    evidence = np.asarray(layer(features))
    kernel = np.asarray(layer.kernel)
    for y, x in np.ndindex(3, 5):
        np.testing.assert_allclose(
            evidence[:, :, y, x], features[:, y, x] @ kernel[y, x], atol=1e-5
        )
    dense = keras.layers.Dense(7, use_bias=False)
    dense.build((None, 60))
    dense.set_weights([kernel.reshape(60, 7)])
    np.testing.assert_allclose(evidence.sum(axis=(2, 3)), dense(features.reshape(2, 60)), atol=1e-5)
    assert layer.compute_output_shape((None, 3, 5, 4)) == (None, 7, 3, 5)


def test_dropout_works_in_training_only(small_classifier, photo_batch):
    classifier = small_classifier("MobileNetV3Small", cut="trunk")
    first, second = (outputs_of(classifier, photo_batch)["logits"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    noisy = [np.asarray(classifier(photo_batch, training=True)["evidence_map"]) for _ in range(2)]
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-3


def test_it_is_one_flat_graph(small_classifier):
    """A network nested as a layer would hide its feature maps from explanation."""
    classifier = small_classifier("MobileNetV3Small", cut="trunk")
    assert not any(isinstance(layer, keras.Model) for layer in classifier.layers)


def test_it_survives_saving(small_classifier, photo_batch, tmp_path):
    for settings in ({"cut": "trunk"}, {"patient_branch": False}):
        classifier = small_classifier("MobileNetV3Small", **settings)
        classifier.save(tmp_path / "classifier.keras")
        again = keras.saving.load_model(tmp_path / "classifier.keras")
        expected = outputs_of(classifier, photo_batch)
        for name, value in outputs_of(again, photo_batch).items():
            np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_under_mixed_precision_outputs_stay_whole_and_sums_close(photo_batch):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        classifier = build_classifier(ClassifierConfig("MobileNetV3Small", input_size=(96, 160)))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert classifier.get_layer("soft_attention").compute_dtype == "float16"
    outputs = outputs_of(classifier, photo_batch)
    assert {value.dtype for value in outputs.values()} == {np.dtype("float32")}
    total = outputs["evidence_map"].sum(axis=(2, 3)) + outputs["patient_evidence"]
    np.testing.assert_allclose(outputs["logits"], total, atol=1e-4)


# --- the configuration ------------------------------------------------------------------------


def test_the_size_is_the_backbones_own_unless_given():
    assert (
        ClassifierConfig("MobileNetV2").input_size == backbones.backbone("MobileNetV2").input_size
    )
    assert ClassifierConfig("MobileNetV2", input_size=[64, 96]).input_size == (64, 96)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "MobileNetV3Smal"}, "no backbone 'MobileNetV3Smal'. Did you mean"),
        ({"cut": "trunks"}, "no cut of MobileNetV2 'trunks'. Did you mean trunk"),
        ({"head": "softattention"}, "no head 'softattention'. Did you mean .*soft_attention"),
        ({"kernel": "formulas"}, "no attention kernel 'formulas'. Did you mean formula"),
        ({"dropout": 1.0}, "dropout rate from 0 to below 1. Received: 1.0"),
        ({"dropout": -0.1}, "dropout rate"),
        ({"input_size": (224, 16)}, r"at least 32 x 32. Received: \(224, 16\)"),
        ({"input_size": (224,)}, "at least 32 x 32"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_way_out(settings, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**({"backbone": "MobileNetV2"} | settings))
    assert issubclass(UnknownName, ValueError)
