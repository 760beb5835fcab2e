"""The models in `weights/`: finding, checking and opening them.

A model is a network, or an ensemble: a card that names other models of `weights/`, their weights
and the hashes of their cards, which in turn name the hashes of their files.

A model may also be asked for by what it is for, accurate or fast: files of these names in
`weights/` say which model that is. The accurate one answers where none is named. The file `earlier`
names, one a line, models that better ones came after: they stay, as these may have gone on from
them, and are not offered.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CARD = "card.json"
ROLES = ("accurate", "fast")
EARLIER = "earlier"
MEMBER_KEYS = ("model", "sha256", "weight")


class ModelError(ValueError):
    """A model that is missing, damaged or not as expected; the message says how to mend it."""


def weights_folder() -> Path:
    """`DERMSA_WEIGHTS`, else `weights/` beside the package."""
    default = Path(__file__).resolve().parents[2] / "weights"
    return Path(os.environ.get("DERMSA_WEIGHTS", default)).expanduser()


@dataclass(frozen=True)
class Model:
    """A model on disk, its files checked against the hashes of its card.

    Attributes:
        name: Of its folder.
        folder: Where it lies.
        card: Everything known of it.
        card_sha256: Hash of its card, which holds calibration and thresholds.
        sha256: Hash of its network; of its card, where it is an ensemble.
        onnx: Its network; None where it is an ensemble.
        novelty: Arrays for `novelty.scores`, where it has them.
        members: Empty but for an ensemble.
    """

    name: str
    folder: Path
    card: dict
    card_sha256: str
    sha256: str
    onnx: bytes | None = None
    novelty: dict[str, np.ndarray] | None = None
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Member:
    """A model's part in an ensemble; the weights of all members sum to 1."""

    model: Model
    weight: float


def model_names() -> list[str]:
    """Names of all models with a card; those with a role first, of these the accurate one."""
    names = sorted(path.parent.name for path in weights_folder().glob(f"*/{CARD}"))
    first = [_named_by(role) for role in ROLES]
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def offered_models() -> list[str]:
    """As `model_names`, but for earlier models, and networks of later folds that answer within an
    ensemble over folds and are meant for it: these would only lengthen a doctor's list."""
    names, cards = model_names(), undamaged_cards()
    within = {
        member["model"]
        for card in cards.values()
        if "folds" in card
        for member in card["members"]
        if cards.get(member["model"], {}).get("protocol", {}).get("fold")
    }
    left_out = (within | earlier_models()) - set(models_by_role().values())
    return [name for name in names if name not in left_out]


def earlier_models() -> set[str]:
    """Names of models that better ones came after."""
    path = weights_folder() / EARLIER
    return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()


def models_by_role() -> dict[str, str]:
    """Which model is the accurate and which the fast one, where that is said."""
    names = model_names()
    named = {role: _named_by(role) for role in ROLES}
    return {role: name for role, name in named.items() if name in names}


def named(name: str) -> str:
    """The name of the model that has this role; any other name stands for itself."""
    return models_by_role().get(name, name)


def default_model() -> str:
    """Name of the model that answers when none is named: the accurate one, else the first.

    Raises:
        ModelError: There is no model.
    """
    names = model_names()
    if not names:
        raise ModelError(
            f"There is no model in {weights_folder()}. Get the project's weights folder again, or "
            "train and export one: `python -m dermsa train`, then `python -m dermsa export`."
        )
    return names[0]


def read_card(name: str) -> dict:
    """The card of a model, named by its own name or its role, without opening the model.

    Raises:
        ModelError: No such model, or an unreadable card.
    """
    return _read_card(named(name))[0]


def undamaged_cards() -> dict[str, dict]:
    """The cards of all models that can be read, by name, in the order of `model_names`."""
    cards = {}
    for name in model_names():
        with contextlib.suppress(ModelError):
            cards[name] = _parsed_card(name)[0]
    return cards


def open_model(name: str) -> Model:
    """Reads a model, and its members if it has any, and checks its files against its card.

    Args:
        name: Of the model, or its role.

    Raises:
        ModelError: Missing, damaged or changed files.
    """
    name = named(name)
    card, sha256 = _read_card(name)
    folder = weights_folder() / name
    if "members" in card:
        members = tuple(_open_member(name, entry) for entry in card["members"])
        return Model(name, folder, card, sha256, sha256, members=members)
    content = {file: _checked(folder / file, known) for file, known in card["files"].items()}
    novelty = None
    if "novelty.npz" in content:
        with np.load(io.BytesIO(content["novelty.npz"]), allow_pickle=False) as arrays:
            novelty = {key: arrays[key] for key in arrays.files}
    network = card["files"]["model.onnx"]
    return Model(name, folder, card, sha256, network, content["model.onnx"], novelty=novelty)


def made_of(name: str) -> list[str]:
    """Names of the ensembles and soups that a model is a part of; those with a damaged card are
    left out."""
    cards = undamaged_cards().items()
    return [other for other, card in cards for part in parts(card) if part == name]


def parts(card: Mapping) -> list[str]:
    """Names of an ensemble's members or of what a soup is made of; empty for other networks."""
    entries = card["members"] if "members" in card else card.get("soup", {}).get("of", ())
    return [entry["model"] for entry in entries]


def composition(card: Mapping) -> str:
    """What a model is made of, in a sentence; empty for a network of a training of its own."""
    if "members" in card:
        members = [f"{member['model']} ({member['weight']:.1%})" for member in card["members"]]
        return (
            f"An ensemble: the geometric mean of the calibrated probabilities of "
            f"{', '.join(members)}, with these weights; "
            f"{card['architecture']['parameters']:,} parameters in all."
        )
    if "soup" in card:
        return f"Its weights are the mean of those of {', '.join(parts(card))} (a model soup)."
    return ""


def card_sha256(name: str) -> str:
    """Hash of a model's card, by which an ensemble knows its members.

    Raises:
        ModelError: No such model, or an unreadable card.
    """
    return _read_card(name)[1]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_card(name: str) -> tuple[dict, str]:
    """The card and its hash."""
    if name not in model_names():
        raise ModelError(
            f"There is no model {str(name)[:60]!r}. "
            f"There are: {', '.join(model_names()) or 'none'}."
        )
    return _parsed_card(name)


def _parsed_card(name: str) -> tuple[dict, str]:
    """As `_read_card`, of a name that is known to be a model's."""
    path = weights_folder() / name / CARD
    try:
        content = path.read_bytes()
        card = json.loads(content)
        if "members" in card:
            assert {tuple(sorted(entry)) for entry in card["members"]} == {MEMBER_KEYS}
        else:
            assert "model.onnx" in dict(card["files"])
        assert card["classes"]
        return card, sha256_of(content)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise ModelError(f"The card {path} is damaged; get this model's folder again.") from None


def _open_member(ensemble: str, entry: dict) -> Member:
    name = entry["model"]
    if name not in model_names():
        raise ModelError(
            f"The ensemble {ensemble} needs the model {name}, which is not there; get its folder "
            "again or choose another model."
        )
    if card_sha256(name) != entry["sha256"]:
        raise ModelError(
            f"The model {name} has changed since the ensemble {ensemble} was made of it; make "
            "the ensemble again (python -m dermsa ensemble) or choose another model."
        )
    return Member(open_model(name), float(entry["weight"]))


def _checked(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError:
        raise ModelError(
            f"The file {path.name} of the model {path.parent.name} is missing; get this model's "
            "folder again or choose another model."
        ) from None
    if sha256_of(content) != sha256:
        raise ModelError(
            f"The file {path.name} of the model {path.parent.name} is damaged (its hash differs "
            "from the card's); get this model's folder again or choose another model."
        )
    return content


def _named_by(role: str) -> str | None:
    path = weights_folder() / role
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
