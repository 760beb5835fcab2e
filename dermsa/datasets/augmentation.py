"""Augmentation on the device: Keras layers over whole batches, in `keras.ops` alone.

They draw from `keras.random` seed generators, whose state is saved with a checkpoint, so that a
resumed training sees the same pictures as an unbroken one.
"""

from __future__ import annotations

import math

import keras
from keras import ops

from dermsa.datasets import recipes
from dermsa.datasets.recipes import Recipe
from dermsa.patient import LOCALIZATION_SLICE, SEX_SLICE
from dermsa.taxonomy import LOCALIZATIONS, SEXES, UNKNOWN

GREY = 127.0  # of the mask
ELASTIC_POINTS = 6  # a side; between them the distortion is smooth

GEOMETRY = {"rotation", "shift", "zoom_in", "zoom_out", "stretch", "crop", "elastic"}
GEOMETRY |= {"flip_horizontal", "flip_vertical"}
COLOUR = {"brightness", "contrast", "saturation", "channel_gain", "channel_shift", "noise"}


class Augment(keras.layers.Layer):
    """Carries out a recipe on photos while training.

    What costs is not arithmetic but every pass over a batch of photos: all geometry is therefore
    one resampling, and all colour one matrix.

    Input shape:
        `(batch, height, width, 3)`, uint8 or float, 0 to 255.

    Output shape:
        The same, float32, 0 to 255. Outside training the input, as float32.

    Args:
        recipe: A name of `recipes.RECIPES`, or a `Recipe`.
        seed: Of all draws.
        strength: Factor on all strengths of the recipe.

    Raises:
        ValueError: No such recipe, or a negative strength.
    """

    def __init__(self, recipe: str | Recipe, seed: int = 0, strength: float = 1.0, **kwargs):
        super().__init__(dtype="float32", **kwargs)  # also under mixed precision
        named = recipe if isinstance(recipe, Recipe) else recipes.recipe(recipe)
        self.recipe = named.scaled(strength)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        images = ops.cast(images, "float32")
        steps = self.recipe.steps().keys() if training else set()
        if steps & GEOMETRY:
            move = self._bend if self.recipe.elastic else self._turn
            images = move(images, *self._affine(images))
        if self.recipe.blur and training:
            images = self._blur(images)
        if steps & COLOUR:
            images = self._recolour(images)
        if self.recipe.mask and training:
            images = self._mask(images)
        return images

    def compute_output_shape(self, input_shape):
        return input_shape

    def _uniform(self, batch, low, high, columns=1):
        return keras.random.uniform((batch, columns), low, high, seed=self.seed_generator)

    def _around(self, batch, middle, strength, columns=1):
        return self._uniform(batch, middle - strength, middle + strength, columns)

    # --- geometry ---

    def _affine(self, images):
        """Rows `(a0, a1, a2)` and `(b0, b1, b2)` of the matrices, each value `(batch, 1)`.

        They lead from a pixel of the result to the place in the photo that it shows. The turn
        happens in the photo's own proportions, before it was squashed.
        """
        recipe, batch, (height, width) = self.recipe, ops.shape(images)[0], images.shape[1:3]
        angle = self._around(batch, 0, math.radians(recipe.rotation))
        nearest, farthest = math.log(1 - recipe.zoom_in), math.log(1 + recipe.zoom_out)
        zoom = ops.exp(self._uniform(batch, nearest, farthest, 2 if recipe.zoom_apart else 1))
        window = ops.sqrt(self._uniform(batch, 1 - recipe.crop, 1))
        chance = ops.convert_to_tensor([[recipe.flip_horizontal, recipe.flip_vertical]])
        mirror = ops.where(self._uniform(batch, 0, 1, 2) < chance, -1.0, 1.0)
        scale = zoom * window * mirror
        stretch = ops.exp(self._around(batch, 0, recipe.stretch))
        scale_x, scale_y = scale[:, :1] * stretch, scale[:, 1:]
        shift = self._around(batch, 0, recipe.shift, 2)
        shift = shift + self._uniform(batch, -0.5, 0.5, 2) * (1 - window)

        aspect = recipe.aspect * height / width
        cos, sin = ops.cos(angle), ops.sin(angle)
        a0, a1 = cos * scale_x, -sin * scale_y / aspect
        b0, b1 = sin * scale_x * aspect, cos * scale_y
        cx, cy = (width - 1) / 2, (height - 1) / 2
        a2 = cx + shift[:, :1] * width - a0 * cx - a1 * cy
        b2 = cy + shift[:, 1:] * height - b0 * cx - b1 * cy
        return (a0, a1, a2), (b0, b1, b2)

    def _turn(self, images, to_x, to_y):
        zero = ops.zeros_like(to_x[0])
        transform = ops.concatenate([*to_x, *to_y, zero, zero], axis=1)
        return ops.image.affine_transform(images, transform, "bilinear", self.recipe.fill)

    def _bend(self, images, to_x, to_y):
        """The same with a smooth random displacement of every pixel (Simard et al. 2003)."""
        batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
        points = (batch, ELASTIC_POINTS, ELASTIC_POINTS, 2)
        bend = keras.random.normal(points, 0, self.recipe.elastic, seed=self.seed_generator)
        bend = ops.image.resize(bend, (height, width), "bicubic")
        x = ops.arange(width, dtype="float32")[None, None, :]
        y = ops.arange(height, dtype="float32")[None, :, None]

        def place(row, axis, side):
            a, b, c = (value[:, :, None] for value in row)
            return self._inside(a * x + b * y + c + bend[..., axis] * side, side)

        return _sampled(images, place(to_x, 0, width), place(to_y, 1, height))

    def _inside(self, place, side):
        """Places beyond the edges, brought back as `fill` says."""
        if self.recipe.fill == "reflect":  # d c b a | a b c d | d c b a
            place = side - 0.5 - ops.abs(side - ops.mod(place + 0.5, 2 * side))
        return ops.clip(place, 0, side - 1)

    # --- sharpness and colour ---

    def _blur(self, images):
        """Gaussian blur, as two products with one matrix a photo: the cost knows no radius."""
        batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
        deviation = self._uniform(batch, 0, self.recipe.blur)[..., None]

        def weights(side):
            apart = ops.arange(side, dtype="float32")
            apart = (apart[:, None] - apart[None, :]) / ops.maximum(deviation * side, 1e-2)
            weight = ops.exp(-0.5 * ops.square(apart))
            return weight / ops.sum(weight, axis=2, keepdims=True)

        rows = ops.matmul(weights(height), ops.reshape(images, (-1, height, width * 3)))
        columns = ops.transpose(ops.reshape(rows, (-1, height, width, 3)), (0, 2, 1, 3))
        columns = ops.matmul(weights(width), ops.reshape(columns, (-1, width, height * 3)))
        return ops.transpose(ops.reshape(columns, (-1, width, height, 3)), (0, 2, 1, 3))

    def _recolour(self, images):
        """Contrast, brightness, saturation and channels are one 3 x 3 matrix and an offset."""
        recipe, batch, (height, width) = self.recipe, ops.shape(images)[0], images.shape[1:3]

        def factor(strength, columns=1):
            return self._around(batch, 1, strength, columns)[:, None]

        contrast, brightness = factor(recipe.contrast), factor(recipe.brightness)
        saturation, gain = factor(recipe.saturation), factor(recipe.channel_gain, 3)
        shift = 255 * self._around(batch, 0, recipe.channel_shift, 3)[:, None]
        matrix = saturation * ops.eye(3) + (1 - saturation) / 3  # (batch, from, to)
        mean = ops.mean(images, axis=(1, 2, 3))[:, None, None]
        offset = gain * mean * (brightness - contrast) + shift
        images = ops.matmul(ops.reshape(images, (-1, height * width, 3)), contrast * gain * matrix)
        # In rows of a photo, for additions along an axis of three are slow.
        images = ops.reshape(images, (-1, height, width * 3)) + ops.tile(offset, (1, 1, width))
        if recipe.noise:
            deviation = 255 * self._uniform(batch, 0, recipe.noise)[..., None]
            noise = keras.random.normal((batch, height, width * 3), seed=self.seed_generator)
            images = images + deviation * noise
        return ops.reshape(ops.clip(images, 0, 255), (-1, height, width, 3))

    def _mask(self, images):
        """Covers one grey rectangle, on half of the photos."""
        batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
        centre = self._uniform(batch, 0, 1, columns=2)
        half = self._uniform(batch, self.recipe.mask / 6, self.recipe.mask / 2, columns=2)
        half = half * ops.cast(self._uniform(batch, 0, 1) < 0.5, "float32")

        def covered(axis, side):
            place = (ops.arange(side, dtype="float32") + 0.5) / side
            return ops.abs(place[None] - centre[:, axis, None]) < half[:, axis, None]

        columns = ops.repeat(covered(1, width), 3, axis=1)[:, None, :]
        rectangle = covered(0, height)[:, :, None] & columns
        images = ops.where(rectangle, GREY, ops.reshape(images, (-1, height, width * 3)))
        return ops.reshape(images, (-1, height, width, 3))


def _sampled(images, x, y):
    """Bilinear values at the places `x` and `y`, both `(batch, height, width)`, inside."""
    batch, (height, width) = ops.shape(images)[0], images.shape[1:3]
    left, top = ops.floor(x), ops.floor(y)
    right, below = (x - left)[..., None], (y - top)[..., None]
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    photo = ops.arange(batch, dtype="int32")[:, None, None] * height
    pixels = ops.reshape(images, (-1, 3))

    def row(number):
        start = (photo + number) * width
        near = ops.take(pixels, start + left, axis=0)
        far = ops.take(pixels, start + ops.minimum(left + 1, width - 1), axis=0)
        return near + (far - near) * right

    upper = row(top)
    return upper + (row(ops.minimum(top + 1, height - 1)) - upper) * below


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
