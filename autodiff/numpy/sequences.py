"""Functions that make arrays by rule: ranges, spaced numbers, identities, index grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS
from autodiff.ir.builder import Tracer
from autodiff.numpy.arguments import axis_of, renewed, view_of
from autodiff.numpy.creation import new_array_module, only_python_scalars
from autodiff.numpy.dispatch import array_function, has_tracer, plain_module, recorded_as
from autodiff.numpy.operands import array_of, joined, permuted, reshaped
from autodiff.primitives.arithmetic import absolute, multiply, power
from autodiff.primitives.families import broadcast_to, convert
from autodiff.primitives.rounding import floor


def _common_type(values: Any) -> np.dtype:
    """Return the type that values combine to, Python numbers among them being weak."""
    kinds: list[Any] = []
    for value in values:
        if type(value) in PYTHON_SCALARS:
            kinds.append(value)
        elif type(value) is Tracer:
            weak = value.aval.weak
            kinds.append(dtypes.python_type(value.dtype)(0) if weak else value.dtype)
        else:
            kinds.append(np.asarray(value).dtype)
    if any(isinstance(kind, np.dtype) for kind in kinds):
        return np.result_type(*kinds)
    rank = max([PYTHON_SCALARS.index(type(kind)) for kind in kinds])
    return dtypes.default_dtype(PYTHON_SCALARS[rank])


def _default_type(values: Any) -> Any:
    """Return the default type of numbers between Python numbers, None where NumPy's rule holds."""
    if not only_python_scalars(values):
        return None
    default = dtypes.default_float()
    return dtypes.complex_dtype(default) if dtypes.is_complex(_common_type(values)) else default


def _maker_of(values: Any, device: Any) -> Any:
    """Return the module to compute on plain `values` with: theirs if one is an array."""
    module = plain_module(values)
    return new_array_module(device) if module is np and only_python_scalars(values) else module


@array_function()
def arange(
    start: Any,
    stop: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    like: Any = None,
) -> Any:
    """Return the numbers from `start` (0 if only one is given) to before `stop`, `step` apart.

    How many there are depends on the values, so traced ones must be known.
    """
    given = [value for value in (start, stop, step) if value is not None]
    if dtype is None and (has_tracer(given) or only_python_scalars(given)):
        dtype = _common_type(given)
    start, stop, step = [v.item() if type(v) is Tracer else v for v in (start, stop, step)]
    if stop is None:
        start, stop = 0, start
    return new_array_module(device).arange(start, stop, step, dtype=dtype)


def _spaced(
    start: Any, stop: Any, num: Any, endpoint: bool, wanted: Any, axis: Any
) -> tuple[Any, Any]:
    """Return evenly spaced numbers between traced ends along a new axis, and their distance."""
    num = num.__index__()
    if num < 0:
        raise ValueError(
            message("linspace", "num must not be negative", f"num={num}", line=user_line())
        )
    common = _common_type((start, stop))
    if not dtypes.is_inexact(common):
        common = dtypes.default_float()
    wanted = common if wanted is None else np.dtype(wanted)
    start, stop = convert(array_of(start), common), convert(array_of(stop), common)
    delta = stop - start
    divisions = num - 1 if endpoint else num
    step = delta / divisions if divisions > 0 else delta * common.type(np.nan)
    counts = np.arange(num, dtype=common).reshape(num, *(1,) * delta.ndim)
    result = counts * (step if divisions > 0 else delta) + start
    if endpoint and num > 1:
        last = broadcast_to(stop, (1, *delta.shape))
        result = joined([result[:-1], last], 0)
    place = axis_of("linspace", axis, result.ndim)
    order = [*range(1, result.ndim)]
    order.insert(place, 0)
    if dtypes.is_integer(wanted):
        result = floor(result)
    return convert(permuted(result, tuple(order)), wanted), step


@array_function()
def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: Any = 0,
    *,
    device: Any = None,
) -> Any:
    """Return `num` evenly spaced numbers from `start` to `stop`, and with `retstep` their step."""
    if has_tracer((start, stop)):
        result, step = _spaced(start, stop, num, endpoint, dtype, axis)
        return (result, step) if retstep else result
    if dtype is None:
        dtype = _default_type((start, stop))
    module = _maker_of((start, stop), device)
    return module.linspace(start, stop, num, endpoint, retstep, dtype, axis)


@array_function()
def logspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: Any = 0,
) -> Any:
    """Return `num` numbers from `base**start` to `base**stop`, evenly spaced in the exponent."""
    if has_tracer((start, stop, base)):
        if type(base) not in PYTHON_SCALARS:
            base = array_of(base)
            shape = np.broadcast_shapes(np.shape(start), np.shape(stop), base.shape)
            start = broadcast_to(array_of(start), shape)
            base = broadcast_to(base, shape)
            place = axis_of("logspace", axis, len(shape) + 1)
            base = reshaped(base, (*shape[:place], 1, *shape[place:]))
        exponents = linspace(start, stop, num, endpoint, axis=axis)
        result = power(base, exponents)
        return result if dtype is None else convert(result, np.dtype(dtype))
    if dtype is None:
        dtype = _default_type((start, stop, base))
    return _maker_of((start, stop, base), None).logspace(
        start, stop, num, endpoint, base, dtype, axis
    )


@array_function()
def geomspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: Any = 0,
) -> Any:
    """Return `num` numbers from `start` to `stop` with equal quotients; traced ends are real."""
    if has_tracer((start, stop)):
        start, stop = array_of(start), array_of(stop)
        if "c" in (start.dtype.kind, stop.dtype.kind):
            raise TypeError(
                message(
                    "geomspace",
                    "traced ends must be real",
                    f"types=({start.dtype}, {stop.dtype})",
                    line=user_line(),
                )
            )
        # start * (stop / start) ** (i / n) keeps the sign that both ends have.
        ratio = stop / start
        zero = multiply(ratio, 0)
        fractions = linspace(zero, zero + 1, num, endpoint, axis=axis)
        place = axis_of("geomspace", axis, ratio.ndim + 1)
        shape = (*ratio.shape[:place], 1, *ratio.shape[place:])
        first = broadcast_to(convert(start, ratio.dtype), ratio.shape)
        result = reshaped(first, shape) * power(absolute(reshaped(ratio, shape)), fractions)
        return result if dtype is None else convert(result, np.dtype(dtype))
    if dtype is None:
        dtype = _default_type((start, stop))
    return _maker_of((start, stop), None).geomspace(start, stop, num, endpoint, dtype, axis)


for _numpy_function, _definition in (
    (np.linspace, linspace),
    (np.logspace, logspace),
    (np.geomspace, geomspace),
):
    recorded_as(_numpy_function, _definition)


# ------------------------------------------------------------------------------ matrices and grids


@array_function()
def eye(
    N: Any,
    M: Any = None,
    k: Any = 0,
    dtype: Any = None,
    order: Any = "C",
    *,
    device: Any = None,
    like: Any = None,
) -> Any:
    """Return a matrix of `N` rows and `M` columns with ones on the `k`-th diagonal."""
    dtype = dtypes.default_float() if dtype is None else dtype
    return new_array_module(device).eye(N, M, k, dtype=dtype, order=order)


@array_function()
def identity(n: Any, dtype: Any = None, *, like: Any = None) -> Any:
    """Return the identity matrix of `n` rows."""
    return eye(n, dtype=dtype)


@array_function()
def tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = None, *, like: Any = None) -> Any:
    """Return a matrix with ones on the `k`-th diagonal and below, zeros above."""
    dtype = dtypes.default_float() if dtype is None else dtype
    return new_array_module(None).tri(N, M, k, dtype=dtype)


@array_function()
def indices(dimensions: Any, dtype: Any = int, sparse: bool = False) -> Any:
    """Return the index grids of a shape: one array per axis, holding the index along it."""
    if sparse:
        module = new_array_module(None)
        count = len(dimensions)
        return tuple(
            [
                module.arange(n, dtype=dtype).reshape((1,) * i + (-1,) + (1,) * (count - i - 1))
                for i, n in enumerate(dimensions)
            ]
        )
    return new_array_module(None).indices(dimensions, dtype=dtype)


@array_function()
def fromfunction(
    function: Callable[..., Any], shape: Any, *, dtype: Any = None, like: Any = None, **kwargs: Any
) -> Any:
    """Return `function` called with the index grids of `shape`, in the default float type."""
    return function(*indices(shape, dtypes.default_float() if dtype is None else dtype), **kwargs)


@array_function(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    """Return vectors spread over a common grid, as a tuple; "xy" exchanges the first two axes."""
    if indexing not in ("xy", "ij"):
        raise ValueError(
            message(
                "meshgrid",
                "indexing must be 'xy' or 'ij'",
                f"indexing={indexing!r}",
                line=user_line(),
            )
        )
    vectors = [array_of(x) for x in xi]
    count = len(vectors)
    places = list(range(count))
    if indexing == "xy" and count > 1:
        places[:2] = [1, 0]
    sizes = [0] * count
    for place, x in zip(places, vectors, strict=True):
        sizes[place] = x.size
    grids = []
    for place, x in zip(places, vectors, strict=True):
        grid = reshaped(x, tuple([n if i == place else 1 for i, n in enumerate(sizes)]))
        grid = grid if sparse else broadcast_to(grid, tuple(sizes))
        if not copy:
            grid = view_of(x, grid)
        elif grid is x:
            grid = renewed(x)
        grids.append(grid)
    return tuple(grids)
