"""What a researcher sees on the Data page, without a browser."""

import io
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from dermsa.datasets import preview, splits
from dermsa.datasets.recipes import RECIPES
from dermsa.datasets.registry import DATASETS
from ui.data import check, selection

ROOT = Path(__file__).resolve().parents[2]
SIDE = 3 * (224 + preview.GAP) + preview.GAP


@pytest.fixture
def drawings(monkeypatch):
    """The command lines that the page starts, instead of starting them; `answer` may change."""

    def run(command, **kwargs):
        run.commands.append(command)
        sheet = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE)).save(sheet, "PNG")
        status = 2 if run.refusal else 0
        return subprocess.CompletedProcess(command, status, sheet.getvalue(), run.refusal.encode())

    run.commands, run.refusal = [], ""
    monkeypatch.setattr(subprocess, "run", run)
    st.cache_data.clear()
    yield run
    st.cache_data.clear()


def looking_at(view: str) -> AppTest:
    page = AppTest.from_file("../../pages/data.py", default_timeout=60)
    page.query_params["data-view"] = view
    page.run()
    assert not page.exception
    return page


@pytest.fixture
def page(drawings):
    return looking_at("Augmentation")


@pytest.fixture
def drawn_data(synthetic_data, monkeypatch, tmp_path):
    """The drawn HAM10000 is the data folder, and nothing was checked before."""
    monkeypatch.setenv("DERMSA_DATA", str(synthetic_data))
    monkeypatch.setenv("DERMSA_CACHE", str(tmp_path))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield synthetic_data
    st.cache_resource.clear()
    st.cache_data.clear()


def said(page: AppTest) -> str:
    elements = (*page.markdown, *page.caption, *page.info, *page.warning, *page.success)
    return " ".join(element.value for element in elements)


def asked(command, flag):
    return command[command.index(f"--{flag}") + 1]


def test_just_opened_it_shows_what_the_strong_recipe_does(page, drawings):
    assert [asked(drawings.commands[0], flag) for flag in ("recipe", "strength", "seed")] == [
        "strong",
        "1.0",
        "0",
    ]
    assert len(page.image) == 1
    steps = dict(page.table[0].value.to_numpy())
    assert len(steps) == len(RECIPES["strong"].steps())
    assert steps["Turn, either way"] == "± 180°"
    assert steps["Change of contrast"] == "20 % of the contrast"


def test_recipe_strength_and_seed_reach_the_drawing(page, drawings):
    page.selectbox(key="data-recipe").set_value("usth2024")
    page.slider(key="data-strength").set_value(0.5)
    page.number_input(key="data-seed").set_value(7).run()
    command = drawings.commands[-1]
    assert (asked(command, "recipe"), asked(command, "seed")) == ("usth2024", "7")
    assert float(asked(command, "strength")) == 0.5
    steps = dict(page.table[0].value.to_numpy())
    assert steps["Change of contrast"] == "10 % of the contrast"  # half of usth2024's 20 %
    assert steps["Left becomes right"] == "25 % of photos"


def test_what_was_drawn_before_is_not_drawn_again(page, drawings):
    for recipe in ("none", "strong", "none"):
        page.selectbox(key="data-recipe").set_value(recipe).run()
    assert len(drawings.commands) == 2


def test_the_recipe_none_says_that_nothing_is_changed(page):
    page.selectbox(key="data-recipe").set_value("none").run()
    assert [box.value for box in page.info] == ["Nothing is changed."]


def test_an_upload_is_drawn_and_rubbish_is_refused_by_name(page, drawings):
    page.segmented_control(key="data-source").set_value("upload").run()
    assert "upload a photo" in page.info[0].value and not page.image
    page.file_uploader[0].set_value([("notes.jpg", b"Dear colleague,", "image/jpeg")]).run()
    assert page.error[0].value.startswith("notes.jpg: The file is not a picture")
    drawn = len(drawings.commands)
    png = io.BytesIO()
    Image.new("RGB", (80, 80), (200, 150, 140)).save(png, "PNG")
    page.file_uploader[0].set_value([("skin.png", png.getvalue(), "image/png")]).run()
    assert not page.error and len(page.image) == 1
    assert len(drawings.commands) == drawn + 1


def test_a_drawing_that_fails_is_explained_and_tried_again(page, drawings):
    drawings.refusal = "2026 W tensorflow: noise\ndermsa: There is no space left.\n"
    page.number_input(key="data-seed").set_value(3).run()
    assert "There is no space left." in page.error[0].value and "noise" not in page.error[0].value
    drawings.refusal = ""
    page.run()
    assert not page.error and len(page.image) == 1


def test_every_data_set_is_listed_with_whether_it_is_here(drawn_data):
    listed = looking_at("Data sets").table[-1].value
    assert list(listed["Name"]) == [f"`{name}`" for name in DATASETS]
    assert dict(zip(listed["Name"], listed["Here"], strict=True)) == {
        f"`{name}`": "yes" if name == "ham10000" else "no" for name in DATASETS
    }


# --- distributions ------------------------------------------------------------------------------


def numbers(page: AppTest):
    """The table "In numbers": count by value, for each part."""
    table = page.table[-1].value
    values = table.iloc[:, 0]
    return {
        part: {
            value: int(re.sub("[,*]", "", text.split()[0]))
            for value, text in zip(values, of, strict=True)
        }
        for part, of in table.iloc[:, 1:].items()
    }


def test_distributions_are_those_of_the_protocol(drawn_data, synthetic_dataset):
    page = looking_at("Distributions")
    split = splits.draw(synthetic_dataset, "lesion")
    found = numbers(page)
    for part, title in (("train", "Training"), ("validation", "Validation"), ("test", "Test")):
        rows = synthetic_dataset.table.iloc[split.rows(synthetic_dataset, part)]
        assert found[title]["Melanoma"] == (rows["dx"] == "mel").sum()
        assert found[title]["**All**"] == len(rows)
    assert found["Whole data set"]["**All**"] == len(synthetic_dataset.table)
    assert "No lesion of the test part is in the training part" in said(page)

    page.segmented_control(key="distribution-unit").set_value("lesions").run()
    assert numbers(page)["Whole data set"]["**All**"] == 42
    for name in ("age", "sex", "localization"):
        page.segmented_control(key="distribution-of").set_value(name).run()
        assert not page.exception and numbers(page)["Whole data set"]["**All**"] == 42

    for protocol in splits.FOLDED:
        page.selectbox(key="distribution-protocol-False").set_value(protocol).run()
        page.number_input(key="distribution-fold").set_value(2).run()
        split = splits.draw(synthetic_dataset, protocol, fold=2)
        rows = synthetic_dataset.table.iloc[split.rows(synthetic_dataset, "validation")]
        assert numbers(page)["Validation"]["**All**"] == rows["lesion_id"].nunique()

    page.selectbox(key="distribution-protocol-False").set_value("image-90-10").run()
    assert not page.exception
    leak = splits.leakage(synthetic_dataset, splits.draw(synthetic_dataset, "image-90-10"))
    assert page.warning[0].value == leak.sentence
    assert {"Validation and test", "Left out"} <= set(numbers(page))


def test_without_a_data_folder_every_view_says_what_to_do(monkeypatch, tmp_path):
    st.cache_resource.clear()
    monkeypatch.setenv("DERMSA_DATA", str(tmp_path))
    for view in ("Distributions", "Photos", "Check"):
        page = looking_at(view)
        assert "No HAM10000 in" in page.info[0].value and not page.image
    monkeypatch.setattr(selection, "data_root", lambda: None)
    for view in ("Distributions", "Photos", "Check"):
        page = looking_at(view)
        assert "environment variable `DERMSA_DATA`" in page.info[0].value and not page.image


# --- photos -------------------------------------------------------------------------------------


def test_photos_are_browsed_by_diagnosis_and_outlined(drawn_data, synthetic_dataset):
    page = looking_at("Photos")
    assert len(page.image) == 12 and f"**{len(synthetic_dataset.table)} photos**" in said(page)
    page.selectbox(key="photos-of-7").set_value("mel").run()
    melanomas = synthetic_dataset.table[synthetic_dataset.table["dx"] == "mel"]
    assert f"**{len(melanomas)} photos** of 6 lesions" in said(page)
    assert len(page.image) == len(melanomas)

    row = melanomas.iloc[0]
    page.text_input(key="photos-id").set_value(row["image_id"]).run()
    outlined = page.image[0].proto.imgs[0].url
    page.toggle(key="photos-outline").set_value(False).run()
    assert len(page.image) == 1 and page.image[0].proto.imgs[0].url != outlined

    page.button(key=f"photos-open-{row['image_id']}").click().run()
    assert not page.exception and f"Lesion {row['lesion_id']}, age" in said(page)
    page.text_input(key="photos-id").set_value("nothing").run()
    assert "There is no such photo" in said(page)


def test_a_photo_that_cannot_be_read_leaves_the_others(drawn_data, monkeypatch, tmp_path):
    shutil.copytree(drawn_data, tmp_path / "data")
    photos = sorted((tmp_path / "data" / "ham10000" / "HAM10000_images").iterdir())
    photos[0].write_bytes(b"no photo")
    photos[1].unlink()
    monkeypatch.setenv("DERMSA_DATA", str(tmp_path / "data"))
    page = looking_at("Photos")
    assert len(page.image) == 10
    assert "not a picture" in page.warning[0].value
    assert f"The image {photos[1].stem} is missing." == page.warning[1].value


# --- check --------------------------------------------------------------------------------------


def wait_for(page: AppTest, seconds: float = 60) -> AppTest:
    """Looks again until no check runs."""
    end = time.monotonic() + seconds
    while check.running and time.monotonic() < end:
        page.run()
        time.sleep(0.2)
    assert not check.running and not page.exception
    return page


def test_a_check_runs_aside_and_is_kept(drawn_data):
    page = looking_at("Check")
    assert "has not been checked" in said(page)
    page.button(key="check-start").click().run()
    assert check.running and not page.exception
    page.segmented_control(key="data-view").set_value("Photos").run()  # it goes on meanwhile
    assert check.running and len(page.image) == 12
    page.segmented_control(key="data-view").set_value("Check").run()
    wait_for(page)
    assert "56 images of 42 lesions" in said(page) and "56 lesion masks" in said(page)
    found = dict(page.table[0].value.to_numpy())
    assert found["Images that cannot be read"] == "0"
    assert "Nothing is wrong with it" in said(page) or page.warning
    again = looking_at("Check")  # another visit, another session
    assert "56 images of 42 lesions" in said(again)
    assert again.button(key="check-start").label == "Check again"


def test_a_check_is_cancelled(drawn_data, monkeypatch):
    page = looking_at("Check")
    page.button(key="check-start").click().run()
    (process,) = [checking._process for checking in check.running.values()]
    page.button(key="check-cancel").click().run()
    assert not check.running and process.poll() is not None
    assert "has not been checked" in said(page)


def test_a_check_that_fails_says_why(drawn_data, monkeypatch, tmp_path):
    shutil.copytree(drawn_data, tmp_path / "data")
    monkeypatch.setenv("DERMSA_DATA", str(tmp_path / "data"))
    page = looking_at("Check")
    page.button(key="check-start").click().run()
    next(iter(check.running.values())).cancel()  # as if it had been killed
    wait_for(page)
    assert "could not be checked" in page.error[0].value
    (tmp_path / "data" / "ham10000").rename(tmp_path / "gone")
    page.button(key="check-start").click().run()
    assert not page.exception and "No HAM10000 in" in page.error[0].value


def test_the_page_never_loads_tensorflow():
    code = (
        "import subprocess, sys\n"
        "subprocess.run = lambda command, **_: subprocess.CompletedProcess(command, 2, b'', b'')\n"
        "from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file('pages/data.py', default_timeout=60).run()\n"
        "for view in ('Photos', 'Check', 'Data sets', 'Augmentation'):\n"
        "    page.segmented_control(key='data-view').set_value(view).run()\n"
        "    assert not page.exception, page.exception\n"
        "assert page.error\n"
        "assert not {'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_writes_the_sheet_that_the_page_shows(tmp_path):
    """The real command line, photo and all."""
    photo, out = tmp_path / "photo.png", tmp_path / "sheet.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(photo)
    command = [sys.executable, "-m", "dermsa", "augment", photo, "--out", out, "--json"]
    command += ["--recipe", "sensors2022", "--strength", "0.5", "--size", "64", "--count", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == RECIPES["sensors2022"].scaled(0.5).steps()
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (2 * (64 + preview.GAP) + preview.GAP, SIDE_OF_64, 3)
    piped = [name if name not in (photo, out) else "-" for name in command]
    through_pipes = subprocess.run(piped, cwd=ROOT, input=photo.read_bytes(), capture_output=True)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(through_pipes.stdout))), sheet)
    refused = subprocess.run(
        [*command, "--recipe", "mild"], cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "dermsa: Unknown recipe 'mild'. Expected one of: none, sensors2022" in refused.stderr


SIDE_OF_64 = 3 * (64 + preview.GAP) + preview.GAP
