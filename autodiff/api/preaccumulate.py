"""preaccumulate: a function whose derivatives multiply local partial derivatives beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from operator import mul
from typing import Any

from autodiff.api.trace import (
    array_leaf,
    check_leaves,
    flatten_arguments,
    function_name,
    leaf_types,
    run,
    trace_function,
)
from autodiff.api.transforms import Primals, check_callable, result_array
from autodiff.base import pytree
from autodiff.ir.builder import bind_primitive, trace_of
from autodiff.ir.primitive import primitives
from autodiff.passes.linearize import linearize
from autodiff.passes.preaccumulate import preaccumulate as preaccumulate_pass


def preaccumulate(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the values of `fun` and derivatives with fewer multiplications.

    Where `fun` computes with scalars, or element by element on arrays of one shape, its derivative
    is a network of local partial derivatives, of which one pass (a vjp, a jvp) multiplies by each.
    Here products of them are formed beforehand, in the cheapest order found, as far as products and
    one pass together cost no more multiplications than the plain pass; every further pass (rows of
    a Jacobian, calls of a `vjp_fun`) costs less, and less is kept for it. Derivatives differ in
    rounding only.

    Args:
        fun: a function of pytrees of arrays. All arguments are traced; arrays it closes over are
            treated as further arguments.

    Raises:
        TypeError: `fun` is not callable, or a leaf of an argument or of the output is no array.

    >>> import numpy as np
    >>> from autodiff import grad
    >>> grad(preaccumulate(lambda x: np.sin(x) * np.exp(np.sin(x))))(0.0)
    array(1.)

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, chapters 9 and 10.
    """
    check_callable("preaccumulate", fun)

    @wraps(fun, updated=())
    def preaccumulated(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = flatten_arguments("preaccumulate", (args, kwargs))
        check_leaves("preaccumulate", fun, args, leaves, kwargs)
        inputs = [array_leaf(leaf) for leaf in leaves]

        def apply(*tracers: Any) -> Any:
            positional, named = pytree.unflatten(tree, tracers)
            return fun(*positional, **named)

        outer = trace_of(inputs)
        traced = trace_function(
            apply,
            leaf_types(leaves),
            function="preaccumulate",
            name=function_name(fun),
            values=inputs,
            inline_literals=outer is not None and outer.inline_literals,
        )
        operands = [*inputs, *traced.constants]
        if trace_of(operands) is None:
            results = run(traced.graph, operands)
        else:
            params = {"graph": traced.graph, "name": function_name(fun)}
            results = bind_primitive(primitives["preaccumulate"], operands, params)
        return traced.unflatten([result_array(x) for x in results])

    return preaccumulated


@dataclass(frozen=True, slots=True)
class PreaccumulationCost:
    """Multiplications by local partial derivatives, of a function and of its `preaccumulate`.

    Only those between values of one shape count, one for each element; factors 1 and -1 are free,
    and a division that a partial takes (that of x / y with respect to x is 1 / y) counts as one.

    Attributes:
        plain: of one pass, forward or reverse, through the plain derivative.
        beforehand: of partials with partials, once for each point of linearization.
        each_pass: of one pass through what then remains.
        rules: the rule that gave the order of elimination for each part of the function in which
            there was something to eliminate ("none": it stays as it is).
        jacobian: what it costs to eliminate all there is, by each rule: the local Jacobians.
            "forward" and "reverse" are the orders that those modes amount to; "exhaustive", the
            cheapest of all orders, is there where no part has more than 8 vertices.
    """

    plain: int
    beforehand: int
    each_pass: int
    rules: tuple[str, ...]
    jacobian: dict[str, int]

    @property
    def total(self) -> int:
        """Multiplications beforehand and of one pass; never more than `plain`."""
        return self.beforehand + self.each_pass


def preaccumulation_cost(fun: Callable[..., Any], *primals: Any) -> PreaccumulationCost:
    """Return how many multiplications `preaccumulate(fun)` saves, differentiated at `primals`.

    Every order of elimination is followed to its end, which for long functions takes a while.

    Raises:
        TypeError: as `preaccumulate`.

    >>> import numpy as np
    >>> cost = preaccumulation_cost(lambda x: np.sin(x) * np.exp(x), 0.5)
    >>> cost.plain, cost.beforehand, cost.each_pass
    (4, 2, 1)
    """
    start = Primals("preaccumulation_cost", fun, primals, False)
    found = preaccumulate_pass(linearize(start.traced.graph, start.wanted), True)
    pairs = list(zip(found.eliminations, found.sizes, strict=True))
    rules = [set(elimination.accumulation) for elimination, _ in pairs]
    jacobian: dict[str, int] = {}
    for rule in sorted(set.intersection(*rules) if rules else ()):
        costs = [elimination.accumulation[rule] or 0 for elimination, _ in pairs]
        jacobian[rule] = sum(map(mul, costs, found.sizes))
    return PreaccumulationCost(
        plain=sum(elimination.plain * size for elimination, size in pairs),
        beforehand=sum(elimination.beforehand * size for elimination, size in pairs),
        each_pass=sum(elimination.each_pass * size for elimination, size in pairs),
        rules=tuple(elimination.rule for elimination, _ in pairs if elimination.vertices),
        jacobian=jacobian,
    )
