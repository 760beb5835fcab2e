"""From a model and its images to a whole `Evaluation`.

evaluation = assess_model("MobileNetV2")                       # on the test part of its split
record.save(evaluation, weights_folder() / "MobileNetV2")
assess_elsewhere("MobileNetV2", "isic2017")                   # on photos of another source
assess_folder("MobileNetV2", Path("photos"), Path("truth.csv"))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from dermsa import images, tables
from dermsa.datasets import masks, more_photos, registry
from dermsa.datasets.dataset import Dataset, DatasetError, load_photo, require_root
from dermsa.datasets.splits import Split
from dermsa.evaluation import attention_quality, record, subgroups
from dermsa.evaluation.attention_quality import AttentionQuality
from dermsa.evaluation.cost import Cost, of_run, of_training
from dermsa.evaluation.evaluate import (
    leaks,
    predict_rows,
    predictions_of,
    sentence,
    subject,
)
from dermsa.evaluation.metrics import Predictions
from dermsa.evaluation.record import Evaluation
from dermsa.evaluation.statistics import SAMPLES
from dermsa.inference import batch
from dermsa.inference.ensemble import AnyPredictor, EnsemblePredictor, open_predictor
from dermsa.inference.predictor import Predictor
from dermsa.inference.store import sha256_of
from dermsa.patient import Patient, PatientError, parse
from dermsa.tables import TableError
from dermsa.taxonomy import NAMES, UNKNOWN, in_sentence

OPTIONAL_COLUMNS = ("lesion_id", "dx_type", "source", *batch.PATIENT_COLUMNS)
NO_PROTOCOL = "none"
ALL = "all"


class TruthError(ValueError):
    """A table of true diagnoses that cannot be used; the message says why."""


def assess_model(
    name: str | None,
    part: str = "test",
    data: Path | None = None,
    *,
    protocol: str | None = None,
    seed: int = 0,
    fold: int = 0,
    attention: bool = True,
    cost: Cost | None = None,
    samples: int = SAMPLES,
    progress: bool = True,
) -> Evaluation:
    """Everything that can be measured of a model on a part of its own split, or of another.

    Args:
        name: A model in `weights/`; None for the default one.
        part: "validation" or "test".
        data: The folder of the data sets; None for `data_root()`.
        protocol: A key of `splits.PROTOCOLS`, whose cases to take instead; its leaks are those
            from the model's own training.
        seed, fold: Of the protocol.
        attention: Whether its maps are measured, too, where the photos have lesion masks; of an
            ensemble, those of the member that it shows. It takes about as long as everything
            else.
        cost: From `cost.measure`, which takes all models that are to be compared at once.
        samples: Bootstrap samples.
        progress: Shows progress bars with the time left.

    Raises:
        ModelError: No such model.
        DatasetError: No data, or not those the model was split on.
    """
    of = subject(name, part, data, protocol, seed, fold)
    predictions = predict_rows(of.predictor, of.dataset, of.rows, progress)
    cases = _cases_of(of.dataset.table.iloc[of.rows])
    evaluation = _computed(
        of.predictor.model.name,
        "model",
        record.served_form(of.predictor.model.card),
        predictions,
        cases,
        samples,
        dataset=of.dataset.name,
        protocol=of.split.protocol,
        part=part,
        split_sha256=of.split.sha256,
        sentence=of.sentence,
        leaked_share=of.leaks.share_of_images,
        leaked_lesions=of.leaks.share_of_lesions,
        cost=cost,
        training=of_training(of.predictor.model.card),
    )
    if attention:
        network = of.predictor
        if isinstance(network, EnsemblePredictor):
            network = network.explaining
        quality = measure_maps(
            network, of.dataset, of.rows, data, samples=samples, progress=progress
        )
        evaluation = dataclasses.replace(evaluation, attention=quality)
    return evaluation


def measure_maps(
    network: Predictor, dataset: Dataset, rows: np.ndarray, data: Path | None = None, **options
) -> AttentionQuality | None:
    """The quality of a network's maps on those photos that have a lesion mask.

    Args:
        rows: Of the data set's table.
        data: The folder of the data sets; None for `data_root()`.
        options: Of `attention_quality.measure`.

    Returns:
        None where no photo has a mask, or the network has no map.
    """
    mask_paths = registry.record(dataset.name).listing(require_root(data)).masks
    table = dataset.table
    rows = rows[table["image_id"].iloc[rows].isin(mask_paths).to_numpy()]
    paths, ids = table["path"].to_numpy()[rows], table["image_id"].to_numpy()[rows]
    size = network.engine.input_size

    def look(case: int) -> tuple[np.ndarray, np.ndarray]:
        photo = load_photo(paths[case])
        mask = masks.load(mask_paths[ids[case]], photo.shape[:2])
        return network.seen(photo), attention_quality.mask_as_seen(mask, size)

    return attention_quality.measure(
        network,
        look,
        dataset.labels()[rows],
        dataset.patient_vectors(network.age_scale)[rows],
        table["lesion_id"].to_numpy()[rows],
        **options,
    )


def assess_run(
    folder: Path,
    dataset: Dataset,
    split: Split,
    probabilities: np.ndarray,
    rows: np.ndarray,
    part: str = "test",
    *,
    lean: np.ndarray | None = None,
    form: Mapping[str, object] | None = None,
    samples: int = SAMPLES,
) -> Evaluation:
    """The evaluation of a run, from what its best weights say.

    Args:
        folder: Of the run.
        dataset, split: What it was trained on.
        probabilities: float (n, classes).
        rows: int (n,), of the part: what they are of. Fewer than all for a run with a `limit`.
        lean: How a class is named, see `Predictions`.
        form: What besides the weights they depend on, by name, such as the temperature.
        samples: Bootstrap samples.
    """
    weights = (folder / record.RUN_WEIGHTS).read_bytes()
    seen = leaks(dataset, rows, dataset, split)
    return _computed(
        folder.name,
        "run",
        {record.RUN_WEIGHTS: sha256_of(weights), **(form or {})},
        predictions_of(dataset, rows, probabilities, lean),
        _cases_of(dataset.table.iloc[rows]),
        samples,
        dataset=dataset.name,
        protocol=split.protocol,
        part=part,
        split_sha256=split.sha256,
        sentence=sentence(folder.name, dataset, split, part, rows, seen),
        leaked_share=seen.share_of_images,
        leaked_lesions=seen.share_of_lesions,
        training=of_run(folder),
    )


def assess_elsewhere(
    name: str | None,
    other: str,
    data: Path | None = None,
    *,
    samples: int = SAMPLES,
    progress: bool = True,
) -> Evaluation:
    """Scores the photos of a data set that the model has never had to do with.

    Photos that show a lesion of the model's own data set are left out, whichever part it is in.

    Args:
        name: A model in `weights/`; None for the default one.
        other: A key of `more_photos.ELSEWHERE`; its diagnoses count as the model's that they are
            a part of, and the model may give any of its own.
        data: The folder of the data sets; None for `data_root()`.
        samples: Bootstrap samples.
        progress: Shows progress bars with the time left.

    Raises:
        ModelError: No such model.
        DatasetError: No data, or the model was trained on these or on other diagnoses.
    """
    predictor = open_predictor(name)
    model = predictor.model
    own = model.card["data"]["name"]
    if own not in more_photos.SEVEN:
        raise DatasetError(f"{model.name} was trained on {own}, whose diagnoses are others.")
    trained = model.card["data"].get("more", {})
    if not _unseen(other, trained):
        rest = [name for name in more_photos.ELSEWHERE if _unseen(name, trained)]
        hint = f" What is left of them: {', '.join(rest)}." if rest else ""
        raise DatasetError(f"{model.name} was trained on photos of {other}, too.{hint}")
    with tqdm(total=1.0, desc="Looking for lesions of both", disable=not progress) as bar:
        known = registry.read(own, data)
        photos = more_photos.read(other, known, data, lambda done: bar.update(done - bar.n))
    half = f"{more_photos.source(other)}-half"
    known_of = own if more_photos.overlap(other, half) else f"{own} or of {half}"
    left_out = len(more_photos.listed(other, known, data).table) - len(photos.table)
    rows = np.arange(len(photos.table))
    counts = more_photos.by_class(photos)
    renamed = "".join(
        f"{NAMES[code]} counts as {in_sentence(ours)}. "
        for code, ours in more_photos.DIAGNOSES[more_photos.source(other)].items()
        if code != ours
    ) + "".join(
        f"{about['images']} other photos of that source trained it. "
        for name, about in trained.items()
        if more_photos.source(name) == more_photos.source(other)
    )
    found = ", ".join(f"{count} {code}" for code, count in counts.items() if count)
    return _computed(
        model.name,
        "model",
        record.served_form(model.card),
        predict_rows(predictor, photos, rows, progress),
        _cases_of(photos.table),
        samples,
        dataset=other,
        protocol=NO_PROTOCOL,
        part=ALL,
        split_sha256="",
        sentence=f"{model.name} on {len(rows)} images of {other} ({found}), of which it has seen "
        f"none; {left_out} more that show a lesion of {known_of} are left out. {renamed}"
        "Intervals: 95 %, bootstrap over photos: which show the same lesion is not known.",
        leaked_share=0.0,
        leaked_lesions=0.0,
        training=of_training(predictor.model.card),
    )


def _unseen(name: str, trained: Iterable[str]) -> bool:
    return not any(more_photos.overlap(name, each) for each in trained)


def assess_folder(
    name: str | None,
    folder: Path,
    truth: Path,
    patients: Path | None = None,
    *,
    samples: int = SAMPLES,
    progress: bool = True,
) -> Evaluation:
    """Scores any labelled folder of photos.

    Args:
        name: A model in `weights/`; None for the default one.
        folder: Searched for pictures, with what is below it.
        truth: See `read_truth`. Its columns age, sex and localization are what is known of the
            patients, its lesion_id tells photos of one lesion.
        patients: Another table with image_id, age, sex and localization, instead.
        samples: Bootstrap samples.
        progress: Shows a progress bar.

    Raises:
        ModelError, TruthError, TableError, ImageRefused: What is wrong, in a sentence.
    """
    predictor = open_predictor(name)
    table = read_truth(truth, predictor.classes)
    files = _files(folder, table["image_id"], truth)
    table["patient"], warnings = _patients(table, patients)
    predictions, not_judged = _predict_files(predictor, files, table, progress)
    if not_judged:
        warnings.append(
            f"{len(not_judged)} photos cannot be judged, for what is wrong with them or because "
            f"they are unlike those of training, for example {not_judged[0]}. The figures count "
            "them; the app gives no verdict where the model would not refer them."
        )
    cases = _cases_of(
        table.assign(
            age=[np.nan if one.age is None else one.age for one in table["patient"]],
            sex=[one.sex for one in table["patient"]],
            localization=[one.localization for one in table["patient"]],
        )
    )
    known = sum(bool(one.known()) for one in table["patient"])
    evaluation = _computed(
        predictor.model.name,
        "model",
        record.served_form(predictor.model.card),
        predictions,
        cases,
        samples,
        dataset=folder.resolve().name,
        protocol=NO_PROTOCOL,
        part=ALL,
        split_sha256="",
        sentence=f"{predictor.model.name} on {_images_of_lesions(table)} in {folder}, labelled "
        f"by {truth.name}, with something known of the patient for {known} of {len(table)}. "
        "Whether the model was trained on any of them is not known. Intervals: 95 %, bootstrap "
        f"over {_unit(table)}.",
    )
    return dataclasses.replace(evaluation, notes=(*evaluation.notes, *warnings))


def _images_of_lesions(table: pd.DataFrame) -> str:
    if _unit(table) == "lesions":
        return f"{len(table)} images of {table['lesion_id'].nunique()} lesions"
    return f"{len(table)} images"


def _unit(table: pd.DataFrame) -> str:
    """What varies by itself: photos, where nothing tells which of them show one lesion."""
    told = (table["lesion_id"] != table["image_id"]).any()
    return "lesions" if told else "photos: no lesion_id tells which of them show the same lesion"


def read_truth(path: Path, classes: tuple[str, ...]) -> pd.DataFrame:
    """True diagnoses, from either of two forms of CSV table.

    image_id and dx: a diagnosis out of `classes`.
    image (or image_id) and a column per diagnosis with a single 1 a row: ISIC's form.

    Returns:
        image_id, dx, lesion_id (the image where not given), and `OPTIONAL_COLUMNS`, "" where not
        given; a row an image.

    Raises:
        TruthError: What is wrong with it, in a sentence.
    """
    names = ("image_id", "image", "dx", *OPTIONAL_COLUMNS)
    try:
        table = tables.read(path, names)
    except TableError as error:
        raise TruthError(str(error)) from None
    if "image_id" not in table.columns:
        table = table.rename(columns={"image": "image_id"})
    if "image_id" not in table.columns:
        raise TruthError(f"The table {path} has no column image_id (or image).")
    if table.empty:
        raise TruthError(f"The table {path} has no row.")
    if len(nameless := table.index[table["image_id"] == ""]):
        raise TruthError(f"The table {path} has no image_id in line {nameless[0]}.")
    table = table.reset_index(drop=True)
    table["image_id"] = [tables.image_id(text) for text in table["image_id"]]
    if table["image_id"].duplicated().any():
        repeated = table.loc[table["image_id"].duplicated(), "image_id"].iloc[0]
        raise TruthError(f"The table {path} lists the image {repeated} twice.")
    table["dx"] = _words(table, path) if "dx" in table.columns else _one_hot(table, path)
    unknown = sorted(set(table["dx"]) - set(classes))
    if unknown:
        raise TruthError(
            f"The table {path} has diagnoses that the model does not know: "
            f"{', '.join(map(repr, unknown[:5]))}. It knows {', '.join(classes)}."
        )
    table = table.reindex(columns=["image_id", "dx", *OPTIONAL_COLUMNS], fill_value="")
    table["lesion_id"] = table["lesion_id"].where(table["lesion_id"] != "", table["image_id"])
    return table


# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------


def _computed(
    name: str,
    kind: str,
    served: dict,
    predictions: Predictions,
    cases: pd.DataFrame,
    samples: int,
    **about,
) -> Evaluation:
    return Evaluation(
        model=name,
        kind=kind,
        served=served,
        predictions=predictions,
        cases=cases,
        groups=subgroups.measure(predictions, cases, samples),
        **record.figures(predictions, samples),
        **about,
    )


def _cases_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a data set's table as `record.CASE_COLUMNS`."""
    table = table.rename(columns={"dx": "truth"}).reset_index(drop=True)
    cases = table.reindex(columns=list(record.CASE_COLUMNS))
    texts = [name for name in record.CASE_COLUMNS if name != "age"]
    cases[texts] = cases[texts].astype(object).fillna("").replace(UNKNOWN, "")
    return cases


def _files(folder: Path, image_ids: pd.Series, truth: Path) -> list[Path]:
    """The picture of each image, in their order."""
    if not folder.is_dir():
        raise TruthError(f"There is no folder {folder}.")
    files = batch.find_files([folder])
    if twice := batch.same_names(files):
        raise TruthError(twice)
    found = {tables.image_id(path): path for path in files}
    missing = [image_id for image_id in image_ids if image_id not in found]
    if missing:
        raise TruthError(
            f"{len(missing)} of {len(image_ids)} images of {truth} are not in {folder}, for "
            f"example {missing[0]}."
        )
    return [found[image_id] for image_id in image_ids]


def _predict_files(
    predictor: AnyPredictor, files: list[Path], table: pd.DataFrame, progress: bool
) -> tuple[Predictions, list[str]]:
    """The answers, and the image ids of those that get no verdict below the threshold."""
    patients = dict(zip(table["image_id"], table["patient"], strict=True))
    rows = []
    for row in tqdm(
        batch.predict_files(predictor, files, patients),
        total=len(files),
        desc="Photos",
        unit="image",
        disable=not progress,
    ):
        if row.error:
            raise images.ImageRefused(f"{row.file}: {row.error}")
        rows.append(row)
    index = {code: k for k, code in enumerate(predictor.classes)}
    malignant = predictor.malignant
    predictions = Predictions(
        table["dx"].map(index).to_numpy(dtype=np.int64),
        np.stack([row.probabilities for row in rows]),
        predictor.classes,
        [
            code
            for code, is_malignant in zip(predictor.classes, malignant, strict=True)
            if is_malignant
        ],
        case_ids=table["image_id"].to_numpy(dtype=str),
        lesion_ids=table["lesion_id"].to_numpy(dtype=str),
        lean=predictor.lean,
    )
    return predictions, [row.image_id for row in rows if not row.reliable]


def _patients(table: pd.DataFrame, path: Path | None) -> tuple[list[Patient], list[str]]:
    """The patient of each image, from a table of patients or else from that of the truth."""
    if path is not None:
        known, warnings = batch.read_patients(path)
        found = [known.get(image_id, Patient()) for image_id in table["image_id"]]
        for image_id, patient in zip(table["image_id"], found, strict=True):
            if isinstance(patient, str):
                raise TruthError(f"{image_id}: {patient}")
        return found, warnings + batch.unmatched(table["image_id"], known, "true diagnosis")
    found, warnings = [], []
    for image_id, *values in table[["image_id", *batch.PATIENT_COLUMNS]].itertuples(index=False):
        try:
            patient, notes = parse(*values)
        except PatientError as error:
            raise TruthError(f"{image_id}: {error}") from None
        found.append(patient)
        warnings += [f"{image_id}: {note}" for note in notes]
    return found, warnings


def _words(table: pd.DataFrame, path: Path) -> pd.Series:
    words = table["dx"].str.strip().str.lower()
    if (words == "").any():
        raise TruthError(
            f"The table {path} has no diagnosis for {int((words == '').sum())} images, for "
            f"example {table.loc[words == '', 'image_id'].iloc[0]}."
        )
    return words


def _one_hot(table: pd.DataFrame, path: Path) -> pd.Series:
    known = ("image_id", "image", *OPTIONAL_COLUMNS)
    columns = [name for name in table.columns if name not in known]
    if not columns:
        raise TruthError(f"The table {path} has neither a column dx nor one per diagnosis.")
    values = pd.DataFrame({name: table[name].map(tables.number) for name in columns})
    values = values.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    wrong = ~(np.isin(values, (0, 1)).all(axis=1) & ((values == 1).sum(axis=1) == 1))
    if wrong.any():
        example = table.loc[wrong, "image_id"].iloc[0]
        raise TruthError(
            f"The table {path} has no column dx, and {int(wrong.sum())} of its rows are not one "
            f"diagnosis (a single 1 among 0), for example {example}."
        )
    names = np.array([name.lower() for name in columns])
    return pd.Series(names[values.argmax(axis=1)], index=table.index)
