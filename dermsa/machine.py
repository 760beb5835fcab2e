"""What this machine computes with, and how TensorFlow is to use it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

TENSORFLOW = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # its start-up chatter hides what matters
    # By itself it takes oneDNN on some makes of processors only. Without, it convolves more
    # slowly, and lacks the gradient of grouped convolutions.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


def prepare_tensorflow() -> None:
    """Sets what TensorFlow reads when it is imported, unless the user has set it."""
    for name, value in TENSORFLOW.items():
        os.environ.setdefault(name, value)


def processor() -> str:
    """The processor's name and its number of cores, as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
