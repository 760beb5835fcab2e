"""Draws the pictures of docs/, the real page and the curves of the default models in weights/:

python -m tests.browser.screenshot
"""

import tempfile
from pathlib import Path

from dermsa.inference import store
from dermsa.plots_training import training_curves
from dermsa.training import shipped
from tests.browser.conftest import ROOT, chromium, running_app

SAMPLE = "Melanoma (drawing)"
SIZE = {"width": 1400, "height": 1250}
CURVES = {"width": 1200, "height": 640}


def draw_page(browser) -> None:
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as address:
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


def default_networks() -> list[str]:
    """What was trained for the models that answer by default, but for networks of later folds,
    whose curves would hide the others."""
    names = [shipped.PREFIX + store.named(role) for role in store.ROLES]
    trained = {each.model for name in names for each in shipped.members(name)}
    return sorted(name for name in trained if not store.read_card(name)["protocol"].get("fold"))


def draw_curves(browser) -> None:
    metrics = {
        name: shipped.training(shipped.PREFIX + name).curves() for name in default_networks()
    }
    figure = training_curves(metrics).update_layout(
        width=CURVES["width"] - 20,
        height=CURVES["height"] - 20,
        margin={"t": 50, "r": 20},
        template="plotly_white",
    )
    page = browser.new_page(viewport=CURVES)
    page.set_content(figure.to_html(config={"displayModeBar": False}))
    page.locator(".js-plotly-plot .legend").first.wait_for(timeout=60_000)
    page.screenshot(path=ROOT / "docs" / "curves.png")


def main() -> None:
    with chromium() as browser:
        draw_page(browser)
        draw_curves(browser)


if __name__ == "__main__":
    main()
