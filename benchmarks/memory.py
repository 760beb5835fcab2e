"""Resident memory of a process that serves the page's libraries through 50 diagnoses."""

from __future__ import annotations

import psutil
import streamlit  # noqa: F401  what the serving process holds besides the model
import streamlit.web.bootstrap  # noqa: F401

import dermsa.plots  # noqa: F401
from benchmarks.common import jpeg, line
from dermsa.inference.ensemble import open_predictor
from dermsa.patient import Patient


def main() -> None:
    process = psutil.Process()
    predictor = open_predictor()
    photos = [jpeg(4000, 3000, seed=seed) for seed in range(5)]
    resident = []
    for turn in range(50):
        predictor.diagnose([photos[turn % 5]], Patient(40, "male", "face"))
        resident.append(process.memory_info().rss / 2**20)
    print(f"Memory over 50 diagnoses of 12-megapixel JPEGs by {predictor.model.name}:")
    line("resident after the first", f"{resident[0]:.0f} MB")
    line("resident after 10", f"{resident[9]:.0f} MB")
    line("resident after 50", f"{resident[-1]:.0f} MB", "at most 600 MB, and flat")


main()
