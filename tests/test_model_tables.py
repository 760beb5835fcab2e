"""What the tables of a document say beyond the cards."""

import numpy as np

from dermsa.class_weights import class_weights
from dermsa.evaluation.metrics import Predictions
from dermsa.evaluation.model_tables import unweighted

COUNTS = {"common": 900, "rare": 100}


def card(name, kind=None, members=()):
    of_training = {"training": {"config": {"class_weights": kind}}} if kind else {}
    of_members = {"members": [{"model": each} for each in members]} if members else {}
    return {
        "name": name,
        "data": {"parts": {"train": {"by_class": COUNTS}}},
        **of_training,
        **of_members,
    }


def drawn(weights):
    """Answers of a network that says w_k p_k, up to a factor, where p_k is right."""
    random = np.random.default_rng(0)
    rare = random.beta(0.4, 2.0, 2000)
    truth = (random.random(2000) < rare).astype(int)
    said = np.stack([1 - rare, rare], axis=1) * weights
    return Predictions(truth, said / said.sum(axis=1, keepdims=True), tuple(COUNTS))


def rows(cards, predictions):
    lines = unweighted(cards, predictions).splitlines()[2:]
    return {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines}


def test_right_probabilities_come_back():
    weights = class_weights("sqrt", list(COUNTS.values()))
    (cells,) = rows([card("A", "sqrt")], [drawn(weights)]).values()
    before, after, calibration = (float(cell.split()[0]) for cell in cells[:3])
    assert after < before - 0.02
    assert calibration < 0.03


def test_who_was_not_weighed_has_no_row():
    cards = [
        card("A", "sqrt"),
        card("B", "none"),
        card("C", "balanced"),
        card("both", members=("A", "A")),
        card("mixed", members=("A", "C")),
        card("half", members=("A", "elsewhere")),
    ]
    found = rows(cards, [drawn(1.0)] * len(cards))
    assert list(found) == ["A", "C", "both"]
