"""A CUDA kernel ready to be compiled and launched: its text, its parameters, its threads.

The text says nothing of sizes and strides: these are parameters, so one text serves arrays of all
shapes that are gone through in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

#: Extents along x, y and z.
Extents = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class OperandPointer:
    """The address of an operand's element at an offset in bytes."""

    operand: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class OperandNumber:
    """An operand without axes, by value."""

    operand: int


@dataclass(frozen=True, slots=True)
class OutputPointer:
    """The address of an output."""

    output: int


@dataclass(frozen=True, slots=True)
class Integer:
    """A size or a stride, of 32 or 64 bits."""

    value: int
    bits: int = 32


@dataclass(frozen=True, slots=True)
class Divisor:
    """A size to divide by, as the prelude's `Divisor`.

    >>> d = Divisor(7)
    >>> [((n * d.magic >> 32) + n) >> d.shift for n in (6, 7, 48, 2**31 - 1)]
    [0, 1, 6, 306783378]
    """

    size: int

    @property
    def shift(self) -> int:
        """The logarithm of the next power of 2."""
        return ceil(log2(self.size)) if self.size > 1 else 0

    @property
    def magic(self) -> int:
        """2**32 (2**shift / size - 1), rounded up to an integer above it."""
        return ((1 << 32) * ((1 << self.shift) - self.size)) // self.size + 1


@dataclass(frozen=True, slots=True)
class Scratch:
    """The address of so many bytes that only this launch uses."""

    size: int


@dataclass(frozen=True, slots=True)
class Counters:
    """The address of so many `u32` that are 0 before and after a launch."""

    count: int


@dataclass(frozen=True, slots=True)
class Members:
    """A struct of what is each member's own, in a launch over many arrays.

    For each of `columns` it has `capacity` addresses or numbers of 8 bytes, of which the first
    `len(sizes)` count; then as many sizes of 32 bits, then as many numbers of first blocks.

    Args:
        columns: for each thing that there is of a member, those of all members.
        capacity: members at most.
        sizes: the members' points.
        first_blocks: the number of the first block of each.
    """

    columns: tuple[tuple[OperandPointer | OperandNumber | OutputPointer, ...], ...]
    capacity: int
    sizes: tuple[int, ...]
    first_blocks: tuple[int, ...]


Parameter = (
    OperandPointer
    | OperandNumber
    | OutputPointer
    | Integer
    | Divisor
    | Scratch
    | Counters
    | Members
)


@dataclass(frozen=True, slots=True)
class CudaKernel:
    """One kernel.

    Args:
        name: the function's name.
        definitions: functions and types it uses; what has one name is the same everywhere.
        text: its definition, to be compiled after these and the prelude.
        parameters: what it is given, in order.
        grid: number of blocks.
        block: number of threads of a block.
        before: functions of the same definition that are launched first, in this order, on the same
            parameters and as many threads.
    """

    name: str
    definitions: tuple[str, ...]
    text: str
    parameters: tuple[Parameter, ...]
    grid: Extents
    block: Extents
    before: tuple[str, ...] = ()
