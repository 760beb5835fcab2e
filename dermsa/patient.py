"""What a classifier is told about the patient: age, sex and site, each possibly unknown.

The vector has 21 numbers (Nguyen, Bui, Do, Sensors 2022, section on metadata):

    [0]      age, standardised on the training set; 0 (the mean) where unknown
    [1:5]    sex, one-hot: out-of-vocabulary, female, male, unknown
    [5:21]   localization, one-hot: out-of-vocabulary, then the 15 values in alphabetical order

It is encoded here, outside the network: string look-ups inside a graph do not survive export.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dermsa.taxonomy import LOCALIZATIONS, SEXES, UNKNOWN

PROPERTIES: tuple[str, ...] = ("age", "sex", "localization")
VECTOR_SIZE = 1 + (1 + len(SEXES)) + (1 + len(LOCALIZATIONS))
SEX_SLICE = slice(1, 2 + len(SEXES))
LOCALIZATION_SLICE = slice(2 + len(SEXES), VECTOR_SIZE)
MAX_AGE = 120
OLDEST = 85
"""The highest age in HAM10000 and in ISIC 2017, where it seems to stand for "85 or more": a network
has seen none above it, and would go on along a straight line."""
SHORT_SEXES = {"f": "female", "m": "male"}


class PatientError(ValueError):
    """A patient property that cannot be; the message says which and what is accepted."""


@dataclass(frozen=True)
class AgeScale:
    """Mean and standard deviation of the age, in years, over the training patients."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"Expected a finite mean and a positive std. Received: {self}")


@dataclass(frozen=True)
class Patient:
    """One patient and the site of the lesion.

    Attributes:
        age: Years, 0 to 120, or None when unknown.
        sex: One of `taxonomy.SEXES`.
        localization: One of `taxonomy.LOCALIZATIONS`.

    Raises:
        PatientError: A value outside these.
    """

    age: float | None = None
    sex: str = UNKNOWN
    localization: str = UNKNOWN

    def __post_init__(self) -> None:
        if self.age is not None and not (
            isinstance(self.age, (int, float)) and 0 <= self.age <= MAX_AGE
        ):
            raise PatientError(
                f"The age must be between 0 and {MAX_AGE} years, or unknown; "
                f"{str(self.age)[:20]!r} is not."
            )
        if self.sex not in SEXES:
            raise PatientError(f"The sex must be one of {', '.join(SEXES)}; not {self.sex!r}.")
        if self.localization not in LOCALIZATIONS:
            raise PatientError(
                f"The site must be one of {', '.join(LOCALIZATIONS)}; not {self.localization!r}."
            )

    def without(self, *properties: str) -> Patient:
        """The same patient with the named properties set to unknown."""
        unknown = {"age": None, "sex": UNKNOWN, "localization": UNKNOWN}
        return replace(self, **{name: unknown[name] for name in properties})

    def known(self) -> tuple[str, ...]:
        """The names of the properties that are known, in the order of `PROPERTIES`."""
        return tuple(name for name in PROPERTIES if getattr(self, name) not in (None, UNKNOWN))

    def encode(self, age_scale: AgeScale) -> np.ndarray:
        """The patient vector, float32 `(21,)`; an age above `OLDEST` counts as that."""
        vector = np.zeros(VECTOR_SIZE, np.float32)
        if self.age is not None:
            vector[0] = (min(self.age, OLDEST) - age_scale.mean) / age_scale.std
        vector[SEX_SLICE.start + 1 + SEXES.index(self.sex)] = 1
        vector[LOCALIZATION_SLICE.start + 1 + LOCALIZATIONS.index(self.localization)] = 1
        return vector


def parse(age: object, sex: object, localization: object) -> tuple[Patient, tuple[str, ...]]:
    """Reads a patient from text, as in a CSV row or a command line.

    Empty cells, NaN, None and "unknown" (in any case) mean unknown; "f" and "m" are sexes, and an
    age may have a decimal comma. A site or sex outside the lists becomes unknown with a warning: a
    longer list elsewhere is no reason to stop.

    Returns:
        The patient, and a sentence for each value that does not count as it was given.

    Raises:
        PatientError: The age is not a number between 0 and 120.
    """
    warnings = []

    def choose(value: object, choices: tuple[str, ...], noun: str) -> str:
        text = _text(value)
        if text in ("", UNKNOWN):
            return UNKNOWN
        if text not in choices:
            warnings.append(f"The {noun} {text[:40]!r} is not in the list and counts as unknown.")
            return UNKNOWN
        return text

    years = _parse_age(age)
    if years is not None and years > OLDEST:
        warnings.append(
            f"The age {years:g} counts as {OLDEST}: the models learnt from nobody older."
        )
    return (
        Patient(
            years,
            choose(SHORT_SEXES.get(_text(sex), sex), SEXES, "sex"),
            choose(localization, LOCALIZATIONS, "site"),
        ),
        tuple(warnings),
    )


def age_scale_of(ages: np.ndarray) -> AgeScale:
    """The scale of float ages `(n,)` in years; NaN where unknown is left out."""
    known = np.asarray(ages, float)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return AgeScale(0.0, 1.0)
    return AgeScale(float(known.mean()), float(known.std()) or 1.0)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return " ".join(str(value).strip().lower().split())


def _parse_age(value: object) -> float | None:
    text = _text(value)
    if text in ("", UNKNOWN, "nan"):
        return None
    try:
        if "_" in text:  # which Python would take for a separator of digits
            raise ValueError(text)
        age = float(text.replace(",", ".", 1))
    except ValueError:
        raise PatientError(
            f"The age must be a number of years between 0 and {MAX_AGE}, or empty for unknown; "
            f"{text[:20]!r} is not."
        ) from None
    return Patient(age).age
