"""From a graph to a schedule: which equations become kernels, and in which order all run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from autodiff.base.source_info import short_line
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.graph import Atom, Eqn, Graph, Var, make_graph
from autodiff.ir.primitive import Primitive
from autodiff.passes.dead_code import dead_code
from autodiff.schedule.group import MOST_INSTRUCTIONS, CannotJoin, Group, Refusal, bytes_of
from autodiff.schedule.indexed import indexed_by
from autodiff.schedule.kernel_spec import KernelSpec, with_operands
from autodiff.schedule.multi_kernel import MultiKernel
from autodiff.schedule.reading import sources
from autodiff.schedule.recompute import recompute, used_outside

#: Points of a row from which on a kernel goes along rows.
LONG_ROW = 64

#: Equations beyond which a graph is left as it is: so many take up to some seconds.
LONGEST_GRAPH = 10_000


def _kernel_type(*avals: ArrayType, spec: KernelSpec | MultiKernel) -> tuple[ArrayType, ...]:
    return tuple(array_type(store.shape, store.dtype) for store in spec.stores)


def _not_transformed(*arguments: Any) -> Any:
    raise AssertionError("a kernel is run, not transformed")


#: The operation that an equation of a schedule applies: it runs the kernel of its parameter `spec`.
#: Schedules are no longer transformed, so it has no rules but how it is executed.
kernel = Primitive(
    name="kernel",
    kind="kernel",
    doc="Run a generated kernel.",
    type_rule=_kernel_type,
    reference=_not_transformed,
    differentiate=None,
    transpose=None,
    batch=None,
    multiple_outputs=True,
    execute=lambda operands, params, run: run(params["spec"])(*operands),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A graph some of whose equations are kernels; `refusals` says of others why they are not."""

    graph: Graph
    refusals: tuple[str, ...]

    def kernels(self) -> Iterator[KernelSpec | MultiKernel]:
        """Yield the kernels in the order in which they run."""
        for eqn in self.graph.eqns:
            if eqn.primitive is kernel:
                yield eqn.params["spec"]

    def __str__(self) -> str:
        return format_schedule(self)


def fuse(
    graph: Graph,
    refusal: Refusal,
    is_worth: Callable[[KernelSpec], bool],
    *,
    unite: bool = True,
    instructions: Callable[[Eqn], int] = lambda eqn: 1,
) -> Schedule:
    """Replace equations by kernels that compute several of them without storing what is between.

    `c = mul a b; d = sin c` becomes one kernel that reads a and b and writes d (and c, if it is
    used elsewhere). An equation joins the kernel of an operand if it is over the same index space,
    and no path leads from that kernel through others to the equation; where several would take it,
    they are united. Each refusal is stated. A kernel for which `is_worth` does not hold is left as
    the equations it was made of.

    Args:
        graph: a simplified graph without constants.
        refusal: why no kernel can compute an equation, None if one can.
        is_worth: whether a kernel is better than its equations one by one.
        instructions: how many instructions an equation takes, of which a kernel has a most.
        unite: False makes every equation a kernel of its own, to compare with.
    """
    if len(graph.eqns) > LONGEST_GRAPH:
        reason = f"the graph has more than {LONGEST_GRAPH} equations"
        return Schedule(graph, (reason,))
    return _Fusion(graph, refusal, is_worth, unite, instructions).schedule()


class _Fusion:
    """The groups as they grow. Sets of equations are bits of integers, by position."""

    def __init__(
        self,
        graph: Graph,
        refusal: Refusal,
        is_worth: Callable[[KernelSpec], bool],
        unite: bool,
        instructions: Callable[[Eqn], int],
    ) -> None:
        self.unite = unite
        self.graph = graph
        self.refusal = refusal
        self.is_worth = is_worth
        self.instructions = instructions
        self.length_of: dict[int, int] = {}  # instructions of equations, by position
        self.made_by: dict[Var, Eqn] = {v: eqn for eqn in graph.eqns for v in eqn.outputs}
        self.position = {id(eqn): i for i, eqn in enumerate(graph.eqns)}
        self.input_places, self.output_places = _places(graph.inputs), _places(graph.outputs)
        self.before: list[int] = []  # for each equation, those it depends on
        self.group_of: dict[int, Group] = {}
        #: For each group its equations, and those that they depend on.
        self.bits: dict[int, tuple[int, int]] = {}
        self.refusals: list[str] = []

    def schedule(self) -> Schedule:
        for i, eqn in enumerate(self.graph.eqns):
            self.before.append(self._depends_on(eqn))
            self._place(i, eqn)
        if self.unite:
            self._unite_siblings()
            self._recompute()
        return Schedule(dead_code(self._rewritten()), tuple(self.refusals))

    def _groups(self) -> list[Group]:
        return list(dict.fromkeys(self.group_of[i] for i in sorted(self.group_of)))

    def _recompute(self) -> None:
        """Let groups compute again what they would load of others."""
        groups, made_by = self._groups(), self.made_by
        for group in recompute(self.graph, groups, made_by, self.is_worth, self.instructions):
            for eqn in group.eqns:
                self.group_of[self.position[id(eqn)]] = group

    def _depends_on(self, eqn: Eqn) -> int:
        mask = 0
        for atom in eqn.inputs:
            source = self.made_by.get(atom)  # type: ignore[arg-type]
            if source is not None:
                place = self.position[id(source)]
                mask |= self.before[place] | 1 << place
        return mask

    def _place(self, i: int, eqn: Eqn) -> None:
        if eqn.primitive.is_layout:
            return  # it is read through, not computed
        reason = self.refusal(eqn)
        if reason is not None:
            self._refuse(eqn, reason)
            return
        united = self._united(eqn) if self.unite else None
        if united is None:
            united = Group(self._space(eqn), self.made_by)
            try:
                united.add(eqn)
            except CannotJoin as reason_given:
                self._refuse(eqn, str(reason_given))
                return
        if self.bits.get(id(united)) is None:
            self._enter(united, self.before[i])
        else:
            self.group_of[i] = united
            members = self._members(united)
            before = self.before[i] | self.bits[id(united)][1]
            self.bits[id(united)] = members, before & ~members

    def _enter(self, group: Group, before: int = 0) -> None:
        """Put a new group in the place of those that its equations are of."""
        for member in group.eqns:
            place = self.position[id(member)]
            before |= self.bits.pop(id(self.group_of.get(place)), (0, 0))[1]
            self.group_of[place] = group
        members = self._members(group)
        self.bits[id(group)] = members, before & ~members

    def _unite_siblings(self) -> None:
        """Unite kernels over one index space that read the same array, which is then read once.

        Such are a value and its gradient, or the new parameters and moments of an optimizer.
        """
        last: dict[tuple[Atom, tuple[int, ...]], Group] = {}
        ordered = {id(group): group for _, group in sorted(self.group_of.items())}
        for group in ordered.values():
            for atom in group.outside():
                if atom.aval.size <= 1 < prod(group.shape):
                    continue
                other = last.get((atom, group.shape))
                while other is not None and id(other) not in self.bits:  # part of another by now
                    other = self.group_of[self.position[id(other.eqns[0])]]
                if other is not None and other is not group and _are_alike(group, other):
                    try:
                        united = self._as_group(group.shape, [*other.eqns, *group.eqns])
                    except CannotJoin:
                        pass
                    else:
                        self._enter(united)
                        group = united
                last[atom, group.shape] = group

    def _refuse(self, eqn: Eqn, reason: str) -> None:
        line = short_line(eqn.source)
        where = f" ({line})" if line else ""
        self.refusals.append(f"{eqn.primitive.name}{where}: {reason}")

    @staticmethod
    def _space(eqn: Eqn) -> tuple[int, ...]:
        if eqn.primitive.kind == "reduction":
            return eqn.inputs[0].aval.shape
        indexed = indexed_by(eqn)
        writes = indexed is not None and indexed.combination is not None
        return (eqn.inputs[1] if writes else eqn.outputs[0]).aval.shape

    def _united(self, eqn: Eqn) -> Group | None:
        """Return the groups of an equation's operands with it as one; None if none takes it."""
        found: dict[int, tuple[int, Group]] = {}
        for atom in sources(eqn, self.made_by):
            source = self.made_by.get(atom)
            group = None if source is None else self.group_of.get(self.position[id(source)])
            if group is not None:
                saved = bytes_of(atom) + found.get(id(group), (0, group))[0]
                found[id(group)] = saved, group
        candidates = [group for _, group in sorted(found.values(), key=lambda pair: -pair[0])]
        taken: Group | None = None
        for group in candidates:
            try:
                if taken is None:
                    self._check_length([*group.eqns, eqn])
                    own = 1 << self.position[id(eqn)]
                    group.add(eqn, partial(self._check_order, group, own))
                    taken = group
                else:
                    taken = self._as_group(group.shape, [*taken.eqns, *group.eqns])
            except CannotJoin as reason:
                self._refuse(eqn, str(reason))
        return taken

    def _as_group(self, shape: tuple[int, ...], eqns: Sequence[Eqn]) -> Group:
        """Return equations as a group; raise `CannotJoin` if they cannot be one."""
        self._check_length(eqns)
        group = Group(shape, self.made_by)
        for eqn in sorted(eqns, key=lambda member: self.position[id(member)]):
            group.add(eqn)
        self._check_order(group, 0)
        return group

    def _check_length(self, eqns: Sequence[Eqn]) -> None:
        """Raise `CannotJoin` if a kernel of equations would take too long to compile."""
        total = 0
        for eqn in eqns:
            place = self.position[id(eqn)]
            if place not in self.length_of:
                self.length_of[place] = self.instructions(eqn)
            total += self.length_of[place]
        if total > MOST_INSTRUCTIONS:
            raise CannotJoin(f"the kernel would have more than {MOST_INSTRUCTIONS} instructions")

    def _members(self, group: Group) -> int:
        """Return the equations of a group as bits."""
        known = self.bits.get(id(group))
        last = 1 << self.position[id(group.eqns[-1])]
        if known is not None:  # it grows by one at a time
            return known[0] | last
        members = 0
        for eqn in group.eqns:
            members |= 1 << self.position[id(eqn)]
        return members

    def _check_order(self, group: Group, more: int) -> None:
        """Raise `CannotJoin` if a group with `more` equations would have to wait for itself."""
        members, needed = self._members(group) | more, 0
        for atom in group.outside():
            source = self.made_by.get(atom)
            if source is not None:
                place = self.position[id(source)]
                needed |= self.before[place] | 1 << place
        if self._with_groups(needed, members) & members:
            raise CannotJoin("what it reads besides needs a result of the kernel")

    def _with_groups(self, needed: int, members: int) -> int:
        """Return what must run before, given that a kernel needs all that each of it needs.

        What a group needs is mostly of groups made before it, which come after it here.
        """
        while needed:
            grown = needed
            for own, before in reversed(self.bits.values()):
                if grown & own and not own & members:
                    grown |= own | before
            if grown == needed:
                break
            needed = grown
        return needed

    def _rewritten(self) -> Graph:
        """Return the graph with its groups as kernels, each equation after what it needs."""
        used = used_outside(self.graph, self._groups())
        done: set[int] = set()
        eqns: list[Eqn] = []
        specs: dict[int, tuple[Eqn, Group] | None] = {}

        def emit(i: int) -> None:
            stack = [i]
            while stack:
                place = stack[-1]
                group = self.group_of.get(place)
                inputs = self.graph.eqns[place].inputs if group is None else group.outside()
                if group is not None and id(group) not in specs:
                    specs[id(group)] = self._kernel_equation(group, used)
                made = specs.get(id(group)) if group is not None else None
                if group is not None and made is None:
                    inputs = self.graph.eqns[place].inputs
                waiting = [
                    self.position[id(source)]
                    for atom in inputs
                    if (source := self.made_by.get(atom)) is not None  # type: ignore[arg-type]
                    and self.position[id(source)] not in done
                ]
                if waiting and place not in done:
                    stack += waiting
                    continue
                stack.pop()
                if place in done:
                    continue
                if made is None:
                    eqns.append(self.graph.eqns[place])
                    done.add(place)
                else:
                    eqns.append(made[0])
                    done.update(self.position[id(member)] for member in made[1].eqns)

        for i in range(len(self.graph.eqns)):
            if i not in done:
                emit(i)
        return make_graph(self.graph.inputs, (), eqns, self.graph.outputs)

    def _kernel_equation(self, group: Group, used: set[Var]) -> tuple[Eqn, Group] | None:
        stored = [v for eqn in group.eqns for v in eqn.outputs if v in used]
        stored = _in_order_of(self.output_places, stored)
        spec = group.spec(stored)
        if not stored or not self.is_worth(spec):
            return None
        read = {k: group.operands[k] for k in spec.operands}
        operands = _in_order_of(self.input_places, list(read.values()))
        place = {k: operands.index(atom) for k, atom in read.items()}
        params = {"spec": with_operands(spec, place)}
        return Eqn(kernel, tuple(operands), params, tuple(stored), group.eqns[-1].source), group


def _places(atoms: Sequence[Atom]) -> dict[Atom, int]:
    """Return where each atom is for the first time."""
    return {atom: i for i, atom in reversed(list(enumerate(atoms)))}


def _in_order_of(places: dict[Atom, int], atoms: Sequence[Any]) -> list[Any]:
    """Return atoms in the order in which a graph names them, then the others.

    A kernel of just a graph's inputs that gives just its outputs is then called as the graph is.
    """
    return sorted(atoms, key=lambda atom: places.get(atom, len(places)))


def _are_alike(group: Group, other: Group) -> bool:
    """Return whether one kernel goes over memory as both do by themselves."""
    points = {group.points, other.points} - {None}
    if len(points) == 2:
        return False
    if None not in (group.points, other.points) or not points:
        return True
    (axes,) = points
    assert axes is not None
    first = len(group.shape) - len(axes)
    is_last = sorted(axes) == list(range(first, len(group.shape)))
    return is_last and (not first or prod(group.shape[first:]) >= LONG_ROW)


def format_schedule(schedule: Schedule) -> str:
    """Return the kernels of a schedule and its graph as text, with the refusals."""
    numbered = [f"# kernel {i}\n{spec}" for i, spec in enumerate(schedule.kernels())]
    refused = [f"# not fused: {text}" for text in schedule.refusals]
    return "\n".join([*numbered, *refused])
