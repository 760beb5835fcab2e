"""The models that ship: accuracy against size and time; then what smaller files of them lose.

    python -m benchmarks.models              all that ships, and the forms of every network
    python -m benchmarks.models MODEL ...    the forms of these alone

The second table needs the data (DERMSA_DATA). It is of the validation part: what is lost decides
what ships, and test data choose nothing. The 32-bit form of a file that keeps its
weights in 16 bits has the values that these stand for.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import in_turns
from dermsa.datasets import cache, registry
from dermsa.datasets.dataset import DatasetError
from dermsa.evaluation import cost, metrics
from dermsa.evaluation.evaluate import predictions_of, split_of
from dermsa.evaluation.statistics import paired_bootstrap
from dermsa.inference import store
from dermsa.inference.engine import Engine
from dermsa.inference.predictor import Predictor
from dermsa.models.weight_formats import FORMATS, with_weights_as
from dermsa.training.answers import run_engine
from dermsa.training.examples import Examples

CALIBRATION_PHOTOS = 256
COLUMNS = (
    ("model", 26),
    ("parameters", 12),
    ("MB", 7),
    ("ms", 7),
    ("macro recall", 14),
    ("macro AUC", 11),
    ("melanoma AUC", 14),
    ("calib. error", 14),
)
FORMS = (
    ("form", 26),
    ("MB", 7),
    ("ms", 7),
    ("same diagnosis", 16),
    ("macro recall", 14),
    ("macro AUC, lost", 30),
    ("log loss, gained", 30),
)


def print_shipped() -> None:
    names = store.model_names()
    costs = cost.measure(names)
    tested = store.read_card(names[0])["data"]["parts"]["test"]
    print(
        f"The models that ship, on {tested['images']:,} test images of {tested['lesions']:,} "
        f"lesions (protocol lesion); one explained answer, median of {cost.ROUNDS}, in turns:"
    )
    print_row(COLUMNS, [title for title, _ in COLUMNS])
    for name in names:
        card, one = store.read_card(name), costs[name]
        figures = card["metrics"]
        row = [
            name,
            f"{one.parameters:,}",
            f"{one.file_bytes / 1e6:.1f}",
            f"{one.answer_p50:.0f}",
            f"{figures['macro_recall']['value']:.3f}",
            f"{figures['macro_roc_auc']['value']:.3f}",
            f"{card['metrics_per_class']['roc_auc']['mel']['value']:.3f}",
            f"{figures['expected_calibration_error']['value']:.3f}",
        ]
        print_row(COLUMNS, row)


def print_forms(name: str) -> None:
    """What a network's smaller files take and lose, all of them measured in turns."""
    predictor = Predictor(name)
    card = predictor.model.card
    dataset = registry.read(card["data"]["name"])
    split = split_of(card, dataset)
    rows = split.rows(dataset, "validation")
    examples = Examples(
        cache.decoded(dataset, predictor.engine.input_size),
        dataset.patient_vectors(predictor.age_scale),
        dataset.labels(),
    )
    files = {form: with_weights_as(predictor.model.onnx, form) for form in FORMATS}
    calibration_rows = np.random.default_rng(0).permutation(split.rows(dataset, "train"))
    files["int8 arithmetic"] = with_8_bit_arithmetic(
        predictor.model.onnx, examples, calibration_rows[:CALIBRATION_PHOTOS]
    )
    engines = {form: Engine(content) for form, content in files.items()}
    one = examples.inputs(rows[:1])
    taken = in_turns(
        {
            form: lambda e=engine: e(one["image"], one["patient"])
            for form, engine in engines.items()
        },
        times=30,
    )
    logits = {form: run_engine(engine, examples, rows, 1) for form, engine in engines.items()}
    said = {
        form: predictions_of(dataset, rows, predictor.probabilities(each), predictor.lean)
        for form, each in logits.items()
    }
    print(f"{name}, one view, on {len(rows):,} validation images:")
    print_row(FORMS, [title for title, _ in FORMS])
    for form, predictions in said.items():
        same = np.mean(logits[form].argmax(axis=1) == logits["float32"].argmax(axis=1))
        row = [
            form,
            f"{len(files[form]) / 1e6:.2f}",
            f"{taken[form]:.1f}",
            f"{same:.1%}",
            f"{metrics.macro_recall(predictions):.3f}",
            lost(macro_auc, predictions, said["float32"]),
            lost(metrics.log_loss, said["float32"], predictions),
        ]
        print_row(FORMS, row)


def macro_auc(predictions: metrics.Predictions) -> np.ndarray:
    return metrics.macro_average(metrics.roc_auc(predictions))


def lost(metric, first: metrics.Predictions, second: metrics.Predictions) -> str:
    """Second minus first, with its interval over lesions."""
    found = paired_bootstrap(metric, first, second, samples=1000).difference
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def with_8_bit_arithmetic(content: bytes, examples: Examples, rows: np.ndarray) -> bytes:
    """The network with its convolutions in 8 bits, ranges from training photos.

    The head stays as it is: the split of a logit into its evidence would no longer hold.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        quantize_static,
        shape_inference,
    )

    class Photos(CalibrationDataReader):
        def __init__(self):
            self.batches: Iterator = iter(rows.reshape(-1, 8))

        def get_next(self) -> dict | None:
            chosen = next(self.batches, None)
            if chosen is None:
                return None
            inputs = examples.inputs(chosen)
            return inputs | {"image": inputs["image"].astype(np.float32)}

    with tempfile.TemporaryDirectory() as folder:
        whole, ready, small = (Path(folder, f"{name}.onnx") for name in ("whole", "ready", "small"))
        whole.write_bytes(content)
        shape_inference.quant_pre_process(str(whole), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(small),
            Photos(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            calibrate_method=CalibrationMethod.Percentile,
        )
        return small.read_bytes()


def print_row(columns: tuple[tuple[str, int], ...], values: list[str]) -> None:
    print(
        "".join(f"{value:>{width}}" for value, (_, width) in zip(values, columns, strict=True)),
        flush=True,
    )


def main() -> None:
    chosen = sys.argv[1:]
    if not chosen:
        print_shipped()
        names = store.model_names()
        chosen = [name for name in names if "members" not in store.read_card(name)]
    try:
        for name in chosen:
            print_forms(name)
    except DatasetError as error:
        print(f"What smaller files lose was not measured: {error}")


if __name__ == "__main__":
    main()
