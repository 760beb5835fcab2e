"""How much memory a process has needed, and what becomes of memory that it no longer needs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from pathlib import Path


def peak_memory() -> int:
    """The most that this process has held in memory since it started, in bytes.

    From the kernel's own count where there is one: `getrusage` begins with what the parent held
    when it started this process.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> None:
    """Lets glibc keep what a training step freed for the next step.

    By default it gives every large buffer back to the system and takes it anew, page by page: in
    a MobileNetV3Small training on two cores the kernel then took up to half of the time.
    """
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _ARENA_MAX: 1, _TOP_PAD: 256 * 2**20})


def give_back_freed_memory() -> None:
    """Gives the system the memory back that this process has freed.

    By itself glibc keeps much of it in every thread that ever computed: a server of 12-megapixel
    photos, which answers in ever new threads, held twice the memory.
    """
    if libc := _libc():
        libc.malloc_trim(0)


@contextlib.contextmanager
def collecting_often() -> Iterator[None]:
    """Meanwhile, Python looks for unused objects that refer to each other far more often.

    By itself it looks when many objects have come, however large they are: tf2onnx, which copies
    the whole network for each of its passes, held 10 GB while it converted 85 MB of weights.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what was there before is not looked through each time
    gc.collect()  # Python counts what there is, and waits for a quarter more, from here
    gc.set_threshold(1000, 2, 2)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _set(parameters: dict[int, int]) -> None:
    if libc := _libc():
        for parameter, value in parameters.items():
            libc.mallopt(parameter, value)


def _libc() -> ctypes.CDLL | None:
    """None where this is not Linux with glibc."""
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None
