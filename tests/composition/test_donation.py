"""Donated arguments of jit: their memory may hold a result, others' never does."""

import numpy as np
import pytest

import autodiff as ad


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
