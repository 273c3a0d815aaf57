"""Graphs held by equations: finding them, changing them, and what an equation does through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from autodiff.ir.graph import Eqn, Graph, Params, make_graph


def held_graphs(eqn: Eqn) -> Iterator[Graph]:
    """Yield the graphs among an equation's parameters, in order."""
    if not eqn.primitive.holds_graphs:
        return
    for value in eqn.params.values():
        if isinstance(value, Graph):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, Graph))


def map_held_graphs(params: Params, change: Callable[[Graph], Graph]) -> dict[str, Any]:
    """Return parameters with `change` applied to every graph in them."""

    def changed(value: Any) -> Any:
        if isinstance(value, Graph):
            return change(value)
        if isinstance(value, tuple) and any(isinstance(item, Graph) for item in value):
            return tuple(map(changed, value))
        return value

    return {name: changed(value) for name, value in params.items()}


def has_effect(eqn: Eqn) -> bool:
    """Return whether an equation does something besides computing, itself or in a held graph."""
    primitive = eqn.primitive
    if primitive.execute is None:
        return primitive.effect
    return any(has_effect(inner) for graph in held_graphs(eqn) for inner in graph.eqns)


def without_effects(graph: Graph) -> Graph:
    """Return the graph without the equations that do something besides computing, at any depth."""
    if not any(map(has_effect, graph.eqns)):
        return graph
    kept = [equation_without_effects(eqn) for eqn in graph.eqns if not eqn.primitive.effect]
    return make_graph(graph.inputs, graph.constants, kept, graph.outputs)


def equation_without_effects(eqn: Eqn) -> Eqn:
    """Return an equation with outputs, its held graphs without effects."""
    if not has_effect(eqn):
        return eqn
    params = map_held_graphs(eqn.params, without_effects)
    return Eqn(eqn.primitive, eqn.inputs, params, eqn.outputs, eqn.source)


def is_transient(graph: Graph) -> bool:
    """Return whether no other graph will ever equal this one.

    So it is where a parameter, which says so by its attribute `transient`, equals only itself.
    """
    return any(
        any(getattr(value, "transient", False) for value in eqn.params.values())
        or any(map(is_transient, held_graphs(eqn)))
        for eqn in graph.eqns
        if eqn.primitive.holds_graphs
    )
