"""What a training shows: the right rows, in an order of seed and epoch alone."""

import numpy as np
import pytest
import tiny

from dermsa.datasets import splits
from dermsa.training.examples import (
    Examples,
    split_rows,
    training_age_scale,
    training_sampler,
)
from dermsa.training.mixup import mix
from dermsa.training.runs import create_run
from dermsa.training.sampling import Sampler

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture
def examples():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 4, 4, 3), np.uint8)
    return Examples(images, random.random((20, 21), np.float32), np.arange(20))


def test_inputs_come_in_the_order_asked_for(examples):
    rows = np.array([7, 2, 11, 3])
    inputs = examples.inputs(rows)
    np.testing.assert_array_equal(inputs["image"], examples.images[rows])
    np.testing.assert_array_equal(inputs["patient"], examples.patients[rows])
    assert inputs["image"].dtype == np.uint8


def drawn(examples, epoch=0, first=0, seed=0):
    rows = np.arange(2, 16)
    sampler = Sampler(rows, rows, 20, seed=seed)
    return [labels.tolist() for _, labels in examples.batches(sampler, 4, epoch, first)]


def test_an_epoch_shows_every_image_at_most_once_in_an_order_of_its_own(examples):
    first, second = drawn(examples), drawn(examples, epoch=1)
    for epoch in (first, second):
        assert [len(batch) for batch in epoch] == [4, 4, 4]  # two images do not fill a batch
        assert len(set(sum(epoch, []))) == 12 and set(sum(epoch, [])) <= set(range(2, 16))
    assert first != second


def test_the_order_depends_on_seed_and_epoch_alone(examples):
    assert drawn(examples, epoch=1) == drawn(examples, epoch=1)
    assert drawn(examples) != drawn(examples, seed=1)


def test_an_epoch_goes_on_where_it_was_left(examples):
    assert drawn(examples, first=2) == drawn(examples)[2:]
    assert drawn(examples, first=3) == []


def test_pictures_patients_and_labels_belong_together(examples):
    inputs, labels = next(examples.batches(Sampler(np.arange(20), np.arange(20), 20), 8))
    np.testing.assert_array_equal(inputs["image"], examples.images[labels])
    np.testing.assert_array_equal(inputs["patient"], examples.patients[labels])


def test_a_limit_takes_that_many_of_each_part(synthetic_dataset):
    config = tiny.config_of(limit=5)
    rows = split_rows(create_run(config), config, synthetic_dataset)
    assert {part: len(chosen) for part, chosen in rows.items()} == dict.fromkeys(splits.PARTS, 5)
    assert len(np.unique(np.concatenate(list(rows.values())))) == 15


def test_the_age_scale_is_of_the_training_part_only(synthetic_dataset):
    rows = np.arange(10)
    ages = synthetic_dataset.table["age"].to_numpy()[rows]
    scale = training_age_scale(synthetic_dataset, rows)
    assert scale.mean == pytest.approx(np.nanmean(ages))
    assert scale.std == pytest.approx(np.nanstd(ages))


def test_an_epoch_shows_what_the_sampling_says():
    labels = np.repeat(np.arange(7), [9, 1, 3, 2, 2, 2, 1])
    examples = Examples(np.zeros((20, 4, 4, 3), np.uint8), np.zeros((20, 21)), labels)
    rows = np.arange(20)
    sampler = training_sampler(tiny.config_of(sampling="balanced", seed=8), examples, rows)
    assert (sampler.classes, sampler.sampling, sampler.seed) == (7, "balanced", 8)
    _, shown = next(examples.batches(sampler, 7))
    assert sorted(shown) == list(range(7))


# --- mixup and soft targets -------------------------------------------------------------------


def mixed(examples, number=0, alpha=0.4):
    rows = np.arange(20)
    return list(examples.batches(Sampler(rows, rows, 20, seed=5), 8, 3, number, alpha))


def test_mixup_mixes_pixels_patients_and_diagnoses_in_the_same_share(examples):
    inputs, shares = mixed(examples)[0]
    assert inputs["image"].dtype == np.uint8 and shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert (np.count_nonzero(shares, axis=1) <= 2).all() and (shares.max(axis=1) < 1).any()
    np.testing.assert_allclose(inputs["patient"], shares @ examples.patients, atol=1e-6)
    pixels = np.tensordot(shares, examples.images.astype(float), 1)
    assert np.abs(inputs["image"] - pixels).max() <= 0.5 + 1e-3


def test_mixup_depends_on_seed_epoch_and_batch_alone(examples):
    whole, rest = mixed(examples), mixed(examples, number=1)
    assert len(whole) == 2 and len(rest) == 1
    np.testing.assert_array_equal(whole[1][0]["image"], rest[0][0]["image"])
    np.testing.assert_array_equal(whole[1][1], rest[0][1])


def test_white_stays_white_and_black_black():
    images = np.concatenate(
        [np.full((8, 2, 2, 3), 255, np.uint8), np.zeros((8, 2, 2, 3), np.uint8)]
    )
    for chosen in (images[:8], images[8:]):
        inputs = {"image": chosen, "patient": np.ones((8, 21), np.float32)}
        out, _ = mix(inputs, np.eye(8, dtype=np.float32), 1.0, np.random.default_rng(0))
        np.testing.assert_array_equal(out["image"], chosen)


def test_targets_take_the_place_of_labels(examples):
    targets = np.random.default_rng(2).dirichlet(np.ones(7), 20).astype(np.float32)
    soft = Examples(examples.images, examples.patients, examples.labels, targets)
    sampler = Sampler(np.arange(20), np.arange(20), 20)
    (_, labels), (_, shares) = (next(of.batches(sampler, 8)) for of in (examples, soft))
    np.testing.assert_array_equal(shares, targets[labels])
