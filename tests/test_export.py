"""From a drawn data set to a model that answers: train, export, evaluate, predict."""

import json
import shutil

import numpy as np
import pytest

from dermsa import images
from dermsa.class_weights import class_weights
from dermsa.cli import main
from dermsa.datasets import cache, splits, synthetic
from dermsa.evaluation import record
from dermsa.evaluation.assess import assess_model
from dermsa.evaluation.calibration import fit_calibration
from dermsa.inference import store
from dermsa.inference.predictor import Predictor
from dermsa.models.classifier import build_classifier
from dermsa.models.classifier_config import HEADS
from dermsa.patient import Patient
from dermsa.training import answers, runs
from dermsa.training.examples import Examples
from dermsa.training.export import check_name, emphasis_of

SETTINGS = "--backbone MobileNetV3Small --input-size 64 --initial-weights none --epochs 1"
SETTINGS += " --batch-size 8 --warmup-steps 0"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_WEIGHTS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def run(synthetic_data, weights):
    data = ["--data", str(synthetic_data)]
    assert main(["train", *SETTINGS.split(), "--title", "Drawn lesions", *data]) == 0
    run = next(run for run in runs.all_runs() if "drawn-lesions" in run.id)
    assert run.status()["state"] == "finished"
    assert main(["export", run.id, "--name", "drawn", "--default-accurate", *data]) == 0
    return run


def test_the_model_is_what_was_trained(run, synthetic_dataset):
    predictor = Predictor("drawn")
    classifier = build_classifier(run.config().classifier)
    classifier.load_weights(run.best_weights)
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    patients = np.stack([Patient(age).encode(predictor.age_scale) for age in (20, 50, None)])
    keras = classifier.predict_on_batch({"image": image, "patient": patients})
    for name, value in predictor.engine(image, patients).items():
        np.testing.assert_allclose(value, keras[name], atol=1e-4, err_msg=name)
    bias = [predictor.model.card["bias"][code] for code in predictor.classes]
    np.testing.assert_allclose(bias, classifier.get_layer("logits").bias, atol=1e-7)


def test_the_card_says_where_it_comes_from(run, synthetic_dataset):
    card = store.read_card("drawn")
    split = splits.read_split(run.split)
    assert card["protocol"]["sha256"] == split.sha256
    train = synthetic_dataset.subset(split.rows(synthetic_dataset, "train"))
    ages = train.table["age"].dropna()
    assert card["age_scale"]["mean"] == pytest.approx(ages.mean())
    assert card["age_scale"]["std"] == pytest.approx(ages.std(ddof=0))
    assert card["training"]["run"] == run.id and card["training"]["chosen_epoch"] == 1
    assert card["architecture"]["input_size"] == [64, 64]
    assert card["data"]["parts"]["train"]["images"] == len(train.table)
    assert card["views"] == 4
    assert card["decomposes"] and card["architecture"]["patient_branch"] == "dense4096"
    assert card["protocol"]["test_images_of_training_lesions"] == 0
    assert "CC BY-NC 4.0" in card["licence"] and "HAM10000" in card["licence"]
    assert store.default_model() == "drawn"


def test_what_class_weights_made_it_lean_to_is_fitted_on_validation(run, synthetic_dataset):
    card, split = store.read_card("drawn"), splits.read_split(run.split)
    counts = np.bincount(
        synthetic_dataset.labels()[split.rows(synthetic_dataset, "train")], minlength=7
    )
    weights = class_weights("sqrt", counts)  # as these trainings have
    rows = split.rows(synthetic_dataset, "validation")
    logits = Predictor("drawn").logits(*seen_by(Predictor("drawn"), synthetic_dataset, rows))
    truth = synthetic_dataset.labels()[rows]
    temperature, fitted = fit_calibration(logits, truth, weights)
    assert card["temperature"] == pytest.approx(temperature, rel=1e-3)
    np.testing.assert_allclose(list(card["lean"].values()), fitted, rtol=1e-2)


def seen_by(predictor, dataset, rows):
    paths = dataset.table["path"].iloc[rows]
    patients = [dataset.patients()[row].encode(predictor.age_scale) for row in rows]
    return np.stack([predictor.seen(images.load(path)) for path in paths]), np.stack(patients)


PARTS = {"train": {"by_class": {"mel": 100, "nv": 900}}}


@pytest.mark.parametrize(
    ("settings", "more", "ratio"),
    [
        ({"class_weights": "none"}, {}, 1),
        ({"class_weights": "balanced"}, {}, 9),
        ({"class_weights": "sqrt"}, {}, 3),
        ({"class_weights": "5,1"}, {}, 5),
        ({"class_weights": "none", "sampling": "balanced"}, {}, 9),
        ({"class_weights": "balanced", "sampling": "over"}, {}, 9),
        ({"class_weights": "none", "more_photos": "isic2017"}, {"mel": 200}, 3),
        ({"class_weights": "balanced", "more_photos": "isic2017"}, {"mel": 200}, 9),
        # What trained the start of a second stage is shown no more.
        ({"class_weights": "none", "more_photos": "none"}, {"mel": 200}, 1),
    ],
)
def test_emphasis_is_of_weights_and_of_how_often_a_diagnosis_was_shown(settings, more, ratio):
    found = emphasis_of(settings, ("mel", "nv"), PARTS, {"isic2017": {"by_class": more}})
    assert found[0] / found[1] == pytest.approx(ratio, rel=0.01)


def test_a_diagnosis_without_training_photos_has_no_emphasis_of_its_own():
    parts = {"train": {"by_class": {"mel": 100, "nv": 900, "df": 0}}}
    settings = {"class_weights": "8,2,1", "more_photos": "isic2017"}
    found = emphasis_of(settings, ("mel", "nv", "df"), parts, {"isic2017": {"by_class": {"df": 5}}})
    np.testing.assert_allclose(found, [8, 2, 4])


def test_evaluate_finds_the_figures_of_the_card(run, synthetic_data, capsys):
    card = store.read_card("drawn")
    again = assess_model("drawn", data=synthetic_data, attention=False)
    for metric in ("accuracy", "macro_roc_auc", "log_loss"):
        assert again.interval(metric).value == pytest.approx(
            card["metrics"][metric]["value"], abs=1e-5
        )
    assert main(["evaluate", "--data", str(synthetic_data)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("drawn on ") and "protocol lesion" in printed
    assert main(["evaluate", "--json", "--data", str(synthetic_data)]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == again.images


def test_an_unknown_patient_needs_no_second_look_at_the_photos(run, synthetic_dataset, monkeypatch):
    predictor = Predictor("drawn")
    engine, rows = predictor.engine, np.arange(5, 45)
    examples = Examples(
        cache.decoded(synthetic_dataset, engine.input_size),
        synthetic_dataset.patient_vectors(predictor.age_scale),
        synthetic_dataset.labels(),
    )
    unknown = Patient().encode(predictor.age_scale)
    own = answers.run_engine(engine, examples, rows, 4)
    expected = answers.run_engine(engine, examples, rows, 4, unknown)
    assert np.abs(own - expected).max() > 0.01
    monkeypatch.setattr(answers, "run_engine", None)
    received = answers.with_patient(engine, examples, rows, 4, own, unknown)
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_a_file_of_half_the_size_is_measured_as_such(run, synthetic_data):
    arguments = ["--name", "half", "--weights-as", "float16", "--data", str(synthetic_data)]
    assert main(["export", run.id, *arguments]) == 0
    whole, half = store.read_card("drawn"), store.read_card("half")
    assert (whole["weight_format"], half["weight_format"]) == ("float32", "float16")
    assert len(store.open_model("half").onnx) < 0.55 * len(store.open_model("drawn").onnx)
    assert half["metrics"]["log_loss"]["value"] == pytest.approx(
        whole["metrics"]["log_loss"]["value"], abs=0.01
    )


def test_a_model_is_exported_again_with_a_smaller_file(run, synthetic_data, capsys):
    """As if its run had been exported so; the measured figures are the file's own."""
    data = ["--data", str(synthetic_data)]
    told = ["--weights-as", "float16", "--note", "In 16 bits.", *data]
    assert main(["export", "accurate", "--name", "again", *told]) == 0, capsys.readouterr().err
    again, whole = store.read_card("again"), store.read_card("drawn")
    half = store.read_card("half")
    assert len(store.open_model("again").onnx) < 0.55 * len(store.open_model("drawn").onnx)
    for key in ("temperature", "novelty", "metrics", "triage", "bias", "training", "protocol"):
        assert again[key] == half[key], key
    assert again["notes"] == [*whole["notes"], "In 16 bits."]
    assert (again["weight_format"], again["views"]) == ("float16", whole["views"])
    assert main(["export", "again", "--name", "again", "--weights-as", "int8", *data]) == 2
    assert "There is a model again already" in capsys.readouterr().err
    assert main(["export", "again", "--name", "eight", "--weights-as", "int8", *data]) == 0
    assert main(["export", "eight", "--name", "four", "--weights-as", "float16", *data]) == 2
    assert "in 8 bits" in capsys.readouterr().err


def test_evaluate_refuses_data_that_divide_differently(run, tmp_path, capsys):
    from dermsa.datasets import synthetic

    synthetic.write_ham10000(tmp_path / "ham10000", lesions_per_class=4, seed=9, size=(96, 128))
    assert main(["evaluate", "--data", str(tmp_path)]) == 2
    assert "not those the model was trained on" in capsys.readouterr().err


def test_a_model_is_replaced_only_if_told_so(run, synthetic_data, capsys):
    arguments = ["export", run.id, "--name", "drawn", "--data", str(synthetic_data)]
    assert main(arguments) == 2
    assert "There is a model drawn already" in capsys.readouterr().err
    assert main([*arguments, "--replace"]) == 0


@pytest.mark.parametrize("kind", ["ensemble", "soup"])
def test_what_another_is_made_of_is_not_replaced(run, weights, synthetic_data, capsys, kind):
    part = {"model": "drawn", "weight": 1.0, "sha256": store.card_sha256("drawn")}
    card = {"classes": ["nv"], "members": [part]}
    if kind == "soup":
        card = store.read_card("drawn") | {"soup": {"of": [part]}}
    (weights / "both").mkdir()
    (weights / "both" / "card.json").write_text(json.dumps(card))
    arguments = ["export", run.id, "--name", "drawn", "--replace", "--data", str(synthetic_data)]
    assert main(arguments) == 2
    assert "both is made of the model drawn and knows it by its hash" in capsys.readouterr().err
    shutil.rmtree(weights / "both")


def test_a_run_that_still_trains_is_not_exported(run, synthetic_data, capsys, monkeypatch):
    monkeypatch.setattr(runs.Run, "state", "running")
    assert main(["export", run.id, "--name", "early", "--data", str(synthetic_data)]) == 2
    assert "is running" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../outside", "", ".hidden", "a b"])
def test_names_that_are_no_folder_names_are_refused(run, name, synthetic_data, capsys):
    arguments = ["export", run.id, "--name", name, "--data", str(synthetic_data)]
    assert main(arguments) == 2
    assert "cannot name a model" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["accurate", "fast", "earlier"])
def test_names_of_the_files_beside_the_models_are_refused(name):
    with pytest.raises(runs.RunError, match="cannot name one"):
        check_name(name)


def test_a_run_that_is_not_there_is_refused(capsys):
    assert main(["export", "nothing", "--name", "x"]) == 2
    assert "There is no run" in capsys.readouterr().err


def test_models_lists_all_that_can_be_built_and_all_that_is_there(run, capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "MobileNetV2/published/soft_attention " in printed and "drawn" in printed
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    large = rows["MobileNetV3Large/published/global_pooling"]
    assert large["feature_shape"] == [7, 7, 960] and large["input_size"] == [224, 224]
    assert large["decomposes"] and not rows["DattaVGG16/published/soft_attention"]["decomposes"]
    assert "DattaVGG16/published/soft_attention_dense512" not in rows


def test_models_tells_the_parameters_of_a_backbone(run, capsys):
    assert main(["models", "--json", "--backbone", "MobileNetV3Small"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {
        f"MobileNetV3Small/{cut}/{head}" for cut in ("published", "trunk") for head in HEADS
    }
    small = rows["MobileNetV3Small/published/soft_attention"]
    assert small["parameters"] == 990_010 - 2
    assert small["trainable_parameters"] == 979_239 + 1
    assert main(["models", "--backbone", "MobileNetV3Smal"]) == 2
    assert "Did you mean MobileNetV3Small" in capsys.readouterr().err


def test_a_model_of_another_data_set_has_its_classes(weights, tmp_path, capsys):
    """ISIC 2017 without melanomas: two diagnoses, none malignant, no patient, no attention; and of
    nine photos of each part."""
    synthetic.write_isic2017(tmp_path / "isic2017", lesions_per_class=40, size=(96, 128))
    data = ["--data", str(tmp_path)]
    settings = [*SETTINGS.split(), "--dataset", "isic2017-nv-sk", "--head", "global_pooling"]
    settings += ["--patient-branch", "none", "--title", "Nevus or keratosis", "--limit", "9"]
    assert main(["train", *settings, *data]) == 0, capsys.readouterr().err
    run = next(run for run in runs.all_runs() if "nevus-or-keratosis" in run.id)
    assert main(["export", run.id, "--name", "keratosis", *data]) == 0, capsys.readouterr().err
    card = store.read_card("keratosis")
    assert card["classes"] == ["nv", "sk"] and card["malignant"] == []
    assert {part: of["images"] for part, of in card["data"]["parts"].items()} == {
        "train": 9,
        "validation": 9,
        "test": 9,
    }
    assert len(record.load(run.folder).predictions) == 9
    assert card["class_names"]["sk"] == "Seborrheic keratosis"
    assert card["data"]["name"] == "isic2017-nv-sk" and "CC-0" in card["licence"]
    assert card["decomposes"] and card["architecture"]["head"] == "global_pooling"
    assert "attention_shape" not in card["architecture"]
    assert card["architecture"]["evidence_shape"] == [2, 2, 2]
    assert card["triage"]["malignancy"] == card["triage"]["melanoma"] == []
    text = (weights / "keratosis" / "README.md").read_text()
    assert "with global average pooling, " in text and "not defined" in text
    photo = np.full((90, 120, 3), 150, np.uint8)
    diagnosis = Predictor("keratosis").diagnose([photo], Patient(50))
    assert diagnosis.triage is None and set(diagnosis.classes) == {"nv", "sk"}


def test_training_without_data_says_how_to_get_them(tmp_path, capsys):
    assert main(["train", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "DERMSA_DATA" in error and "Traceback" not in error


def test_wrong_settings_are_refused_by_name(synthetic_data, capsys):
    data = ["--data", str(synthetic_data)]
    for flag, value, sentence in (
        ("--cut", "trnk", "Did you mean trunk"),
        ("--class-weights", "heavy", "Expected one of"),
        ("--learning-rate", "-1", "above 0"),
        ("--epochs", "0", "at least 1"),
        ("--input-size", "8", "at least 32"),
    ):
        assert main(["train", flag, value, *data]) == 2
        assert sentence in capsys.readouterr().err
