"""A data check in a process of its own: watched, kept, and known to be old when files change."""

import shutil

import pytest

from dermsa.datasets.check import check
from dermsa.datasets.checking import BAR, Checking, read_kept
from dermsa.datasets.dataset import DatasetError


@pytest.fixture
def root(synthetic_data, tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(synthetic_data, tmp_path / "data")


def test_it_finds_what_the_check_finds_and_keeps_it(root):
    assert read_kept("ham10000", root) is None
    checking = Checking("ham10000", root)
    found = checking.finish()
    assert not checking.running
    progress = checking.progress()
    assert progress.done == progress.total > 0
    assert found.report == check("ham10000", root, progress=False).plain()
    assert read_kept("ham10000", root) == found
    photo = next((root / "ham10000" / "HAM10000_images").iterdir())
    photo.write_bytes(photo.read_bytes() + b"\0")
    kept = read_kept("ham10000", root)
    assert kept.stale and kept.report == found.report


def test_what_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(DatasetError, match="No HAM10000"):
        Checking("ham10000", tmp_path)


def test_progress_is_read_from_the_bars():
    bars = (
        "Reading:   0%|          | 0/10015 [00:00<?, ?it/s]\n"
        "Reading:  12%|█▏        | 1234/10015 [00:10<01:14, 118.9it/s]"
    )
    assert BAR.findall(bars)[-1] == ("Reading", "12", "1234", "10015", "01:14")
    assert BAR.findall(bars)[0][2:] == ("0", "10015", "")
