"""`python -m dermsa predict`: many photos, one row each."""

import csv
import subprocess
import sys

import cv2
import numpy as np
import pytest

from dermsa.cli import main
from dermsa.datasets.synthetic import draw_lesion
from dermsa.inference import batch
from dermsa.inference.ensemble import open_predictor
from dermsa.patient import Patient


@pytest.fixture
def folder(tmp_path):
    """Twenty good photos in a folder, and two bad ones."""
    photos = tmp_path / "photos"
    (photos / "deeper").mkdir(parents=True)
    for k in range(20):
        rgb, _ = draw_lesion("nv" if k % 2 else "mel", k, (120, 160))
        place = photos / "deeper" if k >= 15 else photos
        cv2.imwrite(str(place / f"photo_{k:02}.jpg"), rgb[..., ::-1])
    (photos / "text.jpg").write_text("not a picture")
    whole = (photos / "photo_00.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "notes.txt").write_text("left alone")
    return photos


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def test_every_photo_gets_its_row_and_bad_ones_their_error(folder, tmp_path):
    out = tmp_path / "answers.csv"
    assert main(["predict", str(folder), "--out", str(out)]) == 0
    header = out.read_text().splitlines()[0]
    assert header == (
        "image_id,model,akiec,bcc,bkl,df,mel,nv,vasc,diagnosis,malignancy,refer,error"
    )
    rows = rows_of(out)
    assert len(rows) == 22 and "notes" not in rows
    for name in ("text", "cut"):
        assert rows[name]["error"].endswith(".") and rows[name]["diagnosis"] == ""
    predictor = open_predictor()
    for k in (0, 7, 19):
        row = rows[f"photo_{k:02}"]
        path = next(folder.rglob(f"photo_{k:02}.jpg"))
        diagnosis = predictor.diagnose([path])
        given = [float(row[code]) for code in predictor.classes]
        np.testing.assert_allclose(given, diagnosis.probabilities, atol=1e-5)
        assert row["diagnosis"] == diagnosis.named and row["error"] == ""
        assert float(row["malignancy"]) == pytest.approx(diagnosis.malignancy, abs=1e-5)
        assert row["refer"] == ("yes" if diagnosis.triage.refer else "no")


def test_patients_are_used_and_their_faults_told(folder, tmp_path, capsys):
    table, out = tmp_path / "patients.csv", tmp_path / "answers.csv"
    table.write_text(
        "image_id,age,sex,localization\n"
        "photo_00,80,male,scalp\n"
        "photo_01,,,\n"
        "photo_02,-3,male,back\n"
        "photo_03,abc,male,back\n"
        "photo_04,240,male,back\n"
        "photo_05,40,male,left knee\n"
    )
    assert main(["predict", str(folder), "--patients", str(table), "--out", str(out)]) == 0
    rows = rows_of(out)
    predictor = open_predictor()
    path = folder / "photo_00.jpg"
    known = predictor.diagnose([path], Patient(80, "male", "scalp"))
    assert float(rows["photo_00"]["nv"]) == pytest.approx(
        known.probabilities[predictor.classes.index("nv")], abs=1e-5
    )
    assert rows["photo_01"]["error"] == ""
    for name in ("photo_02", "photo_03", "photo_04"):
        assert "age must be" in rows[name]["error"]
    assert rows["photo_05"]["error"] == ""
    assert "photo_05: The site 'left knee' is not in the list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "{tmp}/empty", "--out", "{tmp}/a.csv"], "no picture"),
        (["predict", "x.jpg", "--model", "nothing", "--out", "{tmp}/a.csv"], "no model"),
        (["predict", "x.jpg", "--patients", "{tmp}/no.csv", "--out", "{tmp}/a.csv"], "cannot be"),
        (["predict", "x.jpg", "--patients", "{tmp}/odd.csv", "--out", "{tmp}/a.csv"], "image_id"),
        (["predict", "x.jpg", "--out", "{tmp}/no/such/folder/a.csv"], "No such file"),
    ],
)
def test_wrong_calls_end_with_one_sentence(arguments, sentence, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.csv").write_text("name,age\nx,3\n")
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error and "Traceback" not in error and len(error.splitlines()) == 1


def test_a_missing_file_is_a_row_with_its_error(tmp_path):
    out = tmp_path / "answers.csv"
    assert main(["predict", str(tmp_path / "gone.jpg"), "--out", str(out)]) == 0
    assert "cannot be opened" in rows_of(out)["gone"]["error"]


def test_files_are_found_in_order_and_streamed(folder):
    files = batch.find_files([folder])
    assert files == sorted(files) and len(files) == 22
    rows = batch.predict_files(open_predictor(), (path for path in files), {})
    assert next(rows).image_id == files[0].stem


def test_predict_imports_no_tensorflow(folder, tmp_path):
    code = (
        "import sys\nfrom dermsa.cli import main\n"
        f"main(['predict', {str(folder / 'photo_00.jpg')!r}, '--out', {str(tmp_path / 'a')!r}])\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
