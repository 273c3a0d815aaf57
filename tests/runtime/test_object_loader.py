"""Our loader of object files against LLVM's linker: same code, same results."""

from __future__ import annotations

import ctypes
import gc
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from autodiff.runtime import cpu_jit, object_loader
from autodiff.runtime.host import host
from autodiff.runtime.object_loader import UnsupportedObject, load_object
from tests.runtime import kernels

loads_here = pytest.mark.skipif(
    not object_loader.usable(), reason="the loader is for x86-64 Linux; LLVM links elsewhere"
)
X = np.linspace(-3.0, 5.0, 83)

PROGRAMS = {
    "axpy": (kernels.AXPY, X * 3.0 + 0.1),
    "sine": (kernels.SINE, np.array([math.sin(x) for x in X])),
    "table": (kernels.TABLE, X * np.resize([1.0, 10.0, 100.0, 1000.0], X.size)),
    "pointers": (
        kernels.POINTERS,
        np.where(np.arange(X.size) % 2, [math.cos(x) for x in X], X + X),
    ),
    "large": (kernels.large(3000), kernels.large_by_numpy(X, 3000)),
}


@loads_here
@pytest.mark.parametrize("name", PROGRAMS)
def test_both_linkers_give_the_results_of_numpy(name):
    text, expected = PROGRAMS[name]
    contents = cpu_jit.compile_object(text, host())
    ours = load_object(contents)
    theirs, owner = cpu_jit.link_by_llvm(contents, host(), (name,), {})
    for address in (ours.addresses[name], theirs[name]):
        result = np.zeros_like(X)
        kernels.call(address, X, result)
        np.testing.assert_array_equal(result, expected)
    del owner


@loads_here
def test_variables_can_be_written_and_start_as_the_text_says():
    loaded = load_object(cpu_jit.compile_object(kernels.TABLE, host()))
    kernels.call(loaded.addresses["table"], X, np.zeros_like(X))
    where = ctypes.CFUNCTYPE(ctypes.c_void_p)(loaded.addresses["where"])()
    assert ctypes.c_int64.from_address(where).value == 40 + X.size


@loads_here
def test_no_page_is_writable_and_executable_at_once():
    loaded = load_object(cpu_jit.compile_object(kernels.TABLE, host()))
    where = ctypes.CFUNCTYPE(ctypes.c_void_p)(loaded.addresses["where"])()
    permissions = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, allowed = line.split()[:2]
        begin, end = (int(number, 16) for number in span.split("-"))
        for name, address in (("code", loaded.addresses["table"]), ("variable", where)):
            if begin <= address < end:
                permissions[name] = allowed
    assert permissions == {"code": "r-xp", "variable": "rw-p"}


@loads_here
def test_symbols_given_by_address_come_before_those_of_the_process():
    @ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
    def tripled(x):
        return 3.0 * x

    address = ctypes.cast(tripled, ctypes.c_void_p).value
    loaded = load_object(cpu_jit.compile_object(kernels.SINE, host()), {"sin": address})
    result = np.zeros_like(X)
    kernels.call(loaded.addresses["sine"], X, result)
    np.testing.assert_array_equal(result, 3.0 * X)


@loads_here
def test_the_memory_is_given_back_when_the_code_is_dropped():
    loaded = load_object(cpu_jit.compile_object(kernels.AXPY, host()))
    address = loaded.addresses["axpy"]
    del loaded
    gc.collect()
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, allowed = line.split()[:2]
        begin, end = (int(number, 16) for number in span.split("-"))
        assert not (begin <= address < end and allowed == "r-xp" and line.split()[4] == "0")


@loads_here
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b[:40], "malformed|truncated"),
        (lambda b: b"", "not a 64-bit"),
        (lambda b: b"\x7fELF\x01" + b[5:], "not a 64-bit"),
        (lambda b: b[:18] + struct.pack("<H", 183) + b[20:], "not a relocatable object"),
        (lambda b: b[: len(b) // 2], "malformed|truncated"),
    ],
)
def test_what_is_no_object_for_this_machine_is_refused(change, reason):
    contents = cpu_jit.compile_object(kernels.SINE, host())
    with pytest.raises(UnsupportedObject, match=reason):
        load_object(change(contents))


@loads_here
def test_an_altered_object_raises_or_loads_and_never_writes_elsewhere():
    contents = cpu_jit.compile_object(kernels.TABLE, host())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        altered = bytearray(contents)
        for place in rng.integers(0, len(altered), 3):
            altered[place] = rng.integers(0, 256)
        try:
            load_object(bytes(altered))
        except UnsupportedObject:
            refused += 1
    assert refused > 50


@loads_here
def test_an_undefined_symbol_and_thread_local_variables_are_refused():
    text = kernels.mapped(
        "f", "  %r = call double @no_such_thing(double %v)", "declare double @no_such_thing(double)"
    )
    with pytest.raises(UnsupportedObject, match="undefined symbol no_such_thing"):
        load_object(cpu_jit.compile_object(text, host()))
    text = "@t = thread_local global i64 0\ndefine ptr @f() { ret ptr @t }"
    with pytest.raises(UnsupportedObject):
        load_object(cpu_jit.compile_object(text, host()))
