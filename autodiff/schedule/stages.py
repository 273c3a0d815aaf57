"""A kernel that goes over rows several times, as several kernels that go over them once.

Where rows are few and long, no single block of threads should go over a whole one; but threads of
several blocks meet only at the end of a kernel. So each pass becomes a kernel, and the results of
its reductions arrays between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autodiff.schedule.kernel_spec import (
    KernelSpec,
    KernelValue,
    Load,
    Reduce,
    Store,
    contiguous_strides,
    in_rows,
    passes,
    read_by,
    renumbered,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the kernels.

    `operands` are those of the whole kernel by number, and arrays between kernels as -1, -2, ...;
    `outputs` likewise. `is_sorted`: its one output is sorted before the next stage.
    """

    spec: KernelSpec
    operands: tuple[int, ...]
    outputs: tuple[int, ...]
    is_sorted: bool = False


def in_stages(spec: KernelSpec) -> tuple[Stage, ...]:
    """Return a kernel as one for each pass, in the order in which they run.

    `v1 = sum over points of v0; v2 = divide v0 v1` becomes `v1 = sum over points of v0`, stored in
    an array -1, and `v2 = divide v0 v1` where v1 is loaded from there.
    """
    return _Stages(spec).stages()


class _Stages:
    def __init__(self, spec: KernelSpec) -> None:
        self.spec = spec
        self.first = len(spec.loads)
        self.is_row = in_rows(spec)
        self.number = passes(spec)
        self.stores = [store for store in spec.stores if isinstance(store, Store)]
        assert len(self.stores) == len(spec.stores), "an update has no pass"
        reductions = [i for i, v in enumerate(spec.values, self.first) if isinstance(v, Reduce)]
        self.between = {i: -1 - k for k, i in enumerate(reductions)}

    def stages(self) -> tuple[Stage, ...]:
        pass_of = [self._pass_of_store(store.value) for store in self.stores]
        pass_of_reduction = {i: self.number[i] - 1 for i in self.between}
        last = max([*pass_of, *pass_of_reduction.values()])
        wanted = []
        for number in range(last + 1):
            stored = [k for k, p in enumerate(pass_of) if p == number]
            made = [i for i, p in pass_of_reduction.items() if p == number]
            wanted.append((stored, made, self._needed(stored, made, number)))
        result = []
        for number, (stored, made, needed) in enumerate(wanted):
            later = set().union(*[needed for _, _, needed in wanted[number + 1 :]])
            kept = [i for i in made if i in later]
            if stored or kept:
                result.append(self._stage(stored, kept, needed, number))
        return tuple(result)

    def _pass_of_store(self, value: int) -> int:
        """Return the pass in which a value is stored: one in rows after it, with its reductions."""
        number = self.number[value]
        return max(0, number - 1) if self.is_row[value] else number

    def _needed(self, stored: Sequence[int], made: Sequence[int], number: int) -> set[int]:
        """Return the values that a stage computes or loads; reductions made before are loaded."""
        stack = [self.stores[k].value for k in stored] + list(made)
        needed: set[int] = set()
        while stack:
            i = stack.pop()
            if i in needed:
                continue
            needed.add(i)
            if i < self.first or (i in self.between and self.number[i] - 1 < number):
                continue
            stack += read_by(self.spec.values[i - self.first])
        return needed

    def _stage(
        self, stored: Sequence[int], kept: Sequence[int], needed: set[int], number: int
    ) -> Stage:
        spec = self.spec
        operands: list[int] = []
        loads: list[Load] = []
        place: dict[int, int] = {}

        def enter(operand: int) -> int:
            if operand not in operands:
                operands.append(operand)
            return operands.index(operand)

        for i in sorted(x for x in needed if x < self.first):
            place[i] = len(loads)
            loads.append(replace(spec.loads[i], operand=enter(spec.loads[i].operand)))
        before = [i for i in self.between if i in needed and self.number[i] - 1 < number]
        for i in before:
            place[i] = len(loads)
            strides = self._row_strides()
            loads.append(Load(enter(self.between[i]), spec.dtype_of(i), strides))
        values: list[KernelValue] = []
        for i in sorted(x for x in needed if x >= self.first and x not in before):
            place[i] = len(loads) + len(values)
            values.append(renumbered(spec.values[i - self.first], place.__getitem__))
        stores = [replace(self.stores[k], value=place[self.stores[k].value]) for k in stored]
        rows = spec.shape[: spec.rows]
        stores += [Store(place[i], spec.dtype_of(i), self._row_strides(), rows) for i in kept]
        outputs = (*stored, *[self.between[i] for i in kept])
        made = KernelSpec(spec.shape, spec.rows, tuple(loads), tuple(values), tuple(stores))
        return Stage(made, tuple(operands), outputs)

    def _row_strides(self) -> tuple[int, ...]:
        rows = self.spec.shape[: self.spec.rows]
        return (*contiguous_strides(rows), *(0,) * (len(self.spec.shape) - len(rows)))
