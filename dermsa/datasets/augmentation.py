"""Augmentation on the device: Keras layers over whole batches, in `keras.ops` alone.

They draw from `keras.random` seed generators, whose state is saved with a checkpoint, so that a
resumed training sees the same pictures as an unbroken one.
"""

from __future__ import annotations

import math

import keras
from keras import ops

from dermsa.patient import LOCALIZATION_SLICE, SEX_SLICE
from dermsa.taxonomy import LOCALIZATIONS, SEXES, UNKNOWN

# HAM10000 photos are 4:3 and are squashed to a square; a turned camera turns the original.
PHOTO_ASPECT = 4 / 3

RECIPES = ("none", "strong")


class Augment(keras.layers.Layer):
    """Turns, mirrors, zooms, shifts, recolours and masks photos while training.

    Input shape:
        `(batch, height, width, 3)`, uint8 or float, 0 to 255.

    Output shape:
        The same, float32, 0 to 255. Outside training the input, as float32.

    Args:
        recipe: "none", or "strong": any rotation, mirror images, zoom 0.77 to 1.25 with
            15 % change of aspect, shift 10 %, brightness and contrast 20 %, colour channels
            10 %, saturation 20 %, and one grey rectangle on half of the photos.
        seed: Of all draws.
    """

    def __init__(self, recipe: str, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        if recipe not in RECIPES:
            raise ValueError(f"Unknown recipe {recipe!r}. Expected one of: {', '.join(RECIPES)}.")
        self.recipe = recipe
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        images = ops.cast(images, "float32")
        if not training or self.recipe == "none":
            return images
        images = self._move(images)
        images = self._recolour(images)
        return self._mask(images)

    def compute_output_shape(self, input_shape):
        return input_shape

    def _uniform(self, batch, low, high, columns=1):
        return keras.random.uniform((batch, columns), low, high, seed=self.seed_generator)

    def _move(self, images):
        """One affine resampling for turn, mirror, zoom, aspect and shift together."""
        batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
        angle = self._uniform(batch, -math.pi, math.pi)
        zoom = ops.exp(self._uniform(batch, math.log(0.77), math.log(1.25)))
        aspect = ops.exp(self._uniform(batch, -0.15, 0.15))
        mirror = ops.sign(self._uniform(batch, -1, 1))
        shift = self._uniform(batch, -0.1, 0.1, columns=2)
        # The matrix leads from an output pixel to the input pixel it shows. The turn happens in
        # the photo's own proportions, before it was squashed.
        cos, sin = ops.cos(angle), ops.sin(angle)
        a0, a1 = cos * zoom * aspect * mirror, -sin * zoom / PHOTO_ASPECT
        b0, b1 = sin * zoom * aspect * mirror * PHOTO_ASPECT, cos * zoom
        cx, cy = (width - 1) / 2, (height - 1) / 2
        a2 = cx + shift[:, :1] * width - a0 * cx - a1 * cy
        b2 = cy + shift[:, 1:] * height - b0 * cx - b1 * cy
        zero = ops.zeros_like(a0)
        transform = ops.concatenate([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)
        return ops.image.affine_transform(images, transform, "bilinear", "reflect")

    def _recolour(self, images):
        batch = ops.shape(images)[0]

        def factor(strength, columns=1):
            drawn = self._uniform(batch, 1 - strength, 1 + strength, columns)
            return ops.reshape(drawn, (-1, 1, 1, columns))

        mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
        images = (images - mean) * factor(0.2) + mean * factor(0.2)
        grey = ops.mean(images, axis=3, keepdims=True)
        images = grey + (images - grey) * factor(0.2)
        return ops.clip(images * factor(0.1, 3), 0, 255)

    def _mask(self, images):
        """Covers one rectangle of up to 30 % of each side, on half of the photos."""
        batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
        centre = self._uniform(batch, 0, 1, columns=2)
        half = self._uniform(batch, 0.05, 0.15, columns=2)
        half = half * ops.cast(self._uniform(batch, 0, 1) < 0.5, "float32")

        def covered(axis, length):
            place = (ops.arange(length, dtype="float32") + 0.5) / length
            return ops.abs(place[None] - centre[:, axis, None]) < half[:, axis, None]

        rectangle = covered(0, height)[:, :, None] & covered(1, width)[:, None, :]
        return ops.where(rectangle[..., None], 127.0, images)


class ForgetPatient(keras.layers.Layer):
    """Sets patient properties to unknown at random while training (Gessert et al. 2020).

    So "unknown" is an answer that the classifier has learned to live with.

    Args:
        rate: Chance of each property to be forgotten.
        all_rate: Chance to forget all three together.
        seed: Of all draws.

    Input and output shape:
        `(batch, 21)`, see `dermsa.patient`.
    """

    def __init__(self, rate: float, all_rate: float, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.all_rate = rate, all_rate
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, patient, training=False):
        if not training:
            return patient
        drawn = keras.random.uniform((ops.shape(patient)[0], 4), seed=self.seed_generator)
        forget = (drawn[:, :3] < self.rate) | (drawn[:, 3:] < self.all_rate)
        age, sex, localization = forget[:, 0:1], forget[:, 1:2], forget[:, 2:3]
        return ops.concatenate(
            [
                ops.where(age, 0.0, patient[:, :1]),
                ops.where(sex, _unknown(SEXES), patient[:, SEX_SLICE]),
                ops.where(localization, _unknown(LOCALIZATIONS), patient[:, LOCALIZATION_SLICE]),
            ],
            axis=1,
        )

    def compute_output_shape(self, input_shape):
        return input_shape


def _unknown(values: tuple[str, ...]):
    one_hot = [0.0] * (1 + len(values))
    one_hot[1 + values.index(UNKNOWN)] = 1.0
    return ops.convert_to_tensor([one_hot])
