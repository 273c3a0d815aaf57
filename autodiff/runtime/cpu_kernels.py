"""Generated kernels as functions of NumPy arrays."""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from threading import Lock
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.garbage import seldom_collected
from autodiff.base.settings import settings
from autodiff.codegen.cpu_kernels import emit_kernel
from autodiff.codegen.cpu_layout import (
    CannotEmit,
    collapsed,
    instructions_for,
    is_costly,
    span_of,
    tile_of,
)
from autodiff.ir.graph import Eqn, Graph
from autodiff.primitives.families import ANY
from autodiff.runtime.cpu_jit import load
from autodiff.runtime.host import host
from autodiff.runtime.kernel_calls import (
    ArrayType,
    Guards,
    Signature,
    kernel_call,
    layout_fault,
)
from autodiff.schedule.chunks import InChunks, in_chunks
from autodiff.schedule.fuse import Schedule, fuse
from autodiff.schedule.kernel_spec import Compute, Gather, KernelSpec, Reduce, Scan
from autodiff.schedule.lowerable import (
    REAL_KINDS,
    why_not_indexed,
    why_not_lowered,
    why_not_scanned,
)

#: The symbol of every kernel, each of which is a module of its own.
SYMBOL = "kernel"

#: Elements from which on a kernel of one operation is better than NumPy's function.
MANY = 512

#: Elements of a piece of a kernel that is divided over threads. Kernels of more than one piece let
#: other threads of Python run meanwhile.
PIECE = 1 << 16

#: Kernels kept; the least recently used are dropped.
CAPACITY = 4096


#: Why kernels cannot be made in this process, once it has been tried.
_failure: str | None = None


def kernels_are_usable() -> bool:
    """Return whether graphs are to be computed by kernels."""
    return settings().kernels and _failure is None


def give_up(error: Exception) -> None:
    """Do without kernels from here on, with a warning; while testing, raise what went wrong."""
    global _failure
    if settings().verify:
        raise error
    _failure = f"{type(error).__name__}: {error}"
    warnings.warn(
        message(
            "kernels",
            "the CPU's kernels must compile and load",
            _failure,
            fix="report this; until then AUTODIFF_KERNELS=0 leaves everything to NumPy, as is done "
            "from here on.",
        ),
        RuntimeWarning,
        stacklevel=2,
    )


def schedule_for_cpu(graph: Graph) -> Schedule:
    """Return a simplified graph with kernels for the host's processor."""
    values = settings()
    unite = not values.no_fusion
    return fuse(
        graph,
        why_not_computed,
        is_worth if unite else can_emit,
        unite=unite,
        instructions=_instructions,
    )


def _instructions(eqn: Eqn) -> int:
    if eqn.primitive.kind != "elementwise":
        return 1
    operands = tuple([atom.aval.dtype for atom in eqn.inputs])
    return instructions_for(eqn.primitive, operands, tuple(eqn.params.items()), host())


def why_not_computed(eqn: Eqn) -> str | None:
    """Return why no kernel for the CPU computes an equation, None if one can."""
    primitive = eqn.primitive
    if not all(atom.aval.size for atom in (*eqn.inputs, *eqn.outputs)):
        return f"{primitive.name} is over no elements"
    if primitive.kind == "cumulative":
        return why_not_scanned(eqn, REAL_KINDS)
    if primitive.indexed is not None:
        return why_not_indexed(eqn, REAL_KINDS)
    return why_not_lowered(eqn, ANY) if primitive.combine is None else None


def can_emit(spec: KernelSpec) -> bool:
    """Return whether a kernel can be emitted: its points are one axis, and there are some."""
    try:
        collapsed(spec)
    except CannotEmit:
        return False
    return bool(spec.row_count * spec.row_size)


def is_worth(spec: KernelSpec) -> bool:
    """Return whether a kernel can be emitted, and saves more than its call costs."""
    if not can_emit(spec):
        return False
    if len(spec.values) + sum(bool(load.bounds) for load in spec.loads) > 1 or spec.updates:
        return True
    value = next(iter(spec.values), None)
    if isinstance(value, Gather):
        return True
    if spec.row_count * spec.row_size < MANY:
        return False
    if isinstance(value, Reduce | Scan):
        return True
    return isinstance(value, Compute) and is_costly(value, spec, host())


class KernelFunction:
    """A kernel, compiled: called with its operands' arrays it returns the list of its outputs.

    Outputs are fresh. Operands that are not contiguous are copied first.
    """

    __slots__ = ("_is_long", "_module", "_signature", "_strict", "call", "text")

    def __init__(self, spec: KernelSpec) -> None:
        target = host()
        layout = collapsed(spec)
        with seldom_collected():
            self.text = emit_kernel(layout, target, SYMBOL, contract=settings().contract)
        if "source" in settings().debug:
            print(self.text, file=sys.stderr)
        module = load(self.text, target, (SYMBOL,))
        span = span_of(layout, target)
        elements = spec.row_count * spec.row_size
        cores = settings().threads or target.cores
        piece = max(1, PIECE * span // elements, min(tile_of(layout, target), -(-span // cores)))
        signature = Signature(
            tuple(map(ArrayType, spec.operand_types)),
            tuple(ArrayType(store.dtype, store.shape) for store in spec.stores),
            over=tuple(store.over for store in spec.stores) if spec.reuses else (),
            end=span,
            chunk=None if spec.updates else piece,  # updates are made in order
        )
        most = max(elements, *[prod(update.shape) for update in spec.updates], 0)
        self._module, self._signature, self._is_long = module, signature, most > PIECE
        self._strict = self._call(signature, _refused)
        self.call = self._call(signature, self._prepared)

    def _call(
        self, signature: Signature, fallback: Callable[..., Any], guards: Guards | None = None
    ) -> Callable[..., Any]:
        kernel, fast = self._module.address(SYMBOL), not self._is_long
        return kernel_call(kernel, self._module, signature, fallback, fast=fast, guards=guards)

    def entry(
        self,
        arguments: Sequence[ArrayType],
        form: int,
        fallback: Callable[..., Any],
        guards: Guards,
    ) -> Callable[..., Any] | None:
        """Return a function of arrays of these types that Python calls at no cost of its own.

        `form`, `fallback` and `guards` are those of `kernel_call`. None where the kernel takes so
        long that it is not called directly.
        """
        if self._is_long or layout_fault() is not None:
            return None
        signature = replace(self._signature, arguments=tuple(arguments), form=form)
        return self._call(signature, fallback, guards)

    def __call__(self, *operands: Any) -> list[np.ndarray]:
        """Run the kernel."""
        return self.call(*operands)

    def _prepared(self, *operands: Any) -> list[np.ndarray]:
        """Run the kernel on numbers, and arrays that are not in C order or aligned, made so."""
        arguments, written = self._signature.arguments, self._signature.over
        arrays = [
            _as_taken(x, wanted, k in written)
            for k, (x, wanted) in enumerate(zip(operands, arguments, strict=True))
        ]
        return self._strict(*arrays)


def _as_taken(x: Any, wanted: ArrayType, is_written: bool) -> np.ndarray:
    """Return an operand as the kernel takes it; its type may be there under two names.

    `longlong` equals int64, but is another object: the kernel looks for the one it was made with.
    """
    as_read: Any = ["C", "A", "E"]
    x = np.require(x, requirements=[*as_read, "W"] if is_written else as_read)
    return x.view(wanted.dtype) if x.dtype == wanted.dtype else x


def _refused(*operands: Any) -> Any:
    kinds = ", ".join(f"{x.dtype}{list(x.shape)}" for x in operands)
    raise AssertionError(f"a kernel was called with ({kinds})")


_functions: OrderedDict[Any, KernelFunction | ChunkedFunction] = OrderedDict()
_lock = Lock()


class ChunkedFunction:
    """A reduction of everything: a kernel for chunks, and one that combines what they give."""

    __slots__ = ("_final", "_partial", "_parts", "text")

    def __init__(self, parts: InChunks) -> None:
        self._parts = parts
        self._partial = KernelFunction(parts.partial)
        self._final = KernelFunction(parts.final)
        self.text = f"{self._partial.text}\n{self._final.text}"

    def call(self, *operands: Any) -> list[np.ndarray]:
        """Run both kernels; outputs are fresh."""
        parts = self._parts
        first = self._partial.call(*[operands[k] for k in parts.operands_of_partial])
        count = len(parts.outputs_of_partial)
        kept = [operands[k] for k in parts.operands_of_final]
        outputs = self._final.call(*kept, *first[count:])
        for k, x in zip(parts.outputs_of_partial, first[:count], strict=True):
            outputs.insert(k, x)
        return outputs

    __call__ = call


def kernel_function(spec: KernelSpec) -> KernelFunction | ChunkedFunction:
    """Return a kernel's function, made when first asked for."""
    key = (spec, settings().code_key)
    with _lock:
        found = _functions.get(key)
        if found is not None:
            _functions.move_to_end(key)
            return found
    parts = in_chunks(collapsed(spec))
    made = KernelFunction(spec) if parts is None else ChunkedFunction(parts)
    with _lock:
        found = _functions.setdefault(key, made)
        if len(_functions) > CAPACITY:
            _functions.popitem(last=False)
    return found
