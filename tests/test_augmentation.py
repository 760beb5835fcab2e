"""Augmentation: pictures stay pictures, draws repeat, and nothing happens outside training."""

import cv2
import keras
import numpy as np
import pytest

from dermsa.datasets import augmentation, preview
from dermsa.datasets.augmentation import Augment, ForgetPatient
from dermsa.datasets.recipes import LIMITS, RECIPES, Recipe
from dermsa.datasets.synthetic import draw_lesion
from dermsa.patient import LOCALIZATION_SLICE, SEX_SLICE, AgeScale, Patient
from dermsa.taxonomy import HAM10000_CLASSES

SCALE = AgeScale(50, 10)


@pytest.fixture(scope="module")
def photos():
    return np.stack([draw_lesion(code, 0, (48, 64))[0] for code in HAM10000_CLASSES])


# --- photos -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_photos_stay_within_0_and_255_whatever_they_show(recipe):
    random = np.random.default_rng(0)
    hard = np.stack([np.zeros((32, 32, 3)), np.full((32, 32, 3), 255)] * 8)
    noise = random.integers(0, 2, (16, 32, 32, 3)) * 255
    for batch in (hard, noise):
        augmented = np.asarray(Augment(recipe, 1)(batch.astype(np.uint8), training=True))
        assert augmented.dtype == np.float32 and augmented.shape == batch.shape
        assert np.isfinite(augmented).all()
        assert augmented.min() >= 0 and augmented.max() <= 255


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"none"}))
def test_every_photo_is_changed_and_each_in_its_own_way(photos, recipe):
    augmented = np.asarray(Augment(recipe)(np.repeat(photos[:1], 12, axis=0), training=True))
    differences = np.abs(augmented - photos[0].astype(np.float32)).mean(axis=(1, 2, 3))
    assert (differences > 2).all()
    assert len(np.unique(augmented.reshape(12, -1), axis=0)) == 12


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_photo_still_shows_what_it_showed(photos, recipe):
    """Mild enough: on average over many draws its brightness and colours are its own."""
    augmented = np.asarray(Augment(recipe)(np.repeat(photos[4:5], 200, axis=0), training=True))
    np.testing.assert_allclose(
        augmented.mean(axis=(0, 1, 2)), photos[4].mean(axis=(0, 1)), rtol=0.12
    )


def test_the_lesion_is_turned_mirrored_and_shifted_but_stays_in_the_picture():
    spot = np.zeros((200, 48, 64, 3), np.uint8)
    spot[:, 20:28, 40:48] = 255  # a bright spot right of the centre
    augmented = np.asarray(Augment("strong")(spot, training=True))[..., 0]
    brightest = augmented.reshape(200, -1).argmax(axis=1)
    rows, columns = np.divmod(brightest, 64)
    assert (augmented.max(axis=(1, 2)) > 100).mean() > 0.95
    for places, middle in ((rows, 24), (columns, 32)):
        assert 0.25 < (places < middle).mean() < 0.75  # on either side


def test_some_photos_are_masked_by_a_grey_rectangle():
    photos = np.full((100, 32, 32, 3), 255, np.uint8)
    augmented = np.asarray(Augment("strong", seed=3)(photos, training=True))
    covered = (augmented == 127.0).all(axis=-1).mean(axis=(1, 2))
    assert 0.3 < (covered > 0).mean() < 0.7
    assert covered.max() <= 0.34**2


@pytest.mark.parametrize("recipe", ["usth2024", "strong"])
def test_the_seed_decides(photos, recipe):
    first, again, other = (
        np.asarray(Augment(recipe, seed)(photos, training=True)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1


def test_draws_go_on_from_saved_state(photos):
    """What a resumed training relies on."""
    layer, resumed = Augment("usth2024", 5), Augment("usth2024", 99)
    layer(photos, training=True)
    resumed.seed_generator.state.assign(layer.seed_generator.state)
    np.testing.assert_array_equal(layer(photos, training=True), resumed(photos, training=True))


@pytest.mark.parametrize("recipe", RECIPES)
def test_outside_training_nothing_happens(photos, recipe):
    output = Augment(recipe)(photos, training=False)
    assert output.dtype == "float32"
    np.testing.assert_array_equal(output, photos)
    np.testing.assert_array_equal(Augment(recipe)(photos), photos)


def test_the_recipe_none_changes_nothing_in_training(photos):
    np.testing.assert_array_equal(Augment("none")(photos, training=True), photos)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_graph_takes_any_batch_size_and_draws_what_the_layer_alone_draws(photos, recipe):
    image = keras.Input((48, 64, 3), dtype="uint8")
    model = keras.Model(image, Augment(recipe, 5)(image))
    model.compile()
    assert model.output_shape == (None, 48, 64, 3)
    in_graph = keras.backend.backend() == "tensorflow"
    if in_graph:
        import tensorflow as tf

        model = tf.function(model, reduce_retracing=True)
    alone = Augment(recipe, 5)
    for count in (7, 3):
        drawn = np.asarray(model(photos[:count], training=True))
        assert drawn.shape == (count, 48, 64, 3)
        expected = np.asarray(alone(photos[:count], training=True))
        np.testing.assert_allclose(drawn, expected, atol=0.01)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="Unknown recipe 'mild'.*strong"):
        Augment("mild")


# --- one transformation at a time -------------------------------------------------------------


def augmented(recipe, photos, seed=0):
    return np.asarray(Augment(recipe, seed)(photos, training=True))


@pytest.mark.parametrize("name", [name for name in LIMITS if name != "mask"])
def test_more_strength_changes_more_and_none_nothing(photos, name):
    """On a smooth photo: noise in it would hide how far things moved."""
    smooth = np.repeat(cv2.GaussianBlur(photos[4], (0, 0), 2)[None], 96, axis=0)
    most = min(LIMITS[name], 0.4) if name != "rotation" else 60
    changes = [
        np.abs(augmented(Recipe("", **{name: strength}), smooth) - smooth).mean()
        for strength in (0, most / 8, most)
    ]
    assert changes[0] == 0 < changes[1] < changes[2]


def test_scaling_multiplies_every_strength_up_to_its_limit():
    scaled = RECIPES["strong"].scaled(2)
    assert (scaled.contrast, scaled.mask, scaled.stretch) == (0.4, 0.6, 0.3)
    assert (scaled.rotation, scaled.flip_horizontal) == (180, 0.5)
    assert scaled.fill == "reflect" and not RECIPES["strong"].scaled(0).steps()
    with pytest.raises(ValueError, match="strength of at least 0. Received: -1"):
        Augment("strong", strength=-1)
    with pytest.raises(ValueError, match="Expected shift to be from 0 to 0.5. Received: 0.6"):
        Recipe("", shift=0.6)


@pytest.mark.parametrize("name", RECIPES)
def test_a_strength_of_0_leaves_photos_alone(photos, name):
    np.testing.assert_array_equal(Augment(name, strength=0)(photos, training=True), photos)


def test_flips_are_exact_mirror_images_on_their_share_of_photos(photos):
    many = np.repeat(photos[:1], 200, axis=0)
    for name, mirrored in (
        ("flip_horizontal", photos[0][:, ::-1]),
        ("flip_vertical", photos[0][::-1]),
    ):
        drawn = augmented(Recipe("", **{name: 0.25}), many)
        flipped = np.array([np.abs(each - mirrored).max() < 0.1 for each in drawn])
        kept = np.array([np.abs(each - photos[0]).max() < 0.1 for each in drawn])
        assert (flipped | kept).all() and 0.15 < flipped.mean() < 0.35


@pytest.mark.parametrize("fill", ["reflect", "nearest"])
def test_bending_by_nothing_is_the_plain_resampling(photos, fill):
    """Own sampling against Keras' `affine_transform`, far beyond the edges."""
    many = np.repeat(photos, 4, axis=0)
    settings = {"rotation": 180, "shift": 0.5, "zoom_out": 1, "flip_vertical": 0.5, "fill": fill}
    layer = Augment(Recipe("", elastic=1e-9, **settings), 3)
    plain = augmented(Recipe("", **settings), many, 3)
    np.testing.assert_allclose(layer(many, training=True), plain, atol=0.2)


def test_a_turn_keeps_shapes_of_the_photo_before_it_was_squashed():
    """A disc stays one in a photo squashed from 4:3, and a square photo is no exception."""
    squashed = cv2.resize(
        cv2.circle(np.zeros((240, 320, 3), np.uint8), (160, 120), 80, (255,) * 3, -1), (120, 120)
    )
    many = np.repeat(squashed[None], 8, axis=0)
    moved = np.abs(augmented(Recipe("", rotation=180, fill="nearest"), many) - many).mean()
    as_square = np.abs(
        augmented(Recipe("", rotation=180, aspect=1, fill="nearest"), many) - many
    ).mean()
    assert moved < 2 < as_square


def test_a_crop_shows_a_part_in_its_own_proportions():
    rows, columns = np.mgrid[:60, :80] * 3.0
    gradient = np.stack([rows, columns, rows], axis=-1)[None].repeat(100, axis=0)
    drawn = augmented(Recipe("", crop=0.5), gradient.astype(np.uint8))
    down = (drawn[:, -5, 40, 0] - drawn[:, 5, 40, 0]) / (
        gradient[0, -5, 40, 0] - gradient[0, 5, 40, 0]
    )
    across = (drawn[:, 30, -5, 1] - drawn[:, 30, 5, 1]) / (
        gradient[0, 30, -5, 1] - gradient[0, 30, 5, 1]
    )
    np.testing.assert_allclose(down, across, atol=0.02)
    assert np.sqrt(0.5) - 0.01 < down.min() < 0.8 and 0.95 < down.max() < 1.01
    assert drawn.min() >= 0 and drawn[..., 0].max() <= gradient[..., 0].max() + 0.01


def test_the_zoom_of_each_axis_is_its_own_only_where_the_recipe_says_so():
    rows, columns = np.mgrid[:60, :60] * 4.0
    gradient = np.stack([rows, columns, rows], axis=-1)[None].repeat(50, axis=0).astype(np.uint8)

    def ratio(**settings):
        drawn = augmented(Recipe("", zoom_in=0.3, **settings), gradient)
        down = drawn[:, 40, 30, 0] - drawn[:, 20, 30, 0]
        return down / (drawn[:, 30, 40, 1] - drawn[:, 30, 20, 1])

    np.testing.assert_allclose(ratio(), 1, atol=0.02)
    assert ratio(zoom_apart=True).std() > 0.05


def test_blur_is_that_of_opencv(photos):
    layer = Augment(Recipe("", blur=0.04))
    layer._uniform = lambda batch, low, high, columns=1: keras.ops.full((batch, columns), high)
    blurred = np.asarray(layer(photos, training=True))
    expected = [
        cv2.GaussianBlur(photo.astype(np.float32), (0, 0), 0.04 * 64, sigmaY=0.04 * 48)
        for photo in photos
    ]
    inside = np.s_[:, 10:-10, 12:-12]  # edges are filled in another way
    np.testing.assert_allclose(blurred[inside], np.stack(expected)[inside], atol=1.5)


def test_colour_is_what_the_steps_give_one_after_the_other(photos):
    """The one matrix against brightness, contrast, saturation and channels in sequence."""
    recipe = Recipe(
        "", brightness=0.2, contrast=0.3, saturation=0.4, channel_gain=0.1, channel_shift=0.05
    )
    layer = Augment(recipe)
    draws = iter([np.full((7, 1), 1.3), np.full((7, 1), 0.9), np.full((7, 1), 0.6)])
    gain, shift = np.array([[1.1, 0.95, 1.0]] * 7), np.array([[0.05, 0.0, -0.04]] * 7)
    draws = iter([*draws, gain, shift])
    layer._around = lambda *_: keras.ops.cast(next(draws), "float32")
    drawn = np.asarray(layer(photos, training=True))

    expected = photos.astype(float)
    mean = expected.mean(axis=(1, 2, 3), keepdims=True)
    expected = (expected - mean) * 1.3 + mean * 0.9
    grey = expected.mean(axis=3, keepdims=True)
    expected = (grey + (expected - grey) * 0.6) * gain[0] + 255 * shift[0]
    np.testing.assert_allclose(drawn, np.clip(expected, 0, 255), atol=0.01)


def test_noise_has_its_deviation_and_no_colour_of_its_own():
    grey = np.full((40, 32, 32, 3), 128, np.uint8)
    drawn = augmented(Recipe("", noise=0.1), grey)
    deviations = drawn.std(axis=(1, 2, 3)) / 255
    assert deviations.max() < 0.105 and 0.03 < deviations.mean() < 0.07
    np.testing.assert_allclose(drawn.mean(axis=(0, 1, 2)), 128, atol=0.5)


def test_the_published_recipe_has_the_published_strengths():
    recipe = RECIPES["sensors2022"]
    assert recipe.steps() == {
        "rotation": 180,
        "shift": 0.1,
        "zoom_in": 0.1,
        "zoom_out": 0.1,
        "flip_horizontal": 0.5,
        "flip_vertical": 0.5,
    }
    assert recipe.fill == "nearest"


def test_the_report_of_2024_has_all_that_it_lists():
    listed = {"rotation", "shift", "zoom_in", "zoom_out", "flip_horizontal", "flip_vertical"}
    listed |= {"noise", "brightness", "contrast", "crop", "blur", "channel_shift", "elastic"}
    assert RECIPES["usth2024"].steps().keys() == listed
    assert augmentation.GEOMETRY | augmentation.COLOUR | {"blur", "mask"} == LIMITS.keys()


# --- the sheet --------------------------------------------------------------------------------


def test_a_sheet_shows_the_photo_first_and_every_variant_once(photos):
    shown = preview.variants(photos[4], "strong", 1.0, 4, 2, (40, 40))
    assert shown.shape == (5, 40, 40, 3) and shown.dtype == np.uint8
    again = preview.variants(photos[4], "strong", 1.0, 4, 2, (40, 40))
    np.testing.assert_array_equal(shown, again)
    sheet = preview.contact_sheet(shown)
    pitch = 40 + preview.GAP
    assert sheet.shape == (2 * pitch + preview.GAP, 3 * pitch + preview.GAP, 3)
    for i, photo in enumerate(shown):
        top, left = (i // 3) * pitch + preview.GAP, (i % 3) * pitch + preview.GAP
        np.testing.assert_array_equal(sheet[top : top + 40, left : left + 40], photo)


def test_impossible_sheets_are_refused(photos):
    with pytest.raises(ValueError, match="1 to 63 variants. Received: 0"):
        preview.variants(photos[0], "strong", count=0)
    with pytest.raises(ValueError, match="32 to 1024 pixels. Received: 5000"):
        preview.variants(photos[0], "strong", size=(5000, 5000))


# --- patients ---------------------------------------------------------------------------------


PATIENTS = [Patient(30, "female", "back"), Patient(70, "male", "scalp"), Patient(None, "male")]


def vectors(count=1):
    return np.repeat(np.stack([p.encode(SCALE) for p in PATIENTS]), count, axis=0)


def forgotten(rate, all_rate, given, seed=0):
    return np.asarray(ForgetPatient(rate, all_rate, seed)(given, training=True))


def test_a_patient_is_only_ever_set_to_unknown():
    """Each answer is the patient without some of the properties, in the words of `encode`."""
    subsets = [(), ("age",), ("sex",), ("localization",), ("age", "sex")]
    subsets += [("age", "localization"), ("sex", "localization"), ("age", "sex", "localization")]
    allowed = [
        {tuple(patient.without(*names).encode(SCALE)) for names in subsets} for patient in PATIENTS
    ]
    answers = forgotten(0.4, 0.1, vectors(200)).reshape(len(PATIENTS), 200, 21)
    for possible, seen in zip(allowed, answers, strict=True):
        assert {tuple(vector) for vector in seen} == possible


def test_rates_are_what_they_say():
    patient = np.repeat(Patient(30, "female", "back").encode(SCALE)[None], 4000, axis=0)
    answers = forgotten(0.2, 0.1, patient)
    age = answers[:, 0] == 0
    sex = answers[:, SEX_SLICE][:, 3] == 1
    site = answers[:, LOCALIZATION_SLICE][:, 14] == 1
    for lost in (age, sex, site):
        assert lost.mean() == pytest.approx(1 - 0.8 * 0.9, abs=0.03)
    assert (age & sex & site).mean() == pytest.approx(0.1 + 0.9 * 0.2**3, abs=0.02)
    assert (age & sex).mean() == pytest.approx(0.1 + 0.9 * 0.2**2, abs=0.02)


def test_outside_training_no_patient_is_forgotten():
    given = vectors(20)
    np.testing.assert_array_equal(ForgetPatient(0.9, 0.9)(given, training=False), given)
    np.testing.assert_array_equal(ForgetPatient(0.9, 0.9)(given), given)
    np.testing.assert_array_equal(forgotten(0, 0, given), given)


def test_the_seed_decides_whom_to_forget():
    first, again, other = (forgotten(0.3, 0.1, vectors(50), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
