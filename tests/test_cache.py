"""The decoded cache: right, renewed when the pictures change, and never half written."""

import errno
import os
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from dermsa import images
from dermsa.datasets import cache, ham10000
from dermsa.datasets.dataset import DatasetError

SIZE = (48, 64)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def dataset(synthetic_data, tmp_path):
    """A copy whose pictures may be changed, of its first ten photos."""
    shutil.copytree(synthetic_data / "ham10000", tmp_path / "ham10000")
    return ham10000.read(tmp_path).subset(np.arange(10))


def caches(folder):
    return [path for path in folder.iterdir() if path.name != cache.LOCK]


def test_it_holds_what_a_model_sees(dataset, folder):
    array = cache.decoded(dataset, SIZE, progress=False)
    assert array.shape == (10, *SIZE, 3) and array.dtype == np.uint8
    for row, path in enumerate(dataset.table["path"]):
        np.testing.assert_array_equal(array[row], images.to_model_input(images.load(path), SIZE))


def test_it_is_a_read_only_map_of_a_file(dataset, folder):
    array = cache.decoded(dataset, SIZE, progress=False)
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0
    assert [path.suffix for path in caches(folder)] == [".npy"]


def test_the_second_time_nothing_is_decoded(dataset, folder, monkeypatch):
    first = np.array(cache.decoded(dataset, SIZE, progress=False))
    monkeypatch.setattr(images, "load", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(cache.decoded(dataset, SIZE, progress=False), first)


def test_a_changed_picture_is_decoded_again(dataset, folder):
    before = np.array(cache.decoded(dataset, SIZE, progress=False))
    path = dataset.table["path"].iloc[3]
    cv2.imwrite(path, np.zeros((96, 128, 3), np.uint8))
    after = cache.decoded(dataset, SIZE, progress=False)
    assert not after[3].any()
    np.testing.assert_array_equal(np.delete(after, 3, 0), np.delete(before, 3, 0))


def test_a_copied_picture_is_not_decoded_again_but_a_changed_one_is(dataset, folder):
    cache.decoded(dataset, SIZE, progress=False)
    path = Path(dataset.table["path"].iloc[0])
    os.utime(path, (1, 1))
    cache.decoded(dataset, SIZE, progress=False)
    assert len(caches(folder)) == 1
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # of the same length
    path.write_bytes(content)
    cache.decoded(dataset, SIZE, progress=False)
    assert len(caches(folder)) == 2


def test_what_a_killed_process_left_is_removed(dataset, folder):
    left = folder / ".partial.ham10000-9x9-0.npy"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    cache.decoded(dataset, SIZE, progress=False)
    assert not left.exists()


def test_sizes_and_selections_have_files_of_their_own(dataset, folder):
    whole = cache.decoded(dataset, SIZE, progress=False)
    assert cache.decoded(dataset, (32, 32), progress=False).shape == (10, 32, 32, 3)
    part = cache.decoded(dataset.subset(np.array([2, 7])), SIZE, progress=False)
    np.testing.assert_array_equal(part, whole[[2, 7]])
    assert len(caches(folder)) == 3


def test_a_damaged_picture_is_named_and_nothing_is_left_behind(dataset, folder):
    path = dataset.table["path"].iloc[4]
    with open(path, "wb") as file:
        file.write(b"no picture at all")
    with pytest.raises(DatasetError, match=os.path.basename(path)):
        cache.decoded(dataset, SIZE, progress=False)
    assert caches(folder) == []


def test_a_broken_off_build_is_not_taken_for_a_cache(dataset, folder, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(images, "to_model_input", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.decoded(dataset, SIZE, progress=False)
    assert caches(folder) == []
    assert cache.decoded(dataset, SIZE, progress=False)[0].any()


def test_images_that_the_disk_cannot_hold_are_refused_before_decoding(dataset, folder):
    with pytest.raises(DatasetError, match="1000000 x 1000000 pixels, 10 images take 30,000.0 GB"):
        cache.decoded(dataset, (10**6, 10**6), progress=False)
    assert caches(folder) == []


def test_it_tells_how_far_it_is(dataset, folder):
    shares = []
    cache.decoded(dataset, SIZE, progress=False, report=shares.append)
    assert shares == pytest.approx(np.arange(1, 11) / 10)
    cache.decoded(dataset, SIZE, progress=False, report=lambda _: pytest.fail("decoded again"))


def test_two_who_want_it_at_once_build_it_once(dataset, folder, monkeypatch):
    loaded, load = [], images.load
    monkeypatch.setattr(images, "load", lambda file: loaded.append(file) or load(file))
    found = []
    both = [
        threading.Thread(target=lambda: found.append(cache.decoded(dataset, SIZE, progress=False)))
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(loaded) == 10
    np.testing.assert_array_equal(*found)


def test_what_a_killed_build_left_is_written_over(dataset, folder):
    cache.decoded(dataset, SIZE, progress=False)
    (whole,) = caches(folder)
    whole.rename(whole.with_name(f".partial.{whole.name}"))
    assert cache.decoded(dataset, SIZE, progress=False).shape == (10, *SIZE, 3)
    assert caches(folder) == [whole]


def test_a_stop_does_not_wait_for_the_other_pictures(dataset, folder, monkeypatch):
    decoded = []
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(images, "to_model_input", lambda *_: decoded.append(1) or np.zeros(3))

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.decoded(dataset, SIZE, progress=False, report=stop)
    assert len(decoded) < 10


def test_a_disk_without_room_is_refused_before_decoding(dataset, folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(images, "load", lambda *_: pytest.fail("decoded nevertheless"))
    with pytest.raises(OSError, match="No space left"):
        cache.decoded(dataset, SIZE, progress=False)
    assert caches(folder) == []


def test_the_folder_can_be_chosen(folder, monkeypatch):
    assert cache.cache_folder() == folder
    monkeypatch.delenv("DERMSA_CACHE")
    assert cache.cache_folder().parts[-2:] == (".cache", "dermsa")
