"""Vectors read from memory and written to it: contiguous either way, strided, repeated, masked.

Complex elements lie in memory as their real and imaginary parts in turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.complex_operations import Pair, of_parts, parts_of
from autodiff.codegen.operations import Typed, memory_type
from autodiff.codegen.scalar_types import I1, ScalarType, Value
from autodiff.codegen.vectors import VectorBuilder

#: What the values of a kernel are in registers.
Held = Typed | Pair


def element_text(dtype: np.dtype) -> str:
    """Return LLVM's type of an element of `dtype` in memory.

    >>> element_text(np.dtype(np.float32)), element_text(np.dtype(np.complex64))
    ('float', '[2 x float]')
    """
    part = memory_type(dtypes.real_dtype(dtype)).name
    return f"[2 x {part}]" if dtypes.is_complex(dtype) else part


class Memory:
    """Loads and stores of a builder's vectors. Addresses are the texts of scalar pointers."""

    def __init__(self, builder: VectorBuilder, operations: Any) -> None:
        self.b = builder
        self.o = operations
        self.lanes = builder.lanes

    def scalar(self, instruction: str) -> str:
        """Append an instruction and return the name of its result."""
        name = self.b.fresh_name()
        self.b.lines.append(f"  {name} = {instruction}")
        return name

    def address(self, base: str, dtype: np.dtype, *terms: tuple[str, int], offset: int = 0) -> str:
        """Return the address of element `offset + sum(index * stride)`."""
        place = str(offset)
        for index, stride in terms:
            if stride and index != "0":
                term = index if stride == 1 else self.scalar(f"mul i64 {index}, {stride}")
                place = term if place == "0" else self.scalar(f"add i64 {place}, {term}")
        if place == "0":
            return base
        return self.scalar(f"getelementptr {element_text(dtype)}, ptr {base}, i64 {place}")

    def mask(self, left: str) -> Value:
        """Return the mask of the lanes below `left`."""
        if self.lanes == 1:
            return Value("true", I1)
        numbers = ", ".join(f"i64 {i}" for i in range(self.lanes))
        bound = self.splat(left, "i64")
        return self.b.assign(f"icmp slt <{self.lanes} x i64> <{numbers}>, {bound}", I1)

    # ---- reading

    def load(self, address: str, dtype: np.dtype, stride: int, mask: Value | None) -> Held:
        """Return elements `stride` apart, the first one at the address."""
        if not dtypes.is_complex(dtype):
            return self._load(address, dtype, stride, mask)
        part = dtypes.real_dtype(dtype)
        if stride == 1 and self.lanes > 1:
            return of_parts(self._load_in_turn(address, part, mask), dtype)
        places = address, self._second(address, part)
        return of_parts([self._load(at, part, 2 * stride, mask) for at in places], dtype)

    def _load(self, address: str, dtype: np.dtype, stride: int, mask: Value | None) -> Typed:
        stored = memory_type(dtype)
        if stride == 0:
            one = self.scalar(f"load {stored.name}, ptr {address}")
            vector = one if self.lanes == 1 else self.splat(one, stored.name)
            return self.o.loaded(Value(vector, stored), dtype)
        if stride == 1 or self.lanes == 1:
            return self.o.loaded(self._load_contiguous(address, stored, mask, self.lanes), dtype)
        if stride == -1:
            first = self._last_lane(address, stored)
            mask = None if mask is None else self._reversed(mask)
            value = self._reversed(self._load_contiguous(first, stored, mask, self.lanes))
            return self.o.loaded(value, dtype)
        return self.o.loaded(self._gather(address, stored, stride, mask), dtype)

    def _load_in_turn(self, address: str, part: np.dtype, mask: Value | None) -> list[Typed]:
        """Return both parts of elements that follow one another."""
        stored = memory_type(part)
        doubled = None if mask is None else self._in_turn(mask, mask)
        both = self._load_contiguous(address, stored, doubled, 2 * self.lanes)
        vector = f"<{2 * self.lanes} x {stored.name}>"
        parts = []
        for first in range(2):
            order = ", ".join(f"i32 {2 * i + first}" for i in range(self.lanes))
            operands = f"{vector} {both.text}, {vector} poison, <{self.lanes} x i32> <{order}>"
            parts.append(Typed(self.b.assign(f"shufflevector {operands}", stored), part))
        return parts

    def _second(self, address: str, part: np.dtype) -> str:
        """Return the address of the imaginary part of the element at an address."""
        return self.scalar(f"getelementptr {memory_type(part).name}, ptr {address}, i64 1")

    def _in_turn(self, x: Value, y: Value) -> Value:
        """Return a vector of twice the lanes, with those of x and y in turn."""
        order = ", ".join(f"i32 {i}, i32 {i + self.lanes}" for i in range(self.lanes))
        vector = self.b.text_of(x.type)
        operands = f"{vector} {x.text}, {vector} {y.text}, <{2 * self.lanes} x i32> <{order}>"
        return self.b.assign(f"shufflevector {operands}", x.type)

    def load_within(
        self, inside: Value, address: str, dtype: np.dtype, stride: int, elsewhere: str
    ) -> Held:
        """Return elements as `load` does, but 0 outside the mask `inside`, without reading there.

        `elsewhere` is an address at which an element may be read.
        """
        if stride and self.lanes > 1:
            return self.load(address, dtype, stride, inside)
        some = self.b.any(inside)
        place = self.scalar(f"select i1 {some}, ptr {address}, ptr {elsewhere}")
        read = self.load(place, dtype, 0, None)
        return self.o.where(Typed(inside, np.dtype(bool)), read, self.o.constant(0, dtype))

    def splat(self, scalar: str, kind: str) -> str:
        """Return a scalar in every lane."""
        vector = f"<{self.lanes} x {kind}>"
        one = self.scalar(f"insertelement {vector} poison, {kind} {scalar}, i32 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.scalar(f"shufflevector {vector} {one}, {vector} poison, {zeros}")

    def _load_contiguous(
        self, address: str, stored: ScalarType, mask: Value | None, lanes: int
    ) -> Value:
        b, align = self.b, stored.bits // 8
        if lanes == 1:
            return b.assign(f"load {stored.name}, ptr {address}, align {align}", stored)
        vector = f"<{lanes} x {stored.name}>"
        if mask is None:
            return b.assign(f"load {vector}, ptr {address}, align {align}", stored)
        full, masks = f"llvm.masked.load.v{lanes}{stored.suffix}.p0", f"<{lanes} x i1>"
        b.declarations[full] = f"declare {vector} @{full}(ptr, i32, {masks}, {vector})"
        operands = f"ptr {address}, i32 {align}, {masks} {mask.text}, {vector} zeroinitializer"
        return b.assign(f"call {vector} @{full}({operands})", stored)

    def _last_lane(self, address: str, stored: ScalarType) -> str:
        """Return the address of the last of elements that stand in memory from it to the first."""
        back = 1 - self.lanes
        return self.scalar(f"getelementptr {stored.name}, ptr {address}, i64 {back}")

    def _reversed(self, x: Value) -> Value:
        """Return the lanes in the opposite order."""
        vector = self.b.text_of(x.type)
        order = ", ".join(f"i32 {lane}" for lane in reversed(range(self.lanes)))
        rest = f"{vector} poison, <{self.lanes} x i32> <{order}>"
        return self.b.assign(f"shufflevector {vector} {x.text}, {rest}", x.type)

    def _addresses(self, address: str, stored: ScalarType, stride: int) -> str:
        steps = ", ".join(f"i64 {i * stride}" for i in range(self.lanes))
        places = f"<{self.lanes} x i64> <{steps}>"
        return self.scalar(f"getelementptr {stored.name}, ptr {address}, {places}")

    def _gather(self, address: str, stored: ScalarType, stride: int, mask: Value | None) -> Value:
        b, vector, align = self.b, self.b.text_of(stored), stored.bits // 8
        addresses = self._addresses(address, stored, stride)
        pointers, masks = f"<{self.lanes} x ptr>", b.text_of(I1)
        full = f"llvm.masked.gather.v{self.lanes}{stored.suffix}.v{self.lanes}p0"
        b.declarations[full] = f"declare {vector} @{full}({pointers}, i32, {masks}, {vector})"
        chosen = "splat (i1 true)" if mask is None else mask.text
        rest = f"i32 {align}, {masks} {chosen}, {vector} zeroinitializer"
        return b.assign(f"call {vector} @{full}({pointers} {addresses}, {rest})", stored)

    def load_as_stored(self, address: str, stored: ScalarType) -> Value:
        """Return neighbouring elements as they are in memory."""
        return self._load_contiguous(address, stored, None, self.lanes)

    # ---- writing

    def store_as_stored(self, x: Value, address: str) -> None:
        """Write neighbouring elements that are as they are to be in memory."""
        self._store(x, address, 1, None, self.lanes)

    def store(self, x: Held, address: str, stride: int, mask: Value | None) -> None:
        """Write elements `stride` apart, the first one at the address."""
        if not isinstance(x, Pair):
            self._store(self.o.stored(x), address, stride, mask, self.lanes)
            return
        real, imag = (self.o.stored(part) for part in parts_of(x))
        if stride == 1 and self.lanes > 1:
            doubled = None if mask is None else self._in_turn(mask, mask)
            self._store(self._in_turn(real, imag), address, 1, doubled, 2 * self.lanes)
            return
        self._store(real, address, 2 * stride, mask, self.lanes)
        second = self._second(address, x.real.dtype)
        self._store(imag, second, 2 * stride, mask, self.lanes)

    def _store(
        self, value: Value, address: str, stride: int, mask: Value | None, lanes: int
    ) -> None:
        if stride == -1 and lanes > 1:
            address, stride = self._last_lane(address, value.type), 1
            value = self._reversed(value)
            mask = None if mask is None else self._reversed(mask)
        b, kind, align = self.b, value.type, value.type.bits // 8
        vector = kind.name if lanes == 1 else f"<{lanes} x {kind.name}>"
        if lanes == 1 or (mask is None and stride == 1):
            b.lines.append(f"  store {vector} {value.text}, ptr {address}, align {align}")
            return
        suffix, masks = f"v{lanes}{kind.suffix}", f"<{lanes} x i1>"
        chosen = "splat (i1 true)" if mask is None else mask.text
        if stride == 1:
            full, where, pointers = f"llvm.masked.store.{suffix}.p0", f"ptr {address}", "ptr"
        else:
            pointers = f"<{lanes} x ptr>"
            where = f"{pointers} {self._addresses(address, kind, stride)}"
            full = f"llvm.masked.scatter.{suffix}.v{lanes}p0"
        b.declarations[full] = f"declare void @{full}({vector}, {pointers}, i32, {masks})"
        rest = f"i32 {align}, {masks} {chosen}"
        b.lines.append(f"  call void @{full}({vector} {value.text}, {where}, {rest})")

    def store_first_lane(self, x: Held, address: str) -> None:
        """Write the element of the first lane."""
        for k, part in enumerate(parts_of(x)):
            value = self.o.stored(part)
            scalar = value.text
            if self.lanes > 1:
                vector = self.b.text_of(value.type)
                scalar = self.scalar(f"extractelement {vector} {value.text}, i32 0")
            place = self._second(address, part.dtype) if k else address
            self.b.lines.append(f"  store {value.type.name} {scalar}, ptr {place}")
