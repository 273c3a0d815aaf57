"""What each pass of a kernel over a row must compute, store and keep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from autodiff.schedule.kernel_spec import (
    KernelSpec,
    Reduce,
    Scan,
    Store,
    Update,
    in_rows,
    passes,
    place_indices,
    read_by,
)


class Needs:
    """The values of a kernel by pass. `first` is the number of the first value after the loads."""

    def __init__(self, spec: KernelSpec) -> None:
        self.spec = spec
        self.first = len(spec.loads)
        self.in_rows = in_rows(spec)
        self.passes = passes(spec)

    @property
    def last(self) -> int:
        """The last pass over the points, -1 if nothing is known at points."""
        numbers = [self.passes[v.operand] for v in self.spec.values if isinstance(v, Reduce)]
        numbers += [self.passes[i] for _, i in self.stored(rows=False)]
        numbers += [0 for _ in self.spec.updates]  # there is but one pass with these
        return max(numbers, default=-1)

    def stored(self, *, rows: bool) -> list[tuple[int, int]]:
        """Return the stores of one element a row, or of one a point, each with its value.

        What is known in rows may be stored at every point.
        """
        return [
            (k, store.value)
            for k, store in enumerate(self.spec.stores)
            if isinstance(store, Store) and rows != any(store.strides[self.spec.rows :])
        ]

    def updates(self) -> list[tuple[int, Update]]:
        """Return the outputs that are updated, with their numbers."""
        return [(k, x) for k, x in enumerate(self.spec.stores) if isinstance(x, Update)]

    def reductions(self, number: int) -> dict[int, Reduce]:
        """Return the reductions that a pass makes, by value."""
        return {
            i: value
            for i, value in enumerate(self.spec.values, self.first)
            if isinstance(value, Reduce) and self.passes[value.operand] == number
        }

    def roots(self, number: int) -> list[int]:
        """Return the values at points for whose sake a pass is made."""
        reduced = [value.operand for value in self.reductions(number).values()]
        stored = [i for _, i in self.stored(rows=False) if self.passes[i] == number]
        written = [x for y in self.spec.updates for x in (y.value, *place_indices(y))]
        return [*reduced, *stored, *[x for x in written if isinstance(x, int)]]

    def wanted(
        self,
        number: int,
        read: Collection[int] = (),
        made: Collection[int] = (),
        taken: Callable[[int], Sequence[int]] | None = None,
    ) -> list[int]:
        """Return the values at points that a pass needs, in order.

        `read` are values that it finds in memory: what is needed for these alone is left out.
        `made` are values it must make, needed or not. `taken(i)` are the values that one is
        computed from, by default all that it names.
        """
        taken = taken or self.read_by
        stack, seen = [*self.roots(number), *made], set()
        while stack:
            i = stack.pop()
            if i in seen or self.in_rows[i]:
                continue
            seen.add(i)
            if i >= self.first and i not in read:
                stack += taken(i)
        return sorted(seen)

    def read_by(self, i: int) -> tuple[int, ...]:
        """Return the values that one is computed from."""
        return read_by(self.spec.values[i - self.first])

    def scans(self, number: int, read: Collection[int] = ()) -> dict[int, Scan]:
        """Return the scans that a pass makes, by value; `read` as for `wanted`."""
        found = {}
        for i in self.wanted(number, read):
            value = self.spec.values[i - self.first] if i >= self.first else None
            if isinstance(value, Scan) and i not in read:
                found[i] = value
        return found

    def computed_in_rows(self) -> list[int]:
        """Return the values that are computed once a row."""
        return [
            i
            for i, value in enumerate(self.spec.values, self.first)
            if not isinstance(value, Reduce) and self.in_rows[i]
        ]

    def kept(self, is_costly: Callable[[int], bool]) -> dict[int, int]:
        """Return the costly values at points that several passes need, each with the first one."""
        wanted = [self.wanted(number) for number in range(self.last + 1)]
        found = {}
        for i in range(self.first + len(self.spec.values)):
            needing = [number for number, values in enumerate(wanted) if i in values]
            if len(needing) > 1 and not self.in_rows[i] and is_costly(i):
                found[i] = needing[0]
        return found
