"""Complex differentiation: real parts, holomorphic functions, and a complex Cholesky factor."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff import random
from tests.cookbook.data import close


def real_parts(xp):
    """Return u and v of f(x + iy) = u(x, y) + i v(x, y)."""

    def u(x, y):
        return x**2 * y + xp.sin(y)

    def v(x, y):
        return xp.cos(x) * y - x * y**2

    def f(z):
        x, y = xp.real(z), xp.imag(z)
        return u(x, y) + v(x, y) * 1j

    return u, v, f


def drawn_complex(key):
    first, second = random.split(key)
    real, imaginary = random.normal(first, ()), random.normal(second, ())
    return real + 1j * imaginary


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_jvp_of_a_complex_function_is_that_of_its_real_parts(xp, seed):
    u, v, f = real_parts(xp)
    keys = random.split(random.key(seed))
    z, t = (np.complex64(drawn_complex(key)) for key in keys)
    value, found = ad.jvp(f, (z,), (t,))
    x, y = np.real(z), np.imag(z)
    by_x = ad.grad(u)(x, y) + 1j * ad.grad(v)(x, y)
    by_y = ad.grad(u, 1)(x, y) + 1j * ad.grad(v, 1)(x, y)
    close(value, u(x, y) + 1j * v(x, y), rtol=1e-5)
    close(found, by_x * np.real(t) + by_y * np.imag(t), rtol=1e-5)
    assert found.dtype == np.complex64


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_vjp_of_a_complex_function_is_that_of_its_real_parts(xp, seed):
    u, v, f = real_parts(xp)
    keys = random.split(random.key(seed))
    z, ct = (np.complex64(drawn_complex(key)) for key in keys)
    _, pull = ad.vjp(f, z)
    (found,) = pull(ct)
    x, y = np.real(z), np.imag(z)
    # Re(pulled * t) = Re(ct * J t): with ct = c - d*1j both parts of f pull separately
    c, d = np.real(ct), -np.imag(ct)
    by_x = c * ad.grad(u)(x, y) + d * ad.grad(v)(x, y)
    by_y = c * ad.grad(u, 1)(x, y) + d * ad.grad(v, 1)(x, y)
    close(found, by_x - 1j * by_y, rtol=1e-5)
    assert found.dtype == np.complex64


def test_gradient_of_the_squared_modulus_points_to_the_conjugate(xp):
    def f(z):
        return xp.real(z) ** 2 + xp.imag(z) ** 2

    close(ad.grad(f)(3.0 + 4j), np.array(6 - 8j))


def test_holomorphic_derivative_of_sin(xp):
    close(ad.grad(xp.sin, holomorphic=True)(3.0 + 4j), np.array(-27.034945 - 3.8511531j))


def test_holomorphic_flag_on_a_function_that_is_not(xp):
    close(ad.grad(xp.conjugate, holomorphic=True)(3.0 + 4j), np.array(1 - 0j))


def test_complex_output_without_the_flag_is_refused(xp):
    with pytest.raises(TypeError, match="pass holomorphic=True"):
        ad.grad(xp.sin)(3.0 + 4j)


A = np.array([[5.0, 2 + 3j, 5j], [2 - 3j, 7.0, 1 + 7j], [-5j, 1 - 7j, 12.0]], np.complex64)
BY_A = np.array(
    [
        [-0.75342447, -3.0509021 - 10.940544j, 5.989684 + 3.5422976j],
        [-3.0509021 + 10.940544j, -8.904487, -5.1351547 - 6.5593696j],
        [5.989684 - 3.5422976j, -5.1351547 + 6.5593696j, 0.01320434],
    ]
)


def test_holomorphic_derivative_through_a_complex_cholesky_factor(xp):
    def f(X):
        L = xp.linalg.cholesky(X)
        return xp.sum((L - xp.sin(L)) ** 2)

    found = ad.grad(f, holomorphic=True)(A)
    assert found.dtype == np.complex64
    close(found, BY_A, rtol=1e-4, atol=2e-4)
