"""Augmentation: pictures stay pictures, draws repeat, and nothing happens outside training."""

import keras
import numpy as np
import pytest

from dermsa.datasets.augmentation import RECIPES, Augment, ForgetPatient
from dermsa.datasets.synthetic import draw_lesion
from dermsa.patient import LOCALIZATION_SLICE, SEX_SLICE, AgeScale, Patient
from dermsa.taxonomy import HAM10000_CLASSES

SCALE = AgeScale(50, 10)


@pytest.fixture(scope="module")
def photos():
    return np.stack([draw_lesion(code, 0, (48, 64))[0] for code in HAM10000_CLASSES])


# --- photos -----------------------------------------------------------------------------------


def test_photos_stay_within_0_and_255_whatever_they_show():
    random = np.random.default_rng(0)
    hard = np.stack([np.zeros((32, 32, 3)), np.full((32, 32, 3), 255)] * 8)
    noise = random.integers(0, 2, (16, 32, 32, 3)) * 255
    for batch in (hard, noise):
        augmented = np.asarray(Augment("strong", seed=1)(batch.astype(np.uint8), training=True))
        assert augmented.dtype == np.float32 and augmented.shape == batch.shape
        assert np.isfinite(augmented).all()
        assert augmented.min() >= 0 and augmented.max() <= 255


def test_every_photo_is_changed_and_each_in_its_own_way(photos):
    augmented = np.asarray(Augment("strong")(np.repeat(photos[:1], 12, axis=0), training=True))
    differences = np.abs(augmented - photos[0].astype(np.float32)).mean(axis=(1, 2, 3))
    assert (differences > 2).all()
    assert len(np.unique(augmented.reshape(12, -1), axis=0)) == 12


def test_a_photo_still_shows_what_it_showed(photos):
    """Mild enough: on average over many draws its brightness and colours are its own."""
    augmented = np.asarray(Augment("strong")(np.repeat(photos[4:5], 200, axis=0), training=True))
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


def test_the_seed_decides(photos):
    first, again, other = (
        np.asarray(Augment("strong", seed)(photos, training=True)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1


def test_draws_go_on_from_saved_state(photos):
    """What a resumed training relies on."""
    layer, resumed = Augment("strong", 5), Augment("strong", 99)
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


def test_it_works_in_a_graph_with_any_batch_size(photos):
    image = keras.Input((48, 64, 3), dtype="uint8")
    model = keras.Model(image, Augment("strong", 5)(image))
    assert model.output_shape == (None, 48, 64, 3)
    for count in (1, 7):
        assert np.asarray(model(photos[:count], training=True)).shape == (count, 48, 64, 3)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="Unknown recipe 'mild'.*strong"):
        Augment("mild")


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
