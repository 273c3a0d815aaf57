"""CUDA's functions that the C library has not, and its names for both types of floats."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import special

from tests import emulator

INT32 = np.array([0, 1, -1, 5, -77, 2**31 - 1, -(2**31), 0x00F0FF00], np.int32)


TYPES = {"f": "float", "d": "double", "i": "int", "I": "unsigned", "l": "long long"}
TYPES |= {"L": "unsigned long long", "q": "long long", "Q": "unsigned long long"}


def apply(expressions, out, *operands):
    """Return, for each expression in x and y of CUDA C++, its values on the elements of arrays."""
    kinds = [TYPES[np.dtype(x.dtype).char] for x in operands]
    parameters = "".join(f", const {kind}* p{k}" for k, kind in enumerate(kinds))
    values = [f"{kind} {'xy'[k]} = AD_LD(p{k} + i);" for k, kind in enumerate(kinds)]
    source = "".join(
        f"""
extern "C" __global__ void map_{number}({TYPES[np.dtype(out).char]}* out{parameters}) {{
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  {" ".join(values)}
  AD_ST(out + i, {expression});
}}
"""
        for number, expression in enumerate(expressions)
    )
    module = emulator.compile(source)
    operands = [emulator.guarded(x) for x in operands]
    results = []
    for number in range(len(expressions)):
        result = emulator.allocate(operands[0].shape, out)
        module.launch(f"map_{number}", 1, result.size, 0, [result, *operands])
        results.append(result)
    return results


FUNCTIONS = {
    "sinpi": (lambda x: float(mpmath.sinpi(x)), np.linspace(-9.5, 9.5, 381)),
    "cospi": (lambda x: float(mpmath.cospi(x)), np.linspace(-9.5, 9.5, 381)),
    "rsqrt": (lambda x: float(1 / mpmath.sqrt(x)), np.geomspace(1e-30, 1e30, 61)),
    "rcbrt": (lambda x: float(1 / mpmath.cbrt(x)), np.geomspace(1e-30, 1e30, 61)),
    "normcdf": (special.ndtr, np.linspace(-8, 8, 97)),
    "normcdfinv": (special.ndtri, np.linspace(0.001, 0.999, 97)),
    "erfinv": (special.erfinv, np.linspace(-0.999, 0.999, 201)),
    "erfcinv": (special.erfcinv, np.concatenate([np.geomspace(1e-300, 1, 61), [1.5, 1.999]])),
    "erfcx": (
        special.erfcx,
        np.concatenate([np.linspace(-5, 24.9, 97), np.geomspace(25, 1e9, 20)]),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_c_has_not(name):
    reference, x = FUNCTIONS[name]
    expected = np.array([reference(v) for v in x.tolist()])
    (found,) = apply([f"{name}(x)"], "d", x)
    # Sums and products of a few roundings; exp(x * x) of erfcx multiplies that of x * x.
    np.testing.assert_allclose(found, expected, rtol=3e-13, atol=1e-15)
    single = x.astype(np.float32)
    single = single[np.abs(single) > 1e-37]
    expected = np.array([reference(v) for v in single.tolist()])
    for found in apply([f"{name}(x)", f"{name}f(x)"], "f", single):
        np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-7)


def test_ends_and_special_values():
    inf, nan = np.inf, np.nan
    for expression, x, expected in (
        ("sinpi(x)", [0.0, -0.0, 3.0, -3.0, 0.5, inf, nan], [0, -0.0, 0, -0.0, 1, nan, nan]),
        ("cospi(x)", [0.0, -0.0, 3.0, 0.5, -1.5, inf, nan], [1, 1, -1, 0, 0, nan, nan]),
        ("erfinv(x)", [0.0, -0.0, 1.0, -1.0, 1.5, nan], [0, -0.0, inf, -inf, nan, nan]),
        ("erfcinv(x)", [0.0, 2.0, 1.0, -1.0, nan], [inf, -inf, 0, nan, nan]),
    ):
        (found,) = apply([expression], "d", np.array(x))
        np.testing.assert_array_equal(found, expected)
        if expression.startswith(("sin", "erfinv")):
            np.testing.assert_array_equal(np.signbit(found[:2]), [False, True])


def test_a_name_without_suffix_is_of_its_arguments_type():
    names = ("exp", "sin", "tanh", "log1p", "erf", "floor", "lgamma", "rint")
    x = np.linspace(0.1, 3, 40, dtype=np.float32)
    plain, suffixed = [apply([f"{n}{s}(x)" for n in names], "f", x) for s in ("", "f")]
    np.testing.assert_array_equal(plain, suffixed)
    for operand in (x, x.astype(np.float64)):
        sizes = apply([f"sizeof({name}(x))" for name in names], "i", operand)
        assert (np.array(sizes) == operand.itemsize).all()


def test_least_and_greatest():
    x, y = np.meshgrid(INT32, INT32)
    x, y = x.ravel(), y.ravel()
    least, greatest = apply(["min(x, y)", "max(x, y)"], "i", x, y)
    np.testing.assert_array_equal(least, np.minimum(x, y))
    np.testing.assert_array_equal(greatest, np.maximum(x, y))
    f, g = x.astype("f"), np.where(y == 0, np.nan, y).astype("f")
    least, greatest = apply(["min(x, y)", "fmax(x, y)"], "f", f, g)
    np.testing.assert_array_equal(least, np.fmin(f, g))
    np.testing.assert_array_equal(greatest, np.fmax(f, g))


def _bits(x):
    return f"{int(x) & 0xFFFFFFFF:032b}"


def test_bits():
    expected = {
        "__popc(x)": lambda x: _bits(x).count("1"),
        "__clz(x)": lambda x: len(_bits(x)) - len(_bits(x).lstrip("0")),
        "__ffs(x)": lambda x: _bits(x)[::-1].find("1") + 1,
        "int(__brev(x))": lambda x: np.array(int(_bits(x)[::-1], 2), "u4").view("i4"),
        "__float_as_int(__int_as_float(x & 0x7f7fffff))": lambda x: int(x) & 0x7F7FFFFF,
        "__clzll((unsigned)x) - 32": lambda x: len(_bits(x)) - len(_bits(x).lstrip("0")),
        "__ffsll(x)": lambda x: _bits(x)[::-1].find("1") + 1,
        "__popcll((unsigned)x)": lambda x: _bits(x).count("1"),
        "__double2loint(__hiloint2double(5, x))": int,
        "__double2hiint(__hiloint2double(x & 0x7fefffff, 5))": lambda x: int(x) & 0x7FEFFFFF,
    }
    found = apply(list(expected), "i", INT32)
    for (expression, reference), values in zip(expected.items(), found, strict=True):
        assert values.tolist() == [reference(x) for x in INT32], expression


def test_high_halves_of_products_and_shifts_of_two_words():
    x, y = (v.ravel() for v in np.meshgrid(INT32, INT32))
    (found,) = apply(["__mulhi(x, y)"], "i", x, y)
    np.testing.assert_array_equal(found, x.astype(np.int64) * y >> 32)
    u, v = x.view(np.uint32), y.view(np.uint32)
    long = u.astype(np.uint64) * v
    other = long[::-1].copy()
    (found,) = apply(["__umul64hi(x, y)"], "Q", long, other)
    assert found.tolist() == [
        a * b >> 64 for a, b in zip(long.tolist(), other.tolist(), strict=True)
    ]
    signed = long.view(np.int64), other.view(np.int64)
    (found,) = apply(["__mul64hi(x, y)"], "q", *signed)
    assert found.tolist() == [
        a * b >> 64 for a, b in zip(*[z.tolist() for z in signed], strict=True)
    ]

    pairs = list(zip(u.tolist(), v.tolist(), strict=True))
    expected = {"__umulhi(x, y)": [a * b >> 32 for a, b in pairs]}
    for shift in (0, 1, 13, 31, 33):
        both, by = [b << 32 | a for a, b in pairs], shift % 32
        expected[f"__funnelshift_l(x, y, {shift})"] = [(w << by) >> 32 & 0xFFFFFFFF for w in both]
        expected[f"__funnelshift_r(x, y, {shift})"] = [w >> by & 0xFFFFFFFF for w in both]
    eight = [a.to_bytes(4, "little") + b.to_bytes(4, "little") for a, b in pairs]
    chosen = [int.from_bytes([w[7], w[0], w[5], w[2]], "little") for w in eight]
    expected["__byte_perm(x, y, 0x2507)"] = chosen
    for (expression, wanted), found in zip(
        expected.items(), apply(list(expected), "I", u, v), strict=True
    ):
        assert found.tolist() == wanted, expression


@pytest.mark.parametrize(("prefix", "dtype"), [("__float2", "f"), ("__double2", "d")])
@pytest.mark.parametrize(("name", "to"), [("int", "i"), ("uint", "I"), ("ll", "q"), ("ull", "Q")])
def test_conversions_to_integers_round_and_saturate(prefix, dtype, name, to):
    x = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.7, 1e6 + 0.5, 3e9, -3e9, 1e25, -1e25]
    x = np.array([*x, np.inf, -np.inf, 2.0**31, 2.0**63, -(2.0**63)], dtype)
    limits = np.iinfo(to)
    ways = {"rz": np.trunc, "rn": np.rint, "rd": np.floor, "ru": np.ceil}
    found = apply(
        [f"{prefix}{name}_{way}(x)" for way in ways], to, np.append(x, np.nan).astype(dtype)
    )
    for rounded, values in zip(ways.values(), found, strict=True):
        whole = [v if np.isinf(v) else int(v) for v in rounded(x).tolist()]
        expected = [int(min(max(v, limits.min), limits.max)) for v in whole]
        assert values.tolist() == [*expected, 0]


def test_roundings_by_name_and_approximations():
    x = np.linspace(0.3, 9, 50, dtype=np.float32)
    y = x[::-1].copy()
    expected = {
        "__fdiv_rn(x, y)": x / y,
        "__fadd_rn(x, y)": x + y,
        "__fsub_rn(x, y)": x - y,
        "__fmul_rn(x, y)": x * y,
        "__fsqrt_rn(x)": np.sqrt(x),
        "__frcp_rn(x)": 1 / x,
        "__fmaf_rn(x, y, y)": (x.astype("d") * y + y).astype("f"),
        "__saturatef(x - 2)": np.clip(x - 2, 0, 1),
    }
    for (expression, wanted), found in zip(
        expected.items(), apply(list(expected), "f", x, y), strict=True
    ):
        np.testing.assert_array_equal(found, wanted, expression)
    names = ("exp", "log", "sin")
    rough, exact = (
        apply([f"__{n}f(x)" for n in names], "f", x),
        apply([f"{n}f(x)" for n in names], "f", x),
    )
    np.testing.assert_array_equal(rough, exact)
