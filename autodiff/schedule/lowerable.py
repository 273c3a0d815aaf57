"""Which equations a generated kernel can compute, and why not the others.

An equation that cannot is run by NumPy, between kernels.
"""

from __future__ import annotations

from autodiff.ir.graph import Eqn
from autodiff.primitives.lowering import missing_rule


def why_not_lowered(eqn: Eqn) -> str | None:
    """Return the reason why no kernel computes this equation, None if one can.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> graph = ad.make_graph(lambda x: ad.numpy.sort(x * x))(np.ones(3))
    >>> [why_not_lowered(eqn) for eqn in graph.eqns]
    [None, 'sort does not act on each element by itself']
    """
    primitive = eqn.primitive
    if primitive.kind != "elementwise":
        return f"{primitive.name} does not act on each element by itself"
    taken = tuple([atom.aval.dtype for atom in eqn.inputs])
    return missing_rule(primitive, taken, eqn.params)
