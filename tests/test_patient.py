"""The patient vector against its published layout, unknown values, and what is refused."""

import numpy as np
import pytest

from dermsa.patient import (
    MAX_AGE,
    OLDEST,
    PROPERTIES,
    AgeScale,
    Patient,
    PatientError,
    age_scale_of,
    parse,
)
from dermsa.taxonomy import LOCALIZATIONS, SEXES

SCALE = AgeScale(mean=50.0, std=16.0)

# Written out by hand, so that a change of the order in taxonomy.py cannot pass unseen.
LAYOUT = (
    "age",
    "sex: other",
    "female",
    "male",
    "sex: unknown",
    "site: other",
    "abdomen",
    "acral",
    "back",
    "chest",
    "ear",
    "face",
    "foot",
    "genital",
    "hand",
    "lower extremity",
    "neck",
    "scalp",
    "trunk",
    "site: unknown",
    "upper extremity",
)


def ones(vector):
    return {LAYOUT[i] for i in np.flatnonzero(vector[1:]) + 1}


def test_a_known_patient_has_a_standardised_age_and_two_ones():
    vector = Patient(66, "male", "scalp").encode(SCALE)
    assert vector.shape == (21,) and vector.dtype == np.float32
    assert vector[0] == 1.0
    assert ones(vector) == {"male", "scalp"} and set(vector[1:]) == {0.0, 1.0}


@pytest.mark.parametrize("sex", SEXES)
@pytest.mark.parametrize("localization", LOCALIZATIONS)
def test_every_value_has_its_place(sex, localization):
    names = {
        "sex: unknown" if sex == "unknown" else sex,
        "site: unknown" if localization == "unknown" else localization,
    }
    assert ones(Patient(50, sex, localization).encode(SCALE)) == names


def test_nobody_is_older_than_those_of_the_training_data():
    oldest = Patient(OLDEST).encode(SCALE)[0]
    assert Patient(OLDEST + 20).encode(SCALE)[0] == oldest == (85 - 50) / 16
    assert Patient(OLDEST - 1).encode(SCALE)[0] < oldest
    patient, (told,) = parse("97", "male", "back")
    assert patient.age == 97 and "97 counts as 85" in told
    assert parse("85", "male", "back")[1] == ()


def test_an_unknown_patient_has_the_mean_age_and_says_unknown():
    vector = Patient().encode(SCALE)
    assert vector[0] == 0 and ones(vector) == {"sex: unknown", "site: unknown"}
    assert Patient().known() == ()


def test_without_forgets_only_what_it_is_told():
    patient = Patient(30, "female", "back")
    assert patient.without("age") == Patient(None, "female", "back")
    assert patient.without("sex", "localization") == Patient(30)
    assert patient.without(*PROPERTIES) == Patient()
    assert patient.without() == patient
    assert patient.known() == PROPERTIES
    assert patient.without("sex").known() == ("age", "localization")


@pytest.mark.parametrize("age", [-3, 240, -0.5, MAX_AGE + 0.1, float("nan"), float("inf"), "40"])
def test_an_impossible_age_is_refused_with_the_range_that_is_accepted(age):
    with pytest.raises(PatientError, match="between 0 and 120") as refusal:
        Patient(age=age)
    assert str(age)[:20] in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("age", [0, 120, 45.5])
def test_ages_up_to_the_limits_are_accepted(age):
    assert Patient(age=age).age == age


@pytest.mark.parametrize(
    ("values", "noun"), [({"sex": "Male"}, "sex"), ({"localization": "knee"}, "site")]
)
def test_a_patient_takes_listed_values_only(values, noun):
    with pytest.raises(PatientError, match=f"The {noun} must be one of .*unknown"):
        Patient(**values)


# --- reading a row of a table -----------------------------------------------------------------


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan"), "unknown", "Unknown", "nan"])
def test_empty_cells_are_unknown_without_a_warning(empty):
    assert parse(empty, None if empty == "nan" else empty, "unknown") == (Patient(), ())


def test_text_is_read_whatever_its_case_and_blanks():
    assert parse(" 45.0 ", "FEMALE", " Lower  Extremity") == (
        Patient(45, "female", "lower extremity"),
        (),
    )


def test_short_sexes_and_decimal_commas_are_understood():
    assert parse("62,5", "M", "back") == (Patient(62.5, "male", "back"), ())
    assert parse(None, " f ", None) == (Patient(sex="female"), ())


@pytest.mark.parametrize("age", ["-3", "240", "1,000,0", -3, 240, "abc", "4o", "inf", "1e9"])
def test_an_age_that_cannot_be_is_refused_in_one_sentence(age):
    with pytest.raises(PatientError, match="between 0 and 120") as refusal:
        parse(age, "male", "back")
    assert refusal.value.__cause__ is None and "\n" not in str(refusal.value)


def test_values_outside_the_lists_become_unknown_with_a_warning_each():
    patient, warnings = parse(40, "other", "Left knee")
    assert patient == Patient(40)
    assert len(warnings) == 2
    assert "'other'" in warnings[0] and "sex" in warnings[0]
    assert "'left knee'" in warnings[1] and "site" in warnings[1]
    assert all("counts as unknown" in warning for warning in warnings)


def test_a_huge_cell_does_not_flood_the_message():
    with pytest.raises(PatientError) as refusal:
        parse("9" * 100_000, None, None)
    assert len(str(refusal.value)) < 200
    assert len(parse(None, "x" * 100_000, None)[1][0]) < 200


# --- the age scale ----------------------------------------------------------------------------


def test_the_age_scale_leaves_unknown_ages_out():
    ages = np.array([20.0, np.nan, 40.0, 60.0])
    scale = age_scale_of(ages)
    assert scale.mean == 40 and scale.std == pytest.approx(np.std([20, 40, 60]))


@pytest.mark.parametrize("ages", [[], [np.nan, np.nan], [50.0, 50.0]])
def test_an_age_scale_never_divides_by_nothing(ages):
    assert age_scale_of(np.array(ages)).std == 1.0


@pytest.mark.parametrize(("mean", "std"), [(50, 0), (50, -1), (np.nan, 1), (50, np.inf)])
def test_an_age_scale_that_cannot_be_is_refused(mean, std):
    with pytest.raises(ValueError, match="positive std"):
        AgeScale(mean, std)
