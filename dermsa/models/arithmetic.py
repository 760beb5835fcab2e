"""How much each backbone computes and remembers for one image, up to each cut.

    kept()["MobileNetV2"]["trunk"].multiply_adds

Counting takes building; the counts are therefore kept in a table, which
`python -m dermsa.models.arithmetic` writes anew. Reading it takes no Keras.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from dataclasses import dataclass
from math import prod
from pathlib import Path

TABLE = Path(__file__).with_name("arithmetic.csv")


@dataclass(frozen=True)
class Arithmetic:
    """One forward pass over one image.

    Attributes:
        height, width: Of the image, in pixels: the backbone's own size.
        multiply_adds: Of convolutions and matrix products, where nearly all of them are.
        activations: Values that all layers together give, which training keeps for the way back.
    """

    height: int
    width: int
    multiply_adds: int
    activations: int

    def at(self, height: int, width: int) -> Arithmetic:
        """The same at another size: both counts grow with the number of pixels."""
        scale = height * width / (self.height * self.width)
        return Arithmetic(
            height, width, round(self.multiply_adds * scale), round(self.activations * scale)
        )


@functools.cache
def kept() -> dict[str, dict[str, Arithmetic]]:
    """The table: what `count` gave, by backbone and cut."""
    counts: dict = {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        for backbone, cut, *figures in list(csv.reader(file))[1:]:
            counts.setdefault(backbone, {})[cut] = Arithmetic(*map(int, figures))
    return counts


def count(name: str) -> dict[str, Arithmetic]:
    """Builds a backbone and counts, by cut."""
    import keras

    from dermsa.models import backbones

    record = backbones.backbone(name)
    trunks = backbones.up_to_each_cut(record, keras.Input((*record.input_size, 3)))
    return {
        cut: Arithmetic(
            *record.input_size,
            sum(map(_multiply_adds, trunk.layers)),
            sum(map(_values, trunk.layers)),
        )
        for cut, trunk in trunks.items()
    }


def _values(layer) -> int:
    import keras

    return sum(prod(tensor.shape[1:]) for tensor in keras.tree.flatten(layer.output))


def _multiply_adds(layer) -> int:
    """For each value that a layer gives, as many as go into it."""
    import keras

    if isinstance(layer, keras.layers.SeparableConv2D):
        *window, channels, _ = layer.depthwise_kernel.shape
        positions = prod(layer.output.shape[1:-1])
        return _values(layer) * channels + positions * channels * prod(window)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return _values(layer) * prod(layer.kernel.shape[:2])
    if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
        return _values(layer) * prod(layer.kernel.shape[:-1])
    return 0


def main() -> None:
    """Counts the whole registry."""
    import keras

    from dermsa.models.backbones import BACKBONES

    columns = ("backbone", "cut", *(field.name for field in dataclasses.fields(Arithmetic)))
    rows = []
    for name in BACKBONES:
        keras.backend.clear_session()
        rows += [(name, cut, *dataclasses.astuple(found)) for cut, found in count(name).items()]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *rows])


if __name__ == "__main__":
    main()
