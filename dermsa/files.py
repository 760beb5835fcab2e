"""Where things lie on disk, and how files are replaced."""

from __future__ import annotations

import os
import tempfile
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
