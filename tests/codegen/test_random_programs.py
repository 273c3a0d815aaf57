"""Random array programs: fused kernels against kernels of one operation, and those against NumPy.

Seeds are tried in blocks, whose size says how many programs a failing test may name. How many are
tried in all is pytest's option `--programs`. `tests/codegen/program_checks.py` says what is tried.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autodiff.runtime import cpu_kernels
from tests.codegen.array_programs import random_program, seeded
from tests.codegen.program_checks import mistakes

BLOCK = 50

#: The target of a program, by its seed: mostly the widest.
TARGETS = ("auto", "auto", "avx2", "auto", "auto", "auto", "sse2", "auto")


@pytest.fixture(scope="module", autouse=True)
def _a_kernel_for_all_that_can_be():
    """Kernels are made of single operations too, which NumPy computes as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_kernels, "is_worth", cpu_kernels.can_emit)
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first_seed" in metafunc.fixturenames:
        programs = metafunc.config.getoption("programs")
        metafunc.parametrize("first_seed", range(0, programs, BLOCK))


def test_kernels_of_random_programs(first_seed):
    wrong = []
    for seed in range(first_seed, first_seed + BLOCK):
        program = random_program(seeded(seed), most_steps=24 if seed % 40 == 39 else 6)
        found = mistakes(program, target=TARGETS[seed % 8], contracted=seed % 4 == 0)
        if found:
            wrong.append(
                "\n".join([f"seed {seed}, target {TARGETS[seed % 8]}", str(program), *found])
            )
    assert not wrong, "\n\n".join(["", *wrong])


@given(st.data())
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_kernels_of_programs_that_shrink(data):
    """The same, of programs that Hypothesis draws: a failing one is made as simple as can be."""
    program = random_program(lambda n: data.draw(st.integers(0, n - 1)))
    assert not mistakes(program, contracted=True), program
