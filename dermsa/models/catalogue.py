"""Every classifier that can be built, with what building it shows."""

from __future__ import annotations

import numpy as np

from dermsa.models.backbones import BACKBONES
from dermsa.models.classifier import HEADS, ClassifierConfig, build_classifier


def describe_all() -> list[dict]:
    """Builds every backbone, cut and head once, without weights.

    Returns:
        Per classifier: `name, backbone, cut, head, input_size, feature_shape, parameters,
        trainable_parameters`.
    """
    return [
        describe(ClassifierConfig(backbone, cut=cut, head=head))
        for backbone, record in BACKBONES.items()
        for cut in record.cuts
        for head in HEADS
    ]


def describe(config: ClassifierConfig) -> dict:
    """See `describe_all`."""
    classifier = build_classifier(config)
    return {
        "name": f"{config.backbone}/{config.cut}/{config.head}",
        "backbone": config.backbone,
        "cut": config.cut,
        "head": config.head,
        "input_size": list(config.input_size),
        "feature_shape": list(classifier.get_layer("soft_attention").input.shape[1:]),
        "parameters": classifier.count_params(),
        "trainable_parameters": sum(
            int(np.prod(variable.shape)) for variable in classifier.trainable_variables
        ),
    }
