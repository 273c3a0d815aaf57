"""Tracing: the trace that records equations, and the tracer that stands for a value in it.

An operation goes to the innermost trace among its operands; a tracer of an outer trace, like an
array, is captured as a constant of the inner graph. Nested transformations and closures need
nothing else, and cannot confuse one derivative with another.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import count
from types import FrameType
from typing import Any
from weakref import ref

import numpy as np

from autodiff.base.callers import called_math_function, stores_item
from autodiff.base.dtypes import default_dtype
from autodiff.base.errors import ConcretizationError, LeakedTracerError, message
from autodiff.base.source_info import SourceLine, user_line
from autodiff.ir.avals import PYTHON_SCALARS, ArrayType, type_of
from autodiff.ir.evaluate import evaluate_equations, read
from autodiff.ir.graph import (
    Atom,
    Eqn,
    Graph,
    Literal,
    Params,
    StructuralKey,
    Var,
    is_repeated_scalar,
    make_graph,
)
from autodiff.ir.graph import params_key as hashable
from autodiff.ir.primitive import (
    Primitive,
    array_functions,
    methods,
    properties,
    set_binder,
)

_levels = count()


class Trace:
    """One recording in progress.

    `values` maps variables to values where inputs have them (None inside `jit` and `vmap`), so that
    Python may ask for one. `inline_literals` keeps scalars in the structure; otherwise they are
    constants, so that a number that changes from call to call does not change the structure.
    `inline_arrays` keeps arrays in the structure too: for passes, whose rules make only small ones.
    `source` is the user's line of what a pass is recording; `with_source` looks it up on the stack.
    """

    __slots__ = (
        "captured",
        "closed",
        "constants",
        "eqns",
        "evaluated",
        "inline_arrays",
        "inline_literals",
        "inputs",
        "keys",
        "level",
        "name",
        "next_index",
        "source",
        "values",
        "with_source",
    )

    def __init__(
        self,
        name: str,
        *,
        concrete: bool = False,
        inline_literals: bool = True,
        inline_arrays: bool = False,
        with_source: bool = False,
    ) -> None:
        self.name = name
        self.level = next(_levels)
        self.inputs: list[Var] = []
        self.constants: dict[Var, Any] = {}
        self.captured: dict[int, tuple[Var, Any]] = {}
        self.eqns: list[Eqn] = []
        self.keys: list[Any] = []
        self.next_index = 0
        self.values: dict[Var, Any] | None = {} if concrete else None
        self.evaluated = 0
        self.closed = False
        self.inline_literals = inline_literals
        self.inline_arrays = inline_arrays
        self.with_source = with_source
        self.source: SourceLine | None = None

    def new_var(self, aval: ArrayType) -> Var:
        """Return the next variable of this trace."""
        index = self.next_index
        self.next_index = index + 1
        return Var(aval, index)

    def input(self, aval: ArrayType, value: Any = None) -> Tracer:
        """Return a tracer for a new input; `value` is kept if this trace has values."""
        var = self.new_var(aval)
        self.inputs.append(var)
        if self.values is not None:
            self.values[var] = value
        return Tracer(self, var)

    def capture(self, value: Any) -> Atom:
        """Return the atom that stands for a value from outside this trace."""
        if type(value) is Tracer:
            if value.trace is self:
                return value.var
            if value.trace.closed:
                raise leaked(value)
            known = self.captured.get(id(value.var))
            if known is not None:
                return known[0]
            var = self._constant(value.aval, value)
            self.captured[id(value.var)] = (var, value)
            return var
        if type(value) is Literal:
            return value
        if type(value) in PYTHON_SCALARS:
            value = default_dtype(type(value)).type(value)
        if isinstance(value, np.generic):
            if self.inline_literals:
                return Literal(value)
            return self._constant(type_of(value), value)
        if type(value) is np.ndarray and (
            self.inline_arrays or (is_repeated_scalar(value) and not value.flags.writeable)
        ):
            return Literal(value)
        return self._capture_array(value)

    def _capture_array(self, value: Any) -> Atom:
        """Capture an array as it is now: what the caller writes into it later is not seen."""
        known = self.captured.get(id(value))
        if known is not None and _same_content(self.constants[known[0]], value):
            return known[0]
        var = self._constant(type_of(value), value.copy() if _is_writable(value) else value)
        self.captured[id(value)] = (var, value)
        return var

    def _constant(self, aval: ArrayType, value: Any) -> Var:
        var = self.new_var(aval)
        self.constants[var] = value
        if self.values is not None:
            self.values[var] = value
        return var

    def emit(
        self,
        primitive: Primitive,
        atoms: tuple[Atom, ...],
        params: Params,
        types: tuple[ArrayType, ...],
        source: SourceLine | None,
    ) -> tuple[Var, ...]:
        """Append an equation whose types are already known; return its outputs."""
        self.keys.append(
            (
                primitive,
                hashable(params) if params else None,
                types[0].weak if types else None,
                *[atom.index if type(atom) is Var else atom for atom in atoms],
            )
        )
        index = self.next_index
        if len(types) == 1:
            outputs: tuple[Var, ...] = (Var(types[0], index),)
        else:
            outputs = tuple([Var(aval, index + i) for i, aval in enumerate(types)])
        self.next_index = index + len(outputs)
        self.eqns.append(Eqn(primitive, atoms, params, outputs, source))
        return outputs

    def value_of(self, tracer: Tracer, asked: str) -> Any:
        """Return the value of a tracer, running what was recorded since the last question."""
        values = self.values
        if values is None:
            raise ConcretizationError(
                message(
                    asked,
                    f"a concrete value is needed, but this {tracer.aval} is traced by {self.name}, "
                    "where it has none",
                    line=user_line(),
                    fix="use autodiff.numpy.where or a control-flow function in place of Python "
                    "control flow on values, or make the argument static (static_argnums).",
                )
            )
        if tracer.var not in values:
            if self.closed:
                raise leaked(tracer)
            pending = self.eqns[self.evaluated :]
            self.evaluated = len(self.eqns)
            with np.errstate(all="ignore"):
                evaluate_equations(pending, values)
        return values[tracer.var]

    def finish(self, outputs: Sequence[Any]) -> tuple[Graph, list[Any]]:
        """Close the trace; return its graph and the values of the graph's constants."""
        atoms = [self.capture(value) for value in outputs]
        self.closed = True
        key = StructuralKey(
            (
                tuple([var.aval for var in self.inputs]),
                tuple([(var.index, var.aval) for var in self.constants]),
                tuple(self.keys),
                tuple([atom.index if type(atom) is Var else atom for atom in atoms]),
            )
        )
        graph = make_graph(self.inputs, tuple(self.constants), self.eqns, atoms, key)
        constants = list(self.constants.values())
        return graph, constants

    def abandon(self) -> None:
        """Close the trace without a graph, so that nothing it made can be used again."""
        self.closed = True


def _is_writable(value: Any) -> bool:
    flags = getattr(value, "flags", None)
    return bool(getattr(flags, "writeable", True))


def _same_content(kept: Any, value: Any) -> bool:
    if kept is value:
        return True
    return kept.shape == value.shape and kept.dtype == value.dtype and bool((kept == value).all())


def leaked(tracer: Tracer) -> LeakedTracerError:
    """Return the error for a tracer used after its trace has closed, naming where it was made."""
    line = None
    for eqn in tracer.trace.eqns:
        if tracer.var in eqn.outputs:
            line = eqn.source
    return LeakedTracerError(
        message(
            "trace",
            "a traced value must be used while its function runs",
            f"{'a value made there' if line else 'an argument'} of type {tracer.aval} of "
            f"{tracer.trace.name}, which has returned",
            line=line,
            fix="return the value from the function instead of storing it outside "
            "(in a global, an attribute or a closure).",
        )
    )


def trace_of(operands: Sequence[Any]) -> Trace | None:
    """Return the innermost trace among the operands, None if none is traced."""
    found: Trace | None = None
    for operand in operands:
        if type(operand) is Tracer:
            trace = operand.trace
            if found is None or trace.level > found.level:
                found = trace
    return found


def bind_primitive(primitive: Primitive, operands: Sequence[Any], params: Params) -> Any:
    """Record the operation in its operands' innermost trace, or compute it if there is none."""
    trace = trace_of(operands)
    if trace is None:
        return primitive.reference(*operands, **params)
    atoms = tuple(
        [x.var if type(x) is Tracer and x.trace is trace else trace.capture(x) for x in operands]
    )
    types = primitive.output_types(tuple([atom.aval for atom in atoms]), params)
    return record(trace, primitive, atoms, params, types)


def record(
    trace: Trace,
    primitive: Primitive,
    atoms: tuple[Atom, ...],
    params: Params,
    types: tuple[ArrayType, ...],
) -> Any:
    """Append an equation to an open trace and return tracers for its outputs."""
    if trace.closed:
        raise leaked(next(Tracer(trace, atom) for atom in atoms if type(atom) is Var))
    source = trace.source
    if source is None and trace.with_source:
        source = user_line()
    outputs = trace.emit(primitive, atoms, params, types, source)
    if primitive.multiple_outputs:
        return tuple([Tracer(trace, var) for var in outputs])
    return Tracer(trace, outputs[0])


def replay(graph: Graph, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Record a graph's equations again on `arguments`, keeping their lines; return the outputs."""
    env: dict[Var, Any] = dict(zip(graph.inputs, arguments, strict=True))
    env.update(zip(graph.constants, constants, strict=True))
    trace = trace_of(list(env.values()))
    outer = trace.source if trace is not None else None
    try:
        for eqn in graph.eqns:
            if trace is not None:
                trace.source = eqn.source or outer
            evaluate_equations((eqn,), env)
    finally:
        if trace is not None:
            trace.source = outer
    return [read(env, atom) for atom in graph.outputs]


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


class Tracer:
    """A value being traced: behaves as an array of its shape and dtype and records what is done.

    It is one of `ad`'s transformations' stand-ins for an argument; operators, NumPy functions and
    array methods on it append equations to its trace.
    """

    __slots__ = ("__weakref__", "link", "trace", "var")

    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(self, trace: Trace, var: Var) -> None:
        self.trace = trace
        self.var = var
        self.link: ViewLink | None = None

    @property
    def aval(self) -> ArrayType:
        """The type of the value."""
        return self.var.aval

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as of the array this stands for."""
        return self.var.aval.shape

    @property
    def dtype(self) -> np.dtype:
        """The element type, as of the array this stands for."""
        return self.var.aval.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.var.aval.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.var.aval.size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.var.aval.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.itemsize * self.size

    def __repr__(self) -> str:
        values = self.trace.values
        known = f", value={values[self.var]!r}" if values and self.var in values else ""
        return f"<traced {self.var.aval} of {self.trace.name}{known}>"

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
        return self.trace.value_of(self, asked)

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
        if link is not None and link.root is not None and link.root() is self:
            link.index = index
        return result

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    # Writing: recorded as a functional update, refused where a view would have to change too.

    def __setitem__(self, index: Any, value: Any) -> None:
        link = value.link if type(value) is Tracer else None
        if link is not None and link.index is index and link.root is not None:
            if link.root() is self:
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
        if type(value) is Tracer and value.trace.level > self.trace.level:
            raise ValueError(
                message(
                    "in-place operation",
                    f"a value traced by {value.trace.name} cannot be written into an array from "
                    "outside of it",
                    line=user_line(),
                    fix="bind a new name to the result: y = x + value.",
                )
            )
        atom = self.trace.capture(value)
        assert isinstance(atom, Var)
        self.var = atom

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


set_binder(bind_primitive)
