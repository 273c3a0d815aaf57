"""What examples mapped by `vmap(..., axis_name=...)` can tell each other: sums, extrema, shifts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import prod
from typing import Any

import numpy as np

from autodiff.api.named_axes import NamedAxis, find_axis
from autodiff.api.trace import array_leaf
from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS, is_arraylike
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.primitive import primitives
from autodiff.primitives.collectives import times_size
from autodiff.primitives.families import convert
from autodiff.primitives.shapes import reshape

AxisName = Hashable
Permutation = Sequence[tuple[int, int]]


def _axis(function: str, axis_name: AxisName) -> NamedAxis:
    """Return the one axis of that name."""
    if isinstance(axis_name, tuple | list):
        raise TypeError(
            message(
                function,
                "axis_name must be the name of one axis",
                f"axis_name={axis_name!r}",
                line=user_line(),
                fix="apply it to one axis after the other.",
            )
        )
    try:
        hash(axis_name)
    except TypeError:
        raise TypeError(
            message(
                function,
                "axis_name must be hashable",
                f"axis_name={axis_name!r} of type {type(axis_name).__name__}",
                line=user_line(),
                fix="use a string.",
            )
        ) from None
    return find_axis(function, axis_name)


def _several(function: str, axis_name: AxisName | tuple[AxisName, ...]) -> list[NamedAxis]:
    """Return the axes of a name, or of a tuple of names."""
    names = list(axis_name) if isinstance(axis_name, tuple | list) else [axis_name]
    axes = [_axis(function, name) for name in names]
    if len({axis.identity for axis in axes}) < len(axes):
        raise ValueError(
            message(
                function,
                "axis_name must name each axis once",
                f"axis_name={axis_name!r}",
                line=user_line(),
                fix="leave out the repeated name.",
            )
        )
    return axes


def _each_leaf(function: str, x: Any, apply: Callable[[Any, str], Any]) -> Any:
    """Return the pytree of `apply(leaf, path)`."""
    found, tree = pytree.flatten_with_path(x)
    results = []
    for path, leaf in found:
        name = pytree.path_string("x", path)
        if not is_arraylike(leaf):
            raise TypeError(
                message(
                    function,
                    "every leaf must be an array or a number",
                    f"{name}={leaf!r} of type {type(leaf).__name__}",
                    line=user_line(),
                    fix="leave it out of what is passed.",
                )
            )
        results.append(apply(leaf, name))
    return pytree.unflatten(tree, results)


def _sum_of_leaf(leaf: Any, axes: Sequence[NamedAxis]) -> Any:
    if type(leaf) in PYTHON_SCALARS:
        return leaf * prod(axis.size for axis in axes)
    if leaf.dtype == bool:
        leaf = convert(leaf, np.int64) if type(leaf) is Tracer else leaf.astype(np.int64)
    for axis in axes:
        if type(leaf) is Tracer:
            params = {"axis_name": axis.identity}
            leaf = bind_primitive(primitives["psum"], (leaf, axis.position), params)
        else:
            leaf = times_size(leaf, axis.size)
    return leaf


def psum(x: Any, axis_name: AxisName | tuple[AxisName, ...]) -> Any:
    """Return the sum of `x` over all examples along a named mapped axis; each gets the same.

    Of what is not traced it is `x` times the size of the axis, computed at once: `psum(1, "i")` is
    the size as a Python int. Its transpose is itself: under a `grad` inside the mapped function an
    example's cotangent is summed over the examples, as in JAX.

    Args:
        x: an array, or a pytree of arrays, of one example.
        axis_name: the name given to `vmap`, or a tuple of names for the sum over all of them.

    Returns:
        The structure and shapes of `x`, in its own dtypes; bools are counted as int64.

    Raises:
        ValueError: no enclosing vmap has the name, or a tuple repeats one.
        TypeError: a leaf is not an array or a number.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> vmap(lambda x: x / psum(x, "i"), axis_name="i")(np.array([1.0, 2.0, 5.0]))
    array([0.125, 0.25 , 0.625])
    """
    axes = _several("psum", axis_name)
    return _each_leaf("psum", x, lambda leaf, name: _sum_of_leaf(leaf, axes))


def pmean(x: Any, axis_name: AxisName | tuple[AxisName, ...]) -> Any:
    """Return the mean of `x` over all examples along a named mapped axis; each gets the same.

    The sum divided by the number of examples: integers give float64. Arguments and errors are those
    of `psum`.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> vmap(lambda x: x - pmean(x, "i"), axis_name="i")(np.array([1.0, 2.0, 6.0]))
    array([-2., -1.,  3.])
    """
    axes = _several("pmean", axis_name)
    size = prod(axis.size for axis in axes)

    def mean(leaf: Any, name: str) -> Any:
        return _sum_of_leaf(leaf, axes) / size if type(leaf) is Tracer else leaf / 1

    return _each_leaf("pmean", x, mean)


def _extremum(function: str, x: Any, axis_name: AxisName | tuple[AxisName, ...]) -> Any:
    axes = _several(function, axis_name)
    for axis in axes:
        if axis.size == 0:
            raise ValueError(
                message(
                    function,
                    "the mapped axis must have an example",
                    f"axis_name={axis.name!r} of size 0",
                    line=user_line(),
                    fix="map at least one example, or leave it out for none.",
                )
            )
    params = {"axes": (), "axis_names": tuple(axis.identity for axis in axes)}
    positions = [axis.position for axis in axes]

    def extremum(leaf: Any, name: str) -> Any:
        if type(leaf) is not Tracer or not axes:
            return leaf
        return bind_primitive(primitives[function], (leaf, *positions), params)

    return _each_leaf(function, x, extremum)


def pmax(x: Any, axis_name: AxisName | tuple[AxisName, ...]) -> Any:
    """Return the elementwise maximum of `x` over all examples along a named mapped axis.

    NaN if one is NaN. Examples that tie share the derivative equally. Arguments and errors are
    those of `psum`, and:

    Raises:
        ValueError: the axis has no examples.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> vmap(lambda x: x - pmax(x, "i"), axis_name="i")(np.array([1.0, 5.0, 2.0]))
    array([-4.,  0., -3.])
    """
    return _extremum("pmax", x, axis_name)


def pmin(x: Any, axis_name: AxisName | tuple[AxisName, ...]) -> Any:
    """Return the elementwise minimum of `x` over all examples along a named mapped axis.

    As `pmax`.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> vmap(lambda x: x - pmin(x, "i"), axis_name="i")(np.array([1.0, 5.0, 2.0]))
    array([0., 4., 1.])
    """
    return _extremum("pmin", x, axis_name)


def _array_axis(function: str, argument: str, axis: int, count: int, leaf: str) -> int:
    """Return an axis counted from the front, of `count` that there are to choose from."""
    if not (isinstance(axis, int | np.integer) and -count <= axis < count):
        raise ValueError(
            message(
                function,
                f"{argument} must name one of the {count} axes that {leaf} has for it",
                f"{argument}={axis!r}",
                line=user_line(),
                fix="count from 0, or from the end with a negative number.",
            )
        )
    return int(axis) % count


def all_gather(x: Any, axis_name: AxisName, axis: int = 0, tiled: bool = False) -> Any:
    """Return every example's `x` along a named mapped axis, as one array; each gets the same.

    Its transpose is `psum_scatter`.

    Args:
        x: an array, or a pytree of arrays, of one example.
        axis_name: the name given to `vmap`.
        axis: where the examples go: the new axis, or with `tiled` the one they are joined along.
        tiled: join the arrays along `axis` rather than stack them.

    Raises:
        ValueError: no enclosing vmap has the name; `axis` is none of the result's (with `tiled`:
            of the leaf's).
        TypeError: a leaf is not an array or a number; several names are given.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> rank = vmap(lambda x: np.sum(all_gather(x, "i") < x), axis_name="i")
    >>> rank(np.array([0.5, -1.0, 3.0]))
    array([1, 0, 2])
    """
    along = _axis("all_gather", axis_name)

    def gathered(leaf: Any, name: str) -> Any:
        leaf = array_leaf(leaf)
        ndim = leaf.ndim
        place = _array_axis("all_gather", "axis", axis, ndim if tiled else ndim + 1, name)
        params = {"axis_name": along.identity, "axis": place, "length": along.size}
        out = bind_primitive(primitives["all_gather"], (leaf, along.position), params)
        if not tiled:
            return out
        shape = leaf.shape
        joined = (*shape[:place], along.size * shape[place], *shape[place + 1 :])
        return reshape(out, shape=joined)

    return _each_leaf("all_gather", x, gathered)


def psum_scatter(
    x: Any, axis_name: AxisName, scatter_dimension: int = 0, tiled: bool = False
) -> Any:
    """Return this example's part of the sum of `x` over all examples along a named mapped axis.

    The transpose of `all_gather`: the sum is divided along `scatter_dimension`, and the example at
    position k gets the k-th part.

    Args:
        x: an array, or a pytree of arrays, of one example.
        axis_name: the name given to `vmap`.
        scatter_dimension: the axis that is divided; its size is that of the mapped axis (with
            `tiled`: a multiple of it).
        tiled: keep the axis, with the part of it that is the example's.

    Raises:
        ValueError: no enclosing vmap has the name; the axis cannot be divided so.
        TypeError: a leaf is not an array or a number; several names are given.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> vmap(lambda x: psum_scatter(x, "i"), axis_name="i")(np.array([[1.0, 2.0], [10.0, 20.0]]))
    array([11., 22.])
    """
    along = _axis("psum_scatter", axis_name)

    def scattered(leaf: Any, name: str) -> Any:
        leaf = array_leaf(leaf)
        if leaf.dtype == bool:
            leaf = convert(leaf, np.int64) if type(leaf) is Tracer else leaf.astype(np.int64)
        shape = leaf.shape
        place = _array_axis("psum_scatter", "scatter_dimension", scatter_dimension, leaf.ndim, name)
        length, size = shape[place], along.size
        if (length != size) if not tiled else (size == 0 or length % size):
            raise ValueError(
                message(
                    "psum_scatter",
                    f"the scattered axis must be {'a multiple of ' if tiled else ''}the size of "
                    f"the mapped axis {axis_name!r}, which is {size}",
                    f"{name} of shape {shape}, whose axis {place} has {length}",
                    line=user_line(),
                    fix="choose scatter_dimension, pad the array, or pass tiled=True where each "
                    "example gets several rows.",
                )
            )
        if tiled:
            leaf = reshape(leaf, shape=(*shape[:place], size, length // size, *shape[place + 1 :]))
        params = {"axis_name": along.identity, "axis": place}
        return bind_primitive(primitives["psum_scatter"], (leaf, along.position), params)

    return _each_leaf("psum_scatter", x, scattered)


def ppermute(x: Any, axis_name: AxisName, perm: Permutation) -> Any:
    """Return the `x` that another example along a named mapped axis sends to this one.

    Its transpose is `ppermute` by the inverse permutation.

    Args:
        x: an array, or a pytree of arrays, of one example.
        axis_name: the name given to `vmap`.
        perm: pairs `(source, destination)` of positions along the axis. A position may send once
            and receive once; one that receives nothing gets zeros.

    Raises:
        ValueError: no enclosing vmap has the name; a position is out of range, or sends or receives
            twice.
        TypeError: `perm` is not made of pairs of ints; a leaf is not an array or a number; several
            names are given.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> shift = vmap(lambda x: ppermute(x, "i", [(0, 1), (1, 2)]), axis_name="i")
    >>> shift(np.array([1.0, 2.0, 3.0]))
    array([0., 1., 2.])
    """
    along = _axis("ppermute", axis_name)
    pairs = _checked_permutation(perm, along)
    params = {"axis_name": along.identity, "perm": pairs}

    def permuted(leaf: Any, name: str) -> Any:
        operands = (array_leaf(leaf), along.position)
        return bind_primitive(primitives["ppermute"], operands, params)

    return _each_leaf("ppermute", x, permuted)


def _checked_permutation(perm: Any, along: NamedAxis) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [(source, destination) for source, destination in perm]
    except (TypeError, ValueError):
        pairs = None
    if pairs is None or not all(isinstance(i, int | np.integer) for pair in pairs for i in pair):
        raise TypeError(
            message(
                "ppermute",
                "perm must be a sequence of pairs (source, destination) of ints",
                f"perm={perm!r}",
                line=user_line(),
                fix="for a shift by one write [(i, (i + 1) % n) for i in range(n)].",
            )
        )
    problem = None
    if not all(0 <= i < along.size for pair in pairs for i in pair):
        problem = f"positions along {along.name!r}, which has {along.size}"
    elif any(len(set(column)) < len(pairs) for column in zip(*pairs, strict=True)):
        problem = "each source and each destination once"
    if problem is not None:
        raise ValueError(
            message(
                "ppermute",
                f"perm must name {problem}",
                f"perm={perm!r}",
                line=user_line(),
                fix="leave out pairs, or correct them.",
            )
        )
    return tuple(sorted((int(source), int(destination)) for source, destination in pairs))


def axis_index(axis_name: AxisName) -> Any:
    """Return the position of this example along a named mapped axis: 0, 1, ..., as int64.

    Raises:
        ValueError: no enclosing vmap has the name.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> vmap(lambda x: x + axis_index("i"), axis_name="i")(np.zeros(3))
    array([0., 1., 2.])
    """
    position = _axis("axis_index", axis_name).position
    return Tracer(position.recording, position.variable)


def axis_size(axis_name: AxisName) -> int:
    """Return the number of examples along a named mapped axis, as a Python int.

    Raises:
        ValueError: no enclosing vmap has the name.

    >>> import numpy as np
    >>> from autodiff import vmap
    >>> vmap(lambda x: x / axis_size("i"), axis_name="i")(np.ones(4))
    array([0.25, 0.25, 0.25, 0.25])
    """
    return _axis("axis_size", axis_name).size
