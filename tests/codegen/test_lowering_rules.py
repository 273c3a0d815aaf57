"""Lowering rules against NumPy: every elementwise operation, on every element type kernels hold.

What an operation's rule is made of decides how it is compared: bit for bit, unless it calls a
function of the math library or its declaration states an error.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.codegen.operations import Operations
from autodiff.codegen.vectors import VectorBuilder
from autodiff.ir.primitive import Primitive, primitives
from autodiff.primitives.families import ANY
from autodiff.primitives.lowering import lower, missing_rule
from autodiff.runtime.host import host
from autodiff.schedule.lowerable import why_not_lowered
from autodiff.schedule.target import AVX2, SSE2
from tests.codegen.elementwise_kernels import Kernels, complex_of
from tests.codegen.error_bounds import allowed_ulp, complex_distance, is_mistaken, ulp_distance
from tests.primitives.sampling import (
    SPECIAL,
    Case,
    cases,
    is_elementwise,
    names,
    own_types,
    point_case,
    same_bits,
    supported,
)

_HOST = host()


def _lowered_cases(primitive: Primitive) -> list[Case]:
    found = []
    for dtype in supported(primitive):
        tried = cases(primitive, dtype)
        if is_elementwise(primitive):
            extra = SPECIAL if dtypes.is_inexact(dtype) else ()
            tried += [point_case(primitive, dtype, p, extra) for p in primitive.samples.params]
        found += [case for case in tried if _is_lowered(case)]
    return found


def _is_lowered(case: Case) -> bool:
    taken = tuple([x.dtype for x in case.operands])
    return missing_rule(case.primitive, taken, case.params) is None


def _mistakes(primitive: Primitive, target: Any, lanes: int) -> list[str]:
    """Return what is wrong with the results of the rule, a line for each case."""
    kernels = Kernels(target, lanes)
    tried = _lowered_cases(primitive)
    for number, case in enumerate(tried):
        rule = partial(_apply, case.primitive, case.params)
        kernels.add(f"k{number}", rule, [x.dtype for x in case.operands])
    wrong = []
    for number, case in enumerate(tried):
        found = kernels.run(f"k{number}", case.operands)
        for x, y in zip(found, case.reference(), strict=True):
            wrong += _compared(case, x, np.asarray(y))
    return wrong


def _compared(case: Case, found: Any, expected: Any) -> list[str]:
    taken = tuple([x.dtype for x in case.operands])
    where = f"{case.primitive.name}{[x.name for x in taken]} {case.params} {case.label}"
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return [f"{where}: {found.dtype}{found.shape}, not {expected.dtype}{expected.shape}"]
    if not dtypes.is_inexact(expected.dtype):
        bad, bound = found != expected, 0.0
    else:
        bound = allowed_ulp(case.primitive, taken, case.params, expected.dtype)
        is_complex = dtypes.is_complex(expected.dtype)
        bad = (complex_distance if is_complex else ulp_distance)(found, expected) > bound
        bad &= ~np.asarray(is_mistaken(case.primitive, case.operands))
    if not np.any(bad):
        return []
    at = tuple(np.argwhere(bad)[0])
    shown = [np.broadcast_to(x, found.shape)[at] for x in case.operands]
    return [f"{where} of {shown}: {found[at]!r}, NumPy {expected[at]!r}, allowed {bound} ulp"]


@pytest.mark.parametrize(("target", "lanes"), [(_HOST, 8), (SSE2, 4)])
@pytest.mark.parametrize("name", names(lambda p: p.kind == "elementwise"))
def test_a_kernel_gives_the_reference_values(name, target, lanes):
    wrong = _mistakes(primitives[name], target, lanes)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "rint", "spacing", "sign", "cast"])
def test_one_lane_gives_the_reference_values(name):
    wrong = _mistakes(primitives[name], _HOST, 1)
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------------------ one rule, all types

_FLOATS = [d for d in dtypes.SUPPORTED if dtypes.is_float(d)]
_INTEGERS = [d for d in dtypes.SUPPORTED if dtypes.is_integer(d)]


def _edges(dtype: np.dtype) -> np.ndarray:
    """Return the numbers of a type at which rules tend to be wrong, and random ones of any size."""
    random = np.random.default_rng(7)
    if dtypes.is_bool(dtype):
        return np.array([False, True])
    if dtypes.is_integer(dtype):
        limits = np.iinfo(dtype)
        named = {limits.min, limits.min + 1, -7, -2, -1, 0, 1, 2, 3, 5, 8, 31, 63, 64}
        named |= {limits.max - 1, limits.max}
        kept = sorted(v for v in named if limits.min <= v <= limits.max)
        drawn = random.integers(limits.min, limits.max, 16, dtype=dtype, endpoint=True)
        return np.concatenate([np.array(kept, dtype), drawn])
    if dtypes.is_complex(dtype):
        parts = _edges(dtypes.real_dtype(dtype))
        return np.concatenate([complex_of(*_pairs(parts[:9], parts)), parts.astype(dtype)])
    limits = ml_dtypes.finfo(dtype)
    named = [0.0, 1.0, 1.5, 2.5, 0.3, 1e3, 3e4, float(limits.max), float(limits.smallest_subnormal)]
    named += [float(limits.tiny), 3 * float(limits.smallest_subnormal), float(limits.eps), np.inf]
    size = random.uniform(1, 2, 24) * np.exp2(random.integers(limits.minexp, limits.maxexp, 24))
    numbers = np.concatenate([named, size])
    return np.concatenate([numbers, -numbers, [np.nan]]).astype(dtype)


def _pairs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return np.repeat(x, y.size), np.tile(y, x.size)


_EXACT_BINARY = (
    *("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "maximum"),
    *("minimum", "fmax", "fmin", "less", "less_equal", "greater", "greater_equal", "equal"),
    *("not_equal", "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"),
    *("copysign", "nextafter", "guarded_multiply", "guarded_divide", "logical_xor", "heaviside"),
)


@pytest.mark.parametrize(("target", "lanes"), [(_HOST, 16), (SSE2, 4)])
@pytest.mark.parametrize("name", _EXACT_BINARY)
def test_operations_of_two_numbers_have_numpys_bits_at_the_edges(name, target, lanes):
    primitive = primitives[name]
    kernels = Kernels(target, lanes)
    tried = {}
    for dtype in supported(primitive):
        own = own_types(primitive, dtype)
        if own is None or any(map(dtypes.is_complex, own)):
            continue
        operands = _pairs(*[_edges(d) for d in own])
        rule = partial(_apply, primitive, {})
        kernels.add(f"on_{dtype}", rule, own)
        tried[f"on_{dtype}"] = Case(primitive, operands, {}, "edges")
    assert tried
    for kernel, case in tried.items():
        (found,), (expected,) = kernels.run(kernel, case.operands), case.reference()
        wrong = _compared(case, found, expected)
        assert not wrong, wrong


_SIGNED, _UNSIGNED = np.dtype(np.int64), np.dtype(np.uint64)


def _takes_both_signs(primitive: Primitive) -> bool:
    """Return whether NumPy has a loop of its own for int64 with uint64."""
    for ufunc in primitive.numpy:
        if isinstance(ufunc, np.ufunc) and ufunc.nin == 2:
            try:
                resolved = ufunc.resolve_dtypes((_SIGNED, _UNSIGNED, None))
            except TypeError:
                continue
            if resolved[:2] == (_SIGNED, _UNSIGNED):
                return True
    return False


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", names(_takes_both_signs))
def test_integers_with_and_without_a_sign_meet_by_value(name, turned):
    """-1 is not the largest number of 64 bits."""
    x, y = _pairs(_edges(_SIGNED), _edges(_UNSIGNED))
    operands = (y, x) if turned else (x, y)
    kernels = Kernels(_HOST, 8)
    kernels.add("met", partial(_apply, primitives[name], {}), [v.dtype for v in operands])
    (found,) = kernels.run("met", operands)
    assert same_bits(found, primitives[name].reference(*operands))


_CONSTANTS = (
    *(0.0, -0.0, 1.0, -1.0, 2.0, 0.25, 3.0, 7.0, 2.0**120, 2.0**-126, 2.0**-140),
    *(np.inf, np.nan),
)


def _is_on(name: str, dtype: str) -> bool:
    own = own_types(primitives[name], np.dtype(dtype))
    return own is not None and own[0] == dtype


_TYPES = ("float16", "float32", "float64", "int32", "uint8")


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in _EXACT_BINARY for d in _TYPES if _is_on(n, d)]
)
def test_a_constant_operand_changes_no_bit(name, dtype):
    """Rules may do less where they know an operand: on either side."""
    primitive, own = primitives[name], (np.dtype(dtype),)
    kind = dtypes.kind(own[0])
    kernels = Kernels(_HOST, 8)
    x = _edges(own[0])
    tried = {}
    for i, number in enumerate(_CONSTANTS):
        if kind != "f" and not (number.is_integer() and 0 <= abs(number) < 100):
            continue
        with np.errstate(all="ignore"):
            number = np.asarray(number).astype(own[0])[()]
        for k, operands in enumerate([(x, number), (number, x)]):

            def rule(o: Operations, x: Any, k: int = k, number: Any = number) -> Any:
                constant = o.constant(number, own[0])
                return lower(o, primitive, (constant, x) if k else (x, constant), {})

            kernels.add(f"k{i}_{k}", rule, (own[0],))
            tried[f"k{i}_{k}"] = operands
    for kernel, operands in tried.items():
        (found,) = kernels.run(kernel, (x,))
        with np.errstate(all="ignore"):
            full = [np.broadcast_to(v, x.shape).copy() for v in operands]
            expected = primitive.reference(*full)
        assert same_bits(found, expected), (operands, found, expected)


def _apply(primitive: Primitive, params: Any, o: Operations, *operands: Any) -> tuple[Any, ...]:
    return lower(o, primitive, operands, params)


@pytest.mark.parametrize(("target", "lanes"), [(_HOST, 16), (AVX2, 8), (SSE2, 4)])
def test_casts_between_all_types_have_numpys_bits(target, lanes):
    """Floats that the integer type can hold alone: of others NumPy's own loops differ."""
    kernels = Kernels(target, lanes)
    pairs = [(x, y) for x in dtypes.SUPPORTED for y in dtypes.SUPPORTED]
    for x, y in pairs:
        rule = partial(_apply, primitives["cast"], {"dtype": y})
        kernels.add(f"{x}_to_{y}", rule, (x,))
    for x, y in pairs:
        numbers = _edges(x)
        if dtypes.is_inexact(x) and dtypes.is_integer(y):
            limits = np.iinfo(y)
            whole = np.trunc(np.real(numbers).astype(np.float64))
            fits = (whole >= limits.min) & (whole < float(limits.max))
            numbers = numbers[fits]
            assert numbers.size > 5
        (found,) = kernels.run(f"{x}_to_{y}", (numbers,))
        with np.errstate(all="ignore"):
            expected = primitives["cast"].reference(numbers, dtype=y)
        assert same_bits(found, expected), (x, y, numbers, found, expected)


@pytest.mark.parametrize(("target", "lanes"), [(_HOST, 16), (SSE2, 4), (SSE2, 1)])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_float_survives_a_kernel(name, target, lanes):
    dtype = next(d for d in _FLOATS if d.name == name)
    numbers = np.arange(1 << 16).astype(np.uint16).view(dtype)
    kernels = Kernels(target, lanes)
    kernels.add("same", lambda o, x: (x,), (dtype,))
    (found,) = kernels.run("same", (numbers,))
    assert same_bits(found, numbers)


@pytest.mark.parametrize(("target", "lanes"), [(_HOST, 16), (SSE2, 4)])
@pytest.mark.parametrize("wide", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rounding_to_16_bits_is_done_once_and_to_even(name, wide, target, lanes):
    """Each number half-way between two neighbours, and its own neighbours on either side."""
    dtype = next(d for d in _FLOATS if d.name == name)
    grid = np.arange(1 << 15).astype(np.uint16).view(dtype).astype(wide)
    grid = grid[np.isfinite(grid)]
    middle = grid[:-1] + (grid[1:] - grid[:-1]) / 2
    beyond = grid[-1] + (grid[-1] - grid[-2]) / 2  # from here on it is infinite
    middle = np.append(middle, wide(beyond))
    numbers = np.concatenate([np.nextafter(middle, wide(0)), middle, np.nextafter(middle, np.inf)])
    numbers = np.concatenate([numbers, -numbers]).astype(wide)
    kernels = Kernels(target, lanes)
    kernels.add("rounded", lambda o, x: (o.cast(x, dtype),), (np.dtype(wide),))
    (found,) = kernels.run("rounded", (numbers,))
    with np.errstate(all="ignore"):
        assert same_bits(found, numbers.astype(dtype))


@pytest.mark.parametrize(("target", "lanes"), [(_HOST, 16), (SSE2, 4)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scaling_by_any_power_of_two_rounds_once(dtype, target, lanes):
    """From the largest number to the smallest and back, and further."""
    dtype = np.dtype(dtype)
    powers = np.concatenate([np.arange(-2200, 2200, 7), [-(2**31), 2**31 - 1]]).astype(np.int32)
    x, n = _pairs(_edges(dtype), powers)
    kernels = Kernels(target, lanes)
    kernels.add("scaled", partial(_apply, primitives["ldexp"], {}), (dtype, n.dtype))
    (found,) = kernels.run("scaled", (x, n))
    with np.errstate(all="ignore"):
        assert same_bits(found, np.ldexp(x, n))


@pytest.mark.parametrize(("target", "lanes"), [(_HOST, 16), (AVX2, 8), (SSE2, 4)])
@pytest.mark.parametrize("name", names(lambda p: p.name.startswith("reproducible_")))
def test_reproducible_functions_have_the_same_bits_in_kernels(name, target, lanes):
    """float32, on every target, whether or not it multiplies and adds in one instruction."""
    primitive, dtype = primitives[name], np.dtype(np.float32)
    random = np.random.default_rng(3)
    low, high = primitive.samples.span
    numbers = [random.uniform(low, high, 3000), np.exp2(random.uniform(-140, 120, 1000))]
    x = np.concatenate(numbers).astype(dtype)
    x = np.concatenate([x, -x])
    kernels = Kernels(target, lanes)
    kernels.add("reproduced", partial(_apply, primitive, {}), (dtype,))
    (found,) = kernels.run("reproduced", (x,))
    with np.errstate(all="ignore"):
        assert same_bits(found, primitive.reference(x))


# ------------------------------------------------------------------------------------ what has none


def _reason(function: Any, *operands: Any, kinds: str = ANY) -> str | None:
    return why_not_lowered(ad.make_graph(function)(*operands).eqns[-1], kinds)


def test_what_has_no_rule_says_why():
    x, n = np.ones(3), np.ones(3, int)
    assert _reason(lambda x: x * x, x) is None
    assert _reason(np.sort, x) == "sort does not act on each element by itself"
    assert _reason(lambda x: x + x, x + 0j) is None
    held = _reason(lambda x: x + x, x + 0j, kinds="biuf")
    assert held == "add is on complex128, which kernels do not hold"
    assert _reason(np.gcd, n, n) == "gcd is computed by a function of NumPy's own"
    assert _reason(np.power, n, n) == "power has no rule for int64, int64"
    assert "bessel_i" in str(_reason(lambda x: ad.scipy.special.i1(x), x))


def test_nearly_every_elementwise_operation_on_floats_has_a_rule():
    without = {
        name
        for name in names(is_elementwise)
        if "f" in primitives[name].dtypes and not _lowered_cases(primitives[name])
    }
    assert without == {
        "bessel_i",
        "digamma_derivative",
        "i0",
        "inverse_mills_ratio",
        "log_ndtr",
        "ndtri",
    }


def test_an_operation_of_the_user_is_lowered_as_its_expression():
    softened = ad.primitive(
        "softened",
        lambda x, y: np.where(x > 0, x, x * y) + np.maximum(x, 1) / y,
        doc="An expression of several functions.",
        not_differentiable="only its values are wanted here",
        replace=True,
    )
    x, y = np.linspace(-2, 2, 40), np.linspace(3, 5, 40)
    graph = ad.make_graph(softened)(x, y)
    (eqn,) = graph.eqns
    assert why_not_lowered(eqn, ANY) is None
    kernels = Kernels(_HOST, 8)
    kernels.add("softened", partial(_apply, eqn.primitive, eqn.params), (x.dtype, y.dtype))
    (found,) = kernels.run("softened", (x, y))
    np.testing.assert_array_equal(found, np.where(x > 0, x, x * y) + np.maximum(x, 1) / y)


def test_an_operation_of_the_user_that_is_no_expression_of_numbers_says_so():
    def declared(name: str, function: Any) -> Any:
        operation = ad.primitive(
            name,
            function,
            doc="An operation that kernels cannot compute.",
            not_differentiable="only its values are wanted here",
            replace=True,
        )
        return str(_reason(operation, np.ones(3)))

    table = np.arange(4.0)
    assert declared("looked_up", lambda x: x + table.sum() * table[:1]) == (
        "looked_up refers to arrays"
    )
    branching = declared("branching", lambda x: x if np.all(np.asarray(x) > 0) else -x)
    assert branching.startswith("branching has no rule, and its reference is no expression: ")
    sorting = declared("sorting", lambda x: np.sort(np.stack([x, -x]), axis=0)[0])
    assert sorting.startswith("sorting contains ")


def test_formulas_that_must_be_exact_are_not_contracted():
    builder = VectorBuilder(_HOST, 8)
    builder.contract = True
    o = Operations(builder)
    x = o.constant(7.5, np.dtype(np.float32))
    o.add(o.multiply(x, x), x)
    assert sum(" contract " in line for line in builder.lines) == 2
    o.remainder(x, x)
    o.cast(x, np.dtype(np.float16))
    assert sum(" contract " in line for line in builder.lines) == 2
    assert builder.contract
