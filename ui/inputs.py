"""What pages ask of their reader: photos of a lesion, and what is known of the patient.

A page names its inputs: `key("age")` is the key of the patient's age. So pages keep theirs apart,
and one that starts over gets empty ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st

from dermsa import samples
from dermsa.patient import Patient, PatientError, parse
from dermsa.taxonomy import LOCALIZATIONS, SEXES, UNKNOWN

Key = Callable[[str], str]

SOURCES = {
    "upload": ":material/upload: Upload",
    "camera": ":material/photo_camera: Camera",
    "sample": ":material/collections: Sample",
}
EXTENSIONS = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "heic", "heif"]
ABOUT_SAMPLES = (
    "Drawings come from no patient. Real lesions are there where HAM10000 is configured; they are "
    "of the test part of the protocol “lesion” with seed 0."
)

MOST_PHOTOS = 10  # of one lesion: a folder dropped by mistake would keep everyone waiting


class Photo(NamedTuple):
    """A picture file as it was given."""

    name: str
    data: bytes


# --- photos -------------------------------------------------------------------------------------


def ask_for_photos(
    label: str,
    key: Key,
    sources: Sequence[str] = tuple(SOURCES),
    *,
    several: bool = False,
    with_patient: bool = True,
) -> list[Photo]:
    """Picture files of one lesion, none before any is given; nobody has looked into them yet.

    Args:
        label: What is asked for.
        sources: Of `SOURCES`, the first one at first.
        several: Whether more than one may be uploaded, up to `MOST_PHOTOS`.
        with_patient: Whether the page asks for the patient, whom a sample then fills in; without,
            a sample is there from the start.
    """
    source = st.segmented_control(
        label,
        sources,
        format_func=SOURCES.get,
        default=sources[0],
        required=True,
        key=key("source"),
        # A sample's patient is nobody: no photo of one's own may be answered as of that person.
        on_change=_forget_sample if with_patient and "sample" in sources else None,
        args=(key,) if with_patient and "sample" in sources else (),
    )
    if source == "camera":
        taken = st.camera_input("Take a photo", label_visibility="collapsed", key=key("camera"))
        return [Photo("The photo taken", taken.getvalue())] if taken else []
    if source == "sample":
        return _ask_for_sample(key, with_patient)
    files = st.file_uploader(
        label,
        EXTENSIONS,
        accept_multiple_files=several,
        label_visibility="collapsed",
        key=key("upload"),
    )
    if not several:
        files = [files] if files else []
    if len(files) > MOST_PHOTOS:
        st.error(
            f"These are {len(files)} photos. They are taken for photos of one and the same lesion, "
            f"at most {MOST_PHOTOS}: take some away, or answer many lesions by "
            "`python -m dermsa predict`.",
            icon=":material/block:",
        )
        return []
    return [Photo(file.name, file.getvalue()) for file in files]


def _ask_for_sample(key: Key, with_patient: bool) -> list[Photo]:
    more = "Choosing a lesion also fills in its patient. " if with_patient else ""
    title = st.selectbox(
        "Sample lesion",
        list(all_samples()),
        index=None if with_patient else 0,
        placeholder="Choose a lesion",
        key=key("sample"),
        on_change=_fill_in_patient if with_patient else None,
        args=(key,) if with_patient else (),
        help=more + ABOUT_SAMPLES,
    )
    return [Photo(*item) for item in _sample_photos(title).items()] if title else []


def _fill_in_patient(key: Key) -> None:
    title = st.session_state[key("sample")]
    _fill_in(key, all_samples()[title].patient if title else Patient())


def _forget_sample(key: Key) -> None:
    """Where the reader leaves the samples for photos of their own."""
    if st.session_state.pop(key("sample"), None) and st.session_state[key("source")] != "sample":
        _fill_in(key, Patient())


def _fill_in(key: Key, patient: Patient) -> None:
    st.session_state[key("age")] = "" if patient.age is None else f"{patient.age:g}"
    st.session_state[key("sex")] = patient.sex
    st.session_state[key("localization")] = patient.localization


@st.cache_resource(max_entries=1, show_spinner="Looking for samples")
def all_samples() -> dict[str, samples.Sample]:
    """By the title to choose each by."""
    return {sample.title: sample for sample in samples.samples()}


@st.cache_data(max_entries=8, show_spinner=False)
def _sample_photos(title: str) -> dict[str, bytes]:
    return all_samples()[title].photos()


# --- the patient --------------------------------------------------------------------------------


def ask_for_patient(key: Key) -> Patient | None:
    """The patient, or None after showing what is wrong."""
    age, sex, localization = st.columns([1, 1, 1.4], gap="small")
    given = (
        age.text_input("Age in years", placeholder=UNKNOWN, key=key("age")),
        sex.selectbox("Sex", _choices(SEXES), format_func=str.capitalize, key=key("sex")),
        localization.selectbox(
            "Site of the lesion",
            _choices(LOCALIZATIONS),
            format_func=str.capitalize,
            key=key("localization"),
        ),
    )
    try:
        patient, warnings = parse(*given)
    except PatientError as error:
        st.error(str(error), icon=":material/block:")
        return None
    for warning in warnings:
        st.warning(warning)
    return patient


def _choices(values: Sequence[str]) -> list[str]:
    """The values with "unknown", which stands until something else is chosen, first."""
    return [UNKNOWN, *(value for value in values if value != UNKNOWN)]
