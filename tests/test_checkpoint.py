"""Checkpoints: all of a training's state, and only into the network that it is of."""

import keras
import numpy as np
import pytest

from dermsa.training import checkpoint
from dermsa.training.checkpoint import Position
from dermsa.training.runs import RunError


def small_network(units=3, steps=0):
    keras.utils.set_random_seed(units + steps)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(units), keras.layers.Dropout(0.5, seed=1)]
    )
    model.compile(keras.optimizers.AdamW(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    for _ in range(steps):
        model.train_on_batch(np.ones((8, 4)), np.ones((8, units)))
    return model


def test_a_checkpoint_holds_weights_seeds_and_optimiser(tmp_path):
    trained, restored = small_network(steps=3), small_network()
    path = tmp_path / "checkpoint" / "state.npz"
    checkpoint.save(path, trained, Position(7))
    checkpoint.restore(path, restored)
    assert checkpoint.position(path) == Position(7)
    assert int(restored.optimizer.iterations) == 3
    for model in (trained, restored):
        model.train_on_batch(np.ones((8, 4)), np.ones((8, 3)))
    for one, other in zip(trained.get_weights(), restored.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    checkpoint.save(tmp_path / "state.npz", small_network(steps=1), Position(1))
    with pytest.raises(RunError, match="does not belong to this classifier"):
        checkpoint.restore(tmp_path / "state.npz", small_network(units=5))


def test_a_position_within_an_epoch_comes_back(tmp_path):
    losses = (np.float32(8.25), np.float32(24))
    checkpoint.save(tmp_path / "state.npz", small_network(steps=1), Position(2, 3, 1.5, losses))
    found = checkpoint.position(tmp_path / "state.npz")
    assert found == Position(2, 3, 1.5, losses)
    assert found.loss == pytest.approx(8.25 / 24) and found.last_epoch == 2
    assert Position(2).last_epoch == 1 and Position().last_epoch == 0


def test_a_checkpoint_from_before_there_were_positions_is_read(tmp_path):
    model, again = small_network(steps=2), small_network()
    variables = [*model.variables, *model.optimizer.variables]
    arrays = {f"v{i:05}": np.asarray(variable) for i, variable in enumerate(variables)}
    np.savez(tmp_path / "state.npz", epoch=5, **arrays)
    checkpoint.restore(tmp_path / "state.npz", again)
    assert checkpoint.position(tmp_path / "state.npz") == Position(5)
    assert int(again.optimizer.iterations) == 2


def test_a_disk_that_fills_up_leaves_the_checkpoint_before_and_no_other_file(tmp_path, monkeypatch):
    model = small_network(steps=1)
    path = tmp_path / "state.npz"
    checkpoint.save(path, model, Position(1))

    def half_written(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half_written)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(path, model, Position(2))
    assert checkpoint.position(path) == Position(1)
    assert list(tmp_path.iterdir()) == [path]
