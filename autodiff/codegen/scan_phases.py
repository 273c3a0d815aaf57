"""In which phases a tile of points is gone through, where threads share rows with running results.

A thread knows what comes before its stretch only when all threads have found what their stretches
amount to. So a tile is gone through once to find that, and again to make the results; and once
more for each scan of a scan. What a later phase needs of an earlier one is kept.

`y = exp(x) + cumsum(exp(x))` has two phases: the first loads x, computes and keeps exp(x), and
finds the sums; the second goes on from the sums before, and stores y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autodiff.codegen.kernel_needs import Needs
from autodiff.schedule.kernel_spec import Choose, KernelSpec, Position, Scan


@dataclass(frozen=True, slots=True)
class Phase:
    """What is done at one level as a team goes over a tile.

    Args:
        computed: the values at points that are loaded, computed or computed again.
        read: those that a phase before has kept.
        kept: those of `computed` that a phase after reads.
        found: the scans whose stretches are known when it is over.
        stored: the stores, each with its value.
        reduced: the reductions to which it adds.
    """

    computed: tuple[int, ...]
    read: tuple[int, ...]
    kept: tuple[int, ...]
    found: tuple[int, ...]
    stored: tuple[tuple[int, int], ...]
    reduced: tuple[int, ...]


class Phases:
    """In which phases the passes of a kernel go over tiles.

    Args:
        spec: the kernel.
        alone: whether a thread goes over a row by itself, and knows what is before each point.
    """

    def __init__(self, spec: KernelSpec, alone: bool = False) -> None:
        self.needs = needs = Needs(spec)
        self.spec = spec
        self.alone = alone
        #: For each value how many scans, one of the other, it is computed from. Alone, loads are of
        #: level 0, so that they come before all else.
        self.levels = [0] * needs.first
        for i, value in enumerate(spec.values, needs.first):
            of_points = [] if needs.in_rows[i] else [self.levels[x] for x in needs.read_by(i)]
            level = max(of_points, default=0) + isinstance(value, Scan)
            self.levels.append(level if not alone else int(not needs.in_rows[i]))

    @property
    def depth(self) -> int:
        """The level of the scans that come last."""
        return max(self.levels)

    def of_pass(self, number: int, last: int | None = None) -> tuple[Phase, ...]:
        """Return the phases of a pass; with `last` those that find the scans of that level."""
        needs, levels = self.needs, self.levels
        scans = [] if self.alone else list(needs.scans(number))
        reduced = [(i, x.operand) for i, x in needs.reductions(number).items()]
        stored = [x for x in needs.stored(rows=False) if needs.passes[x[1]] == number]
        if last is not None:
            leading = self._leading_to([i for i in scans if levels[i] == last])
            scans, reduced, stored = [i for i in scans if i in leading], [], []
        ends = [levels[i] - 1 for i in scans] + [levels[i] for _, i in (*reduced, *stored)]
        phases: list[Phase] = []
        later: set[int] = set()
        for level in range(max(ends, default=0), -1, -1):
            found = [i for i in scans if levels[i] == level + 1]
            here = [(k, i) for k, i in stored if levels[i] == level]
            adding = [(i, operand) for i, operand in reduced if levels[operand] == level]
            kept = sorted(i for i in later if levels[i] == level)
            roots = [*kept, *[i for _, i in (*here, *adding)]]
            roots += [x for i in found for x in needs.read_by(i)]
            computed, read = self._computed(level, roots)
            later |= read
            phases.append(
                Phase(
                    tuple(sorted(computed)),
                    tuple(sorted(read)),
                    tuple(kept),
                    tuple(found),
                    tuple(here),
                    tuple([i for i, _ in adding]),
                )
            )
        return tuple(reversed(phases))

    def _leading_to(self, targets: Sequence[int]) -> set[int]:
        stack, seen = list(targets), set()
        while stack:
            i = stack.pop()
            if i not in seen and not self.needs.in_rows[i]:
                seen.add(i)
                stack += self.needs.read_by(i) if i >= self.needs.first else ()
        return seen

    def _computed(self, level: int, roots: Sequence[int]) -> tuple[set[int], set[int]]:
        """Return the values at points that are computed at a level, and those that are read."""
        computed: set[int] = set()
        read: set[int] = set()
        stack = list(roots)
        while stack:
            i = stack.pop()
            if i in computed or self.needs.in_rows[i]:
                continue
            value = self.spec.values[i - self.needs.first] if i >= self.needs.first else None
            if self.levels[i] < level and not isinstance(value, Choose | Position):
                read.add(i)
                continue
            computed.add(i)
            stack += self.needs.read_by(i) if value is not None else ()
        return computed, read

    def kept_bytes(self) -> int:
        """Return the bytes that are kept of a point of a tile, at most."""
        most = 0
        for number in range(self.needs.last + 1):
            phases = self.of_pass(number)
            kept = sum(self.spec.dtype_of(i).itemsize for phase in phases for i in phase.kept)
            most = max(most, kept)
        return most
