"""What a model costs: size, arithmetic, time and memory, measured in the served form.

    costs = measure(["MobileNetV3Small", "MobileNetV2"])       # Cost by name

Times depend on the machine and on what else it does. Models are therefore measured together, one
answer of each in turn, so that whatever slows one slows all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd

from dermsa.inference import store
from dermsa.inference.ensemble import AnyPredictor, open_predictor
from dermsa.machine import processor
from dermsa.patient import Patient

ROUNDS = 50
WARM_UP = 3
BATCH = 16
PHOTO_SIZE = (450, 600)


@dataclass(frozen=True)
class Cost:
    """Size and speed of one model on one machine.

    Attributes:
        parameters: Of the network; of all members together for an ensemble.
        file_bytes: Of the ONNX file, or of all members' files.
        multiply_adds: Of one forward pass over one image, of all members together.
        views: Forward passes of each member that one answer takes (mirror images), the most of
            any member.
        pass_p50, pass_p95: Milliseconds of one forward pass of one image, without explanation:
            median and 95th percentile. Of all members, one after the other, for an ensemble.
        answer_p50, answer_p95: Milliseconds of the whole answer for one decoded photo, with all
            views, maps and checks, as the page gives it.
        images_per_second: Probabilities of decoded photos in batches of 16, with all views.
        peak_memory: Bytes that a fresh process needed for an answer, Python included.
        rounds: How many passes and answers were timed.
        threads: Processor threads of one pass.
        processor: What it was measured on.
        measured_with: The models that took turns.
    """

    parameters: int
    file_bytes: int
    multiply_adds: int
    views: int
    pass_p50: float
    pass_p95: float
    answer_p50: float
    answer_p95: float
    images_per_second: float
    peak_memory: int
    rounds: int
    threads: int
    processor: str
    measured_with: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "measured_with", tuple(self.measured_with))


@dataclass(frozen=True)
class TrainingCost:
    """What a training took where it ran; not to be compared between machines.

    Attributes:
        seconds_per_epoch: Median; None where not known.
        peak_memory: Bytes that the process held at most; None where not known.
    """

    seconds_per_epoch: float | None
    peak_memory: int | None


def of_run(folder: Path) -> TrainingCost:
    """What a run took so far, from its `metrics.csv` and `status.json`."""
    metrics, status = folder / "metrics.csv", folder / "status.json"
    seconds = pd.read_csv(metrics)["seconds"].median() if metrics.is_file() else None
    known = json.loads(status.read_text(encoding="utf-8")) if status.is_file() else {}
    return TrainingCost(None if seconds is None else float(seconds), known.get("peak_memory"))


def of_training(card: Mapping) -> TrainingCost:
    """What the training of a model took, by its card; of several networks, of which an ensemble
    or a soup is made, one epoch of each, as often as it takes part, and the most memory of any."""
    trainings = _trainings(card)
    seconds = [training.get("seconds_per_epoch") for training in trainings]
    memory = [training.get("peak_memory") for training in trainings]
    return TrainingCost(
        None if None in seconds else sum(seconds), None if None in memory else max(memory)
    )


def measure(names: Sequence[str], rounds: int = ROUNDS) -> dict[str, Cost]:
    """The cost of models of `weights/`, under the same load.

    Args:
        names: Measured in turns: all that are to be compared should be measured in one call.
        rounds: Passes and answers to be timed for each.

    Raises:
        ModelError: A model is missing or damaged.
    """
    predictors = {name: open_predictor(name) for name in names}
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (*PHOTO_SIZE, 3), dtype=np.uint8)
    patient = Patient(50, "female", "back")
    passes, answers, batches = ({name: [] for name in names} for _ in range(3))
    for turn in range(-WARM_UP, rounds):
        for name, predictor in predictors.items():
            timed = (
                _milliseconds(lambda p=predictor: _one_pass(p, photo)),
                _milliseconds(lambda p=predictor: p.diagnose([photo], patient)),
            )
            if turn >= 0:
                passes[name].append(timed[0])
                answers[name].append(timed[1])
            if turn >= 0 and turn % 10 == 0:
                many = [predictor.seen(photo)] * BATCH
                batches[name].append(
                    _milliseconds(lambda p=predictor, m=many: p.answers(m, [patient] * BATCH))
                )
    return {
        name: Cost(
            **_size(predictor),
            **_percentiles("pass", passes[name]),
            **_percentiles("answer", answers[name]),
            images_per_second=1000 * BATCH / float(np.median(batches[name])),
            peak_memory=_peak_memory(name),
            rounds=rounds,
            threads=min(4, os.cpu_count() or 1),
            processor=processor(),
            measured_with=tuple(names),
        )
        for name, predictor in predictors.items()
    }


def multiply_adds(onnx: bytes) -> int:
    """Multiplications with addition of one forward pass over one image and one patient.

    Counted in convolutions and matrix products, where nearly all of them are.

    Args:
        onnx: Content of a model file with free first dimensions.
    """
    import onnx as onnx_format

    model = onnx_format.load_from_string(onnx)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in model.graph.output:  # shapes that name dimensions would contradict the ones
        value.type.tensor_type.ClearField("shape")
    graph = onnx_format.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(max(1, dim.dim_value) for dim in dims)
    return sum(_of_node(node, shapes) for node in graph.node)


# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------


def _of_node(node, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "Conv":
        kernel = shapes[node.input[1]]  # (out, in / groups, height, width)
        return prod(shapes[node.output[0]]) * prod(kernel[1:])
    if node.op_type in ("MatMul", "Gemm"):
        rows_last = node.op_type == "Gemm" and any(
            attribute.name == "transA" and attribute.i for attribute in node.attribute
        )
        inner = shapes[node.input[0]][-2 if rows_last else -1]
        return prod(shapes[node.output[0]]) * inner
    return 0


def _networks(predictor: AnyPredictor) -> list:
    """The networks that an answer takes: the model itself, or its members."""
    return list(getattr(predictor, "members", None) or [predictor])


def _trainings(card: Mapping) -> list[Mapping]:
    """The training of a network, or those of all parts of a model; an empty one stands for what is
    not known."""
    try:
        parts = [store.read_card(name) for name in store.parts(card)]
    except store.ModelError:
        return [{}]
    return [each for part in parts for each in _trainings(part)] or [card.get("training", {})]


def _size(predictor: AnyPredictor) -> dict[str, int]:
    networks = [(one.model, one.views) for one in _networks(predictor)]
    return {
        "parameters": sum(model.card["architecture"]["parameters"] for model, _ in networks),
        "file_bytes": sum(len(model.onnx) for model, _ in networks),
        "multiply_adds": sum(multiply_adds(model.onnx) for model, _ in networks),
        "views": max(views for _, views in networks),
    }


def _one_pass(predictor: AnyPredictor, photo: np.ndarray) -> None:
    for network in _networks(predictor):
        patient = Patient().encode(network.age_scale)[None]
        network.engine(network.seen(photo)[None], patient, ("logits",))


def _milliseconds(action) -> float:
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def _percentiles(what: str, milliseconds: list[float]) -> dict[str, float]:
    median, late = np.percentile(milliseconds, (50, 95))
    return {f"{what}_p50": float(median), f"{what}_p95": float(late)}


_ONE_ANSWER = """
import sys
import numpy as np
from dermsa.inference.ensemble import open_predictor
from dermsa.memory import peak_memory
open_predictor(sys.argv[1]).diagnose([np.zeros((450, 600, 3), np.uint8)])
print(peak_memory())
"""


def _peak_memory(name: str) -> int:
    """Bytes of a fresh process that answers once: this one has opened other models, too."""
    done = subprocess.run(
        [sys.executable, "-c", _ONE_ANSWER, name],
        capture_output=True,
        text=True,
        env={**os.environ, "DERMSA_WEIGHTS": str(store.weights_folder())},
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode:
        raise RuntimeError(f"{name} cannot be opened alone: {done.stderr.strip()[-300:]}")
    return int(done.stdout)
