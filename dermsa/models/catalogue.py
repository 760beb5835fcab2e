"""Every classifier that can be built, with its size.

Counting takes building, and building the whole registry takes minutes. The counts are therefore
kept in a table, which `python -m dermsa.models.catalogue` writes anew and the tests compare with
what is built.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable

import keras
import numpy as np

from dermsa.models import backbones
from dermsa.models.classifier import ClassifierConfig, decomposes, head_outputs, heads_at
from dermsa.models.parameters import TABLE, kept
from dermsa.patient import VECTOR_SIZE

COLUMNS = ("backbone", "cut", "head", "parameters", "trainable_parameters")


def listing(names: Iterable[str] = tuple(backbones.BACKBONES)) -> list[dict]:
    """Every head at every cut of the named backbones, with the papers' patient branch.

    Returns:
        Per classifier: `name, backbone, cut, head, input_size, feature_shape, decomposes,
        parameters, trainable_parameters`.

    Raises:
        UnknownName: No such backbone.
    """
    rows = []
    for record in map(backbones.backbone, names):
        counts = kept().get(record.name) or count(record.name)
        for config in _configs(record.name):
            parameters, trainable = counts[config.cut, config.head]
            rows.append(
                {
                    "name": f"{record.name}/{config.cut}/{config.head}",
                    "backbone": record.name,
                    "cut": config.cut,
                    "head": config.head,
                    "input_size": list(config.input_size),
                    "feature_shape": list(record.cuts[config.cut].feature_shape),
                    "decomposes": decomposes(config),
                    "parameters": parameters,
                    "trainable_parameters": trainable,
                }
            )
    return rows


def count(name: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Builds a backbone once, and every head alone; all parameters and the trainable ones.

    Returns:
        By cut and head.
    """
    record = backbones.backbone(name)
    trunks = backbones.up_to_each_cut(record, keras.Input((*record.input_size, 3)))
    sizes = {cut: _size(trunk) for cut, trunk in trunks.items()}
    counts = {}
    for config in _configs(name):
        trunk = sizes[config.cut]
        features = keras.Input(trunks[config.cut].output.shape[1:])
        patient = keras.Input((VECTOR_SIZE,))
        head = _size(keras.Model([features, patient], head_outputs(config, features, patient)))
        counts[config.cut, config.head] = (trunk[0] + head[0], trunk[1] + head[1])
    return counts


def _configs(name: str) -> list[ClassifierConfig]:
    return [
        ClassifierConfig(name, cut=cut, head=head)
        for cut in backbones.backbone(name).cuts
        for head in heads_at(name, cut)
    ]


def _size(model: keras.Model) -> tuple[int, int]:
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    return model.count_params(), trainable


def main() -> None:
    """Counts the whole registry."""
    rows = []
    for name in backbones.BACKBONES:
        keras.backend.clear_session()
        rows += [(name, *which, *sizes) for which, sizes in count(name).items()]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
