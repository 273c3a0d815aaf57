"""Executables: graphs made callable on arrays, and the cache that keeps them."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from autodiff.base.array_modules import common_module
from autodiff.base.garbage import collection_paused
from autodiff.base.settings import settings
from autodiff.codegen.array_program import emit_array_program, shared_outputs
from autodiff.ir.evaluate import evaluate
from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, make_graph
from autodiff.passes.pipeline import simplify

#: Equations beyond which a graph is run by the evaluator: Python's compiler is slow on long code.
LONGEST_PROGRAM = 5_000

#: Executables kept; the least recently used are dropped.
CAPACITY = 1024


class Executable:
    """A graph ready to run on NumPy or CuPy arrays.

    Called with the graph's inputs, it returns the list of its outputs as fresh arrays: none shares
    memory with an input, a constant or another output, and all are ndarrays, 0-d ones included.
    Un-jitted uses run equation by equation until the structure has been seen `compile_after`
    times; `compile_now` is what `jit` asks for.
    """

    __slots__ = ("_graph", "_programs", "_runs")

    def __init__(self, graph: Graph, *, compile_now: bool = False) -> None:
        self._graph = graph
        self._programs: dict[ModuleType, _Program] = {}
        self._runs = settings().compile_after if compile_now else 0

    def __call__(self, *arguments: Any) -> list[Any]:
        """Run on `arguments`: one array or array scalar for each input."""
        module = common_module(arguments)
        program = self._programs.get(module)
        if program is None:
            program = self._next_program(module)
        if module is not np:
            arguments = tuple(module.asarray(x) if type(x) is np.ndarray else x for x in arguments)
        with np.errstate(all="ignore"):
            outputs = list(program.run(*arguments, *program.literals))
        array = module.ndarray
        for i in program.copied:
            outputs[i] = outputs[i].copy()
        return [x if type(x) is array else module.asarray(x) for x in outputs]

    def _next_program(self, module: ModuleType) -> _Program:
        values = settings()
        if self._runs < values.compile_after or values.reference:
            self._runs += 1
            graph, literals = _lifted(self._graph, module)
            return _Program(partial(_evaluated, graph), literals, tuple(range(len(graph.outputs))))
        with collection_paused():
            program = self._compiled(module)
        self._programs[module] = program
        return program

    def _compiled(self, module: ModuleType) -> _Program:
        graph, literals = _lifted(simplify(self._graph), module)
        copied = shared_outputs(graph)
        if len(graph.eqns) > LONGEST_PROGRAM:
            return _Program(partial(_evaluated, graph), literals, copied)
        emitted = emit_array_program(graph)
        if "source" in settings().debug:
            print(emitted.source, file=sys.stderr)
        names = dict(emitted.names)
        exec(compile(emitted.source, "<autodiff program>", "exec"), names)
        return _Program(names["program"], literals, copied)


@dataclass(frozen=True, slots=True)
class _Program:
    """`run(*inputs, *literals)` gives the outputs; those at positions `copied` may be shared."""

    run: Callable[..., Sequence[Any]]
    literals: tuple[Any, ...]
    copied: tuple[int, ...]


def _evaluated(graph: Graph, *arguments: Any) -> list[Any]:
    return evaluate(graph, (), arguments)


def _lifted(graph: Graph, module: ModuleType) -> tuple[Graph, tuple[Any, ...]]:
    """Return the graph with its array literals as further inputs, and their values there."""
    if module is np:
        return graph, ()
    inputs: dict[Literal, Var] = {}

    def lift(atom: Atom) -> Atom:
        if isinstance(atom, Var) or atom.is_scalar:
            return atom
        return inputs.setdefault(atom, Var(atom.aval))

    eqns = [
        Eqn(eqn.primitive, tuple(map(lift, eqn.inputs)), eqn.params, eqn.outputs, eqn.source)
        for eqn in graph.eqns
    ]
    outputs = tuple(map(lift, graph.outputs))
    lifted = make_graph((*graph.inputs, *inputs.values()), (), eqns, outputs)
    return lifted, tuple(module.asarray(literal.value) for literal in inputs)


_executables: OrderedDict[Any, Executable] = OrderedDict()
_lock = Lock()


def executable(graph: Graph) -> Executable:
    """Return the executable of a graph's structure, made when first asked for."""
    key = (graph, settings().code_key)
    with _lock:
        found = _executables.get(key)
        if found is not None:
            _executables.move_to_end(key)
            return found
        found = _executables[key] = Executable(graph)
        if len(_executables) > CAPACITY:
            _executables.popitem(last=False)
        return found
