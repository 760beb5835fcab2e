"""The Compare page with six models in a real browser: opening it, and changing what is shown."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.browser import chromium, open_when_up, settle, starting_app
from benchmarks.common import line
from dermsa.evaluation import record
from dermsa.inference import store

NAMES = tuple(f"Model-{k}" for k in range(1, 7))
VIEWS = ("Confusion", "Diagnoses", "Differences", "Cost", "Groups", "Attention", "Curves")
FILES = (store.CARD, record.EVALUATION, record.PREDICTIONS, record.SAMPLES)


def main() -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        if browser is None:
            return
        cases = _six_models(Path(folder))
        with starting_app(DERMSA_WEIGHTS=folder) as (_, address):
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(60_000)
            open_when_up(page, address)
            page.get_by_text("Photos of one lesion").first.wait_for()
            link = f"{address}/compare?" + "&".join(f"models={name}" for name in NAMES)
            first = _opening(page, link)
            again = statistics.median(_opening(page, link) for _ in range(5))
            changed = [_choosing(page, models) for models in (5, 6, 5, 6)]
            page.keyboard.press("Escape")  # the open list hides the rest of the page
            views = {view: _looking_at(page, view) for view in VIEWS}
    print(f"The Compare page with six models of {cases:,} cases each, in Chromium:")
    line("opened for the first time, server and browser just started", f"{first:.2f} s")
    line("opened again, median of 5", f"{again:.2f} s", "under 2 s")
    line("another choice of models, the slowest of 4", f"{max(changed):.2f} s", "under 1 s")
    for view, seconds in views.items():
        line(f"from view to view: {view}", f"{seconds:.2f} s", "under 1 s")


def _six_models(folder: Path) -> int:
    """The evaluations that ship, under six names; returns the number of cases of each."""
    sources = [one.folder for one in record.sources() if one.kind == "model" and not one.problem]
    for k, name in enumerate(NAMES):
        source = sources[k % len(sources)]
        (folder / name).mkdir()
        for file in FILES:
            shutil.copy(source / file, folder / name / file)
        path = folder / name / record.EVALUATION
        about = json.loads(path.read_text(encoding="utf-8")) | {"model": name}
        path.write_text(json.dumps(about), encoding="utf-8")
    return about["images"]


def _opening(page, link: str) -> float:
    started = time.perf_counter()
    page.goto(link)
    _drawn(page, "curves", len(NAMES))
    return time.perf_counter() - started


def _choosing(page, models: int) -> float:
    """Takes away the last model that is chosen, or brings it back, until the curves follow."""
    box = page.get_by_role("combobox", name="Models and runs")
    box.click()
    if models < len(NAMES):
        started = time.perf_counter()
        box.press("Backspace")
    else:
        box.fill(NAMES[-1])
        option = page.get_by_role("option", name=NAMES[-1])
        option.wait_for()
        started = time.perf_counter()
        option.click()
    _drawn(page, "curves", models)
    return time.perf_counter() - started


def _looking_at(page, view: str) -> float:
    started = time.perf_counter()
    page.get_by_role("radio", name=view, exact=True).click()
    _drawn(page, view.lower())
    return time.perf_counter() - started


def _drawn(page, figure: str, models: int | None = None) -> None:
    """Waits until a figure is there, with so many models, and the server has sent everything."""
    page.locator(f".st-key-figure-{figure} .main-svg").first.wait_for(state="attached")
    if models is not None:
        page.wait_for_function(
            "([figure, models]) => models === document.querySelectorAll("
            "`.st-key-figure-${figure} .legendtext`).length",
            arg=[figure, models],
        )
    settle(page)


main()
