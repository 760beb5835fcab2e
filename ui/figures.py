"""Figures on a page."""

from __future__ import annotations

import streamlit as st


def show_figure(figure, alt: str, name: str) -> None:
    """A figure that can be saved; SVG unless PNG was asked for."""
    kind = st.session_state.get("figure-format", "svg")
    save = {"format": kind, "filename": f"dermsa-{name}", "scale": 3 if kind == "png" else 1}
    config = {
        "displayModeBar": True,
        "displaylogo": False,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": save,
    }
    st.plotly_chart(figure, config=config, alt=alt, key=f"figure-{name}")
