"""The commands of the command line that make trainings and look after them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dermsa.cli_command import Command, data_argument, say, size
from dermsa.files import write_atomically

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


# --- train -----------------------------------------------------------------------------------


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _configuration_arguments(parser)
    parser.add_argument("--title", default="", help="what to call the run")
    parser.add_argument(
        "--tag", action="append", default=[], help="a word to find it by; may be repeated"
    )
    parser.add_argument("--resume", metavar="RUN", help="continue this run instead of a new one")
    parser.add_argument(
        "--detach",
        action="store_true",
        help="let it wait in the queue of its device and train as a process of its own, which "
        "outlives this terminal; see the command runs",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait here for the device instead of refusing"
    )
    data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the run's status as JSON")
    _setting_arguments(parser)


def _configuration_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the configuration starts from; flags of single settings change it."""
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--preset",
        metavar="NAME",
        help="start from a published training or that of a shipped model, see the command presets",
    )
    start.add_argument(
        "--config",
        metavar="FILE",
        help="start from a YAML or JSON file with settings, such as a run's config.json; - for "
        "standard input",
    )
    start.add_argument("--from-run", metavar="RUN", help="start from what another run was given")


def _setting_arguments(parser: argparse.ArgumentParser) -> None:
    from dermsa.training.form import FIELDS, GROUPS

    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            field = FIELDS[name]
            default = "the backbone's own" if name == "input_size" else field.default
            group.add_argument(
                f"--{name.replace('_', '-')}",
                type=_kind(field),
                # Where it is not given it leaves no trace, so that what it starts from stands.
                default=argparse.SUPPRESS,
                metavar=METAVARS[_kind(field)],
                help=f"{field.metadata['help']} ({default})".replace("%", "%%"),
            )


METAVARS = {int: "N", float: "X", str: "NAME", size: "N[xN]"}


def _kind(field: dataclasses.Field) -> Callable[[str], Any]:
    return size if field.name == "input_size" else type(field.default)


def _configuration(options: argparse.Namespace):
    """The `TrainingConfig` that the flags describe."""
    from dermsa.training.config import TrainingConfig
    from dermsa.training.form import FIELDS
    from dermsa.training.presets import preset
    from dermsa.training.runs import find_run
    from dermsa.training.sweeps import changed

    if options.preset:
        base = preset(options.preset).config()
    elif options.from_run:
        base = find_run(options.from_run).config()
    elif options.config:
        base = _read_config(options.config)
    else:
        base = TrainingConfig()
    given = vars(options)
    return changed(base, {name: given[name] for name in FIELDS if name in given})


def _read_config(path: str):
    """A configuration from a file: settings that it leaves out have their defaults.

    Raises:
        ValueError: It cannot be read, or holds what is no setting.
    """
    import yaml

    from dermsa.training.config import TrainingConfig
    from dermsa.training.sweeps import changed

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        read = yaml.safe_load(text)  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"The configuration {path} cannot be read: {error}") from None
    if isinstance(read, dict) and isinstance(read.get("config"), dict):
        read = read["config"]  # a run's config.json
    if not isinstance(read, dict):
        raise ValueError(f"The configuration {path} holds no settings, written as NAME: VALUE.")
    classifier = read.pop("classifier", {})
    if not isinstance(classifier, dict):
        raise ValueError(f"Expected settings under classifier in {path}. Received: {classifier!r}")
    settings = {**read, **classifier}
    settings.pop("classes", None)  # they follow from the data set
    if isinstance(settings.get("input_size"), list):
        settings["input_size"] = tuple(settings["input_size"])
    return changed(TrainingConfig(), _of_their_kind(settings))


def _of_their_kind(settings: dict[str, Any]) -> dict[str, Any]:
    """Refuses values of another type than the setting's; YAML reads 6e-4 as a word."""
    from dermsa.training.form import FIELDS

    read = dict(settings)
    for name, value in settings.items():
        field = FIELDS.get(name)
        if field is None or name in ("input_size", "patient_branch"):
            continue  # refused by name later, or of several types
        kind = type(field.default)
        try:
            read[name] = kind(value)
            fits = kind is not int or read[name] == float(value)
        except (TypeError, ValueError):
            fits = False
        if not fits or isinstance(value, bool):
            raise ValueError(f"Expected {name} to be of type {kind.__name__}. Received: {value!r}")
    return read


def _train(options: argparse.Namespace) -> None:
    from dermsa.training import devices, runs

    if options.resume:
        _refuse_changes(options)
        run = runs.find_run(options.resume)
        # Before anything imports Keras.
        os.environ["KERAS_BACKEND"] = run.backend
        if not options.detach:
            os.environ.update(devices.environment(devices.of_run(run)))
    else:
        from dermsa.datasets import registry

        if not options.detach:  # as far as the flags tell; a configuration needs Keras
            wanted = vars(options).get("device", "auto")
            os.environ.update(devices.environment(devices.resolve(wanted)))
        config = _configuration(options)
        # Refuse before a run folder is made.
        registry.read(config.dataset, options.data)
        devices.resolve(config.device)
        run = runs.create_run(config, options.title, options.tag)
    if options.detach:
        _enqueue([run], options)
    else:
        _train_here(run, options)


def _refuse_changes(options: argparse.Namespace) -> None:
    """What is resumed goes on as it was made."""
    from dermsa.training.form import FIELDS

    given = vars(options)
    names = [n for n in ("preset", "config", "from_run", "title", "tag") if given[n]]
    names += [name for name in FIELDS if name in given]
    if names:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise ValueError(
            f"A run that is resumed keeps its settings: --resume goes without {flags}. For more "
            f"epochs: runs extend {options.resume} --epochs N. For other settings, a new run: "
            f"train --from-run {options.resume}. For title and tags: runs rename, runs tag."
        )


def _train_here(run, options: argparse.Namespace) -> None:
    import logging

    from dermsa.training import trainer

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("dermsa").setLevel(logging.INFO)
    trainer.train(run, options.data, options.wait)
    status = run.status()
    if epochs := status.get("epoch"):
        sentence = (
            f"The run {run.id} is {status['state']} after {epochs} epochs. Make a model of it "
            f"with: python -m dermsa export {run.id} --name NAME"
        )
    else:
        sentence = (
            f"The run {run.id} is {status['state']} before its first epoch was done. Go on with: "
            f"python -m dermsa train --resume {run.id}"
        )
    say(sentence, {"run": run.id, **status}, options.json)


def _enqueue(made: Sequence, options: argparse.Namespace) -> None:
    from dermsa.training import launcher

    launcher.enqueue(made, options.data)
    if options.json:
        listed = [{"run": run.id, **run.status()} for run in made]
        print(json.dumps(listed[0] if len(listed) == 1 else listed, indent=1))
        return
    for run in made:
        print(f"{run.id} waits for the device {run.status()['device']}.")
    print("Look after it with: python -m dermsa runs")


# --- sweep -----------------------------------------------------------------------------------


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        "--preset",
        metavar="NAME",
        dest="table",
        help="a published table: a run for every row that its authors trained, --tables lists "
        "them; shipped/<ensemble>: a run for every member; or ablations/<name>",
    )
    parser.add_argument("--tables", action="store_true", help="list the published tables")
    parser.add_argument(
        "--vary",
        metavar="SETTING=A,B,...",
        action="append",
        default=[],
        help="values of a setting; several of these make a grid",
    )
    parser.add_argument("--name", default="", help="tag of the runs (the table's, or sweep)")
    parser.add_argument(
        "--dry-run", action="store_true", help="list the runs that it would make, and stop"
    )
    data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    start = parser.add_argument_group("what the runs of a grid have in common")
    start = start.add_mutually_exclusive_group()
    start.add_argument("--from", dest="preset", metavar="PRESET", help="start from a preset")
    start.add_argument("--config", metavar="FILE", help="start from a YAML or JSON file")
    start.add_argument("--from-run", metavar="RUN", help="start from what another run was given")
    _setting_arguments(parser)


def _sweep(options: argparse.Namespace) -> None:
    from dermsa.datasets import registry
    from dermsa.training import sweeps
    from dermsa.training.form import FIELDS

    if options.tables:
        _list_tables(options.json)
        return
    if bool(options.table) == bool(options.vary):
        raise ValueError("Expected either --table NAME or at least one --vary SETTING=A,B.")
    if options.table and (options.preset or options.config or options.from_run):
        raise ValueError(
            "The runs of a table start from its rows: --from, --config and --from-run are for "
            "--vary. Flags of single settings change every run of a table, but not what an "
            "ablation varies."
        )
    given = vars(options)
    common = {name: given[name] for name in FIELDS if name in given}
    if options.table:
        planned = sweeps.table(options.table, common)
    else:
        planned = sweeps.grid(_configuration(options), _varied(options.vary))
    if options.dry_run:
        rows = [{"title": p.title, "config": dataclasses.asdict(p.config)} for p in planned]
        titles = "\n".join(f"  {each.title}" for each in planned)
        say(f"{len(planned)} runs:\n{titles}", rows, options.json)
        return
    for dataset in {each.config.dataset for each in planned}:
        registry.read(dataset, options.data)
    _enqueue(sweeps.make_runs(planned, options.name or options.table or "sweep"), options)


def _list_tables(as_json: bool) -> None:
    from dermsa.training import ablations, sweeps

    tables = {
        name: [preset.name for preset in presets] for name, presets in sweeps.tables().items()
    }
    lines = [f"  {name:<46}{len(presets):>3} runs" for name, presets in tables.items()]
    lines += [f"  {name:<46}  = {same}" for name, same in sweeps.NUMBERS.items()]
    asked = {f"{ablations.PREFIX}/{name}": each for name, each in ablations.ABLATIONS.items()}
    lines += ["Ablations (all of them: ablations/all):"]
    lines += [
        f"  {name:<46}{len(ablations.planned(name)):>3} runs  {each.question}"
        for name, each in asked.items()
    ]
    tables |= {name: [title for title, *_ in ablations.planned(name)] for name in asked}
    say("\n".join(["Published tables:", *lines]), tables, as_json)


def _varied(flags: Sequence[str]) -> dict[str, list]:
    """Reads `SETTING=A,B,...`, each value of the setting's own type."""
    from dermsa.training.form import FIELDS

    values: dict[str, list] = {}
    for flag in flags:
        name, _, text = flag.partition("=")
        name = name.strip().replace("-", "_")
        if not text:
            raise ValueError(f"Expected SETTING=A,B,... after --vary. Received: {flag}")
        words = [word.strip() for word in text.split(",") if word.strip()]
        if name not in FIELDS:
            values[name] = words  # refused by name later
            continue
        kind = _kind(FIELDS[name])
        try:
            values[name] = [kind(word) for word in words]
        except ValueError:
            raise ValueError(
                f"Expected values of type {kind.__name__} for {name}. Received: {text}"
            ) from None
    return values


# --- runs ------------------------------------------------------------------------------------


def _runs_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        if name not in ("list", "empty-bin", "wake"):
            action.add_argument("run", metavar="RUN", help="id or folder of a run")
        if name == "list":
            action.add_argument("--tag", help="only those with this tag")
            action.add_argument("--deleted", action="store_true", help="what lies in the bin")
        if name == "log":
            action.add_argument("--lines", type=int, default=30, metavar="N", help="how many (30)")
            action.add_argument("--follow", action="store_true", help="go on until the run ends")
        if name == "stop":
            action.add_argument(
                "--at-once", action="store_true", help="kill it; the epoch under way is lost"
            )
        if name == "extend":
            action.add_argument("--epochs", type=int, required=True, help="the new length")
            action.add_argument(
                "--early-stopping",
                type=int,
                metavar="N",
                help="from now on, 0 for none; a run that stopped early needs another one",
            )
        if name in ("resume", "extend"):
            data_argument(action)
        if name == "rename":
            action.add_argument("title", help="the new title; the id stays")
        if name == "tag":
            action.add_argument("tags", nargs="*", metavar="TAG", help="all its tags from now on")
        if name == "move":
            action.add_argument("places", type=int, help="in the queue; negative is sooner")
        action.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--json", action="store_true", help="print as JSON")


ACTIONS = {
    "list": "All runs, newest first.",
    "show": "One run: state, figures, configuration.",
    "log": "The end of its log.",
    "stop": "Stop it: after the current batch, or by leaving the queue.",
    "resume": "Put a stopped, failed or lost run into the queue again.",
    "extend": "Train it for more epochs than it was made for.",
    "rename": "Give it another title.",
    "tag": "Set its tags.",
    "move": "Move it in the queue.",
    "delete": "Move it into the bin.",
    "restore": "Take it out of the bin.",
    "empty-bin": "Delete for good what lies in the bin.",
    "wake": "Start what waits in the queue, after the machine was started anew.",
}


def _runs(options: argparse.Namespace) -> None:
    from dermsa.training import launcher, runs

    action = options.action or "list"
    if action == "list":
        _list_runs(options)
        return
    if action == "empty-bin":
        count = len(runs.deleted_runs())
        runs.empty_bin()
        say(f"Deleted {count} runs for good.", {"deleted": count}, options.json)
        return
    if action == "wake":
        launcher.wake()
        waiting = [run.id for run in launcher.waiting()]
        say(f"{len(waiting)} runs wait.", {"waiting": waiting}, options.json)
        return
    if action == "restore":
        run = runs.restore(options.run)
    else:
        run = runs.find_run(options.run)
    if action == "show":
        _show_run(run, options.json)
        return
    if action == "log":
        _print_log(run, options.lines, options.follow)
        return
    if action == "stop":
        launcher.stop(run, options.at_once)
    elif action == "resume":
        launcher.enqueue(run, options.data)
    elif action == "extend":
        run.extend(options.epochs, options.early_stopping)
        launcher.enqueue(run, options.data)
    elif action == "rename":
        run.change(title=options.title)
    elif action == "tag":
        run.change(tags=options.tags)
    elif action == "move":
        launcher.move(run, options.places)
    elif action == "delete":
        run = runs.delete(run)
    say(f"{run.id} is {run.state}.", {"run": run.id, **run.status()}, options.json)


def _list_runs(options: argparse.Namespace) -> None:
    from dermsa.training import overview, runs

    found = runs.deleted_runs() if getattr(options, "deleted", False) else runs.all_runs()
    tag = getattr(options, "tag", None)
    rows = [row for row in map(overview.row, found) if tag in (None, *row.tags)]
    if options.json:
        listed = [
            {"run": row.run.id, "title": row.title, "tags": row.tags, **row.run.status()}
            for row in rows
        ]
        print(json.dumps(listed, indent=1))
        return
    for row in rows:
        best = f"{row.best[0]} {row.best[1]:.3f}" if row.best else ""
        left = "" if row.seconds_left is None else f"{overview.duration(row.seconds_left)} left"
        left = "not responding" if row.silent_since else left
        print(
            f"{row.run.id:<56} {row.state:<10} {row.progress:>5.0%} {left:<14} "
            f"{row.device:<6} {best}"
        )
    if not rows:
        print("There is no run.")


def _show_run(run, as_json: bool) -> None:
    about, status = run.about(), run.status()
    if as_json:
        curves = run.metrics().to_dict("list")
        print(json.dumps({"run": run.id, **about, "status": status, "metrics": curves}, indent=1))
        return
    print(f"{run.id}: {about['title']}")
    shown = {"backend": run.backend} | status
    names = ("state", "not_responding_since", "error", "device", "backend", "epoch", "epochs")
    for name in (*names, "best"):
        if shown.get(name) is not None:
            print(f"  {name.replace('_', ' '):<22}{shown[name]}")
    print(run.metrics().round(4).to_string(index=False))
    print(json.dumps(about["config"], indent=1))


def _print_log(run, lines: int, follow: bool) -> None:
    from dermsa.training.runs import ACTIVE

    shown: list[str] = []
    while True:
        text = run.log().splitlines()
        # Not by their number: what a process printed may have to make room for what it said.
        known = len(os.path.commonprefix([shown, text]))
        for line in text[known if shown else -lines :]:
            print(line)
        shown = text
        if not follow or run.state not in (*ACTIVE, "queued"):
            return
        sys.stdout.flush()
        time.sleep(1)


# --- ablations -------------------------------------------------------------------------------


def _ablations_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write a row per run")
    data_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def _ablations(options: argparse.Namespace) -> None:
    from dermsa.training import ablations, runs

    table = ablations.results(runs.all_runs(), options.data)
    if options.out:
        write_atomically(options.out, table.to_csv(index=False).encode())
    if options.json:
        print(table.to_json(orient="records", indent=1))
        return
    if table.empty:
        print(
            "No run of an ablation is finished. Queue them with: "
            "python -m dermsa sweep --table ablations/all"
        )
        return
    print(ablations.markdown(table))


COMMANDS: dict[str, Command] = {
    "presets": Command(
        "The trainings of the papers, by name, with what was published of each.",
        "  python -m dermsa presets\n"
        "  python -m dermsa presets sensors2022/MobileNetV3Large/MD\n"
        "  python -m dermsa train --preset sensors2022/MobileNetV3Large/MD --epochs 20",
        _presets_arguments,
        _presets,
    ),
    "train": Command(
        "Train a classifier; stop it with Ctrl-C, continue it with --resume.",
        "  python -m dermsa train --backbone MobileNetV3Small --epochs 20\n"
        "  python -m dermsa train --preset sensors2022/MobileNetV3Large/MD --detach\n"
        "  python -m dermsa train --config settings.yaml\n"
        "  python -m dermsa train --from-run 20250101-120000-mobilenetv3small --seed 2\n"
        "  python -m dermsa train --resume 20250101-120000-mobilenetv3small",
        _train_arguments,
        _train,
    ),
    "sweep": Command(
        "Queue many trainings: a grid of settings, or the rows of a published table.",
        "  python -m dermsa sweep --table sensors2022/accuracy-auc --dry-run\n"
        "  python -m dermsa sweep --vary backbone=MobileNetV2,MobileNetV3Small --vary seed=0,1,2\n"
        "  python -m dermsa sweep --tables",
        _sweep_arguments,
        _sweep,
    ),
    "ablations": Command(
        "What the finished runs of `sweep --table ablations/...` say: means and differences.",
        "  python -m dermsa sweep --table ablations/attention --input-size 128\n"
        "  python -m dermsa ablations --out ablations.csv",
        _ablations_arguments,
        _ablations,
    ),
    "runs": Command(
        "List the trainings and look after them: stop, resume, extend, move, delete ...",
        "  python -m dermsa runs\n"
        "  python -m dermsa runs log RUN --follow\n"
        "  python -m dermsa runs stop RUN\n"
        "  python -m dermsa runs extend RUN --epochs 40",
        _runs_arguments,
        _runs,
    ),
}
