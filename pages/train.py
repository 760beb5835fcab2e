"""Train: start trainings, watch them, and make models of them."""

from __future__ import annotations

import re
import time

import streamlit as st

from dermsa import plots_training
from dermsa.training import launcher, overview, runs
from dermsa.training.devices import DeviceError
from dermsa.training.overview import Row, age, duration
from dermsa.training.runs import STATES, Run, RunError
from ui import train_form
from ui.frame import run_page

POLL_SECONDS = 2
COLOURS = {
    "new": "gray",
    "queued": "gray",
    "preparing": "blue",
    "running": "blue",
    "stopping": "orange",
    "stopped": "orange",
    "finished": "green",
    "failed": "red",
    "lost": "red",
}
LOG_LINES = 40
METRICS = {
    "macro_recall": "Macro recall",
    "macro_auc": "Macro ROC AUC",
    "accuracy": "Accuracy",
    "loss": "Loss",
}


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
        train_form.show()
        return
    show_undo()
    busy = any(row.busy for row in overview.rows())
    # Asks again only while something goes on.
    st.fragment(show_runs, run_every=POLL_SECONDS if busy else None)(busy)


def show_runs(was_busy: bool) -> None:
    rows = overview.rows()
    if any(row.busy for row in rows) != was_busy:
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
        show_run(chosen[0], rows)
        show_curves(chosen)
        show_details(chosen[0], rows)
    show_bin()


# --- all runs -----------------------------------------------------------------------------------


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
        on_select=lambda: choose([ids[i] for i in st.session_state[key].selection.rows]),
        selection_mode="multi-row",
        column_config={
            "Progress": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
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
        "State": row.state,
        "Progress": row.progress,
        "Left": "" if row.seconds_left is None else duration(row.seconds_left),
        "Best": value,
        "Of": METRICS.get(figure, figure),
        "Backbone": row.backbone,
        "Device": row.device,
        "Age": age(row.created),
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


# --- one run ------------------------------------------------------------------------------------


def show_run(row: Row, rows: list[Row]) -> None:
    status = row.run.status()
    st.subheader(row.title, anchor=False)
    st.markdown(
        f":{COLOURS[row.state]}-badge[{row.state}] {STATES[row.state]}"
        + (f" · place {place_in_queue(row)} in the queue of {row.device}" if row.rank else "")
        + (f" · {status['doing']}" if row.state == "preparing" and status.get("doing") else "")
        + f" · `{row.run.id}`"
    )
    if row.error:
        st.error(row.error, icon=":material/error:")
    elif row.state == "lost":
        st.error(
            "The process ended without a word: killed, out of memory, or the machine went down. "
            "Resume goes on from the last finished epoch; the log below may tell more.",
            icon=":material/error:",
        )
    if row.state in runs.ACTIVE:
        left = "" if row.seconds_left is None else f", about {duration(row.seconds_left)} left"
        epochs = status.get("epochs") or row.run.about()["config"]["epochs"]
        st.progress(row.progress, f"{row.progress:.0%} of {epochs} epochs{left}")
    show_actions(row)
    show_export(row)


def place_in_queue(row: Row) -> int:
    return launcher.waiting(row.device).index(row.run) + 1


def show_actions(row: Row) -> None:
    bar = st.container(horizontal=True)
    run, key = row.run, row.run.id
    if row.busy:
        waits = row.state == "queued"
        bar.button(
            "Leave the queue" if waits else "Stop",
            icon=":material/stop_circle:",
            on_click=act,
            args=(launcher.stop, run),
            disabled=row.state == "stopping",
            help="Finishes the batch and keeps the last checkpoint; can be resumed.",
            key=f"train-stop-{key}",
        )
        if not waits:
            bar.button(
                "Kill",
                icon=":material/dangerous:",
                on_click=act,
                args=(launcher.stop, run, True),
                help="At once: what came after the last checkpoint is lost.",
                key=f"train-kill-{key}",
            )
        else:
            for label, places in (("Sooner", -1), ("Later", 1)):
                bar.button(
                    label, on_click=act, args=(launcher.move, run, places), key=f"{label}-{key}"
                )
    elif row.state in launcher.CAN_START:
        bar.button(
            "Resume" if row.progress else "Start",
            icon=":material/play_arrow:",
            on_click=act,
            args=(launcher.enqueue, run),
            key=f"train-resume-{key}",
        )
    if not row.busy:
        ask_extension(bar, row)
    bar.button(
        "Clone",
        icon=":material/content_copy:",
        on_click=clone,
        args=(row,),
        help="A new training with the same settings, to change before it starts.",
        key=f"train-clone-{key}",
    )
    ask_title(bar, row)
    ask_export(bar, row)
    if not row.busy:
        bar.button(
            "Delete",
            icon=":material/delete:",
            on_click=delete,
            args=(run,),
            help="Into the bin, from where it can be taken back.",
            key=f"train-delete-{key}",
        )
    if refused := st.session_state.pop("train-refused", None):
        st.error(refused, icon=":material/block:")


def act(what, *arguments) -> None:
    """Does something with a run; a refusal is shown after the next drawing."""
    try:
        what(*arguments)
    except (RunError, DeviceError, OSError) as error:
        st.session_state["train-refused"] = str(error)


def clone(row: Row) -> None:
    train_form.start_from(overview.values(row.run), f"{row.title} (again)")
    st.session_state["train-view"] = "New training"


def ask_extension(bar, row: Row) -> None:
    epochs = row.run.about()["config"]["epochs"]
    with bar.popover("Extend", icon=":material/add:", key=f"train-extend-{row.run.id}"):
        longer = st.number_input(
            "Epochs in all",
            min_value=epochs + 1,
            value=epochs + max(epochs // 2, 1),
            key=f"train-epochs-{row.run.id}",
            help="A cosine is stretched over the new length.",
        )
        st.button("Train on", on_click=extend, args=(row.run, int(longer)), type="primary")


def extend(run: Run, epochs: int) -> None:
    act(run.extend, epochs)
    if "train-refused" not in st.session_state:
        act(launcher.enqueue, run)


def ask_title(bar, row: Row) -> None:
    key = row.run.id
    with bar.popover("Rename", icon=":material/edit:", key=f"train-rename-{key}"):
        st.text_input("Title", row.title, max_chars=80, key=f"train-title-{key}")
        st.text_input(
            "Tags, with commas between", ", ".join(row.tags), max_chars=120, key=f"train-tags-{key}"
        )
        st.button("Save", on_click=rename, args=(row.run,), key=f"train-save-{key}")


def rename(run: Run) -> None:
    title = st.session_state[f"train-title-{run.id}"].strip()
    tags = [tag.strip() for tag in st.session_state[f"train-tags-{run.id}"].split(",")]
    act(lambda: run.change(title=title or run.id, tags=[tag for tag in tags if tag]))


def delete(run: Run) -> None:
    act(runs.delete, run)
    if "train-refused" not in st.session_state:
        st.session_state["train-deleted"] = (run.id, run.id)


def show_undo() -> None:
    if "train-deleted" not in st.session_state:
        return
    name, _ = st.session_state["train-deleted"]
    bar = st.container(horizontal=True, vertical_alignment="center")
    bar.markdown(f"`{name}` is in the bin.")
    bar.button("Undo", icon=":material/undo:", on_click=undo, args=(name,), key="train-undo")


def undo(name: str) -> None:
    act(runs.restore, name)
    st.session_state.pop("train-deleted", None)
    choose([name])


def show_bin() -> None:
    deleted = runs.deleted_runs()
    if not deleted:
        return
    with st.expander(f"Bin ({len(deleted)})", icon=":material/delete:"):
        for run in deleted:
            bar = st.container(horizontal=True, vertical_alignment="center")
            bar.markdown(f"{run.about()['title']} · `{run.id}`")
            bar.button("Restore", on_click=undo, args=(run.id,), key=f"train-restore-{run.id}")
        st.button(
            "Empty the bin",
            icon=":material/delete_forever:",
            on_click=empty_bin,
            help="Deletes these runs for good.",
        )


def empty_bin() -> None:
    runs.empty_bin()
    st.session_state.pop("train-deleted", None)


# --- a model of it ------------------------------------------------------------------------------


def ask_export(bar, row: Row) -> None:
    if not row.run.best_weights.exists():
        return
    key = row.run.id
    with bar.popover("Export", icon=":material/upload:", key=f"train-export-{key}"):
        st.markdown(
            "Makes a model that Diagnose can use: calibrated on validation, measured on the test "
            "part, with a card. Takes a minute or more."
        )
        name = st.text_input("Name", suggested_name(row.title), key=f"train-export-name-{key}")
        default = st.checkbox("Let it answer by default", key=f"train-export-default-{key}")
        st.button(
            "Export",
            type="primary",
            on_click=act,
            args=(launcher.start_export, row.run, name.strip(), default),
            disabled=not name.strip(),
            key=f"train-export-start-{key}",
        )


def suggested_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")[:40] or "model"


def show_export(row: Row) -> None:
    export = launcher.export_of(row.run)
    if export is None:
        return
    if export.state == "running":
        with st.status(f"Making the model {export.name}", expanded=False):
            st.caption(export.said or "It begins.")
        if not row.busy:
            time.sleep(POLL_SECONDS)  # nothing else on this page would ask again
            st.rerun()
    elif export.state == "finished":
        st.success(f"{export.said} Diagnose and Compare have it.", icon=":material/check:")
    else:
        st.error(f"No model was made. {export.said}", icon=":material/error:")


# --- curves and details -------------------------------------------------------------------------


def show_curves(chosen: list[Row]) -> None:
    tables = {f"{row.title} ({row.run.id[9:15]})": row.run.metrics() for row in chosen}
    if not any(len(table) for table in tables.values()):
        st.info("The first epoch is not finished yet.", icon=":material/show_chart:")
        return
    left, right = st.columns([4, 1], gap="medium")
    with right:
        smoothing = st.slider(
            "Smoothing", 0.0, 0.9, 0.0, 0.1, key="train-smoothing", help="The points stay."
        )
        st.download_button(
            "Figures (CSV)",
            lambda: chosen[0].run.metrics().to_csv(index=False),
            f"{chosen[0].run.id}.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/download:",
            key="train-csv",
        )
        show_best(chosen[0])
    left.plotly_chart(
        plots_training.training_curves(tables, smoothing),
        config={"displayModeBar": False},
        alt=plots_training.describe_training(tables),
        key="train-curves",
    )


def show_best(row: Row) -> None:
    table = row.run.metrics()
    if not len(table):
        return
    if row.best is not None:
        name, value = row.best
        at = table.loc[table[name] == value, "epoch"]
        st.metric(
            f"Best {METRICS.get(name, name).lower()}",
            f"{value:.3f}",
            f"epoch {int(at.iloc[0])}" if len(at) else None,
            delta_color="off",
            delta_arrow="off",
        )
    st.metric("Per epoch", duration(table["seconds"].median()))
    st.caption("On validation, which chooses the epoch; the test part is opened by Export alone.")


def show_details(row: Row, rows: list[Row]) -> None:
    view = st.segmented_control(
        "Details",
        ["Log", "Machine", "Settings"],
        default="Log",
        required=True,
        key="train-details",
        label_visibility="collapsed",
    )
    if view == "Log":
        lines = row.run.log().splitlines()
        st.code("\n".join(lines[-LOG_LINES:]) or "Nothing yet.", language=None, height=300)
    elif view == "Machine":
        show_machine(row)
    else:
        show_settings(row, rows)


def show_machine(row: Row) -> None:
    st.info("…")


def show_settings(row: Row, rows: list[Row]) -> None:
    others = {other.run.id: other for other in rows if other.run.id != row.run.id}
    beside = st.selectbox(
        "Beside",
        [None, *others],
        format_func=lambda name: others[name].title + f" ({name[:15]})" if name else "No other run",
        key="train-beside",
        help="Shows only what differs.",
    )
    if beside:
        found = overview.differences(row.run, others[beside].run)
        if not found:
            st.info("Both have the same settings.", icon=":material/equal:")
            return
        table = [
            {
                "": setting.group,
                "Setting": setting.name,
                row.title: str(setting.value),
                f"{others[beside].title} ": str(setting.other),
            }
            for setting in found
        ]
    else:
        table = [
            {"": setting.group, "Setting": setting.name, "Value": str(setting.value)}
            for setting in overview.settings(row.run)
        ]
    st.table(table, border="horizontal", hide_index=True)
    st.download_button(
        "Settings (JSON)",
        (row.run.folder / "config.json").read_bytes(),
        f"{row.run.id}.json",
        "application/json",
        on_click="ignore",
        icon=":material/download:",
        help="`python -m dermsa train --config` reads it.",
        key="train-settings",
    )


run_page(main)
