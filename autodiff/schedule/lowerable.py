"""Which equations a generated kernel can compute, and why not the others.

An equation that cannot is run by NumPy, between kernels.
"""

from __future__ import annotations

from autodiff.base import dtypes
from autodiff.ir.graph import Eqn
from autodiff.primitives.lowering import missing_rule


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
