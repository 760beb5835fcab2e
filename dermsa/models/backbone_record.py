"""What is known of a backbone, as data: `Backbone` and its `Cut`s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import keras

SCALINGS = ("internal", "minus_one_to_one", "caffe_bgr", "torch")
KERAS = "keras.applications"
WEIGHTS_FOLDER = "imagenet_weights"  # of the data folder: where files are placed by hand


@dataclass(frozen=True)
class Cut:
    """The tensor that feeds the head, found from a layer whose name is stable.

    Attributes:
        path: A layer that was named explicitly in the network's own code, then steps from its
            output: `>` to the only layer that takes this tensor, `<i` to the i-th tensor that
            made it. Activations carry automatic names, which change with whatever was built
            before: `"conv_1_bn>"` is the activation after `conv_1_bn`, whatever its name.
        feature_shape: `(height, width, channels)` at the backbone's own input size.
        then: What is done to that tensor, where the papers cut inside a layer of today's Keras.
        top: Whether the cut lies in the network's top.
        weights_file: Name of the ImageNet file for this cut, where it is not the backbone's: one
            that ends at the cut, or that includes the top.
    """

    path: str
    feature_shape: tuple[int, int, int]
    then: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None
    top: bool = False
    weights_file: str | None = None


@dataclass(frozen=True)
class Backbone:
    """One image network.

    Attributes:
        name: What users call it.
        build: As in keras.applications: `build(input_tensor=..., input_shape=...,
            include_top=..., weights=...)`.
        scaling: How RGB 0-255 becomes its input, one of `SCALINGS`: the network does it itself;
            -1 to 1; BGR minus the ImageNet mean; RGB 0-1 by ImageNet's mean and deviation.
        input_size: Height and width it was made for, in pixels.
        cuts: By name; every backbone has "published" (the papers' table; where the papers used
            the whole network, or never used it, the same as) "trunk" (its last full feature map).
        weights_file: File name of its ImageNet weights without the top, where one was placed
            by hand.
        licence: Of its ImageNet weights; of the code, where there are none.
        source: The paper.
        imagenet: Where ImageNet weights come from: `KERAS` (downloaded), another place in words,
            or "" where nobody has published any in Keras' form.
        elsewhere: Who has published ImageNet weights in a form that is not read here, where
            `imagenet` is ""; "" where nobody has.
        min_size: Height and width of the smallest square input it takes, in pixels.
        tail: Layers that follow the attention block at the published cut, for a network that has
            it in its middle: from the block's map `(batch, h', w', 2 channels)` to the flat
            tensor `(batch, n)` that the last Dense layer reads.
        sizes_by_map: Input sizes that published experiments used besides `input_size`, by the
            height and width of the feature map that they give.
    """

    name: str
    build: Callable[..., keras.Model]
    scaling: str
    input_size: tuple[int, int]
    cuts: dict[str, Cut]
    weights_file: str
    licence: str
    source: str
    imagenet: str = KERAS
    elsewhere: str = ""
    min_size: int = 32
    tail: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None
    sizes_by_map: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
