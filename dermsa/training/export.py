"""A finished run becomes a model in `weights/`: file, calibration, evaluation and card.

Everything is computed through the served form, so the card speaks of what the doctor gets.
"""

from __future__ import annotations

import datetime
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

import dermsa
from dermsa.datasets import cache, ham10000, splits
from dermsa.datasets.dataset import Dataset, require_root
from dermsa.evaluation import calibration, report
from dermsa.evaluation.evaluate import predictions_of
from dermsa.evaluation.metrics import Predictions
from dermsa.inference import novelty
from dermsa.inference.engine import Engine
from dermsa.inference.predictor import mean_logits
from dermsa.inference.store import CARD, DEFAULT_MODEL_FILE, sha256_of, weights_folder
from dermsa.inference.views import FLIPS
from dermsa.models.classifier import build_classifier
from dermsa.models.onnx_export import to_onnx
from dermsa.patient import Patient
from dermsa.taxonomy import MALIGNANT, NAMES
from dermsa.training.runs import Run, RunError, write_atomically
from dermsa.training.trainer import Examples, split_rows, training_age_scale

log = logging.getLogger("dermsa.training")

COVERAGE = 0.9
NOVELTY_FALSE_ALARMS = 0.01
NOVELTY_PHOTOS = 3000
DEFAULT_SENSITIVITY = 0.95
BATCH = 32
LICENCE = (
    "CC BY-NC 4.0, for research use: trained on HAM10000 (Tschandl, Rosendahl, Kittler 2018, "
    "doi 10.1038/sdata.2018.161, CC BY-NC 4.0)."
)


def export(
    run: Run,
    name: str,
    data: Path | None = None,
    make_default: bool = False,
    views: int = len(FLIPS),
    notes: Sequence[str] = (),
) -> Path:
    """Writes `weights/<name>/` from a run's best weights.

    Args:
        run: With at least one epoch done.
        name: Of the model.
        data: The folder of the data sets; None for `data_root()`.
        make_default: Whether this model answers when none is named.
        views: How many mirror images of a photo the logits are averaged over, 1 to 4.
        notes: What a reader of the card should know besides, a sentence each.

    Returns:
        The folder of the model.

    Raises:
        RunError: The run has no weights yet, or the name is no folder name.
        DatasetError: The data are not there.
    """
    if not run.best_weights.exists():
        raise RunError(f"The run {run.id} has no weights yet: no epoch of it was finished.")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise RunError(f"{name!r} cannot name a model: use letters, digits, '-', '_' and '.'.")
    if not 1 <= views <= len(FLIPS):
        raise RunError(f"Expected 1 to {len(FLIPS)} views. Received: {views}")
    config = run.config()
    log.info("Converting to ONNX.")
    classifier = build_classifier(config.classifier)
    classifier.load_weights(run.best_weights)
    onnx = to_onnx(classifier)

    dataset = ham10000.read(require_root(data))
    rows = split_rows(run, config, dataset)
    age_scale = training_age_scale(dataset, rows["train"])
    examples = Examples(
        cache.decoded(dataset, config.classifier.input_size),
        dataset.patient_vectors(age_scale),
        dataset.labels(),
    )
    log.info("Calibrating on validation and measuring on test.")
    engine = Engine(onnx)
    measure = novelty.fit(_embeddings(engine, examples, _some(rows["train"])))
    validation = run_engine(engine, examples, rows["validation"], views)
    truth = examples.labels[rows["validation"]]
    settings = _calibrate(config.classifier.classes, truth, validation)
    settings["novelty"] = _novelty_threshold(
        measure, _embeddings(engine, examples, rows["validation"])
    )
    unknown = Patient().encode(age_scale)
    results = _measure(
        dataset,
        rows,
        settings,
        validation,
        run_engine(engine, examples, rows["test"], views),
        run_engine(engine, examples, rows["test"], views, unknown),
    )

    files = {"model.onnx": onnx, "novelty.npz": _npz(measure)}
    card = {
        "name": name,
        "version": dermsa.__version__,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "classes": list(config.classifier.classes),
        "malignant": sorted(MALIGNANT),
        "architecture": _architecture(config.classifier, classifier),
        "training": _training(run),
        "data": {
            "name": dataset.name,
            "images": len(dataset.table),
            "lesions": int(dataset.table["lesion_id"].nunique()),
            "parts": _part_sizes(dataset, rows),
        },
        "protocol": {
            "name": config.protocol,
            "description": splits.PROTOCOLS[config.protocol],
            "seed": config.split_seed,
            "sha256": splits.read_split(run.split).sha256,
            "chosen_on": "validation",
            "reported_on": "test",
        },
        "age_scale": asdict(age_scale),
        "bias": _by_class(config.classifier.classes, classifier.get_layer("logits").bias),
        "views": views,
        **settings,
        **results,
        "notes": list(notes),
        "licence": LICENCE,
        "intended_use": "Decision support for research use; not a medical device.",
        "files": {file: sha256_of(content) for file, content in files.items()},
    }
    folder = weights_folder() / name
    for file, content in files.items():
        write_atomically(folder / file, content)
    write_atomically(folder / "README.md", card_readme(card).encode())
    write_atomically(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())
    if make_default:
        write_atomically(weights_folder() / DEFAULT_MODEL_FILE, f"{name}\n".encode())
    return folder


def run_engine(
    engine: Engine,
    examples: Examples,
    rows: np.ndarray,
    views: int,
    patient: np.ndarray | None = None,
) -> np.ndarray:
    """Logits of the given rows, float32 `(n, classes)`.

    Args:
        views: How many test-time views the logits are averaged over.
        patient: float32 `(21,)` for all rows, instead of their own.
    """
    logits = []
    for chosen in _batches(rows):
        inputs = examples.inputs(chosen)
        vectors = inputs["patient"] if patient is None else patient[None]
        logits.append(mean_logits(engine, inputs["image"], vectors, views))
    return np.concatenate(logits)


def _embeddings(engine: Engine, examples: Examples, rows: np.ndarray) -> np.ndarray:
    embeddings = []
    for chosen in _batches(rows):
        inputs = examples.inputs(chosen)
        out = engine(inputs["image"], inputs["patient"][:1], ("embedding",))
        embeddings.append(out["embedding"])
    return np.concatenate(embeddings)


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, range(BATCH, len(rows), BATCH))


def _some(rows: np.ndarray) -> np.ndarray:
    """Enough rows to know a covariance; all of them would only take longer."""
    return np.random.default_rng(0).permutation(rows)[:NOVELTY_PHOTOS]


def _calibrate(classes: tuple[str, ...], truth: np.ndarray, logits: np.ndarray) -> dict:
    """What is chosen on validation."""
    temperature = calibration.fit_temperature(logits, truth)
    probabilities = calibration.softmax(logits, temperature)
    quantiles = calibration.conformal_quantile(probabilities, truth, COVERAGE)
    return {
        "temperature": temperature,
        "conformal": {"coverage": COVERAGE, "quantiles": _by_class(classes, quantiles)},
    }


def _novelty_threshold(measure: dict[str, np.ndarray], embeddings: np.ndarray) -> dict:
    scores = novelty.scores(measure, embeddings)
    return {
        "threshold": float(np.quantile(scores, 1 - NOVELTY_FALSE_ALARMS)),
        "false_alarm_rate": NOVELTY_FALSE_ALARMS,
    }


def _measure(
    dataset: Dataset,
    rows: dict[str, np.ndarray],
    settings: dict,
    validation_logits: np.ndarray,
    test_logits: np.ndarray,
    unknown_patient_logits: np.ndarray,
) -> dict:
    """Everything the card reports of the test part."""

    def predictions(part: str, logits: np.ndarray) -> Predictions:
        probabilities = calibration.softmax(logits, settings["temperature"])
        return predictions_of(dataset, rows[part], probabilities)

    validation = predictions("validation", validation_logits)
    test = predictions("test", test_logits)
    unknown = predictions("test", unknown_patient_logits)
    quantiles = np.array(list(settings["conformal"]["quantiles"].values()))
    sets = calibration.prediction_set(test.probabilities, quantiles)
    measured = report.measure(test)
    return {
        "metrics": measured["overall"],
        "metrics_per_class": measured["per_class"],
        "metrics_unknown_patient": report.measure(unknown)["overall"],
        "validation_metrics": report.measure(validation, samples=200)["overall"],
        "triage": {
            "default_sensitivity": DEFAULT_SENSITIVITY,
            "malignancy": report.operating_points(validation, test, MALIGNANT),
            "melanoma": report.operating_points(validation, test, frozenset({"mel"})),
        },
        "prediction_sets": {
            "n": len(test),
            "covered": float(sets[np.arange(len(test)), test.truth].mean()),
            "mean_size": float(sets.sum(axis=1).mean()),
        },
    }


def _architecture(config, classifier: keras.Model) -> dict:
    outputs = classifier.output
    trainable = sum(int(np.prod(v.shape)) for v in classifier.trainable_variables)
    return {
        **{key: value for key, value in asdict(config).items() if key != "classes"},
        "parameters": classifier.count_params(),
        "trainable_parameters": trainable,
        "attention_shape": list(outputs["attention_map"].shape[1:]),
        "evidence_shape": list(outputs["evidence_map"].shape[1:]),
        "embedding_size": outputs["embedding"].shape[-1],
        "gamma": float(classifier.get_layer("soft_attention").gamma),
    }


def _training(run: Run) -> dict:
    about, epochs = run.about(), run.metrics()
    config = {key: value for key, value in about["config"].items() if key != "classifier"}
    monitor = config["monitor"]
    chosen = epochs[monitor].idxmin() if monitor == "loss" else epochs[monitor].idxmax()
    return {
        "run": run.id,
        "config": config,
        "epochs_done": int(epochs["epoch"].max()),
        "chosen_epoch": int(epochs["epoch"][chosen]),
        "seconds_per_epoch": round(float(epochs["seconds"].median()), 1),
        "versions": about["versions"],
        "git_commit": about["git_commit"],
        "curves": epochs.round(5).to_dict("list"),
    }


def _part_sizes(dataset: Dataset, rows: dict) -> dict:
    sizes = {}
    for part, of in rows.items():
        table = dataset.table.iloc[of]
        counts = table["dx"].value_counts()
        sizes[part] = {
            "images": len(table),
            "lesions": int(table["lesion_id"].nunique()),
            "by_class": {code: int(counts.get(code, 0)) for code in dataset.classes},
        }
    return sizes


def _by_class(classes: tuple[str, ...], values) -> dict[str, float]:
    values = np.asarray(keras.ops.convert_to_numpy(values), float)
    return dict(zip(classes, values.tolist(), strict=True))


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def card_readme(card: dict) -> str:
    """The card in words, for people who browse the folder."""

    def line(title: str, interval: dict) -> str:
        return (
            f"| {title} | {interval['value']:.3f} | {interval['low']:.3f} to "
            f"{interval['high']:.3f} | {interval['n']} |"
        )

    metrics, per_class = card["metrics"], card["metrics_per_class"]
    titles = {
        "macro_recall": "Macro recall (balanced accuracy)",
        "macro_roc_auc": "Macro ROC AUC",
        "accuracy": "Accuracy",
        "malignancy_roc_auc": "ROC AUC, malignant or not",
        "expected_calibration_error": "Expected calibration error",
    }
    rows = [line(title, metrics[key]) for key, title in titles.items()]
    rows += [
        line(f"Sensitivity: {NAMES[code]}", per_class["recall"][code]) for code in card["classes"]
    ]
    rows += [
        line(f"ROC AUC: {NAMES[code]}", per_class["roc_auc"][code]) for code in card["classes"]
    ]
    test = card["data"]["parts"]["test"]
    architecture, training = card["architecture"], card["training"]
    return f"""# {card["name"]}

{architecture["backbone"]} ({architecture["cut"]} cut) with soft attention and patient data, \
{architecture["parameters"]:,} parameters, {architecture["input_size"][0]} x \
{architecture["input_size"][1]} pixels, {card["views"]} mirrored view(s) a photo.

{card["intended_use"]} Licence: {card["licence"]}

Trained on {card["data"]["parts"]["train"]["images"]} images of HAM10000, protocol \
`{card["protocol"]["name"]}`: {card["protocol"]["description"]} Epoch \
{training["chosen_epoch"]} of {training["epochs_done"]} was chosen on validation; temperature and \
thresholds as well. Measured on {test["images"]} images of {test["lesions"]} test lesions; \
95 % intervals from a bootstrap over lesions:

| Metric | Value | 95 % interval | n |
|---|---|---|---|
{chr(10).join(rows)}

{"".join(note + chr(10) * 2 for note in card["notes"])}\
Everything else, down to the hashes, is in `card.json`.
"""
