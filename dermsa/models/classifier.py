"""A classifier: a backbone, the papers' soft-attention head, and the patient branch.

Figure 3 of Nguyen, Bui, Do (Sensors 2022), without its closing softmax:

    features ──┬─ MaxPool 2x2 same ──────────────────┐
               └─ SoftAttention ─ MaxPool 2x2 same ──┴ concat ─ ReLU ─ Dropout ─┐
    patient (21) ─ Dense 4096 ReLU ─────────────────────────────────────────────┴ Dense ─ logits

After that ReLU the network is linear up to the logits. The last Dense layer is therefore written
as the sum that it is: one term per diagnosis and position (the evidence map), one for the
patient, and the bias. `logits = bias + evidence_map.sum over positions + patient_evidence` is
exact, with no gradient and no approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import ops

from dermsa.models import backbones
from dermsa.models.soft_attention import KERNELS, SoftAttention
from dermsa.patient import VECTOR_SIZE
from dermsa.taxonomy import HAM10000_CLASSES

OUTPUTS = ("logits", "attention_map", "evidence_map", "patient_evidence", "embedding")
HEADS = ("soft_attention",)
PATIENT_UNITS = 4096


@dataclass(frozen=True)
class ClassifierConfig:
    """Everything that determines a classifier's graph.

    Attributes:
        backbone: A name of `backbones.BACKBONES`.
        cut: "published" or "trunk".
        head: One of `HEADS`.
        kernel: Soft attention's kernel, "formula" or "published".
        attention_maps: K.
        initial_gamma: Where soft attention's scale starts; 0.01 in the papers. From there it
            hardly moves: a larger start lets the attention take part from the first step.
        patient_branch: Whether age, sex and site are used.
        dropout: Rate after the concatenation.
        input_size: Height and width in pixels; None for the backbone's own.
        classes: Codes of the diagnoses.
    """

    backbone: str
    cut: str = "trunk"
    head: str = "soft_attention"
    kernel: str = "formula"
    attention_maps: int = 16
    initial_gamma: float = 0.01
    patient_branch: bool = True
    dropout: float = 0.5
    input_size: tuple[int, int] | None = None
    classes: tuple[str, ...] = HAM10000_CLASSES

    def __post_init__(self) -> None:
        record = backbones.backbone(self.backbone)
        if self.cut not in record.cuts:
            raise backbones.UnknownName(f"cut of {self.backbone}", self.cut, record.cuts)
        if self.head not in HEADS:
            raise backbones.UnknownName("head", self.head, HEADS)
        if self.kernel not in KERNELS:
            raise backbones.UnknownName("attention kernel", self.kernel, KERNELS)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Expected a dropout rate from 0 to below 1. Received: {self.dropout}")
        size = tuple(self.input_size or record.input_size)
        if len(size) != 2 or min(size) < 32:
            raise ValueError(f"Expected an input size of at least 32 x 32. Received: {size}")
        object.__setattr__(self, "input_size", size)
        object.__setattr__(self, "classes", tuple(self.classes))


def build_classifier(config: ClassifierConfig, weights: str | None = None) -> keras.Model:
    """Builds a classifier as one flat functional graph.

    Args:
        config: What to build.
        weights: Starting weights of the backbone: "imagenet", a path, or None (random).

    Returns:
        A model from `image` float32 `(batch, height, width, 3)`, RGB 0 to 255, and `patient`
        float32 `(batch, 21)` to the dictionary of `OUTPUTS`:

        - `logits (batch, classes)`
        - `attention_map (batch, h, w)`, summing to K over positions
        - `evidence_map (batch, classes, h', w')`
        - `patient_evidence (batch, classes)`, zeros without a patient branch
        - `embedding (batch, d)`, the mean of the head's features over positions
    """
    record = backbones.backbone(config.backbone)
    image = keras.Input((*config.input_size, 3), name="image")
    patient = keras.Input((VECTOR_SIZE,), name="patient")
    features = backbones.features(record, config.cut, image, weights)

    weighted, attention_map = SoftAttention(
        config.attention_maps, config.kernel, config.initial_gamma, name="soft_attention"
    )(features)
    pooled = [
        keras.layers.MaxPooling2D(2, padding="same", name=f"pool_{name}")(tensor)
        for name, tensor in (("features", features), ("attention", weighted))
    ]
    head = keras.layers.Concatenate(name="head_concat")(pooled)
    head = keras.layers.ReLU(name="head_relu")(head)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(head)
    head = keras.layers.Dropout(config.dropout, name="head_dropout")(head)

    # float32 from here on, also under mixed precision: logits decide, and sums must close.
    evidence_map = EvidenceMap(len(config.classes), dtype="float32", name="evidence_map")(head)
    patient_evidence = _patient_evidence(config, patient)
    logits = SumOfEvidence(dtype="float32", name="logits")([evidence_map, patient_evidence])
    return keras.Model(
        [image, patient],
        {
            "logits": logits,
            "attention_map": keras.layers.Activation(
                "linear", dtype="float32", name="attention_map"
            )(attention_map),
            "evidence_map": evidence_map,
            "patient_evidence": patient_evidence,
            "embedding": embedding,
        },
        name=config.backbone,
    )


def _patient_evidence(config: ClassifierConfig, patient: keras.KerasTensor) -> keras.KerasTensor:
    if not config.patient_branch:
        return NoEvidence(len(config.classes), dtype="float32", name="patient_evidence")(patient)
    hidden = keras.layers.Dense(PATIENT_UNITS, "relu", name="patient_dense")(patient)
    return keras.layers.Dense(
        len(config.classes), use_bias=False, dtype="float32", name="patient_evidence"
    )(hidden)


@keras.saving.register_keras_serializable("dermsa")
class EvidenceMap(keras.layers.Layer):
    """Flatten and Dense without a bias, kept apart by position.

    Input shape:
        `(batch, h, w, channels)`.

    Output shape:
        `(batch, classes, h, w)`; the sum over positions is what Dense would have given.
    """

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape):
        _, height, width, channels = input_shape
        # Glorot for the whole sum: fan-in is all positions together.
        scale = (6 / (height * width * channels + self.num_classes)) ** 0.5
        self.kernel = self.add_weight(
            name="kernel",
            shape=(height, width, channels, self.num_classes),
            initializer=keras.initializers.RandomUniform(-scale, scale),
        )

    def call(self, features):
        batch, height, width, channels = features.shape
        positions = height * width
        # One small matrix product per position: (positions, batch, channels) x kernel.
        flat = ops.transpose(ops.reshape(features, (-1, positions, channels)), (1, 0, 2))
        kernel = ops.reshape(self.kernel, (positions, channels, self.num_classes))
        evidence = ops.transpose(ops.matmul(flat, kernel), (1, 2, 0))
        return ops.reshape(evidence, (-1, self.num_classes, height, width))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes, input_shape[1], input_shape[2])

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("dermsa")
class NoEvidence(keras.layers.Layer):
    """Zeros `(batch, classes)` for a classifier that is told nothing of the patient."""

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def call(self, patient):
        return ops.repeat(patient[:, :1] * 0, self.num_classes, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("dermsa")
class SumOfEvidence(keras.layers.Layer):
    """`logits = bias + evidence_map.sum over positions + patient_evidence`.

    In the exported form one image may meet several patients: the sum broadcasts.
    """

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(input_shape[1][-1],), initializer="zeros")

    def call(self, inputs):
        evidence_map, patient_evidence = inputs
        return self.bias + ops.sum(evidence_map, axis=(2, 3)) + patient_evidence

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[1])
