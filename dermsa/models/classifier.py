"""A classifier: a backbone, a head, and the patient branch.

The head `soft_attention` is figure 3 of Nguyen, Bui, Do (Sensors 2022), without its closing
softmax:

    features ──┬─ MaxPool 2x2 same ──────────────────┐
               └─ SoftAttention ─ MaxPool 2x2 same ──┴ concat ─ ReLU ─ Dropout ─┐
    patient (21) ─ patient branch ──────────────────────────────────────────────┴ Dense ─ logits

`global_pooling` has no attention: features ─ mean over positions ─ Dropout ─ Dense.

After the feature map, both are linear up to the logits but for a ReLU that each position passes
alone. The last Dense layer is therefore written as the sum that it is: one term per diagnosis and
position (the evidence map), one for the patient, and the bias. `logits = bias + evidence_map.sum
over positions + patient_evidence` is exact, with no gradient and no approximation. Under global
pooling the evidence map is the class activation map (Zhou et al. 2016).

Two kinds of classifiers do not split so (`decomposes` tells):

- `soft_attention_dense512`, the papers' largest: Dense 512 with ReLU before the last Dense;
- a backbone with a `tail` at its published cut: attention sits in the middle of the network, and
  the tail comes between concat and logits. Its `global_pooling` is the plain network, with the
  max pooling of the feature map alone in place of the attention block.

A classifier answers what it has, and leaves out what it has not (`outputs_of`): no attention map
without attention, no evidence without decomposition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import keras
from keras import ops

from dermsa.models import backbones
from dermsa.models.classifier_config import HEADS, ClassifierConfig
from dermsa.models.outputs import EVIDENCE, OUTPUTS
from dermsa.models.soft_attention import SoftAttention
from dermsa.patient import VECTOR_SIZE

# The handlers of this name write a run's train.log.
log = logging.getLogger("dermsa.training")

PATIENT_UNITS = 4096
GESSERT_UNITS = 256
GESSERT_DROPOUT = 0.4
JOINT_UNITS = 512


def heads_at(backbone: str, cut: str) -> tuple[str, ...]:
    """The heads that a backbone takes at a cut: all, but for one that goes on by itself there."""
    return HEADS if _tail(backbone, cut) is None else ("soft_attention", "global_pooling")


def decomposes(config: ClassifierConfig) -> bool:
    """Whether the logits split exactly into bias, evidence map and patient evidence."""
    tail = _tail(config.backbone, config.cut)
    return config.head != "soft_attention_dense512" and tail is None


def outputs_of(config: ClassifierConfig) -> tuple[str, ...]:
    """The names of what a classifier answers, in the order of `OUTPUTS`."""
    missing = set() if decomposes(config) else set(EVIDENCE)
    if config.head == "global_pooling":
        missing.add("attention_map")
    return tuple(name for name in OUTPUTS if name not in missing)


def build_classifier(config: ClassifierConfig, weights: str | None = None) -> keras.Model:
    """Builds a classifier as one flat functional graph.

    Args:
        config: What to build.
        weights: Starting weights of the backbone: "imagenet", a path, or None (random). A tail
            takes its own from the same file, as far as they fit behind the attention block.

    Returns:
        A model from `image` float32 `(batch, height, width, 3)`, RGB 0 to 255, and `patient`
        float32 `(batch, 21)` to a dictionary of float32 tensors, those of `outputs_of(config)`:

        - `logits (batch, classes)`
        - `attention_map (batch, h, w)`, summing to K over positions
        - `evidence_map (batch, classes, h', w')`: after the 2x2 pooling under soft attention, at
          the feature map's own size under global pooling
        - `patient_evidence (batch, classes)`, zeros without a patient branch
        - `embedding (batch, d)`, of the image alone: the mean of the head's features over
          positions, or what a tail makes of them
    """
    record = backbones.backbone(config.backbone)
    image = keras.Input((*config.input_size, 3), name="image")
    patient = keras.Input((VECTOR_SIZE,), name="patient")
    pixels = image
    if config.channel_order == "bgr":
        pixels = backbones.ReverseChannels(name="bgr_taken_for_rgb")(image)
    network, features = backbones.network_and_features(record, config.cut, pixels, weights)
    outputs = head_outputs(config, features, patient)
    classifier = keras.Model([image, patient], outputs, name=config.backbone)
    if weights is not None and _tail(config.backbone, config.cut):
        _start_tail(classifier, network)
    return classifier


def head_outputs(
    config: ClassifierConfig, features: keras.KerasTensor, patient: keras.KerasTensor
) -> dict[str, keras.KerasTensor]:
    """What follows the feature map: head, tail and patient branch; see `build_classifier`."""
    if config.head == "global_pooling":
        outputs = {}
        head = features
    else:
        head, outputs = _attention_block(config, features)
    # float32 from here on, also under mixed precision: logits decide, and sums must close.
    if _tail(config.backbone, config.cut):
        outputs |= _after_tail(config, head, patient)
    elif config.head == "soft_attention_dense512":
        outputs |= _through_dense_512(config, head, patient)
    else:
        outputs |= _with_evidence(config, head, patient)
    return {name: outputs[name] for name in outputs_of(config)}


# --- heads --------------------------------------------------------------------------------------


def _attention_block(
    config: ClassifierConfig, features: keras.KerasTensor
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """The two pooled paths, joined, up to their ReLU; and the attention map."""
    weighted, attention_map = SoftAttention(
        config.attention_maps, config.kernel, config.initial_gamma, name="soft_attention"
    )(features)
    pooled = [
        _pool(tensor, name) for name, tensor in (("features", features), ("attention", weighted))
    ]
    head = keras.layers.Concatenate(name="head_concat")(pooled)
    head = keras.layers.ReLU(name="head_relu")(head)
    attention_map = keras.layers.Activation("linear", dtype="float32", name="attention_map")(
        attention_map
    )
    return head, {"attention_map": attention_map}


def _with_evidence(
    config: ClassifierConfig, head: keras.KerasTensor, patient: keras.KerasTensor
) -> dict[str, keras.KerasTensor]:
    """The last Dense layer, as the sum of its terms."""
    classes = len(config.classes)
    embedding = _mean_over_positions(head)
    if config.head == "global_pooling":
        # Whole channels are dropped: the same as dropping entries of their mean.
        head = keras.layers.SpatialDropout2D(config.dropout, name="head_dropout")(head)
        layer = ClassActivationMap
    else:
        head = keras.layers.Dropout(config.dropout, name="head_dropout")(head)
        layer = EvidenceMap
    evidence_map = layer(classes, dtype="float32", name="evidence_map")(head)
    patient_evidence = _patient_term(config, patient, classes, "patient_evidence")
    logits = SumOfEvidence(dtype="float32", name="logits")([evidence_map, patient_evidence])
    return {
        "logits": logits,
        "evidence_map": evidence_map,
        "patient_evidence": patient_evidence,
        "embedding": embedding,
    }


def _through_dense_512(
    config: ClassifierConfig, head: keras.KerasTensor, patient: keras.KerasTensor
) -> dict[str, keras.KerasTensor]:
    """Flatten, joined with the patient, Dense 512 with ReLU, Dense.

    A Dense layer over joined vectors is the sum of one over each; as a sum, one image may meet
    several patients in the exported form.
    """
    embedding = _mean_over_positions(head)
    head = keras.layers.Dropout(config.dropout, name="head_dropout")(head)
    flat = keras.layers.Flatten(name="head_flatten")(head)
    joint = keras.layers.Dense(JOINT_UNITS, dtype="float32", name="joint_image")(flat)
    joint_patient = _patient_term(config, patient, JOINT_UNITS, "joint_patient")
    joint = keras.layers.Add(dtype="float32", name="joint_sum")([joint, joint_patient])
    joint = keras.layers.ReLU(dtype="float32", name="joint_relu")(joint)
    logits = keras.layers.Dense(len(config.classes), dtype="float32", name="logits")(joint)
    return {"logits": logits, "embedding": embedding}


def _after_tail(
    config: ClassifierConfig, head: keras.KerasTensor, patient: keras.KerasTensor
) -> dict[str, keras.KerasTensor]:
    """The rest of a network that has the attention block (or plain pooling) in its middle."""
    classes, tail = len(config.classes), _tail(config.backbone, config.cut)
    if config.head == "global_pooling":
        flat = tail(_pool(head, "features"))
        embedding = _embedding(flat)
        flat = keras.layers.Dropout(config.dropout, name="head_dropout")(flat)
    else:
        flat = tail(keras.layers.Dropout(config.dropout, name="head_dropout")(head))
        embedding = _embedding(flat)
    logits = keras.layers.Dense(classes, dtype="float32", name="image_logits")(flat)
    patient_logits = _patient_term(config, patient, classes, "patient_logits")
    logits = keras.layers.Add(dtype="float32", name="logits")([logits, patient_logits])
    return {"logits": logits, "embedding": embedding}


def _start_tail(classifier: keras.Model, network: keras.Model) -> None:
    """Gives the tail the weights that its layers have in the network without attention.

    The first ones see twice the channels behind the attention block: these stay random, and the
    log says so.
    """
    loaded = {layer.name: layer for layer in network.layers}
    random = []
    for layer in classifier.layers:
        source = loaded.get(layer.name)
        if source is layer or not layer.weights:
            continue
        if source is not None and _shapes(source) == _shapes(layer):
            layer.set_weights(source.get_weights())
        else:
            random.append(layer.name)
    log.info("Not in the starting weights, and so random: %s.", ", ".join(random))


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _tail(backbone: str, cut: str) -> Callable[[keras.KerasTensor], keras.KerasTensor] | None:
    """The layers of a backbone that follow the attention, where it has such at this cut."""
    return backbones.backbone(backbone).tail if cut == "published" else None


def _pool(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.MaxPooling2D(2, padding="same", name=f"pool_{name}")(tensor)


def _mean_over_positions(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.GlobalAveragePooling2D(name="embedding", dtype="float32")(tensor)


def _embedding(flat: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.Activation("linear", dtype="float32", name="embedding")(flat)


# --- the patient --------------------------------------------------------------------------------


def _patient_term(
    config: ClassifierConfig, patient: keras.KerasTensor, units: int, name: str
) -> keras.KerasTensor:
    """The patient's part of a sum `(batch, units)`; its bias is the other part's."""
    if config.patient_branch == "none":
        return NoEvidence(units, dtype="float32", name=name)(patient)
    hidden = _gessert(patient) if config.patient_branch == "gessert" else _papers(config, patient)
    return keras.layers.Dense(units, use_bias=False, dtype="float32", name=name)(hidden)


def _papers(config: ClassifierConfig, patient: keras.KerasTensor) -> keras.KerasTensor:
    hidden = keras.layers.Dense(PATIENT_UNITS, "relu", name="patient_dense")(patient)
    if config.head == "soft_attention_dense512":
        # Only so does the parameter count come out as published: 37,062,250.
        hidden = keras.layers.Dense(PATIENT_UNITS, "relu", name="patient_dense_2")(hidden)
    return hidden


def _gessert(patient: keras.KerasTensor) -> keras.KerasTensor:
    hidden = patient
    for number in (1, 2):
        # The normalisation takes any bias away again.
        hidden = keras.layers.Dense(GESSERT_UNITS, use_bias=False, name=f"patient_dense_{number}")(
            hidden
        )
        hidden = keras.layers.BatchNormalization(name=f"patient_bn_{number}")(hidden)
        hidden = keras.layers.ReLU(name=f"patient_relu_{number}")(hidden)
        hidden = keras.layers.Dropout(GESSERT_DROPOUT, name=f"patient_dropout_{number}")(hidden)
    return hidden


# --- layers -------------------------------------------------------------------------------------


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
class ClassActivationMap(keras.layers.Layer):
    """Global average pooling and Dense without a bias, kept apart by position (Zhou et al. 2016).

    Input shape:
        `(batch, h, w, channels)`.

    Output shape:
        `(batch, classes, h, w)`; the sum over positions is what Dense of the mean would have
        given: each position has the kernel's answer divided by the number of positions.
    """

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_classes),
            initializer="glorot_uniform",
        )

    def call(self, features):
        _, height, width, _ = features.shape
        evidence = ops.matmul(features, self.kernel) / (height * width)
        return ops.transpose(evidence, (0, 3, 1, 2))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes, input_shape[1], input_shape[2])

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("dermsa")
class NoEvidence(keras.layers.Layer):
    """Zeros `(batch, units)` for a classifier that is told nothing of the patient."""

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def call(self, patient):
        return ops.repeat(patient[:, :1] * 0, self.units, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


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
