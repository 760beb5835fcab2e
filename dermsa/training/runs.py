"""Runs on disk: `runs/<run id>/` is the registry, and the only truth about a run.

config.json     title, tags, the TrainingConfig, Keras' backend, versions and the git commit
status.json     state, device, process, heartbeat, epoch, time left, error
metrics.csv     a row per epoch
train.log       what the training says of itself
console.log     whatever else its process printed, where it ran detached
split.csv       which image belongs to which part
best.weights.h5 the classifier's weights at the best epoch
checkpoint/     full state for resuming

A deleted run lies in `runs/.deleted/` until the bin is emptied.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import psutil

from dermsa.files import runs_folder, write_atomically
from dermsa.training.config import TrainingConfig
from dermsa.training.form import flat
from dermsa.training.history import epochs_without_gain

STATES = {
    "new": "never started",
    "queued": "waits for its device",
    "preparing": "reads the data and builds the network",
    "running": "trains",
    "stopping": "ends after the current batch",
    "stopped": "was stopped; can be resumed",
    "finished": "is done",
    "failed": "ended with an error",
    "lost": "its process has gone without a word",
}
DELETED = ".deleted"
DEFAULT_BACKEND = "tensorflow"  # where KERAS_BACKEND says nothing
ACTIVE = ("preparing", "running", "stopping")
# A training tells of itself every few seconds, but not while its first step is compiled, which
# takes minutes for a large network.
SILENT_MINUTES = 10
VERSIONED_PACKAGES = ("tensorflow", "keras", "jax", "torch", "numpy", "onnxruntime")


class RunError(ValueError):
    """A run that cannot be found, read or continued."""


@dataclass(frozen=True)
class Run:
    """One run, by its folder. All reads go to the disk: other processes write there."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint" / "state.npz"

    @property
    def best_weights(self) -> Path:
        return self.folder / "best.weights.h5"

    @property
    def split(self) -> Path:
        return self.folder / "split.csv"

    def config(self) -> TrainingConfig:
        return TrainingConfig.from_dict(self.about()["config"])

    def about(self) -> dict:
        """The whole of `config.json`: config, backend, versions, commit, time of creation."""
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    @property
    def backend(self) -> str:
        """What Keras computes with in this run, whoever starts it: "tensorflow", "jax" ..."""
        return self.about().get("backend", DEFAULT_BACKEND)

    def status(self) -> dict:
        """`status.json`, but the state tells what became of the process since: "stopping" or
        "stopped" where it was asked to stop, "lost" where it has gone without a word.

        Where the process lives and trains, but has not said so for `SILENT_MINUTES`, there is
        "not_responding_since" besides, the time of its last word.
        """
        status = self._written_status()
        if status["state"] in ACTIVE:
            asked = self.stop_marker.exists()
            if not is_alive(status["pid"], status["pid_started"]):
                status["state"] = "stopped" if asked else "lost"
            elif asked:
                status["state"] = "stopping"
        if status["state"] in ("running", "stopping") and _is_long_ago(status["heartbeat"]):
            status["not_responding_since"] = status["heartbeat"]
        return status

    @property
    def stop_marker(self) -> Path:
        """A file that whoever stops a run leaves: the status is the training process' own."""
        return self.folder / "stop-requested"

    def _written_status(self) -> dict:
        path = self.folder / "status.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"state": "new"}

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return self.status()["state"]

    def update(self, **changes) -> None:
        """Changes fields of the status and renews the heartbeat."""
        status = self._written_status() | changes | {"heartbeat": now()}
        write_atomically(self.folder / "status.json", json.dumps(status, indent=2).encode())

    def claim(self, device: str = "cpu") -> None:
        """Names this process as the one that trains, and the device.

        Raises:
            RunError: Another living process trains this run.
        """
        status, pid = self.status(), os.getpid()
        if status["state"] in ACTIVE and status["pid"] != pid:
            raise RunError(f"The run {self.id} is being trained by process {status['pid']}.")
        self.update(
            state="preparing",
            pid=pid,
            pid_started=started_at(pid),
            device=device,
            error=None,
        )
        self.stop_marker.unlink(missing_ok=True)

    def change(self, **changes) -> None:
        """Changes entries of `config.json` beside the configuration: title, tags."""
        about = self.about() | changes
        write_atomically(self.folder / "config.json", json.dumps(about, indent=2).encode())

    def extend(self, epochs: int, early_stopping: int | None = None) -> None:
        """Lets the training go on to more epochs than it was made for; the queue takes it again.

        A cosine is stretched over the new length: the learning rate rises again to where a
        training of that length would have it.

        Args:
            epochs: In all. Where the training had stopped early, as many as it was made for do.
            early_stopping: From now on, 0 for none; None leaves it as it is. A training that had
                stopped early needs another one to go on.

        Raises:
            RunError: It is busy, has done as many already, or would stop early at once.
        """
        about, done = self.about(), len(self.metrics())
        config = flat(about["config"])
        if self.state in (*ACTIVE, "queued"):
            raise RunError(f"The run {self.id} is {self.state}: stop it first.")
        patience = config["early_stopping"] if early_stopping is None else early_stopping
        if patience < 0:
            raise RunError(f"Expected early_stopping to be at least 0. Received: {patience}")
        waited = self.epochs_without_gain()
        stopped_early = 0 < config["early_stopping"] <= waited
        least = config["epochs"] if stopped_early else config["epochs"] + 1
        if epochs < least or epochs <= done:
            raise RunError(
                f"The run {self.id} has {config['epochs']} epochs, of which {done} are done: more "
                f"are needed to extend it. Received: {epochs}"
            )
        if 0 < patience <= waited:
            raise RunError(
                f"The run {self.id} stopped early: no epoch after epoch {done - waited} brought a "
                f"better {config['monitor']}, and with early_stopping {patience} no further one "
                f"would be trained. Extend it with early_stopping above {waited}, or 0: runs "
                f"extend {self.id} --epochs {epochs} --early-stopping 0"
            )
        changed = {"epochs": epochs, "early_stopping": patience}
        step = {"when": now(), "from": config["epochs"], "to": epochs, "early_stopping": patience}
        self.change(config=about["config"] | changed, extended=[*about.get("extended", ()), step])
        state = {"state": "stopped"} if self.state == "finished" else {}
        self.update(epochs=epochs, progress=done / epochs, **state)

    def epochs_without_gain(self) -> int:
        """How many of its last epochs brought no better `monitor`."""
        config = flat(self.about()["config"])
        return epochs_without_gain(self.metrics(), config["monitor"], config["head_epochs"])

    def log(self) -> str:
        """What the training said of itself, and what its process printed after that.

        A process of its own prints what the training says as well; what comes after the last
        such line, as where it could not even begin, is nowhere else.
        """
        said, printed = self.folder / "train.log", self.folder / "console.log"
        lines, after = _lines(said), _lines(printed)
        if lines and after and printed.stat().st_mtime < said.stat().st_mtime:
            after = []  # of an earlier process; a later one prints elsewhere
        known = set(lines)
        both = [place for place, line in enumerate(after) if line in known and line.strip()]
        return "".join(lines + after[both[-1] + 1 if both else 0 :])

    def metrics(self, until_epoch: int | None = None) -> pd.DataFrame:
        """One row per finished epoch, exactly as written; empty before the first.

        Args:
            until_epoch: Leave out what came after this epoch.
        """
        path = self.folder / "metrics.csv"
        if not path.exists():
            return pd.DataFrame()
        table = pd.read_csv(path)
        return table if until_epoch is None else table[table["epoch"] <= until_epoch]


def _lines(path: Path) -> list[str]:
    """With their ends; none where there is no such file."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)


def create_run(config: TrainingConfig, title: str = "", tags: Iterable[str] = ()) -> Run:
    """Makes the folder of a new run, named by its title, time and backbone."""
    words = re.sub(r"[^a-z0-9]+", "-", (title or config.classifier.backbone).lower()).strip("-")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = runs_folder() / f"{stamp}-{words[:40]}"
    suffix = 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            suffix += 1
            folder = folder.with_name(f"{stamp}-{words[:40]}-{suffix}")
    about = {
        "title": title or config.classifier.backbone,
        "tags": list(tags),
        "created": now(),
        "config": json.loads(config.to_json()),
        "backend": backend(),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    write_atomically(folder / "config.json", json.dumps(about, indent=2).encode())
    return Run(folder)


def find_run(name: str) -> Run:
    """A run by its id or its folder.

    Raises:
        RunError: There is none.
    """
    for folder in (runs_folder() / name, Path(name)):
        if (folder / "config.json").is_file():
            return Run(folder)
    raise RunError(f"There is no run {name!r} in {runs_folder()}.")


def all_runs() -> list[Run]:
    """Every run, newest first."""
    folders = runs_folder().glob("*/config.json")
    return [Run(path.parent) for path in sorted(folders, reverse=True)]


def deleted_runs() -> list[Run]:
    """What lies in the bin, newest first."""
    folders = (runs_folder() / DELETED).glob("*/config.json")
    return [Run(path.parent) for path in sorted(folders, reverse=True)]


def delete(run: Run) -> Run:
    """Moves a run into the bin.

    Raises:
        RunError: It is queued or being trained.
    """
    if run.state in (*ACTIVE, "queued"):
        raise RunError(f"The run {run.id} is {run.state}: stop it first.")
    return _move(run, runs_folder() / DELETED)


def restore(name: str) -> Run:
    """Takes a run out of the bin.

    Raises:
        RunError: It is not there.
    """
    found = next((run for run in deleted_runs() if run.id == name), None)
    if found is None:
        raise RunError(f"There is no run {name!r} in the bin.")
    return _move(found, runs_folder())


def empty_bin() -> None:
    """Deletes for good what lies in the bin."""
    shutil.rmtree(runs_folder() / DELETED, ignore_errors=True)


def _move(run: Run, into: Path) -> Run:
    into.mkdir(parents=True, exist_ok=True)
    if (into / run.id).exists():
        raise RunError(f"There is a run {run.id} in {into} already.")
    return Run(run.folder.rename(into / run.id))


def backend() -> str:
    """What Keras computes with in the trainings that are made here."""
    return os.environ.get("KERAS_BACKEND") or DEFAULT_BACKEND


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that computed, where installed."""
    found = {"python": platform.python_version()}
    for package in VERSIONED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the code, with "+" where files were changed since; None outside git."""
    folder = Path(__file__).resolve().parents[2]
    try:
        described = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--abbrev=12", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def started_at(pid: int) -> list:
    """When a process started: which start of this machine, and seconds since then.

    Not by the clock, whose corrections would make a living process another one.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not on Linux
        boot = ""
    return [boot, psutil.Process(pid).create_time() - psutil.boot_time()]


def is_alive(pid: int, started: list) -> bool:
    """Whether the process lives and is still the same one (ids are used again).

    Args:
        started: From `started_at`.
    """
    try:
        ended = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # its parent did not look yet
        (boot, seconds), (boot_then, seconds_then) = started_at(pid), started
        return not ended and boot == boot_then and abs(seconds - seconds_then) < 1
    except (psutil.Error, TypeError):  # an earlier version kept a number
        return False


def _is_long_ago(heartbeat: str) -> bool:
    silent = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(heartbeat)
    return silent > datetime.timedelta(minutes=SILENT_MINUTES)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
