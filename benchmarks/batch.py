"""`python -m dermsa predict` on 1,000 pictures, against one diagnosis after the other."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import jpeg, line
from dermsa.inference import store
from dermsa.inference.ensemble import open_predictor

PICTURES = 1000
ONE_BY_ONE = 100


def main() -> None:
    name = next(
        (name for name in store.model_names() if "MobileNetV3Small" in name),
        store.default_model(),
    )
    pictures = [jpeg(600, 450, seed=seed) for seed in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        for k in range(PICTURES):
            Path(folder, f"picture_{k:04}.jpg").write_bytes(pictures[k % len(pictures)])
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "dermsa", "predict", folder, "--model", name]
            + ["--out", f"{folder}/answers.csv"],
            check=True,
            capture_output=True,
        )
        rate = PICTURES / (time.perf_counter() - started)
    predictor = open_predictor(name)
    started = time.perf_counter()
    for k in range(ONE_BY_ONE):
        predictor.diagnose([pictures[k % len(pictures)]])
    one_by_one = ONE_BY_ONE / (time.perf_counter() - started)
    print(f"{PICTURES} pictures of 600 x 450 by {name}, start of the program included:")
    line("python -m dermsa predict", f"{rate:.0f} images/s", "at least 30 images/s")
    line("one explained diagnosis after the other", f"{one_by_one:.0f} images/s")
    line("ratio", f"{rate / one_by_one:.1f} x")


main()
