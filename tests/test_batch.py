"""`python -m dermsa predict`: many photos, one row each."""

import csv
import json
import os
import subprocess
import sys
import unicodedata

import cv2
import numpy as np
import pytest

from dermsa import tables
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
        "image_id,file,age,sex,localization,model,akiec,bcc,bkl,df,mel,nv,vasc,diagnosis,"
        "malignancy,verdict,reliable,quality,unfamiliar,error"
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
        assert row["verdict"] == diagnosis.verdict
        assert row["file"] == str(path)
        (photo,) = diagnosis.photos
        assert row["reliable"] == ("yes" if diagnosis.reliable else "no")
        assert row["quality"].split() == [finding.code for finding in photo.quality]
        assert row["unfamiliar"] == ("yes" if photo.novelty.unfamiliar else "no")


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
    told = capsys.readouterr().err
    assert "photo_05: The site 'left knee' is not in the list" in told
    assert "16 picture(s) have no row in the table" in told and "no picture, " not in told
    assert [rows["photo_00"][name] for name in batch.PATIENT_COLUMNS] == ["80", "male", "scalp"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "{tmp}/empty", "--out", "{tmp}/a.csv"], "no picture"),
        (["predict", "x.jpg", "--model", "nothing", "--out", "{tmp}/a.csv"], "no model"),
        (["predict", "x.jpg", "--patients", "{tmp}/no.csv", "--out", "{tmp}/a.csv"], "cannot be"),
        (["predict", "x.jpg", "--patients", "{tmp}/odd.csv", "--out", "{tmp}/a.csv"], "image_id"),
        (["predict", "x.jpg", "--out", "{tmp}/no/such/folder/a.csv"], "There is no folder"),
    ],
)
def test_wrong_calls_end_with_one_sentence(arguments, sentence, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.csv").write_text("name,age\nx,3\n")
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error and "Traceback" not in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("between", [";", "\t"])
def test_tables_of_spreadsheets_are_read(between, tmp_path):
    table = tmp_path / "patients.csv"
    lines = ["Image_ID,Age,Sex,Localization", "one,62_5,M,scalp", ",,,", "two,90,F,", ",41,m,"]
    text = "\r\n".join(lines).replace(",", between).replace("_5", ",5")
    table.write_text(text, encoding="utf-8-sig")
    patients, warnings = batch.read_patients(table)
    assert patients == {"one": Patient(62.5, "male", "scalp"), "two": Patient(90, "female")}
    older, nameless = warnings
    assert "90 counts as 85" in older and nameless.startswith("1 row(s) of the table have no")


def test_a_table_that_is_not_in_utf8_says_how_to_mend_it(tmp_path):
    (tmp_path / "patients.csv").write_bytes("image_id,age\nMüller,3\n".encode("cp1252"))
    with pytest.raises(tables.TableError, match="CSV UTF-8"):
        batch.read_patients(tmp_path / "patients.csv")


def test_photos_that_should_not_be_judged_are_marked(tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "answers.csv"
    photos.mkdir()
    rgb, _ = draw_lesion("nv", 1, (450, 600))
    cv2.imwrite(str(photos / "sharp.png"), rgb[..., ::-1])
    cv2.imwrite(str(photos / "night.png"), np.full((450, 600, 3), 5, np.uint8))
    assert main(["predict", str(photos), "--json", "--out", str(out)]) == 0
    rows, summary = rows_of(out), json.loads(capsys.readouterr().out)
    assert rows["night"]["reliable"] == "no" and "dark" in rows["night"]["quality"].split()
    assert summary["unreliable"] == sum(row["reliable"] == "no" for row in rows.values())
    assert "dark" not in rows["sharp"]["quality"].split()


def test_photos_of_one_name_are_told_apart_or_refused(tmp_path, capsys):
    photos, out, table = tmp_path / "photos", tmp_path / "answers.csv", tmp_path / "patients.csv"
    for k, patient in enumerate(("P1", "P2")):
        (photos / patient).mkdir(parents=True)
        rgb, _ = draw_lesion("nv", k, (120, 160))
        cv2.imwrite(str(photos / patient / "IMG_1.jpg"), rgb[..., ::-1])
    table.write_text("image_id,age\nP1/IMG_1,80\nP2/IMG_1,20\n")
    call = ["predict", str(photos), "--out", str(out)]
    assert main([*call, "--patients", str(table)]) == 2 and not out.exists()
    assert "have the same name" in capsys.readouterr().err
    assert main(call) == 0
    with open(out, newline="", encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    assert files == [str(photos / patient / "IMG_1.jpg") for patient in ("P1", "P2")]


def test_a_table_that_does_not_match_is_told(tmp_path, folder, capsys):
    table, out = tmp_path / "patients.csv", tmp_path / "answers.csv"
    table.write_text(
        "Image_ID, Age ,site\nphoto_00,80,scalp\nphoto_99,30,\nphoto_01,5,\nphoto_01,6,\n"
    )
    assert main(["predict", str(folder), "--patients", str(table), "--out", str(out)]) == 0
    told, rows = capsys.readouterr().err, rows_of(out)
    assert "no column sex and none localization" in told and "site" in told
    assert "1 row(s) of the table have no picture, for example photo_99." in told
    assert rows["photo_00"]["age"] == "80" and "twice" in rows["photo_01"]["error"]


def test_a_name_with_accents_finds_its_row_however_they_are_written(tmp_path):
    table, composed = tmp_path / "patients.csv", unicodedata.normalize("NFC", "Müller")
    table.write_text(f"image_id,age\n{composed},40\n", encoding="utf-8")
    patients, warnings = batch.read_patients(table)
    path = tmp_path / (unicodedata.normalize("NFD", composed) + ".jpg")
    assert patients[tables.image_id(path)].age == 40
    assert not batch.unmatched([tables.image_id(path)], patients) and len(warnings) == 1


def test_a_file_name_that_is_no_text_and_a_broken_off_run(tmp_path, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "answers.csv"
    photos.mkdir()
    rgb, _ = draw_lesion("nv", 1, (120, 160))
    for name in (b"a.jpg", b"m\xfcller.jpg", b"z.jpg"):
        whole = os.fsencode(photos) + b"/" + name
        with open(whole, "wb") as file:
            file.write(cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes())
    assert main(["predict", str(photos), "--out", str(out)]) == 0
    before = out.read_text()
    assert len(before.splitlines()) == 4 and "m\\udcfcller" in before

    def broken(*_):
        yield batch.Row(photos / "a.jpg", error="x")
        raise OSError("The disk is full.")

    monkeypatch.setattr(batch, "predict_files", broken)
    assert main(["predict", str(photos), "--out", str(out)]) == 2
    assert out.read_text() == before and sorted(p.name for p in tmp_path.iterdir()) == [
        "answers.csv",
        "photos",
    ]


def test_the_table_of_patients_is_not_written_over(tmp_path, folder, capsys):
    table = tmp_path / "patients.csv"
    table.write_text("image_id,age,sex,localization\nphoto_00,80,male,back\n")
    before = table.read_text()
    assert main(["predict", str(folder), "--patients", str(table), "--out", str(table)]) == 2
    assert "--out" in capsys.readouterr().err and table.read_text() == before


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
