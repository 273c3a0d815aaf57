"""Functions with rules of their own inside loops and branches, against unrolled programs."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.primitive import primitives

X = np.array([0.3, -0.7, 1.1])


def close(found, expected, rtol=1e-11):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-13)


@ad.custom_jvp
def sine(x):
    return np.sin(x)


@sine.defjvp
def _sine(primals, tangents):
    (x,), (t,) = primals, tangents
    return sine(x), t * np.cos(x)


@ad.custom_vjp
def damped(x):
    return np.sin(x)


damped.defvjp(lambda x: (damped(x), np.cos(x)), lambda cosine, ct: (ct * cosine,))


@ad.custom_batching
def batching(x):
    return np.sin(x)


batching.defbatch(lambda size, in_batched, x: (np.sin(x), True))


@pytest.fixture(scope="module")
def functions():
    """Return the functions by name; the host's is undeclared afterwards."""
    host = ad.primitive(
        "looped_sine",
        lambda x: np.sin(x),
        doc="Sine, by the host.",
        type_rule=lambda x: x,
        jvp=lambda t, out, x: t * np.cos(x),
        replace=True,
    )
    yield {"jvp": sine, "vjp": damped, "batching": batching, "host": host}
    del primitives["looped_sine"]


STEPS = 4


def by_scan(f):
    return lambda x: ad.scan(lambda c, _: (f(c) * x, c), x, length=STEPS)[0]


def by_fori(f):
    return lambda x: ad.fori_loop(0, STEPS, lambda i, c: f(c) * x, x)


def by_while(f):
    def loop(x):
        return ad.while_loop(lambda s: s[0] < STEPS, lambda s: (s[0] + 1, f(s[1]) * x), (0, x))[1]

    return loop


def by_cond(f):
    def loop(x):
        c = x
        for _ in range(STEPS):
            c = ad.cond(c > -5.0, lambda c, x: f(c) * x, lambda c, x: c, c, x)
        return c

    return loop


LOOPS = {"scan": by_scan, "fori": by_fori, "while": by_while, "cond": by_cond}


def unrolled(x):
    c = x
    for _ in range(STEPS):
        c = np.sin(c) * x
    return c


TRANSFORMED = {
    "value": lambda f: f,
    "grad": ad.grad,
    "jvp": lambda f: lambda x: ad.jvp(f, (x,), (1.0,))[1],
    "grad of grad": lambda f: ad.grad(ad.grad(f)),
    "jvp of grad": lambda f: lambda x: ad.jvp(ad.grad(f), (x,), (1.0,))[1],
    "jit of grad": lambda f: ad.jit(ad.grad(f)),
    "grad of jit": lambda f: ad.grad(ad.jit(f)),
    "linearize": lambda f: lambda x: ad.linearize(f, x)[1](1.0),
}


@pytest.mark.parametrize("transformation", TRANSFORMED)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", ["jvp", "vjp", "batching", "host"])
def test_a_loop_agrees_with_the_unrolled_program(functions, name, loop, transformation):
    transformed = TRANSFORMED[transformation]
    f = LOOPS[loop](functions[name])
    close(transformed(f)(0.7), transformed(unrolled)(0.7))
    if transformation != "linearize":
        expected = [transformed(unrolled)(x) for x in X]
        close(ad.vmap(transformed(f))(X), expected)


def test_a_clipped_gradient_inside_a_scan_is_clipped_at_every_step():
    clipped = ad.custom_vjp(lambda x: x)
    clipped.defvjp(lambda x: (x, None), lambda residuals, ct: (np.clip(ct, -1.0, 1.0),))

    def f(x):
        return ad.scan(lambda c, _: (3.0 * clipped(c), None), x, length=3)[0]

    close(f(2.0), 54.0)
    close(ad.grad(f)(2.0), 1.0)
    close(ad.vmap(ad.grad(f))(X), np.ones(3))
    close(ad.jit(ad.grad(f))(2.0), 1.0)


def test_rules_may_hold_loops():
    power = ad.custom_vjp(lambda x: ad.fori_loop(0, 3, lambda i, c: c * x, np.ones_like(x)))

    def bwd(x, ct):
        return (3.0 * ct * ad.fori_loop(0, 2, lambda i, c: c * x, np.ones_like(x)),)

    power.defvjp(lambda x: (power(x), x), bwd)
    close([ad.grad(power)(2.0), ad.grad(ad.grad(power))(2.0)], [12.0, 12.0])
    close(ad.vmap(ad.jacfwd(ad.grad(power)))(X), 6 * X)


def test_a_value_carried_by_the_loop_and_closed_over_by_a_rule_is_refused():
    def body(c, _):
        f = ad.custom_vjp(lambda x: c * x)
        f.defvjp(lambda x: (c * x, None), lambda residuals, ct: (c * ct,))
        return f(c), None

    with pytest.raises(ad.MissingRuleError, match="closes over"):
        ad.grad(lambda x: ad.scan(body, x, length=2)[0])(2.0)


def test_checkpointing_and_taylor_series_use_the_rule():
    tripled = ad.custom_jvp(lambda x: x * 1.0)
    tripled.defjvp(lambda primals, tangents: (tripled(*primals), 3.0 * tangents[0]))
    close(ad.grad(ad.checkpoint(tripled))(2.0), 3.0)
    close(ad.jit(ad.grad(ad.checkpoint(lambda x: np.sin(tripled(x)))))(2.0), 3 * np.cos(2.0))
    value, (first, second) = ad.jet(lambda x: tripled(x) ** 2, (2.0,), ((1.0, 0.0),))
    close([value, first, second], [4.0, 12.0, 18.0])
