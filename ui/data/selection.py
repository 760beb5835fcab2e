"""Which data set is looked at, and what to do where there is none."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dermsa.comparison import with_code
from dermsa.datasets import registry
from dermsa.datasets.dataset import DatasetError, Listing, data_root
from dermsa.datasets.registry import DATASETS

SECONDS_BELIEVED = 60
"""For so long a folder is not looked through again."""
NO_FOLDER = (
    "No data folder is configured. Set the environment variable `DERMSA_DATA` to the folder that "
    "holds `ham10000/` or another data set, and start the app again; the README, under Training, "
    "says how the folder is laid out."
)


def ask_for_dataset() -> tuple[str, Path] | None:
    """The name of a data set and the folder it lies in, or None after saying what to do."""
    root = data_root()
    if root is None:
        st.info(NO_FOLDER, icon=":material/folder_off:")
        return None
    name = st.selectbox(
        "Data set",
        list(DATASETS),
        format_func=lambda name: DATASETS[name].title,
        key="data-set",
        persist_state="session",
    )
    if why := why_missing(name, str(root)):
        st.info(why, icon=":material/folder_off:")
        return None
    return name, root


def why_missing(name: str, root: str) -> str:
    """Why a data set cannot be looked at, and what to do; "" where it can."""
    try:
        listing_of(name, root)
    except DatasetError as error:
        return with_code(str(error))
    return ""


@st.cache_resource(max_entries=8, ttl=SECONDS_BELIEVED, show_spinner="Reading the data set")
def listing_of(name: str, root: str) -> Listing:
    return registry.record(name).listing(Path(root))
