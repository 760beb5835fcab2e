"""Event files, read back by TensorFlow."""

import pytest

from dermsa.training.tensorboard import EventFile


def read(folder):
    """Step and figures of every event, as TensorFlow's own reader finds them."""
    import tensorflow as tf

    (path,) = folder.iterdir()
    events = list(tf.compat.v1.train.summary_iterator(str(path)))
    assert events[0].file_version == "brain.Event:2"
    assert all(event.wall_time > 1e9 for event in events)
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in events[1:]
    ]


def test_every_epoch_is_read_back(tmp_path):
    file = EventFile(tmp_path / "tensorboard")
    assert not (tmp_path / "tensorboard").exists()
    rows = [
        (epoch, {"loss": 2.5 / epoch, "macro recall": 0.1}) for epoch in (1, 2, 127, 128, 70000)
    ]
    for epoch, values in rows:
        file.write(epoch, values)
    for (step, found), (epoch, values) in zip(read(tmp_path / "tensorboard"), rows, strict=True):
        assert step == epoch and found == pytest.approx(values)


def test_many_figures_make_a_long_record(tmp_path):
    values = {f"figure {i}": float(i) for i in range(300)}
    EventFile(tmp_path).write(1, values)
    assert read(tmp_path) == [(1, values)]
