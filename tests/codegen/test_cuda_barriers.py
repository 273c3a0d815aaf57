"""Every barrier and fence of the kernels is needed: without it the emulator finds an error."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest

from autodiff.codegen.cuda_kernels import prelude
from autodiff.runtime import cuda_functions, cuda_programs, executor
from tests.codegen.cuda_programs import PROGRAMS
from tests.codegen.test_cuda_programs import run
from tests.emulator import EmulatorError

BARRIER = re.compile(r"__(syncthreads|syncwarp|threadfence)\(\);")

#: Programs whose kernels combine values of threads in all ways, some of them several times.
COMBINING = (
    *("rows_of_a_block", "moments_of_long_rows", "columns", "softmax_of_columns", "tall_columns"),
    *("sum_of_squares", "any_and_all", "transposed"),
    *("running_sum", "running_sum_of_many_rows", "running_sum_of_tall_columns"),
)

WHERE = {
    f"prelude line {number}": number
    for number, line in enumerate(prelude().split("\n"), 1)
    if BARRIER.search(line)
}


def without(text, number):
    """Return a text without the barrier in a line, or without those of its kernel (None)."""
    lines = text.split("\n")
    head = len(prelude().split("\n"))
    for i, line in enumerate(lines, 1):
        if i == number or (number is None and i > head):
            lines[i - 1] = BARRIER.sub("", line)
    return "\n".join(lines)


@pytest.mark.parametrize("number", [*WHERE.values(), None], ids=[*WHERE, "tiles"])
def test_every_barrier_is_needed(number, monkeypatch):
    source = cuda_functions._source
    monkeypatch.setattr(cuda_functions, "_source", lambda made: without(source(made), number))
    monkeypatch.setattr(cuda_programs, "_function", cuda_programs._function.__wrapped__)
    monkeypatch.setattr(executor, "_executables", OrderedDict())
    programs = [program for program in PROGRAMS if program.name in COMBINING]
    assert len(programs) == len(COMBINING)
    with pytest.raises(EmulatorError, match=r"no barrier orders|written before it is read"):
        for program in programs:
            run(program, checked=True)
