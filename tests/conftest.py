"""What all tests share: quiet libraries, folders of their own, and a small synthetic HAM10000."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

import pytest

from dermsa.datasets import ham10000, synthetic


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Keeps the user's cache and runs out of every test, and every test out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DERMSA_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory):
    """A data folder with a drawn `ham10000/`: 42 lesions of all seven diagnoses, 56 photos."""
    root = tmp_path_factory.mktemp("data")
    synthetic.write_ham10000(root / "ham10000", lesions_per_class=6, size=(96, 128))
    return root


@pytest.fixture(scope="session")
def synthetic_dataset(synthetic_data):
    return ham10000.read(synthetic_data)
