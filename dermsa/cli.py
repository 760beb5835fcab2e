"""The command line: `python -m dermsa COMMAND`.

Each command's flags are made only when it is called, so that `predict` never waits for
TensorFlow and `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dermsa import cli_data, cli_evaluation, cli_models, cli_training
from dermsa.cli_command import Command
from dermsa.machine import prepare_tensorflow

COMMANDS: dict[str, Command] = {
    **cli_models.COMMANDS,
    **cli_training.COMMANDS,
    **cli_evaluation.COMMANDS,
    **cli_data.COMMANDS,
}
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
