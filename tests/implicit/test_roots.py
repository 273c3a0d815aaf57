"""custom_root and custom_fixed_point against closed forms and differences of dense solves."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.implicit.doubles import PAIRS, compare, eliminate


def close(found, expected, rtol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-13)


def newton(f, x):
    """Newton's method for systems of vectors, of a fixed number of steps."""
    for _ in range(8):
        x = x - eliminate(ad.linearize(f, x)[1], f(x))
    return x


def cube_root(a):
    """Return the root of x**3 = a by a loop whose length depends on values."""

    def search(f, x):
        return ad.while_loop(
            lambda x: np.abs(f(x)) > 1e-13 * x**3,
            lambda x: x - f(x) / ad.jvp(f, (x,), (np.ones_like(x),))[1],
            x,
        )

    return ad.custom_root(lambda x: x**3 - a, 1.5, search, lambda g, y: y / g(1.0))


def equations(x, t):
    """Two coupled equations with a parameter for each."""
    return np.stack([x[0] ** 2 + x[1] - t[0], x[1] ** 3 - 0.3 * x[0] - t[1]])


def root(t):
    return ad.custom_root(lambda x: equations(x, t), np.ones(2), newton, eliminate)


def root_by_numpy(t):
    x = np.ones(2)
    for _ in range(12):
        slope = np.array([[2 * x[0], 1.0], [-0.3, 3 * x[1] ** 2]])
        x = x - np.linalg.solve(slope, equations(x, t))
    return x


T = np.array([2.2, 0.9])


# --------------------------------------------------------------------------- every transformation


@pytest.mark.parametrize("names", [(n,) for n in ("jacfwd", "jacrev", "hessian")], ids="".join)
def test_jacobians_of_a_root(names):
    compare(names, root, root_by_numpy, T)


@pytest.mark.parametrize("names", PAIRS, ids="_of_".join)
def test_pairs_of_transformations_of_a_root(names):
    compare(names, root, root_by_numpy, T)


@pytest.mark.parametrize(
    "names",
    [("grad", "grad"), ("grad", "vmap"), ("vmap", "grad"), ("jit", "jvp"), ("jvp", "vjp")],
    ids="_of_".join,
)
def test_a_root_found_by_a_loop(names):
    compare(names, cube_root, np.cbrt, np.array(3.0))


# ------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("derivative", [ad.jacfwd, ad.jacrev], ids=["forward", "reverse"])
def test_derivatives_of_a_cube_root_to_third_order(derivative):
    a = 2.0
    close(cube_root(a), a ** (1 / 3))
    close(derivative(cube_root)(a), a ** (-2 / 3) / 3)
    close(derivative(derivative(cube_root))(a), -2 / 9 * a ** (-5 / 3))
    third = ad.jit(derivative(derivative(derivative(cube_root))))
    close(third(a), 10 / 27 * a ** (-8 / 3))


def test_derivatives_of_higher_order_along_a_curve():
    x, series = ad.jet(cube_root, (2.0,), ([1.0, 0.0, 0.0],))
    close(x, 2 ** (1 / 3))
    expected = [2 ** (-2 / 3) / 3, -2 / 9 * 2 ** (-5 / 3), 10 / 27 * 2 ** (-8 / 3)]
    close(np.stack(series), expected)


def test_the_implicit_function_theorem_for_two_equations():
    x = root_by_numpy(T)
    slope = np.array([[2 * x[0], 1.0], [-0.3, 3 * x[1] ** 2]])
    close(root(T), x)
    close(ad.jacrev(root)(T), np.linalg.inv(slope))  # f_t = -I


def test_the_guess_has_zero_derivative():
    def f(guess):
        return ad.custom_root(lambda x: x**2 - 2.0, guess, newton_of_numbers, divide)

    assert ad.grad(f)(1.2) == 0.0
    assert ad.jvp(f, (1.2,), (1.0,))[1] == 0.0


def newton_of_numbers(f, x):
    for _ in range(8):
        x = x - f(x) / ad.grad(f)(x)
    return x


def divide(g, y):
    return y / g(1.0)


def test_a_guess_that_is_mapped_alone():
    f = lambda guess: ad.custom_root(lambda x: x**2 - 2.0, guess, newton_of_numbers, divide)
    close(ad.vmap(f)(np.array([1.0, -1.0])), [2**0.5, -(2**0.5)])


def test_the_search_may_branch_on_values_where_there_are_any():
    """Bisection in plain Python, without and under grad; in jit it is refused."""

    def bisect(f, x):
        low, high = 0.0 * x, x
        while float(high - low) > 1e-15:
            middle = 0.5 * (low + high)
            if middle in (low, high):
                break
            low, high = (low, middle) if f(middle) > 0 else (middle, high)
        return high

    def f(a):
        return ad.custom_root(lambda x: x**2 - a, 4.0, bisect, divide)

    close(f(2.0), 2**0.5)
    close(ad.grad(f)(2.0), 0.5 / 2**0.5)
    close(ad.grad(ad.grad(f))(2.0), -0.25 / 2**1.5)
    with pytest.raises(ad.ConcretizationError):
        ad.jit(f)(2.0)


def test_aux_of_a_search():
    def search(f, x):
        return newton_of_numbers(f, x), {"steps": 8, "last": f(x)}

    def f(a):
        x, aux = ad.custom_root(lambda x: x**2 - a, 2.0, search, divide, has_aux=True)
        return x + 0.0 * aux["last"], aux

    (value, aux), gradient = ad.value_and_grad(f, has_aux=True)(3.0)
    close((value, gradient), (3**0.5, 0.5 / 3**0.5))
    assert aux["steps"] == 8
    close(aux["last"], 1.0)
    assert f(3.0)[1]["last"] == 1.0


def test_pytrees_and_complex_numbers():
    """w**2 = z for a complex z in a dictionary: dw/dz = 1 / (2 w)."""

    def f(z):
        def square(x):
            return {"w": x["w"] ** 2 - z}

        def search(f, x):
            for _ in range(8):
                x = {"w": x["w"] - f(x)["w"] / (2 * x["w"])}
            return x

        def tangent_solve(g, y):
            return {"w": y["w"] / g({"w": 1.0 + 0j})["w"]}

        return ad.custom_root(square, {"w": 1.0 + 1j}, search, tangent_solve)["w"]

    z = 3.0 + 4.0j
    close(f(z), 2.0 + 1.0j)
    close(ad.grad(f, holomorphic=True)(z), 1 / (2 * (2.0 + 1.0j)))
    close(ad.jvp(f, (z,), (1j,))[1], 1j / (2 * (2.0 + 1.0j)))


def test_float32_stays_float32():
    def f(a):
        return ad.custom_root(lambda x: x**2 - a, np.float32(1.0), newton_of_numbers, divide)

    gradient = ad.grad(f)(np.float32(2.0))
    assert f(np.float32(2.0)).dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, 0.5 / 2**0.5, rtol=1e-6)


# ------------------------------------------------------------------------------------ fixed points


def relaxed(t):
    """Return the fixed point of x = tanh(W x + t), a contraction."""
    W = np.array([[0.3, -0.2], [0.1, 0.4]])
    return ad.custom_fixed_point(lambda x: np.tanh(W @ x + t), np.zeros(2))


def relaxed_by_numpy(t):
    W = np.array([[0.3, -0.2], [0.1, 0.4]])
    x = np.zeros(2)
    for _ in range(100):
        x = np.tanh(W @ x + t)
    return x


@pytest.mark.parametrize(
    "names",
    [pair for pair in PAIRS if pair[0] in ("grad", "vmap", "jit")],
    ids="_of_".join,
)
def test_pairs_of_transformations_of_a_fixed_point(names):
    compare(names, relaxed, relaxed_by_numpy, np.array([0.4, -0.7]))


def test_the_jacobian_of_a_fixed_point_is_the_closed_form():
    """x = tanh(W x + t): dx = (I - D W)^-1 D dt with D = diag(1 - x**2)."""
    t = np.array([0.4, -0.7])
    W = np.array([[0.3, -0.2], [0.1, 0.4]])
    x = relaxed_by_numpy(t)
    D = np.diag(1 - x**2)
    expected = np.linalg.solve(np.eye(2) - D @ W, D)
    close(ad.jacfwd(relaxed)(t), expected, rtol=1e-10)
    close(ad.jacrev(relaxed)(t), expected, rtol=1e-10)


def test_a_fixed_point_with_solvers_of_ones_own():
    def search(f, x):
        for _ in range(60):
            x = f(x)
        return x, 60

    def f(a):
        x, count = ad.custom_fixed_point(
            lambda x: np.cos(a * x), 0.5, search, lambda g, y: y / g(1.0), has_aux=True
        )
        return x, count

    x, count = f(0.8)
    gradient, _ = ad.grad(f, has_aux=True)(0.8)
    assert count == 60
    close(x, np.cos(0.8 * x), rtol=1e-10)
    close(gradient, -x * np.sin(0.8 * x) / (1 + 0.8 * np.sin(0.8 * x)), rtol=1e-8)


def test_derivatives_of_a_fixed_point_where_it_hardly_contracts():
    """x = r x + a with r near 1: x = a / (1 - r); the sum of the series takes as long."""
    f = lambda a, r: ad.custom_fixed_point(lambda x: r * x + a, 0.0)
    close(ad.grad(f, (0, 1))(2.0, 0.95), (1 / 0.05, 2.0 / 0.05**2), rtol=1e-9)


def test_a_tolerance_and_a_number_of_iterations_for_the_defaults():
    f = lambda x: 0.5 * x + 1.0
    close(ad.custom_fixed_point(f, 0.0, maxiter=3), 1.75)
    rough = ad.custom_fixed_point(f, 0.0, tol=1e-2)
    assert 1e-6 < abs(rough - 2.0) < 1e-1


def test_the_fixed_point_of_a_tree_of_narrow_types():
    def f(t):
        step = lambda s: {"x": 0.5 * s["y"] + t, "y": 0.25 * s["x"]}
        start = {"x": np.zeros(2, np.float32), "y": np.zeros(2, np.float32)}
        return np.sum(ad.custom_fixed_point(step, start)["x"])

    gradient = ad.jit(ad.grad(f))(np.float32(1.0))
    assert gradient.dtype == np.float32
    # The default tolerance for float32 is 6.4e-6.
    np.testing.assert_allclose(gradient, 2 / (1 - 0.125), rtol=1e-5)
