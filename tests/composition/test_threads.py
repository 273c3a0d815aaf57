"""Transformations on several threads at once do not see each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import autodiff as ad

THREADS = 8
ROUNDS = 12


def on_threads(work):
    """Run `work(thread number)` on all threads, started together, and return the results."""
    together = Barrier(THREADS)

    def start(number):
        together.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [task.result() for task in [pool.submit(start, i) for i in range(THREADS)]]


def power_sum(x, power):
    total = 0.0
    for _ in range(power):
        total = total + x**2 * power
    return np.sum(total)


TRANSFORMATIONS = {
    "grad": lambda f, x: ad.grad(f)(x),
    "vjp": lambda f, x: ad.vjp(f, x)[1](1.0)[0],
    "jacrev": lambda f, x: ad.jacrev(f)(x),
    "jacfwd": lambda f, x: ad.jacfwd(f)(x),
    "jit_of_grad": lambda f, x: ad.jit(ad.grad(f))(x),
    "vmap_of_grad": lambda f, x: ad.vmap(ad.grad(f))(np.stack([x, x]))[0],
    "grad_of_jit": lambda f, x: ad.grad(ad.jit(f))(x),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_each_thread_gets_its_own_derivative(name):
    def work(number):
        x = np.arange(3.0) + number
        power = 2 + number % 3
        found = [TRANSFORMATIONS[name](lambda x: power_sum(x, power), x) for _ in range(ROUNDS)]
        return x, power, found

    for x, power, found in on_threads(work):
        for gradient in found:
            np.testing.assert_allclose(gradient, 2 * x * power**2, rtol=1e-13)


def test_one_jitted_function_called_for_the_first_time_by_all_threads():
    jitted = ad.jit(lambda x: np.sin(x) * np.sum(x**2))
    results = on_threads(lambda number: [jitted(np.arange(2.0 + number)) for _ in range(ROUNDS)])
    for number, found in enumerate(results):
        x = np.arange(2.0 + number)
        for value in found:
            np.testing.assert_allclose(value, np.sin(x) * np.sum(x**2), rtol=1e-14)


def test_a_vjp_function_shared_by_all_threads():
    _, pull = ad.vjp(lambda x: x**2, np.arange(3.0))
    for number, (found,) in enumerate(on_threads(lambda number: pull(np.full(3, float(number))))):
        np.testing.assert_array_equal(found, 2 * np.arange(3.0) * number)


def test_an_error_on_one_thread_leaves_the_others_alone():
    def work(number):
        if number % 2:
            with pytest.raises(TypeError):
                ad.grad(lambda x: x)(np.ones(3))
            return None
        return ad.grad(lambda x: np.sum(x**3))(np.arange(3.0))

    for number, found in enumerate(on_threads(work)):
        if number % 2 == 0:
            np.testing.assert_allclose(found, 3 * np.arange(3.0) ** 2)


def test_settings_overridden_on_one_thread_hold_there_only():
    def work(number):
        if number % 2:
            with ad.override(default_float="float32"):
                return [ad.grad(np.tanh)(2.0).dtype for _ in range(ROUNDS)]
        return [ad.grad(np.tanh)(2.0).dtype for _ in range(ROUNDS)]

    for number, found in enumerate(on_threads(work)):
        assert set(found) == {np.dtype(np.float32 if number % 2 else np.float64)}


def test_a_traced_value_of_another_thread_is_captured_as_a_constant():
    def f(x):
        with ThreadPoolExecutor(1) as pool:
            inner = pool.submit(lambda: ad.grad(lambda y: np.sum(x * y**2))(np.ones(2))).result()
        return np.sum(inner * x)

    np.testing.assert_array_equal(ad.grad(f)(np.array([1.0, 3.0])), [4.0, 12.0])
