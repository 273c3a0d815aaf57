"""Elementwise operations of several outputs inside kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.primitive import primitives
from autodiff.passes.pipeline import simplify
from autodiff.primitives.families import elementwise
from autodiff.runtime.cpu_kernels import KernelFunction, schedule_for_cpu
from autodiff.schedule.kernel_spec import Compute, KernelSpec
from tests.primitives.sampling import same_bits

TARGETS = ("auto", "avx2", "sse2")


def _polar(x: Any, y: Any) -> tuple[Any, Any]:
    return np.sqrt(x * x + y * y), np.arctan2(y, x)


polar = elementwise(
    "polar_coordinates",
    _polar,
    doc="Radius and angle of a point.",
    promote=lambda operands: (operands, operands),
    not_differentiable="only its values are wanted here",
    outputs=2,
    public=False,
)
del primitives["polar_coordinates"]  # it is of these tests alone


def _words(shape: Any) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 2**32, shape, dtype=np.uint32) for _ in range(4)]


def _the_kernel(f: Any, *args: Any) -> KernelSpec:
    with ad.override(kernels=True):
        (spec,) = schedule_for_cpu(simplify(ad.make_graph(f)(*args))).kernels()
    return spec


def _applications(spec: KernelSpec, name: str) -> list[Any]:
    return [v for v in spec.values if isinstance(v, Compute) and v.primitive.name == name]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1,), (37,), (5, 7)])
def test_every_output_has_the_reference_values(shape, target):
    hashed = primitives["threefry2x32"]
    words = _words(shape)

    def f(*words):
        x, y = hashed(*words)
        return x ^ y, y >> np.uint32(9), x

    with ad.override(kernels=True, cpu_target=target):
        found = ad.jit(f)(*words)
    x, y = hashed.reference(*words)
    for ours, expected in zip(found, (x ^ y, y >> np.uint32(9), x), strict=True):
        assert same_bits(ours, expected)
    assert len(_applications(_the_kernel(f, *words), "threefry2x32")) == 2


def test_the_outputs_of_one_application_are_computed_once():
    x, y = np.linspace(1, 2, 40), np.linspace(-1, 3, 40)
    spec = _the_kernel(lambda x, y: polar(x, y)[0] * polar(x, y)[1], x, y)
    text = KernelFunction(spec).text
    one = KernelFunction(_the_kernel(lambda x, y: polar(x, y)[1] * 2.0, x, y)).text
    assert text.count("; polar_coordinates ") == 1
    assert text.count("; atan2(") == one.count("; atan2(")
    assert ";   v3: float64 = output 1 of polar_coordinates v0 v1" in text


def test_an_output_that_nothing_needs_is_no_value_of_the_kernel():
    x, y = np.linspace(1, 2, 40), np.linspace(-1, 3, 40)
    spec = _the_kernel(lambda x, y: polar(x, y)[1] * 2.0, x, y)
    (value,) = _applications(spec, "polar_coordinates")
    assert value.output == 1
    assert len(spec.values) == 2


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_in_rows_and_at_points_of_a_kernel_with_reductions(target):
    random = np.random.default_rng(2)
    x, w = random.uniform(0.5, 2, (6, 45)), random.uniform(0.5, 2, 45)

    def f(x, w):
        radius, angle = polar(x, w)
        length, turn = polar(np.sum(radius, axis=1), np.sum(angle, axis=1))
        return radius / length[:, None] + angle * turn[:, None], length

    with ad.override(kernels=True, cpu_target=target):
        found = ad.jit(f)(x, w)
    for ours, expected in zip(found, f(x, w), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-13)


def test_fused_outputs_have_the_bits_of_kernels_of_one_operation_each():
    random = np.random.default_rng(3)
    x, y = random.uniform(0.5, 2, 53), random.uniform(0.5, 2, 53)

    def f(x, y):
        radius, angle = polar(x + y, x * y)
        return np.sin(radius) * angle + radius, np.sum(angle)

    def run(**settings: Any) -> list[np.ndarray]:
        with ad.override(kernels=True, contract=False, **settings):
            return list(ad.jit(f)(x, y))

    for together, apart in zip(run(), run(no_fusion=True), strict=True):
        assert same_bits(together, apart)
