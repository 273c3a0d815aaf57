"""What must hold of the kernels of a program, whatever the program.

1. One by one: of every equation that kernels compute, the kernel of it alone gives the reference's
   result on the same operands, within the error of that one operation (`error_bounds`). Errors of
   operands do not matter, so there is no conditioning to allow for. What an operation without a
   rule of its own is made of is held to the same, part by part.
2. Together: the kernels of fused equations, called as a compiled program calls them, on the
   arguments as they lie in memory, give the bits of those one by one, where products are not
   contracted with sums. A sum of floats that several lanes add up may be rounded in another order;
   then every value of the fused kernels is stored and held to the first law.
3. Contracted: kernels that may round a product and a sum once, with every value stored, give for
   every equation what the reference gives on the stored operands, each perhaps off by one unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

import autodiff as ad
from autodiff.base import dtypes
from autodiff.ir.evaluate import evaluate, evaluate_equations, read
from autodiff.ir.graph import Eqn, Graph, Var, make_graph
from autodiff.ir.primitive import primitives
from autodiff.passes.pipeline import simplify
from autodiff.primitives.lowering import ByReference
from autodiff.runtime.cpu_kernels import can_emit, kernel_function, why_not_computed
from autodiff.runtime.executor import Executable
from autodiff.schedule.fuse import fuse, kernel
from tests.codegen.array_programs import Program
from tests.codegen.error_bounds import (
    allowed_ulp,
    combination_bound,
    complex_distance,
    depends_on_order,
    is_mistaken,
    ulp_distance,
)
from tests.primitives.sampling import same_bits
from tests.schedule.interpreter import run_schedule


def mistakes(program: Program, *, target: str = "auto", contracted: bool = False) -> list[str]:
    """Return what does not hold of a program, a sentence each.

    Args:
        program: what to try.
        target: the instruction set, as the setting `cpu_target` names it.
        contracted: whether to try the third law too.
    """
    made, arguments = program.graph()
    graph = simplify(made)
    plain = [np.array(x, order="C") for x in arguments]
    error = _error(partial(evaluate, graph, (), plain))
    with ad.override(cpu_target=target, contract=False, kernels=True, reference=False):
        if error is not None:  # such as an integer to a negative power
            found = _error(partial(Executable(made, compile_now=True), *arguments))
            return [] if type(found) is type(error) else [f"raised {found!r}, not {error!r}"]
        alone = _one_by_one(graph, plain)
        # NumPy's own sums depend on how their operand lies in memory.
        given = arguments if alone.left <= {"shape", "elementwise"} else plain
        together = Executable(made, compile_now=True)(*given)
        wrong, differing = alone.wrong, _differences(together, alone.outputs)
        if differing and alone.sums:
            stored = stored_values(graph, plain)
            wrong = wrong + stored.wrong
            differing = _differences(together, stored.outputs)
    wrong = wrong + differing
    if contracted:
        with ad.override(cpu_target=target, contract=True):
            wrong = wrong + stored_values(graph, plain, contracted=True).wrong
    return wrong


@dataclass(slots=True)
class Trial:
    """What came of running a graph's equations: outputs, what is wrong with single equations.

    `left` are the kinds of the operations left to NumPy; `sums` tells whether kernels of one
    equation each combined floats, in an order of their own.
    """

    outputs: list[np.ndarray]
    wrong: list[str]
    left: set[str]
    sums: bool


def _error(run: Callable[[], Any]) -> Exception | None:
    """Return what running a program raises: what NumPy refuses to compute."""
    try:
        with np.errstate(all="ignore"):
            run()
    except ValueError as error:
        return error
    return None


def _one_by_one(graph: Graph, arguments: Sequence[np.ndarray]) -> Trial:
    """Run a graph by kernels of one equation each."""
    schedule = fuse(graph, why_not_computed, can_emit, unite=False)
    kernels = {v: e for e in schedule.graph.eqns if e.primitive is kernel for v in e.outputs}
    env: dict[Any, Any] = dict(zip(graph.inputs, arguments, strict=True))
    trial = Trial([], [], set(), False)
    for eqn in graph.eqns:
        taken = _evaluate(eqn, env)
        own = next((kernels[var] for var in eqn.outputs if var in kernels), None)
        if own is None:
            trial.left.add(eqn.primitive.kind)
            continue
        trial.sums |= depends_on_order(eqn.primitive, taken, eqn.params)
        run = kernel_function(own.params["spec"])
        results = run(*[np.asarray(read(env, atom)) for atom in own.inputs])
        for var, found in zip(own.outputs, results, strict=True):
            mistake = _compared(eqn, var, taken, found, np.asarray(env[var]))
            if mistake and isinstance(eqn.primitive.lower, ByReference):
                mistake = _part_by_part(eqn, taken, results)
            trial.wrong += mistake
            env[var] = found
    trial.outputs = [np.asarray(read(env, atom)) for atom in graph.outputs]
    return trial


def _part_by_part(eqn: Eqn, taken: Sequence[np.ndarray], found: Sequence[Any]) -> list[str]:
    """Return what is wrong with the kernels of what an operation's reference is made of."""
    graph = ad.make_graph(lambda *xs: eqn.primitive.reference(*xs, **eqn.params))(*taken)
    trial = _one_by_one(graph, taken)
    differing = _differences(found, trial.outputs)
    return trial.wrong + [f"parts of {eqn.primitive.name}, {text}" for text in differing]


def stored_values(graph: Graph, arguments: Sequence[np.ndarray], contracted: bool = False) -> Trial:
    """Run a graph by fused kernels that store all their values."""
    values = tuple([var for eqn in graph.eqns for var in eqn.outputs])
    everything = make_graph(graph.inputs, (), graph.eqns, values)
    schedule = fuse(everything, why_not_computed, can_emit)
    with np.errstate(all="ignore"):
        stored = run_schedule(schedule, arguments, kernel_function)
    env: dict[Any, Any] = dict(zip(graph.inputs, arguments, strict=True))
    env.update(zip(values, map(np.asarray, stored), strict=True))
    outputs = [np.asarray(read(env, atom)) for atom in graph.outputs]
    left = {eqn.primitive.kind for eqn in schedule.graph.eqns if eqn.primitive is not kernel}
    trial = Trial(outputs, [], left, False)
    for eqn in graph.eqns:
        if why_not_computed(eqn) is None and eqn.primitive.strides is None:
            results = [env[var] for var in eqn.outputs]
            taken = _evaluate(eqn, env)
            for var, found in zip(eqn.outputs, results, strict=True):
                trial.wrong += _compared(eqn, var, taken, found, np.asarray(env[var]), contracted)
                env[var] = found
    return trial


def _evaluate(eqn: Eqn, env: dict[Any, Any]) -> list[np.ndarray]:
    """Enter an equation's results by the reference into `env`; return its operands."""
    taken = [np.asarray(read(env, atom)) for atom in eqn.inputs]
    with np.errstate(all="ignore"):
        evaluate_equations((eqn,), env)
    return taken


# -------------------------------------------------------------------------------------- comparing


def _compared(
    eqn: Eqn,
    var: Var,
    taken: Sequence[np.ndarray],
    found: np.ndarray,
    expected: np.ndarray,
    contracted: bool = False,
) -> list[str]:
    """Return how the result `var` of an equation on operands `taken` is not the reference's."""
    name = f"{eqn.primitive.name}{[str(x.dtype) for x in taken]}"
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        return [f"{name}: {found.dtype}{found.shape}, not {expected.dtype}{expected.shape}"]
    near = _is_near(eqn, taken, found, expected, contracted)
    if not np.all(near):
        near = near | is_mistaken(eqn.primitive, taken) | _is_open(eqn, taken, near)
    if not np.all(near) and (contracted or _allowed(eqn, taken, found.dtype)):
        near = near | _is_near_others(eqn, taken, found, eqn.outputs.index(var))
    if np.all(near):
        return []
    at = tuple(np.argwhere(~near)[0])
    shown = [x[at] if x.shape == found.shape else x for x in taken]
    how = ", contracted" if contracted else ""
    return [f"{name} {dict(eqn.params)} of {shown}{how}: {found[at]!r}, reference {expected[at]!r}"]


def _is_near(
    eqn: Eqn, taken: Sequence[np.ndarray], found: np.ndarray, expected: np.ndarray, loose: bool
) -> np.ndarray:
    """Return where a result is as near to the reference's as the operation promises."""
    if not dtypes.is_inexact(expected.dtype):
        return np.asarray(found == expected)
    if eqn.primitive.kind == "elementwise":
        allowed = _allowed(eqn, taken, expected.dtype) + (1 if loose else 0)
        distance = complex_distance if dtypes.is_complex(expected.dtype) else ulp_distance
        return np.asarray(distance(found, expected) <= allowed)
    bound = combination_bound(eqn.primitive, taken, eqn.params) * (2 if loose else 1)
    with np.errstate(all="ignore"):
        apart = np.abs(_widened(found) - _widened(expected))
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    return np.asarray(same | (apart <= bound) | np.isinf(bound))


def _allowed(eqn: Eqn, taken: Sequence[np.ndarray], dtype: np.dtype) -> float:
    if eqn.primitive.kind != "elementwise" or not dtypes.is_inexact(dtype):
        return 0.0
    return allowed_ulp(eqn.primitive, tuple([x.dtype for x in taken]), eqn.params, dtype)


def _is_near_others(
    eqn: Eqn, taken: Sequence[np.ndarray], found: np.ndarray, position: int
) -> np.ndarray:
    """Return where a result is near to what the reference gives for operands two units off.

    The mixed forward and backward error (Higham 2002, section 1.5): of functions that have zeros,
    neither the reference nor the kernels are exact relative to a result near one.
    """
    with np.errstate(all="ignore"):
        options = [_neighbours(x) for x in taken]
        results = [eqn.primitive.reference(*xs, **eqn.params) for xs in product(*options)]
        if eqn.primitive.multiple_outputs:
            results = [y[position] for y in results]
        stacked = np.stack([np.broadcast_to(y, found.shape) for y in results])
        among = np.any((stacked == found) | (np.isnan(stacked) & np.isnan(found)), axis=0)
        if not dtypes.is_inexact(found.dtype):
            return among
        units = 1 + _allowed(eqn, taken, found.dtype)
        slack = units * np.max(np.spacing(np.abs(stacked)).astype(np.longdouble), axis=0)
        wide, own = _widened(stacked), _widened(found)
        if dtypes.is_complex(found.dtype):
            spread = np.max(np.abs(wide - wide[0]), axis=0)
            return among | (np.abs(own - wide[0]) <= spread + slack)
        return among | (
            (np.min(wide, axis=0) - slack <= own) & (own <= np.max(wide, axis=0) + slack)
        )


def _widened(x: np.ndarray) -> np.ndarray:
    return x.astype(np.clongdouble if dtypes.is_complex(x.dtype) else np.longdouble)


def _neighbours(x: np.ndarray) -> list[np.ndarray]:
    """Return an array, and those two units off; of complex numbers in all four directions."""
    if dtypes.is_complex(x.dtype):
        step = 2 * np.spacing(np.abs(x))
        return [x, *[(x + turn * step).astype(x.dtype) for turn in (1, -1, 1j, -1j)]]
    if not dtypes.is_float(x.dtype):
        return [x]
    step, ends = primitives["nextafter"].reference, (x.dtype.type(-np.inf), x.dtype.type(np.inf))
    return [x, *[step(step(x, end), end) for end in ends]]


def _is_open(eqn: Eqn, taken: Sequence[np.ndarray], near: np.ndarray) -> np.ndarray:
    """Return where NumPy's own result is left open, of the elements that are not `near`.

    Floats that an integer type cannot hold; and elements whose result depends on where in an array
    they stand, as the sign of the lesser of two zeros does.
    """
    is_open = np.zeros(near.shape, bool)
    if eqn.primitive.kind != "elementwise":
        return is_open
    x, to = np.real(taken[0]), eqn.outputs[0].aval.dtype
    if eqn.primitive is primitives["cast"] and dtypes.is_integer(to) and dtypes.is_float(x.dtype):
        limits, whole = np.iinfo(to), np.trunc(x.astype(np.longdouble))
        is_open = is_open | ~((whole >= limits.min) & (whole <= limits.max))
    full = np.broadcast_arrays(*taken)
    for place in np.argwhere(~near & ~is_open)[:1000]:
        at = tuple(place)
        with np.errstate(all="ignore"):
            results = eqn.primitive.reference(*[np.full(17, v[at]) for v in full], **eqn.params)
        all_results = results if isinstance(results, tuple) else (results,)
        is_open[at] = any(not same_bits(y, np.full(17, y[0])) for y in all_results)
    return is_open


def _differences(found: Sequence[Any], expected: Sequence[Any]) -> list[str]:
    """Return which outputs have other bits than expected, and where first."""
    wrong = []
    for k, (x, y) in enumerate(zip(found, expected, strict=True)):
        x, y = np.asarray(x), np.asarray(y)
        if (x.dtype, x.shape) != (y.dtype, y.shape):
            wrong.append(f"output {k}, fused: {x.dtype}{x.shape}, not {y.dtype}{y.shape}")
        elif not same_bits(x, y):
            same = [same_bits(a, b) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
            i = same.index(False)
            wrong.append(f"output {k}, fused: {x.ravel()[i]!r} at {i}, one by one {y.ravel()[i]!r}")
    return wrong
