"""Train: start trainings, watch them, and make models of them."""

from __future__ import annotations

import streamlit as st

from dermsa.training import launcher, overview
from ui.frame import run_page
from ui.train import form
from ui.train.details import show_curves, show_details
from ui.train.one_run import show_bin, show_run, show_undo
from ui.train.table import ask_which, choose, show_table

POLL_SECONDS = 2


def main() -> None:
    if started := st.session_state.pop("train-started", None):
        choose([started])
        st.session_state["train-view"] = "Runs"
    view = st.segmented_control(
        "Show",
        ["Runs", "New training"],
        default="Runs",
        required=True,
        key="train-view",
        label_visibility="collapsed",
        bind="query-params",
    )
    if view == "New training":
        form.show()
        return
    launcher.wake()  # what waited when the machine went down
    under_way = overview.anything_under_way(overview.rows())
    # Asks again only while something goes on.
    st.fragment(show_runs, run_every=POLL_SECONDS if under_way else None)(under_way)


def show_runs(polled: bool) -> None:
    if st.session_state["train-view"] != "Runs":
        st.rerun()  # Clone was pressed, which runs this part of the page alone
    show_undo()
    rows = overview.rows()
    if overview.anything_under_way(rows) != polled:
        st.rerun()
    if not rows:
        st.info(
            "Nothing has been trained here yet. Choose New training above, or on the command line: "
            "`python -m dermsa train --detach`.",
            icon=":material/model_training:",
        )
        show_bin()
        return
    show_table(rows)
    chosen = ask_which(rows)
    if chosen:
        show_run(chosen[0])
        show_curves(chosen)
        show_details(chosen[0], rows)
    show_bin()


run_page(main)
