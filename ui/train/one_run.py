"""One run: its state, what can be done with it, the model made of it, and the bin."""

from __future__ import annotations

import re

import streamlit as st

from dermsa.inference import store
from dermsa.training import launcher, overview, runs
from dermsa.training.devices import DeviceError
from dermsa.training.overview import Row, duration
from dermsa.training.runs import STATES, Run, RunError
from ui.train import form
from ui.train.table import choose

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


def show_run(row: Row) -> None:
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
    form.start_from(overview.values(row.run), f"{row.title} (again)", f"The run {row.run.id}")
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
        st.session_state["train-deleted"] = run.id


def show_undo() -> None:
    if "train-deleted" not in st.session_state:
        return
    name = st.session_state["train-deleted"]
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
        role = st.selectbox(
            "Let it be",
            list(store.ROLES),
            index=None,
            placeholder="one of several",
            format_func={
                "accurate": "the accurate one, which answers by default",
                "fast": "the fast one",
            }.get,
            key=f"train-export-role-{key}",
        )
        st.button(
            "Export",
            type="primary",
            on_click=act,
            args=(launcher.start_export, row.run, name.strip(), role),
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
        st.info(f"Making the model {export.name} ...", icon=":material/hourglass_top:")
    elif export.state == "finished":
        st.success(f"{export.said} Diagnose and Compare have it.", icon=":material/check:")
    else:
        st.error(f"No model was made. {export.said}", icon=":material/error:")
