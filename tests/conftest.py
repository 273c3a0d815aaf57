"""What every test runs under: each pass's output verified, random numbers the same in every run."""

from __future__ import annotations

import random

import numpy as np
import pytest

from autodiff.base.settings import configure

configure(verify=True)


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what a library under test might draw from
