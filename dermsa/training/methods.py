"""How the network moves: its stages, which layers take part and how fast, and its average."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

from dermsa.class_weights import class_weights
from dermsa.losses import LogitAdjustedCrossEntropy, WeightedCrossEntropy, WeightedFocalLoss
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import RunError

LAYER_GROUPS = 12  # as Liu et al. (ConvNeXt, 2022) divide convolutional networks


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Layers that are made within compute in this precision; weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def distribution(config: TrainingConfig) -> Iterator[None]:
    """What is made and trained within divides its batches among all local accelerators.

    Raises:
        RunError: The backend can't, or the batches cannot be divided evenly.
    """
    if config.device != "all":
        yield
        return
    if keras.backend.backend() != "jax":
        raise RunError(
            "Only JAX trains on all devices at once here: set KERAS_BACKEND=jax, or choose one "
            "device."
        )
    parallel = keras.distribution.DataParallel()
    count = parallel.device_mesh.devices.size
    if config.batch_size % count:
        raise RunError(f"A batch of {config.batch_size} cannot be divided among {count} devices.")
    with parallel.scope():
        yield


# --- which layers take part ---------------------------------------------------------------------


def backbone_of(classifier: keras.Model) -> keras.Model:
    """What leads from the image to the feature map."""
    names = {layer.name for layer in classifier.layers}
    # The head's first layer: with attention, without it, and without it before a tail.
    head = next(name for name in ("soft_attention", "pool_features", "embedding") if name in names)
    image = classifier.get_layer("image").output
    return keras.Model(image, classifier.get_layer(head).input)


def backbone_layers(classifier: keras.Model) -> list[keras.layers.Layer]:
    """The layers that lead from the image to the feature map, in order."""
    return backbone_of(classifier).layers


def let_train(classifier: keras.Model, config: TrainingConfig, head_only: bool = False) -> None:
    """Decides which layers are trained; the others keep their weights and statistics.

    Args:
        classifier: What `build_classifier` made.
        config: Of the training.
        head_only: The whole backbone rests.

    Raises:
        ValueError: There is no layer `freeze_until`.
    """
    backbone = backbone_layers(classifier)
    for layer in backbone:
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not (head_only or (normalises and config.batchnorm == "freeze"))
    if config.freeze_until and not head_only:
        freeze(classifier, config.freeze_until)


def freeze(model: keras.Model, last_layer: str) -> None:
    """Freezes the layers up to and including the named one.

    Raises:
        ValueError: No such layer.
    """
    names = [layer.name for layer in model.layers]
    if last_layer not in names:
        raise ValueError(f"Cannot freeze until {last_layer!r}: {model.name} has no such layer.")
    for layer in model.layers[: names.index(last_layer) + 1]:
        layer.trainable = False


def set_batchnorm_momentum(model: keras.Model, momentum: float) -> None:
    """Keras builds MobileNets with 0.999: far too slow to follow a fine-tuning."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


def keep_statistics(classifier: keras.Model) -> None:
    """Lets the backbone normalise by its starting statistics, also while training."""
    for layer in backbone_layers(classifier):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.call = types.MethodType(_call_outside_training, layer)


def _call_outside_training(self, inputs, training=None, mask=None):
    return keras.layers.BatchNormalization.call(self, inputs, training=False, mask=mask)


# --- how it is computed -------------------------------------------------------------------------


def logits_of(classifier: keras.Model, xla: str) -> Callable:
    """The classifier as a function of its inputs that answers the logits alone.

    Args:
        classifier: What `build_classifier` made.
        xla: As in `TrainingConfig`. On TensorFlow "on" compiles the classifier with its backward
            pass; the augmentation has an operation that XLA does not know there.
    """
    if xla == "on" and keras.backend.backend() == "tensorflow":
        return XlaLogits(classifier, name="xla")
    return lambda inputs: classifier(inputs)["logits"]


class XlaLogits(keras.layers.Layer):
    """A classifier's logits as one computation that XLA compiles (TensorFlow)."""

    def __init__(self, classifier: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.classifier = classifier

    def call(self, inputs, training=False):
        import tensorflow as tf

        # Made anew for each training step that is traced: in another stage, layers that rested
        # are trained.
        @tf.function(jit_compile=True)
        def logits(inputs):
            return self.classifier(inputs, training=training)["logits"]

        return logits(inputs)

    def compute_output_spec(self, inputs, training=False):
        return self.classifier.output["logits"]


# --- how fast -----------------------------------------------------------------------------------


def loss_of(config: TrainingConfig, counts: np.ndarray) -> WeightedCrossEntropy:
    """The loss; `counts` are the images that an epoch shows, per diagnosis."""
    weights = class_weights(config.class_weights, counts, config.classifier.classes)
    if config.loss == "focal":
        return WeightedFocalLoss(weights, config.label_smoothing, config.focal_gamma)
    if config.loss == "logit_adjusted":
        return LogitAdjustedCrossEntropy(weights, config.label_smoothing)
    return WeightedCrossEntropy(weights, config.label_smoothing)


def optimizer_of(
    config: TrainingConfig, classifier: keras.Model, steps: int, head_only: bool = False
) -> keras.optimizers.Optimizer:
    """A new optimiser with its schedule, for one stage.

    Args:
        config: Of the training.
        classifier: Whose layers have rates of their own, where the configuration says so.
        steps: Of an epoch.
        head_only: For the epochs of the head alone.
    """
    settings = {
        "learning_rate": config.head_learning_rate if head_only else _schedule(config, steps),
        "epsilon": config.epsilon,
        "gradient_accumulation_steps": config.accumulate if config.accumulate > 1 else None,
    }
    decay = config.weight_decay if config.optimizer == "adamw" else 0.0
    if config.layer_decay < 1:
        shares = layer_shares(classifier, config.layer_decay)
        return LayerwiseAdam(lambda variable: shares.get(id(variable), 1.0), decay, **settings)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(**settings)
    return keras.optimizers.AdamW(weight_decay=decay, **settings)


def _schedule(
    config: TrainingConfig, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if config.schedule != "cosine":
        return config.learning_rate
    # In steps, also where only every few of them change the weights: Keras counts all of them.
    total = max(1, (config.epochs - config.head_epochs) * steps)
    warmup = min(config.warmup_steps, total // 2)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        total - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def layer_shares(classifier: keras.Model, decay: float) -> dict[int, float]:
    """What share of the learning rate each weight of the backbone has, by the weight's `id`.

    The backbone's layers with weights are divided into twelve groups of equal number: `decay`
    for the group next to the head, its square for the one below, and so on.
    """
    layers = [layer for layer in backbone_layers(classifier) if layer.weights]
    return {
        id(weight): decay ** (1 + depth * LAYER_GROUPS // len(layers))
        for depth, layer in enumerate(reversed(layers))
        for weight in layer.weights
    }


class LayerwiseAdam(keras.optimizers.Adam):
    """Adam, or AdamW, in which each weight has a share of the learning rate.

    The share is a factor on the whole step, decay of the weight included, so that weights that
    hardly move do not fade.

    Args:
        share_of: The share of a weight, 0 to 1.
        decay: As AdamW's `weight_decay`.
        settings: Of Adam.
    """

    def __init__(self, share_of: Callable[[keras.Variable], float], decay: float, **settings):
        super().__init__(**settings)
        self._share_of, self._decay = share_of, decay

    def build(self, variables):
        super().build(variables)
        self._shares = tuple(self._share_of(variable) for variable in variables)

    def update_step(self, gradient, variable, learning_rate):
        rate = learning_rate * self._shares[self._get_variable_index(variable)]
        if self._decay:
            self.assign_sub(variable, variable * ops.cast(rate * self._decay, variable.dtype))
        super().update_step(gradient, variable, rate)


# --- its average --------------------------------------------------------------------------------


class Averages:
    """An exponential moving average of a classifier's weights (Polyak and Juditsky 1992).

    The moving statistics of batch normalisation are averaged like the weights that they belong
    to. Until `decay` leaves the start behind, a smaller one is used (as TensorFlow's
    ExponentialMovingAverage does), so that early epochs are not judged by their first steps.

    Args:
        classifier: Its weights are averaged, from where they stand now.
        decay: Per step, 0 to below 1.
    """

    def __init__(self, classifier: keras.Model, decay: float):
        self.decay = decay
        self.steps = keras.Variable(0.0, trainable=False, name="averaged_steps")
        self.pairs = [
            (
                keras.Variable(_copied(weight), trainable=False, name="average"),
                weight,
            )
            for weight in classifier.weights
        ]

    @property
    def variables(self) -> list[keras.Variable]:
        return [self.steps, *(average for average, _ in self.pairs)]

    def update(self) -> None:
        """Takes one more step into the average."""
        self.steps.assign_add(1.0)
        decay = ops.minimum(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, weight in self.pairs:
            average.assign_add((1 - decay) * (weight - average))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the classifier holds the averages in place of its weights."""
        own = [_copied(weight) for _, weight in self.pairs]
        try:
            for average, weight in self.pairs:
                weight.assign(_copied(average))  # JAX gives the memory of a weight to its answers
            yield
        finally:
            for (_, weight), value in zip(self.pairs, own, strict=True):
                weight.assign(value)


def _copied(variable: keras.Variable) -> np.ndarray:
    return np.array(ops.convert_to_numpy(variable))


class AveragedModel(keras.Model):
    """A network whose training step also moves the average of a classifier's weights."""

    averages: Averages | None = None

    def average(self, classifier: keras.Model, decay: float) -> None:
        self.averages = Averages(classifier, decay)
        self.average_variables = self.averages.variables  # where Keras looks for state

    if keras.backend.backend() == "jax":

        def train_step(self, state, data):
            logs, state = super().train_step(state, data)
            return logs, state if self.averages is None else self._averaged(state)

        def _averaged(self, state):
            trainable, others, *rest = state
            values = zip(self.trainable_variables, trainable, strict=True)
            values = [*values, *zip(self.non_trainable_variables, others, strict=True)]
            with keras.StatelessScope(state_mapping=values) as scope:
                self.averages.update()
            others = [
                scope.get_current_value(variable) for variable in self.non_trainable_variables
            ]
            return trainable, others, *rest

    else:

        def train_step(self, data):
            logs = super().train_step(data)
            if self.averages is not None:
                self.averages.update()
            return logs
