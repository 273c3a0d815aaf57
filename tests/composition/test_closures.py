"""Derivatives inside derivatives over closed-over values: no level is taken for another."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad


def close(found, expected, rtol=1e-13):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-14)


def push(f, x):
    """Return the derivative of a function of one number by forward mode."""
    return ad.jvp(f, (x,), (1.0,))[1]


def pull(f, x):
    """Return the derivative of a function of one number by vjp."""
    y, back = ad.vjp(f, x)
    return back(np.ones_like(y))[0]


def line(f, x):
    """Return the derivative of a function of one number by linearize."""
    return ad.linearize(f, x)[1](1.0)


def reverse(f, x):
    """Return the derivative of a function of one number by grad."""
    return ad.grad(f)(x)


DERIVATIVES = (push, pull, line, reverse)
by_two_levels = [
    pytest.mark.parametrize("outer", DERIVATIVES, ids=lambda d: f"outer_{d.__name__}"),
    pytest.mark.parametrize("inner", DERIVATIVES, ids=lambda d: f"inner_{d.__name__}"),
]


def two_levels(test):
    """Run a test for each choice of mode outside and inside."""
    for mark in by_two_levels:
        test = mark(test)
    return test


@two_levels
def test_the_inner_derivative_of_a_sum_is_one_whatever_is_closed_over(outer, inner):
    close(outer(lambda x: x * inner(lambda y: x + y, 1.0), 2.0), 1.0)


@two_levels
def test_the_inner_derivative_of_a_product_is_the_outer_variable(outer, inner):
    # d/dx (x * d/dy (x y)) = d/dx x**2
    close(outer(lambda x: x * inner(lambda y: x * y, 2.0), 3.0), 6.0)


@two_levels
def test_an_inner_derivative_at_the_outer_variable_keeps_both_dependences(outer, inner):
    # d/dx (d/dy (x y**3) at y = x) = d/dx 3 x**3
    close(outer(lambda x: inner(lambda y: x * y**3, x), 1.5), 9 * 1.5**2)


@two_levels
def test_a_derivative_of_a_constant_function_is_zero_at_every_level(outer, inner):
    close(outer(lambda x: inner(lambda y: x * 1.0, 2.0) + 0.0 * x, 3.0), 0.0)


@two_levels
def test_jit_in_between_changes_nothing(outer, inner):
    close(
        outer(lambda x: ad.jit(lambda z: z * inner(lambda y: x * z * y**2, z))(x), 1.2), 8 * 1.2**3
    )


@two_levels
def test_vmap_in_between_changes_nothing(outer, inner):
    points = np.array([0.5, 1.0, 2.0])

    def total(x):
        return np.sum(ad.vmap(lambda p: inner(lambda y: x**2 * p * y**2, p))(points))

    close(outer(total, 0.7), 2 * 0.7 * np.sum(2 * points**2))


def test_three_levels_of_grad_over_one_another():
    def f(x):
        return ad.grad(lambda y: ad.grad(lambda z: np.sin(x * y * z))(2.0) * y)(3.0)

    # d/dz gives x y cos(2 x y); times y, d/dy gives 2 x y cos(2 x y) - 2 x^2 y^2 sin(2 x y)
    def by_hand(x):
        return 6 * x * np.cos(6 * x) - 18 * x**2 * np.sin(6 * x)

    x, h = 0.4, 1e-3
    close(f(x), by_hand(x), rtol=1e-12)
    steps = 8 * (by_hand(x + h) - by_hand(x - h)) - (by_hand(x + 2 * h) - by_hand(x - 2 * h))
    close(ad.grad(f)(x), steps / (12 * h), rtol=1e-7)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("derivative", DERIVATIVES, ids=lambda d: d.__name__)
def test_derivatives_of_any_order_by_nesting_one_mode(derivative, order):
    f = np.sin
    for _ in range(order):
        f = (lambda g: lambda x: derivative(g, x))(f)
    close(f(0.3), [np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)][order % 4](0.3))


def test_an_array_closed_over_is_a_constant_and_not_differentiated():
    weights = np.array([1.0, -2.0])
    found = ad.grad(lambda x: np.sum(weights * x))(np.array([3.0, 4.0]))
    close(found, weights)


def test_a_function_made_by_an_outer_transformation_is_differentiated_through():
    def f(x):
        scale = ad.jit(lambda v: v * x)
        return np.sum(ad.vmap(scale)(np.arange(3.0)) ** 2)

    close(ad.grad(f)(2.0), 2 * 2.0 * 5)
    close(ad.jit(ad.grad(f))(2.0), 2 * 2.0 * 5)


def test_a_vjp_function_closed_over_is_differentiated_in_point_and_cotangent():
    def f(x, ct):
        _, pull_back = ad.vjp(lambda y: np.sin(y) * x, x)
        return pull_back(ct)[0]

    # ct * x * cos(x)
    by_point, by_cotangent = ad.grad(f, (0, 1))(0.8, 1.5)
    close(by_point, 1.5 * (np.cos(0.8) - 0.8 * np.sin(0.8)))
    close(by_cotangent, 0.8 * np.cos(0.8))


def test_a_vjp_function_may_be_called_again_jitted_and_mapped():
    x = np.array([0.3, -0.4])
    y, pull_back = ad.vjp(lambda x: np.sin(x) * np.sum(x), x)
    jacobian = np.diag(np.cos(x)) * np.sum(x) + np.outer(np.sin(x), np.ones(2))
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])
    for _ in range(3):
        close(pull_back(rows[2])[0], rows[2] @ jacobian)
    close(ad.jit(pull_back)(rows[2])[0], rows[2] @ jacobian)
    close(ad.vmap(pull_back)(rows)[0], rows @ jacobian)
    close(ad.jacrev(lambda ct: pull_back(ct)[0])(y), jacobian.T)


def test_a_linearized_function_may_be_called_again_jitted_mapped_and_transposed():
    x = np.array([0.3, -0.4])
    _, push_forward = ad.linearize(lambda x: np.sin(x) * np.sum(x), x)
    jacobian = np.diag(np.cos(x)) * np.sum(x) + np.outer(np.sin(x), np.ones(2))
    columns = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])
    for _ in range(3):
        close(push_forward(columns[2]), jacobian @ columns[2])
    close(ad.jit(push_forward)(columns[2]), jacobian @ columns[2])
    close(ad.vmap(push_forward)(columns), columns @ jacobian.T)
    close(ad.linear_transpose(push_forward, x)(columns[2])[0], columns[2] @ jacobian)


def test_vmap_of_vmap_is_a_double_loop():
    x, y = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    product = ad.vmap(ad.vmap(np.dot, in_axes=(None, 1)), in_axes=(0, None))
    close(product(x, y), x @ y)


def test_grad_of_vmap_of_grad_is_the_sum_of_second_derivatives():
    x = np.array([0.2, -0.7, 1.1])
    found = ad.grad(lambda x: np.sum(ad.vmap(ad.grad(np.tanh))(x)))(x)
    close(found, -2 * np.tanh(x) / np.cosh(x) ** 2)


def test_stop_gradient_stops_only_what_passes_through_it():
    def f(x):
        return x * ad.stop_gradient(x) + x

    close(ad.grad(f)(3.0), 4.0)
    close(ad.grad(lambda x: x * ad.grad(f)(x))(3.0), 4.0)
    close(ad.jvp(f, (3.0,), (1.0,))[1], 4.0)
    close(ad.vmap(ad.grad(f))(np.array([1.0, 2.0])), [2.0, 3.0])
    close(ad.jit(ad.grad(f))(3.0), 4.0)
