"""The hash and the reproducible functions against published, exact and high-precision values."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from autodiff.primitives.blocks import in_blocks
from autodiff.primitives.random_bits import threefry2x32
from autodiff.primitives.reproducible import (
    fused_multiply_add,
    reproducible_erf,
    reproducible_erfinv,
    reproducible_log,
    reproducible_log1p,
)

# Known answers published with Random123 (kat_vectors, threefry2x32, 20 rounds): counter, key, hash.
KNOWN_ANSWERS = (
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_hash_gives_the_published_answers(counter, key, expected):
    words = threefry2x32(*map(np.uint32, key), *map(np.uint32, counter))
    assert tuple(map(int, words)) == expected


def test_hash_broadcasts_keys_and_counters():
    keys = np.arange(6, dtype=np.uint32).reshape(2, 3)
    counters = np.arange(3, dtype=np.uint32)
    words = threefry2x32(keys, np.uint32(7), counters, counters[::-1])
    for i in range(2):
        for j in range(3):
            one = threefry2x32(keys[i, j], np.uint32(7), counters[j], counters[2 - j])
            assert [int(w[i, j]) for w in words] == [int(w) for w in one]


def test_results_do_not_depend_on_the_blocks():
    counters = np.arange(2**15 + 3, dtype=np.uint32)
    key = np.uint32(1), np.uint32(2)
    whole = threefry2x32(*key, np.uint32(0), counters)
    parts = [threefry2x32(*key, np.uint32(0), part) for part in np.array_split(counters, 7)]
    for word, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(word, np.concatenate(pieces))


def test_blocks_of_an_empty_array_are_empty():
    (out,) = in_blocks(lambda x: (x + 1,), (np.zeros((3, 0), np.float32),), [np.float32])
    assert out.shape == (3, 0)
    assert out.dtype == np.float32


def rounded_once(exact: Fraction, dtype: type) -> np.floating:
    """Return the nearest number to an exact value, the even one of two: IEEE 754's rounding."""
    near = dtype(float(exact))
    candidates = [np.nextafter(near, dtype(-np.inf)), near, np.nextafter(near, dtype(np.inf))]
    word = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
    return min(
        candidates,
        key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(word)) & 1),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_multiply_add_is_rounded_once(dtype):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 2000)).astype(dtype)
    scales = 10.0 ** random.integers(-12, 12, 2000)
    z = np.where(random.random(2000) < 0.5, -(x * y), random.standard_normal(2000) * scales)
    z = z.astype(dtype)
    expected = [
        rounded_once(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), dtype)
        for a, b, c in zip(x, y, z, strict=True)
    ]
    np.testing.assert_array_equal(fused_multiply_add(x, y, z), np.array(expected))


@pytest.mark.parametrize("sign", [1, -1])
def test_fused_multiply_add_in_float32_sees_what_float64_rounds_away(sign):
    # 1 + 2**-24 lies between two float32 numbers; the product adds 2**-24 (1 + 2**-40), or takes a
    # little less, which float64 cannot hold beside 1.
    x = np.float32(2.0**-24)
    above, below = np.float32(1 + 2.0**-20), np.float32(1 - 2.0**-20)
    one = np.float32(sign)
    tiny = np.float32(sign) * x
    assert fused_multiply_add(tiny, np.float32(1), one) == one
    assert fused_multiply_add(tiny, above, one) == np.nextafter(one, 2 * one)
    assert fused_multiply_add(tiny, below, one) == one
    long_tail = np.float32(1 + 2.0**-23) * np.float32(2.0**-12)
    product = Fraction(float(long_tail)) * Fraction(float(long_tail))
    expected = rounded_once(product + 1, np.float32)
    assert fused_multiply_add(long_tail, long_tail, np.float32(1)) == expected


def test_fused_multiply_add_does_not_overflow_inside():
    assert fused_multiply_add(np.float64(1e305), np.float64(1e3), np.float64(0)) == 1e308
    assert fused_multiply_add(np.float64(2), np.float64(np.inf), np.float64(1)) == np.inf
    assert np.isnan(fused_multiply_add(np.float64(0), np.float64(np.inf), np.float64(1)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fused_multiply_add_keeps_the_sign_of_zero(dtype):
    zero = fused_multiply_add(dtype(-0.0), dtype(1), dtype(-0.0))
    assert zero == 0
    assert np.signbit(zero)
    assert not np.signbit(fused_multiply_add(dtype(1), dtype(1), dtype(-1)))


# The span and the ULP allowed on 200 points of it. The polynomials' own errors are below 1 ULP (of
# erfinv in float64 2e-15, about 10 ULP, says Giles), the rest is rounding. Towards -1 and 1 erfinv
# loses more, because 1 - x**2 is made of the rounded x**2 (36 ULP at 0.9999 in float32, 98 in
# float64), exactly as in JAX.
ACCURACY = (
    (reproducible_log, mpmath.log, (0.01, 20.0), {"float32": 4, "float64": 1}),
    (reproducible_log1p, mpmath.log1p, (-0.99, 20.0), {"float32": 4, "float64": 4}),
    (reproducible_erf, mpmath.erf, (-4.0, 4.0), {"float32": 5, "float64": 2}),
    (reproducible_erfinv, mpmath.erfinv, (-0.95, 0.95), {"float32": 6, "float64": 12}),
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("operation", "exact", "span", "ulp"), ACCURACY, ids=[row[0].name for row in ACCURACY]
)
def test_functions_are_accurate(operation, exact, span, ulp, dtype):
    x = np.linspace(*span, 200).astype(dtype)
    with mpmath.workdps(40):
        errors = [
            abs((mpmath.mpf(float(y)) - exact(mpmath.mpf(float(v)))) / float(np.spacing(abs(y))))
            for v, y in zip(x, operation(x), strict=True)
        ]
    assert max(errors) <= ulp[np.dtype(dtype).name], float(max(errors))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_functions_at_special_points(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([-inf, -2.0, -1.0, -0.0, 0.0, 1.0, 2.0, inf, nan], dtype)
    expected = {
        reproducible_log: [nan, nan, nan, -inf, -inf, 0.0, np.log(2), inf, nan],
        reproducible_log1p: [nan, nan, -inf, -0.0, 0.0, np.log(2), np.log(3), inf, nan],
        reproducible_erf: [-1.0, -0.9953223, -0.8427008, -0.0, 0.0, 0.8427008, 0.9953223, 1.0, nan],
        reproducible_erfinv: [nan, nan, -inf, -0.0, 0.0, inf, nan, nan, nan],
    }
    for operation, values in expected.items():
        found = operation(x)
        assert found.dtype == np.dtype(dtype)
        tolerance = {"float16": 1e-3, "float32": 3e-7, "float64": 1e-7}[dtype]
        np.testing.assert_allclose(found, np.array(values), rtol=tolerance)
        zero = x == 0
        np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(np.array(values)[zero]))
