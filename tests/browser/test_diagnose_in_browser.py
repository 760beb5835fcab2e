"""A doctor's visit to the Diagnose page, in a real browser."""

import json
import re

import cv2
import numpy as np
import pytest

from dermsa.datasets.synthetic import draw_lesion
from dermsa.inference import store
from dermsa.plots import percent
from dermsa.taxonomy import HAM10000_CLASSES, NAMES, in_sentence
from tests.browser.conftest import settle

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lesion(tmp_path_factory):
    """A drawn melanoma, as a JPEG file on disk."""
    path = tmp_path_factory.mktemp("photos") / "lesion.jpg"
    rgb, _ = draw_lesion("mel", 3, (450, 600))
    path.write_bytes(cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes())
    return path


def upload(page, path) -> None:
    # Streamlit forgets where an upload should go if a run of the page begins within the same
    # hundredth of a second: nobody chooses a file that fast, but a test does.
    settle(page)
    page.locator("input[type=file]").first.set_input_files(path)


def choose(page, label: str, option: str) -> None:
    box = page.get_by_role("combobox", name=re.compile(label))
    # A list closes when the page is scrolled, and a click on what is out of sight scrolls to it
    # and opens the list at once, which no person does.
    box.evaluate("box => box.scrollIntoView({block: 'center'})")
    settle(page)
    box.click()
    page.get_by_role("option", name=option, exact=True).click()


def overlays(page) -> list[str]:
    """Addresses of the pictures shown: they name the content."""
    return [image.get_attribute("src") for image in page.locator("[data-testid=stImage] img").all()]


def spaced(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_doctor_gets_an_explained_answer(page, lesion, tmp_path):
    page.get_by_label("Age in years").fill("62")
    page.keyboard.press("Enter")
    choose(page, "Sex", "Male")
    choose(page, "Site of the lesion", "Back")
    upload(page, lesion)
    page.get_by_text("Cannot be ruled out").wait_for()
    settle(page)
    for note in store.read_card(store.default_model())["notes"]:
        page.get_by_text(note).wait_for()

    # The chart draws its seven numbers, and they are those of the downloaded answer.
    bars = page.locator(".js-plotly-plot").first
    bars.locator(".bartext").nth(len(HAM10000_CLASSES) - 1).wait_for(state="attached")
    shown = sorted(map(spaced, bars.locator(".bartext").all_text_contents()))
    with page.expect_download() as download:
        page.get_by_role("button", name="Result (JSON)").click()
    download.value.save_as(tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    # The file has six decimals; what is zero there is not quite zero.
    expected = [percent(max(p, 1e-9)) for p in result["probabilities"].values()]
    assert shown == sorted(map(spaced, expected))
    assert result["patient"] == {"age": 62, "sex": "male", "localization": "back"}
    assert result["model"] == store.default_model()
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    above = result["malignancy"] >= result["triage"]["threshold"]
    assert result["reliable"] and result["verdict"] == ("refer" if above else "no referral")

    # The slider repaints both overlays, not the photo.
    photo, attention, evidence = overlays(page)
    slider = page.get_by_role("slider", name="Opacity of the overlays")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "was => document.querySelectorAll('[data-testid=stImage] img')[1].src.indexOf(was) < 0",
        arg=attention,
    )
    settle(page)
    assert slider.input_value() == "70"
    assert overlays(page)[0] == photo
    assert overlays(page)[2] != evidence

    # Another diagnosis has other evidence and another sum; the answer stays.
    attention, evidence = overlays(page)[1:]
    other = next(code for code in HAM10000_CLASSES if code != result["diagnosis"])
    choose(page, "Evidence for", NAMES[other])
    page.get_by_text(f"The sum for {NAMES[other]}").wait_for()
    settle(page)
    assert overlays(page)[1] == attention
    assert overlays(page)[2] != evidence

    # So has the comparison of two diagnoses.
    evidence, rival = overlays(page)[2], result["diagnosis"]
    choose(page, "Compared with", NAMES[rival])
    page.get_by_text(f"The sum for {NAMES[other]} against {in_sentence(rival)}").wait_for()
    settle(page)
    assert overlays(page)[2] != evidence

    with page.expect_download() as download:
        page.get_by_role("button", name=f"Evidence for {other} against {rival} (PNG)").click()
    download.value.save_as(tmp_path / "evidence.png")
    picture = cv2.imdecode(np.fromfile(tmp_path / "evidence.png", np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (450, 600, 3)


def test_rubbish_gets_a_sentence_and_a_good_photo_then_an_answer(page, lesion, tmp_path):
    rubbish = tmp_path / "notes.jpg"
    rubbish.write_text("Dear colleague, please see the photo.")
    upload(page, rubbish)
    alert = page.get_by_role("alert").filter(has_text="notes.jpg")
    alert.wait_for()
    assert "not a picture of a known kind" in alert.inner_text()
    assert "Traceback" not in page.content()

    page.get_by_role("button", name="Start over").click()
    page.get_by_text("Add one or more photos").wait_for()
    upload(page, lesion)
    page.get_by_text("Cannot be ruled out").wait_for()
    settle(page)
    assert page.get_by_role("alert").filter(has_text="notes.jpg").count() == 0


def test_nothing_is_cut_off_on_a_tablet(page, lesion):
    page.set_viewport_size({"width": 820, "height": 1180})
    upload(page, lesion)
    page.get_by_text("Cannot be ruled out").wait_for()
    settle(page)
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
    assert cut == []
