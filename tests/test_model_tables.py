"""What the tables of a document say beyond the cards."""

import numpy as np
import pytest

from dermsa.evaluation.metrics import Predictions
from dermsa.evaluation.model_tables import lineage, most_probable

CLASSES = ("common", "rare")


def drawn(lean):
    """Right probabilities of a rare diagnosis, and models that name it sooner than others."""
    random = np.random.default_rng(0)
    rare = random.beta(0.4, 2.0, 2000)
    truth = (random.random(2000) < rare).astype(int)
    return Predictions(truth, np.stack([1 - rare, rare], axis=1), CLASSES, lean=lean)


def rows(**leans):
    cards = [{"name": name} for name in leans]
    lines = most_probable(cards, [drawn(lean) for lean in leans.values()]).splitlines()[2:]
    return {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines}


def test_the_most_probable_is_right_more_often_and_found_less_evenly():
    said = drawn([1, 3])
    (cells,) = rows(A=[1, 3]).values()
    accuracy, recall = (float(cell.split()[0]) for cell in cells[:2])
    right = said.predicted == said.truth
    by_class = [right[said.truth == k].mean() for k in range(2)]
    assert accuracy > right.mean() and recall < np.mean(by_class)
    likely = said.probabilities.argmax(axis=1)
    assert accuracy == pytest.approx((likely == said.truth).mean(), abs=5e-4)
    assert cells[2].strip() == f"{(likely != said.predicted).mean():.1%}"


def test_who_leans_to_nothing_has_no_row():
    assert list(rows(A=[1, 3], B=None, C=[2, 2], D=[1, 1.01])) == ["A", "D"]


def card(name, **more):
    config = {"initial_weights": "imagenet", "start_from": more.pop("start_from", "")}
    return {"name": name, "training": {"config": config}} | more


def test_a_lineage_goes_back_to_where_trainings_began():
    cards = [
        card("first"),
        card("larger", start_from="first"),
        card("soup", soup={"of": [{"model": "first"}, {"model": "larger"}]}),
        card("both", members=[{"model": "soup"}, {"model": "gone"}]),
        card("unasked"),
    ]
    chart = lineage(cards, ["both"]).splitlines()
    assert chart[:2] == ["```mermaid", "flowchart LR"] and chart[-1] == "```"
    boxes = dict(line.strip().rstrip('"]').split('["') for line in chart if '["' in line)
    assert list(boxes.values()) == ["both", "soup", "gone", "first", "larger", "ImageNet"]
    arrows = [line.split() for line in chart[2 + len(boxes) : -1]]
    assert [(boxes[start], arrow, boxes[end]) for start, arrow, end in arrows] == [
        ("soup", "==>|answers|", "both"),
        ("gone", "==>|answers|", "both"),
        ("first", "-.->|weights|", "soup"),
        ("larger", "-.->|weights|", "soup"),
        ("ImageNet", "-->", "first"),
        ("first", "-->", "larger"),
    ]
