"""SIGTERM and SIGINT as the wish that a training stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


class Stopped(BaseException):
    """A training was asked to stop, and did. No error: `except Exception` lets it pass."""


class Stop:
    """Whether somebody asked for a stop.

    Attributes:
        asked: Somebody did.
        gently: The training looks at `asked` itself, between two batches. Until it does, a
            signal raises `Stopped` wherever the program is: nothing would be lost.
    """

    def __init__(self, announce: Callable[[], None]):
        self.asked = False
        self.gently = False
        self._announce = announce

    def __call__(self, *_) -> None:
        self.asked = True
        with contextlib.suppress(OSError):  # a full disk must not turn a stop into a failure
            self._announce()
        if not self.gently:
            raise Stopped


@contextlib.contextmanager
def on_signals(announce: Callable[[], None]) -> Iterator[Stop]:
    """Takes SIGTERM and SIGINT as a wish to stop within the block, and gives them back after it.

    Args:
        announce: Called when a signal arrives.
    """
    stop, previous = Stop(announce), {}
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            previous[number] = signal.signal(number, stop)
        except ValueError:  # not in the main thread: whoever runs it stops it
            break
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
