"""One run in detail: curves, beside those of others; log, machine and settings."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dermsa import plots_training
from dermsa.training import overview, runs, shipped, telemetry
from dermsa.training.form import in_words
from dermsa.training.overview import Row, duration
from dermsa.training.runs import Run
from ui.train.table import METRICS, gib

LOG_LINES = 40


def show_curves(chosen: list[Row]) -> None:
    tables = {f"{row.title} ({row.run.id[9:15]})": row.run.metrics() for row in chosen}
    if not any(len(table) for table in tables.values()):
        st.info("The first epoch is not finished yet.", icon=":material/show_chart:")
        return
    left, right = st.columns([4, 1], gap="medium")
    with right:
        tables |= ask_shipped(chosen)
        smoothing = st.slider(
            "Smoothing", 0.0, 0.9, 0.0, 0.1, key="train-smoothing", help="The points stay."
        )
        st.download_button(
            "Figures (CSV)",
            lambda: csv_of(tables),
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


def csv_of(tables: dict[str, pd.DataFrame]) -> str:
    """All curves below each other, the first column telling whose."""
    return pd.concat(tables, names=["of", None]).reset_index("of").to_csv(index=False)


def ask_shipped(chosen: list[Row]) -> dict[str, pd.DataFrame]:
    """Curves of models in weights/ that were validated on the photos of the first run, by name."""
    offered = shipped.validated_as(chosen[0].run.config())
    places = plots_training.MAX_RUNS - len(chosen)
    if not offered or not places:
        return {}
    kept = st.session_state.get("train-shipped", [])
    st.session_state["train-shipped"] = [name for name in kept if name in offered][:places]
    names = st.multiselect(
        "Shipped models beside",
        list(offered),
        max_selections=places,
        key="train-shipped",
        placeholder="None",
        help="How the trainings of models in weights/ went, on the same validation photos.",
    )
    return {name: offered[name].curves() for name in names}


def show_best(row: Row) -> None:
    table = row.run.metrics()
    if not len(table):
        return
    if row.best is not None:
        name, value = row.best
        title = METRICS.get(name, name)
        at = table.loc[table[name] == value, "epoch"]
        st.metric(
            f"Best {title[0].lower()}{title[1:]}",
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
        with st.container(height=300, border=False, autoscroll=True):
            st.code("\n".join(lines[-LOG_LINES:]) or "Nothing yet.", language=None)
    elif view == "Machine":
        show_machine(row)
    else:
        show_settings(row, rows)


def show_machine(row: Row) -> None:
    """What the machine is busy with now, and what of it this run takes."""
    pid = row.run.status().get("pid") if row.state in runs.ACTIVE else None
    now = telemetry.measure(pid)
    figures = [
        ("Processor", f"{now.cpu:.0%}", f"of {now.cores} cores"),
        ("Memory", gib(now.memory_used), f"of {gib(now.memory_total)}"),
    ]
    if now.temperature is not None:
        figures.append(("Temperature", f"{now.temperature:.0f} °C", "of the processor"))
    if now.process_memory is not None:
        figures.append(("This run", f"{now.process_cores:.1f}", "cores busy"))
        figures.append(("Its memory", gib(now.process_memory), "resident"))
    for card in now.gpus:
        use = "" if card.use is None else f"{card.use:.0%} busy"
        heat = "" if card.temperature is None else f", {card.temperature:.0f} °C"
        memory = f"{gib(card.memory_used)} of {gib(card.memory_total)}"
        figures.append((card.name, memory, f"{use}{heat}".strip(", ")))
    for (title, value, beside), column in zip(figures, st.columns(len(figures)), strict=True):
        column.metric(title, value, beside or None, delta_color="off", delta_arrow="off")
    if not now.gpus:
        st.caption("There is no NVIDIA card here: trainings run on the processor.")


def made_with(run: Run) -> str:
    """What computes a run: the versions are those of the machine that made it."""
    about = run.about()
    parts = [f"Keras computes with {run.backend}"]
    parts += [f"{name} {version}" for name, version in about["versions"].items()]
    parts += [f"commit {about['git_commit']}"] if about.get("git_commit") else []
    return " · ".join(parts)


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
                row.title: in_words(setting.value),
                f"{others[beside].title} ": in_words(setting.other),
            }
            for setting in found
        ]
    else:
        table = [
            {"": setting.group, "Setting": setting.name, "Value": in_words(setting.value)}
            for setting in overview.settings(row.run)
        ]
    st.table(table, border="horizontal", hide_index=True)
    st.caption(made_with(row.run))
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
