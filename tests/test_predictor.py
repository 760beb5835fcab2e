"""The models answer, exactly as their cards say, without TensorFlow."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from dermsa import images
from dermsa.datasets.synthetic import draw_lesion
from dermsa.inference import explanation, store
from dermsa.inference.engine import Engine
from dermsa.inference.predictor import Predictor
from dermsa.models.outputs import NoDecomposition
from dermsa.patient import Patient
from dermsa.taxonomy import HAM10000_CLASSES

MODELS = store.model_names()
PATIENT = Patient(62, "male", "back")
NETWORKS = [name for name in MODELS if not store.read_card(name).get("members")]


@pytest.fixture(scope="module", params=NETWORKS)
def predictor(request):
    return Predictor(request.param)


@pytest.fixture(scope="module")
def lesion():
    return draw_lesion("mel", 3, (450, 600))[0]


def test_there_is_an_accurate_and_a_fast_model():
    roles = store.models_by_role()
    assert list(roles) == ["accurate", "fast"]
    assert roles["accurate"] == store.default_model() == MODELS[0]
    assert roles["fast"] in NETWORKS  # a single network


def test_an_answer_is_whole(predictor, lesion):
    diagnosis = predictor.diagnose([lesion], PATIENT)
    assert diagnosis.probabilities.sum() == pytest.approx(1)
    assert (diagnosis.probabilities > 0).all()
    by_code = dict(zip(diagnosis.classes, diagnosis.probabilities, strict=True))
    assert diagnosis.malignancy == pytest.approx(by_code["akiec"] + by_code["bcc"] + by_code["mel"])
    assert diagnosis.triage.refer == (diagnosis.malignancy >= diagnosis.triage.threshold)
    assert diagnosis.triage.target_sensitivity == 0.95
    assert diagnosis.best in diagnosis.prediction_set
    photo = diagnosis.photos[0]
    assert photo.attention_map.shape == lesion.shape[:2]
    assert 0 <= photo.attention_map.min() and photo.attention_map.max() <= 1 + 1e-6
    assert photo.evidence_map.shape == (7, *lesion.shape[:2])
    assert photo.novelty is not None and photo.novelty.score > 0
    assert diagnosis.seconds > 0
    json.dumps(diagnosis.to_dict())


def test_the_parts_sum_to_the_logits_of_the_network(predictor, lesion):
    diagnosis = predictor.diagnose([lesion], PATIENT)
    seen = images.to_model_input(lesion, predictor.engine.input_size)
    mirrored = [seen, seen[:, ::-1], seen[::-1], seen[::-1, ::-1]][: predictor.views]
    patients = PATIENT.encode(predictor.age_scale)[None].repeat(len(mirrored), axis=0)
    logits = predictor.engine(np.stack(mirrored), patients)["logits"].mean(axis=0)
    np.testing.assert_allclose(diagnosis.logits, as_told(predictor, logits), atol=1e-4)
    for terms in (diagnosis.bias, diagnosis.image_evidence, diagnosis.patient_evidence):
        assert abs(terms.mean()) < 1e-5  # what all diagnoses share explains nothing
    parts = diagnosis.bias + diagnosis.image_evidence + diagnosis.patient_evidence
    np.testing.assert_allclose(parts, diagnosis.logits, atol=1e-9)
    shares = sum(diagnosis.patient_contributions.values())
    nothing_known = predictor.diagnose([lesion]).patient_evidence
    np.testing.assert_allclose(shares, diagnosis.patient_evidence - nothing_known, atol=1e-5)


def test_what_if_unknown_is_what_an_unknown_patient_gets(predictor, lesion):
    diagnosis = predictor.diagnose([lesion], PATIENT)
    for hidden, probabilities in diagnosis.if_unknown.items():
        names = ("age", "sex", "localization") if hidden == "all" else (hidden,)
        expected = predictor.diagnose([lesion], PATIENT.without(*names)).probabilities
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert set(diagnosis.if_unknown) == {"age", "sex", "localization", "all"}
    assert predictor.diagnose([lesion]).if_unknown == {}


def test_logits_of_several_photos_are_averaged(predictor, lesion):
    other = draw_lesion("nv", 1, (450, 600))[0]
    both = predictor.diagnose([lesion, other], PATIENT)
    alone = [predictor.diagnose([photo], PATIENT).logits for photo in (lesion, other)]
    np.testing.assert_allclose(both.logits, np.mean(alone, axis=0), atol=1e-5)
    grids = sum(photo.evidence_grid.sum(axis=(1, 2)) for photo in both.photos)
    np.testing.assert_allclose(grids, both.image_evidence, atol=1e-5)


def test_the_temperature_of_the_card_calibrates(predictor, lesion):
    diagnosis = predictor.diagnose([lesion], PATIENT)
    scaled = diagnosis.logits / predictor.model.card["temperature"]
    expected = np.exp(scaled - scaled.max())
    np.testing.assert_allclose(diagnosis.probabilities, expected / expected.sum(), atol=1e-9)


def test_the_diagnosis_that_the_network_itself_puts_first_is_named(predictor):
    """Taking the lean back changes probabilities; named is what was measured."""
    lean = np.array([predictor.model.card["lean"][code] for code in predictor.classes])
    for seed, code in enumerate(predictor.classes):
        diagnosis = predictor.diagnose([draw_lesion(code, seed, (450, 600))[0]], PATIENT)
        scores = diagnosis.probabilities * lean
        assert diagnosis.named == predictor.classes[scores.argmax()]
        assert diagnosis.to_dict()["diagnosis"] == diagnosis.named
        assert diagnosis.to_dict()["most_probable"] == diagnosis.best
        raw = diagnosis.logits + predictor.temperature * np.log(lean)
        assert predictor.classes[raw.argmax()] == diagnosis.named in diagnosis.prediction_set


@pytest.mark.parametrize("lean", [{"nv": 1.0}, dict.fromkeys(HAM10000_CLASSES, 0), "much"])
def test_a_damaged_lean_is_refused(lean):
    model = store.open_model(NETWORKS[0])
    with pytest.raises(store.ModelError, match="is damaged: its lean is"):
        Predictor(dataclasses.replace(model, card=model.card | {"lean": lean}))


def test_what_is_named_may_not_be_the_most_probable(lesion):
    """And then it is among what cannot be ruled out."""
    model = store.open_model(NETWORKS[0])
    plain = Predictor(model).diagnose([lesion], PATIENT)
    rarest = plain.classes[plain.probabilities.argmin()]
    lean = dict(model.card["lean"]) | {rarest: 1e12}
    leaning = Predictor(dataclasses.replace(model, card=model.card | {"lean": lean}))
    diagnosis = leaning.diagnose([lesion], PATIENT)
    assert diagnosis.named == plain.named and diagnosis.best != rarest
    of_named = plain.probabilities * 0 + 1e-9
    of_named[plain.classes.index("nv")] = 1
    decided = leaning.decision(of_named)
    assert decided["named"] == rarest and rarest in decided["prediction_set"]
    assert decided["prediction_set"][0] == "nv"
    # And whatever is probable is not ruled out, however easily a model tells it.
    probabilities = np.full(7, 0.01)
    probabilities[[0, 4, 5]] = 0.12, 0.44, 0.40
    decided = leaning.decision(probabilities)
    assert {"akiec", "mel", "nv"} <= set(decided["prediction_set"])


def test_a_card_without_a_lean_names_the_most_probable(predictor, lesion):
    card = dict(predictor.model.card)
    del card["lean"]
    plain = Predictor(dataclasses.replace(predictor.model, card=card))
    said, leaning = plain.diagnose([lesion], PATIENT), predictor.diagnose([lesion], PATIENT)
    assert said.named == said.best
    divided = said.probabilities / predictor.lean
    np.testing.assert_allclose(leaning.probabilities, divided / divided.sum(), atol=1e-9)


def test_the_patient_moves_the_answer(predictor, lesion):
    young = predictor.diagnose([lesion], Patient(20, "female", "foot")).probabilities
    old = predictor.diagnose([lesion], Patient(85, "male", "face")).probabilities
    nevus = predictor.classes.index("nv")
    assert young[nevus] > old[nevus]


def test_bytes_paths_and_arrays_give_one_answer(predictor, lesion, tmp_path):
    import cv2

    content = cv2.imencode(".png", lesion[..., ::-1])[1].tobytes()
    path = tmp_path / "lesion.png"
    path.write_bytes(content)
    answers = [predictor.diagnose([photo]).logits for photo in (content, path, lesion)]
    np.testing.assert_allclose(answers[1], answers[0])
    np.testing.assert_allclose(answers[2], answers[0])


def test_no_photo_and_no_picture_are_refused(predictor):
    with pytest.raises(ValueError, match="at least one photo"):
        predictor.diagnose([])
    with pytest.raises(images.ImageRefused):
        predictor.diagnose([b"not a picture"])


def test_a_file_that_is_no_classifier_is_refused():
    with pytest.raises(store.ModelError, match="cannot be run"):
        Engine(b"not a model")


def test_an_answer_needs_neither_tensorflow_nor_keras():
    code = (
        "import sys, numpy as np\n"
        "from dermsa.inference.ensemble import open_predictor\n"
        "open_predictor().diagnose([np.full((300, 400, 3), 120, np.uint8)])\n"
        "heavy = {'tensorflow', 'keras', 'torch', 'jax', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_maps_of_mirrored_views_are_laid_back(predictor, lesion):
    """A mirrored photo has mirrored maps: nothing depends on which side is which."""
    if predictor.views < 4:
        pytest.skip("needs a model that looks at all four mirror images")
    photo = predictor.diagnose([lesion]).photos[0]
    mirrored = predictor.diagnose([np.ascontiguousarray(lesion[:, ::-1])]).photos[0]
    np.testing.assert_allclose(mirrored.evidence_grid, photo.evidence_grid[:, :, ::-1], atol=1e-4)
    np.testing.assert_allclose(mirrored.attention_grid, photo.attention_grid[:, ::-1], atol=1e-4)


# --- models of other heads and data sets ------------------------------------------------------


@pytest.fixture
def other(small_models, monkeypatch):
    """Opens one of `SMALL_MODELS`."""
    monkeypatch.setenv("DERMSA_WEIGHTS", str(small_models))
    return Predictor


def expected_logits(predictor, lesion, patient):
    """Of the network itself."""
    seen = images.to_model_input(lesion, predictor.engine.input_size)
    both = np.stack([seen, seen[:, ::-1]])  # these models look at two views
    logits = predictor.engine(both, patient.encode(predictor.age_scale)[None])["logits"]
    return as_told(predictor, logits.mean(axis=0))


def as_told(predictor, logits):
    """What training with class weights made the network lean to is taken back from its logits."""
    card = predictor.model.card
    lean = np.array([card["lean"][code] for code in predictor.classes])
    return explanation.centred(logits - card["temperature"] * np.log(lean))


@pytest.mark.parametrize("name", ["dense512", "pooled", "benign"])
def test_every_head_answers_with_the_logits_of_its_network(other, lesion, name):
    predictor = other(name)
    diagnosis = predictor.diagnose([lesion], PATIENT)
    expected = expected_logits(predictor, lesion, PATIENT)
    np.testing.assert_allclose(diagnosis.logits, expected, atol=1e-4)
    assert len(diagnosis.probabilities) == len(diagnosis.classes) == len(predictor.classes)
    hidden = predictor.diagnose([lesion], PATIENT.without("age")).probabilities
    np.testing.assert_allclose(diagnosis.if_unknown["age"], hidden, atol=1e-5)
    # The shares are exact, whether the logits are a sum or not.
    shares = sum(diagnosis.patient_contributions.values())
    unknown = expected_logits(predictor, lesion, Patient())
    np.testing.assert_allclose(shares, expected - unknown, atol=1e-4)
    json.dumps(diagnosis.to_dict(), allow_nan=False)


def test_a_model_that_does_not_split_has_attention_but_no_evidence(other, lesion):
    predictor = other("dense512")
    diagnosis = predictor.diagnose([lesion, lesion[::-1]], PATIENT)
    assert not predictor.decomposes and not diagnosis.decomposes
    photo = diagnosis.photos[0]
    assert photo.attention_map.shape == lesion.shape[:2]
    assert diagnosis.bias is diagnosis.image_evidence is diagnosis.patient_evidence is None
    with pytest.raises(NoDecomposition, match="do not split into evidence"):
        _ = photo.evidence_map
    whole = diagnosis.to_dict()
    assert whole["decomposes"] is False and whole["photos"][0]["evidence_grid"] is None


def test_a_model_without_attention_has_evidence_at_every_position(other, lesion):
    predictor = other("pooled")
    diagnosis = predictor.diagnose([lesion], PATIENT)
    (photo,) = diagnosis.photos
    assert photo.attention_grid is None and photo.attention_map is None
    assert photo.evidence_grid.shape == (3, 3, 5)
    assert photo.evidence_map.shape == (3, *lesion.shape[:2])
    sums = photo.evidence_grid.sum(axis=(1, 2))
    np.testing.assert_allclose(
        diagnosis.bias + sums + diagnosis.patient_evidence, diagnosis.logits, atol=1e-5
    )
    melanoma = diagnosis.probabilities[predictor.classes.index("mel")]
    assert diagnosis.malignancy == pytest.approx(melanoma)


def test_a_model_of_benign_diagnoses_refers_nobody(other, lesion):
    diagnosis = other("benign").diagnose([lesion], PATIENT)
    assert diagnosis.malignancy is None and diagnosis.triage is None
    assert diagnosis.to_dict()["verdict"] is None
    assert set(diagnosis.prediction_set) <= {"nv", "sk"} == set(diagnosis.classes)
