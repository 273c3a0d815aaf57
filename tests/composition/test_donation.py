"""Donated arguments of jit: their memory may hold a result, others' never does."""

import numpy as np
import pytest

import autodiff as ad
from autodiff.passes.pipeline import simplify
from autodiff.runtime.cpu_kernels import schedule_for_cpu
from autodiff.schedule.reuse import LARGE, with_reuse


def test_a_donated_argument_that_is_returned_is_not_copied_and_others_are():
    def f(n, x, tree):
        return x.reshape(3, 2), tree["a"], tree["a"].reshape(-1)

    def shares(donated):
        x, a = np.arange(6.0), np.ones((2, 2))
        jitted = ad.jit(f, static_argnums=0, donate_argnums=donated)
        outs = jitted(5, x, {"a": a})
        for out, expected in zip(outs, f(5, x, {"a": a}), strict=True):
            np.testing.assert_array_equal(out, expected)
        return [np.shares_memory(out, arg) for out, arg in zip(outs, (x, a, a), strict=True)]

    with ad.override(reference=False):
        assert shares(()) == [False, False, False]
        assert shares(1) == shares(-2) == [True, False, False]
        assert shares((1, 2)) == [True, True, False]  # one result at most takes one memory


def test_a_constant_and_a_repeated_scalar_are_never_given_away():
    kept = np.ones(3)
    jitted = ad.jit(lambda x: (kept, np.broadcast_to(x, (2,))), donate_argnums=0)
    x = np.asarray(1.0)
    first, second = jitted(x)
    first[0] = 9
    second[0] = 9
    np.testing.assert_array_equal(jitted(x)[0], [1, 1, 1])
    assert x == 1 and second[1] == 1


def test_donating_a_static_argument_is_refused():
    with pytest.raises(ValueError, match="must not be both static and donated"):
        ad.jit(lambda x: x, static_argnums=0, donate_argnums=0)


#: Elements from which on results take the memory of donated arguments.
MANY = LARGE // 8


def adam(x, m, v, g):
    m, v = 0.9 * m + 0.1 * g, 0.5 * v + 0.5 * g * g
    return x - m / (np.sqrt(v) + 1.0), m, v


def state(n=MANY):
    return [np.linspace(0.5, 2.0, n) * (k + 1) for k in range(4)]


@pytest.fixture
def with_kernels():
    with ad.override(reference=False, kernels=True):
        yield


@pytest.mark.usefixtures("with_kernels")
def test_large_results_are_written_over_donated_arguments():
    expected = adam(*state())
    jitted = ad.jit(adam, donate_argnums=(0, 1, 2))
    for _ in range(3):
        x, m, v, g = state()
        kept = g.copy()
        outs = jitted(x, m, v, g)
        for out, given, exact in zip(outs, (x, m, v), expected, strict=True):
            assert np.shares_memory(out, given)
            np.testing.assert_allclose(out, exact, rtol=1e-14)
        np.testing.assert_array_equal(g, kept)


@pytest.mark.usefixtures("with_kernels")
def test_an_argument_that_is_not_donated_is_never_written_over():
    arguments = state()
    jitted = ad.jit(adam, donate_argnums=1)
    for _ in range(2):
        given = [x.copy() for x in arguments]
        jitted(*given)
        for k in (0, 2, 3):
            np.testing.assert_array_equal(given[k], arguments[k])


@pytest.mark.parametrize(
    "spoiled",
    {
        "the same twice": lambda x, m, v, g: (x, x, v, g),
        "a view of another": lambda x, m, v, g: (x, m, x[::-1], g),
        "neighbours that overlap": lambda x, m, v, g: (
            *(lambda both: (both[:MANY], both[8 : MANY + 8]))(np.linspace(1.0, 2.0, MANY + 8)),
            v,
            g,
        ),
        "read-only": lambda x, m, v, g: (np.broadcast_to(x, x.shape), m, v, g),
        "strided": lambda x, m, v, g: (np.repeat(x, 2)[::2], m, v, g),
        "shared with what is kept": lambda x, m, v, g: (g, m, v, g),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_donated_arguments_that_share_memory_give_right_results(spoiled):
    jitted = ad.jit(adam, donate_argnums=(0, 1, 2))
    given = spoiled[1](*state())
    expected, kept = adam(*given), given[3].copy()
    for out, exact in zip(jitted(*given), expected, strict=True):
        np.testing.assert_allclose(out, exact, rtol=1e-14)
    np.testing.assert_array_equal(given[3], kept)


@pytest.mark.usefixtures("with_kernels")
def test_what_is_read_in_another_order_or_again_is_not_written_over():
    n = 512
    x = np.arange(float(n * n)).reshape(n, n)
    programs = (
        lambda x: x + x.T,
        lambda x: x + x[::-1],
        lambda x: (x * 2.0 + 1.0, np.sort(x, axis=None)),
        lambda x: np.exp(x / np.max(x)) / np.sum(np.exp(x / np.max(x)), axis=1, keepdims=True),
        lambda x: x - np.mean(x, axis=0),
        lambda x: np.cumsum(x * 2.0, axis=1) + x,
        lambda x: (x + 1.0, x - 1.0),
        lambda x: np.concatenate([x * 2.0, x + 1.0]),
    )
    for f in programs:
        expected = f(x)
        for _ in range(2):
            found = ad.jit(f, donate_argnums=0)(x.copy())
            for out, exact in zip(ad.tree.leaves(found), ad.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(out, exact, rtol=1e-12)


@pytest.mark.usefixtures("with_kernels")
def test_results_between_kernels_are_written_over_too():
    def f(x, w):
        return np.tanh(np.tanh(x @ w + 1.0) @ w + 1.0)

    x, w = np.ones((1024, 256)) / 256, np.eye(256)
    graph, _ = with_reuse(schedule_for_cpu(simplify(ad.make_graph(f)(x, w))).graph, frozenset())
    specs = [eqn.params["spec"] for eqn in graph.eqns if "spec" in eqn.params]
    assert [[store.over is not None for store in spec.stores] for spec in specs] == [[True]] * 2
    np.testing.assert_allclose(ad.jit(f)(x, w), f(x, w), rtol=1e-14)
