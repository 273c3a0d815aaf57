"""What is tested here is real CuPy on the stand-in, in a process that `--gpu stand-in` started."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from autodiff.base.settings import configure, settings
from tests.stand_in.emulation import Emulation, emulated_compiler

HERE = Path(__file__).resolve().parent

#: The only file that runs in every process: it starts one.
STARTS = "test_process.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    is_on_stand_in = config.getoption("--gpu") == "stand-in"
    here = [item for item in items if item.path.parent == HERE]
    left_out = {item for item in here if (item.path.name == STARTS) is is_on_stand_in}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def emulation() -> Iterator[Emulation]:
    """What has been launched and compiled; programs of NumPy's arrays alone stay NumPy's."""
    with emulated_compiler() as emulation:
        before = settings().device
        configure(device="cpu")  # not `override`, within which no function has an entry
        yield emulation
        configure(device=before)


@pytest.fixture
def cupy(emulation: Emulation) -> Iterator[ModuleType]:
    """CuPy, with its first device current afterwards as before."""
    module = import_module("cupy")
    with module.cuda.Device(0):
        yield module
