"""Values of every operation: recorded and run, compiled, and against mpmath where it has a twin."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest

import autodiff as ad
from autodiff.base import dtypes
from autodiff.ir.avals import type_of
from autodiff.ir.evaluate import evaluate
from autodiff.ir.primitive import Primitive, primitives
from autodiff.runtime.executor import Executable
from tests.primitives.sampling import (
    SPECIAL,
    Case,
    arity,
    can_move,
    cases,
    draw,
    generator,
    is_elementwise,
    names,
    point_case,
    same_bits,
    spans,
    supported,
)

ALL = names()

#: The last bits are those of NumPy's functions, and of their loops for each layout in memory.
BITS_OF_NUMPY = pytest.mark.of_numpy


def _tried(primitive: Primitive) -> list[Case]:
    found = []
    for dtype in supported(primitive):
        found += cases(primitive, dtype, layouts=True)
        if is_elementwise(primitive):
            floating = dtypes.is_inexact(dtype)
            for params in primitive.samples.params:
                found.append(point_case(primitive, dtype, params, SPECIAL if floating else ()))
    return found


@BITS_OF_NUMPY
@pytest.mark.parametrize("name", ALL)
def test_recorded_compiled_and_reference_values_are_the_same_bits(name):
    """jit = eager, compiled = evaluated = reference; types are those of the type rule.

    Kernels, whose functions are their own, are compared in tests/codegen.
    """
    for case in _tried(primitives[name]):
        where = (name, case.label, [type_of(x) for x in case.operands])
        expected = case.reference()
        graph = ad.make_graph(lambda *xs, case=case: case(*xs))(*case.operands)
        assert graph.output_types == tuple(type_of(np.asarray(y)) for y in expected), where
        evaluated = evaluate(graph, (), case.operands)
        with ad.override(kernels=False):
            compiled = Executable(graph, compile_now=True)(*case.operands)
        for found in (evaluated, compiled):
            assert all(map(same_bits, found, expected)), (*where, found, expected)
        for out in compiled:
            assert type(out) is np.ndarray
            assert not any(np.shares_memory(out, x) for x in case.operands), where


@BITS_OF_NUMPY
@pytest.mark.parametrize("name", names(is_elementwise))
def test_jit_and_the_reference_setting_give_the_same_bits(name):
    primitive = primitives[name]
    case = cases(primitive, supported(primitive)[0])[0]
    jitted = ad.jit(lambda *xs: case(*xs))
    compiled = jitted(*case.operands)
    with ad.override(reference=True):
        evaluated = jitted(*case.operands)
    assert all(map(same_bits, compiled, case.reference()))
    assert all(map(same_bits, evaluated, case.reference()))


@pytest.mark.parametrize("name", names(lambda p: p.commutative))
def test_a_commutative_operation_gives_the_same_bits_in_either_order_on_real_numbers(name):
    primitive = primitives[name]
    for case in _tried(primitive):
        x, y = case.operands
        if x.dtype == y.dtype and not dtypes.is_complex(x.dtype):
            exchanged = Case(primitive, case.operands[::-1], case.params, case.label)
            where = (name, case.label, case.operands)
            assert all(map(same_bits, exchanged.reference(), case.reference())), where


# ------------------------------------------------------------------------- NumPy's own functions


def _numpy_types(function: Any, operands: tuple[Any, ...]) -> Any:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(function(*operands)).dtype
    except TypeError:
        return TypeError


def _recorded_types(function: Any, operands: tuple[Any, ...]) -> Any:
    traced = [i for i, x in enumerate(operands) if isinstance(x, np.ndarray)]

    def apply(*tracers: Any) -> Any:
        given = list(operands)
        for i, tracer in zip(traced, tracers, strict=True):
            given[i] = tracer
        return function(*given)

    try:
        return ad.eval_shape(apply, *[operands[i] for i in traced]).dtype
    except TypeError:
        return TypeError


_ARRAYS = tuple(np.ones(3, dtype) for dtype in dtypes.SUPPORTED)
_SCALARS = (True, 2, 2.0, 2.0j)


@pytest.mark.parametrize("name", names(lambda p: any(isinstance(f, np.ufunc) for f in p.numpy)))
def test_result_types_are_those_of_numpy_for_every_combination_of_types(name):
    """Arrays of every type with arrays and Python scalars of every type (NEP 50), and refusals."""
    primitive = primitives[name]
    ufunc = next(f for f in primitive.numpy if isinstance(f, np.ufunc))
    combinations: list[tuple[Any, ...]] = list(product(_ARRAYS, repeat=arity(primitive)))
    if arity(primitive) == 2:
        for array, scalar in product(_ARRAYS, _SCALARS):
            combinations += [(array, scalar), (scalar, array)]
    wrong = []
    for operands in combinations:
        expected, found = _numpy_types(ufunc, operands), _recorded_types(ufunc, operands)
        if expected != found:
            types = [x.dtype if isinstance(x, np.ndarray) else type(x) for x in operands]
            wrong.append(f"{types}: NumPy {expected}, recorded {found}")
    assert not wrong, "\n".join(wrong)


@BITS_OF_NUMPY
@pytest.mark.parametrize("name", names(lambda p: is_elementwise(p) and p.public is not None))
def test_the_public_function_gives_numpys_values_when_traced(name):
    primitive = primitives[name]
    public = getattr(ad.numpy, primitive.public)
    plain = primitive.numpy[0] if primitive.numpy else primitive.reference
    for dtype in supported(primitive):
        random = generator("public", name, dtype.name)
        operands = [
            draw(random, shape, dtype, span)
            for shape, span in zip(
                ((3, 1), (4,), ()), spans(primitive, arity(primitive)), strict=False
            )
        ]
        if len(operands) < arity(primitive):
            continue
        with np.errstate(all="ignore"):
            expected = plain(*operands)
        found = ad.jit(public)(*operands)
        assert same_bits(found, expected), (name, dtype, found, expected)


# ---------------------------------------------------------------------------------------- mpmath

#: Names under which mpmath knows a function; others are looked up by the operation's own name.
_TWINS: dict[str, Any] = {
    "absolute": mpmath.fabs,
    "add": mpmath.fadd,
    "angle": mpmath.arg,
    "arccos": mpmath.acos,
    "arccosh": mpmath.acosh,
    "arcsin": mpmath.asin,
    "arcsinh": mpmath.asinh,
    "arctan": mpmath.atan,
    "arctan2": mpmath.atan2,
    "arctanh": mpmath.atanh,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "conjugate": mpmath.conj,
    "deg2rad": mpmath.radians,
    "divide": mpmath.fdiv,
    "exp2": lambda x: mpmath.power(2, x),
    "fmod": lambda x, y: mpmath.sign(x) * mpmath.fmod(abs(x), abs(y)),
    "gammaln": mpmath.loggamma,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "logaddexp": lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)),
    "logaddexp2": lambda x, y: mpmath.log(mpmath.power(2, x) + mpmath.power(2, y)) / mpmath.log(2),
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "multiply": mpmath.fmul,
    "negative": mpmath.fneg,
    "rad2deg": mpmath.degrees,
    "reciprocal": lambda x: 1 / x,
    "remainder": mpmath.fmod,
    "rint": mpmath.nint,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "sinc": mpmath.sincpi,
    "square": lambda x: x * x,
    "subtract": mpmath.fsub,
}

#: Where a declaration states no bound: NumPy's promise for its vectorised functions.
_DEFAULT_ULP = 4.0


def _twin(name: str) -> Any:
    name = name.removeprefix("reproducible_")
    return _TWINS.get(name, getattr(mpmath, name, None))


def _is_real_function(primitive: Primitive) -> bool:
    return is_elementwise(primitive) and can_move(primitive) and callable(_twin(primitive.name))


def _finite_operands(primitive: Primitive, dtype: np.dtype) -> list[np.ndarray]:
    """Random operands and the finite points, flat, kept where the result is finite and normal."""
    (params, *_) = primitive.samples.params
    found = [*cases(primitive, dtype), point_case(primitive, dtype, params)]
    columns = [
        np.concatenate([case.operands[i].ravel() for case in found])
        for i in range(arity(primitive))
    ]
    return columns


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", names(_is_real_function))
def test_values_agree_with_mpmath(name, dtype):
    primitive = primitives[name]
    dtype = np.dtype(dtype)
    columns = _finite_operands(primitive, dtype)
    with np.errstate(all="ignore"):
        values = np.asarray(primitive.reference(*columns))
    allowed = primitive.ulp.get(dtype.name, _DEFAULT_ULP)
    tiny = float(ml_dtypes.finfo(dtype).tiny)
    compared = 0
    with mpmath.workdps(500):  # log(exp(-1000) + 1) needs that many
        for row in zip(*columns, values, strict=True):
            *operands, value = map(float, row)
            if not np.isfinite([*operands, value]).all() or abs(value) < tiny:
                continue
            exact = _twin(name)(*map(mpmath.mpf, operands))
            if isinstance(exact, mpmath.mpc):
                exact = exact.real
            unit = mpmath.mpf(float(np.spacing(np.abs(np.asarray(value).astype(dtype)))))
            error = abs(exact - mpmath.mpf(value)) / unit
            assert error <= allowed, (name, operands, value, mpmath.nstr(exact, 20), float(error))
            compared += 1
    assert compared >= 5
