"""Augmentation recipes: which transformations, and how strong, as plain data.

Nothing here needs Keras, so that the page and the command line can list recipes at once;
`augmentation.Augment` carries them out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

# HAM10000 photos are 4:3 and are squashed to a square; a turned camera turns the original.
PHOTO_ASPECT = 4 / 3


def _strength(most: float, unit: str, text: str):
    return field(default=0.0, metadata={"most": most, "unit": unit, "help": text})


@dataclass(frozen=True)
class Recipe:
    """Random transformations with their strengths; a strength of 0 leaves one out.

    A strength is the largest that is drawn, for each photo anew. The `metadata` of a strength
    hold its help text, its unit and the largest value that it can have.
    """

    about: str
    rotation: float = _strength(180, "°", "turn, either way")
    shift: float = _strength(0.5, "of the side", "shift along either axis")
    zoom_in: float = _strength(0.9, "of the side", "what zooming in leaves out")
    zoom_out: float = _strength(1, "of the side", "what zooming out adds")
    stretch: float = _strength(1, "log ratio", "change of the aspect")
    flip_horizontal: float = _strength(0.5, "chance", "left becomes right")
    flip_vertical: float = _strength(0.5, "chance", "top becomes bottom")
    crop: float = _strength(0.9, "of the area", "cut off around a window of the same aspect")
    elastic: float = _strength(0.2, "of the side", "smooth distortion, standard deviation")
    blur: float = _strength(0.05, "of the side", "Gaussian blur, standard deviation")
    brightness: float = _strength(1, "of the mean", "change of brightness")
    contrast: float = _strength(1, "of the contrast", "change of contrast")
    saturation: float = _strength(1, "of the saturation", "change of saturation")
    channel_gain: float = _strength(1, "of the value", "red, green and blue multiplied apart")
    channel_shift: float = _strength(1, "of the range", "red, green and blue shifted apart")
    noise: float = _strength(0.5, "of the range", "noise, standard deviation")
    mask: float = _strength(1, "of the side", "grey rectangle, on half of the photos")
    zoom_apart: bool = False  # each axis has a zoom of its own
    fill: str = "reflect"  # or "nearest": what lies beyond the edges
    aspect: float = PHOTO_ASPECT  # width to height of the photo before it was squashed

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"Expected {name} to be from 0 to {most:g}. Received: {getattr(self, name)}"
                )

    def scaled(self, strength: float) -> Recipe:
        """All strengths times a factor, as far as each one goes.

        Raises:
            ValueError: A negative factor.
        """
        check_strength(strength)
        values = {name: min(getattr(self, name) * strength, most) for name, most in LIMITS.items()}
        return dataclasses.replace(self, **values)

    def steps(self) -> dict[str, float]:
        """The transformations that take part, with their strengths."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name)}


STRENGTHS = tuple(f for f in dataclasses.fields(Recipe) if "most" in f.metadata)
LIMITS = {strength.name: strength.metadata["most"] for strength in STRENGTHS}

RECIPES = {
    "none": Recipe("Photos as they are."),
    "sensors2022": Recipe(
        "The published regime of Nguyen, Bui and Do (Sensors 2022): turns, shifts, zooms and "
        "mirror images, with the nearest pixel beyond the edges.",
        rotation=180,
        shift=0.1,
        zoom_in=0.1,
        zoom_out=0.1,
        flip_horizontal=0.5,
        flip_vertical=0.5,
        zoom_apart=True,
        fill="nearest",
        aspect=1,  # they turned the squashed photos
    ),
    "usth2024": Recipe(
        "The transformations that the 2024 report lists. It gives no strengths: these are ours.",
        rotation=180,
        shift=0.1,
        zoom_in=0.1,
        zoom_out=0.1,
        flip_horizontal=0.5,
        flip_vertical=0.5,
        crop=0.2,
        elastic=0.015,
        blur=0.005,
        brightness=0.15,
        contrast=0.2,
        channel_shift=0.05,
        noise=0.03,
    ),
    "strong": Recipe(
        "Turns, zooms, shifts, recolours and partly covers photos; what DermSA's own models "
        "were trained with.",
        rotation=180,
        shift=0.1,
        zoom_in=0.23,
        zoom_out=0.25,
        stretch=0.15,
        flip_horizontal=0.5,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        channel_gain=0.1,
        mask=0.3,
    ),
}
RECIPES["uncovered"] = dataclasses.replace(
    RECIPES["strong"], about="The recipe strong without its grey rectangles (cutout).", mask=0
)


def recipe(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ValueError: There is none.
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}. Expected one of: {', '.join(RECIPES)}.")
    return RECIPES[name]


def check_strength(strength: float) -> None:
    if not 0 <= strength < float("inf"):
        raise ValueError(f"Expected a strength of at least 0. Received: {strength}")
