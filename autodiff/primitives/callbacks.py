"""Operations that call Python functions on the host: `pure_callback`, and two with an effect.

What is to be called is a `HostCall`, a parameter. It is equal to another that calls the same
function with the same structure of arguments, so that a graph traced anew is the graph known.

Under a mapped axis the three keep their operands as they come, and the parameter `mapped` tells
which of these have the axis: one pair (size, flags) for each axis, the outermost first. The
function is then called for one example after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from autodiff.base import pytree
from autodiff.base.array_modules import common_module, module_of
from autodiff.base.errors import message
from autodiff.base.source_info import SourceLine
from autodiff.ir.avals import PYTHON_SCALARS, ArrayType, array_type
from autodiff.ir.builder import bind_primitive, tracing
from autodiff.ir.primitive import Primitive, register
from autodiff.primitives.families import batch_to

#: (size, which operands have the axis), the outermost axis first.
Mapped = tuple[tuple[int, tuple[bool, ...]], ...]


class Fixed:
    """A value that is part of a graph's structure: equal by value if hashable, else by identity."""

    __slots__ = ("_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        try:
            hash(value)
            self._key = (type(value), value)
        except TypeError:
            self._key = (type(value), id(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        name = getattr(self.value, "__qualname__", None)
        return repr(self.value) if name is None else name.rpartition("<locals>.")[2]


class HostCall:
    """A Python function, how its arguments are put together, and what it is to return.

    `tree` is the structure of `(args, kwargs)`; `fixed` are the leaves that are not arrays, by
    position. `out_tree` and the place `line` of the call are for messages; `line` takes no part in
    comparisons.
    """

    __slots__ = ("fixed", "function", "line", "out_tree", "tree")

    def __init__(
        self,
        function: Callable[..., Any],
        tree: pytree.TreeDef,
        fixed: tuple[tuple[int, Fixed], ...],
        line: SourceLine | None,
        out_tree: pytree.TreeDef | None = None,
    ) -> None:
        self.function = Fixed(function)
        self.tree = tree
        self.fixed = fixed
        self.line = line
        self.out_tree = out_tree

    def _content(self) -> tuple[Any, ...]:
        return self.function, self.tree, self.fixed, self.out_tree

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostCall) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def __repr__(self) -> str:
        return repr(self.function)

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """Call the function, its array leaves being these, and return what it returns."""
        leaves = list(arrays)
        for position, fixed in self.fixed:
            leaves.insert(position, fixed.value)
        args, kwargs = pytree.unflatten(self.tree, leaves)
        with tracing(None):  # the function runs now, whatever is being traced around it
            return self.function.value(*args, **kwargs)


def _own(x: Any) -> Any:
    """Return an operand as a function gets it: an array that it may keep and write into."""
    return np.array(x) if module_of(x) in (None, np) else x.copy()


def _examples(operands: Sequence[Any], mapped: Mapped) -> Iterator[list[Any]]:
    """Yield the operands of each example, in order; the last axis goes fastest."""
    if not mapped:
        yield list(operands)
        return
    size, flags = mapped[0]
    for i in range(size):
        chosen = [x[i] if flag else x for x, flag in zip(operands, flags, strict=True)]
        yield from _examples(chosen, mapped[1:])


def _under(size: int, batched: Sequence[bool], mapped: Mapped) -> Mapped:
    return ((size, tuple(batched)), *mapped)


# ------------------------------------------------------------------------------------ with effects


def _effect(name: str, prepare: Callable[[Any], Any], *, doc: str) -> Primitive:
    """Declare an operation that calls a function for what it does; `prepare` its operands first."""

    def reference(*operands: Any, call: HostCall, mapped: Mapped) -> tuple[()]:
        for example in _examples(operands, mapped):
            call([prepare(x) for x in example])
        return ()

    def batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        mapped = _under(size, batched, params["mapped"])
        return bind_primitive(primitive, operands, {**params, "mapped": mapped}), ()

    primitive = register(
        Primitive(
            name=name,
            kind="effect",
            doc=doc,
            type_rule=lambda *avals, **params: (),
            reference=reference,
            differentiate=None,
            transpose=None,
            batch=batch,
            not_differentiable="it has no outputs",
            multiple_outputs=True,
            effect=True,
            dtypes="",
        )
    )
    return primitive


debug_print = _effect(
    "debug_print", lambda x: x, doc="Print the operands by a format, each time the program runs."
)

debug_callback = _effect(
    "debug_callback",
    _own,
    doc="Call a Python function on the operands for what it does, each time the program runs.",
)


# ------------------------------------------------------------------------------------------- pure


def _pure_type(
    *avals: ArrayType,
    call: HostCall,
    types: tuple[ArrayType, ...],
    vmap_method: str,
    mapped: Mapped,
) -> tuple[ArrayType, ...]:
    sizes = tuple(size for size, _ in mapped)
    return tuple(array_type((*sizes, *aval.shape), aval.dtype) for aval in types)


def _pure_reference(
    *operands: Any,
    call: HostCall,
    types: tuple[ArrayType, ...],
    vmap_method: str,
    mapped: Mapped,
) -> tuple[Any, ...]:
    module = common_module(operands)
    if not mapped:
        return tuple(_results(call, types, [_own(x) for x in operands], module))
    sizes = tuple(size for size, _ in mapped)
    stacks = [module.empty((*sizes, *aval.shape), aval.dtype) for aval in types]
    flat = [stack.reshape((-1, *aval.shape)) for stack, aval in zip(stacks, types, strict=True)]
    for i, example in enumerate(_examples(operands, mapped)):
        results = _results(call, types, [_own(x) for x in example], module)
        for stack, result in zip(flat, results, strict=True):
            stack[i] = result
    return tuple(stacks)


def _results(
    call: HostCall, types: tuple[ArrayType, ...], arrays: list[Any], module: Any
) -> list[Any]:
    """Return what the function returns as arrays of the types declared, or raise."""
    result = call(arrays)
    leaves, tree = pytree.flatten(result)
    assert call.out_tree is not None
    if tree != call.out_tree:
        raise TypeError(
            message(
                "pure_callback",
                f"{call!r} must return the structure of result_types",
                pytree.structure_difference(tree, call.out_tree, "result").removeprefix("got "),
                line=call.line,
                fix="return the same containers, keys and lengths, or correct result_types.",
            )
        )
    return [_checked(call, i, x, types[i], module) for i, x in enumerate(leaves)]


def _checked(call: HostCall, position: int, value: Any, aval: ArrayType, module: Any) -> Any:
    """Return one leaf of a result as an array of type `aval` that is nobody else's, or raise."""
    if type(value) in PYTHON_SCALARS and np.can_cast(type(value), aval.dtype, "same_kind"):
        value = aval.dtype.type(value)  # a Python number takes the type it meets
    found = module_of(value)
    if found is None:
        got = f"{value!r} of type {type(value).__name__}"
    elif found not in (np, module):
        got = f"{found.__name__}.ndarray, with operands of {module.__name__},"
    elif value.shape == aval.shape and value.dtype == aval.dtype:
        return value.copy() if found is not np else module.array(value)
    else:
        got = f"{value.dtype.name}{list(value.shape) if value.shape else ''}".replace(" ", "")
    assert call.out_tree is not None
    path = pytree.path_string("result", pytree.paths(call.out_tree)[position])
    raise TypeError(
        message(
            "pure_callback",
            f"{call!r} must return what result_types says",
            f"{path}={got} where {aval} is expected",
            line=call.line,
            fix="convert it with .astype or reshape it, or correct result_types.",
        )
    )


def _pure_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    """Map the axis by the way the user chose.

    `sequential` leaves it to the reference; otherwise the function is called once, on operands all
    of which have a leading axis: of the mapped size, or of size 1 where `expand_dims` is asked for
    and the operand has none.
    """
    method = params["vmap_method"]
    if method == "sequential":
        changed = {**params, "mapped": _under(size, batched, params["mapped"])}
    else:
        lead = size if method == "broadcast_all" else 1
        operands = [batch_to(x, flag, lead) for x, flag in zip(operands, batched, strict=True)]
        types = tuple(array_type((size, *aval.shape), aval.dtype) for aval in params["types"])
        changed = {**params, "types": types}
    outs = bind_primitive(pure_callback, operands, changed)
    return outs, (True,) * len(outs)


pure_callback = register(
    Primitive(
        name="pure_callback",
        kind="library",
        doc="Call a Python function that computes arrays from the operands and does nothing else.",
        type_rule=_pure_type,
        reference=_pure_reference,
        differentiate=None,
        transpose=None,
        batch=_pure_batch,
        not_differentiable="it is a Python function that only its results are known of",
        multiple_outputs=True,
        dtypes="",
    )
)
