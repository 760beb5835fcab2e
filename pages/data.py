"""What models learn from: the data sets, how they are divided, and their photos."""

from __future__ import annotations

import streamlit as st

from ui.data.augmentation import show_augmentation
from ui.data.check import show_check
from ui.data.distributions import show_distributions
from ui.data.listing import show_datasets
from ui.data.photos import show_photos
from ui.frame import run_page

VIEWS = {
    "Distributions": show_distributions,
    "Photos": show_photos,
    "Check": show_check,
    "Augmentation": show_augmentation,
    "Data sets": show_datasets,
}


def main() -> None:
    view = st.segmented_control(
        "Look at",
        list(VIEWS),
        default=next(iter(VIEWS)),
        required=True,
        key="data-view",
        bind="query-params",
    )
    VIEWS[view]()


run_page(main)
