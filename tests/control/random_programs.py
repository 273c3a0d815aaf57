"""Programs at random that nest control flow, derivatives and maps in one another.

A program is a tree of blocks, functions of (flow, c, x) with vectors of two numbers c and x. `flow`
is how constructs are carried out: `Looped` by the library, `WrittenOut` by Python itself (there
only `grad` is the library's, of what is then a straight-line program).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad

Block = Callable[[Any, Any, Any], Any]


class Looped:
    """Constructs as the library has them."""

    scan = staticmethod(ad.scan)
    fori_loop = staticmethod(ad.fori_loop)
    while_loop = staticmethod(ad.while_loop)
    cond = staticmethod(ad.cond)
    switch = staticmethod(ad.switch)
    map = staticmethod(ad.map)
    vmap = staticmethod(ad.vmap)
    jit = staticmethod(ad.jit)
    checkpoint = staticmethod(ad.checkpoint)
    sine = staticmethod(lambda x: _sine(x))
    product = staticmethod(lambda x, y: _product(x, y))
    snapshots = staticmethod(lambda n: {"checkpoint": n})
    grad = staticmethod(ad.grad)


class WrittenOut:
    """The same constructs in Python."""

    @staticmethod
    def scan(f, init, xs, reverse=False):
        carry, ys = init, []
        for i in reversed(range(len(xs))) if reverse else range(len(xs)):
            carry, y = f(carry, xs[i])
            ys.append(y)
        return carry, np.stack(ys[::-1] if reverse else ys) if ys else np.zeros((0, 2))

    @staticmethod
    def fori_loop(lower, upper, body, carry):
        for i in range(lower, int(upper)):
            carry = body(i, carry)
        return carry

    @staticmethod
    def while_loop(cond, body, carry, max_steps=None):
        steps = 0
        while cond(carry) and (max_steps is None or steps < max_steps):
            carry = body(carry)
            steps += 1
        return carry

    @staticmethod
    def cond(pred, true_fun, false_fun, *operands):
        return true_fun(*operands) if pred else false_fun(*operands)

    @staticmethod
    def switch(index, branches, *operands):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)

    @staticmethod
    def map(f, xs):
        return np.stack([f(x) for x in xs])

    @staticmethod
    def vmap(f):
        return lambda xs: np.stack([f(x) for x in xs])

    @staticmethod
    def jit(f):
        return f

    checkpoint = jit
    sine = staticmethod(np.sin)
    product = staticmethod(np.multiply)
    snapshots = staticmethod(lambda n: {})
    grad = staticmethod(ad.grad)


STEPS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda c, x: np.sin(c) + 0.3 * x,
    lambda c, x: np.tanh(c * x),
    lambda c, x: c * np.cos(x),
    lambda c, x: c + 0.2 * c[::-1],
    lambda c, x: np.where(c > 0.1, c**2, 0.5 * c) * 0.7,
    lambda c, x: np.exp(-(c**2)) + x[0] * c,
    lambda c, x: np.stack([c[0] * c[1], np.sum(x)]) * 0.5,
    lambda c, x: c / (1.5 + x**2),
)


def random_block(random: np.random.Generator, depth: int) -> Block:
    """Return a block that nests at most `depth` constructs."""
    if depth == 0 or random.random() < 0.1:
        return _straight(random)
    make = KINDS[random.integers(len(KINDS))]
    return make(random, depth - 1)


def random_program(seed: int) -> Callable[[Any], Callable[[Any], Any]]:
    """Return, for a seed, the function from a flow to a function of a vector of two numbers."""
    random = np.random.default_rng(seed)
    block = random_block(random, int(random.integers(1, 4)))
    return lambda flow: lambda x: block(flow, np.sin(x), x)


def _straight(random):
    chosen = [STEPS[i] for i in random.integers(len(STEPS), size=random.integers(1, 4))]

    def block(flow, c, x):
        for step in chosen:
            c = step(c, x)
        return c

    return block


def _sequence(random, depth):
    one, other = random_block(random, depth), random_block(random, depth)
    return lambda flow, c, x: other(flow, one(flow, c, x), x)


def _sum(random, depth):
    one, other = random_block(random, depth), random_block(random, depth)
    return lambda flow, c, x: 0.5 * one(flow, c, x) + 0.5 * other(flow, np.cos(c), c)


def _rows(random, least=0):
    n = int(random.integers(least, 4))
    rows = random.uniform(-1.0, 1.0, (n, 2))
    return (lambda c, x: rows * x) if random.random() < 0.5 else (lambda c, x: rows)


def _scan(random, depth):
    body, rows, reverse = random_block(random, depth), _rows(random), bool(random.integers(2))
    closes_over_c = bool(random.integers(2))

    def block(flow, c, x):
        other = c if closes_over_c else x
        last, ys = flow.scan(
            lambda v, r: (body(flow, v + r, other), v * r), c, rows(c, x), reverse=reverse
        )
        return last + 0.3 * np.sum(ys, axis=0)

    return block


def _mixed_scan(random, depth):
    """The carry holds integers and truth values beside a tree of vectors."""
    body, rows = random_block(random, depth), _rows(random)

    def block(flow, c, x):
        def step(carry, r):
            moved = body(flow, carry["v"] * r, x)
            v = np.where(carry["odd"], moved, carry["v"] + 0.1 * carry["n"] * r)
            return {"n": carry["n"] + 2, "odd": ~carry["odd"], "v": v}, carry["v"]

        init = {"n": np.int64(1), "odd": np.bool(True), "v": c}
        last, ys = flow.scan(step, init, rows(c, x))
        return last["v"] * (0.1 * last["n"]) + np.sum(ys, axis=0)

    return block


def _fori(random, depth):
    body, n, is_traced = random_block(random, depth), int(random.integers(4)), random.random() < 0.4

    def block(flow, c, x):
        upper = n
        if is_traced:  # a bound that is known only when the program runs
            upper = n + (np.sum(x) > 0.0).astype(np.int64)
        return flow.fori_loop(0, upper, lambda i, v: body(flow, v, x) + 0.1 * i, c)

    return block


def _while(random, depth):
    body, n, limit = random_block(random, depth), int(random.integers(4)), random.uniform(0.2, 2.0)
    bound = [None, 2, 6][random.integers(3)]

    def block(flow, c, x):
        def goes_on(carry):
            return (carry[0] < n) & (np.sum(carry[1] ** 2) < limit)

        def step(carry):
            return carry[0] + 1, body(flow, carry[1], x) + 0.2 * carry[1]

        return flow.while_loop(goes_on, step, (np.int64(0), c), max_steps=bound)[1]

    return block


def _cond(random, depth):
    one, other = random_block(random, depth), random_block(random, depth)
    threshold = random.uniform(-0.5, 0.5)
    return lambda flow, c, x: flow.cond(
        c[0] > threshold, lambda v: one(flow, v, x), lambda v: other(flow, v * x, c), c
    )


def _switch(random, depth):
    blocks = [random_block(random, depth) for _ in range(3)]

    def block(flow, c, x):
        index = np.floor(3.0 * x[1]).astype(np.int32)
        return flow.switch(index, [lambda v, b=b: b(flow, v, x) for b in blocks], c)

    return block


def _map(random, depth):
    body, rows = random_block(random, depth), _rows(random, least=1)
    return lambda flow, c, x: np.sum(flow.map(lambda r: body(flow, c * r, x), rows(c, x)), axis=0)


def _vmap(random, depth):
    body, rows = random_block(random, depth), _rows(random, least=1)
    return lambda flow, c, x: np.sum(flow.vmap(lambda r: body(flow, c + r, x))(rows(c, x)), axis=0)


def _jit(random, depth):
    body = random_block(random, depth)
    return lambda flow, c, x: flow.jit(lambda v: body(flow, v, x))(c)


def _checkpoint(random, depth):
    body = random_block(random, depth)
    return lambda flow, c, x: flow.checkpoint(lambda v: body(flow, v, x))(c)


def _grad(random, depth):
    """One step of descent on a function made of a block."""
    body = random_block(random, min(depth, 1))

    def block(flow, c, x):
        return c - 0.1 * np.tanh(flow.grad(lambda v: np.sum(np.sin(body(flow, v, x))))(c))

    return block


def _sine_with_a_rule_of_its_own():
    @ad.custom_jvp
    def sine(x):
        return np.sin(x)

    sine.defjvps(lambda t, out, x: t * np.cos(x))
    return sine


def _product_with_a_rule_of_its_own():
    @ad.custom_vjp
    def product(x, y):
        return x * y

    product.defvjp(
        lambda x, y: (product(x, y), {"x": x, "y": y}),
        lambda kept, ct: (ct * kept["y"], ct * kept["x"]),
    )
    return product


_sine, _product = _sine_with_a_rule_of_its_own(), _product_with_a_rule_of_its_own()


def _custom_jvp(random, depth):
    body = random_block(random, depth)
    return lambda flow, c, x: 0.5 * body(flow, flow.sine(c), x) + flow.sine(x)


def _custom_vjp(random, depth):
    body = random_block(random, depth)
    return lambda flow, c, x: flow.product(0.5 * body(flow, c, x), np.cos(c))


def _snapshots(random, depth):
    """A scan reversed from few snapshots of its carry."""
    body, n, kept = random_block(random, depth), int(random.integers(1, 6)), random.integers(1, 4)
    rows = random.uniform(-1.0, 1.0, (n, 2))

    def block(flow, c, x):
        step = lambda v, r: (body(flow, v * r, x), v[0])
        last, ys = flow.scan(step, c, rows, **flow.snapshots(int(kept)))
        return last + 0.2 * np.sum(ys)

    return block


KINDS: tuple[Callable[..., Block], ...] = (
    _custom_jvp,
    _custom_vjp,
    _snapshots,
    _sequence,
    _sum,
    _scan,
    _scan,
    _mixed_scan,
    _fori,
    _while,
    _while,
    _cond,
    _switch,
    _map,
    _vmap,
    _jit,
    _checkpoint,
    _grad,
)
