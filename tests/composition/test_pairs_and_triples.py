"""Two and three nested transformations against nested differences and loops."""

from __future__ import annotations

from itertools import product

import pytest

from tests.composition.functions import CASES
from tests.composition.transformations import check_composition

NAMES = ("grad", "jvp", "vjp", "vmap", "jit")
SMALL = [case for case in CASES if case.small]
REAL_ARRAYS = [case for case in CASES if case.is_real_array]
SMALL_REAL_ARRAYS = [case for case in REAL_ARRAYS if case.small]


def _named(names, case):
    return pytest.param(names, case, id=f"{'_of_'.join(names)}_of_{case.name}")


SINGLES = [
    _named((name,), case) for name in (*NAMES, "linearize", "vmap_of_closure") for case in CASES
]
PAIRS = [_named(names, case) for names in product(NAMES, repeat=2) for case in CASES]
TRIPLES = [_named(names, SMALL[i % len(SMALL)]) for i, names in enumerate(product(NAMES, repeat=3))]
WITH_CLOSURES_AND_LINEARIZE = [
    _named(names, SMALL[i % len(SMALL)])
    for i, names in enumerate(
        [
            *product(("linearize", "vmap_of_closure"), NAMES),
            *product(NAMES, ("linearize", "vmap_of_closure")),
            *product(("linearize", "vmap_of_closure"), repeat=2),
            *product(("vmap_of_closure", "linearize"), NAMES, ("vmap_of_closure", "jit")),
        ]
    )
]
JACOBIANS = ("jacfwd", "jacrev", "hessian")
JACOBIANS_ALONE = [_named((name,), case) for name in JACOBIANS for case in REAL_ARRAYS]
WITH_JACOBIANS = [
    _named(names, SMALL_REAL_ARRAYS[i % len(SMALL_REAL_ARRAYS)])
    for i, names in enumerate(
        [
            *product(JACOBIANS, (*NAMES, "linearize")),
            *product((*NAMES, "linearize"), JACOBIANS),
            *product(("jacfwd", "jacrev"), repeat=2),
            *product(("jacfwd", "jacrev"), ("jit", "vmap"), ("jacfwd", "jacrev")),
        ]
    )
]


@pytest.mark.parametrize(("names", "case"), SINGLES)
def test_one_transformation_agrees_with_differences_and_loops(names, case):
    check_composition(names, case.function, case.argument)


@pytest.mark.parametrize(("names", "case"), PAIRS)
def test_a_pair_of_transformations_agrees_with_differences_and_loops(names, case):
    check_composition(names, case.function, case.argument)


@pytest.mark.parametrize(("names", "case"), TRIPLES)
def test_a_triple_of_transformations_agrees_with_differences_and_loops(names, case):
    check_composition(names, case.function, case.argument)


@pytest.mark.parametrize(("names", "case"), WITH_CLOSURES_AND_LINEARIZE)
def test_closures_and_linearizations_compose_with_every_transformation(names, case):
    check_composition(names, case.function, case.argument)


@pytest.mark.parametrize(("names", "case"), JACOBIANS_ALONE)
def test_whole_jacobians_and_hessians_agree_with_differences(names, case):
    check_composition(names, case.function, case.argument)


@pytest.mark.parametrize(("names", "case"), WITH_JACOBIANS)
def test_whole_jacobians_compose_with_every_transformation(names, case):
    check_composition(names, case.function, case.argument)
