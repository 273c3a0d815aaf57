"""Loops as operations: scan, map, while_loop, fori_loop.

The functions given are traced once each, whatever the number of iterations. What they close over,
traced or not, takes part in every transformation as if it were an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.api.held_functions import (
    apply_held,
    common_dtype,
    constants_first,
    flatten_arrays,
    trace_held,
    with_output_types,
)
from autodiff.api.trace import Traced, function_name
from autodiff.api.vmap import vmap
from autodiff.base import pytree
from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType, array_type, type_of
from autodiff.ir.builder import Tracer, bind_primitive
from autodiff.ir.graph import Graph
from autodiff.ir.primitive import primitives
from autodiff.primitives.families import convert
from autodiff.primitives.higher_order import build_graph

Function = Callable[..., Any]


# ---------------------------------------------------------------------------------------- carries


@dataclass(frozen=True, slots=True)
class _Body:
    """A loop's body: `graph(consts, carry, rows) -> (carry, ys)`, and the carry to begin with."""

    graph: Graph
    constants: list[Any]
    carry: list[Any]
    traced: Traced


def _trace_loop(
    function: str,
    fun: Function,
    init: Any,
    rows: Sequence[ArrayType],
    near: Sequence[Any],
    call: Function,
    carried: Function,
) -> _Body:
    """Trace a loop's body and settle the types of what it carries.

    `call(carry, rows)` applies the user's function to trees; `carried(output)` is the new carry in
    what that returns, whose leaves come first. A carried number whose type is weak takes the type
    that the body gives it.
    """
    leaves, tree = flatten_arrays(function, "init", init)
    count = len(leaves)

    def on_leaves(*tracers: Any) -> Any:
        out = call(pytree.unflatten(tree, tracers[:count]), tracers[count:])
        _check_carry_structure(function, fun, carried(out), tree)
        return out

    while True:
        avals = [type_of(x) for x in leaves]
        traced = trace_held(function, fun, on_leaves, [*avals, *rows], [*leaves, *near])
        changed = False
        for i, before in enumerate(avals):
            now = traced.graph.output_types[i]
            dtype = common_dtype(before, now) if before.shape == now.shape else None
            if dtype is None:
                raise _carry_type_error(function, fun, tree, i, before, now)
            if dtype != before.dtype or (before.weak and not now.weak):
                leaves[i] = _as_type(leaves[i], dtype)
                changed = True
        if not changed:
            break
    wanted = [*avals, *traced.graph.output_types[count:]]
    graph = with_output_types(constants_first(traced), wanted)
    return _Body(graph, traced.constants, leaves, traced)


def _as_type(leaf: Any, dtype: np.dtype) -> Any:
    """Return a number whose type was weak as one of type `dtype`."""
    return convert(leaf, dtype) if type(leaf) is Tracer else dtype.type(leaf)


def _check_carry_structure(function: str, fun: Function, carry: Any, tree: pytree.TreeDef) -> None:
    found = pytree.structure(carry)
    if found != tree:
        raise TypeError(
            message(
                function,
                f"the carry that {function_name(fun)} returns must have the structure of init",
                pytree.structure_difference(found, tree, "carry").removeprefix("got "),
                line=user_line(),
                fix="return the same containers, keys and lengths that it is given.",
            )
        )


def _carry_type_error(
    function: str, fun: Function, tree: pytree.TreeDef, i: int, before: ArrayType, now: ArrayType
) -> TypeError:
    path = pytree.path_string("carry", pytree.paths(tree)[i])
    return TypeError(
        message(
            function,
            f"the carry that {function_name(fun)} returns must have the shapes and dtypes of init",
            f"{path}={now.strong()} where init has {before.strong()}",
            line=user_line(),
            fix="give init the type that the loop returns, or convert with .astype, or reshape.",
        )
    )


# ------------------------------------------------------------------------------------------- scan


def scan(
    f: Function,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    checkpoint: int | None = None,
) -> tuple[Any, Any]:
    """Return `(carry, ys)` of a loop over the rows of xs, `carry, y = f(carry, x)` for each.

    `f` is traced once, and tracing, derivatives and their memory per iteration do not depend on the
    number of iterations. The reverse sweep keeps what `f`'s derivative needs of each iteration.

    Args:
        f: function of (carry, x), pytrees of arrays, that returns (carry, y). The carry it returns
            has the structure, shapes and dtypes of `init`.
        init: the carry of the first iteration.
        xs: pytree of arrays of one length along their first axis; None (or without leaves) where
            there are none: then `length` is needed.
        length: number of iterations; may be left out where xs tell.
        reverse: take the rows from last to first; ys keep the order of xs.
        unroll: iterations that are written out one after another in each turn of the loop; True
            writes out all.
        checkpoint: at most so many copies of the carry are kept for the reverse sweep, the first
            one included, and nothing else of the iterations; they are repeated from there by the
            binomial schedule, which for n iterations repeats none more than r times, where r is
            the least number with `comb(checkpoint + r, checkpoint) >= n`. None keeps what the
            derivative needs of every iteration. A second reverse sweep, through the first, keeps
            every carry.

    Returns:
        The last carry, and a pytree of arrays whose rows are the y.

    Raises:
        TypeError: the carry changes its structure, shape or dtype; the message names the leaf.
        ValueError: xs differ in length, or from `length`; there is nothing to tell the length;
            `unroll` or `checkpoint` is less than 1.

    Source of the schedule: Griewank and Walther, "Algorithm 799: revolve", ACM Transactions on
    Mathematical Software 26(1), 2000.

    >>> import numpy as np
    >>> scan(lambda total, x: (total + x, total), 0.0, np.array([1.0, 2.0, 3.0]))
    (array(6.), array([0., 1., 3.]))
    """
    rows, tree = flatten_arrays("scan", "xs", xs)
    count = _scan_length(rows, tree, length)
    times = count if unroll is True else int(unroll)
    if times < 1 and count:
        raise ValueError(
            message(
                "scan",
                "unroll must be at least 1",
                f"unroll={unroll!r}",
                line=user_line(),
                fix="leave it out to write out one iteration.",
            )
        )

    snapshots = _checked_snapshots(checkpoint)

    def call(carry: Any, xs_row: Sequence[Any]) -> Any:
        return _pair(f, f(carry, pytree.unflatten(tree, xs_row)))

    types = [array_type(np.shape(x)[1:], type_of(x).dtype) for x in rows]
    body = _trace_loop("scan", f, init, types, rows, call, lambda out: out[0])
    outs = _run_scan(body, rows, count, bool(reverse), max(times, 1), snapshots)
    return body.traced.unflatten(outs)


def _checked_snapshots(checkpoint: Any) -> int | None:
    if checkpoint is None:
        return None
    is_int = isinstance(checkpoint, int | np.integer) and not isinstance(checkpoint, bool)
    if is_int and checkpoint >= 1:
        return int(checkpoint)
    raise (ValueError if is_int else TypeError)(
        message(
            "scan",
            "checkpoint must be an int, at least 1: how many copies of the carry are kept",
            f"checkpoint={checkpoint!r}",
            line=user_line(),
            fix="leave it out to keep what the derivative needs of every iteration.",
        )
    )


def _pair(f: Function, out: Any) -> Any:
    if isinstance(out, tuple) and len(out) == 2:
        return out
    raise TypeError(
        message(
            "scan",
            f"{function_name(f)} must return a pair (carry, y)",
            f"output of type {type(out).__name__}",
            line=user_line(),
            fix="return (carry, None) where there is nothing to stack.",
        )
    )


def _scan_length(rows: Sequence[Any], tree: pytree.TreeDef, length: int | None) -> int:
    names = [pytree.path_string("xs", path) for path in pytree.paths(tree)]
    for name, x in zip(names, rows, strict=True):
        if not np.shape(x):
            raise ValueError(
                message(
                    "scan",
                    "xs must be arrays with a first axis to go along",
                    f"{name} of shape ()",
                    line=user_line(),
                    fix="close over what is the same in every iteration.",
                )
            )
    sizes = [np.shape(x)[0] for x in rows]
    if length is not None:
        sizes.append(int(length))
        names.append("length")
    if not sizes or sizes[-1] < 0:
        raise ValueError(
            message(
                "scan",
                "the number of iterations must be known",
                f"length={length!r}" + ("" if sizes else " and xs without arrays"),
                line=user_line(),
                fix="pass length=n.",
            )
        )
    if len(set(sizes)) > 1:
        listed = "; ".join(f"{name}: {n}" for name, n in zip(names, sizes, strict=True))
        raise ValueError(
            message(
                "scan",
                "xs must have one length",
                listed,
                line=user_line(),
                fix="slice them to equal lengths, or close over what all iterations share.",
            )
        )
    return sizes[0]


def _run_scan(
    body: _Body,
    xs: Sequence[Any],
    length: int,
    reverse: bool,
    unroll: int,
    snapshots: int | None = None,
) -> list[Any]:
    """Return a scan's outputs: whole turns of `unroll` iterations, then those that are left."""
    carried = len(body.carry)
    params = {"consts": len(body.constants), "carry": carried, "reverse": reverse}
    primitive = primitives["scan"]
    if snapshots is not None:
        primitive, params["snapshots"] = primitives["checkpointed_scan"], snapshots
    unroll = min(unroll, max(length, 1))
    turns, left = divmod(length, unroll)
    if unroll == 1:
        operands = [*body.constants, *body.carry, *xs]
        params = {"body": body.graph, "length": length, **params}
        return list(apply_held(primitive, operands, params))
    # In reverse the rows that make no whole turn come last, and are the first ones.
    start = left if reverse else 0
    whole = slice(start, start + turns * unroll)
    rest = slice(0, left) if reverse else slice(turns * unroll, None)
    grouped = [_grouped(x[whole], turns, unroll) for x in xs]
    graph = _unrolled(body, unroll, reverse)
    outs = apply_held(
        primitive,
        [*body.constants, *body.carry, *grouped],
        {"body": graph, "length": turns, **params},
    )
    carry, ys = outs[:carried], [y.reshape((turns * unroll, *y.shape[2:])) for y in outs[carried:]]
    if not left:
        return [*carry, *ys]
    outs = apply_held(
        primitive,
        [*body.constants, *carry, *[x[rest] for x in xs]],
        {"body": body.graph, "length": left, **params},
    )
    pairs = zip(ys, outs[carried:], strict=True)
    joined = [np.concatenate([b, a] if reverse else [a, b]) for a, b in pairs]
    return [*outs[:carried], *joined]


def _grouped(x: Any, turns: int, unroll: int) -> Any:
    return x.reshape((turns, unroll, *x.shape[1:]))


def _unrolled(body: _Body, times: int, reverse: bool) -> Graph:
    """Return the body of `times` iterations, on rows that are `times` rows each."""
    consts, carried = len(body.constants), len(body.carry)
    types = body.graph.input_types
    rows = [array_type((times, *t.shape), t.dtype) for t in types[consts + carried :]]

    def turn(*inputs: Any) -> list[Any]:
        fixed, carry = inputs[:consts], inputs[consts : consts + carried]
        ys: list[Any] = [None] * times
        for i in reversed(range(times)) if reverse else range(times):
            xs = [x[i] for x in inputs[consts + carried :]]
            params = {"graph": body.graph, "name": "scan"}
            outs = bind_primitive(primitives["call"], (*fixed, *carry, *xs), params)
            carry, ys[i] = outs[:carried], outs[carried:]
        return [*carry, *[np.stack(column) for column in zip(*ys, strict=True)]]

    return build_graph("unrolled scan", [*types[: consts + carried], *rows], turn)


def map(f: Function, xs: Any, batch_size: int | None = None) -> Any:
    """Return `f` of each row of xs, stacked: one row after another, which takes little memory.

    Args:
        f: function of one row, pytrees of arrays.
        xs: pytree of arrays of one length along their first axis.
        batch_size: so many rows at a time are computed by `vmap`.

    >>> import numpy as np
    >>> map(lambda x: x**2, np.array([1.0, 2.0, 3.0]))
    array([1., 4., 9.])
    """
    if batch_size is None:
        return scan(lambda carry, x: (carry, f(x)), (), xs)[1]
    if batch_size < 1:
        raise ValueError(
            message(
                "map",
                "batch_size must be at least 1",
                f"batch_size={batch_size!r}",
                line=user_line(),
                fix="leave it out to take one row at a time.",
            )
        )
    rows, tree = flatten_arrays("map", "xs", xs)
    count = _scan_length(rows, tree, None)
    turns = count // batch_size
    whole = turns * batch_size
    grouped = [_grouped(x[:whole], turns, batch_size) for x in rows]
    ys = scan(lambda carry, x: (carry, vmap(f)(x)), (), pytree.unflatten(tree, grouped))[1]
    ys = pytree.map(lambda y: y.reshape((whole, *y.shape[2:])), ys)
    if whole == count:
        return ys
    rest = vmap(f)(pytree.unflatten(tree, [x[whole:] for x in rows]))
    return pytree.map(lambda a, b: np.concatenate([a, b]), ys, rest)


# ------------------------------------------------------------------------------- while_loop, fori


def while_loop(cond: Function, body: Function, init: Any, max_steps: int | None = None) -> Any:
    """Return the carry after `while cond(carry): carry = body(carry)`.

    Differentiable in forward and in reverse mode: the reverse sweep keeps what the derivative of
    `body` needs of each iteration that was run. Under `vmap` the loop goes on until the last
    example is done; those that are done keep their values.

    Args:
        cond: function of the carry that returns one truth value, of shape () and dtype bool.
        body: function of the carry that returns the next one, of equal structure, shapes and
            dtypes.
        init: the carry to begin with, a pytree of arrays.
        max_steps: at most so many iterations are run, whatever `cond` says, and memory for the
            reverse sweep is taken for so many at once instead of growing.

    Raises:
        TypeError: the carry changes its structure, shape or dtype, or `cond` returns something else
            than a truth value; the message names the leaf.

    >>> while_loop(lambda x: x < 100.0, lambda x: x * 3.0, 2.0)
    array(162.)
    """
    if max_steps is not None and max_steps < 0:
        raise ValueError(
            message(
                "while_loop",
                "max_steps must not be negative",
                f"max_steps={max_steps!r}",
                line=user_line(),
                fix="leave it out for a loop without bound.",
            )
        )
    held = _trace_loop(
        "while_loop", body, init, (), (), lambda carry, rows: body(carry), lambda out: out
    )
    tree = held.traced.out_tree
    avals = [type_of(x) for x in held.carry]
    asked = trace_held(
        "while_loop",
        cond,
        lambda *tracers: cond(pytree.unflatten(tree, tracers)),
        avals,
        held.carry,
    )
    _check_condition(cond, asked)
    outs = apply_held(
        primitives["while_loop"],
        [*asked.constants, *held.constants, *held.carry],
        {
            "condition": constants_first(asked),
            "body": held.graph,
            "condition_consts": len(asked.constants),
            "body_consts": len(held.constants),
            "max_steps": None if max_steps is None else int(max_steps),
        },
    )
    return pytree.unflatten(tree, outs[: len(held.carry)])


def _check_condition(cond: Function, asked: Traced) -> None:
    types = asked.graph.output_types
    if asked.out_tree.spec is None and types[0].shape == () and types[0].dtype == np.bool:
        return
    found = types[0].strong() if asked.out_tree.spec is None else asked.out_tree
    raise TypeError(
        message(
            "while_loop",
            f"{function_name(cond)} must return one truth value, bool of shape ()",
            f"output={found}",
            line=user_line(),
            fix="compare (x > 0), or reduce with .any() or .all().",
        )
    )


def fori_loop(lower: Any, upper: Any, body: Function, init: Any) -> Any:
    """Return the carry after `for i in range(lower, upper): carry = body(i, carry)`.

    Bounds that are plain numbers make a `scan`, traced ones a `while_loop`; both are differentiable
    in both modes. The index is an integer like a Python number: it takes the type of what it meets.

    Args:
        lower, upper: integers of shape ().
        body: function of (index, carry) that returns the next carry, of equal structure, shapes and
            dtypes.
        init: the carry to begin with, a pytree of arrays.

    Raises:
        TypeError: the carry changes its structure, shape or dtype; a bound is no integer.

    >>> fori_loop(0, 4, lambda i, x: x * (i + 1), 1.0)
    array(24.)
    """
    bounds = []
    for name, bound in (("lower", lower), ("upper", upper)):
        aval = type_of(bound)
        if aval.shape != () or aval.dtype.kind not in "iu":
            raise TypeError(
                message(
                    "fori_loop",
                    f"{name} must be an integer of shape ()",
                    f"{name}={aval.strong()}",
                    line=user_line(),
                    fix="convert it with int(...) or .astype(int).",
                )
            )
        bounds.append(aval)
    strong = [aval.dtype for aval in bounds if not aval.weak]
    weak = not strong
    index_type = np.result_type(*strong or [aval.dtype for aval in bounds])
    if type(lower) is Tracer or type(upper) is Tracer:
        return _fori_while(lower, upper, body, init, index_type)
    indices = np.arange(int(lower), max(int(lower), int(upper)), dtype=index_type)
    index = array_type((), index_type, weak)
    held = _trace_loop(
        "fori_loop",
        body,
        init,
        (index,),
        (),
        lambda carry, rows: body(rows[0], carry),
        lambda out: out,
    )
    outs = _run_scan(held, [indices], len(indices), False, 1)
    return held.traced.unflatten(outs)


def _fori_while(lower: Any, upper: Any, body: Function, init: Any, index_type: np.dtype) -> Any:
    def step(carry: Any) -> Any:
        i, value = carry
        return i + 1, body(i, value)

    start = convert(lower, index_type) if type(lower) is Tracer else index_type.type(lower)
    return while_loop(lambda carry: carry[0] < upper, step, (start, init))[1]
