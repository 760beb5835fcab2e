"""Runs on disk: `runs/<run id>/` is the registry, and the only truth about a run.

config.json     the TrainingConfig, with versions and the git commit
status.json     state, process, heartbeat, epoch, time left, error
metrics.csv     a row per epoch
train.log       what the training printed
split.csv       which image belongs to which part
best.weights.h5 the classifier's weights at the best epoch
checkpoint/     full state for resuming
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import psutil

from dermsa.files import runs_folder, write_atomically
from dermsa.training.config import TrainingConfig

STATES = ("preparing", "running", "stopping", "stopped", "finished", "failed", "lost")
ACTIVE = ("preparing", "running", "stopping")
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
        """The whole of `config.json`: config, versions, commit, time of creation."""
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    def status(self) -> dict:
        """`status.json`; the state is "lost" where the process has gone without a word."""
        status = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        if status["state"] in ACTIVE and not _alive(status["pid"], status["pid_started"]):
            status["state"] = "lost"
        return status

    def update(self, **changes) -> None:
        """Changes fields of the status and renews the heartbeat."""
        path = self.folder / "status.json"
        status = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        status.update(changes, heartbeat=_now())
        write_atomically(path, json.dumps(status, indent=2).encode())

    def claim(self) -> None:
        """Names this process as the one that trains.

        Raises:
            RunError: Another living process trains this run.
        """
        if (self.folder / "status.json").exists() and self.status()["state"] in ACTIVE:
            raise RunError(f"The run {self.id} is being trained by process {self.status()['pid']}.")
        process = psutil.Process()
        self.update(
            state="preparing", pid=process.pid, pid_started=process.create_time(), error=None
        )

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


def create_run(config: TrainingConfig, title: str = "") -> Run:
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
        "created": _now(),
        "config": json.loads(config.to_json()),
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


def _alive(pid: int, started: float) -> bool:
    """Whether the process lives and is still the same one (ids are used again)."""
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.Error:
        return False


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
