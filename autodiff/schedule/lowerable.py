"""Which equations a generated kernel can compute, and why not the others.

An equation that cannot is run by NumPy, between kernels. And in which order running results are
made, which is a part of what they are.
"""

from __future__ import annotations

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.graph import Eqn
from autodiff.ir.primitive import Primitive
from autodiff.primitives.lowering import missing_rule

#: Kinds of the element types that are one number each.
REAL_KINDS = "biuf"

#: Points of a block of a running result: as many lanes as hold 32-bit numbers in the widest
#: registers. It is the same for all types and processors, and so are the results.
BLOCK = 16


def block_of(primitive: Primitive, dtype: np.dtype) -> int:
    """Return in what blocks a processor makes a cumulative operation along a last axis (`Scan`).

    Only what may be combined in any order has blocks, and not half precisions, which would be
    rounded again in every step.
    """
    is_half = dtypes.is_float(dtype) and dtype.itemsize < 4
    return BLOCK if primitive.associative and not is_half else 1


def why_not_lowered(eqn: Eqn, kinds: str) -> str | None:
    """Return the reason why no kernel computes this equation, None if one can.

    `kinds`: of element types that the backend's kernels hold in registers, of b, i, u, f and c.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> graph = ad.make_graph(lambda x: ad.numpy.sort(x * x))(np.ones(3))
    >>> [why_not_lowered(eqn, "biufc") for eqn in graph.eqns]
    [None, 'sort does not act on each element by itself']
    """
    primitive = eqn.primitive
    if primitive.kind != "elementwise":
        return f"{primitive.name} does not act on each element by itself"
    taken = tuple([atom.aval.dtype for atom in eqn.inputs])
    for dtype in (*taken, *[var.aval.dtype for var in eqn.outputs]):
        if dtypes.kind(dtype) not in kinds:
            return f"{primitive.name} is on {dtype}, which kernels do not hold"
    return missing_rule(primitive, taken, eqn.params)


def why_not_scanned(eqn: Eqn, kinds: str) -> str | None:
    """Return why no kernel makes the running results of a cumulative operation, None if one can.

    `kinds`: as for `why_not_lowered`.
    """
    primitive, dtype = eqn.primitive, eqn.outputs[0].aval.dtype
    if primitive.advance is None:
        return f"{primitive.name} has no rule by which a result follows from the one before"
    if dtypes.kind(dtype) not in kinds:
        return f"{primitive.name} is on {dtype}, of which kernels make no running results"
    return None


def why_not_indexed(eqn: Eqn, kinds: str) -> str | None:
    """Return why no kernel reads or writes at the places of an operation, None if one can.

    `kinds`: as for `why_not_lowered`.
    """
    dtype = eqn.outputs[0].aval.dtype
    if dtypes.kind(dtype) not in kinds:
        return f"{eqn.primitive.name} is on {dtype}, which kernels do not read at places"
    return None
