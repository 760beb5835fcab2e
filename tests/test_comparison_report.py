"""What is taken away from a comparison says the same as the page, and stands alone."""

import csv
import io
import re

import pytest

from dermsa import comparison_report, plots_compare
from dermsa.comparison_report import Section
from dermsa.evaluation import compare
from dermsa.evaluation.decision import decision_curve
from tests.drawn_evaluations import drawn_evaluation


@pytest.fixture(scope="module")
def both():
    return [drawn_evaluation("Good", 3.0), drawn_evaluation("20260101-120000-poor_run", 0.6)]


def test_run_ids_lose_their_stamp_where_they_stay_apart():
    first, second = "20260101-120000-run", "20260202-120000-run"
    assert comparison_report.labels([first, "Good"]) == {first: "run", "Good": "Good"}
    assert comparison_report.labels([first, second]) == {first: first, second: second}


def test_csv_has_every_figure_in_full(both):
    rows = list(csv.DictReader(io.StringIO(comparison_report.csv_table(both))))
    assert len(rows) == sum(len(one.estimates) for one in both)
    row = next(
        row
        for row in rows
        if (row["model"], row["metric"], row["class"]) == ("Good", "recall", "mel")
    )
    interval = both[0].interval("recall", "mel")
    assert float(row["value"]) == pytest.approx(interval.value, abs=1e-6)
    assert float(row["high"]) == pytest.approx(interval.high, abs=1e-6)
    assert int(row["n"]) == interval.n
    about = row["dataset"], row["protocol"], row["part"], row["leaked_share"]
    assert about == ("ham10000", "lesion", "test", "0")


def test_latex_escapes_what_latex_reads_and_marks_the_best(both):
    rows = compare.table(both)
    text = comparison_report.latex_table(rows, ["Good", "poor_run"], "100 % of it & more")
    assert r"poor\_run" in text and r"100 \% of it \& more" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.strip()]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line.count(" & ") == 3 and line.endswith(r"\\")
        assert line.split(" & ")[1] == plots_compare.n_text(row.intervals)
        assert (r"\textbf" in line) == (row.best is not None)


def test_the_report_stands_alone_and_says_what_was_tested(both):
    models = {one.model: one.predictions for one in both}
    benefits = {name: decision_curve(of, samples=20) for name, of in models.items()}
    sections = [
        Section("What differs", ["A <b> & c."]),
        Section("Confusion", figure=plots_compare.confusions(models), alt='It says "so".'),
        Section("Curves", figure=plots_compare.curves(models, benefits)),
    ]
    text = comparison_report.html_report(
        compare.table(both), both, sections, {"Paper": {("accuracy", None): 0.9}}
    )
    assert "<th>Paper, published</th>" in text and "<td>0.90</td>" in text
    assert "<th>n</th>" in text and "<td>300</td>" in text
    assert "A &lt;b&gt; &amp; c." in text and 'aria-label="It says &quot;so&quot;."' in text
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", text)
    assert text.count('class="plotly-graph-div"') == 2
    assert text.count("plotly.js v") == 1  # the script that draws them is there once
    for one in both:
        assert one.sentence in text and one.split_sha256[:16] in text
    assert "★" in text and comparison_report.INTENDED_USE in text
