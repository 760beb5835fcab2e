"""The commands of the command line that ask models and make them."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import sys
from pathlib import Path

from dermsa.cli_command import Command, data_argument, model_argument, say, size
from dermsa.files import replacing

# --- predict ---------------------------------------------------------------------------------


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture files or folders")
    parser.add_argument(
        "--patients", metavar="FILE.csv", help="columns image_id, age, sex, localization"
    )
    model_argument(parser)
    parser.add_argument("--out", metavar="FILE.csv", required=True, help="the table to write")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")


def _predict(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from dermsa import tables
    from dermsa.inference import batch
    from dermsa.inference.ensemble import open_predictor

    predictor = open_predictor(options.model)
    patients, warnings = batch.read_patients(options.patients) if options.patients else ({}, [])
    files = batch.find_files(options.paths)
    if not files:
        raise ValueError(f"There is no picture in {', '.join(options.paths)}.")
    if options.patients:
        if twice := batch.same_names(files):
            raise ValueError(twice)
        if os.path.exists(options.out) and os.path.samefile(options.out, options.patients):
            raise ValueError("--out would replace the table of --patients; name another file.")
        warnings += batch.unmatched(map(tables.image_id, files), patients)
    for warning in warnings:
        print(f"dermsa: {warning}", file=sys.stderr)
    failed = unreliable = 0
    with (
        _whole_or_not_at_all(Path(options.out)) as place,
        # File names need not be UTF-8.
        open(place, "w", newline="", encoding="utf-8", errors="backslashreplace") as out,
    ):
        writer = csv.writer(out)
        writer.writerow(batch.columns(predictor))
        rows = batch.predict_files(predictor, files, patients)
        for row in tqdm(rows, "Predicting", len(files), unit="image"):
            failed += bool(row.error)
            unreliable += not row.reliable
            writer.writerow(batch.cells(predictor, row))
    summary = {
        "model": predictor.model.name,
        "images": len(files),
        "failed": failed,
        "unreliable": unreliable,
        "warnings": warnings,
        "out": options.out,
    }
    doubts = f" {unreliable} of these photos should not be judged by it." if unreliable else ""
    say(
        f"{len(files) - failed} of {len(files)} pictures answered by {predictor.model.name}; "
        f"written to {options.out}.{doubts}",
        summary,
        options.json,
    )


def _whole_or_not_at_all(path: Path) -> contextlib.AbstractContextManager[Path]:
    """Where to write a table that then takes its place: half of one must not look like a whole.

    What is no file, such as /dev/stdout, is written as it is.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return contextlib.nullcontext(path)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"There is no folder {path.parent}.")
    return replacing(path)


# --- models ----------------------------------------------------------------------------------


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbone",
        action="append",
        metavar="NAME",
        help="only this one; may be repeated",
    )
    parser.add_argument(
        "--tables", action="store_true", help="the trained models alone, as tables of Markdown"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _models(options: argparse.Namespace) -> None:
    from dermsa.evaluation import elsewhere, model_tables, record
    from dermsa.evaluation.statistics import Interval
    from dermsa.inference import store
    from dermsa.models import catalogue

    if options.tables:
        all_cards = [store.read_card(name) for name in store.model_names()]
        print(model_tables.markdown(all_cards))
        print("\nWhere the models that are offered came from:\n")
        print(model_tables.lineage(all_cards, store.offered_models()))
        measured = [
            source.name
            for source in record.sources()
            if source.kind == "model" and not source.problem
        ]
        cards = [store.read_card(name) for name in measured]
        said = [record.open_source(name).predictions for name in measured]
        print("\nWith all diagnoses weighed alike, of the models that were evaluated:\n")
        print(model_tables.alike(cards, said))
        print("\nWhere the most probable diagnosis is named:\n")
        print(model_tables.most_probable(cards, said))
        print("\nOn photos of another source:\n")
        print(model_tables.on_another_source(elsewhere.all_measured()))
        return
    buildable = catalogue.listing(options.backbone) if options.backbone else catalogue.listing()
    if options.json:
        print(json.dumps(buildable, indent=1))
        return
    print("Classifiers that can be built (backbone, cut, head):")
    for row in buildable:
        print(
            f"  {row['name']:<60} {row['input_size'][0]} px, features "
            f"{'x'.join(map(str, row['feature_shape']))}, {row['parameters']:,} parameters"
        )
    print("Trained models in weights/ (the first answers where none is named):")
    said = {name: f"{name} (earlier)" for name in store.earlier_models()}
    said |= {name: f"{name} ({role})" for role, name in store.models_by_role().items()}
    for name in store.model_names():
        recall = Interval.from_dict(store.read_card(name)["metrics"]["macro_recall"])
        print(f"  {said.get(name, name):<44} macro recall {recall} test images")


# --- export ----------------------------------------------------------------------------------


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN",
        help="id or folder of a run; or a network of weights/, to keep its weights otherwise",
    )
    parser.add_argument("--name", required=True, help="of the model: its folder in weights/")
    _role_argument(parser)
    _model_file_arguments(
        parser,
        "views of a photo to average over: 1, with its mirror images 4, with those after a "
        "quarter turn 8 (of a run 4, of a network its own)",
    )
    data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the card as JSON")


def _model_file_arguments(parser: argparse.ArgumentParser, views: str) -> None:
    """What a network's folder in `weights/` is written with."""
    parser.add_argument("--views", type=int, help=views)
    parser.add_argument(
        "--note", action="append", default=[], help="a sentence for the card; may be repeated"
    )
    parser.add_argument(
        "--weights-as",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="how the file keeps the weights; the arithmetic stays in 32 bits, and what is "
        "measured is the file (float32)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace a model of that name, if there is one"
    )


def _export(options: argparse.Namespace) -> None:
    import logging

    from dermsa.inference import store
    from dermsa.training import export, runs

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("dermsa").setLevel(logging.INFO)
    chosen = {
        "data": options.data,
        "role": options.role,
        "notes": options.note,
        "weight_format": options.weights_as,
        "replace": options.replace,
    }
    if options.views is not None:
        chosen["views"] = options.views
    if store.named(options.run) in store.model_names():
        folder = export.reexport(options.run, options.name, **chosen)
    else:
        folder = export.export(runs.find_run(options.run), options.name, **chosen)
    _say_written(folder, options.json)


def _role_argument(parser: argparse.ArgumentParser) -> None:
    from dermsa.inference.store import ROLES

    roles = parser.add_mutually_exclusive_group()
    for role in ROLES:
        roles.add_argument(
            f"--default-{role}",
            dest="role",
            action="store_const",
            const=role,
            help=f"let this model answer where the {role} one is wanted"
            + (", and where none is named" if role == ROLES[0] else ""),
        )


def _say_written(folder: Path, as_json: bool) -> None:
    from dermsa.evaluation.statistics import Interval
    from dermsa.inference import store

    card = store.read_card(folder.name)
    recall, auc = (
        Interval.from_dict(card["metrics"][name]) for name in ("macro_recall", "macro_roc_auc")
    )
    say(
        f"Wrote {folder}: macro recall {recall.words}, macro ROC AUC {auc.value:.3f} on "
        f"{recall.n:,} test images.",
        card,
        as_json,
    )


# --- ensemble --------------------------------------------------------------------------------


def _ensemble_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--members",
        nargs="+",
        required=True,
        metavar="NAME",
        help="models in weights/ of one data set and one split, or of folds of lesion-rotated",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--name", help="of the ensemble: its folder in weights/")
    what.add_argument(
        "--compare",
        action="store_true",
        help="make none: print how the mean of every choice of these members does on validation",
    )
    parser.add_argument(
        "--weights",
        choices=("mean", "fitted"),
        default="mean",
        help="mean: all members count the same; fitted: as lowers the log loss on validation most "
        "(mean)",
    )
    _role_argument(parser)
    parser.add_argument(
        "--note", action="append", default=[], help="a sentence for the card; may be repeated"
    )
    data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the card as JSON")


def _ensemble(options: argparse.Namespace) -> None:
    import logging

    from dermsa.training.ensemble import all_means, make_ensemble

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("dermsa").setLevel(logging.INFO)
    if options.compare:
        if options.role or options.note or options.weights != "mean":
            raise ValueError("--compare makes no model: it goes without a role, notes and weights.")
        _print_means(all_means(options.members, options.data), options.json)
        return
    folder = make_ensemble(
        options.members,
        options.name,
        options.weights,
        options.data,
        options.role,
        options.note,
    )
    _say_written(folder, options.json)


def _print_means(means: list, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(json.dumps([asdict(mean) for mean in means], indent=1))
        return
    print("On validation, calibrated there:\n")
    print(f"{'Log loss':<10}{'Macro AUC':<11}{'Macro recall':<14}Of")
    for mean in means:
        figures = f"{mean.log_loss:<10.4f}{mean.macro_auc:<11.4f}{mean.macro_recall:<14.4f}"
        print(figures + ", ".join(mean.members))


# --- soup ------------------------------------------------------------------------------------


def _soup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--of",
        nargs="+",
        required=True,
        metavar="NAME",
        help="networks in weights/ of one classifier and one split, which may differ in the size "
        "of their photos",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--name", help="of the soup: its folder in weights/")
    what.add_argument(
        "--compare",
        action="store_true",
        help="make none: print how the average of every choice of these networks does on "
        "validation; each is a network to be converted and asked, 7 of three",
    )
    parser.add_argument(
        "--input-size",
        type=size,
        metavar="N[xN]",
        help="height and width of its photos in pixels (those of the first network)",
    )
    _model_file_arguments(parser, "views of a photo to average over: 1, 4 or 8 (4)")
    _role_argument(parser)
    data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the card as JSON")


def _soup(options: argparse.Namespace) -> None:
    import logging

    from dermsa.training.soup import all_soups, make_soup

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("dermsa").setLevel(logging.INFO)
    chosen = {"input_size": options.input_size, "data": options.data}
    if options.views is not None:
        chosen["views"] = options.views
    if options.compare:
        if options.role or options.note or options.replace or options.weights_as != "float32":
            raise ValueError(
                "--compare makes no model: it goes without role, notes, --weights-as and --replace."
            )
        _print_means(all_soups(options.of, **chosen), options.json)
        return
    folder = make_soup(
        options.of,
        options.name,
        role=options.role,
        notes=options.note,
        weight_format=options.weights_as,
        replace=options.replace,
        **chosen,
    )
    _say_written(folder, options.json)


COMMANDS: dict[str, Command] = {
    "predict": Command(
        "Probabilities of the diagnoses for many pictures, as a CSV table.",
        "  python -m dermsa predict photos/ --out answers.csv\n"
        "  python -m dermsa predict a.jpg b.png --patients patients.csv --out answers.csv",
        _predict_arguments,
        _predict,
    ),
    "models": Command(
        "The classifiers that can be built and the trained models that are there.",
        "  python -m dermsa models\n  python -m dermsa models --json",
        _models_arguments,
        _models,
    ),
    "export": Command(
        "Make a model in weights/ of a run: ONNX file, calibration, test figures, card.",
        "  python -m dermsa export 20250101-120000-mobilenetv3small --name mine --default-fast\n"
        "  python -m dermsa export mine --name mine-small --weights-as int8",
        _export_arguments,
        _export,
    ),
    "ensemble": Command(
        "Make one model in weights/ of several: the geometric mean of their probabilities.",
        "  python -m dermsa ensemble --members A B --name both\n"
        "  python -m dermsa ensemble --members A B C --weights fitted --name abc --default-fast\n"
        "  python -m dermsa ensemble --members A B C --compare",
        _ensemble_arguments,
        _ensemble,
    ),
    "soup": Command(
        "Make one network in weights/ of several that went on from the same: the average of their "
        "weights.",
        "  python -m dermsa soup --of A B C --compare\n"
        "  python -m dermsa soup --of A B --input-size 256 --name both --weights-as float16",
        _soup_arguments,
        _soup,
    ),
}
