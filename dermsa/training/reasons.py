"""Why a training failed, in one sentence for people."""

from __future__ import annotations

import errno

from dermsa.training.recorder import Diverged

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def reason(error: BaseException) -> str:
    """The reason as a page shows it, without line breaks; the log has the traceback."""
    if isinstance(error, Diverged):
        return _one_line(str(error))
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            "The disk is full: make room and resume the run, which has everything up to its last "
            "finished epoch."
        )
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} was there when the run began and is gone."
    if isinstance(error, OSError):
        return _one_line(f"A file could not be read or written: {error}")
    if _out_of_memory(error):
        return "The memory was not enough: choose a smaller batch size, input size or network."
    if isinstance(error, ValueError):  # what cannot be, as checked here and in Keras
        return _one_line(str(error))
    return _one_line(f"An unforeseen error, which the log shows in full: {error!r}")


def _out_of_memory(error: BaseException) -> bool:
    name = type(error).__name__
    return isinstance(error, MemoryError) or (
        name == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in str(error)
    )


def _one_line(text: str) -> str:
    """At most 300 characters of it."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:297]}..."
