"""From a schedule to one with fewer launches: kernels alike, each over arrays of its own, are one.

The update of an optimizer is a kernel for each of its parameters. If these are small, a card is
busy with launches. In

    a = kernel x        over 100 points
    b = sort x
    c = kernel y        over 7 points, what the first one computes
    d = add a b

the kernels become one, where the last of them was:

    b = sort x
    a, c = kernel x y   over 100 points and over 7
    d = add a b

A kernel waits for others until just before the first equation that needs a result of it, and
nothing else is moved but views of results. So all that an equation needs still comes before it, and
no kernel needs another one of its launch, even by way of other equations: these come after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from autodiff.base.source_info import short_line
from autodiff.ir.graph import Atom, Eqn, Graph, Var, make_graph
from autodiff.schedule.fuse import Schedule, kernel
from autodiff.schedule.group import bytes_of
from autodiff.schedule.kernel_spec import (
    Compute,
    KernelSpec,
    Load,
    Position,
    Store,
    contiguous_strides,
)
from autodiff.schedule.multi_kernel import Member, MultiKernel, capacity

#: Bytes that the arrays of a launch have at most. So many take a card 50 us or more, beside which a
#: launch is short; and no more memory than this waits to be free until the others have been
#: reached. An estimate from the rate of an H200, not measured.
MOST_BYTES = 1 << 28


class _Apart(Exception):
    """Why a kernel is launched by itself; the text is the stated reason."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A kernel that may be launched with others.

    Args:
        eqn: the equation, `position` its place in the graph.
        size: its points.
        reads: for each load of its body an operand and an offset in elements.
        due: the position of the first equation that needs a result.
    """

    eqn: Eqn
    position: int
    size: int
    reads: tuple[tuple[Atom, int], ...]
    due: int

    @property
    def bytes(self) -> int:
        """The bytes of its arrays."""
        return sum(map(bytes_of, (*self.eqn.inputs, *self.eqn.outputs)))


def launch_together(schedule: Schedule) -> Schedule:
    """Return a schedule whose kernels over contiguous arrays are launched together if alike.

    Kernels are alike if they compute the same on arrays of the same types. Each is over as many
    points as its own arrays have elements; operands of a single element may be its own too, or the
    same for all. Refusals say why kernels alike are launched one by one all the same.
    """
    graph = schedule.graph
    due = _due(graph)
    alike: dict[KernelSpec, list[_Candidate]] = {}
    apart: dict[KernelSpec, list[tuple[Eqn, str]]] = {}
    for i, eqn in enumerate(graph.eqns):
        if eqn.primitive is kernel:
            spec = eqn.params["spec"]
            try:
                body, size, reads = _flat(spec, eqn.inputs)
            except _Apart as reason:
                apart.setdefault(spec, []).append((eqn, str(reason)))
            else:
                alike.setdefault(body, []).append(_Candidate(eqn, i, size, reads, due[i]))
    refusals = [
        f"{len(found)} kernels{_where(found[0][0])} are launched one by one: {found[0][1]}"
        for found in apart.values()
        if len(found) > 1
    ]
    launches: dict[int, Eqn] = {}  # by the position where it runs
    moved: set[int] = set()
    for body, candidates in alike.items():
        shared = _shared(body, candidates)
        for launch in _launches(candidates, capacity(body, shared), refusals):
            if len(launch) > 1:
                moved.update([x.position for x in launch])
                launches[launch[-1].position] = _equation(body, shared, launch)
    graph = _rewritten(graph, launches, moved) if launches else graph
    return Schedule(graph, (*schedule.refusals, *refusals))


def _where(eqn: Eqn) -> str:
    line = short_line(eqn.source)
    return f" ({line})" if line else ""


def _due(graph: Graph) -> list[int]:
    """Return for each equation the position of the first one that needs a result of it.

    Views of results need nothing themselves: they are made when they are needed.
    """
    made_by = {var: i for i, eqn in enumerate(graph.eqns) for var in eqn.outputs}
    due = [len(graph.eqns)] * len(graph.eqns)
    for i in reversed(range(len(graph.eqns))):
        eqn = graph.eqns[i]
        needed = due[i] if eqn.primitive.view else i
        for atom in eqn.inputs:
            if isinstance(atom, Var) and atom in made_by:
                due[made_by[atom]] = min(due[made_by[atom]], needed)
    return due


def _flat(
    spec: KernelSpec, operands: Sequence[Atom]
) -> tuple[KernelSpec, int, tuple[tuple[Atom, int], ...]]:
    """Return the body of a kernel over contiguous arrays, its points, and what its loads read.

    Raises:
        _Apart: it is another kind of kernel.
    """
    size, strides = prod(spec.shape), contiguous_strides(spec.shape)

    def along(x: Load | Position | Store) -> tuple[int, ...]:
        """Return the stride of a part, whose points must be neighbours or one place."""
        if size == 1 and isinstance(x, Load):
            return (1 if operands[x.operand].aval.shape else 0,)
        found = {
            (stride, contiguous)
            for stride, contiguous, n in zip(x.strides, strides, spec.shape, strict=True)
            if n > 1
        }
        if all(stride == contiguous for stride, contiguous in found):
            return (1,)
        if not any(stride for stride, _ in found):
            return (0,)
        raise _Apart("an array is gone through in another order than in memory")

    loads, reads, values, stores = [], [], [], []
    for load in spec.loads:
        if load.bounds:
            raise _Apart("an array is read within bounds")
        reads.append((operands[load.operand], load.offset))
        loads.append(replace(load, operand=len(loads), strides=along(load), offset=0))
    for value in spec.values:
        if not isinstance(value, Compute | Position):
            raise _Apart("a point is not computed of its own elements alone")
        if isinstance(value, Position):
            value = replace(value, strides=along(value))
        values.append(value)
    for store in spec.stores:
        if not isinstance(store, Store) or store.offset or along(store) != (1,):
            raise _Apart("a result is not a contiguous array")
        if not store.shape:
            raise _Apart("a result is a single number")
        assert store.over is None, store
        stores.append(replace(store, strides=(1,), shape=(0,)))
    body = KernelSpec((0,), 0, tuple(loads), tuple(values), tuple(stores))
    if capacity(body, frozenset()) < 2:
        raise _Apart("it has too many arrays to be told of several times")
    return body, size, tuple(reads)


def _shared(body: KernelSpec, candidates: Sequence[_Candidate]) -> frozenset[int]:
    """Return the loads of a single element that is the same for all."""
    return frozenset(
        k
        for k, load in enumerate(body.loads)
        if load.strides == (0,) and len({candidate.reads[k] for candidate in candidates}) == 1
    )


def _launches(
    candidates: Sequence[_Candidate], most: int, refusals: list[str]
) -> list[list[_Candidate]]:
    """Return candidates, in order of their positions, as few launches of at most `most`.

    A launch is at the position of its last one, and all are due later. Each takes as many as it
    can, which makes the fewest. What takes long by itself is left out.
    """
    launches: list[list[_Candidate]] = []
    waiting: list[_Candidate] = []
    room, left, due = 0, 0, 0
    for x in candidates:
        if x.bytes > MOST_BYTES:
            continue
        is_due = x.position >= due
        waiting += [x] if is_due and launches else []
        if not room or left < x.bytes or is_due:
            launches.append([])
            room, left, due = most, MOST_BYTES, x.due
        launches[-1].append(x)
        room, left, due = room - 1, left - x.bytes, min(due, x.due)
    if waiting:
        refusals.append(
            f"{len(waiting)} kernels{_where(waiting[0].eqn)} are not launched with those alike "
            "before them: a result of these is needed first"
        )
    return launches


def _equation(body: KernelSpec, shared: frozenset[int], launch: Sequence[_Candidate]) -> Eqn:
    place: dict[Atom, int] = {}
    for x in launch:
        for atom, _ in x.reads:
            place.setdefault(atom, len(place))
    members = [
        Member(
            x.size,
            tuple([(place[atom], offset) for atom, offset in x.reads]),
            tuple([store.shape for store in x.eqn.params["spec"].stores]),
        )
        for x in launch
    ]
    outputs = [var for x in launch for var in x.eqn.outputs]
    params = {"spec": MultiKernel(body, shared, tuple(members))}
    return Eqn(kernel, tuple(place), params, tuple(outputs), launch[-1].eqn.source)


def _rewritten(graph: Graph, launches: dict[int, Eqn], moved: set[int]) -> Graph:
    """Return a graph with launches at their positions instead of the equations at `moved`.

    Views of results that are not there yet wait until something needs them.
    """
    eqns: list[Eqn] = []
    missing = {var for i in moved for var in graph.eqns[i].outputs}
    waiting: dict[Var, Eqn] = {}

    def made(atom: Atom) -> None:
        """Make a view that waits, after the views it is of."""
        chain = []
        while isinstance(atom, Var) and atom in waiting:
            chain.append(waiting.pop(atom))
            atom = chain[-1].inputs[0]
        eqns.extend(reversed(chain))

    for i, eqn in enumerate(graph.eqns):
        if i in moved:
            if i in launches:
                for atom in launches[i].inputs:
                    made(atom)
                eqns.append(launches[i])
                missing.difference_update(launches[i].outputs)
        elif eqn.primitive.view and (eqn.inputs[0] in missing or eqn.inputs[0] in waiting):
            waiting.update(dict.fromkeys(eqn.outputs, eqn))
        else:
            for atom in eqn.inputs:
                made(atom)
            eqns.append(eqn)
    for var in list(waiting):
        made(var)
    return make_graph(graph.inputs, (), eqns, graph.outputs)
