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
