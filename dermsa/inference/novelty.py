"""Is the photo like those the model was trained on?

Distance of the network's embedding from those of the training photos, under one Gaussian whose
covariance is a few principal directions plus equal noise in all others (Tipping and Bishop 1999,
probabilistic PCA): it fits in a small file and also notices what lies outside the principal
directions. Embeddings are first brought to length 1: how strongly features respond varies with
light and contrast, which of them respond varies with the subject. (Without this, at 1 % false
alarms, three times fewer everyday photos were noticed; a mean per diagnosis added nothing.)
"""

from __future__ import annotations

import numpy as np

COMPONENTS = 32
ARRAYS = {"scale", "mean", "components", "variances", "noise"}


def fit(embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """Fits the measure on training photos.

    Args:
        embeddings: float `(n, d)`, n and d at least 2.

    Returns:
        Arrays for `scores`: `scale (d,)`, `mean (d,)`, `components (d, k)`, `variances (k,)`,
        `noise ()`.
    """
    directions_only = _unit(embeddings)
    scale = 1 / (directions_only.std(axis=0) + 1e-3)
    scaled = directions_only * scale
    mean = scaled.mean(axis=0)
    centred = scaled - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    k = min(COMPONENTS, centred.shape[1] - 1, len(centred) - 1)
    return {
        "scale": scale.astype(np.float32),
        "mean": mean.astype(np.float32),
        "components": directions[:, -k:].astype(np.float32),
        "variances": np.maximum(variances[-k:], 1e-6).astype(np.float32),
        "noise": np.float32(max(variances[:-k].mean(), 1e-6)),
    }


def scores(measure: dict[str, np.ndarray], embeddings: np.ndarray) -> np.ndarray:
    """Distance per photo and dimension, float64 `(n,)`: about 1 for familiar photos.

    Args:
        measure: From `fit`.
        embeddings: float `(n, d)`.
    """
    centred = _unit(embeddings) * measure["scale"] - measure["mean"]
    along = centred @ measure["components"].astype(np.float64)
    inside = (along**2 / measure["variances"]).sum(axis=1)
    outside = ((centred**2).sum(axis=1) - (along**2).sum(axis=1)) / measure["noise"]
    return np.sqrt((inside + outside) / embeddings.shape[1])


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, np.float64)
    return embeddings / (np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-9)
