"""Trainings from the command line: where a configuration comes from, sweeps, and looking after."""

import json

import pytest

from dermsa import cli_training
from dermsa.cli import main
from dermsa.training import launcher, runs
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import create_run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(launcher, "wake", lambda: None)


@pytest.fixture
def train(synthetic_data, capsys):
    """Queues a training with these flags; gives its run."""

    def train(*flags):
        arguments = ["train", *flags, "--detach", "--json", "--data", str(synthetic_data)]
        assert main(arguments) == 0, capsys.readouterr().err
        return runs.find_run(json.loads(capsys.readouterr().out)["run"])

    return train


# --- where a configuration comes from ---------------------------------------------------------


def test_flags_files_and_other_runs_give_the_same_configuration(train, tmp_path):
    flags = train(
        "--backbone", "MobileNetV2", "--input-size", "96", "--epochs", "7", "--schedule", "plateau"
    )
    file = tmp_path / "settings.yaml"
    file.write_text(
        "epochs: 7\nschedule: plateau\nclassifier:\n  backbone: MobileNetV2\n  input_size: 96\n"
    )
    assert train("--config", str(file)).config() == flags.config()
    assert train("--from-run", flags.id).config() == flags.config()
    assert train("--config", str(flags.folder / "config.json")).config() == flags.config()
    assert train("--from-run", flags.id, "--seed", "3").config().seed == 3


def test_a_size_of_two_sides_is_written_as_such(train, tmp_path):
    config = train("--input-size", "96x128").config()
    assert config.classifier.input_size == (96, 128)
    file = tmp_path / "settings.yaml"
    file.write_text("input_size: 96 x 128\n")
    assert train("--config", str(file)).config() == config


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--protocol", "lesion"], "The protocol lesion has no folds. Received: 3"),
        (["--protocol", "isic2018", "--fold", "0"], "does not divide the data set ham10000"),
        (["--fold", "5"], "a fold from 0 to 4"),
    ],
)
def test_a_split_that_cannot_be_drawn_is_refused_before_a_run_is_made(
    train, synthetic_data, capsys, flags, sentence
):
    first = train("--protocol", "lesion-kfold", "--fold", "3")
    data = ["--data", str(synthetic_data)]
    assert main(["train", "--from-run", first.id, *flags, "--detach", *data]) == 2
    assert sentence in capsys.readouterr().err
    vary = ["--vary", f"{flags[-2][2:]}={flags[-1]}", *flags[:-2]]
    assert main(["sweep", "--from-run", first.id, *vary, *data]) == 2
    assert sentence in capsys.readouterr().err
    assert runs.all_runs() == [first]


@pytest.mark.parametrize(
    "flags", [["--epochs", "3"], ["--fold", "0"], ["--title", "new"], ["--preset", "any"]]
)
def test_a_run_that_is_resumed_takes_no_settings(train, capsys, flags):
    run = train()
    launcher.stop(run)
    assert main(["train", "--resume", run.id, *flags]) == 2
    said = capsys.readouterr().err
    assert f"--resume goes without {flags[0]}." in said and f"runs extend {run.id}" in said
    assert run.state == "stopped"


@pytest.mark.parametrize(
    ("epoch", "sentence"),
    [
        (None, "is stopped before its first epoch was done. Go on with"),
        (2, "is stopped after 2 epochs. Make a model of it with"),
    ],
)
def test_ctrl_c_ends_a_training_with_a_sentence(
    synthetic_data, monkeypatch, capsys, epoch, sentence
):
    def stopped(run, *_):
        run.update(state="stopped", **({"epoch": epoch} if epoch else {}))

    monkeypatch.setattr("dermsa.training.trainer.train", stopped)
    assert main(["train", "--data", str(synthetic_data)]) == 0
    said = capsys.readouterr().out
    assert sentence in said and ("export" in said) == (epoch is not None)


def test_numbers_as_people_write_them(train, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("learning_rate: 6e-4\nweight_decay: 0\n")  # to YAML a word, and an int
    config = train("--config", str(file)).config()
    assert (config.learning_rate, config.weight_decay) == (6e-4, 0.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs: many", "Expected epochs to be of type int. Received: 'many'"),
        ("epochs: 1.5", "Expected epochs to be of type int. Received: 1.5"),
        ("epochs: true", "Expected epochs to be of type int. Received: True"),
        ("epoch: 3", "There is no setting 'epoch'. Did you mean epochs"),
        ("- 1", "holds no settings"),
        ("classifier: 3", "Expected settings under classifier"),
        ("a: [", "cannot be read"),
        ("backbone: MobileNetV9", "There is no backbone 'MobileNetV9'. Did you mean"),
        ("class_weights: '1,2'", "Expected 7 class_weights"),
    ],
)
def test_a_file_that_is_none_is_refused(synthetic_data, tmp_path, capsys, text, sentence):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    arguments = ["train", "--config", str(file), "--detach", "--data", str(synthetic_data)]
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err
    assert runs.all_runs() == []


# --- sweeps -----------------------------------------------------------------------------------


def test_a_sweep_queues_its_grid(synthetic_data, capsys):
    grid = ["--vary", "backbone=MobileNetV2,MobileNetV3Small", "--vary", "learning-rate=1e-3,1e-4"]
    assert main(["sweep", *grid, "--epochs", "2", "--data", str(synthetic_data)]) == 0
    waiting = [run.config() for run in launcher.waiting()]
    assert [(config.classifier.backbone, config.learning_rate) for config in waiting] == [
        ("MobileNetV2", 1e-3),
        ("MobileNetV2", 1e-4),
        ("MobileNetV3Small", 1e-3),
        ("MobileNetV3Small", 1e-4),
    ]
    assert {config.epochs for config in waiting} == {2}
    capsys.readouterr()
    assert main(["runs", "list", "--tag", "sweep", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_a_published_table_is_one_command(capsys):
    assert main(["sweep", "--preset", "sensors2022/table-A3", "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert "sensors2022/InceptionResNetV2/MD" in [each["title"] for each in planned]
    assert runs.all_runs() == []


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "Expected either --table NAME or at least one --vary"),
        (["--vary", "seed"], "Expected SETTING=A,B,..."),
        (["--vary", "sed=1"], "There is no setting 'sed'. Did you mean seed"),
        (["--vary", "seed=a"], "Expected values of type int for seed"),
        (["--table", "none"], "There is no published table 'none'"),
        (["--table", "any", "--from", "any"], "The runs of a table start from its rows"),
        (["--table", "any", "--config", "any"], "The runs of a table start from its rows"),
        (["--table", "any", "--from-run", "any"], "The runs of a table start from its rows"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(flags, sentence, capsys):
    assert main(["sweep", *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_a_grid_has_one_start(capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "--vary", "seed=1,2", "--from", "any", "--config", "any"])
    assert "not allowed with argument" in capsys.readouterr().err


# --- looking after runs -----------------------------------------------------------------------


def test_a_run_is_looked_after(capsys):
    run = create_run(TrainingConfig(epochs=3), "mine")
    assert main(["runs", "resume", run.id]) == 0 and run.state == "queued"
    assert main(["runs", "move", run.id, "-1"]) == 0
    assert main(["runs", "stop", run.id]) == 0 and run.state == "stopped"
    assert main(["runs", "extend", run.id, "--epochs", "9"]) == 0
    assert run.config().epochs == 9 and run.state == "queued"
    assert main(["runs", "stop", run.id]) == 0
    assert main(["runs", "rename", run.id, "ours"]) == 0
    assert main(["runs", "tag", run.id, "a", "b"]) == 0
    assert (run.about()["title"], run.about()["tags"]) == ("ours", ["a", "b"])
    capsys.readouterr()
    assert main(["runs", "show", run.id]) == 0 and main(["runs"]) == 0
    assert "ours" in capsys.readouterr().out
    assert main(["runs", "delete", run.id]) == 0 and runs.all_runs() == []
    assert main(["runs", "restore", run.id]) == 0 and runs.all_runs() == [run]
    assert main(["runs", "delete", run.id]) == 0 and main(["runs", "empty-bin"]) == 0
    assert runs.deleted_runs() == []


def test_what_cannot_be_done_is_said(capsys):
    assert main(["runs", "stop", "nonsense"]) == 2
    assert "There is no run 'nonsense'" in capsys.readouterr().err
    run = create_run(TrainingConfig(epochs=3))
    assert main(["runs", "extend", run.id, "--epochs", "3"]) == 2
    assert "more are needed to extend it" in capsys.readouterr().err


def test_a_run_that_stopped_early_is_extended_with_another_early_stopping(capsys):
    run = create_run(TrainingConfig(epochs=5, early_stopping=1))
    (run.folder / "metrics.csv").write_text("epoch,macro_recall\n1,0.5\n2,0.4\n")
    run.update(state="finished", epoch=2)
    assert main(["runs", "extend", run.id, "--epochs", "9"]) == 2
    assert "--epochs 9 --early-stopping 0" in capsys.readouterr().err
    assert main(["runs", "extend", run.id, "--epochs", "9", "--early-stopping", "0"]) == 0
    assert run.state == "queued"
    assert (run.config().epochs, run.config().early_stopping) == (9, 0)


def test_a_log_is_followed_line_by_line(capsys, monkeypatch):
    run = create_run(TrainingConfig())
    said, printed = run.folder / "train.log", run.folder / "console.log"
    run.update(state="queued", rank=1)

    def goes_on(_):
        if run.state == "queued":
            said.write_text("a\nb\n")
            printed.write_text("a\nnoise\nb\n")
            run.update(state="finished")

    monkeypatch.setattr(cli_training.time, "sleep", goes_on)
    said.write_text("a\n")
    printed.write_text("a\nnoise\n")
    assert main(["runs", "log", run.id, "--follow"]) == 0
    assert capsys.readouterr().out.split() == ["a", "noise", "b"]
