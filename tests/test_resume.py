"""A training that is stopped or killed goes on as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny import config_of

import dermsa
from dermsa.training import checkpoint
from dermsa.training.checkpoint import Position
from dermsa.training.recorder import Recorder
from dermsa.training.runs import create_run
from dermsa.training.trainer import train

pytestmark = pytest.mark.usefixtures("tiny_backbone")

STEPS = 4  # of an epoch
# Everything that has a state of its own: what accumulates crosses the border between epochs.
METHODS = {
    "average_decay": 0.9,
    "accumulate": 3,
    "layer_decay": 0.8,
    "head_epochs": 2,
    "early_stopping": 50,
    "mixup": 0.4,
}


def assert_same(run, unbroken):
    """Metrics, best weights and full state agree."""
    assert run.state == unbroken.state == "finished"
    expected = unbroken.metrics().drop(columns="seconds")
    np.testing.assert_allclose(run.metrics()[expected.columns], expected, atol=1e-6)
    for path in ("checkpoint/state.npz", "best.weights.h5"):
        mine, theirs = arrays(run.folder / path), arrays(unbroken.folder / path)
        assert set(mine) == set(theirs)
        for name, values in theirs.items():
            np.testing.assert_allclose(mine[name], values, atol=1e-5, err_msg=f"{path} {name}")
    assert not list(run.folder.rglob("*partial*"))


def arrays(path):
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]} if hasattr(item, "shape") else {})
        )
    return found


# --- in this process --------------------------------------------------------------------------


def stopping_at(patch, *places):
    """Lets trainings stop after these (epoch, step), each once; they go on when trained again."""
    follow, left = Recorder.on_train_batch_end, list(places)

    def follow_and_stop(self, batch, logs=None):
        follow(self, batch, logs)
        place = (self.position.epoch, self.position.step)
        if place in left:
            left.remove(place)
            self.stop.asked = self.trained.stop_training = True

    patch.setattr(Recorder, "on_train_batch_end", follow_and_stop)


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        # The first stop loses nothing of its epoch, the second only lacks the validation after
        # the last epoch of the head alone, the third has seen the whole network for a step.
        (METHODS | {"epochs": 4}, [(0, 2), (1, STEPS), (2, 1)]),
        # A best loss forgotten at the stop would spare the run the lower rates that are due.
        (
            {
                "epochs": 6,
                "schedule": "plateau",
                "plateau_patience": 1,
                "optimizer": "adam",
                "epsilon": 0.1,
                "learning_rate": 0.3,
                "monitor": "loss",
                "loss": "focal",
                "sampling": "balanced",
                "augmentation": "sensors2022",
            },
            [(2, 3)],
        ),
    ],
    ids=["methods", "plateau"],
)
def test_a_run_stopped_between_two_steps_goes_on(settings, places, synthetic_data, monkeypatch):
    unbroken, halting = create_run(config_of(**settings)), create_run(config_of(**settings))
    train(unbroken, synthetic_data)
    assert unbroken.metrics()["learning_rate"].nunique() > 1
    stopping_at(monkeypatch, *places)
    for epoch, step in places:
        train(halting, synthetic_data)
        assert halting.state == "stopped"
        stands = checkpoint.position(halting.checkpoint)
        assert (stands.epoch, stands.step) == (epoch, step)
    train(halting, synthetic_data)
    assert_same(halting, unbroken)


# --- in processes of their own ----------------------------------------------------------------


class Trainings:
    """Trainings of the tiny network, each in a process; see `tests/tiny.py`."""

    def __init__(self, process, data):
        self.process, self.data = process, data

    def start(self, run, writes=0):
        """Starts one; it kills itself at the given write to the disk.

        Returns:
            Its process id.
        """
        self.process.stdin.write(f"{run.folder} {self.data} {writes}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self):
        """Waits for it; the signal that ended it, or 0."""
        return os.WTERMSIG(int(self.process.stdout.readline()))


@pytest.fixture(scope="module")
def trainings(synthetic_data, tmp_path_factory):
    errors = tmp_path_factory.mktemp("trainings") / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, Path(__file__).with_name("tiny.py")],
            env=os.environ | {"PYTHONPATH": str(Path(dermsa.__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout.readline() == "ready\n", errors.read_text()
        yield Trainings(process, synthetic_data)
        process.stdin.close()


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in three minutes"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def unbroken(trainings):
    run = create_run(config_of(**METHODS, epochs=16), "unbroken")
    trainings.start(run)
    assert trainings.end() == 0
    return run


def test_ten_kills_lose_at_most_an_epoch_each(trainings, unbroken):
    run = create_run(unbroken.config(), "killed")
    dice = random.Random(0)
    for kill in range(10):
        before = run.metrics()
        if kill % 2:  # just before some file would have been replaced
            trainings.start(run, writes=dice.randint(1, 14))
        else:
            epochs = len(before) + dice.randint(0, 1)
            process = trainings.start(run)
            wait_for(lambda: run.state == "running" and len(run.metrics()) >= epochs)  # noqa: B023
            time.sleep(dice.uniform(0, 0.2))
            os.kill(process, signal.SIGKILL)
        assert trainings.end() == signal.SIGKILL
        assert run.state == "lost"
        assert len(run.metrics()) >= len(before)
        if run.checkpoint.exists():
            assert checkpoint.position(run.checkpoint).epoch >= len(run.metrics()) - 1
    trainings.start(run)
    assert trainings.end() == 0
    assert_same(run, unbroken)


def test_a_signal_stops_a_run_while_it_prepares_and_while_it_trains(trainings, unbroken):
    run = create_run(unbroken.config(), "stopped")
    process = trainings.start(run)
    wait_for(lambda: run.status().get("doing"))
    os.kill(process, signal.SIGTERM)
    assert trainings.end() == 0
    assert run.state == "stopped" and not run.checkpoint.exists()
    process = trainings.start(run)
    wait_for(lambda: len(run.metrics()) >= 1)
    os.kill(process, signal.SIGINT)
    assert trainings.end() == 0
    assert run.state == "stopped"
    assert checkpoint.position(run.checkpoint) != Position()
    trainings.start(run)
    assert trainings.end() == 0
    assert_same(run, unbroken)
