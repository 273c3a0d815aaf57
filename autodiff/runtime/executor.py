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
from numpy.lib.array_utils import byte_bounds

from autodiff.base.array_modules import common_module, gpu_of
from autodiff.base.errors import message
from autodiff.base.garbage import seldom_collected
from autodiff.base.settings import settings
from autodiff.base.source_info import user_line
from autodiff.codegen.array_program import emit_array_program, shared_outputs
from autodiff.ir.checks import run_checked
from autodiff.ir.evaluate import copy_of, evaluate, evaluate_equations, read
from autodiff.ir.graph import Atom, Eqn, Graph, Literal, Var, is_repeated_scalar, make_graph
from autodiff.ir.held import has_effect, held_graphs, is_transient
from autodiff.passes.inline import inline
from autodiff.passes.pipeline import simplify
from autodiff.runtime.backends import Backend, backend_of, current_device
from autodiff.runtime.cpu_kernels import KernelFunction
from autodiff.runtime.cuda_functions import CudaFunction
from autodiff.runtime.cuda_launcher import KernelsFailedError, written_program
from autodiff.runtime.cuda_programs import KernelProgram
from autodiff.runtime.dump import dump
from autodiff.runtime.kernel_calls import ArrayType, Entry
from autodiff.schedule.fuse import kernel
from autodiff.schedule.kernel_spec import KernelSpec
from autodiff.schedule.multi_kernel import MultiKernel
from autodiff.schedule.reuse import with_reuse

#: Equations beyond which a graph is run by the evaluator: Python's compiler is slow on long code.
LONGEST_PROGRAM = 5_000

#: Executables kept; the least recently used are dropped.
CAPACITY = 1024


class Executable:
    """A graph ready to run on NumPy or CuPy arrays.

    A graph with loops is compiled at once, since its bodies run many times.

    Called with the graph's inputs, it returns the list of its outputs as fresh arrays: none shares
    memory with an input, a constant or another output, and all are ndarrays, 0-d ones included.
    Un-jitted uses run equation by equation until the structure has been seen `compile_after`
    times; `compile_now` is what `jit` asks for. Results may take the memory of the inputs at the
    positions `donated`. Arrays of CuPy are computed on the GPU that they are on: a ValueError if
    that is several.
    """

    __slots__ = ("_donated", "_graph", "_programs", "_runs")

    def __init__(
        self, graph: Graph, *, compile_now: bool = False, donated: frozenset[int] = frozenset()
    ) -> None:
        self._graph = graph
        self._donated = donated
        self._programs: dict[tuple[ModuleType, int | None], _Program] = {}
        compile_now = compile_now or any(map(_stays_held, graph.eqns))
        self._runs = settings().compile_after if compile_now else 0

    def __call__(self, *arguments: Any) -> list[Any]:
        """Run on `arguments`: one array or array scalar for each input."""
        module = common_module(arguments)
        if module is np:
            return self._run(np, None, arguments)
        index = _one_gpu(arguments)
        try:
            if module.cuda.runtime.getDevice() == index:
                return self._run(module, index, arguments)
            with module.cuda.Device(index):
                return self._run(module, index, arguments)
        except KernelsFailedError as error:
            self._programs.clear()
            with module.cuda.Device(index):
                backend = backend_of(module)
                if backend is not None:
                    backend.give_up(_cause(error))
                return self._run(module, index, arguments)

    def _run(self, module: ModuleType, gpu: int | None, arguments: Sequence[Any]) -> list[Any]:
        """Run on arrays of a module, on the GPU that is current."""
        program = self._programs.get((module, gpu))
        if program is None:
            program = self._next_program(module, gpu)
        if program.is_kernels:  # fresh arrays, made without NumPy's functions and their warnings
            return list(program.run(*arguments))
        if module is not np:
            arguments = tuple(
                _on_device(x, module) if type(x) is np.ndarray or i in program.needed_there else x
                for i, x in enumerate(arguments)
            )
        if program.overwritten:
            arguments = _apart(arguments, program.overwritten, module)
        with np.errstate(all="ignore"):
            outputs = list(program.run(*arguments, *program.literals))
        array = module.ndarray
        for i in program.copied:
            outputs[i] = outputs[i].copy()
        if module is np:
            return [x if type(x) is array else np.asarray(x) for x in outputs]
        return [x if type(x) is array else _on_device(x, module) for x in outputs]

    @property
    def direct(self) -> Callable[..., Sequence[Any]] | None:
        """What a call with NumPy's arrays alone comes to, if that is known to be kernels only."""
        program = self._programs.get((np, None))
        return program.run if program is not None and program.is_kernels else None

    def entry(self, entry: Entry) -> Callable[..., Any] | None:
        """Return a function of arrays that runs the graph with little or nothing of Python between.

        There is one on NumPy if the graph has become a single kernel that does not take long, of
        arguments that are arrays, and on a GPU if it has become kernels.
        """
        if len(self._programs) != 1:
            return None
        ((module, _), program) = next(iter(self._programs.items()))
        avals = [var.aval for var in self._graph.inputs]
        if module is np:
            kernel = program.kernel
            if entry.form is None or entry.structure is not None or entry.constants:
                return None
            if not isinstance(kernel, KernelFunction):
                return None
            arguments = [ArrayType(aval.dtype, aval.shape) for aval in avals]
            return kernel.entry(arguments, entry.form, entry.fallback, entry.guards)
        device = current_device(module)
        if device is None or not program.is_kernels:
            return None
        direct = None
        if isinstance(program.kernel, CudaFunction | KernelProgram):
            direct = program.kernel.entry(entry, avals)
        return direct or written_program(program.run, device, entry, avals)

    def _next_program(self, module: ModuleType, gpu: int | None) -> _Program:
        values = settings()
        if "nans" in values.check:
            return self._by_equations(run_checked, module)
        if self._runs < values.compile_after or values.reference:
            self._runs += 1
            return self._by_equations(_evaluated, module)
        with seldom_collected():
            simplified = simplify(self._graph)
            program = _compiled(simplified, module, self._donated)
        if values.dump:
            backend = backend_of(module)
            schedule = str(backend.schedule(simplified)) if backend is not None else None
            dump(values.dump, self._graph, simplified, schedule, sources(simplified, module))
        self._programs[module, gpu] = program
        return program

    def _by_equations(self, evaluator: Callable[..., list[Any]], module: ModuleType) -> _Program:
        graph, literals = _lifted(self._graph, module)
        everything = tuple(range(len(graph.outputs)))
        run = partial(evaluator, graph)
        return _Program(run, literals, everything, _needed_on_device(graph, module))


@dataclass(frozen=True, slots=True)
class _Program:
    """`run(*inputs, *literals)` gives the outputs; those at positions `copied` may be shared.

    `needed_there` are the inputs that must be on the device even if they are mere numbers.
    Results are written over the inputs at positions `overwritten`.
    `is_kernels`: nothing but kernels is run, and nothing need be copied; `kernel` then is what runs
    them in one call from just the inputs to just the outputs, if there is something.
    """

    run: Callable[..., Sequence[Any]]
    literals: tuple[Any, ...]
    copied: tuple[int, ...]
    needed_there: frozenset[int]
    is_kernels: bool = False
    kernel: KernelFunction | CudaFunction | KernelProgram | None = None
    overwritten: frozenset[int] = frozenset()


def _one_gpu(arguments: Sequence[Any]) -> int:
    """Return the number of the GPU that arrays are on.

    Raises:
        ValueError: they are on several.
    """
    found = sorted({index for x in arguments if (index := gpu_of(x)) is not None})
    if len(found) > 1:
        raise ValueError(
            message(
                "program",
                "all arrays of a program must be on one GPU, constants too",
                f"arrays on GPUs {' and '.join(map(str, found))}",
                line=user_line(),
                fix="copy them to one: with cupy.cuda.Device(i): x = cupy.asarray(x).",
            )
        )
    return found[0]


def _cause(error: KernelsFailedError) -> Exception:
    cause = error.__cause__
    return cause if isinstance(cause, Exception) else error


def _apart(
    arguments: Sequence[Any], overwritten: frozenset[int], module: ModuleType
) -> tuple[Any, ...]:
    """Return arguments of which those to be overwritten share no memory with others."""
    bounds = sorted(
        (*_bounds(x, module), i)
        for i, x in enumerate(arguments)
        if isinstance(x, module.ndarray) and x.size
    )
    shared: set[int] = set()
    end, last = 0, -1  # of what begins earlier, that which ends last
    for start, stop, i in bounds:
        if start < end:
            shared |= {last, i}
        if stop > end:
            end, last = stop, i
    shared &= overwritten
    return tuple([x.copy() if i in shared else x for i, x in enumerate(arguments)])


def _bounds(array: Any, module: ModuleType) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of what comes after its last one."""
    if module is np:
        return byte_bounds(array)
    ends = [s * (n - 1) for n, s in zip(array.shape, array.strides, strict=True)]
    start = array.data.ptr
    low, high = sum(min(0, end) for end in ends), sum(max(0, end) for end in ends)
    return start + low, start + high + array.itemsize


def _evaluated(graph: Graph, *arguments: Any) -> list[Any]:
    return evaluate(graph, (), arguments)


def _stays_held(eqn: Eqn) -> bool:
    """Return whether an equation holds graphs that stay held, itself or inside those it holds."""
    if not eqn.primitive.holds_graphs:
        return False
    return eqn.primitive.inlined is None or any(
        _stays_held(inner) for graph in held_graphs(eqn) for inner in graph.eqns
    )


def _compiled(graph: Graph, module: ModuleType, donated: frozenset[int] = frozenset()) -> _Program:
    """Return the program of a simplified graph, with those of the graphs it holds.

    Where kernels cannot be made it is a program of NumPy's functions alone.
    """
    backend = backend_of(module)
    if backend is not None:
        try:
            known, literals = _lifted(graph, module, repeated=False)
            scheduled, rest = _lifted(backend.schedule(known).graph, module)
            literals += rest
            scheduled, overwritten = with_reuse(scheduled, donated, updates_only=module is not np)
            return _emitted(scheduled, literals, module, donated, backend, overwritten)
        except Exception as error:  # of compilers and loaders, of many kinds
            backend.give_up(error)
    graph, literals = _lifted(graph, module)
    return _emitted(graph, literals, module, donated, None)


def _emitted(
    graph: Graph,
    literals: tuple[Any, ...],
    module: ModuleType,
    donated: frozenset[int],
    backend: Backend | None,
    overwritten: frozenset[int] = frozenset(),
) -> _Program:
    copied = shared_outputs(graph, donated)
    needed = _needed_on_device(graph, module)
    if len(graph.eqns) > LONGEST_PROGRAM:
        return _Program(partial(_evaluated, graph), literals, copied, needed)
    emitted = emit_array_program(graph, _held_runner(module, backend))
    if "source" in settings().debug:
        print(emitted.source, file=sys.stderr)
    names = dict(emitted.names)
    exec(compile(emitted.source, "<autodiff program>", "exec"), names)
    run = names["program"]
    is_kernels = not (copied or overwritten) and all(eqn.primitive is kernel for eqn in graph.eqns)
    alone = None
    if is_kernels and graph.eqns and backend is not None:
        alone = _of_kernels(graph, backend)
        run = run if alone is None else alone.call
    numbers = {var for eqn in graph.eqns if _is_number(eqn) for var in eqn.outputs}
    is_direct = not literals and (module is np or numbers.isdisjoint(graph.outputs))
    is_kernels = is_kernels and is_direct
    return _Program(run, literals, copied, needed, is_kernels, alone, overwritten)


def _of_kernels(graph: Graph, backend: Backend) -> Any:
    """Return what computes a graph of kernels alone, None if that is nothing but their calls."""
    functions = [backend.function(eqn.params["spec"]) for eqn in graph.eqns]
    if len(functions) == 1:
        (eqn,) = graph.eqns
        if eqn.inputs == graph.inputs and eqn.outputs == graph.outputs:
            return functions[0]
    return backend.program(graph, functions)


def _is_number(eqn: Eqn) -> bool:
    """Return whether a kernel may compute numbers of the host, for which there are no arrays."""
    return not any(atom.aval.shape for atom in (*eqn.inputs, *eqn.outputs))


def sources(graph: Graph, module: ModuleType = np) -> list[str]:
    """Return the texts that a simplified graph becomes for a module's arrays: program and kernels.

    Those of held graphs follow, each beginning with a line that says whose it is.
    """
    backend = backend_of(module)
    if backend is not None:
        graph = backend.schedule(graph).graph
    texts = [emit_array_program(graph, lambda held, fresh=False: _unused).source]
    for eqn in graph.eqns:
        if eqn.primitive is kernel and backend is not None:
            texts.append(backend.function(eqn.params["spec"]).text)
        for held in held_graphs(eqn):
            texts.append(f"# held by {eqn.primitive.name}")
            texts += sources(held, module)
    return texts


def _unused(*arguments: Any) -> Any:
    raise AssertionError("a program that is shown is not run")


def _held_runner(
    module: ModuleType, backend: Backend | None
) -> Callable[..., Callable[..., Sequence[Any]]]:
    """Return the function by which `execute` rules make a held graph callable, compiled once."""
    functions: dict[tuple[Graph, bool], Callable[..., Sequence[Any]]] = {}

    def run(
        graph: Graph | KernelSpec | MultiKernel, fresh: bool = False
    ) -> Callable[..., Sequence[Any]]:
        if not isinstance(graph, Graph):
            assert backend is not None
            return backend.call(graph)
        function = functions.get((graph, fresh))
        if function is None:
            with seldom_collected():
                program = _compiled(graph, module)
            function = functions[graph, fresh] = _held_function(program, module, fresh)
        return function

    return run


def _held_function(
    program: _Program, module: ModuleType, fresh: bool
) -> Callable[..., Sequence[Any]]:
    if module is np and not fresh:
        return program.run  # on NumPy no literals are lifted

    def function(*arguments: Any) -> list[Any]:
        if module is not np:
            arguments = tuple([_on_device(x, module) for x in arguments])
        outputs = list(program.run(*arguments, *program.literals))
        for i in program.copied if fresh else ():
            outputs[i] = copy_of(outputs[i])
        return outputs

    return function


def _lifted(
    graph: Graph, module: ModuleType, *, repeated: bool = True
) -> tuple[Graph, tuple[Any, ...]]:
    """Return the graph with its array literals as further inputs, and their values on the device.

    So are numbers that are results: these are arrays. Equations on literals alone would make NumPy
    arrays: they are evaluated once, here. `repeated`: whether literals that repeat one number are
    lifted too; kernels need but the number.
    """
    if module is np:
        return graph, ()
    host: dict[Var, Any] = {}
    inputs: dict[Atom, Var] = {}

    def lift(atom: Atom) -> Atom:
        if isinstance(atom, Literal):
            is_kept = not repeated and is_repeated_scalar(atom.value)
            return atom if atom.is_scalar or is_kept else inputs.setdefault(atom, Var(atom.aval))
        return inputs.setdefault(atom, Var(atom.aval)) if atom in host else atom

    eqns = []
    for eqn in graph.eqns:
        is_known = all(isinstance(atom, Literal) or atom in host for atom in eqn.inputs)
        if is_known and not has_effect(eqn) and eqn.primitive is not kernel:
            with np.errstate(all="ignore"):
                evaluate_equations((eqn,), host)
            continue
        operands = tuple(map(lift, eqn.inputs))
        eqns.append(Eqn(eqn.primitive, operands, eqn.params, eqn.outputs, eqn.source))
    outputs = tuple(
        inputs.setdefault(atom, Var(atom.aval)) if isinstance(atom, Literal) else lift(atom)
        for atom in graph.outputs
    )
    lifted = make_graph((*graph.inputs, *inputs.values()), (), eqns, outputs)
    values = [read(host, atom) for atom in inputs]
    return lifted, tuple(_repeated(np.asarray(value), module) for value in values)


def _needed_on_device(graph: Graph, module: ModuleType) -> frozenset[int]:
    """Return the 0-d inputs from which alone an equation makes an array.

    Elsewhere a number on the host combines with arrays on the device; there it would make an array
    on the host.
    """
    if module is np:
        return frozenset()
    on_host: set[Atom] = {var for var in graph.inputs if not var.aval.shape}
    host_equations = []
    for eqn in graph.eqns:
        if all(isinstance(atom, Literal) or atom in on_host for atom in eqn.inputs):
            host_equations.append(eqn)
            on_host.update(var for var in eqn.outputs if not var.aval.shape)
    needed: set[Atom] = set()
    for eqn in reversed(host_equations):
        if any(var.aval.shape or var in needed for var in eqn.outputs):
            needed.update(eqn.inputs)
    return frozenset(i for i, var in enumerate(graph.inputs) if var in needed)


def _repeated(value: np.ndarray, module: ModuleType) -> Any:
    """Return an array on the device; a repeated scalar is sent as one number."""
    if is_repeated_scalar(value):
        number = _on_device(value[(0,) * value.ndim], module)
        return module.broadcast_to(number, value.shape)
    return _on_device(value, module)


def _on_device(value: Any, module: ModuleType) -> Any:
    """Return an array on the device. CuPy would fill one of no axes, and -0.0 become 0.0."""
    if type(value) is module.ndarray or np.ndim(value):
        return module.asarray(value)
    return module.asarray(np.asarray(value).reshape(1)).reshape(())


_executables: OrderedDict[Any, Executable] = OrderedDict()
_lock = Lock()


def executable(graph: Graph) -> Executable:
    """Return the executable of a graph's structure, made when first asked for.

    Where errors name the user's lines (setting check) it is the graph's own: equal graphs may come
    from different lines.
    """
    if settings().check:
        return Executable(graph)
    key = (graph, settings().code_key)
    with _lock:
        found = _executables.get(key)
        if found is not None:
            _executables.move_to_end(key)
            return found
    if is_transient(graph):  # by what it holds; what it comes to may come again
        inlined = inline(graph)
        return Executable(inlined) if is_transient(inlined) else executable(inlined)
    with _lock:
        found = _executables.setdefault(key, Executable(graph))
        if len(_executables) > CAPACITY:
            _executables.popitem(last=False)
        return found
