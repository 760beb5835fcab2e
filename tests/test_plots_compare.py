"""Figures side by side carry the numbers they are given, and tell models apart without colour."""

import math

import numpy as np
import pytest

from dermsa import plots_compare
from dermsa.evaluation.decision import decision_curve
from dermsa.evaluation.metrics import average_precision, roc_auc
from dermsa.evaluation.statistics import Interval
from dermsa.plots_compare import Priced
from dermsa.taxonomy import HAM10000_CLASSES
from tests.drawn_evaluations import drawn_evaluation

MISSING = math.nan


@pytest.fixture(scope="module")
def models():
    return {
        name: drawn_evaluation(name, skill, samples=20).predictions
        for name, skill in (("Good", 3.0), ("Poor", 0.6))
    }


def traces(figure, name: str, axis: str) -> list:
    return [trace for trace in figure.data if trace.name == name and trace.xaxis == axis]


def test_models_differ_by_more_than_colour():
    for look in ("colour", "dash", "symbol", "hatch"):
        looks = {getattr(style, look) for style in plots_compare.STYLES}
        assert len(looks) == plots_compare.MAX_MODELS
    with pytest.raises(ValueError, match="at most 6"):
        plots_compare.styles("abcdefg")


@pytest.mark.parametrize("of_class", [None, "mel"])
def test_curves_enclose_the_areas_of_the_metrics(models, of_class):
    figure = plots_compare.curves(models, benefits(models, of_class), of_class)
    for name, model in models.items():
        roc, readable = traces(figure, name, "x")
        area = np.trapezoid(roc.y, roc.x)
        k = model.classes.index(of_class) if of_class else None
        expected = roc_auc(model)[k] if of_class else model.malignancy_ranking.roc_auc()
        assert area == pytest.approx(expected, abs=1e-3)
        # What pointing reads lies on or just below the curve that is drawn.
        drawn = np.interp(readable.x, roc.x, roc.y)
        assert (np.array(readable.y) <= drawn + 2e-3).all()
        assert np.abs(readable.y - drawn).mean() < 0.02
        precision, _ = traces(figure, name, "x2")
        steps = np.diff(precision.x, prepend=0.0) @ np.array(precision.y)
        expected = (
            average_precision(model)[k]
            if of_class
            else model.malignancy_ranking.average_precision()
        )
        assert steps == pytest.approx(expected, abs=2e-3)
        (benefit,) = traces(figure, name, "x4")
        expected = decision_curve(model, of_class, samples=20)
        np.testing.assert_allclose(benefit.y, expected.model, atol=1e-5)
        np.testing.assert_array_equal(benefit.x, expected.thresholds)


def benefits(models, of_class=None):
    return {name: decision_curve(model, of_class, samples=20) for name, model in models.items()}


def test_areas_are_written_into_the_panels(models):
    areas = {"roc_auc": {name: Interval(0.9, 0.85, 0.95, 10) for name in models}}
    figure = plots_compare.curves(models, benefits(models), areas=areas)
    texts = [note.text for note in figure.layout.annotations]
    assert any(text.count("0.900 (0.850 to 0.950)") == 2 for text in texts)


def test_confusions_count_cases_and_read_all_models_at_once(models):
    figure = plots_compare.confusions(models)
    for cells, model in zip(figure.data, models.values(), strict=True):
        assert np.array_equal(np.array(cells.text, int), model.confusion)
        assert np.allclose(np.sum(cells.z, axis=1), 1, atol=1e-3)
    hover = figure.data[0].customdata[4][5]
    assert hover.startswith("Melanoma called Melanocytic nevus")
    for name, model in models.items():
        assert f"{name}: {int(model.confusion[4, 5])} (" in hover
    assert "Good: " in plots_compare.describe_confusions(models)


def test_only_differences_that_hold_are_shaded():
    differences = np.array([[0, 0.1], [-0.1, 0]])
    for p_value, shades in ((0.01, [[0, 1], [-1, 0]]), (0.2, [[0, 0], [0, 0]])):
        p_values = np.full((2, 2), p_value)
        (cells,) = plots_compare.significance_matrix("AB", differences, p_values, "Recall").data
        assert np.array_equal(cells.z, shades)
    assert cells.text[0][1] == "+0.100<br>p = 0.200" and cells.text[1][0].startswith("−0.100")


def test_what_is_not_defined_is_no_number_in_the_matrix():
    undefined = np.full((2, 2), MISSING)
    (cells,) = plots_compare.significance_matrix("AB", undefined, undefined, "Recall").data
    assert cells.text[0][1] == "not defined" and not np.any(cells.z)
    half = plots_compare.significance_matrix("AB", np.full((2, 2), 0.5), undefined, "Recall")
    assert half.data[0].text[0][1] == "+0.500<br>p not defined"


def test_bars_carry_intervals_and_published_figures_have_none():
    figures = {"A": {code: Interval(0.5, 0.3, 0.8, 9) for code in HAM10000_CLASSES}}
    bars, published = plots_compare.class_bars(figures, {"Paper": {"mel": 0.7}}, "Recall").data
    assert bars.error_y.array[0] == pytest.approx(0.3)
    assert bars.error_y.arrayminus[0] == pytest.approx(0.2)
    assert published.x == ("mel",) and published.y == (0.7,)
    assert published.mode == "markers" and "published" in published.name


def test_the_front_leaves_out_what_is_beaten_and_what_was_published():
    def point(value, milliseconds, **more):
        return Priced(Interval(value, value - 0.1, value + 0.1, 9), milliseconds, 1e6, **more)

    points = {"A": point(0.7, 4), "B": point(0.6, 8), "C": point(0.8, 16)}
    paper = Priced(Interval(0.99, MISSING, MISSING, 9), None, 1e6, published=True)
    figure = plots_compare.trade(points | {"Paper": paper}, "Accuracy")
    front = next(trace for trace in figure.data if trace.mode == "lines" and trace.xaxis == "x")
    assert front.x == (4, 16) and front.y == (0.7, 0.8)
    assert not front.showlegend
    assert [trace.xaxis for trace in figure.data if "Paper" in (trace.name or "")] == ["x2"]


def test_small_groups_are_grey_and_models_keep_their_look():
    interval = Interval(0.5, 0.4, 0.6, 9)
    figures = {"A": {}, "B": {"Many": interval, "Few": interval}}
    many, few = plots_compare.interval_rows(figures, "Recall", small=["Few"]).data
    second = plots_compare.STYLES[1]
    assert many.marker.color == second.colour and few.marker.color != second.colour
    assert {many.marker.symbol, few.marker.symbol} == {second.symbol}


def test_answers_are_sorted_by_the_boldest_model():
    answers = {"A": np.array([0.1, 0.9]), "B": np.array([0.4, 0.6])}
    first, _ = plots_compare.answer_bars(("mel", "nv"), answers).data
    assert first.y[0] == "Melanocytic nevus" and first.x[0] == pytest.approx(90)


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.5, 0.4, 0.6, 1234), "0.500 (0.400 to 0.600), n = 1,234"),
        (Interval(0.5, MISSING, MISSING, 9), "0.500, n = 9"),
        (Interval(MISSING, MISSING, MISSING, 0), "not defined, n = 0"),
    ],
)
def test_intervals_in_words(interval, text):
    assert plots_compare.interval_text(interval, n=True) == text
