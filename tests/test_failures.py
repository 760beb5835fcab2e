"""Where a model fails: worked by hand, and the page of the model that ships."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_evaluations import drawn_evaluation

from dermsa.cli import main
from dermsa.evaluation import failures
from dermsa.evaluation.metrics import Predictions
from dermsa.inference import store
from dermsa.taxonomy import HAM10000_CLASSES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "failures.md"
CARD = {
    "malignant": ["akiec", "bcc", "mel"],
    "triage": {
        "default_sensitivity": 0.95,
        "malignancy": [
            {"target_sensitivity": 0.9, "threshold": 0.9},
            {"target_sensitivity": 0.95, "threshold": 0.3},
        ],
    },
}


def by_hand():
    """Six photos of four lesions. Columns: akiec, bcc, bkl, df, mel, nv, vasc."""
    rows = [
        ("P1", "L1", "mel", (0.0, 0.0, 0.1, 0.0, 0.1, 0.8, 0.0)),  # missed at 0.1, wrong at 0.8
        ("P2", "L1", "mel", (0.0, 0.0, 0.0, 0.0, 0.9, 0.1, 0.0)),  # right
        ("P3", "L2", "mel", (0.4, 0.0, 0.0, 0.0, 0.1, 0.5, 0.0)),  # wrong, but referred at 0.5
        ("P4", "L3", "nv", (0.0, 0.0, 0.3, 0.0, 0.6, 0.1, 0.0)),  # wrong at 0.6
        ("P5", "L3", "nv", (0.0, 0.0, 0.7, 0.0, 0.2, 0.1, 0.0)),  # wrong at 0.7
        ("P6", "L4", "nv", (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)),  # right
    ]
    ids, lesions, truth, probabilities = zip(*rows, strict=True)
    whole = drawn_evaluation()
    cases = whole.cases.iloc[: len(rows)].assign(image_id=ids, lesion_id=lesions, truth=truth)
    predictions = Predictions(
        np.array([HAM10000_CLASSES.index(code) for code in truth]),
        np.array(probabilities),
        HAM10000_CLASSES,
        lesion_ids=np.array(lesions),
    )
    return dataclasses.replace(whole, cases=cases, predictions=predictions)


def test_a_lesion_stands_once_with_its_worst_photo():
    found = failures.find(by_hand(), CARD)
    mistakes = found.mistakes[["image_id", "said", "probability", "of_truth", "photos", "alike"]]
    assert mistakes.to_numpy().tolist() == [
        ["P1", "nv", 0.8, 0.1, 2, 1],
        ["P5", "bkl", 0.7, 0.1, 2, 2],
        ["P3", "nv", 0.5, 0.1, 1, 1],
    ]
    assert (found.wrong_images, found.images, found.melanomas) == (4, 6, 2)
    assert len(failures.find(by_hand(), CARD, mistakes=1).mistakes) == 1


def test_melanomas_below_the_default_threshold_are_missed():
    found = failures.find(by_hand(), CARD)
    assert (found.threshold, found.promised) == (0.3, 0.95)
    missed = found.missed[["image_id", "malignancy", "photos", "alike"]]
    assert missed.to_numpy().tolist() == [["P1", 0.1, 2, 1]]
    page = failures.markdown(found)
    assert "Of 2 melanomas in the test part, 1 have at least one photo below it, 0 of them" in page
    assert "[P1](https://api.isic-archive.com/images/P1/) | 10.0% | Melanocytic nevus, 80%" in page


def test_what_is_not_known_of_a_patient_is_not_invented():
    evaluation = by_hand()
    evaluation.cases.loc[:, ["sex", "localization"]] = ""
    evaluation.cases.loc[:, "age"] = np.nan
    assert "| unknown |" in failures.markdown(failures.find(evaluation, CARD))


def test_a_model_without_melanomas_has_none_to_miss():
    evaluation = by_hand()
    classes = ("nv", "sk")
    predictions = Predictions(np.array([0, 1]), np.array([[0.5, 0.5], [1, 0]]), classes)
    with pytest.raises(ValueError, match="knows no melanoma"):
        failures.find(dataclasses.replace(evaluation, predictions=predictions), CARD)


@pytest.mark.skipif(not store.model_names(), reason="there is no model in weights/")
def test_the_page_in_the_documents_is_of_the_model_that_ships(tmp_path, capsys):
    out = tmp_path / "failures.md"
    assert main(["failures", "--out", str(out)]) == 0
    assert out.read_text() == PAGE.read_text(), "python -m dermsa failures --out docs/failures.md"
    capsys.readouterr()
    assert main(["failures", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    kept = pd.read_csv(store.weights_folder() / store.default_model() / "predictions.csv")
    kept = kept.set_index("image_id")
    for row in found["missed_melanomas"]:
        case = kept.loc[row["image_id"]]
        assert case["truth"] == "mel"
        assert case[["akiec", "bcc", "mel"]].sum() == pytest.approx(row["malignancy"], abs=1e-4)
        assert row["malignancy"] < found["threshold"]
