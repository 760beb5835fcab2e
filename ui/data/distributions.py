"""How a data set, and each part of a split, is made up."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from dermsa import plots_data
from dermsa.datasets import splits, summary
from dermsa.datasets.dataset import Dataset
from dermsa.datasets.registry import DATASETS
from dermsa.datasets.splits import PROTOCOLS, Leakage
from dermsa.datasets.summary import PARTS, PROPERTIES
from dermsa.plots import percent
from dermsa.taxonomy import NAMES
from ui.data.selection import SECONDS_BELIEVED, ask_for_dataset, listing_of
from ui.figures import show_figure

UNITS = {"photos": "Photos", "lesions": "Lesions"}


def show_distributions() -> None:
    chosen = ask_for_dataset()
    if chosen is None:
        return
    name, root = chosen
    classes = DATASETS[name].classes
    official = "official_part" in listing_of(name, str(root)).table
    protocol, seed, fold = ask_for_split(official)
    tables, leakage = divided(name, str(root), protocol, seed, fold)
    show_protocol(protocol, leakage)
    left, right = st.columns(2, gap="medium")
    property_ = left.segmented_control(
        "By",
        list(PROPERTIES),
        format_func=PROPERTIES.get,
        default="dx",
        required=True,
        key="distribution-of",
    )
    unit = right.segmented_control(
        "Count",
        list(UNITS),
        format_func=UNITS.get,
        default="photos",
        required=True,
        key="distribution-unit",
    )
    if unit == "lesions":
        tables = {part: summary.lesions(table) for part, table in tables.items()}
    counts = {
        PARTS[part]: {
            NAMES.get(value, value.capitalize()): number
            for value, number in summary.counts(table, property_, classes).items()
        }
        for part, table in tables.items()
    }
    title = PROPERTIES[property_]
    show_figure(
        plots_data.distribution(counts, title),
        plots_data.describe_distribution(counts, f"{UNITS[unit]} by {title.lower()}"),
        f"distribution-{property_}",
    )
    with st.expander("In numbers"):
        show_numbers(counts, title)


def ask_for_split(official: bool) -> tuple[str, int, int]:
    """Protocol, seed and fold; `official` where the data set has a test part of its own."""
    protocol, seed, fold = st.columns([2, 1, 1], gap="medium")
    name = protocol.selectbox(
        "Divided by the protocol",
        [name for name in PROTOCOLS if (name == "isic2018") == official],
        key=f"distribution-protocol-{official}",
    )
    drawn = seed.number_input("Seed", 0, 9999, 0, key="distribution-seed")
    chosen = 0
    if name in splits.FOLDED:
        chosen = fold.number_input("Fold", 0, splits.FOLDS - 1, 0, key="distribution-fold")
    return name, int(drawn), int(chosen)


@st.cache_resource(max_entries=16, ttl=SECONDS_BELIEVED, show_spinner="Drawing the split")
def divided(
    name: str, root: str, protocol: str, seed: int, fold: int
) -> tuple[dict[str, pd.DataFrame], Leakage]:
    """The table of each part, and what the split lets through."""
    dataset = Dataset(name, DATASETS[name].classes, listing_of(name, root).table)
    split = splits.draw(dataset, protocol, seed, fold)
    return summary.parts(dataset, split), splits.leakage(dataset, split)


def show_protocol(protocol: str, leakage: Leakage) -> None:
    st.markdown(f":small[{PROTOCOLS[protocol]}]")
    if leakage.shared_images or leakage.validation_is_test:
        st.warning(leakage.sentence, icon=":material/warning:")
    else:
        st.caption(leakage.sentence)


def show_numbers(counts: Mapping[str, Mapping[str, int]], title: str) -> None:
    values = list(next(iter(counts.values())))
    table = {title: [*values, "**All**"]}
    for part, of in counts.items():
        total = sum(of.values())
        table[part] = [
            f"{of[value]:,} :small[({percent(of[value] / max(1, total))})]" for value in values
        ] + [f"**{total:,}**"]
    st.table(table, border="horizontal", hide_index=True)
