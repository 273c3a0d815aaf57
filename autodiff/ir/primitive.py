"""The record of an operation, and the registry through which everything finds it.

A primitive is a row of data: how its output type follows from its operands, how NumPy computes it,
and the rules by which passes transform it. Passes never ask for a primitive by name; they ask for a
trait or call a rule. The rules' signatures, each over tracers only:

    output_types(avals, **params)                              -> types
    reference(*arrays, **params)                               -> array (or tuple of arrays)
    differentiate(outs, operands, tangents, params, mode)      -> output tangents, None = zero
    transpose(cts, operands, params, mode)                     -> operand cotangents, None = none
    batch(size, operands, batched, params, mode)               -> outputs, which of them are batched

`call(primitive, operands, params)` applies the operation where operands must be prepared.
`simplify(eqn, made_by)` is the atom that has the equation's value bit for bit, or None.
`recurrence(order, lower, series, params)`, which an operation seldom needs, is its derivative of
that order along a curve, from `lower`, its value and derivatives below that, and its operands'
`series`, value and derivatives up to that, None where zero.
`lower(o, *operands, **params)` computes one element in a kernel by the operations of `o`
(codegen/operations.py): it takes and returns typed values, a tuple of them for several outputs.

In `transpose` an operand to be differentiated is a `LinearOperand`, the others are values. In
`batch` the mapped axis of every batched operand and output is its first. `mode` is the pass itself,
for operations that hold graphs.

For generated kernels: `strides(shape, strides, offset, **params)` of a view are the strides and the
offset, in elements, at which it reads an array that has those (None: it needs a copy). A reduction
that kernels can compute has `combine(o, x, y)` of two elements, `o` the kernel's operations
(codegen/operations.py), and `identity(dtype)`, which leaves the other element as it is.
`pieces(*shapes, **params)` of an operation that lays its operands out in its result are, for each
piece, the operand's number and the starts, stops and steps of the part it fills, as slice reads
them: earlier pieces hide later ones, and where none is the result is 0. Pieces are disjoint, or one
fills the whole result. `affine(shape, **params)` of an operation whose results depend on the place
alone are strides and offset: each element is the number `offset + sum(index * strides)`.

A cumulative operation (parameters `axis` and `reverse`) that kernels can compute has
`advance(o, before, *operands)`, the result that follows from the one before. Before the first is
`identity(dtype)`, and at the first all operands but the last count as 0. `associative`: elements
may be combined by `advance` in any grouping. Of one that is linear in the result before, `factor`
is the number of the operand that this is multiplied by; if it has another operand, that is added.

An operation that reads or writes elements of its first operand where integer arrays, its last
operands, say has `indexed(**params)`, an `Indexed`, by which kernels can do it too.

An operation that holds graphs (kind "higher_order") has them among its parameters, each a `Graph`
without constants or a tuple of such. It has further rules:

    execute(operands, params, run)                             -> arrays
    derivative(operands, tangents, params, mode)               -> outputs, output tangents
    inlined(params)                                            -> the graph to be put in its place
    prune(eqn, live, dead_code)                                -> the equation without dead outputs
    separate(operands, params, mode)                           -> known outputs, the rest
    taylor(operands, series, params, mode)                     -> outputs, output series

`execute` computes it: `run(graph)` is a function from arrays to the list of a held graph's outputs,
with `fresh=True` one whose results share no memory with its arguments; its own results never share
memory with its operands. `derivative` takes the place of `differentiate`. `inlined` may answer None
(keep the equation). `prune` is given which outputs are used and the pass itself, for the held
graphs. `separate` divides an equation some of whose operands are values and some linear: it gives
the outputs that the values determine (None for the others) and, as (primitive, operands, params),
what gives the others, linear in all that is not a value. `taylor` carries derivatives along a
curve, lists of them, as `passes/jet.py` says.

`effect`: the operation has no outputs and is applied for what it does; it is neither dropped nor
merged. `own_rules`: its derivatives are not those of the graph that is put in its place.
`transparent`: no rule of it does more than the graph that `inlined` puts in its place, so that this
may be done before further transformations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from autodiff.ir.avals import ArrayType
from autodiff.ir.graph import Literal, Params, params_key

CACHE_LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class LinearOperand:
    """Stands for an operand whose cotangent is wanted: only its type is known.

    `mark` tells those of one equation apart.
    """

    aval: ArrayType
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the generic tests try an operation.

    `span`: interval random operands are drawn from, one pair for all operands or one per operand.
    `points`: values tried by themselves, special ones included. `params`: keyword arguments to try.
    `shapes`: shapes of the operands, for operations that are not elementwise; one tuple of shapes
    per case, paired with `params`. `operands(dtype, random, **params)` makes operands that are not
    all of one type, or depend on the parameters; a `Literal` among these takes `dtype`.
    """

    span: tuple[Any, ...] = (-3.0, 3.0)
    points: tuple[float, ...] = ()
    params: tuple[dict[str, Any], ...] = ({},)
    shapes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    operands: Callable[..., tuple[Any, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Combination:
    """How an element and what is written there become its new value, one update after the other.

    Args:
        combine: `combine(o, x, update)` of the element and the update is the new value.
        commutes: whether updates by integers and truth values may be made in any order.
        replaces: whether the update is the new value, whatever the element is.
        atomic: the function of kernels/cuda/prelude.cuh that does it on integers of at least 32
            bits as one atomic operation; None if there is none.
        identity: `identity(dtype)`, where it commutes: the update that changes nothing.
    """

    combine: Callable[..., Any]
    commutes: bool = False
    replaces: bool = False
    atomic: str | None = None
    identity: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class Indexed:
    """How an operation reads or writes an array at places given by one integer array per axis.

    The layout of operands, what an index out of range does (`mode`, and `fill`, what is read
    there) and what `unique` promises are told in primitives/indexing_layout.py. `combination` is
    None for what reads.
    """

    axes: tuple[int, ...]
    batch_axes: int
    mode: str
    fill: Literal | None = None
    combination: Combination | None = None
    unique: bool = False


#: The number of an operand, and the starts, stops and steps of the part of a result it fills.
Piece = tuple[int, Sequence[int], Sequence[int], Sequence[int]]


@dataclass(slots=True, eq=False)
class Primitive:
    """One operation. `kind` is its family; the fields after `batch` are traits.

    `dtypes` lists the kinds of element type it takes (b, i, u, f, c). `public` is the name under
    which `autodiff.numpy` offers it, `numpy` the functions it stands for when they meet a tracer.
    `ulp` maps a type's name to the largest error against the reference, in units in the last place.
    `odd`, `even`: the value changes its sign and nothing else, or nothing, with that of an operand.
    `lower_for(dtype)` tells whether `lower` takes an element type; None: all that kernels hold.
    `prepared(*avals, **params)` is the reference with all done beforehand that depends on types.
    """

    name: str
    kind: str
    doc: str
    type_rule: Callable[..., ArrayType | tuple[ArrayType, ...]]
    reference: Callable[..., Any]
    differentiate: Callable[..., Sequence[Any]] | None
    transpose: Callable[..., Sequence[Any]] | None
    batch: Callable[..., tuple[Sequence[Any], Sequence[bool]]] | None
    not_differentiable: str | None = None
    multiple_outputs: bool = False
    commutative: bool = False
    odd: bool = False
    even: bool = False
    view: bool = False
    strides: Callable[..., tuple[Sequence[int], int] | None] | None = None
    pieces: Callable[..., Sequence[Piece]] | None = None
    affine: Callable[..., tuple[Sequence[int], int]] | None = None
    combine: Callable[..., Any] | None = None
    identity: Callable[..., Any] | None = None
    advance: Callable[..., Any] | None = None
    associative: bool = False
    factor: int | None = None
    indexed: Callable[..., Indexed] | None = None
    operator: str | None = None
    call: Callable[..., Any] | None = None
    derivative: Callable[..., tuple[Sequence[Any], Sequence[Any]]] | None = None
    inlined: Callable[[Params], Any] | None = None
    simplify: Callable[..., Any] | None = None
    recurrence: Callable[..., Any] | None = None
    lower: Callable[..., Any] | None = None
    lower_for: Callable[[Any], bool] | None = None
    prepared: Callable[..., Callable[..., Any]] | None = None
    execute: Callable[..., Sequence[Any]] | None = None
    prune: Callable[..., Any] | None = None
    separate: Callable[..., tuple[Sequence[Any], tuple[Any, Sequence[Any], Params]]] | None = None
    taylor: Callable[..., tuple[Sequence[Any], Sequence[Any]]] | None = None
    effect: bool = False
    own_rules: bool = False
    transparent: bool = False
    public: str | None = None
    numpy: tuple[Any, ...] = ()
    dtypes: str = "biufc"
    samples: Samples = Samples()
    ulp: dict[str, float] = field(default_factory=dict)
    plans: dict[Any, Any] = field(default_factory=dict)
    _types: dict[Any, tuple[ArrayType, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.name

    @property
    def holds_graphs(self) -> bool:
        """Whether there are graphs among its parameters."""
        return self.execute is not None

    @property
    def is_layout(self) -> bool:
        """Whether its elements are operands' elements, 0 or numbers known from their place."""
        return any(rule is not None for rule in (self.strides, self.pieces, self.affine))

    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply the operation to traced values, arrays and numbers, as its family prepares them."""
        if self.call is not None:
            return self.call(self, operands, params)
        return bind(self, operands, params)

    def output_types(self, avals: tuple[ArrayType, ...], params: Params) -> tuple[ArrayType, ...]:
        """Return the types of the outputs, remembered for each combination of types."""
        key = (avals, params_key(params)) if params else avals
        found = self._types.get(key)
        if found is None:
            result = self.type_rule(*avals, **params)
            found = result if isinstance(result, tuple) else (result,)
            if len(self._types) > CACHE_LIMIT:
                self._types.clear()
            self._types[key] = found
        return found


#: Name to primitive, in order of declaration.
primitives: dict[str, Primitive] = {}

#: Attribute of a traced value to the function behind it (`x.sum`, `x.__add__`).
methods: dict[str, Callable[..., Any]] = {}

#: Attribute of a traced value that is computed when read (`x.T`).
properties: dict[str, Callable[[Any], Any]] = {}

#: NumPy (or CuPy) function or ufunc to the function that records it.
array_functions: dict[Any, Any] = {}

_binders: list[Callable[..., Any]] = []


def register(primitive: Primitive) -> Primitive:
    """Enter a primitive into the registry; a second one of the same name is a ValueError."""
    if primitive.name in primitives:
        raise ValueError(f"register: the name must be new, got name={primitive.name!r}.")
    primitives[primitive.name] = primitive
    return primitive


def set_binder(binder: Callable[..., Any]) -> None:
    """Set the function by which primitives are applied (the tracer's, defined above this file)."""
    _binders[:] = [binder]


def bind(primitive: Primitive, operands: Sequence[Any], params: Params) -> Any:
    """Apply a primitive: recorded if an operand is traced, computed at once if none is."""
    return _binders[0](primitive, operands, params)
