"""What every test runs under: each pass's output verified, random numbers the same in every run.

Compiled kernels are kept in a folder of the checkout, which `make clean` removes.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from autodiff.base.settings import configure

ROOT = Path(__file__).resolve().parent.parent

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
        choices=("auto", "card", "emulator"),
        default="auto",
        help="what tests marked gpu run on: auto takes a card, else the emulator (default: auto)",
    )


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what a library under test might draw from
