"""Solvers for the tests, and how implicit derivatives are compared with those of dense solves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import autodiff.numpy as anp
from autodiff import tree
from tests.composition.transformations import COMPUTED, TRANSFORMED, as_arrays

#: Every pair of these is tried around each construct.
NAMES = ("grad", "jvp", "vjp", "linearize", "vmap", "vmap_of_closure", "jit")
PAIRS = [(outer, inner) for outer in NAMES for inner in NAMES]


def eliminate(matvec: Callable[[Any], Any], b: Any) -> Any:
    """Solve a system of vectors by Gauss-Jordan elimination, written out for its size."""
    size = b.shape[0]
    matrix = ad.vmap(matvec, out_axes=1)(np.eye(size, dtype=b.dtype))
    rows = [anp.append(matrix[i], b[i]) for i in range(size)]
    for k in range(size):
        rows[k] = rows[k] / rows[k][k]
        rows = [row if i == k else row - row[k] * rows[k] for i, row in enumerate(rows)]
    return anp.stack([row[-1] for row in rows])


def compare(
    names: tuple[str, ...],
    function: Callable[[Any], Any],
    double: Callable[[Any], Any],
    argument: Any,
    atol: float = 2e-8,
) -> None:
    """Compare transformations of `function`, the outermost first, with those of plain NumPy's."""
    found, expected = function, as_arrays(double)
    for name in reversed(names):
        found, expected = TRANSFORMED[name](found), COMPUTED[name](expected)
    result, wanted = found(argument), expected(argument)
    assert tree.structure(result) == tree.structure(wanted)
    for leaf, other in zip(tree.leaves(result), tree.leaves(wanted), strict=True):
        assert type(leaf) is np.ndarray
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)
        scale = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(leaf, other, rtol=0.0, atol=atol * scale)
