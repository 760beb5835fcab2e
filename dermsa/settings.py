"""Fields of configurations that explain themselves, to the command line and to the page's form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any


def setting(default: Any, text: str, choices: Iterable[str] = ()) -> Any:
    """A dataclass field whose `metadata` hold its help text and the values that it may have."""
    choices = tuple(choices)
    text = f"{text}: {', '.join(choices)}" if choices else text
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})
