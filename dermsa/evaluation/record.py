"""An evaluation: what one model or run said about the cases of one part, and what follows from it.

    evaluation = load(weights_folder() / "MobileNetV2")
    evaluation.interval("recall", "mel")                 # an Interval
    save(evaluation, folder)

Three files in the folder of the model (`weights/<name>/`) or of the run (`runs/<id>/`):

predictions.csv   a row a case: `CASE_COLUMNS`, then one probability per class; which class is
                  named follows from the lean in evaluation.json, and from a file alone the most
                  probable one is
evaluation.json   everything that was computed, with the hashes of what it belongs to
samples.npz       every metric on every bootstrap sample, so that comparing needs no new drawing

What does not belong together is refused: figures of a model that has since been replaced, or of
predictions that were edited, would be believed.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from dermsa import tables
from dermsa.evaluation import statistics, subgroups
from dermsa.evaluation.attention_quality import AttentionQuality
from dermsa.evaluation.cost import Cost, TrainingCost
from dermsa.evaluation.metrics import SUM_TOLERANCE, Predictions
from dermsa.evaluation.statistics import Estimate, Interval
from dermsa.evaluation.subgroups import Group
from dermsa.files import runs_folder, write_atomically
from dermsa.inference import store
from dermsa.inference.answering import lean_of

PREDICTIONS = "predictions.csv"
EVALUATION = "evaluation.json"
SAMPLES = "samples.npz"
RUN_WEIGHTS = "best.weights.h5"
FORMAT = 2
CASE_COLUMNS = (
    "image_id", "lesion_id", "truth", "age", "sex", "localization", "dx_type", "source",
)  # fmt: skip
"""What is known of a case; the last five may be empty, the last one may be missing."""
REQUIRED_COLUMNS = ("image_id", "truth")
ROUNDED = 0.005
"""How far off a probability of another program may be, which often has two digits."""


class EvaluationError(ValueError):
    """An evaluation that is missing, damaged, stale or not as expected; the message says which."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One model or run on the cases of one part.

    Attributes:
        model: Name of the model, or id of the run.
        kind: "model", "run" or "file" (see `measured_elsewhere`).
        served: What was measured, down to its hashes: from `served_form`; of a run its weights,
            and what else its answers depend on.
        dataset: Name of the data set, or of the folder of photos.
        protocol: A key of `splits.PROTOCOLS`, or "none" for a folder of photos.
        part: "validation", "test", or "all" for a folder of photos.
        split_sha256: Hash of the split; "" for a folder of photos.
        sentence: What was tested on what, for the first line of every report.
        predictions: Probabilities beside the truth, n cases.
        cases: n rows in the order of the predictions, with `CASE_COLUMNS`; age in years is NaN
            where unknown, the texts are "" where unknown.
        leaked_share: Share of the cases, 0 to 1, whose lesion was seen in training; None where
            that is not known.
        leaked_lesions: Likewise of the lesions.
        drawn: Every metric on the bootstrap samples, by name, as `statistics.draw_samples`.
        groups: Figures by sex, age, site, confirmation and source.
        attention: How good the maps are; None where it was not measured.
        cost: Size and speed; None where it was not measured.
        training: What the training took; None where that is not known.
        notes: Sentences that a reader has to know.
    """

    model: str
    kind: str
    served: Mapping[str, object]
    dataset: str
    protocol: str
    part: str
    split_sha256: str
    sentence: str
    predictions: Predictions
    cases: pd.DataFrame
    leaked_share: float | None = None
    leaked_lesions: float | None = None
    drawn: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    estimates: tuple[Estimate, ...] = ()
    groups: tuple[Group, ...] = ()
    attention: AttentionQuality | None = None
    cost: Cost | None = None
    training: TrainingCost | None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.predictions.classes

    @property
    def images(self) -> int:
        return len(self.predictions)

    @cached_property
    def lesions(self) -> int:
        return len(np.unique(self.predictions.lesion_ids))

    def interval(self, metric: str, of_class: str | None = None) -> Interval:
        """A figure with its 95 % interval.

        Raises:
            EvaluationError: No such figure was computed.
        """
        try:
            return self._intervals[metric, of_class]
        except KeyError:
            of = f" of {of_class}" if of_class else ""
            raise EvaluationError(f"{self.model} has no figure {metric!r}{of}.") from None

    @cached_property
    def _intervals(self) -> dict[tuple[str, str | None], Interval]:
        return {(one.metric, one.of_class): one.interval for one in self.estimates}


def figures(predictions: Predictions, samples: int = statistics.SAMPLES) -> dict[str, object]:
    """The computed fields of an `Evaluation`: `drawn` and `estimates`, and `notes` on classes."""
    drawn = statistics.draw_samples(predictions, samples=samples)
    return {
        "drawn": drawn,
        "estimates": statistics.report_of_samples(predictions, drawn),
        "notes": empty_class_notes(predictions),
    }


def empty_class_notes(predictions: Predictions) -> tuple[str, ...]:
    """A sentence on the classes without a case, if there are any."""
    empty = [c for c, n in zip(predictions.classes, predictions.support, strict=True) if n == 0]
    if not empty:
        return ()
    return (
        f"There is no case of {', '.join(empty)}: figures of that class are not defined, and "
        "averages over the classes leave it out.",
    )


def served_form(card: Mapping) -> dict[str, object]:
    """What a card's answers depend on: network, calibration, mirrored views, members."""
    form = {"model.onnx": card.get("files", {}).get("model.onnx")}
    form |= {key: card.get(key) for key in ("temperature", "lean", "views", "members")}
    return {key: value for key, value in form.items() if value is not None}


# ---------------------------------------------------------------------------------------------
# What there is
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A model or a run that could be compared.

    Attributes:
        name: Of the model, or id of the run.
        kind: "model" or "run".
        folder: Where its evaluation lies or would lie.
        problem: Why there is no evaluation and what to do, in a sentence; "" where there is one.
    """

    name: str
    kind: str
    folder: Path
    problem: str = ""


def sources() -> tuple[Source, ...]:
    """All models, the default one first, then all runs, newest first; evaluated or not."""
    found = []
    for name in store.model_names():
        folder = store.weights_folder() / name
        found.append(Source(name, "model", folder, _missing(folder, "model")))
    configs = sorted(runs_folder().glob("*/config.json"), reverse=True)
    for folder in (path.parent for path in configs):
        found.append(Source(folder.name, "run", folder, _missing(folder, "run")))
    return tuple(found)


def open_source(name: str) -> Evaluation:
    """The evaluation of a model, by its name or role, or of a run.

    Raises:
        EvaluationError: There is none, or it is damaged or stale.
    """
    name = store.named(name)
    for source in sources():
        if source.name == name:
            return load(source.folder)
    raise EvaluationError(f"There is no model or run {str(name)[:60]!r}.")


def _missing(folder: Path, kind: str) -> str:
    """Why there is no evaluation and what to do; "" where there is one."""
    if (folder / EVALUATION).is_file():
        return ""
    if kind == "run" and not (folder / RUN_WEIGHTS).is_file():
        return f"{folder.name} has finished no epoch yet."
    return f"{folder.name} has not been measured yet. {_remedy(kind, folder.name)}"


def _remedy(kind: str, name: str) -> str:
    """How to get an evaluation, with a command at its end."""
    if kind == "run":
        return f"Make a model of it: python -m dermsa export {name} --name NAME"
    return f"Measure it: python -m dermsa evaluate --model {name} --save"


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------


def save(evaluation: Evaluation, folder: Path) -> None:
    """Writes the three files; `evaluation.json` last, since it names the hashes of the others."""
    contents = {
        PREDICTIONS: _predictions_csv(evaluation),
        SAMPLES: _samples_npz(evaluation.drawn),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    hashes = {name: store.sha256_of(content) for name, content in contents.items()}
    text = json.dumps(as_dict(evaluation) | {"files": hashes}, indent=1, allow_nan=False)
    write_atomically(folder / EVALUATION, text.encode() + b"\n")


def load(folder: Path) -> Evaluation:
    """Reads what `save` wrote, and checks that it belongs together and to the present model.

    Raises:
        EvaluationError: A file is missing, damaged or of another model; the message says which
            and what to do.
    """
    about = _read_json(folder)
    remedy = _remedy(about["kind"], folder.name)
    contents = {}
    for name, sha256 in about["files"].items():
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError:
            raise EvaluationError(f"{folder / name} is missing. {remedy}") from None
        if store.sha256_of(contents[name]) != sha256:
            raise EvaluationError(
                f"{folder / name} is not the file that {EVALUATION} was computed from. {remedy}"
            )
    _check_fresh(folder, about, remedy)
    table = pd.read_csv(io.BytesIO(contents[PREDICTIONS]), dtype=str, keep_default_na=False)
    predictions, cases = _checked(
        table.set_axis(table.index + 2),  # lines of the file
        folder / PREDICTIONS,
        tuple(about["classes"]),
        about["malignant"],
        rounded=False,
    )
    try:
        predictions = dataclasses.replace(predictions, lean=lean_of(about))
    except store.ModelError as error:
        raise EvaluationError(f"{folder / EVALUATION}: {error} {remedy}") from None
    with np.load(io.BytesIO(contents[SAMPLES]), allow_pickle=False) as arrays:
        drawn = {name: arrays[name] for name in arrays.files}
    try:
        return _from_dict(about, predictions, cases, drawn)
    except (KeyError, TypeError) as error:
        raise EvaluationError(
            f"{folder / EVALUATION} was written by another version ({error}). {remedy}"
        ) from None


def map_quality(folder: Path) -> AttentionQuality | None:
    """How good a model's maps are, without reading the rest of its evaluation.

    Returns:
        None where that was not measured.

    Raises:
        EvaluationError: See `load`.
    """
    about = _read_json(folder)
    _check_fresh(folder, about, _remedy(about["kind"], folder.name))
    try:
        return AttentionQuality.from_dict(about["attention"]) if about["attention"] else None
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"{folder / EVALUATION} is of another version ({error}).") from None


def read_predictions(
    path: Path, classes: Sequence[str] | None = None, malignant: Collection[str] = ()
) -> tuple[Predictions, pd.DataFrame]:
    """Reads predictions from anywhere.

    Args:
        path: A table (`tables.read`) with the columns image_id and truth, one column per class,
            and any of `CASE_COLUMNS`. An image_id may be the name of a picture file, a truth
            may be written in whatever case, and probabilities may be rounded: a sum that is off
            by no more than `ROUNDED` for each class is made 1.
        classes: In the order of the probabilities; None for all other columns of the file.
        malignant: Those of the classes that are malignant.

    Returns:
        The predictions, and a row a case with `CASE_COLUMNS`.

    Raises:
        EvaluationError: What is wrong with it, in a sentence.
    """
    try:
        table = tables.read(path, (*CASE_COLUMNS, *(classes or ())))
    except tables.TableError as error:
        raise EvaluationError(str(error)) from None
    if "image_id" in table.columns:
        table["image_id"] = [tables.image_id(text) for text in table["image_id"]]
    for name in table.columns:
        if name == "age" or name not in CASE_COLUMNS:
            table[name] = table[name].map(tables.number)
    if classes and "truth" in table.columns:
        known = {name.lower(): name for name in classes}
        table["truth"] = [known.get(text.lower(), text) for text in table["truth"]]
    return _checked(table, path, classes, malignant, rounded=True)


def measured_elsewhere(path: Path, like: Evaluation, name: str | None = None) -> Evaluation:
    """The evaluation of predictions that another program made for the cases of an evaluation.

    Args:
        path: See `read_predictions`; a row for every case of `like`, in any order.
        like: What it is to be compared with; says which lesion a case shows, and all else that is
            known of it. As many bootstrap samples are drawn as it has.
        name: What to call it; None for the name of the file without its suffix.

    Raises:
        EvaluationError: What is wrong with it, or which cases are missing or not the same.
    """
    theirs, _ = read_predictions(path, like.classes, like.predictions.malignant)
    ours = like.predictions
    for one, other, what in (
        (ours, theirs, f"lacks {{}} of the {like.images:,} cases of {like.model}"),
        (theirs, ours, f"has {{}} cases that {like.model} was not measured on"),
    ):
        if len(missing := np.setdiff1d(one.case_ids, other.case_ids)):
            raise EvaluationError(
                f"{path} {what.format(f'{len(missing):,}')}, for example {missing[0]}."
            )
    rows = pd.Index(theirs.case_ids).get_indexer(ours.case_ids)
    theirs = dataclasses.replace(theirs.subset(rows), lesion_ids=ours.lesion_ids)
    if len(differ := np.flatnonzero(theirs.truth != ours.truth)):
        raise EvaluationError(
            f"{path} has another truth than {like.model} for {len(differ):,} images, for example "
            f"{ours.case_ids[differ[0]]}."
        )
    name, samples = name or Path(path).stem, len(next(iter(like.drawn.values())))
    computed = figures(theirs, samples)
    if not np.allclose(ours.lean, ours.lean[0]):
        computed["notes"] += (
            f"{name} is read as naming the most probable diagnosis; {like.model} names by weighed "
            "probabilities, which finds more of the rare ones. AUCs, log loss and calibration "
            "do not depend on it; recalls, accuracy and F1 do.",
        )
    return dataclasses.replace(
        like,
        model=name,
        kind="file",
        served={Path(path).name: store.sha256_of(Path(path).read_bytes())},
        sentence=f"{name}: the predictions in {path} for the {like.images:,} cases of "
        f"{like.model}. Whether they were made with any of these lesions in training is not "
        "known.",
        predictions=theirs,
        leaked_share=None,
        leaked_lesions=None,
        groups=subgroups.measure(theirs, like.cases, samples),
        attention=None,
        cost=None,
        training=None,
        **computed,
    )


def _checked(
    table: pd.DataFrame,
    path: Path,
    classes: Sequence[str] | None,
    malignant: Collection[str],
    rounded: bool,
) -> tuple[Predictions, pd.DataFrame]:
    """See `read_predictions`; the index of the table is the line of the file."""
    if lacking := [name for name in REQUIRED_COLUMNS if name not in table.columns]:
        raise EvaluationError(f"{path} lacks the column(s) {', '.join(lacking)}.")
    if classes is None:
        classes = [name for name in table.columns if name not in CASE_COLUMNS]
    if lacking := [name for name in classes if name not in table.columns]:
        raise EvaluationError(f"{path} lacks the probabilities of {', '.join(lacking)}.")
    if len(classes) < 2:
        raise EvaluationError(f"{path} has probabilities of fewer than two classes.")
    if table.empty:
        raise EvaluationError(f"{path} has no case.")
    _check_ids(table, path)
    unknown = sorted(set(table["truth"]) - set(classes))
    if unknown:
        raise EvaluationError(
            f"{path} has truths that are no class: {', '.join(map(repr, unknown[:5]))}. "
            f"The classes are {', '.join(classes)}."
        )
    tolerance = ROUNDED * len(classes) + 1e-9 if rounded else SUM_TOLERANCE
    probabilities = _probabilities(table, classes, path, tolerance)
    if rounded:
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    cases = _cases(table, path)
    index = {name: k for k, name in enumerate(classes)}
    return (
        Predictions(
            table["truth"].map(index).to_numpy(dtype=np.int64),
            probabilities,
            tuple(classes),
            malignant,
            case_ids=cases["image_id"].to_numpy(dtype=str),
            lesion_ids=cases["lesion_id"].to_numpy(dtype=str),
        ),
        cases,
    )


def _check_ids(table: pd.DataFrame, path: Path) -> None:
    if (table["image_id"] == "").any():
        line = table.index[table["image_id"] == ""][0]
        raise EvaluationError(f"{path} has no image_id in line {line}.")
    if table["image_id"].duplicated().any():
        repeated = table.loc[table["image_id"].duplicated(), "image_id"].iloc[0]
        raise EvaluationError(f"{path} lists the image {repeated} twice.")


def _probabilities(
    table: pd.DataFrame, classes: Sequence[str], path: Path, tolerance: float
) -> np.ndarray:
    """float64 (n, c), checked case by case so that the message can name one."""
    ids = table["image_id"]
    cells = table[list(classes)]
    if (empty := (cells == "").any(axis=1)).any():
        raise EvaluationError(
            f"{path} has a truth without predictions for {int(empty.sum())} of {len(table)} "
            f"images, for example {ids[empty].iloc[0]}."
        )
    values = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    strange = ~((values >= 0) & (values <= 1 + SUM_TOLERANCE)).all(axis=1)
    if strange.any():
        raise EvaluationError(
            f"{path} has probabilities that are not numbers from 0 to 1 for {int(strange.sum())} "
            f"of {len(table)} images, for example {ids[strange].iloc[0]}."
        )
    sums = values.sum(axis=1)
    wrong = np.abs(sums - 1) > tolerance
    if wrong.any():
        raise EvaluationError(
            f"{path} has probabilities that do not sum to 1 for {int(wrong.sum())} of "
            f"{len(table)} images, for example {ids[wrong].iloc[0]}: {sums[wrong][0]:.4g}."
        )
    return values


def _cases(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    cases = table.reindex(columns=list(CASE_COLUMNS), fill_value="").reset_index(drop=True)
    cases["lesion_id"] = cases["lesion_id"].where(cases["lesion_id"] != "", cases["image_id"])
    ages = pd.to_numeric(cases["age"], errors="coerce")
    unknown = cases["age"].str.lower().isin(["", "unknown", "nan", "na"])
    strange = ~np.isfinite(ages) & ~unknown
    if strange.any():
        raise EvaluationError(
            f"{path} has an age that is no number for {cases.loc[strange, 'image_id'].iloc[0]}."
        )
    cases["age"] = ages.astype(np.float64)
    return cases


def _predictions_csv(evaluation: Evaluation) -> bytes:
    table = evaluation.cases[list(CASE_COLUMNS)].reset_index(drop=True)
    if table["source"].eq("").all():
        table = table.drop(columns="source")
    probabilities = pd.DataFrame(
        evaluation.predictions.probabilities, columns=list(evaluation.classes)
    )
    # Seven digits: the figures stay the same to the sixth, and the file is half as long.
    probabilities = probabilities.map(lambda p: f"{p:.7g}")
    text = pd.concat([table, probabilities], axis=1).to_csv(index=False, lineterminator="\n")
    return text.encode()


def _samples_npz(drawn: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    # Not packed: the Compare page opens six of these at once.
    np.savez(file, **{name: of.astype(np.float32) for name, of in drawn.items()})
    return file.getvalue()


def as_dict(evaluation: Evaluation) -> dict:
    """Everything but the cases, JSON-ready, as in `evaluation.json`.

    `overall` has an interval `{value, low, high, n, n_lesions}` by metric, `per_class` by metric
    and class; None stands for what is not defined.
    """
    overall, per_class = {}, {}
    for one in evaluation.estimates:
        if one.of_class is None:
            overall[one.metric] = one.interval.as_dict()
        else:
            per_class.setdefault(one.metric, {})[one.of_class] = one.interval.as_dict()
    names = (
        "model", "kind", "served", "dataset", "protocol", "part", "split_sha256", "sentence",
        "leaked_share", "leaked_lesions", "images", "lesions", "classes", "notes",
    )  # fmt: skip
    return {
        "format": FORMAT,
        **{name: getattr(evaluation, name) for name in names},
        "malignant": sorted(evaluation.predictions.malignant),
        "lean": dict(zip(evaluation.classes, evaluation.predictions.lean.tolist(), strict=True)),
        "overall": overall,
        "per_class": per_class,
        "groups": [group.as_dict() for group in evaluation.groups],
        "attention": evaluation.attention and evaluation.attention.as_dict(),
        "cost": evaluation.cost and dataclasses.asdict(evaluation.cost),
        "training": evaluation.training and dataclasses.asdict(evaluation.training),
    }


def _from_dict(
    about: dict, predictions: Predictions, cases: pd.DataFrame, drawn: dict[str, np.ndarray]
) -> Evaluation:
    estimates = [
        Estimate(metric, None, Interval.from_dict(values))
        for metric, values in about["overall"].items()
    ]
    for metric, by_class in about["per_class"].items():
        estimates += [Estimate(metric, of, Interval.from_dict(v)) for of, v in by_class.items()]
    names = (
        "model", "kind", "served", "dataset", "protocol", "part", "split_sha256", "sentence",
        "leaked_share",
    )  # fmt: skip
    return Evaluation(
        **{name: about[name] for name in names},
        leaked_lesions=about.get("leaked_lesions"),  # not in the first files of this format
        predictions=predictions,
        cases=cases,
        drawn=drawn,
        estimates=tuple(estimates),
        groups=tuple(Group.from_dict(group) for group in about["groups"]),
        attention=AttentionQuality.from_dict(about["attention"]) if about["attention"] else None,
        cost=Cost(**about["cost"]) if about["cost"] else None,
        training=TrainingCost(**about["training"]) if about["training"] else None,
        notes=tuple(about["notes"]),
    )


def _read_json(folder: Path) -> dict:
    path = folder / EVALUATION
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EvaluationError(f"{folder.name} has no evaluation ({path}).") from None
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} is damaged: {error}") from None
    lacking = {"format", "kind", "files", "served", "classes", "malignant", "images"} - set(about)
    if lacking or about["format"] != FORMAT or not {PREDICTIONS, SAMPLES} <= set(about["files"]):
        kind = "run" if (folder / "config.json").is_file() else "model"
        raise EvaluationError(
            f"{path} was written by another version. {_remedy(kind, folder.name)}"
        )
    return about


def _check_fresh(folder: Path, about: dict, remedy: str) -> None:
    """Whether the model or run is still the one that was measured."""
    if about["kind"] == "model":
        try:
            card = json.loads((folder / store.CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise EvaluationError(f"{folder / store.CARD} is missing or damaged.") from None
        present = served_form(card)
    else:
        weights = folder / RUN_WEIGHTS
        present = {RUN_WEIGHTS: store.sha256_of(weights.read_bytes())} if weights.exists() else {}
    served = about["served"]
    if about["kind"] == "run":  # which is its weights; the form was chosen when it was measured
        served = {RUN_WEIGHTS: served.get(RUN_WEIGHTS)}
    if present != served:
        changed = sorted(key for key in {*present, *served} if present.get(key) != served.get(key))
        raise EvaluationError(
            f"The evaluation of {folder.name} is stale: {', '.join(changed)} has changed since. "
            f"{remedy}"
        )
