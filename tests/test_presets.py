"""Published trainings by name: all that were published, and what the papers say of them."""

import csv
import json

import pytest

from dermsa.cli import main
from dermsa.evaluation.published import FOLDER, figures
from dermsa.models import backbones
from dermsa.training import runs, trainer
from dermsa.training.config import TrainingConfig
from dermsa.training.presets import ONE_POSITION, PRESETS, preset


def table(file):
    with open(FOLDER / file, newline="", encoding="utf-8") as rows:
        return list(csv.DictReader(rows))


# --- all that were published -------------------------------------------------------------------


def test_every_row_that_its_authors_trained_has_exactly_one_preset():
    of_presets = [figure for each in PRESETS.values() for figure in each.figures()]
    assert len(of_presets) == len(set(of_presets))
    # What a paper quotes from others has no backbone of its own here.
    trained = {figure for figure in figures() if figure.backbone and figure.source != "anchors"}
    assert set(of_presets) == trained


def test_every_row_of_the_tables_is_among_them():
    names = set()
    for file in ("sensors2022_recall.csv", "sensors2022_f1.csv"):
        names |= {f"sensors2022/{row['backbone']}/{row['regime']}" for row in table(file)}
    names |= {
        f"sensors2022/{row['backbone']}/{regime}"
        for row in table("sensors2022_accuracy_auc.csv")
        for regime in ("AD", "MD")
        if row[f"accuracy_{regime}"]
    }
    names |= {
        f"sensors2022/{row['backbone']}/MD/original-weights"
        for row in table("sensors2022_loss_weighting.csv")
    }
    columns = table("datta2021_soft_attention.csv")[0]
    names |= {f"datta2021/{column.partition(':')[2]}" for column in columns if ":" in column}
    names |= {f"usth2024/{row['model']}" for row in table("usth2024_multimodel.csv")}
    assert names <= set(PRESETS) and len(names) == 29
    ablation = {
        each.name: each.headline.value
        for each in PRESETS.values()
        for figure in each.figures()
        if figure.table == "mobilenetv3large_cut_ablation.csv"
    }
    rows = table("mobilenetv3large_cut_ablation.csv")
    assert sorted(ablation.values()) == sorted(float(row["accuracy"]) for row in rows)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_whole(name):
    each = preset(name)
    config = each.config()
    assert TrainingConfig.from_dict(json.loads(config.to_json())) == config
    for row in each.rows:
        assert any((figure.model, figure.variant) == row for figure in each.figures()), row
    assert each.headline in each.figures()
    assert all(note.endswith(".") for note in each.notes)
    cut = backbones.backbone(each.backbone).cuts[each.cut]
    attends = each.head != "global_pooling"
    assert (ONE_POSITION in each.notes) == (attends and cut.feature_shape[:2] == (1, 1))
    json.dumps(each.as_dict())


# --- what the papers say ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_the_optimiser_is_the_published_one(name):
    config = preset(name).config()
    assert (config.optimizer, config.epsilon, config.batch_size) == ("adam", 0.1, 32)
    assert config.learning_rate == (0.01 if name.startswith("datta") else 0.001)
    assert config.schedule == "plateau" and config.label_smoothing == 0
    assert (config.plateau_factor, config.plateau_patience, config.plateau_floor) == (0.2, 5, 1e-7)
    assert 25 <= config.early_stopping <= 35 and 250 <= config.epochs <= 500


def test_the_regimes_differ_as_published():
    md = preset("sensors2022/InceptionResNetV2/MD").config()
    assert (md.augmentation, md.class_weights, md.sampling) == ("none", "balanced", "none")
    assert (md.classifier.patient_branch, md.classifier.cut) == ("dense4096", "published")
    ad = preset("sensors2022/InceptionResNetV2/AD").config()
    assert (ad.augmentation, ad.class_weights, ad.sampling) == ("sensors2022", "none", "over")
    assert (ad.classifier.patient_branch, ad.epoch_images) == ("none", 18015)
    assert md.protocol == ad.protocol == "image-90-10"
    original = preset("sensors2022/DenseNet201/MD/original-weights").config()
    assert original.class_weights == "original"
    assert preset("datta2021/IRv2+SA").config().protocol == "datta-85-15"
    assert preset("datta2021/IRv2+SA/70-30").config().protocol == "datta-70-30"
    isic = preset("datta2021/isic2017/IRv2-12x12+SA").config()
    assert isic.classifier.classes == ("nv", "sk") and isic.dataset == "isic2017-nv-sk"
    assert isic.classifier.input_size != md.classifier.input_size == (299, 299)
    assert preset("usth2024/VGG16").config().augmentation == "usth2024"


def test_no_preset_repeats_the_mix_up_of_channels():
    assert {preset(name).config().classifier.channel_order for name in PRESETS} == {"rgb"}
    told = {name for name in PRESETS if "as BGR by mistake" in " ".join(preset(name).notes)}
    assert told == {name for name in PRESETS if name.startswith("sensors2022/")}


@pytest.mark.parametrize(
    ("name", "metric", "value"),
    [
        ("sensors2022/InceptionResNetV2/MD", "accuracy", 0.90),
        ("sensors2022/MobileNetV3Large/MD/layer_266", "accuracy", 0.73),
        ("sensors2022/VGG16/AD", "macro_recall", 0.51),
        ("datta2021/IRv2+SA", "weighted_precision", 0.937),
        ("datta2021/isic2017/IRv2-5x5+SA", "accuracy", 0.904),
        ("usth2024/SE-ResNeXt-101", "accuracy", 0.825),
    ],
)
def test_the_headline_is_the_paper_s(name, metric, value):
    headline = preset(name).headline
    assert headline.metric == metric and headline.value == pytest.approx(value)


# --- on the command line ------------------------------------------------------------------------


def test_the_list_has_every_row_as_data(capsys):
    assert main(["presets", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    large = listed["sensors2022/MobileNetV3Large/MD"]
    assert large["backbone"] == "MobileNetV3Large" and large["cut"] == "published"
    assert "Sensors 22" in large["source"] and large["config"]["epsilon"] == 0.1
    assert {"accuracy", "macro_roc_auc"} <= {figure["metric"] for figure in large["published"]}


def test_one_is_shown_with_its_notes_and_figures(capsys):
    assert main(["presets", "sensors2022/MobileNetV3Large/MD/layer_266"]) == 0
    printed = capsys.readouterr().out
    assert ONE_POSITION in printed and "0.73" in printed and "BGR" in printed


@pytest.mark.parametrize("command", ["presets", "train --preset"])
def test_an_unknown_name_gets_the_nearest(command, capsys):
    assert main([*command.split(), "usth2024/SEResNeXt101"]) == 2
    assert "Did you mean usth2024/SE-ResNeXt-101" in capsys.readouterr().err


def test_train_takes_a_preset_and_what_is_given_besides(synthetic_data, tmp_path, monkeypatch):
    def finish(run, data, wait):  # training itself is tested with the trainer
        run.claim()
        run.update(state="finished", epoch=1)

    monkeypatch.setattr(trainer, "train", finish)
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path))
    given = "--epochs 1 --limit 16 --batch-size 8 --input-size 64 --initial-weights none"
    name = "sensors2022/MobileNetV3Small/MD"
    arguments = ["train", "--preset", name, *given.split(), "--data", str(synthetic_data)]
    assert main(arguments) == 0
    (run,) = runs.all_runs()
    config = run.config()
    assert (config.epochs, config.limit, config.classifier.input_size) == (1, 16, (64, 64))
    assert (config.optimizer, config.epsilon, config.protocol) == ("adam", 0.1, "image-90-10")
    assert (config.classifier.cut, config.classifier.kernel) == ("published", "published")
