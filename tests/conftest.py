"""What all tests share: quiet libraries, folders of their own, and a small synthetic HAM10000."""

import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

import pytest

from dermsa.datasets import ham10000, synthetic

HEAD_LAYERS = {"soft_attention", "joint_image", "image_logits", "logits"}


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


@pytest.fixture(scope="session")
def small_classifier():
    """Builds small classifiers with lively random weights, each once; see `ClassifierConfig`.

    Fresh random networks let nearly nothing through, so that any two outputs would agree. Here
    the normalisation has seen a batch, and gamma and all biases are far from zero.
    """
    import keras
    import numpy as np

    from dermsa.models.classifier import ClassifierConfig, build_classifier

    @functools.cache
    def build(backbone, **settings):
        keras.utils.set_random_seed(1)
        config = ClassifierConfig(backbone, **({"input_size": (96, 160)} | settings))
        classifier = build_classifier(config)
        random = np.random.default_rng(1)
        normalisations = [
            layer
            for layer in classifier.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        for layer in normalisations:
            layer.momentum = 0.0
        batch = random.integers(0, 256, (4, *config.input_size, 3)).astype(np.float32)
        classifier([batch, random.normal(size=(4, 21)).astype(np.float32)], training=True)
        for layer in normalisations:
            layer.momentum = 0.9
        for layer in classifier.layers:
            if layer.name == "soft_attention":
                layer.gamma.assign(5.0)
            if layer.name in HEAD_LAYERS and getattr(layer, "bias", None) is not None:
                layer.bias.assign(random.normal(size=layer.bias.shape))
        return classifier

    return build


@pytest.fixture
def photo_batch():
    """Three noisy pictures and patients, as a classifier takes them."""
    import numpy as np

    from dermsa.patient import AgeScale, Patient

    patients = [Patient(30, "female", "back"), Patient(71, "male", "scalp"), Patient()]
    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (3, 6, 10, 3)).repeat(16, axis=1).repeat(16, axis=2)
    return {
        "image": coarse.astype(np.float32),
        "patient": np.stack([patient.encode(AgeScale(50, 16)) for patient in patients]),
    }
