"""What the Compare page says of evaluations."""

import pytest

from dermsa import comparison, comparison_sections
from dermsa.comparison import Chosen
from dermsa.training.presets import PRESETS
from tests.drawn_evaluations import drawn_evaluation
from tests.drawn_weights import drawn_attention, drawn_cost


@pytest.mark.parametrize("title", comparison.published_models())
def test_every_published_model_can_be_trained_as_it_is_said(title):
    command = comparison.training_command(title)
    assert command.removeprefix("python -m dermsa train --preset ") in PRESETS


def test_commands_are_set_as_code():
    sentence = "B_1 has not been measured yet. Measure it: python -m dermsa evaluate --model B_1"
    assert comparison.with_code(sentence).endswith("`python -m dermsa evaluate --model B_1`")
    assert comparison.with_code("Run python -m dermsa data check.") == (
        "Run `python -m dermsa data check`."
    )
    assert comparison.with_code("There is no case.") == "There is no case."


def test_groups_are_grey_where_the_figure_rests_on_few_lesions():
    one = drawn_evaluation("A")
    chosen = Chosen((one,), {"A": "A"}, "")
    groups = [group for group in one.groups if group.property == "sex"]
    female = groups[0]
    accuracy = comparison.grouped(chosen, groups, "accuracy")
    assert f"Female, n = {female.n}" in accuracy.shown and not accuracy.small
    melanomas = comparison.grouped(chosen, groups, "melanoma_recall")
    n = female.intervals["melanoma_recall"].n
    assert f"Female, n = {n} of {female.n}" in melanomas.small
    assert set(melanomas.small) <= set(melanomas.shown)


def test_the_report_has_every_view_that_was_measured():
    measured = drawn_evaluation("A", attention=drawn_attention(), cost=drawn_cost())
    plain = drawn_evaluation("B", 0.6, seed=2)
    papers = ["MobileNetV3Large (Sensors 2022)"]

    def headings(*evaluations):
        labels = {one.model: one.model for one in evaluations}
        text = comparison_sections.report(Chosen(evaluations, labels, ""), papers)
        return {line[4:-5] for line in text.splitlines() if line.startswith("<h2>")}, text

    found, text = headings(measured, plain)
    views = {"What differs", "Cost", "Attention", "Accuracy by group: sex", "Confusion matrices"}
    assert views <= found
    assert "9.0 (p95 12.0, 2 views)" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert ":small" not in text
    found, _ = headings(plain)
    assert not {"What differs", "Attention"} & found
