"""What a researcher sees on the Train page, without a browser and without a training."""

import datetime
import io
import json
import os
import subprocess

import pandas as pd
import psutil
import pytest
from streamlit.testing.v1 import AppTest

from dermsa.inference import store
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.taxonomy import HAM10000_CLASSES
from dermsa.training import launcher, runs, shipped
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import STATES, create_run, started_at
from ui.train.details import csv_of

EPOCHS = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [2.0, 1.5, 1.2],
        "loss": [1.8, 1.4, 1.3],
        "accuracy": [0.5, 0.6, 0.7],
        "macro_recall": [0.3, 0.5, 0.4],
        "macro_auc": [0.7, 0.8, 0.85],
        "learning_rate": [6e-4, 4e-4, 1e-4],
        "seconds": [10.0, 11.0, 12.0],
    }
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(launcher, "wake", lambda: None)


def make_run(title="a run", state="finished", config=None, **status):
    run = create_run(config or TrainingConfig(), title, tags=("tagged",))
    if state in (*runs.ACTIVE, "queued", "failed", "lost", "finished", "stopped"):
        process = psutil.Process(os.getpid())
        alive = {"pid": process.pid, "pid_started": started_at(process.pid)}
        gone = {"pid": process.pid, "pid_started": 0.0}
        owner = gone if state == "lost" else alive
        run.update(
            state="running" if state == "lost" else state,
            device="cpu",
            epoch=3,
            epochs=20,
            rank=1,
            best={"macro_recall": 0.5},
            **owner,
            **status,
        )
        EPOCHS.to_csv(run.folder / "metrics.csv", index=False)
        run.best_weights.touch()
        (run.folder / "train.log").write_text("first line\nlast line\n")
    return run


def open_page(view="Runs"):
    page = AppTest.from_file("../../pages/train.py", default_timeout=60)
    page.session_state["train-view"] = view
    page.run()
    assert not page.exception
    return page


def words(page):
    shown = (*page.markdown, *page.caption, *page.info, *page.error, *page.success, *page.subheader)
    return " ".join(element.value for element in shown)


def button(page, label):
    return next(each for each in page.button if each.label == label)


def widget(page, kind, label):
    return next(each for each in getattr(page, kind) if each.label == label)


def labels(page):
    return {each.label for each in page.button}


# --- runs -------------------------------------------------------------------------------------


def test_with_no_run_it_says_how_to_make_one():
    page = open_page()
    assert "Nothing has been trained here yet" in words(page)
    assert not page.dataframe


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_said_and_offers_what_can_be_done(state):
    run = make_run(state=state, error="The disk is full." if state == "failed" else None)
    assert run.state == state
    page = open_page()
    assert page.dataframe[0].value["State"].tolist() == [state]
    assert STATES[state] in words(page)
    offered = labels(page)
    assert ("Stop" in offered) == (state in runs.ACTIVE) == ("Kill" in offered)
    assert ("Leave the queue" in offered) == (state == "queued")
    assert ("Resume" in offered) == (state in ("stopped", "failed", "lost"))
    assert ("Delete" in offered) == (state not in launcher.BUSY)
    assert ("The disk is full." in words(page)) == (state == "failed")
    assert ("ended without a word" in words(page)) == (state == "lost")


def test_it_shows_figures_log_and_settings():
    make_run()
    page = open_page()
    assert page.dataframe[0].value["Best"].tolist() == [0.5]
    assert "first line\nlast line" in page.code[0].value
    assert [metric.value for metric in page.metric] == ["0.500", "11 s"]
    page.session_state["train-details"] = "Settings"
    page.run()
    table = page.table[0].value
    assert "learning_rate" in table["Setting"].tolist()
    assert "plateau_factor" not in table["Setting"].tolist()  # a cosine has none


def beside(page):
    found = [each for each in page.multiselect if each.label == "Shipped models beside"]
    return found[0] if found else None


def in_figure(page):
    figures = json.loads(page.get("plotly_chart")[0].proto.spec)
    return {trace["name"] for trace in figures["data"] if trace.get("showlegend")}


def test_all_curves_are_downloaded_as_one_table():
    other = EPOCHS.drop(columns="accuracy").head(1)
    table = pd.read_csv(io.StringIO(csv_of({"one": EPOCHS, "two": other, "none": EPOCHS.head(0)})))
    assert table["of"].tolist() == ["one", "one", "one", "two"]
    assert table["loss"].tolist() == [1.8, 1.4, 1.3, 1.8]
    assert list(table.columns) == ["of", *EPOCHS.columns]


@pytest.mark.skipif(not shipped.trainings(), reason="there is no network in weights/")
def test_curves_of_shipped_models_lie_beside_where_the_same_photos_validate():
    name, model = next(iter(shipped.validated_as(TrainingConfig()).items()))
    run = make_run()
    page = open_page()
    beside(page).select(name).run()
    assert not page.exception
    assert in_figure(page) == {f"a run ({run.id[9:15]})", name}
    other = make_run("other photos", config=TrainingConfig(split_seed=5))
    page.session_state["train-runs"] = [other.id]
    page.run()
    assert not page.exception and beside(page) is None
    page.session_state["train-runs"] = [other.id, run.id]
    page.run()
    assert beside(page) is None and name not in in_figure(page)
    assert model.curves()["epoch"].tolist() == model.card["training"]["curves"]["epoch"]


def test_two_runs_differ_in_what_differs():
    make_run("first")
    second = create_run(TrainingConfig(seed=7, epochs=9), "second")
    page = open_page()
    page.session_state["train-details"] = "Settings"
    page.session_state["train-runs"] = [second.id]
    page.run()
    beside = next(each for each in page.selectbox if each.label == "Beside")
    page = beside.select(beside.options and runs.all_runs()[-1].id).run()
    table = page.table[0].value
    assert sorted(table["Setting"]) == ["epochs", "seed"]


def test_runs_are_found_by_their_words():
    make_run("melanoma first")
    make_run("nevi")
    page = open_page()
    assert len(page.dataframe[0].value) == 2
    page = page.text_input[0].set_value("MELANOMA cpu").run()
    assert page.dataframe[0].value["Title"].tolist() == ["melanoma first"]


def test_a_run_is_deleted_and_taken_back():
    run = make_run()
    page = open_page()
    page = button(page, "Delete").click().run()
    assert runs.all_runs() == [] and "is in the bin" in words(page)
    page = button(page, "Undo").click().run()
    assert runs.all_runs() == [run]
    assert "is in the bin" not in words(page)


def test_it_is_renamed_tagged_extended_resumed_and_taken_from_the_queue():
    run = make_run(state="stopped")
    page = open_page()
    next(each for each in page.text_input if each.label == "Title").set_value("better name")
    next(each for each in page.text_input if "Tags" in each.label).set_value("one, two")
    page = button(page, "Save").click().run()
    assert run.about()["title"] == "better name" and run.about()["tags"] == ["one", "two"]
    page = button(page, "Resume").click().run()
    assert run.state == "queued" and "place 1 in the queue of cpu" in words(page)
    page = button(page, "Leave the queue").click().run()
    assert run.state == "stopped"
    page = button(page, "Train on").click().run()
    assert run.config().epochs == 30 and run.state == "queued"


def test_a_finished_run_is_extended():
    run = make_run()
    page = button(open_page(), "Train on").click().run()
    assert run.state == "queued" and run.config().epochs == 30
    assert "place 1 in the queue" in words(page)


def test_one_that_stopped_early_asks_for_more_patience():
    config = TrainingConfig(early_stopping=1)
    run = make_run(config=config)  # its last epoch was not the best
    page = open_page()
    assert "It stopped early: no epoch after epoch 2 brought a better macro recall" in words(page)
    page = widget(page, "number_input", "Early stopping").set_value(1).run()
    page = button(page, "Train on").click().run()
    assert "stopped early" in page.error[0].value and run.config() == config
    page = widget(page, "number_input", "Early stopping").set_value(0).run()
    page = button(page, "Train on").click().run()
    assert run.state == "queued"
    assert (run.config().epochs, run.config().early_stopping) == (20, 0)


def test_a_turn_that_comes_while_the_page_is_drawn_is_no_error(monkeypatch):
    make_run(state="queued")
    monkeypatch.setattr(launcher, "waiting", lambda device=None: [])
    assert "in the queue of" not in words(open_page())


def test_opening_the_page_wakes_the_queue(monkeypatch):
    woken = []
    monkeypatch.setattr(launcher, "wake", lambda: woken.append(True))
    make_run(state="queued")
    open_page()
    assert woken


def test_a_run_that_falls_silent_is_said_to(monkeypatch):
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=42)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "now", past.isoformat)
        make_run(state="running")
    page = open_page()
    assert page.dataframe[0].value["State"].tolist() == ["running, not responding"]
    assert "has not responded for 42 min" in page.warning[0].value


def test_the_table_sorts_by_time():
    make_run(state="running", seconds_left=5000)
    table = open_page().dataframe[0].value
    assert table["Left"].dtype.kind == "f" or table["Left"].dtype.kind == "i"
    assert table["Age"].dtype.kind == "M"


def test_what_a_process_said_that_could_not_begin_is_shown():
    run = make_run(state="lost")
    (run.folder / "console.log").write_text("first line\nlast line\ndermsa: no such folder\n")
    assert "last line\ndermsa: no such folder" in open_page().code[0].value


def test_it_says_what_computed():
    make_run()
    page = open_page()
    page.session_state["train-details"] = "Settings"
    assert "Keras computes with tensorflow · python 3." in words(page.run())


# --- a model of it ----------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_a_model_gets_a_name_of_its_own(weights, monkeypatch):
    made = []
    monkeypatch.setattr(launcher, "start_export", lambda *arguments: made.append(arguments))
    for name in ("a-run", "a-run-2"):
        (weights / name).mkdir(parents=True)
    run = make_run("a run")
    page = open_page()
    name = widget(page, "text_input", "Name")
    assert name.value == "a-run-3"
    page = name.set_value("a-run").run()
    assert "There is a model of this name" in words(page) and button(page, "Export").disabled
    page = widget(page, "text_input", "Name").set_value("mine").run()
    page = widget(page, "selectbox", "It answers by").set_value(1).run()
    button(page, "Export").click().run()
    assert made == [(run, "mine", None, 1)]


def test_a_run_that_trains_makes_no_model():
    make_run(state="running")
    assert "Export" not in labels(open_page())


def test_a_refusal_is_a_sentence():
    run = make_run()
    page = open_page()
    run.update(state="running")
    page = button(page, "Delete").click().run()
    assert "stop it first" in words(page)


# --- a new training ---------------------------------------------------------------------------


@pytest.fixture
def commands(monkeypatch):
    """The command lines that the page starts, instead of starting them."""
    real = subprocess.run

    def run(command, **kwargs):
        if "dermsa" not in command:
            return real(command, **kwargs)
        run.calls.append((command, kwargs.get("input")))
        answer = "" if run.refusal else json.dumps({"run": run.made})
        return subprocess.CompletedProcess(command, 2 if run.refusal else 0, answer, run.refusal)

    run.calls, run.refusal, run.made = [], "", ""
    monkeypatch.setattr(subprocess, "run", run)
    return run


def test_the_form_hands_its_settings_over(commands):
    page = open_page("New training")
    next(each for each in page.number_input if each.label == "Epochs").set_value(7)
    page = next(each for each in page.selectbox if each.label == "Schedule").select("plateau").run()
    names = {each.label for each in (*page.number_input, *page.selectbox)}
    assert "Plateau patience" in names and "Warmup steps" not in names
    commands.made = create_run(TrainingConfig(), "made by the form").id
    page = button(page, "Start").click().run()
    command, settings = commands.calls[-1]
    assert "--detach" in command
    assert json.loads(settings)["epochs"] == 7
    assert json.loads(settings)["schedule"] == "plateau"
    assert page.subheader[0].value == "made by the form"


def test_what_the_command_refuses_is_said(commands):
    page = open_page("New training")
    commands.refusal = "noise\ndermsa: The data set HAM10000 is not there.\n"
    page = button(page, "Start").click().run()
    assert "The data set HAM10000 is not there." in words(page)


def test_another_backbone_brings_its_own_cuts(commands):
    page = open_page("New training")
    backbone = next(each for each in page.selectbox if each.label == "Backbone")
    page = backbone.select("MobileNetV3Large").run()
    cut = next(each for each in page.selectbox if each.label == "Cut")
    assert {"trunk", "published", "layer_246"} <= set(cut.options)
    page = cut.select("layer_246").run()
    backbone = next(each for each in page.selectbox if each.label == "Backbone")
    page = backbone.select("MobileNetV2").run()
    assert next(each for each in page.selectbox if each.label == "Cut").value == "trunk"


def test_a_run_is_cloned_into_the_form():
    run = create_run(TrainingConfig(epochs=13, seed=5), "original")
    page = open_page()
    page = button(page, "Clone").click().run()
    assert next(each for each in page.number_input if each.label == "Epochs").value == 13
    title = next(each for each in page.text_input if each.label == "Title")
    assert title.value == "original (again)" and run.about()["title"] == "original"


def show(page, view):
    page.session_state["train-view"] = view
    page = page.run()
    assert not page.exception
    return page


@pytest.fixture
def presets(monkeypatch):
    """Presets of 33 epochs, without a process that reads them."""
    about = {
        "config": json.loads(TrainingConfig(epochs=33).to_json()),
        "headline": {"title": "Accuracy", "value": 0.9},
        "published": True,
        "source": "A paper",
        "about": "something",
        "notes": [],
    }
    monkeypatch.setattr("ui.train.form.preset", lambda name: about)


def test_what_was_entered_stays_while_one_looks_at_the_runs(presets):
    create_run(TrainingConfig(), "a run")
    page = open_page("New training")
    start = widget(page, "selectbox", "Start from")
    page = start.select(start.options[1]).run()
    assert widget(page, "number_input", "Epochs").value == 33
    page = widget(page, "number_input", "Epochs").set_value(7).run()
    page = widget(page, "text_input", "Title").set_value("mine").run()
    page = show(show(page, "Runs"), "New training")
    assert widget(page, "selectbox", "Start from").value == start.options[1]
    assert widget(page, "number_input", "Epochs").value == 7
    assert widget(page, "text_input", "Title").value == "mine"


def test_a_clone_is_a_clone_whatever_was_chosen_before(presets, commands):
    run = create_run(TrainingConfig(epochs=13, seed=5), "original")
    page = open_page("New training")
    start = widget(page, "selectbox", "Start from")
    page = start.select(start.options[1]).run()
    page = button(show(page, "Runs"), "Clone").click().run()
    page = page.run()
    assert widget(page, "number_input", "Epochs").value == 13
    assert widget(page, "selectbox", "Start from").value == f"The run {run.id}"
    commands.made = run.id
    page = button(page, "Start").click().run()
    command, settings = commands.calls[-1]
    assert json.loads(settings)["seed"] == 5 and command[-2] == "original (again)"
    page = show(page, "New training")
    page = widget(page, "selectbox", "Start from").select("The defaults").run()
    assert widget(page, "number_input", "Epochs").value == TrainingConfig().epochs


def test_an_ensemble_over_folds_is_offered_as_no_teacher(weights):
    for name, more in (("alone", {}), ("turns", {"folds": {"count": 2}})):
        (weights / name).mkdir(parents=True)
        card = {"classes": list(HAM10000_CLASSES), "files": {"model.onnx": "0"}} | more
        (weights / name / "card.json").write_text(json.dumps(card))
    teachers = widget(open_page("New training"), "selectbox", "Teacher").options
    assert "alone" in teachers and "turns" not in teachers


def test_what_is_not_shown_does_not_decide(commands):
    page = open_page("New training")
    page = widget(page, "selectbox", "Sampling").select("over").run()
    page = widget(page, "number_input", "Epoch images").set_value(2000).run()
    page = widget(page, "selectbox", "Protocol").select("lesion-kfold").run()
    page = widget(page, "number_input", "Fold").set_value(3).run()
    page = widget(page, "selectbox", "Sampling").select("none").run()
    page = widget(page, "selectbox", "Protocol").select("lesion").run()
    commands.made = create_run(TrainingConfig(), "made by the form").id
    button(page, "Start").click().run()
    settings = json.loads(commands.calls[-1][1])
    assert (settings["epoch_images"], settings["fold"]) == (0, 0)


def test_a_training_goes_on_from_a_network_that_is_served(commands):
    page = open_page("New training")
    start = widget(page, "selectbox", "Go on from")
    networks = [name for name in store.model_names() if "members" not in store.read_card(name)]
    assert len(networks) >= len(shipped.trainings()) > 0  # a soup can be gone on with, too
    assert start.options == ["none", *networks]  # no ensemble, and no run is here yet
    page = start.select(networks[0]).run()
    assert "Initial weights" not in {each.label for each in page.selectbox}
    page = widget(page, "selectbox", "More photos").select("isic2017").run()
    assert "seborrheic keratoses" in words(page)
    commands.made = create_run(TrainingConfig(), "made by the form").id
    button(page, "Start").click().run()
    settings = json.loads(commands.calls[-1][1])
    assert (settings["start_from"], settings["more_photos"]) == (networks[0], "isic2017")


def test_a_data_set_offers_the_protocols_that_divide_it(commands):
    page = open_page("New training")
    assert "isic2018" not in widget(page, "selectbox", "Protocol").options
    page = widget(page, "selectbox", "Dataset").select("isic2018").run()
    protocol = widget(page, "selectbox", "Protocol")
    assert (protocol.value, protocol.options) == ("isic2018", ["isic2018"])


def test_an_input_that_is_no_square_is_cloned_with_both_sides(commands):
    create_run(TrainingConfig(ClassifierConfig(input_size=(192, 256))), "wide")
    page = button(open_page(), "Clone").click().run()
    size = widget(page, "text_input", "Input size")
    assert size.value == "192 x 256"
    page = size.set_value("96").run()
    commands.made = runs.all_runs()[0].id
    started = button(page, "Start").click().run()
    assert json.loads(commands.calls[-1][1])["classifier"]["input_size"] == [96, 96]
    page = widget(show(started, "New training"), "text_input", "Input size").set_value("wide").run()
    assert "Expected an input size such as 224" in " ".join(each.value for each in page.warning)


@pytest.mark.parametrize(("backend", "offered"), [("jax", True), ("tensorflow", False)])
def test_all_gpus_are_offered_together_where_they_can_be(monkeypatch, commands, backend, offered):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr("ui.train.form.devices", lambda: ("gpu:0", "gpu:1", "cpu"))
    page = open_page("New training")
    assert ("all" in widget(page, "selectbox", "Device").options) == offered
    monkeypatch.setattr("ui.train.form.devices", lambda: ("gpu:0", "cpu"))
    assert "all" not in widget(open_page("New training"), "selectbox", "Device").options
