"""NumPy's operations on the values of one CUDA thread.

They are those of `autodiff.codegen.operations`, written by a `CudaBuilder`; here are the ones that
CUDA has a shorter way for.
"""

from __future__ import annotations

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.cuda_builder import CudaBuilder
from autodiff.codegen.operations import Operations, Typed
from autodiff.codegen.scalar_types import F32, I16, Value

_HALF, _BFLOAT = np.dtype(np.float16), dtypes.bfloat16

#: Functions of the prelude that convert from and to the bits of a 16-bit float, and that round.
_NARROW = {_HALF: "half", _BFLOAT: "bfloat16"}


class CudaOperations(Operations):
    """Operations whose text is CUDA C++.

    >>> from autodiff.schedule.target import cuda_target
    >>> b = CudaBuilder(cuda_target("sm_90"))
    >>> b.contract = True
    >>> o = CudaOperations(b)
    >>> x = o.loaded(Value("bits", I16), np.dtype(np.float16))
    >>> b.statement("y[i] = {0};", o.stored(o.multiply(x, 2)))
    >>> print(*b.rendered(), sep="\\n")
    y[i] = half_bits(round_to_half(half_value(bits) * 2.0f));
    """

    def __init__(self, builder: CudaBuilder) -> None:
        super().__init__(builder)
        self.text = builder

    def loaded(self, value: Value, dtype: np.dtype) -> Typed:
        """Return the element whose `memory_type` value has been loaded."""
        if dtype in _NARROW:
            return Typed(self.text.expression(F32, f"{_NARROW[dtype]}_value({{0}})", value), dtype)
        return super().loaded(value, dtype)

    def stored(self, x: Typed) -> Value:
        """Return the `memory_type` value of an element, ready to be stored."""
        if x.dtype in _NARROW:
            return self.text.expression(I16, f"{_NARROW[x.dtype]}_bits({{0}})", x.value)
        return super().stored(x)

    def _rounded(self, value: Value, dtype: np.dtype) -> Typed:
        if dtype in _NARROW:
            form = f"round_to_{_NARROW[dtype]}({{0}})"
            return Typed(self.text.expression(F32, form, value), dtype)
        return Typed(value, dtype)

    def _float_fmod(self, x: Value, y: Value) -> Value:
        """Return x - y * trunc(x / y), exactly, as C's function has it."""
        name = "fmodf" if x.type is F32 else "fmod"
        return self.text.expression(x.type, f"{name}({{0}}, {{1}})", x, y)
