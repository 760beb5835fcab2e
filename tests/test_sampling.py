"""Which images an epoch shows: in balance where asked, none lost, and the same again."""

import numpy as np
import pytest

from dermsa.training.sampling import SAMPLING, Sampler

LABELS = np.repeat([0, 1, 2], [20, 3, 8])
ROWS = np.arange(100, 100 + len(LABELS))


def sampler(sampling, epoch_images=0, seed=0):
    return Sampler(ROWS, LABELS, 3, sampling, seed, epoch_images)


def shown(sampling, epoch=0, **settings):
    """Labels and rows in the order of an epoch."""
    rows = sampler(sampling, **settings).order(epoch)
    return LABELS[rows - 100], rows


@pytest.mark.parametrize(
    ("sampling", "epoch_images", "counts"),
    [
        ("none", 0, [20, 3, 8]),
        ("over", 0, [20, 20, 20]),
        ("over", 33, [11, 11, 11]),
        ("under", 0, [3, 3, 3]),
        ("balanced", 0, [11, 10, 10]),
        ("balanced", 50, [17, 17, 16]),
    ],
)
def test_an_epoch_shows_each_diagnosis_as_often_as_announced(sampling, epoch_images, counts):
    drawn = sampler(sampling, epoch_images)
    assert drawn.counts.tolist() == counts
    for epoch in range(3):
        labels, _ = shown(sampling, epoch, epoch_images=epoch_images)
        assert np.bincount(labels).tolist() == counts


@pytest.mark.parametrize("sampling", SAMPLING)
def test_no_image_comes_again_before_all_others_of_its_diagnosis_came(sampling):
    labels, rows = shown(sampling)
    for label, available in enumerate((20, 3, 8)):
        repeats = np.unique(rows[labels == label], return_counts=True)[1]
        assert repeats.max() - repeats.min() <= 1
        assert len(repeats) == min(available, (labels == label).sum())


def test_every_balanced_batch_holds_all_diagnoses_equally_often():
    labels, _ = shown("balanced", epoch_images=120)
    for start in range(0, 120, 8):
        counts = np.bincount(labels[start : start + 8], minlength=3)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("sampling", SAMPLING)
def test_an_epoch_depends_on_seed_and_number_alone(sampling):
    first = shown(sampling, 1)[1]
    np.testing.assert_array_equal(first, shown(sampling, 1)[1])
    assert first.tolist() != shown(sampling, 2)[1].tolist()
    assert first.tolist() != shown(sampling, 1, seed=1)[1].tolist()


def test_under_sampling_shows_other_images_each_epoch():
    seen = {row for epoch in range(30) for row in shown("under", epoch)[1]}
    assert seen == set(ROWS)


@pytest.mark.parametrize("sampling", ["over", "under", "balanced"])
def test_a_diagnosis_without_images_cannot_be_balanced(sampling):
    with pytest.raises(ValueError, match=rf"{sampling}.*every diagnosis.*\[20, 3, 8, 0\]"):
        Sampler(ROWS, LABELS, 4, sampling).order(0)
