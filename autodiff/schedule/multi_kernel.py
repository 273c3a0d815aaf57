"""One kernel over many arrays: what it computes at a point, and the arrays of its members.

    multi   ::=  body shared member+
    member  ::=  size read+ shape+
    read    ::=  operand offset

The body is a kernel over one axis, whose size, 0 in the body, is each member's own. Load k of the
body is, for every member, its read k: the elements of an operand from an offset on, or the single
element there. Reads that are `shared` are of one element, the same for all members.

Members run in any order: none reads what another one writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autodiff.schedule.kernel_spec import KernelSpec, Store, format_spec

#: Bytes of the parameters of a kernel, what a launch is told of its members among them. Every
#: driver takes so many. From CUDA 12.1 on drivers take 32,764 (CUDA C++ Programming Guide, function
#: parameters), but which driver will run a program is not known when its schedule is made.
PARAMETER_BYTES = 4096

#: Bytes of what a launch is told of each member: an address, or a number by value; a size and the
#: first of its blocks.
ADDRESS_BYTES, SIZES_BYTES = 8, 8

#: Bytes of an operand that all members share: no number has more.
SHARED_BYTES = 16


@dataclass(frozen=True, slots=True)
class Member:
    """The arrays of one member: `reads` are operands and offsets in elements, one for each load.

    `shapes`: those of its outputs, each of `size` elements.
    """

    size: int
    reads: tuple[tuple[int, int], ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, repr=False)
class MultiKernel:
    """Kernels that differ in their sizes and arrays alone, as one launch.

    Its outputs are those of the first member, of the second one and so on.
    """

    body: KernelSpec
    shared: frozenset[int]
    members: tuple[Member, ...]

    @property
    def stores(self) -> tuple[Store, ...]:
        """The outputs of all members."""
        return tuple(
            [
                replace(store, shape=shape)
                for member in self.members
                for store, shape in zip(self.body.stores, member.shapes, strict=True)
                if isinstance(store, Store)
            ]
        )

    @property
    def operand_types(self) -> tuple[np.dtype, ...]:
        """The element types of the arrays that members read."""
        types = {
            operand: load.dtype
            for member in self.members
            for load, (operand, _) in zip(self.body.loads, member.reads, strict=True)
        }
        return tuple([types[operand] for operand in range(len(types))])

    def by_value(self, numbers: frozenset[int]) -> frozenset[int]:
        """Return the loads that are given by value, of those operands that are numbers.

        A load is so if all members have numbers there, each of which fits in the place of an
        address unless it is shared; and if no other load needs one of them in memory.
        """
        loads = range(len(self.body.loads))
        read = [{member.reads[k][0] for member in self.members} for k in loads]
        while True:
            found = frozenset(
                k
                for k, load in enumerate(self.body.loads)
                if load.strides == (0,)
                and read[k] <= numbers
                and (k in self.shared or load.dtype.itemsize <= ADDRESS_BYTES)
            )
            left = numbers.difference(*[read[k] for k in loads if k not in found])
            if left == numbers:
                return found
            numbers = left

    @property
    def capacity(self) -> int:
        """How many members a launch has at most."""
        return capacity(self.body, self.shared)

    def __str__(self) -> str:
        return format_multi_kernel(self)

    def __repr__(self) -> str:
        return f"<{len(self.members)} kernels in one launch>"


def capacity(body: KernelSpec, shared: frozenset[int]) -> int:
    """Return how many members' arrays fit into the parameters of a launch."""
    own = len(body.loads) - len(shared) + len(body.stores)
    left = PARAMETER_BYTES - SHARED_BYTES * (1 + len(shared))  # one for how many members there are
    return left // (ADDRESS_BYTES * own + SIZES_BYTES)


def format_body(multi: MultiKernel) -> str:
    """Return what a kernel computes of each of its members as text."""
    body = format_spec(multi.body).split("\n")[1:]
    return "\n".join([f"kernel over points [n], for {len(multi.members)} in one launch {{", *body])


def format_multi_kernel(multi: MultiKernel) -> str:
    """Return a kernel over many arrays as text: its body, then one member a line."""
    lines = [format_body(multi)]
    for member in multi.members:
        reads = [
            f"{operand} from {offset}" if offset else str(operand)
            for k, (operand, offset) in enumerate(member.reads)
            if k not in multi.shared
        ]
        shapes = " ".join(str(list(shape)) for shape in dict.fromkeys(member.shapes))
        lines.append(f"  n = {member.size}: loads {', '.join(reads) or 'nothing'}; stores {shapes}")
    for k in sorted(multi.shared):
        lines.append(f"  all: load {k} is {multi.members[0].reads[k][0]}")
    return "\n".join(lines)
