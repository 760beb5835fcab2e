"""What all tests share: quiet libraries, folders of their own, and a small synthetic HAM10000."""

import functools
import gc
import json
import shutil

import pytest

from dermsa.datasets import ham10000, synthetic
from dermsa.machine import prepare_tensorflow
from dermsa.memory import give_back_freed_memory

prepare_tensorflow()  # before any test imports it

SMALL_MODELS = {
    "dense512": {"head": "soft_attention_dense512", "patient_branch": "gessert"},
    "pooled": {"head": "global_pooling", "classes": ("mel", "nv", "sk")},
    "benign": {"patient_branch": "none", "classes": ("nv", "sk")},
}


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Keeps the user's cache and runs out of every test, and every test out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERMSA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DERMSA_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


@pytest.fixture(scope="module", autouse=True)
def modest_memory():
    """Two processes share the tests, and the memory of the machine."""
    yield
    gc.collect()
    give_back_freed_memory()


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
def both_sources(tmp_path_factory):
    """HAM10000 and ISIC 2017, drawn; the first melanoma of the latter is a photo of the former."""
    root = tmp_path_factory.mktemp("both")
    ham = synthetic.write_ham10000(root / "ham10000", lesions_per_class=6, size=(96, 128))
    isic = synthetic.write_isic2017(root / "isic2017", lesions_per_class=4, seed=9, size=(96, 128))
    shutil.copy(
        next((ham / "HAM10000_images").glob("*.jpg")),
        isic / "ISIC-2017_Training_Data" / "SYN_0000000.jpg",
    )
    return root


@pytest.fixture(scope="module")
def tiny_backbone():
    """The backbone of `tests/tiny.py`, registered for one module."""
    import tiny

    from dermsa.models.backbones import BACKBONES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "Tiny", tiny.TINY)
        yield


@pytest.fixture(scope="session")
def small_classifier():
    """Builds small classifiers with lively random weights, each once; see `ClassifierConfig`."""
    import keras
    import numpy as np
    from lively import enliven

    from dermsa.models.classifier import ClassifierConfig, build_classifier

    @functools.cache
    def built(config):
        keras.utils.set_random_seed(1)
        classifier = build_classifier(config)
        random = np.random.default_rng(1)
        batch = {
            "image": random.integers(0, 256, (4, *config.input_size, 3)).astype(np.float32),
            "patient": random.normal(size=(4, 21)).astype(np.float32),
        }
        enliven(classifier, batch)
        return classifier

    def build(backbone, **settings):
        return built(ClassifierConfig(backbone, **({"input_size": (96, 160)} | settings)))

    return build


@pytest.fixture(scope="session")
def small_onnx(small_classifier):
    """The content of a small classifier's ONNX file; each is converted once, which takes long."""
    from dermsa.models.onnx_export import to_onnx

    converted = functools.cache(to_onnx)
    return lambda backbone, **settings: converted(small_classifier(backbone, **settings))


@pytest.fixture(scope="session")
def small_models(small_classifier, small_onnx, tmp_path_factory):
    """A weights folder with untrained `SMALL_MODELS`, each with what a predictor needs."""
    folder = tmp_path_factory.mktemp("small-models")
    for name, settings in SMALL_MODELS.items():
        classifier = small_classifier("MobileNetV3Small", **settings)
        write_model(folder / name, small_onnx("MobileNetV3Small", **settings), classifier)
    return folder


def write_model(folder, onnx, classifier):
    from dermsa.inference.store import sha256_of
    from dermsa.taxonomy import HAM10000_CLASSES, MALIGNANT

    classes = SMALL_MODELS[folder.name].get("classes", HAM10000_CLASSES)
    measured = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 20}
    point = {"target_sensitivity": 0.95, "threshold": 0.2, "sensitivity": measured}
    card = {
        "name": folder.name,
        "version": "0",
        "classes": classes,
        "malignant": sorted(MALIGNANT & set(classes)),
        "age_scale": {"mean": 50.0, "std": 16.0},
        "temperature": 1.5,
        "lean": {code: 1 + 0.4 * k for k, code in enumerate(classes)},
        "views": 2,
        "conformal": {"coverage": 0.9, "quantiles": dict.fromkeys(classes, 0.9)},
        "triage": {
            "default_sensitivity": 0.95,
            "malignancy": [point | {"specificity": measured}] if MALIGNANT & set(classes) else [],
        },
        "files": {"model.onnx": sha256_of(onnx)},
    }
    if "evidence_map" in classifier.output:
        bias = classifier.get_layer("logits").bias.numpy().tolist()
        card["bias"] = dict(zip(classes, bias, strict=True))
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx)
    (folder / "card.json").write_text(json.dumps(card))


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
