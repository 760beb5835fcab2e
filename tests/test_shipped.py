"""The models in `weights/` can be trained again by name."""

import json
import shutil

import pytest

from dermsa.cli import main
from dermsa.inference import store
from dermsa.training import form, shipped
from dermsa.training.config import EARLIER
from dermsa.training.presets import PRESETS, all_presets, preset

pytestmark = pytest.mark.skipif(not store.model_names(), reason="there is no model in weights/")


def planned(capsys, *arguments):
    assert main(["sweep", *arguments, "--dry-run", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_network_that_is_there_has_one_and_all_are_listed(capsys):
    networks = [name for name in store.model_names() if not store.parts(store.read_card(name))]
    assert list(shipped.trainings()) == [f"shipped/{name}" for name in networks]
    assert list(all_presets()) == [*shipped.trainings(), *PRESETS]
    assert main(["presets"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == list(all_presets())


@pytest.mark.parametrize("name", shipped.trainings())
def test_it_is_what_the_card_keeps(name, capsys):
    card = store.read_card(name.removeprefix("shipped/"))
    (run,) = planned(capsys, "--from", name, "--vary", f"seed={card['training']['config']['seed']}")
    kept = {**card["architecture"], **card["training"]["config"], "classes": card["classes"]}
    settings = run["config"]
    settings |= settings.pop("classifier")
    for setting, value in settings.items():  # what is younger than the card is as it was
        if setting in kept:
            assert value == kept[setting], setting
        else:
            assert value == EARLIER.get(setting, form.FIELDS[setting].default), setting


@pytest.mark.parametrize("name", shipped.trainings())
def test_it_is_told_with_what_was_measured(name, capsys):
    assert main(["presets", name]) == 0
    printed = capsys.readouterr().out
    card = store.read_card(name.removeprefix("shipped/"))
    assert f"macro recall {card['metrics']['macro_recall']['value']:.3f}" in printed
    assert all(note in printed for note in card["notes"])


def test_what_is_made_of_several_is_a_sweep_over_their_trainings(capsys):
    for name in store.model_names():
        card = store.read_card(name)
        if not store.parts(card):
            continue
        of, left = [], store.parts(card)
        while left:  # a soup among the members has parts of its own
            parts = store.parts(store.read_card(left[0]))
            of, left = of if parts or left[0] in of else [*of, left[0]], [*parts, *left[1:]]
        what = "is an ensemble of several trainings" if "members" in card else "was not trained"
        with pytest.raises(ValueError, match=what):
            preset(f"shipped/{name}")
        runs = planned(capsys, "--table", f"shipped/{name}")
        assert [run["title"] for run in runs] == [f"shipped/{each}" for each in of]


def test_a_model_that_is_not_there_is_refused_by_name(capsys):
    assert main(["train", "--preset", "shipped/Nothing"]) == 2
    assert "There is no model 'Nothing'" in capsys.readouterr().err


def test_a_damaged_card_hides_no_other_training(tmp_path, monkeypatch):
    network = next(iter(shipped.trainings())).removeprefix("shipped/")
    shutil.copytree(store.weights_folder() / network, tmp_path / network)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / store.CARD).write_text("{")
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    assert list(shipped.trainings()) == [f"shipped/{network}"]
