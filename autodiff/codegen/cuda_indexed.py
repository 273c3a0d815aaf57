"""Elements read and written where integer values say: what is at places, in text of CUDA kernels.

An index out of range never leads outside the array: it is replaced before an address is made of it.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.cuda_elements import Held, element_name
from autodiff.codegen.cuda_rendering import SIGNED
from autodiff.codegen.operations import Typed, memory_type
from autodiff.codegen.scalar_types import I64, Value
from autodiff.ir.graph import Literal
from autodiff.schedule.kernel_spec import Gather, Location, Place, Update
from autodiff.schedule.scatters import is_distinct

if TYPE_CHECKING:
    from autodiff.codegen.cuda_text import KernelText

_INT64 = np.dtype(np.int64)


def at_places(
    text: KernelText, x: Gather | Location | Update, known: dict[int, Held], point: str
) -> tuple[Value, Typed | None]:
    """Return where an element is in its array, and whether its indices are in range.

    The place is in the array in any case. There is no second value where all count as in range.
    """
    o: Any = text.o
    whole, inside = None, None
    for place in x.places:
        found, fits = _in_range(text, place, x.mode, known)
        if fits is not None:
            inside = fits if inside is None else o.logical_and(inside, fits)
        if place.stride != 1:
            found = o.multiply(found, _parameter(text, place.stride))
        whole = found if whole is None else o.add(whole, found)
    assert whole is not None
    start = text.place(x, point)
    form = "i64({0})" if start == "0" else f"{start} + i64({{0}})"
    return text.b.expression(I64, form, text.b.named(whole.value, "place")), inside


def _in_range(
    text: KernelText, place: Place, mode: str, known: dict[int, Held]
) -> tuple[Typed, Typed | None]:
    """Return an index in range and, for modes that skip others, whether it was so already."""
    o: Any = text.o
    index = place.index
    if isinstance(index, Literal):
        found = o.constant(index.value.item(), _INT64)
    else:
        found = known[index]
        if found.dtype == np.uint64:  # as the reference does, whose indices are int64
            found = o.minimum(found, 2**63 - 1)
        found = o.cast(found, _INT64)
    size = _parameter(text, place.size)
    if mode in ("fill", "drop"):
        fits = o.logical_and(o.greater_equal(found, 0), o.less(found, size))
        return o.where(fits, found, 0), fits
    if mode == "wrap":
        return o.remainder(found, size), None
    return o.minimum(o.maximum(found, 0), o.subtract(size, 1)), None


def _parameter(text: KernelText, value: int) -> Typed:
    """Return a number that follows from sizes as a value."""
    return Typed(text.b.expression(I64, f"u64({text.stride(value)})"), _INT64)


def gathered(text: KernelText, i: int, value: Gather, known: dict[int, Held], point: str) -> Held:
    """Return what is read where integer values say."""
    place, inside = at_places(text, value, known, point)
    element = text.elements.read(f"AD_LD(&{text.gathered[i]}[{{0}}])", value.dtype, f"v{i}", place)
    if inside is None or value.fill is None:
        return element
    fill = text.o.constant(value.fill.value.item(), value.dtype)
    return text.o.where(inside, element, fill)


def location(text: KernelText, value: Location, known: dict[int, Held], point: str) -> Held:
    """Return a location as a value."""
    place, inside = at_places(text, value, known, point)
    found = text.o.cast(Typed(place, _INT64), value.dtype)
    if inside is None:
        return found
    if value.missing < 0:
        missing = text.o.constant(value.missing, value.dtype)
    else:  # it follows from sizes
        whole = text.b.expression(I64, f"u64({text.number(value.missing)})")
        missing = text.o.cast(Typed(whole, _INT64), value.dtype)
    return text.o.where(inside, found, missing)


def update_element(
    text: KernelText, k: int, known: dict[int, Held], point: str, array: str | None = None
) -> None:
    """Make the update of output `k` at a point, whatever other threads do meanwhile.

    `array`: what is updated in its stead.
    """
    x = text.spec.stores[k]
    assert isinstance(x, Update)
    place, inside = at_places(text, x, known, point)
    value: Any = text.operand_value(x.value, known)
    with text.b.within("if ({0})", inside.value) if inside is not None else nullcontext():
        element = f"&{array or text.outputs[k]}[{{0}}]"
        if is_distinct(text.spec, x):
            name = text.b.fresh("to")
            text.b.statement(f"{element_name(x.dtype)}* const {name} = {element};", place)
            before = text.elements.read(f"AD_LD({name})", x.dtype, "before")
            combined = x.combination.combine(text.o, before, value)
            text.elements.write(f"AD_ST({name}, {{value}});", combined)
            return
        text.b.statement(atomically(text, x, element, "{1}"), place, value.value)


def atomically(text: KernelText, x: Update, pointer: str, value: str) -> str:
    """Return the statement that makes an update of integers as an atomic operation."""
    atomic, signed = x.combination.atomic, SIGNED[memory_type(x.dtype)]
    if atomic is None or x.dtype.itemsize < 4:
        return f"combine_atomically<{text.updating(x)}>({pointer}, {value});"
    if dtypes.kind(x.dtype) == "i":
        return f"{atomic}(({signed}*){pointer}, {signed}({value}));"
    return f"{atomic}({pointer}, {value});"
