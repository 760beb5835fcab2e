"""`data check` in a process of its own, for those who cannot wait: watched, cancelled, kept.

kept = read_kept("ham10000", root)                # what an earlier check found, or None
checking = Checking("ham10000", root)             # starts one
checking.progress(), checking.running, checking.cancel()
checking.finish()                                 # keeps and returns what it found
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from dermsa.datasets import cache, registry
from dermsa.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
NICENESS = 10
"""Whoever diagnoses meanwhile comes first."""
BAR = re.compile(r"(\w+): +(\d+)%\|[^|]*\| (\d+)/(\d+)(?: \[[\d:]+<([\d:]+))?")


class CheckFailed(RuntimeError):
    """A check that came to no end; the message may be shown as it is."""


@dataclass(frozen=True)
class Progress:
    """How far a check is.

    Attributes:
        step: What it does, in a word.
        done, total: Of the step.
        left: Time that the step will still take, as "minutes:seconds"; "" where not known.
    """

    step: str
    done: int
    total: int
    left: str = ""


@dataclass(frozen=True)
class Kept:
    """What a check found.

    Attributes:
        report: From `CheckReport.plain`.
        checked: When, in ISO form with the time zone.
        stale: Whether files have come, gone or changed since.
    """

    report: dict
    checked: str
    stale: bool


def read_kept(name: str, root: Path) -> Kept | None:
    """What the last finished check of a data set found; None where there was none.

    None, too, where the data set is not there (any more).
    """
    try:
        kept = json.loads(_kept_file(name, root).read_text(encoding="utf-8"))
        return Kept(kept["report"], kept["checked"], kept["files"] != _fingerprint(name, root))
    except (FileNotFoundError, ValueError, KeyError):
        return None


class Checking:
    """A check that runs; cancel or finish it.

    Args:
        name: A key of `registry.DATASETS`.
        root: The folder that holds the data sets' folders.

    Raises:
        DatasetError: There is no such data set.
    """

    def __init__(self, name: str, root: Path):
        self.name, self.root = name, root
        self._files = _fingerprint(name, root)
        self._folder = tempfile.TemporaryDirectory(prefix="dermsa-check-")
        self._out, self._err = (Path(self._folder.name, name) for name in ("out", "err"))
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dermsa", "data", "check", "--dataset", name]
                + ["--data", str(root), "--json"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        with contextlib.suppress(psutil.Error):
            psutil.Process(self._process.pid).nice(NICENESS)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def progress(self) -> Progress | None:
        """None before the first step."""
        bars = BAR.findall(self._said())
        if not bars:
            return None
        step, _, done, total, left = bars[-1]
        return Progress(step, int(done), int(total), left)

    def cancel(self) -> None:
        """Ends it; nothing is kept."""
        self._process.terminate()
        self._process.wait()

    def finish(self) -> Kept:
        """What was found, once it no longer runs; it is kept for `read_kept`.

        Raises:
            CheckFailed: It ended without a report.
        """
        self._process.wait()
        try:
            report = json.loads(self._out.read_bytes())
        except ValueError:
            said = [line for line in self._said().splitlines() if line.startswith("dermsa: ")]
            why = said[-1].removeprefix("dermsa: ") if said else "It ended without a reason."
            raise CheckFailed(f"The data set could not be checked. {why}") from None
        checked = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        content = {"report": report, "checked": checked, "files": self._files}
        write_atomically(_kept_file(self.name, self.root), json.dumps(content).encode())
        return Kept(report, checked, stale=False)

    def _said(self) -> str:
        """What it has printed besides the report, as far as the last bars need it."""
        with open(self._err, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4000))
            return file.read().decode(errors="replace").replace("\r", "\n")


def _kept_file(name: str, root: Path) -> Path:
    where = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:8]
    return cache.cache_folder() / f"check-{name}-{where}.json"


def _fingerprint(name: str, root: Path) -> str:
    """Changes when a file of the data set comes, goes or changes."""
    listing = registry.record(name).listing(Path(root))
    digest = hashlib.sha256(listing.table.to_csv(index=False).encode())
    for path in sorted([*listing.images.values(), *listing.masks.values()]):
        digest.update(f"{path} {cache.of_file(path)}\n".encode())
    return digest.hexdigest()
