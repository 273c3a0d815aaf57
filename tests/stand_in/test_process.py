"""Starts the tests that are of real CuPy, in a process whose CUDA runtime is a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stand_in.install import IS_FOR_THIS, why_not

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    "arguments",
    [
        ("--gpu", "stand-in", "tests/stand_in"),
        ("--gpu", "stand-in", "tests/gpu"),
        ("--device", "stand-in", "tests/composition/test_aliasing.py"),
        ("--device", "stand-in", "tests/composition/test_in_place.py"),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_real_cupy_on_the_stand_in(arguments):
    reason = why_not()
    if reason is not None:
        assert os.environ.get("CI") != "true" or not IS_FOR_THIS, reason
        pytest.skip(reason)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )
    assert run.returncode == 0, run.stdout + run.stderr
