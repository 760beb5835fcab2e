"""Classifiers that let their input through, without training."""

import keras
import numpy as np

HEAD_LAYERS = {"soft_attention", "joint_image", "image_logits", "logits"}


def enliven(classifier, batch):
    """Brings a freshly built classifier to life.

    Fresh random networks let nearly nothing through, so that any two outputs would agree. Here
    the normalisation has seen a batch, and gamma and all biases are far from zero.
    """
    random = np.random.default_rng(1)
    normalisations = [
        layer for layer in classifier.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    classifier(batch, training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum
    for layer in classifier.layers:
        if layer.name == "soft_attention":
            layer.gamma.assign(5.0)
        if layer.name in HEAD_LAYERS and getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(size=layer.bias.shape))


SMALL_MODELS = {
    "dense512": {"head": "soft_attention_dense512", "patient_branch": "gessert"},
    "pooled": {"head": "global_pooling", "classes": ("mel", "nv", "sk")},
    "benign": {"patient_branch": "none", "classes": ("nv", "sk")},
}


@pytest.fixture(scope="session")
def small_models(small_classifier, tmp_path_factory):
    """A weights folder with untrained `SMALL_MODELS`, each with what a predictor needs."""
    from dermsa.models.onnx_export import to_onnx

    folder = tmp_path_factory.mktemp("small-models")
    for name, settings in SMALL_MODELS.items():
        write_model(folder / name, to_onnx, small_classifier("MobileNetV3Small", **settings))
    return folder


def write_model(folder, to_onnx, classifier):
    from dermsa.inference.store import sha256_of
    from dermsa.taxonomy import HAM10000_CLASSES, MALIGNANT

    classes = SMALL_MODELS[folder.name].get("classes", HAM10000_CLASSES)
    onnx = to_onnx(classifier)
    measured = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 20}
    point = {"target_sensitivity": 0.95, "threshold": 0.2, "sensitivity": measured}
    card = {
        "name": folder.name,
        "version": "0",
        "classes": classes,
        "malignant": sorted(MALIGNANT & set(classes)),
        "age_scale": {"mean": 50.0, "std": 16.0},
        "temperature": 1.5,
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
