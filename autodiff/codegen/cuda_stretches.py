"""What CUDA kernels know of stretches of points: the struct S of the prelude for each scan.

A running result is made of stretches: neighbouring points of a row, of which a thread first finds
out what they amount to, then goes over them from what came before. What is known of a stretch is

    a value     the operation's own result, of an associative operation: combined by `advance`
    Scaled      a product that cannot leave the range of its type
    Affine      factor and term, where the result is linear in the one before

Source: Blelloch, "Prefix sums and their applications", 1990, section 1.4.1.
"""

from __future__ import annotations

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.cuda_builder import CudaBuilder
from autodiff.codegen.cuda_elements import Elements, Held, held_name
from autodiff.codegen.cuda_text import KernelText
from autodiff.schedule.kernel_spec import Scan


def carried_type(scan: Scan) -> np.dtype:
    """Return the type that results are carried in: single precision for halves."""
    is_half = dtypes.is_float(scan.dtype) and scan.dtype.itemsize == 2
    return np.dtype(np.float32) if is_half else scan.dtype


def has_factor(scan: Scan) -> bool:
    """Return whether stretches are combined by their factors. Integers wrap in any order alike."""
    return not scan.primitive.associative and dtypes.is_inexact(scan.dtype)


def why_not_in_stretches(scan: Scan) -> str | None:
    """Return why running results cannot be made in stretches, None if they can."""
    primitive = scan.primitive
    if primitive.associative or primitive.factor is not None:
        return None
    return f"{primitive.name} can only be made from point to point"


def part_type(scan: Scan) -> tuple[str, int]:
    """Return the type of what is known of a stretch, and its bytes.

    `Scaled` holds as much again for the exponent, and `Affine` a number more.
    """
    kind, size = held_name(carried_type(scan)), carried_type(scan).itemsize
    if not has_factor(scan):
        return kind, size
    if len(scan.operands) == 1:
        return f"Scaled<{kind}>", 2 * size
    return f"Affine<{kind}>", 3 * size


def stretch(text: KernelText, scan: Scan) -> str:
    """Return the name of the struct that the prelude calls S, which is among the kernel's then.

    struct cumprod_float32 {
      typedef Scaled<float> Part;
      static __device__ Part identity() {
        return {1.0f, 0};
      }
      static __device__ Part of(float x) {
        return normalized(x, 0);
      }
      static __device__ Part combine(Part x, Part y) {
        if (is_nothing(x)) return y;
        if (is_nothing(y)) return x;
        return normalized(x.mantissa * y.mantissa, x.exponent + y.exponent);
      }
      static __device__ float value(Part x) {
        return by_power(x.mantissa, x.exponent);
      }
    };
    """
    name = f"{scan.primitive.name}_{carried_type(scan).name}"
    if name not in text.structs:
        kind, part = held_name(carried_type(scan)), part_type(scan)[0]
        operands = ", ".join(f"{kind} {letter}" for letter in "xy"[: len(scan.operands)])
        functions = [
            ("Part identity()", _identity),
            *([(f"Part of({operands})", _of)] if has_factor(scan) else []),
            ("Part combine(Part x, Part y)", _combine),
            (f"{kind} value(Part x)", _value),
        ]
        lines = [f"struct {name} {{", f"  typedef {part} Part;"]
        for declaration, emit in functions:
            elements = Elements(CudaBuilder(text.b.target, ("x", "y", "moved", "before", "factor")))
            elements.b.functions = text.b.functions
            emit(elements, scan)
            lines += [f"  static __device__ {declaration} {{", *elements.b.rendered(2), "  }"]
        text.structs[name] = "\n".join([*lines, "};"])
    return name


def _identity(elements: Elements, scan: Scan) -> None:
    dtype, identity = carried_type(scan), scan.primitive.identity
    assert identity is not None
    number = elements.o.constant(identity(dtype).item(), dtype)
    if not has_factor(scan):
        elements.set("return {value};", number)
        return
    one = elements.o.constant(1, dtype)
    if len(scan.operands) == 1:
        elements.set("return {{{value}, 0}};", one)
    else:
        elements.set(f"const {held_name(dtype)} factor = {{value}};", one)
        elements.set("return {{{{factor, 0}}, {value}}};", number)


def _of(elements: Elements, scan: Scan) -> None:
    if len(scan.operands) == 1:
        elements.b.statement("return normalized(x, 0);")
    else:
        factor, term = ("x", "y") if scan.primitive.factor == 0 else ("y", "x")
        elements.b.statement(f"return {{{{normalized({factor}, 0), {term}}}}};")


def _combine(elements: Elements, scan: Scan) -> None:
    o, dtype, kind = elements.o, carried_type(scan), held_name(carried_type(scan))

    def variable(name: str) -> Held:
        return elements.variable(name, dtype)

    if not has_factor(scan):
        assert scan.primitive.advance is not None
        result = scan.primitive.advance(o, variable("x"), variable("y"))
        elements.set("return {value};", result)
        return
    elements.b.statement("if (is_nothing(x)) return y;")
    elements.b.statement("if (is_nothing(y)) return x;")
    if len(scan.operands) == 1:
        product = o.multiply(variable("x.mantissa"), variable("y.mantissa"))
        elements.set("return normalized({value}, x.exponent + y.exponent);", product)
        return
    product = o.multiply(variable("x.factor.mantissa"), variable("y.factor.mantissa"))
    exponent = "x.factor.exponent + y.factor.exponent"
    elements.set(f"const Scaled<{kind}> factor = normalized({{value}}, {exponent});", product)
    elements.b.statement(f"const Scaled<{kind}> moved = normalized(x.term, y.factor.exponent);")
    moved = o.multiply(variable("y.factor.mantissa"), variable("moved.mantissa"))
    elements.set(f"const {kind} before = by_power({{value}}, moved.exponent);", moved)
    elements.set("return {{factor, {value}}};", o.add(variable("before"), variable("y.term")))


def _value(elements: Elements, scan: Scan) -> None:
    if not has_factor(scan):
        elements.b.statement("return x;")
    elif len(scan.operands) == 1:
        elements.b.statement("return by_power(x.mantissa, x.exponent);")
    else:
        elements.b.statement("return x.term;")
