"""Functions of the CPU math library compiled for a target and mapped over arrays, and their error.

`mapped(name, dtype, target, lanes)` compiles one function; `largest_error` compares its results
with exact ones in units in the last place. The machine's own instruction sets decide which targets
can be run: `TARGETS` has those.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import llvmlite.binding as llvm
import numpy as np

from autodiff.codegen.vectors import F32, F64, Value, VectorBuilder
from autodiff.schedule.target import AVX2, AVX512, NEON, SSE2, Target

TYPES = {np.dtype("float32"): F32, np.dtype("float64"): F64}


def _runnable() -> dict[str, tuple[Target, bool]]:
    """Return the targets this machine can run, each with whether it is tried without vectors."""
    host = {name for name, present in llvm.get_host_cpu_features().items() if present}
    presets = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}
    # LLVM lists fewer names of features than a level has: the widest ones decide.
    needs = {"avx512": "avx512vl", "avx2": "avx2", "sse2": "sse2", "neon": "neon"}
    found = {name: (presets[name], False) for name in presets if needs[name] in host}
    widest = next(iter(found))
    return {**found, "scalar": (presets[widest], True)}


TARGETS = _runnable()


@functools.cache
def _machine(target: Target) -> llvm.TargetMachine:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.name, features=target.llvm_features, opt=2, reloc="pic", codemodel="small"
    )


@functools.cache
def _linker(target: Target) -> llvm.LLJIT:
    return llvm.create_lljit_compiler(_machine(target))


def kernel_text(
    function: Callable[..., Value], count: int, dtype: np.dtype, target: Target, lanes: int
) -> str:
    """Return a module that applies `function` to `count` arrays, `lanes` elements at a time."""
    b = VectorBuilder(target, lanes, block="loop")
    type = TYPES[dtype]
    vector = b.text_of(type)
    names = [f"%in{k}" for k in range(count)]
    for k, name in enumerate(names):
        b.lines.append(f"  %p{k} = getelementptr {type.name}, ptr {name}, i64 %i")
        b.lines.append(f"  %x{k} = load {vector}, ptr %p{k}, align {type.bits // 8}")
    result = function(b, *(Value(f"%x{k}", type) for k in range(count)))
    body = "\n".join(b.lines)
    return f"""
define void @mapped({"".join(f"ptr {name}, " for name in names)}ptr %out, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %{b.block} ]
{body}
  %p = getelementptr {type.name}, ptr %out, i64 %i
  store {vector} {result.text}, ptr %p, align {type.bits // 8}
  %next = add i64 %i, {lanes}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
""" + "\n".join(b.declarations.values())


_count = 0


def compiled(
    function: Callable[..., Value], count: int, dtype: np.dtype, target: Target, lanes: int
) -> Callable[..., np.ndarray]:
    """Return a function from `count` arrays of `dtype` to one of the same shape."""
    global _count
    _count += 1
    text = kernel_text(function, count, dtype, target, lanes)
    library = llvm.JITLibraryBuilder().add_ir(text).export_symbol("mapped").add_current_process()
    loaded = library.link(_linker(target), f"library{_count}")
    entry = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (count + 1), ctypes.c_int64)(
        loaded["mapped"]
    )

    def run(*arrays: np.ndarray) -> np.ndarray:
        assert all(array.dtype == dtype for array in arrays) and len(arrays) == count
        size = arrays[0].size
        padded = -(-max(size, 1) // lanes) * lanes
        inputs = [np.ones(padded, dtype) for _ in arrays]
        for held, array in zip(inputs, arrays, strict=True):
            held[:size] = array.ravel()
        out = np.empty(padded, dtype)
        entry(*(held.ctypes.data for held in inputs), out.ctypes.data, padded)
        return out[:size].reshape(arrays[0].shape)

    run.keep, run.entry = loaded, entry  # type: ignore[attr-defined]
    return run


@functools.cache
def mapped(name: str, count: int, dtype: str, target_name: str) -> Callable[..., np.ndarray]:
    """Return the library's function `name` of `count` operands over arrays, for one target."""
    target, scalar = TARGETS[target_name]
    lanes = 1 if scalar else target.lanes(dtype)
    return compiled(lambda b, *xs: b.call(name, *xs), count, np.dtype(dtype), target, lanes)


def errors(got: np.ndarray, exact: np.ndarray, floor: np.ndarray | None = None) -> np.ndarray:
    """Return |got - exact| in units in the last place of `exact`, infinite where kinds differ.

    Kinds are NaN, infinite, and zero of either sign. `exact` is of longdouble, which has more
    digits. An overflow is expected where `exact` rounds to infinity; within three units of that
    either answer is right. Where `floor` is larger than `exact`, its last place is the unit.
    """
    limits = np.finfo(got.dtype)
    exact = exact.astype(np.longdouble)
    with np.errstate(all="ignore"):
        magnitude = np.minimum(np.abs(exact), np.longdouble(limits.max)).astype(got.dtype)
        if floor is not None:
            magnitude = np.fmax(magnitude, np.minimum(np.abs(floor), limits.max))
        unit = np.spacing(np.where(np.isnan(magnitude), 0, magnitude)).astype(np.longdouble)
        # The spacing above the largest number is infinite or NaN: take the one below it.
        unit = np.where(np.isfinite(unit), unit, np.longdouble(limits.max) * limits.epsneg)
        beyond = 2 * np.longdouble(2) ** (limits.maxexp - 1)
        close = np.abs(exact) > limits.max * np.longdouble(1 - 3 * limits.eps)
        finite = np.where(np.isinf(got), np.copysign(beyond, got), got.astype(np.longdouble))
        distance = np.abs(finite - exact) / unit
        same = (np.isnan(got) & np.isnan(exact)) | (np.isinf(got) & (got == exact))
        same |= np.isinf(got) & (np.sign(got) == np.sign(exact)) & (np.abs(exact) >= beyond)
        wrong = np.isnan(got) != np.isnan(exact)
        wrong |= np.isinf(got) & ~close & ~same
        wrong |= np.isinf(exact) & ~np.isinf(got)
        wrong |= (got == 0) & (np.signbit(got) != np.signbit(exact))
        return np.where(same, 0, np.where(wrong, np.inf, distance)).astype(np.float64)


def report(
    got: np.ndarray, exact: np.ndarray, *arrays: np.ndarray, floor: np.ndarray | None = None
) -> tuple[float, str]:
    """Return the largest error and a sentence about where it is."""
    error = errors(got, exact, floor)
    worst = int(np.argmax(error))
    operands = ", ".join(repr(array.ravel()[worst]) for array in arrays)
    return float(error.ravel()[worst]), (
        f"{error.ravel()[worst]:.3f} ulp at ({operands}): got {got.ravel()[worst]!r}, "
        f"exact {exact.ravel()[worst]!r}"
    )


def special_points(dtype: str) -> np.ndarray:
    """Return zeros, infinities, NaN, subnormals, extremes, integers and halves, of both signs."""
    limits = np.finfo(dtype)
    tiny, small = limits.smallest_subnormal, limits.smallest_normal
    positive = [0, tiny, 3 * tiny, small - tiny, small, 2 * small, limits.eps, 0.25, 0.5, 0.75]
    positive += [1 - limits.epsneg, 1, 1 + limits.eps, 1.5, 2, 3, 4, 10, 88, 709, 1e22, 1e30]
    positive += [limits.max / 4, limits.max / 2, limits.max, np.inf, np.nan]
    values = np.array(positive, dtype)
    return np.concatenate([values, -values])


def random_points(dtype: str, count: int, seed: int = 0) -> np.ndarray:
    """Return random numbers: a third of all bit patterns, the rest of moderate size."""
    random = np.random.default_rng(seed)
    bits = np.dtype(dtype).itemsize * 8
    patterns = random.integers(0, 2**bits, count // 3, dtype=f"uint{bits}").view(dtype)
    wide = random.uniform(-1, 1, count // 3) * 10.0 ** random.uniform(-8, 3, count // 3)
    near = random.uniform(-4, 4, count - 2 * (count // 3))
    return np.concatenate([patterns, wide.astype(dtype), near.astype(dtype)])
