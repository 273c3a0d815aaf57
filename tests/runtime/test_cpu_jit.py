"""Kernels compiled, kept on disk and loaded again, by our loader and by LLVM's linker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autodiff.base.settings import override
from autodiff.runtime import cpu_jit, host, object_loader
from autodiff.schedule.target import AVX2, SSE2
from tests.runtime import kernels

ROOT = Path(__file__).resolve().parents[2]
X = np.linspace(-1.0, 1.0, 37)


@pytest.fixture
def folder(tmp_path):
    with override(cache_dir=str(tmp_path / "cache")):
        yield tmp_path / "cache"


def _axpy(module: cpu_jit.LoadedModule) -> np.ndarray:
    result = np.zeros_like(X)
    kernels.call(module.address("axpy"), X, result)
    return result


def test_a_kernel_is_compiled_once_and_then_comes_from_disk(folder):
    origins = []
    for _ in range(2):
        module = cpu_jit.load(kernels.AXPY, host.host(), ("axpy",))
        origins.append(module.origin)
        np.testing.assert_array_equal(_axpy(module), X * 3.0 + 0.1)
    assert origins == ["compiled", "disk"]


def test_text_target_and_compiler_all_make_another_program(folder, monkeypatch):
    def origin(text=kernels.AXPY, target=None):
        return cpu_jit.load(text, target or host.host(), ("axpy",)).origin

    assert origin() == "compiled"
    assert origin(kernels.AXPY + "\n") == "compiled"
    assert origin(target=SSE2) == "compiled"
    monkeypatch.setattr(cpu_jit, "compiler_version", lambda: "0.0")
    assert origin() == "compiled"
    monkeypatch.undo()
    assert origin() == origin(target=SSE2) == "disk"


@pytest.mark.parametrize("change", ["flip", "truncate", "empty", "garbage"])
def test_a_spoilt_file_is_compiled_anew_and_replaced(folder, change):
    cpu_jit.load(kernels.AXPY, host.host(), ("axpy",))
    (path,) = folder.glob("*.program")
    sound = path.read_bytes()
    spoilt = {
        "flip": sound[:900] + bytes([sound[900] ^ 0x80]) + sound[901:],
        "truncate": sound[:-100],
        "empty": b"",
        "garbage": b"\0" * 5000,
    }[change]
    path.write_bytes(spoilt)
    module = cpu_jit.load(kernels.AXPY, host.host(), ("axpy",))
    assert module.origin == "compiled"
    np.testing.assert_array_equal(_axpy(module), X * 3.0 + 0.1)
    assert path.read_bytes() == sound


def test_a_cache_that_cannot_be_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("off", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        with override(cache_dir=name):
            for _ in range(2):
                module = cpu_jit.load(kernels.AXPY, host.host(), ("axpy",))
                assert module.origin == "compiled"
            np.testing.assert_array_equal(_axpy(module), X * 3.0 + 0.1)


@pytest.mark.parametrize("refusal", ["elsewhere", "executable memory", "object"])
def test_llvm_links_where_our_loader_cannot(folder, monkeypatch, refusal):
    def refused(*_):
        raise object_loader.UnsupportedObject("as if refused")

    if refusal == "elsewhere":
        monkeypatch.setattr(object_loader, "usable", lambda: False)
    elif refusal == "executable memory":
        monkeypatch.setattr(object_loader._Mapping, "protect", refused)
    else:
        monkeypatch.setattr(object_loader, "_parse", refused)
    for expected in ("compiled", "disk"):
        module = cpu_jit.load(kernels.AXPY, host.host(), ("axpy",))
        assert not isinstance(module.owner, object_loader.LoadedObject)
        assert module.origin == expected
        np.testing.assert_array_equal(_axpy(module), X * 3.0 + 0.1)


def test_the_code_lives_as_long_as_the_module_under_either_linker(folder, monkeypatch):
    for usable in (True, False):
        monkeypatch.setattr(object_loader, "usable", lambda usable=usable: usable)
        modules = [cpu_jit.load(kernels.AXPY, host.host(), ("axpy",)) for _ in range(20)]
        for module in modules[::2]:
            np.testing.assert_array_equal(_axpy(module), X * 3.0 + 0.1)


def test_externals_are_bound_by_address(folder, monkeypatch):
    target = cpu_jit.load(
        "define double @half(double %x) {\n  %r = fmul double %x, 0.5\n  ret double %r\n}",
        host.host(),
        ("half",),
    )
    text = kernels.mapped(
        "f", "  %r = call double @outer(double %v)", "declare double @outer(double)"
    )
    for usable in (True, False):
        monkeypatch.setattr(object_loader, "usable", lambda usable=usable: usable)
        module = cpu_jit.load(text, host.host(), ("f",), {"outer": target.address("half")})
        result = np.zeros_like(X)
        kernels.call(module.address("f"), X, result)
        np.testing.assert_array_equal(result, 0.5 * X)


@pytest.mark.parametrize("target", [AVX2, SSE2], ids=lambda target: target.name)
def test_narrower_targets_give_the_same_results(folder, target):
    if not target.features <= host.host().features:
        pytest.skip("this machine has no such vectors")
    module = cpu_jit.load(kernels.AXPY, target, ("axpy",))
    np.testing.assert_array_equal(_axpy(module), X * 3.0 + 0.1)


def test_faulty_text_and_missing_symbols_are_named(folder):
    with pytest.raises(ValueError, match="load: the text must be a module that LLVM can parse"):
        cpu_jit.load("define nonsense", host.host(), ("f",))
    with pytest.raises(ValueError, match=r"load: the text must define every symbol.*'g'"):
        cpu_jit.load(kernels.AXPY, host.host(), ("axpy", "g"))


SECOND_PROCESS = """
import sys
import numpy as np
from autodiff.base.settings import configure
from autodiff.runtime import cpu_jit, host
from tests.runtime import kernels
configure(cache_dir=sys.argv[1])
module = cpu_jit.load(kernels.AXPY, host.host(), ("axpy",))
x = np.arange(20.0)
y = np.zeros_like(x)
kernels.call(module.address("axpy"), x, y)
assert (y == x * 3.0 + 0.1).all()
print(module.origin, "llvmlite" in sys.modules, "numba" in sys.modules)
"""


def test_a_cached_kernel_is_loaded_without_importing_llvmlite(tmp_path):
    def run():
        command = [sys.executable, "-c", SECOND_PROCESS, str(tmp_path / "cache")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run() == ["compiled", "True", "False"]
    assert run() == ["disk", "False", "False"]


def test_the_version_read_from_the_file_is_the_installed_one():
    from importlib.metadata import version

    assert cpu_jit.compiler_version() == version("llvmlite")
