"""Later calls of a jitted function, which go to its kernels directly, are as its first one."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad

X = np.linspace(-1.0, 2.0, 24)

PROGRAMS = {
    "one array": lambda x: np.sin(x) * 2.0 + x,
    "a number": lambda x: np.sum(x * x + 1.0),
    "a tree": lambda x: {"a": np.cos(x) + x, "b": (np.exp(x) - 1.0,)},
    "a tree of one": lambda x: (x * x + x,),
    "the same twice": lambda x: [x * x + x] * 2,
    "an argument too": lambda x: (x, x * x + x),
    "nothing": lambda x: (),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_later_calls_give_what_the_first_gave_as_fresh_arrays(name):
    function = PROGRAMS[name]
    jitted = ad.jit(function)
    first = jitted(X)
    for x in (X, X[::-1], np.repeat(X, 2)[::2], X * 3.0):
        found, expected = jitted(x), function(x)
        assert ad.tree.structure(found) == ad.tree.structure(expected) == ad.tree.structure(first)
        leaves = ad.tree.leaves(found)
        for ours, exact in zip(leaves, ad.tree.leaves(expected), strict=True):
            assert type(ours) is np.ndarray
            np.testing.assert_allclose(ours, exact, rtol=1e-14, atol=1e-15)
            assert not np.shares_memory(ours, x)
        assert sum(np.shares_memory(a, b) for a in leaves for b in leaves) == len(leaves)


def test_settings_effects_and_transformations_still_count_after_direct_calls():
    log = ad.jit(lambda x: np.log(x) * 2.0)
    for _ in range(3):
        np.testing.assert_array_equal(log(np.ones(4)), np.zeros(4))
    with ad.override(check="nans"), pytest.raises(FloatingPointError):
        log(-np.ones(4))
    assert np.isnan(log(-np.ones(4))).all()
    np.testing.assert_array_equal(ad.grad(lambda x: np.sum(log(x)))(np.ones(4)), np.full(4, 2.0))
    np.testing.assert_array_equal(ad.vmap(log)(np.ones((2, 4))), np.zeros((2, 4)))
    assert log(np.float32(1.0)).dtype == np.float32

    seen = []

    @ad.jit
    def told(x):
        ad.debug.callback(seen.append, x)
        return x * x + x

    for _ in range(3):
        told(X)
    assert len(seen) == 3
