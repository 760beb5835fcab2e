"""Measures speed and memory and prints them beside their baselines and targets.

Every ratio compares two things measured in the same run, in turns, so that a noisy machine
slows both. Each part runs in its own process, so that none pays for another's memory.

    python -m benchmarks                 everything
    python -m benchmarks diagnosis       one part; names are in PARTS
"""

from __future__ import annotations

import os
import subprocess
import sys

from dermsa.machine import TENSORFLOW

PARTS = {
    "diagnosis": "benchmarks.diagnosis",
    "memory": "benchmarks.memory",
    "batch": "benchmarks.batch",
    "page": "benchmarks.page",
    "compare": "benchmarks.compare_page",
    "evaluation": "benchmarks.evaluation",
    "models": "benchmarks.models",
    "training": "benchmarks.training",
    "backbones": "benchmarks.backbones",
}


def main() -> int:
    chosen = sys.argv[1:] or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}. There are: {', '.join(PARTS)}.")
        return 2
    environment = {**TENSORFLOW, **os.environ}
    failed = [
        name
        for name in chosen
        if subprocess.run([sys.executable, "-m", PARTS[name]], env=environment).returncode
    ]
    if failed:
        print(f"Could not be measured: {', '.join(failed)}.")
    return bool(failed)


sys.exit(main())
