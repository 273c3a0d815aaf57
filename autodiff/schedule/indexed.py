"""Where equations that are given places by integer arrays read and write, as strides.

The layout of their operands is told in primitives/indexing_layout.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from autodiff.ir.graph import Atom, Eqn
from autodiff.ir.primitive import Indexed
from autodiff.primitives.indexing_layout import other_axes


def indexed_by(eqn: Eqn) -> Indexed | None:
    """Return how an equation reads or writes at places, None if it does not."""
    rule = eqn.primitive.indexed
    return None if rule is None else rule(**eqn.params)


def indices_of(eqn: Eqn, indexed: Indexed) -> tuple[Atom, ...]:
    """Return the integer arrays that give the places."""
    return eqn.inputs[len(eqn.inputs) - len(indexed.axes) :]


def strides_at_elements(
    indexed: Indexed, shape: Sequence[int], strides: Sequence[int], index_ndim: int
) -> tuple[int, ...]:
    """Return the strides of an array along the axes of the elements read from it or written to it.

    Args:
        indexed: which of its axes are indexed.
        shape: the array's shape.
        strides: its strides.
        index_ndim: how many axes the integer arrays have.

    >>> strides_at_elements(Indexed((0,), 0, "clip"), (30, 8), (8, 1), 2)
    (0, 0, 1)
    """
    batch = indexed.batch_axes
    others = other_axes(len(shape), indexed.axes, batch)
    own = [strides[i] if shape[i] != 1 else 0 for i in range(len(shape))]
    between = [0] * (index_ndim - batch)
    return (*own[:batch], *between, *[own[i] for i in others])
