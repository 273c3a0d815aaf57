"""Programs the cookbook names besides its table: each runs and is compared with a known answer."""

from __future__ import annotations

import numpy as np

import autodiff as ad
from autodiff import random, tree
from tests.cookbook.data import close


def test_hutchinsons_estimate_of_the_trace_of_a_hessian(xp):
    """E[v' H v] = tr H for v of independent signs (Hutchinson 1990, equation 1.1)."""
    weights = np.arange(1.0, 7.0, dtype=np.float32)
    mixing = np.array(np.cos(np.arange(36.0)).reshape(6, 6), np.float32)

    def f(x):
        return xp.sum(xp.tanh(mixing @ x) ** 2 * weights)

    x = np.linspace(-0.3, 0.4, 6, dtype=np.float32)

    def probe(key):
        v = 2.0 * random.bernoulli(key, 0.5, (6,)).astype(np.float32) - 1.0
        return np.vdot(v, ad.jvp(ad.grad(f), (x,), (v,))[1])

    hessian = ad.hessian(f)(x)
    estimates = ad.vmap(probe)(random.split(random.key(0), 2000))
    assert estimates.shape == (2000,)
    # variance of one probe: 2 * sum of squares off the diagonal
    off = hessian - np.diag(np.diag(hessian))
    deviation = np.sqrt(2 * np.sum(off**2) / 2000)
    assert abs(np.mean(estimates) - np.trace(hessian)) < 4 * deviation


def test_the_estimate_is_exact_for_a_diagonal_hessian(xp):
    x = np.array([0.3, -0.8, 1.2], np.float32)
    v = np.array([1.0, -1.0, 1.0], np.float32)
    f = lambda x: xp.sum(xp.tanh(x) ** 2)
    estimate = np.vdot(v, ad.jvp(ad.grad(f), (x,), (v,))[1])
    close(estimate, np.trace(ad.hessian(f)(x)), rtol=1e-5)


def test_forward_mode_from_reverse_mode_alone(xp):
    """The pulled-back cotangent is linear in the cotangent; pulling that back pushes tangents."""

    def jvp_by_vjps(f, x, v):
        y, pull = ad.vjp(f, x)
        _, pull_of_pull = ad.vjp(lambda ct: pull(ct)[0], np.zeros_like(y))
        return y, pull_of_pull(v)[0]

    def f(x):
        return xp.sin(x[1:]) * x[0] + xp.sum(x**2)

    x = np.array([0.4, -0.7, 1.1], np.float32)
    v = np.array([1.0, 0.5, -2.0], np.float32)
    y, pushed = jvp_by_vjps(f, x, v)
    value, expected = ad.jvp(f, (x,), (v,))
    close((y, pushed), (value, expected), rtol=1e-6)


class Point:
    """A class of the user's own."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __mul__(self, other):
        return Point(self.x * other, self.y * other)


tree.register_node(
    Point,
    lambda point: ((point.x, point.y), None),
    lambda meta, children: Point(*children),
    lambda meta: (tree.Attribute("x"), tree.Attribute("y")),
)


def test_derivatives_with_respect_to_a_class_of_ones_own(xp):
    def f(point):
        scaled = point * 2.0
        return xp.sin(scaled.x) * scaled.y

    at = Point(np.float32(0.6), np.float32(-1.3))
    by_point = ad.grad(f)(at)
    close((by_point.x, by_point.y), (2 * np.cos(1.2) * -2.6, 2 * np.sin(1.2)), rtol=1e-6)
    value, tangent = ad.jvp(f, (at,), (Point(np.float32(1.0), np.float32(0.0)),))
    close((value, tangent), (np.sin(1.2) * -2.6, 2 * np.cos(1.2) * -2.6), rtol=1e-6)
    hessian = ad.hessian(f)(at)
    close(hessian.x.y, np.array(4 * np.cos(1.2)), rtol=1e-6)
    moved = ad.vmap(lambda p: p * 3.0)(Point(np.ones(4), np.zeros(4)))
    close((moved.x, moved.y), (np.full(4, 3.0), np.zeros(4)))


def smoothed(xp):
    """Return a stencil on a ring: each output depends on three neighbours, nonlinearly."""

    def stencil(u):
        left, right = xp.roll(u, 1), xp.roll(u, -1)
        return (left - 2.0 * u + right) + 0.1 * u * (right - left) + xp.tanh(u)

    return stencil


def test_a_local_stencils_dense_jacobian_against_its_vjp(xp):
    stencil = smoothed(xp)
    n = 60
    u = np.cos(np.linspace(0.0, 6.0, n)).astype(np.float32)
    ct = np.sin(np.linspace(0.0, 9.0, n)).astype(np.float32)
    dense = ad.jacrev(stencil)(u)
    # By hand: row i has d/du[i-1] = 1 - 0.1 u[i], d/du[i+1] = 1 + 0.1 u[i] and the diagonal.
    slope = 1 - np.tanh(u) ** 2
    diagonal = -2.0 + 0.1 * (np.roll(u, -1) - np.roll(u, 1)) + slope
    rows = np.arange(n)
    expected = np.zeros((n, n), np.float32)
    expected[rows, rows] = diagonal
    expected[rows, (rows - 1) % n] = 1 - 0.1 * u
    expected[rows, (rows + 1) % n] = 1 + 0.1 * u
    close(dense, expected, rtol=1e-5, atol=1e-6)
    assert np.count_nonzero(dense) <= 3 * n
    _, pull = ad.vjp(stencil, u)
    close(pull(ct)[0], ct @ dense, rtol=1e-4, atol=1e-5)
    # The pulled product costs what the function does, not n times that.
    assert len(ad.make_graph(pull)(ct).eqns) < 40


def test_the_stencils_vjp_drives_an_iterative_solve_of_the_transposed_system(xp):
    """Conjugate gradients on J J' w = J r, matrix-free, solve J' w = r (adjoint sensitivities)."""
    stencil = smoothed(xp)
    n = 24
    u = np.cos(np.linspace(0.0, 6.0, n))
    residual = np.sin(np.linspace(0.0, 9.0, n))
    _, push = ad.linearize(stencil, u)
    _, pull = ad.vjp(stencil, u)

    def normal(w):
        return push(pull(w)[0])

    w, r = np.zeros(n), push(residual)
    p, rr = r.copy(), r @ r
    for _ in range(4 * n):
        Ap = normal(p)
        step = rr / (p @ Ap)
        w, r = w + step * p, r - step * Ap
        p, rr = r + (r @ r / rr) * p, r @ r
        if rr < 1e-24:
            break
    close(pull(w)[0], residual, rtol=1e-6, atol=1e-8)
    close(w, np.linalg.solve(ad.jacfwd(stencil)(u).T, residual), rtol=1e-5, atol=1e-7)
