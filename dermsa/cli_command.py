"""What a command of the command line is made of."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """One verb: its line in the help, its flags and what it does."""

    help: str
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="the folder that holds the data sets (DERMSA_DATA, else ../shared/data)",
    )


def model_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a model in weights/, or what it is for: accurate or fast (accurate)",
    )


def size(text: str) -> tuple[int, int]:
    """An input size; argparse names it by this function where it refuses one."""
    from dermsa.training.form import read_size

    return read_size(text)


def say(sentence: str, values: dict, as_json: bool) -> None:
    print(json.dumps(values, indent=1) if as_json else sentence)
