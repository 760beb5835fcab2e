"""What a doctor sees on the Diagnose page, without a browser."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dermsa.datasets.synthetic import draw_lesion
from dermsa.evaluation import elsewhere, record
from dermsa.inference import store
from dermsa.inference.ensemble import EnsemblePredictor, open_predictor
from dermsa.inference.predictor import Predictor
from dermsa.patient import Patient
from dermsa.plots import percent, signed
from dermsa.taxonomy import HAM10000_CLASSES, NAMES, in_sentence
from ui.inputs import MOST_PHOTOS

ROOT = Path(__file__).resolve().parents[2]


def upload(page: AppTest, *files: tuple[str, bytes]) -> AppTest:
    page.file_uploader[0].set_value([(name, data, "image/jpeg") for name, data in files])
    return page.run()


def headings(page: AppTest) -> list[str]:
    return [heading.value for heading in page.subheader]


def probabilities(page: AppTest) -> dict[str, str]:
    """The table "In numbers": probability as shown, by name of the diagnosis."""
    table = page.table[0].value
    return dict(zip(table["Diagnosis"], table["Probability"], strict=True))


def the_sum(page: AppTest) -> list[float]:
    """Bias, image, patient, and what they add up to, as drawn."""
    figures = [json.loads(chart.proto.spec) for chart in page.get("plotly_chart")]
    (bars,) = (data for one in figures for data in one["data"] if data["type"] == "waterfall")
    return bars["x"]


def errors(page: AppTest) -> list[str]:
    assert not page.exception
    return [error.value for error in page.error]


def widget(page: AppTest, kind: str, name: str):
    return getattr(page, kind)(key=f"{name}-{page.session_state.case}")


def choose_sample(page: AppTest, title: str) -> AppTest:
    widget(page, "segmented_control", "source").set_value("sample").run()
    return widget(page, "selectbox", "sample").set_value(title).run()


def test_just_opened_it_asks_for_a_photo_and_says_what_it_is(page):
    assert "Add one or more photos" in page.info[0].value
    assert any("not a medical device" in caption.value for caption in page.caption)


def test_answer_comes_in_the_order_a_doctor_needs(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    assert not page.exception
    shown = headings(page)
    assert shown[:3] == ["Diagnosis", "Malignancy", "What the model saw"]
    assert shown[3].startswith("The sum for ")
    assert shown[-1] == "The model"
    assert len(page.image) == 3


def test_numbers_are_those_of_the_model(page, lesion):
    widget(page, "text_input", "age").set_value("62").run()
    widget(page, "selectbox", "sex").set_value("male").run()
    widget(page, "selectbox", "localization").set_value("back").run()
    upload(page, ("lesion.jpg", lesion))
    diagnosis = open_predictor().diagnose([lesion], Patient(62, "male", "back"))
    assert probabilities(page) == {
        NAMES[code]: percent(probability)
        for code, probability in zip(diagnosis.classes, diagnosis.probabilities, strict=True)
    }
    assert page.metric[0].value == percent(diagnosis.malignancy)
    said = " ".join(box.value for box in [*page.warning, *page.info])
    assert ("**Refer.**" in said) == diagnosis.triage.refer
    below = not diagnosis.triage.refer
    assert ("No referral by this threshold" in said) == (below and diagnosis.reliable)
    assert ("**No verdict.**" in said) == (below and not diagnosis.reliable)


def test_test_figures_and_model_are_named(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    card = store.read_card(store.default_model())
    text = " ".join(each.value for each in page.markdown)
    assert store.default_model() in text and open_predictor().model.sha256[:12] in text
    point = open_predictor().operating_point
    assert percent(point["sensitivity"]["value"]) in text
    specificity = point["specificity"]
    assert f"{specificity['n']:,} photos of {specificity['n_lesions']:,} lesions" in text
    overall, by_class = (t.value for t in page.table if "On test lesions" in t.value.columns)
    assert f"{card['metrics']['macro_recall']['value']:.3f}" in list(overall["Value"])
    assert "ROC AUC, melanoma" in list(overall["On test lesions"])
    assert len(by_class) == 3 * len(HAM10000_CLASSES)


def test_what_it_does_on_photos_of_another_source_is_told(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    foreign = elsewhere.read(store.default_model())
    point = foreign.at(open_predictor().operating_point["target_sensitivity"])
    (told,) = (each.value for each in page.markdown if f"On {foreign.whose}" in each.value)
    assert foreign.title in told and percent(point.sensitivity.value) in told
    assert f"{point.specificity.n:,} photos)" in told
    heading = f"On {foreign.whose}"
    (table,) = (t.value for t in page.table if heading in t.value.columns)
    assert list(table[heading])[0] == "Accuracy" and "ROC AUC, melanoma" in list(table[heading])
    assert f"{foreign.roc_auc['mel'].value:.3f}" in list(table["Value"])
    assert foreign.sentence in [caption.value for caption in page.caption]


def test_unknown_patient_moves_nothing(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    assert any("unknown, so none of them" in info.value for info in page.info)
    assert "If less were known of the patient" not in headings(page)


def test_a_named_diagnosis_that_is_not_the_most_probable_is_told(page, lesion, monkeypatch):
    upload(page, ("lesion.jpg", lesion))
    plain = open_predictor().diagnose([lesion])
    assert any("is what the model names" in text.value for text in page.markdown) == (
        plain.named != plain.best
    )
    monkeypatch.setattr(type(open_predictor()), "named", lambda self, probabilities: "vasc")
    widget(page, "text_input", "age").set_value("62").run()
    assert not page.exception
    said = next(text.value for text in page.markdown if "is what the model names" in text.value)
    likely = in_sentence(open_predictor().diagnose([lesion], Patient(62)).best)
    assert said.startswith(f"**{NAMES['vasc']} is what the model names**, though {likely} is more")
    evidence = next(box for box in page.selectbox if box.label == "Evidence for")
    assert evidence.value == "vasc"  # and not the most probable one


def test_an_unknown_patient_adds_nothing_to_the_sum_and_a_known_one_the_shares(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    bias, image, patient, total = the_sum(page)
    assert patient == 0 and total == pytest.approx(bias + image, abs=1e-6)
    widget(page, "text_input", "age").set_value("62").run()
    known = the_sum(page)
    diagnosis = open_predictor().diagnose([lesion], Patient(62))
    k = diagnosis.classes.index(diagnosis.named)
    assert known[2] == pytest.approx(diagnosis.patient_contributions["age"][k], abs=1e-6) != 0
    assert known[3] == pytest.approx(diagnosis.logits[k], abs=1e-6)


def test_known_patient_shows_what_would_change(page, lesion):
    widget(page, "text_input", "age").set_value("62").run()
    widget(page, "selectbox", "sex").set_value("female").run()
    upload(page, ("lesion.jpg", lesion))
    table = next(t.value for t in page.table if "Age unknown" in t.value.columns)
    assert list(table.columns) == [
        "Probability of",
        "As given",
        "Age unknown",
        "Sex unknown",
        "All unknown",
    ]


def test_every_drawn_sample_gives_an_answer_and_fills_in_its_patient(page):
    widget(page, "segmented_control", "source").set_value("sample").run()
    drawn = [title for title in widget(page, "selectbox", "sample").options if "drawing" in title]
    assert len(drawn) == len(HAM10000_CLASSES)
    for title in drawn:
        widget(page, "selectbox", "sample").set_value(title).run()
        assert not errors(page) or "unlike" in errors(page)[0]
        assert len(probabilities(page)) == len(HAM10000_CLASSES)
        assert widget(page, "text_input", "age").value
        assert widget(page, "selectbox", "sex").value in ("female", "male")


def test_real_samples_are_offered_where_the_data_set_is_configured(monkeypatch, synthetic_data):
    monkeypatch.setenv("DERMSA_DATA", str(synthetic_data))
    st.cache_resource.clear()
    page = AppTest.from_file("../../app.py", default_timeout=60).run()
    widget(page, "segmented_control", "source").set_value("sample").run()
    titles = widget(page, "selectbox", "sample").options
    real = [title for title in titles if "SYN_" in title]
    assert len(real) >= len(HAM10000_CLASSES)
    widget(page, "selectbox", "sample").set_value(real[0]).run()
    assert "Diagnosis" in headings(page)
    st.cache_resource.clear()


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("notes.jpg", lambda lesion: b"Dear colleague, please see the photo.", "not a picture"),
        ("cut.jpg", lambda lesion: lesion[: len(lesion) // 2], "incomplete or damaged"),
        ("nothing.jpg", lambda lesion: b"", "empty"),
        ("large.jpg", lambda lesion: lesion + bytes(25 * 2**20), "larger than 25 MB"),
    ],
)
def test_bad_file_gets_one_sentence_and_the_page_goes_on(page, lesion, name, spoil, said):
    upload(page, (name, spoil(lesion)))
    (sentence,) = errors(page)
    assert sentence.startswith(f"{name}: ") and said in sentence and "\n" not in sentence
    assert "Diagnosis" not in headings(page)
    upload(page, ("lesion.jpg", lesion))
    assert not errors(page) and "Diagnosis" in headings(page)


def test_bad_file_among_good_ones_is_named_and_left_out(page, lesion):
    upload(page, ("one.jpg", lesion), ("bad.jpg", b"no picture"), ("two.jpg", lesion))
    (sentence,) = errors(page)
    assert sentence.startswith("bad.jpg: ")
    assert "Diagnosis" in headings(page)
    photos = next(group for group in page.segmented_control if "photo-of" in (group.key or ""))
    assert photos.options == ["Photo 1", "Photo 2"]


@pytest.mark.parametrize("age", ["-3", "240", "abc"])
def test_impossible_age_gets_one_sentence_and_no_answer(page, lesion, age):
    upload(page, ("lesion.jpg", lesion))
    widget(page, "text_input", "age").set_value(age).run()
    (sentence,) = errors(page)
    assert "age must be" in sentence and "120" in sentence
    assert "Diagnosis" not in headings(page)
    widget(page, "text_input", "age").set_value("41").run()
    assert not errors(page) and "Diagnosis" in headings(page)


def test_explaining_computes_nothing_anew(page, lesion, monkeypatch):
    upload(page, ("lesion.jpg", lesion))
    for kind in (Predictor, EnsemblePredictor):
        monkeypatch.setattr(kind, "diagnose", lambda *_: pytest.fail("computed again"))
    before = probabilities(page)
    page.slider[0].set_value(80).run()
    evidence = next(box for box in page.selectbox if box.label == "Evidence for")
    evidence.set_value("vasc").run()
    assert not page.exception
    assert "The sum for Vascular lesion" in headings(page)
    assert probabilities(page) == before
    rival = next(box for box in page.selectbox if box.label == "Compared with")
    assert "Vascular lesion" not in rival.options
    rival.set_value("nv").run()
    assert not page.exception
    assert "The sum for Vascular lesion against melanocytic nevus" in headings(page)
    assert any("more probable than melanocytic nevus" in said.value for said in page.caption)
    on_the_lesion = [said for said in page.caption if "highest point" in said.value]
    assert len(on_the_lesion) == 1  # the attention's: a comparison was not measured


def test_the_colours_of_evidence_reach_as_far_as_the_evidence_shown(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    diagnosis = open_predictor().diagnose([lesion])
    for code in (diagnosis.named, "vasc"):
        evidence = next(box for box in page.selectbox if box.label == "Evidence for")
        evidence.set_value(code).run()
        strongest = np.abs(diagnosis.photos[0].evidence_grid[diagnosis.classes.index(code)]).max()
        specs = [json.loads(chart.proto.spec) for chart in page.get("plotly_chart")]
        notes = [note["text"] for spec in specs for note in spec["layout"].get("annotations", [])]
        assert f"for {signed(float(strongest))}" in notes


def test_how_good_the_maps_are_stands_below_them(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    model = store.default_model()
    quality = record.load(store.weights_folder() / model).attention
    for kind in ("soft_attention", "evidence"):
        pointing = quality.of(kind).measures["pointing"]
        sentence = f"on the lesion in {percent(pointing.value)}"
        assert any(sentence in caption.value for caption in page.caption)


def test_camera_photo_gets_an_answer(page, lesion):
    widget(page, "segmented_control", "source").set_value("camera").run()
    page.camera_input[0].set_value(("photo.jpg", lesion, "image/jpeg")).run()
    assert not page.exception and "Diagnosis" in headings(page)


def test_start_over_forgets_everything(page):
    choose_sample(page, "Melanoma (drawing)")
    next(button for button in page.button if button.label == "Start over").click().run()
    assert widget(page, "text_input", "age").value == ""
    assert widget(page, "selectbox", "sex").value == "unknown"
    assert "Diagnosis" not in headings(page)
    assert "answer" not in page.session_state


def test_starting_over_leaves_other_pages_alone(page):
    page.session_state["train-values"] = {"epochs": 3}
    page.session_state["answers"] = {"photo": "of the Compare page"}
    choose_sample(page, "Melanoma (drawing)")
    next(button for button in page.button if button.label == "Start over").click().run()
    assert page.session_state["train-values"] == {"epochs": 3}
    assert "answers" not in page.session_state


def test_the_patient_of_a_sample_is_not_that_of_a_photo_of_ones_own(page, lesion):
    choose_sample(page, "Melanoma (drawing)")
    assert widget(page, "text_input", "age").value
    widget(page, "segmented_control", "source").set_value("upload").run()
    upload(page, ("lesion.jpg", lesion))
    assert widget(page, "text_input", "age").value == ""
    assert page.session_state.answer.diagnosis.patient == Patient()
    # Nor is the patient of a photo of one's own forgotten by a look at the samples.
    widget(page, "text_input", "age").set_value("44").run()
    widget(page, "segmented_control", "source").set_value("sample").run()
    widget(page, "segmented_control", "source").set_value("upload").run()
    assert widget(page, "text_input", "age").value == "44"


def test_a_photo_taken_away_is_forgotten(page, lesion):
    upload(page, ("lesion.jpg", lesion))
    assert "answer" in page.session_state
    page.file_uploader[0].set_value([]).run()
    assert "answer" not in page.session_state and "question" not in page.session_state


def test_a_photo_that_cannot_be_judged_gets_no_reassurance(page):
    night = cv2.imencode(".png", np.full((450, 600, 3), 5, np.uint8))[1].tobytes()
    upload(page, ("night.png", night))
    answer = page.session_state.answer.diagnosis
    assert not answer.reliable and not answer.to_dict()["reliable"]
    said = [each.value for each in (*page.info, *page.warning)]
    assert not any("No referral" in each for each in said)
    assert answer.triage.refer or any("the photo cannot be judged" in each for each in said)
    ruled = next(text.value for text in page.markdown if "Cannot be ruled out" in text.value)
    assert "any diagnosis" in ruled


def test_what_the_model_did_not_see_is_told(page):
    rgb = draw_lesion("nv", 1, (450, 900))[0]
    upload(page, ("wide.png", cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()))
    assert any("its ends are left out" in each.value for each in page.warning)
    assert any(f"The model saw its middle {percent(2 / 3)}" in each.value for each in page.caption)


def test_a_folder_full_of_photos_is_refused_before_it_is_looked_at(page, lesion):
    upload(page, *((f"{k}.jpg", lesion) for k in range(MOST_PHOTOS + 1)))
    assert any("11 photos" in each for each in errors(page))
    assert "answer" not in page.session_state


@pytest.fixture
def own_weights(tmp_path, monkeypatch):
    """A copy of a network under two names, which a test may damage."""
    source = next(store.weights_folder().glob("*/model.onnx")).parent
    for name in ("a-damaged", "b-whole"):
        shutil.copytree(source, tmp_path / name)
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "is missing"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"\0" * 99), "is damaged"),
        (lambda folder: (folder / "card.json").write_text("{"), "is damaged"),
    ],
)
def test_damaged_model_gets_one_sentence_and_another_can_be_chosen(own_weights, damage, said):
    damage(own_weights / "a-damaged")
    page = AppTest.from_file("../../app.py", default_timeout=60).run()
    (sentence,) = errors(page)
    assert said in sentence and "\n" not in sentence
    choose_sample(page, "Melanocytic nevus (drawing)")
    assert len(errors(page)) == 1 and "Diagnosis" not in headings(page)
    widget(page, "selectbox", "model").set_value("b-whole").run()
    assert not any(said in sentence for sentence in errors(page))
    assert "Diagnosis" in headings(page)


def test_maps_that_were_not_measured_are_shown_without_a_word_of_it(own_weights, lesion):
    for pattern in (record.EVALUATION, elsewhere.FILE):
        for measured in own_weights.glob(f"*/{pattern}"):
            measured.unlink()
    page = AppTest.from_file("../../app.py", default_timeout=60).run()
    upload(page, ("lesion.jpg", lesion))
    assert not page.exception and "What the model saw" in headings(page)
    assert not any("highest point" in caption.value for caption in page.caption)
    assert not any("another source" in text.value for text in page.markdown)


def test_no_model_at_all_gets_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    page = AppTest.from_file("../../app.py", default_timeout=60).run()
    (sentence,) = errors(page)
    assert "There is no model" in sentence


def test_page_brings_in_neither_tensorflow_nor_keras():
    script = """
import json, sys
from streamlit.testing.v1 import AppTest
page = AppTest.from_file("app.py", default_timeout=60).run()
page.segmented_control(key="source-0").set_value("sample").run()
page.selectbox(key="sample-0").set_value("Melanoma (drawing)").run()
assert not page.exception and page.metric
heavy = {"tensorflow", "keras", "torch", "jax", "matplotlib"}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.strip().splitlines()[-1]) == []
