"""The data sets that there are, and which of them are here."""

from __future__ import annotations

import streamlit as st

from dermsa.datasets.dataset import data_root
from dermsa.datasets.registry import DATASETS
from ui.data.selection import NO_FOLDER, why_missing


def show_datasets() -> None:
    root = data_root()
    st.table(
        [
            {
                "Name": f"`{record.name}`",
                "What it is": record.title,
                "Here": "yes" if root and not why_missing(record.name, str(root)) else "no",
                "Diagnoses": ", ".join(record.classes),
                "Licence": record.licence,
                "Source": record.source,
            }
            for record in DATASETS.values()
        ],
        border="horizontal",
        hide_index=True,
    )
    if root is None:
        st.info(NO_FOLDER, icon=":material/folder_off:")
    else:
        st.caption(f"Looked for in {root}. Place the official downloads there.")
