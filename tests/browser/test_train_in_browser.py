"""A researcher's evening at the Train page, in a real browser: start, watch, stop, resume, export,
and diagnose with the model that came of it. The server dies in between; the training does not."""

import re

import pytest
from playwright.sync_api import expect

from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import launcher, runs
from dermsa.training.config import TrainingConfig
from tests.browser.conftest import running_app, settle

pytestmark = pytest.mark.browser
PATIENCE = 240_000  # milliseconds; a training imports TensorFlow first


@pytest.fixture(scope="module", autouse=True)
def own_folders(tmp_path_factory, synthetic_data):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DERMSA_RUNS", "DERMSA_WEIGHTS"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("DERMSA_DATA", str(synthetic_data))
        yield
        for run in runs.all_runs():
            if run.state in launcher.BUSY:
                launcher.stop(run, at_once=True)


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=30_000)
    yield page
    page.close()


def fill(page, label, value):
    page.get_by_label(label, exact=True).fill(str(value))
    page.keyboard.press("Enter")
    settle(page)


def choose(page, label, value):
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=value, exact=True).click()
    settle(page)


def press(page, name):
    # The icon's name stands before the label; outside the page Streamlit has a Stop of its own.
    page.get_by_test_id("stMain").get_by_role(
        "button", name=re.compile(rf"(^|\s){name}$")
    ).first.click()


def test_a_training_from_the_form_to_a_diagnosis(page, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with running_app(tmp_path / "one") as address:
        page.goto(f"{address}/train")
        page.get_by_text("Nothing has been trained here yet").wait_for()
        page.get_by_role("radio", name="New training").click()
        page.get_by_text("Starting weights").click()
        fill(page, "Title", "Evening")
        fill(page, "Input size", 32)
        fill(page, "Epochs", 400)
        choose(page, "Initial weights", "none")
        press(page, "Start")
        page.get_by_role("heading", name="Evening").wait_for()
        page.locator(".js-plotly-plot").first.wait_for()  # the first epoch is done
        run = runs.all_runs()[0]
        assert run.state == "running"
        seen = len(run.metrics())
    # The server is gone.
    with running_app(tmp_path / "two") as address:
        page.goto(f"{address}/train?run={run.id}")
        page.get_by_text(re.compile(r"of 400 epochs")).wait_for()
        assert run.state == "running" and len(run.metrics()) > seen
        press(page, "Stop")
        page.get_by_text("was stopped; can be resumed").wait_for()
        assert run.state == "stopped"
        stopped_at = len(run.metrics())
        press(page, "Resume")
        page.get_by_text(re.compile(r"of 400 epochs")).wait_for()
        while len(run.metrics()) <= stopped_at:
            page.wait_for_timeout(200)
        press(page, "Stop")
        page.get_by_text("was stopped; can be resumed").wait_for()
        settle(page)
        page.get_by_test_id("stPopover").filter(has_text="Export").get_by_role("button").click()
        fill(page, "Name", "evening-model")
        page.get_by_test_id("stPopoverBody").get_by_role("button", name="Export").click()
        page.get_by_text("Diagnose and Compare have it").wait_for()
        page.goto(address)
        page.get_by_text("Sample", exact=True).click()
        page.get_by_role("combobox", name="Sample lesion").click()
        page.get_by_role("option").first.click()
        page.get_by_text("Probability that the lesion is malignant").first.wait_for()
        page.get_by_text("evening-model").first.wait_for()


def test_runs_are_cloned_and_deleted_and_the_form_keeps_what_was_entered(page, tmp_path):
    wide = TrainingConfig(ClassifierConfig(input_size=(192, 256)), epochs=13)
    run = runs.create_run(wide, "wide")
    with running_app(tmp_path) as address:
        page.goto(f"{address}/train?run={run.id}")
        press(page, "Clone")
        epochs, title = (page.get_by_label(name, exact=True) for name in ("Epochs", "Title"))
        expect(epochs).to_have_value("13")
        expect(page.get_by_label("Input size", exact=True)).to_have_value("192 x 256")
        fill(page, "Epochs", 17)
        fill(page, "Title", "wider")
        choose(page, "Backbone", "MobileNetV3Large")
        expect(page.get_by_label("Input size", exact=True)).to_have_value("")
        page.get_by_role("radio", name="Runs").click()
        press(page, "Clone")
        expect(epochs).to_have_value("13")
        expect(title).to_have_value("wide (again)")
        fill(page, "Epochs", 17)
        fill(page, "Title", "wider")
        page.get_by_role("radio", name="Runs").click()
        page.get_by_role("heading", name="wide").wait_for()
        page.get_by_role("radio", name="New training").click()
        expect(epochs).to_have_value("17")
        expect(title).to_have_value("wider")
        choose(page, "Start from", "The defaults")
        expect(epochs).to_have_value(str(TrainingConfig().epochs))
        expect(title).to_have_value("")
        page.get_by_role("radio", name="Runs").click()
        page.get_by_role("heading", name="wide").wait_for()
        press(page, "Delete")
        page.get_by_text("is in the bin").wait_for()
        press(page, "Undo")
        page.get_by_text("is in the bin").wait_for(state="hidden")
        page.get_by_role("heading", name="wide").wait_for()
        assert run in runs.all_runs()
