"""Figures that put models side by side: data in, a plotly `Figure` out.

Models come as a mapping from the name to show to whatever is shown of them, and keep one look in
every figure: colour, dash, marker and hatch differ together, so that no two are told apart by
colour alone. One that has nothing to show in a figure is given all the same, empty, so that the
others keep their looks. Pointing at a place reads all models there at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dermsa.evaluation.attention_quality import Curve
from dermsa.evaluation.decision import DecisionCurve
from dermsa.evaluation.metrics import Predictions, Ranking, reliability_curve
from dermsa.evaluation.statistics import Interval
from dermsa.plots import NEUTRAL_COLOUR, TEXT_COLOUR, tidy
from dermsa.taxonomy import NAMES

MAX_MODELS = 6
GRID = np.linspace(0, 1, 101)
"""Where a curve can be read by pointing."""
OPEN_SYMBOLS = ("diamond-open", "star-open", "hexagon-open", "triangle-down-open")
"""For what was published and not measured here."""
PALE = "#dfe4e9"
SMALL_FONT = 13
ROOM_FOR_CAMERA = 36
"""Pixels at the right of a figure, for the button that saves it."""
COUNT_SCALE = ((0.0, "#f4f8fb"), (1.0, "#7fb2d9"))
"""Pale enough at its end for dark numbers."""


@dataclass(frozen=True)
class Style:
    """The look of one model in every figure (colours after Okabe and Ito, darkened)."""

    colour: str
    dash: str
    symbol: str
    hatch: str


STYLES: tuple[Style, ...] = (
    Style("#00598a", "solid", "circle", ""),
    Style("#c2500a", "dash", "square", "/"),
    Style("#00805c", "dot", "diamond", "x"),
    Style("#a8417e", "dashdot", "triangle-up", "\\"),
    Style("#6b5200", "longdash", "cross", "."),
    Style("#3d4650", "longdashdot", "star", "-"),
)


def styles(names: Sequence[str]) -> dict[str, Style]:
    """The looks of up to six models, by their place in the selection."""
    if len(names) > MAX_MODELS:
        raise ValueError(f"Expected at most {MAX_MODELS} models. Received: {len(names)}")
    return dict(zip(names, STYLES, strict=False))


# --- curves -------------------------------------------------------------------------------------


def curves(
    models: Mapping[str, Predictions],
    benefits: Mapping[str, DecisionCurve],
    of_class: str | None = None,
    areas: Mapping[str, Mapping[str, Interval]] | None = None,
) -> go.Figure:
    """ROC, precision-recall, reliability and net benefit of one question, two by two.

    Args:
        models: Predictions on the same cases.
        benefits: The net benefit of each model, of the same question.
        of_class: The diagnosis against the rest; None for malignant or not.
        areas: By "roc_auc" and "average_precision", then by model; written into the panels.
    """
    look = styles(list(models))
    figure = make_subplots(
        2,
        2,
        subplot_titles=("ROC", "Precision and recall", "Reliability", "Net benefit"),
        vertical_spacing=0.17,
        horizontal_spacing=0.11,
    )
    questions = {name: _question(model, of_class) for name, model in models.items()}
    for name, (score, positive, ranking) in questions.items():
        _add_ranking_curves(figure, name, look[name], ranking)
        _add_benefit(figure, name, look[name], benefits[name])
        _add_reliability(figure, name, look[name], score, positive)
    prevalence = float(np.mean(next(iter(questions.values()))[1]))
    _add_references(figure, prevalence, next(iter(benefits.values())))
    for panel, corner in (
        ("roc_auc", (1, 1, 0.98, 0.04)),
        ("average_precision", (1, 2, 0.02, 0.04)),
    ):
        _write_numbers(figure, look, (areas or {}).get(panel, {}), *corner)
    for row, column, x, y in (
        (1, 1, "1 − specificity", "sensitivity"),
        (1, 2, "sensitivity (recall)", "precision (PPV)"),
        (2, 1, "probability said", "share seen"),
    ):
        figure.update_xaxes(title=x, range=[0, 1], row=row, col=column)
        figure.update_yaxes(title=y, range=[0, 1.02], row=row, col=column)
    figure.update_xaxes(title="threshold probability", row=2, col=2)
    figure.update_yaxes(
        title="true positives per case", range=[-0.05 * prevalence, 1.1 * prevalence], row=2, col=2
    )
    figure = small_print(figure, 820, top=60).update_layout(
        hovermode="x unified",
        legend={"y": 1.06, "yanchor": "bottom", "x": 0},
        showlegend=True,
    )
    return figure.update_xaxes(hoverformat=".2f")


def _question(model: Predictions, of_class: str | None) -> tuple[np.ndarray, np.ndarray, Ranking]:
    """Score, truth and ranking of one diagnosis against the rest, or of malignant or not."""
    if of_class is None:
        score = np.clip(model.malignancy_probability, 0, 1)
        return score, model.is_malignant, model.malignancy_ranking
    k = model.classes.index(of_class)
    return model.probabilities[:, k], model.truth == k, model.rankings[k]


def _add_ranking_curves(figure: go.Figure, name: str, look: Style, ranking: Ranking) -> None:
    false_rate, found = 1 - ranking.specificity(), ranking.sensitivity()
    precision = ranking.precision()
    # At each place of the grid: the most found at that rate of false alarms, and the first
    # threshold that finds so much.
    last = np.searchsorted(false_rate, GRID + 1e-9, side="right") - 1
    first = np.minimum(np.searchsorted(found, GRID - 1e-9), len(found) - 1)
    corner = _corners(false_rate, found)
    for row, column, x, y, grid_values in (
        (1, 1, false_rate[corner], found[corner], found[last]),
        (1, 2, found[1:], precision[1:], precision[np.maximum(first, 1)]),
    ):
        figure.add_scatter(
            x=x.round(4),
            y=y.round(4),
            mode="lines",
            line=_line(look),
            name=name,
            legendgroup=name,
            showlegend=row == column == 1,
            hoverinfo="skip",
            row=row,
            col=column,
        )
        figure.add_scatter(
            x=GRID,
            y=grid_values.round(4),
            mode="lines",
            line={"color": look.colour, "width": 0},
            name=name,
            legendgroup=name,
            showlegend=False,
            hovertemplate="%{y:.3f}",
            row=row,
            col=column,
        )


def _add_benefit(figure: go.Figure, name: str, look: Style, curve: DecisionCurve) -> None:
    ends = zip(curve.low, curve.high, strict=True)
    figure.add_scatter(
        x=curve.thresholds,
        y=curve.model.round(5),
        customdata=[f"{low:.4f} to {high:.4f}" for low, high in ends],
        mode="lines",
        line=_line(look),
        name=name,
        legendgroup=name,
        showlegend=False,
        hovertemplate="%{y:.4f} (%{customdata})",
        row=2,
        col=2,
    )


def _add_reliability(
    figure: go.Figure, name: str, look: Style, score: np.ndarray, positive: np.ndarray
) -> None:
    curve = reliability_curve(score, positive, bins=10)
    filled = curve.share > 0
    cases = np.round(curve.share[filled] * len(score)).astype(int)
    figure.add_scatter(
        x=curve.said[filled].round(4),
        y=curve.seen[filled].round(4),
        customdata=cases,
        mode="lines+markers",
        line=_line(look),
        marker={"symbol": look.symbol, "size": 5 + 9 * np.sqrt(curve.share[filled])},
        name=name,
        legendgroup=name,
        showlegend=False,
        hovertemplate="said %{x:.2f}, seen %{y:.2f} (n = %{customdata})",
        row=2,
        col=1,
    )


def _add_references(figure: go.Figure, prevalence: float, benefit: DecisionCurve) -> None:
    """What knowing nothing, or being perfectly calibrated, would look like."""
    thresholds, refer_all = benefit.thresholds, benefit.refer_all
    for row, column, x, y in (
        (1, 1, [0, 1], [0, 1]),
        (1, 2, [0, 1], [prevalence, prevalence]),
        (2, 1, [0, 1], [0, 1]),
        (2, 2, thresholds, refer_all),
        (2, 2, thresholds[[0, -1]], [0, 0]),
    ):
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": NEUTRAL_COLOUR, "width": 1},
            showlegend=False,
            hoverinfo="skip",
            row=row,
            col=column,
        )
    at = thresholds[np.argmin(np.abs(refer_all - 0.35 * prevalence))]
    for x, y, text in ((at, 0.35 * prevalence, "refer all"), (0.02, 0, "refer none")):
        figure.add_annotation(
            x=x, y=y, text=text, showarrow=False, xanchor="left", yanchor="bottom", row=2, col=2
        )


def _write_numbers(
    figure: go.Figure,
    look: Mapping[str, Style],
    numbers: Mapping[str, Interval],
    row: int,
    column: int,
    x: float,
    y: float,
) -> None:
    """One line per model, in its colour, into a corner of a panel."""
    if not numbers:
        return
    lines = [
        f'<span style="color:{look[name].colour}">{interval_text(interval)}</span>'
        for name, interval in numbers.items()
    ]
    figure.add_annotation(
        x=x,
        y=y,
        xref="x domain",
        yref="y domain",
        text="<br>".join(lines),
        align="right" if x > 0.5 else "left",
        xanchor="right" if x > 0.5 else "left",
        yanchor="bottom",
        showarrow=False,
        bgcolor="rgba(255,255,255,0.8)",
        row=row,
        col=column,
        exclude_empty_subplots=False,
    )


# --- cells --------------------------------------------------------------------------------------


def confusions(models: Mapping[str, Predictions]) -> go.Figure:
    """Confusion matrices beside each other: counts, coloured by their share of the true class.

    Pointing at a cell reads that cell in all of them.
    """
    columns = min(len(models), 3)
    rows = math.ceil(len(models) / columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=list(models),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.2 / rows,
    )
    counts = {name: model.confusion.astype(int) for name, model in models.items()}
    classes = next(iter(models.values())).classes
    shares = {name: _share_of_row(table) for name, table in counts.items()}
    hover = [
        [
            f"{NAMES[true]} called {NAMES[called]}<br>"
            + "<br>".join(
                f"{name}: {counts[name][i, j]} ({100 * shares[name][i, j]:.0f} %)"
                for name in models
            )
            for j, called in enumerate(classes)
        ]
        for i, true in enumerate(classes)
    ]
    for place, name in enumerate(models):
        figure.add_heatmap(
            z=shares[name].round(4),
            x=list(classes),
            y=list(classes),
            text=counts[name],
            texttemplate="%{text}",
            textfont={"color": TEXT_COLOUR},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=COUNT_SCALE,
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
            row=place // columns + 1,
            col=place % columns + 1,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, tickangle=0)
    figure.update_xaxes(title="called", row=rows)
    figure.update_yaxes(title="truth", col=1)
    return small_print(figure, 370 * rows, top=34)


def significance_matrix(
    names: Sequence[str], differences: np.ndarray, p_values: np.ndarray, title: str
) -> go.Figure:
    """Row minus column of one figure, with its p-value; shaded where it holds.

    Args:
        names: Models.
        differences: float `(m, m)`.
        p_values: float `(m, m)`, corrected for their number; the diagonal is not read. NaN in
            either where it is not defined.
        title: What was compared.
    """
    m = len(names)
    holds = np.where((p_values < 0.05) & ~np.eye(m, dtype=bool), np.sign(differences), 0)
    text = [
        ["" if i == j else _difference(differences[i, j], p_values[i, j]) for j in range(m)]
        for i in range(m)
    ]
    hover = [
        [f"{names[i]} minus {names[j]}: {text[i][j]}" if i != j else names[i] for j in range(m)]
        for i in range(m)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=holds,
            x=[_broken(name) for name in names],
            y=[_broken(name) for name in names],
            text=text,
            texttemplate="%{text}",
            textfont={"color": TEXT_COLOUR},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=[[0, "#cfc7e4"], [0.5, "#f2f5f8"], [1, "#f7cfae"]],
            zmin=-1,
            zmax=1,
            showscale=False,
            xgap=3,
            ygap=3,
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(side="top", showgrid=False, title=f"{title}: row minus column", tickangle=0)
    return small_print(figure, 110 + 62 * m, top=8)


def _difference(value: float, p_value: float) -> str:
    if not math.isfinite(value):
        return signed_figure(value)
    return f"{signed_figure(value)}<br>{p_text(p_value)}"


# --- figures with intervals ---------------------------------------------------------------------


def class_bars(
    models: Mapping[str, Mapping[str, Interval]],
    published: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "",
) -> go.Figure:
    """One figure of every diagnosis as bars, a colour a model, with its interval.

    Args:
        models: By model, then by code of the diagnosis.
        published: Likewise, without intervals; drawn as open diamonds.
        title: What is measured.
    """
    look, figure = styles(list(models)), go.Figure()
    classes = list(next(iter(models.values())))
    for name, figures in models.items():
        of_class = [figures[code] for code in classes]
        figure.add_bar(
            x=classes,
            y=[interval.value for interval in of_class],
            error_y=_error_bars(of_class),
            name=name,
            customdata=[interval_text(interval, n=True) for interval in of_class],
            marker={"color": look[name].colour, "pattern": _pattern(look[name]), "opacity": 0.85},
            hovertemplate="%{customdata}",
        )
    for (name, figures), symbol in zip((published or {}).items(), OPEN_SYMBOLS * 4, strict=False):
        known = [code for code in classes if code in figures]
        figure.add_scatter(
            x=known,
            y=[figures[code] for code in known],
            mode="markers",
            marker={"symbol": symbol, "size": 12, "color": TEXT_COLOUR, "line": {"width": 2}},
            name=f"{name}, published",
            hovertemplate="%{y:.3f}",
        )
    figure.update_xaxes(
        tickvals=classes,
        ticktext=[
            f"{_wrapped(NAMES[code])}<br>n = {n_text([of[code] for of in models.values()])}"
            for code in classes
        ],
    )
    figure.update_yaxes(range=[0, 1.04], title=title)
    return small_print(figure, 470, top=30).update_layout(
        showlegend=True,
        barmode="group",
        bargap=0.18,
        hovermode="x unified",
        legend={"y": 1.02, "yanchor": "bottom"},
    )


WHAT_N_IS = "n: photos that a figure rests on."


def n_text(intervals: Sequence[Interval]) -> str:
    """How many cases figures rest on: precisions on what each model called so."""
    least, most = min(of.n for of in intervals), max(of.n for of in intervals)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


@dataclass(frozen=True)
class Priced:
    """A model as a point of the trade between quality and cost.

    Attributes:
        quality: The figure, with its interval (ends NaN where published without one).
        milliseconds: Median time of one image; None where not measured.
        parameters: Number of parameters; None where not known.
        published: Whether it was read from a paper, not measured here.
    """

    quality: Interval
    milliseconds: float | None
    parameters: float | None
    published: bool = False


def trade(points: Mapping[str, Priced], title: str) -> go.Figure:
    """Quality against time of one image and against parameters, and who is beaten by nobody.

    Args:
        points: Those published come after those measured.
        title: What the quality is.
    """
    look = styles([name for name, point in points.items() if not point.published])
    marks = dict(zip((n for n, p in points.items() if p.published), OPEN_SYMBOLS * 4, strict=False))
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05)
    named = set()
    for column, price in ((1, "milliseconds"), (2, "parameters")):
        drawn = {n: p for n, p in points.items() if getattr(p, price) is not None}
        measured = [p for p in drawn.values() if not p.published]
        _add_front(figure, column, [(getattr(p, price), p.quality.value) for p in measured])
        for name, point in drawn.items():
            colour = TEXT_COLOUR if point.published else look[name].colour
            symbol = marks[name] if point.published else look[name].symbol
            bars = None if point.published else _error_bars([point.quality]) | {"color": colour}
            figure.add_scatter(
                x=[getattr(point, price)],
                y=[point.quality.value],
                error_y=bars,
                mode="markers",
                marker={"size": 13, "color": colour, "symbol": symbol},
                name=f"{name}, published" if point.published else name,
                legendgroup=name,
                showlegend=name not in named,
                hovertemplate=f"{name}: {interval_text(point.quality)}<br>"
                + ("%{x:.1f} ms" if price == "milliseconds" else "%{x:,.0f} parameters")
                + "<extra></extra>",
                cliponaxis=False,
                row=1,
                col=column,
            )
            named.add(name)
        prices = [getattr(point, price) for point in drawn.values()]
        figure.update_xaxes(**_log_axis(prices), row=1, col=column)
    figure.update_xaxes(title="milliseconds for one answer (median)", row=1, col=1)
    figure.update_xaxes(title="parameters", row=1, col=2)
    figure.update_yaxes(title=title, row=1, col=1)
    return small_print(figure, 450, top=30).update_layout(
        showlegend=True, legend={"y": 1.02, "yanchor": "bottom"}
    )


def _log_axis(values: Sequence[float]) -> dict:
    """A logarithmic axis with room around the values and ticks at 1, 2 and 5."""
    if not values:
        return {"type": "log", "range": [0, 1]}
    low, high = math.log10(min(values)) - 0.2, math.log10(max(values)) + 0.2
    ticks = [
        lead * 10**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for lead in (1, 2, 5)
        if low <= math.log10(lead) + power <= high
    ]
    texts = [f"{tick / 1e6:g} M" if tick >= 1e5 else f"{tick:g}" for tick in ticks]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": texts}


def _add_front(figure: go.Figure, column: int, points: Sequence[tuple[float, float]]) -> None:
    """The line through all that nothing else beats in both price and quality."""
    front, best = [], -math.inf
    for price, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if quality > best:
            front.append((price, quality))
            best = quality
    figure.add_scatter(
        x=[price for price, _ in front],
        y=[quality for _, quality in front],
        mode="lines",
        line={"color": NEUTRAL_COLOUR, "width": 1.5, "shape": "hv"},
        showlegend=False,
        hoverinfo="skip",
        row=1,
        col=column,
    )


def interval_rows(
    models: Mapping[str, Mapping[str, Interval]],
    title: str,
    small: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> go.Figure:
    """Figures with intervals, a row a group and a marker a model; small groups grey.

    Args:
        models: By model, then by title of the group.
        title: What is measured.
        small: Groups too small to be believed.
        groups: Which to show, from the top; None for all, as they come.
    """
    look, figure = styles(list(models)), go.Figure()
    if groups is None:
        groups = list(dict.fromkeys(group for figures in models.values() for group in figures))
    rows = {group: place for place, group in enumerate(groups)}
    step = 0.64 / max(1, len(models))
    for place, (name, figures) in enumerate(models.items()):
        if not figures:
            continue
        shift = (place - (len(models) - 1) / 2) * step
        for grey in (False, True):
            shown = [g for g in groups if g in figures and (g in small) == grey]
            colour = "#a4adb6" if grey else look[name].colour
            figure.add_scatter(
                x=[figures[group].value for group in shown],
                y=[rows[group] + shift for group in shown],
                error_x=_error_bars([figures[group] for group in shown]) | {"color": colour},
                mode="markers",
                marker={"symbol": look[name].symbol, "size": 9, "color": colour},
                customdata=[
                    f"{group}<br>{name}: {interval_text(figures[group], n=True)}" for group in shown
                ],
                hovertemplate="%{customdata}<extra></extra>",
                name=name,
                legendgroup=name,
                showlegend=not grey,
            )
    figure.update_yaxes(
        tickvals=list(rows.values()),
        ticktext=[f"{group}  " for group in groups],
        range=[len(groups) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(title=title)
    height = 110 + len(groups) * (20 + 10 * len(models))
    return small_print(figure, height, top=30).update_layout(
        showlegend=True, legend={"y": 1.0 + 8 / height, "yanchor": "bottom"}
    )


def removal_curves(models: Mapping[str, Curve | None]) -> go.Figure:
    """Probability of the diagnosis while the most attended pixels are blurred, or put back."""
    look = styles(list(models))
    titles = ("Deletion: lower is better", "Insertion: higher is better")
    figure = make_subplots(1, 2, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.05)
    for name, curve in models.items():
        if curve is None:
            continue
        for column, probability in ((1, curve.deletion), (2, curve.insertion)):
            figure.add_scatter(
                x=curve.shares,
                y=probability,
                mode="lines+markers",
                line=_line(look[name]),
                marker={"symbol": look[name].symbol, "size": 6},
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                hovertemplate="%{y:.3f}",
                row=1,
                col=column,
            )
    figure.update_xaxes(title="share of the pixels", range=[0, 1])
    figure.update_yaxes(title="probability of the diagnosis", row=1, col=1)
    return small_print(figure, 360, top=60).update_layout(
        showlegend=True,
        hovermode="x unified",
        legend={"y": 1.12, "yanchor": "bottom"},
    )


def answer_bars(classes: Sequence[str], answers: Mapping[str, np.ndarray]) -> go.Figure:
    """What several models say about one photo: probabilities, a colour a model.

    Args:
        classes: Codes of the diagnoses.
        answers: By model, `(classes,)`.
    """
    look, figure = styles(list(answers)), go.Figure()
    order = np.argsort(-np.max(list(answers.values()), axis=0))
    for name, probabilities in answers.items():
        figure.add_bar(
            y=[NAMES[classes[k]] for k in order],
            x=[100 * probabilities[k] for k in order],
            orientation="h",
            name=name,
            marker={"color": look[name].colour, "pattern": _pattern(look[name])},
            text=[f"{100 * probabilities[k]:.0f}" for k in order],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{x:.1f} %",
        )
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    figure.update_xaxes(range=[0, 100], title="probability, %")
    height = 120 + len(classes) * (18 + 15 * len(answers))
    return small_print(figure, height, top=30).update_layout(
        showlegend=True,
        hovermode="y unified",
        barmode="group",
        bargap=0.25,
        legend={"y": 1.0 + 6 / height, "yanchor": "bottom"},
    )


# --- words --------------------------------------------------------------------------------------


def interval_text(interval: Interval, n: bool = False) -> str:
    """ "0.812 (0.790 to 0.834), n = 1,494"; "not defined" where it is not."""
    return str(interval) if n else interval.words


def signed_figure(value: float) -> str:
    """A difference with its sign and three decimals: "+0.012", "−0.130"; "not defined"."""
    if not math.isfinite(value):
        return "not defined"
    return f"{value:+.3f}".replace("-", "−")


def printed_text(value: float) -> str:
    """A published figure as it was printed: two decimals, three where there were three."""
    return f"{value:.3f}".removesuffix("0")


def p_text(p_value: float) -> str:
    if not math.isfinite(p_value):
        return "p not defined"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def describe(title: str, models: Mapping[str, Mapping[str, Interval]]) -> str:
    """Figures with intervals in words, for the `alt` of a chart."""
    return f"{title}. " + " ".join(
        f"{name}: "
        + ", ".join(
            f"{NAMES.get(of, of)} {interval_text(interval)}" for of, interval in figures.items()
        )
        + "."
        for name, figures in models.items()
    )


def describe_confusions(models: Mapping[str, Predictions]) -> str:
    """Confusion matrices in words: what was called right, and the commonest mistake."""
    parts = []
    for name, model in models.items():
        wrong = model.confusion.copy()
        right = int(np.trace(wrong))
        np.fill_diagonal(wrong, 0)
        true, called = np.unravel_index(wrong.argmax(), wrong.shape)
        parts.append(
            f"{name}: {right} of {len(model)} right; most often {NAMES[model.classes[true]]} was "
            f"called {NAMES[model.classes[called]]} ({int(wrong[true, called])})."
        )
    return "Confusion matrices. " + " ".join(parts)


# --- parts --------------------------------------------------------------------------------------


def _line(look: Style) -> dict:
    return {"color": look.colour, "dash": look.dash, "width": 2}


def _pattern(look: Style) -> dict | None:
    if not look.hatch:
        return None
    return {"shape": look.hatch, "fillmode": "overlay", "fgcolor": "white", "size": 6}


def _error_bars(intervals: Sequence[Interval]) -> dict:
    return {
        "type": "data",
        "symmetric": False,
        "array": [interval.high - interval.value for interval in intervals],
        "arrayminus": [interval.value - interval.low for interval in intervals],
        "thickness": 1.2,
        "width": 3,
        "color": TEXT_COLOUR,
    }


def _corners(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points of a staircase where it turns; the others lie on its lines."""
    inner = (np.diff(x)[:-1] * np.diff(y)[1:]) != (np.diff(x)[1:] * np.diff(y)[:-1])
    return np.flatnonzero(np.concatenate([[True], inner, [True]]))


def _share_of_row(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _broken(name: str, width: int = 16) -> str:
    """The name of a model over lines of about so many letters, broken at hyphens."""
    lines = [""]
    for part in re.split(r"(?<=-)", name):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "<br>".join(lines)


def _wrapped(name: str) -> str:
    """A name over two lines where it has two words or more."""
    for break_ in (" / ", " "):
        if break_ in name:
            first, rest = name.split(break_, 1)
            return f"{first}{break_.rstrip()}<br>{rest}"
    return name


def small_print(figure: go.Figure, height: int, top: int) -> go.Figure:
    """Figures full of numbers use a smaller font than those with one message."""
    font = {"size": SMALL_FONT, "color": TEXT_COLOUR}
    figure = tidy(figure, height)
    figure.update_xaxes(tickfont=font, title_font=font, gridcolor=PALE, zeroline=False)
    figure.update_yaxes(tickfont=font, title_font=font, gridcolor=PALE, zeroline=False)
    figure.update_annotations(font=font)
    margin = {"l": 0, "r": ROOM_FOR_CAMERA, "t": top, "b": 0}
    return figure.update_layout(font=font, legend_font=font, margin=margin)
