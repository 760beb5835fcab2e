"""Makes one network of several in `weights/` by averaging their weights: a model soup (Wortsman et
al. 2022, arXiv:2203.05482), which answers as fast as any of them alone.

Networks that went on from the same one, each with photos of its own size or by settings of its
own, lie in one valley of the loss: between them it is lower than where they stand. Networks from
different starts do not, and their average knows nothing; validation tells (`all_soups`).

Whatever belongs to a size of photos is carried over to that of the soup, see `start.carried_over`.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from dermsa.datasets import cache, registry
from dermsa.datasets.dataset import Dataset, load_photo
from dermsa.evaluation import calibration, metrics
from dermsa.evaluation.evaluate import predictions_of, split_of
from dermsa.images import to_model_input
from dermsa.inference import store
from dermsa.inference.engine import Engine
from dermsa.inference.store import sha256_of
from dermsa.inference.views import FLIPS
from dermsa.inference.views import check as check_views
from dermsa.models.classifier import build_classifier
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.models.onnx_export import to_onnx
from dermsa.models.weight_formats import with_weights_as
from dermsa.patient import AgeScale
from dermsa.training.answers import form_of, kept_logits
from dermsa.training.ensemble import Mean
from dermsa.training.examples import Examples
from dermsa.training.export import (
    calibrate,
    check_name,
    check_not_taken,
    emphasis_of_card,
    measure,
    network_card,
    rows_of_card,
    write_model,
)
from dermsa.training.shipped import ShippedTraining
from dermsa.training.start import carried_over, served_classifier

log = logging.getLogger("dermsa.training")

PHOTOS = 256
"""Of training, for the statistics of the normalisations, which a file no longer tells apart."""


class SoupError(ValueError):
    """Networks whose weights cannot be averaged; the message says why."""


@dataclass(frozen=True)
class _Ingredients:
    """What is averaged, known to fit together.

    Attributes:
        models: The opened networks.
        classifiers: With their weights, all for photos of the soup's size.
        built_of: Of the soup.
        dataset: That trained them.
        rows: Of each part, in `dataset.table`.
        emphasis: See `export.emphasis_of`.
        age_scale: Of all of them.
    """

    models: tuple[store.Model, ...]
    classifiers: tuple[keras.Model, ...]
    built_of: ClassifierConfig
    dataset: Dataset
    rows: dict[str, np.ndarray]
    emphasis: np.ndarray
    age_scale: AgeScale


def make_soup(
    names: Sequence[str],
    name: str,
    input_size: tuple[int, int] | None = None,
    data: Path | None = None,
    role: str | None = None,
    views: int = len(FLIPS),
    notes: Sequence[str] = (),
    weight_format: str = "float32",
    replace: bool = False,
) -> Path:
    """Writes `weights/<name>/` for the average of some networks, all of which count the same.

    Args:
        names: Two or more networks of `weights/`, of one classifier, data set and split; the
            size of their photos may differ.
        name: Of the soup.
        input_size: Of its photos; None for that of the first network.
        data: The folder of the data sets; None for `data_root()`.
        role, views, notes, weight_format, replace: As for `export.export`.

    Returns:
        The folder of the soup.

    Raises:
        SoupError: The weights of these networks cannot be averaged.
        ModelError: A network is missing or damaged.
        RunError: The name is taken or no folder name, a file could not be read back, or its
            weights belong to its size of photos.
        ValueError: There are not so many views.
        DatasetError: The data are not there, or not those the networks were split on.
    """
    check_name(name)
    check_not_taken(name, replace)
    of = _ingredients(names, input_size, views, data)
    if name in (model.name for model in of.models):
        raise SoupError(f"{name} is one of the networks to be averaged. Choose another name.")
    soup = _averaged(of.built_of, of.classifiers)
    onnx = with_weights_as(to_onnx(soup), weight_format)
    measured = measure(
        onnx,
        of.built_of.classes,
        of.built_of.input_size,
        of.age_scale,
        views,
        of.emphasis,
        of.dataset,
        of.rows,
    )
    first = of.models[0].card
    more = {}
    for model in of.models:
        more |= model.card["data"].get("more", {})
    origin = {
        "soup": {
            "of": [
                {"model": model.name, "sha256": store.card_sha256(model.name)}
                for model in of.models
            ]
        }
    }
    card = network_card(
        name,
        of.built_of,
        soup,
        origin=origin,
        dataset=of.dataset,
        split=split_of(first, of.dataset),
        parts=first["data"]["parts"],
        more=more,
        age_scale=of.age_scale,
        views=views,
        weight_format=weight_format,
        measured=measured,
        notes=notes,
    )
    return write_model(card, measured.files, role)


def all_soups(
    names: Sequence[str],
    input_size: tuple[int, int] | None = None,
    data: Path | None = None,
    views: int = len(FLIPS),
) -> list[Mean]:
    """How the average of every choice of networks does on validation: what to make a soup of.

    The test part is not looked at.

    Args:
        names, input_size, data, views: As for `make_soup`; a network alone is taken at the soup's
            size of photos, too.

    Returns:
        Each choice of one or more networks, the least log loss first.

    Raises:
        SoupError, ModelError, ValueError, DatasetError: As for `make_soup`.
    """
    of = _ingredients(names, input_size, views, data)
    found = []
    for count in range(1, len(of.models) + 1):
        for chosen in itertools.combinations(range(len(of.models)), count):
            members = tuple(of.models[i].name for i in chosen)
            log.info("Looking at %s.", " + ".join(members))
            soup = _averaged(of.built_of, [of.classifiers[i] for i in chosen])
            found.append(_on_validation(soup, of, members, views))
    return sorted(found, key=lambda mean: mean.log_loss)


def _on_validation(
    soup: keras.Model, of: _Ingredients, members: tuple[str, ...], views: int
) -> Mean:
    onnx = to_onnx(soup)
    dataset, rows = of.dataset, of.rows["validation"]
    size, patients = of.built_of.input_size, of.dataset.patient_vectors(of.age_scale)
    examples = Examples(cache.decoded(dataset, size), patients, dataset.labels())
    form = form_of(sha256_of(onnx), views, of.age_scale)
    logits = kept_logits(form, Engine(onnx), dataset, examples, rows)
    settings = calibrate(dataset.classes, dataset.labels()[rows], logits, of.emphasis)
    lean = np.array([settings["lean"][code] for code in dataset.classes])
    said = calibration.softmax(logits, settings["temperature"], lean)
    predictions = predictions_of(dataset, rows, said, lean)
    figures = (
        metrics.log_loss,
        lambda said: metrics.macro_average(metrics.roc_auc(said)),
        metrics.macro_recall,
    )
    return Mean(members, *(float(np.squeeze(figure(predictions))) for figure in figures))


def _averaged(built_of: ClassifierConfig, classifiers: Sequence[keras.Model]) -> keras.Model:
    """A new classifier with the mean of their weights, statistics of normalisations included."""
    soup = build_classifier(built_of)
    for ours, *theirs in zip(soup.weights, *(each.weights for each in classifiers), strict=True):
        ours.assign(np.mean([keras.ops.convert_to_numpy(one) for one in theirs], axis=0))
    return soup


def _ingredients(
    names: Sequence[str], input_size: tuple[int, int] | None, views: int, data: Path | None
) -> _Ingredients:
    """The networks, as `make_soup` takes them, for photos of the soup's size."""
    models = tuple(store.open_model(name) for name in names)
    if len(models) < 2 or len({model.name for model in models}) < len(models):
        raise SoupError(
            f"A soup is made of at least two different networks. Received: {', '.join(names)}"
        )
    for model in models:
        if model.members:
            raise SoupError(f"{model.name} is an ensemble, which has no weights of its own.")
    trained = [ShippedTraining(model.name, model.card).classifier() for model in models]
    built_of = dataclasses.replace(trained[0], input_size=input_size or trained[0].input_size)
    check_views(views, built_of.input_size)
    first = models[0]
    for model, config in zip(models, trained, strict=True):
        if dataclasses.replace(config, input_size=built_of.input_size) != built_of:
            raise SoupError(
                f"{model.name} and {first.name} are different classifiers: only weights that have "
                "the same place can be averaged. An ensemble can be made of them."
            )
        if model.card["protocol"]["sha256"] != first.card["protocol"]["sha256"]:
            raise SoupError(
                f"{model.name} and {first.name} do not have the same split: what trained one may "
                "validate or test the other."
            )
        if model.card["age_scale"] != first.card["age_scale"]:
            raise SoupError(
                f"{model.name} and {first.name} do not scale the age alike: they were trained on "
                "different photos of the data set."
            )
    dataset = registry.read(first.card["data"]["name"], data)
    rows = rows_of_card(first.card, dataset)
    shown = np.random.default_rng(0).permutation(rows["train"])[:PHOTOS]
    photos = [load_photo(path) for path in dataset.table["path"].iloc[shown]]
    classifiers = []
    for model, config in zip(models, trained, strict=True):
        log.info("Reading the weights of %s.", model.name)
        seen = np.stack([to_model_input(photo, config.input_size) for photo in photos])
        network = served_classifier(model, config, seen)
        classifiers.append(carried_over(network, config, built_of, model.name))
    emphasis = np.exp(np.log([emphasis_of_card(model.card) for model in models]).mean(axis=0))
    return _Ingredients(
        models,
        tuple(classifiers),
        built_of,
        dataset,
        rows,
        emphasis,
        AgeScale(**first.card["age_scale"]),
    )
