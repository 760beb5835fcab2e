"""Tables of photos that people bring along: of patients, of true diagnoses, of predictions."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter
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
        Text ("" where empty) without space around it, a column a heading; the line of the file
        on which a row ends, from 1, as the index.

    Raises:
        TableError: What is wrong with it, in a sentence.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=separator(path), strict=True)
            filled = ((lines.line_num, cells) for line in lines if any(cells := _stripped(line)))
            _, first = next(filled, (0, []))
            if first[:1] == [TELLS_SEPARATOR]:
                _, first = next(filled, (0, []))
            known = {name.lower(): name for name in names}
            heads = [known.get(head.lower(), head) for head in first]
            rows, numbers = [], []
            for line_number, cells in filled:
                if any(cells[len(heads) :]):
                    raise TableError(_too_many_cells(path, line_number, heads))
                rows.append((cells + [""] * len(heads))[: len(heads)])
                numbers.append(line_number)
    except UnicodeDecodeError:
        raise TableError(
            f"The table {path} is not in UTF-8; save it anew as “CSV UTF-8”."
        ) from None
    except (OSError, csv.Error) as error:
        raise TableError(f"The table {path} cannot be read: {error}.") from None
    named = Counter(head for head in heads if head)
    if repeated := [name for name, count in named.items() if count > 1]:
        raise TableError(f"The table {path} has two columns {repeated[0]}.")
    table = pd.DataFrame(rows, index=pd.Index(numbers, name="line"), columns=heads, dtype=object)
    return table[list(named)]


def separator(path: str | os.PathLike) -> str:
    """What stands between the cells of a table, by its first line that is not empty: a comma, as
    everywhere, a semicolon, as spreadsheets of many countries write it, or a tab."""
    with open(path, encoding="utf-8-sig") as file:
        line = next((line.strip("\r\n") for line in file if line.strip()), "")
    if line.startswith(TELLS_SEPARATOR) and len(line) == len(TELLS_SEPARATOR) + 1:
        return line[-1]
    unquoted = re.sub('"[^"]*"', "", line)
    return max(",;\t", key=unquoted.count)


def number(text: str) -> str:
    """A cell with a decimal point where it may have a decimal comma."""
    return text.replace(",", ".", 1)


def image_id(name: str | os.PathLike) -> str:
    """What a picture file is called in tables: its name without the suffix of a picture.

    Nothing else is cut off, so that names with dots ("1.2.840.10008") stay whole. Letters with
    accents are composed: some systems keep them in two parts.
    """
    path = Path(unicodedata.normalize("NFC", os.fspath(name)))
    return path.stem if path.suffix.lower() in PICTURE_SUFFIXES else path.name


def _stripped(line: list[str]) -> list[str]:
    return [cell.strip() for cell in line]


def _too_many_cells(path: str | os.PathLike, line: int, heads: list[str]) -> str:
    hint = " Decimal commas want semicolons between the cells, or quotes."
    if len(heads) < 2:
        hint = " The first line has to be that of the headings."
    return f"The table {path} has more cells in line {line} than headings.{hint}"
