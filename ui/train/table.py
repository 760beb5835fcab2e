"""All runs: the table, what is looked for in it, and which runs are looked at."""

from __future__ import annotations

import streamlit as st

from dermsa import plots_training
from dermsa.training import runs
from dermsa.training.overview import Row

METRICS = {
    "macro_recall": "Macro recall",
    "macro_auc": "Macro ROC AUC",
    "accuracy": "Accuracy",
    "loss": "Loss",
}


def show_table(rows: list[Row]) -> None:
    words = st.text_input(
        "Find",
        key="train-find",
        placeholder="Title, tag, state, backbone or device",
        label_visibility="collapsed",
        icon=":material/search:",
    )
    found = [row for row in rows if row.matches(words)]
    ids = [row.run.id for row in found]
    # Its own key for each list of runs: a selection is kept by row number.
    key = f"train-table-{hash(tuple(ids))}"
    st.dataframe(
        [cells(row) for row in found],
        key=key,
        width="stretch",
        height=min(38 + 35 * max(len(found), 1), 320),
        hide_index=True,
        placeholder="",
        on_select=lambda: choose([ids[i] for i in st.session_state[key].selection.rows]),
        selection_mode="multi-row",
        column_config={
            "Progress": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
            "Left": st.column_config.NumberColumn(
                format="duration", help="Until it ends, by its pace so far"
            ),
            "Age": st.column_config.DatetimeColumn(format="distance", help="Since it was made"),
            "Best": st.column_config.NumberColumn(
                format="%.3f", help="The validation figure that chooses the epoch"
            ),
        },
    )
    busy = sum(row.state in runs.ACTIVE for row in rows)
    waiting = sum(row.state == "queued" for row in rows)
    st.caption(
        f"{len(found)} of {len(rows)} runs; {busy} under way, {waiting} waiting. "
        "Tick one to look at it, several to lay their curves over each other."
    )


def cells(row: Row) -> dict:
    figure, value = row.best or ("", None)
    return {
        "Title": row.title,
        "State": f"{row.state}, not responding" if row.silent_since else row.state,
        "Progress": row.progress,
        "Left": row.seconds_left,
        "Best": value,
        "Of": METRICS.get(figure, figure),
        "Backbone": row.backbone,
        "Device": row.device,
        "Age": row.created,
        "Tags": list(row.tags),
    }


def choose(ids: list[str]) -> None:
    st.session_state["train-runs"] = ids


def ask_which(rows: list[Row]) -> list[Row]:
    """The runs to look at, the first in full; the address carries them."""
    by_id = {row.run.id: row for row in rows}
    if "train-runs" not in st.session_state:
        asked = [name for name in st.query_params.get_all("run") if name in by_id]
        first = next((row for row in rows if row.busy), rows[0])
        st.session_state["train-runs"] = asked or [first.run.id]
    kept = [name for name in st.session_state["train-runs"] if name in by_id]
    st.session_state["train-runs"] = kept[: plots_training.MAX_RUNS]
    names = st.multiselect(
        "Look at",
        list(by_id),
        format_func=lambda name: f"{by_id[name].title} ({name[:15]})",
        max_selections=plots_training.MAX_RUNS,
        key="train-runs",
        placeholder="Choose a run",
    )
    st.query_params["run"] = names
    return [by_id[name] for name in names]


def gib(amount: float) -> str:
    """Bytes in words."""
    return f"{amount / 2**30:.1f} GiB"
