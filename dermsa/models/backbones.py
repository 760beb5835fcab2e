"""The registry of backbones: pretrained image networks with their cuts and preprocessing.

Everything about a backbone is data in its `Backbone` record. Code, command line, page and tests
all run over `BACKBONES`; to add a network, add a record.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras


@dataclass(frozen=True)
class Cut:
    """The tensor that feeds the head, named by a layer whose name is stable.

    Attributes:
        layer: Name of a layer that was named explicitly in the network's own code.
        consumer: Take the (only) layer that follows `layer`: activations carry automatic names,
            which change with whatever was built before.
        feature_shape: `(height, width, channels)` at the backbone's own input size.
    """

    layer: str
    consumer: bool
    feature_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Backbone:
    """One pretrained image network.

    Attributes:
        name: What users call it.
        build: Keras application: `build(input_tensor=..., weights=..., include_top=False)`.
        scaling: How RGB 0-255 becomes its input: "internal" or "minus_one_to_one".
        input_size: Height and width it was made for, in pixels.
        cuts: By name; every backbone has "published" (the papers' table) and "trunk" (its last
            full feature map).
        weights_file: File name of its ImageNet weights without the top, where one was placed
            by hand.
        licence: Of the network and its ImageNet weights.
        source: The paper.
    """

    name: str
    build: Callable[..., keras.Model]
    scaling: str
    input_size: tuple[int, int]
    cuts: dict[str, Cut]
    weights_file: str
    licence: str
    source: str


class UnknownName(ValueError):
    """A name that is not registered; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known):
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
        super().__init__(f"There is no {kind} {name!r}. Did you mean {' or '.join(near)}?")


def _applications() -> tuple[Backbone, ...]:
    apps = keras.applications
    return (
        Backbone(
            "MobileNetV2",
            apps.MobileNetV2,
            "minus_one_to_one",
            (224, 224),
            {
                "published": Cut("block_14_depthwise", False, (7, 7, 960)),
                "trunk": Cut("out_relu", False, (7, 7, 1280)),
            },
            "mobilenet_v2_imagenet_notop.weights.h5",
            "Apache-2.0",
            "Sandler et al. 2018, arXiv:1801.04381",
        ),
        Backbone(
            "MobileNetV3Small",
            apps.MobileNetV3Small,
            "internal",
            (224, 224),
            {
                "published": Cut("expanded_conv_10_depthwise_bn", True, (7, 7, 576)),
                "trunk": Cut("conv_1_bn", True, (7, 7, 576)),
            },
            "mobilenet_v3_small_imagenet_notop.weights.h5",
            "Apache-2.0",
            "Howard et al. 2019, arXiv:1905.02244",
        ),
        Backbone(
            "MobileNetV3Large",
            apps.MobileNetV3Large,
            "internal",
            (224, 224),
            {
                # `[:240]`, the papers' best
                "published": Cut("expanded_conv_14_expand_bn", True, (7, 7, 960)),
                "trunk": Cut("conv_1_bn", True, (7, 7, 960)),
            },
            "mobilenet_v3_large_imagenet_notop.weights.h5",
            "Apache-2.0",
            "Howard et al. 2019, arXiv:1905.02244",
        ),
    )


BACKBONES: dict[str, Backbone] = {backbone.name: backbone for backbone in _applications()}


def backbone(name: str) -> Backbone:
    """The record of a backbone.

    Raises:
        UnknownName: No such backbone.
    """
    if name not in BACKBONES:
        raise UnknownName("backbone", name, BACKBONES)
    return BACKBONES[name]


def features(
    record: Backbone, cut_name: str, image: keras.KerasTensor, weights: str | None
) -> keras.KerasTensor:
    """Puts a backbone behind an image input, up to a cut, as one flat graph.

    Args:
        record: The backbone.
        cut_name: A key of its cuts.
        image: Symbolic tensor `(batch, height, width, 3)`, RGB, 0 to 255.
        weights: "imagenet" (Keras downloads it), the path of a `.weights.h5` file, or None.

    Returns:
        Symbolic feature map `(batch, h, w, channels)`.

    Raises:
        UnknownName: No such cut.
        ValueError: The network at this cut does not have the registered shape.
    """
    if cut_name not in record.cuts:
        raise UnknownName(f"cut of {record.name}", cut_name, record.cuts)
    cut = record.cuts[cut_name]
    if record.scaling == "minus_one_to_one":
        image = keras.layers.Rescaling(1 / 127.5, -1, name="rescaling_to_unit")(image)
    network = record.build(
        input_tensor=image,
        input_shape=tuple(image.shape[1:]),
        include_top=False,
        weights=None if weights is None else str(weights),
    )
    tensor = _tensor_at(network, cut)
    expected = cut.feature_shape
    if tuple(image.shape[1:3]) == record.input_size and tuple(tensor.shape[1:]) != expected:
        raise ValueError(
            f"{record.name} cut at {cut.layer} gives {tuple(tensor.shape[1:])}. "
            f"Expected {expected}: this version of Keras builds the network differently."
        )
    return tensor


def find_weights(record: Backbone, folder: Path | None) -> str | None:
    """The path of a hand-placed ImageNet file in `folder/imagenet_weights`, where there is one."""
    if folder is None:
        return None
    path = folder / "imagenet_weights" / record.weights_file
    return str(path) if path.is_file() else None


def _tensor_at(network: keras.Model, cut: Cut) -> keras.KerasTensor:
    layer = network.get_layer(cut.layer)
    if not cut.consumer:
        return layer.output
    inside = set(network.layers)
    followers = [node.operation for node in layer._outbound_nodes if node.operation in inside]
    if len(followers) != 1:
        raise ValueError(f"Expected one layer after {cut.layer}. Found: {len(followers)}.")
    return followers[0].output
