"""Elements of arrays in the text of CUDA kernels: what they are in memory and in variables.

Masks are `u8` in memory and `bool` in variables, 16-bit floats `u16` and `float`, complex numbers
`Complex<float>` or `Complex<double>` in both.
"""

from __future__ import annotations

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.complex_operations import ComplexOperations, Pair, of_parts, parts_of
from autodiff.codegen.cuda_builder import CudaBuilder, type_name
from autodiff.codegen.cuda_operations import CudaOperations
from autodiff.codegen.operations import Typed, held_type, memory_type
from autodiff.codegen.scalar_types import Value

#: What the values of a kernel are.
Held = Typed | Pair

#: The members of a complex number.
_PARTS = ("real", "imag")


def element_name(dtype: np.dtype) -> str:
    """Return the type of an element in memory.

    >>> element_name(np.dtype(np.float16)), element_name(np.dtype(np.complex64))
    ('u16', 'Complex<float>')
    """
    part = type_name(memory_type(dtypes.real_dtype(dtype)))
    return f"Complex<{part}>" if dtypes.is_complex(dtype) else part


def held_name(dtype: np.dtype) -> str:
    """Return the type of a variable that holds an element.

    >>> held_name(np.dtype(np.float16)), held_name(np.dtype(bool))
    ('float', 'bool')
    """
    part = type_name(held_type(dtypes.real_dtype(dtype)))
    return f"Complex<{part}>" if dtypes.is_complex(dtype) else part


class Elements:
    """Elements read and written by a builder's text, and the operations on them, `o`."""

    def __init__(self, builder: CudaBuilder) -> None:
        self.b = builder
        self.o = ComplexOperations(CudaOperations(builder))

    def read(self, text: str, dtype: np.dtype, name: str, *places: Value) -> Held:
        """Return the element of memory that an expression gives, put into a variable.

        `{0}`, `{1}`, ... in the expression are `places`.
        """
        if dtypes.is_complex(dtype):
            name = self.b.fresh(name)
            self.b.statement(f"const {element_name(dtype)} {name} = {text};", *places)
            return self.variable(name, dtype)
        element = self.b.named(self.b.expression(memory_type(dtype), text, *places), name)
        return self.o.loaded(element, dtype)

    def given(self, name: str, dtype: np.dtype) -> Held:
        """Return the element of memory that a parameter is."""
        if dtypes.is_complex(dtype):
            return self.variable(name, dtype)
        return self.o.loaded(Value(name, memory_type(dtype)), dtype)

    def variable(self, name: str, dtype: np.dtype) -> Held:
        """Return what a variable, or an element of an array of such, holds."""
        part = dtypes.real_dtype(dtype)
        names = [f"{name}.{member}" for member in _PARTS] if part != dtype else [name]
        return of_parts([Typed(Value(x, held_type(part)), part) for x in names], dtype)

    def write(self, form: str, x: Held) -> None:
        """Append a statement in which `{value}` is an element as it is in memory."""
        self._statement(form, [self.o.on_reals.stored(part) for part in parts_of(x)])

    def set(self, form: str, x: Held) -> None:
        """Append a statement in which `{value}` is an element as a variable holds it."""
        self._statement(form, [part.value for part in parts_of(x)])

    def _statement(self, form: str, values: list[Value]) -> None:
        places = ", ".join(f"{{{i}}}" for i in range(len(values)))
        text = places if len(values) == 1 else f"make_complex({places})"
        self.b.statement(form.replace("{value}", text), *values)
