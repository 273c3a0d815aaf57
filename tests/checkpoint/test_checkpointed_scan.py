"""scan(..., checkpoint=n): the reverse sweep keeps n carries and repeats steps as theory says."""

from __future__ import annotations

import weakref
from collections import Counter
from math import comb

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.evaluate import evaluated
from autodiff.ir.primitive import primitives
from tests.checkpoint.counting import count, equations, residual_bytes, simplified
from tests.composition.transformations import COMPUTED, TRANSFORMED, as_arrays

W, START = np.array([0.3, 0.7]), np.array([1.0, -2.0])
ROWS = np.linspace(-1.0, 1.0, 14).reshape(7, 2)


def step(w, a, x):
    return np.sin(w * a + x)


def looped(checkpoint, reverse=False, unroll=1):
    """Return a function whose loop carries a number, an array and a count of iterations."""

    def f(w, start, rows):
        def body(carry, x):
            a, n, s = carry
            a = step(w, a, x)
            return (a, n + 1, s + np.sum(a)), {"y": a * x, "w": w, "n": n}

        (a, n, s), ys = ad.scan(
            body, (start, 0, 0.0), rows, reverse=reverse, unroll=unroll, checkpoint=checkpoint
        )
        return np.sum(a * a) + s * s + np.sum(np.cos(ys["y"])) + np.sum(ys["w"]) + n

    return f


def unrolled(reverse=False):
    """Return the same function without a loop operation."""

    def f(w, start, rows):
        a, s, total = start, 0.0, 0.0
        for i in range(len(rows))[:: -1 if reverse else 1]:
            a = step(w, a, rows[i])
            s = s + np.sum(a)
            total = total + np.sum(np.cos(a * rows[i])) + np.sum(w)
        return np.sum(a * a) + s * s + total + len(rows)

    return f


def agree(found, expected, rtol=1e-11):
    assert ad.tree.structure(found) == ad.tree.structure(expected)
    for one, other in zip(ad.tree.leaves(found), ad.tree.leaves(expected), strict=True):
        assert type(one) is np.ndarray
        assert (one.shape, one.dtype) == (np.shape(other), np.asarray(other).dtype)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-12)


ALL = (0, 1, 2)
CASES = [
    (1, False, 1),
    (2, False, 1),
    (3, False, 1),
    (3, True, 1),
    (7, True, 1),
    (50, False, 1),
    (2, False, 3),
    (2, True, 3),
]


@pytest.mark.parametrize(("checkpoint", "reverse", "unroll"), CASES)
def test_every_derivative_is_that_of_the_unrolled_program(checkpoint, reverse, unroll):
    f, g = looped(checkpoint, reverse, unroll), unrolled(reverse)
    given = (W, START, ROWS)
    agree(np.asarray(f(*given)), np.asarray(g(*given)))
    agree(ad.grad(f, ALL)(*given), ad.grad(g, ALL)(*given))
    agree(ad.jit(ad.grad(f, ALL))(*given), ad.grad(g, ALL)(*given))
    agree(ad.jvp(f, given, given), ad.jvp(g, given, given))
    pushed, wanted = ad.linearize(f, *given)[1], ad.linearize(g, *given)[1]
    agree(pushed(*given), wanted(*given))


@pytest.mark.parametrize("outer", [ad.jacfwd, ad.jacrev])
@pytest.mark.parametrize("inner", [ad.jacfwd, ad.jacrev])
@pytest.mark.parametrize("reverse", [False, True])
def test_second_derivatives_in_every_order_of_modes(outer, inner, reverse):
    given = (W, START, ROWS[:4])
    found = outer(inner(looped(2, reverse), ALL), ALL)(*given)
    agree(found, outer(inner(unrolled(reverse), ALL), ALL)(*given), rtol=1e-10)


def test_third_derivatives():
    def along(f, t):
        return f(t * W, START, ROWS[:3])

    def third(f):
        return ad.grad(ad.grad(ad.grad(lambda t: along(f, t))))(1.0)

    agree(third(looped(2)), third(unrolled()), rtol=1e-9)
    jet_like = ad.jvp(ad.grad(ad.grad(lambda t: along(looped(2), t))), (1.0,), (1.0,))[1]
    agree(jet_like, third(unrolled()), rtol=1e-9)


def test_mapping_before_and_after_the_derivative():
    many = [np.stack([x, 0.5 * x, x + 0.2]) for x in (W, START, ROWS)]
    f, g = looped(3), unrolled()
    each = [ad.grad(g, ALL)(*[x[i] for x in many]) for i in range(3)]
    expected = tuple(np.stack(column) for column in zip(*each, strict=True))
    agree(ad.vmap(ad.grad(f, ALL))(*many), expected)
    agree(ad.grad(lambda *x: np.sum(ad.vmap(f)(*x)), ALL)(*many), expected)
    agree(ad.jit(ad.vmap(ad.grad(f, ALL)))(*many), expected)
    shared = ad.vmap(ad.grad(f, ALL), in_axes=(None, 0, None))(W, many[1], ROWS)
    each = [ad.grad(g, ALL)(W, start, ROWS) for start in many[1]]
    agree(shared, tuple(np.stack(column) for column in zip(*each, strict=True)))
    products = ad.vmap(ad.linearize(f, W, START, ROWS)[1])(*many)
    agree(products, np.stack([ad.jvp(g, (W, START, ROWS), t)[1] for t in zip(*many, strict=True)]))


NAMES = ["grad", "jvp", "vjp", "vmap", "jit", "linearize", "vmap_of_closure"]
CHAINS = [(a, b) for a in NAMES for b in NAMES] + [("grad", "vmap", "vjp"), ("vmap", "vjp", "jvp")]


@pytest.mark.parametrize("names", CHAINS, ids="-".join)
def test_transformations_agree_with_differences_and_loops(names):
    def of_tree(f):
        return lambda x: f(x["w"], x["a"], ROWS[:2])

    found, expected = of_tree(looped(2)), as_arrays(of_tree(unrolled()))
    argument = {"w": W, "a": START / 2}
    for name in reversed(names):
        found, expected = TRANSFORMED[name](found), COMPUTED[name](expected)
    for one, other in zip(
        ad.tree.leaves(found(argument)), ad.tree.leaves(expected(argument)), strict=True
    ):
        scale = max(1.0, float(np.max(np.abs(other), initial=0.0)))
        np.testing.assert_allclose(one, other, rtol=0.0, atol=2e-8 * scale)


# ------------------------------------------------------------------------------- counts and memory


def revolve_equation(fun, *args):
    """Return the parameters of the one reverse sweep in the simplified gradient of a function."""
    graph = simplified(ad.grad(fun), *args)
    (found,) = [e for e in equations(graph) if e.primitive is primitives["revolve"]]
    return found.params


class Watch:
    """Runs held graphs, counting calls and the results of `step` that are alive."""

    def __init__(self, params):
        self.params = params
        self.calls = Counter()
        self.alive: list[weakref.ref] = []
        self.most = 0

    def run(self, graph, fresh=False):
        kind = "step" if graph is self.params["step"] else "pull"
        assert kind == "step" or graph is self.params["pull"]
        function = evaluated(graph, fresh)

        def watched(*arguments):
            self.calls[kind] += 1
            results = function(*arguments)
            self.alive = [ref for ref in self.alive if ref() is not None]
            if kind == "step":
                self.alive.append(weakref.ref(results[0]))
            self.most = max(self.most, len(self.alive))
            return results

        return watched


@pytest.mark.parametrize(
    ("length", "snapshots", "steps"),
    [(1000, 10, 4 * 1000 - comb(14, 3)), (100, 3, None), (30, 1, 30 * 29 // 2), (8, 100, 7)],
)
def test_a_reverse_sweep_runs_as_many_steps_as_theory_says(length, snapshots, steps):
    def f(a, w):
        return np.sum(ad.scan(lambda a, x: (np.sin(w * a), None), a, None, length, checkpoint=n)[0])

    n = snapshots
    params = revolve_equation(f, START, W)
    watch = Watch(params)
    operands = [START, W] if params["consts"] == 0 else [W, START]
    execute = primitives["revolve"].execute
    assert execute is not None
    results = execute([*operands, np.ones(2)], params, watch.run)
    if steps is None:  # brute force is in test_schedule; here only the formula's shape
        r = next(r for r in range(99) if comb(n + r, n) >= length)
        steps = r * length - comb(n + r, n + 1)
    assert watch.calls == {"step": steps, "pull": length}
    # The initial carry is one of the snapshots; the states before and after a step are none.
    assert watch.most <= min(snapshots, length) - 1 + 2
    expected = START
    slope = np.ones(2)
    for _ in range(length):
        slope = slope * W * np.cos(W * expected)
        expected = np.sin(W * expected)
    agree(np.asarray(results[-1]), slope)


def test_no_step_of_a_thousand_is_repeated_more_than_four_times():
    """Counted by the host: a callback in the loop's body is told the step."""
    seen = Counter()

    def told(i):
        seen[int(i)] += 1
        return np.float64(1.0)

    def f(a):
        def body(a, i):
            one = ad.pure_callback(told, ad.eval_shape(np.sin, 0.0), i)
            return np.sin(1.01 * a * one), None

        return ad.scan(body, a, np.arange(1000), checkpoint=10)[0]

    _, pull = ad.vjp(f, 0.5)
    assert set(seen.values()) == {1}
    (gradient,) = pull(1.0)
    # Once forward and once when the step itself is pulled: the rest are repeats.
    repeats = [seen[i] - 2 for i in range(1000)]
    assert max(repeats) == 4
    assert sum(repeats) == 4 * 1000 - comb(14, 3)
    x, slope = 0.5, 1.0
    for _ in range(1000):
        slope *= 1.01 * np.cos(1.01 * x)
        x = np.sin(1.01 * x)
    np.testing.assert_allclose(gradient, slope, rtol=1e-10)


def test_the_forward_sweep_keeps_operands_alone():
    given = W, START, ROWS
    operands = W.nbytes + START.nbytes + ROWS.nbytes
    plain = [residual_bytes(looped(None), W, START, np.tile(ROWS, (k, 1))) for k in (1, 10)]
    assert plain[1] > plain[0] + 9 * ROWS.nbytes
    # What lies outside of the loop keeps its own: final a and s, rows of a * x for the cosine.
    assert residual_bytes(looped(3), *given) <= 2 * operands + 64

    def last(checkpoint):
        def f(a, w):
            return ad.scan(
                lambda a, _: (np.sin(np.exp(np.sin(w * a))), None),
                a,
                None,
                500,
                checkpoint=checkpoint,
            )[0]

        return f

    assert residual_bytes(last(5), START, W) == START.nbytes + W.nbytes
    assert residual_bytes(last(None), START, W) >= 500 * START.nbytes


def test_the_cost_of_tracing_does_not_depend_on_the_length():
    def equations_of(length):
        def f(a):
            return np.sum(ad.scan(lambda a, _: (np.sin(a), a), a, None, length, checkpoint=4)[0])

        return sum(1 for _ in equations(ad.make_graph(ad.grad(f))(START)))

    assert equations_of(10) == equations_of(10_000)


def test_forward_sweeps_are_plain_scans():
    graph = simplified(looped(3), W, START, ROWS)
    assert (count(graph, "scan"), count(graph, "checkpointed_scan")) == (1, 0)


# ------------------------------------------------------------------------------------ special cases


def test_loops_of_no_and_of_one_iteration():
    for length in (0, 1):
        given = (W, START, ROWS[:length])
        agree(ad.grad(looped(2), ALL)(*given), ad.grad(unrolled(), ALL)(*given))
        agree(ad.hessian(looped(2))(*given), ad.hessian(unrolled())(*given))


def test_results_are_fresh():
    carry = START.copy()
    _, pull = ad.vjp(lambda a: ad.scan(lambda a, x: (a, None), a, None, 0, checkpoint=2)[0], carry)
    ct = np.ones(2)
    assert not np.shares_memory(pull(ct)[0], ct)
    np.testing.assert_array_equal(pull(ct)[0], pull(ct)[0])


def test_float32_and_complex_stay_what_they_are():
    def f(z, rows):
        last, _ = ad.scan(lambda z, x: (np.sin(z * x), None), z, rows, checkpoint=2)
        return np.real(np.sum(last * np.conj(last)))

    def plain(z, rows):
        for x in rows:
            z = np.sin(z * x)
        return np.real(np.sum(z * np.conj(z)))

    z = np.array([0.3 + 0.2j, 0.1 - 0.4j])
    rows = np.array([0.5, 1.5, -0.7])
    agree(ad.grad(f, (0, 1))(z, rows), ad.grad(plain, (0, 1))(z, rows))
    single = ad.grad(f, (0, 1))(z.astype(np.complex64), rows.astype(np.float32))
    assert [g.dtype for g in single] == [np.complex64, np.float32]


def test_nested_in_loops_in_checkpoint_and_the_other_way():
    def inner(a, w):
        return ad.scan(lambda a, _: (np.sin(w * a), None), a, None, 4, checkpoint=2)[0]

    def nested(a, ws):
        return np.sum(ad.scan(lambda a, w: (inner(a, w), None), a, ws, checkpoint=2)[0])

    def plain(a, ws):
        for w in ws:
            for _ in range(4):
                a = np.sin(w * a)
        return np.sum(a)

    given = START, ROWS[:3]
    for f in (nested, ad.checkpoint(nested), lambda a, ws: ad.checkpoint(nested)(a, ws)):
        agree(ad.grad(f, (0, 1))(*given), ad.grad(plain, (0, 1))(*given))
        agree(ad.hessian(f)(*given), ad.hessian(plain)(*given), rtol=1e-10)


def test_a_closure_over_a_traced_value_is_an_operand():
    def f(w):
        return ad.grad(lambda a: np.sum(looped(3)(w, a, ROWS)))(START)

    def g(w):
        return ad.grad(lambda a: np.sum(unrolled()(w, a, ROWS)))(START)

    agree(ad.jacrev(f)(W), ad.jacrev(g)(W))
    agree(ad.jacfwd(f)(W), ad.jacfwd(g)(W))


def test_the_transpose_of_a_linear_loop():
    def f(a):
        last, ys = ad.scan(lambda a, w: (np.cos(w) * a, a), a, ROWS, checkpoint=2)
        return last, ys

    last, ys = np.ones(2), np.arange(14.0).reshape(7, 2)
    ct = last
    for i in range(7)[::-1]:
        ct = np.cos(ROWS[i]) * ct + ys[i]
    agree(ad.linear_transpose(f, START)((last, ys))[0], ct)
    _, pull = ad.vjp(f, START)
    agree(pull((last, ys))[0], ct)
    _, push = ad.linearize(f, START)
    agree(ad.linear_transpose(push, START)((last, ys))[0], ct)
    pulled_back = ad.linear_transpose(lambda c: pull((c, ys * 0))[0], last)(START)[0]
    agree(pulled_back, np.prod(np.cos(ROWS), axis=0) * START)


def test_named_axes_are_seen_in_the_body():
    def f(a):
        def body(a, x):
            return np.sin(a - ad.pmean(a, "i") + x), None

        return ad.scan(body, a, np.array([0.1, 0.2, 0.3]), checkpoint=2)[0]

    def loss(a):
        return np.sum(ad.vmap(f, axis_name="i")(a) ** 2)

    def plain(a):
        for x in (0.1, 0.2, 0.3):
            a = np.sin(a - np.mean(a) + x)
        return np.sum(a**2)

    agree(ad.grad(loss)(START), ad.grad(plain)(START))
    agree(ad.hessian(loss)(START), ad.hessian(plain)(START), rtol=1e-10)


def test_prints_happen_once_for_each_iteration(capsys):
    def f(a):
        def body(a, _):
            ad.debug.print("a")
            return np.sin(a), None

        return ad.scan(body, a, None, 6, checkpoint=2)[0]

    ad.grad(f)(0.5)
    assert capsys.readouterr().out.count("a") == 6
    ad.jit(ad.grad(f))(0.5)
    assert capsys.readouterr().out.count("a") == 6
