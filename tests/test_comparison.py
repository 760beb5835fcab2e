"""What the Compare page says of evaluations."""

import dataclasses

import numpy as np
import pytest

from dermsa import comparison, comparison_sections
from dermsa.comparison import Chosen
from dermsa.evaluation import published
from dermsa.inference.ensemble import open_predictor
from dermsa.training.presets import PRESETS
from tests.drawn_evaluations import drawn_evaluation
from tests.drawn_weights import drawn_attention, drawn_cost


@pytest.mark.parametrize("title", comparison.published_models())
def test_every_published_model_can_be_trained_as_it_is_said(title):
    command = comparison.training_command(title)
    figure = next(iter(comparison.published_models()[title].values()))
    assert bool(command) == bool(figure.backbone)  # what others trained has no preset
    if command:
        preset = PRESETS[command.removeprefix("python -m dermsa train --preset ")]
        assert figure in preset.figures()


def test_every_row_that_was_published_is_offered_with_its_conditions():
    models = comparison.published_models()
    for title in (
        "MobileNetV3Large (Sensors 2022)",
        "MobileNetV3Large, [:246], Dense 512 (Sensors 2022)",
        "DenseNet201, original class weights (Sensors 2022)",
        "IRv2+SA, 30% held out (Datta 2021)",
        "IRv2 5x5+SA (Datta 2021, ISIC 2017)",
        "ARL-CNN50, quoted (Datta 2021, ISIC 2017)",
        "SE-ResNeXt-101, test (USTH 2024)",
    ):
        assert title in models
    offered = {(of.source, of.model) for model in models.values() for of in model.values()}
    left_out = {of.model for of in published.figures() if (of.source, of.model) not in offered}
    assert left_out == {"Garg", "Nadipineni", "Yao", "Young", "Xing"}  # quoted by the paper
    (held_out,) = comparison.caveats(["IRv2+SA, 30% held out (Datta 2021)"])
    assert "(datta-70-30)" in held_out and "1,655 images" in held_out
    (report,) = comparison.caveats(["VGG16, test (USTH 2024)", "ResNet152, test (USTH 2024)"])
    assert "protocol not stated" in report and "validation and test" in report
    anchors = [title for title in models if comparison.dataset_of(title) == "isic2018"]
    assert len(anchors) == 4
    chosen = Chosen((drawn_evaluation("A", dataset="isic2018"),), {"A": "A"}, "")
    assert comparison.on_these_data(chosen, list(models)) == anchors


def test_the_words_above_a_table_tell_of_leaks():
    def told(share):
        return comparison.what_was_tested(drawn_evaluation("A", leaked_share=share))

    assert told(0.0).endswith("no lesion is shared with training.")
    assert "42.0\N{NO-BREAK SPACE}% of the images show lesions that were seen" in told(0.42)
    assert told(None).endswith("is not known.")


def test_costs_that_were_not_measured_together_are_told_apart():
    together = drawn_evaluation("A", cost=drawn_cost())
    other = dataclasses.replace(drawn_cost(), processor="another one", measured_with=("B",))
    alone = drawn_evaluation("B", 0.6, seed=2, cost=other)
    papers = ["MobileNetV3Large (Sensors 2022)", "IRv2 5x5+SA (Datta 2021, ISIC 2017)"]
    chosen = Chosen((together, alone), {"A": "A", "B": "B"}, "")
    text = comparison_sections.report(chosen, papers)
    assert "not measured together" in text
    assert "A on a processor, 2 threads; B on another one, 2 threads" in text
    same = Chosen((together, drawn_evaluation("B", cost=drawn_cost())), {"A": "A", "B": "B"}, "")
    assert not comparison.not_measured_together(same)
    assert comparison.machines(same) == "Times in the served form on a processor, 2 threads."
    # What was published on other data stands neither in the plot nor in the table.
    elsewhere = Chosen((drawn_evaluation("A", dataset="isic2018"),), {"A": "A"}, "")
    for of, shown in ((chosen, True), (elsewhere, False)):
        assert any("Sensors" in row["Model"] for row in comparison.cost_rows(of, papers)) == shown
        assert (papers[0] in comparison.priced(of, papers, "accuracy")) == shown


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
    views = {
        "What differs",
        "Cost",
        "Attention: Share of the map on the lesion",
        "Attention: Deletion (lower is better)",
        "Attention: agreement of the maps",
        "Attention: deletion and insertion, Grad-CAM",
        "Accuracy by group: sex",
        "Confusion matrices",
        "MobileNetV3Large (Sensors 2022), published, beside A",
    }
    assert views <= found
    assert "9.0 (p95 12.0, 2 views)" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert ":small" not in text
    assert "McNemar over lesions" in text and "DeLong over lesions" in text
    found, _ = headings(plain)
    assert not any(heading.startswith(("What differs", "Attention")) for heading in found)


def test_a_photo_that_cannot_be_judged_gets_no_verdict():
    night = open_predictor("MobileNetV3Small-256").diagnose([np.full((450, 600, 3), 5, np.uint8)])
    below = dataclasses.replace(night, triage=dataclasses.replace(night.triage, refer=False))
    assert not below.reliable
    assert comparison.answer_row("A", below)["Referral"].startswith("no verdict")
    above = dataclasses.replace(night, triage=dataclasses.replace(night.triage, refer=True))
    assert comparison.answer_row("A", above)["Referral"].startswith("refer")
    photo = dataclasses.replace(below.photos[0], quality=(), novelty=None)
    fine = dataclasses.replace(below, photos=(photo,))
    assert comparison.answer_row("A", fine)["Referral"].startswith("no referral")
