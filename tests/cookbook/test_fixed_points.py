"""Derivatives at fixed points, and adjoints of solvers: each program against a closed form."""

from __future__ import annotations

import numpy as np

import autodiff as ad
from tests.cookbook.data import close


def test_the_gradient_of_a_fixed_point_by_the_implicit_function_theorem():
    """Newton's iteration for a square root: x = (x + a / x) / 2, so dx/da = 1 / (2 x)."""

    def square_root(a):
        return ad.custom_fixed_point(lambda x: 0.5 * (x + a / x), a)

    a = np.float32(3.0)
    close(square_root(a), 3**0.5, rtol=1e-5)
    close(ad.grad(square_root)(a), 0.5 / 3**0.5, rtol=1e-5)
    close(ad.grad(ad.grad(square_root))(a), -0.25 / 3**1.5, rtol=1e-5)
    mapped = ad.vmap(ad.grad(square_root))(np.array([1.0, 4.0, 9.0], np.float32))
    close(mapped, np.array([1 / 2, 1 / 4, 1 / 6]), rtol=1e-5)


def test_the_gradient_through_a_deep_equilibrium_layer(xp):
    """z = tanh(W z + U x + b), of as many layers as it takes; against differences in float64."""
    W = 0.4 * np.cos(np.arange(9.0)).reshape(3, 3)
    U = np.sin(np.arange(6.0)).reshape(3, 2)
    inputs, bias = np.array([0.3, -0.6]), np.array([0.1, 0.0, -0.2])

    def loss(params):
        layer = lambda z: xp.tanh(params["W"] @ z + U @ inputs + params["b"])
        return xp.sum(ad.custom_fixed_point(layer, np.zeros(3)) ** 2)

    def loss_by_numpy(W, b):
        z = np.zeros(3)
        for _ in range(200):
            z = np.tanh(W @ z + U @ inputs + b)
        return np.sum(z**2)

    gradient = ad.jit(ad.grad(loss))({"W": W, "b": bias})
    h = 1e-5
    for i in range(3):
        step = h * np.eye(3)[i]
        slope = (loss_by_numpy(W, bias + step) - loss_by_numpy(W, bias - step)) / (2 * h)
        close(gradient["b"][i], slope, rtol=1e-7)
        for j in range(3):
            change = np.outer(step, np.eye(3)[j])
            slope = (loss_by_numpy(W + change, bias) - loss_by_numpy(W - change, bias)) / (2 * h)
            close(gradient["W"][i, j], slope, rtol=1e-7)


def test_the_derivative_of_a_minimum_with_respect_to_what_it_is_regularised_by(xp):
    """Ridge regression: w = (X'X + r I)^-1 X'y is the root of the loss's gradient in w."""
    X = np.array([[1.0, 0.5], [0.2, -1.0], [0.7, 0.3]])
    y = np.array([1.0, -0.5, 0.2])

    def fitted(r):
        def loss(w):
            return 0.5 * xp.sum((X @ w - y) ** 2) + 0.5 * r * xp.sum(w**2)

        def descend(slope, w):
            return ad.fori_loop(0, 400, lambda i, w: w - 0.4 * slope(w), w)

        def tangent_solve(g, side):
            return ad.cg(g, side, tol=1e-12)[0]

        return ad.custom_root(ad.grad(loss), np.zeros(2), descend, tangent_solve)

    r = np.float64(0.3)
    inverse = np.linalg.inv(X.T @ X + r * np.eye(2))
    w = inverse @ X.T @ y
    close(fitted(r), w, rtol=1e-10)
    close(ad.jacfwd(fitted)(r), -inverse @ w, rtol=1e-9)
    close(ad.jacrev(fitted)(r), -inverse @ w, rtol=1e-9)
    close(ad.jacfwd(ad.jacrev(fitted))(r), 2 * inverse @ inverse @ w, rtol=1e-8)


def test_the_adjoint_of_a_nonlinear_boundary_value_problem(xp):
    """-u'' + c u**3 = 1 on 20 points: Newton's method with cg inside, its gradient by one adjoint.

    The adjoint p solves (T + 3 c diag(u**2)) p = 1, and d(sum u)/dc = -p . u**3.
    """
    n = 20
    spacing = 1 / (n + 1)

    def laplacian(u):
        padded = xp.pad(u, 1)
        return (2 * padded[1:-1] - padded[:-2] - padded[2:]) / spacing**2

    def total(c):
        def residual(u):
            return laplacian(u) + c * u**3 - 1.0

        def newton(f, u):
            def step(u):
                value, slope = ad.linearize(f, u)
                return u - ad.cg(slope, value, tol=1e-12)[0]

            return ad.while_loop(lambda u: xp.max(xp.abs(f(u))) > 1e-9, step, u)

        def tangent_solve(g, side):
            return ad.cg(g, side, tol=1e-12)[0]

        return xp.sum(ad.custom_root(residual, np.zeros(n), newton, tangent_solve))

    T = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) / spacing**2
    c, u = np.float64(50.0), np.zeros(n)
    for _ in range(20):
        u = u - np.linalg.solve(T + np.diag(3 * c * u**2), T @ u + c * u**3 - 1.0)
    adjoint = np.linalg.solve(T + np.diag(3 * c * u**2), np.ones(n))
    value, gradient = ad.jit(ad.value_and_grad(total))(c)
    close(value, np.sum(u), rtol=1e-9)
    close(gradient, -adjoint @ u**3, rtol=1e-8)
