"""The curves of trainings."""

import pandas as pd
import pytest

from dermsa.plots_training import SHARES_SPAN, describe_training, training_curves


def table(*recalls, rates=(1e-4, 1.5e-4, 2e-4)):
    rows = {
        "epoch": range(1, len(recalls) + 1),
        "train_loss": 1.0,
        "loss": 0.5,
        "macro_recall": recalls,
        "macro_auc": 0.96,
        "learning_rate": rates[: len(recalls)],
    }
    return pd.DataFrame(rows)


def ranges(metrics):
    """Of the axes of macro recall and macro AUC; None where Plotly fits them to the values."""
    layout = training_curves(metrics).layout
    return layout.yaxis2.range, layout.yaxis3.range


def test_what_hardly_differs_does_not_look_like_a_change():
    recall, auc = ranges({"a": table(0.7207, 0.7210)})
    assert recall[1] - recall[0] == pytest.approx(SHARES_SPAN)
    assert sum(recall) / 2 == pytest.approx(0.72085)
    assert auc == pytest.approx((0.95, 0.97))
    assert ranges({"a": table(0.70, 0.72), "b": table(0.75, 0.76)})[0] is None


def test_no_run_and_no_epoch_can_be_drawn():
    assert ranges({}) == ranges({"new": table().iloc[:0]}) == (None, None)
    assert "new: no epoch yet" in describe_training({"new": table()})
    assert ranges({"old": pd.DataFrame({"epoch": [1], "loss": [0.5]})}) == (None, None)


def test_smoothing_keeps_the_measured_points_and_leaves_the_rate_alone():
    plain, smooth = (training_curves({"a": table(0.5, 0.7, 0.6)}, share) for share in (0, 0.5))
    measured = [trace for trace in smooth.data if trace.yaxis == "y2" and trace.mode == "markers"]
    assert list(measured[0].y) == [0.5, 0.7, 0.6]
    line = next(trace for trace in smooth.data if trace.yaxis == "y2" and trace.mode == "lines")
    assert list(line.y) == pytest.approx([0.5, 1.9 / 3, 4.3 / 7])  # 0.5, (0.5 + 2 * 0.7) / 3, ...
    rates = [[t.y for t in figure.data if t.yaxis == "y4"] for figure in (plain, smooth)]
    assert list(rates[0][0]) == list(rates[1][0]) == [1e-4, 1.5e-4, 2e-4]
