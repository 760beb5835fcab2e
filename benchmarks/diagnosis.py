"""One diagnosis of a 12-megapixel JPEG, and the model's part against Keras `predict()`."""

from __future__ import annotations

import numpy as np

from benchmarks.common import in_turns, jpeg, line
from dermsa import images
from dermsa.inference import explanation, quality
from dermsa.inference.ensemble import EnsemblePredictor, open_predictor
from dermsa.inference.predictor import Predictor
from dermsa.patient import Patient


def main() -> None:
    answering = open_predictor()
    ensemble = isinstance(answering, EnsemblePredictor)
    predictor = answering.members[0] if ensemble else answering
    photo = jpeg(4000, 3000)
    patient = Patient(55, "female", "back")
    rgb = images.load(photo)
    seen = images.to_model_input(rgb, predictor.engine.input_size)
    vectors = explanation.counterfactual_vectors(patient, predictor.age_scale)
    print(f"One diagnosis of a 12-megapixel JPEG by {answering.model.name}, median:")
    taken = in_turns(
        {
            "all": lambda: answering.diagnose([photo], patient),
            "decode": lambda: images.load(photo),
            "scale": lambda: images.to_model_input(rgb, predictor.engine.input_size),
            "quality": lambda: quality.findings(rgb),
            "model": lambda: predictor.engine(seen[None], vectors),
        },
        times=20,
    )
    line("everything", f"{taken['all']:.0f} ms", "at most 150 ms")
    for part in ("decode", "scale", "quality", "model"):
        line(
            f"  one view of {predictor.model.name}" if part == "model" else f"  of it {part}",
            f"{taken[part]:.1f} ms",
        )

    predict = _keras_predict(predictor, seen, vectors[-1:])
    versus = in_turns(
        {"served": lambda: predictor.engine(seen[None], vectors), "keras": predict}, times=15
    )
    line(
        f"one pass of {predictor.model.name} (of {predictor.views} views), as served",
        f"{versus['served']:.1f} ms",
    )
    line("one pass of the same classifier through Keras predict()", f"{versus['keras']:.1f} ms")
    line("ratio", f"{versus['keras'] / versus['served']:.1f} x", "at least 5 x")


def _keras_predict(predictor: Predictor, seen: np.ndarray, vector: np.ndarray):
    """Keras' own way; weights do not change its speed, so they are left random."""
    from dermsa.models.classifier import ClassifierConfig, build_classifier

    architecture = predictor.model.card["architecture"]
    fields = ClassifierConfig.__dataclass_fields__
    config = ClassifierConfig(**{k: v for k, v in architecture.items() if k in fields})
    classifier = build_classifier(config)
    inputs = {"image": seen[None].astype(np.float32), "patient": vector}
    return lambda: classifier.predict(inputs, verbose=0)


main()
