"""The app in a real browser, for the benchmarks of its pages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def chromium() -> Iterator:
    """A browser, or None after saying that there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        print("The page was not measured: install Debian's chromium.")
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@contextmanager
def starting_app(**environment: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The server, which is not up yet, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py"]
        + ["--server.port", str(port), "--server.headless", "true"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def open_when_up(page, address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            page.goto(address)
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def settle(page) -> None:
    """Waits for the end of the run that draws the page.

    Streamlit forgets where an upload should go if such a run begins within the same hundredth of
    a second: nobody chooses a file that fast, but a benchmark does.
    """
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
