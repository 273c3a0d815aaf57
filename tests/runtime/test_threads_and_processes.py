"""Whole programs by kernels on several threads, in forked and in separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

import autodiff as ad
from autodiff import tree
from autodiff.base.settings import settings
from autodiff.passes.pipeline import simplify
from autodiff.runtime import cpu_kernels
from autodiff.runtime.cpu_kernels import PIECE
from autodiff.runtime.executor import Executable

ROOT = Path(__file__).resolve().parents[2]
RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _by_kernels():
    with ad.override(kernels=True, reference=False):
        yield


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


#: Programs of more points than one thread takes at a time, and arguments.
PROGRAMS = {
    "points": (lambda x: (np.sin(x) * x, x > 0.3), (3 * PIECE + 17,)),
    "rows": (softmax, (611, 700)),
    "short rows": (lambda x: np.sum(x * x, axis=-1), (50_000, 5)),
    "columns": (lambda x: np.sum(np.exp(x), axis=0), (300, 1501)),
    "middle axis": (lambda x: np.sum(x * 3, axis=1), (70, 60, 50)),
    "everything": (lambda x: (np.sum(np.tanh(x)), np.max(x)), (5 * PIECE + 3,)),
    "gradient": (ad.grad(lambda x: np.sum(softmax(x) ** 2)), (520, 400)),
}


def anew(f, x, monkeypatch):
    """Return what kernels made for the settings in force give: how they are divided is theirs."""
    monkeypatch.setattr(cpu_kernels, "_functions", OrderedDict())
    outputs = Executable(simplify(ad.make_graph(f)(x)), compile_now=True)(x)
    made = [getattr(k, "_partial", k) for k in cpu_kernels._functions.values()]
    assert settings().threads == 1 or any(k._signature.is_divided for k in made)
    return outputs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_have_the_same_bits_on_any_number_of_threads(name, dtype, monkeypatch):
    f, shape = PROGRAMS[name]
    x = RANDOM.normal(size=shape).astype(dtype)
    with ad.override(threads=1):
        alone = anew(f, x, monkeypatch)
    for y, expected in zip(alone, tree.leaves(f(x)), strict=True):
        exact = np.asarray(expected)
        near = 3e-4 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(y, exact, rtol=near, atol=near)
    for threads in (2, 3, 5):
        with ad.override(threads=threads):
            divided = anew(f, x, monkeypatch)
        for one, other in zip(divided, alone, strict=True):
            assert one.tobytes() == other.tobytes(), threads


def test_kernels_called_from_several_threads_and_from_within_each_other():
    """Each thread runs kernels that are divided, whose callbacks run others that are."""
    inner = ad.jit(lambda v: np.cos(v) * v + 0.5)
    x = RANDOM.normal(size=2 * PIECE + 9)

    def called(v):
        return inner(np.asarray(v) * 2.0)

    outer = ad.jit(lambda v, k: np.sin(ad.pure_callback(called, v, v) + k) * v - k)
    numbers = [np.float64(k) for k in range(4)]
    with ad.override(threads=1):
        expected = [outer(x, k) for k in numbers]
    together = Barrier(len(numbers))

    def work(k):
        with ad.override(threads=3, kernels=True, reference=False):
            together.wait()
            return [outer(x, k) for _ in range(12)]

    with ThreadPoolExecutor(len(numbers)) as pool:
        results = list(pool.map(work, numbers))
    for found, alone in zip(results, expected, strict=True):
        assert all(y.tobytes() == alone.tobytes() for y in found)


def _run(program: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"AUTODIFF_KERNELS": "1", "AUTODIFF_REFERENCE": "0"} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKING = """
import os, threading
import numpy as np
import autodiff as ad
from autodiff.base.settings import configure
configure(threads=4, cache_dir="off", verify=True)
x = np.linspace(0.0, 1.0, 300_000)
f = ad.jit(lambda v: np.sin(v) * v + 1.0)
expected = f(x).tobytes()
stop = False
def call():
    while not stop:
        f(x)
def compile():
    k = 0.0
    while not stop:
        k += 1.0
        ad.jit(lambda v: v * 2.0 + k)(x[:5])
workers = [threading.Thread(target=work) for work in (call, call, compile)]
for worker in workers:
    worker.start()
codes = set()
for _ in range(8):
    child = os.fork()
    if child == 0:
        good = f(x).tobytes() == expected
        fresh = ad.jit(lambda v: v * 3.0 - 1.0)(x)
        os._exit(0 if good and (np.abs(fresh - (x * 3.0 - 1.0)) < 1e-15).all() else 3)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
for worker in workers:
    worker.join()
print(*codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_processes_forked_while_kernels_run_and_compile_do_both_themselves():
    assert _run(FORKING) == "0\n"


SHARING = """
import sys
import numpy as np
import autodiff as ad
from autodiff.runtime import cpu_jit
compiled = 0
compile_object = cpu_jit.compile_object
def counted(*arguments):
    global compiled
    compiled += 1
    return compile_object(*arguments)
cpu_jit.compile_object = counted
x = np.linspace(-2.0, 2.0, 700)
exact = lambda v, k: np.sum(np.exp(-v * v) * (v + k)) + np.sin(v)
for k in range(6):
    found = ad.jit(lambda v: exact(v, float(k)))(x)
    assert np.abs(found - exact(x, float(k))).max() < 1e-12
print(compiled, "llvmlite" in sys.modules)
"""


def _shared(folder: Path, target: str = "auto") -> list[str]:
    environment = {"AUTODIFF_CACHE_DIR": str(folder), "AUTODIFF_CPU_TARGET": target}
    return _run(SHARING, **environment).split()


def test_processes_of_different_processors_share_a_folder_that_they_fill_at_once(tmp_path):
    """And take nothing that was made for another one, nor a file that has been spoilt."""
    folder = tmp_path / "cache"
    targets = ["auto", "auto", "sse2", "sse2"]
    with ThreadPoolExecutor(len(targets)) as pool:
        list(pool.map(lambda target: _shared(folder, target), targets))
    files = sorted(folder.iterdir())
    assert all(path.suffix == ".program" for path in files)
    for target in ("auto", "sse2"):
        assert _shared(folder, target) == ["0", "False"]
    count = int(_shared(tmp_path / "other", "auto")[0])
    assert count > 0
    assert len(files) > count  # each processor has programs of its own
    for k, path in enumerate(files):
        contents = bytearray(path.read_bytes())
        contents[(1009 * k) % len(contents)] ^= 1
        path.write_bytes(contents if k % 2 else contents[: len(contents) // 2])
    assert _shared(folder) == [str(count), "True"]
    assert _shared(folder) == ["0", "False"]
