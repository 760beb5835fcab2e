"""From starting the server to the first answer in a real browser, and its memory over 50 more."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.common import jpeg, line

TURNS = 80


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("The page was not measured: install Debian's chromium.")
        return
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photos = [Path(folder, f"lesion_{seed}.jpg") for seed in range(5)]
        for seed, photo in enumerate(photos):
            photo.write_bytes(jpeg(4000, 3000, seed=seed))
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking"],
        )
        page = browser.new_page()
        started = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py"]
            + ["--server.port", str(port), "--server.headless", "true"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _open(page, f"http://127.0.0.1:{port}")
            _answer(page, photos[0], wait_for_gone=None)
            first = time.perf_counter() - started
            process = psutil.Process(server.pid)
            resident = [process.memory_info().rss / 2**20]
            for turn in range(1, TURNS + 1):
                photo = photos[turn % len(photos)]
                _answer(page, photo, wait_for_gone=photos[(turn - 1) % len(photos)].name)
                resident.append(process.memory_info().rss / 2**20)
        finally:
            server.terminate()
            server.wait()
            browser.close()
    print("The page, in Chromium:")
    line("from starting the server to the first answer", f"{first:.1f} s", "at most 6 s")
    for turn in range(10, TURNS, 10):
        line(f"resident memory of the server after {turn} more answers", f"{resident[turn]:.0f} MB")
    line(
        f"resident memory of the server after {TURNS} more answers",
        f"{resident[-1]:.0f} MB",
        "at most 600 MB, and flat",
    )


def _open(page, address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            page.goto(address)
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _answer(page, photo: Path, wait_for_gone: str | None) -> None:
    if wait_for_gone:
        page.get_by_role("button", name="Start over").click()
        page.get_by_text("Probability that the lesion is malignant").wait_for(state="detached")
    page.locator("input[type=file]").first.set_input_files(str(photo), timeout=60_000)
    page.get_by_text("Probability that the lesion is malignant").wait_for(timeout=60_000)


main()
