"""The tests of lowering rules, with rules written as CUDA C++ and run by the emulator."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff.ir.primitive import primitives
from autodiff.schedule.target import cuda_target
from tests.codegen import test_lowering_rules as rules
from tests.codegen.cuda_rules import CudaKernels
from tests.primitives.sampling import names

GPU = cuda_target("sm_90")


@pytest.fixture(autouse=True)
def _on_a_gpu(monkeypatch):
    monkeypatch.setattr(rules, "Kernels", CudaKernels)


@pytest.mark.parametrize("name", names(lambda p: p.kind == "elementwise"))
def test_a_kernel_gives_the_reference_values(name):
    wrong = rules._mistakes(primitives[name], GPU, 1)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", rules._EXACT_BINARY)
def test_operations_of_two_numbers_have_numpys_bits_at_the_edges(name):
    rules.test_operations_of_two_numbers_have_numpys_bits_at_the_edges(name, GPU, 1)


def test_casts_between_all_types_have_numpys_bits():
    rules.test_casts_between_all_types_have_numpys_bits(GPU, 1)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_float_survives_a_kernel(name):
    rules.test_every_16_bit_float_survives_a_kernel(name, GPU, 1)


@pytest.mark.parametrize("wide", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rounding_to_16_bits_is_done_once_and_to_even(name, wide):
    rules.test_rounding_to_16_bits_is_done_once_and_to_even(name, wide, GPU, 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scaling_by_any_power_of_two_rounds_once(dtype):
    rules.test_scaling_by_any_power_of_two_rounds_once(dtype, GPU, 1)


@pytest.mark.parametrize("name", names(lambda p: p.name.startswith("reproducible_")))
def test_reproducible_functions_have_the_same_bits_in_kernels(name):
    rules.test_reproducible_functions_have_the_same_bits_in_kernels(name, GPU, 1)
