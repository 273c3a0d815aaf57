"""Array types: what is known of a value before it is computed."""

from __future__ import annotations

from math import prod
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from autodiff.base import dtypes
from autodiff.base.array_modules import module_of

PYTHON_SCALARS = (bool, int, float, complex)

Shape = tuple[int, ...]

#: The size of an axis that is known only when the program runs: how often a `while` loop went round
#: (primitives/rows.py says what may be done with such arrays).
UNKNOWN = -1


_Key = tuple[Shape, Any, bool]

#: Every type in use. A weak dictionary answers slowly, so the types asked for of late stand in a
#: plain one before it.
_interned: WeakValueDictionary[_Key, ArrayType] = WeakValueDictionary()
_recent: dict[_Key, ArrayType] = {}
_RECENT_LIMIT = 20_000


class ArrayType:
    """Shape, element type and weakness of an array; equal types are one object.

    A weak type is that of a Python scalar: it takes the element type of what it meets.

    >>> array_type((2, 3), np.float32)
    float32[2,3]
    >>> array_type((2, 3), np.float32) is array_type((2, 3), np.dtype("float32"))
    True
    """

    __slots__ = ("__weakref__", "dtype", "ndim", "shape", "size", "weak")

    shape: Shape
    dtype: np.dtype
    weak: bool

    def __init__(self, shape: Shape, dtype: np.dtype, weak: bool) -> None:
        self.shape = shape
        self.dtype = dtype
        self.weak = weak
        self.ndim = len(shape)
        self.size = prod(shape)

    def __repr__(self) -> str:
        sizes = ["?" if size == UNKNOWN else str(size) for size in self.shape]
        axes = f"[{','.join(sizes)}]" if sizes else ""
        return f"{self.dtype.name}{axes}{'*' if self.weak else ''}"

    def __reduce__(self) -> Any:
        return array_type, (self.shape, self.dtype, self.weak)

    def __copy__(self) -> ArrayType:
        return self

    def __deepcopy__(self, memo: Any) -> ArrayType:
        return self

    @property
    def is_open(self) -> bool:
        """Whether the size of an axis is known only when the program runs."""
        return UNKNOWN in self.shape

    def fits(self, other: ArrayType) -> bool:
        """Return whether a value of `other` may stand where this is wanted; weakness aside."""
        if self.dtype != other.dtype or self.ndim != other.ndim:
            return False
        return self.shape == other.shape or all(
            mine == size or UNKNOWN in (mine, size)
            for mine, size in zip(self.shape, other.shape, strict=True)
        )

    @property
    def aval(self) -> ArrayType:
        """Itself: a type stands for a value of that type where only types matter."""
        return self

    def strong(self) -> ArrayType:
        """Return this type without weakness."""
        return array_type(self.shape, self.dtype) if self.weak else self


def array_type(shape: Shape, dtype: Any, weak: bool = False) -> ArrayType:
    """Return the one `ArrayType` of these fields; unsupported element types are a TypeError."""
    found = _recent.get((shape, dtype, weak))
    return _interned_type(shape, dtype, weak) if found is None else found


def _interned_type(shape: Shape, given: Any, weak: bool) -> ArrayType:
    dtype = np.dtype(given)
    key = (shape, dtype, weak)
    found = _interned.get(key)
    if found is None:
        if not dtype.isnative:
            raise TypeError(
                f"array: the byte order must be this machine's, got dtype={dtype.str!r}.\n"
                "To fix: convert it with x.astype(x.dtype.newbyteorder('='))."
            )
        dtypes.kind(dtype)
        found = _interned.setdefault(key, ArrayType(tuple(map(int, shape)), dtype, weak))
    if len(_recent) >= _RECENT_LIMIT:
        _recent.clear()
    _recent[shape, given, weak] = found
    return found


def type_of(value: Any) -> ArrayType:
    """Return the type of an array, array scalar or Python scalar; else a TypeError."""
    kind = type(value)
    if kind in PYTHON_SCALARS:
        return array_type((), dtypes.default_dtype(kind), kind is not bool)
    if module_of(value) is None:
        if hasattr(value, "aval"):
            return value.aval
        raise TypeError(
            f"array: a value must be an array or a number, got value={value!r} of type "
            f"{kind.__module__}.{kind.__qualname__}.\n"
            "To fix: convert it with numpy.asarray, or pass it where it is not traced "
            "(static_argnums, functools.partial)."
        )
    return array_type(value.shape, value.dtype)


def is_arraylike(value: Any) -> bool:
    """Return whether `value` is something a graph can compute on."""
    return type(value) in PYTHON_SCALARS or module_of(value) is not None or hasattr(value, "aval")
