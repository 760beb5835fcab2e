"""Distance from the training photos."""

import numpy as np
import pytest

from dermsa.inference import novelty


@pytest.fixture(scope="module")
def known():
    """Three clouds in 160 dimensions that vary in 10 of them."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 400)
    centres = random.normal(size=(3, 160)) * 2
    directions = random.normal(size=(10, 160))

    def draw(labels):
        along = random.normal(size=(len(labels), 10)) @ directions
        return centres[labels] + along + 0.1 * random.normal(size=(len(labels), 160))

    return draw(labels), labels, draw(labels)


def test_familiar_photos_score_about_one_and_strange_ones_more(known):
    embeddings, labels, fresh = known
    measure = novelty.fit(embeddings, labels, 3)
    familiar = novelty.scores(measure, fresh)
    assert 0.8 < np.median(familiar) < 1.2
    random = np.random.default_rng(1)
    off_the_plane = fresh + random.normal(size=fresh.shape)
    assert novelty.scores(measure, off_the_plane).min() > np.quantile(familiar, 0.99)


def test_scores_equal_the_mahalanobis_distance_where_all_directions_are_kept(known):
    embeddings, labels, fresh = known
    few = embeddings[:, :20], fresh[:, :20]  # fewer dimensions than components
    measure = novelty.fit(few[0], labels, 3)
    scaled = few[0] * measure["scale"]
    means = np.stack([scaled[labels == k].mean(axis=0) for k in range(3)])
    covariance = np.cov((scaled - means[labels]).T, bias=True)
    precision = np.linalg.inv(covariance)
    centred = few[1] * measure["scale"]
    expected = [
        min((x - m) @ precision @ (x - m) for m in means) / 20 for x in centred.astype(float)
    ]
    np.testing.assert_allclose(novelty.scores(measure, few[1]), np.sqrt(expected), rtol=0.05)
