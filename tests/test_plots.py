"""Overlays paint what they are told, and figures carry their numbers."""

import colorsys

import numpy as np
import pytest

from dermsa import plots
from dermsa.taxonomy import HAM10000_CLASSES, MALIGNANT, NAMES

RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PROBABILITIES = np.array([0.02, 0.05, 0.1, 0.0004, 0.3, 0.5, 0.0296])


def ramp(low: float, high: float) -> np.ndarray:
    return np.tile(np.linspace(low, high, 64, dtype=np.float32), (48, 1))


@pytest.mark.parametrize("scale", plots.COLOUR_SCALES)
def test_attention_overlay_goes_from_the_photo_to_the_map(scale):
    map_ = ramp(0, 1)
    assert np.array_equal(plots.attention_overlay(RGB, map_, 0.0, scale), RGB)
    full = plots.attention_overlay(RGB, map_, 1.0, scale)
    assert np.array_equal(full[0], full[-1])  # nothing of the photo is left
    brightness = full[0].astype(int) @ [299, 587, 114]
    assert (np.diff(brightness) >= -1500).all()  # readable without any colour vision
    assert brightness[-1] > brightness[0] + 100_000


def test_attention_overlay_leaves_alone_what_the_model_did_not_see():
    overlay = plots.attention_overlay(RGB, ramp(0, 1), 0.8, crop=(0, 10, 48, 40))
    assert np.array_equal(overlay[:, :10], RGB[:, :10])
    assert np.array_equal(overlay[:, 50:], RGB[:, 50:])
    assert not np.array_equal(overlay[:, 10:50], RGB[:, 10:50])


def test_evidence_overlay_is_orange_for_purple_against_and_nothing_at_zero():
    grey = np.full((48, 64, 3), 200, np.uint8)
    evidence = np.zeros((48, 64), np.float32)
    evidence[:, :10], evidence[:, -10:] = -2, 2
    overlay = plots.evidence_overlay(grey, evidence, 1.0, 2.0)
    assert np.array_equal(overlay[:, 20:40], grey[:, 20:40])
    hue_against, hue_for = (colorsys.rgb_to_hsv(*(overlay[0, x] / 255.0))[0] for x in (0, -1))
    assert 0.65 < hue_against < 0.85
    assert 0.02 < hue_for < 0.12


def test_evidence_overlay_has_no_line_where_sides_change():
    """A hundredth of the scale to either side the photo is almost as it was."""
    black = np.zeros((1, 2001, 3), np.uint8)
    evidence = np.linspace(-1, 1, 2001, dtype=np.float32)[None]
    overlay = plots.evidence_overlay(black, evidence, 1.0, 1.0).astype(int)
    step = np.abs(overlay[0, 20:] - overlay[0, :-20]).max(axis=1)
    assert step[980:1001].max() <= 12


def test_evidence_overlay_is_symmetric_in_strength_and_clips_at_the_limit():
    grey = np.full((48, 64, 3), 128, np.uint8)
    beyond = plots.evidence_overlay(grey, np.full((48, 64), 9.0), 0.7, 3.0)
    at_limit = plots.evidence_overlay(grey, np.full((48, 64), 3.0), 0.7, 3.0)
    assert np.array_equal(beyond, at_limit)
    assert np.array_equal(plots.evidence_overlay(RGB, ramp(-3, 3), 0.0, 3.0), RGB)


@pytest.mark.parametrize(
    "paint",
    [
        lambda rgb, map_: plots.attention_overlay(rgb, map_, 0.5),
        lambda rgb, map_: plots.evidence_overlay(rgb, map_, 0.5, 1.0),
    ],
)
def test_overlays_refuse_a_map_of_another_size(paint):
    with pytest.raises(ValueError, match="Expected"):
        paint(RGB, np.zeros((64, 48), np.float32))
    with pytest.raises(ValueError, match="Expected"):
        paint(RGB.astype(np.float32), np.zeros((48, 64), np.float32))


def test_evidence_limit_is_shared_by_all_maps():
    assert plots.evidence_limit([ramp(-1, 0.5), ramp(0, 3)]) == pytest.approx(3)
    assert plots.evidence_limit([np.zeros((7, 4, 4))]) == 1.0


def test_probability_bars_show_every_number_the_largest_on_top():
    figure = plots.probability_bars(HAM10000_CLASSES, PROBABILITIES)
    shown = {
        name.removeprefix(f"{plots.MALIGNANT_SIGN} "): (x, text)
        for bars in figure.data
        for name, x, text in zip(bars.y, bars.x, bars.text, strict=True)
    }
    for code, probability in zip(HAM10000_CLASSES, PROBABILITIES, strict=True):
        assert shown[NAMES[code]] == (pytest.approx(100 * probability), plots.percent(probability))
    assert figure.layout.yaxis.categoryarray[-1] == NAMES["nv"]


def test_malignant_bars_differ_by_more_than_colour():
    malignant, benign = plots.probability_bars(HAM10000_CLASSES, PROBABILITIES).data
    assert len(malignant.y) == len(MALIGNANT)
    assert all(name.startswith(plots.MALIGNANT_SIGN) for name in malignant.y)
    assert malignant.marker.pattern.shape and not benign.marker.pattern.shape


def test_decomposition_adds_up():
    (waterfall,) = plots.decomposition_bars(-0.5, 2.0, 0.25, "mel").data
    assert waterfall.x[-1] == pytest.approx(1.75)
    assert list(waterfall.text) == ["−0.50", "+2.00", "+0.25", "+1.75"]


def test_contribution_cells_hold_the_numbers():
    shares = {"Age 60": np.linspace(-1, 1, 7), "Male": np.zeros(7)}
    (cells,) = plots.contribution_cells(HAM10000_CLASSES, shares).data
    assert np.allclose(np.array(cells.z)[:, 0], shares["Age 60"])
    assert cells.zmin == -cells.zmax
    assert "Melanoma +0.33" in plots.describe_contributions(HAM10000_CLASSES, shares)


def test_all_zero_contributions_still_draw():
    plots.contribution_cells(HAM10000_CLASSES, {"Male": np.zeros(7)}).to_json()
    plots.decomposition_bars(0, 0, 0, "nv").to_json()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0 %"),
        (0.0004, "< 0.1 %"),
        (0.1234, "12.3 %"),
        (0.9999, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_percent_never_rounds_to_certainty(value, text):
    assert plots.percent(value).replace("\N{NO-BREAK SPACE}", " ") == text


def test_the_chart_is_described_in_words():
    words = plots.describe_probabilities(HAM10000_CLASSES, PROBABILITIES)
    assert words.startswith("Probabilities: Melanocytic nevus (benign) 50.0")
    assert "Melanoma (malignant) 30.0" in words


def test_png_keeps_every_pixel():
    import cv2

    back = cv2.imdecode(np.frombuffer(plots.png(RGB), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(back[..., ::-1], RGB)
