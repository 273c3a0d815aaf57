"""How an elementwise operation is computed in a kernel: by its rule, or as its reference says.

A declaration's rule (`lower=`, see ir/primitive.py) writes the operation in those of an
`Operations` (codegen/operations.py). A declaration whose reference is itself an expression of array
functions needs none: the reference is traced on scalars, and the operations it is made of are
lowered one after another (`ByReference`). `missing_rule` tells beforehand whether that can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

from autodiff.ir.avals import array_type
from autodiff.ir.builder import Trace
from autodiff.ir.graph import Graph, Literal, Params, params_key
from autodiff.ir.primitive import CACHE_LIMIT, Primitive

Dtypes = tuple[np.dtype, ...]


def operation(name: str) -> Callable[..., Any]:
    """Return the `lower` rule of what kernels have an operation for, of this name."""

    def rule(o: Any, *operands: Any) -> Any:
        return getattr(o, name)(*operands)

    return rule


def kernel_math(name: str) -> Callable[..., Any]:
    """Return the `lower` rule of a function of the kernels' math library."""

    def rule(o: Any, *operands: Any) -> Any:
        return o.math(name, *operands)

    return rule


def expression(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `lower` rule that computes `function`, an expression, rounding each operation.

    For an operation whose reference does the same on whole arrays in other ways.
    """

    @cache
    def traced(*operands: np.dtype) -> Graph:
        graph, constants = _traced(function.__name__, function, operands)
        assert not constants, function
        return graph

    def rule(o: Any, *operands: Any) -> Any:
        with o.exactly():
            outputs = lower_graph(o, traced(*[x.dtype for x in operands]), operands)
        return outputs[0] if len(outputs) == 1 else outputs

    return rule


class ByReference:
    """The `lower` rule of a declaration without one: what its reference is made of, in that order.

    It may be called only where `missing_rule` finds nothing.
    """

    __slots__ = ("primitive",)

    def __init__(self, primitive: Primitive) -> None:
        self.primitive = primitive

    def __call__(self, o: Any, *operands: Any, **params: Any) -> Any:
        """Compute the operation, as every `lower` rule does."""
        graph = reference_graph(self.primitive, tuple([x.dtype for x in operands]), params)
        assert isinstance(graph, Graph), (self.primitive, graph)
        outputs = lower_graph(o, graph, operands)
        return outputs if self.primitive.multiple_outputs else outputs[0]


def lower(o: Any, primitive: Primitive, operands: Sequence[Any], params: Params) -> tuple[Any, ...]:
    """Return the outputs of an elementwise operation, computed by the operations of `o`."""
    assert primitive.lower is not None, primitive
    result = primitive.lower(o, *operands, **params)
    return result if primitive.multiple_outputs else (result,)


def lower_graph(o: Any, graph: Graph, operands: Sequence[Any]) -> tuple[Any, ...]:
    """Return the outputs of a graph of operations on scalars, computed by the operations of `o`."""
    env: dict[Any, Any] = dict(zip(graph.inputs, operands, strict=True))

    def read(atom: Any) -> Any:
        return o.constant(atom.value, atom.aval.dtype) if type(atom) is Literal else env[atom]

    for eqn in graph.eqns:
        taken = [read(atom) for atom in eqn.inputs]
        outs = (
            taken if eqn.primitive.kind == "shape" else lower(o, eqn.primitive, taken, eqn.params)
        )
        env.update(zip(eqn.outputs, outs, strict=True))
    return tuple([read(atom) for atom in graph.outputs])


def missing_rule(primitive: Primitive, operands: Dtypes, params: Params) -> str | None:
    """Return why there is no way to lower an elementwise operation on these types, None if one."""
    if primitive.lower is None:
        return f"{primitive.name} is computed by a function of NumPy's own"
    if isinstance(primitive.lower, ByReference):
        found = reference_graph(primitive, operands, params)
        return found if isinstance(found, str) else None
    takes = primitive.lower_for
    if takes is not None and not all(map(takes, operands)):
        return f"{primitive.name} has no rule for {', '.join(map(str, operands))}"
    return None


def reference_graph(primitive: Primitive, operands: Dtypes, params: Params) -> Graph | str:
    """Return the graph of an operation's reference on scalars, or why it cannot be lowered.

    >>> from autodiff.ir.primitive import primitives
    >>> reference_graph(primitives["i0"], (np.dtype(np.float32),), {})
    'i0 contains i0: the reference is the operation itself'
    """
    return _reference_graph(primitive, operands, params_key(params))


@lru_cache(maxsize=CACHE_LIMIT)
def _reference_graph(primitive: Primitive, operands: Dtypes, key: Any) -> Graph | str:
    reference = partial(primitive.reference, **dict(key or ()))
    try:
        graph, constants = _traced(primitive.name, reference, operands)
    except Exception as error:  # whatever the reference does with what is no array
        reason = str(error).partition("\n")[0] or type(error).__name__
        return f"{primitive.name} has no rule, and its reference is no expression: {reason}"
    if constants:
        return f"{primitive.name} refers to arrays"
    declared = primitive.output_types(graph.input_types, dict(key or ()))
    if [(x.dtype, x.shape) for x in graph.output_types] != [(x.dtype, x.shape) for x in declared]:
        return f"{primitive.name} gives other types for numbers than for arrays"
    for eqn in graph.eqns:
        reason = _missing_inside(eqn, primitive)
        if reason is not None:
            return f"{primitive.name} contains {eqn.primitive.name}: {reason}"
    return graph


def _traced(name: str, function: Callable[..., Any], operands: Dtypes) -> tuple[Graph, list[Any]]:
    """Return the graph of a function of scalars, and the arrays it refers to."""
    trace = Trace(f"lowering of {name}")
    try:
        with np.errstate(all="ignore"):
            result = function(*[trace.input(array_type((), dtype)) for dtype in operands])
        return trace.finish(result if isinstance(result, tuple) else (result,))
    except BaseException:
        trace.abandon()
        raise


def _missing_inside(eqn: Any, primitive: Primitive) -> str | None:
    """Return why an equation of the reference of `primitive` cannot be lowered, or None."""
    taken = tuple([atom.aval.dtype for atom in eqn.inputs])
    if any(var.aval.shape for var in eqn.outputs):
        return "its result is not a scalar"
    if eqn.primitive.kind == "shape":
        return None
    if eqn.primitive.kind != "elementwise":
        return "it does not act on each element by itself"
    if eqn.primitive is primitive:
        return "the reference is the operation itself"
    return missing_rule(eqn.primitive, taken, eqn.params)
