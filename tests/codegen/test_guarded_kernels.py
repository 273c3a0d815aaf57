"""Kernels with bounds, choices and positions, against NumPy and kernels of one operation."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.passes.pipeline import simplify
from autodiff.primitives.shapes import positions
from autodiff.runtime.cpu_kernels import (
    KernelFunction,
    can_emit,
    kernel_function,
    schedule_for_cpu,
    why_not_computed,
)
from autodiff.schedule.chunks import CHUNK
from autodiff.schedule.fuse import fuse
from tests.schedule.interpreter import run_schedule

RANDOM = np.random.default_rng(23)
TARGETS = ["auto", "avx2", "sse2"]


def by_kernels(f: Any, *args: Any, **settings: Any) -> Any:
    with ad.override(kernels=True, **settings):
        return ad.jit(f)(*args)


def kernels_of(f: Any, *args: Any) -> list[Any]:
    with ad.override(kernels=True):
        return list(schedule_for_cpu(simplify(ad.make_graph(f)(*args))).kernels())


def check(
    f: Any, *args: Any, target: str = "auto", tolerance: float = 1e-12, exact: bool = True
) -> None:
    """Compare kernels with NumPy, and bit for bit (`exact`) with those of one operation each."""
    with ad.override(kernels=True, contract=False, cpu_target=target):
        graph = simplify(ad.make_graph(f)(*args))
        found, apart = [
            run_schedule(
                fuse(graph, why_not_computed, can_emit, unite=unite), args, kernel_function
            )
            for unite in (True, False)
        ]
    expected = f(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for x, y, z in zip(found, apart, expected, strict=True):
        x, y, z = np.asarray(x), np.asarray(y), np.asarray(z)
        assert (x.shape, x.dtype) == (z.shape, z.dtype)
        np.testing.assert_allclose(x, z, rtol=tolerance, atol=tolerance)
        assert not exact or x.tobytes() == y.tobytes()


def laplacian(u):
    return u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]


LINES = {
    "padded": lambda x: np.pad(x, (3, 5)) * 2.0 + 1.0,
    "padded with a number": lambda x: np.pad(x, (9, 0), constant_values=4.0) * x[0] + 1.0,
    "laid end to end": lambda x: np.concatenate([x, x[::-1], x[:1]]) * 2.0 + 1.0,
    "rolled": lambda x: np.roll(x, 1) - 2.0 * x + np.roll(x, -1),
    "written": lambda x: ad.at(x)[1:-1].set(np.sin(x[:-2])) * 2.0,
    "stencil": ad.grad(lambda x: np.sum((x[1:] - x[:-1]) ** 2)),
    "wide stencil": ad.grad(lambda x: np.sum((x[2:] - 2.0 * x[1:-1] + x[:-2]) ** 4)),
    "from the end": ad.grad(lambda x: np.sum(np.cumsum(np.pad(x, (3, 5)) * 0.1) ** 2)),
    "taken": lambda x: np.pad(x, 2)[np.pad(np.argsort(x), (1, 2))] * 2.0,
    "summed": lambda x: (np.sum(np.pad(x, 2) * 2.0), np.max(np.pad(x, 2) - 9.0)),
    "summed ends": lambda x: np.sum(np.concatenate([x, x[::-1]]) * np.pad(x, (x.size, 0))),
    "counted": lambda x: np.where(x > 0, x, np.cumsum(x)) * np.triu(np.ones_like(x)[None])[0],
}
TABLES = {
    "padded": lambda u: np.pad(u, ((1, 2), (0, 3))) * 2.0 + 1.0,
    "padded with a number": lambda u: np.pad(u, 1, constant_values=3.0) * 2.0 + 1.0,
    "padded and turned": lambda u: np.pad(u, ((1, 2), (0, 3))).T * 2.0 + 1.0,
    "below": lambda u: np.concatenate([u, u[::-1]], axis=0) * 2.0 + 1.0,
    "beside": lambda u: np.concatenate([u, u[:, ::-1], u], axis=1) * 2.0 + 1.0,
    "rolled": lambda u: np.roll(u, (1, -1), axis=(0, 1)) - u,
    "triangles": lambda u: np.tril(u) - np.triu(u, 2) + 1.0,
    "laplacian": ad.grad(lambda u: np.sum(laplacian(u) ** 2)),
    "from the end": ad.grad(lambda u: np.sum(np.cumsum(np.pad(u, 1) * 0.1, axis=1) ** 2)),
    "from below": ad.grad(lambda u: np.sum(np.cumsum(np.pad(u, 1) * 0.1, axis=0) ** 2)),
    "summed rows": lambda u: np.sum(np.pad(u, ((1, 2), (3, 0))) * 2.0 + 1.0, axis=1),
    "summed columns": lambda u: np.sum(np.pad(u, ((1, 2), (3, 0))) * 2.0 + 1.0, axis=0),
    "summed triangles": lambda u: (np.sum(np.tril(u), axis=0), np.sum(np.triu(u, 1), axis=1)),
    "in two passes": lambda u: np.exp(np.pad(u, 1) - np.max(np.pad(u, 1), 1, keepdims=True)),
    "in two passes down": lambda u: np.exp(np.pad(u, 1) - np.max(np.pad(u, 1), 0)),
    "of rows": lambda u: (
        np.pad(np.sum(u * u, axis=1), (1, 1))[:, None] * np.pad(u, ((1, 1), (0, 0)))
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 3, 17, 131])
@pytest.mark.parametrize("name", LINES)
def test_lines(name, n, dtype, target):
    if n < 3 and "stencil" in name:
        return
    x = RANDOM.normal(size=n).astype(dtype)
    check(LINES[name], x, target=target, tolerance=1e-12 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 4), (40, 5), (35, 130)], ids=str)
@pytest.mark.parametrize("name", TABLES)
def test_tables(name, shape, dtype, target):
    u = RANDOM.normal(size=shape).astype(dtype)
    # Beside 64-bit positions single precision is summed in shorter vectors: in another order.
    exact = dtype == np.float64 or name != "summed triangles"
    tolerance = 1e-12 if dtype == np.float64 else 1e-4
    check(TABLES[name], u, target=target, tolerance=tolerance, exact=exact)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2"])
def test_elements_of_every_size(dtype, target):
    x = RANDOM.integers(0, 2, size=77).astype(dtype)

    def f(v):
        return np.concatenate([np.pad(v, (2, 9)), v[::-1]]) == np.pad(v, (0, 88), constant_values=1)

    check(f, x, target=target)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("target", TARGETS)
def test_positions_of_every_type(dtype, target):
    x = np.ones((5, 90), dtype)

    def f(v):
        return v * positions(v, 1, dtype) + positions(v[:, ::-1], 0, dtype)

    expected = x * np.arange(90, dtype=dtype) + np.arange(5, dtype=dtype)[:, None]
    np.testing.assert_array_equal(by_kernels(f, x, cpu_target=target), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_long_sums_are_divided_as_those_of_arrays_are(threads):
    x = RANDOM.normal(size=2 * CHUNK + 100)
    f = lambda v: np.sum(np.pad(v, (5, CHUNK)) * 2.0 + 1.0)
    check(f, x, tolerance=1e-9)
    both = lambda v: np.sum(np.concatenate([v, v[::-1]]) * np.pad(v, (0, v.size)))
    check(both, x, tolerance=1e-9)
    results = {by_kernels(f, x, threads=n).tobytes() for n in (1, threads)}
    assert len(results) == 1


def test_pieces_of_several_threads_meet():
    x = RANDOM.normal(size=200_000)
    f = lambda v: np.roll(v, 12345) * 2.0 - np.pad(v[:-7], (7, 0))
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(by_kernels(f, x, threads=threads), f(x))


def test_the_middle_of_a_padded_array_is_read_without_masks():
    (spec,) = kernels_of(lambda x: np.pad(x, 1) * 2.0 + 1.0, np.ones(1000))
    text = KernelFunction(spec).text
    inside, others = re.findall(r"^case.*?(?=^others)|^others.*?(?=^visited)", text, re.M | re.S)
    assert "load" in inside
    assert "masked" not in inside
    assert "masked.load" in others


def test_a_gradient_of_a_stencil_makes_no_padded_arrays():
    x = np.ones(1000)
    graph = simplify(ad.make_graph(LINES["stencil"])(x))
    with ad.override(kernels=True):
        schedule = schedule_for_cpu(graph)
    assert {eqn.primitive.name for eqn in schedule.graph.eqns} == {"kernel"}


_AT_THE_EDGE = """
import ctypes, mmap, sys
import numpy as np
import autodiff as ad

PAGE = mmap.PAGESIZE
mprotect = ctypes.CDLL(None, use_errno=True).mprotect
mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
kept = []

def fenced(values, at_end):
    '''Return a copy of an array that ends, or begins, at a page that cannot be read.'''
    size = -(-values.nbytes // PAGE) * PAGE
    memory = mmap.mmap(-1, size + 2 * PAGE)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + PAGE + size):
        assert mprotect(page, PAGE, 0) == 0
    place = PAGE + (size - values.nbytes if at_end else 0)
    flat = np.frombuffer(memory, values.dtype, values.size, place)
    copy = flat.reshape(values.shape)
    copy[...] = values
    return copy

from tests.codegen.test_guarded_kernels import LINES, TABLES
random = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    for functions, shapes in ((LINES, [(3,), (37,), (1000,)]), (TABLES, [(3, 5), (37, 41)])):
        for shape in shapes:
            for at_end in (False, True):
                x = fenced(random.normal(size=shape).astype(dtype), at_end)
                for f in functions.values():
                    with ad.override(kernels=True, cpu_target=sys.argv[1]):
                        ad.jit(f)(x)
print("read nothing outside")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as Linux does it")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_read_outside_an_array(target):
    """Arrays lie between pages that cannot be read: a read outside ends the process."""
    command = [sys.executable, "-c", _AT_THE_EDGE, target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "read nothing outside\n", done.stderr[-2000:]
    assert done.returncode == 0


@pytest.mark.parametrize("seed", range(60))
def test_random_layouts_fused_equal_kernels_of_one_operation_each(seed):
    def layout(pool: list[Any], random: np.random.Generator) -> Any:
        x, y = (pool[random.integers(len(pool))] for _ in range(2))
        kind = random.integers(7)
        if kind == 0:
            return np.pad(x, tuple(random.integers(0, 4, size=2)))
        if kind == 1:
            return np.concatenate([x, y[::-1]])
        if kind == 2:
            return x[:: int(random.choice([1, -1]))] * 0.5
        if kind == 3:
            return np.roll(x, int(random.integers(-5, 6))) + x
        if kind == 4:
            n = min(x.size, y.size)
            return x[:n] * y[y.size - n :]
        if kind == 5:
            return ad.at(x)[2:-1].set(np.tanh(x[:-3]))
        return x * np.sum(y * 0.1) + np.max(y)

    def f(x, y):
        random = np.random.default_rng(seed)
        pool = [x, y]
        for _ in range(14):
            new = layout(pool, random)
            if new.size < 200:
                pool.append(new)
        return tuple(pool[-3:])

    x, y = RANDOM.normal(size=37), RANDOM.normal(size=12)
    check(f, x, y, target=TARGETS[seed % 3], tolerance=1e-10)
