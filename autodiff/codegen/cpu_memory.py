"""Vectors read from memory and written to it: contiguous, strided, repeated, under a mask."""

from __future__ import annotations

import numpy as np

from autodiff.codegen.operations import Operations, Typed, memory_type
from autodiff.codegen.scalar_types import I1, ScalarType, Value
from autodiff.codegen.vectors import VectorBuilder


class Memory:
    """Loads and stores of a builder's vectors. Addresses are the texts of scalar pointers."""

    def __init__(self, builder: VectorBuilder, operations: Operations) -> None:
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
        kind = memory_type(dtype).name
        return self.scalar(f"getelementptr {kind}, ptr {base}, i64 {place}")

    def mask(self, left: str) -> Value:
        """Return the mask of the lanes below `left`."""
        if self.lanes == 1:
            return Value("true", I1)
        numbers = ", ".join(f"i64 {i}" for i in range(self.lanes))
        bound = self._splat(left, "i64")
        return self.b.assign(f"icmp slt <{self.lanes} x i64> <{numbers}>, {bound}", I1)

    # ---- reading

    def load(self, address: str, dtype: np.dtype, stride: int, mask: Value | None) -> Typed:
        """Return elements `stride` apart, the first one at the address."""
        stored = memory_type(dtype)
        if stride == 0:
            one = self.scalar(f"load {stored.name}, ptr {address}")
            vector = one if self.lanes == 1 else self._splat(one, stored.name)
            return self.o.loaded(Value(vector, stored), dtype)
        if stride == 1 or self.lanes == 1:
            return self.o.loaded(self._load_contiguous(address, stored, mask), dtype)
        return self.o.loaded(self._gather(address, stored, stride, mask), dtype)

    def _splat(self, scalar: str, kind: str) -> str:
        vector = f"<{self.lanes} x {kind}>"
        one = self.scalar(f"insertelement {vector} poison, {kind} {scalar}, i32 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.scalar(f"shufflevector {vector} {one}, {vector} poison, {zeros}")

    def _load_contiguous(self, address: str, stored: ScalarType, mask: Value | None) -> Value:
        b, vector, align = self.b, self.b.text_of(stored), stored.bits // 8
        if mask is None or self.lanes == 1:
            return b.assign(f"load {vector}, ptr {address}, align {align}", stored)
        full = f"llvm.masked.load.v{self.lanes}{stored.suffix}.p0"
        masks = b.text_of(I1)
        b.declarations[full] = f"declare {vector} @{full}(ptr, i32, {masks}, {vector})"
        operands = f"ptr {address}, i32 {align}, {masks} {mask.text}, {vector} zeroinitializer"
        return b.assign(f"call {vector} @{full}({operands})", stored)

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

    # ---- writing

    def store(self, x: Typed, address: str, stride: int, mask: Value | None) -> None:
        """Write elements `stride` apart, the first one at the address."""
        value = self.o.stored(x)
        b, vector, align = self.b, self.b.text_of(value.type), value.type.bits // 8
        if self.lanes == 1 or (mask is None and stride == 1):
            b.lines.append(f"  store {vector} {value.text}, ptr {address}, align {align}")
            return
        suffix, masks = f"v{self.lanes}{value.type.suffix}", b.text_of(I1)
        chosen = "splat (i1 true)" if mask is None else mask.text
        if stride == 1:
            full, where, kind = f"llvm.masked.store.{suffix}.p0", f"ptr {address}", "ptr"
        else:
            kind = f"<{self.lanes} x ptr>"
            where = f"{kind} {self._addresses(address, value.type, stride)}"
            full = f"llvm.masked.scatter.{suffix}.v{self.lanes}p0"
        b.declarations[full] = f"declare void @{full}({vector}, {kind}, i32, {masks})"
        rest = f"i32 {align}, {masks} {chosen}"
        b.lines.append(f"  call void @{full}({vector} {value.text}, {where}, {rest})")

    def store_first_lane(self, x: Typed, address: str) -> None:
        """Write the element of the first lane."""
        value = self.o.stored(x)
        scalar = value.text
        if self.lanes > 1:
            vector = self.b.text_of(value.type)
            scalar = self.scalar(f"extractelement {vector} {value.text}, i32 0")
        self.b.lines.append(f"  store {value.type.name} {scalar}, ptr {address}")
