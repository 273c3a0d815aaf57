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
from autodiff.schedule.indexed import indexed_by, indices_of, strides_at_elements
from autodiff.schedule.kernel_spec import (
    Compute,
    Gather,
    KernelSpec,
    KernelValue,
    Load,
    Operand,
    Place,
    Reduce,
    Scan,
    Store,
    Update,
    contiguous_strides,
    place_indices,
    read_by,
    renumbered,
    update_renumbered,
)
from autodiff.schedule.lowerable import block_of

#: From an equation to the reason why no kernel can compute it, None if one can.
Refusal = Callable[[Eqn], str | None]


#: Values that one kernel computes at most: compiling takes ever longer for longer code.
MOST_VALUES = 400

#: Arrays that one kernel reads at most, each of which takes a register.
MOST_LOADS = 24


class CannotJoin(Exception):
    """Why an equation cannot be part of a group; the text is the stated reason."""


class Group:
    """Equations over one index space.

    `points` are the axes along a row, once a reduction or a scan says; `backwards`, once a scan
    says, whether it is gone through from its end. `made_by` maps every value of the graph to its
    equation. Operands from outside are loads; a view of one is a load with the view's strides.
    `known` are the values computed so far, by number, `updates` the arrays written at places.
    """

    def __init__(self, shape: tuple[int, ...], made_by: Mapping[Var, Eqn]) -> None:
        self.shape = shape
        self.points: tuple[int, ...] | None = None
        self.backwards: bool | None = None
        self.made_by = made_by
        self.eqns: list[Eqn] = []
        self.operands: list[Atom] = []
        self.loads: list[Load] = []
        self.values: list[KernelValue] = []
        self.known: dict[Var, int] = {}
        self.updates: dict[Var, Update] = {}
        self.is_row: list[bool] = []  # one flag per value, in the order of `values`

    def add(self, eqn: Eqn, check: Callable[[], None] = lambda: None) -> None:
        """Take an equation in, or raise `CannotJoin` and stay as before.

        `check()` may raise it too, when the group is as it would be.
        """
        if len(self.values) >= MOST_VALUES:
            raise CannotJoin(f"the kernel computes {MOST_VALUES} values already")
        direction = self.points, self.backwards
        state = len(self.operands), len(self.loads), len(self.values)
        try:
            if eqn.primitive.kind == "reduction":
                self._add_reduction(eqn)
            elif eqn.primitive.kind == "cumulative":
                self._add_scan(eqn)
            elif eqn.primitive.indexed is not None:
                self._add_indexed(eqn)
            else:
                self._add_elementwise(eqn)
            if self.points is not None and not self._points_are_one_axis(self.points):
                raise CannotJoin("with it the points of a row are not one axis for all operands")
            if self.points is not None and self.updates:
                raise CannotJoin("what is written at places is so in the order of its elements")
            if len(self.loads) > MOST_LOADS:
                raise CannotJoin(f"the kernel would read more than {MOST_LOADS} arrays")
            check()
        except CannotJoin:
            self.points, self.backwards = direction
            operands, loads, values = state
            for var in eqn.outputs:
                self.known.pop(var, None)
                self.updates.pop(var, None)
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

    def _add_scan(self, eqn: Eqn) -> None:
        out, axis, reverse = eqn.outputs[0].aval, eqn.params["axis"], eqn.params["reverse"]
        if out.shape != self.shape:
            raise CannotJoin(f"it goes over {out.shape}, not the kernel's {self.shape}")
        if self.points not in (None, (axis,)):
            raise CannotJoin("the kernel goes along other axes")
        if self.backwards not in (None, reverse):
            raise CannotJoin("the kernel goes the other way")
        self.points, self.backwards = (axis,), reverse
        operands = tuple(self._operand(atom, True) for atom in eqn.inputs)
        is_last = prod(self.shape[axis + 1 :]) == 1
        block = block_of(eqn.primitive, out.dtype) if is_last else 1
        if any(isinstance(value, Scan) and value.block != block for value in self.values):
            raise CannotJoin("another running result of the kernel is made in another order")
        self._enter(
            eqn.outputs[0], Scan(eqn.primitive, operands, out.dtype, block, eqn.source), False
        )

    def _add_indexed(self, eqn: Eqn) -> None:
        """Take in what reads or writes an array at places."""
        indexed = indexed_by(eqn)
        assert indexed is not None
        target, out = eqn.inputs[0], eqn.outputs[0].aval
        shape, indices = target.aval.shape, indices_of(eqn, indexed)
        ndim = indices[0].aval.ndim
        space = out.shape if indexed.combine is None else eqn.inputs[1].aval.shape
        if space != self.shape:
            raise CannotJoin(f"it is at places of shape {space}, not the kernel's {self.shape}")
        numbers = [self._index(atom) for atom in indices]

        def places(strides: Sequence[int]) -> tuple[Place, ...]:
            sizes = [(shape[axis], strides[axis]) for axis in indexed.axes]
            pairs = zip(numbers, sizes, strict=True)
            return tuple([Place(index, *along) for index, along in pairs])

        if indexed.combine is None:
            base, strides, offset = self._through(*self._viewed(target))
            if base in self.known:
                raise CannotJoin("it reads a value of the kernel in another order")
            along = strides_at_elements(indexed, shape, strides, ndim)
            operand, mode, fill = self._entered(base), indexed.mode, indexed.fill
            read = Gather(
                operand, out.dtype, along, offset, places(strides), mode, fill, eqn.source
            )
            self._enter(eqn.outputs[0], read, False)
            return
        value = self._operand(eqn.inputs[1], True)
        initial: Any = target
        if isinstance(target, Literal) and is_repeated_scalar(target.value):
            initial = Literal(np.asarray(target.value).flat[0])
        elif not (isinstance(target, Literal) and target.is_scalar):
            if target in self.known:
                raise CannotJoin("it writes into a value of the kernel")
            initial = self._entered(target)
        strides = contiguous_strides(shape)
        along = strides_at_elements(indexed, shape, strides, ndim)
        self.updates[eqn.outputs[0]] = Update(
            value,
            out.dtype,
            along,
            out.shape,
            0,
            places(strides),
            indexed.mode,
            indexed.combine,
            initial,
        )

    def _index(self, atom: Atom) -> Operand:
        """Return an array of indices, which are the same along the axes that it lacks."""
        if atom.aval.shape == self.shape:
            return self._operand(atom, True)
        if isinstance(atom, Literal) and (atom.is_scalar or is_repeated_scalar(atom.value)):
            return Literal(np.asarray(atom.value)[(0,) * atom.aval.ndim])
        base, views = self._viewed(atom)
        if base in self.known:
            raise CannotJoin("it reads at places that the kernel computes at other points")
        return -1 - self._load(atom, base, views, True)

    def _enter(self, var: Var, value: KernelValue, is_row: bool) -> None:
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
        gathers = [value for value in self.values if isinstance(value, Gather)]
        strides = [read.strides for read in (*self.loads, *gathers)]
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
        base, strides, offset = self._through(base, views)
        aval = atom.aval
        full = self._strides_over_space(aval, strides, at_points)
        load = Load(self._entered(base), aval.dtype, full, offset)
        if load not in self.loads:
            self.loads.append(load)
        return self.loads.index(load)

    def _through(self, base: Atom, views: Sequence[Eqn]) -> tuple[Atom, tuple[int, ...], int]:
        """Return an array, and the strides and offset at which it is read through views."""
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
        return base, strides, offset

    def _strides_over_space(
        self, aval: ArrayType, strides: Sequence[int], at_points: bool
    ) -> tuple[int, ...]:
        """Return an operand's strides along the axes of the index space."""
        if not aval.shape:
            return (0,) * len(self.shape)
        if at_points:
            own = tuple(s if n != 1 else 0 for n, s in zip(aval.shape, strides, strict=True))
            return (*own, *[0] * (len(self.shape) - len(own)))
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
        roots = [self.known[var] for var in stored if var in self.known]
        for var in stored:
            if var in self.updates:
                update = self.updates[var]
                read = (update.value, *place_indices(update))
                roots += [x for x in read if isinstance(x, int) and x >= 0]
        kept = self._needed(roots)
        place_of = {i: len(self.loads) + k for k, i in enumerate(kept)}
        points = self.points if self.points is not None else tuple(range(len(self.shape)))
        rows = [i for i in range(len(self.shape)) if i not in points]
        order = (*rows, *points)

        def number(x: int) -> int:
            return -1 - x if x < 0 else place_of[x]

        def along(strides: Sequence[int]) -> tuple[tuple[int, ...], int]:
            """Return strides in the order of the kernel's axes, and where the first point is."""
            if not self.backwards:
                return tuple(strides[i] for i in order), 0
            (axis,) = points
            ordered = tuple(-strides[i] if i == axis else strides[i] for i in order)
            return ordered, strides[axis] * (self.shape[axis] - 1)

        def moved(read: Any) -> Any:
            strides, start = along(read.strides)
            return replace(read, strides=strides, offset=read.offset + start)

        loads = [moved(load) for load in self.loads]
        values = [renumbered(value, number) for value in map(self.values.__getitem__, kept)]
        values = [moved(value) if isinstance(value, Gather) else value for value in values]
        stores: list[Store | Update] = []
        for var in stored:
            if var in self.updates:
                stores.append(update_renumbered(self.updates[var], number))
                continue
            place = self.known[var]
            if self.is_row[place]:
                own = contiguous_strides([self.shape[i] for i in rows])
                strides, start = (*own, *[0] * len(points)), 0
            else:
                strides, start = along(contiguous_strides(self.shape))
            stores.append(Store(place_of[place], var.aval.dtype, strides, var.aval.shape, start))
        shape = tuple(self.shape[i] for i in order)
        return KernelSpec(shape, len(rows), tuple(loads), tuple(values), tuple(stores))

    def _needed(self, stored: Sequence[int]) -> list[int]:
        """Return the values that are stored and those they are computed from, in order."""
        stack, seen = list(stored), set()
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            stack += [x for x in read_by(self.values[i]) if x >= 0]
        return sorted(seen)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if n != 1]


def bytes_of(atom: Atom) -> int:
    """Return how many bytes an array takes."""
    return prod(atom.aval.shape) * np.dtype(atom.aval.dtype).itemsize
