"""Every construct under every transformation, and pairs and triples of them, against Python loops.

The doubles are the same programs written out with Python's own control flow.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.control.programs import PROGRAMS
from tests.control.transformations import TRANSFORMED, agree, check

PAIRED = ("jvp", "vjp", "grad", "vmap", "jit", "checkpoint")
TRIPLES = [
    ("vmap", "grad", "jit"),
    ("jit", "vmap", "grad"),
    ("grad", "vmap", "jit"),
    ("vjp", "vjp", "jvp"),
    ("vmap", "vmap", "vjp"),
    ("grad", "vmap", "grad"),
    ("vmap", "jvp", "grad"),
    ("jit", "grad", "checkpoint"),
    ("grad", "grad", "vmap"),
]


def _cases(groups):
    return [
        pytest.param(names, program, id=f"{'_of_'.join(names)}_of_{program.name}")
        for names in groups
        for program in PROGRAMS
    ]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_value_is_that_of_the_program_written_out(program):
    agree(program.looped(program.argument), program.plain(program.argument))


@pytest.mark.parametrize(("names", "program"), _cases((name,) for name in TRANSFORMED))
def test_one_transformation_agrees_with_the_program_written_out(names, program):
    check(names, program.looped, program.plain, program.argument)


@pytest.mark.parametrize(("names", "program"), _cases(product(PAIRED, repeat=2)))
def test_pairs_of_transformations_agree_with_the_program_written_out(names, program):
    check(names, program.looped, program.plain, program.argument)


@pytest.mark.parametrize(("names", "program"), _cases(TRIPLES))
def test_triples_of_transformations_agree_with_the_program_written_out(names, program):
    check(names, program.looped, program.plain, program.argument)
