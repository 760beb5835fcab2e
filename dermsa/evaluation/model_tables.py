"""The trained models side by side, as tables of a document: what their cards say, where they came
from, how they decide where all diagnoses count alike, and where the most probable one is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dermsa.evaluation.elsewhere import Elsewhere
from dermsa.evaluation.metrics import Predictions, accuracy, macro_recall
from dermsa.evaluation.report import DEFAULT_SENSITIVITY
from dermsa.evaluation.statistics import Interval, bootstrap_interval
from dermsa.inference.store import parts

FIGURES = (
    ("Macro recall", "metrics", "macro_recall"),
    ("Macro AUC", "metrics", "macro_roc_auc"),
    ("Accuracy", "metrics", "accuracy"),
    ("Log loss", "metrics", "log_loss"),
    ("Calibration error", "metrics", "expected_calibration_error"),
    ("The same by diagnosis", "metrics", "macro_classwise_calibration_error"),
    ("Macro recall, patient unknown", "metrics_unknown_patient", "macro_recall"),
)
TRIAGE = {"malignancy": "Malignant or not", "melanoma": "Melanoma or not"}


def markdown(cards: Sequence[Mapping]) -> str:
    """Test figures, validation figures, trainings and thresholds of the given models.

    Args:
        cards: With the same test part, so that their figures rest on the same cases. Networks of
            later folds, which answer within an ensemble, have no thresholds in the tables.
    """
    test = cards[0]["data"]["parts"]["test"]
    first = [card for card in cards if not _of_a_later_fold(card)]
    tables = [
        (
            f"On the {test['images']:,} images of {test['lesions']:,} lesions of the test part:",
            _figures(cards),
        ),
        ("On the images of each model's own validation part:", _validation(cards)),
        ("How they were trained:", _trainings(cards)),
        (
            "Thresholds, chosen on validation for a sensitivity, and what each gave on test:",
            _thresholds(first),
        ),
    ]
    return "\n\n".join(f"{title}\n\n{_table(rows)}" for title, rows in tables)


def lineage(cards: Sequence[Mapping], of: Iterable[str]) -> str:
    """What models came from, back to the weights that trainings began with, as a flow chart of
    Mermaid, which Markdown may hold.

    Args:
        cards: Of all models there are.
        of: Names of the models whose lineage is drawn; unknown names begin a lineage.
    """
    known = {card["name"]: card for card in cards}
    arrows, drawn, waiting = [], [], list(of)
    while waiting:
        name = waiting.pop(0)
        if name in drawn:
            continue
        drawn.append(name)
        if name in known:
            before, arrow = _came_from(known[name])
            arrows += [(one, arrow, name) for one in before]
            waiting += before
    ids = {name: f"m{place}" for place, name in enumerate(drawn)}
    boxes = [f'    {ids[name]}["{name}"]' for name in drawn]
    lines = [f"    {ids[first]} {arrow} {ids[second]}" for first, arrow, second in arrows]
    return "\n".join(["```mermaid", "flowchart LR", *boxes, *lines, "```"])


def _came_from(card: Mapping) -> tuple[list[str], str]:
    """What a model was made of or went on from, and the arrow from there to it."""
    if made_of := parts(card):
        return made_of, "==>|answers|" if "members" in card else "-.->|weights|"
    return [_start(card["training"]["config"])], "-->"


def _start(config: Mapping) -> str:
    """The model or the weights that a training began with, in words."""
    words = {"imagenet": "ImageNet", "minimalistic": "ImageNet, minimalistic", "none": "random"}
    weights = config["initial_weights"]
    return config.get("start_from") or words.get(weights, weights)


def alike(cards: Sequence[Mapping], predictions: Sequence[Predictions]) -> str:
    """Test figures of the decision that weighs all diagnoses alike; nothing in it is fitted.

    For calibrated probabilities the decision that maximises the mean recall is Bayes' with equal
    priors: each probability divided by its class's share (Saerens, Latinne and Decaestecker 2002,
    eq. 2.4). It names rare classes more often and is right less often.

    Args:
        cards: As in `markdown`.
        predictions: Of each on the test part, in the same order.
    """
    rows = [["Model", "Macro recall", "Accuracy"]]
    for card, said in zip(cards, predictions, strict=True):
        trained = card["data"]["parts"]["train"]["by_class"]
        equal = said.divided_by([trained[code] for code in said.classes])
        intervals = [bootstrap_interval(metric, equal) for metric in (macro_recall, accuracy)]
        rows.append([card["name"], *(interval.words for interval in intervals)])
    return _table(rows)


def on_another_source(found: Mapping[str, Elsewhere]) -> str:
    """What models do on photos of another source, none of which they have seen.

    Args:
        found: By model.
    """
    rows = [["Model", "Photos", "Melanoma AUC", "Accuracy", "Sensitivity", "Specificity"]]
    for name, of in found.items():
        point = of.at(DEFAULT_SENSITIVITY)
        figures = (of.roc_auc["mel"], of.accuracy, point.sensitivity, point.specificity)
        photos = f"{of.images:,}" + (f", {of.trained:,} others trained it" if of.trained else "")
        rows.append([name, photos, *(figure.words for figure in figures)])
    return _table(rows)


def most_probable(cards: Sequence[Mapping], predictions: Sequence[Predictions]) -> str:
    """Test figures where the most probable diagnosis is named, whatever the model leans to.

    Args:
        cards, predictions: As in `alike`. Models that lean to nothing are left out: they name the
            most probable diagnosis anyway.
    """
    rows = [["Model", "Accuracy", "Macro recall", "Named otherwise"]]
    for card, said in zip(cards, predictions, strict=True):
        plain = replace(said, lean=None)
        if np.ptp(said.lean) == 0:
            continue
        intervals = [bootstrap_interval(metric, plain) for metric in (accuracy, macro_recall)]
        differ = f"{(plain.predicted != said.predicted).mean():.1%}"
        rows.append([card["name"], *(interval.words for interval in intervals), differ])
    return _table(rows)


def _of_a_later_fold(card: Mapping) -> bool:
    protocol = card["protocol"]
    return protocol["name"] == "lesion-rotated" and bool(protocol.get("fold"))


def _figures(cards: Sequence[Mapping]) -> list[list[str]]:
    rows = [["Model", "Parameters", *(title for title, *_ in FIGURES), "Melanoma AUC"]]
    for card in cards:
        figures = [_interval(card[where][key]) for _, where, key in FIGURES]
        melanoma = _interval(card["metrics_per_class"]["roc_auc"]["mel"])
        rows.append([card["name"], f"{card['architecture']['parameters']:,}", *figures, melanoma])
    return rows


def _validation(cards: Sequence[Mapping]) -> list[list[str]]:
    keys = {"Macro recall": "macro_recall", "Macro AUC": "macro_roc_auc", "Log loss": "log_loss"}
    rows = [["Model", "Images", "Lesions", *keys]]
    for card in cards:
        of, part = card["validation_metrics"], card["data"]["parts"]["validation"]
        sizes = [f"{part[unit]:,}" for unit in ("images", "lesions")]
        name = card["name"]
        if "folds" in card:
            name += f" ({card['folds']['members_asked']} of {len(card['members'])} members a photo)"
        rows.append([name, *sizes, *(_interval(of[key]) for key in keys.values())])
    return rows


def _trainings(cards: Sequence[Mapping]) -> list[list[str]]:
    columns = ("Backbone", "From", "Fold", "Pixels", "Epochs", "Chosen", "Minutes", "Seed")
    rows = [["Model", *columns, "Preset"]]
    for card in cards:
        architecture, made_of = card["architecture"], " + ".join(parts(card))
        fold = str(card["protocol"].get("fold") or 0)
        if "members" in card:
            told = ["", f"answers of {made_of}", *[""] * 6]
        elif made_of:
            pixels = str(architecture["input_size"][0])
            told = [architecture["backbone"], f"weights of {made_of}", fold, pixels, *[""] * 4]
        else:
            training = card["training"]
            told = [
                architecture["backbone"],
                _start(training["config"]),
                fold,
                str(architecture["input_size"][0]),
                str(training["epochs_done"]),
                str(training["chosen_epoch"]),
                f"{sum(training['curves']['seconds']) / 60:.0f}",
                str(training["config"]["seed"]),
            ]
        rows.append([card["name"], *told, f"`shipped/{card['name']}`"])
    return rows


def _thresholds(cards: Sequence[Mapping]) -> list[list[str]]:
    rows = [["Model", "Question", "Wanted", "Threshold", "Sensitivity", "Specificity"]]
    for card in cards:
        for kind, question in TRIAGE.items():
            for point in card["triage"][kind]:
                rows.append(
                    [
                        card["name"],
                        question,
                        f"{point['target_sensitivity']:.0%}",
                        f"{point['threshold']:.3f}",
                        _interval(point["sensitivity"]),
                        _interval(point["specificity"]),
                    ]
                )
    return rows


def _interval(of: Mapping) -> str:
    return Interval.from_dict(of).words


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])
