"""From starting the server to the first answer in a real browser, and its memory over 50 more."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.browser import chromium, open_when_up, settle, starting_app
from benchmarks.common import jpeg, line

TURNS = 80


def main() -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        if browser is None:
            return
        photos = [Path(folder, f"lesion_{seed}.jpg") for seed in range(5)]
        for seed, photo in enumerate(photos):
            photo.write_bytes(jpeg(4000, 3000, seed=seed))
        page = browser.new_page()
        started = time.perf_counter()
        with starting_app() as (server, address):
            open_when_up(page, address)
            _answer(page, photos[0], wait_for_gone=None)
            first = time.perf_counter() - started
            process = psutil.Process(server.pid)
            resident = [process.memory_info().rss / 2**20]
            for turn in range(1, TURNS + 1):
                photo = photos[turn % len(photos)]
                _answer(page, photo, wait_for_gone=photos[(turn - 1) % len(photos)].name)
                resident.append(process.memory_info().rss / 2**20)
    print("The page, in Chromium:")
    line("from starting the server to the first answer", f"{first:.1f} s", "at most 6 s")
    for turn in range(10, TURNS, 10):
        line(f"resident memory of the server after {turn} more answers", f"{resident[turn]:.0f} MB")
    line(
        f"resident memory of the server after {TURNS} more answers",
        f"{resident[-1]:.0f} MB",
        "at most 600 MB, and flat",
    )


def _answer(page, photo: Path, wait_for_gone: str | None) -> None:
    if wait_for_gone:
        page.get_by_role("button", name="Start over").click()
        page.get_by_text("Probability that the lesion is malignant").wait_for(state="detached")
    upload = page.locator("input[type=file]").first
    upload.wait_for(state="attached", timeout=60_000)
    settle(page)
    upload.set_input_files(str(photo))
    page.get_by_text("Probability that the lesion is malignant").wait_for(timeout=60_000)


main()
