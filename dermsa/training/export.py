"""A finished run becomes a model in `weights/`: file, calibration, evaluation and card; and such a
model becomes another one, whose file keeps the weights in fewer bits.

Everything is computed through the served form, so the card speaks of what the doctor gets.
"""

from __future__ import annotations

import datetime
import io
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

import dermsa
from dermsa.class_weights import class_weights
from dermsa.datasets import cache, more_photos, registry, splits
from dermsa.datasets.dataset import Dataset
from dermsa.evaluation import assess, calibration, record, report
from dermsa.evaluation.evaluate import predictions_of, split_of
from dermsa.evaluation.metrics import Predictions
from dermsa.inference import novelty, store
from dermsa.inference.engine import Engine
from dermsa.inference.store import CARD, EARLIER, ROLES, sha256_of, weights_folder
from dermsa.inference.views import FLIPS
from dermsa.inference.views import check as check_views
from dermsa.models.classifier import ClassifierConfig, build_classifier, decomposes
from dermsa.models.onnx_export import to_onnx
from dermsa.models.weight_formats import with_weights_as
from dermsa.patient import AgeScale, Patient
from dermsa.taxonomy import NAMES
from dermsa.training.answers import embeddings_of, form_of, kept_logits, with_patient
from dermsa.training.config import TrainingConfig
from dermsa.training.examples import Examples, rows_of, split_rows, training_age_scale
from dermsa.training.history import best_row
from dermsa.training.runs import ACTIVE, Run, RunError, find_run, write_atomically
from dermsa.training.sampling import Sampler

log = logging.getLogger("dermsa.training")

COVERAGE = 0.9
NOVELTY_FALSE_ALARMS = 0.01
NOVELTY_PHOTOS = 3000
NAMED = (
    "Accuracy and sensitivity are of the diagnosis that is named, the one with the largest product "
    "of probability and lean (`card.json`), which is not always the most probable one."
)
HEADS = {
    "soft_attention": "soft attention",
    "soft_attention_dense512": "soft attention, a Dense layer of 512",
    "global_pooling": "global average pooling",
}


def export(
    run: Run,
    name: str,
    data: Path | None = None,
    role: str | None = None,
    views: int = len(FLIPS),
    notes: Sequence[str] = (),
    weight_format: str = "float32",
    replace: bool = False,
) -> Path:
    """Writes `weights/<name>/` from a run's best weights, and the run's own evaluation.

    Args:
        run: With at least one epoch done.
        name: Of the model.
        data: The folder of the data sets; None for `data_root()`.
        role: Of `store.ROLES`, where this model shall have it from now on.
        views: How many views of a photo the logits are averaged over: 1 is the photo, 4 its
            mirror images, 8 those of a quarter turn, too.
        notes: What a reader of the card should know besides, a sentence each.
        weight_format: How the file keeps the weights, a key of `weight_formats.FORMATS`.
        replace: Whether a model of that name may be replaced; one that another is made of may not.

    Returns:
        The folder of the model.

    Raises:
        RunError: The run has no weights yet or is still training, or the name is taken or no
            folder name.
        ValueError: There are not so many views.
        DatasetError: The data are not there.
    """
    if not run.best_weights.exists():
        raise RunError(f"The run {run.id} has no weights yet: no epoch of it was finished.")
    if run.state in ACTIVE:
        raise RunError(
            f"The run {run.id} is {run.state}: its best weights may change meanwhile. Stop it, or "
            "wait until it is done."
        )
    check_name(name)
    check_not_taken(name, replace)
    config = run.config()
    check_views(views, config.classifier.input_size)
    log.info("Converting to ONNX.")
    classifier = build_classifier(config.classifier)
    weights = sha256_of(run.best_weights.read_bytes())
    classifier.load_weights(run.best_weights)
    onnx = with_weights_as(to_onnx(classifier), weight_format)

    dataset = registry.read(config.dataset, data)
    rows = split_rows(run, config, dataset)
    age_scale = training_age_scale(dataset, rows["train"])
    classes, size = config.classifier.classes, config.classifier.input_size
    more, unknown = _more(config, dataset, data)
    parts, training = part_sizes(dataset, rows), _training(run)
    emphasis = emphasis_of(training["config"], classes, parts, more)
    measured = measure(onnx, classes, size, age_scale, views, emphasis, dataset, rows)
    split = splits.read_split(run.split)
    form = {
        "temperature": measured.settings["temperature"],
        "lean": measured.settings["lean"],
        "views": views,
        "weight_format": weight_format,
    }
    evaluation = assess.assess_run(
        run.folder,
        dataset,
        split,
        measured.test_probabilities,
        rows["test"],
        lean=_in_order(measured.settings["lean"]),
        form=form,
    )
    if evaluation.served[record.RUN_WEIGHTS] != weights:
        raise RunError(f"The run {run.id} went on during its export: export it again when it ends.")
    record.save(evaluation, run.folder)

    card = network_card(
        name,
        config.classifier,
        classifier,
        origin={"training": training},
        dataset=dataset,
        split=split,
        parts=parts,
        more=more,
        age_scale=age_scale,
        views=views,
        weight_format=weight_format,
        measured=measured,
        notes=[*notes, *unknown],
    )
    return write_model(card, measured.files, role)


def reexport(
    source: str,
    name: str,
    weight_format: str,
    data: Path | None = None,
    role: str | None = None,
    views: int | None = None,
    notes: Sequence[str] = (),
    replace: bool = False,
) -> Path:
    """Writes `weights/<name>/` from a model that is there already, calibrated and measured anew.

    Args:
        source: A network of `weights/` whose file keeps its weights in 32 or 16 bits.
        name: Of the new model; that of the source with `replace`.
        weight_format: How the new file keeps the weights, a key of `weight_formats.FORMATS`.
        data, role, replace: As for `export`.
        views: As for `export`; None for those of the source.
        notes: Sentences that the card gains.

    Returns:
        The folder of the new model.

    Raises:
        RunError: The source is an ensemble, or the name is taken or no folder name.
        ModelError: The source is damaged.
        ValueError: Its weights are in 8 bits, or there are not so many views.
        DatasetError: The data are not there, or not those the source was split on.
    """
    model = store.open_model(source)
    if model.members:
        raise RunError(f"{model.name} is an ensemble: name one of its members instead.")
    check_name(name)
    check_not_taken(name, replace)
    old = model.card
    size, classes = tuple(old["architecture"]["input_size"]), tuple(old["classes"])
    views = views or old["views"]
    check_views(views, size)
    onnx = with_weights_as(model.onnx, weight_format)
    dataset = registry.read(old["data"]["name"], data)
    rows, emphasis = rows_of_card(old, dataset), emphasis_of_card(old)
    age_scale = AgeScale(**old["age_scale"])
    measured = measure(onnx, classes, size, age_scale, views, emphasis, dataset, rows)
    card = old | {
        "name": name,
        "version": dermsa.__version__,
        "created": _today(),
        "weight_format": weight_format,
        "views": views,
        **measured.settings,
        **measured.results,
        "notes": [*old["notes"], *notes],
    }
    return write_model(card, measured.files, role)


@dataclass(frozen=True)
class Measured:
    """What became of a file on its data.

    Attributes:
        files: Of the model's folder, beside the card.
        settings: The card's entries that were chosen on validation.
        results: Those that were measured on test.
        test_probabilities: Calibrated, float `(n, classes)`.
    """

    files: dict[str, bytes]
    settings: dict
    results: dict
    test_probabilities: np.ndarray


def measure(
    onnx: bytes,
    classes: tuple[str, ...],
    size: tuple[int, int],
    age_scale: AgeScale,
    views: int,
    emphasis: np.ndarray,
    dataset: Dataset,
    rows: dict[str, np.ndarray],
) -> Measured:
    """Calibrates a file on the validation rows and measures it on those of test."""
    log.info("Calibrating on validation and measuring on test.")
    patients = dataset.patient_vectors(age_scale)
    examples = Examples(cache.decoded(dataset, size), patients, dataset.labels())
    engine = Engine(onnx)
    familiar = novelty.fit(embeddings_of(engine, examples, _some(rows["train"])))
    form = form_of(sha256_of(onnx), views, age_scale)
    validation = kept_logits(form, engine, dataset, examples, rows["validation"])
    settings = calibrate(classes, examples.labels[rows["validation"]], validation, emphasis)
    settings["novelty"] = novelty_threshold(
        novelty.scores(familiar, embeddings_of(engine, examples, rows["validation"]))
    )
    tested = kept_logits(form, engine, dataset, examples, rows["test"])
    unknown = with_patient(
        engine, examples, rows["test"], views, tested, Patient().encode(age_scale)
    )
    lean = _in_order(settings["lean"])
    said = [
        calibration.softmax(logits, settings["temperature"], lean)
        for logits in (validation, tested, unknown)
    ]
    files = {"model.onnx": onnx, "novelty.npz": _npz(familiar)}
    return Measured(files, settings, results_of(dataset, rows, settings, *said), said[1])


def network_card(
    name: str,
    built_of: ClassifierConfig,
    classifier: keras.Model,
    *,
    origin: Mapping[str, object],
    dataset: Dataset,
    split: splits.Split,
    parts: Mapping,
    more: Mapping,
    age_scale: AgeScale,
    views: int,
    weight_format: str,
    measured: Measured,
    notes: Sequence[str],
) -> dict:
    """The card of a network.

    Args:
        built_of, classifier: The network, with the weights that its file has.
        origin: Where these came from: the card's entry "training" or "soup".
        parts, more: Of the card's `data`: the photos of each part, and those of other sources
            that trained it, too.
        measured: What became of the file.
    """
    classes = built_of.classes
    card = {
        "name": name,
        "version": dermsa.__version__,
        "created": _today(),
        "classes": list(classes),
        "class_names": {code: NAMES[code] for code in classes},
        "malignant": sorted(dataset.malignant),
        "architecture": _architecture(built_of, classifier),
        "weight_format": weight_format,
        "decomposes": decomposes(built_of),
        **origin,
        "data": {
            "name": dataset.name,
            "images": len(dataset.table),
            "lesions": int(dataset.table["lesion_id"].nunique()),
            "parts": parts,
            "more": more,
        },
        "protocol": protocol_entry(dataset, split),
        "age_scale": asdict(age_scale),
        "views": views,
        **measured.settings,
        **measured.results,
        "notes": list(notes),
        "licence": licence_of(dataset.name, *more),
        "intended_use": "Decision support for research use; not a medical device.",
    }
    if card["decomposes"]:
        card["bias"] = _by_class(classes, classifier.get_layer("logits").bias)
    return card


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def check_name(name: str) -> None:
    """Refuses what is no plain folder name.

    Raises:
        RunError: The name is none.
    """
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise RunError(f"{name!r} cannot name a model: use letters, digits, '-', '_' and '.'.")
    if name in (*ROLES, EARLIER):
        raise RunError(f"{name!r} says something of models, and cannot name one.")


def check_not_taken(name: str, replace: bool) -> None:
    """
    Raises:
        RunError: There is a model of that name, and it shall or must stay.
    """
    if name not in store.model_names():
        return
    for other in store.made_of(name):
        raise RunError(
            f"{other} is made of the model {name} and knows it by its hash. Choose another name."
        )
    if not replace:
        raise RunError(
            f"There is a model {name} already. Choose another name, or let it be replaced "
            "(--replace)."
        )


def write_model(card: dict, files: dict[str, bytes], role: str | None) -> Path:
    """Writes the folder of a model, its card last: without a card it is not there yet."""
    folder = weights_folder() / card["name"]
    card = card | {"files": {file: sha256_of(content) for file, content in files.items()}}
    for file, content in files.items():
        write_atomically(folder / file, content)
    write_atomically(folder / "README.md", card_readme(card).encode())
    write_atomically(folder / CARD, (json.dumps(card, indent=1) + "\n").encode())
    if role:
        write_atomically(weights_folder() / role, f"{card['name']}\n".encode())
    return folder


def _some(rows: np.ndarray) -> np.ndarray:
    """Enough rows to know a covariance; all of them would only take longer."""
    return np.random.default_rng(0).permutation(rows)[:NOVELTY_PHOTOS]


def emphasis_of(
    config: Mapping, classes: tuple[str, ...], parts: Mapping, more: Mapping
) -> np.ndarray:
    """What each diagnosis counted in training against its share of the training part.

    Args:
        config: Of the training, as in a card; what its version did not have yet may be missing.
        classes: Codes of the diagnoses.
        parts, more: Of the card's `data`.

    Returns:
        float64 `(classes,)`, in any unit: the weight in the loss, times how often an epoch shows
        the diagnosis, by how often the training part has it. Nothing is known of a diagnosis that
        it does not have: it counts as the others do on average.
    """
    own = np.array([parts["train"]["by_class"][code] for code in classes])
    other = more.get(config.get("more_photos", "none"), {}).get("by_class", {})
    shown = own + [other.get(code, 0) for code in classes]
    sampler = Sampler(
        np.arange(shown.sum()),
        np.repeat(np.arange(len(classes)), shown),
        len(classes),
        config.get("sampling", "none"),
        epoch_images=config.get("epoch_images", 0),
    )
    weights = class_weights(config["class_weights"], sampler.counts, classes)
    found = weights * sampler.counts / np.maximum(own, 1)
    return np.where(own > 0, found, np.exp(np.log(found[own > 0]).mean()))


def emphasis_of_card(card: Mapping) -> np.ndarray:
    """`emphasis_of` a network's training; of a soup, the geometric mean of its ingredients'."""
    if "soup" in card:
        each = [emphasis_of_card(_ingredient(card, of)) for of in card["soup"]["of"]]
        return np.exp(np.log(each).mean(axis=0))
    data = card["data"]
    classes = tuple(card["classes"])
    return emphasis_of(card["training"]["config"], classes, data["parts"], data.get("more", {}))


def _ingredient(soup: Mapping, entry: Mapping[str, str]) -> dict:
    """The card of what a soup is made of, which it was when the soup was made.

    Raises:
        RunError: There is none of that name, or another one.
    """
    name = entry["model"]
    if name not in store.model_names() or store.card_sha256(name) != entry["sha256"]:
        raise RunError(
            f"{soup['name']} is made of the model {name}, which is not there any more: how it was "
            "trained is not known. Put it back into weights/, or make the soup anew."
        )
    return store.read_card(name)


def rows_of_card(card: Mapping, dataset: Dataset) -> dict[str, np.ndarray]:
    """The rows of each part that a network was trained, chosen and tested on.

    Raises:
        DatasetError: The data are not those the model was split on.
        RunError: It is a soup, and what it is made of is gone.
    """
    if "soup" in card:
        return rows_of_card(_ingredient(card, card["soup"]["of"][0]), dataset)
    trained = card["training"]["config"]
    return rows_of(split_of(card, dataset), dataset, trained["limit"], trained["seed"])


def calibrate(
    classes: tuple[str, ...], truth: np.ndarray, logits: np.ndarray, emphasis: np.ndarray
) -> dict:
    """What is chosen on validation."""
    temperature, lean = calibration.fit_calibration(logits, truth, emphasis)
    probabilities = calibration.softmax(logits, temperature, lean)
    quantiles = calibration.conformal_quantile(probabilities, truth, COVERAGE)
    return {
        "temperature": temperature,
        "lean": _by_class(classes, lean),
        "conformal": {"coverage": COVERAGE, "quantiles": _by_class(classes, quantiles)},
    }


def novelty_threshold(scores: np.ndarray) -> dict:
    """The card's entry, from the novelty scores of the validation photos."""
    return {
        "threshold": float(np.quantile(scores, 1 - NOVELTY_FALSE_ALARMS)),
        "false_alarm_rate": NOVELTY_FALSE_ALARMS,
    }


def results_of(
    dataset: Dataset,
    rows: dict[str, np.ndarray],
    settings: dict,
    validation_probabilities: np.ndarray,
    test_probabilities: np.ndarray,
    unknown_patient_probabilities: np.ndarray,
) -> dict:
    """Everything the card reports of the test part, from calibrated probabilities `(n, classes)`
    of the rows of each part."""
    lean = _in_order(settings["lean"])
    validation = predictions_of(dataset, rows["validation"], validation_probabilities, lean)
    test = predictions_of(dataset, rows["test"], test_probabilities, lean)
    unknown = predictions_of(dataset, rows["test"], unknown_patient_probabilities, lean)
    quantiles = _in_order(settings["conformal"]["quantiles"])
    sets = calibration.not_ruled_out(test.probabilities, quantiles, lean)
    measured = report.measure(test)
    return {
        "metrics": measured["overall"],
        "metrics_per_class": measured["per_class"],
        "metrics_unknown_patient": report.measure(unknown)["overall"],
        "validation_metrics": report.measure(validation, samples=200)["overall"],
        "triage": {
            "default_sensitivity": report.DEFAULT_SENSITIVITY,
            "malignancy": _operating_points(validation, test, dataset.malignant),
            "melanoma": _operating_points(validation, test, {"mel"} & set(dataset.classes)),
        },
        "prediction_sets": {
            "n": len(test),
            "covered": float(sets[np.arange(len(test)), test.truth].mean()),
            "mean_size": float(sets.sum(axis=1).mean()),
        },
    }


def _operating_points(
    validation: Predictions, test: Predictions, positive: Collection[str]
) -> list[dict]:
    """None where the data set knows nothing that should be found."""
    return report.operating_points(validation, test, frozenset(positive)) if positive else []


def _architecture(config: ClassifierConfig, classifier: keras.Model) -> dict:
    outputs = classifier.output
    trainable = sum(int(np.prod(v.shape)) for v in classifier.trainable_variables)
    about = {
        **{key: value for key, value in asdict(config).items() if key != "classes"},
        "parameters": classifier.count_params(),
        "trainable_parameters": trainable,
        "embedding_size": outputs["embedding"].shape[-1],
    }
    if "attention_map" in outputs:
        about["attention_shape"] = list(outputs["attention_map"].shape[1:])
        about["gamma"] = float(classifier.get_layer("soft_attention").gamma)
    if "evidence_map" in outputs:
        about["evidence_shape"] = list(outputs["evidence_map"].shape[1:])
    return about


def protocol_entry(dataset: Dataset, split: splits.Split) -> dict:
    """How the data were divided, and what that lets through from training to test."""
    leakage = splits.leakage(dataset, split)
    return {
        "name": split.protocol,
        "description": splits.PROTOCOLS[split.protocol],
        "seed": split.seed,
        "fold": split.fold,
        "sha256": split.sha256,
        "chosen_on": "validation",
        "reported_on": "test",
        "validation_is_test": leakage.validation_is_test,
        "test_images_of_training_lesions": leakage.shared_images,
    }


def _more(
    config: TrainingConfig, dataset: Dataset, data: Path | None
) -> tuple[dict[str, dict], list[str]]:
    """The photos of other data sets that trained, too, here, where the training started from or
    its teacher, and what of that cannot be told any more, in sentences."""
    found, unknown = {}, []
    start = config.start_from
    # What taught has handed on what it learnt.
    for model in (config.teacher, start):
        if model and store.named(model) in store.model_names():
            found |= store.read_card(model)["data"].get("more", {})
    if start and store.named(start) not in store.model_names():
        try:
            of_start, unknown = _more(find_run(start).config(), dataset, data)
            found |= of_start
        except RunError:
            unknown = [
                f"It went on from {start}, which is not there any more: whether photos of other "
                "data sets trained that is not known."
            ]
    if config.teacher and store.named(config.teacher) not in store.model_names():
        unknown.append(
            f"It was taught by {config.teacher}, which is not there any more: whether photos of "
            "other data sets trained that is not known."
        )
    if config.more_photos != "none":
        more = more_photos.read(config.more_photos, dataset, data)
        trained = more.subset(np.arange(len(more.table)) < (config.limit or np.inf))
        # The first of a list: those that trained the start may be more of the same.
        if len(trained.table) > found.get(config.more_photos, {}).get("images", 0):
            by_class = more_photos.by_class(trained)
            found[config.more_photos] = {"images": len(trained.table), "by_class": by_class}
    return found, unknown


def licence_of(dataset: str, *more: str) -> str:
    """Whose images a model was trained on, and what they may be used for."""
    sources = dict.fromkeys(more_photos.source(name) for name in more if name != "none")
    records = [registry.record(name) for name in (dataset, *sources)]
    return " ".join(
        f"Trained on {_title(record.name)} ({record.source}), whose images are under "
        f"{record.licence}."
        for record in records
    )


def _title(dataset: str) -> str:
    return registry.record(dataset).title.partition(":")[0]


def _training(run: Run) -> dict:
    about, epochs = run.about(), run.metrics()
    config = {key: value for key, value in about["config"].items() if key != "classifier"}
    chosen = best_row(epochs, config["monitor"])
    return {
        "run": run.id,
        "config": config,
        "epochs_done": int(epochs["epoch"].max()),
        "chosen_epoch": int(epochs["epoch"].iloc[chosen]),
        "seconds_per_epoch": round(float(epochs["seconds"].median()), 1),
        "peak_memory": run.status().get("peak_memory"),
        "backend": run.backend,
        "versions": about["versions"],
        "git_commit": about["git_commit"],
        "curves": epochs.round(5).to_dict("list"),
    }


def part_sizes(dataset: Dataset, rows: dict) -> dict:
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


def _in_order(by_class: dict[str, float]) -> np.ndarray:
    """The other way: what a card keeps by diagnosis, in the order of its classes."""
    return np.array(list(by_class.values()))


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def card_readme(card: dict) -> str:
    """The card in words, for people who browse the folder."""

    def line(title: str, interval: dict) -> str:
        if interval["value"] is None:
            return f"| {title} | not defined | | {interval['n']} |"
        known = interval["low"] is not None
        ends = f"{interval['low']:.3f} to {interval['high']:.3f}" if known else ""
        return f"| {title} | {interval['value']:.3f} | {ends} | {interval['n']} |"

    names = card.get("class_names", NAMES)
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
        line(f"Sensitivity: {names[code]}", per_class["recall"][code]) for code in card["classes"]
    ]
    rows += [
        line(f"ROC AUC: {names[code]}", per_class["roc_auc"][code]) for code in card["classes"]
    ]
    test = card["data"]["parts"]["test"]
    return f"""# {card["name"]}

{_what_it_is(card)}

{card["intended_use"]} Licence: {card["licence"]}

Trained on {card["data"]["parts"]["train"]["images"]} images of {_title(card["data"]["name"])}\
{_and_more(card)}, protocol `{card["protocol"]["name"]}`: {card["protocol"]["description"]} \
{_what_was_chosen(card)} Measured on {test["images"]} images of {test["lesions"]} test lesions; \
95 % intervals from a bootstrap over lesions:

| Metric | Value | 95 % interval | n |
|---|---|---|---|
{chr(10).join(rows)}

{"".join(note + chr(10) * 2 for note in card["notes"])}\
Everything else, down to the hashes, is in `card.json`.
"""


def _and_more(card: dict) -> str:
    """Cards made before there could be more photos do not say so."""
    return "".join(
        f" and on {about['images']:,} photos of {_title(more_photos.source(name))}, which are "
        "tested nowhere"
        for name, about in card["data"].get("more", {}).items()
    )


def _what_it_is(card: dict) -> str:
    made_of = store.composition(card)
    if "members" in card:
        return made_of
    kind = "mirrored and turned" if card["views"] > len(FLIPS) else "mirrored"
    network = f"{_in_words(card['architecture'])}, {card['views']} {kind} view(s) a photo."
    return f"{network} {made_of}".rstrip()


def _what_was_chosen(card: dict) -> str:
    if "members" in card:
        weights = "Weights, temperature" if card["weighting"] == "fitted" else "Temperature"
        return f"{weights} and thresholds were chosen on validation. {NAMED}"
    if "soup" in card:
        return f"Temperature, lean and thresholds were chosen on validation. {NAMED}"
    training = card["training"]
    return (
        f"Epoch {training['chosen_epoch']} of {training['epochs_done']} was chosen on validation; "
        f"temperature, lean and thresholds as well. {NAMED}"
    )


def _in_words(architecture: dict) -> str:
    # Cards made before there was a choice of patient branches say True.
    patient = architecture["patient_branch"] not in (False, "none")
    return (
        f"{architecture['backbone']} ({architecture['cut']} cut) with "
        f"{HEADS[architecture['head']]}{' and patient data' if patient else ''}, "
        f"{architecture['parameters']:,} parameters, {architecture['input_size'][0]} x "
        f"{architecture['input_size'][1]} pixels"
        f"{', red and blue exchanged' if architecture.get('channel_order') == 'bgr' else ''}"
    )
