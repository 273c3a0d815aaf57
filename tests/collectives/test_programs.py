"""Values and derivatives of collectives, against NumPy on all examples and differences of it."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.collectives.programs import PROGRAMS
from tests.composition.transformations import (
    COMPUTED,
    TRANSFORMED,
    as_arrays,
    difference,
    pulled_by_differences,
    seeds,
)

EACH = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


def near(found, expected, scale=1.0):
    """Compare with differences, whose error is that of three nested ones."""
    assert type(found) is np.ndarray
    assert found.shape == np.shape(expected)
    size = max(scale, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-8 * size)


@EACH
def test_values_are_numpys_over_the_examples(program):
    X = program.examples
    mapped = ad.vmap(program.one, axis_name="i")
    np.testing.assert_allclose(mapped(X), program.all(X), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(ad.jit(mapped)(X), program.all(X), rtol=1e-13, atol=1e-13)


@EACH
@pytest.mark.parametrize("name", ["jvp", "vjp", "grad", "vmap", "linearize", "vmap_of_closure"])
def test_derivatives_of_the_mapped_function_are_those_of_the_whole(program, name):
    found = TRANSFORMED[name](ad.vmap(program.one, axis_name="i"))
    near(found(program.examples), COMPUTED[name](as_arrays(program.all))(program.examples))


@EACH
def test_tangents_inside_the_mapped_function_move_together(program):
    X = program.examples

    def push(x, t):
        return ad.jvp(program.one, (x,), (t,))[1]

    near(ad.vmap(push, axis_name="i")(X, seeds(X)), difference(program.all, X, seeds(X)))


@EACH
def test_cotangents_inside_the_mapped_function_are_those_of_the_sum_of_all_outputs(program):
    X = program.examples
    ct = seeds(program.all(X))

    def pull(x, ct):
        return ad.vjp(program.one, x)[1](ct)[0]

    near(ad.vmap(pull, axis_name="i")(X, ct), pulled_by_differences(program.all)(X))


@EACH
def test_second_derivatives_inside_the_mapped_function(program):
    """A product with the Hessian of the sum of all outputs, in three orders of the modes."""
    X = program.examples
    T = seeds(X)

    def total(x):
        return np.sum(program.one(x))

    def forward_over_reverse(x, t):
        return ad.jvp(ad.grad(total), (x,), (t,))[1]

    def linearized(x, t):
        return ad.linearize(ad.grad(total), x)[1](t)

    def reverse_over_reverse(x, t):
        return ad.grad(lambda y: np.sum(ad.grad(total)(y) * t))(x)

    def gradient(X):
        def one_output(Y):
            return np.sum(program.all(Y))

        results = np.zeros_like(X)
        for place in np.ndindex(X.shape):
            axis = np.zeros_like(X)
            axis[place] = 1.0
            results[place] = difference(one_output, X, axis)
        return results

    expected = difference(gradient, X, T)
    for product in (forward_over_reverse, linearized, reverse_over_reverse):
        near(ad.vmap(product, axis_name="i")(X, T), expected)


def test_the_transpose_of_all_gather_is_psum_scatter_and_back():
    """The dot-product identity over all examples, for functions that are linear already."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 4))

    def gather(x):
        return ad.all_gather(x, "i", axis=1)

    def scatter(y):
        return ad.psum_scatter(y, "i", scatter_dimension=1)

    def transposed(f, example):
        return ad.vmap(lambda ct: ad.linear_transpose(f, example)(ct)[0], axis_name="i")

    there = ad.vmap(gather, axis_name="i")(X)
    back = ad.vmap(scatter, axis_name="i")(Y)
    np.testing.assert_allclose(np.sum(there * Y), np.sum(X * back), rtol=1e-13)
    np.testing.assert_array_equal(transposed(gather, X[0])(Y), back)
    np.testing.assert_array_equal(transposed(scatter, Y[0])(X), there)


def test_the_transpose_of_a_permutation_is_its_inverse():
    X = np.arange(4.0)
    perm = [(0, 2), (2, 3), (3, 1)]
    sent = ad.vmap(lambda x: ad.ppermute(x, "i", perm), axis_name="i")(X)
    np.testing.assert_array_equal(sent, [0.0, 3.0, 0.0, 2.0])

    def back(ct):
        return ad.linear_transpose(lambda x: ad.ppermute(x, "i", perm), 0.0)(ct)[0]

    np.testing.assert_array_equal(ad.vmap(back, axis_name="i")(X), [2.0, 0.0, 3.0, 1.0])
