"""Buffer planning: results of kernels written over operands that nothing needs afterwards.

    b = kernel a        `a` is not read again, nothing else has its memory, and the kernel reads
                        element i of it only for element i of `b`: `b` takes the memory of `a`

A large array that is written where it was read takes half the memory, and is still in the cache.
One that is updated at places need not be copied before.
"""

from __future__ import annotations

from dataclasses import replace

from autodiff.ir.graph import Eqn, Graph, Var, make_graph
from autodiff.schedule.fuse import kernel
from autodiff.schedule.group import bytes_of
from autodiff.schedule.kernel_spec import Gather, KernelSpec, Load, Store, Update, passes

#: Bytes from which on memory is worth to be used again: smaller arrays are in the cache anyway.
LARGE = 1 << 20


def with_reuse(
    graph: Graph, donated: frozenset[int], *, updates_only: bool = False
) -> tuple[Graph, frozenset[int]]:
    """Return a schedule's graph with stores over operands, and the inputs that are written over.

    Only memory that kernels and prepared operations have made is used again, and that of the
    inputs at the positions `donated`.

    Args:
        graph: a schedule's.
        donated: positions of inputs.
        updates_only: whether only updates at places are made over operands, of whatever size:
            where memory for results costs nothing but a copy takes a kernel.
    """
    memory = _Memory(graph, donated)
    eqns = list(graph.eqns)
    overwritten: set[Var] = set()
    for i, eqn in enumerate(graph.eqns):
        if eqn.primitive is not kernel:
            continue
        spec, taken = eqn.params["spec"], set()
        stores = []
        for store, var in zip(spec.stores, eqn.outputs, strict=True):
            over = None
            if isinstance(store, Update) if updates_only else bytes_of(var) >= LARGE:
                free = [k for k in range(len(eqn.inputs)) if k not in taken]
                over = next(
                    (k for k in free if _fits(spec, store, k) and memory.is_free(eqn, k, i)), None
                )
            if over is not None:
                taken.add(over)
                overwritten.update({eqn.inputs[over]} & set(graph.inputs))  # type: ignore[arg-type]
            stores.append(replace(store, over=over))
        if taken:
            params = {"spec": replace(spec, stores=tuple(stores))}
            eqns[i] = Eqn(kernel, eqn.inputs, params, eqn.outputs, eqn.source)
    places = [i for i, var in enumerate(graph.inputs) if var in overwritten]
    return make_graph(graph.inputs, (), eqns, graph.outputs), frozenset(places)


def _fits(spec: KernelSpec, store: Store | Update, operand: int) -> bool:
    """Return whether a store may be written over an operand: each element is read before.

    Rows are computed by themselves, and within a row one pass after another. What is read at
    places may be read at any time.
    """
    loads = [load for load in spec.loads if load.operand == operand]
    gathers = [x for x in spec.values if isinstance(x, Gather) and x.operand == operand]
    copies = [x for x in spec.updates if x.initial == operand]
    if isinstance(store, Update):
        return copies == [store] and not loads and not gathers
    if gathers or copies:
        return False
    same = Load(operand, store.dtype, store.strides, store.offset)
    number = passes(spec)
    is_last = number[store.value] == max(number) or not any(store.strides[spec.rows :])
    return is_last and all(load == same for load in loads)


class _Memory:
    """Which values of a graph have memory of their own, and until when it is needed."""

    def __init__(self, graph: Graph, donated: frozenset[int]) -> None:
        self.root: dict[Var, Var] = {}
        self.owned = {var for i, var in enumerate(graph.inputs) if i in donated}
        self.last_use: dict[Var, int] = {}
        for i, eqn in enumerate(graph.eqns):
            for atom in eqn.inputs:
                if isinstance(atom, Var):
                    self.last_use[self._root(atom)] = i
            for var in eqn.outputs:
                if eqn.primitive.view and isinstance(eqn.inputs[0], Var):
                    self.root[var] = self._root(eqn.inputs[0])
                elif eqn.primitive is kernel or eqn.primitive.prepared is not None:
                    self.owned.add(var)
        for atom in graph.outputs:
            if isinstance(atom, Var):
                self.last_use[self._root(atom)] = len(graph.eqns)

    def _root(self, var: Var) -> Var:
        return self.root.get(var, var)

    def is_free(self, eqn: Eqn, operand: int, position: int) -> bool:
        """Return whether the memory of an equation's operand is its own, and is needed no more."""
        var = eqn.inputs[operand]
        if not isinstance(var, Var) or var not in self.owned:
            return False
        readers = [x for x in eqn.inputs if isinstance(x, Var) and self._root(x) is var]
        return len(readers) == 1 and self.last_use[var] == position
