"""The pool does every piece once, for any number of threads, callers, nestings and forks."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autodiff.base.settings import override
from autodiff.codegen import cpu_pool
from autodiff.runtime import cpu_jit, host, thread_pool
from autodiff.schedule.target import AVX2, NEON
from tests.runtime import kernels

ROOT = Path(__file__).resolve().parents[2]

# Records a piece: adds 1 to count[i] for its indices, and writes its end at ends[begin].
PIECES = """
define void @pieces(ptr %pointers, ptr %sizes, i64 %begin, i64 %end) nounwind {
entry:
  %count = load ptr, ptr %pointers
  %pe = getelementptr ptr, ptr %pointers, i64 1
  %ends = load ptr, ptr %pe
  %add = load i64, ptr %sizes
  %ae = getelementptr i64, ptr %ends, i64 %begin
  store i64 %end, ptr %ae
  br label %head
head:
  %i = phi i64 [%begin, %entry], [%next, %body]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %body, label %done
body:
  %ac = getelementptr i64, ptr %count, i64 %i
  %c = load i64, ptr %ac
  %c1 = add i64 %c, %add
  store i64 %c1, ptr %ac
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}
"""

# Runs `pieces` through the pool from within a piece: index i stands for [100 i, 100 i + 100).
NESTED = """
declare void @pieces(ptr, ptr, i64, i64)
declare void @autodiff_pool_run(ptr, ptr, ptr, i64, i64, i64)
define void @nested(ptr %pointers, ptr %sizes, i64 %begin, i64 %end) nounwind {
  %from = mul i64 %begin, 100
  %to = mul i64 %end, 100
  call void @autodiff_pool_run(ptr @pieces, ptr %pointers, ptr %sizes,
                               i64 %from, i64 %to, i64 7)
  ret void
}
"""


class _Recorder:
    def __init__(self, length: int, add: int = 1) -> None:
        self.count = np.zeros(length, np.int64)
        self.ends = np.zeros(length, np.int64)
        self._pointers = (ctypes.c_void_p * 2)(self.count.ctypes.data, self.ends.ctypes.data)
        self._sizes = (ctypes.c_int64 * 1)(add)
        self.addresses = ctypes.addressof(self._pointers), ctypes.addressof(self._sizes)

    def run(self, kernel: int, begin: int, end: int, chunk: int) -> None:
        thread_pool.run(kernel, *self.addresses, begin, end, chunk)


@pytest.fixture(scope="module")
def pieces():
    with override(cache_dir="off"):
        module = cpu_jit.load(PIECES, host.host(), ("pieces",))
    yield module.address("pieces")
    del module


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("begin", "end", "chunk"),
    [(0, 1000, 10), (0, 1000, 7), (3, 1000, 1), (0, 5, 100), (0, 0, 1), (5, 5, 3), (17, 18, 1)],
)
def test_the_pieces_are_the_same_for_any_number_of_threads(pieces, threads, begin, end, chunk):
    recorder = _Recorder(1001)
    with override(threads=threads):
        recorder.run(pieces, begin, end, chunk)
    expected = np.zeros(1001, np.int64)
    expected[begin:end] = 1
    np.testing.assert_array_equal(recorder.count, expected)
    starts = np.arange(begin, end, chunk)
    np.testing.assert_array_equal(np.flatnonzero(recorder.ends), starts)
    np.testing.assert_array_equal(recorder.ends[starts], np.minimum(starts + chunk, end))


def test_many_small_jobs_of_changing_arguments_are_each_done_once(pieces):
    recorders = [_Recorder(40 + 13 * i, add=i + 1) for i in range(5)]
    with override(threads=4):
        for job in range(4000):
            recorder = recorders[job % 5]
            recorder.run(pieces, 0, recorder.count.size, 1 + job % 11)
    for i, recorder in enumerate(recorders):
        np.testing.assert_array_equal(recorder.count, 800 * (i + 1))


def test_callers_in_several_threads_do_not_disturb_each_other(pieces):
    recorders = [_Recorder(300, add=i + 1) for i in range(4)]

    def work(recorder):
        with override(threads=3):
            for _ in range(500):
                recorder.run(pieces, 0, 300, 9)

    callers = [threading.Thread(target=work, args=(recorder,)) for recorder in recorders]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for i, recorder in enumerate(recorders):
        np.testing.assert_array_equal(recorder.count, 500 * (i + 1))


def test_a_kernel_may_call_the_pool(pieces):
    entry = thread_pool.entry_point()
    if entry is None:
        pytest.skip("no pool on this system")
    with override(cache_dir="off", threads=3):
        module = cpu_jit.load(
            NESTED, host.host(), ("nested",), {"pieces": pieces, "autodiff_pool_run": entry}
        )
        recorder = _Recorder(5000)
        for _ in range(50):
            recorder.run(module.address("nested"), 0, 50, 3)
    np.testing.assert_array_equal(recorder.count, 50)


def test_results_are_those_of_one_call_of_the_kernel():
    module = cpu_jit.load(kernels.SINE, host.host(), ("sine",))
    x = np.linspace(-10, 10, 20_001)
    whole, divided = np.zeros_like(x), np.zeros_like(x)
    kernels.call(module.address("sine"), x, whole)
    pointers = (ctypes.c_void_p * 2)(x.ctypes.data, divided.ctypes.data)
    with override(threads=2):
        address = ctypes.addressof(pointers)
        thread_pool.run(module.address("sine"), address, address, 0, x.size, 500)
    np.testing.assert_array_equal(divided, whole)


def test_without_a_pool_the_caller_does_all_pieces(pieces, monkeypatch):
    monkeypatch.setattr(thread_pool, "_pool", None)
    monkeypatch.setattr(thread_pool, "supports", lambda _: False)
    assert thread_pool.entry_point() is None
    recorder = _Recorder(100)
    recorder.run(pieces, 2, 99, 10)
    assert recorder.count.sum() == 97
    np.testing.assert_array_equal(np.flatnonzero(recorder.ends), np.arange(2, 99, 10))


def test_the_pool_can_be_compiled_for_every_system_it_supports():
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    for target, waiting in ((AVX2, "pause"), (NEON, "yield")):
        assert cpu_pool.supports(target)
        machine = binding.Target.from_triple(target.triple).create_target_machine(
            cpu=target.name, features=target.llvm_features, opt=2, reloc="pic"
        )
        module = binding.parse_assembly(cpu_pool.emit_pool(target))
        module.verify()
        assembly = machine.emit_assembly(module)
        assert waiting in assembly
        assert "autodiff_pool_run" in assembly
    elsewhere = replace(NEON, triple="aarch64-apple-darwin")
    assert not cpu_pool.supports(elsewhere)


def _run(program: str) -> str:
    """Run a program in a process of its own, in which `kernel` and `recorder` are ready."""
    start = """
import os, sys, threading, time
from autodiff.base.settings import configure
from autodiff.runtime import cpu_jit, host, thread_pool
from tests.runtime.test_thread_pool import PIECES, _Recorder
configure(threads=4, cache_dir="off")
module = cpu_jit.load(PIECES, host.host(), ("pieces",))
kernel = module.address("pieces")
recorder = _Recorder(1000)
def tasks():
    return len(os.listdir("/proc/self/task"))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", start + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="counts threads through /proc")


@on_linux
def test_as_many_threads_are_started_as_the_setting_says():
    program = """
before = tasks()
recorder.run(kernel, 0, 1000, 2000)
print(tasks() - before)
recorder.run(kernel, 0, 1000, 10)
print(tasks() - before)
configure(threads=2)
recorder.run(kernel, 0, 1000, 10)
configure(threads=6)
recorder.run(kernel, 0, 1000, 10)
print(tasks() - before)
"""
    assert _run(program).split() == ["0", "3", "5"]


@on_linux
def test_a_forked_process_starts_threads_of_its_own():
    program = """
recorder.run(kernel, 0, 1000, 10)
child = os.fork()
if child == 0:
    good = tasks() == 1
    for _ in range(100):
        recorder.run(kernel, 0, 1000, 10)
    good = good and tasks() == 4 and (recorder.count == 101).all()
    grandchild = os.fork()
    if grandchild == 0:
        recorder.run(kernel, 0, 1000, 10)
        os._exit(0 if (recorder.count == 102).all() else 4)
    code = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
    os._exit(code if good else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
recorder.run(kernel, 0, 1000, 10)
print(recorder.count.min(), recorder.count.max())
"""
    assert _run(program).split() == ["0", "2", "2"]


@on_linux
def test_a_process_forked_while_the_pool_works_is_not_stuck():
    program = """
stop = False
def work():
    other = _Recorder(200_000)
    while not stop:
        other.run(kernel, 0, 200_000, 5)
worker = threading.Thread(target=work)
worker.start()
codes = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        for _ in range(20):
            recorder.run(kernel, 0, 1000, 10)
        os._exit(0 if (recorder.count == 20).all() and tasks() == 4 else 3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
worker.join()
print(*sorted(set(codes)))
"""
    assert _run(program).split() == ["0"]


def test_a_process_ends_well_while_workers_wait_actively():
    for _ in range(3):
        assert _run("recorder.run(kernel, 0, 1000, 10)\nprint('end')") == "end\n"


def test_pool_and_direct_calls_work_when_llvm_links_them():
    program = """
from autodiff.runtime import kernel_calls, object_loader
object_loader.usable = lambda: False
recorder.run(kernel, 0, 1000, 10)
print((recorder.count == 1).all(), kernel_calls.layout_fault())
"""
    assert _run(program) == "True None\n"


@on_linux
def test_workers_take_no_signals():
    program = """
import signal
others = set(os.listdir("/proc/self/task"))
recorder.run(kernel, 0, 1000, 10)
caught = []
signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
for task in set(os.listdir("/proc/self/task")) - others:
    with open(f"/proc/self/task/{task}/status") as status:
        blocked = [int(line.split()[1], 16) for line in status if line.startswith("SigBlk")][0]
    print(blocked >> (signal.SIGUSR1 - 1) & 1)
os.kill(os.getpid(), signal.SIGUSR1)
print(caught)
"""
    assert _run(program).split() == ["1"] * 3 + ["[1]"]
