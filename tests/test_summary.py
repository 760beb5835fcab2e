"""What a data set and its parts are made of, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from dermsa.datasets import splits, summary
from dermsa.taxonomy import HAM10000_CLASSES, LOCALIZATIONS

TABLE = pd.DataFrame(
    {
        "image_id": ["a", "b", "c", "d"],
        "lesion_id": ["1", "1", "2", "3"],
        "dx": ["mel", "mel", "nv", "nv"],
        "age": [0.0, 9.0, 10.0, np.nan],
        "sex": ["female", "female", "unknown", "male"],
        "localization": ["back", "back", "unknown", "face"],
    }
)


def counted(name, table=TABLE):
    counts = summary.counts(table, name, HAM10000_CLASSES)
    return {value: number for value, number in counts.items() if number}


def test_counts_by_hand():
    assert counted("dx") == {"mel": 2, "nv": 2}
    assert counted("age") == {"0 to 9": 2, "10 to 19": 1, "unknown": 1}
    assert counted("sex") == {"female": 2, "male": 1, "unknown": 1}
    assert counted("dx", summary.lesions(TABLE)) == {"mel": 1, "nv": 2}


def test_the_unknown_comes_last_and_nothing_is_left_out():
    sites = summary.counts(TABLE, "localization", HAM10000_CLASSES)
    assert list(sites)[-1] == "unknown" and set(sites) == {*LOCALIZATIONS, "unknown"}
    assert list(summary.counts(TABLE, "dx", HAM10000_CLASSES)) == list(HAM10000_CLASSES)


@pytest.mark.parametrize("protocol", ["lesion", "image-90-10", "datta-85-15"])
def test_parts_make_up_the_whole(synthetic_dataset, protocol):
    tables = summary.parts(synthetic_dataset, splits.draw(synthetic_dataset, protocol))
    whole = tables.pop(summary.WHOLE)
    assert len(whole) == len(synthetic_dataset.table) == sum(map(len, tables.values()))
    assert set(tables) <= set(summary.PARTS) and all(map(len, tables.values()))
    for name in summary.PROPERTIES:
        total = summary.counts(whole, name, HAM10000_CLASSES)
        of_parts = [summary.counts(table, name, HAM10000_CLASSES) for table in tables.values()]
        assert total == {value: sum(of[value] for of in of_parts) for value in total}
        assert sum(total.values()) == len(whole)
