"""Evaluations on disk: nothing is lost, and nothing that does not belong together is read."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from drawn_evaluations import drawn_cases, drawn_evaluation

from dermsa.evaluation import compare, record
from dermsa.evaluation.cost import Cost, TrainingCost
from dermsa.evaluation.metrics import Predictions
from dermsa.evaluation.record import EvaluationError
from dermsa.inference import store

COST = Cost(10, 20, 30, 4, 1.0, 2.0, 3.0, 4.0, 5.0, 60, 7, 2, "a processor", ("A", "B"))
TRAINING = TrainingCost(110.5, None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a model "A" with its saved evaluation."""
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "weights" / "A"
    write_card(folder)
    record.save(drawn_a(), folder)
    return folder


def drawn_a():
    return drawn_evaluation("A", cost=COST, training=TRAINING, notes=("A note.",))


def write_card(folder, temperature=1.0):
    folder.mkdir(parents=True, exist_ok=True)
    card = {"files": {"model.onnx": "hash of A"}, "temperature": temperature, "views": 1}
    (folder / "card.json").write_text(json.dumps(card))


def test_what_is_saved_is_read(folder):
    saved, read = (
        drawn_evaluation("A", cost=COST, training=TRAINING, notes=("A note.",)),
        record.load(folder),
    )
    np.testing.assert_allclose(
        read.predictions.probabilities, saved.predictions.probabilities, atol=1e-6
    )
    np.testing.assert_array_equal(read.predictions.truth, saved.predictions.truth)
    np.testing.assert_array_equal(read.predictions.lesion_ids, saved.predictions.lesion_ids)
    pd.testing.assert_frame_equal(read.cases, saved.cases, check_dtype=False)
    for name in (
        "model",
        "kind",
        "dataset",
        "protocol",
        "part",
        "sentence",
        "cost",
        "training",
        "notes",
    ):
        assert getattr(read, name) == getattr(saved, name)
    before, after = record.as_dict(saved), record.as_dict(read)
    assert after == before  # every figure and group, to the last bit
    for name, drawn in saved.drawn.items():
        np.testing.assert_allclose(read.drawn[name], drawn, atol=1e-6, equal_nan=True)
    assert read.interval("recall", "mel").n == (saved.cases["truth"] == "mel").sum()
    with pytest.raises(EvaluationError, match="no figure 'recall'"):
        read.interval("recall")


def test_how_diagnoses_are_named_is_kept(folder):
    evaluation = drawn_a()
    lean = np.linspace(1, 4, len(evaluation.classes))
    leaning = dataclasses.replace(evaluation.predictions, lean=lean)
    record.save(dataclasses.replace(evaluation, predictions=leaning), folder)
    read = record.load(folder).predictions
    np.testing.assert_array_equal(read.lean, lean)
    np.testing.assert_array_equal(read.predicted, leaning.predicted)
    assert (read.predicted != evaluation.predictions.predicted).any()

    path = folder / record.EVALUATION
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"lean": {"nv": 1}}))
    with pytest.raises(EvaluationError, match="damaged: its lean is {'nv': 1}"):
        record.load(folder)
    del about["lean"]  # as in files of earlier versions
    path.write_text(json.dumps(about))
    assert (record.load(folder).predictions.lean == 1).all()


def test_a_changed_model_makes_its_evaluation_stale(folder):
    write_card(folder, temperature=1.5)
    with pytest.raises(EvaluationError, match="A is stale: temperature has changed.*--model A"):
        record.load(folder)


@pytest.mark.parametrize("name", [record.PREDICTIONS, record.SAMPLES])
def test_a_changed_or_missing_file_is_refused_by_name(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(EvaluationError, match=f"{name} is not the file"):
        record.load(folder)
    path.unlink()
    with pytest.raises(EvaluationError, match=f"{name} is missing"):
        record.load(folder)


def test_a_damaged_or_foreign_evaluation_is_refused(folder):
    path = folder / record.EVALUATION
    path.write_text("{")
    with pytest.raises(EvaluationError, match="is damaged"):
        record.load(folder)
    path.write_text('{"format": 0}')
    with pytest.raises(EvaluationError, match="another version.*evaluate --model A --save"):
        record.load(folder)


def test_sources_say_what_is_missing_and_what_to_do(folder, tmp_path):
    write_card(tmp_path / "weights" / "B")
    run = tmp_path / "runs" / "20250101-run"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    assert record.sources()[-1].problem == "20250101-run has finished no epoch yet."
    (run / record.RUN_WEIGHTS).write_bytes(b"weights")
    first, second, third = record.sources()
    assert (first.name, first.kind, first.problem) == ("A", "model", "")
    assert "evaluate --model B --save" in second.problem
    assert (third.name, third.kind) == ("20250101-run", "run")
    assert "export 20250101-run" in third.problem
    assert record.open_source("A").model == "A"
    with pytest.raises(EvaluationError, match="no model or run 'C'"):
        record.open_source("C")


def test_the_evaluation_of_a_run_belongs_to_its_weights(tmp_path):
    weights = tmp_path / record.RUN_WEIGHTS
    weights.write_bytes(b"weights")
    served = {record.RUN_WEIGHTS: record.store.sha256_of(b"weights")}
    record.save(drawn_evaluation("run", kind="run", served=served), tmp_path)
    assert record.load(tmp_path).kind == "run"
    weights.write_bytes(b"other weights")
    with pytest.raises(EvaluationError, match="best.weights.h5 has changed"):
        record.load(tmp_path)


def test_evaluations_of_before_know_no_share_of_lesions(folder):
    path = folder / record.EVALUATION
    about = json.loads(path.read_text())
    del about["leaked_lesions"]
    path.write_text(json.dumps(about))
    assert record.load(folder).leaked_lesions is None


# --- predictions from anywhere ------------------------------------------------------------------

GOOD = "image_id,truth,x,y\na,x,0.7,0.3\nb,y,0.4,0.6\nc,y,0.5,0.5\n"


def read(tmp_path, text, **more):
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    return record.read_predictions(path, **more)


def test_a_table_with_the_least_of_columns_is_enough(tmp_path):
    predictions, cases = read(tmp_path, GOOD, malignant=["y"])
    assert predictions.classes == ("x", "y")
    np.testing.assert_array_equal(predictions.truth, [0, 1, 1])
    np.testing.assert_allclose(predictions.malignancy_probability, [0.3, 0.6, 0.5])
    assert list(cases["lesion_id"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("0.4,0.6", "0.4,0.5"), "do not sum to 1 for 1 of 3.*example b: 0.9"),
        (GOOD.replace("0.4,0.6", ","), "truth without predictions for 1 of 3.*example b"),
        (GOOD.replace("0.4,0.6", "0.4,much"), "not numbers from 0 to 1 for 1 of 3.*example b"),
        (GOOD.replace("0.4,0.6", "-0.4,1.4"), "not numbers from 0 to 1"),
        (GOOD.replace("b,y", "b,z"), "truths that are no class: 'z'. The classes are x, y"),
        (GOOD.replace("b,y", "a,y"), "lists the image a twice"),
        (GOOD.replace("b,y", ",y"), "no image_id in line 3"),
        (GOOD.replace("truth", "label"), "lacks the column.s. truth"),
        ("image_id,truth,x\na,x,1\n", "fewer than two classes"),
        ("image_id,truth,x,y\n", "has no case"),
        ("", "lacks the column.s. image_id, truth"),
        (GOOD.replace("0.4,0.6", "0,4,0,6"), "more cells in line 3 than headings. Decimal commas"),
        (GOOD.replace("x,y\n", "x,x\n", 1), "has two columns x"),
        ("image_id,truth,age,x,y\na,x,old,0.7,0.3\n", "age that is no number for a"),
    ],
)
def test_a_wrong_table_is_refused_in_a_sentence(tmp_path, text, sentence):
    with pytest.raises(EvaluationError, match=sentence):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace(",", ";").replace("0.", "0,"),
        "sep=|\r\n" + GOOD.replace(",", "|").replace("\n", "\r\n"),
        "Image_ID, Truth , x,y,,\na.jpg,x,0.7,0.3,,\n\nb.JPG,y,0.4,0.6,,\nfolder/c.png,y,.5,.5,,\n",
        GOOD.replace("0.7,0.3", "0.7,0.31").replace("0.4,0.6", "0.4,0.59"),
        "\n\n" + GOOD.replace("truth", "TRUTH"),
    ],
    ids=[
        "semicolons",
        "its separator told",
        "spaces, suffixes, empty columns",
        "rounded",
        "empty lines",
    ],
)
def test_tables_as_others_write_them_are_read(tmp_path, text):
    predictions, cases = read(tmp_path, text)
    assert predictions.classes == ("x", "y") and list(cases["image_id"]) == ["a", "b", "c"]
    np.testing.assert_allclose(predictions.probabilities[:, 0], [0.7, 0.4, 0.5], atol=0.01)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)


def test_seven_probabilities_of_two_digits_and_truths_in_capitals_are_read(tmp_path):
    ours, other = drawn_evaluation("Ours"), drawn_evaluation("Other", 0.6, seed=2)
    path, table = theirs(other, tmp_path)
    rounded = table.round(2).assign(truth=table["truth"].str.upper(), age="NA")
    assert (rounded[list(ours.classes)].sum(axis=1) - 1).abs().max() > 0.015
    rounded.rename(columns=str.upper).to_csv(path)
    read = record.measured_elsewhere(path, ours)
    for metric in ("macro_roc_auc", "accuracy"):
        mine = other.interval(metric).value
        assert read.interval(metric).value == pytest.approx(mine, abs=0.02)


def test_missing_classes_are_refused(tmp_path):
    with pytest.raises(EvaluationError, match="lacks the probabilities of z"):
        read(tmp_path, GOOD, classes=("x", "y", "z"))


def theirs(evaluation, tmp_path, **more):
    """The predictions of an evaluation as another program might write them."""
    rows = evaluation.predictions
    table = pd.DataFrame(rows.probabilities, columns=list(rows.classes)).assign(
        image_id=rows.case_ids, truth=evaluation.cases["truth"].to_numpy(), **more
    )
    path = tmp_path / "theirs.csv"
    table.iloc[::-1].to_csv(path, index=False)
    return path, table


def test_predictions_of_another_program_are_put_beside_ours(tmp_path):
    ours, other = drawn_evaluation("Ours"), drawn_evaluation("Other", 0.6, seed=2)
    path, _ = theirs(other, tmp_path)
    read = record.measured_elsewhere(path, ours)
    assert read.model == "theirs" and read.leaked_share is None
    assert "not known" in read.sentence and read.notes == ours.notes
    leaning = dataclasses.replace(ours.predictions, lean=np.linspace(1, 2, len(ours.classes)))
    (note,) = record.measured_elsewhere(path, dataclasses.replace(ours, predictions=leaning)).notes
    assert note.startswith("theirs is read as naming the most probable diagnosis; Ours names by")
    assert read.interval("macro_recall") == other.interval("macro_recall")  # lesions are known
    compare.check_comparable([ours, read])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda table: table[2:], "lacks 2 of the 300 cases of Ours, for example DRAWN_00000"),
        (
            lambda table: pd.concat([table, table[:1].assign(image_id="NEW")]),
            "has 1 cases that Ours was not measured on, for example NEW",
        ),
        (
            lambda table: table.assign(truth="nv"),
            "has another truth than Ours for [0-9]+ images, for example DRAWN_",
        ),
        (lambda table: table.drop(columns="mel"), "lacks the probabilities of mel"),
    ],
    ids=["missing rows", "other cases", "other truth", "a class is missing"],
)
def test_predictions_of_other_cases_are_refused(tmp_path, spoil, sentence):
    ours = drawn_evaluation("Ours")
    path, table = theirs(ours, tmp_path)
    spoil(table).to_csv(path, index=False)
    with pytest.raises(EvaluationError, match=sentence):
        record.measured_elsewhere(path, ours)


def test_an_empty_class_is_told():
    cases, truth = drawn_cases(40)
    chosen = truth != 3
    evaluation = drawn_evaluation(n=40)
    few: Predictions = evaluation.predictions.subset(np.flatnonzero(chosen))
    (note,) = record.figures(few, samples=20)["notes"]
    assert note.startswith("There is no case of df:")
    assert evaluation.notes == ()


@pytest.mark.parametrize("role", store.ROLES)
def test_what_ships_is_found_by_its_role(role):
    assert record.open_source(role).model == store.named(role)
