"""The indexing operations against loops over elements: values, derivatives, every batching."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.graph import Literal
from autodiff.primitives import indexing_references
from autodiff.primitives.indexing_layout import (
    default_fill,
    embed_by,
    gather_from,
    last_writes,
    overwrite_by,
    scatter_into,
    slice_by,
)

RNG = np.random.default_rng(7)
RANGES = [
    ((5,), [range(1, 4, 2)]),
    ((5,), [range(4, -1, -1)]),
    ((5,), [range(3, 3)]),
    ((3, 4), [range(3), range(3, 0, -2)]),
    ((3, 4), [range(1, 2), range(4)]),
    ((0, 2), [range(0), range(1, 2)]),
    ((), []),
]
KINDS = ["set", "add", "multiply", "min", "max"]


def resolve(index: int, size: int, mode: str) -> int | None:
    """Return the place an index names by the definition of the modes, None for nowhere."""
    if 0 <= index < size:
        return index
    if mode == "clip":
        return 0 if index < 0 else size - 1
    if mode == "wrap":
        return index - size * (index // size)
    assert mode in ("fill", "drop")
    return None


def gather_by_loops(x: Any, indices: Any, axes: Any, mode: str, fill: Any, batch_axes: int) -> Any:
    """Read element by element, over places of the elements' array."""
    shape = indices[0].shape
    others = [i for i in range(batch_axes, x.ndim) if i not in axes]
    out = np.empty((*shape, *(x.shape[i] for i in others)), x.dtype)
    for place in np.ndindex(out.shape):
        s, rest = place[: len(shape)], place[len(shape) :]
        full: list[Any] = [None] * x.ndim
        for i in range(batch_axes):
            full[i] = s[i]
        for axis, index in zip(axes, indices, strict=True):
            full[axis] = resolve(int(index[s]), x.shape[axis], mode)
        for axis, i in zip(others, rest, strict=True):
            full[axis] = i
        out[place] = fill if None in full else x[tuple(full)]
    return out


def scatter_by_loops(
    x: Any, updates: Any, indices: Any, axes: Any, mode: str, kind: str, batch_axes: int
) -> Any:
    """Write element by element, in order."""
    out = x.copy()
    shape = indices[0].shape
    others = [i for i in range(batch_axes, x.ndim) if i not in axes]
    combine = {
        "set": lambda a, b: b,
        "add": np.add,
        "multiply": np.multiply,
        "min": np.minimum,
        "max": np.maximum,
    }[kind]
    for place in np.ndindex(updates.shape):
        s, rest = place[: len(shape)], place[len(shape) :]
        full: list[Any] = [None] * x.ndim
        for i in range(batch_axes):
            full[i] = s[i]
        for axis, index in zip(axes, indices, strict=True):
            full[axis] = resolve(int(index[s]), x.shape[axis], mode)
        for axis, i in zip(others, rest, strict=True):
            full[axis] = i
        if None not in full:
            out[tuple(full)] = combine(out[tuple(full)], updates[place])
    return out


#: Shape of x, of the indices, indexed axes, batch axes.
LAYOUTS: list[tuple[Any, Any, Any, int]] = [
    ((5,), (4,), (0,), 0),
    ((5,), (), (0,), 0),
    ((5,), (0,), (0,), 0),
    ((4, 3), (6,), (0,), 0),
    ((4, 3), (2, 3), (1,), 0),
    ((4, 3), (5,), (1, 0), 0),
    ((3, 4, 2), (7,), (0, 2), 0),
    ((2, 4), (2, 5), (1,), 1),
    ((2, 3, 4), (2, 6), (2,), 1),
    ((2, 3, 4, 2), (2, 3, 5), (3, 2), 2),
    ((2, 0, 3), (2, 2), (2,), 1),
    ((0, 3), (0, 2), (1,), 1),
]


def drawn(layout: Any, dtype: Any = float, index_dtype: Any = np.int64, spread: int = 0) -> Any:
    """Draw operands; `spread` is how far out of range indices may lie."""
    shape, index_shape, axes, batch_axes = layout
    others = [n for i, n in enumerate(shape) if i >= batch_axes and i not in axes]
    low = 0 if np.dtype(index_dtype).kind == "u" else -spread
    indices = [
        RNG.integers(low, shape[axis] + spread, index_shape).astype(index_dtype) for axis in axes
    ]
    x = np.asarray(RNG.normal(size=shape) * 3).astype(dtype)
    updates = np.asarray(RNG.normal(size=(*index_shape, *others)) * 3).astype(dtype)
    return x, updates, indices, axes, batch_axes


# ------------------------------------------------------------------------------ slice and relatives


@pytest.mark.parametrize(("shape", "ranges"), RANGES)
def test_slice_embed_and_overwrite_are_numpys(shape: Any, ranges: Any) -> None:
    x = RNG.normal(size=shape)
    part = np.ix_(*ranges) if ranges else ()
    read = np.asarray(x[part])
    np.testing.assert_array_equal(slice_by(x, ranges), read)
    updates = RNG.normal(size=read.shape)
    written = x.copy()
    written[part] = updates
    np.testing.assert_array_equal(overwrite_by(x, updates, ranges), written)
    zeros = np.zeros(shape)
    zeros[part] = updates
    np.testing.assert_array_equal(embed_by(updates, shape, ranges), zeros)


@pytest.mark.parametrize(("shape", "ranges"), RANGES)
def test_derivatives_of_slice_embed_and_overwrite(shape: Any, ranges: Any) -> None:
    x = RNG.normal(size=shape)
    u = RNG.normal(size=tuple(map(len, ranges)))
    for linear, operands in (
        (lambda x: slice_by(x, ranges), (x,)),
        (lambda u: embed_by(u, shape, ranges), (u,)),
        (lambda x, u: overwrite_by(x, u, ranges), (x, u)),
    ):
        tangents = tuple(RNG.normal(size=np.shape(v)) for v in operands)
        out, moved = ad.jvp(linear, operands, tangents)
        np.testing.assert_array_equal(moved, linear(*tangents))
        ct = RNG.normal(size=np.shape(out))
        for transposed in (ad.vjp(linear, *operands)[1], ad.linear_transpose(linear, *operands)):
            cts = transposed(ct)
            left = sum(np.vdot(a, b) for a, b in zip(cts, tangents, strict=True))
            np.testing.assert_allclose(left, np.vdot(ct, moved), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batched", list(product([True, False], repeat=2))[:3])
def test_slice_and_overwrite_batch_as_a_loop(batched: Any) -> None:
    ranges = [range(3, 0, -2), range(1, 3)]
    operands = [
        RNG.normal(size=(3,) * m + s) for m, s in zip(batched, ((4, 3), (2, 2)), strict=True)
    ]
    in_axes = tuple(0 if m else None for m in batched)
    mapped = ad.vmap(lambda x, u: overwrite_by(x, u, ranges), in_axes)(*operands)
    for i in range(3):
        x, u = (v[i] if m else v for v, m in zip(operands, batched, strict=True))
        np.testing.assert_array_equal(mapped[i], overwrite_by(x, u, ranges))
    xs = RNG.normal(size=(3, 4, 3))
    sliced = ad.vmap(lambda x: slice_by(x, ranges))(xs)
    np.testing.assert_array_equal(sliced, [slice_by(x, ranges) for x in xs])
    embedded = ad.vmap(lambda u: embed_by(u, (4, 3), ranges))(sliced)
    np.testing.assert_array_equal(embedded, [embed_by(u, (4, 3), ranges) for u in sliced])


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("mode", ["promise", "clip", "wrap", "fill"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather_reads_what_a_loop_reads(layout: Any, mode: str) -> None:
    x, _, indices, axes, b = drawn(layout, spread=0 if mode == "promise" else 3)
    out = gather_from(x, indices, axes, mode=mode, batch_axes=b)
    expected = gather_by_loops(x, indices, axes, "clip" if mode == "promise" else mode, np.nan, b)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["promise", "clip", "wrap", "drop"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scatter_writes_what_a_loop_writes(layout: Any, mode: str, kind: str) -> None:
    x, updates, indices, axes, b = drawn(layout, spread=0 if mode == "promise" else 3)
    before = x.copy()
    out = scatter_into(x, updates, indices, axes, kind=kind, mode=mode, batch_axes=b)
    expected = scatter_by_loops(
        x, updates, indices, axes, "clip" if mode == "promise" else mode, kind, b
    )
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    "dtype", [bool, "i1", "u8", "f2", ml_dtypes.bfloat16, "f4", "c8", "c16"], ids=str
)
def test_every_element_type_is_read_and_written(dtype: Any) -> None:
    x, updates, indices, axes, b = drawn(LAYOUTS[3], np.dtype(dtype), spread=2)
    read = gather_from(x, indices, axes, mode="fill", batch_axes=b)
    fill = default_fill(x.dtype).value
    assert read.tobytes() == gather_by_loops(x, indices, axes, "fill", fill, b).tobytes()
    assert read.dtype == x.dtype
    for kind in KINDS:
        out = scatter_into(x, updates, indices, axes, kind=kind, mode="drop", batch_axes=b)
        expected = scatter_by_loops(x, updates, indices, axes, "drop", kind, b)
        np.testing.assert_array_equal(out, expected)
        assert out.dtype == x.dtype


@pytest.mark.parametrize("index_dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("mode", ["promise", "clip", "wrap", "fill"])
def test_every_index_type_is_taken(index_dtype: str, mode: str) -> None:
    spread = 0 if mode == "promise" else 3
    x, _, indices, axes, b = drawn(LAYOUTS[5], index_dtype=index_dtype, spread=spread)
    out = gather_from(x, indices, axes, mode=mode, batch_axes=b)
    expected = gather_by_loops(x, indices, axes, "clip" if mode == "promise" else mode, np.nan, b)
    np.testing.assert_array_equal(out, expected)


def test_indices_at_the_ends_of_their_types() -> None:
    x = np.arange(3.0)
    for dtype in (np.int64, np.uint64, np.int8):
        limits = np.iinfo(dtype)
        ends = np.array([limits.min, limits.max, 1], dtype)
        clipped = [0.0, 2.0, 1.0]
        np.testing.assert_array_equal(gather_from(x, (ends,), (0,), mode="clip"), clipped)
        low = 0.0 if limits.min == 0 else np.nan
        np.testing.assert_array_equal(gather_from(x, (ends,), (0,), mode="fill"), [low, np.nan, 1])


def test_an_int8_index_reaches_every_element_of_a_long_axis_it_can_name() -> None:
    x = np.arange(300.0)
    index = np.array([-1, 127, -128], np.int8)
    out = ad.jit(lambda x, i: x[i])(x, index)
    np.testing.assert_array_equal(out, x[index])


def test_an_axis_of_size_0_is_filled_and_written_nowhere() -> None:
    x = np.zeros((0, 2))
    index = (np.array([0, 3]),)
    np.testing.assert_array_equal(gather_from(x, index, (0,), mode="fill"), np.full((2, 2), np.nan))
    out = scatter_into(x, np.ones((2, 2)), index, (0,), kind="add", mode="drop")
    assert out.shape == (0, 2)


@pytest.mark.parametrize("fill_value", [0.0, -0.0, 7.5, np.inf])
def test_a_fill_value_is_taken_bit_for_bit(fill_value: float) -> None:
    x = np.ones(2)
    out = gather_from(
        x, (np.array([5]),), (0,), mode="fill", fill_value=Literal(np.float64(fill_value))
    )
    assert out.tobytes() == np.array([fill_value]).tobytes()


def test_the_last_of_several_sets_stays_whatever_the_strides() -> None:
    index = np.arange(3).repeat(4)
    updates = np.arange(12.0)
    for i, u in ((index, updates), (index[::-1], updates[::-1]), (index[::-2], updates[::2][:6])):
        out = scatter_into(np.zeros(3), u, (i,), (0,), kind="set")
        np.testing.assert_array_equal(
            out, scatter_by_loops(np.zeros(3), u, (i,), (0,), "drop", "set", 0)
        )


@pytest.mark.parametrize("mode", ["promise", "clip", "wrap", "drop"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_last_writes_are_those_no_later_one_overwrites(layout: Any, mode: str) -> None:
    x, _, indices, axes, b = drawn(layout, spread=0 if mode == "promise" else 3)
    kept = last_writes({"axes": axes, "mode": mode, "batch_axes": b}, indices, x.shape)
    seen = set()
    expected = np.zeros(indices[0].shape, bool)
    for place in reversed(list(np.ndindex(indices[0].shape))):
        target: Any = place[:b]
        for axis, index in zip(axes, indices, strict=True):
            target += (resolve(int(index[place]), x.shape[axis], mode),)
        if target not in seen and None not in target:
            seen.add(target)
            expected[place] = True
    np.testing.assert_array_equal(kept, expected)


def test_arrays_whose_writes_have_no_order_get_only_the_last() -> None:
    positions = (np.array([2, 0, 2, 1, 0]),)
    kept = indexing_references._not_overwritten(positions, (3,))
    np.testing.assert_array_equal(kept, [False, False, True, True, True])


# ------------------------------------------------------------------------------------- derivatives


def difference(f: Any, operands: Any, tangents: Any, step: float = 1e-6) -> Any:
    """Return the central difference of f in the direction of the tangents."""
    ahead = f(*[x + step * t for x, t in zip(operands, tangents, strict=True)])
    behind = f(*[x - step * t for x, t in zip(operands, tangents, strict=True)])
    return (ahead - behind) / (2 * step)


def check_derivatives(f: Any, operands: Any, rtol: float = 1e-7) -> None:
    """Compare jvp with a difference, vjp with jvp, second order with a difference of vjp."""
    tangents = [RNG.normal(size=x.shape) for x in operands]
    out, moved = ad.jvp(f, operands, tuple(tangents))
    expected = difference(f, operands, tangents)
    np.testing.assert_allclose(moved, expected, rtol=rtol, atol=rtol)
    ct = RNG.normal(size=np.shape(out))
    cts = ad.vjp(f, *operands)[1](ct)
    left = sum(np.vdot(a, b) for a, b in zip(cts, tangents, strict=True))
    np.testing.assert_allclose(left, np.vdot(ct, moved), rtol=1e-11, atol=1e-11)

    def pulled(*xs: Any) -> Any:
        return ad.vjp(f, *xs)[1](ct)

    _, second = ad.jvp(pulled, operands, tuple(tangents))
    for i in range(len(operands)):
        change = difference(lambda *xs, i=i: pulled(*xs)[i], operands, tangents)
        np.testing.assert_allclose(second[i], change, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["promise", "clip", "wrap", "fill"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_derivatives_of_gather(layout: Any, mode: str) -> None:
    x, _, indices, axes, b = drawn(layout, spread=0 if mode == "promise" else 3)
    zero = Literal(np.float64(0)) if mode == "fill" else None
    check_derivatives(
        lambda x: gather_from(x, indices, axes, mode=mode, fill_value=zero, batch_axes=b) ** 2, (x,)
    )


def test_the_derivative_of_an_element_outside_is_0() -> None:
    x = np.arange(3.0)
    out, moved = ad.jvp(
        lambda x: gather_from(x, (np.array([1, 7]),), (0,), mode="fill"), (x,), (np.ones(3),)
    )
    np.testing.assert_array_equal(out, [1.0, np.nan])
    np.testing.assert_array_equal(moved, [1.0, 0.0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["promise", "clip", "wrap", "drop"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_derivatives_of_scatter_with_repeated_places(layout: Any, mode: str, kind: str) -> None:
    x, updates, indices, axes, b = drawn(layout, spread=0 if mode == "promise" else 3)

    def f(x: Any, u: Any) -> Any:
        return scatter_into(x, u, indices, axes, kind=kind, mode=mode, batch_axes=b)

    check_derivatives(f, (x, updates), rtol=1e-6)
    check_derivatives(lambda x: f(x, updates), (x,), rtol=1e-6)
    check_derivatives(lambda u: f(x, u), (updates,), rtol=1e-6)


def test_only_the_write_that_stays_gets_the_cotangent_of_set() -> None:
    index = np.array([1, 0, 1, 4])
    _, pull = ad.vjp(
        lambda x, u: scatter_into(x, u, (index,), (0,), kind="set", mode="drop"),
        np.zeros(3),
        np.ones(4),
    )
    x_ct, updates_ct = pull(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(x_ct, [0.0, 0.0, 3.0])
    np.testing.assert_array_equal(updates_ct, [0.0, 1.0, 2.0, 0.0])


@pytest.mark.parametrize("kind", ["min", "max"])
def test_ties_share_the_derivative_of_min_and_max(kind: str) -> None:
    index = np.array([0, 0, 1, 1, 2])
    updates = np.array([5.0, 5.0, 7.0, 1.0, 0.0])
    x = np.array([5.0, 7.0, 0.0]) * (1 if kind == "max" else -1)
    updates = updates * (1 if kind == "max" else -1)
    _, pull = ad.vjp(lambda x, u: scatter_into(x, u, (index,), (0,), kind=kind), x, updates)
    x_ct, updates_ct = pull(np.ones(3))
    np.testing.assert_allclose(x_ct, [1 / 3, 1 / 2, 1 / 2], rtol=1e-16)
    np.testing.assert_allclose(updates_ct, [1 / 3, 1 / 3, 1 / 2, 0.0, 1 / 2], rtol=1e-16)


def test_the_derivative_of_max_with_nan_goes_to_the_nan() -> None:
    _, pull = ad.vjp(
        lambda x, u: scatter_into(x, u, (np.array([0, 1]),), (0,), kind="max"),
        np.array([np.nan, 2.0]),
        np.array([1.0, np.nan]),
    )
    x_ct, updates_ct = pull(np.ones(2))
    np.testing.assert_array_equal(x_ct, [1.0, 0.0])
    np.testing.assert_array_equal(updates_ct, [0.0, 1.0])


@pytest.mark.parametrize("zeros", [(), (0,), (0, 2), (0, 2, 3)])
@pytest.mark.parametrize("x_value", [0.0, 2.0])
def test_the_derivatives_of_repeated_products_are_exact_with_zeros(
    zeros: tuple[int, ...], x_value: float
) -> None:
    updates = np.array([2.0, 3.0, 5.0, 7.0])
    updates[list(zeros)] = 0.0
    index = np.zeros(4, int)
    x = np.array([x_value])

    def scattered(v: Any) -> Any:
        return scatter_into(v[:1], v[1:], (index,), (0,), kind="multiply")[0]

    def chained(v: Any) -> Any:
        return v[0] * v[1] * v[2] * v[3] * v[4]

    v = np.concatenate([x, updates])
    np.testing.assert_array_equal(ad.grad(scattered)(v), ad.grad(chained)(v))
    np.testing.assert_array_equal(ad.hessian(scattered)(v), ad.hessian(chained)(v))
    third, expected = (ad.jacrev(ad.hessian(f))(v) for f in (scattered, chained))
    np.testing.assert_array_equal(third, expected)


def test_complex_elements_are_transposed_without_conjugation() -> None:
    index = np.array([0, 1, 0])
    _, pull = ad.vjp(
        lambda x, u: scatter_into(x, u, (index,), (0,), kind="multiply"),
        np.array([1 + 1j, 2.0]),
        np.array([1j, 3.0, 2 - 1j]),
    )
    x_ct, updates_ct = pull(np.array([1.0 + 0j, 1j]))
    np.testing.assert_allclose(x_ct, [1j * (2 - 1j), 3j])
    np.testing.assert_allclose(updates_ct, [(1 + 1j) * (2 - 1j), 2j, (1 + 1j) * 1j])


# ---------------------------------------------------------------------------------------- batching


@pytest.mark.parametrize("mode", ["promise", "fill"])
@pytest.mark.parametrize("batched", [b for b in product([True, False], repeat=3) if any(b)])
@pytest.mark.parametrize("layout", [LAYOUTS[i] for i in (1, 4, 5, 6, 8, 9)])
def test_gather_batches_as_a_loop(layout: Any, batched: Any, mode: str) -> None:
    spread = 0 if mode == "promise" else 2
    draws = [drawn(layout, spread=spread) for _ in range(3)]
    axes, b = draws[0][3:]
    count = 1 + len(axes)
    batched = batched[:count]
    if not any(batched):
        return
    operands = [
        np.stack([(d[0], *d[2])[i] for d in draws]) if m else (draws[0][0], *draws[0][2])[i]
        for i, m in enumerate(batched)
    ]

    def f(x: Any, *indices: Any) -> Any:
        return gather_from(x, indices, axes, mode=mode, batch_axes=b)

    in_axes = tuple(0 if m else None for m in batched)
    mapped = ad.vmap(f, in_axes)(*operands)
    one_by_one = [
        f(*[v[i] if m else v for v, m in zip(operands, batched, strict=True)]) for i in range(3)
    ]
    np.testing.assert_array_equal(mapped, one_by_one)


@pytest.mark.parametrize("kind", ["set", "add", "multiply"])
@pytest.mark.parametrize("batched", [b for b in product([True, False], repeat=4) if any(b)])
@pytest.mark.parametrize("layout", [LAYOUTS[i] for i in (1, 4, 5, 6, 8, 9)])
def test_scatter_batches_as_a_loop(layout: Any, batched: Any, kind: str) -> None:
    draws = [drawn(layout, spread=2) for _ in range(3)]
    axes, b = draws[0][3:]
    batched = batched[: 2 + len(axes)]
    if not any(batched):
        return
    flat = [(d[0], d[1], *d[2]) for d in draws]
    operands = [np.stack([d[i] for d in flat]) if m else flat[0][i] for i, m in enumerate(batched)]

    def f(x: Any, u: Any, *indices: Any) -> Any:
        return scatter_into(x, u, indices, axes, kind=kind, mode="drop", batch_axes=b)

    def gradient(*operands: Any) -> Any:
        return ad.vjp(lambda x, u: f(x, u, *operands[2:]), *operands[:2])[1](operands[0])

    in_axes = tuple(0 if m else None for m in batched)
    for function in (f, gradient):
        mapped = ad.vmap(function, in_axes)(*operands)
        one_by_one = [
            function(*[v[i] if m else v for v, m in zip(operands, batched, strict=True)])
            for i in range(3)
        ]
        if function is f:
            mapped, one_by_one = (mapped,), [(x,) for x in one_by_one]
        for i, out in enumerate(mapped):
            np.testing.assert_allclose(out, [x[i] for x in one_by_one], rtol=1e-14)


def test_mapping_twice_over_different_operands_is_two_loops() -> None:
    x = RNG.normal(size=(2, 4, 3))
    index = RNG.integers(0, 4, (5, 6))

    def f(x: Any, i: Any) -> Any:
        return gather_from(x, (i,), (0,))

    mapped = ad.vmap(ad.vmap(f, (None, 0)), (0, None))(x, index)
    np.testing.assert_array_equal(mapped, [[f(a, i) for i in index] for a in x])
    both = ad.vmap(ad.vmap(f), (None, 0))(x, RNG.integers(0, 4, (3, 2, 6)))
    assert both.shape == (3, 2, 6, 3)


# ------------------------------------------------------------------------------------------ errors


def test_indices_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="gather: indices must be integers, got type=float64"):
        ad.jit(lambda x, i: gather_from(x, (i,), (0,)))(np.ones(3), np.float64(1))


def test_an_axis_of_size_0_is_refused_unless_reads_are_filled() -> None:
    with pytest.raises(IndexError, match="must have elements, got axis=0 of size 0"):
        ad.jit(lambda x, i: gather_from(x, (i,), (0,), mode="clip"))(np.ones(0), np.array([1]))
