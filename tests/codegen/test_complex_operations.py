"""Complex operations in kernels of one operation each: special values, and extended precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from autodiff.base import dtypes
from autodiff.codegen.complex_operations import ComplexOperations, Pair
from autodiff.codegen.operations import Operations
from autodiff.codegen.vectors import VectorBuilder
from autodiff.ir.primitive import Primitive, primitives
from autodiff.primitives.lowering import lower
from autodiff.runtime.host import host
from autodiff.schedule.target import AVX2, SSE2
from tests.codegen.elementwise_kernels import Kernels, complex_of
from tests.codegen.error_bounds import complex_distance, ulp_distance
from tests.primitives.sampling import arity, is_elementwise, names, own_types, same_bits

TARGETS = {"host": (host(), 8), "avx2": (AVX2, 8), "sse2": (SSE2, 4), "scalar": (host(), 1)}
TYPES = (np.dtype(np.complex64), np.dtype(np.complex128))


def _takes_complex(primitive: Primitive, count: int) -> bool:
    has_parameters = primitive.samples.params != ({},)
    if not is_elementwise(primitive) or "c" not in primitive.dtypes or has_parameters:
        return False
    own = own_types(primitive, np.dtype(np.complex128))
    return arity(primitive) == count and own is not None and all(map(dtypes.is_complex, own))


UNARY = names(lambda primitive: _takes_complex(primitive, 1))
BINARY = names(lambda primitive: _takes_complex(primitive, 2))

#: Where NumPy's square, which multiplies and adds at once, is infinite and two roundings give NaN.
_NOT_ROUNDED_ALIKE = ("square",)


def _applied(name: str, target: str, *operands: np.ndarray, **params: Any) -> Any:
    kernels = Kernels(*TARGETS[target])

    def rule(o: Any, *values: Any) -> Any:
        return lower(o, primitives[name], values, params)

    kernels.add("applied", rule, [x.dtype for x in operands])
    (found,) = kernels.run("applied", operands)
    return found


def _specials(dtype: np.dtype, count: int) -> list[np.ndarray]:
    """Return every combination of parts that are zeros, infinite, NaN, ordinary or extreme."""
    part = dtypes.real_dtype(dtype)
    numbers = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, np.inf, -np.inf, np.nan], part)
    if count == 1:
        numbers = np.append(numbers, np.array([1e30, -1e30, 5e-40, 0.25, -2.5, 40.0], part))
    grid = np.meshgrid(*[numbers] * (2 * count))
    parts = [x.ravel() for x in grid]
    return [complex_of(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]


def _distance(found: np.ndarray, expected: np.ndarray) -> Any:
    if dtypes.is_complex(expected.dtype):
        return complex_distance(found, expected)
    if dtypes.is_float(expected.dtype):
        return ulp_distance(found, expected)
    return np.where(found == expected, 0.0, np.inf)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", UNARY + BINARY)
def test_zeros_infinities_and_nan_are_the_references(name, dtype):
    operands = _specials(dtype, arity(primitives[name]))
    with np.errstate(all="ignore"):
        expected = np.asarray(primitives[name].reference(*operands))
        overflows = np.abs(operands[0]) > float(np.finfo(dtype).max) ** 0.5
    for target in TARGETS:
        found = _applied(name, target, *operands)
        assert found.dtype == expected.dtype
        wrong = _distance(found, expected) > 30
        if name in _NOT_ROUNDED_ALIKE:
            wrong &= ~overflows
        shown = [x[wrong][:3] for x in operands]
        assert not wrong.any(), (target, shown, found[wrong][:3], expected[wrong][:3])


def _samples(dtype: np.dtype) -> np.ndarray:
    """Return numbers of all sizes, near the unit circle, near 1 and -1, and beside the axes."""
    random, count = np.random.default_rng(4), 1500
    far = 30 if dtype == np.complex64 else 250
    angle = random.uniform(0, 7, count)
    near = 10.0 ** random.uniform(-10, -1, count) * random.choice([-1, 1], count)
    tiny = 10.0 ** random.uniform(-far, 0, count)
    wide = 10.0 ** random.uniform(-far, far, (2, count)) * random.choice([-1, 1], (2, count))
    x = [random.normal(size=count) * 3, wide[0], (1 + near) * np.cos(angle), 1 + near, near - 1]
    y = [random.normal(size=count) * 3, wide[1], (1 + near) * np.sin(angle), near[::-1], tiny]
    x, y = [*x, random.normal(size=count) * 20], [*y, random.normal(size=count) * 5]
    part = dtypes.real_dtype(dtype)
    return complex_of(np.concatenate(x).astype(part), np.concatenate(y).astype(part))


#: Units in the last place of each part, and how many were found.
_OF_EACH_PART = {
    "sqrt": 2.5,  # 1.8
    "log2": 3.5,  # 2.7
    "log10": 4.0,  # 3.0
    "tan": 7.0,  # 6.2
    "tanh": 7.0,  # 5.5
    "sinh": 4.5,  # 3.7
    "cosh": 4.5,  # 3.1
    "arcsin": 4.0,  # 3.3
    "arccos": 4.0,  # 3.3
    "arctan": 5.0,  # 4.3
    "arcsinh": 4.0,  # 2.9
    "arccosh": 4.0,  # 3.3
    "arctanh": 5.0,  # 4.3
    "sign": 3.0,  # 2.3
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", _OF_EACH_PART)
def test_each_part_is_exact_to_a_few_units_everywhere(name, dtype):
    z = _samples(dtype)
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(z.astype(np.clongdouble))
        is_finite = np.isfinite(exact.astype(dtype))
    for target in ("host", "sse2"):
        found = _applied(name, target, z)
        for x, y in ((found.real, exact.real), (found.imag, exact.imag)):
            with np.errstate(all="ignore"):
                unit = np.spacing(np.abs(y).astype(x.dtype)).astype(np.longdouble)
                error = np.where(is_finite, np.abs(x - y) / unit, 0)
            worst = int(np.argmax(error))
            assert error[worst] <= _OF_EACH_PART[name], (target, z[worst], error[worst])


#: Units in the last place of the modulus: of products and quotients, and of x**y where y log x is
#: at most 8.
_OF_THE_MODULUS = {"multiply": 2.0, "divide": 4.0, "power": 16.0}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", _OF_THE_MODULUS)
def test_products_quotients_and_powers_are_exact_to_a_few_units_of_the_modulus(name, dtype):
    random, part = np.random.default_rng(5), dtypes.real_dtype(dtype)
    x, y = (complex_of(*random.normal(size=(2, 3000)).astype(part)) for _ in range(2))
    exact = primitives[name].reference(x.astype(np.clongdouble), y.astype(np.clongdouble))
    unit = np.spacing(np.abs(exact).astype(part))
    for target in TARGETS:
        found = _applied(name, target, x, y)
        assert (np.abs(found - exact) / unit).max() < _OF_THE_MODULUS[name]


@pytest.mark.parametrize("exponent", [-101, -5, -1, 0, 1, 2, 3, 4, 7, 99, 120])
def test_whole_powers_are_numpys_products(exponent):
    random = np.random.default_rng(6)
    z = np.exp(complex_of(*random.uniform(-1, 1, (2, 400))))
    expected = np.power(z, complex(exponent))
    fixed = _applied("integer_power", "host", z, exponent=exponent)
    given = _applied("power", "host", z, np.full_like(z, exponent))
    allowed = 3 * abs(exponent) + 3  # a product has two units, and NumPy's are rounded otherwise
    assert (complex_distance(fixed, expected) <= allowed).all()
    assert (complex_distance(given, expected) <= allowed).all()
    if 0 <= exponent < 100:  # products of whole numbers have no error
        whole = np.array([2 + 1j, -1 + 0j, 1j, -3 - 2j])
        some = whole if exponent < 8 else whole[1:3]
        assert np.array_equal(
            _applied("integer_power", "host", some, exponent=exponent),
            np.power(some, complex(exponent)),
        )


def test_a_product_with_the_conjugate_is_real_also_where_products_may_be_fused():
    builder = VectorBuilder(host(), 8)
    builder.contract = True
    o = ComplexOperations(Operations(builder))
    part = np.dtype(np.float64)
    z = Pair(o.constant(0.1, part), o.constant(0.7, part), np.dtype(np.complex128))
    o.multiply(z, o.conjugate(z))
    assert not any("contract" in line for line in builder.lines)
    o.add(z, z)
    assert sum("contract" in line for line in builder.lines) == 2
    x = complex_of(*np.random.default_rng(8).normal(size=(2, 999)))
    assert not np.any(_applied("multiply", "host", x, x.conj()).imag)


@pytest.mark.parametrize("number", [2.0, 1j, 0.5 - 3j, 0.0, complex(np.inf, 1), complex(0, np.nan)])
@pytest.mark.parametrize("name", ["add", "multiply", "divide", "guarded_multiply", "maximum"])
def test_a_constant_operand_changes_no_bit(name, number):
    dtype = np.dtype(np.complex128)
    (z,) = _specials(dtype, 1)
    kernels = Kernels(host(), 8)
    given = np.full_like(z, number)

    def rule(o: Any, *values: Any, turned: bool, is_known: bool) -> Any:
        x, y = (values[0], o.constant(number, dtype)) if is_known else values
        return lower(o, primitives[name], (y, x) if turned else (x, y), {})

    for turned in (False, True):
        kernels.add(f"known_{turned}", partial(rule, turned=turned, is_known=True), (dtype,))
        kernels.add(f"given_{turned}", partial(rule, turned=turned, is_known=False), (dtype,) * 2)
    for turned in (False, True):
        (known,) = kernels.run(f"known_{turned}", (z,))
        (expected,) = kernels.run(f"given_{turned}", (z, given))
        assert same_bits(known, expected)


def test_a_pair_tells_what_is_known_of_its_number():
    o = ComplexOperations(Operations(VectorBuilder(host(), 8)))
    dtype = np.dtype(np.complex64)
    assert o.constant(2j, dtype).number == 2j
    assert o.constant(2j, dtype).is_regular
    assert not o.constant(0, dtype).is_regular
    assert not o.constant(complex(1, np.inf), dtype).is_regular
    assert o.constant(complex(1, np.inf), dtype).is_ordered
    assert not o.constant(complex(np.nan, 1), dtype).is_ordered
    unknown = o.add(o.constant(1, dtype), 1)
    assert unknown.number is None
    assert not unknown.is_regular
