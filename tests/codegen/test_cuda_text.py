"""The text of kernels for GPUs: compiled by NVRTC for every architecture, with what it takes there.

NVRTC needs no GPU. Where it is missing these tests are skipped, but for continuous integration,
where it must be there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

import autodiff as ad
from autodiff.codegen.cuda_kernels import can_emit, emit_kernel, program_text
from autodiff.codegen.cuda_multi import emit_multi_kernel
from autodiff.runtime import nvrtc
from autodiff.runtime.nvrtc import CompileError
from autodiff.schedule.kernel_spec import Load
from autodiff.schedule.multi_kernel import MultiKernel
from autodiff.schedule.target import cuda_target
from tests.codegen.cuda_programs import PROGRAMS, Program, kernels_of, schedule_of
from tests.codegen.cuda_resources import ARCHITECTURES, TABLE, resources, table

H100 = cuda_target("sm_90")
MISSING = "NVRTC is not installed: pip install -e .[test-cuda]"


@pytest.fixture
def compiler():
    if nvrtc.loaded() is None:
        assert os.environ.get("CI") != "true", (
            "NVRTC must be installed: pip install -e .[test-cuda]"
        )
        pytest.skip("NVRTC is not installed: pip install -e .[test-cuda]")
    return nvrtc


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_and_spills_nothing(architecture):
    spilled = {name: r for name, r in resources(architecture).items() if r.spilled}
    assert not spilled


def test_registers_and_shared_memory_are_those_of_the_table(compiler):
    recorded = TABLE.read_text(encoding="utf-8")
    version = ".".join(map(str, compiler.version()))
    if f"NVRTC {version}:" not in recorded:
        assert os.environ.get("CI") != "true", f"the table is of another NVRTC than {version}"
        pytest.skip(f"the table is of another NVRTC than {version}")
    found = table()
    assert found == recorded, "python -m tests.codegen.cuda_resources writes the table anew"


def test_wide_programs_read_and_write_many_bytes_at_a_time(compiler):
    kernels = [made for program in PROGRAMS if program.wide for made in kernels_of(program, H100)]
    ptx = compiler.compile_to_ptx(program_text(kernels), "sm_90")
    for made in kernels:
        body = ptx.split(f".entry {made.name}(")[1].split(".entry ")[0]
        assert re.search(r"ld\.global\S*\.v[248]\.", body), made.name


@pytest.mark.parametrize(
    ("dtype", "instruction"),
    [
        (np.float32, r"ld\.global\.nc\.v4\.(f32|u32|b32)"),
        (np.float64, r"ld\.global\.nc\.v2\.(f64|u64|b64)"),
        (np.float16, r"ld\.global\.nc\.v4\.(f32|u32|b32)"),
        (np.int64, r"ld\.global\.nc\.v2\.(f64|u64|b64)"),
    ],
)
def test_contiguous_arrays_are_read_16_bytes_at_a_time(compiler, dtype, instruction):
    program = Program("square", lambda x: x * x, (np.ones(1000, dtype),))
    ptx = compiler.compile_to_ptx(program_text(kernels_of(program, H100)), "sm_90")
    assert re.search(instruction, ptx)


def test_arithmetic_is_exact_by_default(compiler):
    program = Program("quotient", lambda x: np.sqrt(x) / (x + 1), (np.ones(10, np.float32),))
    ptx = compiler.compile_to_ptx(program_text(kernels_of(program, H100)), "sm_90")
    assert "div.rn.f32" in ptx and "sqrt.rn.f32" in ptx
    assert ".ftz" not in ptx and ".approx" not in ptx


def test_text_that_does_not_compile_names_the_compilers_words(compiler):
    with pytest.raises(CompileError, match="undefined"):
        compiler.compile_cuda('extern "C" __global__ void f() { undefined(); }', "sm_90")


@pytest.mark.parametrize(
    ("function", "one", "other"),
    [
        (lambda x: x * x, (1000,), (77,)),
        (lambda x: x.T + 1, (40, 50), (70, 60)),
        (lambda x: np.sum(x, axis=1), (1000, 600), (77, 800)),
        (lambda x: np.sum(x, axis=0), (60, 1000), (30, 800)),
        (lambda x: x / np.sum(x, axis=1, keepdims=True), (100, 50000), (80, 60000)),
        (lambda x: np.sum(x), (500_000,), (70_001,)),
        (lambda x: np.cumsum(x), (500_000,), (70_001,)),
        (lambda x: np.cumsum(x, axis=1), (1000, 600), (77, 800)),
        (lambda x: np.cumsum(x, axis=0), (60, 1000), (30, 800)),
    ],
)
def test_longer_arrays_have_the_same_text(function, one, other):
    def text(shape):
        (made,) = kernels_of(Program("p", function, (np.ones(shape),)), H100)
        return [line for line in made.text.split("\n") if not line.lstrip().startswith("//")]

    assert text(one) == text(other)


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda *arrays: [x * x + 1 for x in arrays], np.float32),
        (lambda *arrays: [np.exp(x) for x in arrays], np.complex128),
    ],
)
def test_other_numbers_of_other_arrays_have_the_same_text(function, dtype):
    def text(shapes):
        arrays = tuple(np.ones(shape, dtype) for shape in shapes)
        (made,) = kernels_of(Program("p", function, arrays), H100)
        lines = [line for line in made.text.split("\n") if not line.lstrip().startswith("//")]
        return made.definitions, lines

    assert text([(5,), (1000,)]) == text([(30, 7), (1,), (4,), *[(n,) for n in range(2, 40)]])


def test_a_kernel_over_many_arrays_has_what_is_each_ones_own_in_a_struct():
    def step(parameters, gradients, rate):
        return [x - rate * g for x, g in zip(parameters, gradients, strict=True)]

    given = [np.ones((3, 5), np.float32), np.ones(70, np.float32)]
    (made,) = kernels_of(Program("update", step, (given, given, np.float32(0.1))), H100)
    assert made.definitions[-1] == (
        "struct update_0_members {\n"
        "  const float* x1[127];\n"
        "  const float* x2[127];\n"
        "  float* y0[127];\n"
        "  i32 n[127];\n"
        "  u32 first_block[127];\n"
        "};"
    )
    assert "update_0(const update_0_members members,\n    const i32 count,\n" in made.text
    assert "const float* __restrict__ x0) {" in made.text
    assert made.grid == (2, 1, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex64])
def test_numbers_of_each_array_are_given_by_value_without_a_stack(compiler, dtype):
    def scaled(arrays, numbers, rate):
        return [x * k - rate for x, k in zip(arrays, numbers, strict=True)]

    one = np.dtype(dtype).type(1)
    program = Program("p", scaled, ([np.ones(5, dtype), np.ones((2, 70), dtype)], [one] * 2, one))
    (multi,) = schedule_of(program).kernels()
    assert isinstance(multi, MultiKernel)
    single = frozenset(k for k, load in enumerate(multi.body.loads) if load.strides == (0,))
    made = emit_multi_kernel(multi, H100, "kernel", numbers=single)
    assert len(single) == 2 and made.definitions[-1].count("struct alignas(8)") == 1
    options = (*compiler.OPTIONS, "--ptxas-options=-v")
    for architecture in ARCHITECTURES:
        _, log = compiler.compile_with_log(program_text([made]), architecture, options)
        assert " 0 bytes stack frame, 0 bytes spill stores" in log


def test_a_long_array_has_indices_of_64_bits():
    x = np.broadcast_to(np.float32(1), (1 << 16, 1 << 15))
    program = Program("long", lambda x: x + np.float32(1), (x,))
    (made,) = kernels_of(program, H100)
    assert "const i64 i = 4 * (i64(blockIdx.x) * blockDim.x + threadIdx.x);" in made.text


def test_operands_that_are_not_aligned_are_read_one_by_one():
    (spec,) = schedule_of(Program("p", lambda x: x * x, (np.ones(64),))).kernels()
    assert "Lanes" in emit_kernel(spec, H100, "kernel").text
    assert "Lanes" not in emit_kernel(spec, H100, "kernel", aligned=False).text


def test_numbers_are_given_by_value():
    program = Program("p", lambda x, rate: x * rate, (np.ones(64), np.float64(0.5)))
    (spec,) = schedule_of(program).kernels()
    text = emit_kernel(spec, H100, "kernel", numbers=frozenset({1})).text
    assert "const double x1" in text and "double* __restrict__ x1" not in text


def test_the_text_has_the_users_names_and_lines():
    def model(x, w):
        hidden = np.tanh(x * w)
        return hidden * hidden

    (made,) = kernels_of(Program("p", model, (np.ones(64), np.ones(64))), H100)
    assert "const double hidden = tanh(v0 * v1);" in made.text
    assert "hidden = np.tanh(x * w)" in made.text
    assert "test_cuda_text.py:" in made.text


def test_a_sum_with_a_negative_is_written_as_a_difference():
    (made,) = kernels_of(Program("p", lambda x: (1 + -x) / (-x * x + 2), (np.ones(64),)), H100)
    assert "= (1.0 - v0) / (-v0 * v0 + 2.0);" in made.text


def test_show_prints_kernels_for_a_gpu_that_is_not_there(capsys):
    ad.show(lambda x: np.sin(x) * 2, np.ones(3), stage="source", device="cuda:sm_80")
    assert 'extern "C" __global__' in capsys.readouterr().out


def test_show_refuses_a_device_it_does_not_know():
    with pytest.raises(ValueError, match=r"device must be cpu, or a GPU .* got device='cuda:70'"):
        ad.show(np.sin, 1.0, device="cuda:70")


@pytest.mark.usefixtures("compiler")
def test_products_are_fused_with_sums_only_where_they_may_be():
    (spec,) = schedule_of(Program("p", lambda x: x * x + x, (np.ones(64),))).kernels()
    fused = [
        nvrtc.compile_to_ptx(program_text([made]), "sm_90").count("fma.rn.f64")
        for made in (emit_kernel(spec, H100, "kernel", contract=c) for c in (True, False))
    ]
    assert fused[0] > 0 == fused[1]


def test_what_there_is_no_text_for_is_refused():
    @dataclass(frozen=True)
    class Unknown(Load):
        anything: tuple[int, ...] = ()

    (spec,) = schedule_of(Program("p", lambda x: x * x, (np.ones(64),))).kernels()
    load = Unknown(0, np.dtype(np.float64), (1,))
    assert can_emit(spec) and not can_emit(replace(spec, loads=(load,)))
