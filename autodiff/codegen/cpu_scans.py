"""Running results in vectors: what a `Scan` becomes at one step of a loop over the points of a row.

Where lanes are rows, or a vector has one lane, a step is a point, and its result follows from the
one before it: NumPy's order, and its bits. Where lanes are the points of a block it is made in
log2(block) steps within registers (`within_block`) and one combination with the result before the
block. A sum of n elements is then rounded about log2(block) + n / block times on its way to an
element, not n times: its bound on the error is smaller than that of a sum one after the other, and
its last bits differ. A sum within a block may overflow where one that began earlier would not.

The order is the same for all types and numbers of threads, and on all processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodiff.codegen.operations import Typed
from autodiff.codegen.scalar_types import Value
from autodiff.schedule.kernel_spec import Scan


class Scans:
    """The running results of a kernel's rows. `carried` holds those before the next point."""

    def __init__(self, operations: Any) -> None:
        self.o = operations
        self.b = operations.builder
        self.carried: dict[int, Any] = {}

    def before_first(self, scan: Scan) -> Typed:
        """Return what is carried to the first point of a row."""
        identity = scan.primitive.identity
        assert identity is not None
        return self.o.constant(identity(scan.dtype).item(), scan.dtype)

    def step(self, i: int, scan: Scan, operands: Sequence[Typed], point: str) -> Typed:
        """Emit value `i` at some points; what is carried on is in `carried` afterwards.

        Args:
            i: the scan's number.
            scan: the scan.
            operands: its operands at these points.
            point: the first of the points, as text.
        """
        before = self.carried[i]
        if scan.block > 1:
            (x,) = operands
            result = self._advanced(scan, before, self.within_block(scan, x))
            self.carried[i] = Typed(self._last_lane(result.value), scan.dtype)
            return result
        result = self._following(scan, before, operands, point)
        self.carried[i] = result
        return result

    def _following(self, scan: Scan, before: Typed, operands: Sequence[Typed], point: str) -> Typed:
        if len(operands) > 1:  # at the first point all but the last count as 0
            is_first = self.b.fresh_name()
            self.b.lines.append(f"  {is_first} = icmp eq i64 {point}, 0")
            operands = [*[self._zero_if(is_first, x) for x in operands[:-1]], operands[-1]]
        return self._advanced(scan, before, *operands)

    def _zero_if(self, condition: str, x: Typed) -> Typed:
        zero, vector = self.o.constant(0, x.dtype).value, self.b.text_of(x.value.type)
        chosen = f"select i1 {condition}, {vector} {zero.text}, {vector} {x.value.text}"
        return Typed(self.b.assign(chosen, x.value.type), x.dtype)

    def within_block(self, scan: Scan, x: Typed) -> Typed:
        """Return the running results of the lanes alone.

        In each step a lane is combined with the one that stands twice as far before it as in the
        step before, or with the identity: Hillis and Steele, "Data Parallel Algorithms",
        Communications of the ACM 29 (1986), section 3.
        """
        before = self.before_first(scan).value
        lanes = self.b.lanes
        distance = 1
        while distance < lanes:
            # Lanes of the two operands are numbered on: the second one is the identity.
            numbers = [i - distance if i >= distance else lanes + i for i in range(lanes)]
            order = ", ".join(f"i32 {number}" for number in numbers)
            vector = self.b.text_of(x.value.type)
            both = f"{vector} {x.value.text}, {vector} {before.text}"
            text = f"shufflevector {both}, <{lanes} x i32> <{order}>"
            shifted = Typed(self.b.assign(text, x.value.type), scan.dtype)
            x = self._advanced(scan, shifted, x)
            distance *= 2
        return x

    def _advanced(self, scan: Scan, before: Typed, *operands: Typed) -> Typed:
        assert scan.primitive.advance is not None
        return scan.primitive.advance(self.o, before, *operands)

    def _last_lane(self, x: Value) -> Value:
        """Return the element of the last lane in every lane."""
        lanes, vector = self.b.lanes, self.b.text_of(x.type)
        order = ", ".join([f"i32 {lanes - 1}"] * lanes)
        rest = f"{vector} poison, <{lanes} x i32> <{order}>"
        return self.b.assign(f"shufflevector {vector} {x.text}, {rest}", x.type)
