"""A comparison to take away: CSV and LaTeX tables, and one HTML file that needs nothing else.

csv_table(evaluations)
latex_table(compare.table(evaluations), labels)
html_report(compare.table(evaluations), evaluations, sections)
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import plotly.io

from dermsa.evaluation.compare import Row
from dermsa.evaluation.metrics import METRICS
from dermsa.evaluation.record import Evaluation
from dermsa.plots_compare import WHAT_N_IS, interval_text, n_text, printed_text

BEST = (
    "Marked: better than every other one beyond chance (paired bootstrap over lesions, p < 0.05 "
    "after Holm's correction)."
)
INTENDED_USE = "Decision support for research use; not a medical device."
CSV_COLUMNS = (
    "model", "dataset", "protocol", "part", "leaked_share", "metric", "title", "class", "value",
    "low", "high", "n", "n_lesions",
)  # fmt: skip
RUN_STAMP = re.compile(r"^\d{8}-\d{6}-(?=.)")


@dataclass(frozen=True)
class Section:
    """A part of the HTML report.

    Attributes:
        title: Its heading.
        sentences: Shown above the figure, as a list.
        figure: None where there is none.
        alt: The figure in words.
        rows: A table below the figure: text by the name of the column, the same in every row; the
            pages' markdown is taken off.
    """

    title: str
    sentences: Sequence[str] = ()
    figure: go.Figure | None = None
    alt: str = ""
    rows: Sequence[Mapping[str, str]] = ()


def labels(names: Sequence[str]) -> dict[str, str]:
    """What figures call models and runs: run ids lose their time stamp where they stay apart."""
    short = {name: RUN_STAMP.sub("", name) for name in names}
    count = Counter(short.values())
    return {name: label if count[label] == 1 else name for name, label in short.items()}


def csv_table(evaluations: Sequence[Evaluation]) -> str:
    """Every figure of every evaluation, one a line, in full precision, with what it was measured
    on; a cell is empty where something is not known or not defined."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for evaluation in evaluations:
        leaked = "" if evaluation.leaked_share is None else f"{evaluation.leaked_share:.6g}"
        about = (evaluation.model, evaluation.dataset, evaluation.protocol, evaluation.part, leaked)
        for one in evaluation.estimates:
            of = one.interval
            numbers = ("" if math.isnan(v) else f"{v:.6g}" for v in (of.value, of.low, of.high))
            figure = (one.metric, METRICS[one.metric].title, one.of_class or "")
            writer.writerow((*about, *figure, *numbers, of.n, of.n_lesions or ""))
    return file.getvalue()


def latex_table(rows: Sequence[Row], names: Sequence[str], caption: str) -> str:
    """Figures with intervals as a LaTeX table (package booktabs), the best one bold.

    Args:
        rows: From `compare.table`.
        names: Heads of the columns, one per evaluation.
        caption: What was tested on what.
    """
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(caption)} $n$: photos that a figure "
        r"rests on. 95\,\% intervals from a bootstrap over lesions. Bold: better "
        r"than every other one beyond chance ($p < 0.05$, Holm).}",
        rf"\begin{{tabular}}{{lr{'l' * len(names)}}}",
        r"\toprule",
        " & ".join(["", "$n$", *map(_tex, names)]) + r" \\",
        r"\midrule",
    ]
    for row in rows:
        cells = [
            _tex_interval(interval, best=place == row.best)
            for place, interval in enumerate(row.intervals)
        ]
        n = n_text(row.intervals)
        lines.append(" & ".join([_tex(row.figure.title), n, *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def html_report(
    rows: Sequence[Row],
    evaluations: Sequence[Evaluation],
    sections: Sequence[Section],
    published: Mapping[str, Mapping[tuple[str, str | None], float]] | None = None,
) -> str:
    """One HTML file with the table and all figures, which loads nothing from anywhere.

    Args:
        rows: From `compare.table`.
        evaluations: Those of the rows.
        sections: What follows the table.
        published: By title, then by metric and class: columns beside the measured ones.
    """
    names = labels([evaluation.model for evaluation in evaluations])
    title = " against ".join(names.values())
    body = [f"<h1>{html.escape(title)}</h1>"]
    body += [f"<p>{html.escape(evaluation.sentence)}</p>" for evaluation in evaluations]
    body += [
        f"<p>{html.escape(note)}</p>"
        for note in dict.fromkeys(note for one in evaluations for note in one.notes)
    ]
    body += ["<h2>Figures with 95 % intervals</h2>", _html_table(rows, names, published or {})]
    body.append(f"<p>{WHAT_N_IS} {html.escape(BEST)}</p>")
    drawn = 0
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.sentences:
            items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in section.sentences)
            body.append(f"<ul>{items}</ul>")
        if section.figure is not None:
            # The first figure brings the script that draws them all.
            figure = go.Figure(section.figure).update_layout(template="plotly_white")
            drawing = plotly.io.to_html(figure, include_plotlyjs=drawn == 0, full_html=False)
            alt = html.escape(section.alt, quote=True)
            body.append(f'<figure role="img" aria-label="{alt}">{drawing}</figure>')
            drawn += 1
        if section.rows:
            cells = [[_plain(text) for text in row.values()] for row in section.rows]
            body.append(_table(section.rows[0], cells))
    body.append("<h2>What was compared</h2>")
    body += [f"<p>{html.escape(_provenance(evaluation))}</p>" for evaluation in evaluations]
    body.append(f"<p>{html.escape(INTENDED_USE)}</p>")
    return PAGE.format(title=html.escape(title), body="\n".join(body))


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; color: #16222e; max-width: 1160px; margin: 2rem auto;
  padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #dfe4e9; }}
figure {{ margin: 0; overflow-x: auto; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def _html_table(rows: Sequence[Row], names: Mapping[str, str], published: Mapping) -> str:
    heads = ("", "n", *names.values(), *(f"{title}, published" for title in published))
    lines = []
    for row in rows:
        cells = [html.escape(row.figure.title), n_text(row.intervals)]
        for place, interval in enumerate(row.intervals):
            text = interval_text(interval)
            cells.append(f"<strong>{text} ★</strong>" if place == row.best else text)
        for of in published.values():
            value = of.get((row.figure.metric, row.figure.of_class))
            cells.append("" if value is None else printed_text(value))
        lines.append(cells)
    return _table(heads, lines)


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _plain(text: str) -> str:
    """A cell of the page as HTML without the page's markdown."""
    return html.escape(re.sub(r":small\[(.*?)\]", r"\1", text).replace("*", ""))


def _provenance(evaluation: Evaluation) -> str:
    """Which model it was, down to its hashes, and on which split."""
    served = ", ".join(f"{name} {_short(of)}" for name, of in evaluation.served.items())
    split = f" {evaluation.split_sha256[:16]}" if evaluation.split_sha256 else ""
    return (
        f"{evaluation.kind.capitalize()} {evaluation.model} ({served}), data {evaluation.dataset}, "
        f"protocol {evaluation.protocol}, part {evaluation.part}, split{split or ' none'}, "
        f"{evaluation.images:,} images of {evaluation.lesions:,} lesions."
    )


def _short(value: object) -> str:
    """Hashes by their first digits, numbers without those that rounding left, members by name."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "and".join(f" {member['model']} " for member in value).strip()
    return f"{value:.5g}" if isinstance(value, float) else str(value)[:16]


def _tex_interval(interval, best: bool) -> str:
    if not math.isfinite(interval.value):
        return "--"
    value = f"{interval.value:.3f}"
    value = rf"\textbf{{{value}}}" if best else value
    if not math.isfinite(interval.low):
        return value
    return f"{value} ({interval.low:.3f}--{interval.high:.3f})"


def _tex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    text = text.replace("\\", r"\textbackslash ")
    return re.sub(r"([&%$#_{}])", r"\\\1", text).replace("\N{EN DASH}", "--")
