"""Where things lie on disk, and how files are replaced."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def runs_folder() -> Path:
    """`DERMSA_RUNS`, else `runs/` beside the package."""
    default = Path(__file__).resolve().parents[1] / "runs"
    return Path(os.environ.get("DERMSA_RUNS", default)).expanduser()


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file in one step: a reader sees the old or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(partial, 0o644)  # mkstemp's files are for their owner alone
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a large file that then replaces another in one step.

    Gives a name beside `path` with the same ending. What is there when the block ends takes the
    place of `path`; after an error it is removed, which matters most on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial.{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
