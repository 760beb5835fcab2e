"""Figures of data sets carry the numbers they are given."""

import numpy as np
import pytest

from dermsa import plots_data


def test_bars_are_shares_of_their_part_and_empty_values_are_left_out():
    parts = {"Whole": {"Back": 30, "Ear": 0, "Face": 10}, "Test": {"Back": 1, "Ear": 0, "Face": 3}}
    whole, test = plots_data.distribution(parts, "Site").data
    assert whole.y == test.y == ("Back", "Face")
    assert whole.x == (75, 25) and test.x == (25, 75)
    assert whole.customdata == ("30", "10") and "n = 40" in whole.name
    looks = {(bar.marker.color, bar.marker.pattern.shape) for bar in (whole, test)}
    assert len(looks) == 2
    words = plots_data.describe_distribution(parts, "Photos by site")
    assert words == "Photos by site. Whole: Back 30, Face 10. Test: Back 1, Face 3."


@pytest.mark.parametrize("skin", [0, 255])
def test_the_outline_is_at_the_edge_and_seen_on_any_skin(skin):
    photo = np.full((120, 160, 3), skin, np.uint8)
    mask = np.zeros((120, 160), bool)
    mask[40:80, 50:110] = True
    drawn = plots_data.outlined(photo, mask)
    changed = (drawn != photo).any(axis=2)
    assert changed[40, 50:110].any() and changed[40:80, 50].any()
    assert not changed[50:70, 60:100].any() and not changed[:30].any() and not changed[:, :40].any()
    assert np.array_equal(photo, np.full_like(photo, skin))  # the photo itself is left alone
