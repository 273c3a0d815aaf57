"""Kernels as one kernel a pass give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cuda_kernels import schedule_for_cuda
from autodiff.schedule.kernel_spec import Reduce, passes
from autodiff.schedule.stages import in_stages
from tests.codegen.cuda_programs import layer_norm, log_softmax, softmax
from tests.schedule.interpreter import run_kernel


def run_stages(spec, operands):
    known = dict(enumerate(operands))
    outputs = {}
    for stage in in_stages(spec):
        results = run_kernel(stage.spec, [known[k] for k in stage.operands])
        for k, x in zip(stage.outputs, results, strict=True):
            (outputs if k >= 0 else known)[k] = x
    return [outputs[k] for k in range(len(spec.stores))]


X = np.random.default_rng(2).normal(size=(4, 9))
GAIN = X[0] + 3


@pytest.mark.parametrize(
    ("function", "arguments", "count"),
    [
        (softmax, (X,), 3),
        (lambda x: softmax(x, None), (X,), 3),
        (lambda x: softmax(x, 0), (X,), 3),
        (log_softmax, (X,), 3),
        (layer_norm, (X, GAIN, GAIN), 3),
        (lambda x: (np.sum(x), x / np.sum(x), np.sum(x) ** 2), (X,), 2),
        (lambda x: np.sum((x - np.mean(x)) ** 2), (X,), 2),
        (lambda x: x * 2 + 1, (X,), 1),
        (lambda x: np.sum(x * x, axis=1), (X,), 1),
    ],
)
def test_one_kernel_a_pass_gives_the_same(function, arguments, count):
    schedule = schedule_for_cuda(simplify(ad.make_graph(function)(*arguments)))
    (spec,) = schedule.kernels()
    operands = [np.asarray(x) for x in arguments]
    stages = in_stages(spec)
    assert len(stages) == count
    for stage in stages:
        reduced = [v.operand for v in stage.spec.values if isinstance(v, Reduce)]
        assert all(passes(stage.spec)[i] == 0 for i in reduced)
    for found, wanted in zip(run_stages(spec, operands), run_kernel(spec, operands), strict=True):
        np.testing.assert_array_equal(found, wanted)
