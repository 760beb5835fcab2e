"""Every classifier that can be built: listed from the registry, or built and counted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dermsa.models import backbones
from dermsa.models.classifier import ClassifierConfig, build_classifier, decomposes, heads_at


def listing(names: Iterable[str] = tuple(backbones.BACKBONES)) -> list[dict]:
    """Every head at every cut of the named backbones, without building any.

    Returns:
        Per classifier: `name, backbone, cut, head, input_size, feature_shape, decomposes`.

    Raises:
        UnknownName: No such backbone.
    """
    rows = []
    for record in map(backbones.backbone, names):
        for cut_name, cut in record.cuts.items():
            for head in heads_at(record.name, cut_name):
                config = ClassifierConfig(record.name, cut=cut_name, head=head)
                rows.append(
                    {
                        "name": f"{record.name}/{cut_name}/{head}",
                        "backbone": record.name,
                        "cut": cut_name,
                        "head": head,
                        "input_size": list(config.input_size),
                        "feature_shape": list(cut.feature_shape),
                        "decomposes": decomposes(config),
                    }
                )
    return rows


def counted(rows: list[dict]) -> list[dict]:
    """The rows of `listing` with `parameters` and `trainable_parameters`; builds each, slowly."""
    return [row | _counts(row) for row in rows]


def _counts(row: dict) -> dict:
    config = ClassifierConfig(row["backbone"], cut=row["cut"], head=row["head"])
    classifier = build_classifier(config)
    trainable = sum(int(np.prod(variable.shape)) for variable in classifier.trainable_variables)
    return {"parameters": classifier.count_params(), "trainable_parameters": trainable}
