"""How a kernel is laid out on the CPU: its axes, what its lanes are, how many, what costs much.

These are decisions, without text: `cpu_kernels` emits what follows from them, and the runtime asks
for them to divide the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.complex_operations import ComplexOperations, of_parts
from autodiff.codegen.cpu_indexed import is_one_place
from autodiff.codegen.cpu_memory import Held
from autodiff.codegen.cpu_short_rows import SHORT_ROW, are_turned
from autodiff.codegen.kernel_needs import Needs
from autodiff.codegen.operations import Operations, Typed, held_type, memory_type
from autodiff.codegen.scalar_types import Value
from autodiff.codegen.vectors import VectorBuilder
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import CACHE_LIMIT, Primitive
from autodiff.primitives.lowering import lower
from autodiff.schedule.kernel_spec import (
    Compute,
    KernelSpec,
    Store,
    Update,
    affine_maps,
    along_axes,
    in_rows,
)
from autodiff.schedule.target import Target

#: Vectors of points that a pass with a reduction works on at a time, each with accumulators of its
#: own. It is the same whatever else the pass computes: so a sum is rounded alike in all kernels.
UNROLLED = 2

#: Instructions beyond which a value is rather kept than computed again.
COSTLY = 8

#: Bytes from one point to the next from which on blocks of rows go over the points together.
FAR = 1024

#: Bytes of the accumulators of a tile.
TILE_BYTES = 1 << 14

#: Blocks of a tile below which each would wait for its running result to come back from memory.
FEWEST_BLOCKS = 8

#: Registers that a vector of rows fills where little is computed: more is read in one go.
REGISTERS = 4


class CannotEmit(Exception):
    """Why a kernel cannot be emitted; the text is the stated reason."""


def collapsed(spec: KernelSpec) -> KernelSpec:
    """Return the same kernel with axes joined that all loads and stores go through as one.

    Raises:
        CannotEmit: points of a row are not one axis, and there is a reduction or a scan.
    """
    rows = len(spec.shape) if spec.is_pointwise else spec.rows
    maps = [m for x in (*spec.loads, *spec.values, *spec.stores) for m in affine_maps(x)]
    parts = [_joined(spec.shape, maps, 0, rows), _joined(spec.shape, maps, rows, len(spec.shape))]
    if not spec.is_pointwise and len(parts[1]) > 1:
        raise CannotEmit("the points of a row are not one axis for all of its operands")
    if spec.is_pointwise:  # the last axis is the points of a row, the others number rows
        parts = [parts[0][:-1], parts[0][-1:]]
    groups = [*parts[0], *(parts[1] or [[]])]
    shape = tuple(prod(spec.shape[i] for i in group) for group in groups)

    def along(strides: Sequence[int]) -> tuple[int, ...]:
        return tuple(strides[group[-1]] if group else 0 for group in groups)

    loads, values, stores = (
        tuple([along_axes(x, along) for x in part])
        for part in (spec.loads, spec.values, spec.stores)
    )
    kernel = KernelSpec(shape, len(parts[0]), loads, values, stores, spec.total)
    return kernel if kernel.row_size > 1 else replace(kernel, stores=_at_points(kernel))


def _at_points(spec: KernelSpec) -> tuple[Store | Update, ...]:
    """Return the stores of rows of one point, those of values at points as such."""
    is_row = in_rows(spec)
    return tuple(
        [
            replace(x, strides=(*x.strides[:-1], 1))
            if isinstance(x, Store) and not is_row[x.value]
            else x
            for x in spec.stores
        ]
    )


def _joined(
    shape: Sequence[int], maps: Sequence[Sequence[int]], start: int, stop: int
) -> list[list[int]]:
    """Return groups of axes that can be gone through as one, axes of size 1 left out."""
    groups: list[list[int]] = []
    for axis in range(start, stop):
        if shape[axis] == 1:
            continue
        if groups and all(m[groups[-1][-1]] == m[axis] * shape[axis] for m in maps):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def span_of(spec: KernelSpec, target: Target) -> int:
    """Return how many rows, blocks of rows or points there are to be divided over begin to end."""
    if lanes_are_rows(spec, target):
        *outer, inner = spec.shape[: spec.rows]
        lanes = lanes_of(spec, target)
        return prod(outer) * -(-inner // lanes)
    is_one_row = spec.row_count == 1 and spec.is_pointwise
    return spec.row_size if is_one_row else spec.row_count


def lanes_are_rows(spec: KernelSpec, target: Target) -> bool:
    """Return whether the lanes of a vector are neighbouring rows, not points of one row."""
    if spec.is_pointwise or not spec.rows or spec.total is not None:
        return False
    if spec.scans:  # in order of the points: neighbouring rows, unless they lie apart as points do
        maps = [x.strides for x in (*spec.loads, *spec.stores) if x.strides[-1]]
        apart = sum(abs(strides[-1]) != 1 for strides in maps)
        return spec.scans[0].block == 1 and spec.shape[spec.rows - 1] > 1 and apart > 0
    width = _width(spec, target)
    if spec.shape[spec.rows - 1] < width:
        return False
    read = [load.strides for load in spec.loads if load.strides[-1]]
    apart = sum(strides[-1] != 1 for strides in read)
    return spec.row_size <= SHORT_ROW or 2 * apart > len(read)


def _width(spec: KernelSpec, target: Target) -> int:
    """Return how many elements of the widest type fill a register; complex ones fill two."""
    held = [spec.dtype_of(i) for i in range(len(spec.loads) + len(spec.values))]
    sizes = [dtypes.real_dtype(dtype).itemsize for dtype in held]
    wide = [size if size > 2 else 4 for size in sizes]  # half precisions are computed in single
    return max(1, target.vector_bits // (8 * max(wide, default=4)))


def lanes_of(spec: KernelSpec, target: Target) -> int:
    """Return the lanes of a kernel's vectors."""
    width = _width(spec, target)
    if are_turned(spec, width) and lanes_are_rows(spec, target):
        return width
    is_simple = not any(
        isinstance(value, Compute) and is_costly(value, spec, target) for value in spec.values
    )
    if not lanes_are_rows(spec, target):
        if spec.scans:
            return spec.scans[0].block
        return 1 if is_simple and any(not is_one_place(x, spec) for x in spec.updates) else width
    rows = spec.shape[spec.rows - 1]
    while width > rows:
        width //= 2
    times = REGISTERS if is_simple else 1
    while times > 1 and times * width > rows:
        times //= 2
    return times * width


def tile_of(spec: KernelSpec, target: Target) -> int:
    """Return how many blocks of rows go over the points together, which reads memory in order."""
    if not lanes_are_rows(spec, target):
        return 1
    needs = Needs(spec)
    carried = [*needs.reductions(0).values(), *needs.scans(0).values()]
    is_far = any(abs(x.strides[-1]) * x.dtype.itemsize >= FAR for x in spec.loads)
    computed = [needs.passes[i] for i in needs.computed_in_rows()]
    if needs.last > 0 or not carried or not is_far or 0 in computed:
        return 1
    parts = [dtypes.real_dtype(value.accumulated) for value in carried]
    if any(held_type(part).bits > memory_type(part).bits for part in parts):
        return 1  # what a running result of half precision carries is held in single
    lanes = lanes_of(spec, target)
    size = sum(UNROLLED * lanes * value.accumulated.itemsize for value in carried)
    blocks = min(-(-spec.shape[spec.rows - 1] // lanes), TILE_BYTES // size)
    return 1 if spec.scans and blocks < FEWEST_BLOCKS else max(1, blocks)


def is_costly(value: Compute, spec: KernelSpec, target: Target) -> bool:
    """Return whether a value takes more than some instructions."""
    return instructions_of(value, spec, target) > COSTLY


def instructions_of(value: Compute, spec: KernelSpec, target: Target) -> int:
    """Return how many instructions compute a value, as its rule writes them."""
    taken = [x.aval.dtype if isinstance(x, Literal) else spec.dtype_of(x) for x in value.operands]
    return instructions_for(value.primitive, tuple(taken), value.params, target)


@lru_cache(maxsize=CACHE_LIMIT)
def instructions_for(
    primitive: Primitive,
    operands: tuple[np.dtype, ...],
    params: tuple[tuple[str, Any], ...],
    target: Target,
) -> int:
    """Return how many instructions an elementwise operation takes on these types."""
    b = VectorBuilder(target, 1)
    lower(ComplexOperations(Operations(b)), primitive, list(map(any_value, operands)), dict(params))
    return len(b.lines)


def any_value(dtype: np.dtype) -> Held:
    """Return a value of an element type of which nothing is known."""
    part = dtypes.real_dtype(dtype)
    one = Typed(Value("%x", held_type(part)), part)
    return of_parts([one, one] if dtypes.is_complex(dtype) else [one], dtype)
