"""The checks that the functions of `autodiff.random` share, and their error texts."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import is_arraylike, type_of

Shape = tuple[int, ...]


def fault(error: type[Exception], function: str, requirement: str, got: str, fix: str) -> Exception:
    """Return the exception with a text of the common form."""
    text = message(f"random.{function}", requirement, got, line=user_line(), fix=fix)
    return error(text)


def described(value: Any) -> str:
    """Return the type of an array, the text of anything else."""
    return repr(type_of(value)) if hasattr(value, "dtype") else repr(value)


def checked_key(function: str, key: Any) -> Any:
    """Return `key` if it is one key."""
    if not hasattr(key, "dtype") or key.dtype != np.uint32 or key.shape[-1:] != (2,):
        raise fault(
            TypeError,
            function,
            "key must be an array uint32[2]",
            f"key={described(key)}",
            "make it by autodiff.random.key(seed), split or fold_in.",
        )
    if key.ndim != 1:
        raise fault(
            ValueError,
            function,
            "key must be one key, of shape (2,)",
            f"key={described(key)}",
            "map over the keys with autodiff.vmap, or take one of them (keys[0]).",
        )
    return key


def checked_shape(function: str, shape: Any, name: str = "shape") -> Shape:
    """Return a shape as a tuple of ints."""
    try:
        sizes = tuple([index(size) for size in shape])
    except TypeError:
        raise fault(
            TypeError,
            function,
            f"{name} must be a tuple of integers",
            f"{name}={described(shape)}",
            f"write {name}=(n,) for n numbers; a traced size cannot determine a shape.",
        ) from None
    if any(size < 0 for size in sizes):
        raise fault(
            ValueError,
            function,
            f"{name} must have no negative size",
            f"{name}={sizes}",
            "give the number of elements along each axis.",
        )
    return sizes


def default_integer(unsigned: bool = False) -> np.dtype:
    """Return the integer type that goes with the default float."""
    bits = 8 * dtypes.default_float().itemsize
    return np.dtype(f"{'uint' if unsigned else 'int'}{bits}")


def checked_dtype(function: str, dtype: Any, kinds: str, default: np.dtype) -> np.dtype:
    """Return `dtype`, or `default` for None, which must be of one of `kinds`."""
    chosen = default if dtype is None else np.dtype(dtype)
    if dtypes.kind(chosen) not in kinds:
        wanted = {
            "f": "a real floating type",
            "fc": "a floating or complex type",
            "iu": "an integer type",
            "u": "an unsigned integer type",
        }[kinds]
        raise fault(
            TypeError,
            function,
            f"dtype must be {wanted}",
            f"dtype={chosen}",
            f"pass dtype={default.name!r}, for example, or convert the result with .astype.",
        )
    return chosen


def checked_number(function: str, name: str, value: Any, kinds: str) -> Any:
    """Return a parameter that is a number or an array of the given kinds, as an array."""
    value = np.asarray(value) if isinstance(value, list | tuple) else value
    if not is_arraylike(value) or dtypes.kind(type_of(value).dtype) not in kinds:
        wanted = {"iu": "an integer", "f": "a float", "biuf": "a real number"}[kinds]
        raise fault(
            TypeError,
            function,
            f"{name} must be {wanted} or an array of them",
            f"{name}={described(value)}",
            f"pass {wanted}, or an array converted with .astype.",
        )
    return value


def checked_broadcast(function: str, shape: Any, parameters: dict[str, Any]) -> Shape:
    """Return the shape of the result: `shape`, to which the parameters must broadcast.

    None stands for the shape of the parameters broadcast together.
    """
    shapes = {name: type_of(value).shape for name, value in parameters.items()}
    got = ", ".join(f"{name}.shape={size}" for name, size in shapes.items())
    result = None if shape is None else checked_shape(function, shape)
    try:
        common = np.broadcast_shapes(*shapes.values())
        if result is None:
            return common
        fits = np.broadcast_shapes(common, result) == result
    except ValueError:
        fits = False
    if result is None or not fits:
        raise fault(
            ValueError,
            function,
            "the parameters must broadcast to the shape of the result",
            got if result is None else f"shape={result}, {got}",
            "leave out shape, or give one that ends in the parameters' axes.",
        )
    return result


def checked_choice(function: str, name: str, value: str, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise fault(
            ValueError,
            function,
            f"{name} must be one of {', '.join(map(repr, choices))}",
            f"{name}={value!r}",
            f"leave {name} out for the first of them.",
        )
    return value


def checked_axis(function: str, axis: int, ndim: int) -> int:
    """Return `axis` counted from the front."""
    if not -ndim <= axis < ndim:
        raise fault(
            ValueError,
            function,
            f"axis must be one of the {ndim} axes of the array",
            f"axis={axis}",
            f"give a number from {-ndim} to {ndim - 1}.",
        )
    return axis % ndim
