"""What can train on this machine: the CPU, one of its GPUs, or all GPUs together, each for one run
at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from dermsa.files import runs_folder

if TYPE_CHECKING:
    from dermsa.training.runs import Run

ALL = "all"  # GPUs, as one device
LOCKS = ".locks"
GLANCE_SECONDS = 0.5  # a runner that asks whether a device is free has it for a moment


class DeviceError(ValueError):
    """A device that is not there, or that trains another run."""


def devices() -> tuple[str, ...]:
    """Names of all devices: `gpu:0`, `gpu:1` and so on for NVIDIA's, and `cpu`.

    Of the GPUs those that CUDA_VISIBLE_DEVICES leaves to this process, where it is set (a shared
    machine's scheduler does), under the numbers that `nvidia-smi` gives them; its numbers are
    read as these, which CUDA counts too where CUDA_DEVICE_ORDER is PCI_BUS_ID. A part of a GPU
    (MIG) is none of them.
    """
    return (*(f"gpu:{i}" for i in _left_to_us(_gpus())), "cpu")


def _gpus() -> tuple[str, ...]:
    """The UUIDs of NVIDIA's GPUs, in the order of their numbers."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return tuple(pynvml.nvmlDeviceGetUUID(handle) for handle in handles)
    except pynvml.NVMLError:  # no driver
        return ()


def _left_to_us(uuids: tuple[str, ...]) -> list[int]:
    """Numbers of the GPUs that CUDA_VISIBLE_DEVICES names, by number or by how a UUID begins.

    As CUDA reads it: what follows a name that fits no GPU counts for nothing.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return list(range(len(uuids)))
    found = []
    for name in (part.strip() for part in named.split(",")):
        fits = [
            number
            for number, uuid in enumerate(uuids)
            if name == str(number) or (name.startswith("GPU-") and uuid.startswith(name))
        ]
        if len(fits) != 1:
            break
        found += fits
    return sorted(set(found))


def resolve(wanted: str, waiting: Mapping[str, int] = {}) -> str:
    """The device that a configuration names.

    Args:
        wanted: "auto", "cpu", "gpu:0" and so on, or "all".
        waiting: Runs that each device has to do already.

    Raises:
        DeviceError: There is no such device on this machine.
    """
    there = devices()
    if wanted == "auto":
        return min([*there[:-1]] or there, key=lambda device: waiting.get(device, 0))
    if wanted == ALL:
        return ALL if len(there) > 2 else there[0]
    if wanted not in there:
        raise DeviceError(
            f"There is no device {wanted!r} on this machine. Expected auto, all or one of: "
            f"{', '.join(there)}."
        )
    return wanted


def of_run(run: Run) -> str:
    """The device of a run that is about to train: the queue's choice, else its configuration's.

    Raises:
        DeviceError: It is not on this machine.
    """
    status = run.status()
    launched = status["state"] == "preparing"
    # Not of `run.config()`, which imports Keras.
    return status["device"] if launched else resolve(run.about()["config"].get("device", "auto"))


def environment(device: str) -> dict[str, str]:
    """Environment variables that let a process see this device alone; set before Keras is
    imported, whose backends look once."""
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    numbers = ",".join(d.removeprefix("gpu:") for d in members(device))
    # CUDA counts the fastest card first, NVIDIA's driver by their slots, unless told to.
    return {"CUDA_VISIBLE_DEVICES": numbers, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def check_seen(device: str) -> None:
    """Whether Keras computes on the GPU that a run was given: without CUDA's libraries it would
    quietly take the CPU.

    Raises:
        DeviceError: It does not.
    """
    import keras

    backend = keras.backend.backend()
    if device != "cpu" and not GPUS_OF[backend]():
        raise DeviceError(
            f"This machine has the device {device}, but Keras's backend {backend} sees no GPU: it "
            f"was installed without CUDA. Install it anew ({WITH_CUDA[backend]}), or train on the "
            "processor (--device cpu)."
        )


def _of_tensorflow() -> int:
    import tensorflow

    return len(tensorflow.config.list_physical_devices("GPU"))


def _of_jax() -> int:
    import jax

    return sum(device.platform == "gpu" for device in jax.devices())


def _of_torch() -> int:
    import torch

    return torch.cuda.device_count()


GPUS_OF = {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}
WITH_CUDA = {
    "tensorflow": "pip install 'tensorflow[and-cuda]'",
    "jax": "pip install 'jax[cuda12]'",
    "torch": "see pytorch.org",
}


def members(device: str) -> tuple[str, ...]:
    """The devices that one stands for: itself, or every GPU."""
    return devices()[:-1] if device == ALL else (device,)


@contextmanager
def held(device: str, wait: bool = False) -> Iterator[None]:
    """Keeps a device for this process, until the block or the process ends, however it ends.

    Args:
        device: One of `devices()`, or "all".
        wait: Until it is free.

    Raises:
        DeviceError: Another process has it.
    """
    with ExitStack() as locks:
        try:
            for member in members(device):
                locks.enter_context(lock_of(member).acquire(timeout=-1 if wait else GLANCE_SECONDS))
        except Timeout:
            raise DeviceError(
                f"The device {device} is busy with another run. Wait for its end, or let this run "
                "wait in the queue: train --detach."
            ) from None
        yield


def is_free(device: str) -> bool:
    """Whether no process has the device now."""
    try:
        with ExitStack() as locks:
            for member in members(device):
                locks.enter_context(lock_of(member).acquire(timeout=0))
    except Timeout:
        return False
    return True


def lock_of(name: str) -> FileLock:
    """The file lock of a device, or of another name, among those who share the runs folder.

    The system gives it back when its process ends, even by `kill -9`.
    """
    folder = runs_folder() / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(Path(folder, re.sub(r"[^a-z0-9]+", "-", name) + ".lock"))
