"""Kernels of one elementwise operation as CUDA C++, run by the emulator.

`CudaKernels` does what `tests.codegen.elementwise_kernels.Kernels` does for processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.codegen.cuda_builder import CudaBuilder
from autodiff.codegen.cuda_elements import Elements, Held, element_name
from autodiff.codegen.cuda_kernels import prelude
from autodiff.schedule.target import Target
from tests import emulator

Rule = Callable[..., tuple[Held, ...]]
THREADS = 128


class CudaKernels:
    """Kernels of elementwise operations for a GPU, one element a thread."""

    def __init__(self, target: Target, lanes: int = 1) -> None:
        assert lanes == 1
        self.target = target
        self._functions: dict[str, str] = {}
        self._definitions: dict[str, str] = {}
        self._outputs: dict[str, tuple[np.dtype, ...]] = {}
        self._module: Any = None

    def add(self, name: str, rule: Rule, operands: Sequence[np.dtype]) -> None:
        """Add the kernel of `rule` on operands of these types."""
        b = CudaBuilder(self.target, ("i", "n", name))
        elements = Elements(b)
        declared = []
        values = []
        for k, dtype in enumerate(operands):
            declared.append(f"const {element_name(dtype)}* x{k}")
            values.append(elements.read(f"AD_LD(&x{k}[i])", dtype, f"v{k}"))
        outputs = rule(elements.o, *values)
        for k, output in enumerate(outputs):
            declared.append(f"{element_name(output.dtype)}* y{k}")
            elements.write(f"AD_ST(&y{k}[i], {{value}});", output)
        self._functions[name] = "\n".join(
            [
                f'extern "C" __global__ void {name}({", ".join([*declared, "int n"])}) {{',
                "  const int i = blockIdx.x * blockDim.x + threadIdx.x;",
                "  if (i >= n) return;",
                *b.rendered(1),
                "}",
            ]
        )
        self._definitions |= b.functions
        self._outputs[name] = tuple([output.dtype for output in outputs])

    @property
    def text(self) -> str:
        """The program of all kernels."""
        return "\n\n".join([prelude(), *self._definitions.values(), *self._functions.values()])

    def run(self, name: str, operands: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return the outputs of a kernel for operands that broadcast together."""
        if self._module is None:
            self._module = emulator.compile(self.text)
        full = [emulator.guarded(x) for x in np.broadcast_arrays(*operands)]
        shape, size = full[0].shape, full[0].size
        results = [emulator.allocate(shape, dtype) for dtype in self._outputs[name]]
        if size:
            grid = -(-size // THREADS)
            self._module.launch(name, grid, THREADS, 0, [*full, *results, size])
        return tuple(results)
