"""A folder of models to compare: one network under several names, with drawn evaluations."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dermsa.evaluation import record
from dermsa.evaluation.attention_quality import (
    KINDS,
    MEASURES,
    Agreement,
    AttentionQuality,
    Curve,
    MapQuality,
)
from dermsa.evaluation.cost import Cost, TrainingCost
from dermsa.evaluation.record import Evaluation
from dermsa.evaluation.statistics import Interval
from dermsa.inference import store
from tests.drawn_evaluations import drawn_evaluation

GOOD, POOR, ELSEWHERE, UNMEASURED = "Good", "Poor", "Elsewhere", "Unmeasured"


def write_weights(folder: Path, image_ids: Sequence[str] | None = None) -> dict[str, Evaluation]:
    """Two models on the same cases, one on others, and one that was not measured.

    Args:
        folder: For `DERMSA_WEIGHTS`.
        image_ids: What the cases are called; None for names without photos.
    """
    source = min(store.weights_folder().glob("*/model.onnx")).parent
    for name in (GOOD, POOR, ELSEWHERE, UNMEASURED):
        (folder / name).mkdir()
        for file in ("card.json", "model.onnx", "novelty.npz"):
            shutil.copy(source / file, folder / name / file)
    served = record.served_form(json.loads((source / "card.json").read_text(encoding="utf-8")))
    n = len(image_ids) if image_ids is not None else 120
    measured = {
        "attention": drawn_attention(),
        "cost": drawn_cost(),
        "training": TrainingCost(110.0, 4_100_000_000),
    }
    evaluations = {
        GOOD: drawn_evaluation(GOOD, 3.0, n, served=served, **measured),
        POOR: drawn_evaluation(POOR, 0.6, n, seed=2, served=served),
        ELSEWHERE: drawn_evaluation(ELSEWHERE, 3.0, n - 1, served=served, protocol="datta-85-15"),
    }
    for name, evaluation in evaluations.items():
        if image_ids is not None:
            ids = image_ids[: evaluation.images]
            evaluations[name] = evaluation = renamed(evaluation, ids)
        record.save(evaluation, folder / name)
    return evaluations


def renamed(evaluation: Evaluation, image_ids: Sequence[str]) -> Evaluation:
    ids = np.array(image_ids)
    return dataclasses.replace(
        evaluation,
        cases=evaluation.cases.assign(image_id=ids),
        predictions=dataclasses.replace(evaluation.predictions, case_ids=ids),
    )


def drawn_attention() -> AttentionQuality:
    interval = Interval(0.4, 0.3, 0.5, 100, 80)
    shares = (0.0, 0.5, 1.0)
    return AttentionQuality(
        network=GOOD,
        maps=tuple(MapQuality(kind, None, dict.fromkeys(MEASURES, interval)) for kind in KINDS),
        agreements=(Agreement("soft_attention", "evidence", None, interval),),
        curves=tuple(Curve(kind, shares, (0.8, 0.4, 0.2), (0.2, 0.5, 0.8)) for kind in KINDS),
        lesion_area=interval,
        images=100,
        curve_images=50,
        seconds=1.0,
    )


def drawn_cost() -> Cost:
    return Cost(
        parameters=1_200_000,
        file_bytes=5_000_000,
        multiply_adds=60_000_000,
        views=2,
        pass_p50=4.0,
        pass_p95=6.0,
        answer_p50=9.0,
        answer_p95=12.0,
        images_per_second=100.0,
        peak_memory=300_000_000,
        rounds=10,
        threads=2,
        processor="a processor",
        measured_with=(GOOD,),
    )
