"""Which equations become kernels on a GPU, and the text of these for any architecture."""

from __future__ import annotations

from typing import Any

from autodiff.base.settings import settings
from autodiff.codegen.array_program import emit_array_program
from autodiff.codegen.cpu_layout import instructions_for
from autodiff.codegen.cuda_kernels import can_emit, emit_kernel, kernels_text, stages_of
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.codegen.cuda_multi import emit_multi_kernel
from autodiff.ir.graph import Eqn, Graph
from autodiff.ir.held import held_graphs
from autodiff.schedule.fuse import Schedule, fuse, kernel
from autodiff.schedule.indexed import indexed_by
from autodiff.schedule.kernel_spec import KernelSpec
from autodiff.schedule.lowerable import why_not_indexed, why_not_lowered, why_not_scanned
from autodiff.schedule.multi_kernel import MultiKernel
from autodiff.schedule.target import AVX2, Target
from autodiff.schedule.together import launch_together

#: Kinds of the element types that kernels for GPUs hold.
KINDS = "biufc"


def schedule_for_cuda(graph: Graph) -> Schedule:
    """Return a simplified graph with kernels for a GPU."""
    unite = not settings().no_fusion
    fused = fuse(graph, why_not_computed, can_emit, unite=unite, instructions=_instructions)
    return launch_together(fused) if unite else fused


def _instructions(eqn: Eqn) -> int:
    """Return how many instructions an equation takes, counted as those of a processor."""
    operands = tuple([atom.aval.dtype for atom in eqn.inputs])
    if eqn.primitive.kind != "elementwise":
        return 1
    return instructions_for(eqn.primitive, operands, tuple(eqn.params.items()), AVX2)


def why_not_computed(eqn: Eqn) -> str | None:
    """Return why no kernel for a GPU computes an equation, None if one can."""
    primitive = eqn.primitive
    if not all(atom.aval.size for atom in (*eqn.inputs, *eqn.outputs)):
        return f"{primitive.name} is over no elements"
    if primitive.kind == "cumulative":
        return why_not_scanned(eqn, KINDS)
    if indexed_by(eqn) is not None:
        return why_not_indexed(eqn, KINDS)
    return why_not_lowered(eqn, KINDS) if primitive.combine is None else None


def cuda_sources(graph: Graph, target: Target) -> list[str]:
    """Return the texts that a simplified graph becomes for a GPU: the program, its kernels.

    Those of held graphs follow, each beginning with a line that says whose it is.
    """
    graph = schedule_for_cuda(graph).graph
    texts = [emit_array_program(graph, lambda held, fresh=False: _unused).source]
    texts.append(kernels_text(emitted(graph, target)))
    for eqn in graph.eqns:
        for held in held_graphs(eqn):
            texts.append(f"# held by {eqn.primitive.name}")
            texts += cuda_sources(held, target)
    return texts


def emitted(graph: Graph, target: Target, stem: str = "kernel") -> list[CudaKernel]:
    """Return the kernels of a scheduled graph, numbered from `stem_0` on."""
    specs: list[KernelSpec | MultiKernel] = []
    for eqn in graph.eqns:
        if eqn.primitive is kernel:
            spec = eqn.params["spec"]
            stages = () if isinstance(spec, MultiKernel) else stages_of(spec, target)
            specs += [stage.spec for stage in stages] or [spec]
    return [_emitted(spec, target, f"{stem}_{i}") for i, spec in enumerate(specs)]


def _emitted(spec: KernelSpec | MultiKernel, target: Target, name: str) -> CudaKernel:
    if isinstance(spec, MultiKernel):
        return emit_multi_kernel(spec, target, name)
    return emit_kernel(spec, target, name)


def _unused(*arguments: Any) -> Any:
    raise AssertionError("a program that is shown is not run")
