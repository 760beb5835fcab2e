"""Is the photo good enough to be judged? Findings about focus, light, colour, size and shape.

Focus, light and colour are measured on a copy whose longest side is 448 pixels, so that a limit
means the same for a phone's photo and for a small one. The limits were set on all 10,015 photos of
HAM10000 (at 448 x 336): each warning is given to at most 0.5% of them, any warning to 2.1%, a
severe finding to 2 photos. HAM10000 shows mostly light skin, so the limits of `dark` and `tinted`
leave more room: dark skin is no fault of a photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

STANDARD_SIDE = 448

# Mean and covariance of the median a* and b* (CIELAB) of HAM10000's photos.
SKIN_COLOUR = np.array([22.0, 6.0])
SKIN_COVARIANCE = np.array([[118.2, 66.5], [66.5, 86.4]])


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a photo.

    `value` is what was measured and `limit` the limit it broke, in the unit of its `Check`;
    `severity` is `"warning"`, or `"severe"` where the photo should not be judged at all.
    """

    code: str
    sentence: str
    value: float
    limit: float
    severity: str


@dataclass(frozen=True)
class Check:
    """What is measured, from where on it is a finding, and what to tell the doctor.

    A `severe` limit above the `warning` limit means that large values are bad, else small ones.
    """

    code: str
    warning: float
    severe: float
    sentence: str

    def finding(self, value: float) -> Finding | None:
        sign = 1 if self.severe > self.warning else -1
        for severity, limit in (("severe", self.severe), ("warning", self.warning)):
            if sign * value > sign * limit:
                return Finding(self.code, self.sentence, value, limit, severity)
        return None


# Beside each: the share of HAM10000 that is flagged, and of 1,000 of its photos after mistreatment.
CHECKS = (
    # 0.42%; Gaussian blur of 1.5 px 85%, 2 px 99.8%, 3 px 100%; motion over 9 px 99.6%
    Check(
        "blurred",
        1.03,
        0.70,
        "The picture is blurred; take it again in focus, with the camera held still.",
    ),
    # 0% (the darkest has 81); light x 0.5 11%, x 0.4 86%, x 0.3 100%
    Check("dark", 80, 50, "The picture is too dark; take it again with more light."),
    # 0.50%; light x 1.5 61%, x 2 91%, x 2.5 97%; `bright` or `overexposed` 73%, 99%, 99.9%
    Check("bright", 219, 243, "The picture is too bright; take it again with less light."),
    # 0.12%; light x 1.8 94%, x 2 98%; a reflection that covers 3% of the picture 100%
    Check(
        "overexposed",
        0.02,
        0.20,
        "Parts of the picture are burnt out by glare; take it again without reflections.",
    ),
    # 0.10%; brightness - 140, then x 1.5: 66%, or 89% for any finding
    Check(
        "underexposed",
        0.10,
        0.40,
        "Large parts of the picture are black; take it again with the lesion evenly lit.",
    ),
    # 0.50%; contrast x 0.3 78%, x 0.2 99.8%
    Check(
        "flat",
        42,
        20,
        "The picture has hardly any contrast; check the focus, the light and the lens.",
    ),
    # 0.47%; saturation x 0.2 77%, x 0.1 100%, grey 100% (all severe)
    Check(
        "colourless",
        7.2,
        2.5,
        "The picture has hardly any colour, which the diagnosis needs; use a colour photo.",
    ),
    # 0.08%; RGB x (0.4, 0.7, 1.4) 98%, x (0.6, 1.1, 0.6) 99%, x (1.2, 0.95, 0.35) 99.6%
    Check(
        "tinted",
        4.0,
        6.0,
        "The colours are unlike those of skin; check the white balance and the light.",
    ),
    # Models look at 224 pixels or more.
    Check(
        "small",
        224,
        112,
        "The picture has too few pixels to show fine structures; use a larger one.",
    ),
    # Models look at 4:3 at most: of 3:2 a ninth is left out, of 16:9 a quarter, of 3:1 more than
    # half.
    Check(
        "long",
        1.6,
        3.0,
        "The picture is long, and its ends are left out; crop it to the lesion.",
    ),
)


def findings(rgb: np.ndarray) -> tuple[Finding, ...]:
    """What is wrong with a photo, the severe things first; empty for a good one.

    Args:
        rgb: uint8 `(height, width, 3)`, RGB, as `dermsa.images.load` returns it.

    Raises:
        ValueError: `rgb` is of another shape or type.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(
            f"Expected uint8 of shape (height, width, 3). Received: {rgb.dtype} {rgb.shape}"
        )
    values = measure(rgb)
    found = [check.finding(values[check.code]) for check in CHECKS]
    return tuple(sorted(filter(None, found), key=lambda finding: finding.severity != "severe"))


def measure(rgb: np.ndarray) -> dict[str, float]:
    """The value of every check, by its code.

    - `blurred`: sharpness, fine structure per coarse structure; 1.7 is usual
    - `dark`: 90th percentile of brightness, 0 to 255; `bright`: its median
    - `overexposed`, `underexposed`: share of white (all channels 245 or more) and black pixels
    - `flat`: 99th minus 1st percentile of brightness
    - `colourless`: mean chroma (CIELAB)
    - `tinted`: distance of the median colour from HAM10000's, in standard deviations
    - `small`: shorter side in pixels; `long`: longer side / shorter side
    """
    height, width = rgb.shape[:2]
    middle = _standard_middle(rgb)
    grey = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
    p1, median, p90, p99 = _percentiles(grey, 0.01, 0.5, 0.9, 0.99)
    white = cv2.inRange(middle, (245, 245, 245), (255, 255, 255))
    _, a, b = cv2.split(cv2.cvtColor(middle, cv2.COLOR_RGB2LAB))  # 8-bit a* and b* are 128 too high
    chroma = np.hypot(a.astype(np.float32) - 128, b.astype(np.float32) - 128)
    colour = np.array([*_percentiles(a, 0.5), *_percentiles(b, 0.5)]) - 128
    return {
        "blurred": _sharpness(grey),
        "dark": p90,
        "bright": median,
        "overexposed": np.count_nonzero(white) / white.size,
        "underexposed": np.count_nonzero(grey <= 16) / grey.size,
        "flat": p99 - p1,
        "colourless": float(chroma.mean()),
        "tinted": _mahalanobis(colour - SKIN_COLOUR, SKIN_COVARIANCE),
        "small": float(min(height, width)),
        "long": max(height, width) / min(height, width),
    }


def _standard_middle(rgb: np.ndarray) -> np.ndarray:
    """At standard size, without the outer eighths: many dermatoscopes leave the corners black."""
    height, width = rgb.shape[:2]
    top, left = height // 8, width // 8
    middle = rgb[top : height - top, left : width - left]
    scale = STANDARD_SIDE / max(height, width)
    size = max(16, round(middle.shape[1] * scale)), max(16, round(middle.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(middle), size, interpolation=way)


def _sharpness(grey: np.ndarray) -> float:
    """How much fine structure there is, in its weakest direction, per coarse structure.

    Focus alone decides about this ratio, contrast cancels out; the weakest of four directions
    also shows motion. Structures under a pixel are left out, for there noise looks like sharpness.
    """
    grey = grey.astype(np.float32)
    grey *= 100 / (grey.mean() + 1)
    fine = cv2.GaussianBlur(grey, (0, 0), 1.0)
    coarse = cv2.GaussianBlur(grey, (0, 0), 2.0) - cv2.GaussianBlur(grey, (0, 0), 4.0)
    inner = fine[2:-2, 2:-2]
    ahead = (fine[2:-2, 4:], fine[4:, 2:-2], fine[4:, 4:], fine[4:, :-4])
    behind = (fine[2:-2, :-4], fine[:-4, 2:-2], fine[:-4, :-4], fine[:-4, 4:])
    bends = (_energy(a - 2 * inner + b) for a, b in zip(ahead, behind, strict=True))
    return float(np.sqrt(min(bends) / (_energy(coarse) + 0.2)))


def _energy(values: np.ndarray) -> float:
    return float(np.mean(np.square(values)))


def _percentiles(values: np.ndarray, *shares: float) -> list[float]:
    """Percentiles of uint8 values, by counting: far quicker than sorting."""
    below = np.cumsum(np.bincount(values.ravel(), minlength=256)) / values.size
    return [float(np.searchsorted(below, share)) for share in shares]


def _mahalanobis(difference: np.ndarray, covariance: np.ndarray) -> float:
    return float(np.sqrt(difference @ np.linalg.solve(covariance, difference)))
