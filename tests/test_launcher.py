"""The queue: one run per device, in order, whoever starts it and whoever dies."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import keras
import pytest
import tiny

from dermsa.training import devices, launcher, runs
from dermsa.training.config import TrainingConfig
from dermsa.training.devices import DeviceError
from dermsa.training.runs import RunError, create_run, started_at
from dermsa.training.trainer import train

CONFIG = TrainingConfig(device="cpu")
# In place of a training: claims the run, has the device for a moment, says when.
STUB = """
import sys, time
from pathlib import Path
from dermsa.training import devices
from dermsa.training.runs import Run
run = Run(Path(sys.argv[1]))
with devices.held("cpu", wait=True):
    run.claim("cpu")
    began = time.time()
    time.sleep(float(sys.argv[2]))
    (run.folder / "times").write_text(f"{began} {time.time()}")
    run.update(state="finished")
"""
SERVE = """
import sys
from dermsa.training import launcher
launcher._command = lambda run: [sys.executable, "-c", sys.argv[1], str(run.folder), sys.argv[2]]
launcher.serve("cpu")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def asleep(monkeypatch):
    """Nobody starts what waits."""
    monkeypatch.setattr(launcher, "wake", lambda: None)


@pytest.fixture
def made():
    return [create_run(CONFIG, title) for title in ("first", "second", "third")]


def serve(seconds=0.3):
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, STUB, str(seconds)], cwd=launcher.ROOT, env=os.environ
    )


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def times(run):
    return tuple(map(float, (run.folder / "times").read_text().split()))


# --- the line ---------------------------------------------------------------------------------


def test_runs_wait_in_the_order_in_which_they_came(asleep, made):
    launcher.enqueue(made[:2])
    launcher.enqueue(made[2])
    assert launcher.waiting() == made
    assert [run.state for run in made] == ["queued"] * 3
    assert launcher.waiting("gpu:0") == []


def test_they_can_be_moved_and_taken_out(asleep, made):
    launcher.enqueue(made)
    first, second, third = made
    launcher.move(third, -2)
    assert launcher.waiting() == [third, first, second]
    launcher.move(third, 99)
    assert launcher.waiting() == [first, second, third]
    launcher.stop(second)
    assert launcher.waiting() == [first, third] and second.state == "stopped"
    launcher.enqueue(second)
    assert launcher.waiting() == [first, third, second]


def test_what_cannot_start_is_refused_and_nothing_is_queued(asleep, made):
    first, second, third = made
    third.update(state="finished")
    with pytest.raises(RunError, match="is finished. Extend it"):
        launcher.enqueue(made)
    assert launcher.waiting() == []
    launcher.enqueue(first)
    with pytest.raises(RunError, match="is queued already"):
        launcher.enqueue(first)
    with pytest.raises(RunError, match="does not wait"):
        launcher.move(second, 1)
    with pytest.raises(RunError, match="nothing to stop"):
        launcher.stop(second)


def test_a_device_that_is_not_there_is_refused(asleep):
    run = create_run(TrainingConfig(device="gpu:7"))
    with pytest.raises(DeviceError, match="There is no device 'gpu:7' .* cpu"):
        launcher.enqueue(run)
    assert run.state == "new"


def test_where_one_device_is_not_there_nothing_is_queued(asleep):
    both = [create_run(TrainingConfig(device=name), name) for name in ("cpu", "gpu:7")]
    with pytest.raises(DeviceError):
        launcher.enqueue(both)
    assert [run.state for run in both] == ["new", "new"]


def test_a_run_that_is_being_exported_does_not_train_on(asleep, monkeypatch):
    run = create_run(TrainingConfig())
    monkeypatch.setattr(launcher, "export_of", lambda _: launcher.Export("mine", "running", ""))
    with pytest.raises(RunError, match="being exported as mine"):
        launcher.enqueue(run)
    assert run.state == "new"


def test_a_backend_without_cuda_is_not_taken_for_a_gpu(monkeypatch):
    backend = keras.backend.backend()
    assert isinstance(devices.GPUS_OF[backend](), int)  # whatever this machine has
    monkeypatch.setitem(devices.GPUS_OF, backend, lambda: 1)
    devices.check_seen("gpu:0")
    monkeypatch.setitem(devices.GPUS_OF, backend, lambda: 0)
    devices.check_seen("cpu")
    with pytest.raises(DeviceError, match="gpu:0.*sees no GPU.*--device cpu"):
        devices.check_seen("gpu:0")


def test_gpus_share_what_is_for_any_device(monkeypatch, asleep, made):
    monkeypatch.setattr(devices, "devices", lambda: ("gpu:0", "gpu:1", "cpu"))
    anywhere = [create_run(TrainingConfig(), str(i)) for i in range(4)]
    launcher.enqueue(anywhere)
    assert [run.status()["device"] for run in anywhere] == ["gpu:0", "gpu:1", "gpu:0", "gpu:1"]
    assert devices.environment("gpu:1") == {
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert devices.environment("cpu")["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, ("gpu:0", "gpu:1", "gpu:2", "cpu")),
        ("2,0", ("gpu:0", "gpu:2", "cpu")),
        ("GPU-b", ("gpu:1", "cpu")),
        ("GPU-", ("cpu",)),  # fits several: CUDA shows none
        ("1,7,2", ("gpu:1", "cpu")),
        ("-1", ("cpu",)),
        ("", ("cpu",)),
    ],
)
def test_gpus_that_a_shared_machine_keeps_from_us_are_none(monkeypatch, visible, left):
    monkeypatch.setattr(devices, "_gpus", lambda: ("GPU-a1", "GPU-b2", "GPU-c3"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.devices() == left
    assert devices.resolve("all") == ("all" if len(left) > 2 else left[0])


def test_a_run_sees_the_gpu_that_its_runner_gave_it(monkeypatch):
    monkeypatch.setattr(devices, "_gpus", lambda: ("GPU-a1", "GPU-b2", "GPU-c3"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,2")
    assert devices.environment("all")["CUDA_VISIBLE_DEVICES"] == "1,2"
    for device in ("gpu:2", "all"):
        given = devices.environment(device)
        with monkeypatch.context() as inside:
            inside.setenv("CUDA_VISIBLE_DEVICES", given["CUDA_VISIBLE_DEVICES"])
            assert devices.environment(device) == given


# --- one run per device -----------------------------------------------------------------------


def test_three_runners_at_once_never_train_two_runs(asleep, made):
    launcher.enqueue(made)
    servers = [serve() for _ in range(3)]
    for server in servers:
        assert server.wait(timeout=120) == 0
    assert [run.state for run in made] == ["finished"] * 3
    spans = [times(run) for run in made]
    for (_, ended), (began, _) in zip(spans, spans[1:], strict=False):
        assert began >= ended


def test_a_run_goes_on_when_its_runner_is_killed_and_the_next_one_waits(asleep, made):
    first, second, _ = made
    launcher.enqueue([first, second])
    runner = serve(seconds=6)
    wait_for(lambda: not devices.is_free("cpu"))
    runner.kill()
    runner.wait()
    after = serve()
    assert after.wait(timeout=120) == 0
    assert first.state == second.state == "finished"
    assert times(second)[0] >= times(first)[1]


def test_a_run_that_leaves_the_queue_at_the_last_moment_is_not_started(asleep, made):
    first, second, _ = made
    launcher.enqueue([first, second])
    lock = devices.lock_of("runner cpu")
    lock.acquire()
    assert launcher._next("cpu", lock) == first
    launcher.stop(first)
    assert launcher._start(first, "cpu") is None
    assert first.state == "stopped"


def test_a_device_is_woken_once(made, monkeypatch):
    woken = []

    def popen(command, **_):
        woken.append(command[-1])
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(launcher.subprocess, "Popen", popen)
    launcher.wake()
    assert woken == []  # nothing waits
    launcher.enqueue(made[:2])
    assert woken == ["cpu"]
    with devices.lock_of("runner cpu"):
        launcher.wake()
    assert woken == ["cpu"]  # the runner is there
    launcher.wake()
    assert woken == ["cpu"] * 2


@pytest.mark.parametrize("backend", ["jax", None])
def test_a_run_has_the_backend_that_it_was_made_with(asleep, monkeypatch, backend):
    if backend:
        monkeypatch.setenv("KERAS_BACKEND", backend)
    else:
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
    run = create_run(CONFIG)
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # of whoever queues it, or starts the runner
    launcher.enqueue(run)
    tell = "import os, sys; print(os.environ['KERAS_BACKEND'])"
    monkeypatch.setattr(launcher, "_command", lambda run: [sys.executable, "-c", tell])
    assert launcher._start(run, "cpu").wait() == 0
    assert (run.folder / "console.log").read_text().strip() == (backend or "tensorflow")
    assert run.backend == (backend or "tensorflow")


def test_a_device_in_use_is_refused_in_a_sentence(made):
    with (
        devices.held("cpu"),
        pytest.raises(DeviceError, match="cpu is busy with another run"),
        devices.held("cpu"),
    ):
        pass
    assert devices.is_free("cpu")


# --- stopping ---------------------------------------------------------------------------------


@pytest.fixture
def training(made):
    """A run, and a process that seems to train it."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = started_at(process.pid)
    made[0].update(state="running", pid=process.pid, pid_started=started)
    yield made[0], process
    process.kill()
    process.wait()


@pytest.mark.parametrize(("at_once", "expected"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_a_process_that_is_stopped_before_it_can_say_so_counts_as_stopped(
    training, at_once, expected
):
    run, process = training
    launcher.stop(run, at_once)
    assert process.wait(timeout=10) == -expected
    assert run.state == "stopped"


def test_one_that_goes_without_a_word_is_lost(training):
    run, process = training
    process.kill()
    wait_for(lambda: run.state == "lost")  # also before its parent has looked after it


# --- the bin ----------------------------------------------------------------------------------


def test_a_deleted_run_can_be_restored_until_the_bin_is_emptied(asleep, made):
    first, second, third = made
    deleted = runs.delete(first)
    assert runs.all_runs() == [third, second] and runs.deleted_runs() == [deleted]
    assert runs.restore(first.id) == first and first.state == "new"
    launcher.enqueue(second)
    with pytest.raises(RunError, match="is queued: stop it first"):
        runs.delete(second)
    runs.delete(first)
    runs.empty_bin()
    assert runs.deleted_runs() == []
    with pytest.raises(RunError, match="no run .* in the bin"):
        runs.restore(first.id)


# --- for real ---------------------------------------------------------------------------------


def test_a_detached_training_outlives_who_started_it_stops_and_resumes(synthetic_data):
    start = [sys.executable, "-m", "dermsa", "train", "--detach", "--data", str(synthetic_data)]
    start += ["--input-size", "32", "--initial-weights", "none", "--epochs", "500"]
    start += ["--batch-size", "8", "--title", "long"]
    # The whole session that started it is killed, as a server would be.
    starter = subprocess.Popen(start, cwd=launcher.ROOT, start_new_session=True)
    assert starter.wait(timeout=120) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(starter.pid, signal.SIGKILL)
    run = runs.all_runs()[0]
    wait_for(lambda: len(run.metrics()), 240)
    asked = time.monotonic()
    launcher.stop(run)
    wait_for(lambda: run.state == "stopped", 30)
    assert time.monotonic() - asked < 10
    done = len(run.metrics())
    assert 1 <= done < 500 and run.best_weights.exists()
    launcher.enqueue(run, synthetic_data)
    wait_for(lambda: len(run.metrics()) > done, 240)
    launcher.stop(run)
    wait_for(lambda: run.state == "stopped", 30)
    assert list(run.metrics()["epoch"]) == list(range(1, len(run.metrics()) + 1))


def test_a_finished_training_is_extended_and_goes_on(tiny_backbone, synthetic_data, asleep):
    run = create_run(tiny.config_of(epochs=1, device="cpu"))
    train(run, synthetic_data)
    assert run.state == "finished"
    run.extend(3)
    launcher.enqueue(run, synthetic_data)
    assert launcher.waiting() == [run]
    train(run, synthetic_data)
    assert run.state == "finished" and list(run.metrics()["epoch"]) == [1, 2, 3]
