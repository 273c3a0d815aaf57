"""Instructions of AVX-512 that LLVM has no portable name for, on vectors of any number of lanes.

They work on registers of 512 bits: longer vectors are cut, shorter ones widened. Each function
appends its lines to a `VectorBuilder`, whose operations they are part of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from autodiff.codegen.scalar_types import F32, ScalarType, Value

if TYPE_CHECKING:
    from autodiff.codegen.vectors import VectorBuilder


def scalef(b: VectorBuilder, x: Value, n: Value) -> Value:
    """Return x * 2**floor(n), rounded once."""
    return _masked(b, "scalef", x, n)


def getexp(b: VectorBuilder, x: Value) -> Value:
    """Return floor(log2|x|) as a float: -inf for 0; infinities (without sign) and NaN stay."""
    return _masked(b, "getexp", x)


def getmant(b: VectorBuilder, x: Value) -> Value:
    """Return x / 2**k in [0.75, 1.5): 1 for 0 and inf, NaN below zero and for NaN."""
    return _masked(b, "getmant", x, immediate=15)


def permute(b: VectorBuilder, elements: str, index: Value, type: ScalarType) -> Value:
    """Return the constants `elements`, one register of them, in the order of `index`."""
    size = 512 // type.bits
    name = f"llvm.x86.avx512.permvar.{'sf' if type is F32 else 'df'}.512"
    register, indices = f"<{size} x {type.name}>", f"<{size} x {index.type.name}>"
    b.declarations[name] = f"declare {register} @{name}({register}, {indices})"

    def one(parts: Sequence[Value]) -> Value:
        operands = f"{register} <{elements}>, {indices} {parts[0].text}"
        return b.assign(f"call {register} @{name}({operands})", type)

    return _by_registers(b, [index], type, one)


def _masked(
    b: VectorBuilder, operation: str, *values: Value, immediate: int | None = None
) -> Value:
    """Return the intrinsic `operation` with all lanes set in its mask.

    Its last operand, 4, asks for the rounding of the environment. `immediate` of getmant: bits 1-0
    choose the interval, bits 3-2 a NaN below zero and the sign of zero dropped (Intel, Software
    developer's manual, volume 2, VGETMANTPS).
    """
    type = values[0].type
    size = 512 // type.bits
    register = f"<{size} x {type.name}>"
    name = f"llvm.x86.avx512.mask.{operation}.{'ps' if type is F32 else 'pd'}.512"
    kinds = [*(["i32"] if immediate is not None else []), register, f"i{size}", "i32"]
    b.declarations[name] = (
        f"declare {register} @{name}({', '.join([register] * len(values) + kinds)})"
    )
    constants = [*([immediate] if immediate is not None else []), "zeroinitializer", -1, 4]
    tail = [f"{kind} {constant}" for kind, constant in zip(kinds, constants, strict=True)]

    def one(parts: Sequence[Value]) -> Value:
        operands = [*(f"{register} {part.text}" for part in parts), *tail]
        return b.assign(f"call {register} @{name}({', '.join(operands)})", type)

    return _by_registers(b, values, type, one)


def _by_registers(
    b: VectorBuilder,
    values: Sequence[Value],
    type: ScalarType,
    one: Callable[[Sequence[Value]], Value],
) -> Value:
    """Return `one` applied to the values, cut or widened to vectors of 512 bits."""
    size = 512 // type.bits
    if b.lanes == size:
        return one(values)
    if b.lanes == 1:
        single = one([_widened(b, value, size) for value in values])
        return b.assign(f"extractelement <{size} x {type.name}> {single.text}, i32 0", type)
    pieces = []
    for start in range(0, b.lanes, size):
        # Lanes beyond the last repeat the first of the piece: computed for nothing.
        lanes = [start + lane if start + lane < b.lanes else start for lane in range(size)]
        poison = [Value("poison", value.type) for value in values]
        parts = zip(values, poison, strict=True)
        pieces.append(one([_shuffled(b, x, y, b.lanes, lanes) for x, y in parts]))
    while len(pieces) > 1:
        if len(pieces) % 2:
            pieces.append(Value("poison", type))
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        pieces = [_shuffled(b, first, second, size, range(2 * size)) for first, second in pairs]
        size *= 2
    if size == b.lanes:
        return pieces[0]
    return _shuffled(b, pieces[0], Value("poison", type), size, range(b.lanes))


def _widened(b: VectorBuilder, value: Value, size: int) -> Value:
    name = value.type.name
    text = f"insertelement <{size} x {name}> zeroinitializer, {name} {value.text}, i32 0"
    return b.assign(text, value.type)


def _shuffled(b: VectorBuilder, x: Value, y: Value, lanes: int, order: Sequence[int]) -> Value:
    vector = f"<{lanes} x {x.type.name}>"
    listed = ", ".join(f"i32 {lane}" for lane in order)
    indices = f"<{len(order)} x i32> <{listed}>"
    return b.assign(f"shufflevector {vector} {x.text}, {vector} {y.text}, {indices}", x.type)
