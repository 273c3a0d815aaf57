"""The host's target: what Linux lists, restricted by the setting, and never more than there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autodiff.base.settings import from_environment, override
from autodiff.runtime import host
from autodiff.schedule.target import AVX2, AVX512, NEON, SSE2

ROOT = Path(__file__).resolve().parents[2]

# Flags as /proc/cpuinfo lists them, of machines of each level.
V1 = "fpu cmov cx8 fxsr mmx sse sse2 syscall lm"
V2 = f"{V1} cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl avx512_bf16"


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes the host seem another machine."""

    def seem(flags: str, architecture: str = "x86_64", cores: int = 6):
        listed = f"processor\t: 0\nmodel name\t: some\nflags\t\t: {flags}\nbogomips\t: 1\n"
        monkeypatch.setattr(host.platform, "machine", lambda: architecture)
        monkeypatch.setattr(host.sys, "platform", "linux")
        monkeypatch.setattr(host.Path, "read_text", lambda *_, **__: listed)
        monkeypatch.setattr(host, "available_cores", lambda: cores)
        host._host.cache_clear()

    yield seem
    monkeypatch.undo()
    host._host.cache_clear()


@pytest.mark.parametrize(
    ("flags", "level"),
    [(V1, SSE2), (V2, SSE2), (V3, AVX2), (V4, AVX512), (V4.replace("avx512vl", ""), AVX2)],
)
def test_the_widest_level_that_is_there_as_a_whole_is_taken(machine, flags, level):
    machine(flags)
    found = host.host()
    assert (found.name, found.vector_bits, found.features) == (
        level.name,
        level.vector_bits,
        level.features,
    )
    assert found.cores == 6


def test_arm_has_neon(machine):
    machine("fp asimd evtstrm", "aarch64")
    assert host.host().features == NEON.features
    assert host.host().triple.startswith("aarch64-")


def test_a_machine_of_another_kind_gets_code_without_vectors(machine):
    machine("", "riscv64")
    found = host.host()
    assert (found.triple.split("-")[0], found.features) == ("riscv64", frozenset())


def test_the_setting_restricts_the_target(machine):
    machine(V4)
    for name, level in (("avx2", AVX2), ("sse2", SSE2), ("avx512", AVX512), ("auto", AVX512)):
        with override(cpu_target=name):
            assert host.host().features == level.features


@pytest.mark.parametrize(("flags", "asked"), [(V3, "avx512"), (V1, "avx2"), (V4, "neon")])
def test_a_level_the_machine_has_not_is_an_error(machine, flags, asked):
    machine(flags)
    with (
        override(cpu_target=asked),
        pytest.raises(ValueError, match=f"cpu_target: the machine must .*'{asked}'[^$]*To fix"),
    ):
        host.host()


def test_a_quota_counts_as_cores(tmp_path):
    path = tmp_path / "cpu.max"
    for text, cores in (
        ("max 100000\n", 8),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("nonsense\n", 8),
        ("1 0\n", 8),
    ):
        path.write_text(text)
        assert host._quota(path, 8) == cores
    assert host._quota(tmp_path / "missing", 8) == 8
    assert host.available_cores() >= 1


def test_settings_of_the_backend_are_checked():
    for variable, text in (
        ("AUTODIFF_CPU_TARGET", "avx1024"),
        ("AUTODIFF_THREADS", "-1"),
        ("AUTODIFF_THREADS", "many"),
        ("AUTODIFF_CACHE_MEGABYTES", "1.5"),
    ):
        with pytest.raises(ValueError, match=variable):
            from_environment({variable: text})
    assert from_environment({"AUTODIFF_THREADS": "3"}).threads == 3


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere llvmlite is asked")
def test_the_target_is_found_without_llvmlite():
    program = "import sys; from autodiff.runtime import host; host.host()"
    program += "; print('llvmlite' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["False"], done.stderr
