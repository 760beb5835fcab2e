"""Draws docs/screenshot.png from the real page: `python -m tests.browser.screenshot`."""

import tempfile
from pathlib import Path

from tests.browser.conftest import ROOT, chromium, running_app

SAMPLE = "Melanoma (drawing)"
SIZE = {"width": 1400, "height": 1250}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium() as browser,
        running_app(Path(folder)) as address,
    ):
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        page.get_by_text("Sample", exact=True).click()
        page.get_by_role("combobox", name="Sample lesion").fill(SAMPLE)
        page.get_by_role("option", name=SAMPLE).click()
        page.get_by_text("The model", exact=True).wait_for(timeout=60_000)
        page.locator(".js-plotly-plot").nth(5).wait_for(timeout=60_000)
        page.wait_for_timeout(3000)  # figures grow into their place
        page.mouse.move(0, SIZE["height"] - 1)
        page.screenshot(path=ROOT / "docs" / "screenshot.png")


if __name__ == "__main__":
    main()
