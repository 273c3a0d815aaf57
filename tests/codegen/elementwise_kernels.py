"""Kernels of one elementwise operation, compiled and run on arrays, to try lowering rules with.

`Kernels` gathers operations, compiles them all as one module and runs each:

    kernels = Kernels(target)
    kernels.add("square", rule, (np.dtype("f4"),))     # rule(o, x) -> tuple of typed values
    (y,) = kernels.run("square", (x,))
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.codegen.complex_operations import ComplexOperations
from autodiff.codegen.cpu_memory import Memory
from autodiff.codegen.operations import Operations
from autodiff.codegen.vectors import VectorBuilder
from autodiff.runtime import cpu_jit
from autodiff.schedule.target import Target

Rule = Callable[..., tuple[Any, ...]]


class Kernels:
    """Kernels of elementwise operations for one target, `lanes` elements at a time."""

    def __init__(self, target: Target, lanes: int = 8) -> None:
        self.target = target
        self.lanes = lanes
        self._functions: dict[str, str] = {}
        self._declarations: dict[str, str] = {}
        self._outputs: dict[str, tuple[np.dtype, ...]] = {}
        self._module: Any = None

    def add(self, name: str, rule: Rule, operands: Sequence[np.dtype]) -> None:
        """Add the kernel of `rule` on operands of these types."""
        builder = VectorBuilder(self.target, self.lanes, block="loop")
        o = ComplexOperations(Operations(builder))
        memory = Memory(builder, o)
        pointers = [
            f"  %at{i} = getelementptr ptr, ptr %pointers, i64 {i}\n  %p{i} = load ptr, ptr %at{i}"
            for i in range(8)
        ]
        values = []
        for i, dtype in enumerate(operands):
            place = memory.address(f"%p{i}", dtype, ("%i", 1))
            values.append(memory.load(place, dtype, 1, None))
        outputs = rule(o, *values)
        for i, output in enumerate(outputs, len(operands)):
            place = memory.address(f"%p{i}", output.dtype, ("%i", 1))
            memory.store(output, place, 1, None)
        count = len(operands) + len(outputs)
        self._functions[name] = "\n".join(
            [
                f"define void @{name}(ptr %pointers, ptr %sizes, i64 %begin, i64 %end) {{",
                "entry:",
                *pointers[:count],
                "  br label %loop",
                "loop:",
                f"  %i = phi i64 [ %begin, %entry ], [ %next, %{builder.block} ]",
                *builder.lines,
                f"  %next = add i64 %i, {self.lanes}",
                "  %more = icmp ult i64 %next, %end",
                "  br i1 %more, label %loop, label %exit",
                "exit:",
                "  ret void",
                "}",
            ]
        )
        self._declarations |= builder.declarations
        self._outputs[name] = tuple([output.dtype for output in outputs])

    @property
    def text(self) -> str:
        """The module of all kernels."""
        return "\n\n".join([*self._functions.values(), *self._declarations.values()]) + "\n"

    def run(self, name: str, operands: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return the outputs of a kernel for operands that broadcast together."""
        if self._module is None:
            self._module = cpu_jit.load(self.text, self.target, tuple(self._functions))
        full = np.broadcast_arrays(*operands)
        shape, size = full[0].shape, full[0].size
        padded = -(-size // self.lanes) * self.lanes
        flat = []
        for x in full:
            row = np.ones(padded, x.dtype)
            row[:size] = x.ravel()
            flat.append(row)
        results = [np.zeros(padded, dtype) for dtype in self._outputs[name]]
        if size:
            arrays = [*flat, *results]
            pointers = (ctypes.c_void_p * len(arrays))(*[x.ctypes.data for x in arrays])
            kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)
            kind(self._module.address(name))(pointers, None, 0, padded)
        return tuple([result[:size].reshape(shape) for result in results])


def complex_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return x + i y: not by that sum, which changes infinities and the signs of zeros."""
    numbers = np.empty(x.shape, np.result_type(x, np.complex64))
    numbers.real, numbers.imag = x, y
    return numbers
