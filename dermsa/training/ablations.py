"""What the papers left unmeasured: trainings that differ from a reference in one thing each.

    planned("ablations/attention")        # the runs, for `python -m dermsa sweep`
    results(all_runs())                   # a row for every one of them that is finished
    compared(results(all_runs()))         # each variant against its reference

A run belongs to a variant by its tag. Figures are those of the epoch that a run chose, on the
validation part, which chose it: alone they flatter a little, all alike; what counts is how they
differ. The test part is not touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermsa.files import write_atomically
from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training.config import TrainingConfig
from dermsa.training.history import best_row
from dermsa.training.runs import Run

PREFIX = "ablations"
TAG = "ablation: "
SEEDS = (0, 1, 2)
PIXELS = 96  # height and width of the reference's photos
FIGURES = ("macro_recall", "macro_auc", "accuracy", "loss")
COLUMNS = ("variant", "seed", "pixels", "epochs", "images", "chosen_epoch", *FIGURES)
COLUMNS += ("minutes", "run")
CONFIDENCE = 0.95
WITHOUT_PATIENTS = "without_patients.json"

REFERENCE = "reference"
_ADAM = {"optimizer": "adam", "learning_rate": 1e-3}

# What each variant changes in the reference.
VARIANTS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "published kernel": {"kernel": "published"},
    "gamma from 0.01": {"initial_gamma": 0.01},
    "no attention": {"head": "global_pooling"},
    "published cut": {"cut": "published"},
    "random last layer": {"last_layer": "glorot"},
    "random last layer, published kernel": {"last_layer": "glorot", "kernel": "published"},
    "random last layer, no attention": {"last_layer": "glorot", "head": "global_pooling"},
    "no patient data": {"patient_branch": "none"},
    "blue first (BGR)": {"channel_order": "bgr"},
    "split by image": {"protocol": "image-90-10", "fold": 0},
    "taught by MobileNetEnsemble": {"teacher": "MobileNetEnsemble"},
    "mixup of 0.2": {"mixup": 0.2},
    "weights none": {"class_weights": "none"},
    "weights sqrt, logit-adjusted": {"loss": "logit_adjusted"},
    "weights balanced, logit-adjusted": {"loss": "logit_adjusted", "class_weights": "balanced"},
    "no cutout": {"augmentation": "uncovered"},
    "aspect kept": {"input_size": (83, 111)},  # 3:4 as the photos, with as many as 96 x 96 pixels
    **{
        f"{weights} weights, epsilon {epsilon:g}": {
            **_ADAM,
            "class_weights": weights,
            "epsilon": epsilon,
        }
        for epsilon in (1e-7, 0.1)
        for weights in ("none", "original", "balanced")
    },
}


@dataclass(frozen=True)
class Ablation:
    """One question: which variants are held against which."""

    question: str
    reference: str
    variants: tuple[str, ...]


UNKNOWN = "reference, every patient unknown"
ABLATIONS: dict[str, Ablation] = {
    "attention": Ablation(
        "Soft attention by its formula (reference; gamma starts at 1), with the kernel of the "
        "published code, with the gamma of the papers' text, or none",
        REFERENCE,
        ("published kernel", "gamma from 0.01", "no attention"),
    ),
    "start": Ablation(
        "The last layer from zeros (reference) or random, as Keras starts it",
        REFERENCE,
        ("random last layer",),
    ),
    "attention-random-start": Ablation(
        "Attention again, where the last layer starts random",
        "random last layer",
        ("random last layer, published kernel", "random last layer, no attention"),
    ),
    "cut": Ablation(
        "The backbone whole (reference) or cut as published", REFERENCE, ("published cut",)
    ),
    "patient": Ablation(
        "With patient data (reference), trained without, or trained with and asked without",
        REFERENCE,
        ("no patient data", UNKNOWN),
    ),
    "channels": Ablation(
        "Photos as RGB (reference) or, as in the papers' runs, BGR",
        REFERENCE,
        ("blue first (BGR)",),
    ),
    "split": Ablation(
        "Lesions apart (reference) or, as in the Sensors paper, photos of one lesion in both parts",
        REFERENCE,
        ("split by image",),
    ),
    "weights": Ablation(
        "Class weights under Adam, and how much an epsilon of 0.1 changes them",
        "none weights, epsilon 1e-07",
        tuple(name for name in VARIANTS if "epsilon" in name and name[:4] != "none")
        + ("none weights, epsilon 0.1",),
    ),
    "adjusted": Ablation(
        "Class weights of the square root on each image's loss (reference), none, and weights that "
        "adjust the logits instead (log loss holds what each of them leans to)",
        REFERENCE,
        ("weights none", "weights sqrt, logit-adjusted", "weights balanced, logit-adjusted"),
    ),
    "aspect": Ablation(
        "Photos squashed to a square (reference) or with their aspect of 3:4 kept, with as many "
        "pixels",
        REFERENCE,
        ("aspect kept",),
    ),
    "recipe": Ablation(
        "The recipe of DermSA's own models (reference), with the answers of a teacher beside the "
        "labels (distillation), with mixup, and without cutout",
        REFERENCE,
        ("taught by MobileNetEnsemble", "mixup of 0.2", "no cutout"),
    ),
}


def reference() -> TrainingConfig:
    """What all variants have in common: small photos and few epochs, so that many can be run."""
    # A gamma that starts at the formula's 0.01 hardly grows in a short training: attention would
    # be there, and unused.
    classifier = ClassifierConfig(
        "MobileNetV3Small", input_size=(PIXELS, PIXELS), initial_gamma=1.0
    )
    return TrainingConfig(classifier, monitor="macro_auc", epochs=6)


def trained(ablation: Ablation) -> list[str]:
    """The variants that need runs of their own, the reference first."""
    return [name for name in (ablation.reference, *ablation.variants) if name in VARIANTS]


def settings_of(variant: str, pixels: int = PIXELS) -> dict[str, Any]:
    """What a variant changes in a reference whose photos have this height and width."""
    settings = VARIANTS[variant]
    if "input_size" in settings:
        height = round(settings["input_size"][0] * pixels / PIXELS)
        settings = {**settings, "input_size": (height, round(pixels**2 / height))}
    return settings


def planned(name: str, pixels: int = PIXELS) -> list[tuple[str, str, dict[str, Any]]]:
    """Title, tag and settings of every run of `ablations/<name>`, or of all for `ablations/all`.

    Args:
        pixels: Height and width of the reference's photos.

    Raises:
        ValueError: No such ablation.
    """
    _, _, chosen = name.partition("/")
    if chosen != "all" and chosen not in ABLATIONS:
        raise ValueError(
            f"There is no ablation {name!r}. Expected one of: "
            f"{', '.join(f'{PREFIX}/{each}' for each in ('all', *ABLATIONS))}."
        )
    asked = ABLATIONS.values() if chosen == "all" else [ABLATIONS[chosen]]
    variants = dict.fromkeys(variant for each in asked for variant in trained(each))
    return [
        (f"{variant}, seed {seed}", TAG + variant, {**settings_of(variant, pixels), "seed": seed})
        for variant in variants
        for seed in SEEDS
    ]


def variant_of(run: Run) -> str | None:
    """The variant that a run was made for; None where it belongs to no ablation."""
    tags = [tag.removeprefix(TAG) for tag in run.about().get("tags", ()) if tag.startswith(TAG)]
    return tags[0] if tags else None


def results(runs: Iterable[Run], data: Path | None = None) -> pd.DataFrame:
    """A row for every finished run of an ablation: variant, seed, length and `FIGURES`.

    Of runs that repeat each other the last one counts: the same seed says nothing new. A reference
    run gives a second row, of its answers where nothing is known of the patients.

    Args:
        data: The folder of the data sets; None for `data_root()`.
    """
    rows = []
    for run in runs:
        variant = variant_of(run)
        if variant is None or run.state != "finished":
            continue
        config, epochs = run.config(), run.metrics()
        best = epochs.iloc[best_row(epochs, config.monitor)]
        about = {
            "seed": config.seed,
            "pixels": round(math.sqrt(math.prod(config.classifier.input_size))),
            "epochs": config.epochs,
            "images": config.limit,
            "chosen_epoch": int(best["epoch"]),
            "minutes": round(float(epochs["seconds"].sum()) / 60, 1),
            "run": run.id,
        }
        rows.append({"variant": variant, **about, **best[list(FIGURES)]})
        if variant == REFERENCE:
            rows.append({"variant": UNKNOWN, **about, **without_patients(run, data)})
    table = pd.DataFrame(rows, columns=COLUMNS).round(5).sort_values(["variant", "seed", "run"])
    same = ["variant", "seed", "pixels", "epochs", "images"]
    return table.drop_duplicates(same, keep="last", ignore_index=True)


@dataclass(frozen=True)
class Difference:
    """A variant's mean over the seeds, and how far it is from its reference's.

    Attributes:
        seeds: How many runs.
        mean: Of the figure.
        difference, low, high: From the reference's mean, with the interval of Welch's t over the
            seeds; None with fewer than two runs on a side.
    """

    seeds: int
    mean: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def within_chance(self) -> bool:
        return self.low is None or self.low <= 0 <= self.high


def compared(table: pd.DataFrame) -> dict[str, dict[str, dict[str, Difference]]]:
    """By ablation, variant (the reference first) and figure; what has no run yet is left out.

    Args:
        table: Of `results`, its rows of one size and length.
    """
    found: dict[str, dict[str, dict[str, Difference]]] = {}
    for name, ablation in ABLATIONS.items():
        reference = table[table["variant"] == ablation.reference]
        if reference.empty:
            continue
        found[name] = {
            ablation.reference: {
                figure: Difference(len(reference), float(reference[figure].mean()))
                for figure in FIGURES
            }
        }
        for variant in ablation.variants:
            rows = table[table["variant"] == variant]
            if not rows.empty:
                found[name][variant] = {
                    figure: difference(rows[figure].to_numpy(), reference[figure].to_numpy())
                    for figure in FIGURES
                }
    return found


def difference(values: np.ndarray, reference: np.ndarray) -> Difference:
    """Welch's interval of the difference of two means (Welch 1947, Biometrika 34)."""
    seeds, mean = len(values), float(values.mean())
    if min(seeds, len(reference)) < 2:
        return Difference(seeds, mean)
    from scipy import stats

    apart = mean - float(reference.mean())
    if values.std() == reference.std() == 0:
        return Difference(seeds, mean, apart, apart, apart)
    interval = stats.ttest_ind(values, reference, equal_var=False).confidence_interval(CONFIDENCE)
    return Difference(seeds, mean, apart, float(interval.low), float(interval.high))


def markdown(table: pd.DataFrame) -> str:
    """The comparisons as a document's tables, each under its question."""
    parts = []
    for (pixels, epochs, images), rows in table.groupby(["pixels", "epochs", "images"]):
        parts.append(
            f"At {pixels} x {pixels} pixels, {epochs} epochs, "
            f"{f'{images:,} images of each part' if images else 'all images'}:"
        )
        parts += _tables(rows)
    return "\n\n".join(parts)


def _tables(table: pd.DataFrame) -> list[str]:
    tables = []
    for name, variants in compared(table).items():
        if len(variants) == 1:
            continue  # nothing to hold against the reference yet
        lines = [
            f"**{ABLATIONS[name].question}.**",
            "",
            "| Variant | Runs | Macro recall | Macro AUC | Log loss |",
            "|---|---|---|---|---|",
        ]
        for variant, figures in variants.items():
            cells = [_cell(figures[each]) for each in ("macro_recall", "macro_auc", "loss")]
            lines.append(f"| {variant} | {figures['loss'].seeds} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    return tables


def _cell(one: Difference) -> str:
    if one.difference is None:
        return f"{one.mean:.3f}"
    told = f"{one.mean:.3f}, {one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
    return told if one.within_chance else f"**{told}**"


def without_patients(run: Run, data: Path | None = None) -> dict[str, float]:
    """`FIGURES` of a run's best weights on validation with every patient unknown.

    Computed once, and kept in the folder of the run.
    """
    kept = run.folder / WITHOUT_PATIENTS
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    from dermsa.datasets import cache, registry
    from dermsa.models.classifier import build_classifier
    from dermsa.patient import Patient
    from dermsa.training.examples import Examples, split_rows, training_age_scale
    from dermsa.training.recorder import figures_of, predict_logits

    config = run.config()
    dataset = registry.read(config.dataset, data)
    rows = split_rows(run, config, dataset)
    unknown = Patient().encode(training_age_scale(dataset, rows["train"]))
    examples = Examples(
        cache.decoded(dataset, config.classifier.input_size),
        np.repeat(unknown[None], len(dataset.table), axis=0),
        dataset.labels(),
    )
    classifier = build_classifier(config.classifier)
    classifier.load_weights(run.best_weights)
    logits = predict_logits(classifier, examples, rows["validation"])
    figures = figures_of(logits, examples.labels[rows["validation"]], config.classifier.classes)
    write_atomically(kept, json.dumps(figures).encode())
    return figures
