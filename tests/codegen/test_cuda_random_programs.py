"""Random array programs on CuPy's arrays, by the laws that hold of the CPU's kernels.

The emulator runs the kernels with every access checked, in an order of threads that differs from
launch to launch. `tests/codegen/program_checks.py` says what is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from autodiff.runtime.cuda_kernels import why_not_computed
from autodiff.runtime.cuda_programs import cuda_function
from autodiff.runtime.executor import Executable
from tests.codegen import program_checks
from tests.codegen.array_programs import random_program, seeded
from tests.composition import fake_cupy
from tests.emulator.device import DEVICE, emulated

BLOCK = 5


def _there(arrays: Sequence[Any]) -> list[Any]:
    return [fake_cupy.ndarray(x) if isinstance(x, np.ndarray) else x for x in arrays]


def _back(arrays: Sequence[Any]) -> list[np.ndarray]:
    return [x.get() for x in arrays]


class _ExecutableThere:
    """An executable run on arrays of the device."""

    def __init__(self, *given: Any, **options: Any) -> None:
        self._executable = Executable(*given, **options)

    def __call__(self, *arrays: Any) -> list[np.ndarray]:
        return _back(self._executable(*_there(arrays)))


def _function_there(spec: Any) -> Any:
    """Return a kernel as a function of arrays of the host."""
    call = cuda_function(spec, DEVICE).call
    return lambda *operands: _back(call(*_there(operands)))


@pytest.fixture(autouse=True)
def _kernels_of_the_device(monkeypatch):
    monkeypatch.setattr(program_checks, "Executable", _ExecutableThere)
    monkeypatch.setattr(program_checks, "kernel_function", _function_there)
    monkeypatch.setattr(program_checks, "why_not_computed", why_not_computed)


@pytest.mark.parametrize("first_seed", range(0, 40, BLOCK))
def test_kernels_of_random_programs_on_the_device(first_seed):
    wrong = []
    with emulated(checked=True, seed=first_seed) as device:
        for seed in range(first_seed, first_seed + BLOCK):
            program = random_program(seeded(seed))
            found = program_checks.mistakes(program, contracted=seed % 4 == 0)
            if found:
                wrong.append("\n".join([f"seed {seed}", str(program), *found]))
        assert device.launched
    assert not wrong, "\n\n".join(["", *wrong])
