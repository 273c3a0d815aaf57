"""What every test runs under: each pass's output verified, random numbers the same in every run.

Compiled kernels are kept in a folder of the checkout, which `make clean` removes.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

#: Where programs run; the emulator is a device of the tests, of which the library does not know.
DEVICE = os.environ.get("AUTODIFF_DEVICE", "cpu")
if DEVICE == "emulator":
    del os.environ["AUTODIFF_DEVICE"]

from autodiff.base.settings import configure, settings  # noqa: E402 - reads the environment

ROOT = Path(__file__).resolve().parent.parent

#: Tests that say themselves what runs where, and with which arrays, or that are of NumPy's programs
#: alone; of tests/. Single ones are marked `of_numpy`.
NOT_ON_A_DEVICE = (
    *("bench", "callbacks", "codegen", "emulator", "packaging", "runtime", "schedule"),
    *(f"composition/test_{name}.py" for name in ("direct_calls", "donation", "exported_arrays")),
)

#: Folders of tests that are about kernels: these run, whatever AUTODIFF_REFERENCE says.
OF_KERNELS = ("bench", "codegen", "emulator", "gpu", "runtime", "schedule")

configure(verify=True, cache_dir=str(ROOT / ".pytest_cache" / "kernels"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--programs",
        type=int,
        default=2000,
        help="how many random programs the kernels are tried with (default: 2000, about a minute)",
    )
    parser.addoption(
        "--gpu",
        choices=("auto", "card", "emulator", "stand-in"),
        default="auto",
        help="what tests marked gpu run on: auto takes a card, else the emulator; stand-in is real "
        "CuPy on a stand-in for CUDA's runtime, which is for the whole process (default: auto)",
    )
    parser.addoption(
        "--device",
        choices=("cpu", "emulator", "stand-in", "card"),
        default="emulator" if DEVICE == "emulator" else "cpu",
        help="where programs of NumPy arrays run: emulator is the path of CuPy's arrays, with its "
        "kernels run by tests/emulator, stand-in the same with real CuPy, card CuPy on a GPU "
        "(default: cpu, or what AUTODIFF_DEVICE says)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if "stand-in" in (config.getoption("--gpu"), config.getoption("--device")):
        # before anything imports CuPy
        from tests.stand_in.emulation import connected
        from tests.stand_in.install import why_not

        reason = why_not()
        if reason is not None:
            pytest.exit(f"--gpu stand-in: {reason}", returncode=2)
        connected()
    if config.getoption("--device") == "card":
        from autodiff.runtime.devices import _usable_gpu

        cupy, reason = _usable_gpu()
        if cupy is None:
            pytest.exit(f"--device card: there is no GPU: {reason}", returncode=2)


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what a library under test might draw from


@pytest.fixture(autouse=True)
def _kernels_where_they_are_tested(request):
    is_of_kernels = any(request.path.is_relative_to(ROOT / "tests" / x) for x in OF_KERNELS)
    if not (is_of_kernels and settings().reference):
        yield
        return
    configure(reference=False)
    yield
    configure(reference=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device") == "cpu":
        return
    apart = [ROOT / "tests" / path for path in NOT_ON_A_DEVICE]
    left_out = [
        item
        for item in items
        if item.get_closest_marker("of_numpy") or any(item.path.is_relative_to(x) for x in apart)
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(autouse=True)
def _on_the_device(request):
    device = request.config.getoption("--device")
    if device == "cpu":
        yield
        return
    if device == "emulator":
        from tests.emulator.suite import numpy_programs_on_device as on_device
    elif device == "card":
        from tests.emulator.suite import numpy_programs_on_cupy as on_device
    else:
        from tests.stand_in.emulation import numpy_programs_on_stand_in as on_device

    with on_device():
        yield
