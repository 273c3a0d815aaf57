"""Custom derivative rules and binomial checkpointing, as the cookbook asks for them."""

from __future__ import annotations

import numpy as np

import autodiff as ad
from tests.cookbook.data import close


def test_a_custom_jvp_keeps_a_derivative_finite_where_the_formula_overflows(xp):
    """log(1 + exp(x)) has derivative 1 / (1 + exp(-x)); by its formula it is inf / inf at 100."""

    @ad.custom_jvp
    def log1pexp(x):
        return xp.log(1.0 + xp.exp(x))

    @log1pexp.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return log1pexp(x), (1.0 - 1.0 / (1.0 + xp.exp(x))) * t

    x = np.array([-3.0, 0.5, 100.0])
    sigmoid = 1 / (1 + np.exp(-x))
    close(ad.vmap(ad.grad(log1pexp))(x), sigmoid, rtol=1e-12)
    close(ad.jit(ad.vmap(ad.grad(log1pexp)))(x), sigmoid, rtol=1e-12)
    second = ad.vmap(ad.grad(ad.grad(log1pexp)))(x[:2])
    close(second, (sigmoid * (1 - sigmoid))[:2], rtol=1e-10)


def test_a_custom_vjp_bounds_what_is_pulled_back(xp):
    @ad.custom_vjp
    def bounded(low, high, x):
        return x

    def bwd(bounds, ct):
        return None, None, xp.clip(ct, *bounds)

    bounded.defvjp(lambda low, high, x: (x, (low, high)), bwd)

    def loss(x, scale):
        return xp.sum(scale * bounded(-0.5, 0.5, x))

    x, scale = np.array([1.0, 2.0, 3.0]), np.array([0.2, 4.0, -9.0])
    close(ad.grad(loss)(x, scale), np.array([0.2, 0.5, -0.5]))
    close(ad.grad(loss, 1)(x, scale), x)


def test_a_long_recurrence_is_reversed_from_ten_snapshots(xp):
    """At most four repeats of any of 1,000 steps: C(14, 4) = 1001 (Griewank and Walther 2000)."""
    runs = np.zeros(1_000, int)

    def counted(c, i):
        runs[int(i)] += 1
        return c

    def step(c, i):
        c = ad.pure_callback(counted, c, ad.stop_gradient(c), i) * 0.0 + c
        return xp.sin(1.1 * c) + 0.05, None

    def last(x, checkpoint):
        body = step if checkpoint else (lambda c, i: (xp.sin(1.1 * c) + 0.05, None))
        return ad.scan(body, x, np.arange(1_000), checkpoint=checkpoint)[0]

    x = np.array(0.7)
    expected = ad.grad(lambda v: last(v, None))(x)
    runs[:] = 0
    close(ad.grad(lambda v: last(v, 10))(x), expected, rtol=1e-11)
    # the run for the value, at most four repeats, and the one in which a step is pulled back
    assert runs.max() <= 1 + 4 + 1
    assert runs.sum() == 1_000 + 3_636 + 1_000  # the binomial optimum between the two
