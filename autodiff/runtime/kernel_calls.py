"""Kernels of the CPU's calling convention as functions of NumPy arrays.

`kernel_call` is the entry point. There are two ways into a kernel, which do the same:

- through ctypes, which needs nothing but the array interface, and always works;
- through a function that Python calls directly (`autodiff.codegen.cpu_entry`), several times
  faster, which reads the fields of array objects in place. It is used only where `layout_fault`
  finds nothing wrong: with a CPython and a NumPy of known layout, checked on arrays of all kinds
  once in each process, and tried out on a small kernel before it is given to anyone.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from math import prod
from types import CellType
from typing import Any

import numpy as np

from autodiff.codegen import cpu_entry
from autodiff.codegen.cpu_entry import ALONE, LIST
from autodiff.runtime import thread_pool
from autodiff.runtime.cpu_jit import LoadedModule, load
from autodiff.runtime.host import host
from autodiff.runtime.large_arrays import new_array

_Kernel = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True, slots=True)
class ArrayType:
    """An array in C order: its dtype and its shape, None standing for any shape."""

    dtype: np.dtype
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What a kernel is called with and what it gives.

    Args:
        arguments: the arrays it reads, in the order of its pointers.
        outputs: the arrays it writes, which come after them; each with a shape.
        end: its outermost index goes from 0 to this.
        sizes: the sizes it takes.
        chunk: how many values of the outermost index one piece has, where the kernel may be
            divided over threads; None where it may not.
        over: for each output the argument whose memory it takes, if that is possible at no cost of
            its own; None where it takes none.
        form: what a call returns: the only output (ALONE), a LIST of the outputs, or a TUPLE.
    """

    arguments: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    end: int
    sizes: tuple[int, ...] = ()
    chunk: int | None = None
    form: int = LIST
    over: tuple[int | None, ...] = ()

    @property
    def is_divided(self) -> bool:
        """Whether a call consists of several pieces."""
        return self.chunk is not None and self.end > self.chunk


@dataclass(frozen=True, slots=True)
class Guards:
    """Under which circumstances a kernel is the right one: the objects that these still hold."""

    variables: tuple[tuple[ContextVar[Any], Any], ...]
    cells: tuple[tuple[CellType, Any], ...]

    def hold(self) -> bool:
        """Return whether everything is as it was."""
        return all(variable.get() is value for variable, value in self.variables) and all(
            cell.cell_contents is value for cell, value in self.cells
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """How a program is entered: what it is called with, and what it returns.

    Args:
        kinds: the classes of the arguments' leaves.
        structure: the structure of the tuple of arguments; None where each of them is a leaf.
        constants: what the program gets after these.
        form: what a call returns, as in `Signature`; None where it is `rebuilt`.
        rebuilt: from the list of the outputs to what a call returns.
        fallback: is called as the entry is, where the arguments or the guards are otherwise.
        guards: when the program may be run.
    """

    kinds: tuple[type, ...]
    structure: Any
    constants: tuple[Any, ...]
    form: int | None
    rebuilt: Callable[[Sequence[Any]], Any]
    fallback: Callable[..., Any]
    guards: Guards


def kernel_call(
    kernel: int,
    owner: Any,
    signature: Signature,
    fallback: Callable[..., Any],
    *,
    fast: bool = True,
    guards: Guards | None = None,
) -> Callable[..., Any]:
    """Return a function of arrays that runs a kernel and returns its outputs, which are new.

    Arguments that are not what the signature says (another dtype or shape, not in C order or
    misaligned, a subclass, no array at all, too many, by name) are passed to `fallback`, and its
    result is returned. So are all where the guards do not hold.

    Args:
        kernel: address of the kernel.
        owner: kept as long as the function: what the address depends on.
        signature: its arguments and outputs.
        fallback: called with the arguments where they do not match.
        fast: False for the way through ctypes, which lets other Python threads run meanwhile. It
            is for kernels that take long; divided ones always go that way.
        guards: when the kernel may be run; None stands for always.
    """
    if any(output.shape is None for output in signature.outputs):
        raise AssertionError("an output has a shape")
    if signature.form == ALONE and len(signature.outputs) != 1:
        raise AssertionError("only a single output is returned as it is")
    if not fast or signature.is_divided or layout_fault() is not None:
        return _CtypesCall(kernel, owner, signature, fallback, guards)
    return _fast_call(_entry(), kernel, owner, signature, fallback, guards)


# ---- through ctypes


class _CtypesCall:
    """A kernel called through ctypes, which releases Python's lock meanwhile."""

    __slots__ = (
        "_address_of",
        "_arguments",
        "_fallback",
        "_function",
        "_guards",
        "_kernel",
        "_outputs",
        "_owner",
        "_pack",
        "_signature",
        "_sizes",
    )

    def __init__(
        self,
        kernel: int,
        owner: Any,
        signature: Signature,
        fallback: Callable[..., Any],
        guards: Guards | None,
    ) -> None:
        self._kernel = kernel
        self._owner = owner
        self._signature = signature
        self._fallback = fallback
        self._guards = guards
        self._function = _Kernel(kernel)
        self._arguments = tuple((x.dtype, x.shape) for x in signature.arguments)
        self._outputs = tuple((x.shape or (), x.dtype) for x in signature.outputs)
        self._pack = struct.Struct(f"{len(self._arguments) + len(self._outputs)}P").pack
        self._sizes = struct.pack(f"{len(signature.sizes)}q", *signature.sizes)
        self._address_of = _by_field if _fields_fault() is None else _by_interface

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if named or len(arguments) != len(self._arguments):
            return self._fallback(*arguments, **named)
        if self._guards is not None and not self._guards.hold():
            return self._fallback(*arguments)
        signature = self._signature
        for x, (dtype, shape) in zip(arguments, self._arguments, strict=True):
            if (
                type(x) is not np.ndarray
                or (x.dtype is not dtype and x.dtype != dtype)
                or (shape is not None and x.shape != shape)
                or not ((flags := x.flags).c_contiguous and flags.aligned)
            ):
                return self._fallback(*arguments)
        if signature.over:
            if not all(k is None or arguments[k].flags.writeable for k in signature.over):
                return self._fallback(*arguments)
            outputs = [
                new_array(shape, dtype) if k is None else arguments[k].reshape(shape)
                for k, (shape, dtype) in zip(signature.over, self._outputs, strict=True)
            ]
        else:
            outputs = [new_array(shape, dtype) for shape, dtype in self._outputs]
        # Both blocks are made anew or never written, so calls in several threads do not meet.
        pointers = self._pack(*map(self._address_of, (*arguments, *outputs)))
        if signature.is_divided:
            pointers_at, sizes_at = _bytes_address(pointers), _bytes_address(self._sizes)
            thread_pool.run(
                self._kernel, pointers_at, sizes_at, 0, signature.end, signature.chunk or 1
            )
        else:
            self._function(pointers, self._sizes, 0, signature.end)
        if signature.form == LIST:
            return outputs
        return outputs[0] if signature.form == ALONE else tuple(outputs)


def _bytes_address(block: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(block), ctypes.c_void_p).value or 0


def _by_field(array: np.ndarray) -> int:
    """Return an array's address from the array object (0.13 us); its layout has been checked."""
    return _pointer_at(id(array) + cpu_entry.DATA).value or 0


def _by_interface(array: np.ndarray) -> int:
    """Return an array's address by the interface that every NumPy has (1 us)."""
    return array.__array_interface__["data"][0]


_pointer_at = ctypes.c_void_p.from_address


# ---- directly


class _MethodDefinition(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


_FASTCALL = 0x82  # METH_FASTCALL | METH_KEYWORDS

#: NumPy's table of functions: numpy/_core/code_generators/numpy_api.py. The numbers are part of its
#: binary interface, whose version is `_BINARY_INTERFACE`.
_GET_BINARY_INTERFACE, _ARRAY_TYPE, _NEW_FROM_DTYPE = 0, 2, 94
_BINARY_INTERFACE = 0x02000000


def _fast_call(
    entry: LoadedModule,
    kernel: int,
    owner: Any,
    signature: Signature,
    fallback: Callable[..., Any],
    guards: Guards | None = None,
) -> Callable[..., Any]:
    """Return a built-in function whose `__self__` is the table that `autodiff_entry` reads."""
    sizes = np.array(signature.sizes or (0,), dtype=np.int64)
    guard_words = np.array(_guard_words(guards), dtype=np.int64)
    words = [
        len(signature.arguments),
        len(signature.outputs),
        kernel,
        _by_interface(sizes),
        0,
        signature.end,
        id(fallback),
        signature.form,
        _by_interface(guard_words) if guards is not None else 0,
    ]
    for array in (*signature.arguments, *signature.outputs):
        shape = array.shape
        words += [id(array.dtype), -1] if shape is None else [id(array.dtype), len(shape), *shape]
    table = np.array(words, dtype=np.int64)
    table.flags.writeable = False
    definition = _MethodDefinition(
        b"kernel", entry.address("autodiff_entry"), _FASTCALL, b"Run a kernel on arrays."
    )
    # The function keeps its module, which may be any object: here all that it needs.
    needed = (definition, entry, owner, sizes, signature, fallback, guards, guard_words)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    make.restype = ctypes.py_object
    return make(ctypes.addressof(definition), table, needed)


def _guard_words(guards: Guards | None) -> list[int]:
    if guards is None:
        return [0, 0]
    words = [len(guards.variables), len(guards.cells)]
    for place, value in (*guards.variables, *guards.cells):
        words += [id(place), id(value)]
    return words


@cache
def _entry() -> LoadedModule:
    functions = _array_functions()
    externals = {
        "autodiff_ndarray_type": id(np.ndarray),
        "autodiff_new_array": functions[_NEW_FROM_DTYPE],
    }
    for name in cpu_entry.EXTERNALS:
        if name not in externals:
            function = getattr(ctypes.pythonapi, name)
            externals[name] = ctypes.cast(function, ctypes.c_void_p).value
    symbols = ("autodiff_entry", "autodiff_probe")
    return load(cpu_entry.emit_entry(), host(), symbols, externals)


def _array_functions() -> Any:
    """Return NumPy's table of functions, an array of addresses."""
    from_capsule = ctypes.pythonapi.PyCapsule_GetPointer
    from_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]
    from_capsule.restype = ctypes.c_void_p
    capsule = np._core._multiarray_umath._ARRAY_API  # pyright: ignore[reportAttributeAccessIssue]
    address = from_capsule(capsule, None)
    return (ctypes.c_void_p * (_NEW_FROM_DTYPE + 1)).from_address(address)


# ---- whether objects are laid out as the fast way supposes


@cache
def layout_fault() -> str | None:
    """Return why kernels are not called directly in this process; None if they are."""
    fault = _fields_fault()
    if fault is not None:
        return fault
    try:
        functions = _array_functions()
        version = ctypes.CFUNCTYPE(ctypes.c_uint)(functions[_GET_BINARY_INTERFACE])()
        if version != _BINARY_INTERFACE:
            return f"NumPy's binary interface is {version:#x}, not {_BINARY_INTERFACE:#x}"
        if functions[_ARRAY_TYPE] != id(np.ndarray):
            return "NumPy's table of functions is not the one known"
        return _trial_fault(_entry())
    except (AttributeError, ImportError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


@cache
def _fields_fault() -> str | None:
    """Return why array objects may not be read in place; None if they have the known layout."""
    if sys.implementation.name != "cpython" or getattr(sys, "abiflags", "?"):
        return "only CPython with its global lock, and no debug build, has the layout known"
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        return "only the layout of 64-bit little-endian machines is known"
    if not np.__version__.startswith("2."):
        return f"only NumPy 2 has the layout known, not {np.__version__}"
    for array in _specimens():
        if not _has_known_layout(array):
            return f"an array {array.dtype}{array.shape} has another layout"
    held = object()
    cell = CellType(held)
    if _pointer_at(id(cell) + cpu_entry.CONTENTS).value != id(held):
        return "a cell has another layout"
    return None


def _specimens() -> list[np.ndarray]:
    """Return arrays that differ in every field that is read."""
    base = np.arange(24.0).reshape(2, 3, 4)
    bytewise = np.zeros(33, np.uint8)
    return [
        base,
        base.T,
        base[:, ::-1, 1],
        np.array(1.5),
        np.empty((0, 3), np.float32),
        np.ones(5, np.complex128),
        np.ones((2, 2), np.int8),
        bytewise[1:].view(np.float64),
    ]


def _has_known_layout(array: np.ndarray) -> bool:
    at = id(array)
    ndim = ctypes.c_int.from_address(at + cpu_entry.NDIM).value
    flags = ctypes.c_int.from_address(at + cpu_entry.FLAGS).value
    if (
        _pointer_at(at + cpu_entry.TYPE).value != id(np.ndarray)
        or _pointer_at(at + cpu_entry.DATA).value != _by_interface(array)
        or _pointer_at(at + cpu_entry.DTYPE).value != id(array.dtype)
        or ndim != array.ndim
        or bool(flags & cpu_entry.IN_C_ORDER) != array.flags.c_contiguous
        or bool(flags & cpu_entry.ALIGNED) != array.flags.aligned
    ):
        return False
    if not ndim:
        return True
    places = [_pointer_at(at + field).value for field in (cpu_entry.SHAPE, cpu_entry.STRIDES)]
    if None in places:
        return False
    shape, strides = (tuple((ctypes.c_ssize_t * ndim).from_address(p or 0)) for p in places)
    return (shape, strides) == (array.shape, array.strides)


def _trial_fault(entry: LoadedModule) -> str | None:
    """Return what went wrong in calls of a small kernel through `entry`."""
    float64 = np.dtype(np.float64)
    refused = object()
    variable, cell = ContextVar("trial", default=refused), CellType(refused)
    guards = Guards(((variable, refused),), ((cell, refused),))
    for shape in ((), (3,), (2, 1)):
        signature = Signature(
            (ArrayType(float64, shape), ArrayType(float64)),
            (ArrayType(np.dtype(np.int8), (2, 5)), ArrayType(float64, shape)),
            end=4,
            sizes=(3,),
        )
        probe = entry.address("autodiff_probe")
        call = _fast_call(entry, probe, entry, signature, lambda *_: refused, guards)
        x = np.full(shape, 7.25)
        outputs = call(x, np.zeros((2, 2)))
        described = [(type(y), y.dtype, y.shape) for y in outputs]
        expected = [(np.ndarray, np.dtype(np.int8), (2, 5)), (np.ndarray, float64, shape)]
        if described != expected or outputs[1].flat[0] != 7.25 + 4 * bool(prod(shape)):
            return f"a trial gave {described}"
        if call(x) is not refused or call(x.astype(np.float32), x) is not refused:
            return "a trial took arguments it should have refused"
        cell.cell_contents = x
        if call(x, x) is not refused:
            return "a trial did not see that a cell had changed"
        cell.cell_contents = refused
        token = variable.set(x)
        if call(x, x) is not refused:
            return "a trial did not see that a context variable had changed"
        variable.reset(token)
    return None
