"""Whether maps show where the lesion is and what the network went by, in numbers.

The paper's figure 9 shows soft attention next to Grad-CAM on chosen photos. Here every kind of
map is measured on all test photos with a lesion mask:

- mass inside: the share of the map that lies on the lesion. The lesion's share of the photo is
  what a map without any opinion would score.
- pointing game (Zhang et al. 2018): whether the map's highest point lies on the lesion.
- deletion and insertion (Petsiuk et al. 2018): the probability of the diagnosis while pixels are
  blurred, the most important first, or put back into the blurred photo; the mean over the shares
  of pixels. Deletion is better low, insertion high. They take many passes, so they are measured
  on a sample with equally many photos of each diagnosis, and on one view of each.
- agreement: the rank correlation of two kinds of map over the positions of a photo.

Maps are the served ones, averaged over the views; those that belong to a diagnosis are of the
diagnosis that the network gives, and of them what speaks for it (above 0): evidence as the app
shows it, centred over the diagnoses; Grad-CAM of the plain logit, as its authors define it.

`centre` is no explanation but a yardstick: a blob in the middle of every photo, where
photographers put lesions. A map that is no better than that has told nothing.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from dermsa import images
from dermsa.evaluation.grad_cam import with_grad_cam
from dermsa.evaluation.statistics import SAMPLES, Interval, mean_intervals, midranks
from dermsa.inference import explanation, views
from dermsa.inference.engine import Engine
from dermsa.inference.predictor import Predictor

SHARES = tuple(np.linspace(0, 1, 7))
"""Shares of the pixels at which deletion and insertion are measured."""
CURVE_IMAGES_PER_CLASS = 30
BLUR = 0.1
"""Standard deviation of the blur that stands for "deleted", as a share of the photo's height."""
BATCH = 32

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
        network: Whose maps they are: the model's own name, or that of an ensemble's member.
        maps: Every kind, over all cases first, then by class.
        agreements: Every two kinds, likewise.
        curves: One per kind.
        lesion_area: The lesions' share of the photos: the mass inside of an even map.
        images: Photos with a mask, on which mass and pointing were measured.
        curve_images: Photos on which deletion and insertion were measured.
        seconds: That it all took.
    """

    network: str
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


Look = Callable[[int], tuple[np.ndarray, np.ndarray]]


def mask_as_seen(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A lesion mask, bool `(h, w)`, cropped and resized as `images.to_model_input` does photos."""
    grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    return images.to_model_input(grey, size)[..., 0] > 127


def measure(
    predictor: Predictor,
    look: Look,
    truth: np.ndarray,
    patients: np.ndarray,
    lesion_ids: np.ndarray,
    *,
    curve_images_per_class: int = CURVE_IMAGES_PER_CLASS,
    samples: int = SAMPLES,
    progress: bool = True,
) -> AttentionQuality | None:
    """Measures every kind of map that a network has.

    Args:
        predictor: An opened network; kinds of map that it does not have are left out.
        look: Case number to the photo as the network sees it, uint8 `(height, width, 3)`, and
            its lesion mask of the same size, bool.
        truth: int (n,), index of the diagnosis.
        patients: float32 (n, 21).
        lesion_ids: (n,).
        curve_images_per_class: Photos of each diagnosis for deletion and insertion.
        progress: Shows a progress bar with the time left.

    Returns:
        None where the network has no map at all, or there is no case.
    """
    mapper = _Mapper(predictor)
    n = len(truth)
    if n == 0 or not mapper.kinds:
        return None
    started = time.perf_counter()
    kinds = (*mapper.kinds, "centre")
    two = list(itertools.combinations(mapper.kinds, 2))
    chosen = _sample_of_each_class(truth, curve_images_per_class)
    areas = np.zeros((n, 1))
    inside, pointing = np.full((2, n, len(kinds)), np.nan)
    agreement = np.full((n, len(two)), np.nan)
    curves = np.full((n, len(kinds), 2, len(SHARES)), np.nan)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=n, desc="Maps", unit="image", disable=not progress) as bar,
    ):
        for rows in np.array_split(np.arange(n), range(BATCH, n, BATCH)):
            photos, masks = map(np.stack, zip(*pool.map(look, rows), strict=True))
            areas[rows, 0] = masks.mean(axis=(1, 2))
            grids, diagnoses = mapper(photos, patients[rows])
            for j, row in enumerate(rows):
                maps = [_spread(grids[kind][j], masks.shape[1:]) for kind in mapper.kinds]
                maps.append(_centre(masks.shape[1:]))
                inside[row] = [mass_inside(of, masks[j]) for of in maps]
                pointing[row] = [points_at(of, masks[j]) for of in maps]
                agreement[row] = [
                    rank_correlation(grids[first][j], grids[second][j]) for first, second in two
                ]
                if row in chosen:
                    curves[row] = _curves(predictor, photos[j], patients[row], maps, diagnoses[j])
                bar.update()
    areas_of_curves = np.trapezoid(curves, SHARES, axis=-1)
    values = np.concatenate(
        [inside, pointing, areas_of_curves[..., 0], areas_of_curves[..., 1], agreement, areas],
        axis=1,
    )
    maps, agreements = [], []
    for k, code in [(None, None), *enumerate(predictor.classes)]:
        of = np.arange(n) if k is None else np.flatnonzero(truth == k)
        if len(of) == 0:
            continue
        intervals = mean_intervals(values[of], np.asarray(lesion_ids)[of], samples=samples)
        if k is None:
            lesion_area = intervals[-1]
        for place, kind in enumerate(kinds):
            measures = intervals[place : len(MEASURES) * len(kinds) : len(kinds)]
            maps.append(MapQuality(kind, code, dict(zip(MEASURES, measures, strict=True))))
        for place, (first, second) in enumerate(two, start=len(MEASURES) * len(kinds)):
            agreements.append(Agreement(first, second, code, intervals[place]))
    return AttentionQuality(
        network=predictor.model.name,
        maps=tuple(maps),
        agreements=tuple(agreements),
        curves=tuple(
            Curve(kind, tuple(map(float, SHARES)), *(tuple(of.tolist()) for of in mean))
            for kind, mean in zip(kinds, np.nanmean(curves[sorted(chosen)], axis=0), strict=True)
        ),
        lesion_area=lesion_area,
        images=n,
        curve_images=len(chosen),
        seconds=time.perf_counter() - started,
    )


# ---------------------------------------------------------------------------------------------
# Measures of one map
# ---------------------------------------------------------------------------------------------


def mass_inside(saliency: np.ndarray, mask: np.ndarray) -> float:
    """Share of a map `(h, w)`, not negative, inside a mask, bool; NaN of an empty map or mask."""
    total = float(saliency.sum())
    return float(saliency[mask].sum()) / total if total > 0 and mask.any() else np.nan


def points_at(saliency: np.ndarray, mask: np.ndarray) -> float:
    """1 where the highest point lies in the mask, else 0; NaN of an empty map or mask.

    Where several points share the height, the share of them that lies in the mask.
    """
    peak = saliency.max()
    return float(mask[saliency == peak].mean()) if peak > 0 and mask.any() else np.nan


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two grids of one shape, -1 to 1; NaN where one is even."""
    ranks = [midranks(grid.ravel()) - (grid.size + 1) / 2 for grid in (first, second)]
    lengths = [float(rank @ rank) for rank in ranks]
    return float(ranks[0] @ ranks[1]) / np.sqrt(lengths[0] * lengths[1]) if all(lengths) else np.nan


def perturbed(photo: np.ndarray, blurred: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """The photo with the most important pixels blurred, and with those alone sharp.

    Args:
        photo, blurred: uint8 `(h, w, 3)`.
        saliency: `(h, w)`; equal pixels are taken in random order.

    Returns:
        uint8 `(2, len(SHARES) - 2, h, w, 3)`: deletion, then insertion, for the `SHARES` between
        none and all of the pixels.
    """
    pixels = saliency.size
    random = np.random.default_rng(0).permutation(pixels)
    place = np.empty(pixels, np.int64)
    place[random[np.argsort(-saliency.ravel()[random], kind="stable")]] = np.arange(pixels)
    place = place.reshape(*saliency.shape, 1)
    important = [place < round(share * pixels) for share in SHARES[1:-1]]
    return np.stack(
        [
            [np.where(of, blurred, photo) for of in important],
            [np.where(of, photo, blurred) for of in important],
        ]
    )


# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------


class _Mapper:
    """Maps of many photos at the size of the feature map, by kind, averaged over the views."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self.kinds: list[str] = []
        self.grad_cam = None
        if "attention_map" in predictor.engine.outputs:
            self.kinds.append("soft_attention")
        if predictor.decomposes:
            self.kinds.append("evidence")
            if (network := with_grad_cam(predictor.model.onnx)) is not None:
                self.grad_cam = Engine(network)
                self.kinds.append("grad_cam")

    def __call__(
        self, photos: np.ndarray, patients: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """By kind `(n, h, w)`, not negative; and the diagnoses that the network gives, (n,)."""
        engine, number_of_views = self.predictor.engine, self.predictor.views
        logits, attention, evidence, cam = 0.0, 0.0, 0.0, 0.0
        wanted = tuple(name for name in engine.outputs if name != "embedding")
        for view in range(number_of_views):
            seen = views.of_images(photos, view)
            out = engine(seen, patients, wanted)
            logits = logits + out["logits"]
            shape = None
            if "attention_map" in out:
                shape = out["attention_map"].shape[1:]
                attention = attention + views.back(out["attention_map"], view)
            if self.predictor.decomposes:
                of_view = explanation.centred(out["evidence_map"], axis=1)
                evidence = evidence + views.back(_at_features(of_view, shape), view)
            if self.grad_cam is not None:
                of_view = self.grad_cam(seen, patients, ("evidence_map",))["evidence_map"]
                cam = cam + views.back(_at_features(of_view, shape), view)
        diagnoses = logits.argmax(axis=1)
        rows = np.arange(len(photos))
        grids = {"soft_attention": attention}
        if self.predictor.decomposes:
            grids["evidence"] = np.maximum(evidence[rows, diagnoses], 0)
        if self.grad_cam is not None:
            grids["grad_cam"] = np.maximum(cam[rows, diagnoses], 0)
        return {kind: grids[kind] for kind in self.kinds}, diagnoses


def _at_features(evidence: np.ndarray, feature_shape: tuple[int, int] | None) -> np.ndarray:
    """Evidence `(n, classes, h', w')` at the feature map's size, where it was pooled from it."""
    if feature_shape is None:
        return evidence
    return np.stack([explanation.unpool(of, feature_shape) for of in evidence])


def _sample_of_each_class(truth: np.ndarray, per_class: int) -> set[int]:
    random = np.random.default_rng(0)
    return {
        int(row)
        for k in np.unique(truth)
        for row in random.permutation(np.flatnonzero(truth == k))[:per_class]
    }


def _spread(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A grid over the photo, smoothly; not negative."""
    grid = np.ascontiguousarray(grid, np.float32)
    return np.maximum(cv2.resize(grid, size[::-1], interpolation=cv2.INTER_LINEAR), 0)


def _centre(size: tuple[int, int]) -> np.ndarray:
    """A round blob in the middle, with a standard deviation of a quarter of each side."""
    y, x = (np.linspace(-2, 2, length) for length in size)
    return np.exp(-(y[:, None] ** 2 + x**2) / 2)


def _curves(
    predictor: Predictor,
    photo: np.ndarray,
    patient: np.ndarray,
    maps: list[np.ndarray],
    diagnosis: int,
) -> np.ndarray:
    """Probability of the diagnosis, `(maps, 2, len(SHARES))`: deletion and insertion."""
    blurred = cv2.GaussianBlur(photo, (0, 0), BLUR * photo.shape[0])
    between = np.concatenate([perturbed(photo, blurred, of) for of in maps])
    seen = np.concatenate([[photo, blurred], between.reshape(-1, *photo.shape)])
    logits = np.concatenate(
        [
            predictor.engine(part, patient[None], ("logits",))["logits"]
            for part in np.array_split(seen, range(BATCH, len(seen), BATCH))
        ]
    )
    sharp, blank, *rest = predictor.probabilities(logits)[:, diagnosis]
    curves = np.empty((len(maps), 2, len(SHARES)))
    curves[..., 1:-1] = np.reshape(rest, (len(maps), 2, len(SHARES) - 2))
    curves[:, 0, 0] = curves[:, 1, -1] = sharp
    curves[:, 0, -1] = curves[:, 1, 0] = blank
    return curves
