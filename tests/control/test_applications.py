"""Programs that loops are for, with gradients known by other means."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.composition.transformations import difference


def newton(f, x0):
    """Return a root of a scalar function by Newton's method, run until steps are tiny."""

    def goes_on(carry):
        _, step, n = carry
        return (np.abs(step) > 1e-14) & (n < 60)

    def body(carry):
        x, _, n = carry
        step = f(x) / ad.grad(f)(x)
        return x - step, step, n + 1

    return ad.while_loop(goes_on, body, (x0, x0 * 0.0 + 1.0, 0))[0]


@pytest.mark.parametrize("wrapped", [lambda f: f, ad.jit], ids=["eager", "jit"])
def test_newtons_method_has_the_implicit_functions_gradient(wrapped):
    """x**3 + a x = b: dx/da = -x / (3 x**2 + a), dx/db = 1 / (3 x**2 + a)."""

    def root(a, b):
        return newton(lambda x: x**3 + a * x - b, a * 0.0 + 1.5)

    a, b = 0.7, 2.3
    x = float(wrapped(root)(a, b))
    assert x**3 + a * x == pytest.approx(b, rel=1e-13)
    slope = 3 * x**2 + a
    da, db = wrapped(ad.grad(root, (0, 1)))(a, b)
    assert da == pytest.approx(-x / slope, rel=1e-10)
    assert db == pytest.approx(1 / slope, rel=1e-10)
    # second order: d2x/db2 = -6 x / slope**3
    assert ad.grad(ad.grad(root, 1), 1)(a, b) == pytest.approx(-6 * x / slope**3, rel=1e-8)
    mapped = ad.vmap(ad.grad(root, 1), in_axes=(None, 0))(a, np.array([b, 9.0, 0.3]))
    roots = [float(root(a, v)) for v in (b, 9.0, 0.3)]
    np.testing.assert_allclose(mapped, [1 / (3 * v**2 + a) for v in roots], rtol=1e-9)


def rk_step(f, y, t, h):
    """Return the Bogacki-Shampine step of order 3 and its error estimate (1989, table 1)."""
    k1 = f(y, t)
    k2 = f(y + h * k1 / 2, t + h / 2)
    k3 = f(y + 3 * h * k2 / 4, t + 3 * h / 4)
    after = y + h * (2 * k1 + 3 * k2 + 4 * k3) / 9
    k4 = f(after, t + h)
    return after, h * (-5 * k1 + 6 * k2 + 8 * k3 - 9 * k4) / 72


def integrated(f, y0, end, tolerance):
    """Return (y(end), accepted steps, all steps) with steps adapted to the error estimate."""

    def body(carry):
        y, t, h, accepted, n = carry
        h = np.minimum(h, end - t)
        after, error = rk_step(f, y, t, h)
        size = np.sqrt(np.mean((error / tolerance) ** 2)) + 1e-12
        ok = size <= 1.0
        y, t = np.where(ok, after, y), np.where(ok, t + h, t)
        h = h * np.clip(0.9 * size ** (-1 / 3), 0.3, 3.0)
        return y, t, h, accepted + ok, n + 1

    start = (y0, end * 0.0, end * 0.0 + 0.3, 0, 0)
    y, _, _, accepted, n = ad.while_loop(lambda c: c[1] < end, body, start)
    return y, accepted, n


def test_an_adaptive_runge_kutta_loop_has_the_gradient_of_the_flow():
    """y' = -k y**2, y(0) = y0 has y(t) = y0 / (1 + k y0 t)."""

    def solution(y0, k):
        return integrated(lambda y, t: -k * y**2, y0, np.array(2.0), 1e-9)[0]

    y0, k = np.array(1.3), np.array(0.8)
    exact = y0 / (1 + 2 * k * y0)
    np.testing.assert_allclose(solution(y0, k), exact, rtol=1e-8)
    dy0, dk = ad.grad(solution, (0, 1))(y0, k)
    np.testing.assert_allclose(dy0, 1 / (1 + 2 * k * y0) ** 2, rtol=1e-6)
    np.testing.assert_allclose(dk, -2 * y0**2 / (1 + 2 * k * y0) ** 2, rtol=1e-6)
    _, accepted, steps = ad.jit(
        lambda y: integrated(lambda y, t: -k * y**2, y, np.array(2.0), 1e-9)
    )(y0)
    assert 10 < accepted < steps  # some were rejected: where's branches are both met


def test_the_gradient_of_adaptive_steps_is_that_of_the_same_steps_written_out():
    def python_loop(y0):
        end, tolerance = 1.5, 1e-5
        y, t, h = y0, 0.0, 0.3
        while t < end:
            h = np.minimum(h, end - t)
            after, error = rk_step(lambda y, t: np.sin(t) - y * y[::-1], y, t, h)
            size = np.sqrt(np.mean((error / tolerance) ** 2)) + 1e-12
            if size <= 1.0:
                y, t = after, t + h
            h = h * np.clip(0.9 * size ** (-1 / 3), 0.3, 3.0)
        return np.sum(y * np.array([1.0, -2.0]))

    def looped(y0):
        f = lambda y, t: np.sin(t) - y * y[::-1]
        y, _, _ = integrated(f, y0, np.array(1.5), 1e-5)
        return np.sum(y * np.array([1.0, -2.0]))

    y0 = np.array([0.4, 0.9])
    np.testing.assert_allclose(looped(y0), python_loop(y0), rtol=1e-13)
    np.testing.assert_allclose(ad.grad(looped)(y0), ad.grad(python_loop)(y0), rtol=1e-11)
    np.testing.assert_allclose(ad.jit(ad.grad(looped))(y0), ad.grad(python_loop)(y0), rtol=1e-11)


def test_a_fixed_point_by_iteration_has_the_implicit_gradient():
    """x = a cos(x): dx/da = cos(x) / (1 + a sin(x))."""

    def fixed(a):
        def body(carry):
            x, _ = carry
            return a * np.cos(x), x

        return ad.while_loop(lambda c: np.abs(c[0] - c[1]) > 1e-15, body, (a * 0 + 1.0, a * 0))[0]

    a = 0.6
    x = float(fixed(a))
    expected = np.cos(x) / (1 + a * np.sin(x))
    assert ad.grad(fixed)(a) == pytest.approx(expected, rel=1e-12)
    assert ad.jvp(fixed, (a,), (1.0,))[1] == pytest.approx(expected, rel=1e-12)
    both = ad.vmap(ad.grad(fixed))(np.array([0.1, 0.6]))
    assert both[1] == pytest.approx(expected, rel=1e-12)


def test_an_inner_descent_loop_has_the_gradient_of_the_loop_written_out():
    """The learning rate's and the data's gradient through eight steps of descent."""
    data = np.array([[0.5, -1.0], [1.5, 0.3], [-0.2, 0.8]])

    def loss(w, scale):
        return np.mean((np.tanh(data @ w) - scale) ** 2)

    def trained(rate, scale):
        step = lambda i, w: w - rate * ad.grad(loss)(w, scale)
        return loss(ad.fori_loop(0, 8, step, np.array([0.1, 0.2])), scale)

    def written_out(rate, scale):
        w = np.array([0.1, 0.2])
        for _ in range(8):
            residual = np.tanh(data @ w) - scale
            w = w - rate * data.T @ (2 / 3 * residual * (1 - np.tanh(data @ w) ** 2))
        return np.mean((np.tanh(data @ w) - scale) ** 2)

    rate, scale = np.array(0.4), np.array([0.3, 0.9, -0.5])
    assert trained(rate, scale) == pytest.approx(written_out(rate, scale), rel=1e-13)
    by_rate, by_scale = ad.jit(ad.grad(trained, (0, 1)))(rate, scale)
    expected = difference(lambda r: written_out(r, scale), rate, np.array(0.1)) * 10
    assert by_rate == pytest.approx(expected, rel=1e-9)
    for i in range(3):
        expected = difference(lambda s: written_out(rate, s), scale, 0.1 * np.eye(3)[i]) * 10
        assert by_scale[i] == pytest.approx(expected, rel=1e-9)


def test_a_recurrent_net_over_a_long_sequence_learns_a_gradient_as_differences_have_it():
    random = np.random.default_rng(0)
    xs, h0 = random.normal(size=(200, 3)), np.zeros(4)
    params = {"u": random.normal(size=(4, 3)) * 0.3, "w": random.normal(size=(4, 4)) * 0.3}

    def loss(p, flow):
        cell = lambda h, x: (np.tanh(p["w"] @ h + p["u"] @ x), h[0])
        h, ys = flow(cell, h0, xs)
        return np.sum(h**2) + np.mean(ys**2)

    def python_scan(cell, h, rows):
        ys = []
        for x in rows:
            h, y = cell(h, x)
            ys.append(y)
        return h, np.stack(ys)

    gradient = ad.jit(ad.grad(lambda p: loss(p, ad.scan)))(params)
    direction = {k: 0.02 * np.cos(np.arange(v.size)).reshape(v.shape) for k, v in params.items()}
    expected = difference(lambda p: loss(p, python_scan), params, direction)
    found = sum(np.vdot(gradient[k], direction[k]) for k in params)
    assert found == pytest.approx(float(expected), rel=1e-9)
