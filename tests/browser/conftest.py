"""The running app and a real Chromium that looks at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from dermsa.inference import store

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 60
SETTLE_POLLS = 1200  # of a tenth of a second
STALE = "[data-stale=true]"


@contextmanager
def running_app(folder: Path):
    """Starts the server on a free port; gives its address; stops it. Its log goes to `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"],
            cwd=ROOT,
            env={**os.environ, "STREAMLIT_SERVER_HEADLESS": "true"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address_when_up(server, port, folder / "server.log")
    finally:
        server.terminate()
        server.wait(timeout=30)


def _address_when_up(server: subprocess.Popen, port: int, log: Path) -> str:
    address = f"http://localhost:{port}"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            return address
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"The server did not start:\n{log.read_text(errors='replace')}")


@contextmanager
def chromium():
    """A browser, or a skipped test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


def settle(page) -> None:
    """Waits until the page has drawn all that the server sends and has dropped what it replaced.

    A rerun begins a moment after a click, and what it replaces stays on the page until it ends: so
    the page has to be quiet for half a second.
    """
    quiet = 0
    for _ in range(SETTLE_POLLS):
        state = page.get_by_test_id("stApp").get_attribute("data-test-script-state")
        quiet = quiet + 1 if state == "notRunning" and not page.locator(STALE).count() else 0
        if quiet == 5:
            return
        page.wait_for_timeout(100)
    raise AssertionError("the page does not come to rest")


@pytest.fixture(scope="session")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def address(browser, tmp_path_factory):
    if not store.model_names():
        pytest.skip("there is no model in weights/")
    with running_app(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def page(browser, address):
    """The Diagnose page as it is when just opened, at desktop width."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    page.set_default_timeout(60_000)
    page.goto(address)
    page.get_by_text("Add one or more photos").wait_for()
    yield page
    page.close()
