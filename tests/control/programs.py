"""Programs with control flow, each beside the same program written out in Python.

`looped` uses the library's control flow, `plain` Python's on NumPy arrays and traced values, with
no help of the library. Both take and return pytrees of float64 arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import autodiff as ad

WEIGHTS = np.array([[0.5, -0.3], [0.2, 0.7]])
ROWS = np.array([[0.3, -0.6], [0.8, 0.1], [-0.4, 0.9], [0.7, 0.2]])


@dataclass(frozen=True)
class Program:
    """A function written twice, and where to look at it."""

    name: str
    looped: Callable[[Any], Any]
    plain: Callable[[Any], Any]
    argument: Any


def _scanned(x):
    return ad.scan(lambda c, row: (np.tanh(c * row + x), c * x), x, ROWS)


def _scanned_plain(x):
    c, ys = x, []
    for row in ROWS:
        ys.append(c * x)
        c = np.tanh(c * row + x)
    return c, np.stack(ys)


def _recurrent(params):
    def cell(h, u):
        h = np.tanh(params["w"] @ h + u * params["b"])
        return h, np.sum(h**2)

    h, energies = ad.scan(cell, np.zeros(2), ROWS)
    return {"h": h, "energies": energies}


def _recurrent_plain(params):
    h, energies = np.zeros(2), []
    for u in ROWS:
        h = np.tanh(params["w"] @ h + u * params["b"])
        energies.append(np.sum(h**2))
    return {"h": h, "energies": np.stack(energies)}


def _reversed(x):
    return ad.scan(lambda c, r: (np.sin(c) + r * x, (c, r)), x, ROWS, reverse=True)


def _reversed_plain(x):
    c, ys = x, [None] * 4
    for i in reversed(range(4)):
        ys[i] = c
        c = np.sin(c) + ROWS[i] * x
    return c, (np.stack(ys), ROWS)


def _over_an_argument(x):
    return ad.scan(lambda c, r: (c * np.cos(r), c + r**2), np.array(1.5), x)


def _over_an_argument_plain(x):
    c, ys = np.array(1.5), []
    for i in range(len(x)):
        ys.append(c + x[i] ** 2)
        c = c * np.cos(x[i])
    return c, np.stack(ys)


def _mixed_carry(x):
    def body(carry, i):
        n, flag, value, parts = carry
        value = np.where(flag, np.sin(value), value * x)
        parts = {"a": parts["a"] + value * n, "b": parts["b"]}
        return (n + 1, ~flag, value, parts), (value, n)

    init = (2, np.bool(True), x, {"a": np.zeros(2), "b": x**2})
    (n, _, value, parts), (values, _) = ad.scan(body, init, np.arange(3))
    return value, parts, values, n * x


def _mixed_carry_plain(x):
    n, flag, value, a, values = 2, True, x, np.zeros(2), []
    for _ in range(3):
        value = np.sin(value) if flag else value * x
        a = a + value * n
        values.append(value)
        n, flag = n + 1, not flag
    return value, {"a": a, "b": x**2}, np.stack(values), n * x


def _empty(x):
    c, ys = ad.scan(lambda c, r: (np.sin(c) * r, c * r), x, np.zeros((0, 2)))
    return c * 2.0, ys, ad.fori_loop(3, 3, lambda i, v: v * i, x)


def _empty_plain(x):
    return x * 2.0, np.zeros((0, 2)), x * 1.0


def _unrolled(x):
    one = ad.scan(lambda c, r: (c * r + x, c), x, ROWS[:3], unroll=2)
    two = ad.scan(lambda c, r: (np.sin(c + r), c), x, ROWS[:3], unroll=2, reverse=True)
    return one, two


def _unrolled_plain(x):
    c, ys = x, []
    for r in ROWS[:3]:
        ys.append(c)
        c = c * r + x
    d, zs = x, [None] * 3
    for i in reversed(range(3)):
        zs[i] = d
        d = np.sin(d + ROWS[i])
    return (c, np.stack(ys)), (d, np.stack(zs))


def _powers(x):
    return ad.fori_loop(1, 5, lambda i, c: c * np.cos(x / i) + x, x)


def _powers_plain(x):
    c = x
    for i in range(1, 5):
        c = c * np.cos(x / i) + x
    return c


def _while(x):
    def body(carry):
        n, c = carry
        return n + 1, np.sin(c) * x + 0.5 * c

    return ad.while_loop(lambda carry: carry[0] < 4, body, (0, x))[1]


def _while_plain(x):
    c = x
    for _ in range(4):
        c = np.sin(c) * x + 0.5 * c
    return c


def _while_on_values(x):
    return ad.while_loop(lambda c: np.sum(c**2) < 9.0, lambda c: c * 1.3 + 0.1 * np.cos(x), x)


def _while_on_values_plain(x):
    c = x
    while np.sum(c**2) < 9.0:
        c = c * 1.3 + 0.1 * np.cos(x)
    return c


def _bounded_while(x):
    return ad.while_loop(lambda c: np.sum(c) < 1e9, lambda c: c * np.exp(0.1 * x), x, max_steps=3)


def _bounded_while_plain(x):
    c = x
    for _ in range(3):
        c = c * np.exp(0.1 * x)
    return c


def _no_iteration(x):
    return ad.while_loop(lambda c: np.sum(c**2) < 0.0, lambda c: np.sin(c * x), x) * x


def _no_iteration_plain(x):
    return x * x


def _chosen(x):
    total = np.sum(x)
    return ad.cond(total > 0.0, lambda v: (np.sin(v), v[0]), lambda v: (v**2, np.cos(v[1])), x)


def _chosen_plain(x):
    return (np.sin(x), x[0]) if np.sum(x) > 0.0 else (x**2, np.cos(x[1]))


def _switched(x):
    index = (np.abs(x[0]) * 10).astype(int) % 5 - 1  # beyond both ends
    branches = [
        lambda v: v * x[1],
        lambda v: np.exp(v) * x,
        lambda v: np.ones(2),
        lambda v: ad.scan(lambda c, r: (c * r, c), v, ROWS)[0],
    ]
    return ad.switch(index, branches[:3], np.sin(x))


def _switched_plain(x):
    index = min(max(int(np.abs(x[0]) * 10) % 5 - 1, 0), 2)
    v = np.sin(x)
    if index == 0:
        return v * x[1]
    return np.exp(v) * x if index == 1 else np.ones(2)


def _nested(x):
    def outer(c, r):
        def inner(d):
            return ad.cond(np.sum(d) > 1.0, lambda v: v * 0.4, lambda v: v * r + 0.3 * x, d)

        c = ad.fori_loop(0, 3, lambda i, d: inner(d) + 0.1 * i * c, c)
        return c, c * x

    return ad.scan(outer, x, ROWS[:3])


def _nested_plain(x):
    c, ys = x, []
    for r in ROWS[:3]:
        d = c
        for i in range(3):
            d = (d * 0.4 if np.sum(d) > 1.0 else d * r + 0.3 * x) + 0.1 * i * c
        c = d
        ys.append(c * x)
    return c, np.stack(ys)


def _while_in_scan(x):
    """Each row takes its own number of iterations."""

    def outer(c, r):
        d = ad.while_loop(lambda v: np.sum(v**2) < 2.0, lambda v: 1.4 * v + 0.2 * r * x, c)
        return d * 0.3, d

    return ad.scan(outer, x, ROWS[:3])


def _while_in_scan_plain(x):
    c, ys = x, []
    for r in ROWS[:3]:
        while np.sum(c**2) < 2.0:
            c = 1.4 * c + 0.2 * r * x
        ys.append(c)
        c = c * 0.3
    return c, np.stack(ys)


def _while_in_cond(x):
    def grown(v):
        return ad.while_loop(lambda c: np.sum(c**2) < 5.0, lambda c: c * (1.2 + 0.1 * x), v)

    return ad.cond(x[0] > 0.4, grown, lambda v: np.sin(v) * x, x)


def _while_in_cond_plain(x):
    if not x[0] > 0.4:
        return np.sin(x) * x
    c = x
    while np.sum(c**2) < 5.0:
        c = c * (1.2 + 0.1 * x)
    return c


def _while_in_while(x):
    def outer(carry):
        n, c = carry
        c = ad.while_loop(lambda v: np.sum(v**2) < 4.0, lambda v: v * 1.5 + 0.1 * x, c)
        return n + 1, c * 0.4 * np.cos(x)

    return ad.while_loop(lambda carry: carry[0] < 3, outer, (0, x))[1]


def _while_in_while_plain(x):
    c = x
    for _ in range(3):
        while np.sum(c**2) < 4.0:
            c = c * 1.5 + 0.1 * x
        c = c * 0.4 * np.cos(x)
    return c


def _mapped(x):
    return ad.map(lambda r: np.sin(r * x) * r[0], ROWS), ad.map(lambda r: r * x, ROWS, batch_size=3)


def _mapped_plain(x):
    return np.stack([np.sin(r * x) * r[0] for r in ROWS]), np.stack([r * x for r in ROWS])


def _products(x):
    rows = ROWS * x
    return (
        ad.associative_scan(np.multiply, rows),
        ad.associative_scan(lambda a, b: a * b, rows[:3], reverse=True),
    )


def _products_plain(x):
    rows = ROWS * x
    up, down = [rows[0]], [rows[2]]
    for i in (1, 2, 3):
        up.append(up[-1] * rows[i])
    for i in (1, 0):
        down.insert(0, down[0] * rows[i])
    return np.stack(up), np.stack(down)


def _affine(x):
    """A linear recurrence c -> a c + b as an associative operation on pairs."""

    def combine(one, other):
        return one[0] * other[0], one[1] * other[0] + other[1]

    a, b = np.cos(ROWS * x), ROWS + x
    return ad.associative_scan(combine, (a, b))[1]


def _affine_plain(x):
    c, ys = np.zeros(2), []
    for r in ROWS:
        c = c * np.cos(r * x) + r + x
        ys.append(c)
    return np.stack(ys)


X = np.array([0.6, -0.5])
XS = np.array([0.4, -0.9, 0.7])
PARAMS = {"w": WEIGHTS, "b": np.array(0.4)}

PROGRAMS = (
    Program("scan", _scanned, _scanned_plain, X),
    Program("recurrent", _recurrent, _recurrent_plain, PARAMS),
    Program("reversed", _reversed, _reversed_plain, X),
    Program(
        "over_an_argument", _over_an_argument, _over_an_argument_plain, np.array([0.4, -0.9, 0.7])
    ),
    Program("mixed_carry", _mixed_carry, _mixed_carry_plain, X),
    Program("empty", _empty, _empty_plain, X),
    Program("unrolled", _unrolled, _unrolled_plain, X),
    Program("fori", _powers, _powers_plain, X),
    Program("while_counted", _while, _while_plain, X),
    Program("while_on_values", _while_on_values, _while_on_values_plain, X),
    Program("bounded_while", _bounded_while, _bounded_while_plain, X),
    Program("no_iteration", _no_iteration, _no_iteration_plain, X),
    Program("cond", _chosen, _chosen_plain, X),
    Program("switch", _switched, _switched_plain, X),
    Program("nested", _nested, _nested_plain, X),
    Program("while_in_scan", _while_in_scan, _while_in_scan_plain, X),
    Program("while_in_cond", _while_in_cond, _while_in_cond_plain, X),
    Program("while_in_while", _while_in_while, _while_in_while_plain, X),
    Program("map", _mapped, _mapped_plain, X),
    Program("associative_scan", _products, _products_plain, X),
    Program("affine_recurrence", _affine, _affine_plain, X),
)
