"""What a researcher sees on the Data page, without a browser."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from dermsa.datasets import preview
from dermsa.datasets.recipes import RECIPES
from dermsa.datasets.registry import DATASETS

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


@pytest.fixture
def page(drawings):
    page = AppTest.from_file("../../pages/data.py", default_timeout=60).run()
    assert not page.exception
    return page


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


def test_every_data_set_is_listed(page):
    listed = page.table[-1].value
    assert list(listed["Name"]) == [f"`{name}`" for name in DATASETS]


def test_the_page_never_loads_tensorflow():
    code = (
        "import subprocess, sys\n"
        "subprocess.run = lambda command, **_: subprocess.CompletedProcess(command, 2, b'', b'')\n"
        "from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file('pages/data.py', default_timeout=60).run()\n"
        "assert not page.exception and page.error, page.exception\n"
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
