"""A reduction of everything as two kernels: partial results of chunks, and their combination.

So rounding errors grow with the size of a chunk and the number of chunks, not with their product,
chunks can be computed on several threads, and the result is the same on any number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autodiff.schedule.kernel_spec import (
    Gather,
    KernelSpec,
    KernelValue,
    Load,
    Reduce,
    Store,
    along_axes,
    in_rows,
    passes,
    read_by,
    renumbered,
)

#: Points of a chunk.
CHUNK = 8192


@dataclass(frozen=True, slots=True)
class InChunks:
    """`partial` computes what is stored at points, and partial results.

    It takes the operands at `operands_of_partial`; its outputs are those of `outputs_of_partial`,
    then one array for each reduction. `final` takes the operands at `operands_of_final` and these
    arrays; its outputs are the other ones.
    """

    partial: KernelSpec
    final: KernelSpec
    operands_of_partial: tuple[int, ...]
    outputs_of_partial: tuple[int, ...]
    operands_of_final: tuple[int, ...]


def in_chunks(spec: KernelSpec) -> InChunks | None:
    """Return a kernel with one long row as two; None if it is not one, or goes over it twice.

    `v1 = sum over points of v0; v2 = sqrt v1` becomes sums of chunks, then `v1` of these and `v2`.
    """
    is_row, number = in_rows(spec), passes(spec)
    first = len(spec.loads)
    written = [store for store in spec.stores if isinstance(store, Store)]
    if spec.rows or not spec.reduces or spec.scans or spec.updates:
        return None
    if len(spec.shape) != 1 or spec.row_size < 2 * CHUNK:
        return None
    at_points = [i for i in range(len(is_row)) if not is_row[i]]
    if any(number[i] for i in at_points):
        return None
    values = list(enumerate(spec.values, first))
    reductions = [i for i, value in values if isinstance(value, Reduce)]
    if any(is_row[spec.values[i - first].operand] for i in reductions):  # type: ignore[union-attr]
        return None
    if any(number[spec.values[i - first].operand] for i in reductions):  # type: ignore[union-attr]
        return None
    count = -(-spec.row_size // CHUNK)
    needed = _needed_at_points(spec, at_points)
    place = {i: k for k, i in enumerate(sorted(needed))}
    read: list[Any] = [
        spec.loads[i] if i < first else renumbered(spec.values[i - first], place.__getitem__)
        for i in sorted(needed)
    ]
    taken = tuple(dict.fromkeys(x.operand for x in read if isinstance(x, Load | Gather)))

    def in_rows_of_chunks(x: Any) -> Any:
        is_read = isinstance(x, Load | Gather)
        return along_axes(replace(x, operand=taken.index(x.operand)) if is_read else x, _in_chunk)

    read = list(map(in_rows_of_chunks, read))
    loads = tuple(read[: sum(i < first for i in needed)])
    early: list[KernelValue] = read[len(loads) :]
    results = {i: len(place) + k for k, i in enumerate(reductions)}
    early += [_partial(spec.values[i - first], place) for i in reductions]
    stored = [k for k, store in enumerate(written) if any(store.strides)]
    if any(is_row[written[k].value] for k in stored):
        return None
    stores = [
        Store(place[s.value], s.dtype, (CHUNK, 1), s.shape) for s in (written[k] for k in stored)
    ]
    stores += [Store(results[i], _accumulated(spec, i), (1, 0), (count,)) for i in reductions]
    partial = KernelSpec((count, CHUNK), 1, loads, tuple(early), tuple(stores), spec.row_size)
    final = _final(spec, reductions, count, is_row)
    return InChunks(partial, final, taken, tuple(stored), _kept(spec))


def _in_chunk(strides: Sequence[int]) -> tuple[int, ...]:
    """Return strides along chunks and the points of a chunk, of what goes along all points."""
    (stride,) = strides
    return CHUNK * stride, stride


def _kept(spec: KernelSpec) -> tuple[int, ...]:
    """Return the operands that are read once, not at every point."""
    is_row = in_rows(spec)
    return tuple(dict.fromkeys(x.operand for i, x in enumerate(spec.loads) if is_row[i]))


def _needed_at_points(spec: KernelSpec, at_points: list[int]) -> set[int]:
    """Return values at points and what these read, numbers of the whole array included."""
    first = len(spec.loads)
    needed: set[int] = set()
    stack = list(at_points)
    while stack:
        i = stack.pop()
        if i in needed:
            continue
        needed.add(i)
        if i >= first:
            stack += read_by(spec.values[i - first])
    return needed


def _partial(value: KernelValue, place: dict[int, int]) -> Reduce:
    """Return a reduction of a chunk, not rounded yet."""
    assert isinstance(value, Reduce)
    return replace(value, operand=place[value.operand], dtype=value.accumulated)


def _accumulated(spec: KernelSpec, i: int) -> np.dtype:
    """Return the type of a reduction's partial results."""
    value = spec.values[i - len(spec.loads)]
    assert isinstance(value, Reduce)
    return value.accumulated


def _final(
    spec: KernelSpec, reductions: list[int], count: int, is_row: tuple[bool, ...]
) -> KernelSpec:
    first = len(spec.loads)
    kept = _kept(spec)
    own = [i for i in range(first) if is_row[i]]
    loads = [
        replace(spec.loads[i], operand=kept.index(spec.loads[i].operand), strides=(0,)) for i in own
    ]
    place = {i: k for k, i in enumerate(own)}
    for k, i in enumerate(reductions):
        loads.append(Load(len(kept) + k, _accumulated(spec, i), (1,)))
    values: list[KernelValue] = []
    for k, i in enumerate(reductions):
        value = spec.values[i - first]
        assert isinstance(value, Reduce)
        place[i] = len(loads) + len(values)
        values.append(replace(value, operand=len(own) + k))
    for i, value in enumerate(spec.values, first):
        if is_row[i] and not isinstance(value, Reduce):
            place[i] = len(loads) + len(values)
            values.append(renumbered(value, place.__getitem__))
    stores = [
        replace(s, value=place[s.value], over=None)
        for s in spec.stores
        if isinstance(s, Store) and not any(s.strides)
    ]
    return KernelSpec((count,), 0, tuple(loads), tuple(values), tuple(stores))
