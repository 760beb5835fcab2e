"""Figures and overlays: data in, a plotly `Figure` or a picture out.

Colours are told apart by colour-blind eyes, and nothing is said by colour alone: malignant
diagnoses are hatched, numbers stand beside bars and in cells, and every figure has a description
in words (`describe_probabilities` and the like are for its `alt`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import plotly.colors
import plotly.graph_objects as go

from dermsa.taxonomy import MALIGNANT, NAMES

MALIGNANT_COLOUR = "#c2500a"
BENIGN_COLOUR = "#2b6ca3"
AGAINST_COLOUR = "#6a51a3"
FOR_COLOUR = "#c2500a"
NEUTRAL_COLOUR = "#8a939c"
TEXT_COLOUR = "#16222e"
HATCH = {"shape": "/", "fillmode": "overlay", "fgcolor": "white"}
MALIGNANT_SIGN = "▲"
FONT_SIZE = 15
# So few that they find room beside long names on a telephone.
PERCENT_TICKS = {"tickvals": [0, 50, 100], "ticktext": ["0", "50", "100 %"], "tickangle": 0}

COLOUR_SCALES: tuple[str, ...] = ("Viridis", "Cividis", "Magma")
# Purple speaks against a diagnosis, orange for it.
DIVERGING = tuple(reversed(plotly.colors.diverging.PuOr))


# --- pictures -----------------------------------------------------------------------------------


def attention_overlay(
    rgb: np.ndarray,
    attention_map: np.ndarray,
    opacity: float,
    colour_scale: str = COLOUR_SCALES[0],
    crop: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """The photo under its attention map.

    Args:
        rgb: uint8 `(h, w, 3)`.
        attention_map: `(h, w)`, 0 to 1.
        opacity: 0 (the photo) to 1 (the map).
        colour_scale: One of `COLOUR_SCALES`.
        crop: (top, left, height, width) of what the model saw; the rest is left as it is.

    Returns:
        uint8 `(h, w, 3)`.
    """
    _check_map(rgb, attention_map)
    colours = _table(getattr(plotly.colors.sequential, colour_scale))
    painted = colours[(np.clip(attention_map, 0, 1) * 255).astype(np.uint8)]
    overlay = rgb.copy()
    top, left, height, width = crop or (0, 0, *rgb.shape[:2])
    seen = np.s_[top : top + height, left : left + width]
    overlay[seen] = cv2.addWeighted(painted[seen], opacity, rgb[seen], 1 - opacity, 0)
    return overlay


def evidence_overlay(
    rgb: np.ndarray, evidence: np.ndarray, opacity: float, limit: float
) -> np.ndarray:
    """The photo with what speaks for (orange) and against (purple) one diagnosis.

    Where nothing speaks for or against, the photo stays as it is.

    Args:
        rgb: uint8 `(h, w, 3)`.
        evidence: `(h, w)`, in logits.
        opacity: 0 to 1, reached where the evidence is at the limit.
        limit: Evidence that gets the end of the colour scale; positive. Use one for all
            diagnoses and photos that are to be compared.

    Returns:
        uint8 `(h, w, 3)`.
    """
    _check_map(rgb, evidence)
    share = np.clip(evidence / max(limit, 1e-9), -1, 1)
    painted = _table(DIVERGING)[np.round((share + 1) * 127.5).astype(np.uint8)]
    # Weak evidence shall be seen, and where it changes sides there shall be no sharp line, which
    # could be taken for one of the lesion.
    strength = np.abs(share) * (2 - np.abs(share))
    weight = (opacity * strength)[..., None].astype(np.float32)
    return np.round(rgb + weight * (painted.astype(np.float32) - rgb)).astype(np.uint8)


def png(rgb: np.ndarray) -> bytes:
    """A picture, uint8 `(h, w, 3)`, as the content of a PNG file."""
    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


def evidence_limit(evidence_maps: Sequence[np.ndarray]) -> float:
    """The symmetric end of the colour scale for maps or grids `(..., h, w)` to be compared."""
    return max((float(np.abs(each).max()) for each in evidence_maps), default=0.0) or 1.0


# --- figures ------------------------------------------------------------------------------------


def attention_legend(colour_scale: str) -> go.Figure:
    """The colours of an attention overlay, from little to much."""
    ticks = {0.0: "little attention", 1.0: "most attention"}
    return _legend(np.linspace(0, 1, 256), colour_scale.lower(), ticks)


def evidence_legend(limit: float) -> go.Figure:
    """The colours of an evidence overlay, in logits per position."""
    ticks = {
        -limit: f"against {signed(-limit)}",
        0.0: "0 logits",
        limit: f"for {signed(limit)}",
    }
    return _legend(np.linspace(-limit, limit, 256), list(DIVERGING), ticks)


def probability_bars(classes: Sequence[str], probabilities: np.ndarray) -> go.Figure:
    """Probabilities, the largest on top; malignant diagnoses hatched and with a sign."""
    order = np.argsort(probabilities)  # plotly draws from the bottom up
    figure = go.Figure()
    for malignant, name, colour in (
        (True, f"{MALIGNANT_SIGN} Malignant", MALIGNANT_COLOUR),
        (False, "Benign", BENIGN_COLOUR),
    ):
        chosen = [k for k in order if (classes[k] in MALIGNANT) == malignant]
        figure.add_bar(
            x=[100 * probabilities[k] for k in chosen],
            y=[_bar_name(classes[k]) for k in chosen],
            text=[percent(probabilities[k]) for k in chosen],
            name=name,
            orientation="h",
            marker={"color": colour, "pattern": HATCH if malignant else None},
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    names = [_bar_name(classes[k]) for k in order]
    figure.update_yaxes(categoryorder="array", categoryarray=names, ticksuffix="  ")
    figure.update_xaxes(range=[0, 100], **PERCENT_TICKS)
    figure = tidy(figure, height=285).update_layout(showlegend=True, barmode="overlay")
    return figure.update_layout(margin_r=75)  # room for the number beside the longest bar


def malignancy_bar(malignancy: float, threshold: float) -> go.Figure:
    """The probability of malignancy on a scale with the threshold of referral."""
    figure = go.Figure(
        go.Bar(
            x=[100 * malignancy],
            y=[""],
            orientation="h",
            marker={"color": MALIGNANT_COLOUR, "pattern": HATCH},
            hovertemplate=f"{percent(malignancy)}<extra></extra>",
        )
    )
    figure.add_vline(x=100 * threshold, line_width=3, line_color=TEXT_COLOUR)
    figure.add_annotation(
        x=100 * threshold,
        y=1,
        yref="paper",
        yanchor="bottom",
        xanchor="left" if threshold < 0.5 else "right",
        text=f"threshold {percent(threshold)}",
        showarrow=False,
    )
    figure.update_xaxes(range=[0, 100], **PERCENT_TICKS)
    figure = tidy(figure, height=100)
    margin = {"l": 8, "r": 28, "t": 26, "b": 26}
    return figure.update_layout(margin=margin, plot_bgcolor="#eef1f4", bargap=0.2)


def decomposition_bars(bias: float, image: float, patient: float, code: str) -> go.Figure:
    """How a logit adds up: bias, image, patient, and their exact sum."""
    steps = {"Bias": bias, "Image": image, "Patient": patient}
    values = [*steps.values(), sum(steps.values())]
    figure = go.Figure(
        go.Waterfall(
            orientation="h",
            x=values,
            y=[*steps, f"Logit of {code}"],
            measure=["relative"] * len(steps) + ["total"],
            text=[signed(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            increasing_marker_color=FOR_COLOUR,
            decreasing_marker_color=AGAINST_COLOUR,
            totals_marker_color=NEUTRAL_COLOUR,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    ends = np.cumsum([0, *steps.values()])
    margin = 0.22 * (np.ptp(ends) or 1)
    figure.update_xaxes(range=[ends.min() - margin, ends.max() + margin], title="logits")
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    return tidy(figure, height=250)


def contribution_cells(
    classes: Sequence[str], contributions: Mapping[str, np.ndarray]
) -> go.Figure:
    """What each patient property adds to the logit of each diagnosis.

    Args:
        classes: Codes of the diagnoses, in the order to show from the top.
        contributions: For each property (as it shall be shown), `(classes,)` in logits.
    """
    table = np.stack(list(contributions.values()), axis=1)
    limit = float(np.abs(table).max()) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=table,
            x=list(contributions),
            y=[NAMES[code] for code in classes],
            text=[[signed(value) for value in row] for row in table],
            texttemplate="%{text}",
            # Only the pale inner part of the scale, so that dark numbers can be read on all of it.
            colorscale=list(DIVERGING[2:-2]),
            zmin=-limit,
            zmax=limit,
            showscale=False,
            xgap=3,
            ygap=3,
            hovertemplate="%{y}, %{x}: %{text} logits<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", ticksuffix="  ", showgrid=False)
    figure.update_xaxes(side="top", showgrid=False)
    return tidy(figure, height=290)


# --- words --------------------------------------------------------------------------------------


def percent(value: float) -> str:
    """0.1234 as "12.3 %"; never "0.0 %" or "100.0 %" for what is not exactly so."""
    if 0 < value < 0.001:
        return "<\N{NO-BREAK SPACE}0.1\N{NO-BREAK SPACE}%"
    if 0.999 < value < 1:
        return ">\N{NO-BREAK SPACE}99.9\N{NO-BREAK SPACE}%"
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def signed(value: float) -> str:
    """Logits with their sign and a true minus: "+0.42", "−1.30"."""
    return f"{value:+.2f}".replace("-", "−")


def describe_probabilities(classes: Sequence[str], probabilities: np.ndarray) -> str:
    """The chart of probabilities in words, the largest first."""
    parts = (
        f"{NAMES[classes[k]]} ({'malignant' if classes[k] in MALIGNANT else 'benign'}) "
        f"{percent(probabilities[k])}"
        for k in np.argsort(-probabilities)
    )
    return "Probabilities: " + ", ".join(parts) + "."


def describe_contributions(classes: Sequence[str], contributions: Mapping[str, np.ndarray]) -> str:
    """The cells of `contribution_cells` in words, property by property."""
    return " ".join(
        f"{name}: "
        + ", ".join(f"{NAMES[c]} {v:+.2f}" for c, v in zip(classes, values, strict=True))
        + "."
        for name, values in contributions.items()
    )


# --- parts --------------------------------------------------------------------------------------


def _bar_name(code: str) -> str:
    return f"{MALIGNANT_SIGN} {NAMES[code]}" if code in MALIGNANT else NAMES[code]


def tidy(figure: go.Figure, height: int) -> go.Figure:
    font = {"size": FONT_SIZE, "color": TEXT_COLOUR}
    figure.update_xaxes(fixedrange=True, automargin=True, tickfont=font, title_font=font)
    figure.update_yaxes(fixedrange=True, automargin=True, tickfont=font)
    return figure.update_layout(
        height=height,
        margin={"l": 0, "r": 8, "t": 8, "b": 0},
        font=font,
        bargap=0.3,
        showlegend=False,
        legend={"orientation": "h", "x": 0, "y": -0.12, "yanchor": "top", "font": font},
        dragmode=False,
    )


def _legend(values: np.ndarray, colorscale, ticks: dict[float, str]) -> go.Figure:
    figure = go.Figure(go.Heatmap(z=values[None], x=values, colorscale=colorscale, showscale=False))
    figure.update_traces(hoverinfo="skip")
    figure.update_yaxes(visible=False)
    figure = tidy(figure, height=46)
    for position, text in ticks.items():
        side = {values[0]: "left", values[-1]: "right"}.get(position, "center")
        figure.add_annotation(
            x=position, y=0, yref="paper", yanchor="top", xanchor=side, text=text, showarrow=False
        )
    figure.update_xaxes(visible=False)
    return figure.update_layout(margin={"l": 0, "r": 0, "t": 2, "b": 26})


def _table(colours: Sequence[str]) -> np.ndarray:
    """A scale of "#rrggbb" or "rgb(r,g,b)" colours as uint8 `(256, 3)`."""
    stops = np.array(
        [
            plotly.colors.hex_to_rgb(colour)
            if colour.startswith("#")
            else plotly.colors.unlabel_rgb(colour)
            for colour in colours
        ]
    )
    at, known = np.linspace(0, 1, 256), np.linspace(0, 1, len(stops))
    return np.stack([np.interp(at, known, channel) for channel in stops.T], 1).round().astype("u1")


def _check_map(rgb: np.ndarray, values: np.ndarray) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or values.shape != rgb.shape[:2]:
        raise ValueError(
            "Expected an uint8 picture (h, w, 3) and a map (h, w). "
            f"Received: {rgb.dtype} {rgb.shape} and {values.shape}"
        )
