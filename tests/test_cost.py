"""Cost: arithmetic counted by hand, sizes of what ships, and times that make sense."""

import functools
import json
import shutil

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dermsa.cli import main
from dermsa.evaluation import cost, record
from dermsa.inference import store


def constant(name, *shape):
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


def test_multiply_adds_by_hand():
    nodes = [
        helper.make_node("Conv", ["image", "k"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "d"], ["b"], group=8),  # depthwise
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["e"]),
        helper.make_node("Gemm", ["e", "w"], ["f"], transB=1),
        helper.make_node("MatMul", ["f", "m"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["images", 3, 32, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["images", 7])],
        [constant("k", 8, 3, 3, 3), constant("d", 8, 1, 3, 3), constant("w", 10, 8),
         constant("m", 10, 7)],
    )  # fmt: skip
    convolution = 8 * 16 * 24 * (3 * 3 * 3)
    depthwise = 8 * 14 * 22 * (1 * 3 * 3)
    found = cost.multiply_adds(helper.make_model(graph).SerializeToString())
    assert found == convolution + depthwise + 8 * 10 + 10 * 7


def test_the_cost_of_what_ships():
    names = ["MobileNetV3Small", "MobileNetV2", "MobileNetV3Small-256"]
    costs = cost.measure(names, rounds=2)
    assert list(costs) == names
    for name, of in costs.items():
        card = store.read_card(name)
        assert of.parameters == card["architecture"]["parameters"]
        assert of.file_bytes == (store.weights_folder() / name / "model.onnx").stat().st_size
        # A network of n parameters uses each of them at least once, but for the biases.
        assert of.multiply_adds > 5 * of.parameters
        assert of.views == card["views"]
        assert 0 < of.pass_p50 <= of.pass_p95 < of.answer_p95
        assert of.images_per_second > 0 and of.peak_memory > of.file_bytes
        assert of.measured_with == tuple(names)
    # 300 million at 224 x 224 (Sandler et al. 2018), without the classifier of ImageNet.
    side = store.read_card("MobileNetV2")["architecture"]["input_size"][0]
    assert costs["MobileNetV2"].multiply_adds == pytest.approx(300e6 * (side / 224) ** 2, rel=0.1)


def test_the_cost_alone_is_measured_again(tmp_path, monkeypatch, capsys):
    """Of models in turns; whatever else is known of them stays to the last byte."""
    names = ["MobileNetV3Small-256", "MobileNetV2"]
    for name in names:
        shutil.copytree(store.weights_folder() / name, tmp_path / name)
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    monkeypatch.setattr(cost, "measure", functools.partial(cost.measure, rounds=1))
    assert main(["evaluate", "--all", "--cost"]) == 0
    assert capsys.readouterr().out.count(" ms (95 %: ") == 2
    for path, content in before.items():
        if path.name == record.EVALUATION:
            found, was = json.loads(path.read_text()), json.loads(content)
            assert found.pop("cost") != was.pop("cost") and found == was
        else:
            assert path.read_bytes() == content, path.name
    for name in names:
        assert set(record.open_source(name).cost.measured_with) == set(names)


def test_what_trainings_took_is_on_the_card_and_in_the_run(tmp_path):
    for name in ("MobileNetV3Small", "MobileNetV2-256-two-sources"):
        training, of = store.read_card(name)["training"], _training_cost(name)
        assert of.seconds_per_epoch == training["seconds_per_epoch"]
        assert of.peak_memory == training.get("peak_memory")

    assert cost.of_run(tmp_path) == cost.TrainingCost(None, None)
    (tmp_path / "metrics.csv").write_text("epoch,seconds\n1,30.0\n2,10.0\n3,20.0\n")
    (tmp_path / "status.json").write_text('{"peak_memory": 2000000000}')
    assert cost.of_run(tmp_path) == cost.TrainingCost(20.0, 2 * 10**9)


@pytest.mark.parametrize(
    "name", [name for name in store.model_names() if store.parts(store.read_card(name))]
)
def test_trainings_of_all_parts_are_added_up(name):
    parts = store.parts(store.read_card(name))
    assert len(parts) > 1
    of, costs = _training_cost(name), [_training_cost(part) for part in parts]
    assert of.seconds_per_epoch == pytest.approx(sum(each.seconds_per_epoch for each in costs))
    memory = [each.peak_memory for each in costs]
    assert of.peak_memory == (None if None in memory else max(memory))
    assert record.open_source(name).training == of  # what the Compare page shows


def test_a_soup_whose_parts_are_gone_tells_no_cost_of_training(tmp_path, monkeypatch):
    soup = next(name for name in store.model_names() if "soup" in store.read_card(name))
    shutil.copytree(store.weights_folder() / soup, tmp_path / soup)
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    assert _training_cost(soup) == cost.TrainingCost(None, None)


def _training_cost(name):
    return cost.of_training(store.read_card(name))
