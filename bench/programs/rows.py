"""Reductions and running sums: `(peer) -> function of arrays`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.declare import Peer

_OfOne = Callable[[Any], Any]


def row_sums(peer: Peer) -> _OfOne:
    """Return the sums of rows."""
    return lambda x: peer.numpy.sum(x, axis=-1)


def row_maxima(peer: Peer) -> _OfOne:
    """Return the largest elements of rows."""
    return lambda x: peer.numpy.max(x, axis=-1)


def column_sums(peer: Peer) -> _OfOne:
    """Return the sums of columns."""
    return lambda x: peer.numpy.sum(x, axis=0)


def whole_sum(peer: Peer) -> _OfOne:
    """Return the sum of all elements."""
    return lambda x: peer.numpy.sum(x)


def row_sums_of_squares(peer: Peer) -> _OfOne:
    """Return the sums of `x*x + 1` over rows."""
    return lambda x: peer.numpy.sum(x * x + 1.0, axis=-1)


def row_bell_sums(peer: Peer) -> _OfOne:
    """Return the sums of `exp(-x*x)` over rows."""
    return lambda x: peer.numpy.sum(peer.numpy.exp(-x * x), axis=-1)


def column_bell_sums(peer: Peer) -> _OfOne:
    """Return the sums of `exp(-x*x)` over columns."""
    return lambda x: peer.numpy.sum(peer.numpy.exp(-x * x), axis=0)


def whole_bell_sum(peer: Peer) -> _OfOne:
    """Return the sum of `exp(-x*x)` over all elements."""
    return lambda x: peer.numpy.sum(peer.numpy.exp(-x * x))


def logsumexp(peer: Peer) -> _OfOne:
    """Return `log(sum(exp(x)))` of rows, computed without overflow."""
    xp = peer.numpy

    def f(x: Any) -> Any:
        largest = xp.max(x, axis=-1, keepdims=True)
        return xp.log(xp.sum(xp.exp(x - largest), axis=-1)) + largest[..., 0]

    return f


def softmax(peer: Peer) -> _OfOne:
    """Return the softmax of rows."""
    xp = peer.numpy

    def f(x: Any) -> Any:
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    return f


def mean_and_variance(peer: Peer) -> _OfOne:
    """Return means and variances of rows, in two passes over each row."""
    xp = peer.numpy

    def f(x: Any) -> Any:
        mean = xp.mean(x, axis=-1)
        return mean, xp.mean((x - mean[:, None]) ** 2, axis=-1)

    return f


def running_sums(peer: Peer) -> _OfOne:
    """Return the sums of all elements up to each one, along the first axis."""
    return lambda x: peer.numpy.cumsum(x, axis=0)


def running_sums_of_rows(peer: Peer) -> _OfOne:
    """Return the sums of the elements so far of each row."""
    return lambda x: peer.numpy.cumsum(x, axis=-1)


def torch_logsumexp(peer: Peer) -> _OfOne:
    """Return `logsumexp` as torch has it."""
    return lambda x: peer.numpy.logsumexp(x, -1)


def torch_softmax(peer: Peer) -> _OfOne:
    """Return `softmax` as torch has it."""
    return lambda x: peer.numpy.softmax(x, -1)
