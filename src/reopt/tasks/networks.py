"""Layers of small networks, for tasks whose parameters are one flat vector and whose problems run side by side.

Features stand first and examples last: a layer is then W^T x with the examples along the fast axis, which on a CPU,
with weights of its own for each problem of a batch, takes half to a third of the time of the usual order.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Shape = tuple[int, ...]


def num_weights(shapes: Sequence[Shape]) -> int:
    """How many numbers arrays of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes)


def unflatten(params: Float[Array, " param"], shapes: Sequence[Shape]) -> list[Array]:
    """The flat vector cut into arrays of these shapes, in this order."""
    arrays, first = [], 0
    for shape in shapes:
        arrays.append(params[first : first + math.prod(shape)].reshape(shape))
        first += math.prod(shape)
    return arrays


def initial_weights(key: PRNGKeyArray, shapes: Sequence[Shape]) -> Float[Array, " param"]:
    """Weights as `jax.example_libraries.stax` draws them, flat.

    Arrays of two axes and more are weights, glorot normal: variance 2 / (fan_in + fan_out), cut at two standard
    deviations; vectors are biases, N(0, 1e-2), of which 1e-2 is the standard deviation.
    """
    glorot = jax.nn.initializers.glorot_normal()
    keys = jax.random.split(key, len(shapes))
    arrays = [
        glorot(k, shape) if len(shape) > 1 else 1e-2 * jax.random.normal(k, shape)
        for k, shape in zip(keys, shapes, strict=True)
    ]
    return jnp.concatenate([array.ravel() for array in arrays])


def dense(
    x: Float[Array, "in_ example"], weight: Float[Array, "in_ out"], bias: Float[Array, " out"]
) -> Float[Array, "out example"]:
    """W^T x + b."""
    # An accelerator would round the matmul to TF32 or bfloat16.
    return jnp.matmul(weight.T, x, precision="highest") + bias[:, None]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, tuple[int, int]]:
    """(length of the output, padding before and after) of a convolution padded as "SAME", along one axis."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return out, (total // 2, total - total // 2)


def convolution(
    x: Float[Array, "in_ height width example"],
    weight: Float[Array, "kernel kernel in_ out"],
    bias: Float[Array, " out"],
    stride: int,
) -> Float[Array, "out height_out width_out example"]:
    """Convolution (correlation, as in every library) with "SAME" padding and a bias a channel.

    A sum over the pixels of the kernel, written as one matmul with shifted copies of the image (im2col). With weights
    of its own for each problem, `jax.lax.conv` becomes a grouped convolution, which XLA runs slowly on a CPU: for 8
    problems of stride-2 layers 1-4-8-8 on 14 x 14 pixels and 32 images, a gradient took 7.8 ms so and 1.2 ms this way,
    a Hessian-vector product 20 ms and 2.7 ms.
    """
    kernel, _, channels, out = weight.shape
    height, rows = same_padding(x.shape[1], kernel, stride)
    width, columns = same_padding(x.shape[2], kernel, stride)
    x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
    last_row, last_column = stride * (height - 1) + 1, stride * (width - 1) + 1
    shifted = [
        x[:, i : i + last_row : stride, j : j + last_column : stride] for i in range(kernel) for j in range(kernel)
    ]
    patches = jnp.concatenate(shifted).reshape(kernel * kernel * channels, -1)
    return dense(patches, weight.reshape(-1, out), bias).reshape(out, height, width, -1)
