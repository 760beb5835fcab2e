"""Learning rate on a plateau and early stopping, against the callbacks of Keras."""

import keras
import numpy as np
import pandas as pd
import pytest

from dermsa.models.classifier_config import ClassifierConfig
from dermsa.training.config import TrainingConfig
from dermsa.training.history import best_row, ended, plateau_rate, stops_early

CLASSIFIER = ClassifierConfig("MobileNetV3Small", input_size=(64, 64))


def config(**settings):
    return TrainingConfig(CLASSIFIER, **settings)


class FakeModel:
    """As much of a model as the callbacks touch."""

    def __init__(self):
        self.optimizer = keras.optimizers.SGD(0.01)
        self.stop_training = False


@pytest.mark.parametrize("seed", range(5))
def test_the_rate_on_a_plateau_is_that_of_keras(seed):
    losses = np.exp(np.random.default_rng(seed).normal(0, 0.1, 60)) - 0.001 * np.arange(60)
    callback = keras.callbacks.ReduceLROnPlateau("loss", 0.2, 5, min_lr=1e-7)
    callback.set_model(FakeModel())
    callback.on_train_begin()
    settings = config(learning_rate=0.01, schedule="plateau")
    for epoch in range(60):
        callback.on_epoch_end(epoch, {"loss": losses[epoch]})
        expected = float(callback.model.optimizer.learning_rate)
        assert plateau_rate(settings, losses[: epoch + 1]) == pytest.approx(expected, rel=1e-5)
    assert expected < 1e-4  # it did fall


def test_the_rate_falls_to_the_floor_and_never_rises_to_it():
    flat = [1.0] * 100
    assert plateau_rate(config(schedule="plateau", plateau_floor=1e-5), flat) == 1e-5
    low = config(schedule="plateau", learning_rate=1e-9)
    assert plateau_rate(low, flat) == 1e-9
    assert plateau_rate(config(schedule="plateau"), []) == config().learning_rate


@pytest.mark.parametrize(("monitor", "mode"), [("macro_recall", "max"), ("loss", "min")])
@pytest.mark.parametrize("seed", range(5))
def test_early_stopping_is_that_of_keras(monitor, mode, seed):
    values = np.random.default_rng(seed).random(200).round(2)
    callback = keras.callbacks.EarlyStopping(monitor, patience=7, mode=mode)
    callback.set_model(FakeModel())
    callback.on_train_begin()
    settings = config(early_stopping=7, monitor=monitor, epochs=500)
    for epoch in range(200):
        callback.on_epoch_end(epoch, {monitor: values[epoch]})
        table = pd.DataFrame({monitor: values[: epoch + 1]})
        assert (
            stops_early(settings, table) == ended(settings, table) == callback.model.stop_training
        )
        if callback.model.stop_training:
            return
    pytest.fail("the values never stood still")


def test_a_training_ends_with_its_last_epoch():
    table = pd.DataFrame({"macro_recall": [0.1, 0.2, 0.3]})
    assert ended(config(epochs=3), table) and not ended(config(epochs=4), table)
    assert not ended(config(epochs=4), pd.DataFrame())
    assert not stops_early(config(early_stopping=1), pd.DataFrame())


def test_epochs_of_the_head_alone_do_not_stop_a_training():
    settings = config(early_stopping=2, head_epochs=3, epochs=9)
    falling = [0.5, 0.4, 0.3, 0.2, 0.1]
    stops = [
        stops_early(settings, pd.DataFrame({"macro_recall": falling[:epochs]}))
        for epochs in range(1, 6)
    ]
    assert stops == [False, False, False, False, True]


def test_the_chosen_epoch_is_the_first_of_the_best():
    table = pd.DataFrame({"macro_auc": [0.7, 0.9, 0.9], "loss": [0.5, 0.6, 0.5]})
    assert best_row(table, "macro_auc") == 1 and best_row(table, "loss") == 0
