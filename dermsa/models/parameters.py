"""The table of what can be built and how large it is, as `catalogue` wrote it; takes no Keras."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

TABLE = Path(__file__).with_name("parameters.csv")


@functools.cache
def kept() -> dict[str, dict[tuple[str, str], tuple[int, int]]]:
    """The table: what `count` gave, by backbone."""
    counts: dict = {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        for backbone, cut, head, *sizes in list(csv.reader(file))[1:]:
            counts.setdefault(backbone, {})[cut, head] = tuple(map(int, sizes))
    return counts
