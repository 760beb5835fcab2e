"""Distillation: a model that was trained teaches another network, on drawn lesions."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from tiny import config_of

from dermsa.cli import main
from dermsa.evaluation import evaluate
from dermsa.evaluation.evaluate import predict_rows
from dermsa.inference import store
from dermsa.inference.ensemble import open_predictor
from dermsa.training import runs, teacher
from dermsa.training.examples import split_rows
from dermsa.training.export import _more
from dermsa.training.runs import RunError, create_run
from dermsa.training.trainer import train

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture(scope="module", autouse=True)
def weights(tiny_backbone, synthetic_data, tmp_path_factory):
    """A folder of models with one of them, "master"."""
    settings = "--backbone Tiny --input-size 64 --initial-weights none --epochs 1"
    settings += " --batch-size 8 --title master"
    data = ["--data", str(synthetic_data)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        assert main(["train", *settings.split(), *data]) == 0
        run = next(run for run in runs.all_runs() if "master" in run.id)
        assert main(["export", run.id, "--name", "master", *data]) == 0
        yield


def taught(dataset, **settings):
    run = create_run(config_of(teacher="master", **settings))
    return run, split_rows(run, run.config(), dataset)["train"]


def test_the_target_is_the_label_and_the_teachers_answer(synthetic_dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("DERMSA_CACHE", str(tmp_path))
    run, rows = taught(synthetic_dataset, teacher_share=0.25)
    told = []
    targets = teacher.targets(run, run.config(), synthetic_dataset, rows, told.append)
    answers = predict_rows(open_predictor("master"), synthetic_dataset, rows)
    labels = np.eye(7)[answers.truth]
    np.testing.assert_allclose(
        targets[rows], 0.75 * labels + 0.25 * answers.probabilities, atol=1e-6
    )
    others = np.setdiff1d(np.arange(len(targets)), rows)
    assert not targets[others].any() and told[0] == 0


def test_what_trained_the_teacher_is_told_of_its_pupil(synthetic_dataset, monkeypatch, tmp_path):
    shutil.copytree(store.weights_folder() / "master", tmp_path / "master")
    path = tmp_path / "master" / store.CARD
    card = json.loads(path.read_text())
    card["data"]["more"] = {"isic2017": {"images": 7, "by_class": {}}}
    path.write_text(json.dumps(card))
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    config = config_of(teacher="master")
    assert _more(config, synthetic_dataset, None) == (card["data"]["more"], [])
    shutil.rmtree(tmp_path / "master")
    found, (unknown,) = _more(config, synthetic_dataset, None)
    assert found == {} and "taught by master, which is not there any more" in unknown


def test_a_run_learns_from_it_and_goes_on_without_it(synthetic_data, monkeypatch, tmp_path):
    run = create_run(config_of(teacher="master", mixup=0.2, epochs=1))
    plain = create_run(config_of(mixup=0.2, epochs=1))
    for each in (run, plain):
        train(each, synthetic_data)
    assert run.metrics()["train_loss"].iloc[0] != plain.metrics()["train_loss"].iloc[0]
    assert "master has taught" in (run.folder / "train.log").read_text()
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    run.extend(2)
    train(run, synthetic_data)
    assert run.state == "finished" and len(run.metrics()) == 2


def test_it_is_asked_once_for_all_runs(synthetic_dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("DERMSA_CACHE", str(tmp_path))
    first, rows = taught(synthetic_dataset)
    said = teacher.targets(first, first.config(), synthetic_dataset, rows)
    monkeypatch.setattr(evaluate, "predict_rows", lambda *_: pytest.fail("asked again"))
    second, _ = taught(synthetic_dataset)
    again = teacher.targets(second, second.config(), synthetic_dataset, rows)
    np.testing.assert_array_equal(again, said)
    third, _ = taught(synthetic_dataset)
    with pytest.raises(pytest.fail.Exception, match="asked again"):  # of other photos
        teacher.targets(third, third.config(), synthetic_dataset, rows[1:])


def test_a_teacher_of_another_split_is_refused(synthetic_data):
    run = create_run(config_of(teacher="master", split_seed=1))
    with pytest.raises(RunError, match="another split.*same protocol and seed"):
        train(run, synthetic_data)
    assert run.state == "failed" and "another split" in run.status()["error"]


def test_a_teacher_that_has_seen_what_validates_is_refused(synthetic_data, tmp_path, monkeypatch):
    shutil.copytree(store.weights_folder() / "master", tmp_path / "master")
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    path = tmp_path / "master" / store.CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"folds": {"count": 2}}))
    run = create_run(config_of(teacher="master"))
    with pytest.raises(RunError, match="ensemble over folds.*this run is validated on"):
        train(run, synthetic_data)


def test_a_teacher_that_is_not_there_is_named(synthetic_data):
    run = create_run(config_of(teacher="nobody"))
    with pytest.raises(store.ModelError, match="nobody"):
        train(run, synthetic_data)
    assert "nobody" in run.status()["error"]


def test_a_teacher_of_other_diagnoses_is_refused(synthetic_dataset):
    run, rows = taught(synthetic_dataset)
    others = dataclasses.replace(synthetic_dataset, classes=synthetic_dataset.classes[::-1])
    with pytest.raises(RunError, match="master knows other diagnoses"):
        teacher.targets(run, run.config(), others, rows)
