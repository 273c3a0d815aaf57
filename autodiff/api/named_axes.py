"""The named axes of the vmaps whose functions are being traced.

`axis_index` has no operand and `psum(1, "i")` none that is traced, so a function under
`vmap(..., axis_name=...)` must be able to find that vmap. While vmap traces its function, and no
longer, the axis stands on a stack of the running thread's (or task's) own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.builder import Tracer


@dataclass(frozen=True, slots=True)
class NamedAxis:
    """One mapped axis: `position` is the traced number of the example along it.

    `identity` tells it from an outer axis of the same name, which it shadows.
    """

    name: Hashable
    identity: Hashable
    size: int
    position: Tracer


#: The axes in force, the innermost last.
axes_in_force: ContextVar[tuple[NamedAxis, ...]] = ContextVar("named_axes", default=())

enclosing_axes = axes_in_force.get


def axis_identity(name: Hashable) -> Hashable:
    """Return what an axis of this name is called in graphs, if mapped here.

    The name itself unless an axis in force has it; no name is a tuple, so the two cannot meet.
    """
    depth = sum(axis.name == name for axis in axes_in_force.get())
    return (name, depth) if depth else name


@contextmanager
def named_axis(name: Hashable, size: int, position: Tracer) -> Iterator[None]:
    """Put an axis in force for a block of code."""
    axis = NamedAxis(name, axis_identity(name), size, position)
    token = axes_in_force.set((*axes_in_force.get(), axis))
    try:
        yield
    finally:
        axes_in_force.reset(token)


@contextmanager
def axes_at(positions: Sequence[Tracer]) -> Iterator[None]:
    """Let the axes in force have other positions: inputs of a graph that is to be kept."""
    pairs = zip(axes_in_force.get(), positions, strict=True)
    token = axes_in_force.set(tuple(replace(axis, position=position) for axis, position in pairs))
    try:
        yield
    finally:
        axes_in_force.reset(token)


def find_axis(function: str, name: Hashable) -> NamedAxis:
    """Return the innermost axis of a name; a ValueError lists those in force."""
    axes = axes_in_force.get()
    for axis in reversed(axes):
        if axis.name == name:
            return axis
    known = ", ".join(dict.fromkeys(repr(axis.name) for axis in axes))
    raise ValueError(
        message(
            function,
            "axis_name must name the axis of an enclosing vmap",
            f"axis_name={name!r} where {f'the axes are {known}' if known else 'there is none'}",
            line=user_line(),
            fix=f"map the function with vmap(..., axis_name={name!r}).",
        )
    )
