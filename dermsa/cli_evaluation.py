"""The commands of the command line that measure models and tell them apart."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dermsa.cli_command import Command, data_argument, model_argument

if TYPE_CHECKING:
    from dermsa.evaluation.cost import Cost
    from dermsa.evaluation.record import Evaluation

# --- evaluate --------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    from dermsa.datasets.more_photos import ELSEWHERE
    from dermsa.datasets.splits import PROTOCOLS

    which = parser.add_mutually_exclusive_group()
    model_argument(which)
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


# --- failures --------------------------------------------------------------------------------


def _failures_arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
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


COMMANDS: dict[str, Command] = {
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
}
