"""The device that the tests of this folder run on: a card, or the emulator where there is none.

With `--gpu stand-in` it is real CuPy on the stand-in of tests/stand_in.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

from autodiff.runtime.devices import _usable_gpu
from tests.composition import fake_cupy
from tests.emulator.device import emulated
from tests.stand_in.emulation import emulated_compiler


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """CuPy, or its stand-in; `--gpu card` ends the run where there is no card."""
    wanted = request.config.getoption("--gpu")
    found, reason = (None, "") if wanted == "emulator" else _usable_gpu()
    if wanted == "stand-in":
        with emulated_compiler():
            yield import_module("cupy")
        return
    if found is not None:
        yield found
        return
    if wanted == "card":
        pytest.exit(f"--gpu card: there is no GPU to test: {reason}", returncode=2)
    with emulated():
        yield fake_cupy.cupy
