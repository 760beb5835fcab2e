"""The findings of `data check`, which runs in a process of its own while one looks elsewhere."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path

import streamlit as st

from dermsa.datasets.check import KINDS
from dermsa.datasets.checking import CheckFailed, Checking, Kept, read_kept
from dermsa.datasets.dataset import DatasetError
from ui.data.photos import THUMBNAIL_SIDE, drawn
from ui.data.selection import SECONDS_BELIEVED, ask_for_dataset, listing_of

ROWS = 200
PAIRS = 6
EVERY = "1s"

running: dict[tuple[str, str], Checking] = {}
"""The checks of this server, by name and folder of the data set."""
changing = threading.Lock()


def show_check() -> None:
    chosen = ask_for_dataset()
    if chosen is None:
        return
    name, root = chosen
    if (name, str(root)) in running:
        watch(name, root)
        return
    kept = kept_of(name, str(root))
    if kept is None:
        st.info(
            "This data set has not been checked on this machine. A check reads every image and "
            "mask once, which takes some minutes; it goes on while you look elsewhere.",
            icon=":material/fact_check:",
        )
    st.button(
        "Check now" if kept is None else "Check again",
        icon=":material/fact_check:",
        on_click=start,
        args=(name, root),
        key="check-start",
    )
    if problem := st.session_state.pop("check-problem", None):
        st.error(problem, icon=":material/error:")
    if kept:
        show_findings(kept, str(root))


# --- the running check --------------------------------------------------------------------------


def start(name: str, root: Path) -> None:
    with changing:
        if (name, str(root)) in running:
            return
        try:
            running[name, str(root)] = Checking(name, root)
        except DatasetError as error:
            st.session_state["check-problem"] = str(error)


def cancel(name: str, root: Path) -> None:
    with changing:
        if checking := running.pop((name, str(root)), None):
            checking.cancel()


@st.fragment(run_every=EVERY)
def watch(name: str, root: Path) -> None:
    """Progress of a check; when it has ended, the page shows what it found."""
    checking = running.get((name, str(root)))
    if checking is None:  # cancelled or finished in another window
        st.rerun()
    if not checking.running:
        finish(name, root)
        st.rerun()
    progress = checking.progress()
    if progress is None:
        st.progress(0.0, "Starting")
    else:
        left = f", {progress.left} left" if progress.left else ""
        st.progress(
            progress.done / max(1, progress.total),
            f"{progress.step} {progress.done:,} of {progress.total:,}{left}",
        )
    st.button(
        "Cancel",
        icon=":material/close:",
        on_click=cancel,
        args=(name, root),
        key="check-cancel",
    )


def finish(name: str, root: Path) -> None:
    with changing:
        checking = running.pop((name, str(root)), None)
        if checking is None:
            return
        try:
            checking.finish()
        except CheckFailed as error:
            st.session_state["check-problem"] = str(error)
    kept_of.clear()


@st.cache_data(max_entries=8, ttl=SECONDS_BELIEVED, show_spinner="Looking for an earlier check")
def kept_of(name: str, root: str) -> Kept | None:
    return read_kept(name, Path(root))


# --- what was found -----------------------------------------------------------------------------


def show_findings(kept: Kept, root: str) -> None:
    report = kept.report
    when = datetime.datetime.fromisoformat(kept.checked)
    st.caption(
        f"Checked on {when:%Y-%m-%d at %H:%M}: {report['images']:,} images of "
        f"{report['lesions']:,} lesions, {report['lesions_with_several_photos']:,} of them with "
        f"several photos; {report['masks']:,} lesion masks."
    )
    if kept.stale:
        st.warning("The files have changed since. Check again.", icon=":material/update:")
    if report["problems"]:
        sentences = "\n".join(f"- {sentence}" for sentence in report["problems"])
        st.warning(f"What to look at:\n{sentences}", icon=":material/warning:")
    else:
        st.success("Nothing is wrong with it.", icon=":material/check:")
    st.table(
        [
            {"Looked for": KINDS[kind].capitalize(), "Found": f"{len(rows):,}"}
            for kind, rows in report["found"].items()
        ],
        border="horizontal",
        hide_index=True,
    )
    for kind, rows in report["found"].items():
        if rows:
            with st.expander(f"{KINDS[kind].capitalize()}: {len(rows):,}"):
                show_rows(kind, rows, report["dataset"], root)
    sizes = list(report["sizes"].items())
    st.caption(
        "Sizes in pixels: "
        + ", ".join(f"{size} ({number:,})" for size, number in sizes[:5])
        + (f" and {len(sizes) - 5} more." if len(sizes) > 5 else ".")
    )


def show_rows(kind: str, rows: list[dict], dataset: str, root: str) -> None:
    if kind in ("twins", "same_files"):
        for row in rows[:PAIRS]:
            show_together(row["image_ids"], dataset, root)
    plain = [
        {
            name.replace("_", " ").capitalize(): ", ".join(map(str, value))
            if isinstance(value, list)
            else value
            for name, value in row.items()
        }
        for row in rows[:ROWS]
    ]
    st.dataframe(plain, hide_index=True)
    if len(rows) > ROWS:
        st.caption(f"The first {ROWS} of {len(rows):,}.")


def show_together(image_ids: list[str], dataset: str, root: str) -> None:
    """Photos that show the same, side by side."""
    listed = listing_of(dataset, root).images
    columns = st.columns(4, gap="small")
    for column, image_id in zip(columns, image_ids, strict=False):
        if image_id in listed:
            column.image(drawn(listed[image_id], None, THUMBNAIL_SIDE), alt=image_id)
            column.caption(image_id)
