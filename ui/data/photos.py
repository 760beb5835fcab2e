"""The photos of a data set, by diagnosis, with the lesion outlined."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from dermsa import images, plots_data
from dermsa.datasets import masks
from dermsa.datasets.dataset import DatasetError, Listing
from dermsa.datasets.registry import DATASETS
from dermsa.taxonomy import NAMES, UNKNOWN
from ui.data.selection import SECONDS_BELIEVED, ask_for_dataset, listing_of

PER_PAGE = 12
ACROSS = 4
THUMBNAIL_SIDE = 320
LARGE_SIDE = 900


def show_photos() -> None:
    chosen = ask_for_dataset()
    if chosen is None:
        return
    name, root = chosen
    listing = listing_of(name, str(root))
    table = ask_which(listing, DATASETS[name].classes)
    outline = bool(listing.masks) and st.toggle("Outline the lesion", True, key="photos-outline")
    if not listing.masks:
        st.caption("There are no lesion masks, so nothing is outlined.")
    if table.empty:
        st.info("There is no such photo.", icon=":material/search_off:")
        return
    pages = math.ceil(len(table) / PER_PAGE)
    lesions = table["lesion_id"].nunique()
    st.markdown(f"**{len(table):,} photos** of {lesions:,} lesions")
    page = st.pagination(pages, key=f"photos-page-{name}-{pages}") if pages > 1 else 1
    columns = st.columns(ACROSS, gap="small")
    shown = table.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
    for place, (_, row) in enumerate(shown.iterrows()):
        with columns[place % ACROSS], st.container(border=True):
            show_card(row, listing, outline)


def ask_which(listing: Listing, classes: tuple[str, ...]) -> pd.DataFrame:
    """The rows to show."""
    left, right = st.columns(2, gap="medium")
    code = left.selectbox(
        "Diagnosis",
        [None, *classes],
        format_func=lambda code: NAMES.get(code, code) if code else "Any",
        key=f"photos-of-{len(classes)}",
    )
    wanted = right.text_input(
        "Image or lesion", placeholder="any, or a part of its id", key="photos-id"
    ).strip()
    table = listing.table
    if code:
        table = table[table["dx"] == code]
    if wanted:
        named = [table[column].str.contains(wanted, case=False, regex=False) for column in IDS]
        table = table[named[0] | named[1]]
    return table


IDS = ("image_id", "lesion_id")


def show_card(row: pd.Series, listing: Listing, outline: bool) -> None:
    image_id = row["image_id"]
    show_photo(row, listing, outline, THUMBNAIL_SIDE)
    st.markdown(
        f"**{NAMES.get(row['dx'], row['dx'])}**  \n:small[{in_words(row)}]  \n"
        f":small[Lesion {row['lesion_id']}]"
    )
    if st.button(
        f"Open {image_id}",
        icon=":material/open_in_full:",
        key=f"photos-open-{image_id}",
        width="stretch",
    ):
        title = f"{image_id}: {NAMES.get(row['dx'], row['dx'])}"
        st.dialog(title, width="large")(show_large)(row, listing)


def show_large(row: pd.Series, listing: Listing) -> None:
    """One photo with and without the outline, and the other photos of the lesion."""
    confirmed = row["dx_type"] if isinstance(row["dx_type"], str) else UNKNOWN
    st.caption(f"Lesion {row['lesion_id']}, {in_words(row)}, confirmed by {confirmed}")
    if row["image_id"] in listing.masks:
        left, right = st.columns(2, gap="small")
        with left:
            show_photo(row, listing, False, LARGE_SIDE)
        with right:
            show_photo(row, listing, True, LARGE_SIDE)
    else:
        show_photo(row, listing, False, LARGE_SIDE)
    others = listing.table[
        (listing.table["lesion_id"] == row["lesion_id"])
        & (listing.table["image_id"] != row["image_id"])
    ]
    if len(others):
        st.markdown("**Other photos of this lesion**")
        columns = st.columns(ACROSS, gap="small")
        for place, (_, other) in enumerate(others.iterrows()):
            with columns[place % ACROSS]:
                show_photo(other, listing, False, THUMBNAIL_SIDE)
                st.caption(other["image_id"])


def show_photo(row: pd.Series, listing: Listing, outline: bool, side: int) -> None:
    """A photo, or in a sentence why it cannot be shown."""
    image_id = row["image_id"]
    if image_id not in listing.images:
        st.warning(f"The image {image_id} is missing.", icon=":material/hide_image:")
        return
    mask = listing.masks.get(image_id) if outline else None
    try:
        picture = drawn(listing.images[image_id], mask, side)
    except (images.ImageRefused, DatasetError) as error:
        st.warning(str(error), icon=":material/hide_image:")
        return
    outlined = " with the lesion outlined" if mask else ""
    alt = f"{image_id}, {NAMES.get(row['dx'], row['dx'])}{outlined}."
    st.image(picture, width="stretch", alt=alt)


@st.cache_data(max_entries=256, ttl=SECONDS_BELIEVED, show_spinner=False)
def drawn(path: str, mask: str | None, side: int) -> np.ndarray:
    """The photo, its longer side at most so long, with the lesion outlined where a mask is given.

    Raises:
        ImageRefused: The photo cannot be read.
        DatasetError: The mask cannot be used.
    """
    rgb = images.load(Path(path), side)
    return plots_data.outlined(rgb, masks.load(mask, rgb.shape[:2])) if mask else rgb


def in_words(row: pd.Series) -> str:
    age = UNKNOWN if pd.isna(row["age"]) else f"{row['age']:g}"
    return f"age {age}, sex {row['sex']}, site {row['localization']}"
