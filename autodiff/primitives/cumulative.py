"""Running sums, products, extrema and log-sum-exps along an axis, and the linear recurrence.

All take `axis` and `reverse` (from the end). `linear_recurrence` is what the derivatives of the
others are made of; it contains no division, so that zeros among the factors are exact in
derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.base import dtypes as element_types
from autodiff.base.array_modules import module_of
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import Primitive, Samples, primitives
from autodiff.primitives.arithmetic import where
from autodiff.primitives.families import batch_to, convert, is_linear, library_op
from autodiff.primitives.indexing_layout import slice_by
from autodiff.primitives.shapes import concatenate, full
from autodiff.primitives.special import logistic

# ------------------------------------------------------------------------------------ shared pieces

_CASES = (
    (((5,),), {"axis": 0, "reverse": False}),
    (((5,),), {"axis": 0, "reverse": True}),
    (((3, 4),), {"axis": 0, "reverse": True}),
    (((2, 3, 4),), {"axis": 1, "reverse": False}),
    (((1, 2),), {"axis": 0, "reverse": False}),
    (((0, 2),), {"axis": 0, "reverse": False}),
)
_SAMPLES = Samples(
    shapes=tuple(shapes for shapes, _ in _CASES), params=tuple(params for _, params in _CASES)
)
_SAMPLES_OF_TWO = Samples(
    shapes=tuple(shapes * 2 for shapes, _ in _CASES), params=tuple(params for _, params in _CASES)
)


def previous(x: Any, first: float, *, axis: int, reverse: bool) -> Any:
    """Return, at each position along `axis`, the element before it (after it, if `reverse`).

    `first` stands where there is none.
    """
    size = x.shape[axis]
    if size == 0:
        return x
    kept = range(1, size) if reverse else range(size - 1)
    rest = slice_by(x, [kept if i == axis else range(n) for i, n in enumerate(x.shape)])
    edge = full(x.dtype.type(first), tuple(1 if i == axis else n for i, n in enumerate(x.shape)))
    return bind_primitive(concatenate, (rest, edge) if reverse else (edge, rest), {"axis": axis})


def _type(x: ArrayType, *more: ArrayType, axis: int, reverse: bool) -> ArrayType:
    assert 0 <= axis < x.ndim, (x, axis)
    assert all(y.strong() is x.strong() for y in more), (x, more)
    return array_type(x.shape, x.dtype)


def _along(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a reference for both directions from `function(x, axis)` for the forward one."""

    def reference(x: Any, *, axis: int, reverse: bool) -> Any:
        if not reverse:
            return function(x, axis)
        return np.flip(function(np.flip(x, axis), axis), axis)

    return reference


def doubling(operation: Callable[[Any, Any], Any], x: Any, axis: int) -> Any:
    """Return the running result of an associative operation in ceil(log2 n) vectorised steps.

    Hillis and Steele, "Data Parallel Algorithms", Communications of the ACM 29 (1986), section 3:
    in each step every element is combined with the one that stands twice as far before it as in
    the step before.
    """
    x = np.moveaxis(x, axis, 0)
    step = 1
    while step < x.shape[0]:
        x = np.concatenate([x[:step], operation(x[:-step], x[step:])])
        step *= 2
    return np.moveaxis(x, 0, axis)


def _accumulate(ufunc: np.ufunc) -> Callable[[Any, int], Any]:
    """Return the running result of a ufunc: NumPy's own, on other modules' arrays by doubling."""

    def function(x: Any, axis: int) -> Any:
        if module_of(x) is np:
            return ufunc.accumulate(x, axis=axis)
        return doubling(ufunc, x, axis)

    return function


def _running(
    name: str,
    reference: Callable[..., Any],
    *,
    doc: str,
    jvp: Callable[..., Any],
    transpose: Callable[..., Any] | None = None,
    identity: Callable[..., Any] | None = None,
    advance: Callable[..., Any] | None = None,
    associative: bool = True,
    factor: int | None = None,
    dtypes: str,
    samples: Samples = _SAMPLES,
) -> Primitive:
    """Declare a running result of one operand; `jvp(t, out, x, **params)`.

    `advance`, `identity`, `associative` and `factor` as in ir/primitive.py.
    """

    def differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
        return (jvp(tangents[0], outs[0], operands[0], **params),)

    def transpose_rule(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
        assert transpose is not None
        return (transpose(cts[0], **params),)

    def batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        shifted = {**params, "axis": params["axis"] + 1}
        return (bind_primitive(primitives[name], operands, shifted),), (True,)

    return library_op(
        name,
        reference,
        doc=doc,
        kind="cumulative",
        type_rule=_type,
        differentiate=differentiate,
        transpose=None if transpose is None else transpose_rule,
        batch=batch,
        identity=identity,
        advance=advance,
        associative=associative,
        factor=factor,
        dtypes=dtypes,
        samples=samples,
    )


# -------------------------------------------------------------------------- the linear recurrence


def _split(x: Any) -> tuple[Any, Any]:
    """Return (m, e) with x = m * 2**e and the larger part of m in [1/2, 1), or 0, inf or nan."""
    if x.dtype.kind != "c":
        mantissa, exponent = np.frexp(x)
        return mantissa, exponent.astype(np.int64)
    _, exponent = np.frexp(np.maximum(np.abs(x.real), np.abs(x.imag)))
    exponent = exponent.astype(np.int64)
    return _scaled(x, -exponent), exponent


def _scaled(x: Any, exponent: Any) -> Any:
    """Return x * 2**exponent, rounded at most once."""
    if x.dtype.kind != "c":
        return np.ldexp(x, exponent)
    result = np.empty_like(x)
    result.real, result.imag = np.ldexp(x.real, exponent), np.ldexp(x.imag, exponent)
    return result


def _recurrence_reference(a: Any, b: Any, *, axis: int, reverse: bool) -> Any:
    """Return the recurrence by doubling, ceil(log2 n) steps on whole arrays.

    After the step with distance d, y_i is the result of the last 2d terms alone and f_i the product
    of the last 2d factors; the pairs combine as (f, y) after (g, z) = (f g, f z + y), which is
    associative (Blelloch, "Prefix sums and their applications", 1990, section 1.4.1). Products of
    many factors leave the range of the type where no y_i does, so f is held as m * 2**e.
    """
    dtype = b.dtype
    if dtype.itemsize < 4:
        a, b = a.astype(np.float32), b.astype(np.float32)
    if reverse:
        a, b = np.flip(a, axis), np.flip(b, axis)
    y = np.moveaxis(b, axis, 0).copy()
    mantissa, exponent = _split(np.moveaxis(a, axis, 0))
    step = 1
    while step < y.shape[0]:
        y[step:] = y[step:] + _scaled(mantissa[step:] * y[:-step], exponent[step:])
        products, more = _split(mantissa[step:] * mantissa[:-step])
        exponent[step:] = exponent[step:] + exponent[:-step] + more
        mantissa[step:] = products
        step *= 2
    y = np.moveaxis(y, 0, axis)
    return (np.flip(y, axis) if reverse else y).astype(dtype)


def _recurrence_differentiate(
    outs: Any, operands: Any, tangents: Any, params: Any, mode: Any
) -> Any:
    # y_i = a_i y_(i-1) + b_i  =>  y'_i = a_i y'_(i-1) + (a'_i y_(i-1) + b'_i)
    a, _ = operands
    a_tangent, b_tangent = tangents
    total = b_tangent
    if a_tangent is not None:
        term = a_tangent * previous(outs[0], 0, **params)
        total = term if total is None else total + term
    return (linear_recurrence(a, total, **params),)


def _recurrence_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    # y = M b with M_ij = a_(j+1) ... a_i for j <= i, so that z = M' ct is a recurrence the other
    # way: z_j = ct_j + a_(j+1) z_(j+1).
    a, _ = operands
    assert not is_linear(a), "the recurrence is linear in b alone"
    opposite = {**params, "reverse": not params["reverse"]}
    following = previous(a, 0, **opposite)
    return (None, linear_recurrence(following, cts[0], **opposite))


def _recurrence_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    operands = [batch_to(x, m, size) for x, m in zip(operands, batched, strict=True)]
    shifted = {**params, "axis": params["axis"] + 1}
    return (bind_primitive(linear_recurrence, operands, shifted),), (True,)


linear_recurrence = library_op(
    "linear_recurrence",
    _recurrence_reference,
    doc="y_i = a_i y_(i-1) + b_i along `axis`, from y = 0; the first a is not used. Linear in b.",
    kind="cumulative",
    type_rule=_type,
    differentiate=_recurrence_differentiate,
    transpose=_recurrence_transpose,
    batch=_recurrence_batch,
    # One after the other: products of many factors would leave the range of the type.
    advance=lambda o, before, a, b: o.add(o.multiply(a, before), b),
    identity=lambda dtype: -dtype.type(0),
    factor=0,
    dtypes="fc",
    samples=_SAMPLES_OF_TWO,
)

# ------------------------------------------------------------------------------ sums and products

cumsum = _running(
    "cumsum",
    _along(lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype)),
    doc="Running sum along `axis`, in the operand's own type.",
    jvp=lambda t, out, x, **params: cumsum(t, **params),
    transpose=lambda ct, *, axis, reverse: cumsum(ct, axis=axis, reverse=not reverse),
    advance=lambda o, x, y: o.add(x, y),
    identity=lambda dtype: -dtype.type(0),  # -0.0 of floats, of complex numbers in both parts
    dtypes="iufc",
)

cumprod = _running(
    "cumprod",
    _along(lambda x, axis: np.cumprod(x, axis=axis, dtype=x.dtype)),
    doc="Running product along `axis`, in the operand's own type; derivatives exact beside zeros.",
    # y_i = x_i y_(i-1)  =>  y'_i = x_i y'_(i-1) + x'_i y_(i-1), with y before the first being 1
    jvp=lambda t, out, x, **params: linear_recurrence(x, t * previous(out, 1, **params), **params),
    advance=lambda o, before, x: o.multiply(before, x),
    identity=lambda dtype: dtype.type(1),
    # In another grouping 0 * inf could come of factors whose product, from the first, is 0.
    associative=False,
    factor=0,
    dtypes="iufc",
)

# ----------------------------------------------------------------------------------------- extrema


def _extremum_jvp(t: Any, out: Any, x: Any, **params: Any) -> Any:
    """The mean of the tangents of those elements, up to here, that equal the extremum up to here.

    Their sum and their number are recurrences that start anew (factor 0) where the extremum
    changes. Where it is NaN no element equals it, and the derivative is 0.
    """
    zero, one = x.dtype.type(0), x.dtype.type(1)
    winners = x == out
    goes_on = convert(out == previous(out, 0, **params), x.dtype)
    total = linear_recurrence(goes_on, where(winners, t, zero), **params)
    count = linear_recurrence(goes_on, convert(winners, x.dtype), **params)
    return total / where(count == 0, one, count)


cummax = _running(
    "cummax",
    _along(_accumulate(np.maximum)),
    doc="Largest element so far along `axis`, NaN from the first NaN on. Ties share the "
    "derivative.",
    jvp=_extremum_jvp,
    advance=lambda o, x, y: o.maximum(x, y),
    identity=lambda dtype: element_types.bound(dtype, -1),
    dtypes="biuf",
)

cummin = _running(
    "cummin",
    _along(_accumulate(np.minimum)),
    doc="Smallest element so far along `axis`, NaN from the first NaN on. Ties share the "
    "derivative.",
    jvp=_extremum_jvp,
    advance=lambda o, x, y: o.minimum(x, y),
    identity=lambda dtype: element_types.bound(dtype, 1),
    dtypes="biuf",
)


def _logsumexp_jvp(t: Any, out: Any, x: Any, **params: Any) -> Any:
    """y_i = log(exp(y_(i-1)) + exp(x_i)), so y'_i = s y'_(i-1) + (1 - s) x'_i, s in [0, 1].

    s = 1 / (1 + exp(x_i - y_(i-1))). Nothing but -inf so far has derivative 0; of two equal
    infinities each has the weight 1/2, as in logaddexp.
    """
    zero = x.dtype.type(0)
    before = previous(out, -np.inf, **params)
    tied = x == before
    difference = where(tied, zero, before - where(tied, zero, x))
    nothing = tied & (x == -np.inf)
    kept = where(nothing, zero, logistic(difference))
    added = where(nothing, zero, logistic(-difference))
    return linear_recurrence(kept, added * t, **params)


cumlogsumexp = _running(
    "cumlogsumexp",
    _along(_accumulate(np.logaddexp)),
    doc="log(sum(exp(x))) of the elements so far along `axis`, without overflow.",
    jvp=_logsumexp_jvp,
    advance=lambda o, x, y: o.math("logaddexp", x, y),
    identity=lambda dtype: element_types.bound(dtype, -1),
    dtypes="f",
)
