"""The words the project decides about: the diagnoses, three sexes, fifteen sites.

Order matters: that of a data set's classes is the order of every probability vector, that of sexes
and sites the order of the patient vector. Which diagnoses can be told apart is said by the data
set (`dermsa.datasets.registry`), never by a constant.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DiagnosisClass:
    """One of the diagnoses that a classifier can tell apart."""

    code: str
    name: str
    malignant: bool
    description: str


DIAGNOSES: tuple[DiagnosisClass, ...] = (
    DiagnosisClass(
        "akiec",
        "Actinic keratosis / Bowen's disease",
        True,
        "Actinic keratoses and intraepithelial carcinoma: precursors or early forms of "
        "squamous cell carcinoma.",
    ),
    DiagnosisClass(
        "bcc",
        "Basal cell carcinoma",
        True,
        "A common cancer of the skin that rarely spreads but destroys tissue where it grows.",
    ),
    DiagnosisClass(
        "bkl",
        "Benign keratosis",
        False,
        "Seborrheic keratosis, solar lentigo and lichen-planus-like keratosis.",
    ),
    DiagnosisClass(
        "df", "Dermatofibroma", False, "A benign, firm nodule of fibrous tissue in the skin."
    ),
    DiagnosisClass("mel", "Melanoma", True, "A malignant tumour of pigment cells."),
    DiagnosisClass("nv", "Melanocytic nevus", False, "A benign mole."),
    DiagnosisClass(
        "vasc",
        "Vascular lesion",
        False,
        "Angioma, angiokeratoma, pyogenic granuloma or haemorrhage.",
    ),
    DiagnosisClass(
        "sk",
        "Seborrheic keratosis",
        False,
        "A benign, often waxy growth of the upper skin; one kind of benign keratosis (bkl).",
    ),
)

HAM10000_CLASSES: tuple[str, ...] = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
ISIC2017_CLASSES: tuple[str, ...] = ("mel", "nv", "sk")
MALIGNANT: frozenset[str] = frozenset(d.code for d in DIAGNOSES if d.malignant)
NAMES: dict[str, str] = {d.code: d.name for d in DIAGNOSES}

UNKNOWN = "unknown"

SEXES: tuple[str, ...] = ("female", "male", UNKNOWN)

LOCALIZATIONS: tuple[str, ...] = (
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
    UNKNOWN,
    "upper extremity",
)


def in_sentence(code: str) -> str:
    """A diagnosis' name as it stands within a sentence."""
    return NAMES[code][0].lower() + NAMES[code][1:]
