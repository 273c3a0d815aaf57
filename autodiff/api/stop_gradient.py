"""Values that derivatives do not see through."""

from __future__ import annotations

from typing import Any

from autodiff.base import pytree
from autodiff.ir.builder import Tracer
from autodiff.ir.primitive import primitives


def stop_gradient(tree: Any) -> Any:
    """Return a pytree of the same values that every derivative takes as constants.

    >>> from autodiff import grad
    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    array(3.)
    """
    return pytree.map(
        lambda leaf: primitives["stop_gradient"](leaf) if type(leaf) is Tracer else leaf, tree
    )
