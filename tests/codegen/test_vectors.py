"""The operations of the vector builder, compiled for every target this machine can run."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from autodiff.codegen.vectors import BF16, F16, F32, F64, I1, I8, I16, I32, I64, VectorBuilder
from autodiff.schedule.target import AVX2, SSE2
from tests.codegen.cpu_math.harness import TARGETS, compiled, random_points, special_points

DTYPES = ("float32", "float64")
# One lane, less and more than a register, numbers that fill no register.
LANES = (1, 3, 8, 16, 24, 32)


def _each(function, *arrays, lanes=None):
    """Return the results of `function` over the arrays for each target and each number of lanes."""
    dtype = arrays[0].dtype
    for target, _ in dict.fromkeys(TARGETS.values()):
        for count in (target.lanes(dtype),) if lanes is None else lanes:
            yield compiled(function, len(arrays), dtype, target, count)(*arrays)


def _points(dtype):
    return np.concatenate([special_points(dtype), random_points(dtype, 300)])


def _same(got, expected):
    np.testing.assert_array_equal(got, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(expected)[known])


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_by_a_power_of_two_rounds_once(dtype):
    widest = 2 * (np.finfo(dtype).maxexp - 1) - 2
    x = np.repeat(_points(dtype), 5)
    n = np.random.default_rng(1).integers(-widest, widest + 1, x.size)
    for got in _each(lambda b, x, n: b.scale_by_power(x, n), x, n.astype(dtype), lanes=LANES):
        _same(got, np.ldexp(x, n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_mantissa_and_exponent_multiply_to_the_number(dtype):
    x = _points(dtype)
    mantissas = list(_each(lambda b, x: b.mantissa_and_exponent(x)[0], x, lanes=LANES))
    exponents = list(_each(lambda b, x: b.mantissa_and_exponent(x)[1], x, lanes=LANES))
    positive = (x > 0) & np.isfinite(x)
    for m, e in zip(mantissas, exponents, strict=True):
        assert ((m[positive] >= 0.75) & (m[positive] < 1.5)).all()
        _same(np.ldexp(m[positive], e[positive].astype(int)), x[positive])
        assert np.isnan(m[(x < 0) | np.isnan(x)]).all()
        assert (m[x == 0] == 1).all()
        assert (e[x == 0] == -np.inf).all()
        assert (m[x == np.inf] == 1).all()
        assert (e[x == np.inf] == np.inf).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exponent_is_the_floor_of_the_binary_logarithm(dtype):
    x = _points(dtype)
    expected = (np.frexp(x)[1] - 1).astype(dtype)
    expected = np.where(x == 0, -np.inf, np.where(np.isfinite(x), expected, np.abs(x)))
    for got in _each(lambda b, x: b.exponent_of(x), x):
        _same(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "reference"),
    [("rint", np.rint), ("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc)],
)
def test_rounding_is_that_of_numpy_and_keeps_the_sign_of_zero(name, reference, dtype):
    halves = np.arange(-9, 10) / 2
    big = 2.0 ** (np.finfo(dtype).nmant - 1) + np.arange(-3, 4) / 2
    x = np.concatenate([_points(dtype), halves.astype(dtype), big.astype(dtype)])
    for got in _each(lambda b, x: getattr(b, name)(x), x):
        _same(got, reference(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_numbers_are_rounded_to_a_float_and_an_integer(dtype):
    x = np.random.default_rng(3).uniform(-1000, 1000, 200).astype(dtype)
    for got in _each(lambda b, x: b.round_small(x)[0], x):
        _same(got, np.rint(x))
    for got in _each(lambda b, x: b.bitcast(b.round_small(x)[1], x.type), x):
        np.testing.assert_array_equal(got.view(f"i{x.itemsize}"), np.rint(x).astype(int))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_float_that_fits_no_integer_becomes_the_most_negative_one(dtype):
    x = np.concatenate([_points(dtype), np.array([2.0**31, -(2.0**31), 2.0**63], dtype)])
    bits = 8 * x.itemsize
    limit = 2.0 ** (bits - 1)
    fits = (x >= -limit) & (x < limit)
    expected = np.where(fits, np.where(fits, x, 0).astype(f"i{x.itemsize}"), -(2 ** (bits - 1)))
    for got in _each(lambda b, x: b.bitcast(b.fptosi(x, x.type.integer), x.type), x):
        np.testing.assert_array_equal(got.view(f"i{x.itemsize}"), expected)


def test_casts_to_small_and_unsigned_integers_take_the_low_bits():
    x = np.array([0, -1, 1.9, -1.9, 255, 256, 300, 65535, 65536, 3e9, -3e9, 4294967295], "float64")
    whole = np.trunc(x).astype(np.int64)
    small = np.where(np.abs(whole) < 2**31, whole, -(2**31))

    def unsigned(type, wide):
        return lambda b, x: b.bitcast(b.zext(b.fptoui(x, type), wide), F64)

    for type, expected in ((I8, small % 256), (I16, small % 65536), (I32, whole % 2**32)):
        for got in _each(unsigned(type, I64), x):
            np.testing.assert_array_equal(got.view(np.int64), expected)
    large = np.array([2.0**63, 1.5 * 2.0**63, 7.5, -2.0], "float64")
    expected = np.array([2**63, 3 * 2**62, 7, 2**64 - 2], np.uint64)
    for got in _each(lambda b, x: b.bitcast(b.fptoui(x, I64), F64), large):
        np.testing.assert_array_equal(got.view(np.uint64), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 4, 8, 16, 64])
def test_a_table_is_read_at_the_low_bits_of_the_index(count, dtype):
    table = np.random.default_rng(4).normal(size=count).astype(dtype)
    index = np.arange(-70, 70)
    held = index.astype(f"i{np.dtype(dtype).itemsize}").view(dtype)

    def looked_up(b, x):
        return b.lookup(list(map(float, table)), b.bitcast(x, x.type.integer), x.type)

    for got in _each(looked_up, held, lanes=LANES):
        np.testing.assert_array_equal(got, table[index % count])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_and_products_come_with_the_error_of_their_rounding(dtype):
    random = np.random.default_rng(5)
    x, y = (random.normal(size=200).astype(dtype) * 2.0 ** random.integers(-9, 9) for _ in "ab")
    x, y = x.astype(dtype), y.astype(dtype)

    def part(operation, k):
        return _each(lambda b, x, y: getattr(b, operation)(x, y)[k], x, y)

    for operation in ("two_sum", "two_product"):
        both = part(operation, 0), part(operation, 1)
        for rounded, error in zip(*both, strict=True):
            for a, c, r, e in zip(x, y, rounded, error, strict=True):
                a, c, r, e = (Fraction(float(number)) for number in (a, c, r, e))
                assert r + e == (a + c if operation == "two_sum" else a * c)


@pytest.mark.parametrize("dtype", DTYPES)
def test_minimum_and_maximum_keep_a_nan_of_the_first_operand(dtype):
    x = np.array([1, 2, np.nan, 1, -np.inf], dtype)
    y = np.array([2, 1, 1, np.nan, np.inf], dtype)
    for got in _each(lambda b, x, y: b.fmin(x, y), x, y):
        _same(got, np.array([1, 1, np.nan, 1, -np.inf], dtype))
    for got in _each(lambda b, x, y: b.fmax(x, y), x, y):
        _same(got, np.array([2, 2, np.nan, 1, np.inf], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("set_lanes", ["none", "some", "all"])
def test_rare_lanes_are_computed_by_the_scalar_function(set_lanes, dtype):
    x = np.random.default_rng(6).uniform(-2, 2, 100).astype(dtype)
    bound = {"none": 3.0, "some": 1.0, "all": -1.0}[set_lanes]

    def function(b, x):
        mask = b.fcmp("ogt", b.fabs(x), b.const(bound, x.type))
        name = "powf" if x.type is F32 else "pow"
        return b.rare(mask, name, b.fneg(x), b.fabs(x), b.const(2.0, x.type))

    expected = np.where(np.abs(x) > bound, np.abs(x) ** 2, -x)
    for got in _each(function, x, lanes=LANES):
        np.testing.assert_allclose(got, expected, rtol=np.finfo(dtype).eps)


def test_a_rare_block_for_whole_vectors_is_left_out_where_no_lane_asks_for_it():
    x = np.arange(64, dtype=np.float32)

    def function(b, x):
        mask = b.fcmp("oeq", x, b.const(5.0, F32))
        return b.where_any(mask, lambda: b.fneg(x), x)

    for got in _each(function, x, lanes=(8,)):
        np.testing.assert_array_equal(got, np.where(x < 8, -x, x))


def test_leading_zeros_are_counted():
    x = np.array([0, 1, 2, 255, -1, 2**30], np.int32)
    for got in _each(lambda b, x: b.bitcast(b.ctlz(b.bitcast(x, I32)), F32), x.view(np.float32)):
        np.testing.assert_array_equal(got.view(np.int32), [32, 31, 30, 24, 0, 1])


def test_constants_are_written_as_llvm_reads_them():
    b, scalar = VectorBuilder(AVX2, 2), VectorBuilder(AVX2, 1)
    assert b.const(1.5, F16).text == "splat (half 0xH3E00)"
    assert scalar.const(1.5, BF16).text == "0xR3FC0"
    assert scalar.const(0.1, F32).text == "0x3FB99999A0000000"
    assert scalar.const(float("nan"), F64).text == "0x7FF8000000000000"
    assert b.const(True, I1).text == "splat (i1 true)"
    assert scalar.const(-1, I64).text == "-1"


def test_only_what_the_caller_writes_may_be_contracted():
    b = VectorBuilder(AVX2, 8)
    x = b.const(0.5, F32)
    b.contract = True
    b.call("exp", b.fmul(x, x))
    assert "fmul contract" in b.lines[0]
    assert not any("contract" in line for line in b.lines[1:])
    assert b.contract


def test_a_target_without_fused_multiplication_rounds_twice():
    b = VectorBuilder(SSE2, 4)
    x = b.const(0.5, F32)
    b.muladd(x, x, x)
    assert [line.split()[2] for line in b.lines] == ["fmul", "fadd"]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="lanes must be positive, got lanes=0"):
        VectorBuilder(AVX2, 0)
    b = VectorBuilder(AVX2, 8)
    with pytest.raises(KeyError, match=r"VectorBuilder.call: .* got function='sine'"):
        b.call("sine", b.const(0.5, F32))
    with pytest.raises(ValueError, match="power of two"):
        b.lookup([1.0, 2.0, 3.0], b.const(0, I32), F32)
