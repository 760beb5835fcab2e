"""What a researcher sees on the Compare page, without a browser."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dermsa import samples
from dermsa.evaluation import compare, record, statistics
from dermsa.inference import store
from dermsa.inference.predictor import Predictor
from dermsa.patient import Patient
from dermsa.plots import percent
from tests.drawn_evaluations import drawn_evaluation
from tests.drawn_weights import ELSEWHERE, GOOD, POOR, UNMEASURED, write_weights
from ui.compare import selection

ROOT = Path(__file__).resolve().parents[2]
VIEWS = (
    "Curves", "Confusion", "Diagnoses", "Differences", "Cost", "Groups", "Attention", "Cases",
    "One photo", "Papers",
)  # fmt: skip


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory, synthetic_dataset):
    """Drawn evaluations, whose cases are called like the drawn photos."""
    folder = tmp_path_factory.mktemp("weights")
    written = write_weights(folder, synthetic_dataset.table["image_id"].to_list())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_WEIGHTS", str(folder))
        yield written


def opened(**query) -> AppTest:
    page = AppTest.from_file("../../app.py", default_timeout=120).run()
    for name, values in query.items():
        page.query_params[name] = values
    page.switch_page("pages/compare.py").run()
    assert not page.exception
    return page


@pytest.fixture
def compared(evaluations):
    """The page with the good and the poor model."""
    return opened(models=[GOOD, POOR])


def look_at(page: AppTest, view: str) -> AppTest:
    page.segmented_control(key="view").set_value(view).run()
    assert not page.exception
    return page


def text(page: AppTest) -> str:
    elements = (*page.markdown, *page.caption, *page.info, *page.warning, *page.error)
    return " ".join(element.value for element in elements)


def test_what_ships_can_be_looked_at_at_once():
    page = opened()
    assert not page.error
    assert page.multiselect(key="models").value


def test_figures_carry_intervals_and_the_best_is_marked_only_where_it_holds(compared, evaluations):
    both = [evaluations[GOOD], evaluations[POOR]]
    table = compared.table[0].value
    rows = compare.table(both)[: len(table)]
    assert any(row.best is None for row in compare.table(both))
    for row, title, good in zip(rows, table.iloc[:, 0], table[GOOD], strict=True):
        interval = row.intervals[0]
        assert title == row.figure.title
        assert good.startswith(f"**{interval.value:.3f}** ★" if row.best == 0 else "0")
        assert f"{interval.low:.3f}" in good and f"{interval.high:.3f}" in good
        assert "★" not in table[POOR].iloc[list(rows).index(row)] or row.best == 1
    melanomas = list(evaluations[GOOD].cases["truth"]).count("mel")
    n = dict(zip(table.iloc[:, 0], table["n"], strict=True))
    assert n["Sensitivity (recall): Melanoma"] == str(melanomas)
    assert any("InceptionResNetV2" in name for name in table.columns)
    assert "73.5 %" in text(compared)  # what the published figures mean
    assert compare.pairs(both, compare.Figure("recall", "mel"))[0].sentence in text(compared)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_shown(compared, view):
    look_at(compared, view)
    assert not compared.error


def test_looking_around_draws_no_bootstrap_samples(compared, monkeypatch):
    monkeypatch.setattr(statistics, "lesion_bootstrap_weights", lambda *_: pytest.fail("drawn"))
    for view in ("Curves", "Differences", "Groups"):
        look_at(compared, view)
    compared.selectbox(key="group-figure").set_value("macro_recall").run()
    assert not compared.exception


def test_models_measured_on_other_cases_are_refused_with_the_reason(evaluations):
    page = opened(models=[GOOD, ELSEWHERE])
    (error,) = page.error
    assert "cannot be compared" in error.value and "datta-85-15" in error.value
    assert not page.table


def test_models_of_other_splits_are_compared_on_the_same_cases(evaluations, tmp_path, monkeypatch):
    shutil.copytree(store.weights_folder(), tmp_path / "weights")
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path / "weights"))
    rotated = dataclasses.replace(evaluations[POOR], protocol="lesion-rotated")
    record.save(rotated, tmp_path / "weights" / POOR)
    page = opened(models=[GOOD, POOR])
    assert not page.error and {GOOD, POOR} <= set(page.table[0].value.columns)
    lines = [each.value for each in page.markdown if "test images of" in each.value]
    assert [line.split(":")[1].removeprefix("small[") for line in lines] == [GOOD, POOR]
    assert "“lesion”" in lines[0] and "“lesion-rotated”" in lines[1]


def test_an_unmeasured_model_says_how_to_measure_it(evaluations):
    page = opened(models=[GOOD, UNMEASURED])
    assert f"python -m dermsa evaluate --model {UNMEASURED} --save" in text(page)
    assert GOOD in page.table[0].value.columns


def test_published_networks_without_weights_here_say_how_to_train_them(evaluations):
    page = opened(models=[GOOD, POOR])
    command = "`python -m dermsa train --preset sensors2022/{}/MD`"
    assert command.format("InceptionResNetV2") in text(page)
    here = json.loads((store.weights_folder() / GOOD / "card.json").read_text(encoding="utf-8"))
    backbone = here["architecture"]["backbone"]
    page.multiselect(key="papers").set_value([f"{backbone} (Sensors 2022)"]).run()
    assert not page.exception and "No trained weights" not in text(page)


def test_cost_names_what_is_known_of_training_and_of_published_models(compared):
    look_at(compared, "Cost")
    rows = next(table.value for table in compared.table if "File" in table.value.columns)
    good, *published = rows.to_dict("records")  # the poor one was not measured
    assert good["Model"] == GOOD
    assert (good["Training, s/epoch"], good["Training memory"]) == (
        "110",
        "4.1\N{NO-BREAK SPACE}GB",
    )
    large = next(row for row in published if "MobileNetV3Large" in row["Model"])
    assert large["Parameters"].startswith("*5.") and large["Training, s/epoch"]


def test_figures_of_a_run_that_went_on_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path))
    (tmp_path / "weights").mkdir()
    run = tmp_path / "20250101-run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    weights = run / record.RUN_WEIGHTS
    weights.write_bytes(b"weights")
    served = {record.RUN_WEIGHTS: store.sha256_of(b"weights")}
    record.save(drawn_evaluation(run.name, kind="run", served=served), run)
    page = opened(models=[run.name])
    assert page.table and not page.error
    weights.write_bytes(b"further")
    page.run()
    assert "best.weights.h5 has changed since" in page.error[0].value and not page.table


def test_a_chosen_run_that_is_gone_is_forgotten(evaluations, tmp_path, monkeypatch):
    write_weights(tmp_path)
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    page = opened(models=[GOOD, POOR])
    shutil.rmtree(tmp_path / POOR)
    page.run()
    assert not page.exception and page.multiselect(key="models").value == [GOOD]


def test_the_link_carries_the_selection(evaluations):
    page = opened(models=[POOR, "Absent", GOOD], view="Confusion")
    assert page.multiselect(key="models").value == [POOR, GOOD]
    assert page.segmented_control(key="view").value == "Confusion"
    assert "Absent" in page.warning[0].value
    page.multiselect(key="models").set_value([GOOD, UNMEASURED]).run()
    assert page.query_params["models"] == [GOOD, UNMEASURED]


def test_a_link_with_more_models_than_are_compared_shows_the_first(evaluations, monkeypatch):
    monkeypatch.setattr(selection, "MAX_MODELS", 1)
    page = opened(models=[POOR, GOOD])
    assert page.multiselect(key="models").value == [POOR]
    assert "names 2 models; the first 1 of them" in page.warning[0].value


def test_tests_fit_the_figure(compared):
    look_at(compared, "Differences")
    compared.selectbox(key="difference-of").set_value(compare.Figure("accuracy")).run()
    compared.segmented_control(key="test-of-McNemar").set_value("McNemar").run()
    assert not compared.exception
    assert "alone is right on" in text(compared)


def test_without_photos_the_cases_are_told_all_the_same(evaluations, monkeypatch, tmp_path):
    monkeypatch.setenv("DERMSA_DATA", str(tmp_path))
    page = look_at(opened(models=[GOOD, POOR]), "Cases")
    assert "The photos cannot be shown" in page.info[0].value
    assert not page.image and f"{POOR}: " in text(page)


def test_one_photo_goes_through_all_models_even_unmeasured_ones(evaluations):
    page = look_at(opened(models=[GOOD, UNMEASURED]), "One photo")
    page.segmented_control(key="photo-source").set_value("sample").run()
    page.selectbox(key="photo-sample").set_value("Melanoma (drawing)").run()
    assert not page.exception
    answers = next(table.value for table in page.table if "Time" in table.value.columns)
    assert list(answers["Model"]) == [GOOD, UNMEASURED]
    sample = next(one for one in samples.drawn_samples() if one.title == "Melanoma (drawing)")
    assert sample.patient == Patient(62, "male", "back")
    photo = next(iter(sample.photos().values()))
    expected = Predictor(GOOD).diagnose([photo], sample.patient)
    assert answers["Malignant"][0] == percent(expected.malignancy)


def test_a_bad_photo_gets_one_sentence(evaluations):
    page = look_at(opened(models=[GOOD]), "One photo")
    page.file_uploader[0].set_value([("notes.jpg", b"no picture", "image/jpeg")]).run()
    assert not page.exception
    assert "not a picture" in page.error[0].value


def test_a_damaged_evaluation_gets_one_sentence(evaluations, tmp_path, monkeypatch):
    write_weights(tmp_path)
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    (tmp_path / POOR / "predictions.csv").write_text("image_id\n")
    page = opened(models=[GOOD, POOR])
    (error,) = page.error
    assert "predictions.csv" in error.value and POOR in error.value
    assert GOOD in page.table[0].value.columns


def test_an_empty_class_is_told_and_no_view_fails(evaluations, tmp_path, monkeypatch):
    write_weights(tmp_path)
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    for name in (GOOD, POOR):
        whole = record.open_source(name)
        rows = np.flatnonzero(whole.predictions.truth != whole.classes.index("df"))
        predictions = whole.predictions.subset(rows)
        few = dataclasses.replace(
            whole,
            predictions=predictions,
            cases=whole.cases.iloc[rows].reset_index(drop=True),
            **record.figures(predictions, 50),
        )
        record.save(few, tmp_path / name)
    page = opened(models=[GOOD, POOR])
    assert "There is no case of df" in text(page)
    page.selectbox(key="curves-of").set_value("df").run()
    for view in VIEWS:
        look_at(page, view)
        assert not page.error
    look_at(page, "Differences")
    page.selectbox(key="difference-of").set_value(compare.Figure("recall", "df")).run()
    assert not page.exception and "not defined on these cases" in text(page)
    differences = next(table.value for table in page.table if "Corrected" in table.value.columns)
    assert set(differences["Second minus first"]) == {"not defined"}
    assert set(differences["Difference"]) == {"not defined"}
    look_at(page, "Papers")
    papers = next(table.value for table in page.table if "Published lies" in table.value.columns)
    of_df = papers[papers["Figure"] == "Sensitivity (recall): Dermatofibroma"]
    assert of_df["Difference"].tolist() == ["not defined"]
    assert of_df["Published lies"].tolist() == [""]
    assert not any(re.search(r"\bnan\b", table.value.to_string()) for table in page.table)


def test_page_brings_in_neither_tensorflow_nor_keras(evaluations):
    script = f"""
import json, sys
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app.py", default_timeout=120).run()
page.query_params["models"] = [{GOOD!r}, {POOR!r}]
page.switch_page("pages/compare.py").run()
for view in {VIEWS!r}:
    page.segmented_control(key="view").set_value(view).run()
    assert not page.exception
heavy = {{"tensorflow", "keras", "torch", "jax", "matplotlib"}}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.strip().splitlines()[-1]) == []


@pytest.fixture(autouse=True)
def nothing_kept():
    yield
    st.cache_resource.clear()
