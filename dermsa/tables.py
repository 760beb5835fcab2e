"""Tables of photos that people bring along: of patients, of true diagnoses, of predictions."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

import pandas as pd

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}

TELLS_SEPARATOR = "sep="
"""Begins a first line that Excel writes and reads: "sep=;"."""


class TableError(ValueError):
    """A table that cannot be used, or pictures that it cannot tell apart; the message says why."""


def read(path: str | os.PathLike, names: Collection[str] = ()) -> pd.DataFrame:
    """Reads a CSV table as the spreadsheets of any country write it.

    Commas, semicolons or tabs stand between the cells; rows without any content are passed over,
    and so are columns without a heading, such as the numbers that pandas writes.

    Args:
        path: Of the file.
        names: Columns that are found in whatever case, such as "image_id".

    Returns:
        Text ("" where empty) without space around it, a column a heading; `line` of the file,
        from 1, as the index.

    Raises:
        TableError: What is wrong with it, in a sentence.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=separator(path))
            first = next(lines, [])
            if first[:1] == [TELLS_SEPARATOR]:
                first = next(lines, [])
            heads = _heads(first, names)
            rows, numbers = [], []
            for line in lines:
                cells = [cell.strip() for cell in line]
                if not any(cells):
                    continue
                if any(cells[len(heads) :]):
                    raise TableError(
                        f"The table {path} has more cells in line {lines.line_num} than headings. "
                        "Decimal commas want semicolons between the cells, or quotes."
                    )
                rows.append((cells + [""] * len(heads))[: len(heads)])
                numbers.append(lines.line_num)
    except UnicodeDecodeError:
        raise TableError(
            f"The table {path} is not in UTF-8; save it anew as “CSV UTF-8”."
        ) from None
    except (OSError, csv.Error) as error:
        raise TableError(f"The table {path} cannot be read: {error}") from None
    table = pd.DataFrame(rows, index=pd.Index(numbers, name="line"), columns=heads, dtype=object)
    named = [name for name in heads if name]
    if repeated := sorted({name for name in named if named.count(name) > 1}):
        raise TableError(f"The table {path} has two columns {repeated[0]}.")
    return table[named]


def separator(path: str | os.PathLike) -> str:
    """What stands between the cells of a table, by its first line: a comma, as everywhere, a
    semicolon, as spreadsheets of many countries write it, or a tab."""
    with open(path, encoding="utf-8-sig") as file:
        line = file.readline().rstrip("\r\n")
    if line.startswith(TELLS_SEPARATOR) and len(line) == len(TELLS_SEPARATOR) + 1:
        return line[-1]
    return max(",;\t", key=line.count)


def image_id(name: str | os.PathLike) -> str:
    """What a picture file is called in tables: its name without the suffix of a picture.

    Nothing else is cut off, so that names with dots ("1.2.840.10008") stay whole. Letters with
    accents are composed: some systems keep them in two parts.
    """
    path = Path(unicodedata.normalize("NFC", os.fspath(name)))
    return path.stem if path.suffix.lower() in PICTURE_SUFFIXES else path.name


def _heads(line: list[str], names: Collection[str]) -> list[str]:
    known = {name.lower(): name for name in names}
    return [known.get(head.strip().lower(), head.strip()) for head in line]
