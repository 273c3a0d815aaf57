"""Several CUDA kernels as one function of a device's arrays.

The launches of a graph of kernels, or of a kernel in stages, are one call: the parameters of all of
them are one block, and what they leave for each other lies in one piece of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from autodiff.base.settings import settings
from autodiff.codegen.cuda_kernels import stages_of
from autodiff.ir.avals import ArrayType
from autodiff.ir.graph import Atom, Graph
from autodiff.runtime.cuda_device import Device
from autodiff.runtime.cuda_functions import CAPACITY, CudaFunction, held_operands, numbers_of
from autodiff.runtime.cuda_launcher import (
    ALIGNMENT,
    Array,
    Launch,
    Launches,
    Sort,
    written_call,
    written_entry,
)
from autodiff.runtime.kernel_calls import Entry
from autodiff.schedule.kernel_spec import KernelSpec
from autodiff.schedule.multi_kernel import MultiKernel
from autodiff.schedule.stages import Stage
from autodiff.schedule.target import cuda_target


@dataclass(frozen=True, slots=True)
class Step:
    """A kernel with the numbers of the values that it reads and makes.

    `is_sorted`: its one result is sorted afterwards.
    """

    function: CudaFunction
    operands: tuple[int, ...]
    results: tuple[int, ...]
    is_sorted: bool = False


class KernelProgram:
    """Kernels on a device, run one after the other: from operands to the list of outputs.

    Operands and outputs are as those of a `CudaFunction`. Kernels are launched one by one where one
    of them is run on the host instead: it is of numbers of the host alone.

    Args:
        device: where they run.
        operands: the operands' element types; values are numbered from them on.
        steps: the kernels.
        outputs: the numbers of the values to be returned: results, each once.
    """

    __slots__ = ("_calls", "_device", "_lock", "_operands", "_outputs", "_run", "_steps", "text")

    def __init__(
        self,
        device: Device,
        operands: Sequence[np.dtype],
        steps: Sequence[Step],
        outputs: Sequence[int],
    ) -> None:
        self._device = device
        self._operands = tuple(operands)
        self._steps = tuple(steps)
        self._outputs = tuple(outputs)
        self._calls: dict[frozenset[int], Callable[..., list[Any]] | None] = {}
        self._lock = Lock()
        self._run: Callable[..., list[Any]] = self._run_any
        self.text = "\n".join(step.function.text for step in self._steps)

    def call(self, *operands: Any) -> list[Any]:
        """Run the kernels on the current stream; outputs are fresh."""
        return self._run(*operands)

    __call__ = call

    def entry(self, entry: Entry, avals: Sequence[ArrayType]) -> Callable[..., Any] | None:
        """Return a function of arguments of these types, for calls by anyone.

        It does what `written_entry` of cuda_launcher.py says. There is none where a kernel is run
        on the host, or a constant cannot be read where it lies.
        """
        numbers = numbers_of(entry, self._device)
        launches = None if numbers is None else self._launches(numbers)
        return None if launches is None else written_entry(launches, entry, avals)

    def steps(self, operands: Sequence[int], results: Sequence[int], free: int) -> list[Step]:
        """Return the kernels as steps of a program in which values have other numbers.

        Args:
            operands: the numbers of the operands.
            results: those of the outputs.
            free: the first number that nothing has.
        """
        number = dict(enumerate(operands)) | dict(zip(self._outputs, results, strict=True))
        for value in self._made():
            if value not in number:
                number[value] = free
                free += 1
        return [
            Step(
                step.function,
                tuple([number[value] for value in step.operands]),
                tuple([number[value] for value in step.results]),
                step.is_sorted,
            )
            for step in self._steps
        ]

    def _run_any(self, *operands: Any) -> list[Any]:
        """Run on operands of any kind; calls like this one are quicker from then on."""
        device = self._device
        held = held_operands(operands, self._operands, device)
        array = device.arrays.ndarray
        numbers = frozenset(k for k, x in enumerate(held) if type(x) is not array)
        if any(device.pointer(x) % ALIGNMENT for x in held if type(x) is array):
            return self._one_by_one(*held)
        with self._lock:
            if numbers not in self._calls:
                launches = self._launches(numbers)
                self._calls[numbers] = launches and written_call(launches, self._run_any)
            call = self._calls[numbers]
        if call is None:
            return self._one_by_one(*operands)
        self._run = call
        return call(*held)

    def _one_by_one(self, *operands: Any) -> list[Any]:
        known = dict(enumerate(operands))
        last = {value: i for i, step in enumerate(self._steps) for value in step.operands}
        for i, step in enumerate(self._steps):
            results = step.function.call(*[known[value] for value in step.operands])
            if step.is_sorted:
                self._device.sort(results[0])
            known.update(zip(step.results, results, strict=True))
            for value in {*step.operands, *step.results}:
                if last.get(value, i) == i and value not in self._outputs:
                    del known[value]
        return [known[value] for value in self._outputs]

    def _made(self) -> dict[int, Array]:
        return {
            value: made
            for step in self._steps
            for value, made in zip(step.results, step.function.results, strict=True)
        }

    def _launches(self, numbers: frozenset[int]) -> Launches | None:
        """Return the launches for the operands at `numbers` given by value, None if not all are."""
        found: list[Launch | Sort] = []
        made = self._made()
        same = {value: value for value in (*range(len(self._operands)), *made)}
        for step in self._steps:
            operands = [same[value] for value in step.operands]
            for value, over in zip(step.results, step.function.over, strict=True):
                if over is not None and value != operands[over]:
                    same[value] = operands[over]
                    del made[value]
            results = [same[value] for value in step.results]
            launch = step.function.launch(operands, results, numbers)
            if launch is None:
                return None
            found += [launch, Sort(results[0])] if step.is_sorted else [launch]
        outputs = tuple([same[value] for value in self._outputs])
        return Launches(self._device, self._operands, numbers, made, outputs, tuple(found))


def staged_program(spec: KernelSpec, stages: Sequence[Stage], device: Device) -> KernelProgram:
    """Return a kernel in stages as a program."""
    operands = spec.operand_types
    results = range(len(operands), len(operands) + len(spec.stores))

    def operand(k: int) -> int:
        return k if k >= 0 else results.stop - 1 - k

    steps = [
        Step(
            CudaFunction(stage.spec, device),
            tuple(map(operand, stage.operands)),
            tuple([results[k] if k >= 0 else operand(k) for k in stage.outputs]),
            stage.is_sorted,
        )
        for stage in stages
    ]
    return KernelProgram(device, operands, steps, results)


def graph_program(graph: Graph, functions: Sequence[Any], device: Device) -> KernelProgram | None:
    """Return a graph of kernels, one of `functions` for each, as a program.

    None where it returns something else than results, each once.
    """
    number: dict[Atom, int] = {var: i for i, var in enumerate(graph.inputs)}
    steps: list[Step] = []
    free = len(number) + sum(len(eqn.outputs) for eqn in graph.eqns)
    for eqn, function in zip(graph.eqns, functions, strict=True):
        if not all(atom in number for atom in eqn.inputs):
            return None
        operands = tuple([number[atom] for atom in eqn.inputs])
        for var in eqn.outputs:
            number[var] = len(number)
        results = tuple([number[var] for var in eqn.outputs])
        if isinstance(function, CudaFunction):
            steps.append(Step(function, operands, results))
        elif isinstance(function, KernelProgram):
            expanded = function.steps(operands, results, free)
            free += sum(len(step.results) for step in expanded)
            steps += expanded
        else:
            return None
    if not all(atom in number for atom in graph.outputs):
        return None
    outputs = [number[atom] for atom in graph.outputs]
    if len(set(outputs)) < len(outputs) or any(x < len(graph.inputs) for x in outputs):
        return None
    return KernelProgram(device, [var.aval.dtype for var in graph.inputs], steps, outputs)


@lru_cache(maxsize=CAPACITY)
def _function(
    spec: KernelSpec | MultiKernel, device: Device, code_key: Any
) -> CudaFunction | KernelProgram:
    if isinstance(spec, MultiKernel):
        return CudaFunction(spec, device)
    stages = stages_of(spec, cuda_target(device.facts["architecture"]))
    if stages:
        return staged_program(spec, stages, device)
    return CudaFunction(spec, device)


def cuda_function(spec: KernelSpec | MultiKernel, device: Device) -> CudaFunction | KernelProgram:
    """Return a kernel's function on a device, made when first asked for."""
    return _function(spec, device, settings().code_key)
