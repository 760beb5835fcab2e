"""Whether maps show where the lesion is and what the network went by, in numbers.

The paper's figure 9 shows soft attention next to Grad-CAM on chosen photos. Here every kind of
map is measured on all test photos with a lesion mask:

- mass inside: the share of the map that lies on the lesion. The lesion's share of the photo is
  what a map without any opinion would score.
- pointing game (Zhang et al. 2018): whether the map's highest point lies on the lesion.
- deletion and insertion (Petsiuk et al. 2018): the probability of the diagnosis while pixels are
  blurred, the most important first, or put back into the blurred photo. Deletion is better low,
  insertion high.
- agreement: the rank correlation of two kinds of map over the positions of a photo.

`centre` is no explanation but a yardstick: a blob in the middle of every photo, where
photographers put lesions. A map that is no better than that has told nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dermsa.evaluation.statistics import Interval

KINDS = {
    "soft_attention": "Soft attention",
    "evidence": "Evidence map",
    "grad_cam": "Grad-CAM",
    "centre": "Centre of the photo",
}
MEASURES = {
    "mass_inside": "Share of the map on the lesion",
    "pointing": "Highest point on the lesion",
    "deletion": "Deletion (lower is better)",
    "insertion": "Insertion (higher is better)",
}


@dataclass(frozen=True)
class MapQuality:
    """One kind of map, over all cases or those of one class.

    Attributes:
        kind: A key of `KINDS`.
        of_class: Code of the true class; None for all cases.
        measures: By the keys of `MEASURES`, in [0, 1].
    """

    kind: str
    of_class: str | None
    measures: Mapping[str, Interval]


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of two kinds of map, -1 to 1, mean over photos."""

    first: str
    second: str
    of_class: str | None
    correlation: Interval


@dataclass(frozen=True)
class Curve:
    """Mean probability of the diagnosis against the share of pixels, over the photos measured.

    Attributes:
        kind: A key of `KINDS`.
        shares: (t,), from 0 to 1: pixels blurred (deletion) or shown sharp (insertion).
        deletion, insertion: (t,).
    """

    kind: str
    shares: tuple[float, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]


@dataclass(frozen=True)
class AttentionQuality:
    """Everything measured of a model's maps.

    Attributes:
        maps: Every kind, over all cases first, then by class.
        agreements: Every two kinds, likewise.
        curves: One per kind.
        lesion_area: The lesions' share of the photos: the mass inside of an even map.
        images: Photos with a mask, on which mass and pointing were measured.
        curve_images: Photos on which deletion and insertion were measured.
        seconds: That it all took.
    """

    maps: tuple[MapQuality, ...]
    agreements: tuple[Agreement, ...]
    curves: tuple[Curve, ...]
    lesion_area: Interval
    images: int
    curve_images: int
    seconds: float

    def of(self, kind: str, of_class: str | None = None) -> MapQuality | None:
        """One entry of `maps`, or None where that kind was not measured."""
        found = (one for one in self.maps if (one.kind, one.of_class) == (kind, of_class))
        return next(found, None)

    def as_dict(self) -> dict:
        return {
            **vars(self),
            "maps": [
                {**vars(one), "measures": {k: v.as_dict() for k, v in one.measures.items()}}
                for one in self.maps
            ],
            "agreements": [
                {**vars(one), "correlation": one.correlation.as_dict()} for one in self.agreements
            ],
            "curves": [vars(curve) for curve in self.curves],
            "lesion_area": self.lesion_area.as_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping) -> AttentionQuality:
        """What `as_dict` gave, also after a journey through JSON."""
        maps = (
            {**one, "measures": {k: Interval.from_dict(v) for k, v in one["measures"].items()}}
            for one in values["maps"]
        )
        agreements = (
            {**one, "correlation": Interval.from_dict(one["correlation"])}
            for one in values["agreements"]
        )
        curves = (
            {name: of if name == "kind" else tuple(of) for name, of in curve.items()}
            for curve in values["curves"]
        )
        return cls(
            **{
                **values,
                "maps": tuple(MapQuality(**one) for one in maps),
                "agreements": tuple(Agreement(**one) for one in agreements),
                "curves": tuple(Curve(**one) for one in curves),
                "lesion_area": Interval.from_dict(values["lesion_area"]),
            }
        )
