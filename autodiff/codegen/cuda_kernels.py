"""Kernels for GPUs: from a `KernelSpec` to CUDA C++.

`emit_kernel` chooses the shape of a kernel; each shape has a module that says how its threads are
mapped: `cuda_elementwise`, `cuda_tiles` where operands lie in memory in different orders,
`cuda_reductions`, `cuda_scans` for running results, and `cuda_scatters` for updates of the same
elements. `program_text` puts kernels together into what is compiled. Kernels over many arrays are
`cuda_multi`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache

from autodiff.base.kernel_sources import kernel_directory
from autodiff.codegen.cpu_layout import CannotEmit, collapsed
from autodiff.codegen.cuda_elementwise import emit_elementwise
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.codegen.cuda_reductions import emit_reductions, is_for_stages
from autodiff.codegen.cuda_scans import emit_scans, scans_are_for_stages, turned
from autodiff.codegen.cuda_scatters import emit_bins, emit_scatter, is_binned, is_ordered
from autodiff.codegen.cuda_stretches import why_not_in_stretches
from autodiff.codegen.cuda_teams import rows_are_neighbours
from autodiff.codegen.cuda_text import KernelText, lanes_of
from autodiff.codegen.cuda_tiles import crossed_axis, emit_tiles
from autodiff.schedule.kernel_spec import (
    Choose,
    Compute,
    Gather,
    KernelSpec,
    Load,
    Location,
    Position,
    Reduce,
    Scan,
    Store,
    Update,
)
from autodiff.schedule.scatters import in_scatter_stages
from autodiff.schedule.stages import Stage, in_stages
from autodiff.schedule.target import Target

__all__ = ["CannotEmit", "can_emit", "emit_kernel", "kernels_text", "program_text", "stages_of"]


@cache
def prelude() -> str:
    """Return the text that every kernel is compiled after."""
    return (kernel_directory() / "cuda" / "prelude.cuh").read_text(encoding="utf-8")


def kernels_text(kernels: Sequence[CudaKernel]) -> str:
    """Return the text of kernels with what they use, for reading."""
    definitions = dict.fromkeys(text for made in kernels for text in made.definitions)
    return "\n".join([*[f"{text}\n" for text in definitions], *[made.text for made in kernels]])


def program_text(kernels: Sequence[CudaKernel]) -> str:
    """Return the text of a program of kernels of different names, to be compiled by itself."""
    return f"{prelude()}\n{kernels_text(kernels)}"


def emit_kernel(
    spec: KernelSpec,
    target: Target,
    name: str,
    *,
    numbers: frozenset[int] = frozenset(),
    aligned: bool = True,
    contract: bool = True,
) -> CudaKernel:
    """Return a kernel's text, and how it is launched.

    Args:
        spec: a kernel over at least one point.
        target: the GPU.
        name: the function's name.
        numbers: operands without axes that are given by value, not by address.
        aligned: whether all operands and outputs begin at multiples of 16 bytes.
        contract: whether a product and a sum may be rounded once (fused multiply-add).

    Raises:
        CannotEmit: points of a row are not one axis, and there is a reduction; or the spec has
            parts that this backend has no text for.

    Updates are made in the memory of the operands that they are `over`.
    """
    layout, backwards = _laid_out(spec)
    _check_parts(layout)
    if is_ordered(layout):
        return emit_scatter(
            layout, lambda spec: KernelText(spec, target, name, numbers, 1, contract)
        )
    if is_binned(layout):
        return emit_bins(KernelText(layout, target, name, numbers, 1, contract), target.cores)
    axis = crossed_axis(layout) if layout.is_pointwise and not layout.updates else None
    lanes = lanes_of(layout, target, aligned and axis is None and not rows_are_neighbours(layout))
    text = KernelText(layout, target, name, numbers, lanes, contract)
    if layout.scans:
        return emit_scans(text, target, backwards)
    if layout.reduces:
        return emit_reductions(text, target)
    return emit_elementwise(text) if axis is None else emit_tiles(text, axis)


def _laid_out(spec: KernelSpec) -> tuple[KernelSpec, bool]:
    """Return a kernel as it goes through memory, and whether rows begin at their last points."""
    layout = collapsed(spec)
    return turned(layout) if layout.scans else (layout, False)


#: What the shapes of kernels read of a load and of a store.
_PARTS = {
    Load: {"operand", "dtype", "strides", "offset", "bounds"},
    Store: {"value", "dtype", "strides", "shape", "over"},
}
#: Parts of which all is read.
_WHOLE = (Compute, Reduce, Scan, Gather, Choose, Position, Location, Update)


def _check_parts(spec: KernelSpec) -> None:
    """Raise `CannotEmit` if a spec says something that no text here would say."""
    for part in (*spec.loads, *spec.values, *spec.stores):
        kind = type(part)
        if isinstance(part, Scan) and (reason := why_not_in_stretches(part)):
            raise CannotEmit(reason)
        if kind in _WHOLE:
            continue
        others = {f.name: f.default for f in fields(part)}
        for name in _PARTS.get(kind, set()):
            del others[name]
        if kind not in _PARTS or any(getattr(part, k) != other for k, other in others.items()):
            raise CannotEmit(f"kernels for GPUs have no text for {part}")


def can_emit(spec: KernelSpec) -> bool:
    """Return whether a kernel can be emitted for a GPU, and is over some points."""
    try:
        _check_parts(_laid_out(spec)[0])
    except CannotEmit:
        return False
    return bool(spec.row_count * spec.row_size)


def stages_of(spec: KernelSpec, target: Target) -> tuple[Stage, ...]:
    """Return the kernels that a GPU runs instead of one; none where it runs the one."""
    if spec.updates:
        return in_scatter_stages(spec)
    layout = collapsed(spec)
    if any(isinstance(value, Gather) for value in spec.values):
        return ()
    wanted = scans_are_for_stages if layout.scans else is_for_stages
    return in_stages(spec) if layout.reduces and wanted(layout, target) else ()
