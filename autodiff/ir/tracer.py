"""The tracer: it stands for a value while a function is traced, and behaves as its array would."""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from autodiff.base.callers import called_math_function, stores_item
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType
from autodiff.ir.graph import NO_PARAMS, Var
from autodiff.ir.primitive import Primitive, array_functions, methods, properties

if TYPE_CHECKING:
    from autodiff.ir.builder import Trace


class ViewLink:
    """Ties a tracer to those that would share its memory as arrays, to refuse unsafe writes.

    `root` is the tracer this is a view of (None: it is a root), `views` are the views of a root.
    `index` is what the root was indexed by, where that is how the view was made.
    """

    __slots__ = ("index", "root", "views")

    def __init__(self, root: ref[Tracer] | None) -> None:
        self.root = root
        self.views: list[ref[Tracer]] = []
        self.index: Any = None

    def is_view_of(self, tracer: Tracer) -> bool:
        """Return whether this belongs to a view whose root is `tracer`."""
        return self.root is not None and self.root() is tracer


def is_same_index(one: Any, other: Any) -> bool:
    """Return whether two indices are one object, or slices between the same objects.

    An augmented assignment reads and writes by the same index; from Python 3.12 on a slice is made
    twice from its parts.
    """
    if type(one) is slice and type(other) is slice:
        return one.start is other.start and one.stop is other.stop and one.step is other.step
    return one is other


class Tracer:
    """A value being traced: behaves as an array of its shape and dtype and records what is done.

    It is one of `ad`'s transformations' stand-ins for an argument; operators, NumPy functions and
    array methods on it append equations to its trace.
    """

    __slots__ = ("__weakref__", "link", "recording", "variable")

    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(self, recording: Trace, variable: Var) -> None:
        self.recording = recording
        self.variable = variable
        self.link: ViewLink | None = None

    @property
    def aval(self) -> ArrayType:
        """The type of the value."""
        return self.variable.aval

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as of the array this stands for."""
        return self.variable.aval.shape

    @property
    def dtype(self) -> np.dtype:
        """The element type, as of the array this stands for."""
        return self.variable.aval.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.variable.aval.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.variable.aval.size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.variable.aval.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.itemsize * self.size

    def __repr__(self) -> str:
        values = self.recording.values
        known = f", value={values[self.variable]!r}" if values and self.variable in values else ""
        return f"<traced {self.variable.aval} of {self.recording.name}{known}>"

    def __getattr__(self, name: str) -> Any:
        function = methods.get(name)
        if function is not None:
            return function.__get__(self)
        computed = properties.get(name)
        if computed is not None:
            return computed(self)
        raise AttributeError(
            f"A traced array has no attribute {name!r}; arrays' methods that it has are: "
            f"{', '.join(sorted([*methods, *properties]))}."
            if not name.startswith("_")
            else name
        )

    # Python's questions about the value.

    def _value(self, asked: str) -> Any:
        return self.recording.value_of(self, asked)

    def __bool__(self) -> bool:
        return bool(self._value("bool"))

    def __float__(self) -> float:
        self._refuse_silent_constant(sys._getframe(1))
        return float(self._value("float"))

    def __int__(self) -> int:
        self._refuse_silent_constant(sys._getframe(1))
        return int(self._value("int"))

    def __complex__(self) -> complex:
        self._refuse_silent_constant(sys._getframe(1))
        return complex(self._value("complex"))

    def _refuse_silent_constant(self, frame: FrameType) -> None:
        """Raise where NumPy or `math` asks for the number, so that a derivative would be lost."""
        if stores_item(frame):
            raise TypeError(
                message(
                    "assignment",
                    "a traced value cannot be written into a plain array",
                    f"value={self!r}",
                    line=user_line(),
                    fix="start from a traced array (autodiff.numpy.asarray of an argument), build "
                    "the array with autodiff.numpy.stack, or use ad.at(array)[index].set(value).",
                )
            )
        function = called_math_function(frame)
        if function is not None:
            raise TypeError(
                message(
                    function,
                    "functions of the standard library cannot be traced",
                    f"value={self!r}",
                    line=user_line(),
                    fix="use the function of numpy or autodiff.numpy, or float(x) if the value is "
                    "meant as a constant.",
                )
            )

    def __index__(self) -> int:
        return self._value("index").__index__()

    def item(self, *index: int) -> Any:
        """Return the value as a Python scalar (derivatives do not flow through it)."""
        return self._value("item").item(*index)

    def tolist(self) -> Any:
        """Return the value as nested lists (derivatives do not flow through them)."""
        return self._value("tolist").tolist()

    def __format__(self, specification: str) -> str:
        if not specification:
            return repr(self)
        return format(self._value("format"), specification)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            message(
                "numpy.array",
                "a traced value cannot be put into a plain NumPy array",
                f"value={self!r}",
                line=user_line(),
                fix="use autodiff.numpy.array / asarray / stack, which record it.",
            )
        )

    # The array protocols.

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        recorded = array_functions.get(ufunc)
        if type(recorded) is Primitive and method == "__call__" and not kwargs:
            return recorded.call(recorded, inputs, NO_PARAMS)  # type: ignore[misc]
        return array_functions["ufunc"](ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        recorded = array_functions.get(function)
        if recorded is None:
            name = f"{function.__module__}.{function.__name__}"
            raise TypeError(
                message(
                    name,
                    "the function is not among those that can be traced",
                    line=user_line(),
                    fix="write it with functions of autodiff.numpy (dir(autodiff.numpy)).",
                )
            )
        return recorded(*args, **kwargs)

    def __cupy_override_elementwise_kernel__(self, kernel: Any, *args: Any, **kwargs: Any) -> Any:
        return array_functions["cupy elementwise"](kernel, args, kwargs)

    def __cupy_override_reduction_kernel__(
        self, kernel: Any, axis: Any, dtype: Any, out: Any, keepdims: bool
    ) -> Any:
        return array_functions["cupy reduction"](self, kernel, axis, dtype, out, keepdims)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return array_functions["namespace"]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: the array must have an axis, got shape=().")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        result = methods["__getitem__"](self, index)
        link = result.link
        if link is not None and link.is_view_of(self):
            link.index = index
        return result

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    # Writing: recorded as a functional update, refused where a view would have to change too.

    def __setitem__(self, index: Any, value: Any) -> None:
        link = value.link if type(value) is Tracer else None
        if link is not None and is_same_index(link.index, index) and link.is_view_of(self):
            return  # the end of `x[index] += y`, which has written into x already
        self.check_writable("assignment")
        self._become(methods["__setitem__"](self, index, value))

    def replace_by(self, value: Any) -> Tracer:
        """Make this tracer stand for `value` from here on (what `x += y` does to an array).

        A view made by an index, the only one in use, writes through to the array it is a view of.
        """
        link = self.link
        root = link.root() if link is not None and link.root is not None else None
        if link is None or link.index is None or root is None:
            self.check_writable("in-place operation")
            self._become(value)
            return self
        root.check_writable("in-place operation", besides=self)
        self._become(value)
        root._become(methods["__setitem__"](root, link.index, self))
        return self

    def _become(self, value: Any) -> None:
        if type(value) is Tracer and value.recording.level > self.recording.level:
            raise ValueError(
                message(
                    "in-place operation",
                    f"a value traced by {value.recording.name} cannot be written into an array "
                    "from outside of it",
                    line=user_line(),
                    fix="bind a new name to the result: y = x + value.",
                )
            )
        atom = self.recording.capture(value)
        assert isinstance(atom, Var)
        self.variable = atom

    def check_writable(self, what: str, besides: Tracer | None = None) -> None:
        """Raise where an array's write would show through another traced value (but `besides`)."""
        link = self.link
        if link is None:
            return
        shared = link.root() if link.root is not None else None
        for view in link.views:
            other = view()
            if other is not None and other is not besides:
                shared = other
        if shared is not None:
            raise ValueError(
                message(
                    what,
                    "the array must not share memory with another traced value in use",
                    f"a {self.aval} that shares memory with a {shared.aval}",
                    line=user_line(),
                    fix="copy one of them first (x = x.copy()), or use x.at[index].set(value).",
                )
            )

    def linked_as_view(self, source: Tracer) -> Tracer:
        """Note that this is a view of `source`, as the arrays would be, and return it."""
        if source.link is None:
            source.link = ViewLink(None)
        origin = source.link.root() if source.link.root is not None else None
        origin = origin if origin is not None else source
        self.link = ViewLink(ref(origin))
        assert origin.link is not None
        origin.link.views.append(ref(self))
        return self
