"""Distance from the training photos."""

import numpy as np
import pytest

from dermsa.inference import novelty


def draw(n, dimensions=160, seed=0):
    """Embeddings that vary in 10 directions, and a little in all; of any length."""
    directions = np.random.default_rng(7).normal(size=(10, dimensions))
    centre = 10 + np.random.default_rng(8).normal(size=dimensions)
    random = np.random.default_rng(seed)
    along = random.normal(size=(n, 10)) @ directions
    embeddings = centre + along + 0.1 * random.normal(size=(n, dimensions))
    return embeddings * random.uniform(0.5, 2, (n, 1))


def test_familiar_photos_score_about_one_and_strange_ones_more():
    measure = novelty.fit(draw(1200))
    familiar = novelty.scores(measure, draw(400, seed=1))
    assert 0.8 < np.median(familiar) < 1.2
    strange = draw(400, seed=2) + np.random.default_rng(3).normal(size=(400, 160))
    assert novelty.scores(measure, strange).min() > np.quantile(familiar, 0.99)


def test_the_length_of_an_embedding_does_not_count():
    measure = novelty.fit(draw(300))
    fresh = draw(50, seed=1)
    np.testing.assert_allclose(
        novelty.scores(measure, 3 * fresh), novelty.scores(measure, fresh), rtol=1e-6
    )


def test_scores_equal_the_mahalanobis_distance_where_all_directions_are_kept():
    known, fresh = draw(2000, dimensions=20), draw(100, dimensions=20, seed=1)
    measure = novelty.fit(known)  # fewer dimensions than components
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    precision = np.linalg.inv(np.cov(unit.T, bias=True) + 1e-12 * np.eye(20))
    centred = fresh / np.linalg.norm(fresh, axis=1, keepdims=True) - unit.mean(axis=0)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", centred, precision, centred) / 20)
    # One direction, the length, has no variance: its part is rounding on both sides.
    scores = novelty.scores(measure, fresh)
    assert np.corrcoef(scores, expected)[0, 1] > 0.95


def test_an_empty_embedding_is_no_error():
    measure = novelty.fit(draw(100))
    assert np.isfinite(novelty.scores(measure, np.zeros((1, 160)))).all()


@pytest.mark.parametrize("n", [5, 40])
def test_few_photos_are_enough_to_fit(n):
    assert np.isfinite(novelty.scores(novelty.fit(draw(n)), draw(3, seed=1))).all()
