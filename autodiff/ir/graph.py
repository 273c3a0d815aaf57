"""The graph: a straight-line program of equations in single assignment form.

    graph    ::=  "graph" "(" typed* ")" [ "[" typed* "]" ] "{" equation* "return" atom* "}"
    typed    ::=  name ":" type
    equation ::=  [ typed ("," typed)* "=" ] primitive [ "[" params "]" ] atom*
    atom     ::=  name | literal
    type     ::=  dtype [ "[" size ("," size)* "]" ] [ "*" ]        "*": a Python scalar's weak type
    size     ::=  number | "?"                                      "?": known only when it runs

Inputs are what the caller passes on every call; constants (in brackets) are values met while
tracing, whose numbers are not part of the structure. Everything is immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from autodiff.base.source_info import SourceLine
from autodiff.ir.avals import ArrayType, type_of

if TYPE_CHECKING:
    from autodiff.ir.primitive import Primitive


class Var:
    """A value computed once: compared by identity. `index` orders the values of one trace."""

    __slots__ = ("aval", "index")

    def __init__(self, aval: ArrayType, index: int = 0) -> None:
        self.aval = aval
        self.index = index

    def __repr__(self) -> str:
        return f"v{self.index}:{self.aval}"


def is_repeated_scalar(value: Any) -> bool:
    """Return whether an array is one element repeated without memory, as broadcasting makes it."""
    return value.ndim > 0 and value.size > 0 and not any(value.strides)


class Literal:
    """A value that is part of the structure: a scalar, or an array that a rule made.

    Equal when type and bits are equal (so 0.0 is not -0.0, and NaN is NaN).
    """

    __slots__ = ("_key", "aval", "value")

    def __init__(self, value: np.generic | np.ndarray) -> None:
        self.value = value
        self.aval = type_of(value)
        stored = value
        if is_repeated_scalar(value):
            stored = np.asarray(value)[(0,) * value.ndim]
        self._key = (self.aval, stored.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"{self.value}:{self.aval}"

    @property
    def is_scalar(self) -> bool:
        """Whether the value is a 0-d number, which combines with arrays of any shape."""
        return not self.aval.shape


Atom = Var | Literal
Params = Mapping[str, Any]

#: The parameters of an operation that has none.
NO_PARAMS: Params = MappingProxyType({})


class Eqn:
    """`outputs = primitive[params] inputs`, and the user's line it came from."""

    __slots__ = ("inputs", "outputs", "params", "primitive", "source")

    def __init__(
        self,
        primitive: Primitive,
        inputs: tuple[Atom, ...],
        params: Params,
        outputs: tuple[Var, ...],
        source: SourceLine | None,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.outputs = outputs
        self.source = source


class StructuralKey:
    """A hashable summary of a graph's structure, worked out by `summarize` when first asked for.

    Most graphs between two passes are never asked.
    """

    __slots__ = ("_known", "_summarize")

    def __init__(self, summarize: Callable[[], tuple[Any, ...]]) -> None:
        self._summarize = summarize
        self._known: tuple[int, tuple[Any, ...]] | None = None

    def _hash_and_content(self) -> tuple[int, tuple[Any, ...]]:
        if self._known is None:
            content = self._summarize()
            self._known = hash(content), content
        return self._known

    def __hash__(self) -> int:
        return self._hash_and_content()[0]

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, StructuralKey)
            and self._hash_and_content() == other._hash_and_content()
        )


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A program: `(inputs; constants) -> outputs`. Equal graphs have equal structure."""

    inputs: tuple[Var, ...]
    constants: tuple[Var, ...]
    eqns: tuple[Eqn, ...]
    outputs: tuple[Atom, ...]
    key: StructuralKey

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def input_types(self) -> tuple[ArrayType, ...]:
        """Types of the inputs."""
        return tuple(v.aval for v in self.inputs)

    @property
    def output_types(self) -> tuple[ArrayType, ...]:
        """Types of the outputs."""
        return tuple(atom.aval for atom in self.outputs)


def make_graph(
    inputs: Sequence[Var],
    constants: Sequence[Var],
    eqns: Sequence[Eqn],
    outputs: Sequence[Atom],
    key: StructuralKey | None = None,
) -> Graph:
    """Return a `Graph`; its key is computed by canonical numbering unless the tracer kept one."""
    parts = (tuple(inputs), tuple(constants), tuple(eqns), tuple(outputs))
    return Graph(*parts, StructuralKey(partial(_summary, *parts)) if key is None else key)


def hoisted(graph: Graph) -> Graph:
    """Return the graph with its constants as further inputs, after the others."""
    if not graph.constants:
        return graph
    key = StructuralKey(lambda: ("hoisted", graph.key))
    return Graph((*graph.inputs, *graph.constants), (), graph.eqns, graph.outputs, key)


def params_key(params: Params) -> tuple[Any, ...] | None:
    """Return parameters in hashable form, None where there are none."""
    return tuple(params.items()) if params else None


def _summary(
    inputs: Sequence[Var], constants: Sequence[Var], eqns: Sequence[Eqn], outputs: Sequence[Atom]
) -> tuple[Any, ...]:
    """Return a key's content by canonical numbering; a trace keeps the same while it records.

    (A trace numbers constants as they come, so with constants the two keys may differ.) Equations
    follow one another in one flat tuple, each beginning at its primitive.
    """
    number: dict[Var, int] = {}
    for var in (*inputs, *constants):
        number[var] = len(number)

    def name(atom: Atom) -> int | Literal:
        return number[atom] if isinstance(atom, Var) else atom

    parts: list[Any] = []
    for eqn in eqns:
        weak = eqn.outputs[0].aval.weak if eqn.outputs else None
        parts += (eqn.primitive, params_key(eqn.params), weak, *map(name, eqn.inputs))
        for var in eqn.outputs:
            number[var] = len(number)
    return (
        tuple(v.aval for v in inputs),
        tuple((number[v], v.aval) for v in constants),
        tuple(parts),
        tuple(map(name, outputs)),
    )
