"""One network of several: its weights are the mean of theirs, and it is measured like any other."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from tiny import config_of

from dermsa.cli import main
from dermsa.datasets import splits
from dermsa.inference import store
from dermsa.inference.predictor import Predictor
from dermsa.models.classifier import build_classifier
from dermsa.patient import Patient
from dermsa.training import export, shipped
from dermsa.training.runs import RunError, create_run
from dermsa.training.start import starting_classifier
from dermsa.training.trainer import train

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_WEIGHTS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def trained(weights, synthetic_data, tiny_backbone):
    """A network, and what became of it with larger photos and other weights in the loss."""
    runs = {}
    first = config_of(class_weights="none")
    larger = dataclasses.replace(first.classifier, input_size=(96, 96))
    for name, config in (
        ("first", first),
        ("larger", dataclasses.replace(first, classifier=larger, start_from="first", seed=4,
                                       class_weights="balanced")),
    ):  # fmt: skip
        runs[name] = create_run(config, name)
        train(runs[name], synthetic_data)
        export.export(runs[name], name, synthetic_data)
    return runs


@pytest.fixture(scope="module")
def soup(trained, synthetic_data):
    options = ["--of", "first", "larger", "--name", "both", "--note", "Drawn.", "--default-fast"]
    assert main(["soup", *options, "--data", str(synthetic_data)]) == 0
    return store.read_card("both")


def classifier_of(run):
    classifier = build_classifier(run.config().classifier)
    classifier.load_weights(run.best_weights)
    return classifier


def test_it_answers_as_the_mean_of_their_weights_does(soup, trained, weights):
    first, larger = map(classifier_of, trained.values())
    mean = build_classifier(trained["first"].config().classifier)
    for ours, one, other in zip(mean.weights, first.weights, larger.weights, strict=True):
        if one.shape != other.shape:  # of the positions of the feature map
            other = np.asarray(keras.ops.image.resize(
                np.asarray(other).reshape(1, *other.shape[:2], -1), one.shape[:2], antialias=True
            )).reshape(one.shape) * np.prod(other.shape[:2]) / np.prod(one.shape[:2])  # fmt: skip
        ours.assign((np.asarray(one) + np.asarray(other)) / 2)
    photos = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    patient = Patient(50, "male").encode(Predictor("both").age_scale)
    inputs = {"image": photos, "patient": np.tile(patient, (8, 1))}
    expected = mean.predict_on_batch(inputs)["logits"]
    found = Predictor("both").engine(photos, inputs["patient"])["logits"]
    # The file does not tell statistics of normalisations, which are measured again: the means
    # differ a little.
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    alone = first.predict_on_batch(inputs)["logits"]
    assert np.abs(found - alone).max() > np.abs(found - expected).max()


def test_its_card_says_what_it_is_made_of(soup, trained):
    parts = [{"model": name, "sha256": store.card_sha256(name)} for name in trained]
    assert soup["soup"] == {"of": parts} and "training" not in soup
    assert soup["architecture"]["input_size"] == [64, 64] and soup["views"] == 4
    assert soup["protocol"]["sha256"] == splits.read_split(trained["first"].split).sha256
    assert soup["metrics"]["macro_recall"]["n"] == soup["data"]["parts"]["test"]["images"]
    assert store.named("fast") == "both"
    text = (store.weights_folder() / "both" / "README.md").read_text(encoding="utf-8")
    assert "the mean of those of first, larger" in text and "Drawn." in text
    cards = [store.read_card(name) for name in trained]
    emphasis = np.array([export.emphasis_of_card(card) for card in cards])
    np.testing.assert_allclose(export.emphasis_of_card(soup), np.sqrt(emphasis.prod(axis=0)))


def test_validation_says_which_to_average(soup, trained, synthetic_data, capsys):
    options = ["--of", *trained, "--compare", "--json", "--data", str(synthetic_data)]
    assert main(["soup", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {tuple(each["members"]) for each in found} == {
        ("first",), ("larger",), ("first", "larger")
    }  # fmt: skip
    losses = [each["log_loss"] for each in found]
    assert losses == sorted(losses)
    alone = {each["members"][0]: each for each in found if len(each["members"]) == 1}
    kept = store.read_card("first")["validation_metrics"]
    assert alone["first"]["log_loss"] == pytest.approx(kept["log_loss"]["value"], abs=1e-3)
    both = next(each for each in found if len(each["members"]) == 2)
    kept = soup["validation_metrics"]
    assert both["macro_auc"] == pytest.approx(kept["macro_roc_auc"]["value"], abs=1e-3)


def test_trainings_go_on_from_it(soup, trained, synthetic_data):
    config = dataclasses.replace(trained["first"].config(), start_from="both", epochs=1)
    run = create_run(config)
    shutil.copy(trained["first"].split, run.split)
    photos = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)
    classifier = starting_classifier(run, config, synthetic_data, photos)
    inputs = {"image": photos[:4].astype(np.float32), "patient": np.zeros((4, 21), np.float32)}
    np.testing.assert_allclose(
        classifier.predict_on_batch(inputs)["logits"],
        Predictor("both").engine(inputs["image"], inputs["patient"])["logits"],
        atol=1e-3,
    )


def test_it_is_written_again_in_fewer_bits(soup, synthetic_data):
    export.reexport("both", "both-16", "float16", synthetic_data)
    card = store.read_card("both-16")
    assert card["soup"] == soup["soup"] and card["weight_format"] == "float16"
    for code, lean in soup["lean"].items():
        assert card["lean"][code] == pytest.approx(lean, rel=0.05)


def test_what_it_is_made_of_must_be_as_it_was(soup, weights, synthetic_data):
    entry = {"model": "first", "sha256": "0" * 64}
    for card in (
        soup | {"soup": {"of": [entry]}},
        soup | {"soup": {"of": [entry | {"model": "gone"}]}},
    ):
        with pytest.raises(RunError, match="both is made of the model .* not there any more"):
            export.emphasis_of_card(card)


def test_its_preset_names_the_trainings_behind_it(soup, trained):
    with pytest.raises(ValueError, match=r"as first and larger were.*--input-size 64x64 --views 4"):
        shipped.training("shipped/both")
    assert [each.model for each in shipped.members("shipped/both")] == list(trained)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["first"], "at least two different"),
        (["fast", "both"], "at least two different"),
        (["first", "soup"], "one of the networks to be averaged"),
        (["first", "first"], "at least two different"),
        (["first", "other"], "different classifiers"),
        (["first", "elsewhere"], "do not have the same split"),
        (["first", "older"], "do not scale the age alike"),
        (["first", "nothing"], "There is no model 'nothing'"),
    ],
)
def test_what_has_no_common_place_is_refused(soup, weights, synthetic_data, capsys, names, why):
    changes = {
        "soup": lambda card: None,
        "other": lambda card: card["architecture"].update(head="global_pooling"),
        "elsewhere": lambda card: card["protocol"].update(sha256="0" * 64),
        "older": lambda card: card["age_scale"].update(mean=1.0),
    }
    for name in set(names) & set(changes):
        shutil.copytree(weights / "first", weights / name)
        card = store.read_card("first") | {"name": name}
        changes[name](card)
        (weights / name / store.CARD).write_text(json.dumps(card))
    try:
        before = sorted(weights.iterdir())
        arguments = ["--of", *names, "--name", "soup", "--replace", "--data", str(synthetic_data)]
        assert main(["soup", *arguments]) == 2
        assert why in capsys.readouterr().err and sorted(weights.iterdir()) == before
        assert "soup" not in names or "soup" not in store.read_card("soup")
    finally:
        for name in changes:
            shutil.rmtree(weights / name, ignore_errors=True)
