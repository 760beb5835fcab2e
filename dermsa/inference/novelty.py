"""Is the photo like those the model was trained on?

Distance of the network's embedding to the nearest diagnosis in a mixture of Gaussians with one
covariance (Lee et al. 2018), that covariance being a few principal directions plus equal noise in
all others (Tipping and Bishop 1999, probabilistic PCA): it fits in a small file and also notices
what lies outside the principal directions.
"""

from __future__ import annotations

import numpy as np

COMPONENTS = 96


def fit(embeddings: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Fits the measure on training photos.

    Args:
        embeddings: float `(n, d)`.
        labels: int `(n,)`.
        classes: Number of diagnoses, each with at least one photo.

    Returns:
        Arrays for `scores`: `scale (d,)`, `means (classes, d)`, `components (d, k)`,
        `variances (k,)`, `noise ()`.
    """
    scale = 1 / (embeddings.std(axis=0) + 1e-3)
    scaled = embeddings * scale
    means = np.stack([scaled[labels == k].mean(axis=0) for k in range(classes)])
    centred = scaled - means[labels]
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    k = min(COMPONENTS, centred.shape[1] - 1, len(centred) - 1)
    return {
        "scale": scale.astype(np.float32),
        "means": means.astype(np.float32),
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
    components = measure["components"].astype(np.float64)
    distances = []
    for mean in measure["means"]:
        centred = embeddings * measure["scale"] - mean
        along = centred @ components
        inside = (along**2 / measure["variances"]).sum(axis=1)
        outside = ((centred**2).sum(axis=1) - (along**2).sum(axis=1)) / measure["noise"]
        distances.append(inside + outside)
    return np.sqrt(np.min(distances, axis=0) / embeddings.shape[1])
