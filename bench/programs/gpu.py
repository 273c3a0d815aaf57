"""Programs of which a GPU's memory or launches decide: `(peer) -> function of arrays`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff import at
from bench.declare import Peer

#: AdamW: Ilya Loshchilov, Frank Hutter, "Decoupled Weight Decay Regularization", 2019,
#: algorithm 2, with the values that PyTorch takes by default.
STEP_SIZE, DECAY_1, DECAY_2, EPSILON, WEIGHT_DECAY = 1e-3, 0.9, 0.999, 1e-8, 1e-2

#: Steps taken before the one that is timed, by which moments are corrected.
STEPS = 10


def negative(peer: Peer) -> Callable[[Any], Any]:
    """Return `-x`: one read, one write."""
    return lambda x: -x


def transposed_sum(peer: Peer) -> Callable[[Any, Any], Any]:
    """Return `x.T + y`."""
    return lambda x, y: x.T + y


def sum_of_squared_differences(peer: Peer) -> Callable[[Any, Any], Any]:
    """Return `sum((x - y)**2)`."""
    return lambda x, y: peer.numpy.sum((x - y) ** 2)


def layer_norm(peer: Peer) -> Callable[[Any, Any, Any], Any]:
    """Return rows less their mean over their deviation, scaled and shifted by columns."""
    xp = peer.numpy

    def f(x: Any, gain: Any, shift: Any) -> Any:
        centred = x - xp.mean(x, axis=-1, keepdims=True)
        variance = xp.mean(centred * centred, axis=-1, keepdims=True)
        return centred / xp.sqrt(variance + 1e-5) * gain + shift

    return f


def torch_layer_norm(peer: Peer) -> Callable[[Any, Any, Any], Any]:
    """Return `layer_norm` as torch has it."""
    norm = peer.numpy.nn.functional.layer_norm
    return lambda x, gain, shift: norm(x, gain.shape, gain, shift, 1e-5)


def adamw(peer: Peer) -> Callable[..., tuple[Any, ...]]:
    """Return a step over many tensors: (*parameters, *gradients, *means, *squares) -> new ones.

    What is returned are parameters, means and squares.
    """
    xp = peer.numpy
    scale_1, scale_2 = 1.0 / (1.0 - DECAY_1**STEPS), 1.0 / (1.0 - DECAY_2**STEPS)

    def step(*arrays: Any) -> tuple[Any, ...]:
        n = len(arrays) // 4
        parameters, means, squares = [], [], []
        for i in range(n):
            x, g, m, v = arrays[i], arrays[n + i], arrays[2 * n + i], arrays[3 * n + i]
            m = DECAY_1 * m + (1.0 - DECAY_1) * g
            v = DECAY_2 * v + (1.0 - DECAY_2) * (g * g)
            slope = m * scale_1 / (xp.sqrt(v * scale_2) + EPSILON)
            parameters.append(x - STEP_SIZE * (slope + WEIGHT_DECAY * x))
            means.append(m)
            squares.append(v)
        return (*parameters, *means, *squares)

    return step


def added_rows(slots: int, width: int) -> Callable[[Peer], Callable[[Any, Any], Any]]:
    """Return the program of the gradient of an embedding: rows added up where tokens say.

    The result has `slots` rows of `width` elements, of zeros at first.
    """

    def program(peer: Peer) -> Callable[[Any, Any], Any]:
        xp = peer.numpy

        def f(rows: Any, tokens: Any) -> Any:
            total = xp.zeros((slots, width), "float32")
            xp.add.at(total, tokens, rows)
            return total

        return f

    return program


def added_numbers(slots: int) -> Callable[[Peer], Callable[[Any, Any], Any]]:
    """Return the program of sums of numbers by segment, which integers name."""

    def program(peer: Peer) -> Callable[[Any, Any], Any]:
        xp = peer.numpy

        def f(x: Any, segments: Any) -> Any:
            total = xp.zeros(slots, "float32")
            xp.add.at(total, segments, x)
            return total

        return f

    return program


def counts(slots: int) -> Callable[[Peer], Callable[[Any], Any]]:
    """Return the program of a histogram: how often each of `slots` integers comes."""

    def program(peer: Peer) -> Callable[[Any], Any]:
        xp = peer.numpy
        return lambda values: xp.bincount(values, minlength=slots).astype("int32")

    return program


def added_at(*shape: int) -> Callable[[Peer], Callable[[Any, Any], Any]]:
    """Return `added_rows` and `added_numbers` as this library has them."""
    return lambda peer: lambda x, places: at(_zeros(shape, "float32"))[places].add(x, mode="drop")


def counted_at(slots: int) -> Callable[[Peer], Callable[[Any], Any]]:
    """Return `counts` as this library has it."""
    return lambda peer: lambda values: at(_zeros((slots,), "int32"))[values].add(1, mode="drop")


def _zeros(shape: tuple[int, ...], dtype: str) -> Any:
    """Return zeros that take no memory: what begins with them is filled, not copied."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def jax_added_at(*shape: int) -> Callable[[Peer], Callable[[Any, Any], Any]]:
    """Return `added_rows` and `added_numbers` as jax has them."""
    return lambda peer: lambda x, places: peer.numpy.zeros(shape, "float32").at[places].add(x)


def jax_counts(slots: int) -> Callable[[Peer], Callable[[Any], Any]]:
    """Return `counts` as jax has it."""
    return lambda peer: lambda values: peer.numpy.zeros(slots, "int32").at[values].add(1)


def torch_added_at(*shape: int) -> Callable[[Peer], Callable[[Any, Any], Any]]:
    """Return `added_rows` and `added_numbers` as torch has them."""
    return lambda peer: lambda x, places: x.new_zeros(shape).index_add(0, places, x)


def torch_counts(slots: int) -> Callable[[Peer], Callable[[Any], Any]]:
    """Return `counts` as torch has it."""
    return lambda peer: lambda values: peer.numpy.bincount(values, minlength=slots).int()


def dependent_sums(count: int) -> Callable[[Peer], Callable[[Any], Any]]:
    """Return the program of `count` sums of a square, of rows and of columns in turn.

    Each needs all of the one before, in the other order: no library makes fewer kernels of them.
    """

    def program(peer: Peer) -> Callable[[Any], Any]:
        xp = peer.numpy

        def f(x: Any) -> Any:
            total = xp.sum(x, axis=0)
            for i in range(1, count):
                weights = 1.0 / (1.0 + total * total)
                total = (
                    xp.sum(x * weights, axis=1) if i % 2 else xp.sum(x * weights[:, None], axis=0)
                )
            return total

        return f

    return program
