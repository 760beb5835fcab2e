"""Pictures and clocks for the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import cv2

from dermsa.datasets.synthetic import draw_lesion


def jpeg(width: int, height: int, code: str = "nv", seed: int = 0) -> bytes:
    """A drawn lesion as a JPEG of the given size."""
    rgb, _ = draw_lesion(code, seed)
    rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def in_turns(functions: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Median milliseconds of each function; they run in turns, after two rounds of warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(times + 2):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if turn >= 2:
                taken[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in taken.items()}


def line(what: str, value: str, target: str = "") -> None:
    print(f"  {what:<58} {value:>14}{'   target: ' + target if target else ''}", flush=True)
