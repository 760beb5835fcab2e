"""Makes one model of several in `weights/`: weights, calibration, evaluation and card.

The members' own files stay where they are; the ensemble is a card that names them. Weights and
calibration come from validation, the figures from test, as for every model.

Members of different folds (protocol `lesion-rotated`) share the test lesions, and each was trained
on what validates others. A photo of validation is then answered by those alone that were not
trained on it, as in cross-validation; where some photos have more such members than others, only
the former calibrate, because their mean is the most like that of all members.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dermsa
from dermsa.datasets import cache, registry, splits
from dermsa.datasets.dataset import Dataset
from dermsa.evaluation import calibration, metrics
from dermsa.evaluation.assess import measure_maps
from dermsa.evaluation.evaluate import predictions_of, split_of
from dermsa.inference import novelty, store
from dermsa.inference.answering import lean_of
from dermsa.inference.ensemble import mean_log
from dermsa.inference.predictor import Predictor
from dermsa.patient import Patient
from dermsa.taxonomy import NAMES
from dermsa.training.answers import embeddings_of, form_of, kept_logits, with_patient
from dermsa.training.examples import Examples
from dermsa.training.export import (
    calibrate,
    check_name,
    licence_of,
    novelty_threshold,
    part_sizes,
    protocol_entry,
    results_of,
    write_model,
)

log = logging.getLogger("dermsa.training")

WEIGHTINGS = {
    "mean": "every member counts the same",
    "fitted": "weights that make the log loss on validation least",
}
ROTATED = "lesion-rotated"
EVEN_SHARE = 0.05
EXPLAINED_PHOTOS = 500
"""Enough to tell whose maps lie best, which differ by tens of percent."""
SHARED = {
    "diagnoses": lambda card: card["classes"],
    "data set": lambda card: card["data"]["name"],
}


class EnsembleError(ValueError):
    """Models that cannot answer as one; the message says why."""


@dataclass(frozen=True)
class MemberAnswers:
    """What one member says, each `(n, classes)` calibrated probabilities.

    Attributes:
        validation: Of the photos that validate this member.
        test: Of the test part.
        test_unknown: Of the test part, with nothing known of the patients.
        novelty: `(n,)` of validation, in units of the member's own threshold; None where it has
            no measure.
    """

    validation: np.ndarray
    test: np.ndarray
    test_unknown: np.ndarray
    novelty: np.ndarray | None


@dataclass(frozen=True)
class _Fold:
    """Members that were trained and validated on the same photos, and which these are.

    Attributes:
        models: Of these members.
        train, validation, test: Rows of the data set, int.
    """

    models: tuple[store.Model, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_ensemble(
    members: Sequence[str],
    name: str,
    weighting: str = "mean",
    data: Path | None = None,
    role: str | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Writes `weights/<name>/` for an ensemble.

    Args:
        members: Two or more networks of `weights/`, of one data set and one split, or of splits
            that differ in what validates alone.
        name: Of the ensemble.
        weighting: A key of `WEIGHTINGS`.
        data: The folder of the data sets; None for `data_root()`.
        role: Of `store.ROLES`, where this ensemble shall have it from now on.
        notes: What a reader of the card should know besides, a sentence each.

    Returns:
        The folder of the ensemble.

    Raises:
        EnsembleError: These models cannot answer as one.
        ModelError: A member is missing or damaged.
        RunError: The name is no folder name.
        DatasetError: The data are not there, or not those the members were split on.
    """
    check_name(name)
    if weighting not in WEIGHTINGS:
        raise EnsembleError(
            f"Unknown weighting {weighting!r}. Expected one of: {', '.join(WEIGHTINGS)}."
        )
    models = _members(members, name)
    first = models[0].card
    dataset = registry.read(first["data"]["name"], data)
    folds = _folds(models, dataset)
    if weighting == "fitted" and len(folds) > 1:
        raise EnsembleError(
            "Weights cannot be fitted to members of different folds: no photo of validation is new "
            "to all of them. Choose the weighting mean."
        )
    fold_of = {model.name: fold for fold in folds for model in fold.models}
    answers = [_ask(model, dataset, fold_of[model.name]) for model in models]
    weights = np.full(len(models), 1 / len(models))
    if weighting == "fitted":
        truth = dataset.labels()[folds[0].validation]
        weights = fit_weights([member.validation for member in answers], truth)

    most = max(len(fold.models) for fold in folds)
    calibrating = [fold for fold in folds if len(fold.models) == most]
    rows = {
        "train": np.unique(np.concatenate([fold.train for fold in folds])),
        "validation": np.concatenate([fold.validation for fold in calibrating]),
        "test": folds[0].test,
    }
    validation, scores = [], []
    for fold in calibrating:
        chosen = [i for i, model in enumerate(models) if fold_of[model.name] is fold]
        shares = weights[chosen] / weights[chosen].sum()
        validation.append(mean_log([answers[i].validation for i in chosen], shares))
        if all(member.novelty is not None for member in answers):
            scores.append(shares @ np.stack([answers[i].novelty for i in chosen]))
    validation = np.concatenate(validation)
    # Members have taken back their lean themselves, so that the mean has none to take back.
    alike = np.ones(len(dataset.classes))
    truth = dataset.labels()[rows["validation"]]
    settings = calibrate(dataset.classes, truth, validation, alike)
    lean = mean_lean([model.card for model in models], weights)
    settings["lean"] = dict(zip(dataset.classes, lean.tolist(), strict=True))
    if scores:
        settings["novelty"] = novelty_threshold(np.concatenate(scores))
    said = (
        validation,
        mean_log([member.test for member in answers], weights),
        mean_log([member.test_unknown for member in answers], weights),
    )
    results = results_of(
        dataset,
        rows,
        settings,
        *(calibration.softmax(each, settings["temperature"]) for each in said),
    )
    more = {}
    for model in models:
        more |= model.card["data"].get("more", {})
    own = [fold_of[model.name].validation for model in models]
    explaining = best_explaining(models, dataset, own, data)
    card = {
        "name": name,
        "version": dermsa.__version__,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "classes": first["classes"],
        "class_names": {code: NAMES[code] for code in first["classes"]},
        "malignant": first["malignant"],
        "members": [
            {"model": model.name, "weight": float(weight), "sha256": store.card_sha256(model.name)}
            for model, weight in zip(models, weights, strict=True)
        ],
        "weighting": weighting,
        "decomposes": False,
        "architecture": {
            "parameters": sum(model.card["architecture"]["parameters"] for model in models)
        },
        "data": first["data"] | {"parts": part_sizes(dataset, rows), "more": more},
        "protocol": first["protocol"],
        **(_over_folds(dataset, first, folds, calibrating) if len(folds) > 1 else {}),
        **settings,
        **results,
        **({"explained_by": explaining} if explaining else {}),
        "notes": [*notes, *(_told(folds, calibrating, rows) if len(folds) > 1 else ())],
        "licence": licence_of(dataset.name, *more),
        "intended_use": first["intended_use"],
    }
    return write_model(card, {}, role)


def mean_lean(cards: Sequence[dict], weights: np.ndarray) -> np.ndarray:
    """How the mean of networks names a diagnosis: weighing as they do on average, whatever the
    temperature of the mean.

    Args:
        cards: Of the networks.
        weights: `(networks,)`, sum 1.

    Returns:
        float64 `(classes,)`: the geometric mean of the networks' own, see `lean_of`.
    """
    return np.exp(weights @ np.log([lean_of(card) for card in cards]))


@dataclass(frozen=True)
class Mean:
    """The mean of some models on validation, after a temperature of its own.

    Attributes:
        members: Names of the models; a single one stands for itself.
        log_loss, macro_auc, macro_recall: On the validation part.
    """

    members: tuple[str, ...]
    log_loss: float
    macro_auc: float
    macro_recall: float


def all_means(names: Sequence[str], data: Path | None = None) -> list[Mean]:
    """How the mean of every choice of members does on validation: what to make an ensemble of.

    The test part is not looked at.

    Args:
        names: Two or more networks of `weights/`, of one data set and one split.
        data: The folder of the data sets; None for `data_root()`.

    Returns:
        Each choice of one or more members, the least log loss first.

    Raises:
        EnsembleError, ModelError, DatasetError: As for `make_ensemble`.
    """
    models = _members(names)
    dataset = registry.read(models[0].card["data"]["name"], data)
    folds = _folds(models, dataset)
    if len(folds) > 1:
        raise EnsembleError(
            "These members are of different folds: no photo of validation is new to all of them, "
            "so that their means cannot be compared on any."
        )
    rows = folds[0].validation
    answers = []
    for model in models:
        log.info("Asking %s.", model.name)
        answers.append((model.card, _Asked(model, dataset).probabilities(rows)))
    return sorted(
        (
            _mean_of(chosen, dataset, rows)
            for count in range(1, len(names) + 1)
            for chosen in itertools.combinations(answers, count)
        ),
        key=lambda mean: mean.log_loss,
    )


def _mean_of(
    answers: Sequence[tuple[dict, np.ndarray]], dataset: Dataset, rows: np.ndarray
) -> Mean:
    cards, probabilities = zip(*answers, strict=True)
    even = np.full(len(cards), 1 / len(cards))
    logits = mean_log(probabilities, even)
    temperature = calibration.fit_temperature(logits, dataset.labels()[rows])
    said = calibration.softmax(logits, temperature)
    found = predictions_of(dataset, rows, said, mean_lean(cards, even))
    figures = (metrics.log_loss, _macro_auc, metrics.macro_recall)
    return Mean(
        tuple(card["name"] for card in cards),
        *(float(np.squeeze(figure(found))) for figure in figures),
    )


def _macro_auc(predictions: metrics.Predictions) -> np.ndarray:
    return metrics.macro_average(metrics.roc_auc(predictions))


def _folds(models: Sequence[store.Model], dataset: Dataset) -> list[_Fold]:
    """The members by what validates them.

    Raises:
        EnsembleError: Their splits are not the same, nor folds of the same draw.
        DatasetError: The data are not those the members were split on.
    """
    folds: list[_Fold] = []
    for model in models:
        split = split_of(model.card, dataset)
        if model.card["protocol"]["sha256"] != models[0].card["protocol"]["sha256"]:
            _check_rotated(model, models[0])
        train, validation, test = (split.rows(dataset, part) for part in splits.PARTS)
        same = [i for i, f in enumerate(folds) if np.array_equal(f.validation, validation)]
        if same:
            fold = folds[same[0]]
            folds[same[0]] = dataclasses.replace(fold, models=(*fold.models, model))
        else:
            folds.append(_Fold((model,), train, validation, test))
    return folds


def _check_rotated(model: store.Model, first: store.Model) -> None:
    """Whether two models of different splits are of folds of the same draw.

    Raises:
        EnsembleError: They are not, so that one may have been trained on what tests the other.
    """
    protocols = [each.card["protocol"] for each in (model, first)]
    if {each["name"] for each in protocols} - {"lesion", ROTATED} or (
        protocols[0]["seed"] != protocols[1]["seed"]
    ):
        raise EnsembleError(
            f"{model.name} and {first.name} do not have the same split, so that they cannot answer "
            f"as one. Members have one split, or are of folds of the protocol {ROTATED} with the "
            "same seed (lesion is its first fold)."
        )


def _over_folds(
    dataset: Dataset, first: dict, folds: Sequence[_Fold], calibrating: Sequence[_Fold]
) -> dict:
    """The card's entries of an ensemble over folds: how the data were divided, whichever member is
    named first, and who answered the photos of validation."""
    split = splits.draw(dataset, ROTATED, first["protocol"]["seed"])
    return {
        "protocol": protocol_entry(dataset, split),
        "folds": {
            "count": len(folds),
            "members_asked": len(calibrating[0].models),
            "calibrated_by": [model.name for fold in calibrating for model in fold.models],
        },
    }


def _told(
    folds: Sequence[_Fold], calibrating: Sequence[_Fold], rows: dict[str, np.ndarray]
) -> list[str]:
    """The same for readers of the card."""
    members = sum(len(fold.models) for fold in folds)
    return [
        f"The members are of {len(folds)} folds, so that most were trained on photos that validate "
        f"others. Each of the {len(rows['validation']):,} photos that chose temperature and "
        f"thresholds was answered by the {len(calibrating[0].models)} of {members} members that "
        "were not trained on it: the mean of all may be a little less sure of itself than it could "
        "be."
    ]


def fit_weights(probabilities: Sequence[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Weights of the members that minimise the log loss of their geometric mean.

    Members resemble each other, so the loss is flat and its minimum would follow chance into a
    corner. A Dirichlet prior of the strength `EVEN_SHARE` keeps weights away from 0 and the
    minimum unique.

    Args:
        probabilities: Per member `(n, classes)`, of cases that trained none of them.
        truth: int `(n,)`, index of the true class.

    Returns:
        float64 `(members,)`, above 0, sum 1.
    """
    from scipy.optimize import minimize

    logs = np.log(np.maximum(np.stack(probabilities), 1e-12))
    # Less that of the truth: the loss is log(sum(exp(...))).
    logs -= np.take_along_axis(logs, truth[None, :, None], axis=2)
    members = len(logs)
    even = EVEN_SHARE / members

    def loss_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.tensordot(weights, logs, axes=1)
        losses = np.logaddexp.reduce(mixed, axis=1)
        said = np.exp(mixed - losses[:, None])
        slope = (logs * said).sum(axis=2).mean(axis=1)
        return losses.mean() - even * np.log(weights).sum(), slope - even / weights

    found = minimize(
        loss_and_slope,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(1e-4, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    return found.x / found.x.sum()


def best_explaining(
    models: Sequence[store.Model],
    dataset: Dataset,
    rows: Sequence[np.ndarray],
    data: Path | None = None,
) -> dict | None:
    """Which member's maps an answer should show: of those that explain the most, the one whose
    evidence points into the lesion most often (the attention map, where logits do not split).

    Args:
        rows: Of each model's validation part, of which `EXPLAINED_PHOTOS` by chance are looked at.

    Returns:
        The card's entry; None where no photo has a lesion mask, or no member has a map.
    """
    members = [Predictor(model) for model in models]
    most = max(len(member.engine.outputs) for member in members)
    pointing = {}
    for member, own in zip(members, rows, strict=True):
        if len(member.engine.outputs) < most:
            continue
        log.info("Looking where the maps of %s lie.", member.model.name)
        some = np.sort(np.random.default_rng(0).permutation(own)[:EXPLAINED_PHOTOS])
        quality = measure_maps(
            member, dataset, some, data, curve_images_per_class=1, progress=False
        )
        if quality is None:
            continue
        maps = quality.of("evidence") or quality.of("soft_attention")
        pointing[member.model.name] = maps.measures["pointing"].as_dict()
    if not pointing:
        return None
    best = max(pointing, key=lambda name: pointing[name]["value"])
    return {"model": best, "measured_on": "validation", "pointing": pointing}


def _members(names: Sequence[str], ensemble: str = "") -> list[store.Model]:
    """The opened members, known to fit each other and the ensemble's name, where it has one."""
    if len(names) < 2 or len(set(names)) < len(names):
        raise EnsembleError(
            f"An ensemble has at least two different members. Received: {', '.join(names)}"
        )
    if ensemble in store.model_names() and "members" not in store.read_card(ensemble):
        raise EnsembleError(
            f"{ensemble} is a trained model, which an ensemble of this name would replace. Choose "
            "another name."
        )
    models = [store.open_model(name) for name in names]
    first = models[0]
    for model in models:
        if model.members:
            raise EnsembleError(f"{model.name} is an ensemble; name its members instead.")
        for what, of in SHARED.items():
            if of(model.card) != of(first.card):
                raise EnsembleError(
                    f"{model.name} and {first.name} do not have the same {what}, so that they "
                    "cannot answer as one."
                )
    return models


class _Asked:
    """A member and the photos of a data set as it sees them."""

    def __init__(self, model: store.Model, dataset: Dataset):
        self.model, self.dataset = model, dataset
        self.predictor = Predictor(model)
        self.examples = Examples(
            cache.decoded(dataset, self.predictor.engine.input_size),
            dataset.patient_vectors(self.predictor.age_scale),
            dataset.labels(),
        )

    def logits(self, rows: np.ndarray) -> np.ndarray:
        predictor = self.predictor
        form = form_of(self.model.sha256, predictor.views, predictor.age_scale)
        return kept_logits(form, predictor.engine, self.dataset, self.examples, rows)

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        return self.predictor.probabilities(self.logits(rows))

    def probabilities_if_unknown(self, rows: np.ndarray) -> np.ndarray:
        """Of patients of whom nothing is known."""
        predictor = self.predictor
        unknown = Patient().encode(predictor.age_scale)
        logits = self.logits(rows)
        return predictor.probabilities(
            with_patient(predictor.engine, self.examples, rows, predictor.views, logits, unknown)
        )

    def novelty(self, rows: np.ndarray) -> np.ndarray | None:
        """In units of the member's threshold; None where it has no measure."""
        if self.model.novelty is None:
            return None
        embeddings = embeddings_of(self.predictor.engine, self.examples, rows)
        scores = novelty.scores(self.model.novelty, embeddings)
        return scores / self.model.card["novelty"]["threshold"]


def _ask(model: store.Model, dataset: Dataset, fold: _Fold) -> MemberAnswers:
    log.info("Asking %s.", model.name)
    asked = _Asked(model, dataset)
    return MemberAnswers(
        asked.probabilities(fold.validation),
        asked.probabilities(fold.test),
        asked.probabilities_if_unknown(fold.test),
        asked.novelty(fold.validation),
    )
