"""The registry of backbones: image networks with their cuts, preprocessing and starting weights.

Everything about a backbone is data in its `Backbone` record. Code, command line, page and tests
all run over `BACKBONES`; to add a network, add a record (to `applications` for one that Keras
offers, to `own_backbones` for one written here).
"""

from __future__ import annotations

import difflib
import http.client
import re
import ssl
import warnings
import zipfile
from pathlib import Path

import keras

from dermsa.models import applications, own_backbones
from dermsa.models.backbone_record import KERAS, WEIGHTS_FOLDER, Backbone, Cut

BACKBONES: dict[str, Backbone] = {
    record.name: record for record in applications.RECORDS + own_backbones.RECORDS
}

# Of RGB 0 to 1 and of BGR 0 to 255, as keras.applications has them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)


class UnknownName(ValueError):
    """A name that is not registered; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known):
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
        super().__init__(f"There is no {kind} {name!r}. Did you mean {' or '.join(near)}?")


class NoWeights(ValueError):
    """ImageNet weights that can't be had; the message says which file to place and how to make it.

    A file of weights that end at the cut can be made of the whole network's only.
    """

    def __init__(self, record: Backbone, cut_name: str, reason: str):
        cut = record.cuts[cut_name]
        file = cut.weights_file if cut.top else record.weights_file
        making = ""
        if record.imagenet == KERAS:
            making = (
                " Where there is a connection, Keras makes this file by: python -c "
                f"'{_making(record, cut.top, file)}'"
            )
        elif not record.imagenet and not record.elsewhere:
            making = " It would have to be of your own making."
        super().__init__(
            f"{reason} Place {file} in the folder {WEIGHTS_FOLDER} of the data folder, or start "
            f"without ImageNet weights.{making}"
        )


def _making(record: Backbone, top: bool, file: str) -> str:
    """Python that downloads the weights of a network of Keras and writes the file to place."""
    network = getattr(record.build, "func", record.build)
    settings = {**getattr(record.build, "keywords", {}), "include_top": top}
    given = "".join(f"{name}={value}, " for name, value in settings.items())
    return (
        f'import keras; keras.applications.{network.__name__}({given}weights="imagenet")'
        f'.save_weights("{file}")'
    )


def backbone(name: str) -> Backbone:
    """The record of a backbone.

    Raises:
        UnknownName: No such backbone.
    """
    if name not in BACKBONES:
        raise UnknownName("backbone", name, BACKBONES)
    return BACKBONES[name]


def find_weights(record: Backbone, folder: Path | None, cut_name: str = "trunk") -> str | None:
    """The path of a hand-placed ImageNet file in `folder/imagenet_weights`, where there is one.

    A file that ends before the cut would leave the layers in between random: it is not taken.
    """
    if folder is None:
        return None
    cut = _cut(record, cut_name)
    names = [cut.weights_file] if cut.weights_file else []
    if not cut.top:
        names.append(record.weights_file)
    paths = [folder / WEIGHTS_FOLDER / name for name in names]
    return next((str(path) for path in paths if path.is_file()), None)


def features(
    record: Backbone, cut_name: str, image: keras.KerasTensor, weights: str | Path | None
) -> keras.KerasTensor:
    """Puts a backbone behind an image input, up to a cut, as one flat graph.

    Args:
        record: The backbone.
        cut_name: A key of its cuts.
        image: Symbolic tensor `(batch, height, width, 3)`, RGB, 0 to 255.
        weights: "imagenet" (Keras downloads it), None, or the path of a `.weights.h5` file that
            holds the whole network (without its top, unless the cut lies there) or ends at the
            cut.

    Returns:
        Symbolic feature map `(batch, h, w, channels)`.

    Raises:
        UnknownName: No such cut.
        NoWeights: ImageNet weights are asked for and can't be downloaded.
        ValueError: The image is smaller than the network takes, the file does not hold this
            network, or the network at this cut does not have the registered shape.
    """
    return network_and_features(record, cut_name, image, weights)[1]


def network_and_features(
    record: Backbone, cut_name: str, image: keras.KerasTensor, weights: str | Path | None
) -> tuple[keras.Model, keras.KerasTensor]:
    """A backbone as far as its weights are known, and its tensor at the cut; see `features`.

    The network goes on behind the cut, unless its weights come from a file that ends there.
    """
    cut = _cut(record, cut_name)
    if weights == "imagenet":
        network = _download(record, cut_name, image)
    else:
        network = build(record, image, cut.top)
    tensor = tensor_at(network, cut)
    expected = cut.feature_shape
    if tuple(image.shape[1:3]) == record.input_size and tuple(tensor.shape[1:]) != expected:
        raise ValueError(
            f"{record.name} cut at {cut.path} gives {tuple(tensor.shape[1:])}. "
            f"Expected {expected}: this version of Keras builds the network differently."
        )
    if weights not in (None, "imagenet"):
        network = _load(record, cut_name, network, tensor, weights)
    return network, tensor


def build(
    record: Backbone, image: keras.KerasTensor, top: bool = False, weights: str | None = None
) -> keras.Model:
    """The whole network behind an image input, its scaling included.

    Raises:
        ValueError: The image is smaller than the network takes.
    """
    size = tuple(image.shape[1:])
    if min(size[:2]) < record.min_size:
        raise ValueError(
            f"{record.name} takes images of at least {record.min_size} x {record.min_size} "
            f"pixels. Received: {size[0]} x {size[1]}"
        )
    return record.build(
        input_tensor=scaled(record, image), input_shape=size, include_top=top, weights=weights
    )


def up_to_each_cut(record: Backbone, image: keras.KerasTensor) -> dict[str, keras.Model]:
    """The networks that end at its cuts, by cut, with random weights; they share their layers."""
    wholes = {top: build(record, image, top) for top in {cut.top for cut in record.cuts.values()}}
    return {
        name: keras.Model(wholes[cut.top].inputs, tensor_at(wholes[cut.top], cut))
        for name, cut in record.cuts.items()
    }


def tensor_at(network: keras.Model, cut: Cut) -> keras.KerasTensor:
    """Follows a cut's path through a network.

    Raises:
        ValueError: The network has no such layer, or forks where the path does not.
    """
    layer, *steps = re.split("([<>])", cut.path)
    tensor = network.get_layer(layer).output
    for direction, index in zip(steps[::2], steps[1::2], strict=True):
        if direction == "<":
            tensor = _inputs(_operation_behind(network, tensor))[int(index)]
            continue
        followers = [
            operation
            for operation in network.operations
            if any(taken is tensor for taken in _inputs(operation))
        ]
        if len(followers) != 1:
            raise ValueError(f"Expected one layer after {layer}. Found: {len(followers)}.")
        tensor = followers[0].output
    return tensor if cut.then is None else cut.then(tensor)


def _operation_behind(network: keras.Model, tensor: keras.KerasTensor) -> keras.Operation:
    return next(operation for operation in network.operations if operation.output is tensor)


def _inputs(operation: keras.Operation) -> list[keras.KerasTensor]:
    return keras.tree.flatten(operation.input)


def _cut(record: Backbone, cut_name: str) -> Cut:
    if cut_name not in record.cuts:
        raise UnknownName(f"cut of {record.name}", cut_name, record.cuts)
    return record.cuts[cut_name]


def _download(record: Backbone, cut_name: str, image: keras.KerasTensor) -> keras.Model:
    if record.imagenet != KERAS:
        reason = f"Nobody has published ImageNet weights of {record.name}, in any form."
        if record.imagenet or record.elsewhere:
            reason = f"No ImageNet weights of {record.name} can be downloaded."
        if record.imagenet:
            reason += f" They come from {record.imagenet}."
        if record.elsewhere:
            reason += f" Those of {record.elsewhere} are not in Keras' form."
        raise NoWeights(record, cut_name, reason)
    try:
        return build(record, image, record.cuts[cut_name].top, "imagenet")
    except Exception as error:
        if not _came_of_the_connection(error):
            raise
        raise NoWeights(
            record, cut_name, f"The ImageNet weights of {record.name} could not be downloaded."
        ) from error


# Where a connection cannot be made, and where a download does not have the hash it should have.
_DOWNLOAD_FAILURES = ("URL fetch failure", "Incomplete or corrupted file detected")
# While a file is read, Keras lets errors through as they come.
_CONNECTION_ERRORS = (ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError)


def _came_of_the_connection(error: Exception) -> bool:
    said = any(failure in str(error) for failure in _DOWNLOAD_FAILURES)
    return said or isinstance(error, _CONNECTION_ERRORS)


def _load(
    record: Backbone,
    cut_name: str,
    network: keras.Model,
    tensor: keras.KerasTensor,
    path: str | Path,
) -> keras.Model:
    """Loads a file of the whole network, or else one that ends at the cut.

    Returns:
        What the file filled: the network, or the part of it up to the cut.

    Raises:
        ValueError: There is no such file, it is damaged, or it holds another network.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no file of starting weights at {path}.")
    with warnings.catch_warnings():
        # Keras names every layer that it misses before it says so in one error.
        warnings.filterwarnings("ignore", "Skipping nested container")
        try:
            try:
                network.load_weights(path)
            except ValueError:
                network = keras.Model(network.inputs, tensor)
                network.load_weights(path)
            return network
        except ValueError as error:
            raise ValueError(
                f"{path} does not hold the weights of {record.name} up to {cut_name}."
            ) from error
        except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
            if getattr(error, "errno", None):  # of the system, not of the content
                raise
            raise ValueError(
                f"{path} is damaged, or no file of Keras weights. Copy or download it again: "
                "expected a complete .weights.h5 file."
            ) from error


def scaled(record: Backbone, image: keras.KerasTensor) -> keras.KerasTensor:
    """RGB 0 to 255 as the network expects it, by layers of the graph."""
    if record.scaling == "internal":
        return image
    if record.scaling == "minus_one_to_one":
        return keras.layers.Rescaling(1 / 127.5, -1, name="rescaling_to_unit")(image)
    if record.scaling == "torch":
        return keras.layers.Rescaling(
            [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION],
            [
                -mean / deviation
                for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)
            ],
            name="rescaling_by_imagenet",
        )(image)
    bgr = ReverseChannels(name="rgb_to_bgr")(image)
    return keras.layers.Rescaling(
        1, [-mean for mean in CAFFE_BGR_MEAN], name="rescaling_by_caffe_mean"
    )(bgr)


@keras.saving.register_keras_serializable("dermsa")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR; shapes `(batch, height, width, 3)`."""

    def call(self, image):
        return keras.ops.take(image, [2, 1, 0], axis=-1)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
