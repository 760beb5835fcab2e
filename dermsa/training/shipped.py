"""How the models in `weights/` were trained, as presets that train their like again.

    training("shipped/MobileNetV3Small").config()    # the TrainingConfig that its card keeps

A card holds all of it, so that nothing is written twice: a model that is exported has its preset
at once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass

import pandas as pd

from dermsa.inference import store
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training.config import EARLIER, TrainingConfig

PREFIX = "shipped/"
VALIDATED_BY = ("dataset", "protocol", "split_seed", "fold", "limit")
"""Settings that say which photos validate."""


@dataclass(frozen=True)
class ShippedTraining:
    """The training of one network in `weights/`, by its card; stands beside `presets.Preset`."""

    model: str
    card: dict

    @property
    def name(self) -> str:
        return PREFIX + self.model

    def classifier(self) -> ClassifierConfig:
        """What the model is built of; a patient branch as older cards tell it, by its new name."""
        names = [field.name for field in dataclasses.fields(ClassifierConfig)]
        network = {**self.card["architecture"], "classes": self.card["classes"]}
        return ClassifierConfig(**{name: network[name] for name in names if name in network})

    def config(self) -> TrainingConfig:
        """The training; settings that are younger than the card are as they were then."""
        return TrainingConfig(self.classifier(), **EARLIER | self.card["training"]["config"])

    def curves(self) -> pd.DataFrame:
        """What was measured after each epoch, in the columns of a run's `metrics.csv`."""
        return pd.DataFrame(self.card["training"]["curves"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the command alone does not repeat."""
        training, config = self.card["training"], self.config()
        notes = [
            f"Trained with the package versions and the commit that its card keeps "
            f"({training['git_commit'] or 'none was kept'}); others give a model of the same kind, "
            "not the same weights.",
            f"The export took {self.card['views']} view(s) of each photo.",
        ]
        if config.start_from:
            notes.append(
                f"It went on from {config.start_from}, a run or a model that must be there."
            )
        if config.teacher:
            notes.append(f"It learnt from the answers of {config.teacher}, which must be there.")
        return (*notes, *self.card["notes"])

    def figures(self) -> tuple:
        """Nothing was published of it; its own figures are in its card."""
        return ()

    def summary(self) -> str:
        """One line of a list."""
        architecture, recall = self.card["architecture"], self.card["metrics"]["macro_recall"]
        return (
            f"{architecture['backbone']}, {architecture['cut']}, {architecture['head']}; "
            f"protocol {self.card['protocol']['name']}; macro recall {recall['value']:.3f} "
            f"on {recall['n']:,} test images"
        )

    def as_dict(self) -> dict:
        """Everything of it as JSON-ready values, under the names of `Preset.as_dict`."""
        architecture, recall = self.card["architecture"], self.card["metrics"]["macro_recall"]
        return {
            "name": self.name,
            "backbone": architecture["backbone"],
            "cut": architecture["cut"],
            "head": architecture["head"],
            "regime": "shipped",
            "about": "as its card keeps it",
            "source": f"The model {self.model}",
            "link": "",
            "notes": list(self.notes),
            "headline": {"title": "Macro recall on test", "value": recall["value"]},
            "published": [],
            "config": asdict(self.config()),
        }


def trainings() -> dict[str, ShippedTraining]:
    """All networks of `weights/` whose training is known, by name; a damaged card is left out."""
    cards = store.undamaged_cards().items()
    found = [ShippedTraining(model, card) for model, card in cards if "training" in card]
    return {each.name: each for each in found}


def validated_as(config: TrainingConfig) -> dict[str, ShippedTraining]:
    """Those whose curves are of the very photos that validate a training, by the model's name."""
    photos = [getattr(config, setting) for setting in VALIDATED_BY]
    return {
        each.model: each
        for each in trainings().values()
        if [getattr(each.config(), setting) for setting in VALIDATED_BY] == photos
    }


def training(name: str) -> ShippedTraining:
    """The training behind `shipped/<model>`.

    Raises:
        ModelError: There is no such model.
        ValueError: The model is an ensemble or a soup, of which each member has a training.
    """
    model = name.removeprefix(PREFIX)
    card = store.read_card(model)
    if "members" in card:
        members = ", ".join(PREFIX + member["model"] for member in card["members"])
        raise ValueError(
            f"{model} is an ensemble of several trainings: {members}. All of them are queued by: "
            f"python -m dermsa sweep --table {name}"
        )
    if "soup" in card:
        of = " and ".join(store.parts(card))
        raise ValueError(
            f"{model} was not trained itself: its weights are the mean of those of other networks. "
            f"All of their trainings are queued by: python -m dermsa sweep --table {name}. Export "
            f"these, and average them as {of} were: python -m dermsa soup --of NAMES --name NAME "
            f"--input-size {'x'.join(map(str, card['architecture']['input_size']))} --views "
            f"{card['views']} --weights-as {card['weight_format']}"
        )
    return ShippedTraining(model, card)


def members(name: str) -> list[ShippedTraining]:
    """The trainings behind the ensemble or soup `shipped/<model>`, or the one behind a network.

    Raises:
        ModelError: There is no such model, or a member is missing.
    """
    card = store.read_card(name.removeprefix(PREFIX))
    found = [each for part in store.parts(card) for each in members(PREFIX + part)]
    return list({each.name: each for each in found}.values()) or [training(name)]
