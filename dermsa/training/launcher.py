"""The queue of runs: one run per device at a time, the rest wait in order.

    enqueue(run)        # and return at once: a process of its own trains it when its turn comes
    stop(run)           # whether it waits or trains
    move(run, -1)       # one place forward

A run that waits is in the state "queued" and has a `rank` in its status: the run folders are the
queue. Each device with something to do has a runner, a small process (`python -m
dermsa.training.launcher DEVICE`) that starts the next run when the device is free, and ends when
nothing waits. Runs and runners are sessions of their own: they survive whoever started them.
Changes to the queue happen under one file lock; a device belongs to who holds its lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from dermsa.datasets.dataset import data_root
from dermsa.files import write_atomically
from dermsa.training import devices
from dermsa.training.runs import ACTIVE, Run, RunError, all_runs, is_alive, started_at

ROOT = Path(__file__).resolve().parents[2]
CAN_START = ("new", "stopped", "failed", "lost")
POLL_SECONDS = 1.0
EXPORT_LOG = "export.log"
HANDOVER_SECONDS = 10  # a runner that ends may hold its lock for a moment
BUSY = ("queued", *ACTIVE)
INHERITED = ("DERMSA_CACHE", "DERMSA_WEIGHTS")


def enqueue(runs: Run | Iterable[Run], data: Path | None = None) -> None:
    """Lets runs wait for their devices, and sees that somebody starts them.

    Args:
        runs: New ones, or ones to resume.
        data: Folder of the data sets; None for `data_root()`.

    Raises:
        RunError: One of them is done, waits, trains or is being exported. None is queued then.
        DeviceError: Its device is not on this machine. Likewise.
    """
    runs = [runs] if isinstance(runs, Run) else list(runs)
    folder = data or data_root()
    settings = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with devices.lock_of("queue"):
        for run in runs:
            if run.state not in CAN_START:
                raise RunError(_cannot_start(run))
            if (under_way := export_of(run)) and under_way.state == "running":
                raise RunError(
                    f"The run {run.id} is being exported as {under_way.name}: wait until that is "
                    "done."
                )
        load = Counter(each.status()["device"] for each in all_runs() if each.state in BUSY)
        places = []
        for run in runs:
            places.append(devices.resolve(run.about()["config"].get("device", "auto"), load))
            load[places[-1]] += 1
        for run, device in zip(runs, places, strict=True):
            run.update(
                state="queued",
                rank=max([each.status()["rank"] for each in waiting()], default=0) + 1,
                device=device,
                data=str(folder) if folder else None,
                environment=settings,
                error=None,
            )
            run.stop_marker.unlink(missing_ok=True)
    wake()


def _cannot_start(run: Run) -> str:
    if run.state == "finished":
        return f"The run {run.id} is finished. Extend it to train it further."
    return f"The run {run.id} is {run.state} already."


def waiting(device: str | None = None) -> list[Run]:
    """The runs that wait, first the next; of one device or of all."""
    found = [(run.status(), run) for run in all_runs()]
    found = [
        (status["rank"], run)
        for status, run in found
        if status["state"] == "queued" and device in (None, status["device"])
    ]
    return [run for _, run in sorted(found, key=lambda pair: pair[0])]


def move(run: Run, places: int) -> None:
    """Moves a waiting run among those of its device; negative is sooner.

    Raises:
        RunError: It does not wait.
    """
    with devices.lock_of("queue"):
        if run.state != "queued":
            raise RunError(f"The run {run.id} does not wait: it is {run.state}.")
        order = waiting(run.status()["device"])
        ranks = [each.status()["rank"] for each in order]
        place = order.index(run)
        order.insert(min(max(place + places, 0), len(order) - 1), order.pop(place))
        for each, rank in zip(order, ranks, strict=True):
            each.update(rank=rank)


def stop(run: Run, at_once: bool = False) -> None:
    """Stops a run: one that waits leaves the queue, one that trains ends after the current batch.

    Args:
        run: Any.
        at_once: Kill the process. What came after the last checkpoint is lost.

    Raises:
        RunError: It neither waits nor trains.
    """
    with devices.lock_of("queue"):
        status = run.status()
        if status["state"] == "queued":
            run.update(state="stopped")
            return
        if status["state"] not in ACTIVE:
            raise RunError(f"The run {run.id} is {status['state']}: there is nothing to stop.")
        run.stop_marker.touch()
        with contextlib.suppress(ProcessLookupError):
            os.kill(status["pid"], signal.SIGKILL if at_once else signal.SIGTERM)


def wake() -> None:
    """Starts a runner for every device for which a run waits and that has none.

    Whoever queues a run does so; after the machine went down, the Train page and `runs wake` do.
    """
    for device in {run.status()["device"] for run in waiting()}:
        if _has_runner(device):  # it ends only where nothing waits, see `_next`
            continue
        runner = subprocess.Popen(
            [sys.executable, "-m", "dermsa.training.launcher", device],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # An ended child that nobody waits for stays in the process table.
        threading.Thread(target=runner.wait, daemon=True).start()


def _has_runner(device: str) -> bool:
    try:
        with devices.lock_of(f"runner {device}").acquire(timeout=0):
            return False
    except Timeout:
        return True


def serve(device: str) -> None:
    """The runner: starts what waits for a device, one after the other, until nothing waits."""
    lock = devices.lock_of(f"runner {device}")
    try:
        lock.acquire(timeout=HANDOVER_SECONDS)
    except Timeout:
        return  # there is a runner
    while run := _next(device, lock):
        if process := _start(run, device):
            process.wait()


def _next(device: str, lock) -> Run | None:
    """Waits until the device is free and takes the first run; None, and the lock given back,
    where nothing waits."""
    while True:
        with devices.lock_of("queue"):
            line = waiting(device)
            if not line:
                lock.release()  # before anyone can enqueue: who does, starts a new runner
                return None
            if devices.is_free(device):
                return line[0]
        time.sleep(POLL_SECONDS)


def _start(run: Run, device: str) -> subprocess.Popen | None:
    """The process that trains a run; None where it has left the queue in the meantime."""
    surroundings = os.environ | run.status()["environment"] | devices.environment(device)
    surroundings["KERAS_BACKEND"] = run.backend
    with (run.folder / "console.log").open("ab") as console, devices.lock_of("queue"):
        if run.state != "queued":
            return None
        process = subprocess.Popen(
            _command(run),
            cwd=ROOT,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
        if run.state == "queued":  # the process has not claimed the run itself yet
            run.update(
                state="preparing",
                pid=process.pid,
                pid_started=started_at(process.pid),
            )
    return process


def _command(run: Run) -> list[str]:
    command = [sys.executable, "-m", "dermsa", "train", "--resume", str(run.folder), "--wait"]
    data = run.status()["data"]
    return [*command, "--data", data] if data else command


@dataclass(frozen=True)
class Export:
    """The making of a model of a run, as a process of its own.

    Attributes:
        name: Of the model.
        state: "running", "finished" or "failed".
        said: What it printed last; of a failure the reason.
    """

    name: str
    state: str
    said: str


def start_export(run: Run, name: str, role: str | None = None, views: int | None = None) -> None:
    """Makes a model of a run in `weights/`, by a process that outlives this one.

    Args:
        run: Neither waiting nor training.
        name: Of the model.
        role: Of `store.ROLES`, where the model shall have it.
        views: Mirror images of a photo to average over; None for as many as `export` takes.

    Raises:
        RunError: The run has no finished epoch, waits or trains, or is being exported.
    """
    if not run.best_weights.exists():
        raise RunError(f"The run {run.id} has no finished epoch yet: there is nothing to export.")
    if run.state in BUSY:
        raise RunError(f"The run {run.id} is {run.state}: its best epoch may yet change.")
    if (under_way := export_of(run)) and under_way.state == "running":
        raise RunError(f"The run {run.id} is being exported as {under_way.name}.")
    command = [sys.executable, "-m", "dermsa", "export", str(run.folder), "--name", name]
    status = run.status()
    command += ["--data", status["data"]] if status.get("data") else []
    command += [f"--default-{role}"] if role else []
    command += ["--views", str(views)] if views else []
    with (run.folder / EXPORT_LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            # The GPUs are for trainings, and only TensorFlow converts to ONNX.
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    about = {
        "name": name,
        "pid": process.pid,
        "pid_started": started_at(process.pid),
    }
    write_atomically(run.folder / "export.json", json.dumps(about).encode())
    threading.Thread(target=process.wait, daemon=True).start()


def export_of(run: Run) -> Export | None:
    """What became of the last `start_export` of a run; None where there was none."""
    path = run.folder / "export.json"
    if not path.exists():
        return None
    about = json.loads(path.read_text(encoding="utf-8"))
    lines = (run.folder / EXPORT_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith(("dermsa: ", "Wrote "))]
    if is_alive(about["pid"], about["pid_started"]):
        return Export(about["name"], "running", lines[-1] if lines else "")
    if said and said[-1].startswith("Wrote "):
        return Export(about["name"], "finished", said[-1])
    reason = said[-1].removeprefix("dermsa: ") if said else "It ended without a word."
    return Export(about["name"], "failed", reason)


if __name__ == "__main__":
    serve(sys.argv[1])
