"""How CuPy's kernels that meet a traced value are recorded.

CuPy asks the arguments of its ufuncs, elementwise kernels and built-in reductions for hooks
(`__cupy_override_elementwise_kernel__`, `__cupy_override_reduction_kernel__`), which lead here.
A function of CuPy's is recorded as the function of NumPy or SciPy whose place it takes; a kernel
that the user has written is recorded by its text (kernel_expressions.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS, type_of
from autodiff.ir.builder import Tracer
from autodiff.ir.primitive import array_functions
from autodiff.numpy.dispatch import ufunc_on_tracers
from autodiff.numpy.kernel_expressions import (
    Raw,
    Scalar,
    Unreadable,
    mentions,
    recorded_kernel,
)
from autodiff.primitives.families import broadcast_to, convert

_WRITE_IT = "write it with functions of autodiff.numpy."
_RULES = (
    "make it an operation with rules of its own by ad.primitive, or call it without derivatives "
    "by ad.pure_callback."
)


def _recorded(kernel: Any) -> Callable[..., Any] | None:
    """Return what records a kernel: that of the function of NumPy or SciPy whose place it takes.

    CuPy's public functions are looked for themselves, since the names of some kernels are not
    theirs; what lies behind a public function is looked for by its name.
    """
    names = [
        name for name, value in vars(sys.modules.get("cupy", object)).items() if value is kernel
    ]
    name = getattr(kernel, "name", "")
    if name.startswith("cupy_"):
        names.append(name.removeprefix("cupy_"))
    functions = [getattr(np, name, None) for name in names]
    for function in functions:
        recorded = array_functions.get(function) if function is not None else None
        if recorded is not None:
            return partial(_record_ufunc, function) if isinstance(function, np.ufunc) else recorded
    special = array_functions["special namespace"]
    for name, value in vars(sys.modules.get("cupyx.scipy.special", object)).items():
        if value is kernel and name in special.__all__:
            return getattr(special, name)
        if value is kernel and isinstance(ufunc := getattr(np, name, None), np.ufunc):
            return partial(_record_ufunc, ufunc)
    return None


def _record_ufunc(ufunc: np.ufunc, *operands: Any, **keywords: Any) -> Any:
    return ufunc_on_tracers(ufunc, "__call__", operands, keywords)


def cupy_elementwise_on_tracers(kernel: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Record a CuPy ufunc or elementwise kernel that met a traced value.

    Raises:
        TypeError: it has no namesake that can be traced, nor a text that can be read; or traced
            values are to be written into a plain array.
    """
    if hasattr(kernel, "operation"):
        return _kernel_on_tracers(kernel, args)  # CuPy keeps the keywords to itself
    recorded = _recorded(kernel)
    if recorded is None:
        raise TypeError(
            message(
                _name_of(kernel),
                "the kernel is not among those that can be traced",
                line=user_line(),
                fix=_WRITE_IT,
            )
        )
    out = kwargs.pop("out", None)
    count = getattr(kernel, "nin", len(args))
    result = recorded(*args[:count], **kwargs)
    given = args[count:] if out is None else out if isinstance(out, tuple) else (out,)
    targets = [target for target in given if target is not None]
    if not targets:
        return result
    values = result if isinstance(result, tuple) else (result,)
    written = [_written(_name_of(kernel), *pair) for pair in zip(values, targets, strict=True)]
    return written[0] if len(written) == 1 else tuple(written)


def _name_of(kernel: Any) -> str:
    return f"cupy.{getattr(kernel, 'name', '').removeprefix('cupy_')}"


def _written(name: str, value: Any, target: Any) -> Any:
    """Let a traced value be `value` from here on, as an array that is written into."""
    if type(target) is not Tracer:
        raise TypeError(
            message(
                name,
                "a traced value cannot be written into a plain array",
                f"an output of type {type(target).__name__}",
                line=user_line(),
                fix="use what the call returns in place of the array that it writes into.",
            )
        )
    return target.replace_by(broadcast_to(convert(value, target.dtype), target.shape))


# -------------------------------------------------------------------------- kernels of the user's


def _kernel_on_tracers(kernel: Any, args: tuple[Any, ...]) -> Any:
    """Record a `cupy.ElementwiseKernel` by its text, which is compiled for no device."""
    try:
        return _recorded_by_text(kernel, args)
    except Unreadable as error:
        reason = str(error)
    raise TypeError(
        message(
            f"cupy.ElementwiseKernel {kernel.name!r}",
            f"on traced values the text must be one of scalar expressions; {reason}",
            line=user_line(),
            fix=f"{_WRITE_IT.removesuffix('.')}, {_RULES}",
        )
    )


def _recorded_by_text(kernel: Any, args: tuple[Any, ...]) -> Any:
    if kernel.preamble.strip():
        raise Unreadable("it has a preamble")
    if kernel.kwargs:
        raise Unreadable(f"it has the options {', '.join(sorted(kernel.kwargs))}")
    parameters = (*kernel.in_params, *kernel.out_params)
    given = dict(zip([p.name for p in parameters], args, strict=False))
    outputs = args[kernel.nin :]
    if outputs and len(outputs) < kernel.nout:
        raise Unreadable("some of its outputs are given and some are not")
    types = _type_parameters(kernel, given)
    whole = [given[p.name] for p in parameters if p.name in given and not p.raw]
    if not whole:
        raise Unreadable("all of its inputs are raw, and CuPy does not tell the size")
    shape = np.broadcast_shapes(*[type_of(x).shape for x in whole])
    if any(p.raw for p in kernel.out_params):
        raise Unreadable("it has an output that is raw")
    inputs: dict[str, Scalar | Raw] = {}
    if mentions(kernel.operation, "i"):
        inputs["i"] = _element_number(shape)
    for p in kernel.in_params:
        dtype = p.dtype if p.dtype is not None else types[p.ctype]
        value = given[p.name]
        if type(value) in PYTHON_SCALARS:
            value = np.asarray(value).astype(dtype)[()]
        value = convert(value, dtype)
        inputs[p.name] = Raw(np.ravel(value), dtype) if p.raw else Scalar(value, dtype)
    declared: dict[str, Scalar | np.dtype] = {}
    for k, p in enumerate(kernel.out_params):
        dtype = np.dtype(p.dtype if p.dtype is not None else types[p.ctype])
        declared[p.name] = Scalar(convert(outputs[k], dtype), dtype) if outputs else dtype
    found = recorded_kernel(kernel.operation, inputs, declared, types)
    results = [broadcast_to(x, shape) for x in found]
    if outputs:
        results = [
            _written(kernel.name, x, target) for x, target in zip(results, outputs, strict=True)
        ]
    if kernel.nout == 1 and not kernel.return_tuple:
        return results[0]
    return tuple(results)


def _element_number(shape: tuple[int, ...]) -> Scalar:
    numbers = np.arange(int(np.prod(shape)), dtype=np.int64)
    return Scalar(numbers.reshape(shape), numbers.dtype)


def _type_parameters(kernel: Any, given: Mapping[str, Any]) -> dict[str, np.dtype]:
    """Return the element types that a kernel's text calls by names, as CuPy finds them.

    Arrays decide, and must be of the types that the kernel declares; numbers take what is decided.
    """
    types: dict[str, np.dtype] = {}
    numbers: list[Any] = []
    for p in (*kernel.in_params, *kernel.out_params):
        if p.name not in given:
            continue
        value = given[p.name]
        if type(value) in PYTHON_SCALARS or isinstance(value, np.generic):
            numbers.append((p, value))
            continue
        dtype = type_of(value).dtype
        wanted = p.dtype if p.dtype is not None else types.setdefault(p.ctype, dtype)
        if wanted != dtype:
            raise Unreadable(f"`{p.name}` must be of type {np.dtype(wanted)}, got {dtype}")
    for p, value in numbers:
        if p.dtype is None:
            types.setdefault(p.ctype, type_of(value).dtype)
    for p in kernel.out_params:
        if p.dtype is None and p.ctype not in types:
            raise Unreadable(f"no input gives the type {p.ctype} of `{p.name}`")
    return types


# ------------------------------------------------------------------------------------- reductions


def cupy_reduction_on_tracers(
    x: Any, kernel: Any, axis: Any, dtype: Any, out: Any, keepdims: bool
) -> Any:
    """Record a CuPy reduction that met a traced value, by NumPy's function of the same name.

    Raises:
        TypeError: the function cannot be traced; or traced values are to be written into a plain
            array.
    """
    recorded = _recorded(kernel)
    if recorded is None:
        raise TypeError(
            message(
                _name_of(kernel),
                "the reduction is not among those that can be traced",
                line=user_line(),
                fix=_WRITE_IT,
            )
        )
    kwargs = {"axis": axis, "keepdims": keepdims}
    if dtype is not None and "dtype" in signature(recorded).parameters:
        kwargs["dtype"] = dtype
    elif dtype is not None:
        x = x.astype(dtype)
    result = recorded(x, **kwargs)
    return result if out is None else _written(_name_of(kernel), result, out)


array_functions["cupy elementwise"] = cupy_elementwise_on_tracers
array_functions["cupy reduction"] = cupy_reduction_on_tracers
