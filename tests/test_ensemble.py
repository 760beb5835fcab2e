"""Several models that answer as one: made, opened, asked, and refused where they do not fit."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from dermsa.cli import main
from dermsa.datasets import splits
from dermsa.datasets.synthetic import draw_lesion
from dermsa.evaluation.assess import assess_model
from dermsa.evaluation.calibration import fit_temperature, softmax
from dermsa.evaluation.evaluate import predict_rows
from dermsa.inference import store
from dermsa.inference.ensemble import EnsemblePredictor, mean_log, open_predictor
from dermsa.inference.predictor import Predictor
from dermsa.patient import Patient
from dermsa.training import answers
from dermsa.training.ensemble import EVEN_SHARE, best_explaining, fit_weights
from dermsa.training.export import card_readme

PATIENT = Patient(62, "male", "back")
SHIPPED = [name for name in store.model_names() if "members" not in store.read_card(name)]


# --- the mean and its weights -----------------------------------------------------------------


def draw_answers(members: int, cases: int = 300, seed: int = 0):
    """Probabilities of members that know more and more, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, cases)
    signal = np.eye(4)[truth]
    logits = [random.normal(size=(cases, 4)) + 0.8 * k * signal for k in range(members)]
    return [softmax(member) for member in logits], truth


def test_the_mean_is_the_geometric_mean():
    probabilities, _ = draw_answers(3)
    weights = np.array([0.5, 0.2, 0.3])
    expected = np.prod([p**w for w, p in zip(weights, probabilities, strict=True)], axis=0)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(mean_log(probabilities, weights)), expected, atol=1e-12)
    certain = np.array([[1.0, 0.0]])
    assert np.isfinite(mean_log([certain, certain], np.array([0.5, 0.5]))).all()


def test_fitted_weights_have_the_least_loss_of_all():
    probabilities, truth = draw_answers(3)

    def loss(weights):
        pooled = softmax(mean_log(probabilities, weights))
        of_truth = pooled[np.arange(len(truth)), truth]
        return -np.log(of_truth).mean() - EVEN_SHARE / 3 * np.log(weights).sum()

    fitted = fit_weights(probabilities, truth)
    assert fitted.sum() == pytest.approx(1) and (fitted > 0).all()
    others = np.random.default_rng(1).dirichlet(np.ones(3), 5000)
    assert loss(fitted) <= min(loss(weights) for weights in others)


def test_weights_follow_what_members_know_and_not_their_order():
    probabilities, truth = draw_answers(4)
    fitted = fit_weights(probabilities, truth)
    assert fitted.argmax() == 3 and fitted[0] < 0.1
    np.testing.assert_allclose(fit_weights(probabilities[::-1], truth)[::-1], fitted, atol=1e-5)
    same = fit_weights([probabilities[2]] * 3, truth)
    np.testing.assert_allclose(same, 1 / 3, atol=1e-6)


# --- made and asked ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory, synthetic_dataset):
    """Shipped networks, as if they had been split on the drawn lesions."""
    if not SHIPPED:
        pytest.skip("there is no network in weights/")
    folder, shipped = tmp_path_factory.mktemp("weights"), store.weights_folder()
    split = splits.draw(synthetic_dataset, "lesion")
    for name, source in (("first", SHIPPED[0]), ("last", SHIPPED[-1])):
        shutil.copytree(shipped / source, folder / name)
        card = store.read_card(source)
        card["name"] = name
        card["protocol"] |= {"name": "lesion", "seed": 0, "fold": None, "sha256": split.sha256}
        card["temperature"] *= 1.5 if name == "last" else 1
        (folder / name / store.CARD).write_text(json.dumps(card))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_WEIGHTS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def both(weights, synthetic_data):
    """The ensemble of the two, with fitted weights, as the command line makes it."""
    arguments = ["--members", "first", "last", "--name", "both", "--weights", "fitted"]
    arguments += ["--note", "Made of drawn lesions.", "--default-accurate"]
    arguments += ["--data", str(synthetic_data)]
    assert main(["ensemble", *arguments]) == 0
    return open_predictor("both")


@pytest.fixture(scope="module")
def lesion():
    return draw_lesion("mel", 3, (300, 400))[0]


def test_the_card_says_what_it_is_made_of(both, weights):
    card = store.read_card("both")
    assert [member["model"] for member in card["members"]] == ["first", "last"]
    assert sum(member["weight"] for member in card["members"]) == pytest.approx(1)
    assert card["members"][0]["sha256"] == store.card_sha256("first")
    assert card["notes"] == ["Made of drawn lesions."] and card["weighting"] == "fitted"
    readme = (weights / "both" / "README.md").read_text(encoding="utf-8")
    assert readme == card_readme(card) and "first (" in readme
    assert store.default_model() == "both"
    assert card["metrics"]["accuracy"]["n"] == card["data"]["parts"]["test"]["images"]


def test_its_answer_is_the_calibrated_mean_of_theirs(both, lesion):
    answer = both.diagnose([lesion], PATIENT)
    members = [Predictor(name).diagnose([lesion], PATIENT) for name in ("first", "last")]
    card = store.read_card("both")
    mean = np.prod(
        [
            member.probabilities ** entry["weight"]
            for entry, member in zip(card["members"], members, strict=True)
        ],
        axis=0,
    )
    lean = np.prod([one.lean**w for one, w in zip(both.members, both.weights, strict=True)], axis=0)
    np.testing.assert_allclose(list(card["lean"].values()), lean, rtol=1e-9)
    assert answer.named == both.classes[(answer.probabilities * lean).argmax()]
    powers = mean ** (1 / card["temperature"])
    np.testing.assert_allclose(answer.probabilities, powers / powers.sum(), atol=1e-6)
    assert answer.malignancy == pytest.approx(answer.probabilities[both.malignant].sum())
    assert answer.triage.threshold == both.operating_point["threshold"]
    assert answer.model == "both" and answer.model_sha256 == store.card_sha256("both")
    scores = [member.photos[0].novelty.score for member in members]
    limits = [member.photos[0].novelty.threshold for member in members]
    expected = both.weights @ (np.array(scores) / limits)
    assert answer.photos[0].novelty.score == pytest.approx(expected)
    json.dumps(answer.to_dict())


def test_the_explanation_is_one_member_s_and_says_so(both, lesion):
    answer = both.diagnose([lesion], PATIENT)
    named = store.read_card("both")["explained_by"]
    assert answer.explained_by == named["model"] == answer.to_dict()["explained_by"]
    alone = Predictor(named["model"]).diagnose([lesion], PATIENT)
    assert alone.explained_by == ""
    for name in ("logits", "bias", "image_evidence", "patient_evidence"):
        np.testing.assert_allclose(getattr(answer, name), getattr(alone, name), atol=1e-6)
    np.testing.assert_allclose(
        answer.photos[0].evidence_grid, alone.photos[0].evidence_grid, atol=1e-6
    )


def test_the_explaining_member_is_the_one_whose_maps_lie_best_on_validation(
    both, synthetic_data, synthetic_dataset
):
    named = store.read_card("both")["explained_by"]
    measured = {
        name: assess_model(name, "validation", synthetic_data, samples=20, progress=False)
        .attention.of("evidence")
        .measures["pointing"]
        .value
        for name in ("first", "last")
    }
    assert named["model"] == max(measured, key=measured.get)
    assert named["measured_on"] == "validation"
    for name, value in measured.items():
        assert named["pointing"][name]["value"] == pytest.approx(value)

    # Where nothing is said, the heaviest explains.
    card = {key: value for key, value in both.model.card.items() if key != "explained_by"}
    silent = EnsemblePredictor(dataclasses.replace(both.model, card=card))
    heaviest = ("first", "last")[int(both.weights.argmax())]
    assert silent.explaining.model.name == heaviest
    # Nor is anything said where no lesion is outlined.
    nobody = np.array([], int)
    assert (
        best_explaining([store.open_model("first")], synthetic_dataset, [nobody], synthetic_data)
        is None
    )


def test_every_choice_of_members_is_compared_on_validation(
    weights, synthetic_data, synthetic_dataset, capsys
):
    arguments = ["--members", "last", "first", "--compare", "--data", str(synthetic_data)]
    there = sorted(path.name for path in weights.iterdir())
    assert main(["ensemble", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[3:]].count("first") == 2
    assert main(["ensemble", *arguments, "--note", "For nobody."]) == 2
    assert "--compare makes no model" in capsys.readouterr().err
    assert main(["ensemble", *arguments, "--json"]) == 0
    means = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in weights.iterdir()) == there
    losses = [mean["log_loss"] for mean in means]
    assert len(means) == 3 and losses == sorted(losses)

    rows = splits.draw(synthetic_dataset, "lesion").rows(synthetic_dataset, "validation")
    predictors = [Predictor(name) for name in ("last", "first")]
    found = [predict_rows(each, synthetic_dataset, rows) for each in predictors]
    truth = found[0].truth
    mean = sum(np.log(each.probabilities) for each in found) / 2
    expected = softmax(mean, fit_temperature(mean, truth))
    lean = np.sqrt(predictors[0].lean * predictors[1].lean)
    both = next(each for each in means if each["members"] == ["last", "first"])
    assert both["log_loss"] == pytest.approx(log_loss(truth, expected, labels=range(7)), abs=1e-4)
    assert both["macro_recall"] == pytest.approx(
        balanced_accuracy_score(truth, (expected * lean).argmax(axis=1))
    )
    assert both["macro_auc"] == pytest.approx(
        roc_auc_score(truth, expected, multi_class="ovr"), abs=1e-4
    )


def test_networks_are_asked_once_for_all_ensembles(both, synthetic_data, monkeypatch):
    monkeypatch.setattr(answers, "run_engine", lambda *_: pytest.fail("asked again"))
    arguments = ["ensemble", "--members", "first", "last", "--data", str(synthetic_data)]
    assert main([*arguments, "--name", "even"]) == 0
    even, fitted = store.read_card("even"), store.read_card("both")
    assert even["validation_metrics"]["log_loss"] != fitted["validation_metrics"]["log_loss"]
    shutil.rmtree(store.weights_folder() / "even")
    changed = store.weights_folder() / "last" / store.CARD
    before = changed.read_text()
    changed.write_text(json.dumps(json.loads(before) | {"views": 2}))
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        main([*arguments, "--compare"])
    changed.write_text(before)


def test_several_photos_and_hidden_properties(both, lesion, tmp_path):
    path = tmp_path / "other.png"
    cv2.imwrite(str(path), draw_lesion("nv", 1, (300, 400))[0][..., ::-1])
    answer = both.diagnose([lesion, path], PATIENT)
    assert len(answer.photos) == 2
    for hidden, probabilities in answer.if_unknown.items():
        names = ("age", "sex", "localization") if hidden == "all" else (hidden,)
        expected = both.diagnose([lesion, path], PATIENT.without(*names)).probabilities
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_predict_and_evaluate_take_it_like_any_model(both, lesion, synthetic_data, tmp_path):
    photo, out = tmp_path / "lesion.png", tmp_path / "answers.csv"
    cv2.imwrite(str(photo), lesion[..., ::-1])
    assert main(["predict", str(photo), "--model", "both", "--out", str(out)]) == 0
    with open(out, newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    expected = both.diagnose([lesion]).probabilities
    given = [float(row[code]) for code in both.classes]
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert row["model"] == "both"


def test_evaluate_finds_the_figures_of_the_card(both, synthetic_data, capsys):
    arguments = ["evaluate", "--model", "both", "--json", "--data", str(synthetic_data)]
    assert main(arguments) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    metrics = store.read_card("both")["metrics"]
    for name in ("accuracy", "log_loss", "macro_roc_auc"):
        assert overall[name]["value"] == pytest.approx(metrics[name]["value"], abs=1e-4)


def test_its_maps_are_measured_as_those_of_the_member_that_it_shows(both, synthetic_data):
    member = both.explaining.model.name
    measured = [
        assess_model(name, data=synthetic_data, samples=20, progress=False).attention.as_dict()
        for name in ("both", member)
    ]
    assert measured[0]["network"] == measured[1]["network"] == member
    assert measured[0]["maps"] == measured[1]["maps"]


def test_the_page_shows_whose_maps_they_are(both, lesion):
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_file("../app.py", default_timeout=60).run()
    photo = cv2.imencode(".jpg", lesion[..., ::-1])[1].tobytes()
    page.file_uploader[0].set_value([("lesion.jpg", photo, "image/jpeg")]).run()
    assert not page.exception
    said = " ".join(caption.value for caption in page.caption)
    assert f"those of {both.diagnose([lesion]).explained_by}, a member of this ensemble" in said
    assert any("**both**" in text.value for text in page.markdown)


def test_an_answer_needs_neither_tensorflow_nor_keras(both):
    code = (
        "import sys, numpy as np\n"
        "from dermsa.inference.ensemble import open_predictor\n"
        "open_predictor('both').diagnose([np.full((300, 400, 3), 120, np.uint8)])\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# --- over folds ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def over_folds(weights, synthetic_data, synthetic_dataset):
    """The ensemble of "first", "last" and a network of another fold, whose name it gives."""
    shutil.copytree(weights / "first", weights / "third")
    split = splits.draw(synthetic_dataset, "lesion-rotated", fold=2)
    card = json.loads((weights / "third" / store.CARD).read_text())
    card |= {"name": "third", "temperature": card["temperature"] * 2}
    card["protocol"] |= {"name": "lesion-rotated", "seed": 0, "fold": 2, "sha256": split.sha256}
    (weights / "third" / store.CARD).write_text(json.dumps(card))
    arguments = ["ensemble", "--members", "third", "first", "last", "--name", "turns"]
    assert main([*arguments, "--data", str(synthetic_data)]) == 0
    yield open_predictor("turns")
    shutil.rmtree(weights / "turns")
    shutil.rmtree(weights / "third")


def test_validation_asks_those_that_were_not_trained_on_it(over_folds, both, synthetic_dataset):
    card, even = over_folds.model.card, np.full(2, 0.5)
    assert card["folds"] == {"count": 2, "members_asked": 2, "calibrated_by": ["first", "last"]}
    rotated = splits.draw(synthetic_dataset, "lesion-rotated")
    told = card["protocol"]
    assert (told["name"], told["sha256"], told["fold"]) == ("lesion-rotated", rotated.sha256, 0)
    plain = splits.draw(synthetic_dataset, "lesion")
    rows = plain.rows(synthetic_dataset, "validation")
    found = [predict_rows(Predictor(name), synthetic_dataset, rows) for name in ("first", "last")]
    truth = found[0].truth
    logits = mean_log([each.probabilities for each in found], even)
    assert card["temperature"] == pytest.approx(fit_temperature(logits, truth), rel=1e-3)
    measured = card["validation_metrics"]["log_loss"]
    assert measured["n"] == len(rows) == card["data"]["parts"]["validation"]["images"]
    expected = log_loss(truth, softmax(logits, card["temperature"]), labels=range(7))
    assert measured["value"] == pytest.approx(expected, abs=1e-4)
    trained = len(synthetic_dataset.table) - card["data"]["parts"]["test"]["images"]
    assert card["data"]["parts"]["train"]["images"] == trained
    assert "answered by the 2 of 3 members that were not trained on it" in card_readme(card)


def test_with_a_member_a_fold_each_photo_is_answered_by_the_one_it_is_new_to(
    over_folds, weights, synthetic_data, synthetic_dataset
):
    arguments = ["ensemble", "--name", "pair", "--data", str(synthetic_data), "--members"]
    cards = []
    for order in (["third", "first"], ["first", "third"]):
        assert main([*arguments, *order]) == 0
        cards.append(store.read_card("pair"))
        shutil.rmtree(weights / "pair")
    assert cards[0]["protocol"] == cards[1]["protocol"]
    assert cards[0]["temperature"] == pytest.approx(cards[1]["temperature"], rel=1e-4)

    truth, said, scores = [], [], []
    for name, fold in (("third", 2), ("first", 0)):
        split = splits.draw(synthetic_dataset, "lesion-rotated", fold=fold)
        predictor, rows = Predictor(name), split.rows(synthetic_dataset, "validation")
        found = predict_rows(predictor, synthetic_dataset, rows)
        truth.append(found.truth)
        said.append(np.log(found.probabilities))
        paths = synthetic_dataset.table["path"].iloc[rows]
        novelty = [predictor.diagnose([path]).photos[0].novelty for path in paths]
        scores += [each.score / each.threshold for each in novelty]
    truth, said = np.concatenate(truth), np.concatenate(said)
    card = cards[0]
    assert card["folds"]["members_asked"] == 1
    assert card["temperature"] == pytest.approx(fit_temperature(said, truth), rel=1e-3)
    measured = card["validation_metrics"]["log_loss"]
    assert measured["n"] == len(truth) == card["data"]["parts"]["validation"]["images"]
    expected = log_loss(truth, softmax(said, card["temperature"]), labels=range(7))
    assert measured["value"] == pytest.approx(expected, abs=1e-4)
    limit = np.quantile(scores, 1 - card["novelty"]["false_alarm_rate"])
    assert card["novelty"]["threshold"] == pytest.approx(limit, rel=1e-3)


def test_an_ensemble_over_folds_is_measured_on_test_alone(over_folds, synthetic_data, capsys):
    arguments = ["evaluate", "--model", "turns", "--json", "--data", str(synthetic_data)]
    assert main(arguments) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    metrics = over_folds.model.card["metrics"]
    assert overall["log_loss"]["value"] == pytest.approx(metrics["log_loss"]["value"], abs=1e-4)
    assert main([*arguments, "--part", "validation"]) == 2
    assert "trained on the photos of validation" in capsys.readouterr().err
    # Of all models, the others are measured nevertheless.
    everyone = ["evaluate", "--all", "--part", "validation", "--data", str(synthetic_data)]
    assert main(everyone) == 0
    printed = capsys.readouterr()
    assert "turns is left out: turns is an ensemble over folds" in printed.err
    assert "both on" in printed.out and "first on" in printed.out
    # Under a protocol that tests what validated, all of it is told as seen in training.
    assert main([*arguments[:3], "--protocol", "lesion-kfold", "--data", str(synthetic_data)]) == 0
    said = capsys.readouterr().out
    assert "Its members are of 2 folds of lesion-rotated" in said
    assert "figures are too good" in said and "of the validation part" not in said


def test_what_folds_do_not_allow_is_refused(over_folds, both, synthetic_data, capsys):
    members = ["first", "third"]
    message = refused(members, synthetic_data, capsys, "--weights", "fitted")
    assert "Weights cannot be fitted to members of different folds" in message
    arguments = ["ensemble", "--members", *members, "--compare", "--data", str(synthetic_data)]
    assert main(arguments) == 2
    assert "their means cannot be compared" in capsys.readouterr().err


# --- refused ----------------------------------------------------------------------------------


@pytest.fixture
def changed_card(weights):
    """Changes the card of "odd", a copy of "last", for one test."""

    def change(**values):
        shutil.copytree(weights / "last", weights / "odd")
        path = weights / "odd" / store.CARD
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    yield change
    shutil.rmtree(weights / "odd", ignore_errors=True)


def refused(members, synthetic_data, capsys, *more) -> str:
    data = ["--data", str(synthetic_data)]
    capsys.readouterr()
    assert main(["ensemble", "--members", *members, "--name", "never", *more, *data]) == 2
    assert "never" not in store.model_names()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (["first"], "at least two different members"),
        (["first", "first"], "at least two different members"),
        (["first", "nothing"], "There is no model 'nothing'"),
        (["first", "both"], "both is an ensemble"),
    ],
)
def test_members_that_cannot_be_are_refused(both, members, sentence, synthetic_data, capsys):
    assert sentence in refused(members, synthetic_data, capsys)


def test_members_that_do_not_fit_are_refused_by_name(
    weights, changed_card, synthetic_data, synthetic_dataset, capsys
):
    hash_of = splits.draw(synthetic_dataset, "lesion", 1).sha256
    other = {"name": "lesion", "seed": 1, "sha256": hash_of}
    for values, what in (
        ({"classes": ["mel", "nv"]}, "diagnoses"),
        ({"protocol": other}, "split"),
        ({"data": {"name": "isic2017"}}, "data set"),
    ):
        changed_card(**values)
        message = refused(["first", "odd"], synthetic_data, capsys)
        assert f"odd and first do not have the same {what}" in message
        shutil.rmtree(weights / "odd")


def test_a_damaged_member_is_refused_by_name(weights, changed_card, synthetic_data, capsys):
    changed_card()
    (weights / "odd" / "model.onnx").write_bytes(b"half of it")
    message = refused(["first", "odd"], synthetic_data, capsys)
    assert "model.onnx of the model odd is damaged" in message


def test_a_trained_model_is_not_replaced(weights, synthetic_data, capsys):
    before = (weights / "last" / store.CARD).read_bytes()
    message = refused(["first", "last"], synthetic_data, capsys, "--name", "last")
    assert "last is a trained model" in message
    assert (weights / "last" / store.CARD).read_bytes() == before


def test_an_ensemble_that_was_calibrated_as_another_mean_is_refused(both):
    card = {key: value for key, value in both.model.card.items() if key != "lean"}
    with pytest.raises(store.ModelError, match="both was made by an earlier version; make it"):
        EnsemblePredictor(dataclasses.replace(both.model, card=card))


def test_a_network_s_predictor_does_not_open_an_ensemble(both):
    with pytest.raises(store.ModelError, match="both is an ensemble"):
        Predictor("both")
