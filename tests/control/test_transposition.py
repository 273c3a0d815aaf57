"""Linear programs with loops and branches, transposed: <A x, y> = <x, A' y>, and second sweeps."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.control.transformations import agree

ROWS = np.array([[0.3, -0.6], [0.8, 0.1], [-0.4, 0.9]])
X = np.array([0.7, -1.2])


def counted(x):
    """The carry holds a counter, which is not linear in x, beside what is."""

    def body(carry, r):
        n, c = carry
        return (n + 1, c * n + r * x), (c[0] * r, n)

    (_, last), (ys, _) = ad.scan(body, (2.0, x), ROWS)
    return last, ys


def with_values_of_its_own(x):
    """A carry that depends on nothing but itself is the coefficient of the linear one."""

    def body(carry, r):
        a, c = carry
        return (np.sin(a + r), a * c + x), c

    (_, last), ys = ad.scan(body, (np.zeros(2), x), ROWS, reverse=True)
    return last + np.sum(ys, axis=0)


def by_while(x):
    def body(carry):
        n, a, c = carry
        return n + 1, a * 1.1, a * c + x

    return ad.while_loop(lambda carry: carry[0] < 4, body, (0, np.array(0.5), x))[2]


def by_while_on_values(x):
    def body(carry):
        a, c = carry
        return a * 0.7, c + a * x[::-1]

    return ad.while_loop(lambda carry: carry[0] > 0.2, body, (np.array(1.0), x))[1]


def chosen(x):
    def many(v):
        return v * 2.0, np.sum(v)

    return ad.cond(np.sum(ROWS) > 0, many, lambda v: (v, v[0]), x)


def chosen_in_a_loop(x):
    def body(c, r):
        return ad.cond(r[0] > 0, lambda v: v * r, lambda v: v[::-1] + x, c), np.sum(c)

    return ad.scan(body, x, ROWS)


def mixed_branches(x):
    """One branch returns a value where the other returns something linear."""

    def one(a, v):
        return np.sin(a), v * np.cos(a), a

    def other(a, v):
        return np.cos(a), v, np.exp(a)

    def f(a, v):
        s, w, e = ad.cond(a[0] > 0, one, other, a, v)
        return w * s + v * e

    return f(ROWS[0], x)


def in_a_jitted_function(x):
    @ad.jit
    def f(a, v):
        return np.sin(a), a * v

    s, w = f(ROWS[0], x)
    return s * w


PROGRAMS = (
    counted,
    with_values_of_its_own,
    by_while,
    by_while_on_values,
    chosen,
    chosen_in_a_loop,
    mixed_branches,
    in_a_jitted_function,
)


def flattened(outputs):
    return np.concatenate([np.ravel(y) for y in ad.tree.leaves(outputs)])


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_the_transpose_of_a_linear_program_is_its_matrix_transposed(f):
    matrix = np.stack([flattened(f(e)) for e in np.eye(2)], axis=1)
    np.testing.assert_allclose(flattened(f(X)), matrix @ X, atol=1e-13)  # it is linear
    outputs = f(X)
    leaves, structure = ad.tree.flatten(outputs)
    cts = [np.cos(np.arange(1.0, y.size + 1)).reshape(y.shape) for y in leaves]
    expected = matrix.T @ np.concatenate([np.ravel(ct) for ct in cts])
    for transposed in (ad.linear_transpose(f, X), ad.jit(ad.linear_transpose(f, X))):
        (pulled,) = transposed(ad.tree.unflatten(structure, cts))
        np.testing.assert_allclose(pulled, expected, atol=1e-13)
    many = ad.tree.unflatten(structure, [np.stack([ct, 2 * ct]) for ct in cts])
    (mapped,) = ad.vmap(ad.linear_transpose(f, X))(many)
    np.testing.assert_allclose(mapped, np.stack([expected, 2 * expected]), atol=1e-13)


def test_the_transpose_of_a_pushed_loop_is_its_pullback():
    """Forward mode carries values and tangents in one loop: transposed they come apart again."""

    def f(x):
        c, ys = ad.scan(lambda c, r: (np.sin(c * r) + x, c**2), x, ROWS)
        d = ad.while_loop(lambda v: np.sum(v**2) < 20.0, lambda v: v * 1.5 + np.cos(v), c)
        return d, ys

    pushed = lambda t: ad.jvp(f, (X,), (t,))[1]
    y, pull = ad.vjp(f, X)
    agree(ad.linear_transpose(pushed, X)(y), pull(y))
    agree(ad.jit(ad.linear_transpose(pushed, X))(y), pull(y))


def test_forward_mode_by_two_reverse_modes_through_loops():
    def f(x):
        return ad.while_loop(lambda c: np.sum(c) < 9.0, lambda c: c * 1.4 + x**2, x)

    x = np.array([0.4, 0.9])

    def pushed(t):
        y, pull = ad.vjp(f, x)
        return ad.vjp(lambda ct: pull(ct)[0], np.zeros_like(y))[1](t)[0]

    agree(pushed(X), ad.jvp(f, (x,), (X,))[1])


def test_hessians_of_loops_are_symmetric_and_as_differences_have_them():
    def f(x):
        c = ad.while_loop(lambda v: np.sum(v**2) < 5.0, lambda v: v * 1.3 + 0.2 * np.sin(x), x)
        return np.sum(ad.scan(lambda c, r: (np.tanh(c + r * x), c), c, ROWS)[1] ** 3)

    x = np.array([0.6, 0.9])
    for of in (
        ad.hessian(f),
        ad.jacfwd(ad.jacfwd(f)),
        ad.jacrev(ad.jacrev(f)),
        ad.jacrev(ad.jacfwd(f)),
    ):
        found = of(x)
        h = 1e-5
        columns = [(ad.grad(f)(x + h * e) - ad.grad(f)(x - h * e)) / (2 * h) for e in np.eye(2)]
        np.testing.assert_allclose(found, found.T, atol=1e-11)
        np.testing.assert_allclose(found, np.stack(columns, axis=1), rtol=1e-6, atol=1e-8)
