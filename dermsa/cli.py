"""The command line: `python -m dermsa COMMAND`.

Each command's flags are made only when it is called, so that `predict` never waits for
TensorFlow and `--help` answers at once.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXIT_REFUSED = 2


@dataclass(frozen=True)
class Command:
    """One verb: its line in the help, its flags and what it does."""

    help: str
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Expected errors are one sentence on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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


# --- predict ---------------------------------------------------------------------------------


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture files or folders")
    parser.add_argument(
        "--patients", metavar="FILE.csv", help="columns image_id, age, sex, localization"
    )
    parser.add_argument("--model", metavar="NAME", help="a model in weights/ (the default one)")
    parser.add_argument("--out", metavar="FILE.csv", required=True, help="the table to write")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")


def _predict(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from dermsa.inference import batch
    from dermsa.inference.ensemble import open_predictor

    predictor = open_predictor(options.model)
    patients, warnings = batch.read_patients(options.patients) if options.patients else ({}, [])
    for warning in warnings:
        print(f"dermsa: {warning}", file=sys.stderr)
    files = batch.find_files(options.paths)
    if not files:
        raise ValueError(f"There is no picture in {', '.join(options.paths)}.")
    failed = 0
    with open(options.out, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(batch.columns(predictor))
        rows = batch.predict_files(predictor, files, patients)
        for row in tqdm(rows, "Predicting", len(files), unit="image"):
            failed += bool(row.error)
            writer.writerow(batch.cells(predictor, row))
    summary = {
        "model": predictor.model.name,
        "images": len(files),
        "failed": failed,
        "warnings": len(warnings),
        "out": options.out,
    }
    _say(
        f"{len(files) - failed} of {len(files)} pictures answered by {predictor.model.name}; "
        f"written to {options.out}.",
        summary,
        options.json,
    )


# --- models ----------------------------------------------------------------------------------


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _models(options: argparse.Namespace) -> None:
    from dermsa.inference import store
    from dermsa.models.catalogue import describe_all

    buildable = describe_all()
    if options.json:
        print(json.dumps(buildable, indent=1))
        return
    print("Classifiers that can be built (cut, head, parameters):")
    for row in buildable:
        print(
            f"  {row['name']:<44} {row['input_size'][0]} px, features "
            f"{'x'.join(map(str, row['feature_shape']))}, {row['parameters']:>11,} parameters"
        )
    print("Trained models in weights/ (the first is the default):")
    for name in store.model_names():
        recall = store.read_card(name)["metrics"]["macro_recall"]
        print(
            f"  {name:<44} macro recall {recall['value']:.3f} ({recall['low']:.3f} to "
            f"{recall['high']:.3f}), n = {recall['n']} test images"
        )


# --- train -----------------------------------------------------------------------------------


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    from dermsa.models.backbones import BACKBONES
    from dermsa.models.classifier import KERNELS
    from dermsa.training.config import TrainingConfig

    parser.add_argument("--backbone", choices=list(BACKBONES), default="MobileNetV3Small")
    parser.add_argument("--cut", default="trunk", help="published or trunk (trunk)")
    parser.add_argument("--kernel", choices=KERNELS, default="formula", help="of soft attention")
    parser.add_argument(
        "--initial-gamma", type=float, default=0.01, help="start of soft attention's scale (0.01)"
    )
    parser.add_argument("--dropout", type=float, default=0.5, help="before the last layer (0.5)")
    parser.add_argument("--input-size", type=int, help="pixels; the backbone's own if not given")
    parser.add_argument(
        "--no-patient", action="store_true", help="leave age, sex and site out of the network"
    )
    for field in dataclasses.fields(TrainingConfig):
        if field.name == "classifier":
            continue
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=f"{field.metadata['help']} ({field.default})".replace("%", "%%"),
        )
    parser.add_argument("--title", default="", help="what to call the run")
    parser.add_argument("--resume", metavar="RUN", help="continue this run instead of a new one")
    _data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the run's status as JSON")


def _train(options: argparse.Namespace) -> None:
    import logging

    from dermsa.datasets import ham10000
    from dermsa.datasets.dataset import require_root
    from dermsa.models.classifier import ClassifierConfig
    from dermsa.training import runs, trainer
    from dermsa.training.config import TrainingConfig

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("dermsa").setLevel(logging.INFO)
    if options.resume:
        run = runs.find_run(options.resume)
    else:
        size = options.input_size
        classifier = ClassifierConfig(
            options.backbone,
            cut=options.cut,
            kernel=options.kernel,
            initial_gamma=options.initial_gamma,
            dropout=options.dropout,
            patient_branch=not options.no_patient,
            input_size=(size, size) if size else None,
        )
        values = {
            field.name: getattr(options, field.name)
            for field in dataclasses.fields(TrainingConfig)
            if field.name != "classifier"
        }
        ham10000.read(require_root(options.data))  # refuse before a run folder is made
        run = runs.create_run(TrainingConfig(classifier, **values), options.title)
    trainer.train(run, options.data)
    status = run.status()
    _say(
        f"The run {run.id} is {status['state']} after {status['epoch']} epochs. Make a model of "
        f"it with: python -m dermsa export {run.id} --name NAME",
        {"run": run.id, **status},
        options.json,
    )


# --- export ----------------------------------------------------------------------------------


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="id or folder of a run")
    parser.add_argument("--name", required=True, help="of the model: its folder in weights/")
    parser.add_argument("--default", action="store_true", help="let this model answer by default")
    parser.add_argument(
        "--views", type=int, default=4, help="mirror images to average over, 1 to 4 (4)"
    )
    parser.add_argument(
        "--note", action="append", default=[], help="a sentence for the card; may be repeated"
    )
    _data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the card as JSON")


def _export(options: argparse.Namespace) -> None:
    import logging

    from dermsa.inference import store
    from dermsa.training import export, runs

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("dermsa").setLevel(logging.INFO)
    run = runs.find_run(options.run)
    folder = export.export(
        run, options.name, options.data, options.default, options.views, options.note
    )
    card = store.read_card(options.name)
    recall, auc = card["metrics"]["macro_recall"], card["metrics"]["macro_roc_auc"]
    _say(
        f"Wrote {folder}: macro recall {recall['value']:.3f} ({recall['low']:.3f} to "
        f"{recall['high']:.3f}), macro ROC AUC {auc['value']:.3f} on {recall['n']} test images.",
        card,
        options.json,
    )


# --- evaluate --------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="a model in weights/ (the default one)")
    parser.add_argument(
        "--part", choices=("validation", "test"), default="test", help="which part (test)"
    )
    _data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def _evaluate(options: argparse.Namespace) -> None:
    from dermsa.evaluation.evaluate import evaluate_model
    from dermsa.evaluation.metrics import METRICS
    from dermsa.taxonomy import NAMES

    result = evaluate_model(options.model, options.part, options.data)
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(result["sentence"])

    def show(title: str, interval: dict) -> None:
        if interval["value"] is None:
            print(f"  {title:<52} not defined (n = {interval['n']})")
            return
        low, high = interval["low"], interval["high"]
        ends = "" if low is None else f" ({low:.3f} to {high:.3f})"
        print(f"  {title:<52} {interval['value']:.3f}{ends}, n = {interval['n']}")

    for name, interval in result["overall"].items():
        show(METRICS[name].title, interval)
    for name in ("recall", "specificity", "precision", "roc_auc"):
        print(f"{METRICS[name].title} by diagnosis:")
        for code, interval in result["per_class"][name].items():
            show(NAMES.get(code, code), interval)


# --- data ------------------------------------------------------------------------------------


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("check",), help="check: read every image once")
    _data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _data(options: argparse.Namespace) -> None:
    from dermsa.datasets.check import check_ham10000
    from dermsa.datasets.dataset import require_root

    root = require_root(options.data)
    report = check_ham10000(root)
    if options.json:
        print(json.dumps({**dataclasses.asdict(report), "problems": report.problems}, indent=1))
        return
    print(
        f"HAM10000 in {root}: {report.images} images of {report.lesions} lesions, "
        f"{report.lesions_with_several_photos} of them with several photos."
    )
    for code, count in report.by_class.items():
        print(f"  {code:<6} {count:>6} images")
    for name, count in report.unknown.items():
        print(f"  {name} unknown: {count} images")
    for image_id in report.missing[:20]:
        print(f"  missing: {image_id}")
    for image_id, error in list(report.unreadable.items())[:20]:
        print(f"  unreadable: {image_id}: {error}")
    print(" ".join(report.problems) or "Nothing is wrong with it.")


# --- shared ----------------------------------------------------------------------------------


def _data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="the folder that holds ham10000/ (DERMSA_DATA, else ../shared/data)",
    )


def _say(sentence: str, values: dict, as_json: bool) -> None:
    print(json.dumps(values, indent=1) if as_json else sentence)


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
    "train": Command(
        "Train a classifier on HAM10000; stop it with Ctrl-C, continue it with --resume.",
        "  python -m dermsa train --backbone MobileNetV3Small --epochs 20\n"
        "  python -m dermsa train --resume 20250101-120000-mobilenetv3small",
        _train_arguments,
        _train,
    ),
    "export": Command(
        "Make a model in weights/ of a run: ONNX file, calibration, test figures, card.",
        "  python -m dermsa export 20250101-120000-mobilenetv3small --name my-model --default",
        _export_arguments,
        _export,
    ),
    "evaluate": Command(
        "Measure a model in weights/ again from the images, with intervals.",
        "  python -m dermsa evaluate\n  python -m dermsa evaluate --model NAME --json",
        _evaluate_arguments,
        _evaluate,
    ),
    "data": Command(
        "Look a data set over: missing and unreadable images, unknown values.",
        "  python -m dermsa data check\n  python -m dermsa data check --json",
        _data_arguments,
        _data,
    ),
}
