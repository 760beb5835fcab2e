"""Runs as people look at them: the rows of a table, durations in words, what differs.

Reads files alone: nothing here needs Keras.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dermsa.training import launcher
from dermsa.training.form import GROUPS, applies, flat
from dermsa.training.runs import ACTIVE, Run, all_runs


@dataclass(frozen=True)
class Row:
    """One run in the table of all.

    Attributes:
        run: The run.
        title, tags, state: Of it; a state of `runs.STATES`.
        backbone: Its image network.
        progress: 0 to 1.
        seconds_left: Until it ends, None where nobody knows.
        best: Name and value of the validation figure that chooses the epoch; None before the first.
        device: "" before it was queued.
        created: When it was made.
        rank: Place among those that wait; None for others.
        error: Why it failed, in a sentence.
        silent_since: When it last gave a sign of life, where that is too long ago for a training.
    """

    run: Run
    title: str
    tags: tuple[str, ...]
    state: str
    backbone: str
    progress: float
    seconds_left: float | None
    best: tuple[str, float] | None
    device: str
    created: datetime.datetime
    rank: float | None
    error: str | None
    silent_since: datetime.datetime | None

    @property
    def busy(self) -> bool:
        """Whether it waits or trains."""
        return self.state in launcher.BUSY

    def matches(self, words: str) -> bool:
        """Whether every word occurs in its title, tags, id, state, device or backbone."""
        text = " ".join(
            (self.title, *self.tags, self.run.id, self.state, self.device, self.backbone)
        ).lower()
        return all(word in text for word in words.lower().split())


def rows() -> list[Row]:
    """All runs: what trains, what waits in its order, then the others, newest first."""
    listed = [row(run) for run in all_runs()]
    active = [each for each in listed if each.state in ACTIVE]
    waiting = sorted(
        (each for each in listed if each.state == "queued"), key=lambda each: each.rank or 0
    )
    others = [each for each in listed if each.state not in (*ACTIVE, "queued")]
    return active + waiting + others


def anything_under_way(listed: Iterable[Row]) -> bool:
    """Whether any run waits, trains or is being exported: what is shown of it will change."""
    return any(
        row.busy or (export := launcher.export_of(row.run)) and export.state == "running"
        for row in listed
    )


def row(run: Run) -> Row:
    """One run."""
    about, status = run.about(), run.status()
    state = status["state"]
    best = next(iter((status.get("best") or {}).items()), None)
    silent = status.get("not_responding_since")
    epochs = about["config"]["epochs"]
    done = status.get("epoch", 0) / epochs
    return Row(
        run,
        about["title"],
        tuple(about.get("tags", ())),
        state,
        about["config"]["classifier"]["backbone"],
        1.0 if state == "finished" else min(max(status.get("progress", 0), done), 1.0),
        status.get("seconds_left") if state in ("running", "stopping") else None,
        best,
        status.get("device") or "",
        datetime.datetime.fromisoformat(about["created"]),
        status.get("rank") if state == "queued" else None,
        status.get("error") if state == "failed" else None,
        datetime.datetime.fromisoformat(silent) if silent else None,
    )


def duration(seconds: float) -> str:
    """In words: `40 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def age(created: datetime.datetime) -> str:
    """How long ago, in words."""
    return duration((datetime.datetime.now(datetime.UTC) - created).total_seconds())


@dataclass(frozen=True)
class Setting:
    """One setting of a run, beside that of another where there is one."""

    group: str
    name: str
    value: Any
    other: Any = None


def values(run: Run) -> dict[str, Any]:
    """All settings of a run by name, as the form has them."""
    return flat(run.about()["config"])


def settings(run: Run) -> list[Setting]:
    """The settings that matter in a run, by group."""
    own = values(run)
    return [
        Setting(group, name, own[name])
        for group, names in GROUPS.items()
        for name in names
        if applies(name, own)
    ]


def differences(run: Run, other: Run) -> list[Setting]:
    """The settings in which two runs differ, where they matter in one of them."""
    mine, theirs = values(run), values(other)
    return [
        Setting(group, name, mine[name], theirs[name])
        for group, names in GROUPS.items()
        for name in names
        if mine[name] != theirs[name] and (applies(name, mine) or applies(name, theirs))
    ]
