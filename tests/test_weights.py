"""What ships in `weights/` belongs together and is as good as it says."""

import numpy as np
import pytest

from dermsa.datasets.dataset import DatasetError, require_root
from dermsa.evaluation import elsewhere, evaluate, record
from dermsa.inference import store
from dermsa.training.config import MONITORS
from dermsa.training.export import card_readme

MODELS = store.model_names()


@pytest.mark.parametrize("name", MODELS)
def test_a_card_and_its_files_belong_together(name):
    model = store.open_model(name)  # checks every hash
    card = model.card
    assert card["name"] == name == model.folder.name
    networks = [store.read_card(member.model.name) for member in model.members] or [card]
    assert all(set(network["files"]) == {"model.onnx", "novelty.npz"} for network in networks)
    assert (model.folder / "README.md").read_text(encoding="utf-8") == card_readme(card)
    assert card["protocol"]["chosen_on"] == "validation"
    assert card["protocol"]["reported_on"] == "test"
    parts = dict(card["data"]["parts"])
    if "folds" in card:  # what validates some of its members has trained others
        validation = parts.pop("validation")
        assert 0 < validation["images"] <= parts["train"]["images"]
        asked = {name: store.read_card(name) for name in card["folds"]["calibrated_by"]}
        assert len(asked) >= card["folds"]["members_asked"]
        assert set(asked) <= {member["model"] for member in card["members"]}
    assert sum(part["images"] for part in parts.values()) == card["data"]["images"] == 10015
    assert sum(part["lesions"] for part in parts.values()) == card["data"]["lesions"] == 7470
    for training in (network["training"] for network in networks if "soup" not in network):
        monitor = training["config"]["monitor"]
        curve = training["curves"][monitor]
        assert curve[training["chosen_epoch"] - 1] == MONITORS[monitor](curve)
    for soup in (network["soup"] for network in networks if "soup" in network):
        for part in soup["of"]:
            assert part["sha256"] == store.card_sha256(part["model"])
    assert "NC" in card["licence"]


@pytest.mark.parametrize("name", MODELS)
def test_every_figure_of_a_card_has_its_n_and_interval(name):
    card = store.read_card(name)
    for metric, interval in card["metrics"].items():
        assert interval["n"] > 0 and interval["n_lesions"] > 0, metric
        assert interval["low"] <= interval["value"] <= interval["high"], metric
    for kind in ("malignancy", "melanoma"):
        for point in card["triage"][kind]:
            assert 0 < point["threshold"] < 1
            assert (
                point["sensitivity"]["n"] + point["specificity"]["n"]
                == (card["data"]["parts"]["test"]["images"])
            )


def test_the_default_model_is_as_good_as_promised():
    card = store.read_card(store.default_model())
    assert card["metrics"]["macro_recall"]["value"] >= 0.72
    assert card["metrics"]["macro_roc_auc"]["value"] >= 0.95
    assert card["metrics_per_class"]["roc_auc"]["mel"]["value"] >= 0.90


@pytest.mark.parametrize("name", MODELS)
def test_the_figures_of_a_card_are_those_of_its_kept_answers(name):
    card, kept = store.read_card(name), record.open_source(name)  # checks what belongs together
    assert kept.images == card["data"]["parts"]["test"]["images"]
    for metric in ("accuracy", "macro_recall", "macro_roc_auc", "malignancy_roc_auc"):
        # Answers of several photos at once round the last bits differently.
        assert kept.interval(metric).value == pytest.approx(
            card["metrics"][metric]["value"], abs=2e-3
        )


def test_earlier_models_are_there_and_the_defaults_need_none_of_them():
    earlier, needed = store.earlier_models(), set(map(store.named, store.ROLES))
    for name in tuple(needed):
        needed |= {member["model"] for member in store.read_card(name).get("members", ())}
    assert earlier <= set(MODELS) and not earlier & needed


@pytest.mark.parametrize("role", store.ROLES)
def test_what_answers_by_default_was_measured_on_another_source_as_it_is(role):
    foreign, card = elsewhere.read(role), store.read_card(role)
    # All of the source, or the rest of it where the half trained the model.
    assert set(card["data"]["more"]) <= {"isic2017-half"}
    assert foreign.images == (1018 if card["data"]["more"] else 2000)
    assert foreign.trained == sum(more["images"] for more in card["data"]["more"].values())
    for kind in ("malignancy", "melanoma"):
        own = [point["threshold"] for point in card["triage"][kind]]
        assert [point.threshold for point in getattr(foreign, kind)] == own


def test_the_kept_answers_of_the_default_model_come_again_from_the_images():
    """Of every fifteenth test photo; an ensemble asks every network for it."""
    try:
        root = require_root()
    except DatasetError:
        pytest.skip("needs HAM10000: set DERMSA_DATA to the folder that holds ham10000/")
    if not (root / "ham10000").is_dir():
        pytest.skip(f"needs HAM10000: there is no ham10000/ in {root}")
    kept = record.open_source(store.default_model()).predictions
    subject = evaluate.subject(None)
    again = evaluate.predict_rows(subject.predictor, subject.dataset, subject.rows[::15])
    places = {case: place for place, case in enumerate(kept.case_ids)}
    chosen = [places[case] for case in again.case_ids]
    assert len(chosen) == 100 and (kept.truth[chosen] == again.truth).all()
    np.testing.assert_allclose(kept.probabilities[chosen], again.probabilities, atol=2e-3)
