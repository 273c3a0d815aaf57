"""Convolution and correlation of sequences, as a product of shifted copies with the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import bind_primitive
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, common_type, joined, reshaped, sliced
from autodiff.primitives.arithmetic import conjugate
from autodiff.primitives.contraction import dot_general
from autodiff.primitives.families import broadcast_to

_MODES = {"valid": 0, "same": 1, "full": 2, 0: 0, 1: 1, 2: 2}


def _sequence(function: str, value: Any, name: str) -> Any:
    x = array_of(value)
    if x.ndim > 1 or x.size == 0:
        raise ValueError(
            message(
                function,
                f"{name} must be a sequence with at least one element",
                f"shape={x.shape}",
                line=user_line(),
            )
        )
    return reshaped(x, (x.size,))


def _reversed(x: Any) -> Any:
    return sliced(x, 0, x.size - 1, -1, -1)


def _shifted_products(x: Any, kernel: Any, mode: str | int) -> Any:
    """Return sum_k x[i + k] kernel[k] for each i, x extended by zeros as far as `mode` says."""
    if mode not in _MODES:
        raise ValueError(
            message(
                "convolve",
                "mode must be 'full', 'same' or 'valid'",
                f"mode={mode!r}",
                line=user_line(),
            )
        )
    count = kernel.size
    left, right = [
        (0, 0),
        (count // 2, count - count // 2 - 1),
        (count - 1, count - 1),
    ][_MODES[mode]]
    parts = [np.zeros(left, x.dtype), x, np.zeros(right, x.dtype)]
    x = joined([part for part in parts if part.size], 0) if left + right else x
    length = x.size
    # Copies of x end to end, cut into rows of length + 1: row k is x rotated by k. Of each row the
    # first entries, up to where the last row runs off the end, are the shifted copies.
    copies = reshaped(broadcast_to(x, (count + 1, length)), ((count + 1) * length,))
    rows = reshaped(sliced(copies, 0, 0, count * (length + 1)), (count, length + 1))
    shifted = sliced(rows, 1, 0, length - count + 1)
    return bind_primitive(dot_general, (kernel, shifted), {"dimensions": (((0,), (0,)), ((), ()))})


@array_function(np.convolve)
def convolve(a: Any, v: Any, mode: str | int = "full") -> Any:
    """Return the convolution of two sequences: sum_k a[k] v[i - k].

    `mode`: "full" every overlap, "same" as many as the longer has elements, "valid" full overlaps.
    """
    x, y = common_type(_sequence("convolve", a, "a"), _sequence("convolve", v, "v"))
    if y.size > x.size:
        x, y = y, x
    return _shifted_products(x, _reversed(y), mode)


@array_function(np.correlate)
def correlate(a: Any, v: Any, mode: str | int = "valid") -> Any:
    """Return the correlation of two sequences: sum_k a[i + k] conj(v[k]).

    `mode` as of `convolve`, "valid" by default.
    """
    x, y = common_type(_sequence("correlate", a, "a"), _sequence("correlate", v, "v"))
    y = conjugate(y) if y.dtype.kind == "c" else y
    if y.size > x.size:
        return _reversed(_shifted_products(y, x, mode))
    return _shifted_products(x, y, mode)
