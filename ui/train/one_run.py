"""One run: its state, what can be done with it, the model made of it, and the bin."""

from __future__ import annotations

import itertools
import re

import streamlit as st

from dermsa.inference import store
from dermsa.inference.views import FLIPS, MOST, most_of
from dermsa.training import launcher, overview, runs
from dermsa.training.devices import DeviceError
from dermsa.training.form import FIELDS
from dermsa.training.overview import Row, age, duration
from dermsa.training.runs import STATES, Run, RunError
from ui.train import form
from ui.train.table import METRICS, choose

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


VIEWS = {
    len(FLIPS): f"the mean over a photo and its mirror images ({len(FLIPS)} views)",
    1: f"the photo alone, {len(FLIPS)} times as fast",
    MOST: f"both, and those of a quarter turn ({MOST} views), half as fast",
}


def show_run(row: Row) -> None:
    status = row.run.status()
    st.subheader(row.title, anchor=False)
    st.markdown(
        f":{COLOURS[row.state]}-badge[{row.state}] {STATES[row.state]}"
        + place_in_queue(row)
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
    if row.silent_since:
        st.warning(
            f"Its process lives, but has not responded for {age(row.silent_since)}, since "
            f"{row.silent_since.astimezone():%d %B, %H:%M}. Where that goes on, kill it and resume "
            "it from its last checkpoint.",
            icon=":material/hourglass_disabled:",
        )
    if row.state in runs.ACTIVE:
        left = "" if row.seconds_left is None else f", about {duration(row.seconds_left)} left"
        epochs = status.get("epochs") or row.run.about()["config"]["epochs"]
        st.progress(row.progress, f"{row.progress:.0%} of {epochs} epochs{left}")
    show_actions(row)
    show_export(row)


def place_in_queue(row: Row) -> str:
    """In words; nothing for a run that does not wait, or whose turn has just come."""
    line = launcher.waiting(row.device)
    if row.run not in line:
        return ""
    return f" · place {line.index(row.run) + 1} in the queue of {row.device}"


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
    settings = overview.values(row.run)
    epochs, patience = settings["epochs"], settings["early_stopping"]
    waited, done = row.run.epochs_without_gain(), len(row.run.metrics())
    stopped_early = 0 < patience <= waited
    with bar.popover("Extend", icon=":material/add:", key=f"train-extend-{row.run.id}"):
        if stopped_early:
            st.markdown(
                f"It stopped early: no epoch after epoch {done - waited} brought a better "
                f"{METRICS[settings['monitor']].lower()}. To go on, let it wait for more than "
                f"{waited} such epochs, or 0 for its full length."
            )
        longer = st.number_input(
            "Epochs in all",
            min_value=epochs if stopped_early else epochs + 1,
            value=epochs if stopped_early else epochs + max(epochs // 2, 1),
            key=f"train-epochs-{row.run.id}",
            help="A cosine is stretched over the new length.",
        )
        if patience:
            patience = st.number_input(
                "Early stopping",
                min_value=0,
                value=0 if stopped_early else patience,
                key=f"train-patience-{row.run.id}",
                help=f"{form.sentence(FIELDS['early_stopping'].metadata['help'])}.",
            )
        st.button(
            "Train on",
            on_click=extend,
            args=(row.run, int(longer), int(patience)),
            type="primary",
            key=f"train-on-{row.run.id}",
        )


def extend(run: Run, epochs: int, early_stopping: int) -> None:
    act(run.extend, epochs, early_stopping)
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
    with bar.popover(
        "Export",
        icon=":material/upload:",
        disabled=row.busy,
        help="Stop it first, or wait for its end: its best epoch may yet change."
        if row.busy
        else None,
        key=f"train-export-{key}",
    ):
        if row.busy:
            return
        st.markdown(
            "Makes a model that Diagnose can use: calibrated on validation, measured on the test "
            "part, with a card. Takes a minute or more."
        )
        name = st.text_input(
            "Name", suggested_name(row.title), key=f"train-export-name-{key}"
        ).strip()
        if taken := is_taken(name):
            st.error("There is a model of this name: choose another.", icon=":material/block:")
        views = st.selectbox(
            "It answers by",
            [n for n in VIEWS if n <= most_of(overview.values(row.run)["input_size"])],
            format_func=VIEWS.get,
            key=f"train-export-views-{key}",
        )
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
            args=(launcher.start_export, row.run, name, role, views),
            disabled=taken or not name,
            key=f"train-export-start-{key}",
        )


def suggested_name(title: str) -> str:
    """The title as the name of a folder, with a number where there is a model of that name."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")[:40] or "model"
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return name if not is_taken(name) else next(each for each in numbered if not is_taken(each))


def is_taken(name: str) -> bool:
    return bool(name) and (store.weights_folder() / name).exists()


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
