"""A group of equations being made into one kernel, and why an equation cannot join it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from autodiff.ir.avals import ArrayType
from autodiff.ir.graph import Atom, Eqn, Literal, Var, is_repeated_scalar
from autodiff.schedule.kernel_spec import (
    Compute,
    KernelSpec,
    Load,
    Operand,
    Reduce,
    Store,
    contiguous_strides,
)

#: From an equation to the reason why no kernel can compute it, None if one can.
Refusal = Callable[[Eqn], str | None]


#: Values that one kernel computes at most: compiling takes ever longer for longer code.
MOST_VALUES = 400

#: Arrays that one kernel reads at most, each of which takes a register.
MOST_LOADS = 24


class CannotJoin(Exception):
    """Why an equation cannot be part of a group; the text is the stated reason."""


class Group:
    """Equations over one index space. `points` are the axes along a row, once a reduction says.

    `made_by` maps every value of the graph to its equation. Operands from outside are loads; a view
    of one is a load with the view's strides. `known` are the values computed so far, by number.
    """

    def __init__(self, shape: tuple[int, ...], made_by: Mapping[Var, Eqn]) -> None:
        self.shape = shape
        self.points: tuple[int, ...] | None = None
        self.made_by = made_by
        self.eqns: list[Eqn] = []
        self.operands: list[Atom] = []
        self.loads: list[Load] = []
        self.values: list[Compute | Reduce] = []
        self.known: dict[Var, int] = {}
        self.is_row: list[bool] = []  # one flag per value, in the order of `values`

    def add(self, eqn: Eqn, check: Callable[[], None] = lambda: None) -> None:
        """Take an equation in, or raise `CannotJoin` and stay as before.

        `check()` may raise it too, when the group is as it would be.
        """
        if len(self.values) >= MOST_VALUES:
            raise CannotJoin(f"the kernel computes {MOST_VALUES} values already")
        state = self.points, len(self.operands), len(self.loads), len(self.values)
        try:
            if eqn.primitive.combine is not None:
                self._add_reduction(eqn)
            else:
                self._add_elementwise(eqn)
            if self.points is not None and not self._points_are_one_axis(self.points):
                raise CannotJoin("with it the points of a row are not one axis for all operands")
            if len(self.loads) > MOST_LOADS:
                raise CannotJoin(f"the kernel would read more than {MOST_LOADS} arrays")
            check()
        except CannotJoin:
            self.points, operands, loads, values = state
            for var in eqn.outputs:
                self.known.pop(var, None)
            del self.operands[operands:], self.loads[loads:]
            del self.values[values:], self.is_row[values:]
            raise
        self.eqns.append(eqn)

    # Values are numbered by themselves here, loads as -1, -2, ..; `spec` puts the loads in front.

    def _add_elementwise(self, eqn: Eqn) -> None:
        shape = eqn.outputs[0].aval.shape
        at_points = shape == self.shape
        if not at_points and not self._is_row_shape(shape):
            raise CannotJoin(f"its shape {shape} is not the kernel's {self.shape}")
        operands = tuple(self._operand(atom, at_points) for atom in eqn.inputs)
        params = tuple(eqn.params.items())
        for k, var in enumerate(eqn.outputs):
            value = Compute(eqn.primitive, operands, params, var.aval.dtype, eqn.source, k)
            self._enter(var, value, not at_points)

    def _add_reduction(self, eqn: Eqn) -> None:
        source, axes = eqn.inputs[0], eqn.params["axes"]
        if source.aval.shape != self.shape:
            raise CannotJoin(f"it reduces {source.aval.shape}, not the kernel's {self.shape}")
        if self.points not in (None, axes):
            raise CannotJoin("another reduction of the kernel is over other axes")
        self.points = axes
        operand = self._operand(source, True)
        if isinstance(operand, Literal):
            raise CannotJoin("it reduces a number")
        (out,) = eqn.outputs
        self._enter(out, Reduce(eqn.primitive, operand, out.aval.dtype, eqn.source), True)

    def _enter(self, var: Var, value: Compute | Reduce, is_row: bool) -> None:
        self.known[var] = len(self.values)
        self.values.append(value)
        self.is_row.append(is_row)

    @property
    def rows(self) -> list[int]:
        """The axes that number rows."""
        return [i for i in range(len(self.shape)) if i not in (self.points or ())]

    def _is_row_shape(self, shape: Sequence[int]) -> bool:
        """Return whether a shape is that of one number for each row."""
        return self.points is not None and _without_ones(shape) == _without_ones(
            [self.shape[i] for i in self.rows]
        )

    def _points_are_one_axis(self, points: Sequence[int]) -> bool:
        """Return whether every load goes through the points of a row at one stride."""
        axes = [i for i in points if self.shape[i] != 1]
        strides = [load.strides for load in self.loads]
        return all(
            read[one] == read[other] * self.shape[other]
            for read in [*strides, contiguous_strides(self.shape)]
            for one, other in pairwise(axes)
        )

    def _operand(self, atom: Atom, at_points: bool) -> Operand:
        if isinstance(atom, Literal) and atom.is_scalar:
            return atom
        if isinstance(atom, Literal) and is_repeated_scalar(atom.value):
            return Literal(np.asarray(atom.value).flat[0])
        base, views = self._viewed(atom)
        number = self.known.get(base) if isinstance(base, Var) else None
        if number is None:
            return -1 - self._load(atom, base, views, at_points)
        if not self.is_row[number]:
            if views or not at_points:
                raise CannotJoin("it reads a value of the kernel in another order")
            return number
        if at_points:
            self._check_repeated(base.aval.shape, views)
        else:
            self._row_axes(base.aval.shape, views)
        return number

    def _check_repeated(self, shape: tuple[int, ...], views: Sequence[Eqn]) -> None:
        """Raise `CannotJoin` unless views of a row's number repeat it along the row."""
        after, axes = self._row_axes(shape, views)
        wanted = [i for i in self.rows if self.shape[i] != 1]
        if after == ():
            return
        if after != self.shape or axes != wanted:
            raise CannotJoin("it repeats a row's number along other axes than the row's")

    def _viewed(self, atom: Atom) -> tuple[Atom, list[Eqn]]:
        """Return what an atom is a view of, going back to values of this kernel or of others."""
        views: list[Eqn] = []
        while isinstance(atom, Var) and atom not in self.known:
            eqn = self.made_by.get(atom)
            if eqn is None or eqn.primitive.strides is None:
                break
            views.insert(0, eqn)
            atom = eqn.inputs[0]
        return atom, views

    def _row_axes(
        self, shape: tuple[int, ...], views: Sequence[Eqn]
    ) -> tuple[tuple[int, ...], list[int]]:
        """Return the shape after views of a row's number, and where its axes that count have gone.

        Only reshapes that insert or remove axes of size 1 and repetitions keep the order of rows.
        """
        strides = contiguous_strides(shape)
        places = {s: i for i, (n, s) in enumerate(zip(shape, strides, strict=True)) if n != 1}
        offset = 0
        current: Any = (shape, strides)
        for eqn in views:
            assert eqn.primitive.strides is not None
            found = eqn.primitive.strides(*current, offset, **eqn.params)
            if found is None or found[1]:
                raise CannotJoin("it reads a row's numbers in another order")
            current = eqn.outputs[0].aval.shape, tuple(found[0])
        after, read = current
        axes = [i for i, (n, s) in enumerate(zip(after, read, strict=True)) if n != 1 and s]
        if [read[i] for i in axes] != list(places):
            raise CannotJoin("it reads a row's numbers in another order")
        if any(after[i] != shape[places[read[i]]] for i in axes):
            raise CannotJoin("it reads a row's numbers in another order")
        return after, axes

    def _load(self, atom: Atom, base: Atom, views: Sequence[Eqn], at_points: bool) -> int:
        """Return the number of the load that reads an operand from outside."""
        shape = base.aval.shape
        strides: tuple[int, ...] = contiguous_strides(shape)
        offset = 0
        for k, eqn in enumerate(views):
            assert eqn.primitive.strides is not None
            found = eqn.primitive.strides(shape, strides, offset, **eqn.params)
            if found is None:  # this view is made; what follows reads it
                base, strides = views[k].outputs[0], contiguous_strides(eqn.outputs[0].aval.shape)
                offset = 0
            else:
                strides, offset = tuple(found[0]), found[1]
            shape = eqn.outputs[0].aval.shape
        aval = atom.aval
        full = self._strides_over_space(aval, strides, at_points)
        load = Load(self._entered(base), aval.dtype, full, offset)
        if load not in self.loads:
            self.loads.append(load)
        return self.loads.index(load)

    def _strides_over_space(
        self, aval: ArrayType, strides: Sequence[int], at_points: bool
    ) -> tuple[int, ...]:
        """Return an operand's strides along the axes of the index space."""
        if not aval.shape:
            return (0,) * len(self.shape)
        if at_points:
            return tuple(s if n != 1 else 0 for n, s in zip(aval.shape, strides, strict=True))
        own = iter([s for n, s in zip(aval.shape, strides, strict=True) if n != 1])
        read = [0] * len(self.shape)
        for axis in self.rows:
            read[axis] = next(own) if self.shape[axis] != 1 else 0
        return tuple(read)

    def _entered(self, atom: Atom) -> int:
        if atom not in self.operands:
            self.operands.append(atom)
        return self.operands.index(atom)

    def outside(self) -> list[Var]:
        """Return the values from outside that the kernel reads."""
        return [atom for atom in self.operands if isinstance(atom, Var)]

    def spec(self, stored: Sequence[Var]) -> KernelSpec:
        """Return the kernel that stores the given values, without outputs that nothing needs."""
        kept = self._needed([self.known[var] for var in stored])
        place_of = {i: len(self.loads) + k for k, i in enumerate(kept)}
        points = self.points if self.points is not None else tuple(range(len(self.shape)))
        rows = [i for i in range(len(self.shape)) if i not in points]
        order = (*rows, *points)

        def number(x: Any) -> Any:
            if isinstance(x, Literal):
                return x
            return -1 - x if x < 0 else place_of[x]

        values = tuple(
            replace(value, operand=number(value.operand))
            if isinstance(value, Reduce)
            else replace(value, operands=tuple(map(number, value.operands)))
            for value in map(self.values.__getitem__, kept)
        )
        loads = [
            replace(load, strides=tuple(load.strides[i] for i in order)) for load in self.loads
        ]
        stores = []
        for var in stored:
            place = self.known[var]
            if self.is_row[place]:
                own = contiguous_strides([self.shape[i] for i in rows])
                strides = (*own, *[0] * len(points))
            else:
                own = contiguous_strides(self.shape)
                strides = tuple(own[i] for i in order)
            stores.append(Store(place_of[place], var.aval.dtype, strides, var.aval.shape))
        shape = tuple(self.shape[i] for i in order)
        return KernelSpec(shape, len(rows), tuple(loads), values, tuple(stores))

    def _needed(self, stored: Sequence[int]) -> list[int]:
        """Return the values that are stored and those they are computed from, in order."""
        stack, seen = list(stored), set()
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            value = self.values[i]
            operands = (value.operand,) if isinstance(value, Reduce) else value.operands
            stack += [x for x in operands if isinstance(x, int) and x >= 0]
        return sorted(seen)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if n != 1]


def bytes_of(atom: Atom) -> int:
    """Return how many bytes an array takes."""
    return prod(atom.aval.shape) * np.dtype(atom.aval.dtype).itemsize
