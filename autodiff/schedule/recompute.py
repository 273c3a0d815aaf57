"""Values that are computed again in the kernel that reads them, rather than stored and loaded.

A kernel that reads another one's values in another order, or over another index space, loads them.
Where they are cheap, it computes them of what they were computed from:

    d = x[1:] - x[:-1]                          one kernel:
    y = pad(d, (1, 0)) - pad(d, (0, 1))         y = (x[i] - x[i-1]) where .. - (x[i+1] - x[i]) ..

So nothing is stored between, and a kernel all of whose values are computed again is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod

from autodiff.ir.graph import Atom, Eqn, Graph, Var
from autodiff.schedule.group import MOST_INSTRUCTIONS, CannotJoin, Group, bytes_of
from autodiff.schedule.kernel_spec import (
    Compute,
    KernelSpec,
    Reduce,
    Scan,
    affine_maps,
    read_by,
)

#: Values and loads by which a kernel may grow, that a pass over memory is saved.
MOST_ADDED = 24

#: Values and loads of a kernel that takes in another one, at most.
MOST_TOGETHER = 100

#: Instructions of an operation from which on its result is rather stored and loaded.
COSTLY = 8

#: How often the same number is computed along axes that it does not depend on, at most.
MOST_REPEATED = 4

#: How often a kernel is looked at again after it has taken in another one's values.
ROUNDS = 4


def recompute(
    graph: Graph,
    groups: Sequence[Group],
    made_by: Mapping[Var, Eqn],
    is_worth: Callable[[KernelSpec], bool],
    instructions: Callable[[Eqn], int],
) -> list[Group]:
    """Return the groups of a graph, some computing again what they would read of others.

    What is laid out of kernels' values and is needed as an array becomes a group too, if it can be
    computed where it is laid out. Groups that are left without use are still among the result.
    """
    return _Recomputing(graph, groups, made_by, is_worth, instructions).run()


class _Recomputing:
    """The groups as they change. `readers` of a value: the groups that load it, None for others."""

    def __init__(
        self,
        graph: Graph,
        groups: Sequence[Group],
        made_by: Mapping[Var, Eqn],
        is_worth: Callable[[KernelSpec], bool],
        instructions: Callable[[Eqn], int],
    ) -> None:
        self.groups = list(groups)
        self.made_by = made_by
        self.is_worth = is_worth
        self.instructions = instructions
        self.home = {v: group for group in groups for v in group.made}
        self.laid_out: list[Group] = []
        self.readers: dict[Var, set[Group | None]] = {}
        grouped = {id(eqn) for group in groups for eqn in group.eqns}
        others = [x for e in graph.eqns if id(e) not in grouped for x in _needed_by(e)]
        self._read(_variables((*graph.outputs, *others)), None)
        for group in groups:
            self._read(group.outside(), group)

    def run(self) -> list[Group]:
        for group in [*self.laid_out, *reversed(self.groups)]:
            for _ in range(ROUNDS):
                better = self._improved(group)
                if better is None:
                    break
                self._replace(group, better)
                group = better
        return self.groups

    def _read(self, values: Iterable[Var], reader: Group | None) -> None:
        """Note who reads values, and what must be laid out for that."""
        stack: list[tuple[Var, Group | None]] = [(v, reader) for v in values]
        while stack:
            v, reader = stack.pop()
            is_first = v not in self.readers
            self.readers.setdefault(v, set()).add(reader)
            eqn = self.made_by.get(v)
            if not is_first or eqn is None or not eqn.primitive.is_layout:
                continue
            group = self._laid_out(eqn)
            if group is None:
                stack += [(x, None) for x in _variables(eqn.inputs)]
            else:
                self.laid_out.append(group)
                stack += [(x, group) for x in group.outside()]

    def _laid_out(self, eqn: Eqn) -> Group | None:
        """Return what lays out arrays and is needed as an array, as a group."""
        if eqn.primitive.pieces is None:
            return None
        group = Group(eqn.outputs[0].aval.shape, self.made_by)
        try:
            group.add(eqn)
        except CannotJoin:
            return None
        return group

    def _replace(self, group: Group, better: Group) -> None:
        if group in self.groups:
            self.groups[self.groups.index(group)] = better
        else:
            self.groups.append(better)
        self.home.update(dict.fromkeys(better.made, better))
        self._read(better.outside(), better)
        self._leave(group)

    def _leave(self, group: Group) -> None:
        """Note that a group reads nothing any more, nor those that nobody reads for that."""
        stack = [group]
        while stack:
            group = stack.pop()
            for v in group.outside():
                self.readers[v].discard(group)
                maker = self.home.get(v)
                if maker is not None and not self._readers_of(maker):
                    stack.append(maker)

    def _readers_of(self, group: Group) -> set[Group | None]:
        return {x for v in group.made for x in self.readers.get(v, ())}

    def _improved(self, group: Group) -> Group | None:
        """Return a group that reads less of one other; None if there is none."""
        makers = dict.fromkeys(self.home[v] for v in group.outside() if v in self.home)
        for maker in makers:
            values = self._pointwise(maker)
            read = [v for v in group.outside() if v in values]
            if not read or maker is group:
                continue
            if self._readers_of(maker) == {group}:
                better = self._without(group, maker, values)
                if better is not None:
                    return better
            for v in read:
                better = self._with_less(group, v, values - {x for x in read if x is not v})
                if better is not None:
                    return better
        return None

    def _pointwise(self, group: Group) -> frozenset[Var]:
        """Return the values of a group that elementwise equations make at points."""
        return frozenset(
            eqn.outputs[0]
            for eqn in group.eqns
            if eqn.primitive.kind == "elementwise"
            and not eqn.primitive.multiple_outputs
            and not group.is_row[group.known[eqn.outputs[0]]]
        )

    def _without(self, group: Group, maker: Group, values: frozenset[Var]) -> Group | None:
        """Return a group that makes another one needless, and does not compute much more."""
        if _size(group) + _size(maker) > MOST_TOGETHER:
            return None
        better = self._again(group, values)
        if better is None or not set(maker.made).isdisjoint(better.outside()):
            return None
        if _size(better) > _size(group) + _size(maker) + MOST_ADDED:
            return None
        eqns = [eqn for eqn in maker.eqns if eqn.outputs[0] in values]
        applications = {_application(eqn) for eqn in eqns}
        costly = {_application(eqn) for eqn in eqns if self._is_costly(eqn)}
        if _count(better, costly) > _count(group, costly) + _count(maker, costly):
            return None
        if _repeated(better, costly) > 1 or _repeated(better, applications) > MOST_REPEATED:
            return None
        if costly and prod(maker.shape) == 1 < prod(group.shape):
            return None  # every point would compute the same
        return better

    def _with_less(self, group: Group, v: Var, values: frozenset[Var]) -> Group | None:
        """Return a group that computes one value again, and reads no more for that."""
        tree = self._tree(v, values)
        known = {v, *group.outside()}
        read = {y for x in tree for y in self._operands(self.made_by[x]) if y not in tree}
        if sum(bytes_of(x) for x in read if x not in known) > bytes_of(v):
            return None
        if any(self._is_costly(self.made_by[x]) for x in tree):
            return None
        if not all(self._is_rounded_alike(self.made_by[x], tree) for x in tree):
            return None
        better = self._again(group, frozenset(tree))
        if better is None or _size(better) > _size(group) + MOST_ADDED:
            return None
        if _repeated(better, {_application(self.made_by[x]) for x in tree}) > MOST_REPEATED:
            return None
        return None if v in better.outside() else better

    def _is_costly(self, eqn: Eqn) -> bool:
        """Return whether an equation costs more than storing its result and loading it."""
        return self.instructions(eqn) > COSTLY

    def _again(self, group: Group, values: frozenset[Var]) -> Group | None:
        better = Group(group.shape, self.made_by, group.again | values)
        eqns = [*group.eqns, *[self.made_by[v] for v in better.again]]
        if sum(self.instructions(eqn) for eqn in eqns) > MOST_INSTRUCTIONS:
            return None
        try:
            for eqn in group.eqns:
                better.add(eqn)
        except CannotJoin:
            return None
        stored = [v for v in better.made if self.readers.get(v)]
        return better if stored and self.is_worth(better.spec(stored)) else None

    def _tree(self, v: Var, values: frozenset[Var]) -> set[Var]:
        """Return what must be computed to compute a value of others than `values`."""
        stack, tree = [v], set()
        while stack:
            x = stack.pop()
            if x not in tree:
                tree.add(x)
                stack += [y for y in self._operands(self.made_by[x]) if y in values]
        return tree

    def _operands(self, eqn: Eqn) -> Iterable[Var]:
        """Return what an equation's operands are laid out of."""
        stack: list[Atom] = list(eqn.inputs)
        while stack:
            atom = stack.pop()
            if isinstance(atom, Var):
                made = self.made_by.get(atom)
                if made is not None and made.primitive.is_layout:
                    stack += made.inputs
                else:
                    yield atom

    def _is_rounded_alike(self, eqn: Eqn, tree: set[Var]) -> bool:
        """Return whether an equation has the same bits in every kernel, of the same operands.

        A product may be rounded together with the sum it is part of, and in another kernel not.
        """
        if eqn.primitive.operator not in ("add", "sub"):
            return True
        made = [self.made_by[x] for x in self._operands(eqn) if x in tree]
        return all(x.primitive.operator in ("add", "sub", "neg") for x in made)


def _size(group: Group) -> int:
    return len(group.values) + len(group.loads)


def _application(x: Eqn | Compute) -> object:
    params = tuple(x.params.items()) if isinstance(x, Eqn) else x.params
    return x.primitive, params


def _count(group: Group, applications: set[object]) -> int:
    computed = [x for x in group.values if isinstance(x, Compute)]
    return sum(_application(x) in applications for x in computed)


def _repeated(group: Group, applications: set[object]) -> int:
    """Return how often a group computes the same of some applications at most.

    Along an axis that nothing it is computed of depends on, but once for all points of a row. What
    depends on no axis is not counted: compilers take it out of loops.
    """
    axes: list[set[int]] = []
    most = 1
    for value in group.values:
        operands = read_by(value)
        maps = affine_maps(value)
        maps += [strides for x in operands if x < 0 for strides in affine_maps(group.loads[-1 - x])]
        live = {i for strides in maps for i, s in enumerate(strides) if s}
        live = live.union(*[axes[x] for x in operands if x >= 0])
        if isinstance(value, Scan):
            live = live.union(group.points or ())
        axes.append(live - set(group.points or ()) if isinstance(value, Reduce) else live)
        if isinstance(value, Compute) and _application(value) in applications and live:
            idle = [n for i, n in enumerate(group.shape) if i not in live]
            in_rows = live.isdisjoint(group.points or ())
            once = prod(group.shape[i] for i in group.points or () if in_rows)
            most = max(most, prod(idle) // once)
    return most


def _needed_by(eqn: Eqn) -> Sequence[Atom]:
    """Return what must be there for an equation that is no layout."""
    return () if eqn.primitive.is_layout else eqn.inputs


def _variables(atoms: Iterable[Atom]) -> list[Var]:
    return [atom for atom in atoms if isinstance(atom, Var)]


def used_outside(graph: Graph, groups: Sequence[Group]) -> set[Var]:
    """Return the values read by other kernels or equations than the one that makes them.

    What is left without use reads nothing.
    """
    home = {v: group for group in groups for v in group.made}
    made_by = {v: eqn for eqn in graph.eqns for v in eqn.outputs}
    used: set[Var] = set()
    seen: set[Group] = set()
    stack = _variables(
        (*graph.outputs, *[x for e in graph.eqns if not e.outputs for x in e.inputs])
    )
    while stack:
        v = stack.pop()
        if v in used:
            continue
        used.add(v)
        group = home.get(v)
        if group is None:
            stack += _variables(made_by[v].inputs) if v in made_by else []
        elif group not in seen:
            seen.add(group)
            stack += group.outside()
    return used
