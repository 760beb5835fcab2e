"""`python -m dermsa evaluate` on 1,500 pictures: every metric with its bootstrap interval."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import jpeg, line
from dermsa.evaluation.statistics import SAMPLES
from dermsa.inference import store

PICTURES = 1500
DRAWINGS = 70


def main() -> None:
    classes = store.read_card(store.default_model())["classes"]
    drawn = [
        (code, jpeg(600, 450, code, seed=k))
        for k in range(DRAWINGS // len(classes))
        for code in classes
    ]
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder, "truth.csv")
        rows = ["image_id,dx,lesion_id"]
        for k in range(PICTURES):
            code, content = drawn[k % len(drawn)]
            Path(folder, f"picture_{k:04}.jpg").write_bytes(content)
            rows.append(f"picture_{k:04},{code},lesion_{k * 3 // 4}_{code}")
        truth.write_text("\n".join(rows), encoding="utf-8")
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "dermsa", "evaluate", "--images", folder]
            + ["--truth", str(truth), "--json"],
            check=True,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
    figures = json.loads(done.stdout)
    number = len(figures["overall"]) + sum(map(len, figures["per_class"].values()))
    print(
        f"{PICTURES:,} pictures of 600 x 450 by {store.default_model()}, {number} figures with "
        f"intervals from {SAMPLES:,} bootstrap samples, on {os.cpu_count()} cores:"
    )
    line("python -m dermsa evaluate", f"{seconds:.0f} s", "at most 120 s on two cores")


main()
