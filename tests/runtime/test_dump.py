"""A dump tells what was compiled, and its script runs it again."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import autodiff as ad
from tests.composition import fake_cupy
from tests.emulator.device import emulated


@pytest.mark.parametrize("kernels", [False, True])
def test_a_dump_has_every_stage_and_a_script_that_runs(tmp_path, kernels):
    x = np.linspace(0.1, 0.9, 40)
    with ad.override(dump=str(tmp_path), kernels=kernels, reference=False):
        ad.jit(lambda v: np.sort(np.sin(v) * 2.0 + v))(x)
    (folder,) = tmp_path.iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"graph.txt", "simplified.txt", "source-0.txt", "repro.py"} <= names
    assert ("schedule.txt" in names) == kernels
    assert "sin" in (folder / "graph.txt").read_text()
    if kernels:
        schedule = (folder / "schedule.txt").read_text()
        assert "# kernel 0" in schedule
        assert "# not fused: sort" in schedule
        assert "define void @kernel" in (folder / "source-1.txt").read_text()
    run = subprocess.run(
        [sys.executable, str(folder / "repro.py")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("float64 (40,)")


def test_a_dump_of_a_program_on_a_gpu_has_its_text(tmp_path):
    with emulated(), ad.override(dump=str(tmp_path), reference=False):
        ad.jit(lambda v: np.sin(v) * 2.0)(fake_cupy.ndarray(np.ones(40)))
    (folder,) = tmp_path.iterdir()
    assert "# kernel 0" in (folder / "schedule.txt").read_text()
    assert 'extern "C" __global__' in (folder / "source-1.txt").read_text()


def test_nothing_is_written_without_the_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ad.jit(lambda v: v * 2.0)(np.ones(3))
    assert not list(tmp_path.iterdir())
