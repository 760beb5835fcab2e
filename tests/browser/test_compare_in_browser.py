"""A researcher's visit to the Compare page, in a real browser."""

import csv
import io
import re

import cv2
import pytest
from playwright.sync_api import expect

from dermsa.datasets.synthetic import draw_lesion
from tests.browser.conftest import running_app, settle
from tests.drawn_weights import GOOD, POOR, write_weights

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def compare_address(browser, tmp_path_factory, synthetic_data, synthetic_dataset):
    """A server with two measured models, whose cases are the drawn photos."""
    weights = tmp_path_factory.mktemp("weights")
    write_weights(weights, synthetic_dataset.table["image_id"].to_list())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_WEIGHTS", str(weights))
        patch.setenv("DERMSA_DATA", str(synthetic_data))
        with running_app(tmp_path_factory.mktemp("server")) as address:
            yield f"{address}/compare"


@pytest.fixture
def compare_page(browser, compare_address):
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    page.set_default_timeout(90_000)
    page.goto(f"{compare_address}?models={GOOD}")
    page.get_by_text("Found among all others").wait_for()
    yield page
    page.close()


def look_at(page, view: str) -> None:
    page.get_by_role("radio", name=view, exact=True).click()


def choose_model(page, name: str) -> None:
    page.get_by_role("combobox", name="Models and runs").fill(name)
    page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")  # the open list hides the rest of the page from readers
    page.get_by_role("columnheader", name=name).first.wait_for()


def download(page, name: str) -> str:
    with page.expect_download() as started:
        page.get_by_role("button", name=name).click()
    return started.value.path().read_text(encoding="utf-8")


def save_figure(page, figure: str) -> tuple[str, bytes]:
    """Name and content of the file that the camera of a figure gives."""
    camera = page.locator(f".st-key-figure-{figure} .modebar-btn")
    expect(camera).to_have_count(1, timeout=30_000)  # a figure drawn anew has two for a moment
    with page.expect_download() as started:
        camera.click()
    return started.value.suggested_filename, started.value.path().read_bytes()


def test_a_researcher_compares_two_models(compare_page, tmp_path):
    page = compare_page
    # The link was the first thing that this server was asked for, and has its frame all the same.
    page.get_by_text("not a medical device").wait_for()
    page.locator(".js-plotly-plot .scatterlayer").first.wait_for(state="attached")
    choose_model(page, POOR)
    settle(page)

    # Figures are saved as drawings or as pictures.
    name, drawing = save_figure(page, "curves")
    assert name == "dermsa-curves.svg" and drawing.startswith(b"<svg")
    assert GOOD.encode() in drawing and POOR.encode() in drawing
    page.get_by_role("radio", name="PNG").click()
    settle(page)
    name, picture = save_figure(page, "curves")
    assert name == "dermsa-curves.png" and picture.startswith(b"\x89PNG")

    # A case opens to its photo and the maps of both models.
    look_at(page, "Cases")
    page.get_by_role("button", name=re.compile("^Open SYN_")).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("little attention").wait_for()
    expect(dialog.locator("[data-testid=stImage] img")).to_have_count(5)
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")

    # One photo goes through both.
    rgb, _ = draw_lesion("mel", 3, (300, 400))
    photo = tmp_path / "lesion.jpg"
    photo.write_bytes(cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes())
    look_at(page, "One photo")
    settle(page)
    page.locator("input[type=file]").set_input_files(photo)
    page.get_by_text("little attention").wait_for()
    settle(page)
    times = page.get_by_role("cell", name=re.compile(r"^\d+ ms$"))
    expect(times).to_have_count(2)

    # What is downloaded stands alone, and says the same as the page.
    report = download(page, "Report (HTML)")
    assert f"{GOOD} against {POOR}" in report and "Plotly.newPlot" in report
    rows = list(csv.DictReader(io.StringIO(download(page, "All figures (CSV)"))))
    assert {row["model"] for row in rows} == {GOOD, POOR}
    value = next(row["value"] for row in rows if row["metric"] == "macro_recall")
    page.get_by_role("cell", name=re.compile(f"{float(value):.3f}")).first.wait_for()

    # The address has all of it for a colleague.
    for part in (f"models={GOOD}", f"models={POOR}", "view=One"):
        assert part in page.url


def test_nothing_is_cut_off_on_a_tablet(compare_page):
    page = compare_page
    choose_model(page, POOR)
    page.set_viewport_size({"width": 820, "height": 1180})
    for view in ("Curves", "Diagnoses", "Differences", "Cost", "Groups", "Attention"):
        look_at(page, view)
        settle(page)
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        page.wait_for_timeout(1000)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        cut = page.evaluate(
            """[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
                const frame = plot.getBoundingClientRect();
                return [...plot.querySelectorAll('text')].filter(text => {
                    const box = text.getBoundingClientRect();
                    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1
                        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
                }).map(text => text.textContent);
            })"""
        )
        assert cut == [], view
