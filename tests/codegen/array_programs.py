"""Random array programs for the kernels: data that can be printed, run, transformed and shrunk.

`random_program(pick)` is the entry point; `pick(n)` answers each of its questions with a number
below n, 0 being the simplest answer. `seeded(seed)` gives a `pick` from a seed; Hypothesis gives
one that it shrinks.

A program is a list of steps on a pool of values, the arguments first: elementwise operations, all
that the registry has, the cheaper ones more often; casts between all element types; views;
reductions over any axes; running results, padding, joining, taking, sorting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from autodiff.api.trace import leaf_types, trace_function
from autodiff.base import dtypes
from autodiff.codegen.complex_operations import ComplexOperations
from autodiff.codegen.cpu_layout import any_value
from autodiff.codegen.operations import Operations
from autodiff.codegen.vectors import VectorBuilder
from autodiff.ir.graph import Graph
from autodiff.ir.primitive import Primitive, primitives
from autodiff.primitives.lowering import lower, missing_rule
from autodiff.schedule.target import AVX512
from tests.primitives.sampling import arity, is_elementwise, names, own_types

Pick = Callable[[int], int]

#: Element types of arguments, the common ones first: Hypothesis shrinks towards the first.
_ARGUMENTS = sorted(
    dtypes.SUPPORTED, key=lambda d: (d != np.float64, d != np.float32, not dtypes.is_float(d))
)

#: Shapes of the arguments, but for axes left out or of size 1: few sizes, so that kernels recur;
#: square ones, where rows may be taken for columns.
_SHAPES = (
    *((3,), (), (2, 3), (24,), (4, 6), (2, 3, 4), (6, 4), (1,), (60,), (3, 20), (20, 3), (5, 12)),
    *((4, 6), (3, 20), (24,), (60,), (5, 3, 4), (33,), (3, 11), (2, 30), (15, 4), (0, 3), (70,)),
    *((7, 10), (2, 5, 7), (5, 5), (3, 3, 3), (24, 24), *[(5, 5), (4, 4)] * 3),
)

#: Shapes of long arguments: a sum in chunks, tiles of columns, pieces for threads.
_LONG = ((16_400,), (17, 330), (3, 700), (66, 1000), (130, 3), (2, 9, 150))

#: Elements of a value that steps may make of arguments of short and long shapes.
_MOST, _MOST_OF_LONG = 600, 70_000

_NUMBERS = (2.0, 0.0, 1.0, -1.0, 0.5, 3, 0, 1, -2, True, -0.0, 7.25, float("nan"), float("inf"))


def seeded(seed: int) -> Pick:
    """Return answers at random."""
    return random.Random(seed).randrange


# -------------------------------------------------------------------------------------- arguments


def _gaps(x: np.ndarray) -> np.ndarray:
    wide = np.zeros(tuple(2 * n + 1 for n in x.shape), x.dtype)
    view = wide[(*[slice(1, None, 2)] * x.ndim, ...)]
    view[...] = x
    return view


def _misaligned(x: np.ndarray) -> np.ndarray:
    view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _offset(x: np.ndarray) -> np.ndarray:
    view = np.zeros(x.size + 1, x.dtype)[1:].reshape(x.shape)
    view[...] = x
    return view


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def _backwards(x: np.ndarray) -> np.ndarray:
    turned = (*[slice(None, None, -1)] * x.ndim, ...)
    return x[turned].copy()[turned]


#: Name to function from an array to one that is equal to it but lies otherwise in memory.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "in C order": lambda x: x,
    "in Fortran order": lambda x: np.array(x, order="F"),
    "backwards": _backwards,
    "with gaps": _gaps,
    "misaligned": _misaligned,
    "offset by one": _offset,
    "read-only": _read_only,
}


def _ordinary(rng: np.random.Generator, shape: Any, dtype: np.dtype) -> np.ndarray:
    if dtypes.is_float(dtype):
        return (2 * rng.normal(size=shape)).astype(dtype)
    return rng.integers(0 if dtypes.kind(dtype) in "bu" else -9, 10, size=shape).astype(dtype)


def _wide(rng: np.random.Generator, shape: Any, dtype: np.dtype) -> np.ndarray:
    if dtypes.is_float(dtype):
        limits = ml_dtypes.finfo(dtype)
        powers = rng.integers(limits.minexp, limits.maxexp, size=shape)
        return (rng.uniform(-2, 2, size=shape) * np.exp2(powers / 2)).astype(dtype)
    if dtypes.is_bool(dtype):
        return rng.integers(0, 2, size=shape).astype(bool)
    limits = np.iinfo(dtype)
    return np.asarray(rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True))


def _special(rng: np.random.Generator, shape: Any, dtype: np.dtype) -> np.ndarray:
    """Ordinary numbers, with some of those among them at which rules tend to be wrong."""
    if dtypes.is_float(dtype):
        limits = ml_dtypes.finfo(dtype)
        least, largest = float(limits.smallest_subnormal), float(limits.max)
        points = [0.0, -0.0, np.inf, -np.inf, np.nan, least, -3 * least, float(limits.tiny)]
        points += [largest, -largest, 1.0, -1.0, 0.5, 2.5]
    elif dtypes.is_bool(dtype):
        points = [False, True]
    else:
        limits = np.iinfo(dtype)
        points = [limits.min, limits.max, limits.min + 1, limits.max - 1, 0, 1, 2]
    numbers, drawn = np.array(points).astype(dtype), _ordinary(rng, shape, dtype)
    return np.where(rng.integers(0, 2, size=shape) == 0, rng.choice(numbers, size=shape), drawn)


CONTENTS = {"ordinary": _ordinary, "special": _special, "wide": _wide}


@dataclass(frozen=True, slots=True)
class Argument:
    """An array: what it holds is drawn from `seed`."""

    shape: tuple[int, ...]
    dtype: np.dtype
    layout: str = "in C order"
    contents: str = "ordinary"
    seed: int = 0

    def array(self) -> np.ndarray:
        """Return the array, newly made."""
        rng, draw = np.random.default_rng(self.seed), CONTENTS[self.contents]
        x = np.asarray(draw(rng, self.shape, dtypes.real_dtype(self.dtype)), self.dtype)
        if dtypes.is_complex(self.dtype):
            x.imag = draw(rng, self.shape, dtypes.real_dtype(self.dtype))
        return LAYOUTS[self.layout](x)

    def __str__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        return f"{self.dtype}[{shape}] {self.layout}, {self.contents}, seed {self.seed}"


# ------------------------------------------------------------------------------------------ steps


@dataclass(frozen=True, slots=True)
class Place:
    """A value of the pool."""

    index: int

    def __str__(self) -> str:
        return f"v{self.index}"


@dataclass(frozen=True, slots=True)
class Step:
    """An operation, or one of `FUNCTIONS`, applied to values of the pool and to numbers."""

    name: str
    operands: tuple[Place | float, ...]
    params: tuple[tuple[str, Any], ...] = ()

    def apply(self, pool: Sequence[Any]) -> Any:
        """Return the value of the step, on arrays or tracers: of several outputs the last."""
        operands = [pool[x.index] if isinstance(x, Place) else x for x in self.operands]
        function = FUNCTIONS.get(self.name) or primitives[self.name]
        result = function(*operands, **dict(self.params))
        return result[-1] if isinstance(result, tuple) else result

    def __str__(self) -> str:
        given = [*map(str, self.operands), *[f"{k}={v}" for k, v in self.params]]
        return f"{self.name}({', '.join(given)})"


def _reduced(x: Any, *, by: str, axes: tuple[int, ...], keepdims: bool) -> Any:
    out = primitives[by](x, axes=axes)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return anp.reshape(out, kept) if keepdims else out


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "astype": lambda x, *, dtype: anp.astype(x, dtype),
    "index": lambda x, *, at: x[at],
    "transpose": lambda x, *, axes: anp.transpose(x, axes),
    "reshape": lambda x, *, shape: anp.reshape(x, shape),
    "broadcast_to": lambda x, *, shape: anp.broadcast_to(x, shape),
    "reduce": _reduced,
    "sort": lambda x: anp.sort(x, axis=-1),
    "pad": lambda x, *, widths: anp.pad(x, widths, constant_values=1),
    "roll": lambda x, *, shift: anp.roll(x, shift, axis=-1),
    "take": lambda x, *, at: anp.take(x, np.array(at), axis=0),
    "concatenate": lambda *xs: anp.concatenate(xs, axis=-1),
    "running": lambda x, *, by, reverse: primitives[by](x, axis=0, reverse=reverse),
}

Pool = Sequence[Any]


def _recent(pick: Pick, pool: Pool) -> int:
    """Return the number of a value, more likely a late one."""
    return len(pool) - 1 - min(pick(len(pool)), pick(len(pool)))


@cache
def lines_of(primitive: Primitive) -> int | None:
    """Return how long a kernel of an operation is, None if there is none on any element type."""
    params = primitive.samples.params[0]
    for dtype in dtypes.SUPPORTED[::-1]:
        own = own_types(primitive, dtype)
        if own is not None and missing_rule(primitive, own, params) is None:
            b = VectorBuilder(AVX512, 1)
            lower(ComplexOperations(Operations(b)), primitive, [*map(any_value, own)], params)
            return len(b.lines)
    return None


@cache
def _operations() -> tuple[Primitive, ...]:
    """Return the elementwise operations, each as often as it is to be drawn."""
    found: list[Primitive] = []
    for name in names(is_elementwise):
        lines = lines_of(primitives[name])
        times = 1 if lines is None else max(2, min(12, 240 // (lines + 1)))
        found += [primitives[name]] * times
    return tuple(found)


def _elementwise(pick: Pick, pool: Pool, most: int) -> Step:
    primitive = _operations()[pick(len(_operations()))]
    first = _recent(pick, pool)
    operands: list[Place | float] = [Place(first)]
    shape = pool[first].shape
    for _ in range(arity(primitive) - 1):
        fitting = [i for i, x in enumerate(pool) if _fits(shape, x.shape, most)]
        if pick(4) == 3:
            operands.append(_NUMBERS[pick(len(_NUMBERS))])
        else:
            place = fitting[len(fitting) - 1 - pick(len(fitting))]
            shape = np.broadcast_shapes(shape, pool[place].shape)
            operands.append(Place(place))
    turn = pick(len(operands))
    params = primitive.samples.params[pick(len(primitive.samples.params))]
    return Step(primitive.name, (*operands[turn:], *operands[:turn]), tuple(params.items()))


def _met(pick: Pick, pool: Pool, most: int) -> Step | None:
    """Return a step in which values of two shapes meet, as a reduction's result and its operand."""
    place = _recent(pick, pool)
    shape = pool[place].shape
    others = [i for i, x in enumerate(pool) if x.shape != shape and _fits(shape, x.shape, most)]
    if not others:
        return None
    able = names(lambda p: is_elementwise(p) and p.commutative)
    other = others[-1 - min(pick(len(others)), pick(len(others)))]
    return Step(able[pick(len(able))], (Place(place), Place(other)))


def _is_declared(step: Step, pool: Pool) -> bool:
    """Return whether an operation that rules alone apply is on element types it is declared for."""
    primitive = primitives.get(step.name)
    if step.name in FUNCTIONS or primitive is None or primitive.public is not None:
        return True
    taken = [pool[x.index].dtype for x in step.operands if isinstance(x, Place)]
    return all(dtypes.kind(dtype) in primitive.dtypes for dtype in taken)


def _fits(one: tuple[int, ...], other: tuple[int, ...], most: int) -> bool:
    try:
        return prod(np.broadcast_shapes(one, other)) <= most
    except ValueError:
        return False


def _cast(pick: Pick, pool: Pool, most: int) -> Step:
    dtype = dtypes.SUPPORTED[pick(len(dtypes.SUPPORTED))]
    return Step("astype", (Place(_recent(pick, pool)),), (("dtype", dtype),))


def _reduction(pick: Pick, pool: Pool, most: int) -> Step | None:
    place = _recent(pick, pool)
    x = pool[place]
    able = names(lambda p: p.combine is not None and dtypes.kind(x.dtype) in p.dtypes)
    able = able if x.size else [name for name in able if _reduces_nothing(name, x.dtype)]
    if not x.ndim or not able:
        return None
    name, chosen = able[pick(len(able))], 1 + pick(2**x.ndim - 1)
    axes = tuple(i for i in range(x.ndim) if chosen >> (x.ndim - 1 - i) & 1)
    params = {"by": name, "axes": axes, "keepdims": pick(2) == 0}
    return Step("reduce", (Place(place),), tuple(params.items()))


@cache
def _reduces_nothing(name: str, dtype: np.dtype) -> bool:
    """Return whether NumPy has a result for no elements."""
    try:
        primitives[name].reference(np.zeros(0, dtype), axes=(0,))
    except ValueError:
        return False
    return True


def _view(pick: Pick, pool: Pool, most: int) -> Step:
    place = _recent(pick, pool)
    make = (_index, _transpose, _reshape, _broadcast)[pick(4)]
    name, param, value = make(pick, pool[place].shape, most)
    return Step(name, (Place(place),), ((param, value),))


def _index(pick: Pick, shape: tuple[int, ...], most: int) -> tuple[str, str, Any]:
    at: list[Any] = []
    for n in shape:
        kind = pick(8 if n else 7)
        if kind == 7:
            at.append(pick(n))
        elif kind == 6:
            at += [None, slice(None)]
        else:
            step = (None, 1, -1, 2, -2, -3)[kind]
            start = pick(n + 1) if kind and n else None
            at.append(slice(start, None, step))
    return "index", "at", (*at, ...) if pick(4) == 3 else tuple(at)


def _transpose(pick: Pick, shape: tuple[int, ...], most: int) -> tuple[str, str, Any]:
    left, axes = list(range(len(shape))), []
    while left:
        axes.append(left.pop(len(left) - 1 - pick(len(left))))
    return "transpose", "axes", tuple(axes)


def _reshape(pick: Pick, shape: tuple[int, ...], most: int) -> tuple[str, str, Any]:
    size = prod(shape)
    divisors = [n for n in range(1, size + 1) if size % n == 0][:8] or [0]
    first = divisors[pick(len(divisors))]
    if not first:
        return "reshape", "shape", (0,)
    options = ((size,), (first, size // first), (size // first, 1, first), (1, size))
    return "reshape", "shape", options[pick(len(options))]


def _broadcast(pick: Pick, shape: tuple[int, ...], most: int) -> tuple[str, str, Any]:
    wider = tuple((1, 2, 3, 5)[pick(4)] if n == 1 else n for n in shape)
    wider = (1 + pick(4), *wider) if pick(2) else wider
    return "broadcast_to", "shape", wider if prod(wider) <= most else shape


def _moved(pick: Pick, pool: Pool, most: int) -> Step | None:
    """Return a step that moves elements about, or makes each from those before it."""
    place = _recent(pick, pool)
    x = pool[place]
    if not x.ndim:
        return None
    kind, operands = pick(6), [Place(place)]
    if kind == 0:
        able = [name for name in _running() if dtypes.kind(x.dtype) in primitives[name].dtypes]
        params = {"by": able[pick(len(able))], "reverse": pick(2) == 1}
    elif kind == 1:
        params = {"widths": tuple([(pick(3), pick(2)) for _ in range(x.ndim)])}
    elif kind == 2:
        params = {"at": tuple([pick(x.shape[0]) for _ in range(1 + pick(4))] if x.shape[0] else ())}
    elif kind == 3:
        alike = [i for i, y in enumerate(pool) if y.shape == x.shape]
        operands.append(Place(alike[pick(len(alike))]))
        params = {}
    elif kind == 4:
        params = {"shift": pick(5) - 2}
    else:
        params = {}
    name = ("running", "pad", "take", "concatenate", "roll", "sort")[kind]
    return Step(name, tuple(operands), tuple(params.items()))


@cache
def _running() -> tuple[str, ...]:
    """Return the names of the running results of one array."""
    return tuple(names(lambda p: p.kind == "cumulative" and len(p.samples.shapes[0]) == 1))


_MAKERS = (
    *[_elementwise] * 9,
    *[_met] * 3,
    *[_reduction] * 5,
    *[_view] * 3,
    *[_cast] * 2,
    *[_moved] * 2,
)


# --------------------------------------------------------------------------------------- programs


@dataclass(frozen=True, slots=True)
class Program:
    """Steps on arguments; `transform` is "none", "grad", "vmap" or "vmap of grad".

    `mapped` are the axes of the arguments along which examples lie, None for arguments that all
    examples share; their shapes here are those with this axis.
    """

    arguments: tuple[Argument, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    transform: str = "none"
    mapped: tuple[int | None, ...] = ()

    def arrays(self) -> list[np.ndarray]:
        """Return the arguments, newly made."""
        return [argument.array() for argument in self.arguments]

    def graph(self) -> tuple[Graph, list[np.ndarray]]:
        """Return the graph of the program, transformed, and the arrays it is to be run on.

        These are the arguments and what transforming has made, such as zeros.
        """
        arrays, function = self.arrays(), self.function()
        traced = trace_function(
            lambda *tracers: function(*tracers),
            leaf_types(arrays),
            function="random_program",
            name="program",
            values=None,
            inline_literals=True,
        )
        return traced.graph, [*arrays, *traced.constants]

    def function(self) -> Callable[..., Any]:
        """Return the program, transformed, as a function of arrays or tracers."""
        function = self._run
        if self.transform.endswith("grad"):
            moving = [i for i, x in enumerate(self.arguments) if dtypes.is_float(x.dtype)]
            function = ad.grad(self._total, argnums=tuple(moving))
        if self.transform.startswith("vmap"):
            function = ad.vmap(function, in_axes=self.mapped)
        return function

    def _run(self, *xs: Any) -> tuple[Any, ...]:
        pool = list(xs)
        for step in self.steps:
            pool.append(step.apply(pool))
        return tuple([pool[i] for i in self.outputs])

    def _total(self, *xs: Any) -> Any:
        floats = [y for y in self._run(*xs) if dtypes.is_float(y.dtype)]
        return sum(anp.sum(anp.astype(y, np.float64)) for y in floats)

    def __str__(self) -> str:
        count = len(self.arguments)
        lines = [f"v{i}: {argument}" for i, argument in enumerate(self.arguments)]
        lines += [f"v{i} = {step}" for i, step in enumerate(self.steps, count)]
        lines.append("return " + ", ".join(f"v{i}" for i in self.outputs))
        if self.transform != "none":
            lines.append(f"transformed by {self.transform}, mapped axes {self.mapped}")
        return "\n".join(lines)


def random_program(pick: Pick, most_steps: int = 6) -> Program:
    """Return the program that the answers of `pick` make."""
    is_long = pick(48) == 47
    shapes, most = (_LONG, _MOST_OF_LONG) if is_long else (_SHAPES, _MOST)
    shape = shapes[pick(len(shapes))]
    arguments = tuple([_argument(pick, shape, k) for k in range(1 + pick(3))])
    steps: list[Step] = []
    outputs: list[int] = []

    def body(*xs: Any) -> Any:
        pool = list(xs)
        for _ in range(2 + pick(most_steps - 1)):
            step = _MAKERS[pick(len(_MAKERS))](pick, pool, most)
            if step is None or not _is_declared(step, pool):
                continue
            try:
                result = step.apply(pool)
            except (TypeError, ValueError, OverflowError):
                continue  # an operation of other element types, a number these do not hold
            if prod(result.shape) > most:
                continue
            pool.append(result)
            steps.append(step)
        made = len(pool) - len(xs)
        outputs.extend(len(pool) - 1 - (pick(made) if k else 0) for k in range(1 + pick(3)) if made)
        return tuple([pool[i] for i in outputs])

    ad.make_graph(body)(*[argument.array() for argument in arguments])
    program = Program(arguments, tuple(steps), tuple(dict.fromkeys(outputs)))
    return _transformed(pick, program) if steps and not is_long else program


def _argument(pick: Pick, shape: tuple[int, ...], position: int) -> Argument:
    if position:  # one that broadcasts with the first
        shape = tuple([1 if pick(5) == 4 else n for n in shape])
        shape = shape[pick(len(shape) + 1) :] if pick(4) == 3 else shape
    dtype = _ARGUMENTS[pick(len(_ARGUMENTS) if pick(2) else 2)]
    layout = tuple(LAYOUTS)[pick(len(LAYOUTS))]
    contents = ("ordinary", "ordinary", "ordinary", "special", "wide")[pick(5)]
    return Argument(shape, dtype, layout, contents, pick(1000))


def _transformed(pick: Pick, program: Program) -> Program:
    """Return the program transformed, where it can be."""
    transform = (*["none"] * 5, "grad", "vmap", "vmap of grad")[pick(8)]
    if transform == "none":
        return program
    mapped: list[int | None] = []
    arguments = []
    for k, argument in enumerate(program.arguments):
        axis = None
        if transform.startswith("vmap") and not (k and pick(3) == 2):
            axis = pick(len(argument.shape) + 1)
            shape = (*argument.shape[:axis], 3, *argument.shape[axis:])
            argument = Argument(
                shape, argument.dtype, argument.layout, argument.contents, argument.seed
            )
        mapped.append(axis)
        arguments.append(argument)
    made = Program(tuple(arguments), program.steps, program.outputs, transform, tuple(mapped))
    try:
        made.graph()
    except (TypeError, ValueError):
        return program  # nothing to differentiate, or an operation without a derivative
    return made
