"""What is read through layouts instead of being made: padding, concatenation, positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.evaluate import evaluate
from autodiff.ir.primitive import primitives
from autodiff.passes.pipeline import simplify
from autodiff.schedule.fuse import Schedule, fuse
from autodiff.schedule.kernel_spec import KernelSpec, in_rows
from autodiff.schedule.reading import MOST_PIECES
from tests.primitives.sampling import cases, names
from tests.schedule.interpreter import run_schedule
from tests.schedule.test_fuse import refusal

RANDOM = np.random.default_rng(5)
X, Y, U = np.arange(1.0, 7.0), np.arange(10.0, 13.0), np.arange(20.0).reshape(4, 5)


def fused(f: Any, *args: Any) -> Schedule:
    """Return the schedule of a function, after it has been run by NumPy and compared."""
    graph = simplify(ad.make_graph(f)(*args))
    schedule = fuse(graph, refusal, lambda spec: True)
    found = run_schedule(schedule, args)
    for x, expected in zip(found, evaluate(graph, (), args), strict=True):
        np.testing.assert_array_equal(x, expected)
    return schedule


def the_kernel(f: Any, *args: Any) -> KernelSpec:
    (spec,) = fused(f, *args).kernels()
    return spec


def made(f: Any, *args: Any) -> list[str]:
    """Return the operations that are carried out between kernels."""
    found = [eqn.primitive.name for eqn in fused(f, *args).graph.eqns]
    return [name for name in found if name != "kernel"]


@pytest.mark.parametrize("name", names(lambda p: p.pieces is not None))
def test_pieces_are_where_the_operands_are_in_the_result(name):
    primitive = primitives[name]
    assert primitive.pieces is not None
    for case in cases(primitive, np.dtype(np.float64)):
        expected = primitive.reference(*case.operands, **case.params)
        found = np.zeros(expected.shape)
        shapes = [np.shape(x) for x in case.operands]
        for k, *ranges in reversed(primitive.pieces(*shapes, **case.params)):
            places = [list(range(*axis)) for axis in zip(*ranges, strict=True)]
            found[np.ix_(*places)] = case.operands[k]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", names(lambda p: p.affine is not None))
def test_affine_results_follow_from_the_place(name):
    primitive = primitives[name]
    assert primitive.affine is not None
    for case in cases(primitive, np.dtype(np.float64)):
        expected = primitive.reference(*case.operands, **case.params)
        strides, offset = primitive.affine(*map(np.shape, case.operands), **case.params)
        index = np.indices(expected.shape)
        found = offset + sum(s * i for s, i in zip(strides, index, strict=True))
        np.testing.assert_array_equal(found, expected)


def test_a_padding_is_a_load_with_bounds():
    spec = the_kernel(lambda x: np.pad(x, (1, 2)) * 2.0 + 1.0, X)
    assert str(spec) == (
        "kernel over points [9] {\n"
        "  v0: float64 = load 0 at i0 + -1 where 1 <= i0 < 7\n"
        "  v1: float64 = multiply v0 2.0\n"
        "  v2: float64 = add v1 1.0\n"
        "  store 0 at i0: v2\n"
        "}"
    )


def test_a_concatenation_is_a_choice_between_loads():
    spec = the_kernel(lambda x, y: np.concatenate([x, y]) * 2.0 + 1.0, X, Y)
    assert str(spec) == (
        "kernel over points [9] {\n"
        "  v0: float64 = load 0 at i0 where 0 <= i0 < 6\n"
        "  v1: float64 = load 1 at i0 + -6 where 6 <= i0 < 9\n"
        "  v2: float64 = v0 where 0 <= i0 < 6 else v1\n"
        "  v3: float64 = multiply v2 2.0\n"
        "  v4: float64 = add v3 1.0\n"
        "  store 0 at i0: v4\n"
        "}"
    )


def test_positions_follow_from_the_place():
    text = str(the_kernel(lambda u: np.triu(u, 1) + 1.0, U))
    assert "  v1: int64 = i1\n  v2: int64 = i0\n  v3: int64 = subtract v1 v2\n" in text
    spec = the_kernel(lambda u: np.sum(np.triu(u), axis=1), U)
    assert in_rows(spec)[:3] == (False, False, True)  # the second position is that of the row


LAYOUTS = {
    "padded with a number": lambda x, y, u: np.pad(u, ((1, 2), (0, 3)), constant_values=7.0),
    "cut again": lambda x, y, u: np.pad(u, 2)[1:-2, 3:-1],
    "backwards": lambda x, y, u: np.concatenate([x, y])[::-1],
    "backwards inside": lambda x, y, u: np.concatenate([x[::-1], y]),
    "every other": lambda x, y, u: np.concatenate([x, y, x])[1::2],
    "rolled": lambda x, y, u: np.roll(u, (1, -2), axis=(0, 1)),
    "reflected": lambda x, y, u: np.pad(x, 2, mode="reflect"),
    "flat": lambda x, y, u: np.concatenate([u[1:3], u]).reshape(-1),
    "stacked last": lambda x, y, u: np.stack([x, x * 1.0], axis=-1),
    "flat and divided": lambda x, y, u: np.concatenate([u, u]).reshape(2, 20),
    "transposed": lambda x, y, u: np.pad(u, ((0, 1), (1, 0))).T,
    "repeated": lambda x, y, u: np.broadcast_to(np.pad(x, 1), (3, 8)),
    "repeated inside": lambda x, y, u: np.concatenate([np.broadcast_to(y, (2, 3)), u[:2]], 1),
    "one row": lambda x, y, u: np.pad(u, 1)[0],
    "one inner row": lambda x, y, u: np.pad(u, 1)[2],
    "written": lambda x, y, u: ad.at(u)[1:3, ::-1].set(u[:2]),
    "written at one place": lambda x, y, u: ad.at(u)[2].set(3.0),
    "padded twice": lambda x, y, u: np.pad(np.pad(x, 1), (2, 0)),
    "nothing of one": lambda x, y, u: np.concatenate([x[:0], y, x[3:3]]),
    "one number": lambda x, y, u: np.concatenate([x[:1], np.sum(y)[None], y[2:]]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_read_through(name):
    """The interpreter of specs fails where a load would read outside its array."""
    f = LAYOUTS[name]
    assert made(lambda x, y, u: f(x, y, u) * 2.0 + 1.0, X, Y, U) == []
    made(lambda x, y, u: (np.sum(f(x, y, u) * 2.0, axis=-1), f(x, y, u)), X, Y, U)


def test_what_cannot_be_read_through_is_made():
    assert made(lambda x: np.stack([x] * (MOST_PIECES + 1)) * 2.0, X) != []
    assert made(lambda x: np.stack([x, x]).reshape(-1) * 2.0, X) != []  # it repeats: i0 mod 6
    gradient = ad.grad(lambda x: np.sum(x[::2] ** 2))
    assert made(lambda x: gradient(x) * 2.0, X) == ["embed"]  # its elements lie apart


@pytest.mark.parametrize("seed", range(120))
def test_random_layouts_have_the_values_of_numpy(seed):
    def layout(pool: list[Any], random: np.random.Generator) -> Any:
        x = pool[random.integers(len(pool))]
        axis = int(random.integers(x.ndim))
        kind = random.integers(8)
        if kind == 0:
            return np.pad(x, [tuple(random.integers(0, 3, size=2)) for _ in range(x.ndim)])
        if kind == 1:
            same = [y for y in pool if y.ndim == x.ndim]
            other = same[random.integers(len(same))]
            cut = tuple(slice(min(a, b)) for a, b in zip(x.shape, other.shape, strict=True))
            return np.concatenate([x[cut], other[cut][::-1]], axis=axis)
        if kind == 2:
            return x[tuple(slice(None, None, int(random.choice([1, -1, 2]))) for _ in x.shape)]
        if kind == 3:
            return np.roll(x, int(random.integers(-3, 4)), axis=axis)
        if kind == 4:
            return x.T
        if kind == 5 and x.shape[0] > 2:
            return ad.at(x)[1:-1].set(x[:-2] * 2.0)
        if kind == 6 and x.ndim == 2:
            return np.tril(x, int(random.integers(-1, 2)))
        return np.sin(x)

    def f(x, u):
        random = np.random.default_rng(seed)
        pool = [x, u]
        for _ in range(10):
            new = layout(pool, random)
            if max(new.shape) < 30:
                pool.append(new)
        return tuple(pool[-3:])

    fused(f, RANDOM.normal(size=6), RANDOM.normal(size=(3, 4)))


def test_a_kernel_takes_no_array_that_only_what_nothing_needs_reads():
    def f(x, w, i):
        unneeded = x[i] * w  # of one element, of which none is left below
        return w * 2.0 + np.pad(unneeded[1:], (0, 1))

    schedule = fused(f, X, np.ones(1), np.array([2]))
    (eqn,) = schedule.graph.eqns
    assert len(eqn.inputs) == 1
    assert list(eqn.params["spec"].operands) == [0]
