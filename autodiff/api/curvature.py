"""Products with second derivatives, and sums of them, without the matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from autodiff.api.jacobians import check_floating, check_real, with_selected
from autodiff.api.trace import (
    array_leaf,
    check_leaves,
    flatten_arguments,
    leaf_paths,
    leaf_types,
    run,
)
from autodiff.api.transforms import (
    Argnums,
    Linearization,
    Primals,
    check_callable,
    check_no_mixture,
    check_scalar_output,
    checked_argnums,
    flatten_like,
    jvp,
    result_array,
    value_and_grad_as,
    zeros_of,
)
from autodiff.api.vmap import vmap
from autodiff.base import pytree
from autodiff.base.array_modules import common_module
from autodiff.base.dtypes import is_inexact
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.runtime.devices import beside


def hvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the product of the Hessian of `fun` at `primals` with `tangents`.

    One forward sweep over the gradient's reverse sweep, at a few times the cost of `fun`; the
    Hessian itself is never formed. Of complex arguments it is the derivative of the gradient that
    `grad` defines.

    Args:
        fun: returns a real scalar (shape `()`).
        primals: tuple or list of its arguments, pytrees of floating or complex arrays.
        tangents: same structure, shapes and dtypes as `primals`.

    Returns:
        The product with the structure, shapes and dtypes of `primals`: the one entry bare if there
        is one argument, else a tuple of them.

    Raises:
        TypeError: the output is not a real scalar; an argument is not of a floating type, or
            `tangents` differs from `primals` (the message names the leaf).

    Source: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6(1), 1994.

    >>> import numpy as np
    >>> hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    array([  6., 120.])
    """
    check_callable("hvp", fun)
    for name, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, tuple | list):
            raise TypeError(
                message(
                    "hvp",
                    f"{name} must be a tuple or list with one entry per argument",
                    f"{name} of type {type(value).__name__}",
                    line=user_line(),
                    fix=f"write {name}=(x,).",
                )
            )
    leaves, tree = flatten_arguments("hvp", tuple(primals))
    check_leaves("hvp", fun, primals, leaves)
    avals = leaf_types(leaves)
    check_floating("hvp", "input", lambda: leaf_paths(fun, primals), avals)
    flatten_like("hvp", "tangents", tuple(tangents), tree, avals, "primals")
    every = tuple(range(len(primals)))
    both = value_and_grad_as("hvp", fun, every, has_aux=False, holomorphic=False, allow_int=False)
    product = jvp(lambda *arguments: both(*arguments)[1], primals, tangents)[1]
    return product[0] if len(primals) == 1 else product


def ggn_vp(model: Callable[[Any], Any], loss: Callable[[Any], Any], params: Any, v: Any) -> Any:
    """Return the product of the generalised Gauss-Newton matrix of `loss(model(params))` with `v`.

    That is `J' H J v`, with J the Jacobian of the model and H the Hessian of the loss at the
    model's output: the Hessian without the model's own curvature, positive semidefinite where the
    loss is convex. The model is run and linearized once; J v and J' come from the same
    linearization. It is linear in `v`: many products at one point are `vmap` over `v`, or the
    function that `linearize(lambda v: ggn_vp(model, loss, params, v), v)` returns.

    Args:
        model: from the parameters to outputs, any pytree of arrays.
        loss: from the outputs to a real scalar.
        params: pytree of floating or complex arrays.
        v: same structure, shapes and dtypes as `params`.

    Returns:
        The structure, shapes and dtypes of `params`.

    Raises:
        TypeError: the loss is not a real scalar; a parameter is not of a floating type, or `v`
            differs from `params` (the message names the leaf).

    Source: Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent",
    Neural Computation 14(7), 2002, section 3.

    >>> import numpy as np
    >>> square = lambda y: np.sum(y**2)
    >>> ggn_vp(np.sin, square, np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    array([2.        , 0.58385316])
    """
    check_callable("ggn_vp", model)
    check_callable("ggn_vp", loss)
    leaves, tree = flatten_arguments("ggn_vp", params)
    check_leaves("ggn_vp", model, (params,), leaves)
    avals = leaf_types(leaves)
    check_floating(
        "ggn_vp",
        "input",
        lambda: [pytree.path_string("params", path) for path in pytree.paths(tree)],
        avals,
    )
    direction = [array_leaf(t) for t in flatten_like("ggn_vp", "v", v, tree, avals, "params")]
    at = Linearization("ggn_vp", model, (params,), has_aux=False)
    types = at.start.out_types
    pushed = at.filled(at.push(direction), types)
    moved = pytree.unflatten(at.start.traced.out_tree, pushed)
    both = value_and_grad_as("ggn_vp", loss, 0, has_aux=False, holomorphic=False, allow_int=True)
    curved = jvp(lambda outputs: both(outputs)[1], (at.out,), (moved,))[1]
    cts = [
        ct if is_inexact(aval.dtype) else None
        for ct, aval in zip(pytree.leaves(curved), types, strict=True)
    ]
    return pytree.unflatten(tree, at.filled(at.pull(cts), avals))


class _SecondDerivatives:
    """The second derivatives of a scalar function along the axes of its selected arguments."""

    __slots__ = ("single", "start")

    def __init__(
        self, function: str, fun: Callable[..., Any], argnums: Argnums, args: Any, kwargs: Any
    ) -> None:
        positions, self.single = checked_argnums(function, argnums, args)
        check_no_mixture(function, fun, args, kwargs)
        selected = [args[i] for i in positions]
        call = with_selected(fun, positions, args, kwargs)
        start = self.start = Primals(function, call, selected, False, positions)
        check_real(
            function,
            "input",
            lambda: leaf_paths(fun, selected, positions=positions),
            start.avals,
            False,
            "take the real and imaginary parts as two arguments.",
        )
        check_scalar_output(function, fun, start.traced, False)

    def along_axes(self, leaf: int, chunk_size: int | None) -> Any:
        """Return d2 f / dx_k**2 for the elements k of one input leaf, flat, of the output's dtype.

        The function is pushed forward twice along the same axis, mapped over axes: the values do
        not depend on the axis, so they are computed once for all.
        """
        start = self.start
        module = common_module(start.inputs)
        size = start.avals[leaf].size
        if not size:
            return module.zeros(0, start.out_types[0].dtype)
        with beside(start.inputs):
            places = module.arange(size).reshape(start.avals[leaf].shape)
        still = [zeros_of(aval, start.inputs) for aval in start.avals]

        def value(*inputs: Any) -> Any:
            return run(start.traced.graph, [*inputs, *start.traced.constants])[0]

        def along(k: Any) -> Any:
            axis = list(still)
            axis[leaf] = (k == places).astype(start.avals[leaf].dtype)
            return jvp(lambda *x: jvp(value, x, axis)[1], start.inputs, axis)[1]

        return vmap(along, chunk_size=chunk_size)(module.arange(size))


def _check_chunk_size(function: str, chunk_size: int | None) -> None:
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(
            message(
                function,
                "chunk_size must be at least 1",
                f"chunk_size={chunk_size}",
                line=user_line(),
                fix="pass a positive chunk_size, or None to take all axes at once.",
            )
        )


def hess_diag(
    fun: Callable[..., Any], argnums: Argnums = 0, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Return a function that computes the diagonal of the Hessian of `fun`, exactly.

    Each element's second derivative, by forward mode twice along the element's axis: as many
    directions as there are elements, and memory for those of one chunk, never for the matrix.

    Args:
        fun: returns a real scalar (shape `()`).
        argnums: position or positions of the arguments, pytrees of real floating arrays. An int
            gives a bare result, a sequence a tuple.
        chunk_size: at most so many axes at once, to bound memory; None takes all of a leaf.

    Returns:
        A function with the arguments of `fun`; its result has the structure, shapes and dtypes of
        the arguments selected.

    Raises:
        TypeError: the output is not a real scalar; an input is not real (the message names it).
        ValueError: `argnums` names no positional argument of the call; `chunk_size` is below 1.

    >>> import numpy as np
    >>> hess_diag(lambda x: np.prod(x) + np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 6., 12.])
    """
    check_callable("hess_diag", fun)
    _check_chunk_size("hess_diag", chunk_size)

    @wraps(fun, updated=())
    def diagonal(*args: Any, **kwargs: Any) -> Any:
        second = _SecondDerivatives("hess_diag", fun, argnums, args, kwargs)
        start = second.start
        leaves = [
            result_array(second.along_axes(i, chunk_size).reshape(aval.shape).astype(aval.dtype))
            for i, aval in enumerate(start.avals)
        ]
        result = pytree.unflatten(start.tree, leaves)
        return result[0] if second.single else result

    return diagonal


def laplacian(
    fun: Callable[..., Any], argnums: Argnums = 0, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Return a function that computes the Laplacian of `fun`: the trace of its Hessian.

    The sum of the second derivatives with respect to every element of the arguments selected; cost,
    arguments and errors are those of `hess_diag`.

    Returns:
        A function with the arguments of `fun`; its result has shape `()` and the output's dtype.

    >>> import numpy as np
    >>> laplacian(lambda x: np.sum(x**2) ** 2)(np.array([1.0, 2.0, 0.0]))  # 4 (n + 2) |x|**2
    array(100.)
    """
    check_callable("laplacian", fun)
    _check_chunk_size("laplacian", chunk_size)

    @wraps(fun, updated=())
    def trace(*args: Any, **kwargs: Any) -> Any:
        second = _SecondDerivatives("laplacian", fun, argnums, args, kwargs)
        start = second.start
        sums = [second.along_axes(i, chunk_size).sum() for i in range(len(start.avals))]
        return result_array(sum(sums, zeros_of(start.out_types[0], start.inputs)))

    return trace
