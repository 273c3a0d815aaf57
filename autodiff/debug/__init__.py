"""Looking into programs while they run: `debug.print` and `debug.callback`.

Both may stand anywhere in a function that is transformed. They act when the program runs, in the
order in which they are written, once for each time that they are reached:

- outside of traced functions they act at once;
- in `jit` at every call, in the body of a loop in every iteration, in the branch of a `cond` when
  it is taken (if the predicate is mapped, both branches run for all examples);
- under `jvp`, `grad`, `vjp` and the like with the function's own values, not with their
  derivatives; a value that Python asks for (`if x > 0`) does not make them act twice;
- under `vmap` once for each example, the examples of one statement in order, if an argument
  depends on the example, else once;
- in the transpose of a linear function, which has no values, not at all: so in reverse mode not on
  the tangents that a rule of `custom_jvp` is given.

They belong to the function in which they stand: while it is traced they only are recorded, even if
nothing that they are given depends on a traced value.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.api.callbacks import host_call
from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import Tracer, bind_effect
from autodiff.primitives.callbacks import debug_callback, debug_print

__all__ = ["callback", "print"]


@dataclass(frozen=True, slots=True)
class _Printer:
    """Prints its arguments by a format; equal to another of the same format."""

    fmt: str

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        builtins.print(self.fmt.format(*args, **kwargs))

    def __repr__(self) -> str:
        return repr(self.fmt)


def print(fmt: str, /, *args: Any, **kwargs: Any) -> None:
    """Print `fmt.format(*args, **kwargs)` to `sys.stdout` each time the program gets there.

    Args:
        fmt: a format as of `str.format`, such as "loss {:.3f}" or "{x} has shape {x.shape}".
        args, kwargs: pytrees of arrays, traced or not; texts and other objects are handed on.

    Raises:
        ValueError: the format does not fit the arguments.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> def f(x):
    ...     y = x * x
    ...     ad.debug.print("x={} y={y:.2f}", x, y=y)
    ...     return y
    >>> ad.grad(f)(3.0)
    x=3.0 y=9.00
    array(6.)
    >>> ad.vmap(f)(np.array([1.0, 2.0]))
    x=1.0 y=1.00
    x=2.0 y=4.00
    array([1., 4.])
    """
    if not isinstance(fmt, str):
        raise TypeError(
            message(
                "debug.print",
                "the first argument must be a format",
                f"fmt={fmt!r} of type {type(fmt).__name__}",
                line=user_line(),
                fix='write debug.print("x = {}", x).',
            )
        )
    call, operands = host_call("debug.print", _Printer(fmt), args, kwargs)
    _check_format(fmt, args, kwargs)
    bind_effect(debug_print, operands, {"call": call, "mapped": ()})


def _check_format(fmt: str, args: Any, kwargs: Any) -> None:
    """Raise now if the format cannot be filled in later; zeros stand for what is traced."""
    args, kwargs = pytree.map(
        lambda x: np.broadcast_to(x.dtype.type(0), x.shape) if type(x) is Tracer else x,
        (args, kwargs),
    )
    try:
        fmt.format(*args, **kwargs)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            message(
                "debug.print",
                "the format must fit the arguments",
                f"fmt={fmt!r} ({type(error).__name__}: {error})",
                line=user_line(),
                fix="give one argument for each {} and one keyword for each {name}; a format such "
                "as {:.3f} takes scalars only.",
            )
        ) from error


def callback(fun: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
    """Call `fun(*args, **kwargs)` each time the program gets there; its result is ignored.

    Args:
        fun: is given the arguments with an array (0-d ones included) in place of every number, on
            the device where it is: NumPy's on the CPU, CuPy's on the GPU. The arrays are its own to
            keep and to write into. What it raises leaves the program.
        args, kwargs: pytrees of arrays, traced or not; texts and other objects are handed on.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> seen = []
    >>> def f(x):
    ...     ad.debug.callback(seen.append, np.sin(x))
    ...     return x * x
    >>> ad.jit(ad.grad(f))(0.0)
    array(0.)
    >>> seen
    [array(0.)]
    """
    call, operands = host_call("debug.callback", fun, args, kwargs)
    bind_effect(debug_callback, operands, {"call": call, "mapped": ()})
