"""Policies of `checkpoint`: which values the reverse sweep finds saved, which it computes again.

A policy is a function `(primitive, avals, params) -> bool`: whether results of this operation, on
operands of these types, with these parameters, may be saved. Any such function will do.

>>> import numpy as np
>>> from autodiff import checkpoint, checkpoint_policies, grad
>>> f = checkpoint(lambda x: np.sin(np.sin(x)), policy=checkpoint_policies.everything_saveable)
>>> grad(f)(1.0)
array(0.36003949)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType
from autodiff.ir.graph import Params
from autodiff.ir.primitive import Primitive, primitives

__all__ = [
    "dots_saveable",
    "everything_saveable",
    "matmuls_saveable",
    "nothing_saveable",
    "save_anything_except_these_names",
    "save_only_these_names",
]


def everything_saveable(primitive: Primitive, avals: tuple[ArrayType, ...], params: Params) -> bool:
    """Return True: nothing is computed again, as without `checkpoint`."""
    return True


def nothing_saveable(primitive: Primitive, avals: tuple[ArrayType, ...], params: Params) -> bool:
    """Return False: only the function's arguments are kept. The default of `checkpoint`."""
    return False


def matmuls_saveable(primitive: Primitive, avals: tuple[ArrayType, ...], params: Params) -> bool:
    """Return whether the operation multiplies matrices (`@`, `dot`, `tensordot`, `einsum`, ...).

    Products cost far more time than memory: they are kept, and the cheap elementwise operations
    between them are repeated.
    """
    return primitive is primitives["dot_general"]


dots_saveable = matmuls_saveable


@dataclass(frozen=True, slots=True)
class _OnlyNames:
    names: frozenset[str]

    def __call__(self, primitive: Primitive, avals: tuple[ArrayType, ...], params: Params) -> bool:
        return primitive is primitives["checkpoint_name"] and params["label"] in self.names


@dataclass(frozen=True, slots=True)
class _AllButNames:
    excluded_names: frozenset[str]

    def __call__(self, primitive: Primitive, avals: tuple[ArrayType, ...], params: Params) -> bool:
        named = primitive is primitives["checkpoint_name"]
        return not (named and params["label"] in self.excluded_names)


def save_only_these_names(*names: str) -> Any:
    """Return the policy that saves the values marked by `checkpoint_name` with one of `names`.

    Raises:
        TypeError: a name is not a string.

    >>> import numpy as np
    >>> from autodiff import checkpoint, checkpoint_name, grad
    >>> def f(x):
    ...     y = checkpoint_name(np.sin(x), "sine")
    ...     return np.exp(y) * y
    >>> grad(checkpoint(f, policy=save_only_these_names("sine")))(1.0)
    array(2.30806432)
    """
    return _OnlyNames(_checked("save_only_these_names", names))


def save_anything_except_these_names(*names: str) -> Any:
    """Return the policy that saves every value but those marked with one of `names`.

    Raises:
        TypeError: a name is not a string.
    """
    return _AllButNames(_checked("save_anything_except_these_names", names))


def _checked(function: str, names: tuple[Any, ...]) -> frozenset[str]:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                message(
                    function,
                    "names must be strings",
                    f"names={names!r}",
                    line=user_line(),
                    fix=f'give them one by one: {function}("a", "b").',
                )
            )
    return frozenset(names)
