"""How the network moves: which weights, how fast, and what becomes of their average."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import config_of

import dermsa
from dermsa.models.classifier import build_classifier
from dermsa.models.classifier_config import HEADS
from dermsa.training import methods, trainer
from dermsa.training.fused_batchnorm import fuse_batch_normalization
from dermsa.training.runs import RunError

pytestmark = pytest.mark.usefixtures("tiny_backbone")

STEPS = 10  # of an epoch
STILL = {  # nothing is drawn at random
    "augmentation": "none",
    "forget_rate": 0.0,
    "forget_all_rate": 0.0,
    "schedule": "constant",
}


def batch(size=8, seed=0):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (size, 8, 8, 3), np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    patients = random.normal(size=(size, 21)).astype(np.float32)
    return {"image": images, "patient": patients}, np.arange(size) % 7


def built(classifier=(), **settings):
    """A classifier without dropout and its trainable model; the same weights every time."""
    keras.utils.set_random_seed(1)
    config = config_of(**(STILL | settings))
    network = dataclasses.replace(config.classifier, dropout=0.0, **dict(classifier))
    config = dataclasses.replace(config, classifier=network)
    classifier = build_classifier(network)
    fuse_batch_normalization(classifier)
    if config.batchnorm == "keep_statistics":
        methods.keep_statistics(classifier)
    return config, classifier, trainer.trainable_model(classifier, config, np.full(7, 8), STEPS)


def weights(classifier):
    return {variable.path: variable.numpy() for variable in classifier.weights}


def changed(before, classifier):
    """Names of the weights that are not what they were."""
    return {
        path for path, now in weights(classifier).items() if not np.array_equal(now, before[path])
    }


# --- the average ------------------------------------------------------------------------------


def test_the_average_follows_all_weights_and_statistics():
    _, classifier, model = built(average_decay=0.6)
    expected = classifier.get_weights()
    for step in range(1, 6):
        model.train_on_batch(*batch(seed=step))
        decay = min(0.6, (1 + step) / (10 + step))
        expected = [
            decay * old + (1 - decay) * new
            for old, new in zip(expected, classifier.get_weights(), strict=True)
        ]
    own = classifier.get_weights()
    with model.averages.in_place():
        for average, value in zip(classifier.get_weights(), expected, strict=True):
            np.testing.assert_allclose(average, value, rtol=1e-4, atol=1e-6)
    for value, before in zip(classifier.get_weights(), own, strict=True):
        np.testing.assert_array_equal(value, before)
    statistics = classifier.get_layer("first_bn").moving_mean
    place = next(i for i, weight in enumerate(classifier.weights) if weight is statistics)
    assert not np.allclose(expected[place], own[place])  # they moved, and were averaged


def test_an_average_does_not_change_the_training():
    plain, averaged = built(), built(average_decay=0.9)
    for step in range(3):
        for _, _, model in (plain, averaged):
            model.train_on_batch(*batch(seed=step))
    for one, other in zip(plain[1].get_weights(), averaged[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


# --- which layers -----------------------------------------------------------------------------


def test_the_head_alone_is_trained_first_and_then_what_is_not_frozen():
    config, classifier, model = built(freeze_until="first_bn", head_epochs=1)
    trainer.compile_stage(model, classifier, config, np.full(7, 8), STEPS, head_only=True)
    before = weights(classifier)
    model.train_on_batch(*batch())
    backbone = {path for path in before if path.split("/")[0] in ("first", "first_bn", "last")}
    assert changed(before, classifier) == set(before) - backbone
    assert float(model.optimizer.learning_rate) == pytest.approx(config.head_learning_rate)

    trainer.compile_stage(model, classifier, config, np.full(7, 8), STEPS)
    before = weights(classifier)
    model.train_on_batch(*batch())
    assert set(before) - changed(before, classifier) == {
        path for path in backbone if not path.startswith("last")
    }


@pytest.mark.parametrize(
    ("batchnorm", "kept"),
    [
        ("train", set()),
        ("keep_statistics", {"moving_mean", "moving_variance"}),
        ("freeze", {"moving_mean", "moving_variance", "gamma", "beta"}),
    ],
)
def test_batch_normalisation_of_the_backbone_can_rest(batchnorm, kept):
    _, classifier, model = built({"patient_branch": "gessert"}, batchnorm=batchnorm)
    before = weights(classifier)
    model.train_on_batch(*batch())
    still = set(before) - changed(before, classifier)
    assert still == {f"first_bn/{name}" for name in kept}  # the patient's are trained


@pytest.mark.parametrize("head", HEADS)
def test_the_backbone_ends_where_the_head_begins(head):
    _, classifier, _ = built({"head": head})
    names = [layer.name for layer in methods.backbone_layers(classifier) if layer.weights]
    assert names == ["first", "first_bn", "last"]


# --- how fast ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_layers_further_from_the_head_move_less(optimizer):
    settings = {"optimizer": optimizer, "weight_decay": 0.5, "batchnorm": "freeze"}
    _, plain, model = built(**settings)
    start = weights(plain)
    model.train_on_batch(*batch())
    _, layerwise, model = built(**settings, layer_decay=0.5)
    model.train_on_batch(*batch())
    full, less = weights(plain), weights(layerwise)
    # Three layers have weights: they stand for the first, fifth and ninth of twelve groups.
    shares = {"last": 0.5, "first_bn": 0.5**5, "first": 0.5**9}
    for path, value in start.items():
        share = shares.get(path.split("/")[0], 1.0)
        np.testing.assert_allclose(
            less[path] - value, share * (full[path] - value), rtol=1e-3, atol=1e-7, err_msg=path
        )


def test_a_backbone_has_twelve_rates_that_fall_from_the_head_down():
    classifier = build_classifier(config_of("MobileNetV3Small").classifier)
    shares = methods.layer_shares(classifier, 0.8)
    rates = [shares[id(w)] for x in methods.backbone_layers(classifier) for w in x.weights]
    assert rates == sorted(rates)
    np.testing.assert_allclose(sorted(set(rates)), 0.8 ** np.arange(12, 0, -1))
    assert not {id(weight) for weight in classifier.get_layer("logits").weights} & set(shares)


@pytest.mark.parametrize("settings", [{}, {"layer_decay": 0.5}])
def test_two_accumulated_halves_move_the_weights_like_the_whole_batch(settings):
    """With statistics at rest, for those would be the halves' own."""
    settings |= {"batchnorm": "freeze"}
    inputs, labels = batch(16)
    _, whole, model = built(**settings)
    model.train_on_batch(inputs, labels)
    _, halves, model = built(**settings, accumulate=2)
    start = weights(halves)
    model.train_on_batch({name: values[:8] for name, values in inputs.items()}, labels[:8])
    assert not changed(start, halves)
    model.train_on_batch({name: values[8:] for name, values in inputs.items()}, labels[8:])
    for one, other in zip(halves.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_cosine_ends_with_the_last_step_after_the_head_epochs(accumulate):
    settings = {"schedule": "cosine", "warmup_steps": 0, "epochs": 3, "head_epochs": 2}
    model = built(**settings, accumulate=accumulate)[2]
    rates = []
    for _ in range(STEPS):
        rates.append(float(model.optimizer.learning_rate))
        model.train_on_batch(*batch())
    cosine = (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2
    np.testing.assert_allclose(rates, rates[0] * cosine, rtol=1e-5)
    assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)


def test_xla_computes_the_same():
    settings = {"epsilon": 0.1, "learning_rate": 0.1}  # or rounding alone would move some weights
    plain, compiled = built(**settings), built(**settings, xla="on")
    start = weights(plain[1])
    for step in range(2):
        for _, _, model in (plain, compiled):
            model.train_on_batch(*batch(seed=step))
    assert changed(start, plain[1]) == set(start)
    for one, other in zip(plain[1].get_weights(), compiled[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_xla_lets_the_backbone_join_in_after_the_head_epochs():
    config, classifier, model = built(xla="on", head_epochs=1)
    statistics = classifier.get_layer("first_bn").moving_mean
    moved = []
    for head_only in (True, False):
        trainer.compile_stage(model, classifier, config, np.full(7, 8), STEPS, head_only)
        before = statistics.numpy()
        model.train_on_batch(*batch())
        moved.append(not np.array_equal(statistics.numpy(), before))
    assert moved == [False, True]


# --- several devices --------------------------------------------------------------------------


def test_tensorflow_says_that_it_does_not_train_on_all_devices():
    with pytest.raises(RunError, match="Only JAX.*KERAS_BACKEND=jax"):
        with methods.distribution(config_of(device="all")):
            pass


def test_jax_trains_by_all_methods_on_two_devices_as_on_one(synthetic_data):
    """In a process of its own: the backend is chosen when Keras is imported."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("jax_training.py"), synthetic_data],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(dermsa.__file__).parents[1]),
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            # Most of the time goes into compiling.
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2 "
            "--xla_backend_optimization_level=0",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["devices"] == [1, 2]
    one, two = (np.array(rows) for rows in told["metrics"])
    assert one.shape == two.shape and np.isfinite(one).all()
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)
