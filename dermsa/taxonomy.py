"""The words the project decides about: seven diagnoses, three sexes, fifteen sites.

Order matters: it is the order of every probability vector and of the patient vector.
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
)

HAM10000_CLASSES: tuple[str, ...] = tuple(d.code for d in DIAGNOSES)
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
