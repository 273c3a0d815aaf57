"""Indexing of traced values against NumPy's own, values, gradients and mapped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff.numpy.indexing import at


def numbered(shape: tuple[int, ...], dtype: Any = float) -> Any:
    return np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


# ------------------------------------------------------------------------------ index expressions


@st.composite
def slices(draw: Any) -> slice:
    bound = st.none() | st.integers(-6, 6)
    return slice(draw(bound), draw(bound), draw(st.none() | st.sampled_from([1, 2, 3, -1, -2, -5])))


@st.composite
def integer_arrays(draw: Any, size: int) -> Any:
    shape = draw(st.sampled_from([(), (1,), (2,), (2,), (0,), (2, 1), (1, 2), (3, 2)]))
    low, high = (-size, size - 1) if size else (0, 0)
    dtype = draw(st.sampled_from(["i1", "i4", "i8", "u1", "u8"]))
    low = max(low, 0) if dtype[0] == "u" else low
    count = int(np.prod(shape))
    values = draw(st.lists(st.integers(low, max(high, low)), min_size=count, max_size=count))
    array = np.array(values, dtype).reshape(shape)
    return array.tolist() if shape not in ((), (0,)) and draw(st.booleans()) else array


@st.composite
def expressions(draw: Any) -> tuple[tuple[int, ...], Any]:
    """Draw a shape and an index for arrays of it, mostly one that fits."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    parts: list[Any] = []
    axis = 0
    ellipsis = False
    while True:
        kinds = ["stop", "none"]
        if not ellipsis:
            kinds.append("ellipsis")
        if axis < len(shape):
            kinds += ["int", "slice", "slice", "array", "array", "mask", "numpy int"]
        if not parts or draw(st.integers(0, 9)) == 0:
            kinds.append("bool")
        kind = draw(st.sampled_from(kinds))
        if kind == "stop" or len(parts) > 5:
            break
        if kind == "none":
            parts.append(None)
        elif kind == "ellipsis":
            ellipsis = True
            parts.append(Ellipsis)
            left = len(shape) - axis
            axis += draw(st.integers(0, left))
        elif kind == "bool":
            parts.append(draw(st.sampled_from([True, False, np.True_])))
        elif kind == "int":
            parts.append(draw(st.integers(-shape[axis] - 1, shape[axis])))
            axis += 1
        elif kind == "numpy int":
            parts.append(np.int32(draw(st.integers(-shape[axis], max(shape[axis] - 1, 0)))))
            axis += 1
        elif kind == "slice":
            parts.append(draw(slices()))
            axis += 1
        elif kind == "array":
            parts.append(draw(integer_arrays(shape[axis])))
            axis += 1
        else:
            ndim = draw(st.integers(1, min(2, len(shape) - axis)))
            sizes = shape[axis : axis + ndim]
            count = int(np.prod(sizes))
            bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
            parts.append(np.array(bits, bool).reshape(sizes))
            axis += ndim
    if len(parts) == 1 and draw(st.booleans()):
        return shape, parts[0]
    return shape, tuple(parts)


@settings(max_examples=1500, deadline=None)
@example(((3, 4, 5), (0, slice(None), [1, 2])))
@example(((3, 4, 5), (slice(None), [1, 2], Ellipsis, [0, 1])))
@example(((3, 4), ([0, 1], Ellipsis, [0, 1])))
@example(((2, 3, 4), (slice(None), 1, [[0], [2]])))
@example(((2, 3, 4), (None, [0, 1], None, [0, 2])))
@example(((), (True, None)))
@example(((), ()))
@example(((0, 3), (slice(None), [0, 2])))
@example(((4,), slice(None, None, -2)))
@example(((3,), [False, True, True]))
@example(((3,), (np.True_, [0, 1])))
@given(expressions())
def test_reading_is_as_of_arrays_and_its_transpose_adds_up(case: Any) -> None:
    shape, index = case
    x = numbered(shape)
    try:
        expected = np.asarray(x[index])
    except (IndexError, ValueError) as error:
        with pytest.raises(type(error)):
            ad.vjp(lambda x: x[index], x)
        return
    out, pull = ad.vjp(lambda x: x[index], x)
    assert isinstance(out, np.ndarray)
    np.testing.assert_array_equal(out, expected)
    assert out.shape == expected.shape
    assert out.dtype == expected.dtype
    ct = numbered(expected.shape) * 10
    sums = np.zeros(shape)
    np.add.at(sums, index, ct)
    (pulled,) = pull(ct)
    np.testing.assert_array_equal(pulled, sums)
    assert pulled.shape == shape
