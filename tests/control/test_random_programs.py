"""Random programs that nest constructs, transformed, against Python's own loops."""

from __future__ import annotations

import numpy as np
import pytest

from tests.control.random_programs import Looped, WrittenOut, random_program
from tests.control.transformations import check

COMPOSITIONS = (
    (),
    ("jvp",),
    ("vjp",),
    ("grad",),
    ("vmap",),
    ("jit",),
    ("vmap", "grad"),
    ("jit", "vjp"),
    ("grad", "grad"),
    ("jvp", "grad"),
    ("vmap", "jvp"),
    ("grad", "vmap"),
    ("vjp_in_jit",),
    ("jit", "vmap", "vjp"),
)


@pytest.mark.parametrize("seed", [*range(500), 2210])
def test_a_random_program_agrees_with_itself_written_out(seed):
    program = random_program(seed)
    random = np.random.default_rng(seed)
    names = COMPOSITIONS[seed % len(COMPOSITIONS)]
    x = random.uniform(-1.0, 1.0, 2)
    check(names, program(Looped), program(WrittenOut), x)
