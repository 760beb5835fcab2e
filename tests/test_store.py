"""The models in `weights/`: opened when whole, refused in one sentence when not."""

import io
import json

import numpy as np
import pytest

from dermsa.inference import store
from dermsa.inference.store import ModelError, open_model, read_card, sha256_of
from dermsa.taxonomy import HAM10000_CLASSES


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A weights folder with three models; `beta` is the default."""
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    arrays = io.BytesIO()
    np.savez(arrays, mean=np.arange(3.0), scale=np.eye(2))
    for name, files in (
        ("alpha", {"model.onnx": b"the network of alpha"}),
        ("beta", {"model.onnx": b"the network of beta", "novelty.npz": arrays.getvalue()}),
        ("gamma", {"model.onnx": b"the network of gamma"}),
    ):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
        card = {
            "classes": list(HAM10000_CLASSES),
            "files": {file: sha256_of(content) for file, content in files.items()},
        }
        (tmp_path / name / store.CARD).write_text(json.dumps(card))
    (tmp_path / "accurate").write_text("beta\n")
    (tmp_path / "no-card").mkdir()
    return tmp_path


def refusal(call, *arguments):
    with pytest.raises(ModelError) as raised:
        call(*arguments)
    message = str(raised.value)
    assert "\n" not in message and message.endswith(".")
    return message


# --- finding ----------------------------------------------------------------------------------


def test_the_default_model_comes_first(weights):
    assert store.model_names() == ["beta", "alpha", "gamma"]
    assert store.default_model() == "beta"


@pytest.mark.parametrize("default", [None, "nonsense"])
def test_without_a_named_default_the_first_by_name_answers(weights, default):
    (weights / "accurate").unlink()
    if default:
        (weights / "accurate").write_text(default)
    assert store.default_model() == "alpha"


def test_a_model_can_be_asked_for_by_what_it_is_for(weights):
    assert store.models_by_role() == {"accurate": "beta"}
    (weights / "fast").write_text("gamma\n")
    assert store.models_by_role() == {"accurate": "beta", "fast": "gamma"}
    assert store.model_names() == ["beta", "gamma", "alpha"]
    assert open_model("fast").onnx == b"the network of gamma"
    assert store.read_card("fast") == store.read_card("gamma")
    (weights / "fast").write_text("one that is gone\n")
    assert store.models_by_role() == {"accurate": "beta"}
    assert "There is no model 'fast'" in refusal(open_model, "fast")


def test_earlier_models_are_there_and_not_offered(weights):
    (weights / store.EARLIER).write_text("alpha\nbeta\none that is gone\n")
    assert store.model_names() == ["beta", "alpha", "gamma"]
    assert open_model("alpha").onnx == b"the network of alpha"
    assert store.offered_models() == ["beta", "gamma"]  # beta is the accurate one all the same


def test_networks_of_later_folds_are_offered_within_their_ensemble_alone(weights):
    card = json.loads((weights / "alpha" / store.CARD).read_text())
    (weights / "turns").mkdir()
    members = [{"model": name, "sha256": "0", "weight": 0.5} for name in ("alpha", "gamma")]
    ensemble = {"classes": card["classes"], "members": members, "folds": {"count": 2}}
    (weights / "turns" / store.CARD).write_text(json.dumps(ensemble))
    for fold, offered in (
        (0, ["beta", "alpha", "gamma", "turns"]),
        (3, ["beta", "gamma", "turns"]),
    ):
        card["protocol"] = {"name": "lesion-rotated", "fold": fold}
        (weights / "alpha" / store.CARD).write_text(json.dumps(card))
        assert store.offered_models() == offered
    (weights / "fast").write_text("alpha\n")
    assert store.offered_models() == ["beta", "alpha", "gamma", "turns"]
    (weights / "fast").unlink()
    (weights / "turns" / store.CARD).write_text("{")  # damaged: its members are offered again
    assert store.offered_models() == ["beta", "alpha", "gamma", "turns"]


def test_without_any_model_it_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path / "nowhere"))
    assert store.model_names() == []
    assert "python -m dermsa train" in refusal(store.default_model)
    assert "There are: none" in refusal(open_model, "beta")


def test_the_folder_can_be_chosen(weights, monkeypatch):
    assert store.weights_folder() == weights
    monkeypatch.delenv("DERMSA_WEIGHTS")
    assert store.weights_folder().name == "weights"


# --- opening ----------------------------------------------------------------------------------


def test_a_whole_model_is_opened(weights):
    model = open_model("alpha")
    assert (model.name, model.folder) == ("alpha", weights / "alpha")
    assert model.onnx == b"the network of alpha" and model.novelty is None
    assert model.card["classes"] == list(HAM10000_CLASSES)


def test_its_measure_of_novelty_comes_with_it(weights):
    novelty = open_model("beta").novelty
    assert set(novelty) == {"mean", "scale"}
    np.testing.assert_array_equal(novelty["mean"], [0, 1, 2])


@pytest.mark.parametrize("name", ["delta", "no-card", "", "../beta", "alpha/../beta", "x" * 500])
def test_a_name_that_is_no_model_gets_the_list(weights, name):
    message = refusal(open_model, name)
    assert "beta, alpha, gamma" in message and len(message) < 200


# --- missing and damaged files ----------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.onnx", "novelty.npz"])
def test_a_missing_file_is_named(weights, file):
    (weights / "beta" / file).unlink()
    message = refusal(open_model, "beta")
    assert f"{file} of the model beta is missing" in message and "another model" in message


@pytest.mark.parametrize("file", ["model.onnx", "novelty.npz"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:5] + b"X" + b[6:], lambda b: b""]
)
def test_a_damaged_file_is_named(weights, file, damage):
    path = weights / "beta" / file
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(open_model, "beta")
    assert f"{file} of the model beta is damaged" in message and "another model" in message
    open_model("alpha")  # the others go on working


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"classes": ["mel"]}',
        b'{"classes": ["mel"], "files": []}',
        b'{"classes": [], "files": {}}',
    ],
)
def test_a_damaged_card_is_named(weights, content):
    (weights / "beta" / store.CARD).write_bytes(content)
    for call in (read_card, open_model):
        message = refusal(call, "beta")
        assert "card" in message and "damaged" in message


def test_a_card_without_the_network_is_damaged(weights):
    card = {"classes": list(HAM10000_CLASSES), "files": {}}
    (weights / "beta" / store.CARD).write_text(json.dumps(card))
    assert "damaged" in refusal(open_model, "beta")


# --- ensembles --------------------------------------------------------------------------------


@pytest.fixture
def ensemble(weights):
    """`delta`, made of `alpha` and `beta`; returns a function that changes its card."""

    def write(**values):
        members = [
            {"model": name, "weight": weight, "sha256": store.card_sha256(name)}
            for name, weight in (("alpha", 0.25), ("beta", 0.75))
        ]
        card = {"classes": list(HAM10000_CLASSES), "members": members, "files": {}} | values
        (weights / "delta").mkdir(exist_ok=True)
        (weights / "delta" / store.CARD).write_text(json.dumps(card))

    write()
    return write


def test_an_ensemble_is_opened_with_its_members(weights, ensemble):
    model = open_model("delta")
    assert model.onnx is None and model.novelty is None
    assert [(member.model.name, member.weight) for member in model.members] == [
        ("alpha", 0.25),
        ("beta", 0.75),
    ]
    assert model.members[0].model.onnx == b"the network of alpha"
    assert model.sha256 == sha256_of((weights / "delta" / store.CARD).read_bytes())
    assert open_model("alpha").sha256 == sha256_of(b"the network of alpha")
    assert "delta" in store.model_names()


def test_a_missing_member_is_named(weights, ensemble):
    (weights / "alpha" / store.CARD).unlink()
    message = refusal(open_model, "delta")
    assert "delta needs the model alpha" in message and "another model" in message
    open_model("beta")  # the others go on working


def test_a_changed_member_is_named(weights, ensemble):
    path = weights / "beta" / store.CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature": 2.0}))
    message = refusal(open_model, "delta")
    assert "beta has changed since the ensemble delta" in message
    assert "python -m dermsa ensemble" in message


def test_a_damaged_file_of_a_member_is_named(weights, ensemble):
    (weights / "beta" / "model.onnx").write_bytes(b"the network of someone else")
    assert "model.onnx of the model beta is damaged" in refusal(open_model, "delta")


@pytest.mark.parametrize(
    "members", [[], None, "alpha", ["alpha", "beta"], [{"model": "alpha", "weight": 1}]]
)
def test_a_damaged_list_of_members_is_a_damaged_card(ensemble, members):
    ensemble(members=members)
    for call in (read_card, open_model):
        assert "damaged" in refusal(call, "delta")
