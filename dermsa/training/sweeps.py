"""Sweeps: many runs from one line, over a grid of settings or for a published table.

grid(base, {"backbone": ["MobileNetV2", "MobileNetV3Small"], "seed": [0, 1, 2]})   # six runs
table("sensors2022/accuracy-auc")                    # one for every network of that table
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dermsa.datasets import registry
from dermsa.evaluation.published import Published
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training import ablations, shipped
from dermsa.training.config import TrainingConfig
from dermsa.training.form import read_size
from dermsa.training.presets import PRESETS, Preset
from dermsa.training.runs import Run, create_run

OF_CLASSIFIER = tuple(field.name for field in dataclasses.fields(ClassifierConfig))
OF_TRAINING = tuple(
    field.name for field in dataclasses.fields(TrainingConfig) if field.name != "classifier"
)
# Under which number the appendix of the Sensors paper prints a table.
NUMBERS = {"sensors2022/table-A3": "sensors2022/accuracy-auc"}


@dataclass(frozen=True)
class Planned:
    """One run of a sweep, not yet made."""

    title: str
    config: TrainingConfig
    tags: tuple[str, ...] = ()


def changed(config: TrainingConfig, settings: Mapping[str, Any]) -> TrainingConfig:
    """A configuration with other values of some fields, its own or its classifier's.

    Another backbone comes with its own input size unless one is given, and the diagnoses follow
    the data set.

    Raises:
        ValueError: An unknown field, no size, or values that do not go together.
    """
    for name in settings:
        if name not in (*OF_TRAINING, *OF_CLASSIFIER):
            near = difflib.get_close_matches(name, (*OF_TRAINING, *OF_CLASSIFIER), 3, 0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"There is no setting {name!r}.{hint}")
    training = {name: settings[name] for name in OF_TRAINING if name in settings}
    network = {name: settings[name] for name in OF_CLASSIFIER if name in settings}
    if "backbone" in network:
        network.setdefault("input_size", None)
    if isinstance(network.get("input_size"), int | str):
        network["input_size"] = read_size(str(network["input_size"]))
    network["classes"] = registry.record(training.get("dataset", config.dataset)).classes
    classifier = dataclasses.replace(config.classifier, **network)
    return dataclasses.replace(config, classifier=classifier, **training)


def grid(base: TrainingConfig, values: Mapping[str, Sequence]) -> list[Planned]:
    """Every combination of the values, the last setting varying fastest.

    Args:
        base: What the runs have in common.
        values: By field of `TrainingConfig` or `ClassifierConfig`.

    Raises:
        ValueError: An unknown field, a setting without values, or a combination that cannot be.
    """
    empty = [name for name, each in values.items() if not each]
    if empty or not values:
        raise ValueError(f"There is no value to try for {', '.join(empty) or 'any setting'}.")
    planned = []
    for combination in itertools.product(*values.values()):
        settings = dict(zip(values, combination, strict=True))
        config = changed(base, settings)
        words = [f"{name} {value}" for name, value in settings.items() if name != "backbone"]
        planned.append(Planned(", ".join([config.classifier.backbone, *words]), config))
    return planned


def tables() -> dict[str, tuple[Preset, ...]]:
    """The published tables that can be trained anew, by name, with the presets of their rows."""
    found: dict[str, list[Preset]] = {}
    for preset in PRESETS.values():
        for name in dict.fromkeys(map(_table_name, preset.figures())):
            found.setdefault(name, []).append(preset)
    return {name: tuple(presets) for name, presets in sorted(found.items())}


def _table_name(figure: Published) -> str:
    source = figure.source.partition("-")[0]
    return f"{source}/{figure.table.removesuffix('.csv').removeprefix(f'{source}_')}".replace(
        "_", "-"
    )


def table(name: str, common: Mapping[str, Any] | None = None) -> list[Planned]:
    """A run for every row of a published table that its authors trained, or for every member of
    the ensemble `shipped/<model>`, or for every variant and seed of `ablations/<name>`.

    Args:
        common: Settings for all of them. Of an ablation they change the reference, from which
            every variant differs as before.

    Raises:
        ValueError: No such table; the message lists them. An unknown setting, or values that do
            not go together.
    """
    common = common or {}
    if name.startswith(shipped.PREFIX):
        members = shipped.members(name)
        return [Planned(each.name, changed(each.config(), common)) for each in members]
    if name.startswith(ablations.PREFIX + "/"):
        reference = changed(ablations.reference(), common)
        pixels, width = reference.classifier.input_size
        if pixels != width:
            raise ValueError(
                f"The photos of the ablations' reference are square. Received: {pixels} x {width}"
            )
        return [
            Planned(title, changed(reference, settings), (tag,))
            for title, tag, settings in ablations.planned(name, pixels)
        ]
    known = tables()
    presets = known.get(NUMBERS.get(name, name))
    if presets is None:
        raise ValueError(
            f"There is no published table {name!r}. Expected one of: "
            f"{', '.join([*known, *NUMBERS])}."
        )
    return [Planned(preset.name, changed(preset.config(), common)) for preset in presets]


def make_runs(planned: Sequence[Planned], name: str) -> list[Run]:
    """Makes the runs of a sweep, tagged with its name."""
    return [create_run(each.config, each.title, tags=(name, *each.tags)) for each in planned]
