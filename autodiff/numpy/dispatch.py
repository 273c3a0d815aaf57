"""How one function serves plain arrays and traced values, and how NumPy's own calls reach it.

`array_function` turns a definition over traced values into a public function: called with a traced
value anywhere among its arguments it records; called with plain arrays it calls NumPy's (or CuPy's)
function of the same name. NumPy's functions and ufuncs met by a tracer arrive at the same
definition through `__array_function__` and `__array_ufunc__`; CuPy's through cupy_kernels.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np

from autodiff.base.array_modules import module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import Tracer
from autodiff.ir.primitive import Primitive, array_functions, methods

#: Public name to function: what `autodiff.numpy` offers.
public: dict[str, Callable[..., Any]] = {}


def has_tracer(values: Any) -> bool:
    """Return whether a traced value is among `values`, inside lists and tuples too."""
    for value in values:
        kind = type(value)
        if kind is Tracer or ((kind is list or kind is tuple) and has_tracer(value)):
            return True
    return False


def plain_module(values: Any) -> Any:
    """Return the module of the first array among plain `values`, NumPy if there is none."""
    for value in values:
        module = module_of(value)
        if module is None and isinstance(value, list | tuple):
            module = plain_module(value)
        if module is not None and module is not np:
            return module
    return np


def serving_both(definition: Callable[..., Any], plain: Any, name: str) -> Callable[..., Any]:
    """Return the function that records where an argument is traced, else calls `plain`.

    CuPy arrays go to CuPy's function of the same name, or to the definition where it has none.
    """

    @wraps(definition)
    def function(*args: Any, **kwargs: Any) -> Any:
        if plain is None or has_tracer(args) or (kwargs and has_tracer(kwargs.values())):
            return definition(*args, **kwargs)
        module = plain_module(args)
        if module is np:
            return plain(*args, **kwargs)
        return getattr(module, plain.__name__, definition)(*args, **kwargs)

    function.__name__ = name
    return function


def array_function(
    *numpy_functions: Any, method: str | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a definition over traced values as the recorded form of NumPy functions.

    The first of `numpy_functions` is what plain arrays are given to; none means that the definition
    itself serves plain arrays. `method`: also a method of that name of traced values.
    """

    def decorate(definition: Callable[..., Any]) -> Callable[..., Any]:
        public_name = name or definition.__name__.rstrip("_")
        function = serving_both(
            definition, numpy_functions[0] if numpy_functions else None, public_name
        )
        for numpy_function in numpy_functions:
            array_functions[numpy_function] = definition
        if method is not None:
            methods[method] = definition
        public[public_name] = function
        return function

    return decorate


def primitive_function(primitive: Primitive) -> Callable[..., Any]:
    """Return the public function of an elementwise primitive.

    Traced operands are recorded, plain ones are given to the reference implementation.
    """
    plain = primitive.numpy[0] if primitive.numpy else primitive.reference

    def function(*operands: Any, **params: Any) -> Any:
        if has_tracer(operands):
            return primitive(*map(as_operand, operands), **params)
        return plain(*operands, **params)

    function.__name__ = function.__qualname__ = primitive.public or primitive.name
    function.__doc__ = f"{primitive.doc} Works elementwise, operands broadcast."
    return function


def as_operand(value: Any) -> Any:
    """Return lists and tuples as arrays (stacked if they hold traced values), others unchanged."""
    if isinstance(value, list | tuple):
        return array_functions["asarray"](value)
    return value


def _unsupported(what: str, keywords: Any) -> TypeError:
    return TypeError(
        message(
            what,
            "on traced values these keywords are not supported",
            ", ".join(f"{k}" for k in keywords),
            line=user_line(),
            fix="leave them out; for where= use autodiff.numpy.where, for dtype= use .astype.",
        )
    )


def ufunc_on_tracers(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: Any) -> Any:
    """Record a NumPy ufunc (or its reduce, accumulate, outer) that met a traced value."""
    out = kwargs.pop("out", None)
    dtype = kwargs.pop("dtype", None)
    if out is not None and any(x is not None for x in out):
        target = out[0]
        if type(target) is not Tracer or len(out) != 1:
            raise TypeError(
                message(
                    ufunc.__name__,
                    "a traced value cannot be written into a plain array",
                    f"out of type {type(target).__name__}",
                    line=user_line(),
                    fix="write x = x + y in place of x += y or out=x, or start from a traced array "
                    "(autodiff.numpy.asarray, zeros_like of an argument).",
                )
            )
        result = ufunc_on_tracers(ufunc, method, inputs, kwargs)
        return target.replace_by(result.astype(target.dtype))
    if method == "__call__":
        recorded = array_functions.get(ufunc)
        if recorded is None:
            raise TypeError(
                message(
                    ufunc.__name__,
                    "the ufunc is not among those that can be traced",
                    line=user_line(),
                    fix="write it with functions of autodiff.numpy (dir(autodiff.numpy)).",
                )
            )
        if kwargs and isinstance(recorded, Primitive):
            raise _unsupported(ufunc.__name__, kwargs)
        operands = [as_operand(value) for value in inputs]
        if dtype is not None:
            operands = [array_functions["asarray"](x).astype(dtype) for x in operands]
        return recorded(*operands, **kwargs)
    recorded = array_functions.get((ufunc, method))
    if recorded is None:
        raise TypeError(
            message(
                f"{ufunc.__name__}.{method}",
                "the ufunc's method is not among those that can be traced",
                line=user_line(),
                fix="use the function of autodiff.numpy that does the same (sum, prod, cumsum).",
            )
        )
    if dtype is not None:
        kwargs["dtype"] = dtype
    return recorded(*inputs, **kwargs)


array_functions["ufunc"] = ufunc_on_tracers


def recorded_as(key: Any, definition: Callable[..., Any], **fixed: Any) -> None:
    """Enter a definition (with fixed keywords) as the recorded form of one more NumPy callable."""
    array_functions[key] = partial(definition, **fixed) if fixed else definition
