"""A group of equations being made into one kernel, and why an equation cannot join it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from autodiff.ir.graph import Atom, Eqn, Literal, Var, is_repeated_scalar
from autodiff.schedule.indexed import indexed_by, indices_of, strides_at_elements
from autodiff.schedule.kernel_spec import (
    Bound,
    Choose,
    Compute,
    Gather,
    KernelSpec,
    KernelValue,
    Load,
    Operand,
    Place,
    Position,
    Reduce,
    Scan,
    Store,
    Update,
    affine_maps,
    along_axes,
    contiguous_strides,
    from_the_end,
    place_indices,
    read_by,
    renumbered,
    update_renumbered,
)
from autodiff.schedule.lowerable import block_of
from autodiff.schedule.reading import (
    Choice,
    Computed,
    Counted,
    Read,
    Reading,
    atoms_of,
    reading_of,
    viewed,
)

#: From an equation to the reason why no kernel can compute it, None if one can.
Refusal = Callable[[Eqn], str | None]


#: Values that one kernel computes at most: compiling takes ever longer for longer code.
MOST_VALUES = 400

#: Instructions of a kernel at most: the time to compile it grows faster than its length.
MOST_INSTRUCTIONS = 2_000

#: Arrays that one kernel reads at most, each of which takes a register.
MOST_LOADS = 24


class CannotJoin(Exception):
    """Why an equation cannot be part of a group; the text is the stated reason."""


class Group:
    """Equations over one index space.

    `points` are the axes along a row, once a reduction or a scan says; `backwards`, once a scan
    says, whether it is gone through from its end. `made_by` maps every value of the graph to its
    equation. Operands from outside are loads; a view of one is a load with the view's strides.
    `again` are values from outside that are computed again rather than loaded. `known` are the
    values computed so far, by number, `updates` the arrays written at places.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        made_by: Mapping[Var, Eqn],
        again: frozenset[Var] = frozenset(),
    ) -> None:
        self.shape = shape
        self.again = again
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
            elif eqn.primitive.pieces is not None:
                self._add_layout(eqn)
            else:
                self._add_elementwise(eqn)
            if self.points is not None and not self._points_are_one_axis(self.points):
                raise CannotJoin("with it the points of a row are not one axis for all operands")
            if self.points is not None and self.updates:
                raise CannotJoin("what is written at places is so in the order of its elements")
            if len(self.values) > MOST_VALUES:
                raise CannotJoin(f"the kernel would compute more than {MOST_VALUES} values")
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
        space = out.shape if indexed.combination is None else eqn.inputs[1].aval.shape
        if space != self.shape:
            raise CannotJoin(f"it is at places of shape {space}, not the kernel's {self.shape}")
        numbers = [self._index(atom) for atom in indices]

        def places(strides: Sequence[int]) -> tuple[Place, ...]:
            sizes = [(shape[axis], strides[axis]) for axis in indexed.axes]
            pairs = zip(numbers, sizes, strict=True)
            return tuple([Place(index, *along) for index, along in pairs])

        if indexed.combination is None:
            base = viewed(target, self.made_by, self.known.__contains__)
            if base.atom in self.known:
                raise CannotJoin("it reads a value of the kernel in another order")
            along = strides_at_elements(indexed, shape, base.strides, ndim)
            operand, at = self._entered(base.atom), places(base.strides)
            mode, fill = indexed.mode, indexed.fill
            read = Gather(operand, out.dtype, along, base.offset, at, mode, fill, eqn.source)
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
            indexed.combination,
            initial,
            unique=indexed.unique,
        )

    def _index(self, atom: Atom) -> Operand:
        """Return an array of indices, which are the same along the axes that it lacks."""
        if atom.aval.shape == self.shape:
            return self._operand(atom, True)
        reading = reading_of(atom, self.made_by, self.known.__contains__, self.again)
        if not self.known.keys().isdisjoint(atoms_of(reading)):
            raise CannotJoin("it reads at places that the kernel computes at other points")
        return self._read(reading, atom.aval.shape, True)

    def _add_layout(self, eqn: Eqn) -> None:
        """Take in what lays out arrays, whose result may be what a load reads."""
        (out,) = eqn.outputs
        operand = self._operand(out, True)
        if isinstance(operand, Literal) or out in self.operands:
            raise CannotJoin("it is not read through")
        self.known[out] = operand

    def _enter(self, var: Var, value: KernelValue, is_row: bool) -> None:
        self.known[var] = len(self.values)
        self.values.append(value)
        self.is_row.append(is_row)

    @property
    def made(self) -> list[Var]:
        """The values that its equations make."""
        return [*self.known, *self.updates]

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
        """Return whether everything goes through the points of a row at one stride."""
        axes = [i for i in points if self.shape[i] != 1]
        maps = [read for x in (*self.loads, *self.values) for read in affine_maps(x)]
        return all(
            read[one] == read[other] * self.shape[other]
            for read in [*maps, contiguous_strides(self.shape)]
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
            reading = reading_of(atom, self.made_by, self.known.__contains__, self.again)
            return self._read(reading, atom.aval.shape, at_points)
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

    def _read(self, reading: Reading, shape: tuple[int, ...], at_points: bool) -> Operand:
        """Return the operand that reads an array of a shape as `reading` says."""

        def along(strides: Sequence[int]) -> tuple[int, ...]:
            return self._strides_over_space(shape, strides, at_points)

        def bounds_of(x: Read | Choice) -> tuple[Bound, ...]:
            return tuple([replace(b, strides=along(b.strides)) for b in x.bounds])

        def read(x: Reading) -> Operand:
            if isinstance(x, Literal):
                return x
            if isinstance(x, Read):
                strides, dtype = along(x.strides), x.atom.aval.dtype
                if isinstance(x.atom, Var) and x.atom in self.known:
                    return self._known_at(x.atom, strides, x.offset, at_points)
                load = Load(self._entered(x.atom), dtype, strides, x.offset, bounds_of(x))
                if load not in self.loads:
                    self.loads.append(load)
                return -1 - self.loads.index(load)
            if isinstance(x, Counted):
                value: KernelValue = Position(x.dtype, along(x.strides), x.offset)
            elif isinstance(x, Choice):
                inside, outside = read(x.inside), read(x.outside)
                value = Choose(bounds_of(x), (inside, outside), self._dtype_of(inside))
            else:
                value = self._recomputed(x, read)
            if value not in self.values:
                self.values.append(value)
                self.is_row.append(not at_points)
            return self.values.index(value)

        return read(reading)

    def _recomputed(self, x: Computed, read: Callable[[Reading], Operand]) -> Compute:
        """Return a value from outside, computed again."""
        (out,) = x.eqn.outputs
        operands = tuple(map(read, x.operands))
        params = tuple(x.eqn.params.items())
        return Compute(x.eqn.primitive, operands, params, out.aval.dtype, x.eqn.source)

    def _dtype_of(self, x: Operand) -> np.dtype:
        if isinstance(x, Literal):
            return x.aval.dtype
        return self.loads[-1 - x].dtype if x < 0 else self.values[x].dtype

    def _known_at(self, var: Var, strides: Sequence[int], offset: int, at_points: bool) -> int:
        """Return a value of the kernel; raise `CannotJoin` unless it is read at its own place."""
        number = self.known[var]
        axes = self.rows if self.is_row[number] else range(len(self.shape))
        axes = [i for i in axes if self.shape[i] != 1]
        own = iter(contiguous_strides([self.shape[i] for i in axes]))
        expected = tuple([next(own) if i in axes else 0 for i in range(len(self.shape))])
        is_there = at_points or self.is_row[number]
        if not is_there or offset or tuple(strides) != expected:
            raise CannotJoin("it reads a value of the kernel in another order")
        return number

    def _strides_over_space(
        self, shape: Sequence[int], strides: Sequence[int], at_points: bool
    ) -> tuple[int, ...]:
        """Return the strides along the axes of the index space of an operand of a shape.

        An operand at points that lacks the last axes is repeated along them.
        """
        if not shape:
            return (0,) * len(self.shape)
        if at_points:
            own = tuple(s if n != 1 else 0 for n, s in zip(shape, strides, strict=True))
            return (*own, *[0] * (len(self.shape) - len(own)))
        own = iter([s for n, s in zip(shape, strides, strict=True) if n != 1])
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
                roots += [x for x in read if isinstance(x, int)]
        needed = self._needed(roots)
        read = [i for i in range(len(self.loads)) if -1 - i in needed]
        kept = [i for i in range(len(self.values)) if i in needed]
        place_of = {-1 - i: k for k, i in enumerate(read)}
        place_of |= {i: len(read) + k for k, i in enumerate(kept)}
        points = self.points if self.points is not None else tuple(range(len(self.shape)))
        rows = [i for i in range(len(self.shape)) if i not in points]
        order = (*rows, *points)

        def along(strides: Sequence[int]) -> tuple[int, ...]:
            return tuple(strides[i] for i in order)

        def moved(x: Any) -> Any:
            """Return a part of the kernel along its axes, rows first, in the order of points."""
            x = along_axes(x, along)
            return from_the_end(x, len(rows), prod(shape[len(rows) :])) if self.backwards else x

        shape = tuple(self.shape[i] for i in order)
        loads = [moved(self.loads[i]) for i in read]
        values = [moved(renumbered(self.values[i], place_of.__getitem__)) for i in kept]
        stores: list[Store | Update] = []
        for var in stored:
            if var in self.updates:
                stores.append(update_renumbered(self.updates[var], place_of.__getitem__))
                continue
            place = self.known[var]
            strides = contiguous_strides(self.shape)
            if place >= 0 and self.is_row[place]:
                own = iter(contiguous_strides([self.shape[i] for i in rows]))
                strides = tuple(next(own) if i in rows else 0 for i in range(len(self.shape)))
            stores.append(moved(Store(place_of[place], var.aval.dtype, strides, var.aval.shape)))
        return KernelSpec(shape, len(rows), tuple(loads), tuple(values), tuple(stores))

    def _needed(self, roots: Sequence[int]) -> set[int]:
        """Return these values, and the values and loads that they are computed from."""
        stack, seen = list(roots), set()
        while stack:
            i = stack.pop()
            if i not in seen:
                seen.add(i)
                stack += read_by(self.values[i]) if i >= 0 else ()
        return seen


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if n != 1]


def bytes_of(atom: Atom) -> int:
    """Return how many bytes an array takes."""
    return prod(atom.aval.shape) * np.dtype(atom.aval.dtype).itemsize
