"""pure_callback, and what it shares with `autodiff.debug`: Python functions called by programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autodiff.api.trace import array_leaf, check_one_device, flatten_arguments
from autodiff.base import dtypes, pytree
from autodiff.base.array_modules import module_of
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import PYTHON_SCALARS, ArrayType, array_type
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.primitives.callbacks import Fixed, HostCall
from autodiff.primitives.callbacks import pure_callback as pure_callback_primitive

VMAP_METHODS = ("sequential", "expand_dims", "broadcast_all")


def _is_operand(leaf: Any) -> bool:
    """Return whether a leaf is a number or an array of numbers, so that it may be traced."""
    if type(leaf) is int:
        return -(2**63) <= leaf < 2**63
    if type(leaf) is Tracer or type(leaf) in PYTHON_SCALARS:
        return True
    return module_of(leaf) is not None and leaf.dtype in dtypes.SUPPORTED


def host_call(
    function: str,
    fun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    out_tree: pytree.TreeDef | None = None,
) -> tuple[HostCall, list[Any]]:
    """Return a call of a Python function, and the operands among its arguments.

    Leaves that are no numbers (texts, objects) are part of the call.
    """
    if not callable(fun):
        raise TypeError(
            message(
                function,
                "the first argument must be a function",
                f"fun={fun!r}",
                line=user_line(),
                fix=f"write {function}(f, ...), not {function}(f(x), ...).",
            )
        )
    leaves, tree = flatten_arguments(function, (args, kwargs))
    fixed = tuple((i, Fixed(leaf)) for i, leaf in enumerate(leaves) if not _is_operand(leaf))
    where = [i for i, leaf in enumerate(leaves) if _is_operand(leaf)]
    operands = [array_leaf(leaves[i]) for i in where]

    def names() -> list[str]:
        found = pytree.paths(tree)
        return [_argument_name(found[i]) for i in where]

    check_one_device(function, operands, names)
    return HostCall(fun, tree, fixed, user_line(), out_tree), operands


def _argument_name(path: pytree.Path) -> str:
    """Return how a user calls what stands in `(args, kwargs)` at a path."""
    kind, entry, *rest = path
    is_named = isinstance(kind, pytree.Item) and kind.key == 1
    name = str(entry.key) if isinstance(entry, pytree.Item) else str(entry)
    return pytree.path_string(name if is_named else f"args[{name}]", tuple(rest))


def pure_callback(
    callback: Callable[..., Any],
    result_types: Any,
    /,
    *args: Any,
    vmap_method: str = "sequential",
    **kwargs: Any,
) -> Any:
    """Return `callback(*args, **kwargs)`, a Python function called while the program runs.

    It lets functions of other libraries be used inside `jit`, `vmap` and loops. The function must
    depend on its arguments alone and do nothing but compute: it is called as often as the program
    needs its result, perhaps not at all, and once for two equal calls.

    Args:
        callback: is given the arguments with an array (0-d ones included) in place of every number,
            on the device where it is: NumPy's on the CPU, CuPy's on the GPU. The arrays are its
            own to keep and to write into. Returns arrays as `result_types` says; of NumPy or of the
            operands' module. Python numbers may stand for 0-d arrays.
        result_types: pytree of anything with `shape` and `dtype`: arrays, or what `eval_shape`
            returns.
        args, kwargs: pytrees; leaves that are no numbers or arrays are handed on as they are.
        vmap_method: what `vmap` does. "sequential" calls the function for one example after the
            other. The others call it once with a leading axis on every argument and every result:
            with "expand_dims" it has size 1 on arguments that are not mapped, with "broadcast_all"
            the mapped size.

    Returns:
        Arrays in the structure of `result_types`; they share no memory with what the function
        returned.

    Raises:
        TypeError: the function returned something else (raised when the program runs), or
            `result_types` has a leaf without shape and dtype.
        ValueError: `vmap_method` is none of the three.
        MissingRuleError: a derivative with respect to an argument is asked for. Give the function
            around the call one of its own (`custom_jvp`, `custom_vjp`), or take the arguments as
            constants (`stop_gradient`).

    >>> import numpy as np
    >>> import autodiff as ad
    >>> from scipy.special import jv
    >>> bessel = ad.jit(lambda x: 2.0 * ad.pure_callback(lambda x: jv(2, x), x, x))
    >>> bessel(np.array([0.0, 1.0]))
    array([0.        , 0.22980697])
    """
    if vmap_method not in VMAP_METHODS:
        raise ValueError(
            message(
                "pure_callback",
                f"vmap_method must be one of {', '.join(VMAP_METHODS)}",
                f"vmap_method={vmap_method!r}",
                line=user_line(),
                fix="choose one of these; sequential is right for any function.",
            )
        )
    found, out_tree = pytree.flatten_with_path(result_types)
    types = tuple(_result_type(path, leaf) for path, leaf in found)
    call, operands = host_call("pure_callback", callback, args, kwargs, out_tree)
    params = {"call": call, "types": types, "vmap_method": vmap_method, "mapped": ()}
    return pytree.unflatten(out_tree, bind_primitive(pure_callback_primitive, operands, params))


def _result_type(path: pytree.Path, leaf: Any) -> ArrayType:
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        raise TypeError(
            message(
                "pure_callback",
                "every leaf of result_types must have a shape and a dtype",
                f"{pytree.path_string('result_types', path)}={leaf!r} "
                f"of type {type(leaf).__name__}",
                line=user_line(),
                fix="give an array of the right type, or what eval_shape returns for one.",
            )
        )
    return array_type(tuple(leaf.shape), leaf.dtype)
