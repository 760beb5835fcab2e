"""A labelled folder is scored; whatever is wrong with its labels is said in a sentence."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dermsa.cli import main
from dermsa.datasets import more_photos, registry, splits, synthetic
from dermsa.datasets.dataset import DatasetError
from dermsa.evaluation import elsewhere, record
from dermsa.evaluation.assess import (
    TruthError,
    assess_elsewhere,
    assess_folder,
    assess_model,
    assess_run,
    read_truth,
)
from dermsa.evaluation.evaluate import subject
from dermsa.evaluation.metrics import Predictions
from dermsa.inference import store
from dermsa.inference.ensemble import open_predictor
from dermsa.inference.predictor import Predictor
from dermsa.taxonomy import HAM10000_CLASSES, MALIGNANT
from tests.drawn_evaluations import drawn_evaluation

MODEL = "MobileNetV3Small"


@pytest.fixture(scope="module")
def photos(synthetic_data, tmp_path_factory):
    """A folder of twelve drawn photos, and their rows of HAM10000's metadata."""
    folder = tmp_path_factory.mktemp("photos")
    table = pd.read_csv(synthetic_data / "ham10000" / "HAM10000_metadata.csv").head(12)
    for image_id in table["image_id"]:
        shutil.copy(synthetic_data / "ham10000" / "HAM10000_images" / f"{image_id}.jpg", folder)
    return folder, table


def write(tmp_path, table):
    path = tmp_path / "truth.csv"
    table.to_csv(path, index=False)
    return path


def test_a_folder_is_scored_whichever_way_it_is_labelled(photos, tmp_path, capsys):
    folder, table = photos
    path = write(tmp_path, table)
    evaluation = assess_folder(MODEL, folder, path, samples=20, progress=False)
    assert evaluation.sentence.startswith(f"{MODEL} on 12 images of ")
    assert "is not known" in evaluation.sentence
    assert evaluation.images == 12 and evaluation.lesions == table["lesion_id"].nunique()
    assert (evaluation.protocol, evaluation.leaked_share) == ("none", None)
    np.testing.assert_array_equal(evaluation.cases["age"], table["age"])
    with pytest.raises(DatasetError):  # its own split cannot be drawn from other data
        assess_model(MODEL, data=tmp_path)

    # ISIC's form, the patients in a table of their own: the same answers.
    one_hot = pd.DataFrame({"image": table["image_id"]})
    for code in HAM10000_CLASSES:
        one_hot[code.upper()] = (table["dx"] == code).astype(float)
    patients = tmp_path / "patients.csv"
    table[["image_id", "age", "sex", "localization"]].to_csv(patients, index=False)
    again = assess_folder(
        MODEL, folder, write(tmp_path, one_hot), patients, samples=20, progress=False
    )
    np.testing.assert_array_equal(again.predictions.truth, evaluation.predictions.truth)
    np.testing.assert_allclose(
        again.predictions.probabilities, evaluation.predictions.probabilities
    )
    without = assess_folder(MODEL, folder, write(tmp_path, one_hot), samples=20, progress=False)
    assert not np.allclose(without.predictions.probabilities, again.predictions.probabilities)

    path = write(tmp_path, table)
    arguments = ["--model", MODEL, "--images", str(folder), "--truth", str(path), "--json"]
    assert main(["evaluate", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["overall"]["accuracy"]["value"] == evaluation.interval("accuracy").value


def test_photos_that_cannot_be_judged_are_counted(photos, tmp_path):
    folder, table = photos
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    Image.new("RGB", (600, 450), (5, 5, 5)).save(tmp_path / f"{table['image_id'][0]}.jpg")
    predictor = open_predictor(MODEL)
    doubtful = sum(not predictor.diagnose([path]).reliable for path in tmp_path.iterdir())
    assert doubtful >= 1
    evaluation = assess_folder(MODEL, tmp_path, write(tmp_path, table), samples=20, progress=False)
    assert f"{doubtful} photos cannot be judged" in " ".join(evaluation.notes)


def test_photos_of_another_source_are_scored_but_those_of_known_lesions(both_sources, capsys):
    arguments = ["evaluate", "--model", MODEL, "--elsewhere", "isic2017"]
    arguments += ["--data", str(both_sources)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"{MODEL} on 11 images of isic2017 (4 bkl, 3 mel, 4 nv), of which it has seen" in said
    assert "1 more that show a lesion of ham10000 are left out" in said

    found = assess_elsewhere(MODEL, "isic2017", both_sources, samples=20, progress=False)
    assert (found.dataset, found.protocol, found.images) == ("isic2017", "none", 11)
    photos = registry.read("isic2017", both_sources)
    rows = np.flatnonzero(photos.table["image_id"] != "SYN_0000000")
    ids = photos.table["image_id"].to_numpy(str)[rows]
    np.testing.assert_array_equal(found.predictions.case_ids, ids)
    truth = [HAM10000_CLASSES[k] for k in found.predictions.truth]
    names = {"mel": "mel", "nv": "nv", "sk": "bkl"}
    assert truth == [names[code] for code in photos.table["dx"].iloc[rows]]
    # The answer is that of the app to the same photo and patient.
    one = Predictor(MODEL).diagnose(
        [photos.table["path"].iloc[rows[5]]], photos.patients()[rows[5]]
    )
    np.testing.assert_allclose(found.predictions.probabilities[5], one.probabilities, atol=1e-5)


def test_what_was_measured_elsewhere_is_kept_until_the_model_changes(
    both_sources, tmp_path, monkeypatch, capsys
):
    shutil.copytree(store.weights_folder() / MODEL, tmp_path / MODEL)
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    (tmp_path / MODEL / elsewhere.FILE).unlink(missing_ok=True)
    assert elsewhere.read(MODEL) is None
    arguments = ["evaluate", "--model", MODEL, "--elsewhere", "isic2017", "--save"]
    before = (tmp_path / MODEL / record.EVALUATION).read_bytes()
    assert main([*arguments, "--data", str(both_sources)]) == 0
    assert (tmp_path / MODEL / record.EVALUATION).read_bytes() == before

    kept, card = elsewhere.read(MODEL), store.read_card(MODEL)
    found = assess_elsewhere(MODEL, "isic2017", both_sources, samples=20, progress=False)
    assert kept.images == 11 and kept.sentence == found.sentence
    assert kept.title == "ISIC 2017 part 3" and set(kept.roc_auc) == {"bkl", "mel", "nv"}
    assert kept.accuracy.value == found.interval("accuracy").value
    assert kept.roc_auc["mel"].value == found.interval("roc_auc", "mel").value
    said, truth = found.predictions.probabilities, found.predictions.truth
    is_melanoma = truth == HAM10000_CLASSES.index("mel")
    scores = {
        "malignancy": said[:, [HAM10000_CLASSES.index(code) for code in MALIGNANT]].sum(axis=1),
        "melanoma": said[:, HAM10000_CLASSES.index("mel")],
    }
    for kind, score in scores.items():
        for point, own in zip(getattr(kept, kind), card["triage"][kind], strict=True):
            assert point.threshold == own["threshold"]
            referred = score >= point.threshold
            assert point.sensitivity.value == pytest.approx(referred[is_melanoma].mean())
            assert point.specificity.value == pytest.approx(1 - referred[~is_melanoma].mean())
            assert (point.sensitivity.n, point.specificity.n) == (3, 8)
    assert kept.at(0.95).threshold == card["triage"]["malignancy"][1]["threshold"]
    assert kept.at(0.5) is None

    card["temperature"] *= 2
    (tmp_path / MODEL / store.CARD).write_text(json.dumps(card))
    assert elsewhere.read(MODEL) is None
    (tmp_path / MODEL / elsewhere.FILE).write_text("{}")
    assert elsewhere.read(MODEL) is elsewhere.read("nobody") is None


def test_the_rest_of_a_source_is_asked_of_a_model_that_half_of_it_trained(
    both_sources, tmp_path, monkeypatch
):
    monkeypatch.setattr(more_photos, "TOGETHER", 2)
    shutil.copytree(store.weights_folder() / MODEL, tmp_path / MODEL)
    card = json.loads((tmp_path / MODEL / store.CARD).read_text())
    card["data"]["more"] = {"isic2017-half": {"images": 5, "by_class": {}}}
    (tmp_path / MODEL / store.CARD).write_text(json.dumps(card))
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    found = assess_elsewhere(MODEL, "isic2017-rest", both_sources, samples=20, progress=False)
    assert found.images == 6 and "5 other photos of that source trained it." in found.sentence
    assert "0 more that show a lesion of ham10000 or of isic2017-half are left" in found.sentence
    elsewhere.keep(found, samples=20)
    measured = elsewhere.read(MODEL)
    assert (measured.title, measured.images) == ("ISIC 2017 part 3", 6)
    assert measured.whose.startswith("photos of ISIC 2017 part 3 that it has not seen")
    assert measured.trained == 5


def test_a_source_that_trained_the_model_is_refused(both_sources, tmp_path, monkeypatch):
    shutil.copytree(store.weights_folder() / MODEL, tmp_path / MODEL)
    path = tmp_path / MODEL / store.CARD
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    card = json.loads(path.read_text())
    for data, sentence in (
        ({"name": "ham10000", "more": {"isic2017": {"images": 3}}}, "isic2017, too.$"),
        (
            {"name": "ham10000", "more": {"isic2017-half": {"images": 3}}},
            "too. What is left of them: isic2017-rest",
        ),
        ({"name": "isic2017-nv-sk"}, "whose diagnoses are others"),
    ):
        path.write_text(json.dumps(card | {"data": card["data"] | data}))
        with pytest.raises(DatasetError, match=sentence):
            assess_elsewhere(MODEL, "isic2017", both_sources, samples=20, progress=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image_id,dx\na,mel\nb,wart\n", "does not know: 'wart'. It knows akiec"),
        ("image_id,dx\na,mel\na.jpg,nv\n", "lists the image a twice"),
        ("image_id,dx\na,mel\nb,\n", "no diagnosis for 1 images, for example b"),
        ("image,MEL,NV\na,1,0\nb,1,1\n", "1 of its rows are not one diagnosis.*example b"),
        ("image,MEL,NV\na,1,0\nb,,\n", "1 of its rows are not one diagnosis"),
        ("image,age\na,50\n", "neither a column dx nor one per diagnosis"),
        ("name,dx\na,mel\n", "no column image_id"),
        ("image_id,dx\n", "no row"),
        ("image_id,dx\na,mel\n,nv\n", "no image_id in line 3"),
        ('image_id,dx,lesion_id\na,mel,1\nb,nv,"2\nc,nv,3\n', "cannot be read: unexpected end"),
        ("Lesions of June\nimage_id,dx\na,mel\n", "has to be that of the headings"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, text, sentence):
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(TruthError, match=sentence):
        read_truth(path, HAM10000_CLASSES)


def test_photos_that_are_missing_or_no_photos_are_refused(photos, tmp_path, capsys):
    folder, table = photos
    more = pd.concat([table, table.head(1).assign(image_id="OTHER")])
    arguments = ["evaluate", "--model", MODEL, "--images", str(folder), "--truth"]
    assert main([*arguments, str(write(tmp_path, more))]) == 2
    assert "1 of 13 images of" in capsys.readouterr().err
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{table['image_id'][0]}.jpg").write_bytes(b"no photo")
    arguments[4] = str(tmp_path / "broken")
    assert main([*arguments, str(write(tmp_path, table.head(1)))]) == 2
    assert f"{table['image_id'][0]}.jpg: The file is not a picture" in capsys.readouterr().err
    assert main(["evaluate", "--truth", "x.csv"]) == 2
    assert "belong together" in capsys.readouterr().err


def test_a_run_is_assessed_from_what_it_says(synthetic_dataset, tmp_path):
    folder = tmp_path / "20250101-run"
    folder.mkdir()
    (folder / record.RUN_WEIGHTS).write_bytes(b"weights")
    split = splits.draw(synthetic_dataset, "lesion")
    rows = split.rows(synthetic_dataset, "test")
    probabilities = (
        np.full((len(rows), 7), 0.05) + 0.65 * np.eye(7)[synthetic_dataset.labels()[rows]]
    )
    evaluation = assess_run(folder, synthetic_dataset, split, probabilities, rows, samples=20)
    assert evaluation.interval("accuracy").value == 1 and evaluation.leaked_share == 0
    assert evaluation.sentence.startswith(f"20250101-run on {len(rows)} test images of ")
    assert "protocol lesion" in evaluation.sentence
    record.save(evaluation, folder)
    assert record.as_dict(record.load(folder)) == record.as_dict(evaluation)

    few = rows[:5]  # of a run that was limited
    evaluation = assess_run(folder, synthetic_dataset, split, probabilities[:5], few, samples=20)
    assert evaluation.cases["image_id"].tolist() == (
        synthetic_dataset.table["image_id"].iloc[few].tolist()
    )
    assert evaluation.sentence.startswith("20250101-run on 5 test images of ")

    leaky = splits.draw(synthetic_dataset, "image-90-10")
    rows = leaky.rows(synthetic_dataset, "test")
    evaluation = assess_run(
        folder, synthetic_dataset, leaky, np.full((len(rows), 7), 1 / 7), rows, samples=20
    )
    expected = splits.leakage(synthetic_dataset, leaky)
    assert evaluation.leaked_share == expected.share_of_images
    assert evaluation.leaked_lesions == expected.share_of_lesions > 0
    assert (
        f"({expected.share_of_images:.1%}; {expected.share_of_lesions:.1%} of the lesions) show "
        "lesions that training images show, too"
    ) in evaluation.sentence
    assert (
        f"{len(rows)} of these images (100.0%; 100.0% of the lesions) show lesions of the "
        "validation part, which chose epoch"
    ) in evaluation.sentence


def test_a_run_says_in_which_form_it_was_measured(synthetic_dataset, tmp_path):
    weights = tmp_path / record.RUN_WEIGHTS
    weights.write_bytes(b"weights")
    split = splits.draw(synthetic_dataset, "lesion")
    rows = split.rows(synthetic_dataset, "test")[:9]
    evaluation = assess_run(
        tmp_path,
        synthetic_dataset,
        split,
        np.full((9, 7), 1 / 7),
        rows,
        form={"temperature": 1.25, "views": 4, "weight_format": "int8"},
        samples=20,
    )
    record.save(evaluation, tmp_path)
    served = record.load(tmp_path).served
    assert served == {
        record.RUN_WEIGHTS: store.sha256_of(b"weights"),
        "temperature": 1.25,
        "views": 4,
        "weight_format": "int8",
    }
    weights.write_bytes(b"others")
    with pytest.raises(record.EvaluationError, match=f"{record.RUN_WEIGHTS} has changed"):
        record.load(tmp_path)


def test_a_model_is_measured_under_another_protocol(
    synthetic_data, synthetic_dataset, tmp_path, capsys
):
    split = splits.draw(synthetic_dataset, "lesion")
    source = store.weights_folder() / MODEL
    shutil.copytree(source, tmp_path / MODEL)
    card = store.read_card(MODEL)
    card["protocol"] |= {"name": "lesion", "seed": 0, "sha256": split.sha256}
    (tmp_path / MODEL / store.CARD).write_text(json.dumps(card))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_WEIGHTS", str(tmp_path))
        measured = assess_model(
            MODEL, data=synthetic_data, protocol="image-90-10", samples=20, progress=False
        )
        arguments = ["evaluate", "--model", MODEL, "--data", str(synthetic_data)]
        assert main([*arguments, "--protocol", "image-90-10", "--seed", "1"]) == 0
    tested = splits.draw(synthetic_dataset, "image-90-10").rows(synthetic_dataset, "test")
    trained = split.rows(synthetic_dataset, "train")
    lesions = synthetic_dataset.table["lesion_id"]
    shared = np.isin(lesions.iloc[tested], lesions.iloc[trained])
    assert shared.any() and measured.leaked_share == shared.mean()
    assert measured.protocol == "image-90-10" and measured.images == len(tested)
    assert "It was trained under lesion." in measured.sentence
    of_tested = lesions.iloc[tested].to_numpy()
    of_lesions = len(set(of_tested[shared])) / len(set(of_tested))
    assert measured.leaked_lesions == of_lesions
    assert (
        f"{shared.sum()} of these images ({shared.mean():.1%}; {of_lesions:.1%} of the lesions) "
        "show lesions that training"
    ) in measured.sentence
    chosen = np.isin(of_tested, lesions.iloc[split.rows(synthetic_dataset, "validation")])
    assert chosen.any() and not (chosen & shared).any()
    assert f"{chosen.sum()} of these images ({chosen.mean():.1%}; " in measured.sentence
    printed = capsys.readouterr().out
    (accuracy,) = [line for line in printed.splitlines() if line.startswith("  Accuracy")]
    assert "% of the lesions" in accuracy and "% of the images" in accuracy
    tested = splits.draw(synthetic_dataset, "image-90-10", 1).rows(synthetic_dataset, "test")
    shared = np.isin(lesions.iloc[tested], lesions.iloc[trained])
    assert f"{shared.mean():.1%} of the images" in accuracy


def test_what_else_trained_is_told_where_another_data_set_tests(
    synthetic_data, synthetic_dataset, tmp_path, monkeypatch
):
    data, weights = tmp_path / "data", tmp_path / "weights"
    data.mkdir()
    (data / "ham10000").symlink_to(synthetic_data / "ham10000")
    synthetic.write_isic2018_test(data / "isic2018", lesions_per_class=1, size=(64, 80))
    shutil.copytree(store.weights_folder() / MODEL, weights / MODEL)
    card = store.read_card(MODEL)
    card["protocol"]["sha256"] = splits.draw(synthetic_dataset, "lesion").sha256
    card["data"]["more"] = {"isic2017-half": {"images": 5, "by_class": {}}}
    (weights / MODEL / store.CARD).write_text(json.dumps(card))
    monkeypatch.setenv("DERMSA_WEIGHTS", str(weights))
    said = subject(MODEL, data=data, protocol="isic2018").sentence
    assert "whether any shows a lesion of isic2018 was not looked at" in said
    assert "isic2017" not in subject(MODEL, data=data).sentence


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--protocol lesion --save", "--save keeps the test part of a model's own split"),
        ("--protocol lesion --images a --truth b", "divide the model's own data set"),
        ("--part validation --elsewhere isic2017", "divide the model's own data set"),
        ("--elsewhere isic2017 --images a --truth b", "either --images or --elsewhere"),
        ("--save --images a --truth b", "--save keeps the test part"),
        ("--cost --elsewhere isic2017", "--cost measures no photos"),
        ("--all --cost --save", "--cost measures no photos"),
        ("--seed 1", "belong to --protocol"),
        ("--fold 0", "belong to --protocol"),
        ("--patients p.csv", "--patients belongs to --images"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags, sentence, capsys):
    assert main(["evaluate", *flags.split()]) == 2
    assert sentence in capsys.readouterr().err


def test_ids_with_dots_stay_whole(photos, tmp_path):
    folder, table = photos
    ids = [f"1.2.840.{number}" for number in range(3)]
    for place, image_id in enumerate(ids):
        shutil.copy(folder / f"{table['image_id'][place]}.jpg", tmp_path / f"{image_id}.JPG")
    truth = table.head(3).assign(image_id=[ids[0], f"{ids[1]}.jpg", f"photos/{ids[2]}.JPG"])
    path = write(tmp_path, truth[["image_id", "dx"]])
    patients = tmp_path / "patients.csv"
    known = truth.head(2)[["image_id"]].assign(AGE="61")
    pd.concat([known, pd.DataFrame({"image_id": ["x"], "AGE": ["3"]})]).to_csv(patients)
    evaluation = assess_folder(MODEL, tmp_path, path, patients, samples=20, progress=False)
    assert evaluation.cases["image_id"].tolist() == ids
    assert evaluation.cases["age"].tolist()[:2] == [61, 61]
    said = evaluation.sentence
    assert "on 3 images in" in said and "something known of the patient for 2 of 3" in said
    assert "bootstrap over photos: no lesion_id" in said
    told = " ".join(evaluation.notes)
    assert (
        "1 picture(s) have no row in the table" in told
        and "no true diagnosis, for example x" in told
    )


# --- compare on the command line ----------------------------------------------------------------


@pytest.fixture
def two_models_and_a_run(tmp_path, monkeypatch):
    """Drawn evaluations of the models A and B and of a run, on the same cases."""
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path / "runs"))
    for seed, name in enumerate(("A", "B")):
        evaluation = drawn_evaluation(name, skill=3.0 - 2 * seed, seed=seed)
        folder = store.weights_folder() / name
        folder.mkdir(parents=True)
        served = evaluation.served
        card = {"files": {"model.onnx": served["model.onnx"]}, "temperature": 1.0, "views": 1}
        (folder / store.CARD).write_text(json.dumps(card))
        record.save(evaluation, folder)
    run = tmp_path / "runs" / "20250101-run"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / record.RUN_WEIGHTS).write_bytes(b"weights")
    served = {record.RUN_WEIGHTS: store.sha256_of(b"weights")}
    record.save(drawn_evaluation(run.name, kind="run", served=served), run)
    return run.name


def test_compare_on_the_command_line(two_models_and_a_run, capsys):
    assert main(["compare"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("A on 300 drawn cases.\nB on 300 drawn cases.\n")
    assert "A finds" in printed and "(McNemar over lesions)" in printed and "best" in printed
    assert two_models_and_a_run not in printed  # runs are compared where they are named
    assert main(["compare", "A", two_models_and_a_run]) == 0
    assert two_models_and_a_run in capsys.readouterr().out
    assert main(["compare", "A", "B", "--figure", "accuracy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["table"][0]["metric"] == "macro_recall" and found["table"][0]["best"] == "A"
    assert [test["test"] for test in found["tests"]] == ["paired bootstrap", "McNemar over lesions"]
    assert main(["compare", "A", "--figure", "accuracy"]) == 2
    assert "at least two" in capsys.readouterr().err


def test_compare_prints_json_and_asks_only_for_what_there_is(two_models_and_a_run, capsys):
    """No melanoma and nothing malignant among the classes, and a figure without any case."""
    for seed, name in enumerate(("A", "B")):
        whole = drawn_evaluation(name, seed=seed)
        benign = [whole.classes.index(code) for code in ("bkl", "df", "nv")]
        rows = np.flatnonzero(np.isin(whole.predictions.truth, (benign[0], benign[2])))
        probabilities = whole.predictions.probabilities[np.ix_(rows, benign)]
        predictions = Predictions(
            np.searchsorted(benign, whole.predictions.truth[rows]),
            probabilities / probabilities.sum(axis=1, keepdims=True),
            ("bkl", "df", "nv"),
            case_ids=whole.predictions.case_ids[rows],
            lesion_ids=whole.predictions.lesion_ids[rows],
        )
        part = dataclasses.replace(
            whole,
            predictions=predictions,
            cases=whole.cases.iloc[rows].reset_index(drop=True),
            groups=(),
            **record.figures(predictions, 50),
        )
        record.save(part, store.weights_folder() / name)
    assert main(["compare", "A", "B"]) == 0
    assert "Differences:" in capsys.readouterr().out
    assert main(["compare", "A", "B", "--figure", "recall:df", "--json"]) == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found["tests"][0]["p"] is None and found["tests"][0]["adjusted_p"] is None


def test_compare_takes_files_and_writes_a_report(two_models_and_a_run, tmp_path, capsys):
    theirs, report = tmp_path / "theirs.csv", tmp_path / "report.html"
    shutil.copy(store.weights_folder() / "B" / record.PREDICTIONS, theirs)
    assert main(["compare", "A", str(theirs), "--report", str(report)]) == 0
    assert "A finds" in capsys.readouterr().out
    text = report.read_text(encoding="utf-8")
    assert "A against theirs" in text and "theirs.csv" in text
    named_alike = [tmp_path / "more" / "theirs.csv", tmp_path / "A.csv"]
    named_alike[0].parent.mkdir()
    for path in named_alike:
        shutil.copy(theirs, path)
    assert main(["compare", "A", str(theirs), *map(str, named_alike)]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {path} " in printed for path in named_alike) and "  theirs " in printed
    theirs.write_text("image_id,truth\n")
    assert main(["compare", "A", str(theirs)]) == 2
    assert f"{theirs} lacks the probabilities of akiec" in capsys.readouterr().err
    assert main(["compare", str(theirs)]) == 2
    assert "Name a model or run, too" in capsys.readouterr().err
