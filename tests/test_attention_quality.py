"""Measures of maps worked by hand; Grad-CAM against gradients; a whole measurement."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from dermsa.datasets.synthetic import draw_lesion
from dermsa.evaluation import attention_quality as quality
from dermsa.evaluation.grad_cam import with_grad_cam
from dermsa.inference.engine import Engine
from dermsa.inference.predictor import Predictor
from dermsa.patient import Patient


def test_mass_and_pointing_by_hand():
    saliency = np.array([[1.0, 3.0], [0.0, 4.0]])
    mask = np.array([[True, False], [False, True]])
    assert quality.mass_inside(saliency, mask) == 5 / 8
    assert quality.points_at(saliency, mask) == 1
    assert quality.points_at(saliency, ~mask) == 0
    assert quality.points_at(np.ones((2, 2)), mask) == 0.5  # an even map points everywhere
    for nothing in (
        quality.mass_inside(np.zeros((2, 2)), mask),
        quality.points_at(saliency, np.zeros((2, 2), bool)),
    ):
        assert np.isnan(nothing)


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 6, (2, 5, 7)).astype(float)
    expected = spearmanr(first.ravel(), second.ravel()).statistic
    assert quality.rank_correlation(first, second) == pytest.approx(expected)
    assert np.isnan(quality.rank_correlation(first, np.ones((5, 7))))


def test_the_most_important_pixels_go_first():
    photo = np.full((6, 6, 3), 200, np.uint8)
    blurred = np.zeros_like(photo)
    saliency = np.arange(36.0).reshape(6, 6)
    deletion, insertion = quality.perturbed(photo, blurred, saliency)
    for share, deleted, inserted in zip(quality.SHARES[1:-1], deletion, insertion, strict=True):
        gone = deleted[..., 0] == 0
        assert gone.sum() == round(share * 36)
        assert saliency[gone].min() > saliency[~gone].max()
        np.testing.assert_array_equal(inserted[..., 0] == 200, gone)


def test_equal_pixels_go_in_no_order():
    photo = np.full((20, 20, 3), 200, np.uint8)
    deletion, _ = quality.perturbed(photo, np.zeros_like(photo), np.zeros((20, 20)))
    rows = (deletion[2, ..., 0] == 0).sum(axis=1)
    assert rows.min() > 3  # half of 20 in each row, but for chance; not ten rows and no more


def test_a_mask_is_seen_as_its_photo_is():
    mask = np.zeros((100, 300), bool)
    mask[:, 150:] = True  # the middle 4:3 of a long photo is seen: from column 83 on
    seen = quality.mask_as_seen(mask, (60, 80))
    assert seen.shape == (60, 80) and seen.mean() == pytest.approx(0.5, abs=0.02)
    assert seen[:, -1].all() and not seen[:, 0].any()


def test_grad_cam_is_what_gradients_give(small_classifier, photo_batch):
    import keras
    import tensorflow as tf

    from dermsa.models.onnx_export import to_onnx
    from dermsa.models.weight_formats import with_weights_as

    classifier = small_classifier("MobileNetV3Small")
    relu = classifier.get_layer("head_relu").output
    whole = keras.Model(classifier.inputs, [relu, classifier.output["logits"]])
    with tf.GradientTape() as tape:
        features, logits = whole(photo_batch)
        melanoma = tf.reduce_sum(logits[:, 4])
    gradient = tape.gradient(melanoma, features).numpy()
    weights = gradient.mean(axis=(1, 2))  # (photos, channels)
    expected = np.einsum("nhwk,nk->nhw", features.numpy(), weights)

    content = to_onnx(classifier)
    for weight_format, off in (("float32", 1e-4), ("float16", 5e-3), ("int8", 0.1)):
        engine = Engine(with_grad_cam(with_weights_as(content, weight_format)))
        found = engine(photo_batch["image"], photo_batch["patient"], ("evidence_map",))
        np.testing.assert_allclose(
            found["evidence_map"][:, 4], expected, atol=off * np.abs(expected).max()
        )


@pytest.fixture(scope="module")
def measured():
    predictor = Predictor("MobileNetV3Small")
    truth = np.array([4, 5, 0, 4])
    drawn = [draw_lesion(predictor.classes[k], seed) for seed, k in enumerate(truth)]

    def look(case):
        rgb, mask = drawn[case]
        return predictor.seen(rgb), quality.mask_as_seen(mask, predictor.engine.input_size)

    patients = np.stack([Patient().encode(predictor.age_scale)] * 4)
    lesions = np.array(["a", "b", "c", "a"])
    return quality.measure(
        predictor, look, truth, patients, lesions,
        curve_images_per_class=1, samples=50, progress=False,
    )  # fmt: skip


def test_the_evidence_that_is_measured_is_the_one_that_is_shown():
    predictor = Predictor("MobileNetV3Small")
    rgb, _ = draw_lesion("bkl", 7)
    patients = Patient().encode(predictor.age_scale)[None]
    grids, (diagnosis,) = quality._Mapper(predictor)(predictor.seen(rgb)[None], patients)
    (photo,) = predictor.diagnose([rgb]).photos
    shown = np.maximum(photo.evidence_grid[diagnosis], 0)
    np.testing.assert_allclose(grids["evidence"][0] / predictor.views, shown, atol=1e-5)


def test_every_kind_of_map_is_measured_over_all_and_by_class(measured):
    assert (measured.images, measured.curve_images) == (4, 3)
    kinds = set(quality.KINDS)
    for code, n, curves in ((None, 4, 3), ("mel", 2, 1), ("nv", 1, 1)):
        assert {one.kind for one in measured.maps if one.of_class == code} == kinds
        for kind in kinds:
            measures = measured.of(kind, code).measures
            assert measures["pointing"].n == n or kind in ("evidence", "grad_cam")
            assert measures["insertion"].n == curves
            for interval in measures.values():
                assert 0 <= interval.value <= 1
                if interval.n_lesions > 1:  # one alone tells no interval
                    assert interval.low <= interval.value <= interval.high
    assert measured.of("centre", "bcc") is None
    assert measured.of("centre").measures["pointing"].value == 1  # lesions are drawn there
    assert 0.1 < measured.lesion_area.value < 0.6
    assert measured.lesion_area.n_lesions == 3
    pairs = {(one.first, one.second) for one in measured.agreements}
    assert pairs == {
        ("soft_attention", "evidence"), ("soft_attention", "grad_cam"), ("evidence", "grad_cam"),
    }  # fmt: skip


def test_curves_meet_at_their_ends(measured):
    starts = {round(curve.deletion[0], 6) for curve in measured.curves}
    ends = {round(curve.deletion[-1], 6) for curve in measured.curves}
    assert len(starts) == len(ends) == 1  # the whole photo, and the blurred one
    for curve in measured.curves:
        assert curve.insertion[0] == curve.deletion[-1]
        assert curve.insertion[-1] == curve.deletion[0]
        deletion = measured.of(curve.kind).measures["deletion"].value
        assert deletion == pytest.approx(np.trapezoid(curve.deletion, curve.shares))


def test_it_survives_json(measured):
    again = quality.AttentionQuality.from_dict(json.loads(json.dumps(measured.as_dict())))
    assert again == measured
