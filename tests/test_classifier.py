"""Classifiers: every head and patient branch, and logits that split exactly where they should."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dermsa.models import backbones
from dermsa.models.backbones import BACKBONES, UnknownName
from dermsa.models.classifier import (
    ClassActivationMap,
    ClassifierConfig,
    EvidenceMap,
    build_classifier,
    decomposes,
    heads_at,
    outputs_of,
)
from dermsa.models.classifier_config import HEADS, PATIENT_BRANCHES

SMALL = "MobileNetV3Small"
IN_THE_MIDDLE = "DattaResNet34"  # attention in the middle of the network
VARIANTS = [
    *(
        {"backbone": SMALL, "head": head, "patient_branch": branch}
        for head in HEADS
        for branch in PATIENT_BRANCHES
    ),
    {"backbone": SMALL, "kernel": "published", "attention_maps": 3, "cut": "published"},
    {"backbone": SMALL, "classes": ("mel", "nv", "sk"), "patient_branch": "gessert"},
    {"backbone": SMALL, "classes": ("nv", "sk"), "head": "global_pooling"},
    {"backbone": IN_THE_MIDDLE, "cut": "published", "input_size": (32, 48)},
    {
        "backbone": IN_THE_MIDDLE,
        "cut": "published",
        "input_size": (32, 48),
        "head": "global_pooling",
        "patient_branch": "gessert",
    },
]


def with_all(variants):
    def name(variant):
        return "-".join(str(value) for value in variant.values())

    return pytest.mark.parametrize("variant", variants, ids=name)


def config_of(variant):
    return ClassifierConfig(**({"input_size": (96, 160)} | variant))


ALL = with_all(VARIANTS)
SPLITTING = with_all([variant for variant in VARIANTS if decomposes(config_of(variant))])
ATTENDING = with_all([variant for variant in VARIANTS if variant.get("head") != "global_pooling"])


@pytest.fixture
def batch_for(photo_batch):
    """Photos of a variant's input size, cut out of the usual ones, with their patients."""

    def cut(variant):
        height, width = config_of(variant).input_size
        return photo_batch | {"image": photo_batch["image"][:, :height, :width]}

    return cut


def outputs_of_batch(classifier, batch):
    return {name: np.asarray(value) for name, value in classifier(batch).items()}


# --- what a classifier answers ----------------------------------------------------------------


def test_which_classifiers_split_their_logits():
    def splits(backbone=SMALL, **settings):
        return decomposes(ClassifierConfig(backbone, **settings))

    assert [splits(head=head) for head in HEADS] == [True, True, False]
    assert all(splits(patient_branch=branch) for branch in PATIENT_BRANCHES)
    assert not splits(IN_THE_MIDDLE, cut="published")
    assert not splits(IN_THE_MIDDLE, cut="published", head="global_pooling")
    assert splits(IN_THE_MIDDLE, cut="trunk")


@ALL
def test_outputs_have_their_names_shapes_and_types(small_classifier, batch_for, variant):
    config = config_of(variant)
    outputs = outputs_of_batch(small_classifier(**variant), batch_for(variant))
    assert tuple(outputs) == outputs_of(config)
    assert ("evidence_map" in outputs) == ("patient_evidence" in outputs) == decomposes(config)
    assert ("attention_map" in outputs) == (config.head != "global_pooling")
    assert all(value.dtype == np.float32 for value in outputs.values())
    assert all(np.isfinite(value).all() for value in outputs.values())
    classes = len(config.classes)
    assert outputs["logits"].shape == (3, classes)
    assert outputs["embedding"].shape[0] == 3 and outputs["embedding"].ndim == 2
    if decomposes(config):
        assert outputs["patient_evidence"].shape == (3, classes)
        positions = {"global_pooling": {(3, 5)}}.get(config.head, {(2, 3)})
        assert outputs["evidence_map"].shape[:2] == (3, classes)
        assert outputs["evidence_map"].shape[2:] in positions
    if "attention_map" in outputs:
        grid = (4, 6) if config.backbone == IN_THE_MIDDLE else (3, 5)
        assert outputs["attention_map"].shape == (3, *grid)


@SPLITTING
def test_logits_split_exactly_into_bias_evidence_map_and_patient(
    small_classifier, batch_for, variant
):
    classifier, batch = small_classifier(**variant), batch_for(variant)
    terms, bias = outputs_of_batch(classifier, batch), bias_of(classifier, "logits")
    total = bias + terms["evidence_map"].sum(axis=(2, 3)) + terms["patient_evidence"]
    np.testing.assert_allclose(terms["logits"], total, atol=1e-4)
    assert np.ptp(bias) > 0.1 and np.ptp(terms["evidence_map"]) > 1e-3


@SPLITTING
def test_the_evidence_is_the_gradient_of_the_logits(small_classifier, batch_for, variant):
    """Linear without a bias: feature times gradient, summed over channels, is each term."""
    classifier, batch = small_classifier(**variant), batch_for(variant)
    layer = classifier.get_layer("evidence_map")
    head = tf.convert_to_tensor(keras.Model(classifier.inputs, layer.input)(batch))
    outputs = classifier(batch)
    for k in range(outputs["logits"].shape[1]):
        with tf.GradientTape() as tape:
            tape.watch(head)
            logits = classifier.get_layer("logits")([layer(head), outputs["patient_evidence"]])
            of_class = tf.reduce_sum(logits[:, k])
        terms = tf.reduce_sum(tape.gradient(of_class, head) * head, axis=-1)
        np.testing.assert_allclose(outputs["evidence_map"][:, k], terms, atol=1e-4)


@ATTENDING
def test_the_attention_map_sums_to_k(small_classifier, batch_for, variant):
    attention_map = small_classifier(**variant)(batch_for(variant))["attention_map"]
    maps = variant.get("attention_maps", 16)
    np.testing.assert_allclose(np.sum(attention_map, axis=(1, 2)), maps, rtol=1e-4)


@ALL
def test_photos_and_patients_matter(small_classifier, batch_for, variant):
    """Each answers for itself, and only the patient branch listens to the patient."""
    classifier, batch = small_classifier(**variant), batch_for(variant)
    outputs = outputs_of_batch(classifier, batch)
    swapped = {**batch, "patient": batch["patient"][::-1].copy()}
    other = outputs_of_batch(classifier, swapped)
    for name in {"attention_map", "evidence_map", "embedding"} & set(outputs):
        np.testing.assert_allclose(other[name], outputs[name], atol=1e-5)
    assert np.ptp(outputs["embedding"], axis=0).max() > 1e-3
    assert np.ptp(outputs["logits"], axis=0).max() > 1e-3
    listens = np.abs(other["logits"] - outputs["logits"]).max() > 1e-3
    assert listens == (variant.get("patient_branch") != "none")
    if "patient_evidence" in outputs:
        np.testing.assert_allclose(
            other["patient_evidence"], outputs["patient_evidence"][::-1], atol=1e-5
        )


# --- heads and branches, built once more as drawn ---------------------------------------------


def patient_features(classifier, patient):
    """What a branch makes of the patient, from its weights."""

    def weights(name):
        return [np.asarray(weight) for weight in classifier.get_layer(name).weights]

    names = {layer.name for layer in classifier.layers}
    hidden = patient
    for number in ("1", "2"):
        if f"patient_bn_{number}" in names:
            (kernel,) = weights(f"patient_dense_{number}")
            gamma, beta, mean, variance = weights(f"patient_bn_{number}")
            hidden = (hidden @ kernel - mean) / np.sqrt(variance + 1e-3) * gamma + beta
            hidden = np.maximum(hidden, 0)
    for name in ("patient_dense", "patient_dense_2"):
        if name in names and "patient_bn_2" not in names:
            kernel, bias = weights(name)
            hidden = np.maximum(hidden @ kernel + bias, 0)
    return hidden


def attended(classifier, features):
    """Figure 3 up to its ReLU: two pooled paths, joined."""
    weighted, _ = classifier.get_layer("soft_attention")(features)
    pool = keras.layers.MaxPooling2D(2, padding="same")
    return np.maximum(np.concatenate([pool(features), pool(weighted)], axis=-1), 0)


def features_of(classifier, batch):
    attention = classifier.get_layer("soft_attention")
    return keras.Model(classifier.inputs, attention.input)(batch)


def kernel_of(classifier, name):
    return np.asarray(classifier.get_layer(name).kernel)


def bias_of(classifier, name):
    return np.asarray(classifier.get_layer(name).bias)


@pytest.mark.parametrize("branch", PATIENT_BRANCHES)
def test_the_head_is_figure_3_of_the_paper(small_classifier, photo_batch, branch):
    """Pooling, concat, ReLU, Flatten, concat with the patient, Dense."""
    classifier = small_classifier(SMALL, head="soft_attention", patient_branch=branch)
    head = attended(classifier, features_of(classifier, photo_batch))
    joined = [head.reshape(3, -1)]
    kernel = [kernel_of(classifier, "evidence_map").reshape(-1, 7)]
    if branch != "none":
        joined.append(patient_features(classifier, photo_batch["patient"]))
        kernel.append(kernel_of(classifier, "patient_evidence"))
    dense = np.concatenate(joined, axis=1) @ np.concatenate(kernel)
    outputs = outputs_of_batch(classifier, photo_batch)
    np.testing.assert_allclose(outputs["logits"], dense + bias_of(classifier, "logits"), atol=1e-3)
    np.testing.assert_allclose(outputs["embedding"], head.mean(axis=(1, 2)), atol=1e-4)


def test_global_pooling_is_the_mean_over_positions_and_dense(small_classifier, photo_batch):
    classifier = small_classifier(SMALL, head="global_pooling", patient_branch="dense4096")
    features = keras.Model(classifier.inputs, classifier.get_layer("embedding").input)(photo_batch)
    pooled = np.asarray(features).mean(axis=(1, 2))
    dense = pooled @ kernel_of(classifier, "evidence_map") + bias_of(classifier, "logits")
    patient = patient_features(classifier, photo_batch["patient"])
    dense = dense + patient @ kernel_of(classifier, "patient_evidence")
    outputs = outputs_of_batch(classifier, photo_batch)
    np.testing.assert_allclose(outputs["logits"], dense, atol=1e-4)
    np.testing.assert_allclose(outputs["embedding"], pooled, atol=1e-5)
    assert not any("attention" in layer.name for layer in classifier.layers)


@pytest.mark.parametrize("branch", PATIENT_BRANCHES)
def test_dense_512_stands_between_the_concat_and_the_logits(small_classifier, photo_batch, branch):
    """Flatten, concat with the patient, Dense 512 with ReLU, Dense."""
    classifier = small_classifier(SMALL, head="soft_attention_dense512", patient_branch=branch)
    head = attended(classifier, features_of(classifier, photo_batch))
    joined, kernel = [head.reshape(3, -1)], [kernel_of(classifier, "joint_image")]
    if branch != "none":
        joined.append(patient_features(classifier, photo_batch["patient"]))
        kernel.append(kernel_of(classifier, "joint_patient"))
    hidden = np.concatenate(joined, axis=1) @ np.concatenate(kernel)
    hidden = np.maximum(hidden + bias_of(classifier, "joint_image"), 0)
    assert hidden.shape == (3, 512)
    expected = hidden @ kernel_of(classifier, "logits") + bias_of(classifier, "logits")
    np.testing.assert_allclose(classifier(photo_batch)["logits"], expected, atol=1e-3)


def test_attention_in_the_middle_comes_before_the_rest_of_the_network(small_classifier, batch_for):
    variant = next(v for v in VARIANTS if v["backbone"] == IN_THE_MIDDLE)
    classifier, batch = small_classifier(**variant), batch_for(variant)
    head = attended(classifier, features_of(classifier, batch))
    assert head.shape[1:] == (2, 3, 2 * 128)
    dropout = classifier.get_layer("head_dropout")
    flat = keras.Model(dropout.output, classifier.get_layer("image_logits").input)(head)
    outputs = outputs_of_batch(classifier, batch)
    np.testing.assert_allclose(outputs["embedding"], flat, atol=1e-4)
    image = flat @ kernel_of(classifier, "image_logits") + bias_of(classifier, "image_logits")
    patient = patient_features(classifier, batch["patient"])
    patient = patient @ kernel_of(classifier, "patient_logits")
    np.testing.assert_allclose(outputs["logits"], image + patient, atol=1e-3)


@pytest.mark.parametrize("backbone", ["DattaVGG16", "DattaResNet34"])
@pytest.mark.parametrize("head", ["global_pooling", "soft_attention"])
def test_the_rest_of_the_network_starts_from_the_file_too(backbone, head, tmp_path, caplog):
    keras.utils.set_random_seed(3)
    whole = backbones.backbone(backbone).build(input_shape=(32, 32, 3))
    for layer in whole.layers:
        layer.set_weights([np.random.normal(size=weight.shape) for weight in layer.weights])
    whole.save_weights(tmp_path / "whole.weights.h5")
    caplog.set_level("INFO", "dermsa.training")
    config = ClassifierConfig(backbone, "published", head, input_size=(32, 32))
    classifier = build_classifier(config, str(tmp_path / "whole.weights.h5"))
    random = set()
    for layer in whole.layers:
        built = classifier.get_layer(layer.name).get_weights() if layer.weights else []
        for weight, saved in zip(built, layer.get_weights(), strict=True):
            if weight.shape != saved.shape or not np.array_equal(weight, saved):
                random.add(layer.name)
    wider = {
        "DattaVGG16": {"block5_conv1"},
        "DattaResNet34": {"conv4_block1_0_conv", "conv4_block1_1_conv"},
    }
    assert random == (wider[backbone] if head == "soft_attention" else set())
    assert "image_logits" in caplog.text and all(name in caplog.text for name in random)
    assert "conv5_block3_2_conv" not in caplog.text and "block5_conv2" not in caplog.text


def test_what_a_file_that_ends_at_the_cut_leaves_random_is_said(tmp_path, caplog):
    record = backbones.backbone(IN_THE_MIDDLE)
    image = keras.Input((32, 32, 3))
    part = keras.Model(image, backbones.features(record, "published", image, None))
    part.save_weights(tmp_path / "part.weights.h5")
    caplog.set_level("INFO", "dermsa.training")
    config = ClassifierConfig(IN_THE_MIDDLE, "published", "global_pooling", input_size=(32, 32))
    build_classifier(config, str(tmp_path / "part.weights.h5"))
    assert "conv5_block3_2_conv" in caplog.text and "conv3_block4_2" not in caplog.text


def test_without_attention_plain_pooling_stands_in_its_place(small_classifier, batch_for):
    """The network that Datta et al. compare with is the backbone's own."""
    variant = next(
        v for v in VARIANTS if v["backbone"] == IN_THE_MIDDLE and v.get("head") == "global_pooling"
    )
    classifier, batch = small_classifier(**variant), batch_for(variant)
    record = backbones.backbone(IN_THE_MIDDLE)
    image = keras.Input((32, 48, 3))
    trunk = keras.layers.GlobalAveragePooling2D()(backbones.features(record, "trunk", image, None))
    plain = keras.Model(image, trunk)
    for layer in plain.layers:
        if layer.weights:
            layer.set_weights(classifier.get_layer(layer.name).get_weights())
    np.testing.assert_allclose(classifier(batch)["embedding"], plain(batch["image"]), atol=1e-4)


@ALL
def test_a_gradient_reaches_every_weight(small_classifier, batch_for, variant):
    classifier, batch = small_classifier(**variant), batch_for(variant)
    weighing = np.random.default_rng(0).normal(size=(3, len(config_of(variant).classes)))
    with tf.GradientTape() as tape:
        # In inference mode: a batch of three would normalise some features away.
        loss = tf.reduce_sum(classifier(batch)["logits"] * weighing.astype(np.float32))
    variables = [variable.value for variable in classifier.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None and np.abs(gradient).max() > 0, variable.name


# --- layers -----------------------------------------------------------------------------------


def test_the_class_activation_map_is_dense_after_pooling_kept_apart_by_position():
    features = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    layer = ClassActivationMap(7)
    terms = np.asarray(layer(features))
    for y, x in np.ndindex(3, 5):
        expected = features[:, y, x] @ np.asarray(layer.kernel) / 15
        np.testing.assert_allclose(terms[:, :, y, x], expected, atol=1e-6)
    assert layer.compute_output_shape((None, 3, 5, 4)) == (None, 7, 3, 5)


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


# --- the whole --------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_dropout_works_in_training_only(small_classifier, photo_batch, head):
    classifier = small_classifier(SMALL, head=head, patient_branch="none")
    first, second = (np.asarray(classifier(photo_batch)["logits"]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    noisy = [np.asarray(classifier(photo_batch, training=True)["logits"]) for _ in range(2)]
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-3


@with_all([VARIANTS[0], VARIANTS[-1]])
def test_it_is_one_flat_graph(small_classifier, variant):
    """A network nested as a layer would hide its feature maps from explanation."""
    assert not any(isinstance(layer, keras.Model) for layer in small_classifier(**variant).layers)


@with_all([*VARIANTS[2:9:3], VARIANTS[-1]])
def test_it_survives_saving(small_classifier, batch_for, tmp_path, variant):
    classifier, batch = small_classifier(**variant), batch_for(variant)
    classifier.save(tmp_path / "classifier.keras")
    again = keras.saving.load_model(tmp_path / "classifier.keras")
    expected = outputs_of_batch(classifier, batch)
    for name, value in outputs_of_batch(again, batch).items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("head", HEADS)
def test_under_mixed_precision_outputs_stay_whole_and_sums_close(photo_batch, head):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        classifier = build_classifier(
            ClassifierConfig(SMALL, head=head, patient_branch="gessert", input_size=(96, 160))
        )
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert classifier.get_layer("conv_1").compute_dtype == "float16"
    outputs = outputs_of_batch(classifier, photo_batch)
    assert {value.dtype for value in outputs.values()} == {np.dtype("float32")}
    if "evidence_map" in outputs:
        total = outputs["evidence_map"].sum(axis=(2, 3)) + outputs["patient_evidence"]
        np.testing.assert_allclose(outputs["logits"], total, atol=1e-4)


def test_bgr_is_what_the_backbone_sees_and_rgb_what_callers_hand_over(photo_batch):
    """The papers' mistake, repeated inside the graph; whatever the backbone's own scaling."""
    settings = {"input_size": (96, 160), "head": "global_pooling"}
    for name in (SMALL, "VGG16"):
        rgb = build_classifier(ClassifierConfig(name, **settings))
        bgr = build_classifier(ClassifierConfig(name, channel_order="bgr", **settings))
        bgr.set_weights(rgb.get_weights())
        exchanged = photo_batch | {"image": photo_batch["image"][..., ::-1]}
        expected = np.asarray(rgb(exchanged)["embedding"])
        np.testing.assert_allclose(bgr(photo_batch)["embedding"], expected, rtol=1e-5, atol=1e-6)
        other = np.asarray(bgr(exchanged)["embedding"])
        assert np.abs(other - expected).max() > 0.01 * np.abs(expected).max()


# --- the configuration ------------------------------------------------------------------------


def test_the_size_is_the_backbones_own_unless_given():
    assert (
        ClassifierConfig("MobileNetV2").input_size == backbones.backbone("MobileNetV2").input_size
    )
    assert ClassifierConfig("MobileNetV2", input_size=[64, 96]).input_size == (64, 96)


def test_cards_and_runs_from_before_there_was_a_choice_of_branches_still_read():
    assert ClassifierConfig(SMALL, patient_branch=True) == ClassifierConfig(SMALL)
    without = ClassifierConfig(SMALL, patient_branch=False)
    assert without.patient_branch == "none"
    assert without.channel_order == "rgb"  # nor of channel orders


def test_a_network_that_goes_on_after_the_attention_takes_no_dense_512():
    assert set(heads_at(IN_THE_MIDDLE, "published")) == {"soft_attention", "global_pooling"}
    assert heads_at(IN_THE_MIDDLE, "trunk") == heads_at(SMALL, "published") == HEADS
    with pytest.raises(ValueError, match="goes on by itself .* soft_attention or global_pooling"):
        ClassifierConfig(IN_THE_MIDDLE, cut="published", head="soft_attention_dense512")


@pytest.mark.parametrize("name", BACKBONES)
def test_sizes_that_a_network_cannot_take_are_refused_by_name(name):
    smallest = BACKBONES[name].min_size
    message = f"{name} needs an input size of at least {smallest} x {smallest}. Received: "
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(name, input_size=(smallest, smallest - 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "MobileNetV3Smal"}, "no backbone 'MobileNetV3Smal'. Did you mean"),
        ({"cut": "trunks"}, "no cut of MobileNetV2 'trunks'. Did you mean trunk"),
        ({"head": "softattention"}, "no head 'softattention'. Did you mean .*soft_attention"),
        ({"head": "pooling"}, "no head 'pooling'. Did you mean global_pooling"),
        ({"kernel": "formulas"}, "no attention kernel 'formulas'. Did you mean formula"),
        ({"patient_branch": "gesert"}, "no patient branch 'gesert'. Did you mean gessert"),
        ({"channel_order": "brg"}, "no channel order 'brg'. Did you mean .*bgr"),
        ({"attention_maps": 0}, "at least 1 attention map. Received: 0"),
        ({"dropout": 1.0}, "dropout rate from 0 to below 1. Received: 1.0"),
        ({"dropout": -0.1}, "dropout rate"),
        ({"input_size": (224, 16)}, "at least 32 x 32. Received: 224 x 16"),
        ({"input_size": (224,)}, "at least 32 x 32"),
        ({"classes": ("mel",)}, "two or more different classes. Received: "),
        ({"classes": ("mel", "nv", "mel")}, "two or more different classes"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_way_out(settings, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**({"backbone": "MobileNetV2"} | settings))
    assert issubclass(UnknownName, ValueError)
